/* The words of lanes_scalar.h for arm64 Advanced SIMD: one half of two 128-bit registers, 8 rows a strip. Bytes stay
 * signed everywhere. With __ARM_FEATURE_DOTPROD four products are one sdot; without it they are widened.
 * Thirty-two registers hold a tile of 8 rows x 6 tokens: 12 integer, 12 float, 2 weights, 1 activation. */
#ifndef PGG_LANES_H
#define PGG_LANES_H
#include <arm_neon.h>

#include "cpu/products.h"

#define LANES_PAIR 1
#define LANES_UNITS 1
#define LANES_ROWS (8 * LANES_PAIR * LANES_UNITS)
#define LANES_TILE_TOKENS 6
#define LANES_BYTES8 BYTES8_SIGNED
#define LANES_CHAIN 0
#define LANES_GEMV 1

typedef struct lb {
  uint8x16_t v[2];
} lb;
typedef struct ld {
  int32x4_t v[2];
} ld;
typedef struct lf {
  float32x4_t v[2];
} lf;
#define L_BOTH(type, expression) \
  type r_;                       \
  {                              \
    enum { h = 0 };              \
    r_.v[h] = expression;        \
  }                              \
  {                              \
    enum { h = 1 };              \
    r_.v[h] = expression;        \
  }                              \
  return r_

/* ---- codes --------------------------------------------------------------------------------------------- */

PGG_ALWAYS lb lb_row(const uint8_t *p) { L_BOTH(lb, vld1q_u8(p + 16 * h)); }
PGG_ALWAYS lb lb_load(const uint8_t *p0, const uint8_t *p1) { return (void)p1, lb_row(p0); }
PGG_ALWAYS lb lb_nibbles(const uint8_t *p0, const uint8_t *p1) {
  const uint8x16_t x = vld1q_u8(p0);
  (void)p1;
  L_BOTH(lb, h ? vshrq_n_u8(x, 4) : vandq_u8(x, vdupq_n_u8(15)));
}
PGG_ALWAYS lb lb_plane(const uint8_t *p0, int s0, const uint8_t *p1, int s1, int mask) {
  (void)p1, (void)s1;
  L_BOTH(lb, vandq_u8(vshlq_u8(vld1q_u8(p0 + 16 * h), vdupq_n_s8((int8_t)-s0)), vdupq_n_u8((uint8_t)mask)));
}
PGG_ALWAYS lb lb_bits(const uint8_t *p0, const uint8_t *p1, int value) {
  const uint8x8_t bit = vcreate_u8(0x8040201008040201u);
  (void)p1;
  L_BOTH(lb, vandq_u8(vtstq_u8(vcombine_u8(vdup_n_u8(p0[2 * h]), vdup_n_u8(p0[2 * h + 1])), vcombine_u8(bit, bit)),
                      vdupq_n_u8((uint8_t)value)));
}
PGG_ALWAYS lb lb_bits32(uint32_t bits0, uint32_t bits1, int value) {
  uint8_t bytes[4];
  (void)bits1;
  memcpy(bytes, &bits0, 4);
  return lb_bits(bytes, bytes, value);
}
/* 2-bit codes: a nibble n in every int16, then n * 65 has its two codes in the low bits of the two bytes */
PGG_ALWAYS lb lb_crumbs(uint64_t c0, uint64_t c1) {
  const uint8x8_t x = vcreate_u8(c0), even = vand_u8(x, vdup_n_u8(15)), odd = vshr_n_u8(x, 4);
  (void)c1;
  L_BOTH(lb, vandq_u8(vreinterpretq_u8_u16(vmulq_n_u16(vmovl_u8(h ? vzip2_u8(even, odd) : vzip1_u8(even, odd)), 65)),
                      vdupq_n_u8(3)));
}
PGG_ALWAYS lb lb_nibbles_in_turn(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  const uint8x16_t x = vcombine_u8(vcreate_u8(lo0), vcreate_u8(hi0));
  const uint8x16_t even = vandq_u8(x, vdupq_n_u8(15)), odd = vshrq_n_u8(x, 4);
  (void)lo1, (void)hi1;
  L_BOTH(lb, h ? vzip2q_u8(even, odd) : vzip1q_u8(even, odd));
}
PGG_ALWAYS lb lb_xor(lb a, lb b) { L_BOTH(lb, veorq_u8(a.v[h], b.v[h])); }
PGG_ALWAYS lb lb_swap_middle(lb a) {
  const uint64x2_t x = vreinterpretq_u64_u8(a.v[0]), y = vreinterpretq_u64_u8(a.v[1]);
  L_BOTH(lb, vreinterpretq_u8_u64(h ? vzip2q_u64(x, y) : vzip1q_u64(x, y)));
}
PGG_ALWAYS lb lb_or(lb a, lb b) { L_BOTH(lb, vorrq_u8(a.v[h], b.v[h])); }
PGG_ALWAYS lb lb_shl(lb a, int n) { L_BOTH(lb, vshlq_u8(a.v[h], vdupq_n_s8((int8_t)n))); }
PGG_ALWAYS lb lb_table(const int8_t *table, lb code) {
  L_BOTH(lb, vreinterpretq_u8_s8(vqtbl1q_s8(vld1q_s8(table), code.v[h])));
}

