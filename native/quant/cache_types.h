/* The types that a key/value cache may have: floats as they are, and blocks of 32 values, whose rows are kept turned
 * (docs/adr/0011). Who stores, reads or attends to them walks these lists; engine/cache_type.py has their names. */
#ifndef PGG_CACHE_TYPES_H
#define PGG_CACHE_TYPES_H

#define PGG_CACHE_FLOATS(X) X(F32) X(F16) X(BF16)
#define PGG_CACHE_BLOCKS(X) X(Q8_0) X(Q5_1) X(Q5_0) X(Q4_1) X(Q4_0) X(IQ4_NL)
#define PGG_CACHE_TYPES(X) PGG_CACHE_FLOATS(X) PGG_CACHE_BLOCKS(X)
#define PGG_CACHE_NAMES "f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 and iq4_nl"

#endif
