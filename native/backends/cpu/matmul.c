/* The matmul op: prepare the activations (once for all products that read a node), pack them where the kernels want
 * panels, multiply. */
#include "backends/cpu/cpu.h"
#include "base/threads.h"

enum { PREPARE, PACK, MULTIPLY, DONE };

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
    job.acts = scratch->base + scratch->acts;
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
  switch (stage) {
    case PREPARE:
      if (mine->acts_there || !pgg_cpu_takes_blocks(w->type)) return PGG_SHARE_SKIP;
      return pgg_cpu_by_rows(run, src, w->cols);
    case PACK:
      if (mine->panels_there ||
          !pgg_cpu_panel_bytes(pgg_cpu_scratch_of(run)->kernels, w->type, pgg_run_rows(run, src), w->cols))
        return PGG_SHARE_SKIP;
      return PGG_SHARE_FENCED;
    case MULTIPLY: return PGG_SHARE_ANY;
    default: return PGG_SHARE_END;
  }
}

void pgg_cpu_matmul(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  const pgg_cpu_product job = product_of(run, op);
  if (stage == PACK) {
    pgg_cpu_pack(&job, ith, nth);
  } else if (stage == MULTIPLY) {
    pgg_cpu_multiply(&job, scratch->base + scratch->threads + (size_t)ith * scratch->thread_bytes, ith, nth);
  } else {
    const int src = run->plan->ops[op].op.src[0];
    const float *x = pgg_run_data(run, src);
    char *acts = scratch->base + scratch->acts;
    int64_t t0, t1;
    pgg_team_range(job.n, 1, ith, nth, &t0, &t1);
    for (int64_t t = t0; t < t1; t++)
      job.kernels->act_encode(x + t * pgg_run_stride(run, src), (pgg_act *)(void *)(acts + (size_t)t * job.act_stride),
                              job.k);
  }
}
