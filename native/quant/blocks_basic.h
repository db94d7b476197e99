/* Blocks with one scale (and at most one minimum): q4_0 q4_1 q5_0 q5_1 q8_0 q8_1 q1_0 q2_0.
 * Normal form of every format here and in the other blocks_*.h:
 *
 *   y[i] = scale(b, i / sub) * q(b, i) - min(b, i / sub)      q fits int8; min is 0 for symmetric types
 *
 * Byte maps: one cell per field, offsets above. Values are little-endian; d, m are halves.
 * Source: GGUF format (block layouts as published with ggml); activation-side q8_1 is never in a file.
 */
#ifndef PGG_BLOCKS_BASIC_H
#define PGG_BLOCKS_BASIC_H
#include "quant/blocks.h"

/* 0   2             18
 * | d | qs[16]      |       byte j: element j (low nibble), j + 16 (high);  q - 8 */
typedef struct pgg_q4_0 {
  uint8_t d[2];
  uint8_t qs[16];
} pgg_q4_0;
PGG_FN float pgg_q4_0_scale(const PGG_GLOBAL pgg_q4_0 *b, int sub) { return (void)sub, pgg_read_f16(b->d); }
PGG_FN float pgg_q4_0_min(const PGG_GLOBAL pgg_q4_0 *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_q4_0_q(const PGG_GLOBAL pgg_q4_0 *b, int i) { return (b->qs[i & 15] >> (i >> 4) * 4 & 15) - 8; }

/* 0   2   4             20
 * | d | m | qs[16]      |       as q4_0, q in 0..15, plus m */
typedef struct pgg_q4_1 {
  uint8_t d[2];
  uint8_t m[2];
  uint8_t qs[16];
} pgg_q4_1;
PGG_FN float pgg_q4_1_scale(const PGG_GLOBAL pgg_q4_1 *b, int sub) { return (void)sub, pgg_read_f16(b->d); }
PGG_FN float pgg_q4_1_min(const PGG_GLOBAL pgg_q4_1 *b, int sub) { return (void)sub, -pgg_read_f16(b->m); }
PGG_FN int pgg_q4_1_q(const PGG_GLOBAL pgg_q4_1 *b, int i) { return b->qs[i & 15] >> (i >> 4) * 4 & 15; }

/* 0   2       6             22
 * | d | qh    | qs[16]      |   nibbles as q4_0; bit i of qh is the fifth bit of element i;  q - 16 */
typedef struct pgg_q5_0 {
  uint8_t d[2];
  uint8_t qh[4];
  uint8_t qs[16];
} pgg_q5_0;
PGG_FN float pgg_q5_0_scale(const PGG_GLOBAL pgg_q5_0 *b, int sub) { return (void)sub, pgg_read_f16(b->d); }
PGG_FN float pgg_q5_0_min(const PGG_GLOBAL pgg_q5_0 *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_q5_0_q(const PGG_GLOBAL pgg_q5_0 *b, int i) {
  return ((b->qs[i & 15] >> (i >> 4) * 4 & 15) | (b->qh[i >> 3] >> (i & 7) & 1) << 4) - 16;
}

/* 0   2   4       8             24
 * | d | m | qh    | qs[16]      |   as q5_0, q in 0..31, plus m */
typedef struct pgg_q5_1 {
  uint8_t d[2];
  uint8_t m[2];
  uint8_t qh[4];
  uint8_t qs[16];
} pgg_q5_1;
PGG_FN float pgg_q5_1_scale(const PGG_GLOBAL pgg_q5_1 *b, int sub) { return (void)sub, pgg_read_f16(b->d); }
PGG_FN float pgg_q5_1_min(const PGG_GLOBAL pgg_q5_1 *b, int sub) { return (void)sub, -pgg_read_f16(b->m); }
PGG_FN int pgg_q5_1_q(const PGG_GLOBAL pgg_q5_1 *b, int i) {
  return (b->qs[i & 15] >> (i >> 4) * 4 & 15) | (b->qh[i >> 3] >> (i & 7) & 1) << 4;
}

/* 0   2             34
 * | d | qs[32]      |       int8 */
typedef struct pgg_q8_0 {
  uint8_t d[2];
  int8_t qs[32];
} pgg_q8_0;
PGG_FN float pgg_q8_0_scale(const PGG_GLOBAL pgg_q8_0 *b, int sub) { return (void)sub, pgg_read_f16(b->d); }
PGG_FN float pgg_q8_0_min(const PGG_GLOBAL pgg_q8_0 *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_q8_0_q(const PGG_GLOBAL pgg_q8_0 *b, int i) { return b->qs[i]; }

/* 0   2   4             36
 * | d | s | qs[32]      |       int8; s = d * sum of qs, not needed to decode */
typedef struct pgg_q8_1 {
  uint8_t d[2];
  uint8_t s[2];
  int8_t qs[32];
} pgg_q8_1;
PGG_FN float pgg_q8_1_scale(const PGG_GLOBAL pgg_q8_1 *b, int sub) { return (void)sub, pgg_read_f16(b->d); }
PGG_FN float pgg_q8_1_min(const PGG_GLOBAL pgg_q8_1 *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_q8_1_q(const PGG_GLOBAL pgg_q8_1 *b, int i) { return b->qs[i]; }

/* 0   2             18
 * | d | qs[16]      |       128 sign bits, lowest first: 1 is +d, 0 is -d */
typedef struct pgg_q1_0 {
  uint8_t d[2];
  uint8_t qs[16];
} pgg_q1_0;
PGG_FN float pgg_q1_0_scale(const PGG_GLOBAL pgg_q1_0 *b, int sub) { return (void)sub, pgg_read_f16(b->d); }
PGG_FN float pgg_q1_0_min(const PGG_GLOBAL pgg_q1_0 *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_q1_0_q(const PGG_GLOBAL pgg_q1_0 *b, int i) { return (b->qs[i >> 3] >> (i & 7) & 1) * 2 - 1; }

/* 0   2             18
 * | d | qs[16]      |       64 x 2 bits, lowest first;  q - 1 */
typedef struct pgg_q2_0 {
  uint8_t d[2];
  uint8_t qs[16];
} pgg_q2_0;
PGG_FN float pgg_q2_0_scale(const PGG_GLOBAL pgg_q2_0 *b, int sub) { return (void)sub, pgg_read_f16(b->d); }
PGG_FN float pgg_q2_0_min(const PGG_GLOBAL pgg_q2_0 *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_q2_0_q(const PGG_GLOBAL pgg_q2_0 *b, int i) { return (b->qs[i >> 2] >> (i & 3) * 2 & 3) - 1; }

#endif
