/* Spans of the keys and values of a session: how they lie, when they come, when they go. Memory follows use: a session
 * begins with none, and a window keeps what it looks back at, one span, and the piece of a step that is being computed.
 */
#include "core/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "core/backend.h"
#include "quant/cache_types.h"
#include "quant/quant.h"

static bool type_ok(int type) {
#define IS(TYPE) || type == PGG_##TYPE
  return false PGG_CACHE_TYPES(IS);
#undef IS
}

/* ---- how states lie in a span ----------------------------------------------------------------------------- */

static pgg_status row_size(const pgg_state *state, int type, const char *what, int64_t dim, size_t *bytes) {
  const pgg_type_info *info = pgg_type_get(type);
  if (dim % info->elems)
    return pgg_fail(PGG_ETYPE,
                    "state %lld: %s rows of %lld values cannot be cached as %s, which needs multiples of %d; "
                    "use f16 or f32",
                    (long long)state->number, what, (long long)dim, info->name, info->elems);
  *bytes = pgg_row_bytes(type, dim);
  return PGG_OK;
}

/* The run in which rows of a type of blocks are turned: what all these widths have in common, at most 256. */
static int64_t turn_of(int type, int64_t widths) {
  return pgg_type_get(type)->elems > 1 ? pgg_min_i64(256, widths & -widths) : 0;
}

/* Who reads values out of keys: whole blocks, and whole runs. */
static pgg_status values_in_keys(const pgg_plan *plan, int state, int type, int64_t *k_turn) {
  const int elems = pgg_type_get(type)->elems;
  int64_t widths = plan->states[state].k_dim;
  for (int i = 0; i < plan->n_op; i++) {
    const pgg_op *op = &plan->ops[i].op;
    if (op->kind != PGG_OP_ATTENTION || plan->ops[i].values != state || plan->states[state].v_dim) continue;
    const int64_t v_dim = PGG_INT(op, attention, v_dim);
    if (v_dim % elems)
      return pgg_fail(PGG_ETYPE,
                      "%s reads %lld values out of keys, which blocks of a %s cache do not end with; they hold %d: use "
                      "f16 or f32",
                      op->name, (long long)v_dim, pgg_type_get(type)->name, elems);
    widths |= v_dim;
  }
  *k_turn = turn_of(type, widths);
  return PGG_OK;
}

/* forms: (n_state) or NULL; bytes: (n_group) of a span. Heads are far below SIZE_MAX: ops.def bounds them. */
static pgg_status measure(const pgg_plan *plan, int type, pgg_state_form *forms, size_t *bytes) {
  if (!type_ok(type)) {
    const pgg_type_info *info = pgg_type_get(type);
    return pgg_fail(PGG_ETYPE, "a key/value cache cannot be %s; " PGG_CACHE_NAMES " can",
                    info ? info->name : "of an unknown type");
  }
  for (int g = 0; g < plan->n_group; g++) bytes[g] = 0;
  for (int i = 0; i < plan->n_state; i++) {
    const pgg_state *state = &plan->states[i];
    pgg_state_form form;
    pgg_status status;
    if (state->kind != PGG_STATE_KV) continue;
    if ((status = values_in_keys(plan, i, type, &form.k_turn)) ||
        (status = row_size(state, type, "key", state->k_dim, &form.k_row)) ||
        (status = row_size(state, type, "value", state->v_dim, &form.v_row)))
      return status;
    form.v_turn = turn_of(type, state->v_dim);
    form.k_head = pgg_align_up(PGG_SPAN * form.k_row, PGG_ALIGN);
    form.v_head = pgg_align_up(PGG_SPAN * form.v_row, PGG_ALIGN);
    form.k = bytes[state->group];
    form.v = form.k + (size_t)state->n_head_kv * form.k_head;
    bytes[state->group] = form.v + (size_t)state->n_head_kv * form.v_head;
    if (bytes[state->group] > SIZE_MAX / 4)
      return pgg_fail(PGG_ESHAPE, "a cache of %d positions is larger than memory can be", PGG_SPAN);
    if (forms) forms[i] = form;
  }
  return PGG_OK;
}

