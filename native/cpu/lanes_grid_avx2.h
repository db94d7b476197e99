/* Folded codes and scales (few.inc) of types whose weights are rows of a grid, for AVX2 and AVX-VNNI: rows lie in
 * tables as bytes and are loaded to their folded place; signs and scales are found for eight groups at once. Values are
 * those of unpack_grid.inc.
 *
 * Lane g of v[j] holds weights 4j .. 4j + 3 of group g: a row of an iq3 grid, half a row of the others. */
#ifndef PGG_LANES_GRID_H
#define PGG_LANES_GRID_H
#include "cpu/fields.h"
#include "quant/iq_tables.h"

#define FEW_WHOLE_TYPES(X) PGG_GRID_TYPES(X)
#define TAKEN_WHOLE(name) PGG_ALWAYS void taken_##name(const uint8_t *b, lb v[8], lf scale[2])

/* Rows as bytes: magnitudes, or trits times eight. Filled once, by l_grids_fill. */
static struct {
  uint64_t iq2_xxs[256], iq2_xs[512], iq2_s[1024], iq1[2048];
  uint32_t iq3_xxs[256], iq3_s[512];
} l_grids;

/* codes of so many bits to bytes of the table */
static void l_fill_rows(void *to, const uint16_t *grid, int rows, int codes, const uint8_t *table) {
  uint8_t *byte = to;
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < codes; j++) *byte++ = table[grid[i] >> (16 / codes) * j & ((1 << 16 / codes) - 1)];
}
static void l_grids_fill(void) {
  static const uint8_t iq1[4] = {0, 8, 16};
  static const uint8_t iq3_s[16] = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
  l_fill_rows(l_grids.iq2_xxs, pgg_iq2_xxs_grid, 256, 8, pgg_iq2_values);
  l_fill_rows(l_grids.iq2_xs, pgg_iq2_xs_grid, 512, 8, pgg_iq2_values);
  l_fill_rows(l_grids.iq2_s, pgg_iq2_s_grid, 1024, 8, pgg_iq2_values);
  l_fill_rows(l_grids.iq1, pgg_iq1_grid, 2048, 8, iq1);
  l_fill_rows(l_grids.iq3_xxs, pgg_iq3_xxs_grid, 256, 4, pgg_iq3_values);
  l_fill_rows(l_grids.iq3_s, pgg_iq3_s_grid, 512, 4, iq3_s);
}

/* ---- signs --------------------------------------------------------------------------------------------- */

/* Seven signs in each byte: the eighth makes the count of minus signs even. */
PGG_ALWAYS __m256i l_even_signs(__m256i sevens) {
  const __m256i odd = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0));
  const __m256i low = _mm256_set1_epi8(15);
  const __m256i p = _mm256_shuffle_epi8(odd, _mm256_and_si256(sevens, low));
  const __m256i q = _mm256_shuffle_epi8(odd, _mm256_and_si256(_mm256_srli_epi16(sevens, 4), low));
  return _mm256_or_si256(sevens, _mm256_xor_si256(p, q));
}
/* Four times seven bits of each dword to its bytes. */
PGG_ALWAYS __m256i l_spread_sevens(__m256i x) {
  const __m256i a = _mm256_and_si256(x, _mm256_set1_epi32(0x7f));
  const __m256i b = _mm256_and_si256(_mm256_slli_epi32(x, 1), _mm256_set1_epi32(0x7f00));
  const __m256i c = _mm256_and_si256(_mm256_slli_epi32(x, 2), _mm256_set1_epi32(0x7f0000));
  const __m256i d = _mm256_and_si256(_mm256_slli_epi32(x, 3), _mm256_set1_epi32(0x7f000000));
  return _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
}
/* Magnitudes to codes: offset plus or minus. Dword g of signs: a bit a weight of group g. */
PGG_ALWAYS void l_apply_signs(lb v[8], __m256i signs, int offset) {
  PGG_UNROLL(8) for (int j = 0; j < 8; j++) {
    const __m256i from =
        _mm256_add_epi8(_mm256_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0, 0x0c0c0c0c, 0x08080808, 0x04040404, 0),
                        _mm256_set1_epi8((char)(j >> 1)));
    const __m256i bit = _mm256_set1_epi32(j & 1 ? (int)0x80402010u : 0x08040201);
    const __m256i minus = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(signs, from), bit), bit);
    const __m256i either = _mm256_sign_epi8(v[j], _mm256_or_si256(minus, _mm256_set1_epi8(1)));
    v[j] = _mm256_add_epi8(either, _mm256_set1_epi8((char)offset));
  }
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

