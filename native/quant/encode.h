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

#define QUANT(id, NAME, name, elems, bytes, sub, kind) \
  void pgg_encode_##name(const float *x, void *row, int64_t k, const float *importance);
#include "quant_types.def"
#undef QUANT

#endif
