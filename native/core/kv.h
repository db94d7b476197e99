/* The key/value cache of one sequence: for each attention layer, keys and values of every KV head, contiguous by
 * head: (n_head_kv, n_ctx, dim) in the cache's type. */
#ifndef PGG_KV_H
#define PGG_KV_H
#include "core/plan.h"

typedef struct pgg_kv_span {
  char *k, *v;           /* of this layer, in the memory of its device */
  size_t k_row, v_row;   /* bytes of a position of one head */
  size_t k_head, v_head; /* bytes of a head */
} pgg_kv_span;

typedef struct pgg_kv {
  int type;
  int64_t n_ctx;
  pgg_kv_span *layers;         /* (plan->n_kv) */
  pgg_mem mem[PGG_MAX_PLACES]; /* of the layers that each device attends to */
  size_t bytes;
} pgg_kv;

/* Bytes of the cache in each place and, where spans is not NULL, where each layer lies in memory that begins at mem.
 * PGG_ETYPE where a type cannot hold the rows. */
pgg_status pgg_kv_measure(const pgg_plan *plan, int type, int64_t n_ctx, const pgg_mem *mem, pgg_kv_span *spans,
                          size_t *bytes);
pgg_status pgg_kv_make(const pgg_plan *plan, int type, int64_t n_ctx, pgg_kv *kv);
void pgg_kv_drop(const pgg_plan *plan, pgg_kv *kv);

#endif
