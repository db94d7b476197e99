/* The searches behind the encoders: two-level scales for 256 values (K types) and one scale for 32 values (basic
 * types with importance). Inside the encoders only (encode_all.inc); their functions are in the .inc files. */
#ifndef PGG_ENCODE_FIT_H
#define PGG_ENCODE_FIT_H
#include "quant/quant.h"

/* Loops over lanes: the first line asks for vectors across a loop, the second for the loop inside it to be unrolled,
 * so that its sums stay in registers. No sum is reordered, so bits are the same whatever the compiler makes of it. */
#if defined(__clang__)
#define PGG_LANES _Pragma("omp simd")
#define PGG_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define PGG_LANES _Pragma("omp simd")
#define PGG_UNROLL _Pragma("GCC unroll 16")
#else
#define PGG_LANES
#define PGG_UNROLL
#endif
/* A function whose flags are constants of the caller: one copy for each use, without a branch in its loops. */
#if defined(_MSC_VER) && !defined(__clang__)
#define PGG_ONCE_EACH static __forceinline
#else
#define PGG_ONCE_EACH static inline __attribute__((always_inline))
#endif

/* 16 lanes as one value, and with its halves exchanged. */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
typedef float pgg_lanes __attribute__((vector_size(64)));
#define PGG_HALVES_SWAPPED(v) __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#endif

enum { FIT_LEN = 256, FIT_LANES = 16 };

/* A code book of 16 rising values (iq4); q is one of them. */
typedef struct pgg_fit_book {
  int8_t value[16];
} pgg_fit_book;

/* A format: x ~ d * scale * q - dmin * min, integers within these bounds. */
typedef struct pgg_fit_shape {
  int sub; /* values under one scale: 16 or 32 */
  int q_lo, q_hi;
  int scale_lo, scale_hi;
  int min_hi;               /* 0: no minima */
  const pgg_fit_book *book; /* NULL: every integer in [q_lo, q_hi] */
} pgg_fit_shape;

typedef struct pgg_fit {
  uint16_t d, dmin;     /* halves */
  int scale[FIT_LANES]; /* (256 / sub) */
  int min[FIT_LANES];   /* (256 / sub) */
  int8_t q[FIT_LEN];    /* with a book: the place in it */
} pgg_fit;

/* One grid x ~ d * q + m, q in [lo, hi] or in the book (m stays 0 unless affine), for n = 32 or 64 values. */
typedef struct pgg_fit_range {
  int n, lo, hi;
  bool affine;
  const pgg_fit_book *book;
} pgg_fit_range;

/* Two steps, each of which is one instruction: maximum, minimum. NaN becomes lo. */
static inline float clamp(float v, float lo, float hi) {
  const float up = v > lo ? v : lo;
  return up < hi ? up : hi;
}

/* Half to even for |v| < 2^22; larger values stay large, which is all that a clamp behind it needs. */
static inline float pgg_round_even(float v) { return (v + 12582912.0f) - 12582912.0f; }

static inline void pgg_put_u16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }

/* Midpoints of a book, and the steps from value to value. */
typedef struct pgg_fit_steps {
  float first, mid[15], step[15];
} pgg_fit_steps;
static inline pgg_fit_steps pgg_book_steps(const pgg_fit_book *book) {
  pgg_fit_steps t = {.first = book->value[0]};
  for (int k = 0; k < 15; k++) {
    t.mid[k] = 0.5f * (float)(book->value[k] + book->value[k + 1]);
    t.step[k] = (float)(book->value[k + 1] - book->value[k]);
  }
  return t;
}
static inline int pgg_book_place(const pgg_fit_steps *t, float v) {
  int at = 0;
  for (int k = 0; k < 15; k++) at += v > t->mid[k];
  return at;
}

#endif
