/* Sizes and memory of the key/value cache. Pages are committed when positions are written, so a long context costs
 * what is used of it. */
#include "core/kv.h"

#include <stdlib.h>

#include "base/memory.h"
#include "core/backend.h"
#include "quant/quant.h"

#define HUGE_HEAD ((size_t)4 << 20) /* heads up to this are worth huge pages; larger ones would commit too much */

static bool kv_type_ok(int type) {
  return type == PGG_F32 || type == PGG_F16 || type == PGG_BF16 || type == PGG_Q8_0 || type == PGG_Q4_0;
}

static pgg_status row_size(const pgg_kv_layer *layer, int type, const char *what, int64_t dim, size_t *bytes) {
  const pgg_type_info *info = pgg_type_get(type);
  if (dim % info->elems)
    return pgg_fail(PGG_ETYPE,
                    "layer %lld: %s rows of %lld values cannot be cached as %s, which needs multiples of %d; "
                    "use f16 or f32",
                    (long long)layer->layer, what, (long long)dim, info->name, info->elems);
  *bytes = pgg_row_bytes(type, dim);
  return PGG_OK;
}

pgg_status pgg_kv_measure(const pgg_plan *plan, int type, int64_t n_ctx, const pgg_mem *mem, pgg_kv_span *spans,
                          size_t *bytes) {
  if (!kv_type_ok(type)) {
    const pgg_type_info *info = pgg_type_get(type);
    return pgg_fail(PGG_ETYPE, "a key/value cache cannot be %s; f32, f16, bf16, q8_0 and q4_0 can",
                    info ? info->name : "of an unknown type");
  }
  for (int p = 0; p < PGG_MAX_PLACES; p++) bytes[p] = 0;
  for (int i = 0; i < plan->n_kv; i++) {
    const pgg_kv_layer *layer = &plan->kv[i];
    size_t at = bytes[layer->place];
    size_t row[2], head[2], all[2];
    pgg_status status;
    if ((status = row_size(layer, type, "key", layer->k_dim, &row[0])) ||
        (status = row_size(layer, type, "value", layer->v_dim, &row[1])))
      return status;
    size_t begin[2];
    for (int s = 0; s < 2; s++) {
      begin[s] = at;
      if (!pgg_mul_size(n_ctx, (int64_t)row[s], &head[s]) || head[s] > INT64_MAX / 4 ||
          !pgg_mul_size(layer->n_head_kv, (int64_t)pgg_align_up(head[s], PGG_ALIGN), &all[s]) ||
          all[s] > SIZE_MAX / 4 || at > SIZE_MAX / 4)
        return pgg_fail(PGG_ESHAPE, "a cache of %lld positions is larger than memory can be", (long long)n_ctx);
      head[s] = pgg_align_up(head[s], PGG_ALIGN);
      at += all[s];
    }
    if (spans) {
      char *base = mem[layer->place].p;
      pgg_kv_span span = {base + begin[0], base + begin[1], row[0], row[1], head[0], head[1]};
      spans[i] = span;
    }
    bytes[layer->place] = at;
  }
  return PGG_OK;
}

pgg_status pgg_kv_make(const pgg_plan *plan, int type, int64_t n_ctx, pgg_kv *kv) {
  size_t bytes[PGG_MAX_PLACES];
  pgg_status status = pgg_kv_measure(plan, type, n_ctx, NULL, NULL, bytes);
  *kv = (pgg_kv){.type = type, .n_ctx = n_ctx};
  if (status) return status;
  if (!plan->n_kv) return PGG_OK;
  if (!(kv->layers = malloc((size_t)plan->n_kv * sizeof *kv->layers)))
    return pgg_fail(PGG_ENOMEM, "no memory for the cache of %d layers", plan->n_kv);
  size_t heads[PGG_MAX_PLACES] = {0}; /* in the mean: models mix layers of different widths */
  for (int i = 0; i < plan->n_kv; i++) heads[plan->kv[i].place] += 2 * (size_t)plan->kv[i].n_head_kv;
  for (int p = 0; p < plan->n_place && !status; p++) {
    if (!bytes[p]) continue;
    const bool sparse = bytes[p] / heads[p] > HUGE_HEAD;
    status = plan->places[p].backend->alloc(plan->places[p].device, bytes[p], sparse, &kv->mem[p]);
    kv->bytes += bytes[p];
  }
  if (!status) return pgg_kv_measure(plan, type, n_ctx, kv->mem, kv->layers, bytes);
  pgg_kv_drop(plan, kv);
  if (status != PGG_ENOMEM) return status;
  return pgg_fail(PGG_ENOMEM, "the system refused %zu bytes for a key/value cache of %lld positions", kv->bytes,
                  (long long)n_ctx);
}

void pgg_kv_drop(const pgg_plan *plan, pgg_kv *kv) {
  for (int p = 0; p < plan->n_place; p++)
    if (kv->mem[p].p) plan->places[p].backend->drop(plan->places[p].device, &kv->mem[p]);
  free(kv->layers);
  kv->layers = NULL;
}

size_t pgg_plan_kv_bytes(const pgg_plan *plan, int kv_type, int64_t n_ctx) {
  size_t bytes[PGG_MAX_PLACES], all = 0;
  if (!plan || n_ctx < 0 || pgg_kv_measure(plan, kv_type, n_ctx, NULL, NULL, bytes)) return 0;
  for (int p = 0; p < PGG_MAX_PLACES; p++) all += bytes[p];
  return all;
}
