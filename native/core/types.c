/* The type table as pgg.h shows it; every fact comes from quant_types.def through quant/. */
#include "quant/quant.h"

static const int ids[] = {
#define QUANT(id, NAME, name, elems, bytes, sub, kind) id,
#include "quant/quant_types.def"
#undef QUANT
};

int pgg_type_count(void) { return (int)(sizeof ids / sizeof ids[0]); }

const pgg_type_info *pgg_type_get(int id) {
  const pgg_quant *quant = pgg_quant_get(id);
  return quant ? &quant->info : NULL;
}

const pgg_type_info *pgg_type_at(int index) {
  return index >= 0 && index < pgg_type_count() ? pgg_type_get(ids[index]) : NULL;
}

size_t pgg_row_bytes(int type, int64_t k) {
  const pgg_type_info *info = pgg_type_get(type);
  size_t bytes;
  if (!info || k < 0 || k % info->elems || !pgg_mul_size(k / info->elems, info->bytes, &bytes)) return 0;
  return bytes;
}
