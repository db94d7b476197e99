/* The only validator of ops: which inputs and weights fit each other, and the shape that they make (ops.c has judged
 * each field by itself). Every message names the op, the thing that is wrong, what it is and what it should be. Code
 * behind this file trusts shapes. */
#include <math.h>
#include <stdlib.h>

#include "core/ops.h"
#include "quant/quant.h"

bool pgg_type_is_weight(int type) {
  const pgg_type_info *info = pgg_type_get(type);
  return info && (info->kind == PGG_KIND_BLOCK || info->kind == PGG_KIND_FLOAT);
}

typedef long long ll;

static const char *node_name(const pgg_plan *plan, int node) { return plan->ops[plan->nodes[node].op].op.name; }
static const char *rows_name(int64_t rows) {
  return rows == PGG_ROWS_WANTED ? "wanted" : rows == PGG_ROWS_SOURCE ? "source" : "tokens";
}

static const pgg_weight *weight_of(const pgg_plan *plan, int index) { return &plan->weights[index]; }

/* A vector of cols floats; an absent one is fine. */
static pgg_status has_vector(const pgg_plan *plan, const pgg_op *op, int index, int64_t cols) {
  if (index < 0) return PGG_OK;
  const pgg_weight *w = weight_of(plan, index);
  if (w->rows != 1 || w->cols != cols)
    return pgg_fail(PGG_ESHAPE, "%s: weight %s is (%lld, %lld), expected (1, %lld)", op->name, w->name, (ll)w->rows,
                    (ll)w->cols, (ll)cols);
  if (!w->vec)
    return pgg_fail(PGG_ETYPE, "%s: weight %s is %s, expected f32, f16 or bf16", op->name, w->name,
                    pgg_type_get(w->type)->name);
  return PGG_OK;
}

/* A vector of cols finite floats, positive ones if asked for; an absent one is fine. */
static pgg_status has_numbers(const pgg_plan *plan, const pgg_op *op, int index, int64_t cols, bool positive) {
  pgg_status status = has_vector(plan, op, index, cols);
  if (status || index < 0) return status;
  const pgg_weight *w = weight_of(plan, index);
  for (int64_t i = 0; i < cols; i++)
    if (!isfinite(w->vec[i]) || (positive && !(w->vec[i] > 0)))
      return pgg_fail(PGG_ENUMERIC, "%s: value %lld of %s is %g, expected a finite number%s", op->name, (ll)i, w->name,
                      (double)w->vec[i], positive ? " > 0" : "");
  return PGG_OK;
}

static pgg_status in_range(const pgg_op *op, const char *what, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return PGG_OK;
  return pgg_fail(PGG_EINVAL, "%s: %s is %lld, expected %lld to %lld", op->name, what, (ll)value, (ll)low, (ll)high);
}

static pgg_status has_cols(const pgg_plan *plan, const pgg_op *op, int src, int64_t heads, int64_t dim) {
  const int64_t cols = src < 0 ? heads * dim : plan->nodes[src].cols; /* an absent one is fine */
  if (cols == heads * dim) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: input %s has %lld columns, expected %lld (%lld heads of %lld)", op->name,
                  node_name(plan, src), (ll)cols, (ll)(heads * dim), (ll)heads, (ll)dim);
}

static pgg_status same_rows(const pgg_plan *plan, const pgg_op *op, int a, int b) {
  if (plan->nodes[a].rows == plan->nodes[b].rows) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: inputs differ: %s has rows of %s, %s of %s", op->name, node_name(plan, a),
                  rows_name(plan->nodes[a].rows), node_name(plan, b), rows_name(plan->nodes[b].rows));
}

static pgg_status same_shape(const pgg_plan *plan, const pgg_op *op, int first, int second) {
  const pgg_node *a = &plan->nodes[first], *b = &plan->nodes[second];
  if (a->rows == b->rows && a->cols == b->cols) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: inputs differ: %s is (%s, %lld), %s is (%s, %lld)", op->name, node_name(plan, first),
                  rows_name(a->rows), (ll)a->cols, node_name(plan, second), rows_name(b->rows), (ll)b->cols);
}

/* ---- the ops that need more than "same as the input" --------------------------------------------------- */

/* Rows of a table for each token of the text or the source. */
static pgg_status judge_table(const pgg_plan *plan, const pgg_op *op, pgg_node *out, int table, bool source) {
  out->rows = source ? PGG_ROWS_SOURCE : PGG_ROWS_TOKENS;
  out->cols = weight_of(plan, table)->cols;
  return in_range(op, "the number of columns", out->cols, 1, PGG_MOST_COLS);
}

