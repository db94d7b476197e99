/* Encoders: floats -> one row of blocks. Inside quant/ only; callers go through pgg_quant.encode.
 * An ENCODES_ line says that a type has one: pgg_encode_<name>, same arguments as pgg_quant.encode, and the largest
 * magnitude that it holds whatever stands beside it. Beyond it the best scale may lie outside of a half's range, so
 * callers refuse.
 * Inputs are finite where the caller keeps its promise; anything else still gives defined (useless) blocks. */
#ifndef PGG_ENCODE_H
#define PGG_ENCODE_H
#include <float.h>

#include "quant/quant.h"

#define PGG_HALF_TOP 65504.0f

#define ENCODES_F32 FLT_MAX,
#define ENCODES_F16 PGG_HALF_TOP,
#define ENCODES_BF16 0x1.fep127f,
#define ENCODES_Q8_0 127 * PGG_HALF_TOP,
#define ENCODES_Q5_1 PGG_HALF_TOP,
#define ENCODES_Q5_0 15 * PGG_HALF_TOP,
#define ENCODES_Q4_1 PGG_HALF_TOP,
#define ENCODES_Q4_0 7 * PGG_HALF_TOP,
#define ENCODES_Q6_K 127 * 31 * PGG_HALF_TOP,
#define ENCODES_Q5_K 60 * PGG_HALF_TOP,
#define ENCODES_Q4_K 60 * PGG_HALF_TOP,
#define ENCODES_Q3_K 31 * PGG_HALF_TOP,
#define ENCODES_Q2_K 15 * PGG_HALF_TOP,
#define ENCODES_IQ4_NL 49 * PGG_HALF_TOP,
#define ENCODES_IQ4_XS 31 * 49 * PGG_HALF_TOP,
#define ENCODES_TQ1_0 PGG_HALF_TOP,
#define ENCODES_TQ2_0 PGG_HALF_TOP,
#define ENCODES_MXFP4 0x1.8p127f,
#define ENCODES_NVFP4 448 * 6.0f,
#define ENCODES_Q1_0 PGG_HALF_TOP,
#define ENCODES_Q2_0 PGG_HALF_TOP,
#define ENCODES_IQ2_XXS 31 * PGG_HALF_TOP,
#define ENCODES_IQ2_XS 31 * PGG_HALF_TOP,
#define ENCODES_IQ2_S 31 * PGG_HALF_TOP,
#define ENCODES_IQ3_XXS 31 * PGG_HALF_TOP,
#define ENCODES_IQ3_S 31 * PGG_HALF_TOP,
#define ENCODES_IQ1_S 15 * 0.875f * PGG_HALF_TOP,
#define ENCODES_IQ1_M 15 * 0.875f * PGG_HALF_TOP,

#define PGG_ENCODE_PICK(none, picked, ...) picked
#define PGG_ENCODE_CALL(...) PGG_ENCODE_PICK(__VA_ARGS__)
/* have where ENCODES_<NAME> is defined (it shifts the list by one), else lack. */
#define PGG_ENCODES(NAME, have, lack) PGG_ENCODE_CALL(ENCODES_##NAME have, lack, lack)
#define PGG_ENCODE_FIRST(first, ...) first
#define PGG_ENCODE_TOP(...) PGG_ENCODE_FIRST(__VA_ARGS__)

/* The encoders are compiled once for every CPU level: encode.c is the portable one, cpu/encode_<level>.c define
 * PGG_ENCODE_LEVEL. The text is the same and so are the bytes: nothing is contracted or reordered. */
#ifdef PGG_ENCODE_LEVEL
#define PGG_ENCODE_JOIN_(name, level) pgg_encode_##name##_##level
#define PGG_ENCODE_JOIN(name, level) PGG_ENCODE_JOIN_(name, level)
#define PGG_ENCODER(name) PGG_ENCODE_JOIN(name, PGG_ENCODE_LEVEL)
#else
#define PGG_ENCODER(name) pgg_encode_##name
#endif

#define QUANT(id, NAME, name, elems, bytes, sub, kind) \
  void PGG_ENCODER(name)(const float *x, void *row, int64_t k, const float *importance);
#include "quant_types.def"
#undef QUANT

#endif
