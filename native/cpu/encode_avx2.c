/* The encoders of quant/ compiled for avx2: the same text and the same bytes, wider vectors. No algorithm lives here.
 */
#define PGG_ENCODE_LEVEL avx2
#include "cpu/detect.h"
#include "quant/encode_all.inc"

void pgg_encoders_avx2(pgg_kernels *table) {
#define QUANT(id, NAME, name, elems, bytes, sub, kind) table->encode[id] = PGG_ENCODES(NAME, PGG_ENCODER(name), NULL);
#include "quant_types.def"
#undef QUANT
}
