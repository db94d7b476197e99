/* What the product kernels of every level share: which block types have lanes of their own, and how an unpacked strip
 * of weights and a packed panel of activations lie in memory. Holds no kernel and names no ISA.
 *
 * A product of blocks of 256 values ("stretches"): the strip holds LANES_ROWS rows as small unsigned codes, row beside
 * row, so that no sum ever runs across lanes; the panel holds PANEL_TOKENS tokens. Own design, see docs/adr. */
#ifndef PGG_PRODUCTS_H
#define PGG_PRODUCTS_H
#include <string.h>

#include "base/base.h"
#include "quant/blocks.h"
#include "quant/quant.h"

#if defined(__GNUC__)
#define PGG_ALWAYS static inline __attribute__((always_inline))
#define PGG_APART static __attribute__((noinline))
#define PGG_UNROLL(n) PGG_PRAGMA_(GCC unroll n)
#define PGG_PRAGMA_(x) _Pragma(#x)
#define PGG_PREFETCH(p) __builtin_prefetch(p)
#define PGG_PREFETCH_FAR(p) __builtin_prefetch(p, 0, 2) /* into the second cache */
#define PGG_OPAQUE(p) __asm__("" : "+r"(p))             /* the compiler forgets where p points */
#define PGG_SAME_PLACE(a, b) (__builtin_constant_p((a) == (b)) && (a) == (b))
#elif defined(_MSC_VER)
#define PGG_ALWAYS static __forceinline
#define PGG_APART static __declspec(noinline)
#define PGG_UNROLL(n)
#define PGG_PREFETCH(p) ((void)0)
#define PGG_PREFETCH_FAR(p) ((void)0)
#define PGG_OPAQUE(p) ((void)0)
#define PGG_SAME_PLACE(a, b) 0
#else
#define PGG_ALWAYS static inline
#define PGG_APART static
#define PGG_UNROLL(n)
#define PGG_PREFETCH(p) ((void)0)
#define PGG_PREFETCH_FAR(p) ((void)0)
#define PGG_OPAQUE(p) ((void)0)
#define PGG_SAME_PLACE(a, b) 0
#endif

enum {
  PANEL_TOKENS = 6,
  STRETCH = PGG_ACT_LEN,
  DOT_AHEAD = 6144 /* bytes of weights fetched ahead; 4 to 9 KiB measured best on Zen 5 */
};

/* How a type subtracts: not at all, d_min * small integer (mins counted in the integers), or a float per group. */
enum { MINS_NONE, MINS_INT, MINS_FLOAT };

/* Types with lanes of their own. Code = q + offset, unsigned, of so many bits; 8-bit codes stay signed until a level
 * decides (LANES_BYTES8). group: values that share one scale.
 *   X(NAME, name, group, offset, bits, mins) */
#define PGG_GRID_TYPES(X)              \
  X(IQ1_S, iq1_s, 32, 9, 5, NONE)      \
  X(IQ1_M, iq1_m, 16, 9, 5, NONE)      \
  X(IQ2_XXS, iq2_xxs, 32, 64, 7, NONE) \
  X(IQ2_XS, iq2_xs, 16, 64, 7, NONE)   \
  X(IQ2_S, iq2_s, 16, 64, 7, NONE)     \
  X(IQ3_XXS, iq3_xxs, 32, 64, 7, NONE) \
  X(IQ3_S, iq3_s, 32, 32, 6, NONE)
#define PGG_SMALL_TYPES(X)         \
  X(MXFP4, mxfp4, 32, 12, 5, NONE) \
  X(Q1_0, q1_0, 32, 1, 2, NONE)    \
  X(Q2_0, q2_0, 32, 1, 2, NONE)    \
  X(NVFP4, nvfp4, 16, 12, 5, NONE)
#define PGG_PLAIN_TYPES(X)       \
  X(Q4_1, q4_1, 32, 0, 4, FLOAT) \
  X(Q5_0, q5_0, 32, 16, 5, NONE) \
  X(Q5_1, q5_1, 32, 0, 5, FLOAT) \
  X(Q8_0, q8_0, 32, 0, 8, NONE)  \
  X(TQ1_0, tq1_0, 32, 1, 2, NONE)
/* For few tokens these may have an own way (few_<level>.h), and grid and small types a whole stretch at once
 * (lanes_grid_<level>.h); all others are folded. */
#define PGG_OWN_TYPES(X)            \
  X(Q4_K, q4_k, 32, 0, 4, INT)      \
  X(Q5_K, q5_k, 32, 0, 5, INT)      \
  X(Q4_0, q4_0, 32, 8, 4, NONE)     \
  X(Q2_K, q2_k, 16, 0, 2, INT)      \
  X(Q3_K, q3_k, 16, 4, 3, NONE)     \
  X(Q6_K, q6_k, 16, 32, 6, NONE)    \
  X(IQ4_NL, iq4_nl, 32, 0, 8, NONE) \
  X(IQ4_XS, iq4_xs, 32, 0, 8, NONE) \
  X(TQ2_0, tq2_0, 32, 1, 2, NONE)
