/* DRY: tokens that would go on repeating a stretch of the text are less likely, the more the longer it is. As llama.cpp
 * computes it; a text is cut at breakers. Knows no logits. */
#ifndef PGG_DRY_H
#define PGG_DRY_H
#include "base/base.h"

typedef struct pgg_dry pgg_dry;

typedef struct pgg_dry_found {
  int32_t id;
  int32_t length; /* of the stretch that it would go on repeating */
} pgg_dry_found;

/* breakers: n of them, one after the other in ids, of lengths[i] ids each. NULL without memory. */
pgg_dry *pgg_dry_new(float multiplier, float base, int32_t allowed_length, int32_t last_n, const int32_t *ids,
                     const int32_t *lengths, int64_t n);
void pgg_dry_free(pgg_dry *d);
pgg_status pgg_dry_push(pgg_dry *d, int32_t id);
/* The tokens to penalise, each once; they lie in d until the next call. */
int64_t pgg_dry_find(pgg_dry *d, const pgg_dry_found **found);
float pgg_dry_penalty(const pgg_dry *d, int32_t length);

#endif
