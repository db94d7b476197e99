/* The scalar level: plain C, the reference every other level is held to. Fills every slot. */
#include "cpu/detect.h"
#include "cpu/simd_scalar.h"
#include "cpu/floats.inc"
#include "cpu/lanes_scalar.h"
#include "cpu/products.inc"

void pgg_isa_scalar(pgg_kernels *table) {
  floats_fill(table);
  products_fill(table);
}
