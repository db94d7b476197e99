/* The avx2 level: 8 floats; 32 int8 through maddubs. Over scalar. */
#include "cpu/detect.h"
#include "cpu/simd_avx2.h"
#include "cpu/floats.inc"
#if __has_include("cpu/lanes_avx2.h") /* products half: defines static void products_fill(pgg_kernels *) */
#include "cpu/lanes_avx2.h"
#include "cpu/products.inc"
#define PRODUCTS_FILL(table) products_fill(table)
#else
#define PRODUCTS_FILL(table) ((void)(table))
#endif

void pgg_isa_avx2(pgg_kernels *table) {
  floats_fill(table);
  PRODUCTS_FILL(table);
}