static int64_t spans_of(int64_t positions) { return (positions + PGG_SPAN - 1) / PGG_SPAN; }

/* Spans of all positions that a group can have; the source is read in one piece. */
static int64_t all_spans(const pgg_plan *plan, const pgg_state_group *group, int64_t n_ctx) {
  return spans_of(group->source ? plan->limits.n_batch : n_ctx);
}

/* Most spans of a group that a session of n_ctx positions holds. */
static int64_t most_spans(const pgg_plan *plan, const pgg_state_group *group, int64_t n_ctx) {
  const int64_t all = all_spans(plan, group, n_ctx);
  return group->window ? pgg_min_i64(all, spans_of(group->window + plan->limits.n_batch) + 2) : all;
}

/* Sums are kept far below SIZE_MAX. */
static void count(size_t *sum, size_t bytes) { *sum += bytes < SIZE_MAX / 4 - *sum ? bytes : SIZE_MAX / 4 - *sum; }

pgg_status pgg_memory_most(const pgg_plan *plan, int type, int64_t n_ctx, int place, pgg_memory_bytes *sums) {
  size_t *bytes = calloc((size_t)plan->n_group + 1, sizeof *bytes), more;
  pgg_status status =
      bytes ? measure(plan, type, NULL, bytes) : pgg_fail(PGG_ENOMEM, "no memory to measure %d states", plan->n_state);
  *sums = (pgg_memory_bytes){0};
  for (int g = 0; g < plan->n_group && !status; g++) {
    const int64_t window = plan->groups[g].window;
    if (place >= 0 && plan->groups[g].place != place) continue;
    bool fits = pgg_mul_size(most_spans(plan, &plan->groups[g], n_ctx), (int64_t)bytes[g], &more);
    count(&sums->most, fits ? more : SIZE_MAX / 4);
    if (!plan->groups[g].source) count(&sums->position, bytes[g] / PGG_SPAN);
    if (!window) continue;
    fits = pgg_mul_size(spans_of(pgg_min_i64(window, n_ctx)) + 1, (int64_t)bytes[g], &more);
    count(&sums->mark, fits ? more : SIZE_MAX / 4);
  }
  free(bytes);
  if (status) return status;
  const size_t moment = place < 0 ? pgg_moment_bytes(plan) : plan->places[place].rows_bytes;
  count(&sums->most, 3 * moment); /* where it stands, and two that a long step writes in turns */
  count(&sums->mark, moment);
  return PGG_OK;
}

size_t pgg_plan_kv_bytes(const pgg_plan *plan, int kv_type, int64_t n_ctx) {
  pgg_memory_bytes bytes;
  if (!plan || !plan->frozen || n_ctx < 0 || pgg_memory_most(plan, kv_type, n_ctx, -1, &bytes)) return 0;
  return bytes.most;
}

/* ---- a session's memory ---------------------------------------------------------------------------------- */

static void free_tables(const pgg_plan *plan, pgg_memory *memory) {
  for (int g = 0; memory->groups && g < plan->n_group; g++) {
    free(memory->groups[g].spans);
    free(memory->groups[g].at);
  }
  free(memory->groups);
  free(memory->forms);
  free(memory->marks);
  free(memory->span_bytes);
  *memory = (pgg_memory){.type = memory->type, .n_ctx = memory->n_ctx};
}

