/* Forgetting a stretch of positions in the middle: later ones move down, and their keys are turned back by the
 * distance. A rope turns each pair by position times a speed, so a key that lies d positions lower is the key turned by
 * -d times it. Keys that no rope turned cannot be moved. Those of a cache of blocks are turned a second way, which is
 * undone before and done again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "core/rope.h"
#include "core/session.h"
#include "cpu/kernels.h"
#include "quant/quant.h"

typedef struct shift {
  const pgg_session *session;
  int64_t first, last, n_past; /* positions [first, last) go */
  pgg_memory *to;
  char *rows;     /* (PGG_SPAN) of any state */
  float *floats;  /* a row of keys */
  double *speeds; /* of the state's rope */
  const pgg_op *rope;
} shift;

/* The rope that turned the keys of a state. */
static pgg_status find_rope(const pgg_plan *plan, int state, const pgg_op **rope) {
  for (int i = 0; i < plan->n_op; i++) {
    const pgg_op *op = &plan->ops[i].op;
    if (op->kind != PGG_OP_ATTENTION) continue;
    if (plan->ops[i].values == state && !plan->states[state].v_dim)
      return pgg_fail(PGG_EUNSUPPORTED, "shift: %s reads values out of keys, which cannot be turned", op->name);
    if (plan->ops[i].state != state || PGG_SRC(op, attention, k) < 0) continue;
    const pgg_op *made = &plan->ops[plan->nodes[PGG_SRC(op, attention, k)].op].op;
    if (!PGG_INT(op, attention, causal))
      return pgg_fail(PGG_EUNSUPPORTED, "shift: %s looks ahead, so no position of it can be forgotten", op->name);
    if (made->kind != PGG_OP_ROPE)
      return pgg_fail(PGG_EUNSUPPORTED, "shift: the keys of %s come from %s, which is no rope: they cannot be moved",
                      op->name, made->name);
    *rope = made;
    return PGG_OK;
  }
  return pgg_fail(PGG_EUNSUPPORTED, "shift: nothing attends to state %d", state);
}

static void turn_back(const shift *s, float *key) {
  const int64_t n_rot = PGG_INT(s->rope, rope, n_rot), far = s->last - s->first;
  const bool halves = PGG_INT(s->rope, rope, style);
  for (int64_t i = 0; i < n_rot / 2; i++) {
    float *a = key + (halves ? i : 2 * i), *b = halves ? a + n_rot / 2 : a + 1;
    const double angle = -(double)far * s->speeds[i], c = cos(angle), d = sin(angle), x = *a, y = *b;
    *a = (float)(x * c - y * d);
    *b = (float)(x * d + y * c);
  }
}

static void turn_rows(const shift *s, int64_t n, int64_t run) {
  const pgg_kernels *kernels = pgg_kernels_get();
  const int type = s->to->type;
  const int64_t k_dim = PGG_INT(s->rope, rope, head_dim);
  const size_t row = pgg_row_bytes(type, k_dim);
  for (int64_t r = 0; r < n; r++) {
    pgg_quant_get(type)->decode(s->rows + (size_t)r * row, s->floats, k_dim);
    if (run) kernels->kv_turn(s->floats, k_dim, run);
    turn_back(s, s->floats);
    if (run) kernels->kv_turn(s->floats, k_dim, run);
    kernels->kv_store(type, s->floats, s->rows + (size_t)r * row, k_dim);
  }
}

/* The rows of positions [from, to), which lie down positions lower afterwards. */
static pgg_status move(const shift *s, pgg_rows_at at, int64_t from, int64_t to, int64_t down) {
  const pgg_plan *plan = s->session->plan;
  while (from < to) {
    const int64_t here = (from / PGG_SPAN + 1) * PGG_SPAN, there = ((from - down) / PGG_SPAN + 1) * PGG_SPAN + down;
    at.pos = from;
    at.n = pgg_min_i64(to, pgg_min_i64(here, there)) - from;
    pgg_status status = pgg_memory_read(plan, &s->session->memory, &at, s->rows);
    if (status) return status;
    if (down && !at.values) turn_rows(s, at.n, s->to->forms[at.state].k_turn);
    at.pos -= down;
    if ((status = pgg_memory_write(plan, s->to, &at, s->rows))) return status;
    from += at.n;
  }
  return PGG_OK;
}

