/* The vocabulary (simd_scalar.h lists the words) with 16 lanes: AVX-512 F, BW, VL, DQ. */
#ifndef PGG_SIMD_H
#define PGG_SIMD_H
#include <immintrin.h>
#include <string.h>

#include "quant/quant.h"

#define SIMD_LANES 16
#define SIMD_REGS 32

typedef __m512 vf;
typedef __mmask16 vm;

static inline __mmask16 lanes_below(int n) { return (__mmask16)((1u << n) - 1u); }

static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
static inline vf vf_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(lanes_below(n), p); }
static inline void vf_store_n(float *p, vf a, int n) { _mm512_mask_storeu_ps(p, lanes_below(n), a); }
static inline vf vf_set1(float x) { return _mm512_set1_ps(x); }
static inline vf vf_ramp(float x) {
  return _mm512_add_ps(_mm512_set1_ps(x), _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
static inline vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vf_abs(vf a) { return _mm512_abs_ps(a); }
static inline vf vf_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf vf_scale2(vf a, vf n) { return _mm512_scalef_ps(a, n); }
static inline vm vf_lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vm vm_both(vm a, vm b) { return (vm)(a & b); }
static inline vf vf_select(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }
static inline float vf_sum(vf a) { return _mm512_reduce_add_ps(a); }
static inline float vf_top(vf a) { return _mm512_reduce_max_ps(a); }

static inline float f16_value(const void *p) {
  uint16_t h;
  memcpy(&h, p, 2);
  return _cvtsh_ss(h);
}
static inline vf vf_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
static inline vf bf16_values(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
static inline vf vf_load_bf16(const void *p) { return bf16_values(_mm256_loadu_si256((const __m256i *)p)); }
#define SIMD_HALVES_N 1 /* loads of n halves, the other lanes zero */
static inline vf vf_load_f16_n(const void *p, int n) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes_below(n), p));
}
static inline vf vf_load_bf16_n(const void *p, int n) {
  return bf16_values(_mm256_maskz_loadu_epi16(lanes_below(n), p));
}
static inline vf vf_load_i8(const int8_t *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline vf vf_load_nibbles(const uint8_t *p, int high) {
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
  return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(wide, high ? 4 : 0), _mm512_set1_epi32(15)));
}
static inline vf vf_load_book(const uint8_t *p, int high, const int8_t *book) {
  const __m128i bytes = _mm_srli_epi16(_mm_loadu_si128((const __m128i *)p), high ? 4 : 0);
  const __m128i at = _mm_and_si128(bytes, _mm_set1_epi8(15)), table = _mm_loadu_si128((const __m128i *)book);
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_shuffle_epi8(table, at)));
}
static inline vf vf_bits(uint32_t bits, float x) { return _mm512_maskz_mov_ps((__mmask16)bits, _mm512_set1_ps(x)); }
static inline void vf_store_f16(void *p, vf a) {
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* Not vcvtneps2bf16, which flushes subnormals. */
static inline void vf_store_bf16(void *p, vf a) {
  const __m512i bits = _mm512_castps_si512(a), high = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i even = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  const __m512i out = _mm512_mask_or_epi32(even, nan, high, _mm512_set1_epi32(0x40));
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(out));
}
static inline void vf_store_i8(int8_t *p, vf a) {
  _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a)));
}

static inline void vf_unzip(vf a, vf b, vf *even, vf *odd) {
  const __m512i e = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  *even = _mm512_permutex2var_ps(a, e, b);
  *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(e, _mm512_set1_epi32(1)), b);
}
static inline void vf_zip(vf even, vf odd, vf *a, vf *b) {
  const __m512i lo = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  *a = _mm512_permutex2var_ps(even, lo, odd);
  *b = _mm512_permutex2var_ps(even, _mm512_add_epi32(lo, _mm512_set1_epi32(8)), odd);
}

/* 4 x 4 within the 128-bit lanes, then the lanes themselves. */
static inline void vf_transpose(vf r[16]) {
  vf a[16], b[16];
#pragma GCC unroll 16
  for (int i = 0; i < 8; i++) {
    a[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 4; i++) {
    b[4 * i] = _mm512_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
    b[4 * i + 1] = _mm512_shuffle_ps(a[4 * i], a[4 * i + 2], 0xee);
    b[4 * i + 2] = _mm512_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
    b[4 * i + 3] = _mm512_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xee);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 4; i++) { /* b[4g + i] lane q: rows 4g..4g+3 of column 4q + i */
    const vf even0 = _mm512_shuffle_f32x4(b[i], b[4 + i], 0x88), odd0 = _mm512_shuffle_f32x4(b[i], b[4 + i], 0xdd);
    const vf even1 = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], 0x88);
    const vf odd1 = _mm512_shuffle_f32x4(b[8 + i], b[12 + i], 0xdd);
    r[i] = _mm512_shuffle_f32x4(even0, even1, 0x88);
    r[8 + i] = _mm512_shuffle_f32x4(even0, even1, 0xdd);
    r[4 + i] = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
    r[12 + i] = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
  }
}

#endif
