/* Where the ops of a plan run: devices by number, the segments that follow from their placement, each device's weights
 * and arenas. What a backend does with them is behind core/backend.h. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "core/backend.h"

/* ---- devices ------------------------------------------------------------------------------------------- */

int pgg_device_count(void) {
  int n_backend, n = 0;
  const pgg_backend *const *backends = pgg_backends(&n_backend);
  for (int i = 0; i < n_backend; i++) n += backends[i]->count();
  return n;
}

/* The backend of a device, and the device's number there; NULL if there is no such device. */
static const pgg_backend *backend_of(int device, int *index) {
  int n_backend;
  const pgg_backend *const *backends = pgg_backends(&n_backend);
  for (int i = 0; i < n_backend && device >= 0; i++) {
    const int n = backends[i]->count();
    *index = device;
    if (device < n) return backends[i];
    device -= n;
  }
  return NULL;
}

static void name_device(const pgg_backend *backend, int index, char *id, size_t room) {
  snprintf(id, room, "%s:%d", backend->name, index);
}

int pgg_device_find(const char *id) {
  const int n = pgg_device_count();
  for (int device = 0; device < n; device++) {
    char named[sizeof((pgg_place *)0)->id];
    int index;
    const pgg_backend *backend = backend_of(device, &index);
    if (!backend) break;
    name_device(backend, index, named, sizeof named);
    if (!strcmp(named, id)) return device;
  }
  return -1;
}

static pgg_status no_device(const char *who, int device) {
  return pgg_fail(PGG_EINVAL, "%s: there is no device %d; this machine has %d", who, device, pgg_device_count());
}

pgg_status pgg_device_about(int device, pgg_device_info *about) {
  if (!about) return pgg_fail(PGG_EINVAL, "about is NULL");
  memset(about, 0, sizeof *about);
  int index;
  const pgg_backend *backend = backend_of(device, &index);
  if (!backend) return no_device("device", device);
  name_device(backend, index, about->id, sizeof about->id);
  return backend->about(index, about);
}

pgg_status pgg_plan_place(pgg_plan *plan, int first_op, int last_op, int device) {
  int index;
  if (!plan) return pgg_fail(PGG_EINVAL, "plan is NULL");
  if (plan->frozen) return pgg_fail(PGG_EINVAL, "the plan is frozen and cannot be changed");
  if (first_op < 0 || last_op < first_op || last_op >= plan->n_op)
    return pgg_fail(PGG_EINVAL, "place: ops %d to %d are not in the plan, which has %d", first_op, last_op, plan->n_op);
  if (!backend_of(device, &index)) return no_device("place", device);
  for (int i = first_op; i <= last_op; i++) plan->ops[i].device = device;
  return PGG_OK;
}

/* ---- places and segments ------------------------------------------------------------------------------- */

static pgg_status open_place(pgg_plan *plan, int number, int *at) {
  for (*at = 0; *at < plan->n_place; ++*at)
    if (plan->places[*at].number == number) return PGG_OK;
  if (plan->n_place == PGG_MAX_PLACES)
    return pgg_fail(PGG_EUNSUPPORTED, "a plan can be placed on %d devices at most", PGG_MAX_PLACES);
  int index;
  pgg_place *place = &plan->places[plan->n_place];
  *place = (pgg_place){.backend = backend_of(number, &index), .number = number};
  if (!place->backend) return no_device("freeze", number);
  name_device(place->backend, index, place->id, sizeof place->id);
  place->offsets = calloc((size_t)plan->n_node + 1, sizeof *place->offsets);
  place->weights = calloc((size_t)plan->n_weight + 1, sizeof *place->weights);
  pgg_status status = PGG_OK;
  if (!place->offsets || !place->weights)
    status = pgg_fail(PGG_ENOMEM, "no memory for notes on %d nodes", plan->n_node);
  if (!status) status = place->backend->open(index, &place->device);
  if (status) {
    free(place->offsets);
    free(place->weights);
    return status;
  }
  plan->n_place++;
  return PGG_OK;
}

static pgg_status find_segments(pgg_plan *plan) {
  plan->segments = calloc((size_t)plan->n_op + 1, sizeof *plan->segments);
  if (!plan->segments) return pgg_fail(PGG_ENOMEM, "no memory for the segments of a plan");
  for (int i = 0; i < plan->n_op; i++) {
    pgg_plan_op_rec *rec = &plan->ops[i];
    pgg_segment *last = plan->n_segment ? &plan->segments[plan->n_segment - 1] : NULL;
    int place;
    pgg_status status = open_place(plan, rec->device, &place);
    if (status) return status;
    if (last && last->place == place) {
      last->end = i + 1;
    } else {
      plan->segments[plan->n_segment++] = (pgg_segment){.plan = plan, .place = place, .first = i, .end = i + 1};
    }
    plan->nodes[rec->node].place = place;
  }
  return pgg_states_settle(plan);
}

