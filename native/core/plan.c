/* Building a plan: weights and ops are appended one by one, each judged at once by shape.c, then frozen by layout.c.
 * Nothing here computes. */
#include "core/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/backend.h"
#include "quant/quant.h"

#define MAX_ITEMS (1 << 20) /* nodes, weights or ops of a plan */

static char *copy_text(const char *text) {
  size_t n = strlen(text) + 1;
  char *copy = malloc(n);
  if (copy) memcpy(copy, text, n);
  return copy;
}

/* Room for one more of size bytes in *items. */
static pgg_status grow(void *items_, int n, int *cap, size_t size) {
  void **items = items_;
  if (n < *cap) return PGG_OK;
  if (n >= MAX_ITEMS) return pgg_fail(PGG_EINVAL, "a plan may hold at most %d weights, ops or nodes", MAX_ITEMS);
  int more = *cap ? *cap * 2 : 64;
  void *p = realloc(*items, (size_t)more * size);
  if (!p) return pgg_fail(PGG_ENOMEM, "no memory for %d plan entries", more);
  *items = p;
  *cap = more;
  return PGG_OK;
}

static pgg_status not_frozen(const pgg_plan *plan) {
  if (!plan) return pgg_fail(PGG_EINVAL, "plan is NULL");
  if (plan->frozen) return pgg_fail(PGG_EINVAL, "the plan is frozen and cannot be changed");
  return PGG_OK;
}

pgg_status pgg_plan_new(pgg_plan **out) {
  if (!out) return pgg_fail(PGG_EINVAL, "plan is NULL");
  *out = NULL;
  pgg_plan *plan = calloc(1, sizeof *plan);
  if (!plan) return pgg_fail(PGG_ENOMEM, "no memory for a plan");
  plan->bound = plan->ahead = -1;
  pgg_lock();
  pgg_cond_init(&plan->quiet);
  plan->generation = pgg_generation();
  pgg_unlock();
  *out = plan;
  return PGG_OK;
}

void pgg_plan_free(pgg_plan *plan) {
  if (!plan) return;
  pgg_lock();
  const bool mine = plan->generation == pgg_generation();
  pgg_unlock();
  if (mine) pgg_cond_free(&plan->quiet); /* a child's copy may have waiters that do not exist */
  pgg_places_drop(plan);
  for (int i = 0; i < plan->n_weight; i++) {
    free(plan->weights[i].name);
    free(plan->weights[i].own);
  }
  for (int i = 0; i < plan->n_op; i++) free((char *)plan->ops[i].op.name);
  free(plan->nodes);
  free(plan->weights);
  free(plan->ops);
  free(plan->states);
  free(plan->groups);
  free(plan);
}

/* Norms, biases and rope factors are read as floats: a vector of another float type gets a copy. */
static pgg_status make_vector(pgg_weight *w) {
  if (w->type == PGG_F32) {
    w->vec = w->data;
    return PGG_OK;
  }
  size_t bytes;
  if (!pgg_mul_size(w->cols, sizeof(float), &bytes) || !(w->own = malloc(bytes)))
    return pgg_fail(PGG_ENOMEM, "%s: no memory for %lld floats", w->name, (long long)w->cols);
  pgg_quant_get(w->type)->decode(w->data, w->own, w->cols);
  w->vec = w->own;
  return PGG_OK;
}

