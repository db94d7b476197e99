/* The neon level: 4 floats; int8 through widening products. Over scalar; runs on every arm64 CPU. */
#include "cpu/detect.h"
#include "cpu/simd_neon.h"
#include "cpu/floats.inc"
#if __has_include("cpu/lanes_neon.h") /* products half: defines static void products_fill(pgg_kernels *) */
#include "cpu/lanes_neon.h"
#include "cpu/products.inc"
#define PRODUCTS_FILL(table) products_fill(table)
#else
#define PRODUCTS_FILL(table) ((void)(table))
#endif

void pgg_isa_neon(pgg_kernels *table) {
  floats_fill(table);
  PRODUCTS_FILL(table);
}