static pgg_status judge_embed(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const int table = PGG_WEIGHT(op, embed, table);
  const pgg_weight *w = weight_of(plan, table);
  if (w->rows > INT32_MAX)
    return pgg_fail(PGG_ESHAPE, "%s: weight %s has %lld rows, more than ids can name", op->name, w->name, (ll)w->rows);
  return judge_table(plan, op, out, table, PGG_INT(op, embed, source));
}

static pgg_status judge_row(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const int table = PGG_WEIGHT(op, row, table);
  const pgg_status status = judge_table(plan, op, out, table, PGG_INT(op, row, source));
  return status ? status : in_range(op, "index", PGG_INT(op, row, index), 0, weight_of(plan, table)->rows - 1);
}

static pgg_status judge_input(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const bool source = PGG_INT(op, input, source);
  if ((source ? &plan->source : &plan->text)->n_input)
    return pgg_fail(PGG_EINVAL, "%s: the %s is fed by rows already", op->name, source ? "source" : "plan");
  out->rows = source ? PGG_ROWS_SOURCE : PGG_ROWS_TOKENS;
  out->cols = PGG_INT(op, input, cols);
  return PGG_OK;
}

static pgg_status has_runs(const pgg_plan *plan, const pgg_op *op, int src, int64_t seg) {
  const int64_t cols = plan->nodes[src].cols;
  if (cols % seg == 0) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: runs of %lld values do not divide the %lld columns of input %s", op->name, (ll)seg,
                  (ll)cols, node_name(plan, src));
}

static pgg_status judge_rms_norm(const pgg_plan *plan, const pgg_op *op) {
  const int64_t seg = PGG_INT(op, rms_norm, seg);
  const int w = PGG_WEIGHT(op, rms_norm, w);
  const int64_t cols = plan->nodes[PGG_SRC(op, rms_norm, x)].cols;
  const bool whole = w >= 0 && weight_of(plan, w)->cols == cols; /* one for each run */
  const pgg_status status = has_runs(plan, op, PGG_SRC(op, rms_norm, x), seg);
  return status ? status : has_vector(plan, op, w, whole ? cols : seg);
}

static pgg_status judge_layer_norm(const pgg_plan *plan, const pgg_op *op) {
  const int64_t seg = PGG_INT(op, layer_norm, seg);
  pgg_status status;
  if ((status = has_runs(plan, op, PGG_SRC(op, layer_norm, x), seg)) ||
      (status = has_vector(plan, op, PGG_WEIGHT(op, layer_norm, w), seg)))
    return status;
  return has_vector(plan, op, PGG_WEIGHT(op, layer_norm, bias), seg);
}

static pgg_status judge_cols(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const int64_t seg = PGG_INT(op, cols, seg), n = PGG_INT(op, cols, n);
  pgg_status status;
  if ((status = has_runs(plan, op, PGG_SRC(op, cols, x), seg)) || (status = in_range(op, "n", n, 1, seg)) ||
      (status = in_range(op, "start", PGG_INT(op, cols, start), 0, seg - n)))
    return status;
  out->cols = out->cols / seg * n;
  return PGG_OK;
}

static pgg_status judge_concat(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const int a = PGG_SRC(op, concat, a), b = PGG_SRC(op, concat, b);
  const int64_t a_seg = PGG_INT(op, concat, a_seg), b_seg = PGG_INT(op, concat, b_seg);
  pgg_status status;
  if ((status = has_runs(plan, op, a, a_seg)) || (status = has_runs(plan, op, b, b_seg))) return status;
  const int64_t runs = plan->nodes[a].cols / a_seg, others = plan->nodes[b].cols / b_seg;
  if (plan->nodes[a].rows != plan->nodes[b].rows || (others != runs && others != 1))
    return pgg_fail(PGG_ESHAPE, "%s: inputs differ: %s is (%s, %lld * %lld), %s is (%s, %lld * %lld)", op->name,
                    node_name(plan, a), rows_name(plan->nodes[a].rows), (ll)runs, (ll)a_seg, node_name(plan, b),
                    rows_name(plan->nodes[b].rows), (ll)others, (ll)b_seg);
  if ((status = in_range(op, "the number of columns", runs * (a_seg + b_seg), 1, PGG_MOST_COLS))) return status;
  out->cols = runs * (a_seg + b_seg);
  return PGG_OK;
}

