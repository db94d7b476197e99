/* Folded codes and scales (few.inc) of types whose weights are rows of a grid or very small numbers, with AVX512-VBMI:
 * a whole stretch at a time, rows looked up in registers. Values are those of unpack_grid.inc. Own design.
 *
 * Qword s of every vector is about group 0, 2, 4, 6, 1, 3, 5, 7 (lb_fold); v[j] holds weights 8j .. 8j + 7 of them:
 *   rows of 2-bit codes: int16 4s + j is row j of the group, so v[j] is a shift inside qwords (vpmultishiftqb)
 *   signs: byte j of qword s holds those of weights 8j .. 8j + 7
 *   value: vpermb of a code (low bits) and its sign (bit 5); other bits are junk, and the table repeats itself */
#ifndef PGG_LANES_GRID_H
#define PGG_LANES_GRID_H
#include "cpu/lanes_avx512.h"
#include "cpu/fields.h"
#include "quant/iq_tables.h"

/* Grids, aligned; those of four nibbles a row as low bytes and high bytes. Filled once, by l_grids_fill. */
static struct {
  _Alignas(64) uint16_t iq2_xxs[256];
  _Alignas(64) uint16_t iq2_xs[512];
  _Alignas(64) uint16_t iq2_s[1024];
  _Alignas(64) uint64_t iq1[2048]; /* bytes, trits times eight */
  _Alignas(64) uint8_t iq3_xxs[2][256];
  _Alignas(64) uint8_t iq3_s[2][512];
} l_grids;

static void l_grids_fill(void) {
  memcpy(l_grids.iq2_xxs, pgg_iq2_xxs_grid, sizeof l_grids.iq2_xxs);
  memcpy(l_grids.iq2_xs, pgg_iq2_xs_grid, sizeof l_grids.iq2_xs);
  memcpy(l_grids.iq2_s, pgg_iq2_s_grid, sizeof l_grids.iq2_s);
  for (int i = 0; i < 2048; i++) {
    l_grids.iq1[i] = 0;
    for (int j = 0; j < 8; j++) l_grids.iq1[i] |= (uint64_t)(pgg_iq1_grid[i] >> 2 * j & 3) << (8 * j + 3);
  }
  for (int i = 0; i < 512; i++) {
    if (i < 256) l_grids.iq3_xxs[0][i] = (uint8_t)pgg_iq3_xxs_grid[i];
    if (i < 256) l_grids.iq3_xxs[1][i] = (uint8_t)(pgg_iq3_xxs_grid[i] >> 8);
    l_grids.iq3_s[0][i] = (uint8_t)pgg_iq3_s_grid[i];
    l_grids.iq3_s[1][i] = (uint8_t)(pgg_iq3_s_grid[i] >> 8);
  }
}

/* ---- words --------------------------------------------------------------------------------------------- */

/* base + (group / 2) * by_two + (group % 2) * by_one, for the group of each qword */
PGG_ALWAYS __m512i l_by_group(uint64_t base, uint64_t by_two, uint64_t by_one) {
  return _mm512_add_epi64(
      _mm512_set1_epi64((long long)base),
      _mm512_set_epi64((long long)(3 * by_two + by_one), (long long)(2 * by_two + by_one), (long long)(by_two + by_one),
                       (long long)by_one, (long long)(3 * by_two), (long long)(2 * by_two), (long long)by_two, 0));
}
#define BOTH_DWORDS(x) (0x0000000100000001u * (uint64_t)(x))
#define BYTES(x) (0x0101010101010101u * (uint64_t)(x))
#define WORDS(x) (0x0001000100010001u * (uint64_t)(x))

/* 8 bits of the own qword from each bit that control names */
PGG_ALWAYS __m512i l_bits_from(__m512i x, __m512i control) { return _mm512_multishift_epi64_epi8(control, x); }
PGG_ALWAYS __m512i l_every_qword(uint64_t x) { return _mm512_set1_epi64((long long)x); }
PGG_ALWAYS __m512i l_table64(const uint8_t *t) { return _mm512_load_si512(t); }
PGG_ALWAYS lf l_half_everywhere(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_set1_epi16((short)pgg_load_u16(p))); }
/* 32 bytes in the lower half; dword g of them in the qword of group g */
PGG_ALWAYS __m512i l_lower(const uint8_t *p) { return _mm512_castsi256_si512(l_load32(p)); }
PGG_ALWAYS __m512i l_dwords_by_group(const uint8_t *p) {
  return _mm512_permutexvar_epi32(l_by_group(0, BOTH_DWORDS(2), BOTH_DWORDS(1)), l_lower(p));
}

