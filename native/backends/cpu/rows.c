/* Ops that treat every row alike: embedding, norms, sums, activations, softmax, choosing rows. Each is a function of
 * one row, or of n values of a row where every value needs only those at its place (`elements`); a long single row of
 * such an op is cut along its columns. */
#include <math.h>
#include <string.h>

#include "backends/cpu/cpu.h"
#include "base/threads.h"

pgg_share pgg_cpu_by_rows(const pgg_run *run, int node, int64_t cols) {
  int64_t rows = pgg_run_rows(run, node);
  if (rows < 2 || rows * cols < PGG_CPU_SMALL) return PGG_SHARE_ONE;
  return run->plan->nodes[node].rows == PGG_ROWS_WANTED ? PGG_SHARE_WANTED : PGG_SHARE_TOKENS;
}

static pgg_share share(const pgg_run *run, int op, int stage) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int64_t cols = run->plan->nodes[rec->node].cols;
  const pgg_cpu_op *mine = &pgg_cpu_segment_of(run)->ops[op];
  if (stage > 0) return PGG_SHARE_END;
  const pgg_share cut = pgg_cpu_cut(run, mine->chunks, mine->along);
  if (cut != PGG_SHARE_SKIP) return cut;
  if (pgg_run_own(run, rec->node)) return PGG_SHARE_EACH;
  const pgg_share rows = pgg_cpu_by_rows(run, rec->node, cols);
  if (rec->op.kind == PGG_OP_ROWS && rows != PGG_SHARE_ONE) return PGG_SHARE_ANY; /* reads rows of other threads */
  if (rows == PGG_SHARE_ONE && cols >= PGG_CPU_SMALL && pgg_cpu_kind_of(rec->op.kind)->elements) return PGG_SHARE_ANY;
  return rows;
}

static const float *row_of(const pgg_run *run, int node, int64_t r) {
  return pgg_run_data(run, node) + r * pgg_run_stride(run, node);
}

static int64_t cols_of(const pgg_run *run, int node) { return run->plan->nodes[node].cols; }

/* The second input of an op of elements; its first where it has one. */
static int second(const pgg_op *op) { return pgg_op_src_count(op->kind) > 1 ? op->src[1] : op->src[0]; }

/* Columns [begin, end) of all rows, of an op whose columns need only the same columns. */
static void some_columns(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t begin, int64_t end) {
  const pgg_kernels *kernels = pgg_cpu_scratch_of(run)->kernels;
  const pgg_cpu_kind *kind = pgg_cpu_kind_of(rec->op.kind);
  const int a = rec->op.src[0], b = second(&rec->op);
  const int64_t rows = pgg_run_rows(run, rec->node);
  float *y = pgg_run_data(run, rec->node);
  for (int64_t r = 0; r < rows && begin < end; r++)
    kind->elements(kernels, &rec->op, row_of(run, a, r) + begin, row_of(run, b, r) + begin,
                   y + r * pgg_run_stride(run, rec->node) + begin, end - begin);
}

static void stage_of(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const pgg_cpu_kind *kind = pgg_cpu_kind_of(rec->op.kind);
  const int64_t cols = cols_of(run, rec->node), rows = pgg_run_rows(run, rec->node);
  int64_t begin, end;
  if (kind->elements && share(run, op, stage) == PGG_SHARE_ANY) { /* few long rows */
    pgg_team_range(cols, 64, ith, nth, &begin, &end);
    some_columns(run, rec, begin, end);
    return;
  }
  const int64_t stride = pgg_run_stride(run, rec->node);
  float *y = pgg_run_data(run, rec->node);
  pgg_team_range(rows, 1, ith, nth, &begin, &end);
  for (int64_t r = begin; r < end; r++) kind->row(run, rec, r, y + r * stride);
}

/* ---- ops of elements ------------------------------------------------------------------------------------- */

static void element_columns(const pgg_run *run, int op, int stage, int c0, int c1, int n) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int64_t each = cols_of(run, rec->node) / n;
  (void)stage;
  some_columns(run, rec, c0 * each, c1 * each);
}

static void element_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  pgg_cpu_kind_of(rec->op.kind)
      ->elements(pgg_cpu_scratch_of(run)->kernels, &rec->op, row_of(run, rec->op.src[0], r),
                 row_of(run, second(&rec->op), r), y, cols_of(run, rec->node));
}