PGG_ALWAYS lb lb_twice(const uint8_t *p0, const uint8_t *p1) {
  const uint8x16_t x = vld1q_u8(p0);
  (void)p1;
  L_BOTH(lb, x);
}
PGG_ALWAYS lb lb_quads(const uint8_t *p0, const uint8_t *p1) {
  const uint8x16_t x = vreinterpretq_u8_u32(vdupq_n_u32(pgg_load_u32(p0)));
  (void)p1;
  L_BOTH(lb, x);
}
/* what is below the point, and whether three times it passes 1 and 2 */
PGG_ALWAYS lb lb_trits(lb a, lb power) {
  L_BOTH(lb, vsubq_u8(vdupq_n_u8(0), vaddq_u8(vcgtq_u8(vmulq_u8(a.v[h], power.v[h]), vdupq_n_u8(85)),
                                              vcgtq_u8(vmulq_u8(a.v[h], power.v[h]), vdupq_n_u8(170)))));
}

/* ---- rows to lanes ------------------------------------------------------------------------------------- */

PGG_ALWAYS void l_transpose4(uint32x4_t *a, uint32x4_t *b, uint32x4_t *c, uint32x4_t *d) {
  const uint64x2_t ab0 = vreinterpretq_u64_u32(vtrn1q_u32(*a, *b)), ab1 = vreinterpretq_u64_u32(vtrn2q_u32(*a, *b));
  const uint64x2_t cd0 = vreinterpretq_u64_u32(vtrn1q_u32(*c, *d)), cd1 = vreinterpretq_u64_u32(vtrn2q_u32(*c, *d));
  *a = vreinterpretq_u32_u64(vtrn1q_u64(ab0, cd0));
  *b = vreinterpretq_u32_u64(vtrn1q_u64(ab1, cd1));
  *c = vreinterpretq_u32_u64(vtrn2q_u64(ab0, cd0));
  *d = vreinterpretq_u32_u64(vtrn2q_u64(ab1, cd1));
}
PGG_ALWAYS void lb_transpose(lb v[8]) {
  uint32x4_t q[2][2][4]; /* dwords of a half row, rows of a half column */
  PGG_UNROLL(8)
  for (int i = 0; i < 8; i++)
    for (int h = 0; h < 2; h++) q[h][i >> 2][i & 3] = vreinterpretq_u32_u8(v[i].v[h]);
  for (int h = 0; h < 2; h++)
    for (int r = 0; r < 2; r++) l_transpose4(&q[h][r][0], &q[h][r][1], &q[h][r][2], &q[h][r][3]);
  PGG_UNROLL(8)
  for (int j = 0; j < 8; j++)
    for (int r = 0; r < 2; r++) v[j].v[r] = vreinterpretq_u8_u32(q[j >> 2][r][j & 3]);
}
PGG_ALWAYS void lf_transpose(lf v[8]) {
  lb w[8];
  for (int i = 0; i < 8; i++)
    for (int h = 0; h < 2; h++) w[i].v[h] = vreinterpretq_u8_f32(v[i].v[h]);
  lb_transpose(w);
  for (int i = 0; i < 8; i++)
    for (int h = 0; h < 2; h++) v[i].v[h] = vreinterpretq_f32_u8(w[i].v[h]);
}
PGG_ALWAYS void lb_store(void *p, lb a) { vst1q_u8(p, a.v[0]), vst1q_u8((uint8_t *)p + 16, a.v[1]); }