static pgg_status judge_matmul(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const pgg_weight *w = weight_of(plan, PGG_WEIGHT(op, matmul, w));
  pgg_status status;
  if (w->cols != out->cols)
    return pgg_fail(PGG_ESHAPE, "%s: weight %s is (%lld, %lld), expected (m, %lld) for input %s", op->name, w->name,
                    (ll)w->rows, (ll)w->cols, (ll)out->cols, node_name(plan, PGG_SRC(op, matmul, x)));
  if ((status = in_range(op, "the number of weight rows", w->rows, 1, PGG_MOST_COLS))) return status;
  out->cols = w->rows;
  return has_vector(plan, op, PGG_WEIGHT(op, matmul, bias), w->rows);
}

static pgg_status judge_heads(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const pgg_weight *w = weight_of(plan, PGG_WEIGHT(op, heads, w));
  const int64_t n_head = PGG_INT(op, heads, n_head);
  if (w->rows % n_head || w->cols * n_head != out->cols)
    return pgg_fail(PGG_ESHAPE, "%s: weight %s is (%lld, %lld), expected (%lld * m, k) for input %s of %lld * k = %lld",
                    op->name, w->name, (ll)w->rows, (ll)w->cols, (ll)n_head, node_name(plan, PGG_SRC(op, heads, x)),
                    (ll)n_head, (ll)out->cols);
  out->cols = w->rows;
  return in_range(op, "the number of weight rows", w->rows, 1, PGG_MOST_COLS);
}

static pgg_status judge_rope(const pgg_plan *plan, const pgg_op *op) {
  const int64_t head_dim = PGG_INT(op, rope, head_dim), n_rot = PGG_INT(op, rope, n_rot);
  const float base = PGG_FLOAT(op, rope, freq_base);
  pgg_status status;
  if ((status = has_cols(plan, op, PGG_SRC(op, rope, x), PGG_INT(op, rope, n_head), head_dim)) ||
      (status = in_range(op, "n_rot", n_rot, 2, head_dim)))
    return status;
  if (n_rot % 2) return pgg_fail(PGG_EINVAL, "%s: n_rot is %lld, expected an even number", op->name, (ll)n_rot);
  if (PGG_FLOAT(op, rope, ext_factor) > 0) {
    if ((status = in_range(op, "n_ctx_orig of YaRN", PGG_INT(op, rope, n_ctx_orig), 1, INT32_MAX))) return status;
    if (!(PGG_FLOAT(op, rope, beta_fast) > 0) || !(PGG_FLOAT(op, rope, beta_slow) > 0))
      return pgg_fail(PGG_EINVAL, "%s: YaRN needs beta_fast and beta_slow > 0, got %g and %g", op->name,
                      (double)PGG_FLOAT(op, rope, beta_fast), (double)PGG_FLOAT(op, rope, beta_slow));
    if (base <= 1) return pgg_fail(PGG_EINVAL, "%s: YaRN needs freq_base > 1, got %g", op->name, (double)base);
  }
  if ((status = has_numbers(plan, op, PGG_WEIGHT(op, rope, factors), n_rot / 2, true))) return status;
  return has_numbers(plan, op, PGG_WEIGHT(op, rope, far), n_rot / 2, true);
}

/* n heads of which `others`, from 1 to n, serve neighbours or others equally often. */
static pgg_status has_heads(const pgg_op *op, const char *what, int64_t n_head, int64_t others) {
  const pgg_status status = in_range(op, what, others, 1, n_head);
  if (status || n_head % others == 0) return status;
  return pgg_fail(PGG_EINVAL, "%s: n_head %lld is not a multiple of %s %lld", op->name, (ll)n_head, what, (ll)others);
}

static pgg_status judge_attention(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const int64_t n_head = PGG_INT(op, attention, n_head), n_head_kv = PGG_INT(op, attention, n_head_kv);
  const int64_t k_dim = PGG_INT(op, attention, k_dim), v_dim = PGG_INT(op, attention, v_dim);
  pgg_status status;
  if ((status = has_heads(op, "n_head_kv", n_head, n_head_kv)) ||
      (status = has_cols(plan, op, PGG_SRC(op, attention, q), n_head, k_dim)) ||
      (status = has_cols(plan, op, PGG_SRC(op, attention, k), n_head_kv, k_dim)) ||
      (status = has_cols(plan, op, PGG_SRC(op, attention, v), n_head_kv, v_dim)) ||
      (status = has_numbers(plan, op, PGG_WEIGHT(op, attention, sinks), n_head, false)) ||
      (status = pgg_states_judge(plan, op)))
    return status;
  if (PGG_INT(op, attention, chunked) && (!PGG_INT(op, attention, causal) || !PGG_INT(op, attention, window)))
    return pgg_fail(PGG_EINVAL, "%s: chunks need causal 1 and window > 0, got %lld and %lld", op->name,
                    (ll)PGG_INT(op, attention, causal), (ll)PGG_INT(op, attention, window));
  out->cols = n_head * v_dim;
  return in_range(op, "n_head * v_dim", out->cols, 1, PGG_MOST_COLS);
}

