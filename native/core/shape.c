/* The only validator of ops: what each may read, which weights fit, and the shape it makes. Every message names the
 * op, the thing that is wrong, what it is and what it should be. Code behind this file trusts shapes. */
#include <math.h>
#include <stdlib.h>

#include "core/plan.h"
#include "quant/quant.h"

#define MAX_COLS ((int64_t)1 << 30)
#define MAX_HEADS 65536
#define MAX_DIM 65536
#define MAX_EXPERTS 16384
#define MAX_USED 1024

static const unsigned char src_counts[] = {
#define OP(NAME, name, n_src, n_weight, n_int, n_float) n_src,
#include "core/ops.def"
#undef OP
};

int pgg_op_src_count(int kind) { return src_counts[kind]; }

bool pgg_type_is_weight(int type) {
  const pgg_type_info *info = pgg_type_get(type);
  return info && (info->kind == PGG_KIND_BLOCK || info->kind == PGG_KIND_FLOAT);
}

typedef long long ll;

static const char *node_name(const pgg_plan *plan, int node) { return plan->ops[plan->nodes[node].op].op.name; }
static const char *rows_name(int64_t rows) { return rows == PGG_ROWS_WANTED ? "wanted" : "tokens"; }

static pgg_status has_weight(const pgg_plan *plan, const pgg_op *op, int slot) {
  int w = op->weight[slot];
  if (w < 0 || w >= plan->n_weight)
    return pgg_fail(PGG_EINVAL, "%s: there is no weight %d (the plan has %d)", op->name, w, plan->n_weight);
  return PGG_OK;
}

/* A vector of cols floats. */
static pgg_status has_vector(const pgg_plan *plan, const pgg_op *op, int slot, int64_t cols) {
  pgg_status status = has_weight(plan, op, slot);
  if (status) return status;
  const pgg_weight *w = &plan->weights[op->weight[slot]];
  if (w->rows != 1 || w->cols != cols)
    return pgg_fail(PGG_ESHAPE, "%s: weight %s is (%lld, %lld), expected (1, %lld)", op->name, w->name, (ll)w->rows,
                    (ll)w->cols, (ll)cols);
  if (!w->vec)
    return pgg_fail(PGG_ETYPE, "%s: weight %s is %s, expected f32, f16 or bf16", op->name, w->name,
                    pgg_type_get(w->type)->name);
  return PGG_OK;
}

static pgg_status in_range(const pgg_op *op, const char *what, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return PGG_OK;
  return pgg_fail(PGG_EINVAL, "%s: %s is %lld, expected %lld to %lld", op->name, what, (ll)value, (ll)low, (ll)high);
}

static pgg_status finite_at_least(const pgg_op *op, const char *what, float value, float low) {
  if (isfinite(value) && value >= low) return PGG_OK;
  return pgg_fail(PGG_EINVAL, "%s: %s is %g, expected a finite number >= %g", op->name, what, (double)value,
                  (double)low);
}

static pgg_status positive(const pgg_op *op, const char *what, float value) {
  if (isfinite(value) && value > 0) return PGG_OK;
  return pgg_fail(PGG_EINVAL, "%s: %s is %g, expected a finite number > 0", op->name, what, (double)value);
}

static pgg_status has_cols(const pgg_plan *plan, const pgg_op *op, int slot, int64_t heads, int64_t dim) {
  int64_t cols = plan->nodes[op->src[slot]].cols;
  if (cols == heads * dim) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: input %s has %lld columns, expected %lld (%lld heads of %lld)", op->name,
                  node_name(plan, op->src[slot]), (ll)cols, (ll)(heads * dim), (ll)heads, (ll)dim);
}

static pgg_status of_tokens(const pgg_plan *plan, const pgg_op *op, int slot) {
  if (plan->nodes[op->src[slot]].rows == PGG_ROWS_TOKENS) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: input %s has only the wanted rows, %s needs those of all tokens", op->name,
                  node_name(plan, op->src[slot]), pgg_op_name(op->kind));
}

static pgg_status same_shape(const pgg_plan *plan, const pgg_op *op) {
  const pgg_node *a = &plan->nodes[op->src[0]], *b = &plan->nodes[op->src[1]];
  if (a->rows == b->rows && a->cols == b->cols) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: inputs differ: %s is (%s, %lld), %s is (%s, %lld)", op->name,
                  node_name(plan, op->src[0]), rows_name(a->rows), (ll)a->cols, node_name(plan, op->src[1]),
                  rows_name(b->rows), (ll)b->cols);
}