pgg_status pgg_plan_weight(pgg_plan *plan, const char *name, int type, const void *data, int64_t rows, int64_t cols,
                           int *index) {
  pgg_status status = not_frozen(plan);
  if (status) return status;
  if (!name || !data || !index) return pgg_fail(PGG_EINVAL, "%s: name, data or index is NULL", name ? name : "weight");
  const pgg_type_info *info = pgg_type_get(type);
  if (!info) return pgg_fail(PGG_ETYPE, "%s: there is no tensor type %d", name, type);
  if (!pgg_type_is_weight(type))
    return pgg_fail(PGG_ETYPE, "%s: type %s cannot be a weight (quantized or float types can)", name, info->name);
  if (rows < 1 || cols < 1)
    return pgg_fail(PGG_ESHAPE, "%s: shape (%lld, %lld) is empty", name, (long long)rows, (long long)cols);
  if (cols % info->elems)
    return pgg_fail(PGG_ESHAPE, "%s: rows of %lld values do not fit %s, whose blocks hold %d", name, (long long)cols,
                    info->name, info->elems);
  size_t row_bytes = pgg_row_bytes(type, cols), bytes;
  if (!row_bytes || row_bytes > INT64_MAX || !pgg_mul_size(rows, (int64_t)row_bytes, &bytes))
    return pgg_fail(PGG_ESHAPE, "%s: shape (%lld, %lld) is larger than memory can be", name, (long long)rows,
                    (long long)cols);
  if ((status = grow(&plan->weights, plan->n_weight, &plan->cap_weight, sizeof *plan->weights))) return status;
  pgg_weight w = {.type = type, .data = data, .rows = rows, .cols = cols, .row_bytes = row_bytes};
  if (!(w.name = copy_text(name))) return pgg_fail(PGG_ENOMEM, "%s: no memory for a name", name);
  if (rows == 1 && info->kind == PGG_KIND_FLOAT && (status = make_vector(&w))) {
    free(w.name);
    return status;
  }
  *index = plan->n_weight;
  plan->weights[plan->n_weight++] = w;
  return PGG_OK;
}

/* What the plan as a whole learns from an op that was found good. */
static void note_op(pgg_plan *plan, const pgg_op *op, const pgg_plan_op_rec *rec, const pgg_node *made) {
  const bool source = made->rows == PGG_ROWS_SOURCE;
  pgg_feed *feed = source ? &plan->source : &plan->text;
  switch (op->kind) {
    case PGG_OP_EMBED: {
      int64_t rows = plan->weights[PGG_WEIGHT(op, embed, table)].rows;
      feed->n_vocab = feed->n_embed++ ? pgg_min_i64(feed->n_vocab, rows) : rows;
      break;
    }
    case PGG_OP_POSITIONS: {
      const int64_t rows = plan->weights[PGG_WEIGHT(op, positions, table)].rows;
      feed->n_position = feed->n_position ? pgg_min_i64(feed->n_position, rows) : rows;
      break;
    }
    case PGG_OP_KINDS: {
      const int64_t rows = plan->weights[PGG_WEIGHT(op, kinds, table)].rows;
      feed->n_kind = feed->n_kind ? pgg_min_i64(feed->n_kind, rows) : rows;
      break;
    }
    case PGG_OP_INPUT: feed->n_input = PGG_INT(op, input, cols); break;
    case PGG_OP_ATTENTION:
      plan->crosses |= rec->crosses;
      plan->any_order |= !source && !rec->crosses && !PGG_INT(op, attention, causal);
      break;
    default: break;
  }
}

pgg_status pgg_plan_op(pgg_plan *plan, const pgg_op *op, int *node) {
  pgg_status status = not_frozen(plan);
  if (status) return status;
  if (!op || !node) return pgg_fail(PGG_EINVAL, "op or node is NULL");
  pgg_op good = *op;
  if (!good.name) good.name = pgg_op_name(op->kind) ? pgg_op_name(op->kind) : "op";
  pgg_node made = {.op = plan->n_op, .last_use = plan->n_op};
  if ((status = pgg_shape_judge(plan, &good, &made))) return status;
  if ((status = grow(&plan->ops, plan->n_op, &plan->cap_op, sizeof *plan->ops)) ||
      (status = grow(&plan->nodes, plan->n_node, &plan->cap_node, sizeof *plan->nodes)) ||
      (status = grow(&plan->states, plan->n_state, &plan->cap_state, sizeof *plan->states)))
    return status;
  if (!(good.name = copy_text(good.name))) return pgg_fail(PGG_ENOMEM, "no memory for the name of an op");
  made.stride = (made.cols + 15) / 16 * 16;
  pgg_plan_op_rec rec = {.op = good, .node = plan->n_node, .state = -1};
  pgg_states_note(plan, &good, &rec);
  note_op(plan, &good, &rec, &made);
  for (int i = 0; i < pgg_op_src_count(op->kind); i++)
    if (op->src[i] >= 0) plan->nodes[op->src[i]].last_use = plan->n_op;
  memcpy(&plan->ops[plan->n_op++], &rec, sizeof rec);
  *node = plan->n_node;
  plan->nodes[plan->n_node++] = made;
  return PGG_OK;
}

