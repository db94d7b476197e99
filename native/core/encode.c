/* Encoding: a session reads its source, another text that its steps attend to. All of it is computed at once into
 * memory that takes the old one's place when it has ended well. Of the source's states only those that steps read stay.
 */
#include "base/memory.h"
#include "core/session.h"

static pgg_status judge(const pgg_session *session, const int32_t *ids, const float *rows, int64_t n) {
  const pgg_plan *plan = session->plan;
  const int64_t n_past = atomic_load_explicit(&session->n_past, memory_order_relaxed);
  pgg_status status;
  if (!pgg_plan_reads_source(plan))
    return pgg_fail(PGG_EUNSUPPORTED, "encode: this plan attends to no other text than its own");
  if (n < 1) return pgg_fail(PGG_EINVAL, "encode: %lld rows given, expected at least 1", (long long)n);
  if (n > plan->limits.n_batch)
    return pgg_fail(PGG_EINVAL, "encode: %lld rows attend to each other and must be read at once, but n_batch is %d",
                    (long long)n, plan->limits.n_batch);
  if (plan->source.n_position && n > plan->source.n_position)
    return pgg_fail(PGG_EINVAL, "encode: %lld rows given, the plan has positions of a source for %lld", (long long)n,
                    (long long)plan->source.n_position);
  if (n_past)
    return pgg_fail(PGG_EINVAL,
                    "encode: the %lld positions of the session have attended to what was encoded before; truncate it "
                    "to 0 first",
                    (long long)n_past);
  if ((status = pgg_feed_given(&plan->source, ids, rows, "encode"))) return status;
  return pgg_feed_ids(&plan->source, ids, n, "encode");
}

static pgg_status run(pgg_session *session, pgg_memory *memory, const int32_t *ids, const float *rows, int64_t n,
                      int n_threads) {
  pgg_plan *plan = session->plan;
  pgg_status status = pgg_memory_grow(plan, memory, true, 0, n);
  if (status) return status;
  const atomic_int *cancel = &session->cancel;
  const pgg_part part = {.memory = memory, .n = n};
  const pgg_piece piece = {.parts = &part,
                           .n_part = 1,
                           .n = n,
                           .ids = ids,
                           .rows = rows,
                           .output = PGG_ENCODES,
                           .cancel = &cancel,
                           .n_cancel = 1,
                           .n_threads = n_threads};
  status = pgg_exec(plan, &piece, plan->limits.keep_all ? &session->own : NULL);
  pgg_session_cancel(session, 0);
  return status;
}

pgg_status pgg_session_encode(pgg_session *session, const int32_t *ids, const float *rows, int64_t n, int n_threads) {
  if (!session) return pgg_fail(PGG_EINVAL, "session is NULL");
  pgg_plan *plan = session->plan;
  pgg_memory memory;
  pgg_span *list = NULL;
  pgg_status status = pgg_turn_begin(&session, 1);
  if (status) return status;
  if (!(status = judge(session, ids, rows, n)) &&
      !(status = pgg_memory_new(plan, session->memory.type, session->n_ctx, &memory))) {
    if ((status = run(session, &memory, ids, rows, n, n_threads))) {
      pgg_memory_drop(plan, &memory);
    } else {
      pgg_lock();
      pgg_memory_encoded(plan, &memory, n, &list);
      pgg_unlock();
      pgg_spans_drop(plan, list);
      session->last_source = n;
      pgg_session_take(session, &memory, 0, 0);
    }
  }
  pgg_turn_end(&session, 1, false);
  return status;
}

int64_t pgg_session_n_source(const pgg_session *session) {
  if (!session) return 0;
  pgg_lock();
  const int64_t n = session->memory.n_source;
  pgg_unlock();
  return n;
}
