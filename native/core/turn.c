/* Who may touch a session, and how sessions and plans end. One thread has the turn; all else waits for it or is
 * refused, so that no caller can free, shorten or reuse a cache under a running step, whatever it does. Closing
 * cancels, waits, and leaves an empty handle. In a forked child nobody has a turn: the threads that had one are not
 * there. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/watch.h"
#include "core/session.h"

/* Of this thread: steps it is inside of. 1 is seen only by a watcher, which runs in the middle of one. */
#if defined(_MSC_VER)
static __declspec(thread) int t_inside;
#else
static _Thread_local int t_inside;
#endif

static const void *me(void) { return &t_inside; }

/* Under the lock, before anything is believed. */
static void renew(pgg_plan *plan) {
  if (plan->generation == pgg_generation()) return;
  plan->generation = pgg_generation();
  pgg_cond_init(&plan->quiet); /* the old one may have waiters that do not exist */
  for (pgg_session *s = plan->sessions; s; s = s->next) s->busy = false;
}

static void lock_plan(pgg_plan *plan) {
  pgg_lock();
  renew(plan);
}

/* ---- turns --------------------------------------------------------------------------------------------- */

typedef enum refusal { FREE, RUNS, TWICE, CLOSED } refusal;

static refusal take(pgg_session *const *sessions, int n, int *at) {
  refusal why = FREE;
  int i = 0;
  for (; i < n && !why; i++) {
    pgg_session *s = sessions[i];
    why = s->closed ? CLOSED : s->busy ? RUNS : FREE;
    for (int j = 0; why == RUNS && j < i; j++)
      if (sessions[j] == s) why = TWICE;
    if (why) break;
    s->busy = true;
    s->owner = me();
    s->fed = 0;
  }
  *at = i;
  while (why && i-- > 0) sessions[i]->busy = false;
  return why;
}

pgg_status pgg_turn_begin(pgg_session *const *sessions, int n) {
  if (t_inside)
    return pgg_fail(PGG_EINVAL,
                    "this thread is in the middle of a step: a watcher (in Python a signal handler) that "
                    "runs inside it cannot begin another");
  int at;
  lock_plan(sessions[0]->plan);
  const refusal why = take(sessions, n, &at);
  pgg_unlock();
  char which[32] = "this session";
  if (n > 1) snprintf(which, sizeof which, "session %d", at);
  switch (why) {
    case FREE: break;
    case CLOSED: return pgg_fail(PGG_EINVAL, "%s is closed", which);
    case TWICE: return pgg_fail(PGG_EINVAL, "step: %s is given twice", which);
    case RUNS:
      return pgg_fail(PGG_EINVAL, "%s is running in another thread; give each thread a session of its own", which);
  }
  t_inside++;
  return PGG_OK;
}

/* What a closed session held: taken under the lock, freed outside. */
typedef struct remains {
  pgg_memory memory;
  pgg_arenas own;
  float *logits;
} remains;

static bool bury(pgg_session *s, remains *r) {
  if (!s->closed || s->busy || s->buried) return false;
  *r = (remains){s->memory, s->own, s->logits};
  s->memory = (pgg_memory){.type = s->memory.type, .n_ctx = s->memory.n_ctx};
  s->own = (pgg_arenas){0};
  s->buried = true;
  s->logits = NULL;
  s->n_logits = 0;
  return true;
}

static void free_remains(pgg_plan *plan, remains *r) {
  pgg_memory_drop(plan, &r->memory);
  pgg_arenas_drop(plan, &r->own);
  free(r->logits);
}

void pgg_turn_end(pgg_session *const *sessions, int n, bool keep) {
  pgg_plan *plan = sessions[0]->plan;
  remains r;
  pgg_span *list = NULL;
  t_inside--;
  lock_plan(plan);
  for (int i = 0; i < n; i++) {
    pgg_session *s = sessions[i];
    const int64_t n_past = atomic_load_explicit(&s->n_past, memory_order_relaxed) + (keep ? s->fed : 0);
    if (keep) {
      if (!s->decode && s->prompted == n_past - s->fed) s->prompted = n_past;
      atomic_store_explicit(&s->n_past, n_past, memory_order_relaxed);
    }
    pgg_moments_end(plan, &s->memory, keep, n_past, &list);
    pgg_memory_cut(plan, &s->memory, n_past, &list);
    pgg_memory_pass(plan, &s->memory, n_past, 0, &list);
    s->busy = false;
    s->owner = NULL;
    if (!bury(s, &r)) continue; /* closed by a watcher, which could not wait for its own thread */
    pgg_unlock();
    free_remains(plan, &r);
    lock_plan(plan);
  }
  pgg_cond_wake_all(&plan->quiet);
  pgg_unlock();
  pgg_spans_drop(plan, list);
}

/* Why, and where it can go instead. */
static pgg_status cannot_go(const pgg_plan *plan, int64_t n_past, int64_t back, int64_t reach) {
  char where[80];
  if (plan->recurrent) {
    snprintf(where, sizeof where, back ? "%lld, a mark before it" : "0", (long long)back);
    return pgg_fail(PGG_EUNSUPPORTED,
                    "truncate: recurrent layers do not know what they were at position %lld, which was not marked; the "
                    "session can go back to %s",
                    (long long)n_past, where);
  }
  snprintf(where, sizeof where, back ? "%lld, a mark before it," : "%lld,", (long long)(back ? back : reach));
  return pgg_fail(PGG_EUNSUPPORTED,
                  "truncate: a window has forgotten what position %lld looks at, which was not marked; the session can "
                  "go back to %s or to 0",
                  (long long)n_past, where);
}

