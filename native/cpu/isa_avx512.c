/* The avx512 level: 16 floats; 64 int8 through EVEX vpdpbusd. Over avx2. */
#include "cpu/detect.h"
#include "cpu/simd_avx512.h"
#include "cpu/floats.inc"
#if __has_include("cpu/lanes_avx512.h") /* products half: defines static void products_fill(pgg_kernels *) */
#include "cpu/lanes_avx512.h"
#include "cpu/products.inc"
#define PRODUCTS_FILL(table) products_fill(table)
#else
#define PRODUCTS_FILL(table) ((void)(table))
#endif

void pgg_isa_avx512(pgg_kernels *table) {
  floats_fill(table);
  PRODUCTS_FILL(table);
}
