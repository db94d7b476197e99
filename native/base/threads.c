/* The team. A conductor thread, started on first need, takes jobs from a queue in order of arrival and runs each on a
 * parallel region of its own; so OpenMP keeps one team of workers for the process, whoever calls. Callers only sleep:
 * the next job starts without waiting for the last caller to wake up. Without OpenMP the conductor keeps workers of
 * its own (threads_pool.h). After fork the child has no conductor and makes one when it needs it. */
#include "base/threads.h"

#include "base/team.h"
#include "base/watch.h"
#if defined(_OPENMP)
#include <omp.h>
#else
#include "base/threads_pool.h"
#endif

#define MAX_THREADS 1024
#define SPIN_BARRIER 4000 /* pauses before a thread sleeps, about 50 us; few where threads outnumber cores */
#define SPIN_CROWDED 50
#define SPIN_CALLER 2000

typedef struct team_job {
  pgg_team team;
  pgg_team_fn fn;
  void *ctx;
  int nth;
  atomic_int done;
  pgg_cond cond;
  struct team_job *next;
} team_job;

static struct {
  unsigned generation;
  bool conductor; /* a conductor of this generation runs */
  team_job *head, *tail;
  pgg_cond work;
} g_team;

/* ---- inside a job -------------------------------------------------------------------------------------- */

void pgg_team_barrier(pgg_team *team) {
  int n = atomic_load_explicit(&team->nth, memory_order_relaxed);
  if (n == 1) return;
  /* The phase cannot move on before this thread has come, so reading it first is safe. */
  unsigned phase = atomic_load_explicit(&team->phase, memory_order_acquire);
  if (atomic_fetch_add_explicit(&team->come, 1, memory_order_acq_rel) == n - 1) {
    atomic_store_explicit(&team->come, 0, memory_order_relaxed);
    atomic_store(&team->phase, phase + 1);
    if (atomic_load(&team->asleep)) {
      pgg_lock();
      pgg_cond_wake_all(&team->wake);
      pgg_unlock();
    }
    return;
  }
  for (int spin = 0; spin < team->spin; spin++) {
    if (atomic_load_explicit(&team->phase, memory_order_acquire) != phase) return;
    pgg_pause();
  }
  /* The missing thread may have lost its core to another process: an idle core lets the system move it here, which a
   * yielding one does not. asleep and phase are written before the other is read, on both sides: no wake-up is lost. */
  atomic_fetch_add(&team->asleep, 1);
  pgg_lock();
  while (atomic_load(&team->phase) == phase) pgg_cond_wait(&team->wake);
  pgg_unlock();
  atomic_fetch_sub(&team->asleep, 1);
}

void pgg_team_range(int64_t n, int64_t grain, int ith, int nth, int64_t *begin, int64_t *end) {
  int64_t grains = (n + grain - 1) / grain;
  int64_t each = grains / nth, more = grains % nth;
  int64_t first = ith * each + pgg_min_i64(ith, more);
  int64_t last = first + each + (ith < more ? 1 : 0);
  *begin = pgg_min_i64(first * grain, n);
  *end = pgg_min_i64(last * grain, n);
}

/* ---- the conductor ------------------------------------------------------------------------------------- */

#if defined(_OPENMP)

/* The region's body names no local variable: what the compiler would hand over through the OpenMP run time is then
 * nothing, and the order of memory is the one of these atomics (which thread checkers can see). */
static _Atomic(team_job *) g_running;
static atomic_int g_arrived;

static void conduct(team_job *job) {
  int nth = job->nth;
  atomic_store_explicit(&g_arrived, 0, memory_order_relaxed);
  atomic_store_explicit(&g_running, job, memory_order_release);
#pragma omp parallel num_threads(nth)
  {
    team_job *mine = atomic_load_explicit(&g_running, memory_order_acquire);
    int n = omp_get_num_threads(); /* a thread limit may have given fewer: the same for all */
    atomic_store_explicit(&mine->team.nth, n, memory_order_relaxed);
    mine->fn(mine->ctx, &mine->team, omp_get_thread_num(), n);
    pgg_team_barrier(&mine->team); /* waits better than the end of the region, which is awake for milliseconds */
    atomic_fetch_add_explicit(&g_arrived, 1, memory_order_release);
  }
  (void)atomic_load_explicit(&g_arrived, memory_order_acquire);
}

#else

static pgg_pool g_pool;

static void conduct(team_job *job) {
  int n = pgg_pool_grow(&g_pool, job->nth);
  atomic_store_explicit(&job->team.nth, n, memory_order_relaxed);
  pgg_pool_run(&g_pool, job->fn, job->ctx, &job->team, n);
}

