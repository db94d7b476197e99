/* The words of lanes_scalar.h for AVX2, FMA and F16C; with LANES_VNNI for AVX-VNNI. One half of 256 bits, 16 rows a
 * strip. Sixteen registers: the tile is 16 rows x 3 tokens, walked twice over a panel of six.
 * Without VNNI bytes go through vpmaddubsw, whose pair sums must fit int16: codes of at most 7 bits do; 8-bit codes are
 * widened to int16 in gemm and use |w| and sign(a, w) in few.inc (activations never hold -128). */
#ifndef PGG_LANES_H
#define PGG_LANES_H
#include <immintrin.h>

#include "cpu/products.h"

#define LANES_PAIR 1
#define LANES_UNITS 2
#define LANES_ROWS (8 * LANES_PAIR * LANES_UNITS)
#define LANES_TILE_TOKENS 3
#define LANES_GEMV 1
#define LANES_FEW_WORDS "cpu/few_avx2.h"
#if defined(LANES_VNNI)
#define LANES_BYTES8 BYTES8_UNSIGNED
#define LANES_CHAIN 0
#else
#define LANES_BYTES8 BYTES8_WIDE
#define LANES_CHAIN 1
#endif

typedef __m256i lb;
typedef __m256i ld;
typedef __m256 lf;

/* ---- codes --------------------------------------------------------------------------------------------- */

PGG_ALWAYS lb lb_row(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
PGG_ALWAYS lb lb_load(const uint8_t *p0, const uint8_t *p1) { return (void)p1, lb_row(p0); }
PGG_ALWAYS __m128i l_load16(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
PGG_ALWAYS lb lb_nibbles(const uint8_t *p0, const uint8_t *p1) {
  const __m128i x = l_load16(p0);
  (void)p1;
  return _mm256_and_si256(_mm256_inserti128_si256(_mm256_castsi128_si256(x), _mm_srli_epi16(x, 4), 1),
                          _mm256_set1_epi8(15));
}
PGG_ALWAYS lb lb_plane(const uint8_t *p0, int s0, const uint8_t *p1, int s1, int mask) {
  (void)p1, (void)s1;
  return _mm256_and_si256(_mm256_srli_epi32(lb_row(p0), s0), _mm256_set1_epi8((char)mask));
}
PGG_ALWAYS lb lb_bits(const uint8_t *p0, const uint8_t *p1, int value) {
  const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
  const __m256i from = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)pgg_load_u32(p0)), from);
  (void)p1;
  return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit), _mm256_set1_epi8((char)value));
}
PGG_ALWAYS lb lb_bits32(uint32_t bits0, uint32_t bits1, int value) {
  return (void)bits1, lb_bits((const uint8_t *)&bits0, (const uint8_t *)&bits0, value);
}
PGG_ALWAYS __m128i l_two_u64(uint64_t a, uint64_t b) { return _mm_set_epi64x((long long)b, (long long)a); }
/* 2-bit codes: a nibble n in every int16, then n * 65 has its two codes in the low bits of the two bytes */
PGG_ALWAYS lb lb_crumbs(uint64_t c0, uint64_t c1) {
  const __m128i x = _mm_cvtsi64_si128((long long)c0), low = _mm_set1_epi8(15);
  const __m128i n = _mm_unpacklo_epi8(_mm_and_si128(x, low), _mm_and_si128(_mm_srli_epi16(x, 4), low));
  (void)c1;
  return _mm256_and_si256(_mm256_mullo_epi16(_mm256_cvtepu8_epi16(n), _mm256_set1_epi16(65)), _mm256_set1_epi8(3));
}
PGG_ALWAYS lb lb_nibbles_in_turn(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  const __m128i x = l_two_u64(lo0, hi0), low = _mm_set1_epi8(15);
  const __m128i even = _mm_and_si128(x, low), odd = _mm_and_si128(_mm_srli_epi16(x, 4), low);
  (void)lo1, (void)hi1;
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi8(even, odd)), _mm_unpackhi_epi8(even, odd), 1);
}
PGG_ALWAYS lb lb_xor(lb a, lb b) { return _mm256_xor_si256(a, b); }
PGG_ALWAYS lb lb_swap_middle(lb a) { return _mm256_permute4x64_epi64(a, 0xd8); }
PGG_ALWAYS lb lb_or(lb a, lb b) { return _mm256_or_si256(a, b); }
PGG_ALWAYS lb lb_shl(lb a, int n) { return _mm256_slli_epi32(a, n); }
PGG_ALWAYS lb lb_table(const int8_t *table, lb code) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(l_load16(table)), code);
}
PGG_ALWAYS lb lb_flip(lb a) { return _mm256_xor_si256(a, _mm256_set1_epi8((char)0x80)); }
PGG_ALWAYS lb lb_widen_low(lb a) { return _mm256_cvtepi8_epi16(_mm256_castsi256_si128(a)); }
PGG_ALWAYS lb lb_widen_high(lb a) { return _mm256_cvtepi8_epi16(_mm256_extracti128_si256(a, 1)); }

