/* For native checks: memory that ends at an unreadable page, random numbers, and where the float fields of a block
 * lie (the checks must be able to choose scales). */
#ifndef TEST_GUARDED_H
#define TEST_GUARDED_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "quant/blocks_basic.h"
#include "quant/blocks_fp4.h"
#include "quant/blocks_iq.h"
#include "quant/blocks_k.h"
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

/* Where the halves of a block lie, one more than their offsets: the scale and, where there is one, the minimum. */
typedef struct test_halves {
  int d, m;
} test_halves;
#define AT(name, field) ((int)offsetof(pgg_##name, field) + 1)
static const test_halves test_halves_of[PGG_TYPE_LIMIT] = {
    [PGG_Q4_0] = {AT(q4_0, d), 0},
    [PGG_Q4_1] = {AT(q4_1, d), AT(q4_1, m)},
    [PGG_Q5_0] = {AT(q5_0, d), 0},
    [PGG_Q5_1] = {AT(q5_1, d), AT(q5_1, m)},
    [PGG_Q8_0] = {AT(q8_0, d), 0},
    [PGG_Q1_0] = {AT(q1_0, d), 0},
    [PGG_Q2_0] = {AT(q2_0, d), 0},
    [PGG_Q2_K] = {AT(q2_k, d), AT(q2_k, dmin)},
    [PGG_Q3_K] = {AT(q3_k, d), 0},
    [PGG_Q4_K] = {AT(q4_k, d), AT(q4_k, dmin)},
    [PGG_Q5_K] = {AT(q5_k, d), AT(q5_k, dmin)},
    [PGG_Q6_K] = {AT(q6_k, d), 0},
    [PGG_TQ1_0] = {AT(tq1_0, d), 0},
    [PGG_TQ2_0] = {AT(tq2_0, d), 0},
    [PGG_IQ4_NL] = {AT(iq4_nl, d), 0},
    [PGG_IQ4_XS] = {AT(iq4_xs, d), 0},
    [PGG_IQ2_XXS] = {AT(iq2_xxs, d), 0},
    [PGG_IQ2_XS] = {AT(iq2_xs, d), 0},
    [PGG_IQ2_S] = {AT(iq2_s, d), 0},
    [PGG_IQ3_XXS] = {AT(iq3_xxs, d), 0},
    [PGG_IQ3_S] = {AT(iq3_s, d), 0},
    [PGG_IQ1_S] = {AT(iq1_s, d), 0},
};
#undef AT

/* Chooses d and, where there is one, the minimum. Types with small scale formats take a power of two plus mantissa
 * 0..6. Any type that is not described here draws whole blocks until their values are of that size; it returns 0 then:
 * the scale is whatever came. */
static inline int test_put_scales(const pgg_quant *q, uint8_t *b, uint16_t d, uint16_t m, int mantissa,
                                  uint64_t *seed) {
  const int type = q->info.id, up = (d >> 10 & 31) - 15;
  const test_halves at = test_halves_of[type];
  float y[PGG_ACT_LEN];
  if (at.d) {
    test_put_half(b + at.d - 1, d);
    if (at.m) test_put_half(b + at.m - 1, m);
  } else if (type == PGG_MXFP4) {
    ((pgg_mxfp4 *)b)->e = (uint8_t)(128 + up);
  } else if (type == PGG_NVFP4) {
    pgg_nvfp4 *block = (pgg_nvfp4 *)b;
    for (int i = 0; i < (int)sizeof block->d; i++) block->d[i] = (uint8_t)((7 + (up & 3)) << 3 | mantissa);
  } else if (type == PGG_IQ1_M) {
    uint8_t *top = ((pgg_iq1_m *)b)->scales + 1;
    for (int i = 0; i < 4; i++, top += 2) *top = (uint8_t)((*top & 15) | (d >> 4 * i & 15) << 4);
  } else {
    for (float most = 0; !(most > 0x1p-8f && most < 16.0f);) {
      for (int j = 0; j < q->info.bytes; j++) b[j] = (uint8_t)test_random(seed);
      q->decode(b, y, q->info.elems);
      most = 0;
      for (int i = 0; i < q->info.elems; i++) most = fabsf(y[i]) <= most ? most : fabsf(y[i]); /* NaN stays */
    }
    return 0;
  }
  return 1;
}

/* Makes the first scale of a block NaN or infinite; 0 where the type cannot say that, or nobody here knows how. */
static inline int test_put_special(int type, uint8_t *b, uint16_t h) {
  if (test_halves_of[type].d) {
    test_put_half(b + test_halves_of[type].d - 1, h);
  } else if (type == PGG_F64 || type == PGG_F32 || type == PGG_F16 || type == PGG_BF16) {
    test_put_float(type, b, pgg_f16_to_f32(h));
  } else {
    return 0;
  }
  return 1;
}

#endif
