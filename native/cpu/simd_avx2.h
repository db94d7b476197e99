#ifndef PGG_SIMD_H
#define PGG_SIMD_H
#define SIMD_LANES 8
#endif
