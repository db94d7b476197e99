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

static pgg_status judge_attention(const pgg_plan *plan, const pgg_op *op) {
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

/* What a state of rows can be: a float for each value. */
static pgg_status keeps_rows(const pgg_op *op, int64_t type) {
  const pgg_type_info *info = pgg_type_get((int)type);
  if (type == PGG_F32 || type == PGG_F16 || type == PGG_BF16) return PGG_OK;
  return pgg_fail(PGG_ETYPE, "%s: a state of rows cannot be %s; f32, f16 and bf16 can", op->name,
                  info ? info->name : "of an unknown type");
}

pgg_status pgg_states_judge(const pgg_plan *plan, const pgg_op *op) {
  if (op->kind == PGG_OP_ATTENTION) return judge_attention(plan, op);
  const pgg_status status = keeps_rows(op, PGG_INT(op, conv, type));
  return status ? status : is_new(plan, op, PGG_INT(op, conv, state));
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
  rec->writes = k || v;
  if (rec->writes)
    plan->states[plan->n_state++] = (pgg_state){.number = k ? keys : values,
                                                .kind = PGG_STATE_KV,
                                                .maker = plan->n_op,
                                                .n_head_kv = PGG_INT(op, attention, n_head_kv),
                                                .k_dim = k ? PGG_INT(op, attention, k_dim) : 0,
                                                .v_dim = v ? PGG_INT(op, attention, v_dim) : 0,
                                                .window = window_of(op)};
  rec->state = find(plan, keys);
  rec->values = find(plan, values);
}

void pgg_states_note(pgg_plan *plan, const pgg_op *op, pgg_plan_op_rec *rec) {
  rec->values = -1;
  if (op->kind == PGG_OP_ATTENTION) {
    note_attention(plan, op, rec);
  } else if (op->kind == PGG_OP_CONV) {
    const pgg_weight *w = &plan->weights[PGG_WEIGHT(op, conv, w)];
    rec->writes = plan->recurrent = true;
    rec->state = plan->n_state;
    plan->states[plan->n_state++] = (pgg_state){.number = PGG_INT(op, conv, state),
                                                .kind = PGG_STATE_ROWS,
                                                .maker = plan->n_op,
                                                .rows = w->cols - 1,
                                                .cols = w->rows,
                                                .type = (int)PGG_INT(op, conv, type)};
  }
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
 * so that they lie in the same spans. */
static void widen(pgg_plan *plan) {
  for (bool again = true; again;) {
    again = false;
    for (int i = 0; i < plan->n_op; i++) {
      const pgg_plan_op_rec *rec = &plan->ops[i];
      if (rec->values < 0) continue;
      int64_t *keys = &plan->states[rec->state].window, *values = &plan->states[rec->values].window;
      const int64_t window = wider(wider(*keys, *values), window_of(&rec->op));
      again |= window != *keys || window != *values;
      *keys = *values = window;
    }
  }
}

static pgg_status find_groups(pgg_plan *plan) {
  free(plan->groups);
  plan->n_group = 0;
  if (!(plan->groups = calloc((size_t)plan->n_state + 1, sizeof *plan->groups)))
    return pgg_fail(PGG_ENOMEM, "no memory for the states of %d layers", plan->n_state);
  for (int i = 0; i < plan->n_state; i++) {
    pgg_state *state = &plan->states[i];
    int g = 0;
    if (state->kind != PGG_STATE_KV) continue;
    while (g < plan->n_group && (plan->groups[g].place != state->place || plan->groups[g].window != state->window)) g++;
    if (g == plan->n_group) plan->groups[plan->n_group++] = (pgg_state_group){state->place, state->window};
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
