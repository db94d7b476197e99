/* The integer vocabulary of products, in plain C: the meaning of every word. lanes_<isa>.h hold the same words.
 *
 * A vector has LANES_PAIR halves of 8 dwords. When weights are unpacked each half is one row; in few.inc the halves are
 * neighbouring groups of one row: words that read weights take one pointer per half (the second is ignored where
 * LANES_PAIR is 1).
 *   lb  bytes, 32 a half     ld  int32, 8 a half     lf  float, 8 a half
 * LANES_ROWS rows of a strip are LANES_UNITS vectors; LANES_TILE_TOKENS tokens fit the registers beside them. */
#ifndef PGG_LANES_H
#define PGG_LANES_H
#include "cpu/products.h"

#define LANES_PAIR 1
#define LANES_UNITS 1
#define LANES_ROWS (8 * LANES_PAIR * LANES_UNITS)
#define LANES_TILE_TOKENS 6
#define LANES_BYTES8 BYTES8_SIGNED
#define LANES_CHAIN 0 /* 1: byte products are summed in int16 first (lw_ words) */
#define LANES_GEMV 0  /* 1: the level has the words of few.inc */

typedef struct lb {
  uint8_t v[32];
} lb;
typedef struct ld {
  int32_t v[8];
} ld;
typedef struct lf {
  float v[8];
} lf;
#define EACH(n) for (int i = 0; i < (n); i++)

/* ---- codes of 32 weights from the bytes of a block ----------------------------------------------------- */

/* 32 bytes */
PGG_ALWAYS lb lb_load(const uint8_t *p0, const uint8_t *p1) {
  lb r;
  (void)p1;
  memcpy(r.v, p0, 32);
  return r;
}
/* 16 bytes: low nibbles, then high nibbles */
PGG_ALWAYS lb lb_nibbles(const uint8_t *p0, const uint8_t *p1) {
  lb r;
  (void)p1;
  EACH(16) r.v[i] = p0[i] & 15, r.v[16 + i] = p0[i] >> 4;
  return r;
}
/* 32 bytes, shifted right by s0 (second half: s1), masked; mask keeps at most 8 - s bits */
PGG_ALWAYS lb lb_plane(const uint8_t *p0, int s0, const uint8_t *p1, int s1, int mask) {
  lb r;
  (void)p1, (void)s1;
  EACH(32) r.v[i] = (uint8_t)(p0[i] >> s0 & mask);
  return r;
}
/* 32 bits at p0, lowest first: value where set, else 0 */
PGG_ALWAYS lb lb_bits(const uint8_t *p0, const uint8_t *p1, int value) {
  lb r;
  (void)p1;
  EACH(32) r.v[i] = (uint8_t)((p0[i >> 3] >> (i & 7) & 1) * value);
  return r;
}
/* the same of a value at hand; 64 bits as 32 pairs; 128 bits as 32 nibbles: lowest first */
PGG_ALWAYS lb lb_bits32(uint32_t bits0, uint32_t bits1, int value) {
  lb r;
  (void)bits1;
  EACH(32) r.v[i] = (uint8_t)((bits0 >> i & 1) * (uint32_t)value);
  return r;
}
PGG_ALWAYS lb lb_crumbs(uint64_t c0, uint64_t c1) {
  lb r;
  (void)c1;
  EACH(32) r.v[i] = (uint8_t)(c0 >> 2 * i & 3);
  return r;
}
PGG_ALWAYS lb lb_nibbles_in_turn(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  lb r;
  (void)lo1, (void)hi1;
  EACH(16) r.v[i] = (uint8_t)(lo0 >> 4 * i & 15), r.v[16 + i] = (uint8_t)(hi0 >> 4 * i & 15);
  return r;
}
PGG_ALWAYS lb lb_xor(lb a, lb b) {
  EACH(32) a.v[i] ^= b.v[i];
  return a;
}
/* the second and the third eight bytes trade places */
PGG_ALWAYS lb lb_swap_middle(lb a) {
  uint8_t t[8];
  memcpy(t, a.v + 8, 8), memcpy(a.v + 8, a.v + 16, 8), memcpy(a.v + 16, t, 8);
  return a;
}
PGG_ALWAYS lb lb_or(lb a, lb b) {
  EACH(32) a.v[i] |= b.v[i];
  return a;
}
/* left shift of every byte; no bit may leave its byte */
PGG_ALWAYS lb lb_shl(lb a, int n) {
  EACH(32) a.v[i] = (uint8_t)(a.v[i] << n);
  return a;
}
/* table[code], codes 0..15 */
PGG_ALWAYS lb lb_table(const int8_t *table, lb code) {
  EACH(32) code.v[i] = (uint8_t)table[code.v[i]];
  return code;
}