PGG_ALWAYS lb lb_twice(const uint8_t *p0, const uint8_t *p1) {
  return (void)p1, _mm256_broadcastsi128_si256(l_load16(p0));
}
PGG_ALWAYS lb lb_quads(const uint8_t *p0, const uint8_t *p1) {
  return (void)p1, _mm256_set1_epi32((int)pgg_load_u32(p0));
}
/* bytes in the upper half of int16, so that the product keeps what is below the point and times 3 shows the digit */
PGG_ALWAYS lb lb_trits(lb a, lb power) {
  const __m256i by = _mm256_and_si256(power, _mm256_set1_epi16(255)), three = _mm256_set1_epi16(3);
  const __m256i even = _mm256_mulhi_epu16(_mm256_mullo_epi16(_mm256_slli_epi16(a, 8), by), three);
  const __m256i upper = _mm256_and_si256(a, _mm256_set1_epi16((short)0xff00));
  const __m256i odd = _mm256_mulhi_epu16(_mm256_mullo_epi16(upper, by), three);
  return _mm256_or_si256(even, _mm256_slli_epi16(odd, 8));
}

/* ---- rows to lanes ------------------------------------------------------------------------------------- */

PGG_ALWAYS void lb_transpose(lb v[8]) {
  __m256i a[8], b[8];
  PGG_UNROLL(4) for (int i = 0; i < 4; i++) {
    a[2 * i] = _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
  }
  PGG_UNROLL(2) for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  PGG_UNROLL(4) for (int i = 0; i < 4; i++) {
    v[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
    v[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
  }
}
PGG_ALWAYS void lf_transpose(lf v[8]) {
  __m256i w[8];
  PGG_UNROLL(8) for (int i = 0; i < 8; i++) w[i] = _mm256_castps_si256(v[i]);
  lb_transpose(w);
  PGG_UNROLL(8) for (int i = 0; i < 8; i++) v[i] = _mm256_castsi256_ps(w[i]);
}
PGG_ALWAYS void lb_store(void *p, lb a) { _mm256_store_si256((__m256i *)p, a); }

/* ---- floats -------------------------------------------------------------------------------------------- */

PGG_ALWAYS float l_half(const uint8_t *p) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(pgg_load_u16(p)))); }
PGG_ALWAYS lf lf_set1(float x) { return _mm256_set1_ps(x); }
PGG_ALWAYS lf lf_two(float x0, float x1) { return (void)x1, _mm256_set1_ps(x0); }
PGG_ALWAYS lf lf_load(const float *p) { return _mm256_loadu_ps(p); }
PGG_ALWAYS void lf_store(float *p, lf a) { _mm256_storeu_ps(p, a); }
PGG_ALWAYS lf lf_add(lf a, lf b) { return _mm256_add_ps(a, b); }
PGG_ALWAYS lf lf_mul(lf a, lf b) { return _mm256_mul_ps(a, b); }
PGG_ALWAYS lf lf_fma(lf a, lf b, lf c) { return _mm256_fmadd_ps(a, b, c); }
PGG_ALWAYS lf lf_fnma(lf a, lf b, lf c) { return _mm256_fnmadd_ps(a, b, c); }
PGG_ALWAYS lf lf_from(ld a) { return _mm256_cvtepi32_ps(a); }
PGG_ALWAYS float lf_sum(lf a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
PGG_ALWAYS lf lf_halves8(const uint16_t *h0, const uint16_t *h1) { return (void)h1, _mm256_cvtph_ps(l_load16(h0)); }
PGG_ALWAYS lf lf_bytes8(uint64_t b0, uint64_t b1) {
  return (void)b1, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)b0)));
}
PGG_ALWAYS lf lf_sbytes8(uint64_t b0, uint64_t b1) {
  return (void)b1, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)b0)));
}
/* exponent e - 1; 2^-128 and 2^-127 are subnormal */
PGG_ALWAYS lf lf_e8m0(uint64_t b0, uint64_t b1) {
  const __m256i e = _mm256_slli_epi32(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)b0)), 23);
  const __m256i tiny = _mm256_add_epi32(_mm256_srli_epi32(e, 2), _mm256_set1_epi32(0x00200000));
  (void)b1;
  return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(0x00800000)), tiny));
}
/* seven bits moved up by 7 are a half that is 2^7 too small; 0x7f is zero */
PGG_ALWAYS lf lf_e4m3(uint64_t b0, uint64_t b1) {
  const __m128i x = _mm_cvtepu8_epi16(_mm_cvtsi64_si128((long long)b0)), nan = _mm_cmpeq_epi16(x, _mm_set1_epi16(127));
  const __m128i h = _mm_and_si128(_mm_slli_epi16(x, 7), _mm_set1_epi16(0x3f80));
  (void)b1;
  return _mm256_mul_ps(_mm256_cvtph_ps(_mm_andnot_si128(nan, h)), _mm256_set1_ps(128.0f));
}
PGG_ALWAYS lf lf_halves4x2(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  return (void)lo1, (void)hi1, _mm256_cvtph_ps(l_two_u64(lo0, hi0));
}
PGG_ALWAYS lf lf_row_f32(const uint8_t *p) { return _mm256_loadu_ps((const float *)(const void *)p); }
PGG_ALWAYS lf lf_row_f16(const uint8_t *p) { return _mm256_cvtph_ps(l_load16(p)); }
PGG_ALWAYS lf lf_row_bf16(const uint8_t *p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(l_load16(p)), 16));
}
PGG_ALWAYS lf lf_pair_f32(const uint8_t *p0, const uint8_t *p1) { return (void)p1, lf_row_f32(p0); }
PGG_ALWAYS lf lf_pair_f16(const uint8_t *p0, const uint8_t *p1) { return (void)p1, lf_row_f16(p0); }
PGG_ALWAYS lf lf_pair_bf16(const uint8_t *p0, const uint8_t *p1) { return (void)p1, lf_row_bf16(p0); }
PGG_ALWAYS lb lb_words16(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  return (void)lo1, (void)hi1, _mm256_cvtepu8_epi16(l_two_u64(lo0, hi0));
}