static pgg_status judge_conv(const pgg_plan *plan, const pgg_op *op, const pgg_node *out) {
  const pgg_weight *w = weight_of(plan, PGG_WEIGHT(op, conv, w));
  pgg_status status;
  if (w->rows != out->cols)
    return pgg_fail(PGG_ESHAPE, "%s: weight %s is (%lld, %lld), expected (%lld, taps) for input %s", op->name, w->name,
                    (ll)w->rows, (ll)w->cols, (ll)out->cols, node_name(plan, PGG_SRC(op, conv, x)));
  if (pgg_type_get(w->type)->kind != PGG_KIND_FLOAT)
    return pgg_fail(PGG_ETYPE, "%s: weight %s is %s, expected f32, f16 or bf16", op->name, w->name,
                    pgg_type_get(w->type)->name);
  if ((status = in_range(op, "the number of taps", w->cols, 2, PGG_MOST_TAPS)) ||
      (status = has_vector(plan, op, PGG_WEIGHT(op, conv, bias), out->cols)))
    return status;
  return pgg_states_judge(plan, op);
}

static pgg_status judge_delta(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const int64_t n_head = PGG_INT(op, delta, n_head), n_head_k = PGG_INT(op, delta, n_head_k);
  const int64_t k_dim = PGG_INT(op, delta, k_dim), v_dim = PGG_INT(op, delta, v_dim);
  pgg_status status;
  if ((status = has_heads(op, "n_head_k", n_head, n_head_k)) ||
      (status = has_cols(plan, op, PGG_SRC(op, delta, q), n_head_k, k_dim)) ||
      (status = has_cols(plan, op, PGG_SRC(op, delta, k), n_head_k, k_dim)) ||
      (status = has_cols(plan, op, PGG_SRC(op, delta, v), n_head, v_dim)) ||
      (status = has_cols(plan, op, PGG_SRC(op, delta, alpha), n_head, 1)) ||
      (status = has_cols(plan, op, PGG_SRC(op, delta, beta), n_head, 1)) ||
      (status = has_numbers(plan, op, PGG_WEIGHT(op, delta, a), n_head, false)) ||
      (status = has_numbers(plan, op, PGG_WEIGHT(op, delta, dt), n_head, false)))
    return status;
  out->cols = n_head * v_dim;
  return pgg_states_judge(plan, op);
}

static pgg_status judge_scan(const pgg_plan *plan, const pgg_op *op) {
  const int64_t n_head = PGG_INT(op, scan, n_head), n_group = PGG_INT(op, scan, n_group);
  const int64_t k_dim = PGG_INT(op, scan, k_dim), a_cols = PGG_INT(op, scan, each) ? n_head * k_dim : n_head;
  pgg_status status;
  if ((status = has_heads(op, "n_group", n_head, n_group)) ||
      (status = has_cols(plan, op, PGG_SRC(op, scan, x), n_head, PGG_INT(op, scan, v_dim))) ||
      (status = has_cols(plan, op, PGG_SRC(op, scan, b), n_group, k_dim)) ||
      (status = has_cols(plan, op, PGG_SRC(op, scan, c), n_group, k_dim)) ||
      (status = has_cols(plan, op, PGG_SRC(op, scan, dt), n_head, 1)) ||
      (status = has_numbers(plan, op, PGG_WEIGHT(op, scan, a), a_cols, false)) ||
      (status = has_numbers(plan, op, PGG_WEIGHT(op, scan, bias), n_head, false)) ||
      (status = has_numbers(plan, op, PGG_WEIGHT(op, scan, d), n_head, false)))
    return status;
  return pgg_states_judge(plan, op);
}

