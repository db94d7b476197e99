/* The CPU backend's vtable: each op to the file that knows it. */
#include "backends/cpu/cpu.h"

static void begin(const pgg_run *run, int n_threads) {
  const pgg_cpu_scratch *scratch = run->scratch;
  (void)n_threads;
  for (int i = 0; i < run->plan->n_op; i++) atomic_store_explicit(&scratch->tails[i], 0, memory_order_relaxed);
}

/* The first op has one stage more, before its own: the tables of all ropes. */
static pgg_share share(const pgg_run *run, int op, int stage) {
  if (op == 0 && stage-- == 0) {
    if (!pgg_cpu_plan_of(run)->n_rope) return PGG_SHARE_SKIP;
    return pgg_cpu_by_rows(run, run->plan->ops[0].node, run->plan->nodes[run->plan->ops[0].node].cols);
  }
  switch (run->plan->ops[op].op.kind) {
    case PGG_OP_MATMUL: return pgg_cpu_matmul_share(run, op, stage);
    case PGG_OP_ATTENTION: return pgg_cpu_attention_share(run, op, stage);
    case PGG_OP_ROPE: return pgg_cpu_rope_share(run, op, stage);
    case PGG_OP_ROUTE:
    case PGG_OP_GATE: return pgg_cpu_route_share(run, op, stage);
    case PGG_OP_EXPERTS: return pgg_cpu_experts_share(run, op, stage);
    default: return pgg_cpu_rows_share(run, op, stage);
  }
}

static pgg_status stage_of(const pgg_run *run, int op, int stage, int ith, int nth) {
  if (op == 0 && stage-- == 0) {
    pgg_cpu_rope_tables(run, ith, nth);
    return PGG_OK;
  }
  switch (run->plan->ops[op].op.kind) {
    case PGG_OP_MATMUL: pgg_cpu_matmul(run, op, stage, ith, nth); break;
    case PGG_OP_ATTENTION: pgg_cpu_attention(run, op, stage, ith, nth); break;
    case PGG_OP_ROPE: pgg_cpu_rope_stage(run, op, ith, nth); break;
    case PGG_OP_ROUTE:
    case PGG_OP_GATE: pgg_cpu_route(run, op, ith, nth); break;
    case PGG_OP_EXPERTS: pgg_cpu_experts(run, op, stage, ith, nth); break;
    default: pgg_cpu_rows(run, op, ith, nth); break;
  }
  return PGG_OK; /* kernels cannot fail */
}

static int chunks_of(const pgg_run *run, int op, int stage) {
  const pgg_cpu_op *notes = &pgg_cpu_plan_of(run)->ops[op];
  return run->plan->ops[op].op.kind == PGG_OP_MATMUL && stage == 0 ? notes->prepare : notes->chunks;
}

static pgg_status columns_of(const pgg_run *run, int op, int stage, int c0, int c1, int n) {
  switch (run->plan->ops[op].op.kind) {
    case PGG_OP_MATMUL: pgg_cpu_matmul_columns(run, op, stage, c0, c1, n); break;
    case PGG_OP_ATTENTION: pgg_cpu_attention_columns(run, op, c0, c1, n); break;
    case PGG_OP_ROPE: pgg_cpu_rope_columns(run, op, c0, c1, n); break;
    default: pgg_cpu_rows_columns(run, op, c0, c1, n); break;
  }
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
