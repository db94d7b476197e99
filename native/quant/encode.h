/* Encoders: floats -> one row of blocks. Inside quant/ only; callers go through pgg_quant.encode.
 * An ENCODES_ line says that a type has one: pgg_encode_<name>, same arguments as pgg_quant.encode.
 * Inputs are finite where the caller keeps its promise; anything else still gives defined (useless) blocks. */
#ifndef PGG_ENCODE_H
#define PGG_ENCODE_H
#include "quant/quant.h"

#define ENCODES_F32 0,
#define ENCODES_F16 0,
#define ENCODES_BF16 0,
#define ENCODES_Q8_0 0,
#define ENCODES_Q5_1 0,
#define ENCODES_Q5_0 0,
#define ENCODES_Q4_1 0,
#define ENCODES_Q4_0 0,
#define ENCODES_Q6_K 0,
#define ENCODES_Q5_K 0,
#define ENCODES_Q4_K 0,
#define ENCODES_Q3_K 0,
#define ENCODES_Q2_K 0,
#define ENCODES_IQ4_NL 0,
#define ENCODES_IQ4_XS 0,
#define ENCODES_TQ1_0 0,
#define ENCODES_TQ2_0 0,
#define ENCODES_MXFP4 0,
#define ENCODES_NVFP4 0,
#define ENCODES_Q1_0 0,
#define ENCODES_Q2_0 0,
#define ENCODES_IQ2_XXS 0,
#define ENCODES_IQ2_XS 0,
#define ENCODES_IQ2_S 0,
#define ENCODES_IQ3_XXS 0,
#define ENCODES_IQ3_S 0,
#define ENCODES_IQ1_S 0,
#define ENCODES_IQ1_M 0,

#define PGG_ENCODE_PICK(none, picked, ...) picked
#define PGG_ENCODE_CALL(...) PGG_ENCODE_PICK(__VA_ARGS__)
/* have where ENCODES_<NAME> is defined (it shifts the list by one), else lack. */
#define PGG_ENCODES(NAME, have, lack) PGG_ENCODE_CALL(ENCODES_##NAME have, lack, lack)

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
