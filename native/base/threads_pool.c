/* The conductor's workers without OpenMP. A round is announced by a counter; each worker that belongs to it runs the
 * function and counts itself out. State is static because there is one conductor. */
#include "base/threads_pool.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/sync.h"

#define SPIN_WORKER 4000

static struct {
  atomic_uint round;
  atomic_int left; /* workers of the round still running */
  pgg_cond start, finish;
  bool conds;
  pgg_team_fn fn;
  void *ctx;
  pgg_team *team;
  int nth;
} g_round;

/* A worker takes part in the rounds announced after its birth, even if it starts running later than that. */
typedef struct worker_birth {
  int ith;
  unsigned round;
} worker_birth;

static void worker_main(void *arg) {
  worker_birth birth = *(worker_birth *)arg;
  free(arg);
  int ith = birth.ith;
  unsigned seen = birth.round;
  for (;;) {
    for (int i = 0; i < SPIN_WORKER && atomic_load_explicit(&g_round.round, memory_order_acquire) == seen; i++)
      pgg_pause();
    pgg_lock();
    while (atomic_load_explicit(&g_round.round, memory_order_acquire) == seen) pgg_cond_wait(&g_round.start);
    seen = atomic_load_explicit(&g_round.round, memory_order_acquire);
    pgg_team_fn fn = g_round.fn;
    void *ctx = g_round.ctx;
    pgg_team *team = g_round.team;
    int nth = g_round.nth;
    pgg_unlock();
    if (ith >= nth) continue;
    fn(ctx, team, ith, nth);
    if (atomic_fetch_sub_explicit(&g_round.left, 1, memory_order_acq_rel) == 1) {
      pgg_lock();
      pgg_cond_wake(&g_round.finish);
      pgg_unlock();
    }
  }
}

int pgg_pool_grow(pgg_pool *pool, int n_threads) {
  pgg_lock();
  if (!g_round.conds) {
    pgg_cond_init(&g_round.start);
    pgg_cond_init(&g_round.finish);
    atomic_store(&g_round.round, 0);
    g_round.conds = true;
  }
  pgg_unlock();
  if (pool->n < 1) pool->n = 1;
  while (pool->n < n_threads) {
    worker_birth *birth = malloc(sizeof *birth);
    if (!birth) break;
    birth->ith = pool->n;
    birth->round = atomic_load_explicit(&g_round.round, memory_order_relaxed);
    if (!pgg_thread_start(worker_main, birth)) {
      free(birth);
      break;
    }
    pool->n++;
  }
  return pool->n < n_threads ? pool->n : n_threads;
}

void pgg_pool_run(pgg_pool *pool, pgg_team_fn fn, void *ctx, pgg_team *team, int nth) {
  (void)pool;
  pgg_lock();
  g_round.fn = fn;
  g_round.ctx = ctx;
  g_round.team = team;
  g_round.nth = nth;
  atomic_store_explicit(&g_round.left, nth - 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&g_round.round, 1, memory_order_release);
  pgg_cond_wake_all(&g_round.start);
  pgg_unlock();
  fn(ctx, team, 0, nth);
  for (int i = 0; i < SPIN_WORKER && atomic_load_explicit(&g_round.left, memory_order_acquire) > 0; i++) pgg_pause();
  pgg_lock();
  while (atomic_load_explicit(&g_round.left, memory_order_acquire) > 0) pgg_cond_wait(&g_round.finish);
  pgg_unlock();
}

void pgg_pool_forget(pgg_pool *pool) {
  pool->n = 0;
  g_round.conds = false;
}
