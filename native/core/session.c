/* A session: one sequence's cache and position over a shared plan. A step is cut into pieces of n_batch tokens; on any
 * failure the position is what it was, and whatever was written behind it is never read. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "core/exec.h"
#include "cpu/kernels.h"

struct pgg_session {
  pgg_plan *plan;
  pgg_kv kv;
  int64_t n_past, n_ctx;
  atomic_int cancel;
  pgg_space *own;              /* of a keep_all plan: its nodes stay readable */
  int64_t last_n, last_wanted; /* rows of the last piece */
  float *logits;               /* (output cols) of pgg_session_next */
};

pgg_status pgg_session_new(pgg_plan *plan, int64_t n_ctx, int kv_type, pgg_session **out) {
  if (!plan || !out) return pgg_fail(PGG_EINVAL, "plan or session is NULL");
  *out = NULL;
  if (!plan->frozen) return pgg_fail(PGG_EINVAL, "the plan is not frozen: call pgg_plan_freeze first");
  if (n_ctx < 1 || n_ctx > plan->limits.n_ctx)
    return pgg_fail(PGG_EINVAL, "n_ctx is %lld, expected 1 to %d (the plan's)", (long long)n_ctx, plan->limits.n_ctx);
  pgg_session *session = calloc(1, sizeof *session);
  if (!session) return pgg_fail(PGG_ENOMEM, "no memory for a session");
  session->plan = plan;
  session->n_ctx = n_ctx;
  pgg_status status = pgg_kv_make(plan, kv_type, n_ctx, &session->kv);
  if (status) {
    free(session);
    return status;
  }
  *out = session;
  return PGG_OK;
}

void pgg_session_free(pgg_session *session) {
  if (!session) return;
  pgg_space_free(session->plan, session->own);
  pgg_kv_drop(&session->kv);
  free(session->logits);
  free(session);
}

int64_t pgg_session_n_past(const pgg_session *session) { return session ? session->n_past : 0; }
int64_t pgg_session_n_ctx(const pgg_session *session) { return session ? session->n_ctx : 0; }

pgg_status pgg_session_truncate(pgg_session *session, int64_t n_past) {
  if (!session) return pgg_fail(PGG_EINVAL, "session is NULL");
  if (n_past < 0 || n_past > session->n_past)
    return pgg_fail(PGG_EINVAL, "truncate: n_past is %lld, expected 0 to %lld", (long long)n_past,
                    (long long)session->n_past);
  session->n_past = n_past;
  return PGG_OK;
}

void pgg_session_cancel(pgg_session *session, int on) {
  if (session) atomic_store_explicit(&session->cancel, on != 0, memory_order_relaxed);
}

/* ---- a step -------------------------------------------------------------------------------------------- */

static pgg_status judge_step(const pgg_session *session, const int32_t *ids, const float *rows, int64_t n,
                             int64_t n_wanted, const float *out) {
  const pgg_plan *plan = session->plan;
  if (n < 1) return pgg_fail(PGG_EINVAL, "step: %lld tokens given, expected at least 1", (long long)n);
  if (n_wanted < 0 || n_wanted > n)
    return pgg_fail(PGG_EINVAL, "step: %lld rows wanted of %lld tokens", (long long)n_wanted, (long long)n);
  if (n_wanted && !out) return pgg_fail(PGG_EINVAL, "step: out is NULL but %lld rows are wanted", (long long)n_wanted);
  if (plan->n_input ? !rows : !ids && plan->n_embed)
    return pgg_fail(PGG_EINVAL, "step: this plan is fed by %s, which are missing", plan->n_input ? "rows" : "ids");
  if (n > session->n_ctx - session->n_past)
    return pgg_fail(PGG_EINVAL, "step: %lld tokens do not fit: the context holds %lld positions and %lld are taken",
                    (long long)n, (long long)session->n_ctx, (long long)session->n_past);
  if (plan->any_order && n > plan->limits.n_batch)
    return pgg_fail(PGG_EINVAL, "step: %lld tokens attend to each other and must be fed at once, but n_batch is %d",
                    (long long)n, plan->limits.n_batch);
  if (plan->n_embed)
    for (int64_t i = 0; i < n; i++)
      if (ids[i] < 0 || ids[i] >= plan->n_vocab)
        return pgg_fail(PGG_EINVAL, "step: id at position %lld is %d, expected 0 to %lld", (long long)i, ids[i],
                        (long long)plan->n_vocab - 1);
  return PGG_OK;
}