/* ---- floats -------------------------------------------------------------------------------------------- */

PGG_ALWAYS float32x4_t l_widen_half(uint16x4_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(h)); }
PGG_ALWAYS float l_half(const uint8_t *p) { return vgetq_lane_f32(l_widen_half(vdup_n_u16(pgg_load_u16(p))), 0); }
PGG_ALWAYS lf lf_set1(float x) { L_BOTH(lf, vdupq_n_f32(x)); }
PGG_ALWAYS lf lf_two(float x0, float x1) { return (void)x1, lf_set1(x0); }
PGG_ALWAYS lf lf_load(const float *p) { L_BOTH(lf, vld1q_f32(p + 4 * h)); }
PGG_ALWAYS void lf_store(float *p, lf a) { vst1q_f32(p, a.v[0]), vst1q_f32(p + 4, a.v[1]); }
PGG_ALWAYS lf lf_add(lf a, lf b) { L_BOTH(lf, vaddq_f32(a.v[h], b.v[h])); }
PGG_ALWAYS lf lf_mul(lf a, lf b) { L_BOTH(lf, vmulq_f32(a.v[h], b.v[h])); }
PGG_ALWAYS lf lf_fma(lf a, lf b, lf c) { L_BOTH(lf, vfmaq_f32(c.v[h], a.v[h], b.v[h])); }
PGG_ALWAYS lf lf_fnma(lf a, lf b, lf c) { L_BOTH(lf, vfmsq_f32(c.v[h], a.v[h], b.v[h])); }
PGG_ALWAYS lf lf_from(ld a) { L_BOTH(lf, vcvtq_f32_s32(a.v[h])); }
PGG_ALWAYS float lf_sum(lf a) { return vaddvq_f32(vaddq_f32(a.v[0], a.v[1])); }
PGG_ALWAYS lf lf_halves8(const uint16_t *h0, const uint16_t *h1) {
  (void)h1;
  L_BOTH(lf, l_widen_half(vld1_u16(h0 + 4 * h)));
}
PGG_ALWAYS lf lf_bytes8(uint64_t b0, uint64_t b1) {
  const uint16x8_t w = vmovl_u8(vcreate_u8(b0));
  (void)b1;
  L_BOTH(lf, vcvtq_f32_u32(vmovl_u16(h ? vget_high_u16(w) : vget_low_u16(w))));
}
PGG_ALWAYS lf lf_sbytes8(uint64_t b0, uint64_t b1) {
  const int16x8_t w = vmovl_s8(vcreate_s8(b0));
  (void)b1;
  L_BOTH(lf, vcvtq_f32_s32(vmovl_s16(h ? vget_high_s16(w) : vget_low_s16(w))));
}
/* exponent e - 1; 2^-128 and 2^-127 are subnormal */
PGG_ALWAYS float32x4_t l_e8m0(uint16x4_t x) {
  const int32x4_t e = vreinterpretq_s32_u32(vshlq_n_u32(vmovl_u16(x), 23));
  const int32x4_t tiny = vaddq_s32(vshrq_n_s32(e, 2), vdupq_n_s32(0x00200000));
  return vreinterpretq_f32_s32(vmaxq_s32(vsubq_s32(e, vdupq_n_s32(0x00800000)), tiny));
}
PGG_ALWAYS lf lf_e8m0(uint64_t b0, uint64_t b1) {
  const uint16x8_t w = vmovl_u8(vcreate_u8(b0));
  (void)b1;
  L_BOTH(lf, l_e8m0(h ? vget_high_u16(w) : vget_low_u16(w)));
}
/* seven bits moved up by 7 are a half that is 2^7 too small; 0x7f is zero */
PGG_ALWAYS lf lf_e4m3(uint64_t b0, uint64_t b1) {
  const uint16x8_t x = vmovl_u8(vcreate_u8(b0)), up = vandq_u16(vshlq_n_u16(x, 7), vdupq_n_u16(0x3f80));
  const uint16x8_t w = vbicq_u16(up, vceqq_u16(x, vdupq_n_u16(127)));
  (void)b1;
  L_BOTH(lf, vmulq_n_f32(l_widen_half(h ? vget_high_u16(w) : vget_low_u16(w)), 128.0f));
}
PGG_ALWAYS lf lf_halves4x2(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  (void)lo1, (void)hi1;
  L_BOTH(lf, l_widen_half(vcreate_u16(h ? hi0 : lo0)));
}
PGG_ALWAYS lf lf_row_f32(const uint8_t *p) { L_BOTH(lf, vreinterpretq_f32_u8(vld1q_u8(p + 16 * h))); }
PGG_ALWAYS lf lf_row_f16(const uint8_t *p) { L_BOTH(lf, l_widen_half(vreinterpret_u16_u8(vld1_u8(p + 8 * h)))); }
PGG_ALWAYS lf lf_row_bf16(const uint8_t *p) {
  L_BOTH(lf, vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p + 8 * h)), 16)));
}
PGG_ALWAYS lf lf_pair_f32(const uint8_t *p0, const uint8_t *p1) { return (void)p1, lf_row_f32(p0); }
PGG_ALWAYS lf lf_pair_f16(const uint8_t *p0, const uint8_t *p1) { return (void)p1, lf_row_f16(p0); }
PGG_ALWAYS lf lf_pair_bf16(const uint8_t *p0, const uint8_t *p1) { return (void)p1, lf_row_bf16(p0); }
PGG_ALWAYS lb lb_words16(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  (void)lo1, (void)hi1;
  L_BOTH(lb, vreinterpretq_u8_u16(vmovl_u8(vcreate_u8(h ? hi0 : lo0))));
}

