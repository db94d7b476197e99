/* The words of lanes_scalar.h for AVX-512 F, BW, VL, DQ and VNNI: two halves of 256 bits, 32 rows a strip.
 * The tile is 32 rows x 6 tokens: 12 integer and 12 float accumulators, two rows of weights, one broadcast.
 * vpdpbusd is written in assembly under GNU compilers: through the intrinsic GCC 12 copies and spills accumulators
 * (61-63 % of peak instead of 87 %, Zen 5). */
#ifndef PGG_LANES_H
#define PGG_LANES_H
#include <immintrin.h>

#include "cpu/products.h"

#define LANES_PAIR 2
#define LANES_UNITS 2
#define LANES_ROWS (8 * LANES_PAIR * LANES_UNITS)
#define LANES_TILE_TOKENS 6
#define LANES_FLOAT_PANELS 2
#define LANES_BYTES8 BYTES8_UNSIGNED
#define LANES_CHAIN 0
#define LANES_GEMV 1
#define LANES_FEW_WORDS "cpu/few_avx512.h"
#define LANES_FEW_PACKED 1

typedef __m512i lb;
typedef __m512i ld;
typedef __m512 lf;

/* ---- codes --------------------------------------------------------------------------------------------- */

PGG_ALWAYS __m512i l_join(__m256i a, __m256i b) { return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1); }
PGG_ALWAYS __m256i l_load32(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
PGG_ALWAYS lb lb_load(const uint8_t *p0, const uint8_t *p1) {
  if (PGG_SAME_PLACE(p0, p1)) return _mm512_broadcast_i64x4(l_load32(p0));
  if (PGG_SAME_PLACE(p0 + 32, p1)) return _mm512_loadu_si512(p0);
  return l_join(l_load32(p0), l_load32(p1));
}
PGG_ALWAYS lb lb_nibbles(const uint8_t *p0, const uint8_t *p1) {
  const __m512i first = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)p0));
  const __m512i both = _mm512_mask_broadcast_i32x4(first, 0xff00, _mm_loadu_si128((const __m128i *)(const void *)p1));
  const __m512i shift = _mm512_set_epi32(4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0);
  return _mm512_and_si512(_mm512_srlv_epi32(both, shift), _mm512_set1_epi8(15));
}
PGG_ALWAYS lb lb_plane(const uint8_t *p0, int s0, const uint8_t *p1, int s1, int mask) {
  const __m512i both = lb_load(p0, p1);
  const __m512i shift = l_join(_mm256_set1_epi32(s0), _mm256_set1_epi32(s1));
  return _mm512_and_si512(_mm512_srlv_epi32(both, shift), _mm512_set1_epi8((char)mask));
}
PGG_ALWAYS lb lb_bits(const uint8_t *p0, const uint8_t *p1, int value) {
  const uint64_t bits = pgg_load_u32(p0) | (uint64_t)pgg_load_u32(p1) << 32;
  return _mm512_maskz_set1_epi8((__mmask64)bits, (char)value);
}
PGG_ALWAYS lb lb_bits32(uint32_t bits0, uint32_t bits1, int value) {
  return _mm512_maskz_set1_epi8((__mmask64)(bits0 | (uint64_t)bits1 << 32), (char)value);
}
PGG_ALWAYS __m128i l_two_u64(uint64_t a, uint64_t b) { return _mm_set_epi64x((long long)b, (long long)a); }
PGG_ALWAYS __m256i l_in_turn(uint64_t lo, uint64_t hi) {
  const __m128i x = l_two_u64(lo, hi), low = _mm_set1_epi8(15);
  const __m128i even = _mm_and_si128(x, low), odd = _mm_and_si128(_mm_srli_epi16(x, 4), low);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi8(even, odd)), _mm_unpackhi_epi8(even, odd), 1);
}
PGG_ALWAYS lb lb_nibbles_in_turn(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  return l_join(l_in_turn(lo0, hi0), l_in_turn(lo1, hi1));
}
/* 2-bit codes: a nibble n in every int16, then n * 65 has its two codes in the low bits of the two bytes */
PGG_ALWAYS lb lb_crumbs(uint64_t c0, uint64_t c1) {
  const __m512i n = _mm512_cvtepu8_epi16(l_in_turn(c0, c1));
  return _mm512_and_si512(_mm512_mullo_epi16(n, _mm512_set1_epi16(65)), _mm512_set1_epi8(3));
}
PGG_ALWAYS lb lb_xor(lb a, lb b) { return _mm512_xor_si512(a, b); }
PGG_ALWAYS lb lb_swap_middle(lb a) { return _mm512_permutex_epi64(a, 0xd8); }
PGG_ALWAYS lb lb_or(lb a, lb b) { return _mm512_or_si512(a, b); }
PGG_ALWAYS lb lb_shl(lb a, int n) { return _mm512_slli_epi32(a, (unsigned)n); }
PGG_ALWAYS lb lb_table(const int8_t *table, lb code) {
  const __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table));
  return _mm512_shuffle_epi8(t, code);
}
PGG_ALWAYS lb lb_flip(lb a) { return _mm512_xor_si512(a, _mm512_set1_epi8((char)0x80)); }

