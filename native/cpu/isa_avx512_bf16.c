/* Extra of avx512: attention of many queries where the CPU multiplies pairs of bf16. */
#include "cpu/detect.h"
#include "cpu/simd_pairs_avx512.h"
#include "cpu/floats.inc"
#include "cpu/lanes_avx512.h"
#include "cpu/attention_bytes.inc"

void pgg_isa_avx512_bf16(pgg_kernels *table) {
  floats_fill(table);
  bytes_fill(table);
}