/* A big table stays where it is: hoisted out of the loop it would be copied to the stack and read from there. */
#if defined(__GNUC__)
#define L_STAYS(t) __asm__ volatile("" : "+r"(t))
#else
#define L_STAYS(t) ((void)0)
#endif
/* Rows of 16 bits: 64 by the low six bits of each index, then twice as many by one more bit. */
PGG_ALWAYS __m512i l_rows64(const uint16_t *t, __m512i at) {
  return _mm512_permutex2var_epi16(_mm512_load_si512(t), at, _mm512_load_si512(t + 32));
}
#define L_ROWS(n, half)                                                                       \
  PGG_ALWAYS __m512i l_rows##n(const uint16_t *t, __m512i at) {                               \
    const __mmask32 upper = _mm512_test_epi16_mask(at, _mm512_set1_epi16(half));              \
    return _mm512_mask_blend_epi16(upper, l_rows##half(t, at), l_rows##half(t + (half), at)); \
  }
L_ROWS(128, 64)
L_ROWS(256, 128)
L_ROWS(512, 256)
L_ROWS(1024, 512)
PGG_ALWAYS __m512i l_rows_iq2_xs(__m512i at) {
  const uint16_t *t = l_grids.iq2_xs;
  L_STAYS(t);
  return l_rows512(t, at);
}
PGG_ALWAYS __m512i l_rows_iq2_s(__m512i at) {
  const uint16_t *t = l_grids.iq2_s;
  L_STAYS(t);
  return l_rows1024(t, at);
}

/* Bytes by seven bits of index, by eight, and by a ninth. */
PGG_ALWAYS __m512i l_bytes128(const uint8_t *t, __m512i at) {
  return _mm512_permutex2var_epi8(_mm512_load_si512(t), at, _mm512_load_si512(t + 64));
}
PGG_ALWAYS __m512i l_bytes256(const uint8_t *t, __m512i at) {
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), l_bytes128(t, at), l_bytes128(t + 128, at));
}
PGG_ALWAYS __m512i l_bytes512(const uint8_t *t, __m512i at, uint64_t ninth) {
  return _mm512_mask_blend_epi8((__mmask64)ninth, l_bytes256(t, at), l_bytes256(t + 256, at));
}

/* Seven signs in the low bits of bytes: the eighth makes the count of minus signs even. */
#define EVEN(x) ((x) | (0x6996 >> (((x) ^ (x) >> 4) & 15) & 1) << 7)
#define EVEN8(x) EVEN(x), EVEN(x + 1), EVEN(x + 2), EVEN(x + 3), EVEN(x + 4), EVEN(x + 5), EVEN(x + 6), EVEN(x + 7)
static const _Alignas(64) uint8_t l_even[128] = {EVEN8(0),  EVEN8(8),   EVEN8(16),  EVEN8(24), EVEN8(32), EVEN8(40),
                                                 EVEN8(48), EVEN8(56),  EVEN8(64),  EVEN8(72), EVEN8(80), EVEN8(88),
                                                 EVEN8(96), EVEN8(104), EVEN8(112), EVEN8(120)};
PGG_ALWAYS __m512i l_even_signs(__m512i sevens) { return l_bytes128(l_even, sevens); }

/* Tables of values: 32 without a sign, 32 with. */
#define TWICE(...) __VA_ARGS__, __VA_ARGS__
#define FOUR_TIMES(...) TWICE(TWICE(__VA_ARGS__))
#define EIGHT_TIMES(...) TWICE(FOUR_TIMES(__VA_ARGS__))
/* 64 added, or 32 */
static const _Alignas(64) uint8_t l_iq2_values[64] = {EIGHT_TIMES(72, 89, 107, 64), EIGHT_TIMES(56, 39, 21, 64)};
static const _Alignas(64) uint8_t l_iq3_xxs_values[64] = {FOUR_TIMES(68, 76, 84, 92, 100, 108, 116, 126),
                                                          FOUR_TIMES(60, 52, 44, 36, 28, 20, 12, 2)};
static const _Alignas(64) uint8_t l_iq3_s_values[64] = {
    TWICE(33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63),
    TWICE(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1)};
/* doubled E2M1 plus 12 */
static const _Alignas(64) uint8_t l_e2m1[64] = {FOUR_TIMES(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0)};

