/* The executor: one job on the team for a piece of a step. Ops run in order, in the stages the backend names; a
 * barrier stands only where threads would otherwise see unfinished rows. Cancelling is polled by the first thread
 * and made known at barriers, so that all leave at the same one. */
#include "core/exec.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/threads.h"

/* Multiply-adds that pay for handing a piece to the team (10 us on an idle machine, one thread does 75 a ns from
 * cache), and for one more thread in it. */
#define TEAM_MACS 3000000
#define THREAD_MACS 800000

void pgg_space_free(const pgg_plan *plan, pgg_space *space) {
  if (!space) return;
  plan->backend->release(space->scratch);
  pgg_free(space->arena, space->arena_bytes);
  free(space);
}

/* A space fit for n_threads in *slot. It is replaced only when complete: a fork may happen at any moment. */
static pgg_status space_ready(const pgg_plan *plan, pgg_space **slot, int n_threads) {
  if (!*slot) {
    pgg_space *space = calloc(1, sizeof *space);
    if (!space) return pgg_fail(PGG_ENOMEM, "no memory for scratch");
    space->arena_bytes = plan->arena_bytes;
    if (plan->arena_bytes && !(space->arena = pgg_alloc(plan->arena_bytes))) {
      free(space);
      return pgg_fail(PGG_ENOMEM, "the system refused %zu bytes of scratch", plan->arena_bytes);
    }
    *slot = space;
  }
  return plan->backend->reserve(plan, &(*slot)->scratch, n_threads);
}

typedef struct exec_job {
  pgg_plan *plan;
  pgg_run run;
  const pgg_piece *piece;
  pgg_space **slot;
  bool profile;
  atomic_int status;
  char message[1001];
  /* The verdict at each barrier, kept in turns: a slow thread may still read the last one. */
  pgg_status verdict[2];
} exec_job;

static void job_fail(exec_job *job, pgg_status status) {
  int none = PGG_OK;
  char message[sizeof job->message];
  size_t i = 0;
  for (const char *text = pgg_last_error(); text[i] && i + 1 < sizeof message; i++) message[i] = text[i];
  message[i] = 0;
  pgg_lock(); /* the message belongs to the status that wins */
  if (atomic_compare_exchange_strong(&job->status, &none, (int)status))
    for (size_t j = 0; j <= i; j++) job->message[j] = message[j];
  pgg_unlock();
}

static bool cancelled(const pgg_piece *piece) {
  for (int i = 0; i < piece->n_cancel; i++)
    if (atomic_load_explicit(piece->cancel[i], memory_order_relaxed)) return true;
  return false;
}

static pgg_status poll(const exec_job *job) {
  int failed = atomic_load_explicit(&job->status, memory_order_relaxed);
  if (failed) return (pgg_status)failed;
  return cancelled(job->piece) ? PGG_ECANCELLED : PGG_OK;
}

/* All threads leave with the same answer. */
static pgg_status meet(exec_job *job, pgg_team *team, int ith, unsigned *turn) {
  unsigned mine = (*turn)++ & 1;
  if (ith == 0) job->verdict[mine] = poll(job);
  pgg_team_barrier(team);
  return job->verdict[mine];
}

/* Stages since the last barrier. */
typedef struct chain {
  pgg_share share; /* PGG_SHARE_SKIP: none yet */
  int first, last; /* ops */
} chain;

static bool must_wait(const pgg_plan *plan, const chain *c, pgg_share share, int op) {
  if (c->share == PGG_SHARE_SKIP) return false;
  if (share == PGG_SHARE_FENCED || share != c->share) return true;
  if (share == PGG_SHARE_ONE) return false;
  if (share == PGG_SHARE_ANY) return c->last == op || plan->ops[op].after_any >= c->first;
  return plan->ops[op].after_rows >= c->first;
}