/* ---- the tile ------------------------------------------------------------------------------------------ */

PGG_ALWAYS lb lb_splat(const uint8_t *p) {
  const uint8x16_t x = vreinterpretq_u8_u32(vdupq_n_u32(pgg_load_u32(p)));
  L_BOTH(lb, x);
}
PGG_ALWAYS ld ld_zero(void) { L_BOTH(ld, vdupq_n_s32(0)); }
PGG_ALWAYS ld ld_splat(const int32_t *p) { L_BOTH(ld, vdupq_n_s32(*p)); }
/* acc + sums of four products */
PGG_ALWAYS int32x4_t l_dot(int32x4_t acc, uint8x16_t w, uint8x16_t a) {
  const int8x16_t x = vreinterpretq_s8_u8(w), y = vreinterpretq_s8_u8(a);
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(acc, x, y);
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(y)));
  const int32x4_t high = vpaddlq_s16(vmull_high_s8(x, y));
  return vaddq_s32(acc, vpaddq_s32(low, high));
#endif
}
PGG_ALWAYS ld ld_tile_dot(ld acc, lb w, lb a) { L_BOTH(ld, l_dot(acc.v[h], w.v[h], a.v[h])); }
#define LD_TILE_DOT(acc, w, a) ((acc) = ld_tile_dot(acc, w, a))
#define LF_TILE_FMA(acc, w, a) ((acc) = lf_fma(w, a, acc))
PGG_ALWAYS int32x4_t l_pairs(uint8x16_t w, uint8x16_t a) {
  const int16x8_t x = vreinterpretq_s16_u8(w), y = vreinterpretq_s16_u8(a);
  return vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
}
PGG_ALWAYS ld ld_pairs(ld acc, lb w, lb a) { L_BOTH(ld, vaddq_s32(acc.v[h], l_pairs(w.v[h], a.v[h]))); }

