/* What can be done with what a session remembers: fork it, save it, load it. The saved form, all numbers little-endian:
 *
 *   "PGGSTATE"  u32 version  u32 type of the cache  u64 check: FNV-1a of all that follows
 *   u64 what tells the plan and its weights from others  u64 positions  u32 groups
 *   for each group: u64 position that it begins with
 *   for each state: for each head: rows of keys from there on, then for each head: rows of values
 *
 * A saved state holds numbers only: whatever they are, no more can come of them than wrong logits. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "core/hash.h"
#include "core/session.h"

#define VERSION 1
static const char magic[8] = {'P', 'G', 'G', 'S', 'T', 'A', 'T', 'E'};
enum { CHECKED_FROM = 24, FIXED = CHECKED_FROM + 20, FEW_BYTES = 64 };

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

typedef pgg_status (*visit)(const pgg_plan *plan, const pgg_memory *memory, const pgg_rows_at *at, void *rows);

static pgg_status write_rows(const pgg_plan *plan, const pgg_memory *memory, const pgg_rows_at *at, void *rows) {
  return pgg_memory_write(plan, memory, at, rows);
}

static pgg_status walk(const pgg_plan *plan, const pgg_memory *memory, int64_t n_past, visit each, char *bytes) {
  for (int i = 0; i < plan->n_state; i++)
    for (int values = 0; values < 2; values++) {
      const size_t row = pgg_memory_row(memory, i, values);
      for (int64_t h = 0; h < plan->states[i].n_head_kv; h++)
        for (int64_t pos = memory->groups[plan->states[i].group].from; pos < n_past;) {
          const int64_t n = pgg_min_i64(n_past, (pos / PGG_SPAN + 1) * PGG_SPAN) - pos;
          const pgg_rows_at at = {i, h, pos, n, values};
          pgg_status status = each(plan, memory, &at, bytes);
          if (status) return status;
          bytes += (size_t)n * row;
          pos += n;
        }
    }
  return PGG_OK;
}

/* Bytes of the rows; false where they pass what memory can be. */
static bool rows_bytes(const pgg_plan *plan, const pgg_memory *memory, int64_t n_past, const int64_t *from,
                       size_t *bytes) {
  *bytes = 0;
  for (int i = 0; i < plan->n_state; i++) {
    const pgg_state *state = &plan->states[i];
    const size_t row = pgg_memory_row(memory, i, false) + pgg_memory_row(memory, i, true);
    size_t more;
    if (!pgg_mul_size(n_past - from[state->group], state->n_head_kv * (int64_t)row, &more) ||
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

static pgg_status save(const pgg_session *session, const int64_t *from, char *bytes, size_t *size) {
  const pgg_plan *plan = session->plan;
  const int64_t n_past = atomic_load_explicit(&session->n_past, memory_order_relaxed);
  size_t rows;
  if (!rows_bytes(plan, &session->memory, n_past, from, &rows))
    return pgg_fail(PGG_ESHAPE, "save: the state is larger than memory can be");
  const size_t need = FIXED + 8 * (size_t)plan->n_group + rows, room = *size;
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
  put(&at, (uint64_t)plan->n_group, 4);
  for (int g = 0; g < plan->n_group; g++) put(&at, (uint64_t)from[g], 8);
  pgg_status status = walk(plan, &session->memory, n_past, pgg_memory_read, at);
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

/* All but the rows; *rows is where they begin. */
static pgg_status judge(const pgg_session *session, const char *bytes, size_t size, int64_t *from, int64_t *n_past,
                        const char **rows) {
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
  const uint64_t positions = get(&at, 8), groups = get(&at, 4);
  if (positions > (uint64_t)session->n_ctx)
    return pgg_fail(PGG_EINVAL, "load: the state has %llu positions, the session holds %lld",
                    (unsigned long long)positions, (long long)session->n_ctx);
  *n_past = (int64_t)positions;
  if (groups != (uint64_t)plan->n_group || size - FIXED < 8 * groups)
    return pgg_fail(PGG_EFORMAT, "load: the state is cut or altered");
  for (int g = 0; g < plan->n_group; g++) {
    const uint64_t begin = get(&at, 8);
    const int64_t window = plan->groups[g].window;
    if (begin > positions || (begin && (!window || (int64_t)begin > *n_past + 1 - window)))
      return pgg_fail(PGG_EFORMAT, "load: the state lacks positions that a window looks at");
    from[g] = (int64_t)begin;
  }
  size_t need;
  if (!rows_bytes(plan, &session->memory, *n_past, from, &need) || need != size - (size_t)(at - bytes))
    return pgg_fail(PGG_EFORMAT, "load: the state is cut or altered");
  *rows = at;
  return PGG_OK;
}

void pgg_session_take(pgg_session *session, pgg_memory *memory, int64_t n_past) {
  pgg_lock();
  pgg_memory old = session->memory;
  session->memory = *memory;
  *memory = old;
  atomic_store_explicit(&session->n_past, n_past, memory_order_relaxed);
  pgg_unlock();
  pgg_memory_drop(session->plan, memory);
}

static pgg_status load(pgg_session *session, const char *bytes, size_t size, int64_t *from) {
  pgg_plan *plan = session->plan;
  pgg_memory memory;
  const char *rows = NULL;
  int64_t n_past = 0;
  pgg_status status = judge(session, bytes, size, from, &n_past, &rows);
  if (status || (status = pgg_memory_prepare(plan, &session->memory, from, n_past, &memory))) return status;
  if ((status = walk(plan, &memory, n_past, write_rows, (char *)rows)))
    pgg_memory_drop(plan, &memory);
  else
    pgg_session_take(session, &memory, n_past);
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
    if (open) {
      const int64_t n_past = atomic_load_explicit(&session->n_past, memory_order_relaxed);
      pgg_memory_share(session->plan, &fork->memory, &session->memory, n_past);
      atomic_store_explicit(&fork->n_past, n_past, memory_order_relaxed);
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

int64_t pgg_session_reach(const pgg_session *session) {
  if (!session) return 0;
  pgg_lock();
  const int64_t reach = session->buried ? 0 : pgg_memory_reach(session->plan, &session->memory);
  pgg_unlock();
  return reach;
}
