/* Encoders of plain floats and of the 32-value types with one scale. K types are in encode_k.c.
 * Without importance the scale spans the largest value and bytes equal those of ggml's quantize; with it the scale is
 * searched for the least weighted squared error (encode_one.c).
 * Source: block layouts and plain rounding as published with ggml. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "quant/blocks_basic.h"
#include "quant/encode.h"
#include "quant/encode_fit.h"

/* ---- plain floats -------------------------------------------------------------------------------------- */

void pgg_encode_f32(const float *x, void *row, int64_t k, const float *importance) {
  (void)importance;
  memcpy(row, x, (size_t)k * sizeof *x);
}

void pgg_encode_f16(const float *x, void *row, int64_t k, const float *importance) {
  (void)importance;
  for (int64_t i = 0; i < k; i++) {
    uint16_t h = pgg_f32_to_f16(x[i]);
    memcpy((char *)row + 2 * i, &h, 2);
  }
}

void pgg_encode_bf16(const float *x, void *row, int64_t k, const float *importance) {
  (void)importance;
  for (int64_t i = 0; i < k; i++) {
    uint16_t h = pgg_f32_to_bf16(x[i]);
    memcpy((char *)row + 2 * i, &h, 2);
  }
}

/* ---- one scale for 32 values --------------------------------------------------------------------------- */

enum { LEN = 32 };

/* x ~ d * q + m. d and m are what is stored; inverse and m are what q is rounded with. */
typedef struct grid {
  uint16_t d, m;
  float inverse, offset;
} grid;

static float limit(float f) { return f > 65504.0f ? 65504.0f : f < -65504.0f ? -65504.0f : f; }
static float clamp(float v, float lo, float hi) { return v < lo ? lo : v > hi ? hi : v; }

static float reciprocal(float d) {
  const float r = d != 0.0f ? 1.0f / d : 0.0f;
  return fabsf(r) <= FLT_MAX ? r : 0.0f; /* of a subnormal */
}

static bool all_finite(const float *x) {
  bool finite = true;
  for (int i = 0; i < LEN; i++) finite = finite && fabsf(x[i]) <= FLT_MAX;
  return finite;
}

/* True if weights can be used: none negative or NaN, some positive. */
static bool usable(const float *w) {
  float sum = 0.0f;
  for (int i = 0; i < LEN; i++) {
    if (!(w[i] >= 0.0f && w[i] <= FLT_MAX)) return false;
    sum += w[i];
  }
  return sum > 0.0f;
}

/* The value of largest magnitude (the first of equals) becomes q = end. */
static grid plain_symmetric(const float *x, float end) {
  float top = 0.0f;
  for (int i = 0; i < LEN; i++) {
    if (fabsf(x[i]) > fabsf(top)) top = x[i];
  }
  if (end > 0.0f) top = fabsf(top);
  const float d = limit(top / end);
  return (grid){pgg_f32_to_f16(d), 0, reciprocal(d), 0.0f};
}

static grid plain_affine(const float *x, float steps) {
  float low = x[0], high = x[0];
  for (int i = 1; i < LEN; i++) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
  }
  low = limit(low);
  const float d = limit((high - low) / steps);
  return (grid){pgg_f32_to_f16(d), pgg_f32_to_f16(low), reciprocal(d), low};
}

static grid weighted(const float *x, const float *w, int lo, int hi, bool affine) {
  const pgg_fit_range range = {LEN, lo, hi, affine, NULL};
  grid g = {0, 0, 0.0f, 0.0f};
  pgg_fit_one(x, w, &range, &g.d, &g.m);
  g.inverse = reciprocal(pgg_f16_to_f32(g.d));
  g.offset = pgg_f16_to_f32(g.m);
  return g;
}

/* ---- types --------------------------------------------------------------------------------------------- */

/* q of each value, shifted to be >= 0 and cut off as ggml does: (int)(v + bias). */
static void round_up(const float *x, const grid *g, float bias, float last, int *q) {
  for (int i = 0; i < LEN; i++) q[i] = (int)clamp((x[i] - g->offset) * g->inverse + bias, 0.0f, last);
}

/* Half away from zero, exactly: v + 0.5 would round just below a half. */
static int round_away(float v) {
  const int t = (int)v;
  const float rest = v - (float)t;
  return rest >= 0.5f ? t + 1 : rest <= -0.5f ? t - 1 : t;
}

static void put_nibbles(uint8_t *qs, const int *q) {
  for (int i = 0; i < 16; i++) qs[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void put_fifth(uint8_t *qh, const int *q) {
  memset(qh, 0, 4);
  for (int i = 0; i < LEN; i++) qh[i >> 3] |= (uint8_t)(q[i] >> 4 << (i & 7));
}

static void pack_q4_0(pgg_q4_0 *b, const float *x, const grid *g) {
  int q[LEN];
  round_up(x, g, 8.5f, 15.0f, q);
  pgg_put_u16(b->d, g->d), put_nibbles(b->qs, q);
}

static void pack_q4_1(pgg_q4_1 *b, const float *x, const grid *g) {
  int q[LEN];
  round_up(x, g, 0.5f, 15.0f, q);
  pgg_put_u16(b->d, g->d), pgg_put_u16(b->m, g->m), put_nibbles(b->qs, q);
}

static void pack_q5_0(pgg_q5_0 *b, const float *x, const grid *g) {
  int q[LEN];
  round_up(x, g, 16.5f, 31.0f, q);
  pgg_put_u16(b->d, g->d), put_fifth(b->qh, q), put_nibbles(b->qs, q);
}

static void pack_q5_1(pgg_q5_1 *b, const float *x, const grid *g) {
  int q[LEN];
  round_up(x, g, 0.5f, 31.0f, q);
  pgg_put_u16(b->d, g->d), pgg_put_u16(b->m, g->m), put_fifth(b->qh, q), put_nibbles(b->qs, q);
}

static void pack_q8_0(pgg_q8_0 *b, const float *x, const grid *g) {
  pgg_put_u16(b->d, g->d);
  for (int i = 0; i < LEN; i++) b->qs[i] = (int8_t)round_away(clamp(x[i] * g->inverse, -127.0f, 127.0f));
}

/* plain: the grid without importance; lo, hi, affine: the search with it. */
#define ENCODER(name, plain, lo, hi, affine)                                              \
  void pgg_encode_##name(const float *x, void *row, int64_t k, const float *importance) { \
    static const float nothing[LEN];                                                      \
    pgg_##name *b = row;                                                                  \
    for (int64_t i = 0; i < k; i += LEN, b++) {                                           \
      const float *w = importance && usable(importance + i) ? importance + i : NULL;      \
      if (all_finite(x + i)) {                                                            \
        const grid g = w ? weighted(x + i, w, lo, hi, affine) : plain;                    \
        pack_##name(b, x + i, &g);                                                        \
      } else {                                                                            \
        const grid g = {0x7e00, 0, 0.0f, 0.0f}; /* NaN */                                 \
        pack_##name(b, nothing, &g);                                                      \
      }                                                                                   \
    }                                                                                     \
  }
ENCODER(q4_0, plain_symmetric(x + i, -8.0f), -8, 7, false)
ENCODER(q4_1, plain_affine(x + i, 15.0f), 0, 15, true)
ENCODER(q5_0, plain_symmetric(x + i, -16.0f), -16, 15, false)
ENCODER(q5_1, plain_affine(x + i, 31.0f), 0, 31, true)
ENCODER(q8_0, plain_symmetric(x + i, 127.0f), -127, 127, false)
