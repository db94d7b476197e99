/* What a sampler holds. sample.c chooses; wishes.c takes what is asked of it beside its settings. */
#ifndef PGG_SAMPLER_H
#define PGG_SAMPLER_H
#include "core/chain.h"
#include "core/dry.h"
#include "core/nucleus.h"
#include "core/order.h"
#include "core/top_k.h"

struct pgg_sampler {
  pgg_sampling how;
  int64_t n_vocab;
  uint64_t draws;
  pgg_top_k front;
  float *tops, *sums; /* of blocks of the row */
  double *weights;    /* (n_vocab) of the survivors, running sums; before that, scratch of sorting */
  pgg_nucleus mass;
  pgg_far *far;      /* of the chain */
  double mu;         /* of mirostat: the most surprise, in bits */
  float *bias;       /* (n_vocab), NULL: none */
  uint32_t *allowed; /* (n_vocab bits) NULL: not asked for yet */
  bool masked;       /* allowed counts */
  float *row;        /* (n_vocab) the logits after bias, mask and penalties */
  int32_t *counts;   /* (n_vocab) occurrences in the window */
  pgg_dry *dry;      /* NULL: off */
  pgg_steps *order;  /* NULL: the usual one */
  pgg_adapt *adapt;  /* NULL: off */
  int32_t *window;   /* ring of the last ids; grows when the window is everything */
  int64_t cap, used, head;
};

#endif