#define ELEMENTS(op, call)                                                                                         \
  static void op##_elements(const pgg_kernels *kernels, const pgg_op *o, const float *a, const float *b, float *y, \
                            int64_t n) {                                                                           \
    (void)o, (void)b;                                                                                              \
    call;                                                                                                          \
  }                                                                                                                \
  const pgg_cpu_kind pgg_cpu_kind_##op = {.share = share,                                                          \
                                          .stage = stage_of,                                                       \
                                          .units = pgg_cpu_column_units,                                           \
                                          .columns = element_columns,                                              \
                                          .own = true,                                                             \
                                          .row = element_row,                                                      \
                                          .elements = op##_elements};

ELEMENTS(add, kernels->add(a, b, y, n))
ELEMENTS(mul, kernels->mul(a, b, y, n))
ELEMENTS(scale, kernels->scale(a, PGG_FLOAT(o, scale, factor), y, n))
ELEMENTS(softcap, kernels->softcap(a, PGG_FLOAT(o, softcap, cap), y, n))
ELEMENTS(activate, kernels->activate[PGG_INT(o, activate, act)](a, y, n))
ELEMENTS(glu, kernels->glu[PGG_INT(o, glu, act)](a, b, y, n))

/* ---- norms ----------------------------------------------------------------------------------------------- */

/* Values of a run. */
static int64_t seg_of(const pgg_op *op) {
  return op->kind == PGG_OP_RMS_NORM ? PGG_INT(op, rms_norm, seg) : PGG_INT(op, layer_norm, seg);
}

/* y [begin, end) of row r; both are multiples of a run. */
static void norm_of(const pgg_run *run, const pgg_op *op, int64_t r, float *y, int64_t begin, int64_t end) {
  const pgg_kernels *kernels = pgg_cpu_scratch_of(run)->kernels;
  const bool rms = op->kind == PGG_OP_RMS_NORM;
  const float *x = row_of(run, rms ? PGG_SRC(op, rms_norm, x) : PGG_SRC(op, layer_norm, x), r);
  const int weight = rms ? PGG_WEIGHT(op, rms_norm, w) : PGG_WEIGHT(op, layer_norm, w);
  const float *w = pgg_plan_vec(run->plan, weight);
  const float *bias = rms ? NULL : pgg_plan_vec(run->plan, PGG_WEIGHT(op, layer_norm, bias));
  const int64_t seg = seg_of(op),
                of = w && run->plan->weights[weight].cols > seg ? 1 : 0; /* runs have w of their own */
  for (int64_t at = begin; at < end; at += seg) {
    if (rms)
      kernels->rms_norm(x + at, w ? w + of * at : NULL, y + at, seg, PGG_FLOAT(op, rms_norm, eps));
    else
      kernels->layer_norm(x + at, w, bias, y + at, seg, PGG_FLOAT(op, layer_norm, eps));
  }
}

static void norm_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  norm_of(run, &rec->op, r, y, 0, cols_of(run, rec->node));
}

static int64_t norm_units(const pgg_plan *plan, const pgg_plan_op_rec *rec) {
  return plan->nodes[rec->node].cols / seg_of(&rec->op);
}

static void norm_columns(const pgg_run *run, int op, int stage, int c0, int c1, int n) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int64_t each = cols_of(run, rec->node) / n, rows = pgg_run_rows(run, rec->node);
  float *y = pgg_run_data(run, rec->node);
  (void)stage;
  for (int64_t r = 0; r < rows; r++)
    norm_of(run, &rec->op, r, y + r * pgg_run_stride(run, rec->node), c0 * each, c1 * each);
}

const pgg_cpu_kind pgg_cpu_kind_rms_norm = {
    .share = share, .stage = stage_of, .units = norm_units, .columns = norm_columns, .own = true, .row = norm_row};
const pgg_cpu_kind pgg_cpu_kind_layer_norm = {
    .share = share, .stage = stage_of, .units = norm_units, .columns = norm_columns, .own = true, .row = norm_row};

/* ---- whole rows ------------------------------------------------------------------------------------------ */

