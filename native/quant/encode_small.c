/* Encoders of the smallest alphabets: q1_0 (-1, 1), tq1_0 and tq2_0 (-1, 0, 1), q2_0 (-1, 0, 1, 2), one scale a block.
 * Source: own; block layouts as published with ggml. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "quant/blocks_basic.h"
#include "quant/blocks_fp4.h"
#include "quant/encode.h"
#include "quant/encode_fit.h"

static uint16_t half_of(double d, int exponent) { return pgg_fit_half(ldexp(d, exponent)); }

/* For -1 and 1 the weighted mean of |x| is exact. */
void pgg_encode_q1_0(const float *x, void *row, int64_t k, const float *importance) {
  pgg_q1_0 *b = row;
  for (int64_t i = 0; i < k; i += 128, b++) {
    float v[128], w[128];
    double top = 0.0, bottom = 0.0;
    int exponent;
    memset(b->qs, 0, sizeof b->qs);
    if (!pgg_fit_prepare(x + i, importance ? importance + i : NULL, 128, 65504.0f, v, w, &exponent)) {
      pgg_put_u16(b->d, 0x7e00);
      continue;
    }
    for (int j = 0; j < 128; j++) {
      top += (double)w[j] * fabsf(v[j]), bottom += w[j];
      b->qs[j >> 3] |= (uint8_t)((v[j] >= 0.0f) << (j & 7));
    }
    pgg_put_u16(b->d, half_of(top / bottom, exponent));
  }
}

/* ---- -1, 0, 1 ---------------------------------------------------------------------------------------------- */

enum { TERNARY = 256, STARTS = 16 };

/* With threshold t the values above it share d = sum w|x| / sum w and gain (sum w|x|)^2 / sum w; the best t is half of
 * its own d. Sixteen thresholds at once, each moved to half of its d a few times. */
static double ternary_scale(const float *x, const float *w) {
  float t[STARTS], a[STARTS], b[STARTS], top = 0.0f, mean = 0.0f, sum = 0.0f;
  for (int i = 0; i < TERNARY; i++) {
    const float v = fabsf(x[i]);
    top = v > top ? v : top, mean += w[i] * v, sum += w[i];
  }
  if (top == 0.0f) return 0.0;
  mean /= sum;
  double best = 0.0, d = 0.0;
  for (int round = 0; round < 7; round++) {
    if (round == 0 || round == 4) { /* from a tenth of the mean to the top; then close to the best */
      const float low = round ? (float)(0.5 * d * 0.85) : 0.1f * mean, high = round ? (float)(0.5 * d * 1.18) : top;
      float ratio = high / low;
      for (int l = STARTS; l > 1; l /= 2) ratio = sqrtf(ratio);
      t[0] = low;
      for (int l = 1; l < STARTS; l++) t[l] = t[l - 1] * ratio;
    }
    memset(a, 0, sizeof a), memset(b, 0, sizeof b);
    for (int i = 0; i < TERNARY; i++) {
      const float v = fabsf(x[i]), wv = w[i] * v, wi = w[i];
      PGG_LANES
      for (int l = 0; l < STARTS; l++) {
        a[l] += v > t[l] ? wv : 0.0f;
        b[l] += v > t[l] ? wi : 0.0f;
      }
    }
    for (int l = 0; l < STARTS; l++) {
      if (!(b[l] > 0.0f)) continue;
      const double gain = (double)a[l] * a[l] / b[l];
      if (gain > best) best = gain, d = (double)a[l] / b[l];
      t[l] = 0.5f * a[l] / b[l];
    }
  }
  for (int round = 0; round < 3; round++) { /* exactly */
    double above = 0.0, weight = 0.0;
    for (int i = 0; i < TERNARY; i++) {
      if (fabsf(x[i]) > 0.5 * d) above += (double)w[i] * fabsf(x[i]), weight += w[i];
    }
    if (weight > 0.0) d = above / weight;
  }
  return d;
}

/* q in 0..2 for values -d, 0, d; returns d as half. */
static uint16_t ternary_block(const float *x, const float *importance, uint8_t *q) {
  float v[TERNARY], w[TERNARY];
  int exponent;
  memset(q, 1, TERNARY);
  if (!pgg_fit_prepare(x, importance, TERNARY, 65504.0f, v, w, &exponent)) return 0x7e00;
  const uint16_t h = half_of(ternary_scale(v, w), exponent);
  const float limit_at = (float)(0.5 * ldexp(pgg_f16_to_f32(h), -exponent));
  for (int i = 0; i < TERNARY; i++) q[i] = (uint8_t)(1 + (v[i] > limit_at) - (v[i] < -limit_at));
  return h;
}

void pgg_encode_tq2_0(const float *x, void *row, int64_t k, const float *importance) {
  pgg_tq2_0 *b = row;
  for (int64_t i = 0; i < k; i += TERNARY, b++) {
    uint8_t q[TERNARY];
    const uint16_t d = ternary_block(x + i, importance ? importance + i : NULL, q);
    memset(b->qs, 0, sizeof b->qs);
    for (int j = 0; j < TERNARY; j++) b->qs[(j >> 7) * 32 + (j & 31)] |= (uint8_t)(q[j] << (j >> 5 & 3) * 2);
    pgg_put_u16(b->d, d);
  }
}

/* n trits, stride apart, highest first, as a fraction of 243 in 256ths, rounded up (so that the decoder, which cuts
 * off, finds every trit again). Fewer than five are followed by zeros. */
static uint8_t trits(const uint8_t *q, int n, int stride) {
  int v = 0;
  for (int t = 0; t < 5; t++) v = v * 3 + (t < n ? q[t * stride] : 0);
  return (uint8_t)((v * 256 + 242) / 243);
}

void pgg_encode_tq1_0(const float *x, void *row, int64_t k, const float *importance) {
  pgg_tq1_0 *b = row;
  for (int64_t i = 0; i < k; i += TERNARY, b++) {
    uint8_t q[TERNARY];
    const uint16_t d = ternary_block(x + i, importance ? importance + i : NULL, q);
    for (int j = 0; j < 32; j++) b->qs[j] = trits(q + j, 5, 32);
    for (int j = 0; j < 16; j++) b->qs[32 + j] = trits(q + 160 + j, 5, 16);
    for (int j = 0; j < 4; j++) b->qh[j] = trits(q + 240 + j, 4, 4);
    pgg_put_u16(b->d, d);
  }
}

/* ---- -1 .. 2 ------------------------------------------------------------------------------------------------ */

void pgg_encode_q2_0(const float *x, void *row, int64_t k, const float *importance) {
  static const pgg_fit_range range = {64, -1, 2, false, NULL};
  pgg_q2_0 *b = row;
  for (int64_t i = 0; i < k; i += 64, b++) {
    float v[64], w[64];
    int exponent;
    uint16_t d = 0x7e00, nothing;
    const bool finite = pgg_fit_prepare(x + i, importance ? importance + i : NULL, 64, FLT_MAX, v, w, &exponent);
    if (finite) pgg_fit_one(x + i, w, &range, &d, &nothing);
    const float scale = pgg_f16_to_f32(d), inverse = finite && scale != 0.0f ? 1.0f / scale : 0.0f;
    memset(b->qs, 0, sizeof b->qs);
    for (int j = 0; j < 64; j++) {
      const float q = finite ? fminf(fmaxf(pgg_round_even(x[i + j] * inverse), -1.0f), 2.0f) : 0.0f;
      b->qs[j >> 2] |= (uint8_t)((int)q + 1) << (j & 3) * 2;
    }
    pgg_put_u16(b->d, d);
  }
}
