/* A session: one sequence's cache and position over a shared plan; and steps of one or several of them. A step is cut
 * into pieces of n_batch tokens; on any failure all positions are what they were, and whatever was written behind them
 * is never read. */
#include <math.h>
#include <stdio.h>
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
  float *logits;               /* (n_logits, output cols) of a step that chooses and begins with this session */
  int n_logits;
  int64_t fed; /* while a step runs: the tokens of it that are done */
  bool taken;  /* while a step is judged: it is among the sessions */
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

/* What a caller asked for. */
typedef struct request {
  pgg_plan *plan;
  pgg_session *const *sessions;
  const int64_t *counts, *n_wanted; /* (n_session) */
  int n_session;
  const int32_t *ids;
  const float *rows; /* only of a single session */
  float *out;
} request;

/* "step", or which of several sequences it is about. */
static const char *about(const request *r, int i, char *room, size_t size) {
  if (r->n_session == 1) return "step";
  snprintf(room, size, "step, sequence %d", i);
  return room;
}

static pgg_status judge_part(const request *r, int i, const int32_t *ids) {
  const pgg_plan *plan = r->plan;
  const pgg_session *session = r->sessions[i];
  const int64_t n = r->counts[i], n_wanted = r->n_wanted[i];
  char room[48];
  const char *who = about(r, i, room, sizeof room);
  if (n < 1) return pgg_fail(PGG_EINVAL, "%s: %lld tokens given, expected at least 1", who, (long long)n);
  if (n_wanted < 0 || n_wanted > n)
    return pgg_fail(PGG_EINVAL, "%s: %lld rows wanted of %lld tokens", who, (long long)n_wanted, (long long)n);
  if (n_wanted && !r->out)
    return pgg_fail(PGG_EINVAL, "%s: out is NULL but %lld rows are wanted", who, (long long)n_wanted);
  if (plan->n_input ? !r->rows : !r->ids && plan->n_embed)
    return pgg_fail(PGG_EINVAL, "%s: this plan is fed by %s, which are missing", who, plan->n_input ? "rows" : "ids");
  if (n > session->n_ctx - session->n_past)
    return pgg_fail(PGG_EINVAL, "%s: %lld tokens do not fit: the context holds %lld positions and %lld are taken", who,
                    (long long)n, (long long)session->n_ctx, (long long)session->n_past);
  if (plan->any_order && n > plan->limits.n_batch)
    return pgg_fail(PGG_EINVAL, "%s: %lld tokens attend to each other and must be fed at once, but n_batch is %d", who,
                    (long long)n, plan->limits.n_batch);
  if (plan->n_embed)
    for (int64_t t = 0; t < n; t++)
      if (ids[t] < 0 || ids[t] >= plan->n_vocab)
        return pgg_fail(PGG_EINVAL, "%s: id at position %lld is %d, expected 0 to %lld", who, (long long)t, ids[t],
                        (long long)plan->n_vocab - 1);
  return PGG_OK;
}

static pgg_status judge_step(const request *r) {
  const int32_t *ids = r->ids;
  for (int i = 0; i < r->n_session; i++) {
    pgg_status status = judge_part(r, i, ids);
    if (status) return status;
    if (ids) ids += r->counts[i];
  }
  return PGG_OK;
}

/* Different sessions of the plan. */
static pgg_status judge_sessions(const request *r) {
  pgg_status status = PGG_OK;
  int n = 0;
  for (; n < r->n_session && !status; n++) {
    pgg_session *session = r->sessions[n];
    if (!session || session->plan != r->plan)
      status = pgg_fail(PGG_EINVAL, "step: session %d is %s", n, session ? "of another plan" : "NULL");
    else if (session->taken)
      status = pgg_fail(PGG_EINVAL, "step: session %d is given twice", n);
    else
      session->taken = true;
  }
  if (status) n--; /* the last was not marked by this loop */
  for (int i = 0; i < n; i++) r->sessions[i]->taken = false;
  return status;
}

