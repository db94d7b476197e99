/* Own ways of some types through few.inc for AVX-512, where taking a stretch apart costs more than its products. Scales
 * and minima come out of the header by a shuffle of its bytes to lanes, a mask and a product with powers of two, so
 * that no bit field is shifted to its place; the unit of the row's sum takes back what they have in common. Codes stay
 * in the order of the file where their groups allow it. Layouts: blocks_*.h. */
#ifndef PGG_FEW_AVX512_H
#define PGG_FEW_AVX512_H

#define FEW_CODED_TYPES(X) PGG_PLAIN_TYPES(X) PGG_SMALL_TYPES(X) PGG_GRID_TYPES(X)
#define FEW_TAKEN_TYPES(X) FEW_CODED_TYPES(X)

PGG_ALWAYS few_how few_how_of(int type, int group) {
  switch (type) {
    case PGG_Q4_K:
    case PGG_Q5_K: return (few_how){FEW_FOLD, 1, 0, 0, 0x1p-6f};
    case PGG_Q6_K: return (few_how){FEW_ROW, FEW_STEPS, 1, 0, 0x1p-8f};
    case PGG_Q3_K: return (few_how){FEW_PLANES, FEW_STEPS, 1, 0, 0x1p-10f};
    case PGG_Q2_K: return (few_how){FEW_PLANES, FEW_STEPS, 1, 4, 0x1p-4f};
    case PGG_IQ4_XS: return (few_how){FEW_PIECES, 2, 0, 0, 0x1p-4f};
    case PGG_Q4_0:
    case PGG_IQ4_NL: return (few_how){FEW_PIECES, 2, 0, 0, 1.0f};
    case PGG_TQ2_0: return (few_how){FEW_PLANES, 1, 0, 0, 1.0f};
    default: return (few_how){FEW_FOLD, 32 / group, 0, 0, 1.0f};
  }
}

/* ---- words --------------------------------------------------------------------------------------------- */

PGG_ALWAYS __m512i o_sixteen(const uint8_t *p) { /* in every 128 bits */
  return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)p));
}
/* Read once: folded into each use, a load that crosses a line would be paid for as often. */
PGG_ALWAYS __m512i o_load(const uint8_t *p) {
  __m512i x = _mm512_loadu_si512(p);
#if defined(__GNUC__)
  __asm__("" : "+v"(x));
#endif
  return x;
}
PGG_ALWAYS __m512i o_table(const void *p) { return _mm512_load_si512(p); }
PGG_ALWAYS __m512i o_halves(long long low, long long high) { /* eight bytes to every eight of each half */
  return _mm512_set_epi64(high, high, high, high, low, low, low, low);
}
PGG_ALWAYS __m512i o_or_and(__m512i a, __m512i b, __m512i mask) { return _mm512_ternarylogic_epi64(a, b, mask, 0xf8); }
PGG_ALWAYS __m512i o_byte(int x) { return _mm512_set1_epi8((char)x); }
PGG_ALWAYS lf o_half(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_set1_epi16((short)pgg_load_u16(p))); }
/* Two halves beside each other. */
PGG_ALWAYS void o_two_halves(const uint8_t *p, lf *first, lf *second) {
  const __m128 x = _mm_cvtph_ps(_mm_cvtsi32_si128((int)pgg_load_u32(p)));
  *first = _mm512_broadcastss_ps(x);
  *second = _mm512_permutexvar_ps(_mm512_set1_epi32(1), _mm512_castps128_ps512(x));
}

#define O_TABLE static const _Alignas(64) uint8_t
#define O_NONE 0x80 /* the shuffle gives 0 */

/* ---- q4_k, q5_k ---------------------------------------------------------------------------------------- */

/* A lane's dword: bytes of which the first two make its scale, the others its minimum. Groups 0..3 have all six bits in
 * one byte, the others four beside two; times 64, and over 16 where codes stay in the high nibble (odd groups). */
