/* Ops that treat every row alike: embedding, norms, sums, activations, softmax, choosing rows. A long single row is cut
 * along its columns where the op is elementwise. */
#include <string.h>

#include "backends/cpu/cpu.h"
#include "base/threads.h"

pgg_share pgg_cpu_by_rows(const pgg_run *run, int node, int64_t cols) {
  int64_t rows = pgg_run_rows(run, node);
  if (rows < 2 || rows * cols < PGG_CPU_SMALL) return PGG_SHARE_ONE;
  return run->plan->nodes[node].rows == PGG_ROWS_WANTED ? PGG_SHARE_WANTED : PGG_SHARE_TOKENS;
}

bool pgg_cpu_elementwise(int kind) {
  switch (kind) {
    case PGG_OP_ADD:
    case PGG_OP_MUL:
    case PGG_OP_SCALE:
    case PGG_OP_SILU:
    case PGG_OP_GELU:
    case PGG_OP_GELU_ERF:
    case PGG_OP_GLU: return true;
    default: return false;
  }
}

pgg_share pgg_cpu_rows_share(const pgg_run *run, int op, int stage) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int64_t cols = run->plan->nodes[rec->node].cols;
  const pgg_cpu_op *mine = &pgg_cpu_plan_of(run)->ops[op];
  if (stage > 0) return PGG_SHARE_END;
  pgg_share share = pgg_cpu_cut(run, mine->chunks, mine->along);
  if (share != PGG_SHARE_SKIP) return share;
  if (pgg_run_own(run, rec->node)) return PGG_SHARE_EACH;
  share = pgg_cpu_by_rows(run, rec->node, cols);
  if (rec->op.kind == PGG_OP_ROWS && share != PGG_SHARE_ONE) return PGG_SHARE_ANY; /* reads rows of other threads */
  if (share == PGG_SHARE_ONE && cols >= PGG_CPU_SMALL && pgg_cpu_elementwise(rec->op.kind)) return PGG_SHARE_ANY;
  return share;
}

/* n values of one row. */
static void elements(const pgg_kernels *kernels, const pgg_op *op, const float *a, const float *b, float *y,
                     int64_t n) {
  switch (op->kind) {
    case PGG_OP_ADD: kernels->add(a, b, y, n); break;
    case PGG_OP_MUL: kernels->mul(a, b, y, n); break;
    case PGG_OP_SCALE: kernels->scale(a, op->f[0], y, n); break;
    case PGG_OP_SILU: kernels->silu(a, y, n); break;
    case PGG_OP_GELU: kernels->gelu(a, y, n); break;
    case PGG_OP_GELU_ERF: kernels->gelu_erf(a, y, n); break;
    default: kernels->glu(a, b, y, n, (int)op->i[0]); break;
  }
}

static void one_row(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y, int64_t cols) {
  const pgg_kernels *kernels = pgg_cpu_scratch_of(run)->kernels;
  const pgg_op *op = &rec->op;
  const pgg_weight *w = op->weight[0] >= 0 ? &run->plan->weights[op->weight[0]] : NULL;
  const float *a = NULL, *b = NULL;
  const int n_src = pgg_op_src_count(op->kind);
  if (n_src > 0) a = pgg_run_data(run, op->src[0]) + r * pgg_run_stride(run, op->src[0]);
  if (n_src > 1) b = pgg_run_data(run, op->src[1]) + r * pgg_run_stride(run, op->src[1]);
  switch (op->kind) {
    case PGG_OP_EMBED:
      kernels->decode[w->type]((const char *)w->data + (size_t)run->ids[r] * w->row_bytes, y, cols);
      break;
    case PGG_OP_INPUT: memcpy(y, run->rows + r * cols, (size_t)cols * sizeof(float)); break;
    case PGG_OP_RMS_NORM:
      for (int64_t at = 0; at < cols; at += op->i[0]) kernels->rms_norm(a + at, w->vec, y + at, op->i[0], op->f[0]);
      break;
    case PGG_OP_SOFTMAX: kernels->softmax(a, y, cols); break;
    case PGG_OP_ROWS:
      a += (pgg_run_token(run, r) - r) * pgg_run_stride(run, op->src[0]);
      memcpy(y, a, (size_t)cols * sizeof(float));
      break;
    default: elements(kernels, op, a, b, y, cols); break;
  }
}

/* Columns [begin, end) of all rows, of an op whose columns need only the same columns. */
static void some_columns(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t begin, int64_t end) {
  const pgg_kernels *kernels = pgg_cpu_scratch_of(run)->kernels;
  const pgg_op *op = &rec->op;
  const int a = op->src[0], b = pgg_op_src_count(op->kind) > 1 ? op->src[1] : a;
  const int64_t rows = pgg_run_rows(run, rec->node);
  for (int64_t r = 0; r < rows && begin < end; r++) {
    const float *x = pgg_run_data(run, a) + r * pgg_run_stride(run, a);
    float *y = pgg_run_data(run, rec->node) + r * pgg_run_stride(run, rec->node);
    if (op->kind == PGG_OP_RMS_NORM) {
      const float *w = run->plan->weights[op->weight[0]].vec;
      for (int64_t at = begin; at < end; at += op->i[0]) kernels->rms_norm(x + at, w, y + at, op->i[0], op->f[0]);
    } else {
      elements(kernels, op, x + begin, pgg_run_data(run, b) + r * pgg_run_stride(run, b) + begin, y + begin,
               end - begin);
    }
  }
}

void pgg_cpu_rows(const pgg_run *run, int op, int ith, int nth) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int64_t cols = run->plan->nodes[rec->node].cols, rows = pgg_run_rows(run, rec->node);
  int64_t begin, end;
  if (pgg_cpu_elementwise(rec->op.kind) && pgg_cpu_rows_share(run, op, 0) == PGG_SHARE_ANY) { /* few long rows */
    pgg_team_range(cols, 64, ith, nth, &begin, &end);
    some_columns(run, rec, begin, end);
    return;
  }
  const int64_t stride = pgg_run_stride(run, rec->node);
  float *y = pgg_run_data(run, rec->node);
  pgg_team_range(rows, 1, ith, nth, &begin, &end);
  for (int64_t r = begin; r < end; r++) one_row(run, rec, r, y + r * stride, cols);
}

void pgg_cpu_rows_columns(const pgg_run *run, int op, int c0, int c1, int n) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int64_t each = run->plan->nodes[rec->node].cols / n;
  some_columns(run, rec, c0 * each, c1 * each);
}
