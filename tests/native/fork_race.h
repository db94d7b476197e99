/* Forks of one session by several threads at once, each of which goes its own way, while some are refused. */
#ifndef PGG_FORK_RACE_H
#define PGG_FORK_RACE_H
#include <pthread.h>
#include <stdlib.h>

#include "check.h"

enum { RACE_THREADS = 4, RACE_FORKS = 40 };

typedef struct fork_race {
  pgg_session *root;
  const int32_t *ids;
  float *out;                    /* of one row, a thread's own */
  void (*then)(pgg_session *it); /* what else a fork does; may be NULL */
} fork_race;

static inline void *fork_racer(void *ctx) {
  const fork_race *race = ctx;
  pgg_session *mine = NULL;
  for (int i = 0; i < RACE_FORKS; i++) {
    pgg_session_free(mine);
    if (pgg_session_fork(race->root, &mine)) { /* another thread is at it */
      mine = NULL;
      continue;
    }
    (void)pgg_session_step(mine, race->ids + i, NULL, 1 + i % 5, 1, race->out, 1);
    if (race->then) race->then(mine);
  }
  pgg_session_free(mine);
  return NULL;
}

/* n_out: floats of a row of output. */
static inline void race_forks(pgg_session *root, const int32_t *ids, int n_out, void (*then)(pgg_session *it)) {
  pthread_t threads[RACE_THREADS];
  fork_race races[RACE_THREADS];
  for (int i = 0; i < RACE_THREADS; i++) {
    races[i] = (fork_race){root, ids, malloc((size_t)n_out * sizeof(float)), then};
    pthread_create(&threads[i], NULL, fork_racer, &races[i]);
  }
  for (int i = 0; i < RACE_THREADS; i++) {
    pthread_join(threads[i], NULL);
    free(races[i].out);
  }
}

#endif
