/* What can be done with what a session remembers: fork it, save it, load it. The saved form, all numbers little-endian:
 *
 *   "PGGSTATE"  u32 version  u32 type of the cache  u64 check: FNV-1a of all that follows
 *   u64 what tells the plan and its weights from others  u64 positions  u64 those of the source  u64 of the positions,
 *   those that prompt rows made, up to the first other one  u32 groups
 *   for each group: u64 position that it begins with
 *   u32 marks  for each: u64 position
 *   for each state of keys and values: for each head: rows of keys, of each mark what its window looks at that is not
 *   there yet and lies before that, then from there on; then for each head: rows of values likewise
 *   for each mark, and for the position where it stands unless that is 0: the rows of each state of rows
 *
 * A saved state holds numbers only: whatever they are, no more can come of them than wrong logits. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "core/hash.h"
#include "core/session.h"

#define VERSION 6
static const char magic[8] = {'P', 'G', 'G', 'S', 'T', 'A', 'T', 'E'};
enum { CHECKED_FROM = 24, FIXED = CHECKED_FROM + 40, FEW_BYTES = 64 };

static uint64_t hash_text(uint64_t hash, const char *text) { return pgg_hash(hash, text, strlen(text) + 1); }

/* Ops with their fields, weights with their names, shapes and first bytes. */
static uint64_t fingerprint(const pgg_plan *plan) {
  uint64_t hash = PGG_HASH_BEGIN;
  for (int i = 0; i < plan->n_op; i++) {
    const pgg_op *op = &plan->ops[i].op;
    hash = hash_text(hash, pgg_op_name(op->kind));
    hash = pgg_hash(hash, op->src, sizeof op->src);
    hash = pgg_hash(hash, op->weight, sizeof op->weight);
    hash = pgg_hash(hash, op->i, sizeof op->i);
    hash = pgg_hash(hash, op->f, sizeof op->f);
  }
  for (int i = 0; i < plan->n_weight; i++) {
    const pgg_weight *w = &plan->weights[i];
    const size_t bytes = (size_t)w->rows * w->row_bytes;
    const int64_t shape[3] = {w->type, w->rows, w->cols};
    hash = hash_text(hash, w->name);
    hash = pgg_hash(hash, shape, sizeof shape);
    hash = pgg_hash(hash, w->data, bytes < FEW_BYTES ? bytes : FEW_BYTES);
  }
  return hash;
}

/* ---- every row that there is, in the order of the saved form ---------------------------------------------- */

/* What a saved state says of itself. */
typedef struct saved {
  int64_t n_past, n_source, prompted, *from; /* (n_group) */
  int n_mark;
  int64_t marks[PGG_MAX_MARKS];
  const char *rows, *moments; /* where they begin */
} saved;

/* The next stretch of positions that a group keeps, of those from `at` on: its first one, and *end. at == *end: none.
 */
static int64_t stretch(const pgg_plan *plan, const saved *s, int group, int64_t at, int64_t *end) {
  const pgg_state_group *it = &plan->groups[group];
  for (int i = 0; it->window && i < s->n_mark; i++) {
    const int64_t begin = pgg_max_i64(at, pgg_window_begin(it->window, s->marks[i]));
    *end = pgg_min_i64(s->marks[i], s->from[group]);
    if (begin < *end) return begin;
  }
  *end = it->source ? s->n_source : s->n_past;
  return pgg_min_i64(*end, pgg_max_i64(at, s->from[group]));
}

/* How many positions a group keeps. */
static int64_t positions_of(const pgg_plan *plan, const saved *s, int group) {
  int64_t sum = 0, end = 0;
  for (int64_t at = stretch(plan, s, group, 0, &end); at < end; at = stretch(plan, s, group, end, &end))
    sum += end - at;
  return sum;
}

typedef pgg_status (*visit)(const pgg_plan *plan, const pgg_memory *memory, const pgg_rows_at *at, void *rows);

static pgg_status write_rows(const pgg_plan *plan, const pgg_memory *memory, const pgg_rows_at *at, void *rows) {
  return pgg_memory_write(plan, memory, at, rows);
}

