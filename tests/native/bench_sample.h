/* Time of one choice, one thread: microseconds over vocabularies of today's sizes, for logits with a few likely tokens
 * ("peaked", most weight on a dozen) and nearly equal ones ("flat"). Median, and the middle half of the runs.
 * Prints; asserts nothing. */
#ifndef BENCH_SAMPLE_H
#define BENCH_SAMPLE_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "check.h"

enum { BENCH_RUNS = 101 };

static double bench_us(void) {
  struct timespec t;
  timespec_get(&t, TIME_UTC);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int bench_order(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

/* Sums of four uniform numbers are near to normal; a model's likely tokens stand out of them. */
static void bench_logits(float *x, int n, float spread, float peak) {
  uint64_t seed = 11;
  for (int i = 0; i < n; i++) {
    float sum = 0;
    for (int j = 0; j < 4; j++) sum += check_random(&seed);
    x[i] = spread * sum;
  }
  for (int j = 0; j < 12; j++) x[(int)((check_random(&seed) * 0.5f + 0.5f) * (float)(n - 1))] += peak;
}

static void bench_one(const char *name, const char *shape, const pgg_sampling *how, const float *logits, int n) {
  double us[BENCH_RUNS];
  pgg_sampler *s = NULL;
  int32_t id = 0, seen[64];
  CHECK_OK(pgg_sampler_new(how, n, &s));
  for (int i = 0; i < 64; i++) seen[i] = (int32_t)((int64_t)i * 7919 % n);
  CHECK_OK(pgg_sampler_accept(s, seen, 64));
  for (int run = -3; run < BENCH_RUNS; run++) {
    const double start = bench_us();
    CHECK_OK(pgg_sampler_next(s, logits, &id));
    if (run >= 0) us[run] = bench_us() - start;
  }
  pgg_sampler_free(s);
  qsort(us, BENCH_RUNS, sizeof *us, bench_order);
  printf("%-22s %-7s %7d %9.1f us  (%.1f to %.1f)\n", name, shape, n, us[BENCH_RUNS / 2], us[BENCH_RUNS / 4],
         us[BENCH_RUNS * 3 / 4]);
}

static void bench_sample(void) {
  static const int sizes[] = {128256, 262144};
  pgg_sampling off = {.temperature = 0.8f, .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64, .seed = 1};
  pgg_sampling greedy = off, usual = off, repeat, nucleus = off, least = off;
  greedy.temperature = 0;
  usual.top_k = 40, usual.top_p = 0.95f, usual.min_p = 0.05f;
  repeat = usual, repeat.repeat_penalty = 1.1f;
  nucleus.top_p = 0.95f;
  least.min_p = 0.05f;
  for (int z = 0; z < 2; z++) {
    const int n = sizes[z];
    float *x = malloc((size_t)n * sizeof *x);
    if (!x) return;
    for (int flat = 0; flat < 2; flat++) {
      const char *shape = flat ? "flat" : "peaked";
      bench_logits(x, n, flat ? 0.2f : 2.0f, flat ? 0.0f : 14.0f);
      bench_one("greedy", shape, &greedy, x, n);
      bench_one("temperature", shape, &off, x, n);
      bench_one("top_k top_p min_p", shape, &usual, x, n);
      bench_one("the same, repeat", shape, &repeat, x, n);
      bench_one("min_p", shape, &least, x, n);
      bench_one("top_p", shape, &nucleus, x, n);
    }
    free(x);
  }
}

#endif
