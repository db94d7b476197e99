/* Extra of neon: products where the CPU has sdot (lanes_neon.h asks __ARM_FEATURE_DOTPROD). */
#include "cpu/detect.h"
#if __has_include("cpu/lanes_neon.h") /* products half: defines static void products_fill(pgg_kernels *) */
#include "cpu/lanes_neon.h"
#include "cpu/products.inc"
#define PRODUCTS_FILL(table) products_fill(table)
#else
#define PRODUCTS_FILL(table) ((void)(table))
#endif

void pgg_isa_neon_dotprod(pgg_kernels *table) {
  PRODUCTS_FILL(table);
}
