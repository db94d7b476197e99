/* The delta op: heads that each keep a matrix and change it token by token. Threads share its columns, which do not
 * look at each other; each walks all tokens of a sequence with its own. */
#include <string.h>

#include "backends/cpu/cpu.h"
#include "base/threads.h"
#include "core/ops.h"

#define COLUMNS 32 /* of a head: threads get multiples of so many */

static pgg_share share(const pgg_run *run, int op, int stage) {
  const pgg_state *state = &run->plan->states[run->plan->ops[op].state];
  if (stage > 0) return PGG_SHARE_END;
  return run->n * state->rows * state->cols < PGG_CPU_SMALL ? PGG_SHARE_ONE : PGG_SHARE_ANY;
}

/* Columns [c, c + n) of a head, of one sequence. */
static void some_columns(const pgg_run *run, const pgg_plan_op_rec *rec, const pgg_part *part, int64_t head, int64_t c,
                         int64_t n) {
  const pgg_op *op = &rec->op;
  const pgg_state *state = &run->plan->states[rec->state];
  const int64_t n_head = PGG_INT(op, delta, n_head), n_head_k = PGG_INT(op, delta, n_head_k);
  const int64_t k_dim = PGG_INT(op, delta, k_dim), v_dim = PGG_INT(op, delta, v_dim), first = part->first;
  const int64_t of = PGG_INT(op, delta, grouped) ? head / (n_head / n_head_k) : head % n_head_k;
  const int place = run->segment->place;
  const size_t at = state->at + (size_t)(head * k_dim * v_dim + c) * sizeof(float);
  pgg_delta job = {.n = part->n, .k_dim = k_dim, .cols = n, .state_stride = v_dim};
  job.q = pgg_run_from(run, PGG_SRC(op, delta, q), first, of * k_dim, &job.q_stride);
  job.k = pgg_run_from(run, PGG_SRC(op, delta, k), first, of * k_dim, &job.k_stride);
  job.v = pgg_run_from(run, PGG_SRC(op, delta, v), first, head * v_dim + c, &job.v_stride);
  job.alpha = pgg_run_from(run, PGG_SRC(op, delta, alpha), first, head, &job.alpha_stride);
  job.beta = pgg_run_from(run, PGG_SRC(op, delta, beta), first, head, &job.beta_stride);
  job.a = pgg_plan_vec(run->plan, PGG_WEIGHT(op, delta, a))[head];
  job.dt = pgg_plan_vec(run->plan, PGG_WEIGHT(op, delta, dt))[head];
  job.scale = PGG_FLOAT(op, delta, scale);
  job.after = (float *)(void *)((char *)part->after->at[place] + at);
  job.before = job.after;
  if (part->before->at[place])
    job.before = (const float *)(const void *)((const char *)part->before->at[place] + at);
  else
    for (int64_t i = 0; i < k_dim; i++) memset(job.after + i * v_dim, 0, (size_t)n * sizeof(float));
  job.y = pgg_run_from(run, rec->node, first, head * v_dim + c, &job.y_stride);
  pgg_cpu_scratch_of(run)->kernels->delta(&job);
}

static void stage_of(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int64_t v_dim = PGG_INT(&rec->op, delta, v_dim);
  int64_t begin, end;
  (void)stage;
  pgg_team_range(run->plan->nodes[rec->node].cols, COLUMNS, ith, nth, &begin, &end);
  for (int64_t at = begin, n; at < end; at += n) {
    const int64_t c = at % v_dim;
    n = pgg_min_i64(v_dim - c, end - at);
    for (int i = 0; i < run->n_part; i++) some_columns(run, rec, &run->parts[i], at / v_dim, c, n);
  }
}

const pgg_cpu_kind pgg_cpu_kind_delta = {.share = share, .stage = stage_of};
