/* The matmul op: prepare the activations (once for all products that read a node), pack them where the kernels want
 * panels, multiply. */
#include "backends/cpu/cpu.h"
#include "base/threads.h"

enum { PREPARE, PACK, MULTIPLY, DONE };

/* So few activations that each thread prepares them for itself. */
static bool own_acts(const pgg_run *run, int op) {
  const pgg_plan *plan = run->plan;
  const pgg_cpu_segment *notes = pgg_cpu_segment_of(run);
  const int src = PGG_SRC(&plan->ops[op].op, matmul, x), by = notes->ops[op].prepared_by;
  if (run->nth == 1 || pgg_run_rows(run, src) * plan->nodes[src].cols > PGG_CPU_EACH) return false;
  return pgg_cpu_cut(run, notes->ops[by].prepare, true) == PGG_SHARE_SKIP;
}

static char *acts_of(const pgg_run *run, int op) {
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  if (own_acts(run, op)) return scratch->base + scratch->own_acts + (size_t)run->ith * scratch->own_acts_bytes;
  return scratch->base + scratch->acts_slot[pgg_cpu_segment_of(run)->ops[op].acts_slot];
}

static pgg_cpu_product product_of(const pgg_run *run, int op) {
  const pgg_plan *plan = run->plan;
  const pgg_plan_op_rec *rec = &plan->ops[op];
  const pgg_weight *w = &plan->weights[PGG_WEIGHT(&rec->op, matmul, w)];
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  const int src = PGG_SRC(&rec->op, matmul, x);
  pgg_cpu_product job = {.kernels = scratch->kernels,
                         .type = w->type,
                         .w = w->data,
                         .row_bytes = w->row_bytes,
                         .m = w->rows,
                         .n = pgg_run_rows(run, src),
                         .k = w->cols,
                         .decode = run->decode,
                         .y = pgg_run_data(run, rec->node),
                         .y_stride = pgg_run_stride(run, rec->node),
                         .bias = pgg_plan_vec(plan, PGG_WEIGHT(&rec->op, matmul, bias)),
                         .tail = &scratch->tails[op]};
  if (pgg_cpu_takes_blocks(w->type)) {
    job.acts = acts_of(run, op);
    job.act_stride = pgg_cpu_act_stride(w->type, w->cols);
  } else { /* the node's own rows: aligned by layout.c */
    job.acts = pgg_run_data(run, src);
    job.act_stride = (size_t)pgg_run_stride(run, src) * sizeof(float);
  }
  if (pgg_cpu_panel_bytes(job.kernels, job.type, job.n, job.k, job.decode))
    job.panels = scratch->base + scratch->panels;
  return job;
}

static pgg_share share(const pgg_run *run, int op, int stage) {
  const pgg_plan *plan = run->plan;
  const pgg_cpu_op *mine = &pgg_cpu_segment_of(run)->ops[op];
  const pgg_weight *w = &plan->weights[PGG_WEIGHT(&plan->ops[op].op, matmul, w)];
  const int src = PGG_SRC(&plan->ops[op].op, matmul, x);
  pgg_share cut;
  switch (stage) {
    case PREPARE:
      if (mine->acts_there || !pgg_cpu_takes_blocks(w->type)) return PGG_SHARE_SKIP;
      cut = pgg_cpu_cut(run, mine->prepare, true);
      if (cut != PGG_SHARE_SKIP) return cut;
      return own_acts(run, op) ? PGG_SHARE_EACH : pgg_cpu_by_rows(run, src, w->cols);
    case PACK:
      if (mine->panels_there ||
          !pgg_cpu_panel_bytes(pgg_cpu_scratch_of(run)->kernels, w->type, pgg_run_rows(run, src), w->cols, run->decode))
        return PGG_SHARE_SKIP;
      return PGG_SHARE_FENCED;
    case MULTIPLY:
      cut = pgg_cpu_cut(run, mine->chunks, mine->along);
      return cut == PGG_SHARE_SKIP ? PGG_SHARE_ANY : cut;
    default: return PGG_SHARE_END;
  }
}

/* Columns [begin, end) of rows [t0, t1) of the source, in blocks where end is not the last. */
static void prepare(const pgg_run *run, int op, int64_t t0, int64_t t1, int64_t begin, int64_t end) {
  const pgg_cpu_product job = product_of(run, op);
  const int src = PGG_SRC(&run->plan->ops[op].op, matmul, x);
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

static void stage_of(const pgg_run *run, int op, int stage, int ith, int nth) {
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

static void columns(const pgg_run *run, int op, int stage, int c0, int c1, int n) {
  const pgg_cpu_product job = product_of(run, op);
  if (stage == PREPARE)
    prepare(run, op, 0, job.n, c0 * (job.k / n), c1 * (job.k / n));
  else
    pgg_cpu_multiply_rows(&job, scratch_of(run), c0 * (job.m / n), c1 * (job.m / n));
}

static pgg_status judge(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels) {
  const pgg_weight *w = &plan->weights[PGG_WEIGHT(op, matmul, w)];
  return pgg_cpu_judge_weight(op, w, kernels, "product", kernels->gemv[w->type] != NULL);
}

static void scratch(const pgg_segment *segment, int op, const pgg_kernels *kernels, pgg_cpu_needs *needs) {
  const pgg_plan *plan = segment->plan;
  const pgg_cpu_segment *notes = segment->compiled;
  const pgg_weight *w = &plan->weights[PGG_WEIGHT(&plan->ops[op].op, matmul, w)];
  const int64_t n = plan->limits.n_batch;
  if (pgg_cpu_takes_blocks(w->type)) {
    const size_t row = pgg_cpu_act_stride(w->type, w->cols);
    pgg_cpu_need(&needs->acts[notes->ops[op].acts_slot], (size_t)n * row);
    pgg_cpu_need(&needs->own_acts, (size_t)pgg_min_i64(n, PGG_CPU_EACH / w->cols) * row);
  }
  for (int decode = 0; decode < 2; decode++)
    pgg_cpu_need(&needs->panels, pgg_cpu_panel_bytes(kernels, w->type, n, w->cols, decode));
  pgg_cpu_need(&needs->own, kernels->gemm_scratch(w->type, w->cols));
}

const pgg_cpu_kind pgg_cpu_kind_matmul = {.share = share,
                                          .stage = stage_of,
                                          .units = pgg_cpu_column_units,
                                          .columns = columns,
                                          .judge = judge,
                                          .scratch = scratch};
