/* What ops.def says about every op: its fields in order, and the checks that follow from one field alone. */
#ifndef PGG_OPS_H
#define PGG_OPS_H
#include "core/plan.h"

enum {
  PGG_MOST_COLS = 1 << 30,
  PGG_MOST_HEADS = 65536,
  PGG_MOST_HEAD_DIM = 65536,
  PGG_MOST_EXPERTS = 16384,
  PGG_MOST_GROUPS = 64,
  PGG_MOST_USED = 1024,
  PGG_MOST_TAPS = 16
};

/* Every field is there and in its range: nodes and weights of the plan, integers, finite floats. */
pgg_status pgg_op_judge_fields(const pgg_plan *plan, const pgg_op *op);

#endif