/* ---- the ops that need more than "same as the input" --------------------------------------------------- */

static pgg_status judge_matmul(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const pgg_node *x = &plan->nodes[op->src[0]];
  pgg_status status = has_weight(plan, op, 0);
  if (status) return status;
  const pgg_weight *w = &plan->weights[op->weight[0]];
  if (w->cols != x->cols)
    return pgg_fail(PGG_ESHAPE, "%s: weight %s is (%lld, %lld), expected (m, %lld) for input %s", op->name, w->name,
                    (ll)w->rows, (ll)w->cols, (ll)x->cols, node_name(plan, op->src[0]));
  if ((status = in_range(op, "the number of weight rows", w->rows, 1, MAX_COLS))) return status;
  if (op->weight[1] >= 0 && (status = has_vector(plan, op, 1, w->rows))) return status;
  out->rows = x->rows;
  out->cols = w->rows;
  return PGG_OK;
}

static pgg_status judge_rope(const pgg_plan *plan, const pgg_op *op) {
  pgg_status status;
  if ((status = of_tokens(plan, op, 0)) || (status = in_range(op, "n_head", op->i[0], 1, MAX_HEADS)) ||
      (status = in_range(op, "head_dim", op->i[1], 1, MAX_DIM)) ||
      (status = has_cols(plan, op, 0, op->i[0], op->i[1])) || (status = in_range(op, "n_rot", op->i[2], 2, op->i[1])) ||
      (status = in_range(op, "kind", op->i[3], 0, 1)) ||
      (status = in_range(op, "n_ctx_orig", op->i[4], 0, INT32_MAX)) || (status = positive(op, "freq_base", op->f[0])) ||
      (status = positive(op, "freq_scale", op->f[1])) || (status = finite_at_least(op, "ext_factor", op->f[2], 0)) ||
      (status = positive(op, "attn_factor", op->f[3])))
    return status;
  if (op->i[2] % 2) return pgg_fail(PGG_EINVAL, "%s: n_rot is %lld, expected an even number", op->name, (ll)op->i[2]);
  if (op->f[2] > 0) {
    if (op->i[4] < 1) return pgg_fail(PGG_EINVAL, "%s: YaRN needs n_ctx_orig, got %lld", op->name, (ll)op->i[4]);
    if ((status = positive(op, "beta_fast", op->f[4])) || (status = positive(op, "beta_slow", op->f[5]))) return status;
    if (op->f[0] <= 1) return pgg_fail(PGG_EINVAL, "%s: YaRN needs freq_base > 1, got %g", op->name, (double)op->f[0]);
  }
  if (op->weight[0] < 0) return PGG_OK;
  if ((status = has_vector(plan, op, 0, op->i[2] / 2))) return status;
  const pgg_weight *w = &plan->weights[op->weight[0]];
  for (int64_t i = 0; i < w->cols; i++)
    if (!(isfinite(w->vec[i]) && w->vec[i] > 0))
      return pgg_fail(PGG_ENUMERIC, "%s: rope factor %lld of %s is %g, expected a finite number > 0", op->name, (ll)i,
                      w->name, (double)w->vec[i]);
  return PGG_OK;
}

static pgg_status judge_attention(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const int64_t n_head = op->i[1], n_head_kv = op->i[2], k_dim = op->i[3], v_dim = op->i[4];
  pgg_status status;
  for (int i = 0; i < 3; i++)
    if ((status = of_tokens(plan, op, i))) return status;
  if ((status = in_range(op, "layer", op->i[0], 0, 65535)) || (status = in_range(op, "n_head", n_head, 1, MAX_HEADS)) ||
      (status = in_range(op, "n_head_kv", n_head_kv, 1, n_head)) ||
      (status = in_range(op, "k_dim", k_dim, 1, MAX_DIM)) || (status = in_range(op, "v_dim", v_dim, 1, MAX_DIM)) ||
      (status = in_range(op, "causal", op->i[5], 0, 1)) || (status = in_range(op, "window", op->i[6], 0, INT32_MAX)) ||
      (status = finite_at_least(op, "softcap", op->f[1], 0)))
    return status;
  if (!isfinite(op->f[0])) return pgg_fail(PGG_EINVAL, "%s: scale is not finite", op->name);
  if (n_head % n_head_kv)
    return pgg_fail(PGG_EINVAL, "%s: n_head %lld is not a multiple of n_head_kv %lld", op->name, (ll)n_head,
                    (ll)n_head_kv);
  if ((status = has_cols(plan, op, 0, n_head, k_dim)) || (status = has_cols(plan, op, 1, n_head_kv, k_dim)) ||
      (status = has_cols(plan, op, 2, n_head_kv, v_dim)))
    return status;
  for (int i = 0; i < plan->n_kv; i++)
    if (plan->kv[i].layer == op->i[0])
      return pgg_fail(PGG_EINVAL, "%s: layer %lld has an attention op already", op->name, (ll)op->i[0]);
  if ((status = in_range(op, "n_head * v_dim", n_head * v_dim, 1, MAX_COLS))) return status;
  out->rows = PGG_ROWS_TOKENS;
  out->cols = n_head * v_dim;
  return PGG_OK;
}

