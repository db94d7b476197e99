/* The neon level: 4 floats; int8 through widening products. Over scalar; runs on every arm64 CPU. */
#include "cpu/detect.h"
#include "cpu/simd_neon.h"
#include "cpu/floats.inc"
#include "cpu/lanes_neon.h"
#include "cpu/products.inc"

void pgg_isa_neon(pgg_kernels *table) {
  floats_fill(table);
  products_fill(table);
}
