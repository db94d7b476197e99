/* Codebook types: iq4_nl iq4_xs (a table of 16 values), iq2_* iq3_* (rows of a magnitude grid with signs),
 * iq1_* (rows of a ternary grid, shifted by an eighth). Normal form: see blocks_basic.h; the grids are in iq_tables.h.
 * Source: GGUF format (block layouts as published with ggml).
 */
#ifndef PGG_BLOCKS_IQ_H
#define PGG_BLOCKS_IQ_H
#include "quant/blocks.h"
#include "quant/iq_tables.h"

/* ---- 16 values ----------------------------------------------------------------------------------------- */

PGG_TABLE int8_t pgg_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* 0   2             18
 * | d | qs[16]      |       byte j: element j (low nibble), j + 16 (high) */
typedef struct pgg_iq4_nl {
  uint8_t d[2];
  uint8_t qs[16];
} pgg_iq4_nl;
PGG_FN float pgg_iq4_nl_scale(const PGG_GLOBAL pgg_iq4_nl *b, int sub) { return (void)sub, pgg_read_f16(b->d); }
PGG_FN float pgg_iq4_nl_min(const PGG_GLOBAL pgg_iq4_nl *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_iq4_nl_q(const PGG_GLOBAL pgg_iq4_nl *b, int i) {
  return pgg_iq4_values[b->qs[i & 15] >> (i >> 4) * 4 & 15];
}

/* 0   2          4             8         136
 * | d | scales_h | scales_l[4] | qs[128] |    eight sub-blocks of 32, each 16 bytes as in iq4_nl: d * (scale - 32)
 * Scale s: low four bits are nibble s of scales_l, high two are bits 2s of scales_h. */
typedef struct pgg_iq4_xs {
  uint8_t d[2];
  uint8_t scales_h[2];
  uint8_t scales_l[4];
  uint8_t qs[128];
} pgg_iq4_xs;
PGG_FN int pgg_iq4_xs_scale_int(const PGG_GLOBAL pgg_iq4_xs *b, int sub) {
  int low = b->scales_l[sub >> 1] >> (sub & 1) * 4 & 15, high = b->scales_h[sub >> 2] >> (sub & 3) * 2 & 3;
  return (low | high << 4) - 32;
}
PGG_FN float pgg_iq4_xs_scale(const PGG_GLOBAL pgg_iq4_xs *b, int sub) {
  return pgg_read_f16(b->d) * (float)pgg_iq4_xs_scale_int(b, sub);
}
PGG_FN float pgg_iq4_xs_min(const PGG_GLOBAL pgg_iq4_xs *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_iq4_xs_q(const PGG_GLOBAL pgg_iq4_xs *b, int i) {
  return pgg_iq4_values[b->qs[(i >> 5) * 16 + (i & 15)] >> (i >> 4 & 1) * 4 & 15];
}

/* ---- magnitude grids ----------------------------------------------------------------------------------- */

/* A grid row is eight 2-bit codes (iq2: magnitudes 8, 25, 43; iq1: -1, 0, 1) or four 4-bit codes (iq3). */
PGG_TABLE uint8_t pgg_iq2_values[4] = {8, 25, 43, 0};
PGG_TABLE uint8_t pgg_iq3_values[16] = {4, 12, 20, 28, 36, 44, 52, 62, 0, 0, 0, 0, 0, 0, 0, 0};

PGG_FN int pgg_signed(int magnitude, int negative) { return negative ? -magnitude : magnitude; }
/* Sign j of 8 stored as 7: the number of minus signs is even, so the last is the parity of the others. */
PGG_FN int pgg_sign_of_7(uint32_t seven, int j) {
  uint32_t s = seven & 127, fold = s ^ s >> 4;
  return (int)((j < 7 ? s >> j : 0x6996u >> (fold & 15)) & 1);
}

/* 0   2                      66
 * | d | qs[8 x 8]            |    per 32 values: 4 grid bytes (8 values each), then a u32 of 4 x 7 signs (from bit 0)
 *                                 and a 4-bit scale s (bit 28):  d * (0.5 + s) / 4 */
typedef struct pgg_iq2_xxs {
  uint8_t d[2];
  uint8_t qs[64];
} pgg_iq2_xxs;
PGG_FN float pgg_iq2_xxs_scale(const PGG_GLOBAL pgg_iq2_xxs *b, int sub) {
  return pgg_read_f16(b->d) * (0.5f + (float)(b->qs[8 * sub + 7] >> 4)) * 0.25f;
}
PGG_FN float pgg_iq2_xxs_min(const PGG_GLOBAL pgg_iq2_xxs *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_iq2_xxs_q(const PGG_GLOBAL pgg_iq2_xxs *b, int i) {
  const PGG_GLOBAL uint8_t *p = b->qs + (i >> 5) * 8;
  int row = i >> 3 & 3, j = i & 7;
  return pgg_signed(pgg_iq2_values[pgg_iq2_xxs_grid[p[row]] >> j * 2 & 3],
                    pgg_sign_of_7(pgg_read_u32(p + 4) >> row * 7, j));
}

/* 0   2             66           74
 * | d | qs[32 x 2]  | scales[8]  |    per 8 values a u16: 9 bits of grid row, 7 signs. Sub-blocks of 16, scale s is
 *                                     a nibble of scales:  d * (0.5 + s) / 4 */
typedef struct pgg_iq2_xs {
  uint8_t d[2];
  uint8_t qs[64];
  uint8_t scales[8];
} pgg_iq2_xs;
PGG_FN float pgg_iq2_xs_scale(const PGG_GLOBAL pgg_iq2_xs *b, int sub) {
  return pgg_read_f16(b->d) * (0.5f + (float)(b->scales[sub >> 1] >> (sub & 1) * 4 & 15)) * 0.25f;
}
PGG_FN float pgg_iq2_xs_min(const PGG_GLOBAL pgg_iq2_xs *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_iq2_xs_q(const PGG_GLOBAL pgg_iq2_xs *b, int i) {
  uint32_t code = pgg_read_u16(b->qs + (i >> 3) * 2);
  int j = i & 7;
  return pgg_signed(pgg_iq2_values[pgg_iq2_xs_grid[code & 511] >> j * 2 & 3], pgg_sign_of_7(code >> 9, j));
}

/* 0   2        34          66      74          82
 * | d | qs[32] | signs[32] | qh[8] | scales[8] |    10-bit grid row: qs and two bits of qh for each 8 values; one sign
 *                                                   bit a value; scales as iq2_xs */
typedef struct pgg_iq2_s {
  uint8_t d[2];
  uint8_t qs[32];
  uint8_t signs[32];
  uint8_t qh[8];
  uint8_t scales[8];
} pgg_iq2_s;
PGG_FN float pgg_iq2_s_scale(const PGG_GLOBAL pgg_iq2_s *b, int sub) {
  return pgg_read_f16(b->d) * (0.5f + (float)(b->scales[sub >> 1] >> (sub & 1) * 4 & 15)) * 0.25f;
}
PGG_FN float pgg_iq2_s_min(const PGG_GLOBAL pgg_iq2_s *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_iq2_s_q(const PGG_GLOBAL pgg_iq2_s *b, int i) {
  int row = i >> 3, j = i & 7, code = b->qs[row] | (b->qh[row >> 2] >> (row & 3) * 2 & 3) << 8;
  return pgg_signed(pgg_iq2_values[pgg_iq2_s_grid[code] >> j * 2 & 3], b->signs[row] >> j & 1);
}

/* 0   2        66            98
 * | d | qs[64] | signs[8 x 4]|    grid byte for each 4 values; per 32 a u32 of 4 x 7 signs and a 4-bit scale s:
 *                                 d * (0.5 + s) / 2 */
typedef struct pgg_iq3_xxs {
  uint8_t d[2];
  uint8_t qs[64];
  uint8_t signs[32];
} pgg_iq3_xxs;
PGG_FN float pgg_iq3_xxs_scale(const PGG_GLOBAL pgg_iq3_xxs *b, int sub) {
  return pgg_read_f16(b->d) * (0.5f + (float)(b->signs[4 * sub + 3] >> 4)) * 0.5f;
}
PGG_FN float pgg_iq3_xxs_min(const PGG_GLOBAL pgg_iq3_xxs *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_iq3_xxs_q(const PGG_GLOBAL pgg_iq3_xxs *b, int i) {
  return pgg_signed(pgg_iq3_values[pgg_iq3_xxs_grid[b->qs[i >> 2]] >> (i & 3) * 4 & 15],
                    pgg_sign_of_7(pgg_read_u32(b->signs + (i >> 5) * 4) >> (i >> 3 & 3) * 7, i & 7));
}

/* 0   2        66      74          106         110
 * | d | qs[64] | qh[8] | signs[32] | scales[4] |    9-bit grid row for each 4 values: qs and one bit of qh; magnitude
 *                                                   2 * code + 1; sub-blocks of 32:  d * (1 + 2s), s a nibble */
typedef struct pgg_iq3_s {
  uint8_t d[2];
  uint8_t qs[64];
  uint8_t qh[8];
  uint8_t signs[32];
  uint8_t scales[4];
} pgg_iq3_s;
PGG_FN float pgg_iq3_s_scale(const PGG_GLOBAL pgg_iq3_s *b, int sub) {
  return pgg_read_f16(b->d) * (float)(1 + 2 * (b->scales[sub >> 1] >> (sub & 1) * 4 & 15));
}
PGG_FN float pgg_iq3_s_min(const PGG_GLOBAL pgg_iq3_s *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_iq3_s_q(const PGG_GLOBAL pgg_iq3_s *b, int i) {
  int row = i >> 2, code = b->qs[row] | (b->qh[row >> 3] >> (row & 7) & 1) << 8;
  return pgg_signed((pgg_iq3_s_grid[code] >> (i & 3) * 4 & 15) * 2 + 1, b->signs[i >> 3] >> (i & 7) & 1);
}

/* ---- ternary grid -------------------------------------------------------------------------------------- */

/* y = dl * (t +- 1/8) with t in -1, 0, 1. In eighths: q = 8t +- 1 and the scale is dl / 8, which rounds nowhere. */
PGG_FN int pgg_iq1_eighths(int row, int j, int negative) {
  return ((pgg_iq1_grid[row] >> j * 2 & 3) - 1) * 8 + (negative ? -1 : 1);
}

/* 0   2        34          50
 * | d | qs[32] | qh[8 x 2] |    per 32 values a u16: 4 x 3 high bits of the 11-bit grid rows (8 values each), 3-bit
 *                               scale s (bit 12), sign of the eighth (bit 15):  dl = d * (2s + 1) */
typedef struct pgg_iq1_s {
  uint8_t d[2];
  uint8_t qs[32];
  uint8_t qh[16];
} pgg_iq1_s;
PGG_FN float pgg_iq1_s_scale(const PGG_GLOBAL pgg_iq1_s *b, int sub) {
  return pgg_read_f16(b->d) * (float)(2 * (b->qh[2 * sub + 1] >> 4 & 7) + 1) * 0.125f;
}
PGG_FN float pgg_iq1_s_min(const PGG_GLOBAL pgg_iq1_s *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_iq1_s_q(const PGG_GLOBAL pgg_iq1_s *b, int i) {
  int qh = pgg_read_u16(b->qh + (i >> 5) * 2), row = i >> 3;
  return pgg_iq1_eighths(b->qs[row] | (qh >> (row & 3) * 3 & 7) << 8, i & 7, qh >> 15);
}

/* 0        32       48          56
 * | qs[32] | qh[16] | scales[4 x 2] |    nibble of qh for each 8 values: 3 high bits of the grid row, sign of the
 *                                        eighth (bit 3). Sub-blocks of 16: 3-bit scale s, four in each u16 of scales
 *                                        from bit 0; the top nibbles of the four u16 are the half d, lowest first. */
typedef struct pgg_iq1_m {
  uint8_t qs[32];
  uint8_t qh[16];
  uint8_t scales[8];
} pgg_iq1_m;
PGG_FN float pgg_iq1_m_scale(const PGG_GLOBAL pgg_iq1_m *b, int sub) {
  const PGG_GLOBAL uint8_t *p = b->scales;
  uint16_t d = (uint16_t)(p[1] >> 4 | (p[3] & 0xf0) | (p[5] & 0xf0) << 4 | (p[7] & 0xf0) << 8);
  int s = pgg_read_u16(p + (sub >> 2) * 2) >> (sub & 3) * 3 & 7;
  return pgg_half_value(d) * (float)(2 * s + 1) * 0.125f;
}
PGG_FN float pgg_iq1_m_min(const PGG_GLOBAL pgg_iq1_m *b, int sub) { return (void)b, (void)sub, 0.0f; }
PGG_FN int pgg_iq1_m_q(const PGG_GLOBAL pgg_iq1_m *b, int i) {
  int row = i >> 3, qh = b->qh[row >> 1] >> (row & 1) * 4;
  return pgg_iq1_eighths(b->qs[row] | (qh & 7) << 8, i & 7, qh >> 3 & 1);
}

#endif
