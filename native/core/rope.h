/* How fast a rope turns: what the op's numbers mean, for backends and for moving keys. */
#ifndef PGG_CORE_ROPE_H
#define PGG_CORE_ROPE_H
#include "core/plan.h"

const float *pgg_rope_factors(const pgg_plan *plan, const pgg_op *op); /* (n_rot / 2), or NULL */
double *pgg_rope_speeds(const pgg_op *op, const float *factors); /* (n_rot / 2) radians a position; NULL: no memory */

#endif