/* Rows of one head, in stretches, each cut where a span ends. */
static pgg_status walk_head(const pgg_plan *plan, const pgg_memory *memory, const saved *s, pgg_rows_at at, visit each,
                            char **bytes) {
  const int group = plan->states[at.state].group;
  const size_t row = pgg_memory_row(memory, at.state, at.values);
  int64_t end = 0;
  for (int64_t pos = stretch(plan, s, group, 0, &end); pos < end; pos = stretch(plan, s, group, pos, &end)) {
    at.pos = pos;
    at.n = pgg_min_i64(end, (pos / PGG_SPAN + 1) * PGG_SPAN) - pos;
    pgg_status status = each(plan, memory, &at, *bytes);
    if (status) return status;
    *bytes += (size_t)at.n * row;
    pos += at.n;
  }
  return PGG_OK;
}

static pgg_status walk(const pgg_plan *plan, const pgg_memory *memory, const saved *s, visit each, char *bytes) {
  pgg_status status = PGG_OK;
  for (int i = 0; i < plan->n_state; i++)
    for (int values = 0; values < 2; values++) {
      if (!pgg_memory_row(memory, i, values)) continue; /* a state of rows, or of keys or values alone */
      for (int64_t h = 0; h < plan->states[i].n_head_kv && !status; h++)
        status = walk_head(plan, memory, s, (pgg_rows_at){.state = i, .head = h, .values = values}, each, &bytes);
    }
  return status;
}

static size_t state_bytes(const pgg_state *state) {
  return (size_t)state->rows * pgg_row_bytes(state->type, state->cols);
}

/* Moments that are kept: marks, and where it stands. */
static int moments_of(const pgg_plan *plan, int n_mark, int64_t n_past) {
  return plan->recurrent ? n_mark + (n_past > 0) : 0;
}

static const pgg_moment *moment_at(const pgg_memory *memory, int i) {
  return i < memory->n_mark ? &memory->marks[i] : &memory->now;
}

/* Every state of rows at every moment that there is. */
static pgg_status walk_moments(const pgg_plan *plan, const pgg_memory *memory, int64_t n_past, bool writes,
                               char *bytes) {
  pgg_status status = PGG_OK;
  for (int m = 0; m < moments_of(plan, memory->n_mark, n_past); m++)
    for (int i = 0; i < plan->n_state && !status; i++) {
      const pgg_state *state = &plan->states[i];
      const pgg_place *place = &plan->places[state->place];
      if (state->kind != PGG_STATE_ROWS) continue;
      const size_t n = state_bytes(state);
      const pgg_mem *mem = &moment_at(memory, m)->spans[state->place]->mem;
      status = writes ? place->backend->write(place->device, mem, state->at, bytes, n)
                      : place->backend->read(place->device, mem, state->at, bytes, n);
      bytes += n;
    }
  return status;
}

/* Bytes of the rows; false where they pass what memory can be. moments: all of them. */
static bool rows_bytes(const pgg_plan *plan, const pgg_memory *memory, const saved *s, size_t *bytes, size_t *moments) {
  *bytes = *moments = 0;
  for (int i = 0; i < plan->n_state; i++)
    if (plan->states[i].kind == PGG_STATE_ROWS) *moments += state_bytes(&plan->states[i]);
  *moments *= (size_t)moments_of(plan, s->n_mark, s->n_past);
  for (int i = 0; i < plan->n_state; i++) {
    const pgg_state *state = &plan->states[i];
    if (state->kind != PGG_STATE_KV) continue;
    const size_t row = pgg_memory_row(memory, i, false) + pgg_memory_row(memory, i, true);
    size_t more;
    if (!pgg_mul_size(positions_of(plan, s, state->group), state->n_head_kv * (int64_t)row, &more) ||
        more > SIZE_MAX / 4 - *bytes)
      return false;
    *bytes += more;
  }
  return true;
}

/* ---- saving ---------------------------------------------------------------------------------------------- */

static void put(char **at, uint64_t value, int n) {
  for (int i = 0; i < n; i++) *(*at)++ = (char)(value >> 8 * i);
}

static uint64_t get(const char **at, int n) {
  uint64_t value = 0;
  for (int i = 0; i < n; i++) value |= (uint64_t)(unsigned char)*(*at)++ << 8 * i;
  return value;
}

static int64_t *begins_of(const pgg_session *session) {
  const pgg_plan *plan = session->plan;
  int64_t *from = calloc((size_t)plan->n_group + 1, sizeof *from);
  for (int g = 0; from && g < plan->n_group; g++) from[g] = session->memory.groups[g].from;
  return from;
}

