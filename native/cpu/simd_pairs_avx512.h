/* Words for pairs of 16-bit numbers in 32-bit lanes, beside simd_avx512.h: AVX-512 VNNI and BF16.
 *   vp                      a vector of pairs               vp_load vp_store vp_zero, vp_splat(p) one pair to all lanes
 *   vp_ints(a,b)            (int16 of a, int16 of b), both integral and in range; of NaN and infinity anything
 *   vp_brains(a,b)          (bf16 of a, bf16 of b), nearest even, subnormals to zero
 *   vp_row(a,b)             lanes of a, then of b, as bf16 in that order: pairs of neighbours
 *   VP_INTS_DOT(acc,x,y)    int32 acc += x.first * y.first + x.second * y.second       vf_ints(acc) as floats
 *   VP_BRAINS_DOT(acc,x,y)  the same, floats from bf16
 * The products are in assembly under GNU compilers: through intrinsics GCC 12 spills the accumulators of a tile. */
#ifndef PGG_SIMD_PAIRS_H
#define PGG_SIMD_PAIRS_H
#include "cpu/simd_avx512.h"

#define SIMD_PAIRS 1

typedef __m512i vp;

static inline vp vp_load(const void *p) { return _mm512_loadu_si512(p); }
static inline void vp_store(void *p, vp a) { _mm512_storeu_si512(p, a); }
static inline vp vp_zero(void) { return _mm512_setzero_si512(); }
static inline vp vp_splat(const void *p) {
  int pair;
  memcpy(&pair, p, 4);
  return _mm512_set1_epi32(pair);
}
static inline vp vp_ints(vf a, vf b) {
  const __m512i high = _mm512_slli_epi32(_mm512_cvtps_epi32(b), 16);
  return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_cvtps_epi32(a), high);
}
static inline vp vp_row(vf a, vf b) { return (__m512i)_mm512_cvtne2ps_pbh(b, a); }
static inline vp vp_brains(vf a, vf b) {
  const __m512i turn = _mm512_set_epi32(0x1f000f, 0x1e000e, 0x1d000d, 0x1c000c, 0x1b000b, 0x1a000a, 0x190009, 0x180008,
                                        0x170007, 0x160006, 0x150005, 0x140004, 0x130003, 0x120002, 0x110001, 0x100000);
  return _mm512_permutexvar_epi16(turn, vp_row(a, b));
}
static inline vf vf_ints(vp acc) { return _mm512_cvtepi32_ps(acc); }

#if defined(__GNUC__)
#define VP_INTS_DOT(acc, x, y) __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(y))
#define VP_BRAINS_DOT(acc, x, y) __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(x), "v"(y))
#else
#define VP_INTS_DOT(acc, x, y) ((acc) = _mm512_dpwssd_epi32(acc, x, y))
#define VP_BRAINS_DOT(acc, x, y) ((acc) = _mm512_dpbf16_ps(acc, (__m512bh)(x), (__m512bh)(y)))
#endif

#endif
