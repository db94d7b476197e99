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
#define LANES_MIN_N 4

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
PGG_ALWAYS lb lb_negate(lb a, lb mask) { return _mm512_sub_epi8(_mm512_xor_si512(a, mask), mask); }
PGG_ALWAYS lb lb_swap_middle(lb a) { return _mm512_permutex_epi64(a, 0xd8); }
PGG_ALWAYS lb lb_or(lb a, lb b) { return _mm512_or_si512(a, b); }
PGG_ALWAYS lb lb_shl(lb a, int n) { return _mm512_slli_epi32(a, (unsigned)n); }
PGG_ALWAYS lb lb_table(const int8_t *table, lb code) {
  const __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table));
  return _mm512_shuffle_epi8(t, code);
}
PGG_ALWAYS lb lb_flip(lb a) { return _mm512_xor_si512(a, _mm512_set1_epi8((char)0x80)); }

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
/* p[0] in the first four lanes, p[1] in the next */
PGG_ALWAYS lf lf_quarters(const float *p) {
  const __m512i index = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  return _mm512_permutexvar_ps(index, _mm512_castps128_ps512(_mm_loadu_ps(p)));
}
PGG_ALWAYS lf lf_load(const float *p) { return _mm512_loadu_ps(p); }
PGG_ALWAYS void lf_store(float *p, lf a) { _mm512_storeu_ps(p, a); }
PGG_ALWAYS lf lf_add(lf a, lf b) { return _mm512_add_ps(a, b); }
PGG_ALWAYS lf lf_sub(lf a, lf b) { return _mm512_sub_ps(a, b); }
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
/* the half at p0 in all lanes of the first half, that at p1 in the second */
PGG_ALWAYS lf lf_halves(const uint8_t *p0, const uint8_t *p1) {
  const __m256i a = _mm256_set1_epi16((short)pgg_load_u16(p0)), b = _mm256_set1_epi16((short)pgg_load_u16(p1));
  return _mm512_cvtph_ps(_mm256_blend_epi32(a, b, 0xf0));
}
PGG_ALWAYS lf lf_bytes8(uint64_t b0, uint64_t b1) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(l_two_u64(b0, b1)));
}
PGG_ALWAYS lf lf_sbytes8(uint64_t b0, uint64_t b1) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(l_two_u64(b0, b1)));
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

/* ---- gemv ---------------------------------------------------------------------------------------------- */

/* Scales of a stretch as int16: eight in every 128-bit lane, groups 0..7 in low, 8..15 in high. */
typedef struct ls {
  __m512i low, high;
} ls;
PGG_ALWAYS ls ls_bytes(uint64_t low, uint64_t high) {
  ls s;
  s.low = _mm512_broadcast_i32x4(_mm_cvtepi8_epi16(_mm_cvtsi64_si128((long long)low)));
  s.high = _mm512_broadcast_i32x4(_mm_cvtepi8_epi16(_mm_cvtsi64_si128((long long)high)));
  return s;
}
/* index of int16 number n, for a whole 128-bit lane */
#define L_WORD(n) ((n) * 2 | ((n) * 2 + 1) << 8) * 0x10001
PGG_ALWAYS __m512i l_pick(int n0, int n1, int n2, int n3) {
  const int i0 = L_WORD(n0), i1 = L_WORD(n1), i2 = L_WORD(n2), i3 = L_WORD(n3);
  return _mm512_set_epi32(i3, i3, i3, i3, i2, i2, i2, i2, i1, i1, i1, i1, i0, i0, i0, i0);
}
/* acc += scale * codes . act of groups g, g + 1; one scale per 32, then one per 16. Codes below 128 keep the sums of
 * two products in int16. */
PGG_ALWAYS ld ld_madd32(ld acc, lb codes, lb act, ls s, int g) {
  const __m512i scale = _mm512_shuffle_epi8(s.low, l_pick(g, g, g + 1, g + 1));
  return _mm512_dpwssd_epi32(acc, _mm512_maddubs_epi16(codes, act), scale);
}
PGG_ALWAYS ld ld_madd16(ld acc, lb codes, lb act, ls s, int g) {
  const int n = 2 * (g & 3);
  const __m512i scale = _mm512_shuffle_epi8(g < 4 ? s.low : s.high, l_pick(n, n + 1, n + 2, n + 3));
  return _mm512_dpwssd_epi32(acc, _mm512_maddubs_epi16(codes, act), scale);
}
/* (codes - offset) . act */
PGG_ALWAYS ld ld_dot_offset(lb codes, lb act, int offset) {
  const __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, act);
  if (offset == 0) return dot;
  return _mm512_sub_epi32(dot, _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8((char)offset), act));
}
PGG_ALWAYS ld ld_dot_signed(lb codes, lb act) { return ld_dot_offset(lb_flip(codes), act, 128); }
/* sum of 16 signed bytes times 16 int16, over 8 lanes; then 8 unsigned bytes, each for two of the int16 */
PGG_ALWAYS ld ld_sums(uint64_t low, uint64_t high, const int16_t *sums) {
  const __m256i words = _mm256_cvtepi8_epi16(l_two_u64(low, high));
  return _mm512_zextsi256_si512(_mm256_madd_epi16(words, _mm256_loadu_si256((const __m256i *)(const void *)sums)));
}
PGG_ALWAYS ld ld_sums_twice(uint64_t m, const int16_t *sums) {
  const __m128i bytes = _mm_cvtsi64_si128((long long)m);
  const __m256i words = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(bytes, bytes));
  return _mm512_zextsi256_si512(_mm256_madd_epi16(words, _mm256_loadu_si256((const __m256i *)(const void *)sums)));
}
/* a - (b << n) */
PGG_ALWAYS ld ld_minus_shifted(ld a, ld b, int n) { return _mm512_sub_epi32(a, _mm512_slli_epi32(b, (unsigned)n)); }

#include "cpu/lanes_act_avx2.h"

#endif
