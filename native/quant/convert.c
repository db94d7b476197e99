/* Scalar conversions: half, bfloat16, and the reference preparation of activations. No block formats here.
 * Source: narrow.h, blocks.h; pgg_act is our own (quant.h). */
#include <string.h>

#include "quant/blocks.h"
#include "quant/narrow.h"
#include "quant/quant.h"

float pgg_f16_to_f32(uint16_t h) { return pgg_half_value(h); }

uint16_t pgg_f32_to_f16(float f) { return pgg_half_nearest(f); }

float pgg_bf16_to_f32(uint16_t h) { return pgg_bits_f32((uint32_t)h << 16); }

uint16_t pgg_f32_to_bf16(float f) { return pgg_bf16_nearest(f); }

/* The largest magnitude as bits: infinity and NaN are on top, and comparing bits never misses a NaN. */
static uint32_t act_top(const float *x, int n) {
  uint32_t top = 0;
  for (int i = 0; i < n; i++) {
    const uint32_t bits = pgg_f32_bits(x[i]) & 0x7fffffff;
    top = bits > top ? bits : top;
  }
  return top;
}

static float act_magnitude(float x) { return pgg_bits_f32(pgg_f32_bits(x) & 0x7fffffff); }

static float act_limit(const float *x, int n) {
  float lanes[32] = {0};
  for (int i = 0; i < n; i++) lanes[i % 32] += act_magnitude(x[i]);
  for (int half = 16; half; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return PGG_ACT_SPIKE * lanes[0] / (float)n;
}

/* Places of |x| > limit, at most PGG_ACT_SPIKES of them; how many there are, and the largest of the others. */
static int act_find(const float *x, int n, float limit, uint8_t *at, float *rest) {
  int count = 0;
  *rest = 0.0f;
  for (int i = 0; i < n; i++) {
    const float size = act_magnitude(x[i]);
    if (size > limit) {
      if (count++ < PGG_ACT_SPIKES) at[count - 1] = (uint8_t)i;
    } else if (size > *rest) {
      *rest = size;
    }
  }
  return count;
}

/* |x| < 2^22: 1.5 * 2^23 more, the sum has no fraction left, rounded half to even */
static int8_t act_round(float x) {
  const float q = x + 12582912.0f;
  return (int8_t)(q - 12582912.0f);
}

/* Takes the spikes out of x. */
static void act_spikes(float *x, int n, float top, pgg_act *act) {
  float limit = act_limit(x, n), rest;
  uint8_t at[PGG_ACT_SPIKES];
  if (!(top > limit) || top < PGG_ACT_LEAST) return;
  int count = act_find(x, n, limit, at, &rest);
  for (; count > PGG_ACT_SPIKES; count = act_find(x, n, limit, at, &rest)) limit = 1.25f * limit;
  if (!count || rest > PGG_ACT_WORTH * top) return;
  act->spike_d = pgg_bits_f32((pgg_f32_bits(top / 127.0f) + 0x7fffff) & 0x7f800000);
  act->n_spike = (uint8_t)count;
  for (int j = 0; j < count; j++) {
    act->at[j] = at[j];
    act->spike[j] = act_round(x[at[j]] * (1.0f / act->spike_d));
    x[at[j]] -= act->spike_d * (float)act->spike[j];
  }
}

static void act_block(const float *given, pgg_act *act, int n) {
  float x[PGG_ACT_LEN];
  memset(act, 0, sizeof *act);
  uint32_t bits = act_top(given, n);
  if (bits >= 0x7f800000u) {
    act->d = pgg_bits_f32(0x7fc00000u);
    return;
  }
  memcpy(x, given, (size_t)n * sizeof *x);
  act_spikes(x, n, pgg_bits_f32(bits), act);
  const float top = pgg_bits_f32(act_top(x, n));
  if (top < PGG_ACT_TINY) return;
  act->d = top / 127.0f;
  const float inverse = 127.0f / top;
  for (int i = 0; i < n; i++) act->q[i] = act_round(x[i] * inverse);
  for (int i = 0; i < PGG_ACT_LEN; i++) act->sums[i / 16] = (int16_t)(act->sums[i / 16] + act->q[i]);
}

void pgg_act_encode(const float *x, pgg_act *act, int64_t k) {
  for (int64_t i = 0; i < k; i += PGG_ACT_LEN) {
    act_block(x + i, act++, (int)pgg_min_i64(PGG_ACT_LEN, k - i));
  }
}
