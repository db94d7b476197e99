/* The cuts and the temperature that few ask for, in llama.cpp's order and meaning: of candidates in order of rank,
 * which they stay in. Probabilities are of those that are left, summed in double in that order. sample.c has the rest.
 */
#ifndef PGG_CHAIN_H
#define PGG_CHAIN_H
#include "core/top_k.h"
#include "pgg.h"

typedef struct pgg_far pgg_far;

typedef struct pgg_chain {
  pgg_candidate *list; /* the n that are left, best first */
  int64_t n;
  double *p;    /* (n) scratch */
  pgg_far *far; /* (n) scratch of typical_p; NULL where that is off */
} pgg_chain;

bool pgg_chain_on(const pgg_sampling *how); /* whether any of it is asked for; else nothing here is called */
pgg_far *pgg_chain_room(const pgg_sampling *how, int64_t n_vocab); /* for far, with free(); NULL without memory too */
bool pgg_chain_typical(const pgg_sampling *how);
/* The least logit that top_n_sigma keeps of a row: top less so many standard deviations of what is not forbidden. */
float pgg_chain_sigma(const float *row, int64_t n_vocab, float top, float n_sigma);
/* typical_p, top_p, min_p, xtc; chance (0 to 1): of this token's xtc. At least one is left. */
void pgg_chain_cut(pgg_chain *c, const pgg_sampling *how, double chance);
double pgg_chain_temperature(const pgg_chain *c, const pgg_sampling *how); /* by their entropy; may be 0 */
/* Of mirostat 1: to how many of the best a mu cuts n_vocab tokens, judged by the first n (up to PGG_MIROSTAT_M). */
enum { PGG_MIROSTAT_M = 100 };
int64_t pgg_chain_mirostat(const pgg_candidate *list, int64_t n, int64_t n_vocab, double by, double mu);

#endif