static pgg_status judge_route(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const int64_t n_expert = out->cols;
  pgg_status status;
  if ((status = in_range(op, "the number of experts", n_expert, 1, MAX_EXPERTS)) ||
      (status = in_range(op, "n_used", op->i[0], 1, pgg_min_i64(n_expert, MAX_USED))) ||
      (status = in_range(op, "gating", op->i[1], 0, 2)) || (status = in_range(op, "norm", op->i[2], 0, 1)) ||
      (status = positive(op, "scale", op->f[0])))
    return status;
  out->cols = 2 * op->i[0];
  if (op->weight[0] < 0) return PGG_OK;
  if ((status = has_vector(plan, op, 0, n_expert))) return status;
  const pgg_weight *w = &plan->weights[op->weight[0]];
  for (int64_t i = 0; i < w->cols; i++)
    if (!isfinite(w->vec[i]))
      return pgg_fail(PGG_ENUMERIC, "%s: value %lld of %s is %g, expected a finite number", op->name, (ll)i, w->name,
                      (double)w->vec[i]);
  return PGG_OK;
}

/* A stack of n_expert matrices (rows, cols); rows 0: any number, which is returned in *rows. */
static pgg_status has_stack(const pgg_plan *plan, const pgg_op *op, int slot, int64_t *rows, int64_t cols) {
  pgg_status status = has_weight(plan, op, slot);
  if (status) return status;
  const int64_t n_expert = op->i[0];
  const pgg_weight *w = &plan->weights[op->weight[slot]];
  if (w->rows % n_expert)
    return pgg_fail(PGG_ESHAPE, "%s: weight %s has %lld rows, which %lld experts do not divide", op->name, w->name,
                    (ll)w->rows, (ll)n_expert);
  if (w->cols != cols || (*rows && w->rows / n_expert != *rows))
    return pgg_fail(PGG_ESHAPE, "%s: weight %s has (%lld, %lld) for each of %lld experts, expected (%lld, %lld)",
                    op->name, w->name, (ll)(w->rows / n_expert), (ll)w->cols, (ll)n_expert,
                    (ll)(*rows ? *rows : w->rows / n_expert), (ll)cols);
  *rows = w->rows / n_expert;
  return in_range(op, "the number of rows of an expert", *rows, 1, MAX_COLS);
}

static pgg_status judge_experts(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  const pgg_node *x = &plan->nodes[op->src[0]], *routing = &plan->nodes[op->src[1]];
  const pgg_op *route = &plan->ops[routing->op].op;
  int64_t n_ff = 0, m = 0;
  pgg_status status;
  if (route->kind != PGG_OP_ROUTE || plan->nodes[route->src[0]].cols != op->i[0])
    return pgg_fail(PGG_EINVAL, "%s: input %s does not choose among %lld experts", op->name, route->name, (ll)op->i[0]);
  if (routing->rows != x->rows)
    return pgg_fail(PGG_ESHAPE, "%s: inputs differ: %s has rows of %s, %s of %s", op->name, node_name(plan, op->src[0]),
                    rows_name(x->rows), route->name, rows_name(routing->rows));
  if ((status = in_range(op, "the activation", op->i[1], 0, 1)) || (status = has_stack(plan, op, 0, &n_ff, x->cols)) ||
      (status = has_stack(plan, op, 1, &n_ff, x->cols)) || (status = has_stack(plan, op, 2, &m, n_ff)))
    return status;
  out->cols = m;
  return PGG_OK;
}