/* all: the source too, which truncating leaves. */
static pgg_status go_back(pgg_session *session, int64_t n_past, bool all) {
  if (!session) return pgg_fail(PGG_EINVAL, "session is NULL");
  bool stops = false, inside = false;
  lock_plan(session->plan);
  while (session->busy && !session->closed && !stops && !inside) {
    if (session->owner == me()) {
      inside = true;
    } else if (!pgg_cond_wait_ms(&session->plan->quiet, PGG_WATCH_MS)) {
      pgg_unlock();
      stops = pgg_watch_stops();
      lock_plan(session->plan);
    }
  }
  const int64_t now = atomic_load_explicit(&session->n_past, memory_order_relaxed);
  const bool closed = session->closed, good = n_past >= 0 && n_past <= now, free_to = !closed && !stops && !inside;
  const int64_t back = free_to && good ? pgg_memory_back(session->plan, &session->memory, now, n_past) : n_past;
  const bool reached = back == n_past;
  const int64_t reach = reached ? 0 : pgg_memory_reach(session->plan, &session->memory, now);
  pgg_span *list = NULL;
  if (free_to && good && reached) {
    atomic_store_explicit(&session->n_past, n_past, memory_order_relaxed);
    session->prompted = pgg_min_i64(session->prompted, n_past);
    pgg_memory_cut(session->plan, &session->memory, n_past, &list);
    if (all) pgg_memory_forget_source(session->plan, &session->memory, &list);
  }
  pgg_unlock();
  pgg_spans_drop(session->plan, list);
  if (stops) return pgg_fail(PGG_ECANCELLED, "interrupted");
  if (closed) return pgg_fail(PGG_EINVAL, "this session is closed");
  if (inside) return pgg_fail(PGG_EINVAL, "truncate: called by a watcher inside a step of this session");
  if (!good)
    return pgg_fail(PGG_EINVAL, "truncate: n_past is %lld, expected 0 to %lld", (long long)n_past, (long long)now);
  if (!reached) return cannot_go(session->plan, n_past, back, reach);
  return PGG_OK;
}

pgg_status pgg_session_truncate(pgg_session *session, int64_t n_past) { return go_back(session, n_past, false); }
pgg_status pgg_session_reset(pgg_session *session) { return go_back(session, 0, true); }

/* ---- ends ---------------------------------------------------------------------------------------------- */

bool pgg_turn_join(pgg_session *session) {
  pgg_plan *plan = session->plan;
  lock_plan(plan);
  const bool open = !plan->closed;
  if (open) {
    session->next = plan->sessions;
    session->before = &plan->sessions;
    if (session->next) session->next->before = &session->next;
    plan->sessions = session;
  }
  pgg_unlock();
  return open;
}

void pgg_turn_part(pgg_session *session) {
  lock_plan(session->plan);
  if (session->before) {
    *session->before = session->next;
    if (session->next) session->next->before = session->before;
  }
  pgg_unlock();
}

/* Under the lock: from now on refused, and a running step ends soon. */
static void refuse(pgg_session *s) {
  s->closed = true;
  atomic_store_explicit(&s->cancel, 1, memory_order_relaxed);
}

static bool waits_for(const pgg_session *s) { return s->busy && s->owner != me(); }

void pgg_session_close(pgg_session *session) {
  if (!session) return;
  remains r;
  lock_plan(session->plan);
  refuse(session);
  while (waits_for(session)) pgg_cond_wait(&session->plan->quiet);
  const bool any = bury(session, &r);
  pgg_unlock();
  if (any) free_remains(session->plan, &r);
}

int pgg_plan_close(pgg_plan *plan) {
  if (!plan) return 1;
  remains r;
  bool busy = false;
  lock_plan(plan);
  plan->closed = true;
  for (pgg_session *s = plan->sessions; s; s = s->next) refuse(s);
  for (pgg_session *s = plan->sessions; s;) {
    if (waits_for(s)) {
      pgg_cond_wait(&plan->quiet);
    } else if (bury(s, &r)) {
      pgg_unlock();
      free_remains(plan, &r);
      lock_plan(plan);
    } else {
      busy |= s->busy;
      s = s->next;
      continue;
    }
    s = plan->sessions; /* the list may be another */
    busy = false;
  }
  pgg_unlock();
  if (!busy) pgg_places_rest(plan);
  return !busy;
}

int pgg_plan_caches(pgg_plan *plan, size_t *bytes, int cap) {
  if (!plan) return 0;
  int n = 0;
  lock_plan(plan);
  for (const pgg_session *s = plan->sessions; s; s = s->next) {
    if (s->closed) continue;
    if (bytes && n < cap) bytes[n] = s->memory.bytes;
    n++;
  }
  pgg_unlock();
  return n;
}

size_t pgg_plan_cache_bytes(pgg_plan *plan) {
  if (!plan) return 0;
  lock_plan(plan);
  const size_t bytes = plan->cache_bytes;
  pgg_unlock();
  return bytes;
}