#define O_BYTES_LOW(g) 4 + (g), O_NONE, 8 + (g), O_NONE
#define O_BYTES_HIGH(g) 8 + (g), (g), 8 + (g), 4 + (g)
#define O_MASKS_LOW 0x3f, 0, 0x3f, 0
#define O_MASKS_HIGH 0x0f, 0xc0, 0xf0, 0xc0
#define O_TWICE(...) __VA_ARGS__, __VA_ARGS__
#define O_FOLD_LANES(low, high) /* lanes of lb_fold: even groups, then odd ones, each twice */            \
  O_TWICE(low(0)), O_TWICE(low(2)), O_TWICE(high(4)), O_TWICE(high(6)), O_TWICE(low(1)), O_TWICE(low(3)), \
      O_TWICE(high(5)), O_TWICE(high(7))
#define O_MASK_OF_LOW(g) O_MASKS_LOW
#define O_MASK_OF_HIGH(g) O_MASKS_HIGH
#define O_TIMES_LOW(g) 64, 0, 64, 0
#define O_TIMES_HIGH(g) 64, 16, 4, 16
#define O_TIMES_LOW_16(g) (g) & 1 ? 4 : 64, 0, 64, 0
#define O_TIMES_HIGH_16(g) (g) & 1 ? 4 : 64, (g) & 1 ? 1 : 16, 4, 16
O_TABLE o_k_bytes[64] = {O_FOLD_LANES(O_BYTES_LOW, O_BYTES_HIGH)};
O_TABLE o_k_masks[64] = {O_FOLD_LANES(O_MASK_OF_LOW, O_MASK_OF_HIGH)};
O_TABLE o_k_times[64] = {O_FOLD_LANES(O_TIMES_LOW, O_TIMES_HIGH)};
O_TABLE o_k_times_16[64] = {O_FOLD_LANES(O_TIMES_LOW_16, O_TIMES_HIGH_16)};

PGG_ALWAYS void o_k_header(const uint8_t *b, const uint8_t *times, few_taken *w) {
  const __m512i fields = _mm512_and_si512(_mm512_shuffle_epi8(o_sixteen(b), o_table(o_k_bytes)), o_table(o_k_masks));
  const __m512i words = _mm512_maddubs_epi16(fields, o_table(times));
  lf d, dmin;
  o_two_halves(b, &d, &dmin);
  w->scale[0] = lf_mul(lf_from(_mm512_and_si512(words, _mm512_set1_epi32(0xffff))), d);
  w->min[0] = lf_mul(lf_from(_mm512_srli_epi32(words, 16)), dmin);
}
/* 128 bytes, each 32 of which are the low nibbles of one group and the high nibbles of the next; still in place. */
PGG_ALWAYS void o_fold_nibbles(const uint8_t *p, lb v[4]) {
  const __m512i a = o_load(p), b = o_load(p + 64);
  const __m512i first = _mm512_set_epi64(12, 8, 4, 0, 12, 8, 4, 0);
  PGG_UNROLL(4)
  for (int j = 0; j < 4; j++) v[j] = _mm512_permutex2var_epi64(a, _mm512_add_epi64(first, _mm512_set1_epi64(j)), b);
}
PGG_ALWAYS void take_q4_k(const uint8_t *b, few_taken *w) {
  const __m512i mask = o_halves(0x0f0f0f0f0f0f0f0f, (long long)0xf0f0f0f0f0f0f0f0u);
  o_fold_nibbles(FIELD(q4_k, b, 0, qs), w->v);
  PGG_UNROLL(4) for (int j = 0; j < 4; j++) w->v[j] = _mm512_and_si512(w->v[j], mask);
  o_k_header(b, o_k_times_16, w);
}
PGG_ALWAYS void take_q5_k(const uint8_t *b, few_taken *w) {
  const __m512i shift = o_halves(0, 4), turn = _mm512_set_epi64(61, 63, 1, 3, 62, 0, 2, 4); /* bit g to bit 4 */
  o_fold_nibbles(FIELD(q5_k, b, 0, qs), w->v);
  PGG_UNROLL(4) for (int j = 0; j < 4; j++) {
    const __m512i high =
        _mm512_rolv_epi64(_mm512_set1_epi64((long long)pgg_load_u64(FIELD(q5_k, b, 0, qh) + 8 * j)), turn);
    w->v[j] = o_or_and(_mm512_and_si512(_mm512_srlv_epi64(w->v[j], shift), o_byte(15)), high, o_byte(16));
  }
  o_k_header(b, o_k_times, w);
}

