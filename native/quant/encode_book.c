/* Encoders with an uneven alphabet: iq4_nl and iq4_xs (16 values), mxfp4 and nvfp4 (E2M1 under a small float).
 * The searches are in encode_one.c and encode_fit.c; the small float scales are few enough to try in turn.
 * Source: own; block layouts as published with ggml, OCP Microscaling formats 1.0. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "quant/blocks_fp4.h"
#include "quant/blocks_iq.h"
#include "quant/encode.h"
#include "quant/encode_fit.h"

static const pgg_fit_book iq4_book = {{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}};

void pgg_encode_iq4_nl(const float *x, void *row, int64_t k, const float *importance) {
  static const pgg_fit_range range = {32, -127, 113, false, &iq4_book};
  const pgg_fit_steps steps = pgg_book_steps(&iq4_book);
  pgg_iq4_nl *b = row;
  for (int64_t i = 0; i < k; i += 32, b++) {
    float v[32], w[32];
    int exponent, q[32] = {0};
    uint16_t d = 0x7e00, nothing; /* NaN */
    if (pgg_fit_prepare(x + i, importance ? importance + i : NULL, 32, FLT_MAX, v, w, &exponent)) {
      pgg_fit_one(x + i, w, &range, &d, &nothing);
      const float scale = pgg_f16_to_f32(d), inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
      for (int j = 0; j < 32; j++) q[j] = pgg_book_place(&steps, x[i + j] * inverse);
    }
    pgg_put_u16(b->d, d);
    for (int j = 0; j < 16; j++) b->qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
  }
}

void pgg_encode_iq4_xs(const float *x, void *row, int64_t k, const float *importance) {
  static const pgg_fit_shape shape = {32, -127, 113, -32, 31, 0, &iq4_book};
  pgg_iq4_xs *b = row;
  memset(row, 0, (size_t)(k / FIT_LEN) * sizeof *b);
  for (int64_t i = 0; i < k; i += FIT_LEN, b++) {
    pgg_fit f;
    pgg_fit_block(&shape, x + i, importance ? importance + i : NULL, &f);
    pgg_put_u16(b->d, f.d);
    for (int s = 0; s < 8; s++) {
      const int v = f.scale[s] + 32;
      b->scales_l[s >> 1] |= (uint8_t)((v & 15) << (s & 1) * 4);
      b->scales_h[s >> 2] |= (uint8_t)(v >> 4 << (s & 3) * 2);
      for (int j = 0; j < 16; j++) b->qs[16 * s + j] = (uint8_t)(f.q[32 * s + j] | f.q[32 * s + 16 + j] << 4);
    }
  }
}

/* ---- E2M1 ------------------------------------------------------------------------------------------------ */

/* Place of |v| among 0, 1, 2, 3, 4, 6, 8, 12 (E2M1 doubled), and what is there. */
static inline int e2m1_place(float v) {
  return (v > 0.5f) + (v > 1.5f) + (v > 2.5f) + (v > 3.5f) + (v > 5.0f) + (v > 7.0f) + (v > 10.0f);
}
static inline float e2m1_nearest(float v) {
  float q = v > 0.5f ? 1.0f : 0.0f;
  q += v > 1.5f ? 1.0f : 0.0f, q += v > 2.5f ? 1.0f : 0.0f, q += v > 3.5f ? 1.0f : 0.0f;
  q += v > 5.0f ? 2.0f : 0.0f, q += v > 7.0f ? 2.0f : 0.0f, q += v > 10.0f ? 4.0f : 0.0f;
  return q;
}

/* Which of 16 scales has the least sum w (x - y)^2 over n values; the first of equals. */
static int e2m1_best(const float *x, const float *w, int n, const float *scale) {
  float inverse[16], error[16] = {0};
  for (int l = 0; l < 16; l++) inverse[l] = scale[l] != 0.0f ? 1.0f / scale[l] : 0.0f;
  for (int i = 0; i < n; i++) {
    const float v = fabsf(x[i]);
    PGG_LANES
    for (int l = 0; l < 16; l++) {
      const float r = e2m1_nearest(v * inverse[l]) * scale[l] - v;
      error[l] += w[i] * r * r;
    }
  }
  int best = 0;
  for (int l = 1; l < 16; l++) {
    if (error[l] < error[best]) best = l;
  }
  return best;
}

