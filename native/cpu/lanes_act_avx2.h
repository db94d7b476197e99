/* The two words of act.inc in 256-bit vectors, for every x86 level. */
#ifndef PGG_LANES_ACT_AVX2_H
#define PGG_LANES_ACT_AVX2_H
#include <immintrin.h>

#include "cpu/products.h"

PGG_ALWAYS uint32_t l_act_top(const float *x) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i top = _mm256_setzero_si256(), other = top;
  for (int i = 0; i < STRETCH; i += 16) { /* magnitudes compare as integers, NaN highest */
    const __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
    const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(x + i + 8));
    top = _mm256_max_epu32(top, _mm256_and_si256(a, magnitude));
    other = _mm256_max_epu32(other, _mm256_and_si256(b, magnitude));
  }
  top = _mm256_max_epu32(top, other);
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
  return (uint32_t)_mm_cvtsi128_si32(m);
}

/* vcvtps2dq rounds half to even; |x * scale| <= 127 (1 + 2^-23) so that nothing saturates. */
PGG_ALWAYS void l_act_quantize(const float *x, float scale, pgg_act *act) {
  const __m256 s = _mm256_set1_ps(scale);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7), ones = _mm256_set1_epi8(1);
  __m256i quads[8]; /* sums of 4 */
  PGG_UNROLL(8) for (int i = 0; i < 8; i++, x += 32) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), s));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), s));
    const __m256i c = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 16), s));
    const __m256i d = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 24), s));
    const __m256i mixed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    const __m256i q = _mm256_permutevar8x32_epi32(mixed, order);
    _mm256_storeu_si256((__m256i *)(void *)(act->q + 32 * i), q);
    quads[i] = _mm256_madd_epi16(_mm256_maddubs_epi16(ones, q), _mm256_set1_epi16(1));
  }
  /* low lanes end as sums 0 2 4 .. 14, high lanes as 1 3 5 .. 15 */
  const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(quads[0], quads[1]), _mm256_hadd_epi32(quads[2], quads[3]));
  const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(quads[4], quads[5]), _mm256_hadd_epi32(quads[6], quads[7]));
  const __m256i sums = _mm256_packs_epi32(a, b);
  const __m128i even = _mm256_castsi256_si128(sums), odd = _mm256_extracti128_si256(sums, 1);
  _mm_storeu_si128((__m128i *)(void *)act->sums, _mm_unpacklo_epi16(even, odd));
  _mm_storeu_si128((__m128i *)(void *)(act->sums + 8), _mm_unpackhi_epi16(even, odd));
}

#endif