/* 16 bytes twice; 4 bytes eight times */
PGG_ALWAYS lb lb_twice(const uint8_t *p0, const uint8_t *p1) {
  lb r;
  (void)p1;
  EACH(32) r.v[i] = p0[i & 15];
  return r;
}
PGG_ALWAYS lb lb_quads(const uint8_t *p0, const uint8_t *p1) {
  lb r;
  (void)p1;
  EACH(32) r.v[i] = p0[i & 3];
  return r;
}
/* a fraction of 256 in base 3, moved up by a power of 3: the digit before the point. Powers are equal in pairs. */
PGG_ALWAYS lb lb_trits(lb a, lb power) {
  EACH(32) a.v[i] = (uint8_t)((a.v[i] * power.v[i] & 255) * 3 >> 8);
  return a;
}

/* ---- rows to lanes ------------------------------------------------------------------------------------- */

/* v[row] of 8 dwords -> v[dword] of 8 rows, in each half */
PGG_ALWAYS void lb_transpose(lb v[8]) {
  uint32_t in[8][8], out[8][8];
  memcpy(in, v, sizeof in);
  for (int r = 0; r < 8; r++) EACH(8) out[i][r] = in[r][i];
  memcpy(v, out, sizeof out);
}
PGG_ALWAYS void lf_transpose(lf v[8]) {
  float out[8][8];
  for (int r = 0; r < 8; r++) EACH(8) out[i][r] = v[r].v[i];
  memcpy(v, out, sizeof out);
}
PGG_ALWAYS void lb_store(void *p, lb a) { memcpy(p, a.v, 32); }

/* ---- floats -------------------------------------------------------------------------------------------- */

