/* The team of the CPU backend: one job for a piece of a step. Ops run in order, in the stages that their kinds name; a
 * barrier stands only where threads would otherwise see unfinished rows. Cancelling is polled by the first thread and
 * made known at barriers, so that all leave at the same one. */
#include <stdlib.h>

#include "backends/cpu/cpu.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/threads.h"
#include "base/watch.h"

/* Multiply-adds that pay for handing a piece to the team (10 us on an idle machine, one thread does 75 a ns from
 * cache), and for one more thread in it. */
#define TEAM_MACS 3000000
#define THREAD_MACS 800000
#define WATCH_MACS 50000000 /* about a millisecond, which pays for a look at the clock in each op */

/* Memory of each thread's own nodes; a thread alone has none. */
static pgg_status own_ready(const pgg_plan *plan, pgg_cpu_space *space, int n_threads) {
  const size_t bytes = (size_t)n_threads * plan->own_bytes;
  if (n_threads < 2 || bytes <= space->own_bytes) return PGG_OK;
  char *own = pgg_alloc(bytes);
  if (!own) return pgg_fail(PGG_ENOMEM, "the system refused %zu bytes of scratch", bytes);
  char *old = space->own;
  const size_t old_bytes = space->own_bytes;
  space->own = own;
  space->own_bytes = bytes;
  pgg_free(old, old_bytes);
  return PGG_OK;
}

/* The arena, where the nodes are nobody else's. */
static pgg_status arena_ready(pgg_cpu_space *space, size_t bytes) {
  if (space->arena || !bytes) return PGG_OK;
  char *arena = pgg_alloc(bytes);
  if (!arena) return pgg_fail(PGG_ENOMEM, "the system refused %zu bytes of scratch", bytes);
  space->arena_bytes = bytes;
  space->arena = arena;
  return PGG_OK;
}

/* A space fit for n_threads in *slot. What it holds is replaced only when complete: a fork may happen at any moment. */
static pgg_status space_ready(const pgg_segment *segment, pgg_cpu_space **slot, int n_threads, bool with_arena) {
  const pgg_plan *plan = segment->plan;
  if (!*slot) {
    pgg_cpu_space *space = calloc(1, sizeof *space);
    if (space) space->claims = calloc(2 * (size_t)plan->n_op + 1, sizeof *space->claims);
    if (!space || !space->claims) {
      free(space);
      return pgg_fail(PGG_ENOMEM, "no memory for scratch");
    }
    *slot = space;
  }
  pgg_status status = with_arena ? arena_ready(*slot, plan->places[segment->place].arena_bytes) : PGG_OK;
  if (!status) status = own_ready(plan, *slot, n_threads);
  return status ? status : pgg_cpu_reserve(segment, &(*slot)->scratch, n_threads);
}

typedef struct exec_job {
  pgg_plan *plan;
  const pgg_segment *segment;
  pgg_run run;
  const pgg_piece *piece;
  pgg_cpu_space **slot;
  bool profile;
  bool watched;    /* long enough for a thread alone to ask the watcher */
  atomic_int stop; /* the watcher wants an end */
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
  if (atomic_load_explicit(&job->stop, memory_order_relaxed)) return PGG_ECANCELLED;
  return cancelled(job->piece) ? PGG_ECANCELLED : PGG_OK;
}

/* Where the caller itself computes, nobody else would ask. */
static pgg_status poll_alone(exec_job *job) {
  if (job->watched && !atomic_load_explicit(&job->stop, memory_order_relaxed) && pgg_watch_stops())
    atomic_store_explicit(&job->stop, 1, memory_order_relaxed);
  return poll(job);
}

/* All threads leave with the same answer. */
static pgg_status meet(exec_job *job, pgg_team *team, int ith, unsigned *turn) {
  unsigned mine = (*turn)++ & 1;
  if (ith == 0) job->verdict[mine] = poll(job);
  pgg_team_barrier(team);
  return job->verdict[mine];
}

/* ---- the order of stages, and where threads must wait -------------------------------------------------- */

#define MOST_ALONG 12 /* stages that go along with each other; a longer row is cut */

typedef struct exec_stage {
  int op, stage;
} exec_stage;