/* Of an op whose first weight is a table. */
static pgg_status table_judge(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels) {
  const pgg_weight *w = &plan->weights[op->weight[0]];
  return pgg_cpu_judge_weight(op, w, kernels, "decode", kernels->decode[w->type] != NULL);
}

/* Row i of the table. */
static void read_table(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t i, float *y) {
  const pgg_weight *w = &run->plan->weights[rec->op.weight[0]];
  pgg_cpu_scratch_of(run)->kernels->decode[w->type]((const char *)w->data + (size_t)i * w->row_bytes, y, w->cols);
}

/* Of the ids of the rows of a node. */
static int64_t n_vocab_of(const pgg_run *run, const pgg_plan_op_rec *rec) {
  const bool source = run->plan->nodes[rec->node].rows == PGG_ROWS_SOURCE;
  return (source ? &run->plan->source : &run->plan->text)->n_vocab;
}

static void embed_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  if (run->ids && run->ids[r] >= 0)
    read_table(run, rec, run->ids[r] % n_vocab_of(run, rec), y);
  else
    memset(y, 0, (size_t)cols_of(run, rec->node) * sizeof(float));
}

/* The position of a row of tokens. */
static int64_t position_of(const pgg_run *run, int64_t r) {
  const pgg_part *part = run->parts;
  while (r >= part->first + part->n) part++;
  return part->n_past + r - part->first;
}

static void positions_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  read_table(run, rec, position_of(run, r), y);
}

static void temper_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  const int64_t at = (position_of(run, r) + PGG_INT(&rec->op, temper, ahead)) / PGG_INT(&rec->op, temper, length);
  const double by = 1.0 + (double)PGG_FLOAT(&rec->op, temper, factor) * log1p((double)at);
  pgg_cpu_scratch_of(run)->kernels->scale(row_of(run, PGG_SRC(&rec->op, temper, x), r), (float)by, y,
                                          cols_of(run, rec->node));
}

static void kinds_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  read_table(run, rec, run->ids && run->ids[r] >= 0 ? run->ids[r] / n_vocab_of(run, rec) : 0, y);
}

static void row_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  (void)r;
  read_table(run, rec, PGG_INT(&rec->op, row, index), y);
}

static void input_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  const int64_t cols = cols_of(run, rec->node);
  if (run->rows)
    memcpy(y, run->rows + r * cols, (size_t)cols * sizeof(float));
  else
    memset(y, 0, (size_t)cols * sizeof(float));
}

static void softmax_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  pgg_cpu_scratch_of(run)->kernels->softmax(row_of(run, PGG_SRC(&rec->op, softmax, x), r), y, cols_of(run, rec->node));
}

/* Run i: the sum over j of (by[i, j] + plus) times run j of x. */
static void mix_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  const int src = PGG_SRC(&rec->op, mix, x);
  const int64_t seg = PGG_INT(&rec->op, mix, seg), n = cols_of(run, src) / seg;
  const float *x = row_of(run, src, r), *by = row_of(run, PGG_SRC(&rec->op, mix, by), r);
  const float plus = PGG_FLOAT(&rec->op, mix, plus);
  for (int64_t at = 0; at < cols_of(run, rec->node); at += seg, by += n) {
    pgg_cpu_scratch_of(run)->kernels->scale(x, by[0] + plus, y + at, seg);
    for (int64_t j = 1; j < n; j++) {
      const float factor = by[j] + plus, *from = x + j * seg;
      for (int64_t c = 0; c < seg; c++) y[at + c] += factor * from[c];
    }
  }
}

static double mean_square(const float *x, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; i++) total += (double)x[i] * x[i];
  return total / (double)n;
}

/* Each run of x as large as a row of like. */
static void level_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  const int like = PGG_SRC(&rec->op, level, like);
  const int64_t seg = PGG_INT(&rec->op, level, seg);
  const double size = sqrt(mean_square(row_of(run, like, r), cols_of(run, like)));
  const float *x = row_of(run, PGG_SRC(&rec->op, level, x), r);
  for (int64_t at = 0; at < cols_of(run, rec->node); at += seg) {
    const double mine = mean_square(x + at, seg), least = PGG_FLOAT(&rec->op, level, least);
    const double by = size / sqrt(mine < least ? least : mine);
    pgg_cpu_scratch_of(run)->kernels->scale(x + at, (float)by, y + at, seg);
  }
}