/* ---- q6_k, q3_k, q2_k: groups of 16, a piece of a vector each ------------------------------------------ */

/* Words of the packed sums of two vectors: four of a piece of the first, four of the second; first, second: the groups
 * of the four pieces each. high: to the high byte of a word, which is times 256 and keeps the sign. */
#define O_WORD_HIGH(g) O_NONE, g
#define O_WORD_LOW(g) g, O_NONE
#define O_FOUR(...) O_TWICE(O_TWICE(__VA_ARGS__))
#define O_PAIR(word, a, b) O_FOUR(word(a)), O_FOUR(word(b))
#define O_ROW_WORDS(word, g) \
  O_PAIR(word, g, g + 4), O_PAIR(word, g + 1, g + 5), O_PAIR(word, g + 2, g + 6), O_PAIR(word, g + 3, g + 7)
#define O_PLANE_WORDS(word, g) \
  O_PAIR(word, g, g + 2), O_PAIR(word, g + 1, g + 3), O_PAIR(word, g + 8, g + 10), O_PAIR(word, g + 9, g + 11)
O_TABLE o_q6_words[2][64] = {{O_ROW_WORDS(O_WORD_HIGH, 0)}, {O_ROW_WORDS(O_WORD_HIGH, 8)}};
O_TABLE o_q3_words[2][64] = {{O_PLANE_WORDS(O_WORD_HIGH, 0)}, {O_PLANE_WORDS(O_WORD_HIGH, 4)}};
O_TABLE o_q2_words[2][64] = {{O_PLANE_WORDS(O_WORD_LOW, 0)}, {O_PLANE_WORDS(O_WORD_LOW, 4)}};

