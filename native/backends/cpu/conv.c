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

/* A run of columns of one sequence's input, as far as the state and the step know it. */
typedef struct sequence {
  const char *state; /* (taps - 1, cols) of the positions before the step, NULL where there are none */
  const float *x;    /* of its first token */
  int64_t stride, taps, n_past, n;
  int type;         /* of the state */
  size_t row_bytes; /* of a row of the state */
  float *rounded;   /* (taps, RUN) the last positions as a state that is not f32 keeps them, in turns; or NULL */
} sequence;

static float *rounded_of(const sequence *s, int64_t t) { return s->rounded + (t + s->taps) % s->taps * RUN; }

/* The run of a position, counted from the step's first; NULL before the text. */
static const float *row_of(const sequence *s, int64_t t) {
  if (s->n_past + t < 0) return NULL;
  if (s->rounded) return rounded_of(s, t);
  if (t >= 0) return s->x + t * s->stride;
  return (const float *)(const void *)(s->state + (size_t)(s->taps - 1 + t) * s->row_bytes);
}

/* What the state keeps of position t, for those behind it and for itself: a step reads what the next one will find, so
 * bits do not depend on where it is cut. Rows of f32 are read
 * where they lie. */
static void round_row(const pgg_kernels *kernels, const sequence *s, int64_t t) {
  float kept[RUN]; /* the widest type */
  if (!s->rounded || s->n_past + t < 0) return;
  const void *row = kept;
  if (t < 0)
    row = s->state + (size_t)(s->taps - 1 + t) * s->row_bytes;
  else
    kernels->kv_store(s->type, s->x + t * s->stride, kept, s->n);
  kernels->decode[s->type](row, rounded_of(s, t), s->n);
}

/* The last positions of a step of n tokens, for those behind it. */
static void keep(const pgg_kernels *kernels, const sequence *s, int64_t n, char *state) {
  for (int64_t j = 0; j < s->taps - 1; j++, state += s->row_bytes) {
    const float *row = row_of(s, n - (s->taps - 1) + j);
    if (row)
      kernels->kv_store(s->type, row, state, s->n);
    else
      memset(state, 0, pgg_row_bytes(s->type, s->n));
  }
}

/* Columns [begin, end) of all sequences. */
static void some_columns(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t begin, int64_t end) {
  const pgg_kernels *kernels = pgg_cpu_scratch_of(run)->kernels;
  const pgg_weight *w = &run->plan->weights[PGG_WEIGHT(&rec->op, conv, w)];
  const float *bias = pgg_plan_vec(run->plan, PGG_WEIGHT(&rec->op, conv, bias));
  const pgg_state *state = &run->plan->states[rec->state];
  const int src = PGG_SRC(&rec->op, conv, x), place = run->segment->place;
  float taps[RUN * PGG_MOST_TAPS], rounded[RUN * PGG_MOST_TAPS];
  for (int64_t c = begin; c < end; c += RUN) {
    const int64_t n = pgg_min_i64(RUN, end - c);
    const size_t at = state->at + pgg_row_bytes(state->type, c);
    turn_taps(kernels, w, c, n, taps);
    for (int i = 0; i < run->n_part; i++) {
      const pgg_part *part = &run->parts[i];
      const char *before = part->before->at[place];
      const sequence s = {.state = before ? before + at : NULL,
                          .x = pgg_run_data(run, src) + part->first * pgg_run_stride(run, src) + c,
                          .stride = pgg_run_stride(run, src),
                          .taps = w->cols,
                          .n_past = part->n_past,
                          .n = n,
                          .type = state->type,
                          .row_bytes = pgg_row_bytes(state->type, state->cols),
                          .rounded = state->type == PGG_F32 ? NULL : rounded};
      float *y = pgg_run_data(run, rec->node) + part->first * pgg_run_stride(run, rec->node) + c;
      for (int64_t t = 1 - s.taps; t < 0; t++) round_row(kernels, &s, t);
      for (int64_t t = 0; t < part->n; t++, y += pgg_run_stride(run, rec->node)) {
        const float *rows[PGG_MOST_TAPS];
        round_row(kernels, &s, t);
        for (int64_t j = 0; j < w->cols; j++) rows[j] = row_of(&s, t - (w->cols - 1) + j);
        kernels->conv(rows, taps, RUN, (int)w->cols, bias ? bias + c : NULL, y, n);
      }
      keep(kernels, &s, part->n, (char *)part->after->at[place] + at);
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
