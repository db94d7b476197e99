/* The traits table, made from quant_types.def. One text decodes and multiplies every block format through the three
 * accessors of blocks_*.h: y[i] = scale(sub) * q(i) - min(sub). Encoders are in encode_*.c, conversions in convert.c.
 */
#include "quant/quant.h"

#include <string.h>

#include "quant/blocks.h"
#include "quant/encode.h"

/* ---- one value each ------------------------------------------------------------------------------------ */

/* C type of a stored value and what it is worth; INT types and f32, f64 convert as the language does. */
static float half_of(uint16_t h) { return pgg_half_value(h); }
static float brain_of(uint16_t h) { return pgg_bf16_to_f32(h); }

#define PLAIN(name, type, value)                                   \
  static type read_##name(const void *row, int64_t i) {            \
    type v;                                                        \
    memcpy(&v, (const char *)row + i * (int64_t)sizeof v, sizeof v); \
    return v;                                                      \
  }                                                                \
  static void decode_##name(const void *row, float *y, int64_t k) { \
    for (int64_t i = 0; i < k; i++) y[i] = (float)value(read_##name(row, i)); \
  }
PLAIN(f32, float, )
PLAIN(f64, double, )
PLAIN(f16, uint16_t, half_of)
PLAIN(bf16, uint16_t, brain_of)
PLAIN(i8, int8_t, )
PLAIN(i16, int16_t, )
PLAIN(i32, int32_t, )
PLAIN(i64, int64_t, )

#define PLAIN_DOT(name, value)                                                          \
  static float dot_##name(const void *row, const void *act, int64_t k) {                \
    const float *x = act;                                                               \
    double acc = 0.0;                                                                   \
    for (int64_t i = 0; i < k; i++) acc += (double)value(read_##name(row, i)) * (double)x[i]; \
    return (float)acc;                                                                  \
  }
PLAIN_DOT(f32, )
PLAIN_DOT(f64, )
PLAIN_DOT(f16, half_of)
PLAIN_DOT(bf16, brain_of)

/* ---- table --------------------------------------------------------------------------------------------- */

#define DOT_FLOAT(name) dot_##name
#define DOT_INT(name) NULL
#define DOT_BLOCK(name) NULL
#define DOT_ACT(name) NULL
#define DECODE_FLOAT(name) decode_##name
#define DECODE_INT(name) decode_##name
#define DECODE_BLOCK(name) NULL
#define DECODE_ACT(name) NULL

static const pgg_quant table[PGG_TYPE_LIMIT] = {
#define QUANT(id, NAME, name, elems, bytes, sub, kind)                                                             \
  [id] = {{id, #name, elems, bytes, sub, PGG_KIND_##kind, PGG_ENCODER(NAME, name) != NULL},                        \
          DECODE_##kind(name),                                                                                     \
          PGG_ENCODER(NAME, name),                                                                                 \
          DOT_##kind(name)},
#include "quant_types.def"
#undef QUANT
};

const pgg_quant *pgg_quant_get(int type) {
  if (type < 0 || type >= PGG_TYPE_LIMIT || table[type].info.elems == 0) return NULL;
  return &table[type];
}
