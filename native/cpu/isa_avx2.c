/* The avx2 level: 8 floats; 32 int8 through maddubs. Over scalar. */
#include "cpu/detect.h"
#include "cpu/simd_avx2.h"
#include "cpu/floats.inc"
#include "cpu/lanes_avx2.h"
#include "cpu/lanes_grid_avx2.h"
#include "cpu/products.inc"

void pgg_isa_avx2(pgg_kernels *table) {
  pgg_encoders_avx2(table);
  floats_fill(table);
  l_grids_fill();
  products_fill(table);
}