static pgg_status save(const pgg_session *session, int64_t *from, char *bytes, size_t *size) {
  const pgg_plan *plan = session->plan;
  const int64_t n_past = atomic_load_explicit(&session->n_past, memory_order_relaxed);
  const int n_mark = session->memory.n_mark;
  saved s = {.n_past = n_past, .n_source = session->memory.n_source, .from = from, .n_mark = n_mark};
  size_t rows, moments;
  for (int i = 0; i < n_mark; i++) s.marks[i] = session->memory.marks[i].pos;
  if (!rows_bytes(plan, &session->memory, &s, &rows, &moments))
    return pgg_fail(PGG_ESHAPE, "save: the state is larger than memory can be");
  const size_t need = FIXED + 8 * (size_t)(plan->n_group + n_mark) + rows + moments, room = *size;
  *size = need;
  if (!bytes) return PGG_OK;
  if (room < need) return pgg_fail(PGG_EINVAL, "save: the state takes %zu bytes, room for %zu given", need, room);
  char *at = bytes;
  memcpy(at, magic, sizeof magic);
  at += sizeof magic;
  put(&at, VERSION, 4);
  put(&at, (uint64_t)session->memory.type, 4);
  char *check = at;
  at += 8;
  put(&at, fingerprint(plan), 8);
  put(&at, (uint64_t)n_past, 8);
  put(&at, (uint64_t)s.n_source, 8);
  put(&at, (uint64_t)session->prompted, 8);
  put(&at, (uint64_t)plan->n_group, 4);
  for (int g = 0; g < plan->n_group; g++) put(&at, (uint64_t)from[g], 8);
  put(&at, (uint64_t)n_mark, 4);
  for (int i = 0; i < n_mark; i++) put(&at, (uint64_t)s.marks[i], 8);
  pgg_status status = walk(plan, &session->memory, &s, pgg_memory_read, at);
  if (!status) status = walk_moments(plan, &session->memory, n_past, false, at + rows);
  put(&check, pgg_hash(PGG_HASH_BEGIN, bytes + CHECKED_FROM, need - CHECKED_FROM), 8);
  return status;
}

pgg_status pgg_session_save(pgg_session *session, void *bytes, size_t *size) {
  if (!session || !size) return pgg_fail(PGG_EINVAL, "session or size is NULL");
  pgg_status status = pgg_turn_begin(&session, 1);
  if (status) return status;
  int64_t *from = begins_of(session);
  status = from ? save(session, from, bytes, size) : pgg_fail(PGG_ENOMEM, "no memory to save a state");
  free(from);
  pgg_turn_end(&session, 1, false);
  return status;
}

/* ---- loading --------------------------------------------------------------------------------------------- */

static pgg_status judge_marks(const pgg_plan *plan, const char **at, size_t left, saved *s) {
  const uint64_t n = get(at, 4);
  if (n > (plan->recurrent || plan->windowed ? PGG_MAX_MARKS : 0) || left < 8 * n)
    return pgg_fail(PGG_EFORMAT, "load: the state is cut or altered");
  s->n_mark = (int)n;
  for (int i = 0; i < s->n_mark; i++) {
    const uint64_t pos = get(at, 8);
    if (pos > (uint64_t)s->n_past || (int64_t)pos <= (i ? s->marks[i - 1] : 0))
      return pgg_fail(PGG_EFORMAT, "load: the state is cut or altered");
    s->marks[i] = (int64_t)pos;
  }
  return PGG_OK;
}

/* Whether a group may begin there. */
static bool can_begin(const pgg_state_group *group, const saved *s, uint64_t begin) {
  if (group->source) return begin == (group->kept ? 0 : (uint64_t)s->n_source);
  if (!begin) return true;
  return begin <= (uint64_t)s->n_past && group->window && (int64_t)begin <= s->n_past + 1 - group->window;
}

/* The positions, of the text and of the source. */
static pgg_status judge_positions(const pgg_session *session, uint64_t positions, uint64_t of_source, saved *s) {
  const pgg_plan *plan = session->plan;
  if (positions > (uint64_t)session->n_ctx)
    return pgg_fail(PGG_EINVAL, "load: the state has %llu positions, the session holds %lld",
                    (unsigned long long)positions, (long long)session->n_ctx);
  if (of_source > (uint64_t)plan->limits.n_batch)
    return pgg_fail(PGG_EINVAL, "load: the source of the state has %llu rows, the plan reads at most %d",
                    (unsigned long long)of_source, plan->limits.n_batch);
  if (plan->crosses ? positions && !of_source : of_source && !pgg_plan_reads_source(plan))
    return pgg_fail(PGG_EFORMAT, "load: the state is cut or altered");
  s->n_past = (int64_t)positions;
  s->n_source = (int64_t)of_source;
  return PGG_OK;
}

