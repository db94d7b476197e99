/* For native checks: memory that ends at an unreadable page, random numbers, and where the float fields of a block
 * lie (the checks must be able to choose scales). */
#ifndef TEST_GUARDED_H
#define TEST_GUARDED_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quant.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h> /* needs _DEFAULT_SOURCE for MAP_ANONYMOUS */
#include <unistd.h>
#define TEST_HAS_GUARD 1
#else
#define TEST_HAS_GUARD 0
#endif

typedef struct test_guarded {
  uint8_t *p, *base;
  size_t mapped;
} test_guarded;

/* bytes that end where the next page cannot be read; the start has whatever alignment follows. */
static inline test_guarded test_guard(size_t bytes) {
  test_guarded g;
#if TEST_HAS_GUARD
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (bytes + page - 1) / page * page;
  g.mapped = room + page;
  g.base = mmap(NULL, g.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (g.base == MAP_FAILED || mprotect(g.base + room, page, PROT_NONE)) abort();
  g.p = g.base + room - bytes;
#else
  g.mapped = bytes, g.base = g.p = malloc(bytes + 1);
  if (!g.p) abort();
#endif
  return g;
}
static inline void test_unguard(test_guarded g) {
#if TEST_HAS_GUARD
  munmap(g.base, g.mapped);
#else
  free(g.base);
#endif
}
/* 64-byte aligned and full of garbage: nobody may rely on fresh memory being zero. */
static inline void *test_aligned(size_t bytes) {
#if defined(_WIN32)
  void *p = _aligned_malloc(bytes, 64);
#else
  void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
#endif
  if (!p) abort();
  memset(p, 0x7f, bytes);
  return p;
}
static inline void test_aligned_free(void *p) {
#if defined(_WIN32)
  _aligned_free(p);
#else
  free(p);
#endif
}

static inline uint64_t test_random(uint64_t *s) { /* splitmix64 */
  uint64_t z = (*s += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (z ^ (z >> 31)) >> 16;
}
static inline float test_uniform(uint64_t *s) { return (float)(test_random(s) & 0xffffff) / 8388608.0f - 1.0f; }

static inline void test_put_float(int type, uint8_t *p, float x) {
  const double wide = x;
  const uint16_t half = pgg_f32_to_f16(x), brain = pgg_f32_to_bf16(x);
  if (type == PGG_F64) memcpy(p, &wide, 8);
  if (type == PGG_F32) memcpy(p, &x, 4);
  if (type == PGG_F16) memcpy(p, &half, 2);
  if (type == PGG_BF16) memcpy(p, &brain, 2);
}

static inline void test_put_half(uint8_t *p, uint16_t h) { p[0] = (uint8_t)h, p[1] = (uint8_t)(h >> 8); }

/* d and, where there is one, m or d_min. Types with small scale formats take a power of two plus mantissa 0..6. */
static inline void test_put_scales(int type, uint8_t *b, uint16_t d, uint16_t m, int mantissa) {
  const int up = (d >> 10 & 31) - 15;
  switch (type) {
    case PGG_Q4_1:
    case PGG_Q5_1:
    case PGG_Q4_K:
    case PGG_Q5_K: test_put_half(b, d), test_put_half(b + 2, m); break;
    case PGG_Q2_K: test_put_half(b + 80, d), test_put_half(b + 82, m); break;
    case PGG_Q3_K: test_put_half(b + 108, d); break;
    case PGG_Q6_K: test_put_half(b + 208, d); break;
    case PGG_TQ1_0: test_put_half(b + 52, d); break;
    case PGG_TQ2_0: test_put_half(b + 64, d); break;
    case PGG_MXFP4: b[0] = (uint8_t)(128 + up); break;
    case PGG_NVFP4:
      for (int i = 0; i < 4; i++) b[i] = (uint8_t)((7 + (up & 3)) << 3 | mantissa);
      break;
    case PGG_IQ1_M:
      for (int i = 0; i < 4; i++) b[49 + 2 * i] = (uint8_t)((b[49 + 2 * i] & 15) | (d >> 4 * i & 15) << 4);
      break;
    default: test_put_half(b, d); /* d comes first */
  }
}

/* Makes the first scale of a block NaN or infinite; 0 where the type cannot say that. */
static inline int test_put_special(int type, uint8_t *b, uint16_t h) {
  static const int at[PGG_TYPE_LIMIT] = {
      [PGG_Q2_K] = 80, [PGG_Q3_K] = 108, [PGG_Q6_K] = 208, [PGG_TQ1_0] = 52, [PGG_TQ2_0] = 64};
  if (type == PGG_MXFP4 || type == PGG_NVFP4 || type == PGG_IQ1_M) return 0;
  if (type == PGG_F64 || type == PGG_F32 || type == PGG_F16 || type == PGG_BF16) {
    test_put_float(type, b, pgg_f16_to_f32(h));
  } else {
    test_put_half(b + at[type], h);
  }
  return 1;
}

#endif