pgg_status pgg_memory_new(const pgg_plan *plan, int type, int64_t n_ctx, pgg_memory *memory) {
  const size_t groups = (size_t)plan->n_group + 1;
  *memory = (pgg_memory){.type = type, .n_ctx = n_ctx};
  memory->forms = calloc((size_t)plan->n_state + 1, sizeof *memory->forms);
  memory->span_bytes = calloc(groups, sizeof *memory->span_bytes);
  memory->groups = calloc(groups, sizeof *memory->groups);
  const bool marks = plan->recurrent || plan->windowed;
  if (marks) memory->marks = calloc(PGG_MAX_MARKS, sizeof *memory->marks);
  bool good = memory->forms && memory->span_bytes && memory->groups && (memory->marks || !marks);
  for (int g = 0; good && g < plan->n_group; g++) {
    pgg_group_spans *group = &memory->groups[g];
    const size_t spans = (size_t)(group->n_span = all_spans(plan, &plan->groups[g], n_ctx));
    group->spans = calloc(spans, sizeof *group->spans);
    group->at = calloc(spans, sizeof *group->at);
    good = group->spans && group->at;
  }
  pgg_status status = good ? measure(plan, type, memory->forms, memory->span_bytes)
                           : pgg_fail(PGG_ENOMEM, "no memory for the cache of %d layers", plan->n_state);
  if (status) free_tables(plan, memory);
  return status;
}

/* The lock is held. */
static void let_go(pgg_plan *plan, pgg_memory *memory, int g, int64_t s, pgg_span **list) {
  pgg_group_spans *group = &memory->groups[g];
  pgg_span_let_go(plan, memory, group->spans[s], list);
  group->spans[s] = NULL;
  group->at[s] = NULL;
}

static void cut_from(pgg_plan *plan, pgg_memory *memory, int g, int64_t first, pgg_span **list) {
  for (int64_t s = first; s < memory->groups[g].n_span; s++) let_go(plan, memory, g, s, list);
}

/* Whether a mark looks at positions of a span. */
static bool marked(const pgg_plan *plan, const pgg_memory *memory, int g, int64_t s) {
  bool any = false;
  for (int i = 0; i < memory->n_mark && !any; i++) {
    const int64_t pos = memory->marks[i].pos;
    any = s * PGG_SPAN < pos && (s + 1) * PGG_SPAN > pgg_window_begin(plan->groups[g].window, pos);
  }
  return any;
}

void pgg_memory_unmarked(pgg_plan *plan, pgg_memory *memory, pgg_span **list) {
  for (int g = 0; g < plan->n_group; g++)
    for (int64_t s = 0; plan->groups[g].window && s < memory->groups[g].from / PGG_SPAN; s++)
      if (memory->groups[g].spans[s] && !marked(plan, memory, g, s)) let_go(plan, memory, g, s, list);
}

void pgg_memory_cut(pgg_plan *plan, pgg_memory *memory, int64_t n_past, pgg_span **list) {
  const int n_mark = memory->n_mark;
  pgg_moments_cut(plan, memory, n_past, list);
  for (int g = 0; g < plan->n_group; g++) {
    pgg_group_spans *group = &memory->groups[g];
    if (plan->groups[g].source) continue;
    cut_from(plan, memory, g, spans_of(n_past) + 1, list); /* one stays warm */
    if (group->from) group->from = pgg_min_i64(group->from, pgg_window_begin(plan->groups[g].window, n_past));
  }
  if (n_mark != memory->n_mark) pgg_memory_unmarked(plan, memory, list);
}

void pgg_memory_pass(pgg_plan *plan, pgg_memory *memory, int64_t n_past, int64_t keep, pgg_span **list) {
  for (int g = 0; g < plan->n_group; g++) {
    pgg_group_spans *group = &memory->groups[g];
    if (!plan->groups[g].window) continue;
    const int64_t end = (n_past + 1 - plan->groups[g].window - PGG_SPAN) / PGG_SPAN; /* spans before it */
    for (int64_t s = spans_of(keep); s < end; s++)
      if (group->spans[s] && !marked(plan, memory, g, s)) let_go(plan, memory, g, s, list);
    if (!keep && end > 0) group->from = pgg_max_i64(group->from, end * PGG_SPAN);
  }
}