/* Numbers that are none end here rather than in somebody's text. */
static pgg_status judge_out(const pgg_plan *plan, const float *out, int64_t n_wanted) {
  int64_t cols = plan->nodes[plan->output].cols;
  for (int64_t r = 0; r < n_wanted; r++) {
    const float *row = out + r * cols;
    if (pgg_kernels_get()->finite(row, cols)) continue;
    int64_t c = 0;
    while (c < cols - 1 && isfinite(row[c])) c++;
    return pgg_fail(PGG_ENUMERIC, "step: the output of wanted row %lld at column %lld is %g; weights may be damaged",
                    (long long)r, (long long)c, (double)row[c]);
  }
  return PGG_OK;
}

pgg_status pgg_session_step(pgg_session *session, const int32_t *ids, const float *rows, int64_t n, int64_t n_wanted,
                            float *out, int n_threads) {
  if (!session) return pgg_fail(PGG_EINVAL, "session is NULL");
  pgg_status status = judge_step(session, ids, rows, n, n_wanted, out);
  if (status) return status;
  pgg_plan *plan = session->plan;
  const int64_t start = session->n_past, cols = plan->nodes[plan->output].cols;
  float *next = out;
  for (int64_t at = 0; at < n && !status;) {
    int64_t end = pgg_min_i64(n, at + plan->limits.n_batch);
    pgg_piece piece = {.kv = &session->kv,
                       .own = plan->limits.keep_all ? &session->own : NULL,
                       .n = end - at,
                       .wanted = pgg_max_i64(0, end - pgg_max_i64(at, n - n_wanted)),
                       .n_past = session->n_past,
                       .ids = ids ? ids + at : NULL,
                       .rows = rows ? rows + at * plan->n_input : NULL,
                       .cancel = &session->cancel};
    if (piece.wanted) piece.out = next;
    status = pgg_exec(plan, &piece, n_threads);
    if (status) break;
    session->n_past += piece.n;
    session->last_n = piece.n;
    session->last_wanted = piece.wanted;
    if (piece.wanted) next += piece.wanted * cols;
    at = end;
  }
  if (!status) status = judge_out(plan, out, n_wanted);
  if (status) session->n_past = start;
  return status;
}

pgg_status pgg_session_node(const pgg_session *session, int node, float *out, int64_t count) {
  if (!session || !out) return pgg_fail(PGG_EINVAL, "session or out is NULL");
  const pgg_plan *plan = session->plan;
  if (!plan->limits.keep_all) return pgg_fail(PGG_EINVAL, "node: the plan was not frozen with keep_all");
  if (node < 0 || node >= plan->n_node)
    return pgg_fail(PGG_EINVAL, "there is no node %d (the plan has %d)", node, plan->n_node);
  if (!session->own || !session->last_n) return pgg_fail(PGG_EINVAL, "node: the session has not made a step");
  const pgg_node *what = &plan->nodes[node];
  int64_t rows = what->rows == PGG_ROWS_WANTED ? session->last_wanted : session->last_n;
  if (count != rows * what->cols)
    return pgg_fail(PGG_ESHAPE, "node: %s is (%lld, %lld), room for %lld values given", plan->ops[what->op].op.name,
                    (long long)rows, (long long)what->cols, (long long)count);
  const float *x = (const float *)(const void *)(session->own->arena + what->offset);
  for (int64_t r = 0; r < rows; r++)
    memcpy(out + r * what->cols, x + r * what->stride, (size_t)what->cols * sizeof(float));
  return PGG_OK;
}

pgg_status pgg_sampler_fits(const pgg_sampler *sampler, int64_t n_vocab); /* sample.c */

pgg_status pgg_session_next(pgg_session *session, pgg_sampler *sampler, const int32_t *ids, int64_t n, int n_threads,
                            int32_t *id) {
  if (!session || !sampler || !id) return pgg_fail(PGG_EINVAL, "session, sampler or id is NULL");
  int64_t cols = session->plan->nodes[session->plan->output].cols;
  pgg_status status = pgg_sampler_fits(sampler, cols);
  if (status) return status;
  if (!session->logits && !(session->logits = malloc((size_t)cols * sizeof(float))))
    return pgg_fail(PGG_ENOMEM, "no memory for %lld logits", (long long)cols);
  int64_t start = session->n_past;
  if ((status = pgg_session_step(session, ids, NULL, n, 1, session->logits, n_threads))) return status;
  if ((status = pgg_sampler_next(sampler, session->logits, id))) session->n_past = start;
  return status;
}
