/* A session: one sequence's cache and position over a shared plan; and steps of one or several of them. A step is cut
 * into pieces of n_batch tokens; positions move when all of it has ended well, and whatever was written behind them is
 * never read. Who may step, shorten or close a session, and when, is turn.c's business. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/watch.h"
#include "core/session.h"
#include "cpu/kernels.h"

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
  pgg_status status = pgg_memory_new(plan, kv_type, n_ctx, &session->memory);
  if (!status && !pgg_turn_join(session)) {
    pgg_memory_drop(plan, &session->memory);
    status = pgg_fail(PGG_EINVAL, "the plan is closed");
  }
  if (status) {
    free(session);
    return status;
  }
  *out = session;
  return PGG_OK;
}

void pgg_session_free(pgg_session *session) {
  if (!session) return;
  pgg_session_close(session);
  pgg_turn_part(session);
  free(session);
}

int64_t pgg_session_n_past(const pgg_session *session) {
  if (!session) return 0;
  pgg_lock();
  const bool closed = session->closed;
  pgg_unlock();
  return closed ? -1 : atomic_load_explicit(&session->n_past, memory_order_relaxed);
}

int64_t pgg_session_n_ctx(const pgg_session *session) { return session ? session->n_ctx : 0; }

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
  int output; /* of the plan's */
} request;

static const pgg_node *out_of(const request *r) { return &r->plan->nodes[r->plan->outputs[r->output]]; }

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
  const int64_t n_past = atomic_load_explicit(&session->n_past, memory_order_relaxed);
  char room[48];
  const char *who = about(r, i, room, sizeof room);
  pgg_status status;
  if (n < 1) return pgg_fail(PGG_EINVAL, "%s: %lld tokens given, expected at least 1", who, (long long)n);
  if (n_wanted < 0 || n_wanted > n)
    return pgg_fail(PGG_EINVAL, "%s: %lld rows wanted of %lld tokens", who, (long long)n_wanted, (long long)n);
  if (n_wanted && !r->out)
    return pgg_fail(PGG_EINVAL, "%s: out is NULL but %lld rows are wanted", who, (long long)n_wanted);
  if ((status = pgg_feed_given(&plan->text, r->ids, r->rows, who))) return status;
  if (plan->crosses && !session->memory.n_source)
    return pgg_fail(PGG_EINVAL, "%s: this plan attends to a source, and none was encoded: encode one first", who);
  if (n_past < 0 || n_past > session->n_ctx)
    return pgg_fail(PGG_EINVAL, "%s: the session is at position %lld of %lld; its memory was overwritten", who,
                    (long long)n_past, (long long)session->n_ctx);
  if (n > session->n_ctx - n_past)
    return pgg_fail(PGG_EINVAL, "%s: %lld tokens do not fit: the context holds %lld positions and %lld are taken", who,
                    (long long)n, (long long)session->n_ctx, (long long)n_past);
  if (plan->any_order && n > plan->limits.n_batch)
    return pgg_fail(PGG_EINVAL, "%s: %lld tokens attend to each other and must be fed at once, but n_batch is %d", who,
                    (long long)n, plan->limits.n_batch);
  return pgg_feed_ids(&plan->text, ids, n, who);
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

/* Whether this plan can step these sessions together. */
static pgg_status judge_plan(const pgg_plan *plan, pgg_session *const *sessions, int n_session) {
  if (!plan->frozen) return pgg_fail(PGG_EINVAL, "the plan is not frozen: call pgg_plan_freeze first");
  if (plan->limits.keep_all && n_session > 1)
    return pgg_fail(PGG_EINVAL, "step: a plan with keep_all steps one session at a time");
  for (int i = 0; i < n_session; i++)
    if (!sessions[i] || sessions[i]->plan != plan)
      return pgg_fail(PGG_EINVAL, "step: session %d is %s", i, sessions[i] ? "of another plan" : "NULL");
  for (int i = 1; i < n_session; i++)
    if (sessions[i]->output != sessions[0]->output)
      return pgg_fail(PGG_EINVAL, "step: session %d returns output %d, session 0 output %d: step them apart", i,
                      sessions[i]->output, sessions[0]->output);
  return PGG_OK;
}