static pgg_status move_state(shift *s, int state) {
  const pgg_plan *plan = s->session->plan;
  const int64_t from = s->session->memory.groups[plan->states[state].group].from;
  pgg_status status = plan->states[state].k_dim ? find_rope(plan, state, &s->rope) : PGG_OK;
  if (status) return status;
  s->speeds = NULL;
  if (plan->states[state].k_dim && !(s->speeds = pgg_rope_speeds(s->rope, pgg_rope_factors(plan, s->rope))))
    return pgg_fail(PGG_ENOMEM, "shift: no memory for the angles");
  for (int values = 0; values < 2; values++)
    for (int64_t h = 0; h < plan->states[state].n_head_kv && !status; h++) {
      const pgg_rows_at at = {.state = state, .head = h, .values = values};
      if (!pgg_memory_row(&s->session->memory, state, values)) continue;
      status = move(s, at, from, s->first, 0);
      if (!status) status = move(s, at, pgg_max_i64(from, s->last), s->n_past, s->last - s->first);
    }
  free(s->speeds);
  return status;
}

/* Where each group begins afterwards; refused where a window would look at what is forgotten. */
static pgg_status new_begins(const shift *s, int64_t *begins) {
  const pgg_plan *plan = s->session->plan;
  const int64_t far = s->last - s->first;
  for (int g = 0; g < plan->n_group; g++) {
    const int64_t from = s->session->memory.groups[g].from, window = plan->groups[g].window;
    begins[g] = 0; /* of the source: shared as it is */
    if (plan->groups[g].source) continue;
    begins[g] = from >= s->last ? from - far : pgg_min_i64(from, s->first);
    if (from && begins[g] > pgg_max_i64(0, s->n_past - far + 1 - window))
      return pgg_fail(PGG_EUNSUPPORTED,
                      "shift: a window of %lld positions would look at positions before %lld, which are forgotten",
                      (long long)window, (long long)begins[g]);
  }
  return PGG_OK;
}

static pgg_status shift_all(shift *s, int64_t *begins, pgg_memory *memory) {
  pgg_plan *plan = s->session->plan;
  size_t widest = 0;
  int64_t k_dim = 0;
  for (int i = 0; i < plan->n_state; i++) {
    k_dim = pgg_max_i64(k_dim, plan->states[i].k_dim);
    for (int values = 0; values < 2; values++)
      if (pgg_memory_row(&s->session->memory, i, values) > widest)
        widest = pgg_memory_row(&s->session->memory, i, values);
  }
  s->rows = malloc(widest * PGG_SPAN + 1);
  s->floats = malloc((size_t)(k_dim + 1) * sizeof *s->floats);
  pgg_status status = s->rows && s->floats ? new_begins(s, begins) : pgg_fail(PGG_ENOMEM, "shift: no memory for rows");
  if (status) return status;
  if ((status = pgg_memory_prepare(plan, &s->session->memory, begins, s->n_past - (s->last - s->first), 0, memory)))
    return status;
  s->to = memory;
  pgg_lock();
  pgg_memory_share_source(plan, memory, &s->session->memory);
  pgg_unlock();
  for (int i = 0; i < plan->n_state && !status; i++)
    if (!plan->states[i].source) status = move_state(s, i);
  if (status) pgg_memory_drop(plan, memory);
  return status;
}

static pgg_status judge(const pgg_session *session, int64_t first, int64_t last) {
  const int64_t n_past = atomic_load_explicit(&session->n_past, memory_order_relaxed);
  if (first < 0 || last <= first || last > n_past)
    return pgg_fail(PGG_EINVAL, "shift: positions %lld to %lld are no stretch of the %lld that there are",
                    (long long)first, (long long)last, (long long)n_past);
  for (int i = 0; i < session->plan->n_state; i++)
    if (session->plan->states[i].kind == PGG_STATE_ROWS)
      return pgg_fail(PGG_EUNSUPPORTED, "shift: %s remembers all positions in one state: none can be taken out of it",
                      session->plan->ops[session->plan->states[i].maker].op.name);
  return PGG_OK;
}

pgg_status pgg_session_shift(pgg_session *session, int64_t first, int64_t last) {
  if (!session) return pgg_fail(PGG_EINVAL, "session is NULL");
  pgg_status status = pgg_turn_begin(&session, 1);
  if (status) return status;
  if (!(status = judge(session, first, last))) {
    const int64_t n_past = atomic_load_explicit(&session->n_past, memory_order_relaxed);
    shift s = {.session = session, .first = first, .last = last, .n_past = n_past};
    int64_t *begins = calloc((size_t)session->plan->n_group + 1, sizeof *begins);
    pgg_memory memory;
    status = begins ? shift_all(&s, begins, &memory) : pgg_fail(PGG_ENOMEM, "shift: no memory");
    if (!status) pgg_session_take(session, &memory, n_past - (last - first), pgg_min_i64(session->prompted, first));
    free(begins);
    free(s.rows);
    free(s.floats);
  }
  pgg_turn_end(&session, 1, false);
  return status;
}