/* The lock is held: the spans of a group up to a position. */
static void share_group(pgg_memory *memory, const pgg_memory *other, int g, int64_t end) {
  const pgg_group_spans *from = &other->groups[g];
  pgg_group_spans *to = &memory->groups[g];
  for (int64_t s = 0; s < spans_of(end); s++) {
    if (!from->spans[s]) continue;
    to->spans[s] = from->spans[s];
    to->at[s] = from->at[s];
    to->spans[s]->refs++;
    memory->bytes += memory->span_bytes[g];
  }
  to->from = from->from;
}

void pgg_memory_share(const pgg_plan *plan, pgg_memory *memory, const pgg_memory *other, int64_t n_past) {
  for (int g = 0; g < plan->n_group; g++)
    if (!plan->groups[g].source) share_group(memory, other, g, n_past);
  pgg_memory_share_source(plan, memory, other);
  pgg_moments_share(plan, memory, other);
}

void pgg_memory_share_source(const pgg_plan *plan, pgg_memory *memory, const pgg_memory *other) {
  memory->n_source = other->n_source;
  for (int g = 0; g < plan->n_group; g++)
    if (plan->groups[g].source) share_group(memory, other, g, other->n_source);
}

void pgg_memory_encoded(pgg_plan *plan, pgg_memory *memory, int64_t n, pgg_span **list) {
  memory->n_source = n;
  for (int g = 0; g < plan->n_group; g++) {
    if (!plan->groups[g].source || plan->groups[g].kept) continue;
    cut_from(plan, memory, g, 0, list);
    memory->groups[g].from = n;
  }
}

void pgg_memory_forget_source(pgg_plan *plan, pgg_memory *memory, pgg_span **list) {
  memory->n_source = 0;
  for (int g = 0; g < plan->n_group; g++) {
    if (!plan->groups[g].source) continue;
    cut_from(plan, memory, g, 0, list);
    memory->groups[g].from = 0;
  }
}

void pgg_memory_drop(pgg_plan *plan, pgg_memory *memory) {
  pgg_span *list = NULL;
  if (!memory->groups) return;
  pgg_lock();
  for (int g = 0; g < plan->n_group; g++) cut_from(plan, memory, g, 0, &list);
  pgg_moments_drop(plan, memory, &list);
  pgg_unlock();
  pgg_spans_drop(plan, list);
  free_tables(plan, memory);
}

/* A span of this session's own at s: a new one, or a copy of one that others hold too. */
static pgg_status own_span(pgg_plan *plan, pgg_memory *memory, int g, int64_t s) {
  pgg_group_spans *group = &memory->groups[g];
  pgg_span *old = group->spans[s], *span, *list = NULL;
  const pgg_place *place = &plan->places[plan->groups[g].place];
  char what[80];
  pgg_lock(); /* who holds it alone is the only one that could give it to another */
  const bool mine = old && old->refs == 1;
  pgg_unlock();
  if (mine) return PGG_OK;
  snprintf(what, sizeof what, "the cache of positions %lld to %lld", (long long)(s * PGG_SPAN),
           (long long)((s + 1) * PGG_SPAN - 1));
  pgg_status status = pgg_span_new(plan, memory, plan->groups[g].place, memory->span_bytes[g], what, &span);
  if (status) return status;
  if (old) status = place->backend->copy(place->device, &span->mem, 0, &old->mem, 0, old->mem.bytes);
  pgg_lock();
  if (status) {
    pgg_span_let_go(plan, memory, span, &list);
  } else {
    let_go(plan, memory, g, s, &list);
    group->spans[s] = span;
    group->at[s] = span->mem.p;
  }
  pgg_unlock();
  pgg_spans_drop(plan, list);
  return status;
}

static pgg_status grow_group(pgg_plan *plan, pgg_memory *memory, int g, int64_t from, int64_t to) {
  pgg_status status = PGG_OK;
  for (int64_t s = from / PGG_SPAN; s < spans_of(to) && !status; s++) status = own_span(plan, memory, g, s);
  return status;
}

