/* Running one piece of a step of a frozen plan. */
#ifndef PGG_EXEC_H
#define PGG_EXEC_H
#include "core/backend.h"

/* own: arenas that are this caller's alone and keep the nodes, or NULL. piece->arena and n_threads aside, the piece is
 * as segments get it. */
pgg_status pgg_exec(pgg_plan *plan, const pgg_piece *piece, pgg_arenas *own);

#endif
