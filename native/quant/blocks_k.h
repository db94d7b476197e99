/* K types: super-blocks of 256 values whose sub-block scales are small integers under one or two halves.
 * q2_k q3_k q4_k q5_k q6_k, and q8_k, the activation side (never in a file). Normal form: see blocks_basic.h.
 * Source: GGUF format (block layouts as published with ggml).
 */
#ifndef PGG_BLOCKS_K_H
#define PGG_BLOCKS_K_H
#include "quant/blocks.h"

/* 0            16         80  82     84
 * | scales[16] | qs[64]   | d | dmin |    sub-blocks of 16: d * (low nibble of scales) * q - dmin * (high nibble)
 * qs: half h (128 values) owns 32 bytes, element 128h + 32j + l is bits 2j of qs[32h + l]. */
typedef struct pgg_q2_k {
  uint8_t scales[16];
  uint8_t qs[64];
  uint8_t d[2];
  uint8_t dmin[2];
} pgg_q2_k;
PGG_FN float pgg_q2_k_scale(const PGG_GLOBAL pgg_q2_k *b, int sub) {
  return pgg_read_f16(b->d) * (float)(b->scales[sub] & 15);
}
PGG_FN float pgg_q2_k_min(const PGG_GLOBAL pgg_q2_k *b, int sub) {
  return pgg_read_f16(b->dmin) * (float)(b->scales[sub] >> 4);
}
PGG_FN int pgg_q2_k_q(const PGG_GLOBAL pgg_q2_k *b, int i) {
  return b->qs[(i >> 7) * 32 + (i & 31)] >> (i >> 5 & 3) * 2 & 3;
}

/* 0           32         96           108 110
 * | hmask[32] | qs[64]   | scales[12] | d |     sub-blocks of 16: d * (scale - 32) * (q - 4 where the hmask bit is 0)
 * qs as q2_k; hmask[l] bit (i / 32) belongs to element i with l = i % 32.
 * Scale s, 6 bits: low four in scales[s % 8] (high nibble from s = 8 on), high two in scales[8 + s % 4] bits 2(s/4). */
