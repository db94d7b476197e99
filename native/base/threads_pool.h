/* Workers of the conductor where the compiler has no OpenMP: threads that wait for the next round, first awake, then
 * asleep. Used by the conductor alone, so there is one round at a time. */
#ifndef PGG_THREADS_POOL_H
#define PGG_THREADS_POOL_H
#include "base/threads.h"

typedef struct pgg_pool {
  int n; /* threads of a round at most, the conductor included; 0 before the first use */
} pgg_pool;

int pgg_pool_grow(pgg_pool *pool, int n_threads); /* how many a round may have: fewer if threads are refused */
void pgg_pool_run(pgg_pool *pool, pgg_team_fn fn, void *ctx, pgg_team *team, int nth);
void pgg_pool_forget(pgg_pool *pool); /* after fork: the workers are gone */

#endif
