/* The executor: a piece of a step goes through the segments of a plan in order. Where devices change, the nodes that
 * the next one reads are copied first; between segments somebody may want an end. How a segment runs is its backend's.
 */
#include "core/exec.h"

#include "base/memory.h"
#include "base/watch.h"

static pgg_status poll(const pgg_piece *piece) {
  for (int i = 0; i < piece->n_cancel; i++)
    if (atomic_load_explicit(piece->cancel[i], memory_order_relaxed)) return pgg_fail(PGG_ECANCELLED, "cancelled");
  return pgg_watch_stops() ? pgg_fail(PGG_ECANCELLED, "interrupted") : PGG_OK;
}

/* The rows that there are of a node, from where it was made to another place. */
static pgg_status carry(const pgg_plan *plan, const pgg_piece *piece, const pgg_arenas *arenas, int node, int place) {
  const pgg_node *it = &plan->nodes[node];
  const pgg_place *from = &plan->places[it->place], *to = &plan->places[place];
  const pgg_mem *a = &arenas->mem[it->place], *b = &arenas->mem[place];
  const size_t bytes = (size_t)(pgg_piece_rows(plan, piece, node) * it->stride) * sizeof(float);
  const size_t at = from->offsets[node], there = to->offsets[node];
  if (!bytes || !(plan->ops[it->op].serves & 1u << piece->output)) return PGG_OK;
  if (from->backend->host) return to->backend->write(to->device, b, there, (const char *)a->p + at, bytes);
  if (to->backend->host) return from->backend->read(from->device, a, at, (char *)b->p + there, bytes);
  pgg_status status = from->backend->read(from->device, a, at, arenas->between.p, bytes);
  return status ? status : to->backend->write(to->device, b, there, arenas->between.p, bytes);
}

static pgg_status run_segment(pgg_plan *plan, pgg_segment *segment, const pgg_piece *piece) {
  const pgg_place *place = &plan->places[segment->place];
  pgg_status status = place->backend->run(segment, piece);
  return status ? status : place->backend->wait(place->device);
}

static pgg_status run_all(pgg_plan *plan, const pgg_piece *piece, pgg_arenas *arenas) {
  pgg_status status = pgg_arenas_ready(plan, arenas);
  const int maker = piece->output == PGG_ENCODES ? -1 : plan->nodes[plan->outputs[piece->output]].op;
  for (int s = 0; s < plan->n_segment && !status; s++) {
    pgg_segment *segment = &plan->segments[s];
    pgg_piece mine = *piece;
    mine.arena = &arenas->mem[segment->place];
    if (maker < segment->first || maker >= segment->end) mine.out = NULL;
    if (s) status = poll(piece);
    for (int i = 0; i < segment->n_taken && !status; i++)
      status = carry(plan, piece, arenas, segment->taken[i], segment->place);
    if (!status) status = run_segment(plan, segment, &mine);
  }
  return status;
}

pgg_status pgg_exec(pgg_plan *plan, const pgg_piece *piece, pgg_arenas *own) {
  if (own) return run_all(plan, piece, own);
  if (plan->n_segment == 1 && plan->places[0].backend->together) return run_segment(plan, plan->segments, piece);
  if (pgg_gate_enter(&plan->gate) < 0) return pgg_fail(PGG_ECANCELLED, "interrupted");
  pgg_status status = run_all(plan, piece, &plan->arenas);
  pgg_gate_leave(&plan->gate, 0);
  return status;
}
