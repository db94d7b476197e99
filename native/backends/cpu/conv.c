/* The conv op: each column over the last positions of its sequence. Threads share columns, so that each finds what its
 * own columns were and leaves what they are; the kernels get rows of a run of columns, taps side by side. */
#include <string.h>

#include "backends/cpu/cpu.h"
#include "base/threads.h"
#include "core/ops.h"

#define RUN 128 /* columns whose taps are turned at once */

static pgg_share share(const pgg_run *run, int op, int stage) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const pgg_cpu_op *mine = &pgg_cpu_segment_of(run)->ops[op];
  if (stage > 0) return PGG_SHARE_END;
  const pgg_share cut = pgg_cpu_cut(run, mine->chunks, mine->along);
  if (cut != PGG_SHARE_SKIP) return cut;
  return run->n * run->plan->nodes[rec->node].cols < PGG_CPU_SMALL ? PGG_SHARE_ONE : PGG_SHARE_ANY;
}

/* Taps of columns [c, c + n) as floats: (taps, RUN). */
static void turn_taps(const pgg_kernels *kernels, const pgg_weight *w, int64_t c, int64_t n, float *taps) {
  float rows[RUN * PGG_MOST_TAPS];
  for (int64_t i = 0; i < n; i++)
    kernels->decode[w->type]((const char *)w->data + (size_t)(c + i) * w->row_bytes, rows + i * w->cols, w->cols);
  for (int64_t j = 0; j < w->cols; j++)
    for (int64_t i = 0; i < n; i++) taps[j * RUN + i] = rows[i * w->cols + j];
}

/* One sequence's input, as far as the state and the step know it. */
typedef struct sequence {
  const float *state; /* (taps - 1, cols) of the positions before the step, NULL where there are none */
  const float *x;     /* of its first token */
  int64_t stride, cols, taps, n_past;
} sequence;

/* The row of a position, counted from the step's first; NULL before the text. */
static const float *row_of(const sequence *s, int64_t t, int64_t c) {
  if (s->n_past + t < 0) return NULL;
  return (t < 0 ? s->state + (s->taps - 1 + t) * s->cols : s->x + t * s->stride) + c;
}

/* The last positions of the step, for those behind it. */
static void keep(const sequence *s, int64_t n, int64_t c, int64_t width, float *state) {
  for (int64_t j = 0; j < s->taps - 1; j++) {
    const float *row = row_of(s, n - (s->taps - 1) + j, c);
    float *to = state + j * s->cols + c;
    if (row)
      memcpy(to, row, (size_t)width * sizeof *to);
    else
      memset(to, 0, (size_t)width * sizeof *to);
  }
}

/* Columns [begin, end) of all sequences. */
static void some_columns(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t begin, int64_t end) {
  const pgg_kernels *kernels = pgg_cpu_scratch_of(run)->kernels;
  const pgg_weight *w = &run->plan->weights[PGG_WEIGHT(&rec->op, conv, w)];
  const float *bias = pgg_plan_vec(run->plan, PGG_WEIGHT(&rec->op, conv, bias));
  const pgg_state *state = &run->plan->states[rec->state];
  const int src = PGG_SRC(&rec->op, conv, x), place = run->segment->place;
  float taps[RUN * PGG_MOST_TAPS];
  for (int64_t c = begin; c < end; c += RUN) {
    const int64_t n = pgg_min_i64(RUN, end - c);
    turn_taps(kernels, w, c, n, taps);
    for (int i = 0; i < run->n_part; i++) {
      const pgg_part *part = &run->parts[i];
      const char *before = part->before->at[place];
      sequence s = {.state = before ? (const float *)(const void *)(before + state->at) : NULL,
                    .x = pgg_run_data(run, src) + part->first * pgg_run_stride(run, src),
                    .stride = pgg_run_stride(run, src),
                    .cols = w->rows,
                    .taps = w->cols,
                    .n_past = part->n_past};
      float *y = pgg_run_data(run, rec->node) + part->first * pgg_run_stride(run, rec->node) + c;
      for (int64_t t = 0; t < part->n; t++, y += pgg_run_stride(run, rec->node)) {
        const float *rows[PGG_MOST_TAPS];
        for (int64_t j = 0; j < w->cols; j++) rows[j] = row_of(&s, t - (w->cols - 1) + j, c);
        kernels->conv(rows, taps, RUN, (int)w->cols, bias ? bias + c : NULL, y, n);
      }
      keep(&s, part->n, c, n, (float *)(void *)((char *)part->after->at[place] + state->at));
    }
  }
}

static void stage_of(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  int64_t begin, end;
  (void)stage;
  pgg_team_range(run->plan->nodes[rec->node].cols, 64, ith, nth, &begin, &end);
  some_columns(run, rec, begin, end);
}

static void columns(const pgg_run *run, int op, int stage, int c0, int c1, int n) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int64_t each = run->plan->nodes[rec->node].cols / n;
  (void)stage;
  some_columns(run, rec, c0 * each, c1 * each);
}

static pgg_status judge(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels) {
  const pgg_weight *w = &plan->weights[PGG_WEIGHT(op, conv, w)];
  return pgg_cpu_judge_weight(op, w, kernels, "decode", kernels->decode[w->type] != NULL);
}

const pgg_cpu_kind pgg_cpu_kind_conv = {
    .share = share, .stage = stage_of, .units = pgg_cpu_column_units, .columns = columns, .judge = judge};
