/* The rope op: cos and sin of each token's position, made once per step for each distinct set of numbers and shared by
 * all layers, then the rotation of each row. Angles are computed in double, as speeds are (core/rope.c). */
#include <math.h>
#include <stdlib.h>

#include "backends/cpu/cpu.h"
#include "base/threads.h"

int64_t pgg_cpu_rope_stride(const pgg_op *op) { return (PGG_INT(op, rope, n_rot) + 15) / 16 * 16; }

static float *table_of(const pgg_run *run, int rope) {
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  const pgg_cpu_segment *notes = pgg_cpu_segment_of(run);
  float *table = (float *)(void *)(scratch->base + scratch->ropes);
  for (int i = 0; i < rope; i++) table += run->plan->limits.n_batch * pgg_cpu_rope_stride(notes->ropes[i].op);
  return table;
}

static void fill(const pgg_run *run, int rope, int64_t t0, int64_t t1) {
  const pgg_cpu_rope *set = &pgg_cpu_segment_of(run)->ropes[rope];
  const int64_t stride = pgg_cpu_rope_stride(set->op), pairs = PGG_INT(set->op, rope, n_rot) / 2;
  const double magnitude = PGG_FLOAT(set->op, rope, attn_factor);
  float *table = table_of(run, rope);
  for (int i = 0; i < run->n_part; i++) {
    const pgg_part *part = &run->parts[i];
    const int64_t end = pgg_min_i64(t1, part->first + part->n);
    for (int64_t t = pgg_max_i64(t0, part->first); t < end; t++) {
      const double pos = (double)(part->n_past + t - part->first);
      for (int64_t pair = 0; pair < pairs; pair++) {
        const double angle = pos * set->speed[pair];
        table[t * stride + 2 * pair] = (float)(cos(angle) * magnitude);
        table[t * stride + 2 * pair + 1] = (float)(sin(angle) * magnitude);
      }
    }
  }
}

/* All tables of the step, each thread its tokens. */
void pgg_cpu_rope_tables(const pgg_run *run, int ith, int nth) {
  int64_t t0, t1;
  pgg_team_range(run->n, 1, ith, nth, &t0, &t1);
  for (int i = 0; i < pgg_cpu_segment_of(run)->n_rope; i++) fill(run, i, t0, t1);
}

static pgg_share share(const pgg_run *run, int op, int stage) {
  const pgg_cpu_op *mine = &pgg_cpu_segment_of(run)->ops[op];
  const int node = run->plan->ops[op].node;
  if (stage > 0) return PGG_SHARE_END;
  const pgg_share share = pgg_cpu_cut(run, mine->chunks, mine->along);
  if (share != PGG_SHARE_SKIP) return share;
  return pgg_run_own(run, node) ? PGG_SHARE_EACH : pgg_cpu_by_rows(run, node, run->plan->nodes[node].cols);
}

/* Heads [h0, h1) of tokens [t0, t1). */
static void rotate(const pgg_run *run, int op, int64_t t0, int64_t t1, int64_t h0, int64_t h1) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int src = PGG_SRC(&rec->op, rope, x);
  const int64_t at = h0 * PGG_INT(&rec->op, rope, head_dim);
  const float *table = table_of(run, pgg_cpu_segment_of(run)->ops[op].rope), *x = pgg_run_data(run, src) + at;
  float *y = pgg_run_data(run, rec->node) + at;
  for (int64_t t = t0; t < t1; t++) {
    pgg_rope how = {table + t * pgg_cpu_rope_stride(&rec->op), (int)(h1 - h0), (int)PGG_INT(&rec->op, rope, head_dim),
                    (int)PGG_INT(&rec->op, rope, n_rot), (int)PGG_INT(&rec->op, rope, style)};
    pgg_cpu_scratch_of(run)->kernels->rope(&how, x + t * pgg_run_stride(run, src),
                                           y + t * pgg_run_stride(run, rec->node));
  }
}

static void stage_of(const pgg_run *run, int op, int stage, int ith, int nth) {
  (void)stage;
  int64_t t0, t1;
  pgg_team_range(run->n, 1, ith, nth, &t0, &t1);
  rotate(run, op, t0, t1, 0, PGG_INT(&run->plan->ops[op].op, rope, n_head));
}

static void columns(const pgg_run *run, int op, int stage, int c0, int c1, int n) {
  (void)stage;
  const int64_t each = PGG_INT(&run->plan->ops[op].op, rope, n_head) / n;
  rotate(run, op, 0, run->n, c0 * each, c1 * each);
}

static int64_t units(const pgg_plan *plan, const pgg_plan_op_rec *rec) {
  (void)plan;
  return PGG_INT(&rec->op, rope, n_head);
}

const pgg_cpu_kind pgg_cpu_kind_rope = {
    .share = share, .stage = stage_of, .units = units, .columns = columns, .own = true};
