/* The CPU backend's vtable: each op to the file that knows it. */
#include "backends/cpu/cpu.h"

static void begin(const pgg_run *run, int n_threads) {
  const pgg_cpu_scratch *scratch = run->scratch;
  (void)n_threads;
  for (int i = 0; i < run->plan->n_op; i++) atomic_store_explicit(&scratch->tails[i], 0, memory_order_relaxed);
}

static pgg_share share(const pgg_run *run, int op, int stage) {
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
  switch (run->plan->ops[op].op.kind) {
    case PGG_OP_MATMUL: pgg_cpu_matmul(run, op, stage, ith, nth); break;
    case PGG_OP_ATTENTION: pgg_cpu_attention(run, op, stage, ith, nth); break;
    case PGG_OP_ROPE: pgg_cpu_rope_stage(run, op, stage, ith, nth); break;
    case PGG_OP_ROUTE:
    case PGG_OP_GATE: pgg_cpu_route(run, op, ith, nth); break;
    case PGG_OP_EXPERTS: pgg_cpu_experts(run, op, stage, ith, nth); break;
    default: pgg_cpu_rows(run, op, ith, nth); break;
  }
  return PGG_OK; /* kernels cannot fail */
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
                                  .stage = stage_of};
  return &cpu;
}