/* By how much values are above the row's mean plus so many standard deviations; 0 for those that are not. */
static void excess_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  const int64_t n = cols_of(run, rec->node);
  const float *x = row_of(run, PGG_SRC(&rec->op, excess, x), r);
  double mean = 0, total = 0;
  for (int64_t i = 0; i < n; i++) mean += x[i];
  mean /= (double)n;
  for (int64_t i = 0; i < n; i++) total += (x[i] - mean) * (x[i] - mean);
  const float bound = (float)(mean + PGG_FLOAT(&rec->op, excess, deviations) * sqrt(total / (double)n));
  for (int64_t i = 0; i < n; i++) {
    const float above = x[i] - bound;
    y[i] = above < 0 ? 0 : above; /* a NaN stays one */
  }
}

static void rows_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  memcpy(y, row_of(run, PGG_SRC(&rec->op, rows, x), pgg_run_token(run, r)),
         (size_t)cols_of(run, rec->node) * sizeof(float));
}

static void copy_floats(float *y, const float *x, int64_t n) { memcpy(y, x, (size_t)n * sizeof *y); }

static void cols_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  const int64_t seg = PGG_INT(&rec->op, cols, seg), n = PGG_INT(&rec->op, cols, n);
  const float *x = row_of(run, PGG_SRC(&rec->op, cols, x), r) + PGG_INT(&rec->op, cols, start);
  for (int64_t at = 0; at < cols_of(run, rec->node); at += n, x += seg) copy_floats(y + at, x, n);
}

static void concat_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y) {
  const int64_t a_seg = PGG_INT(&rec->op, concat, a_seg), b_seg = PGG_INT(&rec->op, concat, b_seg);
  const int second_src = PGG_SRC(&rec->op, concat, b);
  const float *a = row_of(run, PGG_SRC(&rec->op, concat, a), r), *b = row_of(run, second_src, r);
  const int64_t step = cols_of(run, second_src) == b_seg ? 0 : b_seg;
  for (int64_t at = 0; at < cols_of(run, rec->node); at += a_seg + b_seg, a += a_seg, b += step) {
    copy_floats(y + at, a, a_seg);
    copy_floats(y + at + a_seg, b, b_seg);
  }
}

const pgg_cpu_kind pgg_cpu_kind_embed = {
    .share = share, .stage = stage_of, .own = true, .judge = table_judge, .row = embed_row};
const pgg_cpu_kind pgg_cpu_kind_positions = {
    .share = share, .stage = stage_of, .own = true, .judge = table_judge, .row = positions_row};
const pgg_cpu_kind pgg_cpu_kind_temper = {.share = share, .stage = stage_of, .own = true, .row = temper_row};
const pgg_cpu_kind pgg_cpu_kind_kinds = {
    .share = share, .stage = stage_of, .own = true, .judge = table_judge, .row = kinds_row};
const pgg_cpu_kind pgg_cpu_kind_row = {
    .share = share, .stage = stage_of, .own = true, .judge = table_judge, .row = row_row};
const pgg_cpu_kind pgg_cpu_kind_input = {.share = share, .stage = stage_of, .own = true, .row = input_row};
const pgg_cpu_kind pgg_cpu_kind_cols = {.share = share, .stage = stage_of, .own = true, .row = cols_row};
const pgg_cpu_kind pgg_cpu_kind_concat = {.share = share, .stage = stage_of, .own = true, .row = concat_row};
const pgg_cpu_kind pgg_cpu_kind_softmax = {.share = share, .stage = stage_of, .own = true, .row = softmax_row};
const pgg_cpu_kind pgg_cpu_kind_mix = {.share = share, .stage = stage_of, .own = true, .row = mix_row};
const pgg_cpu_kind pgg_cpu_kind_level = {.share = share, .stage = stage_of, .own = true, .row = level_row};
const pgg_cpu_kind pgg_cpu_kind_excess = {.share = share, .stage = stage_of, .own = true, .row = excess_row};
const pgg_cpu_kind pgg_cpu_kind_rows = {.share = share, .stage = stage_of, .own = true, .row = rows_row};