/* ---- the tile ------------------------------------------------------------------------------------------ */

PGG_ALWAYS lb lb_splat(const uint8_t *p) { return _mm256_set1_epi32((int)pgg_load_u32(p)); }
PGG_ALWAYS ld ld_zero(void) { return _mm256_setzero_si256(); }
PGG_ALWAYS ld ld_splat(const int32_t *p) { return _mm256_set1_epi32(*p); }
#define LF_TILE_FMA(acc, w, a) ((acc) = _mm256_fmadd_ps(w, a, acc))
#if defined(LANES_VNNI)
#if defined(__GNUC__)
#define LD_TILE_DOT(acc, w, a) __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(w), "x"(a))
#else
#define LD_TILE_DOT(acc, w, a) ((acc) = _mm256_dpbusd_avx_epi32(acc, w, a))
#endif
PGG_ALWAYS ld ld_pairs(ld acc, lb w, lb a) { return _mm256_dpwssd_avx_epi32(acc, w, a); }
#else
#if defined(__GNUC__)
#define LD_TILE_DOT(acc, w, a)                                                  \
  do {                                                                          \
    __m256i t_;                                                                 \
    __asm__("vpmaddubsw %3, %2, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0" \
            : "+x"(acc), "=&x"(t_)                                              \
            : "x"(w), "x"(a), "m"(l_ones));                                     \
  } while (0)
