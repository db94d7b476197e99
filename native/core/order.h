/* The chain in an order of the caller's, and adaptive-p: over the list of all candidates, whose logits each step may
 * change. Slower than sample.c's own ways, which know what comes next. */
#ifndef PGG_ORDER_H
#define PGG_ORDER_H
#include "core/chain.h"
#include "core/dry.h"

typedef struct pgg_adapt {
  double target, decay; /* of adaptive-p */
  double sum, weight;   /* of the probabilities of what was chosen, older ones less */
  double *p;            /* (n_vocab) before they are changed */
} pgg_adapt;

typedef struct pgg_steps {
  int32_t steps[PGG_STEPS];
  int n;
} pgg_steps;

pgg_status pgg_order_read(pgg_steps *order, const int32_t *steps, int n);
/* One step that is a cut or the temperature, of a list that is in order and stays so. */
void pgg_order_cut(pgg_chain *c, const pgg_sampling *how, int step, double chance);
/* In order again, where logits were changed. */
void pgg_order_sort(pgg_chain *c);
/* Logits by how near probabilities are to the target. */
void pgg_adapt_turn(pgg_adapt *a, pgg_chain *c);
void pgg_adapt_took(pgg_adapt *a, int64_t at);

#endif
