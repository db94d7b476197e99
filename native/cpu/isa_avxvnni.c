/* The avxvnni level: VEX vpdpbusd on 32 int8. Floats as in avx2. */
#include "cpu/detect.h"
#if __has_include("cpu/lanes_avxvnni.h") /* products half: defines static void products_fill(pgg_kernels *) */
#include "cpu/lanes_avxvnni.h"
#include "cpu/products.inc"
#define PRODUCTS_FILL(table) products_fill(table)
#else
#define PRODUCTS_FILL(table) ((void)(table))
#endif

void pgg_isa_avxvnni(pgg_kernels *table) {
  PRODUCTS_FILL(table);
}