/* Which nodes cross into which segments; each place gets a node once. */
static pgg_status find_cuts(pgg_plan *plan) {
  bool *there = calloc((size_t)plan->n_node * (size_t)plan->n_place + 1, sizeof *there);
  if (!there) return pgg_fail(PGG_ENOMEM, "no memory for the cuts of a plan");
  for (int s = 0; s < plan->n_segment; s++) {
    pgg_segment *segment = &plan->segments[s];
    for (int i = segment->first; i < segment->end; i++)
      for (int j = 0; j < pgg_op_src_count(plan->ops[i].op.kind); j++) {
        const int node = plan->ops[i].op.src[j];
        if (node < 0 || plan->nodes[node].place == segment->place) continue;
        bool *known = &there[(size_t)node * (size_t)plan->n_place + (size_t)segment->place];
        if (*known) continue;
        int *more = realloc(segment->taken, ((size_t)segment->n_taken + 1) * sizeof *more);
        if (!more) {
          free(there);
          return pgg_fail(PGG_ENOMEM, "no memory for the cuts of a plan");
        }
        *known = true;
        segment->taken = more;
        segment->taken[segment->n_taken++] = node;
      }
  }
  free(there);
  return PGG_OK;
}

static pgg_status give_weights(pgg_plan *plan, const pgg_segment *segment) {
  pgg_place *place = &plan->places[segment->place];
  for (int i = segment->first; i < segment->end; i++)
    for (int j = 0; j < pgg_op_weight_count(plan->ops[i].op.kind); j++) {
      const int w = plan->ops[i].op.weight[j];
      if (w < 0 || place->weights[w].p) continue;
      pgg_status status = place->backend->weight(place->device, &plan->weights[w], &place->weights[w]);
      if (status) return status;
    }
  return PGG_OK;
}

pgg_status pgg_places_find(pgg_plan *plan) {
  pgg_places_drop(plan); /* of a freeze that failed */
  pgg_status status = find_segments(plan);
  if (!status) status = find_cuts(plan);
  for (int s = 0; s < plan->n_segment && !status; s++) {
    pgg_segment *segment = &plan->segments[s];
    if (!(status = give_weights(plan, segment))) status = plan->places[segment->place].backend->compile(segment);
  }
  if (status) pgg_places_drop(plan);
  return status;
}

void pgg_places_drop(pgg_plan *plan) {
  pgg_arenas_drop(plan, &plan->arenas);
  for (int s = 0; s < plan->n_segment; s++) {
    pgg_segment *segment = &plan->segments[s];
    plan->places[segment->place].backend->discard(segment);
    free(segment->taken);
  }
  for (int p = 0; p < plan->n_place; p++) {
    pgg_place *place = &plan->places[p];
    for (int w = 0; w < plan->n_weight; w++)
      if (place->weights[w].p) place->backend->drop(place->device, &place->weights[w]);
    place->backend->close(place->device);
    free(place->offsets);
    free(place->weights);
  }
  free(plan->segments);
  plan->segments = NULL;
  plan->n_segment = plan->n_place = 0;
}

void pgg_places_rest(pgg_plan *plan) {
  for (int s = 0; s < plan->n_segment; s++) plan->places[plan->segments[s].place].backend->rest(&plan->segments[s]);
  pgg_lock();
  pgg_arenas mine = plan->arenas;
  plan->arenas = (pgg_arenas){0};
  pgg_unlock();
  pgg_arenas_drop(plan, &mine);
}

bool pgg_node_leaves(const pgg_plan *plan, const pgg_segment *segment, int node) {
  return plan->limits.keep_all || node == plan->outputs[0] || plan->nodes[node].last_use >= segment->end;
}

/* ---- arenas -------------------------------------------------------------------------------------------- */

pgg_status pgg_arenas_ready(const pgg_plan *plan, pgg_arenas *arenas) {
  for (int p = 0; p < plan->n_place; p++) {
    const pgg_place *place = &plan->places[p];
    if (arenas->mem[p].p || !place->arena_bytes) continue;
    pgg_status status = place->backend->alloc(place->device, place->arena_bytes, &arenas->mem[p]);
    if (status) return status;
  }
  if (!plan->between_bytes || arenas->between.p) return PGG_OK;
  if (!(arenas->between.p = pgg_alloc(plan->between_bytes)))
    return pgg_fail(PGG_ENOMEM, "the system refused %zu bytes of scratch", plan->between_bytes);
  arenas->between.bytes = plan->between_bytes;
  return PGG_OK;
}

void pgg_arenas_drop(const pgg_plan *plan, pgg_arenas *arenas) {
  for (int p = 0; p < plan->n_place; p++)
    if (arenas->mem[p].p) plan->places[p].backend->drop(plan->places[p].device, &arenas->mem[p]);
  pgg_free(arenas->between.p, arenas->between.bytes);
  *arenas = (pgg_arenas){0};
}
