/* Scalar conversions: half, bfloat16, and the reference preparation of activations. No block formats here.
 * Source: IEEE 754 binary16; bfloat16 is the upper half of a binary32; pgg_act is our own (quant.h). */
#include <string.h>

#include "quant/blocks.h"
#include "quant/quant.h"

static uint32_t f32_bits(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  return bits;
}

float pgg_f16_to_f32(uint16_t h) { return pgg_half_value(h); }

uint16_t pgg_f32_to_f16(float f) {
  uint32_t bits = f32_bits(f), sign = bits >> 16 & 0x8000, a = bits & 0x7fffffff;
  if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff)); /* quiet, payload kept as F16C does */
  if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00);                    /* 65520 and more */
  if (a < 0x38800000u) { /* below 2^-14: at 0.5 the spacing of floats is the half's 2^-24, so the sum rounds for us */
    return (uint16_t)(sign | (f32_bits(pgg_bits_f32(a) + 0.5f) - 0x3f000000u));
  }
  return (uint16_t)(sign | (a - 0x38000000u + 0xfff + (a >> 13 & 1)) >> 13);
}

float pgg_bf16_to_f32(uint16_t h) { return pgg_bits_f32((uint32_t)h << 16); }

uint16_t pgg_f32_to_bf16(float f) {
  uint32_t bits = f32_bits(f);
  if ((bits & 0x7fffffff) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40); /* quiet */
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void act_block(const float *x, pgg_act *act, int n) {
  memset(act, 0, sizeof *act);
  float top = 0.0f;
  uint32_t worst = 0; /* largest bits of |x|: infinity and NaN are on top, and comparing bits never misses a NaN */
  for (int i = 0; i < n; i++) {
    uint32_t a = f32_bits(x[i]) & 0x7fffffff;
    worst = a > worst ? a : worst;
  }
  if (worst >= 0x7f800000u) {
    act->d = pgg_bits_f32(0x7fc00000u);
    return;
  }
  top = pgg_bits_f32(worst);
  if (top < PGG_ACT_TINY) return;
  act->d = top / 127.0f;
  const float inverse = 127.0f / top;
  for (int i = 0; i < n; i++) {
    float q = x[i] * inverse + 12582912.0f; /* 1.5 * 2^23: the sum has no fraction left, rounded half to even */
    act->q[i] = (int8_t)(q - 12582912.0f);
  }
  for (int i = 0; i < PGG_ACT_LEN; i++) act->sums[i / 16] = (int16_t)(act->sums[i / 16] + act->q[i]);
}

void pgg_act_encode(const float *x, pgg_act *act, int64_t k) {
  for (int64_t i = 0; i < k; i += PGG_ACT_LEN) {
    act_block(x + i, act++, (int)pgg_min_i64(PGG_ACT_LEN, k - i));
  }
}