PGG_ALWAYS __m256i l_four_rows(const uint64_t *a, const uint64_t *b, const uint64_t *c, const uint64_t *d) {
  const __m128d low = _mm_loadh_pd(_mm_load_sd((const double *)(const void *)a), (const double *)(const void *)b);
  const __m128d high = _mm_loadh_pd(_mm_load_sd((const double *)(const void *)c), (const double *)(const void *)d);
  return _mm256_castpd_si256(_mm256_insertf128_pd(_mm256_castpd128_pd256(low), high, 1));
}
/* at(g, r): the index of row r of group g */
#define ROWS_OF_8(grid, at, v)                                                                                        \
  PGG_UNROLL(4) for (int r = 0; r < 4; r++) {                                                                         \
    const __m256 x =                                                                                                  \
        _mm256_castsi256_ps(l_four_rows((grid) + at(0, r), (grid) + at(1, r), (grid) + at(4, r), (grid) + at(5, r))); \
    const __m256 y =                                                                                                  \
        _mm256_castsi256_ps(l_four_rows((grid) + at(2, r), (grid) + at(3, r), (grid) + at(6, r), (grid) + at(7, r))); \
    (v)[2 * r] = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88));                                                  \
    (v)[2 * r + 1] = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd));                                              \
  }
#define ROWS_OF_4(grid, at, v)                                                                                        \
  PGG_UNROLL(8)                                                                                                       \
  for (int r = 0; r < 8; r++)                                                                                         \
    (v)[r] =                                                                                                          \
        _mm256_setr_epi32((int)(grid)[at(0, r)], (int)(grid)[at(1, r)], (int)(grid)[at(2, r)], (int)(grid)[at(3, r)], \
                          (int)(grid)[at(4, r)], (int)(grid)[at(5, r)], (int)(grid)[at(6, r)], (int)(grid)[at(7, r)]);

/* ---- scales: d * (slope * s + base), s the low bits of each lane ------------------------------------------ */

PGG_ALWAYS lf l_small_scales(lf d, __m256i s, int mask, float slope, float base) {
  const lf f = _mm256_cvtepi32_ps(_mm256_and_si256(s, _mm256_set1_epi32(mask)));
  return _mm256_mul_ps(d, _mm256_fmadd_ps(f, _mm256_set1_ps(slope), _mm256_set1_ps(base)));
}
/* nibbles of eight bytes: the low ones are of the first 16 of the groups */
PGG_ALWAYS void l_nibble_scales(const uint8_t *half, const uint8_t *nibbles, lf scale[2]) {
  const lf d = lf_set1(l_half(half));
  const __m256i s = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)nibbles));
  scale[0] = l_small_scales(d, s, 15, 0.25f, 0.125f);
  scale[1] = l_small_scales(d, _mm256_srli_epi32(s, 4), 15, 0.25f, 0.125f);
}

/* ---- types --------------------------------------------------------------------------------------------- */