/* Groups of one size, of which enough are open for the choice. */
static pgg_status judge_groups(const pgg_op *op, int64_t n_expert) {
  const int64_t n = PGG_INT(op, route, n_group), n_used = PGG_INT(op, route, n_used);
  pgg_status status;
  if (!n) return PGG_OK;
  if (n_expert % n)
    return pgg_fail(PGG_EINVAL, "%s: %lld groups do not divide %lld experts", op->name, (ll)n, (ll)n_expert);
  if ((status = in_range(op, "n_group_used", PGG_INT(op, route, n_group_used), 1, n)) ||
      (status = in_range(op, "group_best", PGG_INT(op, route, group_best), 1, n_expert / n)))
    return status;
  return in_range(op, "n_used", n_used, 1, PGG_INT(op, route, n_group_used) * (n_expert / n));
}

static pgg_status judge_route(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const int64_t n_expert = out->cols, n_used = PGG_INT(op, route, n_used);
  pgg_status status;
  if ((status = in_range(op, "the number of experts", n_expert, 1, PGG_MOST_EXPERTS)) ||
      (status = in_range(op, "n_used", n_used, 1, n_expert)) || (status = judge_groups(op, n_expert)))
    return status;
  out->cols = 2 * n_used;
  if ((status = has_numbers(plan, op, PGG_WEIGHT(op, route, bias), n_expert, false))) return status;
  return has_numbers(plan, op, PGG_WEIGHT(op, route, scales), n_expert, false);
}

/* A stack of n_expert matrices (rows, cols); rows 0: any number, which is returned in *rows. */
static pgg_status has_stack(const pgg_plan *plan, const pgg_op *op, int index, int64_t *rows, int64_t cols) {
  const int64_t n_expert = PGG_INT(op, experts, n_expert);
  const pgg_weight *w = weight_of(plan, index);
  if (w->rows % n_expert)
    return pgg_fail(PGG_ESHAPE, "%s: weight %s has %lld rows, which %lld experts do not divide", op->name, w->name,
                    (ll)w->rows, (ll)n_expert);
  if (w->cols != cols || (*rows && w->rows / n_expert != *rows))
    return pgg_fail(PGG_ESHAPE, "%s: weight %s has (%lld, %lld) for each of %lld experts, expected (%lld, %lld)",
                    op->name, w->name, (ll)(w->rows / n_expert), (ll)w->cols, (ll)n_expert,
                    (ll)(*rows ? *rows : w->rows / n_expert), (ll)cols);
  *rows = w->rows / n_expert;
  return in_range(op, "the number of rows of an expert", *rows, 1, PGG_MOST_COLS);
}

static pgg_status judge_experts(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const int src = PGG_SRC(op, experts, x);
  const pgg_node *x = &plan->nodes[src];
  const pgg_op *route = &plan->ops[plan->nodes[PGG_SRC(op, experts, routing)].op].op;
  const int64_t n_expert = PGG_INT(op, experts, n_expert);
  const int up = PGG_WEIGHT(op, experts, up);
  int64_t n_ff = 0, m = 0;
  pgg_status status;
  if (route->kind != PGG_OP_ROUTE || plan->nodes[PGG_SRC(route, route, logits)].cols != n_expert)
    return pgg_fail(PGG_EINVAL, "%s: input %s does not choose among %lld experts", op->name, route->name, (ll)n_expert);
  if ((status = same_rows(plan, op, src, PGG_SRC(op, experts, routing)))) return status;
  if ((status = has_stack(plan, op, PGG_WEIGHT(op, experts, gate), &n_ff, x->cols))) return status;
  if (PGG_INT(op, experts, plain) && (up >= 0 || PGG_WEIGHT(op, experts, up_bias) >= 0))
    return pgg_fail(PGG_EINVAL, "%s: plain experts have no up, nor biases of it", op->name);
  if (up < 0 && !PGG_INT(op, experts, plain)) {
    if (n_ff % 2)
      return pgg_fail(PGG_ESHAPE, "%s: weight %s has %lld rows for each expert, expected an even number: gate and up",
                      op->name, weight_of(plan, PGG_WEIGHT(op, experts, gate))->name, (ll)n_ff);
    n_ff /= 2;
  }
  if ((up >= 0 && (status = has_stack(plan, op, up, &n_ff, x->cols))) ||
      (status = has_stack(plan, op, PGG_WEIGHT(op, experts, down), &m, n_ff)) ||
      (status = has_numbers(plan, op, PGG_WEIGHT(op, experts, gate_bias), n_expert * n_ff, false)) ||
      (status = has_numbers(plan, op, PGG_WEIGHT(op, experts, up_bias), n_expert * n_ff, false)) ||
      (status = has_numbers(plan, op, PGG_WEIGHT(op, experts, down_bias), n_expert * m, false)))
    return status;
  out->cols = m;
  return PGG_OK;
}

