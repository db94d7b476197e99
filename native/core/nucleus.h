/* The token at which the probability of the better ones passes a mark, without sorting the row: what a nucleus of many
 * tokens ends with, and what a draw among many gives. Says so where rounding leaves it open; then sort (top_k.h). */
#ifndef PGG_NUCLEUS_H
#define PGG_NUCLEUS_H
#include "core/top_k.h"
#include "cpu/kernels.h"

typedef struct pgg_nucleus {
  pgg_grades how;
  double by;                       /* weight of a token: exp((logit - top) * by) */
  double bins[PGG_GRADE_BINS + 1]; /* the weight of each grade of logits, best first */
  double total, error;             /* of all grades; bound of the relative error of any sum of theirs */
} pgg_nucleus;

/* Weighs the tokens of f's row that are `least` or better and within `range` (> 0) of the best, which has logit top. */
void pgg_nucleus_weigh(pgg_nucleus *m, const pgg_top_k *f, float top, float least, double range, double by);
/* Place in f's list of the first token, by rank, with which the weight passes the mark: -1 if that cannot be told. The
 * list then holds the tokens of its grade in order, all its equals among them. */
int64_t pgg_nucleus_place(const pgg_nucleus *m, pgg_top_k *f, double mark);

#endif
