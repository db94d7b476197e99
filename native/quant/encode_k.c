/* Encoders of the K types: encode_fit.c finds the integers, this file packs them into the layouts of blocks_k.h. */
#include <string.h>

#include "quant/blocks_k.h"
#include "quant/encode.h"
#include "quant/encode_fit.h"

/* 2-bit plane of q2_k and q3_k. */
static void put_2bit(uint8_t *qs, int i, int q) { qs[(i >> 7) * 32 + (i & 31)] |= (uint8_t)(q << (i >> 5 & 3) * 2); }

/* The nibbles of q4_k and q5_k. */
static void put_nibble(uint8_t *qs, int i, int q) { qs[(i >> 6) * 32 + (i & 31)] |= (uint8_t)(q << (i >> 5 & 1) * 4); }

static void put_scales(uint8_t *p, const int *scale, const int *min) { /* the inverse of pgg_k_scale_int */
  for (int s = 0; s < 4; s++) {
    p[s] = (uint8_t)(scale[s] | scale[s + 4] >> 4 << 6);
    p[s + 4] = (uint8_t)(min[s] | min[s + 4] >> 4 << 6);
    p[s + 8] = (uint8_t)((scale[s + 4] & 15) | (min[s + 4] & 15) << 4);
  }
}

static void pack_q2_k(pgg_q2_k *b, const pgg_fit *f) {
  for (int s = 0; s < 16; s++) b->scales[s] = (uint8_t)(f->scale[s] | f->min[s] << 4);
  for (int i = 0; i < 256; i++) put_2bit(b->qs, i, f->q[i]);
  pgg_put_u16(b->d, f->d), pgg_put_u16(b->dmin, f->dmin);
}

static void pack_q3_k(pgg_q3_k *b, const pgg_fit *f) {
  for (int s = 0; s < 16; s++) {
    const int v = f->scale[s] + 32;
    b->scales[s & 7] |= (uint8_t)((v & 15) << (s >> 3) * 4);
    b->scales[8 + (s & 3)] |= (uint8_t)(v >> 4 << (s >> 2) * 2);
  }
  for (int i = 0; i < 256; i++) {
    const int v = f->q[i] + 4;
    put_2bit(b->qs, i, v & 3);
    b->hmask[i & 31] |= (uint8_t)(v >> 2 << (i >> 5));
  }
  pgg_put_u16(b->d, f->d);
}

static void pack_q4_k(pgg_q4_k *b, const pgg_fit *f) {
  put_scales(b->scales, f->scale, f->min);
  for (int i = 0; i < 256; i++) put_nibble(b->qs, i, f->q[i]);
  pgg_put_u16(b->d, f->d), pgg_put_u16(b->dmin, f->dmin);
}

static void pack_q5_k(pgg_q5_k *b, const pgg_fit *f) {
  put_scales(b->scales, f->scale, f->min);
  for (int i = 0; i < 256; i++) {
    put_nibble(b->qs, i, f->q[i] & 15);
    b->qh[i & 31] |= (uint8_t)(f->q[i] >> 4 << (i >> 5));
  }
  pgg_put_u16(b->d, f->d), pgg_put_u16(b->dmin, f->dmin);
}

static void pack_q6_k(pgg_q6_k *b, const pgg_fit *f) {
  for (int s = 0; s < 16; s++) b->scales[s] = (int8_t)f->scale[s];
  for (int i = 0; i < 256; i++) {
    const int v = f->q[i] + 32, half = i >> 7, j = i >> 5 & 3;
    b->ql[half * 64 + (i & 63)] |= (uint8_t)((v & 15) << (j >> 1) * 4);
    b->qh[half * 32 + (i & 31)] |= (uint8_t)(v >> 4 << j * 2);
  }
  pgg_put_u16(b->d, f->d);
}

#define ENCODER(name, ...)                                                                \
  void pgg_encode_##name(const float *x, void *row, int64_t k, const float *importance) { \
    static const pgg_fit_shape shape = {__VA_ARGS__, NULL};                               \
    pgg_##name *b = row;                                                                  \
    memset(row, 0, (size_t)(k / FIT_LEN) * sizeof *b);                                    \
    for (int64_t i = 0; i < k; i += FIT_LEN) {                                            \
      pgg_fit fit;                                                                        \
      pgg_fit_block(&shape, x + i, importance ? importance + i : NULL, &fit);             \
      pack_##name(b++, &fit);                                                             \
    }                                                                                     \
  }
/*            sub   q         scale      min */
ENCODER(q2_k, 16, 0, 3, 0, 15, 15)
ENCODER(q3_k, 16, -4, 3, -32, 31, 0)
ENCODER(q4_k, 32, 0, 15, 0, 63, 63)
ENCODER(q5_k, 32, 0, 31, 0, 63, 63)
ENCODER(q6_k, 16, -32, 31, -128, 127, 0)
