/* The scalar level: plain C, the reference every other level is held to. Fills every slot. */
#include "cpu/detect.h"
#include "cpu/simd_scalar.h"
#include "cpu/floats.inc"
#if __has_include("cpu/lanes_scalar.h") /* products half: defines static void products_fill(pgg_kernels *) */
#include "cpu/lanes_scalar.h"
#include "cpu/products.inc"
#define PRODUCTS_FILL(table) products_fill(table)
#else
#define PRODUCTS_FILL(table) ((void)(table))
#endif

void pgg_isa_scalar(pgg_kernels *table) {
  floats_fill(table);
  PRODUCTS_FILL(table);
}