#endif

static void conductor_main(void *arg) {
  (void)arg;
#if defined(_OPENMP)
  omp_set_dynamic(0);
#endif
  pgg_lock();
  for (;;) {
    while (!g_team.head) pgg_cond_wait(&g_team.work);
    team_job *job = g_team.head;
    g_team.head = job->next;
    if (!g_team.head) g_team.tail = NULL;
    pgg_unlock();
    conduct(job);
    pgg_lock();
    /* Both under the lock: the job is on its caller's stack and may vanish once done is seen there. */
    atomic_store_explicit(&job->done, 1, memory_order_release);
    pgg_cond_wake(&job->cond);
  }
}

/* Under the lock. */
static bool team_ready(void) {
  if (g_team.generation != pgg_generation()) { /* forked: conductor and queued callers are not in this process */
    g_team.generation = pgg_generation();
    g_team.conductor = false;
    g_team.head = g_team.tail = NULL;
#if !defined(_OPENMP)
    pgg_pool_forget(&g_pool);
#endif
  }
  if (!g_team.conductor) {
    pgg_cond_init(&g_team.work);
    g_team.conductor = pgg_thread_start(conductor_main, NULL);
  }
  return g_team.conductor;
}

/* Takes a job that has not begun out of the queue. Under the lock. */
static bool withdraw(team_job *job) {
  team_job *before = NULL;
  for (team_job **at = &g_team.head; *at; before = *at, at = &(*at)->next)
    if (*at == job) {
      *at = job->next;
      if (g_team.tail == job) g_team.tail = before;
      return true;
    }
  return false;
}

/* Sleeps until the job is done. Under the lock. PGG_ECANCELLED: it has not begun and never will; PGG_EBACKEND: the
 * watcher forked, and this is the child, where the job's other threads are not. */
static pgg_status await(team_job *job, atomic_int *stop) {
  const unsigned generation = pgg_generation();
  while (!atomic_load_explicit(&job->done, memory_order_acquire)) {
    if (!stop || atomic_load_explicit(stop, memory_order_relaxed)) {
      pgg_cond_wait(&job->cond);
      continue;
    }
    if (pgg_cond_wait_ms(&job->cond, PGG_WATCH_MS)) continue;
    pgg_unlock();
    const bool stops = pgg_watch_stops();
    pgg_lock();
    if (stops) atomic_store_explicit(stop, 1, memory_order_relaxed);
    if (stops && withdraw(job)) return PGG_ECANCELLED;
    if (pgg_generation() != generation) return PGG_EBACKEND;
  }
  return PGG_OK;
}

pgg_status pgg_team_run(int n_threads, pgg_team_fn fn, void *ctx) {
  return pgg_team_run_watched(n_threads, fn, ctx, NULL);
}

pgg_status pgg_team_run_watched(int n_threads, pgg_team_fn fn, void *ctx, atomic_int *stop) {
  if (n_threads <= 0) n_threads = pgg_threads_default();
  if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;
  team_job job = {.fn = fn, .ctx = ctx, .nth = n_threads};
  atomic_store_explicit(&job.team.nth, 1, memory_order_relaxed);
  if (n_threads == 1) {
    fn(ctx, &job.team, 0, 1);
    return PGG_OK;
  }
  /* Waiting awake saves the price of a wake-up, but only where the team does not need this core. */
  const int cores = pgg_threads_default();
  const bool spare = n_threads < cores;
  job.team.spin = n_threads <= cores ? SPIN_BARRIER : SPIN_CROWDED;
  pgg_cond_init(&job.team.wake);
  pgg_lock();
  if (!team_ready()) {
    pgg_unlock();
    pgg_cond_free(&job.team.wake);
    return pgg_fail(PGG_EBACKEND, "the system refused to start a thread (wanted a team of %d)", n_threads);
  }
  pgg_cond_init(&job.cond);
  if (g_team.tail)
    g_team.tail->next = &job;
  else
    g_team.head = &job;
  g_team.tail = &job;
  pgg_cond_wake(&g_team.work);
  if (spare) {
    pgg_unlock();
    for (int i = 0; i < SPIN_CALLER && !atomic_load_explicit(&job.done, memory_order_acquire); i++) pgg_pause();
    pgg_lock();
  }
  const pgg_status status = await(&job, stop);
  pgg_unlock();
  if (status == PGG_EBACKEND) return pgg_fail(status, "the process was forked in the middle of a step");
  pgg_cond_free(&job.cond);
  pgg_cond_free(&job.team.wake);
  return status ? pgg_fail(status, "interrupted") : PGG_OK;
}