/* Numbers that are none end here rather than in somebody's text. */
static pgg_status judge_out(const request *r) {
  int64_t cols = out_of(r)->cols;
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

/* The next piece: what fits of the sessions from *at on, which moves on. Its rows are of one kind. */
static void take_piece(const request *r, int *at, pgg_part *parts, pgg_piece *piece) {
  const int64_t n_batch = r->plan->limits.n_batch;
  while (*at < r->n_session && piece->n < n_batch) {
    pgg_session *session = r->sessions[*at];
    const int64_t n = r->counts[*at], left = n - session->fed, take = pgg_min_i64(left, n_batch - piece->n);
    if (piece->n && session->decode != piece->decode) return;
    piece->decode = session->decode;
    if (r->plan->any_order && take < left) return;                          /* all of it or nothing */
    const int64_t silent = pgg_max_i64(session->fed, n - r->n_wanted[*at]); /* before the wanted ones */
    pgg_part *part = &parts[piece->n_part++];
    *part = (pgg_part){.memory = &session->memory,
                       .n_past = atomic_load_explicit(&session->n_past, memory_order_relaxed) + session->fed,
                       .first = piece->n,
                       .n = take,
                       .wanted = pgg_max_i64(0, session->fed + take - silent)};
    piece->n += take;
    piece->wanted += part->wanted;
    session->fed += take;
    if (take < left) return;
    ++*at;
  }
}

/* Memory for the piece. */
static pgg_status grow(const request *r, pgg_part *parts, int n_part) {
  pgg_status status = PGG_OK;
  for (int i = 0; i < n_part && !status; i++) {
    pgg_part *part = &parts[i];
    pgg_memory *memory = (pgg_memory *)part->memory;
    status = pgg_memory_grow(r->plan, memory, false, part->n_past, part->n_past + part->n);
    if (!status) status = pgg_moments_ready(r->plan, memory, &part->before, &part->after);
  }
  return status;
}

/* What windows have passed within a long step goes; what the session looks at if the step fails stays. */
static void pass(const request *r) {
  pgg_span *list = NULL;
  pgg_lock();
  for (int i = 0; i < r->n_session; i++) {
    pgg_session *session = r->sessions[i];
    const int64_t n_past = atomic_load_explicit(&session->n_past, memory_order_relaxed);
    if (session->fed && session->fed < r->counts[i])
      pgg_memory_pass(r->plan, &session->memory, n_past + session->fed, n_past, &list);
  }
  pgg_unlock();
  pgg_spans_drop(r->plan, list);
}

/* In the sessions' turn; parts and cancels: room for n_session. */
static pgg_status run_pieces(const request *r, pgg_part *parts, const atomic_int **cancels, int n_threads) {
  pgg_plan *plan = r->plan;
  const int64_t cols = out_of(r)->cols;
  int64_t done = 0;
  float *next = r->out;
  pgg_status status = PGG_OK;
  for (int i = 0; i < r->n_session; i++) cancels[i] = &r->sessions[i]->cancel;
  for (int at = 0; at < r->n_session;) {
    if (done && pgg_watch_stops()) {
      status = pgg_fail(PGG_ECANCELLED, "interrupted");
      break;
    }
    pgg_piece piece = {.parts = parts,
                       .ids = r->ids ? r->ids + done : NULL,
                       .rows = r->rows ? r->rows + done * plan->text.n_input : NULL,
                       .output = r->output,
                       .cancel = cancels,
                       .n_cancel = r->n_session,
                       .n_threads = n_threads};
    take_piece(r, &at, parts, &piece);
    if (piece.wanted) piece.out = next;
    if ((status = grow(r, parts, piece.n_part))) break;
    if ((status = pgg_exec(plan, &piece, plan->limits.keep_all ? &r->sessions[0]->own : NULL))) break;
    pass(r);
    r->sessions[0]->last_n = piece.n; /* read of keep_all plans, which step one session at a time */
    r->sessions[0]->last_wanted = piece.wanted;
    done += piece.n;
    if (piece.wanted) next += piece.wanted * cols;
  }
  return status ? status : judge_out(r);
}

/* In the sessions' turn. A cancel is spent by the step that it met. */
static pgg_status run_step(const request *r, int n_threads) {
  pgg_part part, *parts = &part;
  const atomic_int *one, **cancels = &one;
  const size_t n = (size_t)r->n_session;
  pgg_status status = judge_step(r);
  if (!status && n > 1) {
    parts = calloc(n, sizeof *parts);
    cancels = calloc(n, sizeof *cancels);
    if (!parts || !cancels) status = pgg_fail(PGG_ENOMEM, "no memory for a step of %d sequences", r->n_session);
  }
  if (!status) {
    status = run_pieces(r, parts, cancels, n_threads);
    for (int i = 0; i < r->n_session; i++) pgg_session_cancel(r->sessions[i], 0);
  }
  if (parts != &part) free(parts);
  if (cancels != &one) free(cancels);
  return status;
}

pgg_status pgg_session_step(pgg_session *session, const int32_t *ids, const float *rows, int64_t n, int64_t n_wanted,
                            float *out, int n_threads) {
  if (!session) return pgg_fail(PGG_EINVAL, "session is NULL");
  const request r = {session->plan, &session, &n, &n_wanted, 1, ids, rows, out, session->output};
  pgg_status status = pgg_turn_begin(&session, 1);
  if (status) return status;
  status = run_step(&r, n_threads);
  pgg_turn_end(&session, 1, status == PGG_OK);
  return status;
}

pgg_status pgg_plan_step(pgg_plan *plan, pgg_session *const *sessions, const int64_t *counts, int n_session,
                         const int32_t *ids, const int64_t *n_wanted, float *out, int n_threads) {
  if (!plan || !sessions || !counts || !n_wanted || n_session < 1)
    return pgg_fail(PGG_EINVAL, "step: plan, sessions, counts or n_wanted is NULL, or there are no sessions");
  pgg_status status = judge_plan(plan, sessions, n_session);
  if (status) return status;
  const request r = {plan, sessions, counts, n_wanted, n_session, ids, NULL, out, sessions[0]->output};
  if ((status = pgg_turn_begin(sessions, n_session))) return status;
  status = run_step(&r, n_threads);
  pgg_turn_end(sessions, n_session, status == PGG_OK);
  return status;
}

pgg_status pgg_session_choose(pgg_session *session, int output) {
  if (!session) return pgg_fail(PGG_EINVAL, "session is NULL");
  if (output < 0 || output >= session->plan->n_output)
    return pgg_fail(PGG_EINVAL, "choose: there is no output %d (the plan has %d)", output, session->plan->n_output);
  pgg_status status = pgg_turn_begin(&session, 1);
  if (status) return status;
  session->output = output;
  pgg_turn_end(&session, 1, false);
  return PGG_OK;
}

pgg_status pgg_session_kind(pgg_session *session, int kind) {
  if (!session) return pgg_fail(PGG_EINVAL, "session is NULL");
  if (kind != PGG_PROMPT_ROWS && kind != PGG_DECODE_ROWS)
    return pgg_fail(PGG_EINVAL, "kind: %d is no kind of rows, expected PGG_PROMPT_ROWS or PGG_DECODE_ROWS", kind);
  pgg_status status = pgg_turn_begin(&session, 1);
  if (status) return status;
  session->decode = kind == PGG_DECODE_ROWS;
  pgg_turn_end(&session, 1, false);
  return PGG_OK;
}

int64_t pgg_session_prompted(const pgg_session *session) {
  if (!session) return 0;
  pgg_lock();
  const int64_t prompted = session->closed ? 0 : session->prompted;
  pgg_unlock();
  return prompted;
}

int64_t pgg_session_output_cols(const pgg_session *session) {
  return session ? session->plan->nodes[session->plan->outputs[session->output]].cols : 0;
}

static pgg_status read_node(const pgg_session *session, int node, float *out, int64_t count) {
  const pgg_plan *plan = session->plan;
  if (!plan->limits.keep_all) return pgg_fail(PGG_EINVAL, "node: the plan was not frozen with keep_all");
  if (node < 0 || node >= plan->n_node)
    return pgg_fail(PGG_EINVAL, "there is no node %d (the plan has %d)", node, plan->n_node);
  if (!session->last_n && !session->last_source) return pgg_fail(PGG_EINVAL, "node: the session has not made a step");
  const pgg_node *what = &plan->nodes[node];
  int64_t rows = what->rows == PGG_ROWS_WANTED   ? session->last_wanted
                 : what->rows == PGG_ROWS_SOURCE ? session->last_source
                                                 : session->last_n;
  if (count != rows * what->cols)
    return pgg_fail(PGG_ESHAPE, "node: %s is (%lld, %lld), room for %lld values given", plan->ops[what->op].op.name,
                    (long long)rows, (long long)what->cols, (long long)count);
  const pgg_place *place = &plan->places[what->place];
  const pgg_mem *arena = &session->own.mem[what->place];
  pgg_status status = PGG_OK;
  for (int64_t r = 0; r < rows && !status; r++)
    status = place->backend->read(place->device, arena, place->offsets[node] + (size_t)(r * what->stride) * sizeof *out,
                                  out + r * what->cols, (size_t)what->cols * sizeof *out);
  return status;
}

pgg_status pgg_session_node(pgg_session *session, int node, float *out, int64_t count) {
  if (!session || !out) return pgg_fail(PGG_EINVAL, "session or out is NULL");
  pgg_status status = pgg_turn_begin(&session, 1);
  if (status) return status;
  status = read_node(session, node, out, count);
  pgg_turn_end(&session, 1, false);
  return status;
}

pgg_status pgg_sampler_fits(const pgg_sampler *sampler, int64_t n_vocab); /* sample.c */

/* A choice is made of what steps return unless they were told another. */
static pgg_status judge_logits(pgg_session *const *sessions, int n) {
  for (int i = 0; i < n; i++)
    if (sessions[i]->output)
      return pgg_fail(PGG_EINVAL, "next: session %d returns output %d, and tokens are chosen of output 0", i,
                      sessions[i]->output);
  return PGG_OK;
}

/* Room for n rows of logits. */
static pgg_status logits_ready(pgg_session *session, int n, int64_t cols) {
  size_t bytes;
  if (session->n_logits >= n) return PGG_OK;
  float *more = pgg_mul_size(n, cols * (int64_t)sizeof(float), &bytes) ? malloc(bytes) : NULL;
  float *old = session->logits;
  if (!more) return pgg_fail(PGG_ENOMEM, "no memory for %d rows of %lld logits", n, (long long)cols);
  session->logits = more;
  session->n_logits = n;
  free(old);
  return PGG_OK;
}

/* The sampler's sentence, and which sequence it is about. */
static pgg_status name_sequence(pgg_status status, int i) {
  char text[400];
  snprintf(text, sizeof text, "%s", pgg_last_error());
  return pgg_fail(status, "next, sequence %d: %s", i, text);
}

/* In the sessions' turn: one step, then a choice for each that has a sampler. wanted: room for n_session. */
static pgg_status step_and_choose(const request *asked, pgg_sampler *const *samplers, int64_t *wanted, int n_threads,
                                  int32_t *out_ids) {
  const int n = asked->n_session;
  const int64_t cols = out_of(asked)->cols;
  pgg_session *first = asked->sessions[0];
  pgg_status status = logits_ready(first, n, cols);
  if (status) return status;
  for (int i = 0; i < n; i++) wanted[i] = samplers[i] != NULL;
  request r = *asked;
  r.n_wanted = wanted;
  r.out = first->logits;
  if ((status = run_step(&r, n_threads))) return status;
  const float *row = first->logits;
  for (int i = 0; i < n; i++) {
    out_ids[i] = -1;
    if (!samplers[i]) continue;
    if ((status = pgg_sampler_next(samplers[i], row, &out_ids[i]))) return n > 1 ? name_sequence(status, i) : status;
    row += cols;
  }
  return PGG_OK;
}

pgg_status pgg_session_next(pgg_session *session, pgg_sampler *sampler, const int32_t *ids, int64_t n, int n_threads,
                            int32_t *id) {
  if (!session || !sampler || !id) return pgg_fail(PGG_EINVAL, "session, sampler or id is NULL");
  pgg_plan *plan = session->plan;
  pgg_status status = judge_logits(&session, 1);
  if (!status) status = pgg_sampler_fits(sampler, pgg_plan_output_cols(plan));
  if (status || (status = pgg_turn_begin(&session, 1))) return status;
  const request r = {plan, &session, &n, NULL, 1, ids, NULL, NULL, 0};
  int64_t one;
  status = step_and_choose(&r, &sampler, &one, n_threads, id);
  pgg_turn_end(&session, 1, status == PGG_OK);
  return status;
}

pgg_status pgg_plan_next(pgg_plan *plan, pgg_session *const *sessions, pgg_sampler *const *samplers,
                         const int64_t *counts, int n_session, const int32_t *ids, int n_threads, int32_t *out_ids) {
  if (!plan || !sessions || !samplers || !counts || !out_ids || n_session < 1)
    return pgg_fail(PGG_EINVAL, "next: plan, sessions, samplers, counts or out_ids is NULL, or there are no sessions");
  pgg_status status = judge_plan(plan, sessions, n_session);
  if (!status) status = judge_logits(sessions, n_session);
  for (int i = 0; i < n_session && !status; i++) {
    if (samplers[i] && (status = pgg_sampler_fits(samplers[i], pgg_plan_output_cols(plan))))
      return name_sequence(status, i);
  }
  if (status) return status;
  int64_t *wanted = malloc((size_t)n_session * sizeof *wanted);
  if (!wanted) return pgg_fail(PGG_ENOMEM, "no memory for a step of %d sequences", n_session);
  if (!(status = pgg_turn_begin(sessions, n_session))) {
    const request r = {plan, sessions, counts, NULL, n_session, ids, NULL, NULL, 0};
    status = step_and_choose(&r, samplers, wanted, n_threads, out_ids);
    pgg_turn_end(sessions, n_session, status == PGG_OK);
  }
  free(wanted);
  return status;
}
