/* What a test tells the mirror, and what it has seen. */
#ifndef MIRROR_H
#define MIRROR_H
#include <stdatomic.h>

#include "pgg.h"

typedef enum mirror_call {
  MIRROR_NONE,
  MIRROR_OPEN,
  MIRROR_ALLOC,
  MIRROR_WRITE,
  MIRROR_READ,
  MIRROR_COPY,
  MIRROR_WEIGHT,
  MIRROR_COMPILE,
  MIRROR_RUN,
  MIRROR_WAIT,
  MIRROR_CALLS
} mirror_call;

extern int mirror_calls[MIRROR_CALLS]; /* how often each was made */
extern mirror_call mirror_fails;       /* the call that fails, from now on the mirror_after-th */
extern int mirror_after;
extern atomic_int mirror_held; /* pieces of memory and devices that were not given back */
#define CHECK_GIVEN_BACK() CHECK(mirror_held == 0, "%d things were not given back", mirror_held)

/* The session is cancelled before the segment runs that is the runs-th from now; NULL: none any more. */
void mirror_cancel(pgg_session *session, int runs);

#endif
