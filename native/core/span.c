/* Pieces of memory of a device that sessions hold and share: how one comes, is held once less, and goes. */
#include <stdlib.h>

#include "core/backend.h"

pgg_status pgg_span_new(pgg_plan *plan, pgg_memory *memory, int place, size_t bytes, const char *what, pgg_span **out) {
  const pgg_place *there = &plan->places[place];
  pgg_span *span = *out = calloc(1, sizeof *span);
  if (!span) return pgg_fail(PGG_ENOMEM, "no memory for %s", what);
  *span = (pgg_span){.bytes = bytes, .refs = 1, .place = place};
  const pgg_status status = there->backend->alloc(there->device, bytes, &span->mem);
  if (status) {
    free(span);
    *out = NULL;
    return status == PGG_ENOMEM ? pgg_fail(status, "the system refused %zu bytes for %s", bytes, what) : status;
  }
  pgg_lock();
  memory->bytes += bytes;
  plan->cache_bytes += bytes;
  pgg_unlock();
  return PGG_OK;
}

void pgg_span_let_go(pgg_plan *plan, pgg_memory *memory, pgg_span *span, pgg_span **list) {
  if (!span) return;
  memory->bytes -= span->bytes;
  if (--span->refs) return;
  plan->cache_bytes -= span->bytes;
  span->next = *list;
  *list = span;
}

void pgg_spans_drop(const pgg_plan *plan, pgg_span *list) {
  while (list) {
    pgg_span *next = list->next;
    const pgg_place *place = &plan->places[list->place];
    place->backend->drop(place->device, &list->mem);
    free(list);
    list = next;
  }
}