/* Sums of four are at most 4 * 32 * 127, so that four products with a scale times 256 just fit 32 bits. */
PGG_ALWAYS void take_q6_k(const uint8_t *b, few_taken *w) {
  const __m512i scales = o_sixteen(FIELD(q6_k, b, 0, scales));
  PGG_UNROLL(2) for (int h = 0; h < 2; h++) {
    const uint8_t *const pairs = FIELD(q6_k, b, 0, qh) + 32 * h;
    const __m512i low = o_load(FIELD(q6_k, b, 0, ql) + 64 * h), high = lb_load(pairs, pairs);
    w->v[2 * h] = o_or_and(_mm512_and_si512(low, o_byte(15)), _mm512_sllv_epi64(high, o_halves(4, 2)), o_byte(48));
    w->v[2 * h + 1] = o_or_and(_mm512_and_si512(_mm512_srli_epi64(low, 4), o_byte(15)),
                               _mm512_srlv_epi64(high, o_halves(0, 2)), o_byte(48));
    w->words[h] = _mm512_shuffle_epi8(scales, o_table(o_q6_words[h]));
  }
  w->scale[0] = o_half(FIELD(q6_k, b, 0, d));
}
/* Scales: their six bits at the top of a byte, the highest turned round, are 4 * (scale - 32). */
PGG_ALWAYS void take_q3_k(const uint8_t *b, few_taken *w) {
  const __m512i scales = o_sixteen(FIELD(q3_k, b, 0, scales) - 2); /* two bytes of codes, the scales, d */
  const __m512i low_at = _mm512_set4_epi32(0x09080706, 0x05040302, 0x09080706, 0x05040302);
  const __m512i high_at = _mm512_set1_epi32(0x0d0c0b0a);
  const __m512i low_turn = _mm512_set4_epi32(0, 62, 0, 2), high_turn = _mm512_set4_epi32(0, 2, 4, 6);
  const __m512i low = _mm512_rolv_epi64(_mm512_shuffle_epi8(scales, low_at), low_turn);
  const __m512i high = _mm512_rolv_epi32(_mm512_shuffle_epi8(scales, high_at), high_turn);
  const __m512i first = _mm512_ternarylogic_epi64(low, o_byte(0x3c), o_byte(0x80), 0x6a); /* (a & b) ^ c */
  const __m512i bytes = _mm512_ternarylogic_epi64(first, high, o_byte(0xc0), 0x78);       /* a ^ (b & c) */
  const uint8_t *const mask = FIELD(q3_k, b, 0, hmask);
  const __m512i q = o_load(FIELD(q3_k, b, 0, qs)), bits = _mm512_srlv_epi64(lb_load(mask, mask), o_halves(0, 4));
  w->v[0] = o_or_and(_mm512_and_si512(q, o_byte(3)), _mm512_slli_epi64(bits, 2), o_byte(4));
  w->v[1] = o_or_and(_mm512_and_si512(_mm512_srli_epi64(q, 2), o_byte(3)), _mm512_slli_epi64(bits, 1), o_byte(4));
  w->v[2] = o_or_and(_mm512_and_si512(_mm512_srli_epi64(q, 4), o_byte(3)), bits, o_byte(4));
  w->v[3] = o_or_and(_mm512_and_si512(_mm512_srli_epi64(q, 6), o_byte(3)), _mm512_srli_epi64(bits, 1), o_byte(4));
  PGG_UNROLL(2) for (int h = 0; h < 2; h++) w->words[h] = _mm512_shuffle_epi8(bytes, o_table(o_q3_words[h]));
  w->scale[0] = o_half(FIELD(q3_k, b, 0, d));
}
/* The codes of the last two vectors and all minima are times 16. */
PGG_ALWAYS void take_q2_k(const uint8_t *b, few_taken *w) {
  const uint8_t *const scales = FIELD(q2_k, b, 0, scales);
  const __m512i header = o_sixteen(scales), q = o_load(FIELD(q2_k, b, 0, qs)), other = _mm512_srli_epi64(q, 2);
  const __m256i words = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)scales));
  w->v[0] = _mm512_and_si512(q, o_byte(3));
  w->v[1] = _mm512_and_si512(other, o_byte(3));
  w->v[2] = _mm512_and_si512(q, o_byte(48));
  w->v[3] = _mm512_and_si512(other, o_byte(48));
  PGG_UNROLL(2)
  for (int h = 0; h < 2; h++)
    w->words[h] = _mm512_and_si512(_mm512_shuffle_epi8(header, o_table(o_q2_words[h])), o_byte(15));
  w->words[2] = _mm512_zextsi256_si512(_mm256_and_si256(words, _mm256_set1_epi16(0xf0)));
  o_two_halves(FIELD(q2_k, b, 0, d), &w->scale[0], &w->min[0]);
}

/* ---- nibbles of 32 values in 16 bytes ------------------------------------------------------------------ */

PGG_ALWAYS void o_nibbles(__m512i a, __m512i b, lb v[4]) {
  v[0] = _mm512_and_si512(a, o_byte(15));
  v[1] = _mm512_and_si512(_mm512_srli_epi64(a, 4), o_byte(15));
  v[2] = _mm512_and_si512(b, o_byte(15));
  v[3] = _mm512_and_si512(_mm512_srli_epi64(b, 4), o_byte(15));
}
PGG_ALWAYS void o_iq4(lb v[4]) {
  const __m512i table = lb_flip(o_sixteen((const uint8_t *)pgg_iq4_values));
  PGG_UNROLL(4) for (int j = 0; j < 4; j++) v[j] = _mm512_shuffle_epi8(table, v[j]);
}
/* Eight blocks of a half and 16 bytes, four at a time: words of two sources, of which the second begins four words
 * later and ends with the blocks. */
static const _Alignas(64) uint16_t o_eighteen_codes[32] = {1,  2,  3,  4,  5,  6,  7,  8,  10, 11, 12,
                                                           13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 24,
                                                           25, 26, 28, 29, 30, 31, 60, 61, 62, 63};