PGG_ALWAYS lb l_values(__m512i codes, __m512i signs, const uint8_t *table) {
  const __m512i both = _mm512_ternarylogic_epi64(codes, signs, _mm512_set1_epi8(32), 0xd8); /* bit 5 of signs */
  return _mm512_permutexvar_epi8(both, l_table64(table));
}
PGG_ALWAYS __m512i l_crumbs_of_row(__m512i rows, int j) {
  return l_bits_from(rows, l_every_qword(0x0e0c0a0806040200u + BYTES(16) * (uint64_t)j));
}
/* bit i of byte j to bit 5 of byte i */
PGG_ALWAYS __m512i l_signs_of_row(__m512i signs, int j) {
  return l_bits_from(signs, l_every_qword(0x4241403f3e3d3c3bu + BYTES(8) * (uint64_t)j));
}
PGG_ALWAYS void l_crumb_rows(__m512i rows, __m512i signs, lb v[4]) {
  PGG_UNROLL(4)
  for (int j = 0; j < 4; j++) v[j] = l_values(l_crumbs_of_row(rows, j), l_signs_of_row(signs, j), l_iq2_values);
}
/* low, high: bytes of the 64 rows in the order of the file */
PGG_ALWAYS void l_nibble_rows(__m512i low, __m512i high, __m512i signs, const uint8_t *table, lb v[4]) {
  const __m512i first = l_by_group(0x4303420241014000u, BYTES(16), BYTES(8));
  const __m512i second = l_by_group(0x4707460645054404u, BYTES(16), BYTES(8));
  const __m512i rows[2] = {_mm512_permutex2var_epi8(low, first, high), _mm512_permutex2var_epi8(low, second, high)};
  PGG_UNROLL(4) for (int j = 0; j < 4; j++) {
    const __m512i codes = l_bits_from(rows[j >> 1], l_every_qword(0x1c1814100c080400u + BYTES(32) * (j & 1)));
    v[j] = l_values(codes, l_signs_of_row(signs, j), table);
  }
}

/* d times a float that the low four bits of a dword choose */
static const _Alignas(64) float l_eighths[16] = {0.125f, 0.375f, 0.625f, 0.875f, 1.125f, 1.375f, 1.625f, 1.875f,
                                                 2.125f, 2.375f, 2.625f, 2.875f, 3.125f, 3.375f, 3.625f, 3.875f};
static const _Alignas(64) float l_quarters[16] = {0.25f, 0.75f, 1.25f, 1.75f, 2.25f, 2.75f, 3.25f, 3.75f,
                                                  4.25f, 4.75f, 5.25f, 5.75f, 6.25f, 6.75f, 7.25f, 7.75f};
static const _Alignas(64) float l_odd[16] = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
static const _Alignas(64) float l_eighths_of_8[16] = {
    TWICE(0.125f, 0.375f, 0.625f, 0.875f, 1.125f, 1.375f, 1.625f, 1.875f)};
PGG_ALWAYS lf l_small_scale(lf d, __m512i at, const float *table) {
  return _mm512_mul_ps(d, _mm512_permutexvar_ps(at, _mm512_load_ps(table)));
}

/* ---- rows of eight ------------------------------------------------------------------------------------- */

#define TAKEN_WHOLE(name) PGG_ALWAYS void taken_##name(const uint8_t *b, lb v[4], lf scale[2])