/* What runs next: one stage, or a row of stages that go along with the first. */
typedef struct exec_step {
  pgg_share share;
  bool wait; /* for all threads, before it */
  int n;
  exec_stage row[MOST_ALONG];
} exec_step;

typedef struct exec_walk {
  const pgg_run *run;
  exec_stage next;
  /* Stages since the last barrier: the share of those that write what others see (SKIP: none), whether there are
   * others, and their ops. */
  pgg_share share;
  bool each;
  int first, last; /* first -1: none at all */
} exec_walk;

static exec_walk walk_begin(const pgg_run *run) {
  return (exec_walk){.run = run, .next = {run->segment->first, 0}, .share = PGG_SHARE_SKIP, .first = -1, .last = -1};
}

/* Moves to the next stage with something to do; END behind the last. */
static pgg_share look(exec_walk *w) {
  const pgg_plan *plan = w->run->plan;
  for (; w->next.op < w->run->segment->end; w->next = (exec_stage){w->next.op + 1, 0}) {
    if (pgg_run_rows(w->run, plan->ops[w->next.op].node) == 0) continue;
    if (!(plan->ops[w->next.op].serves & 1u << w->run->output)) continue;
    for (;; w->next.stage++) {
      pgg_share share = pgg_cpu_share(w->run, w->next.op, w->next.stage);
      if (share == PGG_SHARE_END) break;
      if (share != PGG_SHARE_SKIP) return share;
    }
  }
  return PGG_SHARE_END;
}

/* Reads what others wrote since the last barrier: nodes, or the tables of ropes. */
static bool reads_fresh(const exec_walk *w, int op) {
  const pgg_plan *plan = w->run->plan;
  if (plan->ops[op].op.kind == PGG_OP_ROPE && pgg_cpu_phase_of(w->run)->opening >= w->first) return true;
  for (int i = 0; i < pgg_op_src_count(plan->ops[op].op.kind); i++) {
    const int src = plan->ops[op].op.src[i];
    if (src >= 0 && plan->nodes[src].op >= w->first && !pgg_run_own(w->run, src)) return true;
  }
  return false;
}

static bool must_wait(const exec_walk *w, pgg_share share, int op) {
  const pgg_plan_op_rec *rec = &w->run->plan->ops[op];
  if (w->first < 0) return false;
  if (share == PGG_SHARE_EACH) return w->share != PGG_SHARE_SKIP && (w->last == op || reads_fresh(w, op));
  if (w->share == PGG_SHARE_SKIP) return rec->after_rows >= w->first; /* what each thread still reads stays as it is */
  if (share == PGG_SHARE_FENCED || share == PGG_SHARE_CHUNKS || share != w->share) return true;
  if (share == PGG_SHARE_ONE) return w->each && rec->after_rows >= w->first;
  if (share == PGG_SHARE_ANY) return w->last == op || rec->after_any >= w->first;
  return rec->after_rows >= w->first;
}

static bool walk_next(exec_walk *w, exec_step *step) {
  pgg_share share = look(w);
  if (share == PGG_SHARE_END) return false;
  if (share == PGG_SHARE_ALONG) share = PGG_SHARE_CHUNKS; /* something else came between: taken anew */
  const int op = w->next.op;
  step->wait = w->run->nth > 1 && must_wait(w, share, op);
  if (step->wait) *w = (exec_walk){.run = w->run, .next = w->next, .share = PGG_SHARE_SKIP, .first = -1};
  if (share == PGG_SHARE_FENCED) share = PGG_SHARE_ANY;
  if (w->first < 0) w->first = op;
  if (share == PGG_SHARE_EACH)
    w->each = true;
  else
    w->share = share;
  step->share = share;
  step->n = 0;
  do {
    step->row[step->n++] = w->next;
    w->last = w->next.op;
    w->next.stage++;
  } while (share == PGG_SHARE_CHUNKS && step->n < MOST_ALONG && look(w) == PGG_SHARE_ALONG);
  return true;
}

/* ---- running them -------------------------------------------------------------------------------------- */

/* Chunks of a long step: few at a time, so that a stage finds in the cache what the one before it wrote. */
#define NEAR_CHUNKS 32
#define FIXED_EIGHTHS 4 /* of a row of stages: what threads take without asking */

