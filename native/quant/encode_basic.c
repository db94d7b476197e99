/* Encoders of plain floats and of the 32-value types with one scale. K types are in encode_k.c. */
#include <string.h>

#include "quant/encode.h"

void pgg_encode_f32(const float *x, void *row, int64_t k, const float *importance) {
  (void)importance;
  memcpy(row, x, (size_t)k * sizeof *x);
}

void pgg_encode_f16(const float *x, void *row, int64_t k, const float *importance) {
  (void)importance;
  for (int64_t i = 0; i < k; i++) {
    uint16_t h = pgg_f32_to_f16(x[i]);
    memcpy((char *)row + 2 * i, &h, 2);
  }
}

void pgg_encode_bf16(const float *x, void *row, int64_t k, const float *importance) {
  (void)importance;
  for (int64_t i = 0; i < k; i++) {
    uint16_t h = pgg_f32_to_bf16(x[i]);
    memcpy((char *)row + 2 * i, &h, 2);
  }
}