/* a qword a group: four indices, four times seven signs, the scale */
TAKEN_WHOLE(iq2_xxs) {
  const __m512i q = _mm512_permutexvar_epi64(l_by_group(0, 2, 1), _mm512_loadu_si512(FIELD(iq2_xxs, b, 0, qs)));
  const __m512i rows = l_rows256(l_grids.iq2_xxs, l_bits_from(q, l_every_qword(0x0018001000080000u)));
  l_crumb_rows(rows, l_even_signs(l_bits_from(q, l_every_qword(0x352e2720u))), v);
  scale[0] = l_small_scale(l_half_everywhere(FIELD(iq2_xxs, b, 0, d)), l_bits_from(q, l_every_qword(BOTH_DWORDS(60))),
                           l_eighths);
}
/* scales: nibbles of eight bytes, low ones for the first 16 of a group */
PGG_ALWAYS void l_nibble_scales(const uint8_t *half, const uint8_t *nibbles, lf scale[2]) {
  const __m512i s = l_every_qword(pgg_load_u64(nibbles));
  const lf d = l_half_everywhere(half);
  scale[0] = l_small_scale(d, l_bits_from(s, l_by_group(0, BOTH_DWORDS(16), BOTH_DWORDS(8))), l_eighths);
  scale[1] = l_small_scale(d, l_bits_from(s, l_by_group(BOTH_DWORDS(4), BOTH_DWORDS(16), BOTH_DWORDS(8))), l_eighths);
}
/* an int16 a row: nine bits of index, seven signs */
TAKEN_WHOLE(iq2_xs) {
  const __m512i q = _mm512_permutexvar_epi64(l_by_group(0, 2, 1), _mm512_loadu_si512(FIELD(iq2_xs, b, 0, qs)));
  l_crumb_rows(l_rows_iq2_xs(q), l_even_signs(l_bits_from(q, l_every_qword(0x39291909u))), v);
  l_nibble_scales(FIELD(iq2_xs, b, 0, d), FIELD(iq2_xs, b, 0, scales), scale);
}
/* Indices of rows: low bytes from 32, high ones from high, whose odd bytes begin with the bits. */
PGG_ALWAYS __m512i l_indices(const uint8_t *low, __m512i high) {
  const __m512i order = l_by_group(0x0003000200010000u, WORDS(8), WORDS(4));
  return _mm512_mask_permutexvar_epi8(high, 0x5555555555555555u, order, l_lower(low));
}
TAKEN_WHOLE(iq2_s) {
  const __m512i bits = l_by_group(0x0600040002000000u, WORDS(0x1000), WORDS(0x800));
  const __m512i high = l_bits_from(l_every_qword(pgg_load_u64(FIELD(iq2_s, b, 0, qh))), bits);
  const __m512i at = l_indices(FIELD(iq2_s, b, 0, qs), high);
  l_crumb_rows(l_rows_iq2_s(at), l_dwords_by_group(FIELD(iq2_s, b, 0, signs)), v);
  l_nibble_scales(FIELD(iq2_s, b, 0, d), FIELD(iq2_s, b, 0, scales), scale);
}

/* the int16 of each group, four times */
PGG_ALWAYS __m512i l_words_by_group(const uint8_t *p) {
  const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
  return _mm512_permutexvar_epi16(l_by_group(0, WORDS(2), WORDS(1)), _mm512_castsi128_si512(x));
}
/* 2048 rows are too many to look up: they are loaded, index by index. */
PGG_ALWAYS __m512i l_load_rows(const uint64_t *t, const unsigned at[8]) {
  __m128d x[4];
  PGG_UNROLL(4) for (int i = 0; i < 4; i++) { /* two groups of each quarter: 0 2, 4 6, 1 3, 5 7 */
    const int g = (i & 1) * 4 + (i >> 1);
    x[i] = _mm_loadh_pd(_mm_load_sd((const double *)(const void *)(t + at[g])),
                        (const double *)(const void *)(t + at[g + 2]));
  }
  const __m256d low = _mm256_insertf128_pd(_mm256_castpd128_pd256(x[0]), x[1], 1);
  const __m256d high = _mm256_insertf128_pd(_mm256_castpd128_pd256(x[2]), x[3], 1);
  return _mm512_castpd_si512(_mm512_insertf64x4(_mm512_castpd256_pd512(low), high, 1));
}
/* low: index bytes, q: the int16 of each group with three more bits of every row and, at minus, the sign of its eighth;
 * apart: bits from one row to the next */
PGG_ALWAYS void l_trit_rows(const uint8_t *low, const uint8_t *high, __m512i q, const int apart, const int minus,
                            const int minus_apart, lb v[4]) {
  PGG_UNROLL(4) for (int j = 0; j < 4; j++) {
    unsigned at[8];
    PGG_UNROLL(8)
    for (int g = 0; g < 8; g++)
      at[g] = low[4 * g + j] | ((unsigned)pgg_load_u16(high + 2 * g) >> apart * j << 8 & 0x700);
    const __m512i sign = l_bits_from(q, _mm512_set1_epi8((char)(minus + minus_apart * j - 1)));      /* to bit 1 */
    v[j] = _mm512_ternarylogic_epi64(l_load_rows(l_grids.iq1, at), sign, _mm512_set1_epi8(2), 0xf2); /* v | ~sign & 2 */
  }
}
TAKEN_WHOLE(iq1_s) {
  const uint8_t *const high = FIELD(iq1_s, b, 0, qh);
  const __m512i q = l_words_by_group(high);
  l_trit_rows(FIELD(iq1_s, b, 0, qs), high, q, 3, 15, 0, v);
  scale[0] = l_small_scale(l_half_everywhere(FIELD(iq1_s, b, 0, d)), l_bits_from(q, l_every_qword(BOTH_DWORDS(12))),
                           l_eighths_of_8);
}
TAKEN_WHOLE(iq1_m) {
  const uint8_t *const high = FIELD(iq1_m, b, 0, qh);
  l_trit_rows(FIELD(iq1_m, b, 0, qs), high, l_words_by_group(high), 4, 3, 4, v);
  const uint64_t s = pgg_load_u64(FIELD(iq1_m, b, 0, scales));
  const uint16_t top = (uint16_t)_pext_u64(s, 0xf000f000f000f000u);
  const lf d = l_half_everywhere((const uint8_t *)&top);
  const __m512i all = l_every_qword(s);
  scale[0] = l_small_scale(d, l_bits_from(all, l_by_group(0, BOTH_DWORDS(16), BOTH_DWORDS(6))), l_eighths_of_8);
  scale[1] =
      l_small_scale(d, l_bits_from(all, l_by_group(BOTH_DWORDS(3), BOTH_DWORDS(16), BOTH_DWORDS(6))), l_eighths_of_8);
}

