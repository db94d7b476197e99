/* The vocabulary with one lane, in plain C: the reference, and what runs where no other level does.
 * The words, the same in every simd_*.h (n: lanes in [0, SIMD_LANES], memory behind them is not touched):
 *   vf vm                      floats, a mask            SIMD_LANES SIMD_REGS  width, vector registers
 *   load store load_n store_n  unaligned; load_n fills with zeros
 *   set1 ramp                  x in all lanes; x, x+1, x+2 ...
 *   add sub mul div            fma(a,b,c) a*b+c          fnma(a,b,c) c-a*b
 *   min max                    a NaN in b is returned    abs, round (half to even)
 *   scale2(x,n)                x * 2^n, n integral, |n| <= 300
 *   lt both select(m,a,b)      masks; a where m else b
 *   sum top                    of all lanes, in a fixed order
 *   load_f16 load_bf16 load_i8, store_f16 store_bf16 (nearest even), store_i8 (of integral values in range)
 *   f16_value(p)              one half from memory       load_nibbles(p,high)  0..15, of SIMD_LANES bytes each
 *   load_book(p,high,book)     book[nibble], 16 values    bits(b,x)  x in lanes whose bit of b is set, else 0
 *   unzip(a,b,&even,&odd) zip  lanes of the concatenation; transpose(r)  r[SIMD_LANES] in place
 * Words never raise, never allocate; fma is one rounding except here. */
#ifndef PGG_SIMD_H
#define PGG_SIMD_H
#include <math.h>
#include <string.h>

#include "quant/quant.h"

#define SIMD_LANES 1
#define SIMD_REGS 16

typedef float vf;
typedef int vm;

static inline vf vf_load(const float *p) { return *p; }
static inline void vf_store(float *p, vf a) { *p = a; }
static inline vf vf_load_n(const float *p, int n) { return n ? *p : 0.0f; }
static inline void vf_store_n(float *p, vf a, int n) {
  if (n) *p = a;
}
static inline vf vf_set1(float x) { return x; }
static inline vf vf_ramp(float x) { return x; }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
static inline vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf vf_fnma(vf a, vf b, vf c) { return c - a * b; }
static inline vf vf_min(vf a, vf b) { return a < b ? a : b; }
static inline vf vf_max(vf a, vf b) { return a > b ? a : b; }
static inline vf vf_abs(vf a) { return fabsf(a); }
static inline vf vf_round(vf a) { return rintf(a); }
static inline vf vf_scale2(vf a, vf n) { return ldexpf(a, (int)n); }
static inline vm vf_lt(vf a, vf b) { return a < b; }
static inline vm vm_both(vm a, vm b) { return a & b; }
static inline vf vf_select(vm m, vf a, vf b) { return m ? a : b; }
static inline float vf_sum(vf a) { return a; }
static inline float vf_top(vf a) { return a; }

static inline float f16_value(const void *p) {
  uint16_t h;
  memcpy(&h, p, 2);
  return pgg_f16_to_f32(h);
}
static inline vf vf_load_f16(const void *p) { return f16_value(p); }
static inline vf vf_load_bf16(const void *p) {
  uint16_t h;
  memcpy(&h, p, 2);
  return pgg_bf16_to_f32(h);
}
static inline vf vf_load_i8(const int8_t *p) { return (float)*p; }
static inline vf vf_load_nibbles(const uint8_t *p, int high) { return (float)(*p >> 4 * high & 15); }
static inline vf vf_load_book(const uint8_t *p, int high, const int8_t *book) { return book[*p >> 4 * high & 15]; }
static inline vf vf_bits(uint32_t bits, float x) { return bits & 1 ? x : 0.0f; }
static inline void vf_store_f16(void *p, vf a) {
  uint16_t h = pgg_f32_to_f16(a);
  memcpy(p, &h, 2);
}
static inline void vf_store_bf16(void *p, vf a) {
  uint16_t h = pgg_f32_to_bf16(a);
  memcpy(p, &h, 2);
}
static inline void vf_store_i8(int8_t *p, vf a) { *p = (int8_t)a; }

/* One lane of even and one of odd: the concatenation has two. */
static inline void vf_unzip(vf a, vf b, vf *even, vf *odd) { *even = a, *odd = b; }
static inline void vf_zip(vf even, vf odd, vf *a, vf *b) { *a = even, *b = odd; }
static inline void vf_transpose(vf r[1]) { (void)r; }

#endif