/* ---- few tokens ---------------------------------------------------------------------------------------- */

PGG_ALWAYS ld ld_load(const uint8_t *p) { L_BOTH(ld, vld1q_s32((const int32_t *)(const void *)p + 4 * h)); }
PGG_ALWAYS void ld_store(uint8_t *p, ld a) {
  for (int h = 0; h < 2; h++) vst1q_s32((int32_t *)(void *)p + 4 * h, a.v[h]);
}
PGG_ALWAYS ld ld_negate(ld a) { L_BOTH(ld, vnegq_s32(a.v[h])); }
PGG_ALWAYS ld ld_few_dot(ld acc, lb w, lb a) { return ld_tile_dot(acc, w, a); }
PGG_ALWAYS void lf_sum4(const lf v[4], float out[4]) {
  for (int i = 0; i < 4; i++) out[i] = lf_sum(v[i]);
}
/* lane g holds group g */
PGG_ALWAYS void lb_fold(lb v[8]) { lb_transpose(v); }
PGG_ALWAYS void lf_fold(const lf *s, lf *out, int group) {
  if (group == 32) {
    out[0] = s[0];
  } else {
    for (int h = 0; h < 2; h++) {
      out[0].v[h] = vuzp1q_f32(s[h].v[0], s[h].v[1]);
      out[1].v[h] = vuzp2q_f32(s[h].v[0], s[h].v[1]);
    }
  }
}

/* ---- activations --------------------------------------------------------------------------------------- */

PGG_ALWAYS uint32_t l_act_top(const float *x, float *sum) {
  uint32x4_t top = vdupq_n_u32(0);
  float32x4_t lanes[8];
  for (int j = 0; j < 8; j++) lanes[j] = vdupq_n_f32(0.0f);
  for (int i = 0; i < STRETCH; i += 32) PGG_UNROLL(8) for (int j = 0; j < 8; j++) {
      const float32x4_t size = vabsq_f32(vld1q_f32(x + i + 4 * j));
      top = vmaxq_u32(top, vreinterpretq_u32_f32(size));
      lanes[j] = vaddq_f32(lanes[j], size);
    }
  for (int half = 4; half; half /= 2)
    for (int j = 0; j < half; j++) lanes[j] = vaddq_f32(lanes[j], lanes[j + half]);
  const float32x2_t two = vadd_f32(vget_low_f32(lanes[0]), vget_high_f32(lanes[0]));
  *sum = vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  return vmaxvq_u32(top);
}
PGG_ALWAYS int l_act_round(float x) { return vcvtns_s32_f32(x); }
/* at: (STRETCH) */
PGG_ALWAYS int l_act_find(const float *x, float limit, uint8_t *at, float *rest) {
  float32x4_t most = vdupq_n_f32(0.0f);
  int count = 0;
  for (int i = 0; i < STRETCH; i += 4) {
    const float32x4_t size = vabsq_f32(vld1q_f32(x + i));
    const uint32x4_t above = vcgtq_f32(size, vdupq_n_f32(limit));
    most = vmaxq_f32(most, vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(size), above)));
    if (!vmaxvq_u32(above)) continue;
    uint32_t lanes[4];
    vst1q_u32(lanes, above);
    for (int j = 0; j < 4; j++)
      if (lanes[j]) at[count++] = (uint8_t)(i + j);
  }
  *rest = vmaxvq_f32(most);
  return count;
}
PGG_ALWAYS void l_act_quantize(const float *x, float scale, pgg_act *act) {
  for (int i = 0; i < STRETCH / 16; i++, x += 16) {
    int16x4_t w[4];
    for (int j = 0; j < 4; j++) w[j] = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * j), scale)));
    const int8x16_t q = vcombine_s8(vmovn_s16(vcombine_s16(w[0], w[1])), vmovn_s16(vcombine_s16(w[2], w[3])));
    vst1q_s8(act->q + 16 * i, q);
    act->sums[i] = vaddlvq_s8(q);
  }
}

#endif
