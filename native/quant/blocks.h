/* What all block headers share: qualifiers, unaligned little-endian reads, and the small float formats that scales
 * are stored in. Plain inline text that compiles as C, C++, CUDA and OpenCL C; blocks_*.h hold the layouts.
 *
 *   PGG_FN      an inline function, on host and device
 *   PGG_GLOBAL  where weights lie (OpenCL address space)
 *   PGG_TABLE   a constant table
 */
#ifndef PGG_BLOCKS_H
#define PGG_BLOCKS_H

#if defined(__OPENCL_C_VERSION__)
typedef uchar uint8_t;
typedef char int8_t;
typedef ushort uint16_t;
typedef uint uint32_t;
typedef int int32_t;
#define PGG_FN static inline
#define PGG_GLOBAL __global
#define PGG_TABLE __constant
#else
#include <stdint.h>
#include <string.h>
#define PGG_GLOBAL
#if defined(__CUDACC__)
#define PGG_FN static __host__ __device__ inline
#define PGG_TABLE static __device__ const
#else
#define PGG_FN static inline
#define PGG_TABLE static const
#endif
#endif

PGG_FN float pgg_bits_f32(uint32_t bits) {
#if defined(__OPENCL_C_VERSION__)
  return as_float(bits);
#else
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
#endif
}

/* Blocks are byte arrays, so nothing asks for alignment; compilers turn these into one load. */
PGG_FN uint16_t pgg_read_u16(const PGG_GLOBAL uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
PGG_FN uint32_t pgg_read_u32(const PGG_GLOBAL uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* IEEE half. */
PGG_FN float pgg_half_value(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;
  if (exponent == 0) { /* zero and subnormals: mantissa units of 2^-24, exact */
    float f = (float)mantissa * 0x1p-24f;
    return sign ? -f : f;
  }
  if (exponent == 31) return pgg_bits_f32(sign | 0x7f800000u | mantissa << 13);
  return pgg_bits_f32(sign | (exponent + 112) << 23 | mantissa << 13);
}
PGG_FN float pgg_read_f16(const PGG_GLOBAL uint8_t *p) { return pgg_half_value(pgg_read_u16(p)); }

/* E8M0, half its value: 2^(e - 128). The tables that go with it hold doubled values. */
PGG_FN float pgg_e8m0_half(uint8_t e) { return pgg_bits_f32(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }

/* Unsigned E4M3 (bias 7), half its value; 0x7f is zero. The top bit is not read. */
PGG_FN float pgg_ue4m3_half(uint8_t x) {
  uint32_t exponent = x >> 3 & 15, mantissa = x & 7;
  if (x == 0x7f) return 0.0f;
  if (exponent == 0) return (float)mantissa * 0x1p-10f;
  return pgg_bits_f32((exponent + 119) << 23 | mantissa << 20);
}

#endif
