/* Encoders of the grid types: encode_grid.c finds rows, signs and levels, this file packs them into the layouts of
 * blocks_iq.h. Without importance all values weigh the same. */
#include <string.h>

#include "quant/blocks_iq.h"
#include "quant/encode.h"
#include "quant/encode_grid.h"

static void put_u32(uint8_t *p, uint32_t v) {
  for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* Four times seven signs, and the level on top. */
static uint32_t signs_and_level(const pgg_grid_fit *f, int sub) {
  uint32_t v = (uint32_t)f->level[sub] << 28;
  for (int r = 0; r < 4; r++) v |= (uint32_t)(f->signs[sub * 4 + r] & 127) << 7 * r;
  return v;
}

static void put_levels(uint8_t *p, const pgg_grid_fit *f, int n) {
  for (int s = 0; s < n; s += 2) p[s / 2] = (uint8_t)(f->level[s] | f->level[s + 1] << 4);
}

static void pack_iq2_xxs(void *block, const pgg_grid_fit *f) {
  pgg_iq2_xxs *b = block;
  pgg_put_u16(b->d, f->d);
  for (int s = 0; s < 8; s++) {
    for (int r = 0; r < 4; r++) b->qs[8 * s + r] = (uint8_t)f->code[4 * s + r];
    put_u32(b->qs + 8 * s + 4, signs_and_level(f, s));
  }
}

static void pack_iq2_xs(void *block, const pgg_grid_fit *f) {
  pgg_iq2_xs *b = block;
  pgg_put_u16(b->d, f->d), put_levels(b->scales, f, 16);
  for (int r = 0; r < 32; r++) pgg_put_u16(b->qs + 2 * r, (uint16_t)(f->code[r] | (f->signs[r] & 127) << 9));
}

static void pack_iq2_s(void *block, const pgg_grid_fit *f) {
  pgg_iq2_s *b = block;
  memset(b->qh, 0, sizeof b->qh);
  pgg_put_u16(b->d, f->d), put_levels(b->scales, f, 16);
  for (int r = 0; r < 32; r++) {
    b->qs[r] = (uint8_t)f->code[r];
    b->qh[r >> 2] |= (uint8_t)(f->code[r] >> 8 << (r & 3) * 2);
    b->signs[r] = f->signs[r];
  }
}

static void pack_iq3_xxs(void *block, const pgg_grid_fit *f) {
  pgg_iq3_xxs *b = block;
  pgg_put_u16(b->d, f->d);
  for (int r = 0; r < 64; r++) b->qs[r] = (uint8_t)f->code[r];
  for (int s = 0; s < 8; s++) put_u32(b->signs + 4 * s, signs_and_level(f, s));
}

static void pack_iq3_s(void *block, const pgg_grid_fit *f) {
  pgg_iq3_s *b = block;
  memset(b->qh, 0, sizeof b->qh);
  pgg_put_u16(b->d, f->d), put_levels(b->scales, f, 8);
  for (int r = 0; r < 64; r++) {
    b->qs[r] = (uint8_t)f->code[r];
    b->qh[r >> 3] |= (uint8_t)(f->code[r] >> 8 << (r & 7));
  }
  memcpy(b->signs, f->signs, 32);
}

static void pack_iq1_s(void *block, const pgg_grid_fit *f) {
  pgg_iq1_s *b = block;
  pgg_put_u16(b->d, f->d);
  for (int s = 0; s < 8; s++) {
    int high = f->level[s] << 12 | (f->shift[4 * s] ? 0 : 1) << 15;
    for (int r = 0; r < 4; r++) {
      b->qs[4 * s + r] = (uint8_t)f->code[4 * s + r];
      high |= f->code[4 * s + r] >> 8 << 3 * r;
    }
    pgg_put_u16(b->qh + 2 * s, (uint16_t)high);
  }
}

static void pack_iq1_m(void *block, const pgg_grid_fit *f) {
  pgg_iq1_m *b = block;
  memset(b->qh, 0, sizeof b->qh);
  for (int r = 0; r < 32; r++) {
    b->qs[r] = (uint8_t)f->code[r];
    b->qh[r >> 1] |= (uint8_t)((f->code[r] >> 8 | (f->shift[r] ? 0 : 1) << 3) << (r & 1) * 4);
  }
  for (int part = 0; part < 4; part++) { /* four levels, and a nibble of d */
    int v = (f->d >> 4 * part & 15) << 12;
    for (int s = 0; s < 4; s++) v |= f->level[4 * part + s] << 3 * s;
    pgg_put_u16(b->scales + 2 * part, (uint16_t)v);
  }
}

#define IQ2_VALUES {8, 25, 43}
#define IQ3_VALUES {4, 12, 20, 28, 36, 44, 52, 62}
#define ENCODER(name, ...)                                                                \
  void pgg_encode_##name(const float *x, void *row, int64_t k, const float *importance) { \
    static const pgg_grid_shape shape = __VA_ARGS__;                                      \
    pgg_grid_row(&shape, x, k, importance, row, sizeof(pgg_##name), pack_##name);         \
  }
/*                grid           entries row values      sub levels unit parity  shift           top    small */
ENCODER(iq2_xxs, {pgg_iq2_xxs_grid, 256, 8, IQ2_VALUES, 32, 16, 8, true, PGG_SHIFT_NONE, 43.0f, 8.0f})
ENCODER(iq2_xs, {pgg_iq2_xs_grid, 512, 8, IQ2_VALUES, 16, 16, 8, true, PGG_SHIFT_NONE, 43.0f, 8.0f})
ENCODER(iq2_s, {pgg_iq2_s_grid, 1024, 8, IQ2_VALUES, 16, 16, 8, false, PGG_SHIFT_NONE, 43.0f, 8.0f})
ENCODER(iq3_xxs, {pgg_iq3_xxs_grid, 256, 4, IQ3_VALUES, 32, 16, 4, true, PGG_SHIFT_NONE, 62.0f, 8.0f})
ENCODER(iq3_s, {pgg_iq3_s_grid, 512, 4, {1, 3, 5, 7, 9, 11, 13, 15}, 32, 16, 1, false, PGG_SHIFT_NONE, 15.0f, 2.0f})
ENCODER(iq1_s, {pgg_iq1_grid, 2048, 8, {-8, 0, 8}, 32, 8, 8, false, PGG_SHIFT_SUB, 9.0f, 4.0f})
ENCODER(iq1_m, {pgg_iq1_grid, 2048, 8, {-8, 0, 8}, 16, 8, 8, false, PGG_SHIFT_UNIT, 9.0f, 4.0f})
