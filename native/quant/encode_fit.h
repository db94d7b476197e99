/* The searches behind the encoders: two-level scales for 256 values (K types) and one scale for 32 values (basic
 * types with importance). Inside quant/ only. */
#ifndef PGG_ENCODE_FIT_H
#define PGG_ENCODE_FIT_H
#include "quant/quant.h"

enum { FIT_LEN = 256, FIT_LANES = 16 };

/* A format: x ~ d * scale * q - dmin * min, integers within these bounds. */
typedef struct pgg_fit_shape {
  int sub; /* values under one scale: 16 or 32 */
  int q_lo, q_hi;
  int scale_lo, scale_hi;
  int min_hi; /* 0: no minima */
} pgg_fit_shape;

typedef struct pgg_fit {
  uint16_t d, dmin;     /* halves */
  int scale[FIT_LANES]; /* (256 / sub) */
  int min[FIT_LANES];   /* (256 / sub) */
  int8_t q[FIT_LEN];
} pgg_fit;

/* Minimises sum w * (x - y)^2 over the 256 values, w = importance or 1. All-zero and tiny values give zeros; values
 * too large for a half scale saturate; anything not finite gives d = NaN and zeros. */
void pgg_fit_block(const pgg_fit_shape *shape, const float *x, const float *importance, pgg_fit *fit);

/* One grid x ~ d * q + m, q in [lo, hi], for 32 finite values with weights >= 0, some positive: the least
 * sum w * (x - y)^2 found. m stays 0 unless affine. */
void pgg_fit_one(const float *x, const float *w, int lo, int hi, bool affine, uint16_t *d, uint16_t *m);

/* Nearest half within the finite range, and not zero unless f is: a scale must neither overflow nor vanish. */
uint16_t pgg_fit_half(double f);

/* Half to even for |v| < 2^22; larger values stay large, which is all that a clamp behind it needs. */
static inline float pgg_round_even(float v) { return (v + 12582912.0f) - 12582912.0f; }

#endif
