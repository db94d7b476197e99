/* The best tokens of a row of logits, in order, without touching most of the row twice. Equal logits rank by lower id.
 * Knows nothing of probabilities: the chain is in sample.c. */
#ifndef PGG_TOP_K_H
#define PGG_TOP_K_H
#include "base/base.h"

typedef struct pgg_candidate {
  float logit;
  int32_t id;
} pgg_candidate;

typedef struct pgg_top_k {
  const float *row, *tops; /* (n_vocab), and the largest of each block (pgg_kernels.tops) */
  int64_t n_vocab;
  float *room;          /* (blocks of tops) scratch */
  pgg_candidate *list;  /* room for n_vocab; the best n of the row, the first `sorted` of them in order */
  pgg_candidate *spare; /* (n_vocab) scratch of sorting */
  int64_t n, sorted;
  bool whole; /* the list holds all that can be chosen: every logit above -infinity */
} pgg_top_k;

int64_t pgg_top_k_best(const pgg_top_k *f); /* id of the largest logit, -1 if all are -infinity */
/* At least the k best in the list, unsorted and in the order of ids; all there are if fewer. */
void pgg_top_k_gather(pgg_top_k *f, int64_t k);
/* All logits >= least, and not -infinity; stops at more than `most`. */
void pgg_top_k_above(pgg_top_k *f, float least, int64_t most);
void pgg_top_k_sort(pgg_top_k *f, int64_t k); /* the k best in order; gathers more where needed */

#endif
