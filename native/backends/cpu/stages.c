/* The stages of ops: each op to its kind, and before the first of a segment the tables of its ropes. */
#include "backends/cpu/cpu.h"

static const pgg_cpu_kind *kind_of(const pgg_run *run, int op) { return pgg_cpu_kind_of(run->plan->ops[op].op.kind); }

/* The opening op has one stage more, before its own. */
static bool opens(const pgg_run *run, int op) { return op == pgg_cpu_phase_of(run)->opening; }

pgg_share pgg_cpu_share(const pgg_run *run, int op, int stage) {
  if (opens(run, op) && stage-- == 0) {
    const int node = run->plan->ops[op].node;
    if (!pgg_cpu_segment_of(run)->n_rope) return PGG_SHARE_SKIP;
    return pgg_cpu_by_rows(run, node, run->plan->nodes[node].cols);
  }
  return kind_of(run, op)->share(run, op, stage);
}

void pgg_cpu_stage(const pgg_run *run, int op, int stage, int ith, int nth) {
  if (opens(run, op) && stage-- == 0)
    pgg_cpu_rope_tables(run, ith, nth);
  else
    kind_of(run, op)->stage(run, op, stage, ith, nth);
}

int pgg_cpu_chunks(const pgg_run *run, int op, int stage) {
  const pgg_cpu_op *notes = &pgg_cpu_segment_of(run)->ops[op];
  if (opens(run, op)) stage--;
  return run->plan->ops[op].op.kind == PGG_OP_MATMUL && stage == 0 ? notes->prepare : notes->chunks;
}

void pgg_cpu_columns(const pgg_run *run, int op, int stage, int c0, int c1, int n) {
  if (opens(run, op)) stage--;
  kind_of(run, op)->columns(run, op, stage, c0, c1, n);
}