/* All but the rows. */
static pgg_status judge(const pgg_session *session, const char *bytes, size_t size, saved *s) {
  const pgg_plan *plan = session->plan;
  const char *at = bytes + sizeof magic;
  if (size < FIXED || memcmp(bytes, magic, sizeof magic) != 0)
    return pgg_fail(PGG_EFORMAT, "load: these bytes are no saved state");
  const uint64_t version = get(&at, 4), type = get(&at, 4), check = get(&at, 8);
  if (version != VERSION)
    return pgg_fail(PGG_EUNSUPPORTED, "load: the state is of version %llu, this library reads %d",
                    (unsigned long long)version, VERSION);
  if (check != pgg_hash(PGG_HASH_BEGIN, bytes + CHECKED_FROM, size - CHECKED_FROM))
    return pgg_fail(PGG_EFORMAT, "load: the state is cut or altered");
  if (get(&at, 8) != fingerprint(plan)) return pgg_fail(PGG_EINVAL, "load: the state is of another model");
  if (type != (uint64_t)session->memory.type) {
    const pgg_type_info *info = pgg_type_get(type < PGG_TYPE_LIMIT ? (int)type : -1);
    return pgg_fail(PGG_EINVAL, "load: the state's cache is %s, the session's %s", info ? info->name : "unknown",
                    pgg_type_get(session->memory.type)->name);
  }
  const uint64_t positions = get(&at, 8), of_source = get(&at, 8), prompted = get(&at, 8), groups = get(&at, 4);
  pgg_status status = judge_positions(session, positions, of_source, s);
  if (status) return status;
  s->prompted = (int64_t)prompted;
  if (prompted > positions || groups != (uint64_t)plan->n_group || size - FIXED < 8 * groups)
    return pgg_fail(PGG_EFORMAT, "load: the state is cut or altered");
  for (int g = 0; g < plan->n_group; g++) {
    const uint64_t begin = get(&at, 8);
    if (!can_begin(&plan->groups[g], s, begin))
      return pgg_fail(PGG_EFORMAT, "load: the state lacks positions that a window looks at");
    s->from[g] = (int64_t)begin;
  }
  if ((status = judge_marks(plan, &at, size - FIXED - 8 * groups, s))) return status;
  size_t rows, moments;
  if (!rows_bytes(plan, &session->memory, s, &rows, &moments) || rows + moments != size - (size_t)(at - bytes))
    return pgg_fail(PGG_EFORMAT, "load: the state is cut or altered");
  s->rows = at;
  s->moments = at + rows;
  return PGG_OK;
}

void pgg_session_take(pgg_session *session, pgg_memory *memory, int64_t n_past, int64_t prompted) {
  pgg_lock();
  pgg_memory old = session->memory;
  session->memory = *memory;
  *memory = old;
  atomic_store_explicit(&session->n_past, n_past, memory_order_relaxed);
  session->prompted = prompted;
  pgg_unlock();
  pgg_memory_drop(session->plan, memory);
}

/* Spans of what marks look at, before where their groups begin. */
static pgg_status hold_marked(pgg_plan *plan, const saved *s, pgg_memory *memory) {
  pgg_status status = PGG_OK;
  for (int g = 0; g < plan->n_group && !status; g++) {
    int64_t end = 0;
    for (int64_t at = stretch(plan, s, g, 0, &end); at < s->from[g] && at < end && !status;
         at = stretch(plan, s, g, end, &end))
      status = pgg_memory_hold(plan, memory, g, at, end);
  }
  return status;
}

static pgg_status load_moments(pgg_plan *plan, const saved *s, pgg_memory *memory) {
  pgg_status status = PGG_OK;
  for (int i = 0; i < s->n_mark && !status; i++)
    status = pgg_moment_new(plan, memory, s->marks[i], &memory->marks[memory->n_mark++]);
  if (!plan->recurrent || !s->n_past) return status;
  if (!status) status = pgg_moment_new(plan, memory, s->n_past, &memory->now);
  return status ? status : walk_moments(plan, memory, s->n_past, true, (char *)s->moments);
}