/* Numbers that are none end here rather than in somebody's text. */
static pgg_status judge_out(const request *r) {
  const pgg_plan *plan = r->plan;
  int64_t cols = plan->nodes[plan->output].cols;
  const float *row = r->out;
  for (int i = 0; i < r->n_session; i++)
    for (int64_t w = 0; w < r->n_wanted[i]; w++, row += cols) {
      if (pgg_kernels_get()->finite(row, cols)) continue;
      int64_t c = 0;
      char room[48];
      while (c < cols - 1 && isfinite(row[c])) c++;
      return pgg_fail(PGG_ENUMERIC, "%s: the output of wanted row %lld at column %lld is %g; weights may be damaged",
                      about(r, i, room, sizeof room), (long long)w, (long long)c, (double)row[c]);
    }
  return PGG_OK;
}

/* The next piece: what fits of the sessions from *at on, which moves on. */
static void take_piece(const request *r, int *at, pgg_part *parts, pgg_piece *piece) {
  const int64_t n_batch = r->plan->limits.n_batch;
  while (*at < r->n_session && piece->n < n_batch) {
    pgg_session *session = r->sessions[*at];
    const int64_t n = r->counts[*at], left = n - session->fed, take = pgg_min_i64(left, n_batch - piece->n);
    if (r->plan->any_order && take < left) return;                          /* all of it or nothing */
    const int64_t silent = pgg_max_i64(session->fed, n - r->n_wanted[*at]); /* before the wanted ones */
    pgg_part *part = &parts[piece->n_part++];
    *part = (pgg_part){.kv = &session->kv,
                       .n_past = session->n_past,
                       .first = piece->n,
                       .n = take,
                       .wanted = pgg_max_i64(0, session->fed + take - silent)};
    piece->n += take;
    piece->wanted += part->wanted;
    session->n_past += take;
    session->fed += take;
    if (take < left) return;
    ++*at;
  }
}

/* parts and cancels: room for n_session. */
static pgg_status run_step(const request *r, pgg_part *parts, const atomic_int **cancels, int n_threads) {
  pgg_plan *plan = r->plan;
  const int64_t cols = plan->nodes[plan->output].cols;
  int64_t done = 0;
  float *next = r->out;
  pgg_status status = PGG_OK;
  for (int i = 0; i < r->n_session; i++) {
    r->sessions[i]->fed = 0;
    cancels[i] = &r->sessions[i]->cancel;
  }
  for (int at = 0; at < r->n_session;) {
    pgg_piece piece = {.parts = parts,
                       .own = plan->limits.keep_all ? &r->sessions[0]->own : NULL,
                       .ids = r->ids ? r->ids + done : NULL,
                       .rows = r->rows ? r->rows + done * plan->n_input : NULL,
                       .cancel = cancels,
                       .n_cancel = r->n_session};
    take_piece(r, &at, parts, &piece);
    if (piece.wanted) piece.out = next;
    if ((status = pgg_exec(plan, &piece, n_threads))) break;
    r->sessions[0]->last_n = piece.n; /* read of keep_all plans, which step one session at a time */
    r->sessions[0]->last_wanted = piece.wanted;
    done += piece.n;
    if (piece.wanted) next += piece.wanted * cols;
  }
  if (!status) status = judge_out(r);
  for (int i = 0; i < r->n_session && status; i++) r->sessions[i]->n_past -= r->sessions[i]->fed;
  return status;
}

pgg_status pgg_session_step(pgg_session *session, const int32_t *ids, const float *rows, int64_t n, int64_t n_wanted,
                            float *out, int n_threads) {
  if (!session) return pgg_fail(PGG_EINVAL, "session is NULL");
  const request r = {session->plan, &session, &n, &n_wanted, 1, ids, rows, out};
  pgg_status status = judge_step(&r);
  if (status) return status;
  pgg_part part;
  const atomic_int *cancel;
  return run_step(&r, &part, &cancel, n_threads);
}

