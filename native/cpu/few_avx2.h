/* Own ways of some types through few.inc for AVX2 and AVX-VNNI: bytes are brought to their lanes (lane g holds group g)
 * before codes are taken out of them, so that one shuffle moves two or four groups, and tq2_0 stays in its order.
 * Header fields of K types as in few_avx512.h. Layouts: blocks_*.h. */
#ifndef PGG_FEW_AVX2_H
#define PGG_FEW_AVX2_H

/* Ways of their own made q5_k and q3_k 3 % faster at most and cost spilled registers. */
#define FEW_CODED_TYPES(X)      \
  X(Q5_K, q5_k, 32, 0, 5, INT)  \
  X(Q2_K, q2_k, 16, 0, 2, INT)  \
  X(Q3_K, q3_k, 16, 4, 3, NONE) \
  PGG_PLAIN_TYPES(X)            \
  PGG_SMALL_TYPES(X)
#define FEW_TAKEN_TYPES(X)          \
  X(Q4_0, q4_0, 32, 8, 4, NONE)     \
  X(IQ4_NL, iq4_nl, 32, 0, 8, NONE) \
  X(Q6_K, q6_k, 16, 32, 6, NONE)    \
  FEW_CODED_TYPES(X)

PGG_ALWAYS few_how few_how_of(int type, int group) {
  switch (type) {
    case PGG_Q4_K: return (few_how){FEW_FOLD, 1, 0, 0, 0x1p-6f};
    case PGG_TQ2_0: return (few_how){FEW_ROW, 1, 0, 0, 1.0f};
    default: return (few_how){FEW_FOLD, 32 / group, 0, 0, 1.0f};
  }
}

/* ---- words --------------------------------------------------------------------------------------------- */

PGG_ALWAYS __m256i o_byte(int x) { return _mm256_set1_epi8((char)x); }
PGG_ALWAYS __m256i o_low(__m256i a) { return _mm256_and_si256(a, o_byte(15)); }
PGG_ALWAYS __m256i o_high(__m256i a) { return o_low(_mm256_srli_epi16(a, 4)); }
PGG_ALWAYS __m256i o_two(const uint8_t *p0, const uint8_t *p1) { /* 16 bytes each */
  return _mm256_inserti128_si256(_mm256_castsi128_si256(l_load16(p0)), l_load16(p1), 1);
}
PGG_ALWAYS __m256i o_table(const void *p) { return _mm256_load_si256((const __m256i *)p); }
PGG_ALWAYS __m256i o_dword(const uint8_t *p) { return _mm256_set1_epi32((int)pgg_load_u32(p)); }
PGG_ALWAYS __m256i o_both32(__m256i a, __m256i b, int high) {
  return high ? _mm256_unpackhi_epi32(a, b) : _mm256_unpacklo_epi32(a, b);
}
PGG_ALWAYS __m256i o_both64(__m256i a, __m256i b, int high) {
  return high ? _mm256_unpackhi_epi64(a, b) : _mm256_unpacklo_epi64(a, b);
}

/* ---- 32 values in 16 bytes, stride bytes apart: first halves low, second halves high -------------------- */

PGG_ALWAYS void o_fold_pieces(const uint8_t *p, const int stride, lb v[8]) {
  __m256i g[4];
  PGG_UNROLL(4) for (int i = 0; i < 4; i++) g[i] = o_two(p + stride * i, p + stride * (i + 4));
  PGG_UNROLL(2) for (int h = 0; h < 2; h++) {
    const __m256i a = o_both32(g[0], g[1], h), b = o_both32(g[2], g[3], h);
    PGG_UNROLL(2) for (int i = 0; i < 2; i++) {
      const __m256i x = o_both64(a, b, i);
      v[2 * h + i] = o_low(x);
      v[2 * h + i + 4] = o_high(x);
    }
  }
}
PGG_ALWAYS void o_iq4(lb v[8]) {
  PGG_UNROLL(8) for (int j = 0; j < 8; j++) v[j] = lb_flip(lb_table(pgg_iq4_values, v[j]));
}
PGG_ALWAYS void folded_q4_0(const uint8_t *b, lb v[8]) { o_fold_pieces(FIELD(q4_0, b, 0, qs), sizeof(pgg_q4_0), v); }
PGG_ALWAYS void folded_iq4_nl(const uint8_t *b, lb v[8]) {
  o_fold_pieces(FIELD(iq4_nl, b, 0, qs), sizeof(pgg_iq4_nl), v), o_iq4(v);
}
PGG_ALWAYS void take_iq4_xs(const uint8_t *b, few_taken *w) {
  const __m256i at = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
  const __m256i high = _mm256_set1_epi32(pgg_load_u16(FIELD(iq4_xs, b, 0, scales_h)) << 4);
  const __m256i four =
      _mm256_and_si256(_mm256_srlv_epi32(o_dword(FIELD(iq4_xs, b, 0, scales_l)), at), _mm256_set1_epi32(15));
  const __m256i two = _mm256_and_si256(_mm256_srlv_epi32(high, _mm256_srli_epi32(at, 1)), _mm256_set1_epi32(48));
  const __m256i scale = _mm256_sub_epi32(_mm256_or_si256(four, two), _mm256_set1_epi32(32));
  o_fold_pieces(FIELD(iq4_xs, b, 0, qs), 16, w->v);
  o_iq4(w->v);
  w->scale[0] = lf_mul(lf_from(scale), lf_set1(l_half(FIELD(iq4_xs, b, 0, d))));
}

