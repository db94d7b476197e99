/* The CPU backend's vtable: each op to its kind. */
#include "backends/cpu/cpu.h"

static void begin(const pgg_run *run, int n_threads) {
  const pgg_cpu_scratch *scratch = run->scratch;
  (void)n_threads;
  for (int i = 0; i < run->plan->n_op; i++) atomic_store_explicit(&scratch->tails[i], 0, memory_order_relaxed);
}

static const pgg_cpu_kind *kind_of(const pgg_run *run, int op) { return pgg_cpu_kind_of(run->plan->ops[op].op.kind); }

/* The first op has one stage more, before its own: the tables of all ropes. */
static pgg_share share(const pgg_run *run, int op, int stage) {
  if (op == 0 && stage-- == 0) {
    if (!pgg_cpu_plan_of(run)->n_rope) return PGG_SHARE_SKIP;
    return pgg_cpu_by_rows(run, run->plan->ops[0].node, run->plan->nodes[run->plan->ops[0].node].cols);
  }
  return kind_of(run, op)->share(run, op, stage);
}

static pgg_status stage_of(const pgg_run *run, int op, int stage, int ith, int nth) {
  if (op == 0 && stage-- == 0) {
    pgg_cpu_rope_tables(run, ith, nth);
    return PGG_OK;
  }
  kind_of(run, op)->stage(run, op, stage, ith, nth);
  return PGG_OK; /* kernels cannot fail */
}

static int chunks_of(const pgg_run *run, int op, int stage) {
  const pgg_cpu_op *notes = &pgg_cpu_plan_of(run)->ops[op];
  return run->plan->ops[op].op.kind == PGG_OP_MATMUL && stage == 0 ? notes->prepare : notes->chunks;
}

static pgg_status columns_of(const pgg_run *run, int op, int stage, int c0, int c1, int n) {
  kind_of(run, op)->columns(run, op, stage, c0, c1, n);
  return PGG_OK;
}

const pgg_backend *pgg_backend_default(void) {
  static const pgg_backend cpu = {.name = "cpu",
                                  .compile = pgg_cpu_compile,
                                  .discard = pgg_cpu_discard,
                                  .scratch_bytes = pgg_cpu_scratch_bytes,
                                  .reserve = pgg_cpu_reserve,
                                  .release = pgg_cpu_release,
                                  .begin = begin,
                                  .share = share,
                                  .stage = stage_of,
                                  .chunks = chunks_of,
                                  .columns = columns_of};
  return &cpu;
}