pgg_status pgg_plan_step(pgg_plan *plan, pgg_session *const *sessions, const int64_t *counts, int n_session,
                         const int32_t *ids, const int64_t *n_wanted, float *out, int n_threads) {
  if (!plan || !sessions || !counts || !n_wanted || n_session < 1)
    return pgg_fail(PGG_EINVAL, "step: plan, sessions, counts or n_wanted is NULL, or there are no sessions");
  if (!plan->frozen) return pgg_fail(PGG_EINVAL, "the plan is not frozen: call pgg_plan_freeze first");
  if (plan->limits.keep_all && n_session > 1)
    return pgg_fail(PGG_EINVAL, "step: a plan with keep_all steps one session at a time");
  const request r = {plan, sessions, counts, n_wanted, n_session, ids, NULL, out};
  pgg_status status;
  if ((status = judge_sessions(&r)) || (status = judge_step(&r))) return status;
  pgg_part *parts = calloc((size_t)n_session, sizeof *parts);
  const atomic_int **cancels = calloc((size_t)n_session, sizeof *cancels);
  if (parts && cancels)
    status = run_step(&r, parts, cancels, n_threads);
  else
    status = pgg_fail(PGG_ENOMEM, "no memory for a step of %d sequences", n_session);
  free(parts);
  free(cancels);
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

/* Room for n rows of logits. */
static pgg_status logits_ready(pgg_session *session, int n, int64_t cols) {
  size_t bytes;
  if (session->n_logits >= n) return PGG_OK;
  float *more = pgg_mul_size(n, cols * (int64_t)sizeof(float), &bytes) ? malloc(bytes) : NULL;
  if (!more) return pgg_fail(PGG_ENOMEM, "no memory for %d rows of %lld logits", n, (long long)cols);
  free(session->logits);
  session->logits = more;
  session->n_logits = n;
  return PGG_OK;
}

pgg_status pgg_session_next(pgg_session *session, pgg_sampler *sampler, const int32_t *ids, int64_t n, int n_threads,
                            int32_t *id) {
  if (!session || !sampler || !id) return pgg_fail(PGG_EINVAL, "session, sampler or id is NULL");
  int64_t cols = session->plan->nodes[session->plan->output].cols;
  pgg_status status = pgg_sampler_fits(sampler, cols);
  if (status || (status = logits_ready(session, 1, cols))) return status;
  int64_t start = session->n_past;
  if ((status = pgg_session_step(session, ids, NULL, n, 1, session->logits, n_threads))) return status;
  if ((status = pgg_sampler_next(sampler, session->logits, id))) session->n_past = start;
  return status;
}

/* The sampler's sentence, and which sequence it is about. */
static pgg_status name_sequence(pgg_status status, int i) {
  char text[400];
  snprintf(text, sizeof text, "%s", pgg_last_error());
  return pgg_fail(status, "next, sequence %d: %s", i, text);
}

pgg_status pgg_plan_next(pgg_plan *plan, pgg_session *const *sessions, pgg_sampler *const *samplers,
                         const int64_t *counts, int n_session, const int32_t *ids, int n_threads, int32_t *out_ids) {
  if (!plan || !sessions || !samplers || !counts || !out_ids || n_session < 1 || !sessions[0])
    return pgg_fail(PGG_EINVAL, "next: plan, sessions, samplers, counts or out_ids is NULL, or there are no sessions");
  if (sessions[0]->plan != plan) return pgg_fail(PGG_EINVAL, "next: session 0 is of another plan");
  const int64_t cols = plan->nodes[plan->output].cols;
  pgg_status status = logits_ready(sessions[0], n_session, cols);
  for (int i = 0; i < n_session && !status; i++) {
    if (!samplers[i]) return pgg_fail(PGG_EINVAL, "next: sampler %d is NULL", i);
    if ((status = pgg_sampler_fits(samplers[i], cols))) return name_sequence(status, i);
  }
  int64_t *ones = status ? NULL : malloc((size_t)n_session * sizeof *ones);
  if (!status && !ones) status = pgg_fail(PGG_ENOMEM, "no memory for a step of %d sequences", n_session);
  for (int i = 0; i < n_session && !status; i++) ones[i] = 1;
  float *logits = sessions[0]->logits;
  if (!status) status = pgg_plan_step(plan, sessions, counts, n_session, ids, ones, logits, n_threads);
  free(ones);
  if (status) return status;
  for (int i = 0; i < n_session; i++) {
    if (!(status = pgg_sampler_next(samplers[i], logits + i * cols, &out_ids[i]))) continue;
    for (int j = 0; j < n_session; j++) sessions[j]->n_past -= counts[j];
    return name_sequence(status, i);
  }
  return PGG_OK;
}