/* ---- q4_k ---------------------------------------------------------------------------------------------- */

#define O_TABLE static const _Alignas(32) uint8_t
/* A lane's dword: two bytes of its scale, two of its minimum; both times 64 (few_avx512.h). */
#define O_BYTES_LOW(g) 4 + (g), 0x80, 8 + (g), 0x80
#define O_BYTES_HIGH(g) 8 + (g), (g), 8 + (g), 4 + (g)
#define O_FOUR(...) __VA_ARGS__, __VA_ARGS__, __VA_ARGS__, __VA_ARGS__
O_TABLE o_k_bytes[32] = {O_BYTES_LOW(0),  O_BYTES_LOW(1),  O_BYTES_LOW(2),  O_BYTES_LOW(3),
                         O_BYTES_HIGH(4), O_BYTES_HIGH(5), O_BYTES_HIGH(6), O_BYTES_HIGH(7)};
O_TABLE o_k_masks[32] = {O_FOUR(0x3f, 0, 0x3f, 0), O_FOUR(0x0f, 0xc0, 0xf0, 0xc0)};
O_TABLE o_k_times[32] = {O_FOUR(64, 0, 64, 0), O_FOUR(64, 16, 4, 16)};
PGG_ALWAYS void o_k_header(const uint8_t *b, few_taken *w) {
  const __m256i header = _mm256_broadcastsi128_si256(l_load16(b));
  const __m256i fields = _mm256_and_si256(_mm256_shuffle_epi8(header, o_table(o_k_bytes)), o_table(o_k_masks));
  const __m256i words = _mm256_maddubs_epi16(fields, o_table(o_k_times));
  const __m128 d = _mm_cvtph_ps(_mm_cvtsi32_si128((int)pgg_load_u32(b)));
  w->scale[0] = lf_mul(lf_from(_mm256_and_si256(words, _mm256_set1_epi32(0xffff))), _mm256_broadcastss_ps(d));
  w->min[0] = lf_mul(lf_from(_mm256_srli_epi32(words, 16)), _mm256_broadcastss_ps(_mm_movehdup_ps(d)));
}
/* Each 32 bytes are the low nibbles of one group and the high nibbles of the next. */
PGG_ALWAYS void o_fold_nibbles(const uint8_t *p, lb v[8]) {
  PGG_UNROLL(2) for (int h = 0; h < 2; h++) {
    const __m256i even = o_two(p + 16 * h, p + 16 * h + 64), odd = o_two(p + 16 * h + 32, p + 16 * h + 96);
    PGG_UNROLL(2) for (int i = 0; i < 2; i++) {
      const __m256i x = o_both32(even, odd, i), low = o_low(x), high = o_high(x);
      PGG_UNROLL(2) for (int j = 0; j < 2; j++) v[4 * h + 2 * i + j] = o_both32(low, high, j);
    }
  }
}
PGG_ALWAYS void take_q4_k(const uint8_t *b, few_taken *w) {
  o_fold_nibbles(FIELD(q4_k, b, 0, qs), w->v);
  o_k_header(b, w);
}
/* ---- q6_k, tq2_0 --------------------------------------------------------------------------------------- */

/* A half's 64 bytes of nibbles are groups 0, 1 (low) and 2, 3 (high); its 32 bytes of bit pairs are of all four. */
PGG_ALWAYS void folded_q6_k(const uint8_t *b, lb v[8]) {
  PGG_UNROLL(2) for (int h = 0; h < 2; h++) {
    const uint8_t *const p = FIELD(q6_k, b, 0, ql) + 16 * h, *const high_bits = FIELD(q6_k, b, 0, qh) + 16 * h;
    const __m256i first = o_two(p, p + 64), second = o_two(p + 32, p + 96), two = o_two(high_bits, high_bits + 32);
    const __m256i bits = o_byte(48);
    const __m256i two0 = _mm256_and_si256(_mm256_slli_epi16(two, 4), bits);
    const __m256i two1 = _mm256_and_si256(_mm256_slli_epi16(two, 2), bits);
    const __m256i two2 = _mm256_and_si256(two, bits), two3 = _mm256_and_si256(_mm256_srli_epi16(two, 2), bits);
    PGG_UNROLL(2) for (int i = 0; i < 2; i++) {
      const __m256i x = o_both32(first, second, i);
      const __m256i low = _mm256_or_si256(o_low(x), o_both32(two0, two1, i));
      const __m256i high = _mm256_or_si256(o_high(x), o_both32(two2, two3, i));
      PGG_UNROLL(2) for (int j = 0; j < 2; j++) v[4 * h + 2 * i + j] = o_both64(low, high, j);
    }
  }
}
PGG_ALWAYS void take_tq2_0(const uint8_t *b, few_taken *w) {
  PGG_UNROLL(8) for (int g = 0; g < 8; g++) w->v[g] = codes_tq2_0(b, g, b, g);
  w->scale[0] = lf_set1(l_half(FIELD(tq2_0, b, 0, d)));
}

#endif
