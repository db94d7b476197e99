/* Which states a plan has: what its ops keep, what they share, and where it lies. An op that is the first to name a
 * number makes the state; others read it. How a session holds them is the business of state.c and moments.c. */
#include <stdlib.h>

#include "base/memory.h"
#include "core/ops.h"
#include "core/state.h"
#include "quant/quant.h"

typedef long long ll;

/* The state of a number, -1 if there is none. */
static int find(const pgg_plan *plan, int64_t number) {
  int i = 0;
  while (i < plan->n_state && plan->states[i].number != number) i++;
  return i < plan->n_state ? i : -1;
}

static const char *maker_of(const pgg_plan *plan, const pgg_state *state) { return plan->ops[state->maker].op.name; }

/* ---- judging --------------------------------------------------------------------------------------------- */

static pgg_status is_new(const pgg_plan *plan, const pgg_op *op, int64_t number) {
  const int at = find(plan, number);
  if (at < 0) return PGG_OK;
  return pgg_fail(PGG_EINVAL, "%s: state %lld is written by %s already", op->name, (ll)number,
                  maker_of(plan, &plan->states[at]));
}

/* A number that an op only reads: keys and values of as many heads. */
static pgg_status is_kept(const pgg_plan *plan, const pgg_op *op, int64_t number, const pgg_state **state) {
  const int at = find(plan, number);
  if (at < 0)
    return pgg_fail(PGG_EINVAL, "%s: nothing before it writes state %lld, which it attends to", op->name, (ll)number);
  const pgg_state *it = *state = &plan->states[at];
  if (it->kind != PGG_STATE_KV)
    return pgg_fail(PGG_EINVAL, "%s: state %lld of %s holds no keys and values", op->name, (ll)number,
                    maker_of(plan, it));
  if (it->n_head_kv == PGG_INT(op, attention, n_head_kv)) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: n_head_kv is %lld, but %s keeps %lld heads", op->name,
                  (ll)PGG_INT(op, attention, n_head_kv), maker_of(plan, it), (ll)it->n_head_kv);
}

static pgg_status has_width(const pgg_plan *plan, const pgg_op *op, const char *what, int64_t dim,
                            const pgg_state *state, int64_t kept) {
  if (dim == kept) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: %s is %lld, but %s keeps %lld values", op->name, what, (ll)dim,
                  maker_of(plan, state), (ll)kept);
}

static pgg_status within_keys(const pgg_op *op, int64_t v_dim, int64_t k_dim) {
  if (v_dim <= k_dim) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: v_dim is %lld, but values are columns of keys, which have %lld", op->name, (ll)v_dim,
                  (ll)k_dim);
}

/* What the states of an op demand of each other. */
static pgg_status judge_keys(const pgg_plan *plan, const pgg_op *op) {
  const int64_t keys = PGG_INT(op, attention, keys), values = PGG_INT(op, attention, values);
  const int64_t k_dim = PGG_INT(op, attention, k_dim), v_dim = PGG_INT(op, attention, v_dim);
  const bool k = PGG_SRC(op, attention, k) >= 0, v = PGG_SRC(op, attention, v) >= 0;
  const pgg_state *state;
  pgg_status status;
  if (k && v && keys != values)
    return pgg_fail(PGG_EINVAL, "%s: keys and values of its own lie in one state, not in %lld and %lld", op->name,
                    (ll)keys, (ll)values);
  if (!k && v && keys == values)
    return pgg_fail(PGG_EINVAL, "%s: values of its own need a state of their own, state %lld has the keys", op->name,
                    (ll)keys);
  if (k && (status = is_new(plan, op, keys))) return status;
  if (v && (status = is_new(plan, op, values))) return status;
  if (!k) {
    if ((status = is_kept(plan, op, keys, &state)) ||
        (status = has_width(plan, op, "k_dim", k_dim, state, state->k_dim)))
      return status;
  }
  if (v) return PGG_OK;
  if (k && keys == values) return within_keys(op, v_dim, k_dim);
  if ((status = is_kept(plan, op, values, &state))) return status;
  return state->v_dim ? has_width(plan, op, "v_dim", v_dim, state, state->v_dim) : within_keys(op, v_dim, state->k_dim);
}

/* Whether keys or values are the source's: those of a node, or of a state that there is. */
static bool of_source(const pgg_plan *plan, int node, int64_t number) {
  return node >= 0 ? plan->nodes[node].rows == PGG_ROWS_SOURCE : plan->states[find(plan, number)].source;
}