PGG_ALWAYS lb lb_twice(const uint8_t *p0, const uint8_t *p1) {
  const __m512i first = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)p0));
  if (PGG_SAME_PLACE(p0, p1)) return first;
  return _mm512_mask_broadcast_i32x4(first, 0xff00, _mm_loadu_si128((const __m128i *)(const void *)p1));
}
PGG_ALWAYS lb lb_quads(const uint8_t *p0, const uint8_t *p1) {
  const __m512i first = _mm512_set1_epi32((int)pgg_load_u32(p0));
  return _mm512_mask_set1_epi32(first, 0xff00, (int)pgg_load_u32(p1));
}
/* bytes in the upper half of int16, so that the product keeps what is below the point and times 3 shows the digit */
PGG_ALWAYS lb lb_trits(lb a, lb power) {
  const __m512i by = _mm512_and_si512(power, _mm512_set1_epi16(255)), three = _mm512_set1_epi16(3);
  const __m512i even = _mm512_mulhi_epu16(_mm512_mullo_epi16(_mm512_slli_epi16(a, 8), by), three);
  const __m512i upper = _mm512_and_si512(a, _mm512_set1_epi16((short)0xff00));
  const __m512i odd = _mm512_mulhi_epu16(_mm512_mullo_epi16(upper, by), three);
  return _mm512_or_si512(even, _mm512_slli_epi16(odd, 8));
}

/* ---- rows to lanes ------------------------------------------------------------------------------------- */

