/* Extra of neon: products where the CPU has sdot (lanes_neon.h asks __ARM_FEATURE_DOTPROD). */
#include "cpu/detect.h"
#include "cpu/lanes_neon.h"
#include "cpu/products.inc"

void pgg_isa_neon_dotprod(pgg_kernels *table) { products_fill(table); }