static const _Alignas(64) uint16_t o_eighteen_halves[16] = {0, 0, 0, 0, 9, 9, 9, 9, 18, 18, 18, 18, 27, 27, 27, 27};
PGG_ALWAYS void o_eighteens(const uint8_t *b, few_taken *w) {
  const __m512i at = _mm512_castsi256_si512(_mm256_load_si256((const __m256i *)(const void *)o_eighteen_halves));
  __m512i codes[2];
  PGG_UNROLL(2) for (int h = 0; h < 2; h++) {
    const __m512i first = o_load(b + 72 * h);
    codes[h] = _mm512_permutex2var_epi16(first, o_table(o_eighteen_codes), _mm512_loadu_si512(b + 72 * h + 8));
    w->scale[h] = _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(at, first)));
  }
  o_nibbles(codes[0], codes[1], w->v);
}
PGG_ALWAYS void take_q4_0(const uint8_t *b, few_taken *w) { o_eighteens(b, w); }
PGG_ALWAYS void take_iq4_nl(const uint8_t *b, few_taken *w) { o_eighteens(b, w), o_iq4(w->v); }

/* Scales of iq4_xs, times 16: four bits of byte 4 + g / 2, above them two of byte 2 + g / 4. A factor of 256 is too
 * much for a signed byte and is put together of three. */
#define O_XS_BYTES(g) 4 + (g) / 2, 2 + (g) / 4, 2 + (g) / 4, 2 + (g) / 4
#define O_XS_HIGH_MASK(g) (3 << 2 * ((g) % 4))
#define O_XS_MASKS(g) (g) % 2 ? 0xf0 : 0x0f, O_XS_HIGH_MASK(g), (g) % 4 ? 0 : 3, (g) % 4 ? 0 : 3
#define O_XS_TIMES(g) (g) % 2 ? 1 : 16, (g) % 4 ? 256 >> 2 * ((g) % 4) : 127, 127, 2
#define O_XS_PIECE(x, g) x(g), x(g + 4), x(g), x(g + 4)
#define O_XS_LANES(x) {O_XS_PIECE(x, 0), O_XS_PIECE(x, 1), O_XS_PIECE(x, 2), O_XS_PIECE(x, 3)}
O_TABLE o_xs_bytes[64] = O_XS_LANES(O_XS_BYTES);
O_TABLE o_xs_masks[64] = O_XS_LANES(O_XS_MASKS);
O_TABLE o_xs_times[64] = O_XS_LANES(O_XS_TIMES);
PGG_ALWAYS void take_iq4_xs(const uint8_t *b, few_taken *w) {
  const __m512i header = _mm512_shuffle_epi8(_mm512_set1_epi64((long long)pgg_load_u64(b)), o_table(o_xs_bytes));
  const __m512i fields = _mm512_and_si512(header, o_table(o_xs_masks));
  const ld scales = _mm512_dpbusd_epi32(_mm512_set1_epi32(-32 * 16), fields, o_table(o_xs_times));
  const lf scale = lf_mul(lf_from(scales), o_half(FIELD(iq4_xs, b, 0, d)));
  w->scale[0] = _mm512_permute_ps(scale, 0x00);
  w->scale[1] = _mm512_permute_ps(scale, 0x55);
  o_nibbles(o_load(FIELD(iq4_xs, b, 0, qs)), o_load(FIELD(iq4_xs, b, 0, qs) + 64), w->v);
  o_iq4(w->v);
}

/* ---- tq2_0 --------------------------------------------------------------------------------------------- */

PGG_ALWAYS void take_tq2_0(const uint8_t *b, few_taken *w) {
  const __m512i q = o_load(FIELD(tq2_0, b, 0, qs));
  PGG_UNROLL(4)
  for (int j = 0; j < 4; j++) w->v[j] = _mm512_and_si512(_mm512_srli_epi64(q, 2 * (unsigned)j), o_byte(3));
  w->scale[0] = o_half(FIELD(tq2_0, b, 0, d));
}

#endif
