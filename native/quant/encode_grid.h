/* The search of the grid types: which row of the grid for each 8 (or 4) values, signs, levels and d. Inside quant/
 * only. */
#ifndef PGG_ENCODE_GRID_H
#define PGG_ENCODE_GRID_H
#include "quant/encode_fit.h"

enum { PGG_SHIFT_NONE, PGG_SHIFT_UNIT, PGG_SHIFT_SUB }; /* iq1: who shares the sign of the eighth */

/* y = d / unit * (2 * level + 1) * value, with a sign, or with value -1 or +1 where there is a shift. */
typedef struct pgg_grid_shape {
  const uint16_t *grid;
  int entries, row; /* row: values of an entry, 8 (2-bit codes) or 4 (4-bit codes) */
  int8_t value[16]; /* what a code is worth */
  int sub, levels;  /* values under one level; levels are 0 .. levels - 1 */
  int unit;
  bool parity; /* seven signs are stored: an even number must be negative */
  int shift;
  float top, small; /* the largest value, and one that is small but not the smallest */
} pgg_grid_shape;

typedef struct pgg_grid_fit {
  uint16_t d;        /* half */
  uint8_t level[16]; /* (256 / sub) */
  uint16_t code[64]; /* (256 / row) */
  uint8_t signs[32]; /* of each 8 values, bit set: negative */
  uint8_t shift[32]; /* of each 8 values, 1: + */
} pgg_grid_fit;

#endif