typedef struct exec_thread {
  exec_job *job;
  pgg_run run;
  pgg_team *team;
  unsigned turn;   /* barriers passed */
  int rows_passed; /* rows of stages that were taken by chunks */
  int64_t since;   /* when the profile was last written; 0: no profile */
  int counted;     /* the last op whose call is in the profile */
} exec_thread;

/* The time since the last call belongs to this op. */
static void profile(exec_thread *me, int op) {
  pgg_plan_op_rec *rec = &me->job->plan->ops[op];
  const int64_t now = pgg_now_ns();
  atomic_fetch_add_explicit(&rec->ns, now - me->since, memory_order_relaxed);
  if (op > me->counted) atomic_fetch_add_explicit(&rec->calls, 1, memory_order_relaxed);
  if (op > me->counted) me->counted = op;
  me->since = now;
}

static void chunks_do(exec_thread *me, const exec_step *step, int c0, int c1, int n) {
  const int width = me->run.n == 1 ? n : (n + NEAR_CHUNKS - 1) / NEAR_CHUNKS;
  for (int c = c0; c < c1; c += width) {
    const int end = c + width < c1 ? c + width : c1;
    for (int i = 0; i < step->n; i++) {
      pgg_cpu_columns(&me->run, step->row[i].op, step->row[i].stage, c, end, n);
      if (me->since) profile(me, step->row[i].op);
    }
  }
}

/* A part for each thread for sure, in one piece; the rest in ever smaller bites, because threads are never equally
 * fast. */
static void chunks_share(exec_thread *me, const exec_step *step) {
  const int nth = me->run.nth, n = pgg_cpu_chunks(&me->run, step->row[0].op, step->row[0].stage);
  pgg_cpu_claim *claim = &(*me->job->slot)->claims[me->rows_passed++];
  if (nth == 1) {
    chunks_do(me, step, 0, n, n);
    return;
  }
  const int each = n * FIXED_EIGHTHS / 8 / nth, fixed = each * nth;
  if (each) chunks_do(me, step, me->run.ith * each, (me->run.ith + 1) * each, n);
  for (;;) {
    int c = atomic_load_explicit(claim, memory_order_relaxed), bite;
    do {
      bite = (n - fixed - c) / (2 * nth);
      if (bite < 1) bite = 1;
      if (fixed + c >= n) return;
    } while (!atomic_compare_exchange_weak_explicit(claim, &c, c + bite, memory_order_relaxed, memory_order_relaxed));
    chunks_do(me, step, fixed + c, fixed + c + bite, n);
  }
}

static void run_ops(exec_thread *me) {
  exec_job *job = me->job;
  const pgg_run *run = &me->run;
  exec_walk w = walk_begin(run);
  exec_step step;
  if (job->profile && run->ith == 0) me->since = pgg_now_ns();
  while (walk_next(&w, &step)) {
    if (run->nth == 1 ? poll_alone(job) != PGG_OK : step.wait && meet(job, me->team, run->ith, &me->turn)) return;
    const exec_stage it = step.row[0];
    if (step.share == PGG_SHARE_CHUNKS) {
      chunks_share(me, &step);
    } else if (step.share != PGG_SHARE_ONE || run->ith == 0) {
      const bool whole = step.share == PGG_SHARE_ONE || step.share == PGG_SHARE_EACH;
      pgg_cpu_stage(run, it.op, it.stage, whole ? 0 : run->ith, whole ? 1 : run->nth); /* kernels cannot fail */
    }
    for (int i = 0; me->since && i < step.n; i++) profile(me, step.row[i].op);
  }
}

/* The output where it is not bound to the caller's rows. */
static void copy_output(const pgg_run *run) {
  const pgg_plan *plan = run->plan;
  if (run->output == PGG_ENCODES) return;
  int node = plan->outputs[run->output];
  const int maker = plan->nodes[node].op;
  if (node == plan->bound || !run->out || maker < run->segment->first || maker >= run->segment->end) return;
  int64_t cols = plan->nodes[node].cols, stride = plan->nodes[node].stride;
  const bool all = plan->nodes[node].rows == PGG_ROWS_TOKENS;
  for (int64_t r = 0; r < run->wanted; r++) {
    const float *x = pgg_run_data(run, node) + (all ? pgg_run_token(run, r) : r) * stride;
    for (int64_t c = 0; c < cols; c++) run->out[r * cols + c] = x[c];
  }
}