/* ---- rows of four -------------------------------------------------------------------------------------- */

TAKEN_WHOLE(iq3_xxs) {
  const __m512i at = _mm512_loadu_si512(FIELD(iq3_xxs, b, 0, qs)), q = l_dwords_by_group(FIELD(iq3_xxs, b, 0, signs));
  l_nibble_rows(l_bytes256(l_grids.iq3_xxs[0], at), l_bytes256(l_grids.iq3_xxs[1], at),
                l_even_signs(l_bits_from(q, l_every_qword(0x150e0700u))), l_iq3_xxs_values, v);
  scale[0] = l_small_scale(l_half_everywhere(FIELD(iq3_xxs, b, 0, d)), l_bits_from(q, l_every_qword(BOTH_DWORDS(28))),
                           l_quarters);
}
TAKEN_WHOLE(iq3_s) {
  const __m512i at = _mm512_loadu_si512(FIELD(iq3_s, b, 0, qs));
  const __m512i s = _mm512_set1_epi32((int)pgg_load_u32(FIELD(iq3_s, b, 0, scales)));
  const __m512i signs = l_dwords_by_group(FIELD(iq3_s, b, 0, signs));
  const uint64_t ninth = pgg_load_u64(FIELD(iq3_s, b, 0, qh));
  const uint8_t *low = l_grids.iq3_s[0], *high = l_grids.iq3_s[1];
  L_STAYS(low);
  L_STAYS(high);
  l_nibble_rows(l_bytes512(low, at, ninth), l_bytes512(high, at, ninth), signs, l_iq3_s_values, v);
  scale[0] = l_small_scale(l_half_everywhere(FIELD(iq3_s, b, 0, d)),
                           l_bits_from(s, l_by_group(0, BOTH_DWORDS(8), BOTH_DWORDS(4))), l_odd);
}

/* ---- small numbers ------------------------------------------------------------------------------------- */

/* 16 bytes of nibbles a group: first[qword] the first eight bytes, second the others */
TAKEN_WHOLE(mxfp4) {
  const __m512i at = l_by_group(0x0807060504030201u, BYTES(34), BYTES(17));
  const __m512i x = _mm512_loadu_si512(b), y = _mm512_loadu_si512(b + 64), table = l_table64(l_e2m1);
  const __m512i first = _mm512_permutex2var_epi8(x, at, y);
  const __m512i second = _mm512_permutex2var_epi8(_mm512_loadu_si512(b + 8), at, _mm512_loadu_si512(b + 72));
  v[0] = _mm512_permutexvar_epi8(first, table);
  v[1] = _mm512_permutexvar_epi8(second, table);
  v[2] = _mm512_permutexvar_epi8(_mm512_srli_epi16(first, 4), table);
  v[3] = _mm512_permutexvar_epi8(_mm512_srli_epi16(second, 4), table);
  /* e << 23; half of 2^(e - 127), which is subnormal for e < 2 */
  const __m512i tops = l_by_group(0, BOTH_DWORDS(34u << 24), BOTH_DWORDS(17u << 24));
  const __m512i e = _mm512_srli_epi32(_mm512_maskz_permutex2var_epi8(0x8888888888888888u, x, tops, y), 1);
  const __m512i tiny = _mm512_add_epi32(_mm512_srli_epi32(e, 2), _mm512_set1_epi32(0x00200000));
  scale[0] = _mm512_castsi512_ps(_mm512_max_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(0x00800000)), tiny));
}
/* byte of the scale of each lane's group: those of the first 16, then those of the second, each the upper of an int16
 */
