/* What a running job is made of; only threads.c and its pool look inside. */
#ifndef PGG_TEAM_H
#define PGG_TEAM_H
#include <stdatomic.h>

#include "base/sync.h"
#include "base/threads.h"

struct pgg_team {
  atomic_int nth;    /* threads in the job */
  atomic_int come;   /* of them at the barrier */
  atomic_uint phase; /* barriers passed */
  atomic_int asleep; /* threads that gave up waiting awake */
  int spin;          /* pauses before that */
  pgg_cond wake;
};

#endif
