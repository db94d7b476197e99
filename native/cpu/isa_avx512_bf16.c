/* What AVX512-BF16 adds to the avx512 level: products of bf16 pairs, twice the rate of f32. */
#include "cpu/detect.h"
#include "cpu/lanes_avx512_bf16.h"
#include "cpu/float_walk.inc"
#include "cpu/gemm_bf16.inc"

void pgg_isa_avx512_bf16(pgg_kernels *table) { bf16_fill(table); }