/* Which text attends to which. */
static pgg_status judge_texts(const pgg_plan *plan, const pgg_op *op) {
  const int64_t keys_at = PGG_INT(op, attention, keys), values_at = PGG_INT(op, attention, values);
  const int k = PGG_SRC(op, attention, k), v = PGG_SRC(op, attention, v);
  const bool from = of_source(plan, PGG_SRC(op, attention, q), 0), keys = of_source(plan, k, keys_at);
  const bool values = v < 0 && k >= 0 && keys_at == values_at ? keys : of_source(plan, v, values_at);
  const int64_t causal = PGG_INT(op, attention, causal), window = PGG_INT(op, attention, window);
  if (keys != values)
    return pgg_fail(PGG_EINVAL, "%s: keys are those of the %s, values those of the %s: both must be of one", op->name,
                    keys ? "source" : "text", values ? "source" : "text");
  if (from && !keys)
    return pgg_fail(PGG_EINVAL, "%s: the source is read before the text and cannot attend to it", op->name);
  if (keys && !from && PGG_FLOAT(op, attention, alibi) > 0)
    return pgg_fail(PGG_EINVAL,
                    "%s attends to the source, from which the text is not so and so far: alibi is %g, "
                    "expected 0",
                    op->name, (double)PGG_FLOAT(op, attention, alibi));
  if (from || !keys || (!causal && !window)) return PGG_OK;
  return pgg_fail(PGG_EINVAL,
                  "%s attends to the source, whose positions are not those of the text: causal is %lld and window "
                  "%lld, expected 0 and 0",
                  op->name, (ll)causal, (ll)window);
}

static pgg_status judge_attention(const pgg_plan *plan, const pgg_op *op) {
  const pgg_status status = judge_keys(plan, op);
  return status ? status : judge_texts(plan, op);
}

/* What a state of rows can be: a float for each value. */
static pgg_status keeps_rows(const pgg_op *op, int64_t type) {
  const pgg_type_info *info = pgg_type_get((int)type);
  if (type == PGG_F32 || type == PGG_F16 || type == PGG_BF16) return PGG_OK;
  return pgg_fail(PGG_ETYPE, "%s: a state of rows cannot be %s; f32, f16 and bf16 can", op->name,
                  info ? info->name : "of an unknown type");
}

/* The state of rows that an op makes; of no rows where its kind has none. */
static pgg_state rows_of(const pgg_plan *plan, const pgg_op *op) {
  pgg_state state = {.kind = PGG_STATE_ROWS, .maker = plan->n_op};
  if (op->kind == PGG_OP_CONV) {
    const pgg_weight *w = &plan->weights[PGG_WEIGHT(op, conv, w)];
    state.number = PGG_INT(op, conv, state);
    state.rows = w->cols - 1, state.cols = w->rows;
    state.type = (int)PGG_INT(op, conv, type);
  } else if (op->kind == PGG_OP_DELTA) {
    state.number = PGG_INT(op, delta, state);
    state.rows = PGG_INT(op, delta, n_head) * PGG_INT(op, delta, k_dim), state.cols = PGG_INT(op, delta, v_dim);
    state.type = PGG_F32;
  } else if (op->kind == PGG_OP_SCAN) {
    state.number = PGG_INT(op, scan, state);
    state.rows = PGG_INT(op, scan, n_head) * PGG_INT(op, scan, v_dim), state.cols = PGG_INT(op, scan, k_dim);
    state.type = PGG_F32;
  }
  return state;
}

pgg_status pgg_states_judge(const pgg_plan *plan, const pgg_op *op) {
  if (op->kind == PGG_OP_ATTENTION) return judge_attention(plan, op);
  const pgg_state state = rows_of(plan, op);
  const pgg_status status = keeps_rows(op, state.type);
  return status ? status : is_new(plan, op, state.number);
}

/* ---- noting ---------------------------------------------------------------------------------------------- */

/* The positions that two look back at together. */
static int64_t wider(int64_t a, int64_t b) { return a && b ? pgg_max_i64(a, b) : 0; }

static int64_t window_of(const pgg_op *op) {
  return PGG_INT(op, attention, causal) ? PGG_INT(op, attention, window) : 0;
}

static void note_attention(pgg_plan *plan, const pgg_op *op, pgg_plan_op_rec *rec) {
  const int64_t keys = PGG_INT(op, attention, keys), values = PGG_INT(op, attention, values);
  const bool k = PGG_SRC(op, attention, k) >= 0, v = PGG_SRC(op, attention, v) >= 0;
  const int written = PGG_SRC(op, attention, k) >= 0 ? PGG_SRC(op, attention, k) : PGG_SRC(op, attention, v);
  const bool source = k || v ? plan->nodes[written].rows == PGG_ROWS_SOURCE : plan->states[find(plan, keys)].source;
  rec->writes = k || v;
  rec->crosses = source && plan->nodes[PGG_SRC(op, attention, q)].rows != PGG_ROWS_SOURCE;
  if (rec->writes)
    plan->states[plan->n_state++] = (pgg_state){.number = k ? keys : values,
                                                .kind = PGG_STATE_KV,
                                                .maker = plan->n_op,
                                                .n_head_kv = PGG_INT(op, attention, n_head_kv),
                                                .k_dim = k ? PGG_INT(op, attention, k_dim) : 0,
                                                .v_dim = v ? PGG_INT(op, attention, v_dim) : 0,
                                                .window = source ? 0 : window_of(op),
                                                .source = source};
  rec->state = find(plan, keys);
  rec->values = find(plan, values);
}

