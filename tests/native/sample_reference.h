/* The sampler again, straightforward: penalise everything, sort everything, cut, walk. Slow and plain; the real one
 * must choose the same ids. Sums over a whole row are taken of the scalar level's weights, block by block. */
#ifndef SAMPLE_REFERENCE_H
#define SAMPLE_REFERENCE_H
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "core/nucleus.h"
#include "cpu/kernels.h"

enum { REFERENCE_V = 20000, REFERENCE_DRAWS = 12 };

typedef struct ranked {
  float logit;
  int32_t id;
} ranked;

static int rank_order(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
  return x->id < y->id ? -1 : 1;
}

static double reference_uniform(uint64_t seed, uint64_t draw) {
  uint64_t z = seed + (draw + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return (double)(z >> 11) * 0x1p-53;
}

/* Weights of x and their sum as the sampler defines it. */
static double reference_sum(const float *x, int n, float top, float by, float *weights, float *sums) {
  double sum = 0;
  pgg_kernels_level("scalar")->weights(x, top, by, sums, weights, n);
  for (int b = 0; b * PGG_SUMS_BLOCK < n; b++) sum += sums[b];
  return sum;
}

static int32_t reference_next(const pgg_sampling *how, const float *logits, int n, const int32_t *seen, int n_seen,
                              uint64_t draw) {
  static float x[REFERENCE_V], weights[REFERENCE_V], sums[REFERENCE_V];
  static ranked order[REFERENCE_V];
  const int start = how->repeat_last_n >= 0 && how->repeat_last_n < n_seen ? n_seen - how->repeat_last_n : 0;
  int kept = 0;
  for (int i = 0; i < n; i++) {
    int count = 0;
    for (int j = start; j < n_seen; j++) count += seen[j] == i;
    x[i] = logits[i];
    if (count && x[i] != -INFINITY) {
      x[i] = x[i] <= 0 ? x[i] * how->repeat_penalty : x[i] / how->repeat_penalty;
      x[i] = x[i] - (float)count * how->frequency_penalty - how->presence_penalty;
    }
    if (x[i] != -INFINITY) order[kept++] = (ranked){x[i], i};
  }
  qsort(order, (size_t)kept, sizeof *order, rank_order);
  const float top = order[0].logit;
  const double u = reference_uniform(how->seed, draw);
  if (how->temperature <= 0) return order[0].id;
  const bool top_k = how->top_k > 0 && how->top_k < n;
  if (!top_k && how->top_p >= 1 && how->min_p <= 0) {
    const double at = u * reference_sum(x, n, top, fminf(1.0f / how->temperature, FLT_MAX), weights, sums);
    double before = 0;
    for (int b = 0; b * PGG_SUMS_BLOCK < n; before += sums[b++]) {
      int last = -1;
      if (before + sums[b] <= at || sums[b] <= 0) continue;
      for (int i = b * PGG_SUMS_BLOCK; i < n && i < (b + 1) * PGG_SUMS_BLOCK; i++) {
        if (weights[i] <= 0) continue;
        last = i;
        if ((before += weights[i]) > at) break;
      }
      return last;
    }
    return -1;
  }
  if (top_k && how->top_k < kept) kept = how->top_k;
  if (how->top_p < 1) {
    double sum = 0, reached = 0;
    for (int i = 0; i < kept; i++) sum += exp((double)order[i].logit - top);
    if (!top_k) sum = reference_sum(x, n, top, 1, NULL, sums);
    for (int i = 0; i < kept; i++)
      if ((reached += exp((double)order[i].logit - top)) >= (double)how->top_p * sum) kept = i + 1;
  }
  if (how->min_p > 0)
    while (kept > 1 && (double)order[kept - 1].logit < (double)top + log((double)how->min_p)) kept--;
  double sum = 0, reached = 0;
  for (int i = 0; i < kept; i++) sum += exp(((double)order[i].logit - top) / (double)how->temperature);
  for (int i = 0; i < kept; i++)
    if ((reached += exp(((double)order[i].logit - top) / (double)how->temperature)) > u * sum) return order[i].id;
  return order[kept - 1].id;
}

/* Shapes of a row: spread out, nearly equal, many equals, most forbidden, the best side by side; all equal, far from
 * zero, near to it on both sides. */
static void reference_row(float *x, int n, int shape, uint64_t *seed) {
  for (int i = 0; i < n; i++) {
    const float r = check_random(seed);
    x[i] = shape == 1 ? r * 0.1f : shape == 2 ? floorf(r * 6) : shape == 4 ? (float)-i * 0.01f : r * r * r * 12;
    if (shape == 5) x[i] = 2.5f; /* running sums end where the cuts do: nothing may be left to rounding */
    if (shape == 6) x[i] = r * 4 + (i % 1000 ? 1e4f : 1e4f + 5);
    if (shape == 7) x[i] = i % 3 ? r * 1e-3f : -r * 30;
    if (shape == 3 && i % 97 != 5 % n) x[i] = -INFINITY;
  }
}

static void test_reference(void) {
  static const int sizes[] = {1, 2, 63, 64, 65, 256, 257, 1000, 5003, REFERENCE_V};
  static const int top_ks[] = {0, 1, 2, 40, 300, 4000};
  static const float top_ps[] = {1, 0.95f, 0.3f}, min_ps[] = {0, 0.05f, 0.6f}, temperatures[] = {0, 0.8f, 5, 1e-30f};
  static float x[REFERENCE_V];
  uint64_t seed = 77;
  int32_t seen[100 + REFERENCE_DRAWS];
  for (int z = 0; z < (int)(sizeof sizes / sizeof sizes[0]); z++)
    for (int shape = 0; shape < 5; shape++)
      for (int c = 0; c < 12; c++) {
        const int n = sizes[z], at = c * 7 + z + shape * 5; /* another mix of settings each time */
        pgg_sampling how = {.temperature = temperatures[(at + c) % 4],
                            .top_k = top_ks[at % 6],
                            .top_p = top_ps[(at / 2 + c) % 3],
                            .min_p = min_ps[(at / 3 + c / 2) % 3],
                            .repeat_penalty = c % 3 ? 1 : 1.3f,
                            .presence_penalty = c % 4 ? 0 : 0.5f,
                            .frequency_penalty = c % 5 ? 0 : 0.2f,
                            .repeat_last_n = c % 2 ? 20 : -1,
                            .seed = seed};
        if (how.repeat_penalty == 1 && how.presence_penalty == 0 && how.frequency_penalty == 0) how.repeat_last_n = 0;
        int n_seen = 40;
        for (int i = 0; i < n_seen; i++) seen[i] = (int32_t)((check_random(&seed) * 0.5f + 0.5f) * (float)(n - 1));
        reference_row(x, n, shape, &seed);
        pgg_sampler *s = NULL;
        CHECK_OK(pgg_sampler_new(&how, n, &s));
        CHECK_OK(pgg_sampler_accept(s, seen, n_seen));
        for (int draw = 0; draw < REFERENCE_DRAWS; draw++) {
          const int n_window = how.repeat_last_n == 0 ? 0 : n_seen;
          const int32_t want = reference_next(&how, x, n, seen, n_window, (uint64_t)draw);
          int32_t id = -1;
          CHECK_OK(pgg_sampler_next(s, x, &id));
          CHECK(id == want, "n %d shape %d settings %d draw %d: %d, expected %d", n, shape, c, draw, id, want);
          seen[n_seen++] = id;
        }
        pgg_sampler_free(s);
      }
}

/* Cuts that leave many tokens, and draws among these. */
static void test_many(void) {
  enum { N = 8192 };
  static const float top_ps[] = {0.5f, 0.95f, 1, 0.9999f, 0.3f}, min_ps[] = {0, 0.01f, 0.4f, 0.9f};
  static const float temperatures[] = {1, 0.7f, 3, 0.05f, 1e-20f, 1e-42f};
  static float x[N];
  uint64_t seed = 78;
  for (int shape = 0; shape < 8; shape++)
    for (int c = 0; c < 30; c++) {
      const pgg_sampling how = {.temperature = temperatures[c % 6],
                                .top_p = top_ps[c % 5],
                                .min_p = min_ps[(c / 5 + shape) % 4],
                                .repeat_penalty = 1,
                                .seed = seed};
      const int n = c % 4 ? N : N - 3 * c;
      reference_row(x, n, shape, &seed);
      pgg_sampler *s = NULL;
      CHECK_OK(pgg_sampler_new(&how, n, &s));
      for (uint64_t draw = 0; draw < 6; draw++) {
        const int32_t want = reference_next(&how, x, n, NULL, 0, draw);
        int32_t id = -1;
        CHECK_OK(pgg_sampler_next(s, x, &id));
        CHECK(id == want, "many: shape %d settings %d draw %d: %d, expected %d", shape, c, (int)draw, id, want);
      }
      pgg_sampler_free(s);
    }
}

/* Places found without sorting are those of running sums over the sorted row, and nearly all are found. */
static void test_places(void) {
  enum { N = 20000, MARKS = 200 };
  static float x[N];
  static ranked order[N];
  static pgg_candidate list[N], spare[N];
  static pgg_nucleus m;
  uint64_t seed = 79;
  for (int shape = 0; shape < 8; shape++) {
    pgg_top_k f = {.row = x, .n_vocab = N, .list = list, .spare = spare};
    int told = 0, n = 0;
    double sum = 0;
    reference_row(x, N, shape, &seed);
    for (int i = 0; i < N; i++)
      if (x[i] != -INFINITY) order[n++] = (ranked){x[i], i};
    qsort(order, (size_t)n, sizeof *order, rank_order);
    for (int i = 0; i < n; i++) sum += exp(((double)order[i].logit - order[0].logit) * 0.8);
    pgg_nucleus_weigh(&m, &f, order[0].logit, -FLT_MAX, INFINITY, 0.8);
    CHECK(fabs(m.total - sum) <= m.error * sum && m.error < 1e-7, "shape %d: %g, expected %g", shape, m.total, sum);
    for (int k = 0; k < MARKS; k++) {
      const double mark = (check_random(&seed) * 0.5 + 0.5) * sum;
      const int64_t at = pgg_nucleus_place(&m, &f, mark);
      double reached = 0;
      int i = 0;
      while (i < n - 1 && (reached += exp(((double)order[i].logit - order[0].logit) * 0.8)) <= mark) i++;
      if (at < 0) continue;
      told++;
      CHECK(f.list[at].id == order[i].id, "shape %d mark %d: %d, expected %d", shape, k, f.list[at].id, order[i].id);
      for (int64_t j = 0; j < f.n; j++)
        CHECK(i - at + j >= 0 && i - at + j < n && f.list[j].id == order[i - at + j].id, "the grade is in order");
    }
    CHECK(told > MARKS * 9 / 10, "shape %d: %d of %d places told", shape, told, MARKS);
  }
}

#endif
