/* For the checks of float slots: counting and telling failures, values of many flavours, comparisons. Each buffer ends
 * at a page that may not be touched (guarded.h). */
#ifndef TEST_VALUES_H
#define TEST_VALUES_H
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/kernels.h"
#include "guarded.h"

static int failures;
static long checks;
static const char *level_name = "";

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
static inline void fail(const char *format, ...) {
  va_list args;
  if (++failures > 40) return;
  va_start(args, format);
  printf("FAIL %s: ", level_name);
  vprintf(format, args);
  printf("\n");
  va_end(args);
}

typedef test_guarded guarded;
static inline guarded guard_floats(int64_t n) { return test_guard((size_t)n * sizeof(float)); }

/* ---- values -------------------------------------------------------------------------------------------- */

static uint64_t seed = 1;
static inline uint32_t bits32(void) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(seed >> 33) ^ (uint32_t)(seed >> 12);
}
static inline float uniform(float lo, float hi) { return lo + (hi - lo) * (float)(bits32() >> 8) * 0x1p-24f; }

enum { PLAIN, WIDE, ZEROS, EQUAL, TINY, HUGE_MIX, BIG_TOP, SMALL, TIES, SPECIAL, N_FLAVOUR };

static inline float value(int flavour, int64_t i) {
  static const float odd[] = {0.0f,   -0.0f,   1e-40f, -1e-45f, 1e30f,   -1e30f,   88.0f,    -88.0f,    89.0f, -89.0f,
                              104.0f, -104.0f, 1e-7f,  -1e-7f,  FLT_MAX, -FLT_MAX, INFINITY, -INFINITY, NAN};
  switch (flavour) {
    case WIDE: return uniform(-110.0f, 110.0f);
    case ZEROS: return i & 1 ? -0.0f : 0.0f;
    case EQUAL: return 3.25f;
    case TINY: return uniform(-1e-38f, 1e-38f);
    case HUGE_MIX: return i % 3 ? uniform(-1.0f, 1.0f) : uniform(-1e30f, 1e30f);
    case BIG_TOP: return i == 0 ? 1e30f : uniform(-1.0f, 1.0f);
    case SMALL: return uniform(-0.02f, 0.02f);
    case TIES: { /* half way between two bf16, or two f16 */
      const uint32_t u = 0x3f000000u | (i & 1 ? (bits32() & 0xff0000u) | 0x8000u : (bits32() & 0x7fe000u) | 0x1000u);
      float x;
      memcpy(&x, &u, sizeof x);
      return x;
    }
    case SPECIAL: return i % 5 ? uniform(-4.0f, 4.0f) : odd[bits32() % (sizeof odd / sizeof odd[0])];
    default: return uniform(-6.0f, 6.0f);
  }
}

static inline void fill(float *x, int64_t n, int flavour) {
  for (int64_t i = 0; i < n; i++) x[i] = value(flavour, i);
}

static const int lengths[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 255, 256, 257, 1000};
enum { N_LENGTH = sizeof lengths / sizeof lengths[0] };

/* NaN answers NaN, infinity answers infinity, everything else lies within bound; a result between the largest float
 * and infinity may be either. */
static inline void close_to(const char *what, int flavour, int64_t n, int64_t i, float got, double want, double bound) {
  checks++;
  if (isnan(want)            ? isnan(got)
      : fabs(want) > FLT_MAX ? got == (want > 0 ? INFINITY : -INFINITY)
                             : fabs((double)got - want) <= bound)
    return;
  fail("%s flavour %d n %lld at %lld: %.9g, expected %.9g within %.3g", what, flavour, (long long)n, (long long)i,
       (double)got, want, bound);
}

static inline void same_bytes(const char *what, int64_t n, const void *got, const void *want, size_t bytes) {
  checks++;
  if (memcmp(got, want, bytes) == 0) return;
  for (size_t i = 0; i < bytes; i++)
    if (((const char *)got)[i] != ((const char *)want)[i]) {
      fail("%s n %lld: bytes differ from the reference, first at %zu of %zu", what, (long long)n, i, bytes);
      return;
    }
}

/* Bit-equal but for the payload of NaN. */
static inline void same_floats(const char *what, int64_t n, const float *got, const float *want, int64_t count) {
  checks++;
  for (int64_t i = 0; i < count; i++) {
    if (isnan(want[i]) && isnan(got[i])) continue;
    if (memcmp(got + i, want + i, sizeof *got) == 0) continue;
    fail("%s n %lld at %lld: %.9g, expected exactly %.9g", what, (long long)n, (long long)i, (double)got[i],
         (double)want[i]);
    return;
  }
}

static inline double now(void) {
  struct timespec ts;
  timespec_get(&ts, TIME_UTC);
  return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

#endif
