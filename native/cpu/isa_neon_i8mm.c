/* Extra of neon: products where the CPU has smmla (lanes_neon.h asks __ARM_FEATURE_MATMUL_INT8). */
#include "cpu/detect.h"
#include "cpu/lanes_neon.h"
#include "cpu/products.inc"

void pgg_isa_neon_i8mm(pgg_kernels *table) { products_fill(table); }