static pgg_status judge_gate(const pgg_plan *plan, const pgg_op *op, const pgg_node *x) {
  const int src = PGG_SRC(op, gate, by);
  const pgg_node *by = &plan->nodes[src];
  if (by->rows == x->rows && by->cols == 1) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: input %s is (%s, %lld), expected (%s, 1)", op->name, node_name(plan, src),
                  rows_name(by->rows), (ll)by->cols, rows_name(x->rows));
}

static pgg_status judge_mix(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const int x = PGG_SRC(op, mix, x), by = PGG_SRC(op, mix, by);
  const int64_t seg = PGG_INT(op, mix, seg), cols = plan->nodes[by].cols;
  pgg_status status;
  if ((status = same_rows(plan, op, x, by)) || (status = has_runs(plan, op, x, seg)) ||
      (status = has_runs(plan, op, by, plan->nodes[x].cols / seg)))
    return status;
  const int64_t m = cols / (plan->nodes[x].cols / seg);
  if ((status = in_range(op, "the number of runs", m, 1, PGG_MOST_COLS / seg))) return status;
  out->cols = m * seg;
  return PGG_OK;
}

static pgg_status judge_level(const pgg_plan *plan, const pgg_op *op) {
  const int x = PGG_SRC(op, level, x);
  const pgg_status status = same_rows(plan, op, x, PGG_SRC(op, level, like));
  return status ? status : has_runs(plan, op, x, PGG_INT(op, level, seg));
}

pgg_status pgg_shape_judge(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  pgg_status status = pgg_op_judge_fields(plan, op);
  if (status) return status;
  if (pgg_op_src_count(op->kind) > 0) {
    out->rows = plan->nodes[op->src[0]].rows;
    out->cols = plan->nodes[op->src[0]].cols;
  }
  switch ((pgg_op_kind)op->kind) {
    case PGG_OP_EMBED: return judge_embed(plan, op, out);
    case PGG_OP_POSITIONS:
      return judge_table(plan, op, out, PGG_WEIGHT(op, positions, table), PGG_INT(op, positions, source));
    case PGG_OP_KINDS: return judge_table(plan, op, out, PGG_WEIGHT(op, kinds, table), PGG_INT(op, kinds, source));
    case PGG_OP_ROW: return judge_row(plan, op, out);
    case PGG_OP_INPUT: return judge_input(plan, op, out);
    case PGG_OP_RMS_NORM: return judge_rms_norm(plan, op);
    case PGG_OP_LAYER_NORM: return judge_layer_norm(plan, op);
    case PGG_OP_COLS: return judge_cols(plan, op, out);
    case PGG_OP_CONCAT: return judge_concat(plan, op, out);
    case PGG_OP_MATMUL: return judge_matmul(plan, op, out);
    case PGG_OP_HEADS: return judge_heads(plan, op, out);
    case PGG_OP_ADD: return same_shape(plan, op, PGG_SRC(op, add, a), PGG_SRC(op, add, b));
    case PGG_OP_MUL: return same_shape(plan, op, PGG_SRC(op, mul, a), PGG_SRC(op, mul, b));
    case PGG_OP_GLU: return same_shape(plan, op, PGG_SRC(op, glu, gate), PGG_SRC(op, glu, up));
    case PGG_OP_ROPE: return judge_rope(plan, op);
    case PGG_OP_ATTENTION: return judge_attention(plan, op, out);
    case PGG_OP_CONV: return judge_conv(plan, op, out);
    case PGG_OP_DELTA: return judge_delta(plan, op, out);
    case PGG_OP_SCAN: return judge_scan(plan, op);
    case PGG_OP_ROUTE: return judge_route(plan, op, out);
    case PGG_OP_EXPERTS: return judge_experts(plan, op, out);
    case PGG_OP_GATE: return judge_gate(plan, op, out);
    case PGG_OP_MIX: return judge_mix(plan, op, out);
    case PGG_OP_LEVEL: return judge_level(plan, op);
    case PGG_OP_ROWS: out->rows = PGG_ROWS_WANTED; return PGG_OK;
    case PGG_OP_SCALE:
    case PGG_OP_TEMPER:
    case PGG_OP_SOFTCAP:
    case PGG_OP_ACTIVATE:
    case PGG_OP_SOFTMAX:
    case PGG_OP_EXCESS:
    case PGG_OP_COUNT: break;
  }
  return PGG_OK; /* as the input */
}
