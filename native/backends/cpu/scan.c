/* The scan op: heads that each keep a matrix whose rows do not look at each other. Threads share the rows; each walks
 * all tokens of a sequence with its own. */
#include <string.h>

#include "backends/cpu/cpu.h"
#include "base/threads.h"
#include "core/ops.h"

#define ROWS 8 /* threads get multiples of so many */

static pgg_share share(const pgg_run *run, int op, int stage) {
  const pgg_state *state = &run->plan->states[run->plan->ops[op].state];
  if (stage > 0) return PGG_SHARE_END;
  return run->n * state->rows * state->cols < PGG_CPU_SMALL ? PGG_SHARE_ONE : PGG_SHARE_ANY;
}

/* Rows [r, r + n) of the state, of heads that share b and c, in one sequence. */
static void some_rows(const pgg_run *run, const pgg_plan_op_rec *rec, const pgg_part *part, int64_t r, int64_t n) {
  const pgg_op *op = &rec->op;
  const int64_t k_dim = PGG_INT(op, scan, k_dim), v_dim = PGG_INT(op, scan, v_dim);
  const int64_t head = r / v_dim, of = head / (PGG_INT(op, scan, n_head) / PGG_INT(op, scan, n_group));
  const int place = run->segment->place;
  const size_t at = run->plan->states[rec->state].at + (size_t)(r * k_dim) * sizeof(float);
  const float *a = pgg_plan_vec(run->plan, PGG_WEIGHT(op, scan, a));
  const float *d = pgg_plan_vec(run->plan, PGG_WEIGHT(op, scan, d));
  pgg_scan job = {.n = part->n, .k_dim = k_dim, .v_dim = v_dim, .rows = n, .skip = r % v_dim};
  job.x = pgg_run_from(run, PGG_SRC(op, scan, x), part->first, r, &job.x_stride);
  job.b = pgg_run_from(run, PGG_SRC(op, scan, b), part->first, of * k_dim, &job.b_stride);
  job.c = pgg_run_from(run, PGG_SRC(op, scan, c), part->first, of * k_dim, &job.c_stride);
  job.dt = pgg_run_from(run, PGG_SRC(op, scan, dt), part->first, head, &job.dt_stride);
  job.each = PGG_INT(op, scan, each) != 0;
  job.a = a + (job.each ? head * k_dim : head);
  job.bias = pgg_plan_vec(run->plan, PGG_WEIGHT(op, scan, bias)) + head;
  job.d = d ? d + head : NULL;
  job.after = (float *)(void *)((char *)part->after->at[place] + at);
  job.before = job.after;
  if (part->before->at[place])
    job.before = (const float *)(const void *)((const char *)part->before->at[place] + at);
  else
    memset(job.after, 0, (size_t)(n * k_dim) * sizeof(float));
  job.y = pgg_run_from(run, rec->node, part->first, r, &job.y_stride);
  pgg_cpu_scratch_of(run)->kernels->scan(&job);
}

static void stage_of(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int64_t rows = run->plan->nodes[rec->node].cols, group = rows / PGG_INT(&rec->op, scan, n_group);
  int64_t begin, end;
  (void)stage;
  pgg_team_range(rows, ROWS, ith, nth, &begin, &end);
  for (int64_t r = begin, n; r < end; r += n) {
    n = pgg_min_i64(group - r % group, end - r);
    for (int i = 0; i < run->n_part; i++) some_rows(run, rec, &run->parts[i], r, n);
  }
}

const pgg_cpu_kind pgg_cpu_kind_scan = {.share = share, .stage = stage_of};
