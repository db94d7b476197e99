/* Running one piece of a step of a frozen plan. */
#ifndef PGG_EXEC_H
#define PGG_EXEC_H
#include "core/backend.h"

typedef _Atomic int pgg_chunk_claim; /* the next chunk that belongs to no thread in particular */

/* The arena, the threads' own memory and the backend's scratch of one running piece. */
struct pgg_space {
  char *arena;
  size_t arena_bytes;
  char *own; /* (n_threads, plan->own_bytes) */
  int n_threads;
  pgg_chunk_claim *claims; /* (2 * plan->n_op) */
  void *scratch;
};
void pgg_space_free(const pgg_plan *plan, pgg_space *space); /* NULL is fine */

typedef struct pgg_piece {
  const pgg_part *parts; /* (n_part), as pgg_run wants them */
  int n_part;
  pgg_space **own;   /* a space that is this caller's alone, or NULL to share the plan's */
  int64_t n, wanted; /* of all parts */
  const int32_t *ids;
  const float *rows;
  float *out;                      /* (wanted, cols of the output node), or NULL */
  const atomic_int *const *cancel; /* (n_cancel) flags, each of which ends it */
  int n_cancel;
  int *n_barrier; /* how often the team met while it ran the ops, or NULL */
} pgg_piece;

pgg_status pgg_exec(pgg_plan *plan, const pgg_piece *piece, int n_threads);

#endif
