/* Floats to half and bfloat16, inline and without a branch, so that a loop over them becomes vectors. The way back is
 * in blocks.h. Source: IEEE 754 binary16; bfloat16 is the upper half of a binary32. */
#ifndef PGG_NARROW_H
#define PGG_NARROW_H
#include <stdint.h>
#include <string.h>

static inline uint32_t pgg_f32_bits(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  return bits;
}

/* Half to even; 65520 and more is infinity; a NaN is made quiet and keeps its payload, as F16C does. */
static inline uint16_t pgg_half_nearest(float f) {
  const uint32_t bits = pgg_f32_bits(f), a = bits & 0x7fffffff;
  float magnitude;
  memcpy(&magnitude, &a, sizeof a);
  /* Below 2^-14: at 0.5 the spacing of floats is the half's 2^-24, so the sum rounds for us. */
  const uint32_t small = pgg_f32_bits(magnitude + 0.5f) - 0x3f000000u;
  const uint32_t normal = (a - 0x38000000u + 0xfff + (a >> 13 & 1)) >> 13;
  uint32_t h = a < 0x38800000u ? small : normal;
  h = a >= 0x477ff000u ? 0x7c00 : h;
  h = a > 0x7f800000u ? 0x7e00 | (a >> 13 & 0x3ff) : h;
  return (uint16_t)((bits >> 16 & 0x8000) | h);
}

static inline uint16_t pgg_bf16_nearest(float f) {
  const uint32_t bits = pgg_f32_bits(f), rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (uint16_t)((bits & 0x7fffffff) > 0x7f800000u ? bits >> 16 | 0x40 : rounded); /* NaN: quiet */
}

#endif
