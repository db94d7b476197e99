/* The encoders for any CPU of the architecture; quant.c has their table. cpu/encode_*.c compile them for wider vectors.
 */
#include "quant/encode_all.inc"