pgg_status pgg_memory_grow(pgg_plan *plan, pgg_memory *memory, bool source, int64_t from, int64_t to) {
  pgg_status status = PGG_OK;
  for (int g = 0; g < plan->n_group && !status; g++)
    if (plan->groups[g].source == source) status = grow_group(plan, memory, g, from, to);
  return status;
}

pgg_status pgg_memory_hold(pgg_plan *plan, pgg_memory *memory, int group, int64_t from, int64_t to) {
  return grow_group(plan, memory, group, from, to);
}

pgg_status pgg_memory_prepare(pgg_plan *plan, const pgg_memory *like, const int64_t *from, int64_t n_past,
                              int64_t n_source, pgg_memory *memory) {
  pgg_status status = pgg_memory_new(plan, like->type, like->n_ctx, memory);
  for (int g = 0; g < plan->n_group && !status; g++) {
    const int64_t end = plan->groups[g].source ? n_source : n_past;
    memory->groups[g].from = from[g];
    if (from[g] < end) status = grow_group(plan, memory, g, from[g], end);
  }
  memory->n_source = n_source;
  if (status) pgg_memory_drop(plan, memory);
  return status;
}

/* The lowest position whose windows are whole. */
static int64_t whole_from(const pgg_plan *plan, const pgg_memory *memory) {
  int64_t reach = 0;
  for (int g = 0; g < plan->n_group; g++)
    if (memory->groups[g].from && !plan->groups[g].source)
      reach = pgg_max_i64(reach, memory->groups[g].from + plan->groups[g].window - 1);
  return reach;
}

/* What marks look at is held back, so there is always a way to them. */
int64_t pgg_memory_reach(const pgg_plan *plan, const pgg_memory *memory, int64_t n_past) {
  const int64_t any = plan->recurrent ? n_past : whole_from(plan, memory);
  return memory->n_mark ? pgg_min_i64(memory->marks[0].pos, any) : any;
}

int64_t pgg_memory_back(const pgg_plan *plan, const pgg_memory *memory, int64_t n_past, int64_t n) {
  if (n >= n_past) return n_past;
  if (!plan->recurrent && n >= whole_from(plan, memory)) return n;
  for (int i = memory->n_mark; i-- > 0;)
    if (memory->marks[i].pos <= n) return memory->marks[i].pos;
  return 0;
}

/* ---- rows ------------------------------------------------------------------------------------------------ */

/* Where rows lie: the span, and bytes from its beginning. */
static const pgg_span *find_rows(const pgg_plan *plan, const pgg_memory *memory, const pgg_rows_at *at,
                                 size_t *offset) {
  const pgg_state_form *form = &memory->forms[at->state];
  const size_t head =
      at->values ? form->v + (size_t)at->head * form->v_head : form->k + (size_t)at->head * form->k_head;
  *offset = head + (size_t)(at->pos % PGG_SPAN) * (at->values ? form->v_row : form->k_row);
  return memory->groups[plan->states[at->state].group].spans[at->pos / PGG_SPAN];
}

pgg_status pgg_memory_read(const pgg_plan *plan, const pgg_memory *memory, const pgg_rows_at *at, void *rows) {
  size_t offset;
  const pgg_span *span = find_rows(plan, memory, at, &offset);
  const pgg_place *place = &plan->places[span->place];
  return place->backend->read(place->device, &span->mem, offset, rows,
                              (size_t)at->n * pgg_memory_row(memory, at->state, at->values));
}

pgg_status pgg_memory_write(const pgg_plan *plan, const pgg_memory *memory, const pgg_rows_at *at, const void *rows) {
  size_t offset;
  const pgg_span *span = find_rows(plan, memory, at, &offset);
  const pgg_place *place = &plan->places[span->place];
  return place->backend->write(place->device, &span->mem, offset, rows,
                               (size_t)at->n * pgg_memory_row(memory, at->state, at->values));
}
