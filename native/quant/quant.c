/* The traits table, made from quant_types.def. One text decodes and multiplies every block format through the three
 * accessors of blocks_*.h: y[i] = scale(sub) * q(i) - min(sub). Encoders are in encode_*.c, conversions in convert.c.
 */
#include "quant/quant.h"

#include <string.h>

#include "quant/blocks_basic.h"
#include "quant/blocks_fp4.h"
#include "quant/blocks_iq.h"
#include "quant/blocks_k.h"
#include "quant/encode.h"

#define QUANT(id, NAME, name, elems, bytes, sub, kind) LAYOUT_##kind(name, elems, bytes)
#define LAYOUT_BLOCK(name, elems, bytes)                                                        \
  _Static_assert(sizeof(pgg_##name) == (bytes), #name ": struct and quant_types.def disagree"); \
  _Static_assert(PGG_ACT_LEN % (elems) == 0, #name ": a block may not straddle two pgg_act");
#define LAYOUT_ACT(name, elems, bytes) LAYOUT_BLOCK(name, elems, bytes)
#define LAYOUT_FLOAT(name, elems, bytes)
#define LAYOUT_INT(name, elems, bytes)
#include "quant_types.def"
#undef QUANT

/* ---- one value each ------------------------------------------------------------------------------------ */

/* C type of a stored value and what it is worth; INT types and f32, f64 convert as the language does. */
static float half_of(uint16_t h) { return pgg_half_value(h); }
static float brain_of(uint16_t h) { return pgg_bf16_to_f32(h); }

#define PLAIN(name, type, value)                                              \
  static type read_##name(const void *row, int64_t i) {                       \
    type v;                                                                   \
    memcpy(&v, (const char *)row + i * (int64_t)sizeof v, sizeof v);          \
    return v;                                                                 \
  }                                                                           \
  static void decode_##name(const void *row, float *y, int64_t k) {           \
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

#define PLAIN_DOT(name, value)                                                                \
  static float dot_##name(const void *row, const void *act, int64_t k) {                      \
    const float *x = act;                                                                     \
    double acc = 0.0;                                                                         \
    for (int64_t i = 0; i < k; i++) acc += (double)value(read_##name(row, i)) * (double)x[i]; \
    return (float)acc;                                                                        \
  }
PLAIN_DOT(f32, )
PLAIN_DOT(f64, )
PLAIN_DOT(f16, half_of)
PLAIN_DOT(bf16, brain_of)

/* ---- blocks -------------------------------------------------------------------------------------------- */

#define DECODE(name, elems, sub)                                                    \
  static void decode_##name(const void *row, float *y, int64_t k) {                 \
    const pgg_##name *b = row;                                                      \
    for (int64_t at = 0; at < k; at += (elems), b++) {                              \
      for (int s = 0; s < (elems) / (sub); s++) {                                   \
        const float scale = pgg_##name##_scale(b, s), min = pgg_##name##_min(b, s); \
        for (int i = s * (sub); i < (s + 1) * (sub); i++) {                         \
          y[at + i] = scale * (float)pgg_##name##_q(b, i) - min;                    \
        }                                                                           \
      }                                                                             \
    }                                                                               \
  }

/* Sums per sub-block are exact in int32 (256 * 127 * 127 < 2^23); quant.h states the float order. */
#define DOT(name, elems, sub)                                                                        \
  static float dot_##name(const void *row, const void *act, int64_t k) {                             \
    const pgg_##name *b = row;                                                                       \
    float acc = 0.0f;                                                                                \
    for (int64_t at = 0; at < k; at += (elems), b++) {                                               \
      const pgg_act *a = (const pgg_act *)act + at / PGG_ACT_LEN;                                    \
      const int from = (int)(at % PGG_ACT_LEN);                                                      \
      const int8_t *x = a->q + from;                                                                 \
      const int16_t *sums = a->sums + from / 16;                                                     \
      for (int s = 0, spike = 0; s < (elems) / (sub); s++) {                                         \
        const float scale = pgg_##name##_scale(b, s), min = pgg_##name##_min(b, s);                  \
        int32_t isum = 0, asum = 0;                                                                  \
        for (int i = s * (sub); i < (s + 1) * (sub); i++) isum += pgg_##name##_q(b, i) * x[i];       \
        for (int i = s * (sub) / 16; i < (s + 1) * (sub) / 16; i++) asum += sums[i];                 \
        acc += a->d * (scale * (float)isum - min * (float)asum);                                     \
        const int begin = from + s * (sub), before = (spike = first_spike(a, spike, begin));         \
        for (isum = asum = 0; spike < a->n_spike && a->at[spike] < begin + (sub); spike++) {         \
          isum += pgg_##name##_q(b, a->at[spike] - from) * a->spike[spike], asum += a->spike[spike]; \
        }                                                                                            \
        if (spike > before) acc += a->spike_d * (scale * (float)isum - min * (float)asum);           \
      }                                                                                              \
    }                                                                                                \
    return acc;                                                                                      \
  }

/* The first spike from `spike` on that lies at begin or behind it. */
static int first_spike(const pgg_act *a, int spike, int begin) {
  while (spike < a->n_spike && a->at[spike] < begin) spike++;
  return spike;
}

#define QUANT(id, NAME, name, elems, bytes, sub, kind) CODE_##kind(name, elems, sub)
#define CODE_BLOCK(name, elems, sub) DECODE(name, elems, sub) DOT(name, elems, sub)
#define CODE_ACT(name, elems, sub) DECODE(name, elems, sub)
#define CODE_FLOAT(name, elems, sub)
#define CODE_INT(name, elems, sub)
#include "quant_types.def"
#undef QUANT

/* ---- table --------------------------------------------------------------------------------------------- */

#define HAS_DOT_BLOCK(name) dot_##name
#define HAS_DOT_FLOAT(name) dot_##name
#define HAS_DOT_INT(name) NULL
#define HAS_DOT_ACT(name) NULL

static const pgg_quant table[PGG_TYPE_LIMIT] = {
#define QUANT(id, NAME, name, elems, bytes, sub, kind)                              \
  [id] = {{id, #name, elems, bytes, sub, PGG_KIND_##kind, PGG_ENCODES(NAME, 1, 0)}, \
          decode_##name,                                                            \
          PGG_ENCODES(NAME, pgg_encode_##name, NULL),                               \
          PGG_ENCODES(NAME, PGG_ENCODE_TOP(ENCODES_##NAME 0), 0),                   \
          HAS_DOT_##kind(name)},
#include "quant_types.def"
#undef QUANT
};

const pgg_quant *pgg_quant_get(int type) {
  if (type < 0 || type >= PGG_TYPE_LIMIT || table[type].info.elems == 0) return NULL;
  return &table[type];
}