static const int16_t l_ones[16] __attribute__((aligned(32))) = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
#else
#define LD_TILE_DOT(acc, w, a) ((acc) = ld_add_words(acc, lw_products(w, a)))
#endif
PGG_ALWAYS ld ld_pairs(ld acc, lb w, lb a) { return _mm256_add_epi32(acc, _mm256_madd_epi16(w, a)); }
#endif
/* int16 sums of two products; the same added to sum; both halves of every dword added to acc */
PGG_ALWAYS lb lw_products(lb codes, lb act) { return _mm256_maddubs_epi16(codes, act); }
PGG_ALWAYS lb lb_zero(void) { return _mm256_setzero_si256(); }
#if defined(__GNUC__)
#define LW_TILE_DOT(sum, w, a)                                                                     \
  do {                                                                                             \
    __m256i t_;                                                                                    \
    __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(sum), "=&x"(t_) : "x"(w), "x"(a)); \
  } while (0)
#else
#define LW_TILE_DOT(sum, w, a) ((sum) = _mm256_add_epi16(sum, lw_products(w, a)))
#endif
PGG_ALWAYS ld ld_add_words(ld acc, lb words) { return ld_pairs(acc, words, _mm256_set1_epi16(1)); }

/* ---- few tokens ---------------------------------------------------------------------------------------- */

PGG_ALWAYS ld ld_load(const uint8_t *p) { return lb_row(p); }
PGG_ALWAYS void ld_store(uint8_t *p, ld a) { lb_store(p, a); }
PGG_ALWAYS ld ld_negate(ld a) { return _mm256_sub_epi32(_mm256_setzero_si256(), a); }
#if defined(LANES_VNNI)
PGG_ALWAYS ld ld_few_dot(ld acc, lb w, lb a) { return _mm256_dpbusd_avx_epi32(acc, w, a); }
#else
PGG_ALWAYS ld ld_add(ld a, ld b) { return _mm256_add_epi32(a, b); }
/* |-128| is 128 as an unsigned byte; 2 * 128 * 127 fits int16 */
PGG_ALWAYS ld ld_dot_signed(lb codes, lb act) {
  return ld_add_words(ld_zero(), _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(act, codes)));
}
#endif
PGG_ALWAYS void lf_sum4(const lf v[4], float out[4]) {
  for (int i = 0; i < 4; i++) out[i] = lf_sum(v[i]);
}
/* lane g holds group g */
PGG_ALWAYS void lb_fold(lb v[8]) { lb_transpose(v); }
PGG_ALWAYS void lf_fold(const lf *s, lf *out, int group) {
  if (group == 32) {
    out[0] = s[0];
  } else {
    const __m256i order = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
    out[0] = _mm256_permutevar8x32_ps(_mm256_shuffle_ps(s[0], s[1], 0x88), order);
    out[1] = _mm256_permutevar8x32_ps(_mm256_shuffle_ps(s[0], s[1], 0xdd), order);
  }
}

#include "cpu/lanes_act_avx2.h"

#endif
