/* Words over lanes_avx512.h for AVX512-BF16: products of pairs of bf16 (a lane holds two neighbours along k).
 * The instruction flushes subnormals, operands and sums, and rounds to nearest even whatever the mode. */
#ifndef PGG_LANES_BF16_H
#define PGG_LANES_BF16_H
#include "cpu/lanes_avx512.h"

/* assembly for the reason given in lanes_avx512.h */
#if defined(__GNUC__)
#define LF_TILE_PAIRS(acc, w, a) __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(w), "v"(a))
#else
#define LF_TILE_PAIRS(acc, w, a) ((acc) = _mm512_dpbf16_ps(acc, (__m512bh)(w), (__m512bh)(a)))
#endif
PGG_ALWAYS lf lf_pairs(lf acc, lb w, lb a) { return _mm512_dpbf16_ps(acc, (__m512bh)w, (__m512bh)a); }
/* 32 floats to nearest-even bf16, in order */
PGG_ALWAYS lb lb_narrow(const float *x) {
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
}

#endif