#define PGG_LANE_TYPES(X) PGG_OWN_TYPES(X) PGG_PLAIN_TYPES(X) PGG_SMALL_TYPES(X) PGG_GRID_TYPES(X)

/* What a level does with 8-bit codes: make them unsigned (vpdpbusd), widen them to int16 (maddubs would saturate),
 * or keep them signed. */
#define BYTES8_UNSIGNED 1
#define BYTES8_WIDE 2
#define BYTES8_SIGNED 3

/* One stretch of a strip ("slab"), in this order, every part a multiple of 64 bytes for 16 rows and more:
 *   codes  u8 (64, rows, 4), or int16 (128, rows, 2) when wide
 *   scales f32 (256 / group, rows)
 *   INT:   int16 pairs (256 / group / 2, rows, 2), f32 d_min (rows)      FLOAT: f32 (256 / group, rows) */
typedef struct pgg_slab_form {
  int scales, mins, dmin, bytes;
} pgg_slab_form;
PGG_ALWAYS pgg_slab_form pgg_slab(int rows, int group, int mins, int wide) {
  pgg_slab_form f;
  f.scales = STRETCH * rows * (wide ? 2 : 1);
  f.mins = f.scales + STRETCH / group * rows * 4;
  f.dmin = f.mins + (mins == MINS_NONE ? 0 : STRETCH / group * rows * (mins == MINS_INT ? 2 : 4));
  f.bytes = (f.dmin + (mins == MINS_INT ? rows * 4 : 0) + 63) / 64 * 64;
  return f;
}

/* One stretch of a panel:
 *   codes  int8 (64, tokens, 4), or int16 (128, tokens, 2) when wide
 *   start  i32 (256 / group, tokens): -offset * sum of the group, what an accumulator starts from
 *   sums   INT: int16 pairs (256 / group / 2, tokens, 2); FLOAT: f32 (256 / group, tokens): sums of the groups
 *   d      f32 (tokens)
 *   spikes pgg_panel_spikes */
typedef struct pgg_panel_form {
  int start, sums, d, spikes, bytes;
} pgg_panel_form;
/* The spikes of a panel's tokens (pgg_act), by column and token, so that a column of weights is decoded once. */
typedef struct pgg_panel_spike {
  float x;
  uint16_t at, token;
} pgg_panel_spike;
typedef struct pgg_panel_spikes {
  int32_t n, none;
  pgg_panel_spike spike[PANEL_TOKENS * PGG_ACT_SPIKES];
} pgg_panel_spikes;
PGG_ALWAYS pgg_panel_form pgg_panel(int group, int mins, int wide) {
  pgg_panel_form f;
  f.start = STRETCH * PANEL_TOKENS * (wide ? 2 : 1);
  f.sums = f.start + STRETCH / group * PANEL_TOKENS * 4;
  f.d = f.sums + (mins == MINS_NONE ? 0 : STRETCH / group * PANEL_TOKENS * (mins == MINS_INT ? 2 : 4));
  f.spikes = f.d + PANEL_TOKENS * 4;
  f.bytes = (f.spikes + (int)sizeof(pgg_panel_spikes) + 63) / 64 * 64;
  return f;
}

/* One token's stretch for few tokens (few.inc), vector bytes a vector:
 *   codes  int8 (256), in the order of the weights' codes
 *   start  i32 (starts, lanes): -start * sum of a lane of a set (of a vector, where sums are packed)
 *   sums   f32 (sums, lanes): sum of a lane of a set; packed: int16 of each 16 values, the rest of the vector 0 */
typedef struct pgg_few_form {
  int start, sums, bytes;
} pgg_few_form;
PGG_ALWAYS pgg_few_form pgg_few(int vector, int starts, int sums) {
  pgg_few_form f;
  f.start = STRETCH;
  f.sums = f.start + starts * vector;
  f.bytes = (f.sums + sums * vector + 63) / 64 * 64;
  return f;
}

/* Bytes of k values of a type's row; k is a multiple of its block. */
PGG_ALWAYS int64_t pgg_stretch_bytes(const pgg_quant *q, int64_t k) { return k / q->info.elems * q->info.bytes; }

/* Eight bytes as one word, first byte lowest on every machine we build for (all are little-endian). */
PGG_ALWAYS uint64_t pgg_load_u64(const void *p) {
  uint64_t v;
  memcpy(&v, p, 8);
  return v;
}
PGG_ALWAYS uint32_t pgg_load_u32(const void *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return v;
}
PGG_ALWAYS uint16_t pgg_load_u16(const void *p) {
  uint16_t v;
  memcpy(&v, p, 2);
  return v;
}

#endif
