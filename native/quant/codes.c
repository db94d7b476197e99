/* The codes of block types: which integers q of the normal form y = scale * q - min occur, as the accessors of
 * blocks_*.h say. Nothing about a type is stated here; what may stand in a block is found by looking at blocks. */
#include "quant/blocks_basic.h"
#include "quant/blocks_fp4.h"
#include "quant/blocks_iq.h"
#include "quant/blocks_k.h"
#include "quant/quant.h"

/* Values looked at: a code is missed where fewer than one of some thousand blocks hold it. */
enum { LOOKED_AT = 1 << 16, CODES = 256, MOST_BYTES = 1 << 12 };

#define QUANT(id, NAME, name, elems, bytes, sub, kind) OF_##kind(name, elems, bytes)
#define OF_FLOAT(name, elems, bytes)
#define OF_INT(name, elems, bytes)
#define OF_ACT(name, elems, bytes) OF_BLOCK(name, elems, bytes)
#define OF_BLOCK(name, elems, bytes)                                                     \
  _Static_assert((bytes) <= MOST_BYTES, #name ": a larger block than codes.c looks at"); \
  static int code_##name(const void *block, int i) { return pgg_##name##_q(block, i); }
#include "quant_types.def"
#undef QUANT
#define CODE_FLOAT(name) NULL
#define CODE_INT(name) NULL
#define CODE_ACT(name) code_##name
#define CODE_BLOCK(name) code_##name

static int (*const code_of[PGG_TYPE_LIMIT])(const void *block, int i) = {
#define QUANT(id, NAME, name, elems, bytes, sub, kind) [id] = CODE_##kind(name),
#include "quant_types.def"
#undef QUANT
};

int pgg_type_codes(int type, int16_t *codes, int cap) {
  const pgg_quant *q = pgg_quant_get(type);
  uint8_t block[MOST_BYTES];
  bool seen[CODES] = {false}; /* of code + 128 */
  uint64_t random = 1;
  int count = 0;
  if (!q || !code_of[type]) return 0;
  for (int at = 0; at < LOOKED_AT; at += q->info.elems) {
    for (int j = 0; j < q->info.bytes; j++) { /* xorshift64* */
      random ^= random >> 12, random ^= random << 25, random ^= random >> 27;
      block[j] = (uint8_t)(random * 0x2545f4914f6cdd1du >> 56);
    }
    for (int i = 0; i < q->info.elems; i++) seen[code_of[type](block, i) + CODES / 2] = true;
  }
  for (int c = 0; c < CODES; c++) {
    if (!seen[c]) continue;
    if (codes && count < cap) codes[count] = (int16_t)(c - CODES / 2);
    count++;
  }
  return count;
}
