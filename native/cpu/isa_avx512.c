/* The avx512 level: 16 floats; 64 int8 through EVEX vpdpbusd. Over avx2. */
#include "cpu/detect.h"
#include "cpu/simd_avx512.h"
#include "cpu/floats.inc"
#include "cpu/lanes_avx512.h"
#include "cpu/products.inc"
#include "cpu/attention_bytes.inc"

void pgg_isa_avx512(pgg_kernels *table) {
  pgg_encoders_avx512(table);
  floats_fill(table);
  products_fill(table);
  bytes_fill(table);
}
