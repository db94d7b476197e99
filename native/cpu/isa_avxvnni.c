/* The avxvnni level: VEX vpdpbusd on 32 int8. Floats as in avx2. */
#include "cpu/detect.h"
#include "cpu/lanes_avxvnni.h"
#include "cpu/lanes_grid_avx2.h"
#include "cpu/products.inc"

void pgg_isa_avxvnni(pgg_kernels *table) {
  l_grids_fill();
  products_fill(table);
}