/* 8 x 8 dwords in each 256-bit half: pairs, quads, then 128-bit lanes. 24 shuffles for 512 weights. */
PGG_ALWAYS void lb_transpose(lb v[8]) {
  const __m512i low = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0), high = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
  __m512i a[8], b[8];
  PGG_UNROLL(4) for (int i = 0; i < 4; i++) {
    a[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
  }
  PGG_UNROLL(2) for (int i = 0; i < 8; i += 4) { /* rows i .. i + 3; dwords 0, 1, 2, 3 of each lane */
    b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  PGG_UNROLL(4) for (int i = 0; i < 4; i++) {
    v[i] = _mm512_permutex2var_epi64(b[i], low, b[i + 4]);
    v[i + 4] = _mm512_permutex2var_epi64(b[i], high, b[i + 4]);
  }
}
PGG_ALWAYS void lf_transpose(lf v[8]) {
  __m512i w[8];
  PGG_UNROLL(8) for (int i = 0; i < 8; i++) w[i] = _mm512_castps_si512(v[i]);
  lb_transpose(w);
  PGG_UNROLL(8) for (int i = 0; i < 8; i++) v[i] = _mm512_castsi512_ps(w[i]);
}
PGG_ALWAYS void lb_store(void *p, lb a) { _mm512_store_si512(p, a); }

/* ---- floats -------------------------------------------------------------------------------------------- */

PGG_ALWAYS float l_half(const uint8_t *p) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(pgg_load_u16(p)))); }
PGG_ALWAYS __m512 l_join_ps(__m256 a, __m256 b) { return _mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1); }
PGG_ALWAYS lf lf_set1(float x) { return _mm512_set1_ps(x); }
PGG_ALWAYS lf lf_two(float x0, float x1) { return l_join_ps(_mm256_set1_ps(x0), _mm256_set1_ps(x1)); }
PGG_ALWAYS lf lf_load(const float *p) { return _mm512_loadu_ps(p); }
PGG_ALWAYS void lf_store(float *p, lf a) { _mm512_storeu_ps(p, a); }
PGG_ALWAYS lf lf_add(lf a, lf b) { return _mm512_add_ps(a, b); }
PGG_ALWAYS lf lf_mul(lf a, lf b) { return _mm512_mul_ps(a, b); }
PGG_ALWAYS lf lf_fma(lf a, lf b, lf c) { return _mm512_fmadd_ps(a, b, c); }
PGG_ALWAYS lf lf_fnma(lf a, lf b, lf c) { return _mm512_fnmadd_ps(a, b, c); }
PGG_ALWAYS lf lf_from(ld a) { return _mm512_cvtepi32_ps(a); }
PGG_ALWAYS float lf_sum(lf a) { return _mm512_reduce_add_ps(a); }
PGG_ALWAYS lf lf_halves8(const uint16_t *h0, const uint16_t *h1) {
  const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)h0);
  const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)h1);
  return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1));
}
PGG_ALWAYS lf lf_bytes8(uint64_t b0, uint64_t b1) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(l_two_u64(b0, b1)));
}
PGG_ALWAYS lf lf_sbytes8(uint64_t b0, uint64_t b1) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(l_two_u64(b0, b1)));
}
/* exponent e - 1; 2^-128 and 2^-127 are subnormal */
PGG_ALWAYS lf lf_e8m0(uint64_t b0, uint64_t b1) {
  const __m512i e = _mm512_slli_epi32(_mm512_cvtepu8_epi32(l_two_u64(b0, b1)), 23);
  const __m512i tiny = _mm512_add_epi32(_mm512_srli_epi32(e, 2), _mm512_set1_epi32(0x00200000));
  return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(0x00800000)), tiny));
}
/* seven bits moved up by 7 are a half that is 2^7 too small; 0x7f is zero */
PGG_ALWAYS lf lf_e4m3(uint64_t b0, uint64_t b1) {
  const __m256i x = _mm256_cvtepu8_epi16(l_two_u64(b0, b1));
  const __m256i h = _mm256_and_si256(_mm256_slli_epi16(x, 7), _mm256_set1_epi16(0x3f80));
  const __mmask16 some = _mm256_cmpneq_epi16_mask(x, _mm256_set1_epi16(127));
  return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_maskz_mov_epi16(some, h)), _mm512_set1_ps(128.0f));
}
PGG_ALWAYS lf lf_halves4x2(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(l_two_u64(lo0, hi0)), l_two_u64(lo1, hi1), 1));
}
PGG_ALWAYS lf lf_pair_f32(const uint8_t *p0, const uint8_t *p1) {
  return l_join_ps(_mm256_loadu_ps((const float *)(const void *)p0), _mm256_loadu_ps((const float *)(const void *)p1));
}
PGG_ALWAYS lf lf_pair_f16(const uint8_t *p0, const uint8_t *p1) {
  const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)p0);
  const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p1);
  return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1));
}
PGG_ALWAYS lf lf_pair_bf16(const uint8_t *p0, const uint8_t *p1) {
  const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)p0);
  const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p1);
  const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(both), 16));
}
/* a whole vector of neighbours */
PGG_ALWAYS lf lf_row_f32(const uint8_t *p) { return _mm512_loadu_ps(p); }
PGG_ALWAYS lf lf_row_f16(const uint8_t *p) { return _mm512_cvtph_ps(l_load32(p)); }
PGG_ALWAYS lf lf_row_bf16(const uint8_t *p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(l_load32(p)), 16));
}
PGG_ALWAYS lb lb_words16(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  return _mm512_cvtepu8_epi16(
      _mm256_inserti128_si256(_mm256_castsi128_si256(l_two_u64(lo0, hi0)), l_two_u64(lo1, hi1), 1));
}

