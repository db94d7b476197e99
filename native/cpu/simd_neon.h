/* The vocabulary (simd_scalar.h lists the words) with 4 lanes: Advanced SIMD of armv8-a. */
#ifndef PGG_SIMD_H
#define PGG_SIMD_H
#include <arm_neon.h>
#include <string.h>

#include "quant/quant.h"

#define SIMD_LANES 4
#define SIMD_REGS 32

typedef float32x4_t vf;
typedef uint32x4_t vm;

static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline void vf_store(float *p, vf a) { vst1q_f32(p, a); }
static inline vf vf_load_n(const float *p, int n) {
  float t[4] = {0};
  memcpy(t, p, (size_t)n * sizeof *p);
  return vld1q_f32(t);
}
static inline void vf_store_n(float *p, vf a, int n) {
  float t[4];
  vst1q_f32(t, a);
  memcpy(p, t, (size_t)n * sizeof *p);
}
static inline vf vf_set1(float x) { return vdupq_n_f32(x); }
static inline vf vf_ramp(float x) {
  static const float steps[4] = {0, 1, 2, 3};
  return vaddq_f32(vdupq_n_f32(x), vld1q_f32(steps));
}
static inline vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vf_fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
static inline vf vf_min(vf a, vf b) { return vminq_f32(a, b); }
static inline vf vf_max(vf a, vf b) { return vmaxq_f32(a, b); }
static inline vf vf_abs(vf a) { return vabsq_f32(a); }
static inline vf vf_round(vf a) { return vrndnq_f32(a); }

/* In two steps, so that a result that is subnormal or overflows is rounded once. */
static inline vf vf_scale2(vf a, vf n) {
  const int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1), bias = vdupq_n_s32(127);
  const int32x4_t one = vshlq_n_s32(vaddq_s32(half, bias), 23);
  const int32x4_t two = vshlq_n_s32(vaddq_s32(vsubq_s32(whole, half), bias), 23);
  return vmulq_f32(vmulq_f32(a, vreinterpretq_f32_s32(one)), vreinterpretq_f32_s32(two));
}

static inline vm vf_lt(vf a, vf b) { return vcltq_f32(a, b); }
static inline vm vm_both(vm a, vm b) { return vandq_u32(a, b); }
static inline vf vf_select(vm m, vf a, vf b) { return vbslq_f32(m, a, b); }
static inline float vf_sum(vf a) { return vaddvq_f32(a); }
static inline float vf_top(vf a) { return vmaxvq_f32(a); }

static inline float f16_value(const void *p) {
  float16_t h;
  memcpy(&h, p, 2);
  return (float)h;
}
static inline vf vf_load_f16(const void *p) {
  uint16x4_t h;
  memcpy(&h, p, 8);
  return vcvt_f32_f16(vreinterpret_f16_u16(h));
}
static inline vf vf_load_bf16(const void *p) {
  uint16x4_t h;
  memcpy(&h, p, 8);
  return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}
static inline vf vf_load_nibbles(const uint8_t *p, int high) {
  uint32_t four;
  memcpy(&four, p, 4);
  const uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four >> (high ? 4 : 0) & 0x0f0f0f0fu)));
  return vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)));
}
static inline vf signed_bytes(int8x8_t a) { return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(a)))); }
static inline vf vf_load_i8(const int8_t *p) {
  int32_t four;
  memcpy(&four, p, 4);
  return signed_bytes(vreinterpret_s8_s32(vdup_n_s32(four)));
}
static inline vf vf_load_book(const uint8_t *p, int high, const int8_t *book) {
  uint32_t four;
  memcpy(&four, p, 4);
  const uint8x8_t at = vreinterpret_u8_u32(vdup_n_u32(four >> (high ? 4 : 0) & 0x0f0f0f0fu));
  return signed_bytes(vqtbl1_s8(vld1q_s8(book), at));
}
static inline vf vf_bits(uint32_t bits, float x) {
  static const uint32_t lanes[4] = {1, 2, 4, 8};
  return vbslq_f32(vtstq_u32(vdupq_n_u32(bits), vld1q_u32(lanes)), vdupq_n_f32(x), vdupq_n_f32(0.0f));
}
static inline void vf_store_f16(void *p, vf a) {
  const uint16x4_t h = vreinterpret_u16_f16(vcvt_f16_f32(a));
  memcpy(p, &h, 8);
}
static inline void vf_store_bf16(void *p, vf a) {
  const uint32x4_t bits = vreinterpretq_u32_f32(a), high = vshrq_n_u32(bits, 16);
  const uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
  const uint32x4_t even = vshrq_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
  const uint32x4_t number = vceqq_f32(a, a);
  const uint16x4_t h = vmovn_u32(vbslq_u32(number, even, vorrq_u32(high, vdupq_n_u32(0x40))));
  memcpy(p, &h, 8);
}
static inline void vf_store_i8(int8_t *p, vf a) {
  const int16x4_t half = vqmovn_s32(vcvtnq_s32_f32(a));
  const int8x8_t bytes = vqmovn_s16(vcombine_s16(half, half));
  memcpy(p, &bytes, 4);
}

static inline void vf_unzip(vf a, vf b, vf *even, vf *odd) { *even = vuzp1q_f32(a, b), *odd = vuzp2q_f32(a, b); }
static inline void vf_zip(vf even, vf odd, vf *a, vf *b) { *a = vzip1q_f32(even, odd), *b = vzip2q_f32(even, odd); }

static inline void vf_transpose(vf r[4]) {
  const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1])),
                    b = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
  const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3])),
                    d = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
  r[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
  r[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
  r[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
  r[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

#endif