static pgg_status load(pgg_session *session, const char *bytes, size_t size, int64_t *from) {
  pgg_plan *plan = session->plan;
  pgg_memory memory;
  saved s = {.from = from};
  pgg_status status = judge(session, bytes, size, &s);
  if (status || (status = pgg_memory_prepare(plan, &session->memory, from, s.n_past, s.n_source, &memory)))
    return status;
  if ((status = hold_marked(plan, &s, &memory)) || (status = walk(plan, &memory, &s, write_rows, (char *)s.rows)) ||
      (status = load_moments(plan, &s, &memory)))
    pgg_memory_drop(plan, &memory);
  else
    pgg_session_take(session, &memory, s.n_past, s.prompted);
  return status;
}

pgg_status pgg_session_load(pgg_session *session, const void *bytes, size_t size) {
  if (!session || !bytes) return pgg_fail(PGG_EINVAL, "session or bytes is NULL");
  pgg_status status = pgg_turn_begin(&session, 1);
  if (status) return status;
  int64_t *from = begins_of(session);
  status = from ? load(session, bytes, size, from) : pgg_fail(PGG_ENOMEM, "no memory to load a state");
  free(from);
  pgg_turn_end(&session, 1, false);
  return status;
}

/* ---- forks ----------------------------------------------------------------------------------------------- */

pgg_status pgg_session_fork(pgg_session *session, pgg_session **out) {
  if (!session || !out) return pgg_fail(PGG_EINVAL, "session or fork is NULL");
  *out = NULL;
  pgg_session *fork;
  pgg_status status = pgg_turn_begin(&session, 1);
  if (status) return status;
  if (!(status = pgg_session_new(session->plan, session->n_ctx, session->memory.type, &fork))) {
    pgg_lock();
    const bool open = !fork->closed; /* with the plan, meanwhile */
    fork->output = session->output;
    fork->decode = session->decode;
    if (open) {
      const int64_t n_past = atomic_load_explicit(&session->n_past, memory_order_relaxed);
      pgg_memory_share(session->plan, &fork->memory, &session->memory, n_past);
      atomic_store_explicit(&fork->n_past, n_past, memory_order_relaxed);
      fork->prompted = session->prompted;
    }
    pgg_unlock();
    if (open) {
      *out = fork;
    } else {
      pgg_session_free(fork);
      status = pgg_fail(PGG_EINVAL, "the plan is closed");
    }
  }
  pgg_turn_end(&session, 1, false);
  return status;
}

/* ---- going back ------------------------------------------------------------------------------------------ */

int64_t pgg_session_reach(const pgg_session *session) {
  if (!session) return 0;
  pgg_lock();
  const int64_t n_past = atomic_load_explicit(&session->n_past, memory_order_relaxed);
  const int64_t reach = session->buried ? 0 : pgg_memory_reach(session->plan, &session->memory, n_past);
  pgg_unlock();
  return reach;
}

int64_t pgg_session_back(const pgg_session *session, int64_t n_past) {
  if (!session || n_past < 0) return 0;
  pgg_lock();
  const int64_t now = atomic_load_explicit(&session->n_past, memory_order_relaxed);
  const int64_t back = session->buried ? 0 : pgg_memory_back(session->plan, &session->memory, now, n_past);
  pgg_unlock();
  return back;
}

pgg_status pgg_session_mark(pgg_session *session) {
  if (!session) return pgg_fail(PGG_EINVAL, "session is NULL");
  pgg_status status = pgg_turn_begin(&session, 1);
  if (status) return status;
  pgg_lock();
  const bool marked =
      pgg_moments_mark(session->plan, &session->memory, atomic_load_explicit(&session->n_past, memory_order_relaxed));
  pgg_unlock();
  if (!marked)
    status =
        pgg_fail(PGG_EINVAL, "mark: the session has %d marks, the most there are; unmark one first", PGG_MAX_MARKS);
  pgg_turn_end(&session, 1, false);
  return status;
}

pgg_status pgg_session_unmark(pgg_session *session, int64_t n_past) {
  if (!session) return pgg_fail(PGG_EINVAL, "session is NULL");
  pgg_status status = pgg_turn_begin(&session, 1);
  if (status) return status;
  pgg_span *list = NULL;
  pgg_lock();
  pgg_moments_unmark(session->plan, &session->memory, n_past, &list);
  pgg_memory_unmarked(session->plan, &session->memory, &list);
  pgg_unlock();
  pgg_spans_drop(session->plan, list);
  pgg_turn_end(&session, 1, false);
  return PGG_OK;
}
