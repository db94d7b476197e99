/* The key/value cache of one sequence: for each attention layer, keys and values of every KV head, contiguous by
 * head: (n_head_kv, n_ctx, dim) in the cache's type. */
#ifndef PGG_KV_H
#define PGG_KV_H
#include "core/plan.h"

typedef struct pgg_kv_span {
  char *k, *v;           /* of this layer */
  size_t k_row, v_row;   /* bytes of a position of one head */
  size_t k_head, v_head; /* bytes of a head */
} pgg_kv_span;

typedef struct pgg_kv {
  int type;
  int64_t n_ctx;
  pgg_kv_span *layers; /* (plan->n_kv) */
  char *base;
  size_t bytes;
} pgg_kv;

/* Bytes of the cache and, where spans is not NULL, each layer's offsets as pointers from base. PGG_ETYPE where a type
 * cannot hold the rows. */
pgg_status pgg_kv_measure(const pgg_plan *plan, int type, int64_t n_ctx, char *base, pgg_kv_span *spans, size_t *bytes);
pgg_status pgg_kv_make(const pgg_plan *plan, int type, int64_t n_ctx, pgg_kv *kv);
void pgg_kv_drop(pgg_kv *kv);

#endif