typedef struct pgg_q3_k {
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  uint8_t d[2];
} pgg_q3_k;
PGG_FN int pgg_q3_k_scale_int(const PGG_GLOBAL pgg_q3_k *b, int sub) {
  int low = b->scales[sub & 7] >> (sub >> 3) * 4 & 15, high = b->scales[8 + (sub & 3)] >> (sub >> 2) * 2 & 3;
  return (low | high << 4) - 32;
}
PGG_FN float pgg_q3_k_scale(const PGG_GLOBAL pgg_q3_k *b, int sub) {
  return pgg_read_f16(b->d) * (float)pgg_q3_k_scale_int(b, sub);
}
PGG_FN float pgg_q3_k_min(const PGG_GLOBAL pgg_q3_k *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_q3_k_q(const PGG_GLOBAL pgg_q3_k *b, int i) {
  int low = b->qs[(i >> 7) * 32 + (i & 31)] >> (i >> 5 & 3) * 2 & 3, high = b->hmask[i & 31] >> (i >> 5) & 1;
  return low + high * 4 - 4;
}

/* The 12 bytes of q4_k and q5_k: eight 6-bit scales S and minima M.
 *   byte 0..3: S0..3, above them two bits of S4..7     byte 4..7: M0..3, above them two bits of M4..7
 *   byte 8..11: low nibble S4..7, high nibble M4..7 */
PGG_FN int pgg_k_scale_int(const PGG_GLOBAL uint8_t *scales, int sub) {
  return sub < 4 ? scales[sub] & 63 : (scales[sub + 4] & 15) | scales[sub - 4] >> 6 << 4;
}
PGG_FN int pgg_k_min_int(const PGG_GLOBAL uint8_t *scales, int sub) {
  return sub < 4 ? scales[sub + 4] & 63 : scales[sub + 4] >> 4 | scales[sub] >> 6 << 4;
}

/* 0   2      4            16           144
 * | d | dmin | scales[12] | qs[128]    |    sub-blocks of 32: d * S * q - dmin * M
 * qs: chunk c of 64 values owns 32 bytes; low nibbles are its first 32 values, high nibbles the next. */
typedef struct pgg_q4_k {
  uint8_t d[2];
  uint8_t dmin[2];
  uint8_t scales[12];
  uint8_t qs[128];
} pgg_q4_k;
PGG_FN float pgg_q4_k_scale(const PGG_GLOBAL pgg_q4_k *b, int sub) {
  return pgg_read_f16(b->d) * (float)pgg_k_scale_int(b->scales, sub);
}
PGG_FN float pgg_q4_k_min(const PGG_GLOBAL pgg_q4_k *b, int sub) {
  return pgg_read_f16(b->dmin) * (float)pgg_k_min_int(b->scales, sub);
}
PGG_FN int pgg_q4_k_q(const PGG_GLOBAL pgg_q4_k *b, int i) {
  return b->qs[(i >> 6) * 32 + (i & 31)] >> (i >> 5 & 1) * 4 & 15;
}

/* 0   2      4            16       48           176
 * | d | dmin | scales[12] | qh[32] | qs[128]    |    as q4_k; the fifth bit of element i is qh[i % 32] bit (i / 32) */
typedef struct pgg_q5_k {
  uint8_t d[2];
  uint8_t dmin[2];
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
} pgg_q5_k;
PGG_FN float pgg_q5_k_scale(const PGG_GLOBAL pgg_q5_k *b, int sub) {
  return pgg_read_f16(b->d) * (float)pgg_k_scale_int(b->scales, sub);
}
PGG_FN float pgg_q5_k_min(const PGG_GLOBAL pgg_q5_k *b, int sub) {
  return pgg_read_f16(b->dmin) * (float)pgg_k_min_int(b->scales, sub);
}
PGG_FN int pgg_q5_k_q(const PGG_GLOBAL pgg_q5_k *b, int i) {
  return (b->qs[(i >> 6) * 32 + (i & 31)] >> (i >> 5 & 1) * 4 & 15) | (b->qh[i & 31] >> (i >> 5) & 1) << 4;
}

/* 0          128       192          208 210
 * | ql[128]  | qh[64]  | scales[16] | d |    sub-blocks of 16: d * scale (int8) * (q - 32)
 * Half h (128 values): 64 bytes of ql, 32 of qh. Element 128h + 32j + l: nibble j / 2 of ql[64h + 32(j % 2) + l],
 * above it bits 2j of qh[32h + l]. */
typedef struct pgg_q6_k {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint8_t d[2];
} pgg_q6_k;
PGG_FN float pgg_q6_k_scale(const PGG_GLOBAL pgg_q6_k *b, int sub) {
  return pgg_read_f16(b->d) * (float)b->scales[sub];
}
PGG_FN float pgg_q6_k_min(const PGG_GLOBAL pgg_q6_k *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_q6_k_q(const PGG_GLOBAL pgg_q6_k *b, int i) {
  int part = i >> 7, j = i >> 5 & 3, low = b->ql[part * 64 + (i & 63)] >> (j >> 1) * 4 & 15;
  return (low | (b->qh[part * 32 + (i & 31)] >> j * 2 & 3) << 4) - 32;
}

/* 0     4            260          292
 * | d   | qs[256]    | bsums[16]  |    d is a float; int8 values; sums of each 16, not needed to decode */
typedef struct pgg_q8_k {
  uint8_t d[4];
  int8_t qs[256];
  uint8_t bsums[32];
} pgg_q8_k;
PGG_FN float pgg_q8_k_scale(const PGG_GLOBAL pgg_q8_k *b, int sub) {
  return (void)sub, pgg_bits_f32(pgg_read_u32(b->d));
}
PGG_FN float pgg_q8_k_min(const PGG_GLOBAL pgg_q8_k *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_q8_k_q(const PGG_GLOBAL pgg_q8_k *b, int i) { return b->qs[i]; }

#endif