#define AT(g, second) 0, 36 * ((g) / 2) + 2 * ((g) % 2) + (second)
#define AT_LANES(second)                                                                                        \
  TWICE(AT(0, second)), TWICE(AT(2, second)), TWICE(AT(4, second)), TWICE(AT(6, second)), TWICE(AT(1, second)), \
      TWICE(AT(3, second)), TWICE(AT(5, second)), TWICE(AT(7, second))
static const _Alignas(64) uint8_t l_nvfp4_scales[64] = {AT_LANES(0), AT_LANES(1)};
TAKEN_WHOLE(nvfp4) {
  /* dwords of the first eight bytes of each group, in 64 bytes from 4 and 64 from 72: what lies between is not needed
   */
  const __m512i at = _mm512_set_epi32(31, 30, 22, 21, 14, 13, 5, 4, 27, 26, 18, 17, 10, 9, 1, 0);
  const __m512i table = l_table64(l_e2m1);
  const __m512i first = _mm512_permutex2var_epi32(_mm512_loadu_si512(b + 4), at, _mm512_loadu_si512(b + 72));
  const __m512i second = _mm512_permutex2var_epi32(_mm512_loadu_si512(b + 12), at, _mm512_loadu_si512(b + 80));
  v[0] = _mm512_permutexvar_epi8(first, table);
  v[1] = _mm512_permutexvar_epi8(_mm512_srli_epi16(first, 4), table);
  v[2] = _mm512_permutexvar_epi8(second, table);
  v[3] = _mm512_permutexvar_epi8(_mm512_srli_epi16(second, 4), table);
  /* E4M3 without its top bit, moved up by 7, is a half 2^7 too small */
  const __m512i x = _mm512_maskz_permutex2var_epi8(0xaaaaaaaaaaaaaaaau, _mm512_loadu_si512(b),
                                                   l_table64(l_nvfp4_scales), _mm512_loadu_si512(b + 64));
  const __mmask32 some = _mm512_cmpneq_epi16_mask(x, _mm512_set1_epi16(0x7f00)); /* 0x7f is zero */
  const __m512i up = _mm512_and_si512(_mm512_srli_epi16(x, 1), _mm512_set1_epi16(0x3f80));
  const __m512i halves = _mm512_maskz_mov_epi16(some, up);
  scale[0] = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(halves)), _mm512_set1_ps(128.0f));
  scale[1] = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1)), _mm512_set1_ps(128.0f));
}
/* the halves that a scale of 64 or of 128 weights is, in the lanes of their groups */
PGG_ALWAYS lf l_halves_of(__m512i x, uint64_t low, uint64_t high) {
  const __m512i at = _mm512_set_epi64(0, 0, 0, 0, (long long)high, (long long)low, (long long)high, (long long)low);
  return _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(at, x)));
}
TAKEN_WHOLE(q2_0) {
  const __m512i x = _mm512_loadu_si512(b);
  const __m512i end = _mm512_castsi128_si512(_mm_loadl_epi64((const __m128i *)(const void *)(b + 64)));
  const __m512i q = _mm512_permutex2var_epi16(x, l_by_group(0x0004000300020001u, WORDS(9), WORDS(4)), end);
  PGG_UNROLL(4) for (int j = 0; j < 4; j++) v[j] = _mm512_and_si512(l_crumbs_of_row(q, j), _mm512_set1_epi8(3));
  scale[0] = l_halves_of(x, 0x0009000900000000u, 0x001b001b00120012u);
}
TAKEN_WHOLE(q1_0) {
  const __m512i x = _mm512_maskz_loadu_epi32(0x1ff, b);
  const __m512i at =
      _mm512_set_epi64(0x00110010, 0x000d000c, 0x00080007, 0x00040003, 0x000f000e, 0x000b000a, 0x00060005, 0x00020001);
  const __m512i q = _mm512_permutexvar_epi16(at, x);
  PGG_UNROLL(4) for (int j = 0; j < 4; j++) { /* bit i of byte j to bit 1 of byte i */
    const __m512i control = l_every_qword(0x464544434241403fu + BYTES(8) * (uint64_t)j);
    v[j] = _mm512_and_si512(l_bits_from(q, control), _mm512_set1_epi8(2));
  }
  scale[0] = l_halves_of(x, 0, 0x0009000900090009u);
}

#endif