/* ---- the tile ------------------------------------------------------------------------------------------ */

PGG_ALWAYS lb lb_row(const uint8_t *p) { return _mm512_loadu_si512(p); }
PGG_ALWAYS lb lb_splat(const uint8_t *p) { return _mm512_set1_epi32((int)pgg_load_u32(p)); }
PGG_ALWAYS ld ld_zero(void) { return _mm512_setzero_si512(); }
PGG_ALWAYS ld ld_splat(const int32_t *p) { return _mm512_set1_epi32(*p); }
#if defined(__GNUC__)
#define LD_TILE_DOT(acc, w, a) __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(a))
#define LF_TILE_FMA(acc, w, a) __asm__("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(w), "v"(a))
#else
#define LD_TILE_DOT(acc, w, a) ((acc) = _mm512_dpbusd_epi32(acc, w, a))
#define LF_TILE_FMA(acc, w, a) ((acc) = _mm512_fmadd_ps(w, a, acc))
#endif
PGG_ALWAYS ld ld_pairs(ld acc, lb w, lb a) { return _mm512_dpwssd_epi32(acc, w, a); }

/* ---- few tokens ---------------------------------------------------------------------------------------- */

PGG_ALWAYS ld ld_load(const uint8_t *p) { return _mm512_load_si512(p); }
PGG_ALWAYS void ld_store(uint8_t *p, ld a) { _mm512_store_si512(p, a); }
PGG_ALWAYS ld ld_negate(ld a) { return _mm512_sub_epi32(_mm512_setzero_si512(), a); }
PGG_ALWAYS ld lw_madd(lb a, lb b) { return _mm512_madd_epi16(a, b); }
PGG_ALWAYS lb lb_packed(ld a, ld b) {
  return _mm512_packs_epi32(a, b);
} /* four words of a, four of b, in each 128 bits */
PGG_ALWAYS ld ld_few_dot(ld acc, lb w, lb a) { return _mm512_dpbusd_epi32(acc, w, a); }
/* 4 x 4 qwords in each half: lanes 0, 1 hold group 0, then 2, 4, 6; in the second half 1, 3, 5, 7 */
PGG_ALWAYS void lb_fold(lb v[4]) {
  const __m512i low = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0), high = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
  const __m512i a = _mm512_unpacklo_epi64(v[0], v[1]), b = _mm512_unpackhi_epi64(v[0], v[1]);
  const __m512i c = _mm512_unpacklo_epi64(v[2], v[3]), d = _mm512_unpackhi_epi64(v[2], v[3]);
  v[0] = _mm512_permutex2var_epi64(a, low, c);
  v[1] = _mm512_permutex2var_epi64(b, low, d);
  v[2] = _mm512_permutex2var_epi64(a, high, c);
  v[3] = _mm512_permutex2var_epi64(b, high, d);
}
/* Four sums, each added in the order of lf_sum. */
PGG_ALWAYS void lf_sum4(const lf v[4], float out[4]) {
  const __m512 a = _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[0], v[1], 0xee));
  const __m512 b = _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0xee));
  const __m512i first = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
  __m512 s = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
  s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x55));
  _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(first, s)));
}
/* Values of groups 0..7 (of 32), or 0..7 and 8..15 (of 16), the same in both halves, to the lanes of lb_fold. */
PGG_ALWAYS void lf_fold(const lf *s, lf *out, int group) {
  if (group == 32) {
    out[0] = _mm512_permutexvar_ps(_mm512_set_epi32(7, 7, 5, 5, 3, 3, 1, 1, 6, 6, 4, 4, 2, 2, 0, 0), s[0]);
  } else {
    const __m512i even = _mm512_set_epi32(22, 22, 18, 18, 6, 6, 2, 2, 20, 20, 16, 16, 4, 4, 0, 0);
    out[0] = _mm512_permutex2var_ps(s[0], even, s[1]);
    out[1] = _mm512_permutex2var_ps(s[0], _mm512_add_epi32(even, _mm512_set1_epi32(1)), s[1]);
  }
}

#include "cpu/lanes_act_avx2.h"

#endif
