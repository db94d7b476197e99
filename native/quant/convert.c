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

static void act_block(const float *x, pgg_act *act, int n) {
  memset(act, 0, sizeof *act);
  float top = 0.0f;
  uint32_t worst = 0; /* largest bits of |x|: infinity and NaN are on top, and comparing bits never misses a NaN */
  for (int i = 0; i < n; i++) {
    uint32_t a = pgg_f32_bits(x[i]) & 0x7fffffff;
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