pgg_status pgg_plan_output(pgg_plan *plan, int node) {
  pgg_status status = not_frozen(plan);
  if (status) return status;
  if (node < 0 || node >= plan->n_node)
    return pgg_fail(PGG_EINVAL, "output: there is no node %d (the plan has %d)", node, plan->n_node);
  if (plan->nodes[node].rows == PGG_ROWS_SOURCE)
    return pgg_fail(PGG_ESHAPE, "output: %s has the rows of the source, steps return those of the text",
                    plan->ops[plan->nodes[node].op].op.name);
  if (plan->n_output == PGG_MAX_OUTPUTS) return pgg_fail(PGG_EINVAL, "output: a plan has at most %d", PGG_MAX_OUTPUTS);
  plan->outputs[plan->n_output++] = node;
  return PGG_OK;
}

pgg_status pgg_plan_freeze(pgg_plan *plan, const pgg_limits *limits) {
  pgg_status status = not_frozen(plan);
  if (status) return status;
  if (!limits) return pgg_fail(PGG_EINVAL, "limits is NULL");
  if (limits->n_batch < 1 || limits->n_batch > 1 << 20)
    return pgg_fail(PGG_EINVAL, "n_batch is %d, expected 1 to %d", limits->n_batch, 1 << 20);
  if (limits->n_ctx < 1 || limits->n_ctx > 1 << 30)
    return pgg_fail(PGG_EINVAL, "n_ctx is %d, expected 1 to %d", limits->n_ctx, 1 << 30);
  if (plan->text.n_position && limits->n_ctx > plan->text.n_position)
    return pgg_fail(PGG_EINVAL, "n_ctx is %d, but the table of positions has %lld rows", limits->n_ctx,
                    (long long)plan->text.n_position);
  if (!plan->n_output) return pgg_fail(PGG_EINVAL, "the plan has no output: call pgg_plan_output first");
  if ((status = pgg_init())) return status;
  plan->limits = *limits;
  pgg_layout_serves(plan);
  if ((status = pgg_places_find(plan)) || (status = pgg_layout_freeze(plan))) return status;
  plan->gate.n = 1;
  plan->frozen = true;
  return PGG_OK;
}

pgg_status pgg_plan_node_shape(const pgg_plan *plan, int node, int64_t *rows, int64_t *cols) {
  if (!plan || !rows || !cols) return pgg_fail(PGG_EINVAL, "plan, rows or cols is NULL");
  if (node < 0 || node >= plan->n_node)
    return pgg_fail(PGG_EINVAL, "there is no node %d (the plan has %d)", node, plan->n_node);
  *rows = plan->nodes[node].rows;
  *cols = plan->nodes[node].cols;
  return PGG_OK;
}

int64_t pgg_plan_output_cols(const pgg_plan *plan) {
  return plan && plan->n_output ? plan->nodes[plan->outputs[0]].cols : 0;
}

int64_t pgg_plan_input_cols(const pgg_plan *plan) { return plan ? plan->text.n_input : 0; }
int64_t pgg_plan_source_cols(const pgg_plan *plan) { return plan ? plan->source.n_input : 0; }

int pgg_plan_weight_count(const pgg_plan *plan) { return plan ? plan->n_weight : 0; }

const char *pgg_plan_weight_name(const pgg_plan *plan, int index) {
  return plan && index >= 0 && index < plan->n_weight ? plan->weights[index].name : NULL;
}

pgg_status pgg_plan_profile(pgg_plan *plan, int on) {
  if (!plan || !plan->frozen) return pgg_fail(PGG_EINVAL, "profile: the plan is not frozen");
  if (on)
    for (int i = 0; i < plan->n_op; i++) {
      atomic_store_explicit(&plan->ops[i].calls, 0, memory_order_relaxed);
      atomic_store_explicit(&plan->ops[i].ns, 0, memory_order_relaxed);
    }
  atomic_store_explicit(&plan->profile, on != 0, memory_order_relaxed);
  return PGG_OK;
}

int pgg_plan_times(const pgg_plan *plan, pgg_op_time *times, int cap) {
  if (!plan) return 0;
  for (int i = 0; i < plan->n_op && i < cap && times; i++) {
    pgg_plan_op_rec *rec = &plan->ops[i];
    times[i].name = rec->op.name;
    times[i].kind = pgg_op_name(rec->op.kind);
    times[i].calls = atomic_load_explicit(&rec->calls, memory_order_relaxed);
    times[i].ns = atomic_load_explicit(&rec->ns, memory_order_relaxed);
  }
  return plan->n_op;
}