TAKEN_WHOLE(iq2_xxs) {
#define AT(g, r) FIELD(iq2_xxs, b, 0, qs)[8 * (g) + (r)]
  ROWS_OF_8(l_grids.iq2_xxs, AT, v)
#undef AT
  const uint8_t *const p = FIELD(iq2_xxs, b, 0, qs);
  const __m256 x = _mm256_castsi256_ps(lb_row(p)), y = _mm256_castsi256_ps(lb_row(p + 32));
  const __m256i odd = _mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd)), q = _mm256_permute4x64_epi64(odd, 0xd8);
  l_apply_signs(v, l_even_signs(l_spread_sevens(q)), 64);
  scale[0] = l_small_scales(lf_set1(l_half(FIELD(iq2_xxs, b, 0, d))), _mm256_srli_epi32(q, 28), 15, 0.25f, 0.125f);
}
TAKEN_WHOLE(iq2_xs) {
  const uint8_t *const p = FIELD(iq2_xs, b, 0, qs);
#define AT(g, r) (pgg_load_u16(p + 8 * (g) + 2 * (r)) & 511)
  ROWS_OF_8(l_grids.iq2_xs, AT, v)
#undef AT
  const __m256i x = _mm256_srli_epi16(lb_row(p), 9), y = _mm256_srli_epi16(lb_row(p + 32), 9);
  l_apply_signs(v, l_even_signs(_mm256_permute4x64_epi64(_mm256_packus_epi16(x, y), 0xd8)), 64);
  l_nibble_scales(FIELD(iq2_xs, b, 0, d), FIELD(iq2_xs, b, 0, scales), scale);
}
TAKEN_WHOLE(iq2_s) {
#define AT(g, r) \
  (FIELD(iq2_s, b, 0, qs)[4 * (g) + (r)] | ((unsigned)FIELD(iq2_s, b, 0, qh)[g] << (8 - 2 * (r)) & 0x300))
  ROWS_OF_8(l_grids.iq2_s, AT, v)
#undef AT
  l_apply_signs(v, lb_row(FIELD(iq2_s, b, 0, signs)), 64);
  l_nibble_scales(FIELD(iq2_s, b, 0, d), FIELD(iq2_s, b, 0, scales), scale);
}
PGG_ALWAYS float iq1_m_d(uint64_t s); /* unpack_grid.inc */
/* the int16 of eight groups */
PGG_ALWAYS __m256i l_words(const uint8_t *p) { return _mm256_cvtepu16_epi32(l_load16(p)); }
TAKEN_WHOLE(iq1_s) {
  const uint8_t *const qs = FIELD(iq1_s, b, 0, qs), *const qh = FIELD(iq1_s, b, 0, qh);
#define AT(g, r) (qs[4 * (g) + (r)] | ((unsigned)pgg_load_u16(qh + 2 * (g)) >> 3 * (r) << 8 & 0x700))
  ROWS_OF_8(l_grids.iq1, AT, v)
#undef AT
  const __m256i high = l_words(qh), top = _mm256_set1_epi32(0x8000);
  const __m256i minus = _mm256_cmpeq_epi32(_mm256_and_si256(high, top), top);
  const __m256i plus = _mm256_andnot_si256(minus, _mm256_set1_epi8(2));
  PGG_UNROLL(8) for (int j = 0; j < 8; j++) v[j] = _mm256_or_si256(v[j], plus);
  scale[0] = l_small_scales(lf_set1(l_half(FIELD(iq1_s, b, 0, d))), _mm256_srli_epi32(high, 12), 7, 0.25f, 0.125f);
}
TAKEN_WHOLE(iq1_m) {
  const uint8_t *const qs = FIELD(iq1_m, b, 0, qs), *const qh = FIELD(iq1_m, b, 0, qh);
#define AT(g, r) (qs[4 * (g) + (r)] | ((unsigned)pgg_load_u16(qh + 2 * (g)) >> 4 * (r) << 8 & 0x700))
  ROWS_OF_8(l_grids.iq1, AT, v)
#undef AT
  const __m256i high = l_words(qh);
  PGG_UNROLL(4) for (int r = 0; r < 4; r++) {
    const __m256i bit = _mm256_set1_epi32(8 << 4 * r);
    const __m256i minus = _mm256_cmpeq_epi32(_mm256_and_si256(high, bit), bit);
    const __m256i plus = _mm256_andnot_si256(minus, _mm256_set1_epi8(2));
    v[2 * r] = _mm256_or_si256(v[2 * r], plus);
    v[2 * r + 1] = _mm256_or_si256(v[2 * r + 1], plus);
  }
  const uint64_t all = pgg_load_u64(FIELD(iq1_m, b, 0, scales));
  const lf d = lf_set1(iq1_m_d(all));
  const __m256i words = _mm256_cvtepu16_epi32(_mm_cvtsi64_si128((long long)all));
  const __m256i twice = _mm256_permutevar8x32_epi32(words, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
  const __m256i s = _mm256_srlv_epi32(twice, _mm256_setr_epi32(0, 6, 0, 6, 0, 6, 0, 6));
  scale[0] = l_small_scales(d, s, 7, 0.25f, 0.125f);
  scale[1] = l_small_scales(d, _mm256_srli_epi32(s, 3), 7, 0.25f, 0.125f);
}
TAKEN_WHOLE(iq3_xxs) {
#define AT(g, r) FIELD(iq3_xxs, b, 0, qs)[8 * (g) + (r)]
  ROWS_OF_4(l_grids.iq3_xxs, AT, v)
#undef AT
  const __m256i q = lb_row(FIELD(iq3_xxs, b, 0, signs));
  l_apply_signs(v, l_even_signs(l_spread_sevens(q)), 64);
  scale[0] = l_small_scales(lf_set1(l_half(FIELD(iq3_xxs, b, 0, d))), _mm256_srli_epi32(q, 28), 15, 0.5f, 0.25f);
}
TAKEN_WHOLE(iq3_s) {
#define AT(g, r) (FIELD(iq3_s, b, 0, qs)[8 * (g) + (r)] | ((unsigned)FIELD(iq3_s, b, 0, qh)[g] << (8 - (r)) & 256))
  ROWS_OF_4(l_grids.iq3_s, AT, v)
#undef AT
  const __m256i s = _mm256_set1_epi32((int)pgg_load_u32(FIELD(iq3_s, b, 0, scales)));
  l_apply_signs(v, lb_row(FIELD(iq3_s, b, 0, signs)), 32);
  scale[0] = l_small_scales(lf_set1(l_half(FIELD(iq3_s, b, 0, d))),
                            _mm256_srlv_epi32(s, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28)), 15, 2.0f, 1.0f);
}

#endif