/* What a job needs of its space; by one thread, before the others look. */
static void prepare(exec_job *job, int nth) {
  pgg_status status = space_ready(job->segment, job->slot, nth, !job->piece->arena);
  if (status) {
    job_fail(job, status);
    return;
  }
  const pgg_cpu_space *space = *job->slot;
  job->run.arena = job->piece->arena ? job->piece->arena->p : space->arena;
  job->run.scratch = space->scratch;
  job->run.nth = nth;
  for (int i = 0; i < 2 * job->plan->n_op && nth > 1; i++)
    atomic_store_explicit(&space->claims[i], 0, memory_order_relaxed);
  for (int i = 0; i < job->plan->n_op; i++) atomic_store_explicit(&space->scratch->tails[i], 0, memory_order_relaxed);
}

static void job_main(void *ctx, pgg_team *team, int ith, int nth) {
  exec_job *job = ctx;
  if (ith == 0) {
    prepare(job, nth);
    job->verdict[1] = poll(job);
  }
  pgg_team_barrier(team);
  if (job->verdict[1]) return;
  exec_thread me = {.job = job, .run = job->run, .team = team, .counted = -1};
  me.run.ith = ith;
  if (nth > 1 && job->plan->own_bytes) me.run.own = (*job->slot)->own + (size_t)ith * job->plan->own_bytes;
  run_ops(&me);
  if (ith == 0 && job->piece->n_barrier) *job->piece->n_barrier = (int)me.turn;
  pgg_team_barrier(team);
  if (ith == 0 && !poll(job)) copy_output(&me.run); /* its own nodes are as good as any */
}

static double work(const pgg_cpu_phase *phase, const pgg_piece *piece) {
  double macs = phase->macs * (double)piece->n;
  for (int i = 0; i < piece->n_part; i++) {
    const pgg_part *part = &piece->parts[i];
    macs += phase->macs_past * (double)(part->n_past + part->n) * (double)part->n;
  }
  return macs;
}

/* How many threads so much work is worth. Bits do not depend on it. */
static int worth(double macs, int n_threads) {
  if (n_threads <= 0) n_threads = pgg_threads_default();
  if (macs < TEAM_MACS) return 1;
  double threads = macs / THREAD_MACS;
  return threads < n_threads ? (int)threads : n_threads;
}

pgg_status pgg_cpu_run(pgg_segment *segment, const pgg_piece *piece) {
  pgg_plan *plan = segment->plan;
  pgg_cpu_segment *notes = segment->compiled;
  exec_job job = {.plan = plan, .segment = segment, .piece = piece};
  job.run = (pgg_run){.plan = plan,
                      .segment = segment,
                      .notes = notes,
                      .offsets = plan->places[segment->place].offsets,
                      .parts = piece->parts,
                      .n_part = piece->n_part,
                      .n = piece->n,
                      .wanted = piece->wanted,
                      .decode = piece->decode,
                      .ids = piece->ids,
                      .rows = piece->rows,
                      .output = piece->output,
                      .out = piece->out};
  job.profile = atomic_load_explicit(&plan->profile, memory_order_relaxed);
  const double macs = work(pgg_cpu_phase_of(&job.run), piece);
  job.watched = macs >= WATCH_MACS;
  int nth = worth(macs, piece->n_threads), slot = -1;
  if (nth > 1) {
    job.slot = &notes->spaces[0]; /* jobs of the team run one at a time: the space is theirs */
  } else {
    slot = pgg_gate_enter(&notes->gate);
    if (slot < 0) return pgg_fail(PGG_ECANCELLED, "interrupted");
    job.slot = &notes->spaces[1 + slot];
  }
  pgg_status status = pgg_team_run_watched(nth, job_main, &job, &job.stop);
  if (slot >= 0) pgg_gate_leave(&notes->gate, slot);
  if (status) return status;
  int failed = atomic_load(&job.status);
  if (failed) return pgg_fail((pgg_status)failed, "%s", job.message);
  if (cancelled(piece) || atomic_load(&job.stop)) return pgg_fail(PGG_ECANCELLED, "cancelled");
  return PGG_OK;
}
