/* The matmul op: prepare the activations (once for all products that read a node), pack them where the kernels want
 * panels, multiply. */
#include "backends/cpu/cpu.h"
#include "base/threads.h"

enum { PREPARE, PACK, MULTIPLY, DONE };

/* So few activations that each thread prepares them for itself. */
static bool own_acts(const pgg_run *run, int op) {
  const pgg_plan *plan = run->plan;
  const pgg_cpu_plan *notes = pgg_cpu_plan_of(run);
  const int src = plan->ops[op].op.src[0], by = notes->ops[op].prepared_by;
  if (run->nth == 1 || pgg_run_rows(run, src) * plan->nodes[src].cols > PGG_CPU_EACH) return false;
  return pgg_cpu_cut(run, notes->ops[by].prepare, true) == PGG_SHARE_SKIP;
}

static char *acts_of(const pgg_run *run, int op) {
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  if (own_acts(run, op)) return scratch->base + scratch->own_acts + (size_t)run->ith * scratch->own_acts_bytes;
  return scratch->base + scratch->acts_slot[pgg_cpu_plan_of(run)->ops[op].acts_slot];
}

static pgg_cpu_product product_of(const pgg_run *run, int op) {
  const pgg_plan *plan = run->plan;
  const pgg_plan_op_rec *rec = &plan->ops[op];
  const pgg_weight *w = &plan->weights[rec->op.weight[0]];
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  const int src = rec->op.src[0];
  pgg_cpu_product job = {.kernels = scratch->kernels,
                         .type = w->type,
                         .w = w->data,
                         .row_bytes = w->row_bytes,
                         .m = w->rows,
                         .n = pgg_run_rows(run, src),
                         .k = w->cols,
                         .y = pgg_run_data(run, rec->node),
                         .y_stride = pgg_run_stride(run, rec->node),
                         .bias = rec->op.weight[1] >= 0 ? plan->weights[rec->op.weight[1]].vec : NULL,
                         .tail = &scratch->tails[op]};
  if (pgg_cpu_takes_blocks(w->type)) {
    job.acts = acts_of(run, op);
    job.act_stride = pgg_cpu_act_stride(w->type, w->cols);
  } else { /* the node's own rows: aligned by layout.c */
    job.acts = pgg_run_data(run, src);
    job.act_stride = (size_t)pgg_run_stride(run, src) * sizeof(float);
  }
  if (pgg_cpu_panel_bytes(job.kernels, job.type, job.n, job.k)) job.panels = scratch->base + scratch->panels;
  return job;
}

pgg_share pgg_cpu_matmul_share(const pgg_run *run, int op, int stage) {
  const pgg_plan *plan = run->plan;
  const pgg_cpu_op *mine = &pgg_cpu_plan_of(run)->ops[op];
  const pgg_weight *w = &plan->weights[plan->ops[op].op.weight[0]];
  const int src = plan->ops[op].op.src[0];
  pgg_share share;
  switch (stage) {
    case PREPARE:
      if (mine->acts_there || !pgg_cpu_takes_blocks(w->type)) return PGG_SHARE_SKIP;
      share = pgg_cpu_cut(run, mine->prepare, true);
      if (share != PGG_SHARE_SKIP) return share;
      return own_acts(run, op) ? PGG_SHARE_EACH : pgg_cpu_by_rows(run, src, w->cols);
    case PACK:
      if (mine->panels_there ||
          !pgg_cpu_panel_bytes(pgg_cpu_scratch_of(run)->kernels, w->type, pgg_run_rows(run, src), w->cols))
        return PGG_SHARE_SKIP;
      return PGG_SHARE_FENCED;
    case MULTIPLY:
      share = pgg_cpu_cut(run, mine->chunks, mine->along);
      return share == PGG_SHARE_SKIP ? PGG_SHARE_ANY : share;
    default: return PGG_SHARE_END;
  }
}

/* Columns [begin, end) of rows [t0, t1) of the source, in blocks where end is not the last. */
static void prepare(const pgg_run *run, int op, int64_t t0, int64_t t1, int64_t begin, int64_t end) {
  const pgg_cpu_product job = product_of(run, op);
  const int src = run->plan->ops[op].op.src[0];
  const float *x = pgg_run_data(run, src);
  char *acts = acts_of(run, op);
  for (int64_t t = t0; t < t1; t++) {
    pgg_act *act = (pgg_act *)(void *)(acts + (size_t)t * job.act_stride);
    job.kernels->act_encode(x + t * pgg_run_stride(run, src) + begin, act + begin / PGG_ACT_LEN, end - begin);
  }
}

static void *scratch_of(const pgg_run *run) {
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  return scratch->base + scratch->threads + (size_t)run->ith * scratch->thread_bytes;
}

void pgg_cpu_matmul(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_cpu_product job = product_of(run, op);
  if (stage == PACK) {
    pgg_cpu_pack(&job, ith, nth);
  } else if (stage == MULTIPLY) {
    pgg_cpu_multiply(&job, scratch_of(run), ith, nth);
  } else {
    int64_t t0, t1;
    pgg_team_range(job.n, 1, ith, nth, &t0, &t1);
    prepare(run, op, t0, t1, 0, job.k);
  }
}

void pgg_cpu_matmul_columns(const pgg_run *run, int op, int stage, int c0, int c1, int n) {
  const pgg_cpu_product job = product_of(run, op);
  if (stage == PREPARE)
    prepare(run, op, 0, job.n, c0 * (job.k / n), c1 * (job.k / n));
  else
    pgg_cpu_multiply_rows(&job, scratch_of(run), c0 * (job.m / n), c1 * (job.m / n));
}
