/* The words of act.inc in 256-bit vectors, for every x86 level. */
#ifndef PGG_LANES_ACT_AVX2_H
#define PGG_LANES_ACT_AVX2_H
#include <immintrin.h>

#include "cpu/products.h"

PGG_ALWAYS uint32_t l_act_top(const float *x, float *sum) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i top[4];
  __m256 lanes[4];
  PGG_UNROLL(4) for (int j = 0; j < 4; j++) top[j] = _mm256_setzero_si256(), lanes[j] = _mm256_setzero_ps();
  for (int i = 0; i < STRETCH; i += 32) PGG_UNROLL(4) for (int j = 0; j < 4; j++) {
      const __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)(x + i + 8 * j));
      const __m256i size = _mm256_and_si256(bits, magnitude);
      top[j] = _mm256_max_epu32(top[j], size); /* magnitudes compare as integers, NaN highest */
      lanes[j] = _mm256_add_ps(lanes[j], _mm256_castsi256_ps(size));
    }
  const __m256 s = _mm256_add_ps(_mm256_add_ps(lanes[0], lanes[2]), _mm256_add_ps(lanes[1], lanes[3]));
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  *sum = _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  const __m256i most = _mm256_max_epu32(_mm256_max_epu32(top[0], top[1]), _mm256_max_epu32(top[2], top[3]));
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
  return (uint32_t)_mm_cvtsi128_si32(m);
}

PGG_ALWAYS int l_act_round(float x) { return _mm_cvtss_si32(_mm_set_ss(x)); }

/* at: (STRETCH) */
PGG_ALWAYS int l_act_find(const float *x, float limit, uint8_t *at, float *rest) {
  const __m256 edge = _mm256_set1_ps(limit), sign = _mm256_set1_ps(-0.0f);
  __m256 most[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  int count = 0;
  for (int i = 0; i < STRETCH; i += 16) {
    uint32_t bits = 0;
    PGG_UNROLL(2) for (int j = 0; j < 2; j++) {
      const __m256 size = _mm256_andnot_ps(sign, _mm256_loadu_ps(x + i + 8 * j));
      const __m256 above = _mm256_cmp_ps(size, edge, _CMP_GT_OQ);
      most[j] = _mm256_max_ps(most[j], _mm256_andnot_ps(above, size));
      bits |= (uint32_t)_mm256_movemask_ps(above) << 8 * j;
    }
    for (; bits; bits &= bits - 1) at[count++] = (uint8_t)(i + (int)_tzcnt_u32(bits));
  }
  const __m256 both = _mm256_max_ps(most[0], most[1]);
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  *rest = _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
  return count;
}

/* vcvtps2dq rounds half to even; |x * scale| <= 127 (1 + 2^-23) so that nothing saturates, but for spikes. */
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
