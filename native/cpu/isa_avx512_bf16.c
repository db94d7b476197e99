/* What AVX512-BF16 adds to the avx512 level: products of bf16 pairs, twice the rate of f32, for BF16 weights and for
 * attention of many queries. */
#include "cpu/detect.h"
#include "cpu/simd_pairs_avx512.h"
#include "cpu/floats.inc"
#include "cpu/lanes_avx512_bf16.h"
#include "cpu/attention_bytes.inc"
#include "cpu/float_walk.inc"
#include "cpu/gemm_bf16.inc"

void pgg_isa_avx512_bf16(pgg_kernels *table) {
  floats_fill(table);
  bytes_fill(table);
  bf16_fill(table);
}