static void run_ops(exec_job *job, pgg_team *team, int ith, int nth) {
  const pgg_plan *plan = job->plan;
  const pgg_backend *backend = plan->backend;
  chain c = {PGG_SHARE_SKIP, 0, 0};
  unsigned turn = 0;
  for (int op = 0; op < plan->n_op; op++) {
    if (pgg_run_rows(&job->run, plan->ops[op].node) == 0) continue;
    int64_t begin = job->profile && ith == 0 ? pgg_now_ns() : 0;
    for (int stage = 0;; stage++) {
      pgg_share share = backend->share(&job->run, op, stage);
      if (share == PGG_SHARE_END) break;
      if (share == PGG_SHARE_SKIP) continue;
      if (nth == 1) {
        if (stage == 0 && poll(job)) return;
      } else if (must_wait(plan, &c, share, op)) {
        if (meet(job, team, ith, &turn)) return;
        c.share = PGG_SHARE_SKIP;
      }
      if (share == PGG_SHARE_FENCED) share = PGG_SHARE_ANY;
      if (c.share == PGG_SHARE_SKIP) c = (chain){share, op, op};
      c.last = op;
      if (share == PGG_SHARE_ONE && ith != 0) continue;
      pgg_status status = backend->stage(&job->run, op, stage, ith, share == PGG_SHARE_ONE ? 1 : nth);
      if (status) job_fail(job, status);
    }
    if (begin) {
      pgg_plan_op_rec *rec = &job->plan->ops[op];
      atomic_fetch_add_explicit(&rec->ns, pgg_now_ns() - begin, memory_order_relaxed);
      atomic_fetch_add_explicit(&rec->calls, 1, memory_order_relaxed);
    }
  }
}

/* The output where it is not bound to the caller's rows. */
static void copy_output(const pgg_run *run) {
  const pgg_plan *plan = run->plan;
  int node = plan->output;
  if (node == plan->bound || !run->out) return;
  int64_t cols = plan->nodes[node].cols, stride = plan->nodes[node].stride;
  const bool all = plan->nodes[node].rows == PGG_ROWS_TOKENS;
  for (int64_t r = 0; r < run->wanted; r++) {
    const float *x = pgg_run_data(run, node) + (all ? pgg_run_token(run, r) : r) * stride;
    for (int64_t c = 0; c < cols; c++) run->out[r * cols + c] = x[c];
  }
}

/* What a job needs of its space; by one thread, before the others look. */
static void prepare(exec_job *job, int nth) {
  pgg_status status = space_ready(job->plan, job->slot, nth);
  if (status) {
    job_fail(job, status);
    return;
  }
  job->run.arena = (*job->slot)->arena;
  job->run.scratch = (*job->slot)->scratch;
  job->plan->backend->begin(&job->run, nth);
}

static void job_main(void *ctx, pgg_team *team, int ith, int nth) {
  exec_job *job = ctx;
  if (ith == 0) {
    prepare(job, nth);
    job->verdict[1] = poll(job);
  }
  pgg_team_barrier(team);
  if (job->verdict[1]) return;
  run_ops(job, team, ith, nth);
  pgg_team_barrier(team);
  if (ith == 0 && !poll(job)) copy_output(&job->run);
}

/* How many threads this piece is worth. Bits do not depend on it. */
static int worth(const pgg_plan *plan, const pgg_piece *piece, int n_threads) {
  if (n_threads <= 0) n_threads = pgg_threads_default();
  double macs = plan->macs * (double)piece->n;
  for (int i = 0; i < piece->n_part; i++) {
    const pgg_part *part = &piece->parts[i];
    macs += plan->macs_past * (double)(part->n_past + part->n) * (double)part->n;
  }
  if (macs < TEAM_MACS) return 1;
  double threads = macs / THREAD_MACS;
  return threads < n_threads ? (int)threads : n_threads;
}

pgg_status pgg_exec(pgg_plan *plan, const pgg_piece *piece, int n_threads) {
  exec_job job = {.plan = plan, .piece = piece};
  job.run = (pgg_run){.plan = plan,
                      .parts = piece->parts,
                      .n_part = piece->n_part,
                      .n = piece->n,
                      .wanted = piece->wanted,
                      .ids = piece->ids,
                      .rows = piece->rows,
                      .out = piece->out};
  job.profile = atomic_load_explicit(&plan->profile, memory_order_relaxed);
  int nth = worth(plan, piece, n_threads), slot = -1;
  if (piece->own) {
    job.slot = piece->own;
  } else if (nth > 1) {
    job.slot = &plan->spaces[0]; /* jobs of the team run one at a time: the space is theirs */
  } else {
    slot = pgg_gate_enter(&plan->gate);
    job.slot = &plan->spaces[1 + slot];
  }
  pgg_status status = pgg_team_run(nth, job_main, &job);
  if (slot >= 0) pgg_gate_leave(&plan->gate, slot);
  if (status) return status;
  int failed = atomic_load(&job.status);
  if (failed) return pgg_fail((pgg_status)failed, "%s", job.message);
  if (cancelled(piece)) return pgg_fail(PGG_ECANCELLED, "cancelled");
  return PGG_OK;
}