static int e2m1_code(float v) { return e2m1_place(fabsf(v)) | (v < 0.0f && e2m1_place(fabsf(v)) > 0 ? 8 : 0); }

/* The scale is a power of two: of the few that bring the largest value near the end of the alphabet, the best. What is
 * not finite becomes infinite (there is no NaN). */
void pgg_encode_mxfp4(const float *x, void *row, int64_t k, const float *importance) {
  pgg_mxfp4 *b = row;
  for (int64_t i = 0; i < k; i += 32, b++) {
    float v[32], w[32], scale[16];
    int exponent;
    memset(b->qs, 0, sizeof b->qs), b->e = 0;
    if (!pgg_fit_prepare(x + i, importance ? importance + i : NULL, 32, FLT_MAX, v, w, &exponent)) {
      memset(b->qs, 0x77, sizeof b->qs), b->e = 255;
      continue;
    }
    bool zero = true;
    for (int j = 0; j < 32; j++) zero = zero && v[j] == 0.0f;
    if (zero) continue;
    /* Magnitudes are below 1 and the alphabet ends at 12: with 2^-6 up to 2^-1 the largest lies beyond its end or on
     * 1 at least. e - 128 is the power; it stops where 12 times the scale would overflow. */
    int power[16];
    for (int l = 0; l < 16; l++) {
      const int p = exponent - 6 + l % 6;
      power[l] = p < -128 ? -128 : p > 124 ? 124 : p;
      scale[l] = (float)ldexp(1.0, power[l] - exponent);
    }
    const int at = e2m1_best(v, w, 32, scale);
    b->e = (uint8_t)(power[at] + 128);
    for (int j = 0; j < 16; j++) {
      b->qs[j] = (uint8_t)(e2m1_code(v[j] / scale[at]) | e2m1_code(v[j + 16] / scale[at]) << 4);
    }
  }
}

/* Each 16 values have a scale of their own, 126 of them in all. The format has neither infinity nor NaN: what is not
 * finite becomes zero, what is too large saturates. */
void pgg_encode_nvfp4(const float *x, void *row, int64_t k, const float *importance) {
  enum { FINITE = 0x7e }; /* the last code but the one that stands for nothing */
  float all[FINITE + 1];
  pgg_nvfp4 *b = row;
  for (int c = 0; c <= FINITE; c++) all[c] = pgg_ue4m3_half((uint8_t)c);
  memset(row, 0, (size_t)(k / 64) * sizeof *b);
  for (int64_t i = 0; i < k; i += 16) {
    const int sub = (int)(i / 16 % 4);
    float v[16], w[16], scale[16], top = 0.0f;
    int exponent, code[16], near = 1;
    if (i && sub == 0) b++;
    if (!pgg_fit_prepare(x + i, importance ? importance + i : NULL, 16, FLT_MAX, v, w, &exponent)) continue;
    for (int j = 0; j < 16; j++) top = fabsf(v[j]) > top ? fabsf(v[j]) : top;
    if (top == 0.0f) continue;
    while (near < FINITE && all[near] * 12.0 < ldexp(top, exponent)) near++; /* the first that cuts nothing off */
    /* Eight codes are a factor of two. A finer scale cuts the top off; a coarser one puts it on 8, 6, 4, 3. */
    static const int8_t steps[2][16] = {{0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5, -6, 6, 7, 8, 9},
                                        {-9, -8, -7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 24}};
    int best = near;
    for (int round = 0; round < 2; round++) {
      for (int l = 0; l < 16; l++) {
        code[l] = near + steps[round][l];
        code[l] = code[l] < 1 ? 1 : code[l] > FINITE ? FINITE : code[l];
        if (round && l == 0) code[l] = best;
        scale[l] = (float)ldexp(all[code[l]], -exponent);
      }
      best = code[e2m1_best(v, w, 16, scale)];
    }
    b->d[sub] = (uint8_t)best;
    const float inverse = (float)(1.0 / ldexp(all[best], -exponent));
    for (int j = 0; j < 8; j++) {
      b->qs[8 * sub + j] = (uint8_t)(e2m1_code(v[j] * inverse) | e2m1_code(v[j + 8] * inverse) << 4);
    }
  }
}