static pgg_status judge_gate(const pgg_plan *plan, const pgg_op *op) {
  const pgg_node *x = &plan->nodes[op->src[0]], *by = &plan->nodes[op->src[1]];
  if (by->rows == x->rows && by->cols == 1) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: input %s is (%s, %lld), expected (%s, 1)", op->name, node_name(plan, op->src[1]),
                  rows_name(by->rows), (ll)by->cols, rows_name(x->rows));
}

static pgg_status judge_first(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  pgg_status status;
  out->rows = PGG_ROWS_TOKENS;
  if (op->kind == PGG_OP_INPUT) {
    if (plan->n_input || plan->n_embed)
      return pgg_fail(PGG_EINVAL, "%s: the plan is fed by %s already", op->name, plan->n_input ? "rows" : "ids");
    out->cols = op->i[0];
    return in_range(op, "the number of columns", op->i[0], 1, MAX_COLS);
  }
  if (plan->n_input) return pgg_fail(PGG_EINVAL, "%s: the plan is fed by rows already", op->name);
  if ((status = has_weight(plan, op, 0))) return status;
  const pgg_weight *w = &plan->weights[op->weight[0]];
  if (w->rows > INT32_MAX)
    return pgg_fail(PGG_ESHAPE, "%s: weight %s has %lld rows, more than ids can name", op->name, w->name, (ll)w->rows);
  out->cols = w->cols;
  return in_range(op, "the number of columns", w->cols, 1, MAX_COLS);
}

pgg_status pgg_shape_judge(const pgg_plan *plan, const pgg_op *op, pgg_node *out) {
  pgg_status status;
  if (op->kind < 0 || op->kind >= PGG_OP_COUNT)
    return pgg_fail(PGG_EINVAL, "%s: there is no op of kind %d", op->name, op->kind);
  for (int i = 0; i < pgg_op_src_count(op->kind); i++)
    if (op->src[i] < 0 || op->src[i] >= plan->n_node)
      return pgg_fail(PGG_EINVAL, "%s: input %d of %s is node %d, which is not there (the plan has %d)", op->name, i,
                      pgg_op_name(op->kind), op->src[i], plan->n_node);
  if (pgg_op_src_count(op->kind) > 0) {
    out->rows = plan->nodes[op->src[0]].rows;
    out->cols = plan->nodes[op->src[0]].cols;
  }
  switch ((pgg_op_kind)op->kind) {
    case PGG_OP_EMBED:
    case PGG_OP_INPUT: return judge_first(plan, op, out);
    case PGG_OP_RMS_NORM:
      if ((status = in_range(op, "the norm's length", op->i[0], 1, out->cols))) return status;
      if (out->cols % op->i[0])
        return pgg_fail(PGG_ESHAPE, "%s: runs of %lld values do not divide the %lld columns of input %s", op->name,
                        (ll)op->i[0], (ll)out->cols, node_name(plan, op->src[0]));
      if ((status = finite_at_least(op, "eps", op->f[0], 0))) return status;
      return has_vector(plan, op, 0, op->i[0]);
    case PGG_OP_MATMUL: return judge_matmul(plan, op, out);
    case PGG_OP_ADD:
    case PGG_OP_MUL: return same_shape(plan, op);
    case PGG_OP_SCALE:
      if (!isfinite(op->f[0])) return pgg_fail(PGG_EINVAL, "%s: the factor is not finite", op->name);
      return PGG_OK;
    case PGG_OP_ROPE: return judge_rope(plan, op);
    case PGG_OP_ATTENTION: return judge_attention(plan, op, out);
    case PGG_OP_GLU:
      if ((status = in_range(op, "the activation", op->i[0], 0, 1))) return status;
      return same_shape(plan, op);
    case PGG_OP_ROUTE: return judge_route(plan, op, out);
    case PGG_OP_EXPERTS: return judge_experts(plan, op, out);
    case PGG_OP_GATE: return judge_gate(plan, op);
    case PGG_OP_ROWS: out->rows = PGG_ROWS_WANTED; return of_tokens(plan, op, 0);
    case PGG_OP_SILU:
    case PGG_OP_GELU:
    case PGG_OP_GELU_ERF:
    case PGG_OP_SOFTMAX: return PGG_OK;
    case PGG_OP_COUNT: break;
  }
  return pgg_fail(PGG_EINVAL, "%s: there is no op of kind %d", op->name, op->kind);
}
