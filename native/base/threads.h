/* Threads: the one place that knows OpenMP. There is one team in the process; callers take turns on it in order of
 * arrival. The team belongs to a thread of its own (libgomp would otherwise keep a spinning team for every caller),
 * so a forked child simply starts a new one. Work is split, sums never: results do not depend on the count. */
#ifndef PGG_THREADS_H
#define PGG_THREADS_H
#include <stdatomic.h>

#include "base/base.h"

typedef struct pgg_team pgg_team; /* one running job: pass it on to pgg_team_barrier */
typedef void (*pgg_team_fn)(void *ctx, pgg_team *team, int ith, int nth);

/* Runs fn on n_threads threads (ith 0..nth-1) and returns when all are done. n_threads <= 0: the default.
 * With one thread fn runs in the calling thread. Never call it from inside fn. */
pgg_status pgg_team_run(int n_threads, pgg_team_fn fn, void *ctx);
/* The same; while the caller waits it asks the watcher (watch.h), and sets *stop when that wants an end. fn should look
 * at it now and then. PGG_ECANCELLED if fn was not begun. */
pgg_status pgg_team_run_watched(int n_threads, pgg_team_fn fn, void *ctx, atomic_int *stop);
void pgg_team_barrier(pgg_team *team); /* every thread of the job must come; free when nth is 1 */

/* Rows [*begin, *end) of n for thread ith of nth, cut at multiples of grain. */
void pgg_team_range(int64_t n, int64_t grain, int ith, int nth, int64_t *begin, int64_t *end);

#endif
