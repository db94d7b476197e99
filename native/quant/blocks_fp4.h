/* Small alphabets: mxfp4 and nvfp4 (E2M1 values under a small float), tq1_0 and tq2_0 (ternary).
 * Normal form: see blocks_basic.h. Source: OCP Microscaling formats 1.0 (E2M1, E8M0), GGUF format (layouts).
 */
#ifndef PGG_BLOCKS_FP4_H
#define PGG_BLOCKS_FP4_H
#include "quant/blocks.h"

/* E2M1 doubled, so that it is an integer; the scales of both types are halved in turn. */
PGG_TABLE int8_t pgg_e2m1_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* 0   1             17
 * | e | qs[16]      |       scale 2^(e - 128); byte j: element j (low nibble), j + 16 (high) */
typedef struct pgg_mxfp4 {
  uint8_t e;
  uint8_t qs[16];
} pgg_mxfp4;
PGG_FN float pgg_mxfp4_scale(const PGG_GLOBAL pgg_mxfp4 *b, int sub) { return (void)sub, pgg_e8m0_half(b->e); }
PGG_FN float pgg_mxfp4_min(const PGG_GLOBAL pgg_mxfp4 *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_mxfp4_q(const PGG_GLOBAL pgg_mxfp4 *b, int i) {
  return pgg_e2m1_doubled[b->qs[i & 15] >> (i >> 4) * 4 & 15];
}

/* 0      4             36
 * | d[4] | qs[32]      |    unsigned E4M3 scale for each 16; within 16, byte j: element j (low nibble), j + 8 (high) */
typedef struct pgg_nvfp4 {
  uint8_t d[4];
  uint8_t qs[32];
} pgg_nvfp4;
PGG_FN float pgg_nvfp4_scale(const PGG_GLOBAL pgg_nvfp4 *b, int sub) { return pgg_ue4m3_half(b->d[sub]); }
PGG_FN float pgg_nvfp4_min(const PGG_GLOBAL pgg_nvfp4 *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_nvfp4_q(const PGG_GLOBAL pgg_nvfp4 *b, int i) {
  return pgg_e2m1_doubled[b->qs[(i >> 4) * 8 + (i & 7)] >> (i >> 3 & 1) * 4 & 15];
}

/* 0        48      52  54
 * | qs[48] | qh[4] | d |    base 3: byte b holds trits n = 0..4 (qh: 0..3) as a fraction of 256,
 *                           trit n = ((b * 3^n mod 256) * 3) >> 8;  q = trit - 1
 * Elements 0..159: trit i / 32 of qs[i % 32]; 160..239: trit (i - 160) / 16 of qs[32 + i % 16];
 * 240..255: trit (i - 240) / 4 of qh[i % 4]. */
typedef struct pgg_tq1_0 {
  uint8_t qs[48];
  uint8_t qh[4];
  uint8_t d[2];
} pgg_tq1_0;
PGG_TABLE uint8_t pgg_power_of_3[5] = {1, 3, 9, 27, 81};
PGG_FN float pgg_tq1_0_scale(const PGG_GLOBAL pgg_tq1_0 *b, int sub) { return (void)sub, pgg_read_f16(b->d); }
PGG_FN float pgg_tq1_0_min(const PGG_GLOBAL pgg_tq1_0 *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_tq1_0_q(const PGG_GLOBAL pgg_tq1_0 *b, int i) {
  int byte, trit;
  if (i < 160) {
    byte = b->qs[i & 31], trit = i >> 5;
  } else if (i < 240) {
    byte = b->qs[32 + (i & 15)], trit = (i - 160) >> 4;
  } else {
    byte = b->qh[i & 3], trit = (i - 240) >> 2;
  }
  return ((byte * pgg_power_of_3[trit] & 255) * 3 >> 8) - 1;
}

/* 0        64  66
 * | qs[64] | d |    2 bits as in q2_k;  q - 1 */
typedef struct pgg_tq2_0 {
  uint8_t qs[64];
  uint8_t d[2];
} pgg_tq2_0;
PGG_FN float pgg_tq2_0_scale(const PGG_GLOBAL pgg_tq2_0 *b, int sub) { return (void)sub, pgg_read_f16(b->d); }
PGG_FN float pgg_tq2_0_min(const PGG_GLOBAL pgg_tq2_0 *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_tq2_0_q(const PGG_GLOBAL pgg_tq2_0 *b, int i) {
  return (b->qs[(i >> 7) * 32 + (i & 31)] >> (i >> 5 & 3) * 2 & 3) - 1;
}

#endif