PGG_ALWAYS float l_half(const uint8_t *p) { return pgg_read_f16(p); }
PGG_ALWAYS lf lf_set1(float x) {
  lf r;
  EACH(8) r.v[i] = x;
  return r;
}
/* x0 in the first half, x1 in the second */
PGG_ALWAYS lf lf_two(float x0, float x1) { return (void)x1, lf_set1(x0); }
PGG_ALWAYS lf lf_load(const float *p) {
  lf r;
  memcpy(r.v, p, 32);
  return r;
}
PGG_ALWAYS void lf_store(float *p, lf a) { memcpy(p, a.v, 32); }
PGG_ALWAYS lf lf_add(lf a, lf b) {
  EACH(8) a.v[i] += b.v[i];
  return a;
}
PGG_ALWAYS lf lf_mul(lf a, lf b) {
  EACH(8) a.v[i] *= b.v[i];
  return a;
}
/* a * b + c, rounded once or twice as the level does */
PGG_ALWAYS lf lf_fma(lf a, lf b, lf c) {
  EACH(8) c.v[i] = a.v[i] * b.v[i] + c.v[i];
  return c;
}
/* c - a * b */
PGG_ALWAYS lf lf_fnma(lf a, lf b, lf c) {
  EACH(8) c.v[i] = c.v[i] - a.v[i] * b.v[i];
  return c;
}
PGG_ALWAYS lf lf_from(ld a) {
  lf r;
  EACH(8) r.v[i] = (float)a.v[i];
  return r;
}
/* 8 halves; 8 unsigned bytes; 8 signed bytes; 8 floats, halves or bf16 of each half's pointer */
PGG_ALWAYS lf lf_halves8(const uint16_t *h0, const uint16_t *h1) {
  lf r;
  (void)h1;
  EACH(8) r.v[i] = pgg_half_value(h0[i]);
  return r;
}
PGG_ALWAYS lf lf_bytes8(uint64_t b0, uint64_t b1) {
  lf r;
  (void)b1;
  EACH(8) r.v[i] = (float)(b0 >> 8 * i & 255);
  return r;
}
/* 8 bytes as E8M0 and as unsigned E4M3, half of both */
PGG_ALWAYS lf lf_e8m0(uint64_t b0, uint64_t b1) {
  lf r;
  (void)b1;
  EACH(8) r.v[i] = pgg_e8m0_half((uint8_t)(b0 >> 8 * i));
  return r;
}
PGG_ALWAYS lf lf_e4m3(uint64_t b0, uint64_t b1) {
  lf r;
  (void)b1;
  EACH(8) r.v[i] = pgg_ue4m3_half((uint8_t)(b0 >> 8 * i));
  return r;
}
/* 8 halves, four and four */
PGG_ALWAYS lf lf_halves4x2(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  lf r;
  (void)lo1, (void)hi1;
  EACH(8) r.v[i] = pgg_half_value((uint16_t)((i < 4 ? lo0 : hi0) >> 16 * (i & 3)));
  return r;
}
PGG_ALWAYS lf lf_sbytes8(uint64_t b0, uint64_t b1) {
  lf r;
  (void)b1;
  EACH(8) r.v[i] = (float)(int8_t)(b0 >> 8 * i & 255);
  return r;
}
PGG_ALWAYS lf lf_pair_f32(const uint8_t *p0, const uint8_t *p1) {
  lf r;
  (void)p1;
  memcpy(r.v, p0, 32);
  return r;
}
PGG_ALWAYS lf lf_pair_f16(const uint8_t *p0, const uint8_t *p1) {
  lf r;
  (void)p1;
  EACH(8) r.v[i] = pgg_read_f16(p0 + 2 * i);
  return r;
}
PGG_ALWAYS lf lf_pair_bf16(const uint8_t *p0, const uint8_t *p1) {
  lf r;
  (void)p1;
  EACH(8) r.v[i] = pgg_bits_f32((uint32_t)pgg_read_u16(p0 + 2 * i) << 16);
  return r;
}
/* 16 bytes of each half (low eight first) as 16 int16 */
PGG_ALWAYS lb lb_words16(uint64_t lo0, uint64_t hi0, uint64_t lo1, uint64_t hi1) {
  int16_t w[16];
  lb r;
  (void)lo1, (void)hi1;
  EACH(8) w[i] = (int16_t)(lo0 >> 8 * i & 255), w[8 + i] = (int16_t)(hi0 >> 8 * i & 255);
  memcpy(r.v, w, 32);
  return r;
}

/* ---- the tile ------------------------------------------------------------------------------------------ */

PGG_ALWAYS lb lb_row(const uint8_t *p) { return lb_load(p, p); } /* a whole vector */
/* four bytes, or two int16, in every dword */
PGG_ALWAYS lb lb_splat(const uint8_t *p) {
  lb r;
  EACH(8) memcpy(r.v + 4 * i, p, 4);
  return r;
}
PGG_ALWAYS ld ld_zero(void) {
  ld r;
  memset(&r, 0, sizeof r);
  return r;
}
PGG_ALWAYS ld ld_splat(const int32_t *p) {
  ld r;
  EACH(8) r.v[i] = *p;
  return r;
}
/* acc += 4 codes x 4 activations in every dword; codes are unsigned unless BYTES8_SIGNED */
PGG_ALWAYS ld ld_tile_dot(ld acc, lb w, lb a) {
  int8_t x[32], y[32];
  memcpy(x, w.v, 32), memcpy(y, a.v, 32);
  EACH(8)
  acc.v[i] +=
      x[4 * i] * y[4 * i] + x[4 * i + 1] * y[4 * i + 1] + x[4 * i + 2] * y[4 * i + 2] + x[4 * i + 3] * y[4 * i + 3];
  return acc;
}
#define LD_TILE_DOT(acc, w, a) ((acc) = ld_tile_dot(acc, w, a))
#define LF_TILE_FMA(acc, w, a) ((acc) = lf_fma(w, a, acc))
/* acc += 2 int16 x 2 int16 in every dword */
PGG_ALWAYS ld ld_pairs(ld acc, lb w, lb a) {
  int16_t x[16], y[16];
  memcpy(x, w.v, 32), memcpy(y, a.v, 32);
  EACH(16) acc.v[i >> 1] += x[i] * y[i];
  return acc;
}
#undef EACH

#endif