void pgg_states_note(pgg_plan *plan, const pgg_op *op, pgg_plan_op_rec *rec) {
  rec->values = -1;
  if (op->kind == PGG_OP_ATTENTION) {
    note_attention(plan, op, rec);
    return;
  }
  const pgg_state state = rows_of(plan, op);
  if (!state.rows) return;
  rec->writes = plan->recurrent = true;
  rec->state = plan->n_state;
  plan->states[plan->n_state++] = state;
}

/* ---- where they lie -------------------------------------------------------------------------------------- */

/* The device of the op that writes it; whoever else reads it must be there. */
static pgg_status find_places(pgg_plan *plan) {
  for (int i = 0; i < plan->n_state; i++)
    plan->states[i].place = plan->nodes[plan->ops[plan->states[i].maker].node].place;
  for (int i = 0; i < plan->n_op; i++) {
    const pgg_plan_op_rec *rec = &plan->ops[i];
    const int states[2] = {rec->state, rec->values};
    for (int j = 0; j < 2; j++) {
      if (states[j] < 0 || plan->states[states[j]].place == plan->nodes[rec->node].place) continue;
      return pgg_fail(PGG_EUNSUPPORTED, "%s attends to what %s keeps on another device; place both on one",
                      rec->op.name, maker_of(plan, &plan->states[states[j]]));
    }
  }
  return PGG_OK;
}

/* Whoever reads a state keeps it as far as he looks back; keys and values that are read together are kept equally far,
 * and beyond the reading of the source alike, so that they lie in the same spans. */
static void widen(pgg_plan *plan) {
  for (bool again = true; again;) {
    again = false;
    for (int i = 0; i < plan->n_op; i++) {
      const pgg_plan_op_rec *rec = &plan->ops[i];
      if (rec->values < 0) continue;
      pgg_state *keys = &plan->states[rec->state], *values = &plan->states[rec->values];
      const int64_t window = wider(wider(keys->window, values->window), window_of(&rec->op));
      const bool kept = keys->kept || values->kept || rec->crosses;
      again |= window != keys->window || window != values->window || kept != keys->kept || kept != values->kept;
      keys->window = values->window = window;
      keys->kept = values->kept = kept;
    }
  }
}

static bool same_group(const pgg_state_group *a, const pgg_state_group *b) {
  return a->place == b->place && a->window == b->window && a->source == b->source && a->kept == b->kept;
}

static pgg_status find_groups(pgg_plan *plan) {
  free(plan->groups);
  plan->n_group = 0;
  plan->windowed = false;
  if (!(plan->groups = calloc((size_t)plan->n_state + 1, sizeof *plan->groups)))
    return pgg_fail(PGG_ENOMEM, "no memory for the states of %d layers", plan->n_state);
  for (int i = 0; i < plan->n_state; i++) {
    pgg_state *state = &plan->states[i];
    int g = 0;
    if (state->kind != PGG_STATE_KV) continue;
    const pgg_state_group it = {state->place, state->window, state->source, state->kept};
    while (g < plan->n_group && !same_group(&plan->groups[g], &it)) g++;
    if (g == plan->n_group) plan->groups[plan->n_group++] = it;
    plan->windowed |= it.window > 0;
    state->group = g;
  }
  return PGG_OK;
}

static pgg_status find_rows(pgg_plan *plan) {
  for (int p = 0; p < plan->n_place; p++) plan->places[p].rows_bytes = 0;
  for (int i = 0; i < plan->n_state; i++) {
    pgg_state *state = &plan->states[i];
    size_t *bytes = &plan->places[state->place].rows_bytes, more;
    if (state->kind != PGG_STATE_ROWS) continue;
    state->at = *bytes;
    if (!pgg_mul_size(state->rows, (int64_t)pgg_row_bytes(state->type, state->cols), &more) ||
        more > SIZE_MAX / 8 - *bytes)
      return pgg_fail(PGG_ESHAPE, "%s: its state is larger than memory can be", maker_of(plan, state));
    *bytes = pgg_align_up(*bytes + more, PGG_ALIGN);
  }
  return PGG_OK;
}

pgg_status pgg_states_settle(pgg_plan *plan) {
  pgg_status status = find_places(plan);
  if (status) return status;
  widen(plan);
  if ((status = find_groups(plan))) return status;
  return find_rows(plan);
}
