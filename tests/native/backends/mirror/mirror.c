/* A backend of the tests: two devices with memory of their own, whose addresses mean nothing to anybody else. A piece
 * of memory is known by an address that no process can have; who reads or writes there ends. Weights are copied. A
 * segment runs late: run only notes it, wait runs it, by the CPU backend, in this backend's memory. */
#include "backends/mirror/mirror.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/backend.h"

#define FAR ((uintptr_t)1 << 60) /* between what it hands out and the truth */

extern const pgg_backend pgg_backend_cpu;

int mirror_calls[MIRROR_CALLS];
mirror_call mirror_fails;
int mirror_after;
atomic_int mirror_held;
static pgg_session *cancelled;
static int cancel_after;

struct pgg_device {
  int index;
  pgg_segment *segment; /* to be run */
  pgg_piece piece;
};

static pgg_status called(mirror_call call, const char *name) {
  mirror_calls[call]++;
  if (mirror_fails != call || mirror_after-- > 0) return PGG_OK;
  mirror_after = 0;
  return pgg_fail(PGG_EBACKEND, "mirror: %s was told to fail", name);
}

void mirror_cancel(pgg_session *session, int runs) {
  cancelled = session;
  cancel_after = runs;
}

static char *truth(const pgg_mem *mem) { return (char *)((uintptr_t)mem->p - FAR); }

static int count(void) { return 2; }

static pgg_status about(int index, pgg_device_info *out) {
  snprintf(out->name, sizeof out->name, "mirror %d", index);
  out->kind = PGG_DEVICE_GPU;
  out->total = 1 << 30;
  return PGG_OK;
}

static pgg_status open_mirror(int index, pgg_device **device) {
  pgg_status status = called(MIRROR_OPEN, "open");
  if (status) return status;
  if (!(*device = calloc(1, sizeof **device))) return pgg_fail(PGG_ENOMEM, "mirror: no memory for a device");
  (*device)->index = index;
  mirror_held++;
  return PGG_OK;
}

static void close_mirror(pgg_device *device) {
  free(device);
  mirror_held--;
}

static pgg_status take(size_t bytes, pgg_mem *mem) {
  char *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!p) return pgg_fail(PGG_ENOMEM, "mirror: no memory");
  memset(p, 0, (bytes + 63) / 64 * 64);
  *mem = (pgg_mem){(void *)((uintptr_t)p + FAR), bytes};
  mirror_held++;
  return PGG_OK;
}

static pgg_status alloc(pgg_device *device, size_t bytes, pgg_mem *mem) {
  (void)device;
  pgg_status status = called(MIRROR_ALLOC, "alloc");
  return status ? status : take(bytes, mem);
}

static void drop(pgg_device *device, pgg_mem *mem) {
  (void)device;
  if (mem->p) {
    free(truth(mem));
    mirror_held--;
  }
  *mem = (pgg_mem){NULL, 0};
}

static pgg_status inside(const pgg_mem *mem, size_t at, size_t bytes) {
  if (at <= mem->bytes && bytes <= mem->bytes - at) return PGG_OK;
  return pgg_fail(PGG_EBACKEND, "mirror: %zu bytes at %zu of %zu", bytes, at, mem->bytes);
}

static pgg_status write(pgg_device *device, const pgg_mem *to, size_t at, const void *from, size_t bytes) {
  (void)device;
  pgg_status status = called(MIRROR_WRITE, "write");
  if (status || (status = inside(to, at, bytes))) return status;
  memcpy(truth(to) + at, from, bytes);
  return PGG_OK;
}

static pgg_status read(pgg_device *device, const pgg_mem *from, size_t at, void *to, size_t bytes) {
  (void)device;
  pgg_status status = called(MIRROR_READ, "read");
  if (status || (status = inside(from, at, bytes))) return status;
  memcpy(to, truth(from) + at, bytes);
  return PGG_OK;
}

static pgg_status copy(pgg_device *device, const pgg_mem *to, size_t to_at, const pgg_mem *from, size_t from_at,
                       size_t bytes) {
  (void)device;
  pgg_status status = called(MIRROR_COPY, "copy");
  if (status || (status = inside(to, to_at, bytes)) || (status = inside(from, from_at, bytes))) return status;
  memcpy(truth(to) + to_at, truth(from) + from_at, bytes);
  return PGG_OK;
}

static pgg_status weight(pgg_device *device, const pgg_weight *w, pgg_mem *mem) {
  (void)device;
  pgg_status status = called(MIRROR_WEIGHT, "weight");
  const size_t bytes = (size_t)w->rows * w->row_bytes;
  if (status || (status = take(bytes, mem))) return status;
  memcpy(truth(mem), w->data, bytes);
  return PGG_OK;
}

/* ---- segments: the CPU's, over a copy of the plan that knows this memory ---------------------------------- */

typedef struct shadow {
  pgg_plan plan;
  pgg_segment segment;
  size_t arena_bytes;
} shadow;

static void discard(pgg_segment *segment) {
  shadow *s = segment->compiled;
  if (!s) return;
  pgg_backend_cpu.discard(&s->segment);
  for (int w = 0; s->plan.weights && w < s->plan.n_weight; w++)
    if (s->plan.weights[w].own) free(s->plan.weights[w].own);
  free(s->plan.weights);
  free(s);
  segment->compiled = NULL;
}

/* The plan's weights as they lie here; those of other devices are gone. */
static bool own_weights(shadow *s, const pgg_place *place) {
  const int n = s->plan.n_weight;
  pgg_weight *mine = calloc((size_t)n + 1, sizeof *mine);
  for (int w = 0; mine && w < n; w++) {
    mine[w] = s->plan.weights[w];
    mine[w].own = NULL;
    mine[w].data = place->weights[w].p ? truth(&place->weights[w]) : NULL;
    if (!mine[w].data || !mine[w].vec) {
      mine[w].vec = NULL;
    } else if (mine[w].type == PGG_F32) {
      mine[w].vec = mine[w].data;
    } else if ((mine[w].own = malloc((size_t)mine[w].cols * sizeof(float)))) {
      memcpy(mine[w].own, s->plan.weights[w].vec, (size_t)mine[w].cols * sizeof(float));
      mine[w].vec = mine[w].own;
    }
  }
  s->plan.weights = mine;
  return mine != NULL;
}

static pgg_status compile(pgg_segment *segment) {
  pgg_status status = called(MIRROR_COMPILE, "compile");
  if (status) return status;
  shadow *s = calloc(1, sizeof *s);
  if (!s) return pgg_fail(PGG_ENOMEM, "mirror: no memory for a segment");
  memcpy(&s->plan, segment->plan, sizeof s->plan);
  s->segment = *segment;
  s->segment.plan = &s->plan;
  segment->compiled = s;
  if (!own_weights(s, &segment->plan->places[segment->place])) status = pgg_fail(PGG_ENOMEM, "mirror: no memory");
  if (!status) status = pgg_backend_cpu.compile(&s->segment);
  if (status) discard(segment);
  return status;
}

static void rest(pgg_segment *segment) {
  shadow *s = segment->compiled;
  if (s) pgg_backend_cpu.rest(&s->segment);
}

static size_t scratch(const pgg_segment *segment) {
  const shadow *s = segment->compiled;
  return pgg_backend_cpu.scratch(&s->segment);
}

static pgg_status run(pgg_segment *segment, const pgg_piece *piece) {
  pgg_device *device = segment->plan->places[segment->place].device;
  pgg_status status = called(MIRROR_RUN, "run");
  if (cancelled && --cancel_after == 0) pgg_session_cancel(cancelled, 1);
  if (status) return status;
  device->segment = segment;
  device->piece = *piece;
  return PGG_OK;
}

/* A sequence's memory with the addresses that the CPU can follow. */
static bool near_memory(const pgg_plan *plan, const pgg_memory *far, pgg_memory *memory) {
  *memory = *far;
  memory->groups = calloc((size_t)plan->n_group + 1, sizeof *memory->groups);
  for (int g = 0; memory->groups && g < plan->n_group; g++) {
    void **at = calloc((size_t)far->groups[g].n_span + 1, sizeof *at);
    memory->groups[g] = far->groups[g];
    memory->groups[g].at = at;
    if (!at) return false;
    for (int64_t s = 0; s < far->groups[g].n_span; s++)
      if (far->groups[g].at[s]) at[s] = (void *)((uintptr_t)far->groups[g].at[s] - FAR);
  }
  return memory->groups != NULL;
}

static pgg_moment *near_moment(const pgg_moment *far, int n_place) {
  pgg_moment *moment = far ? calloc(1, sizeof *moment) : NULL;
  if (!moment) return NULL;
  *moment = *far;
  for (int p = 0; p < n_place; p++)
    if (far->at[p]) moment->at[p] = (void *)((uintptr_t)far->at[p] - FAR);
  return moment;
}

static pgg_status run_now(pgg_segment *segment, pgg_piece *piece) {
  shadow *s = segment->compiled;
  const pgg_plan *plan = segment->plan;
  pgg_part *parts = calloc((size_t)piece->n_part, sizeof *parts);
  pgg_memory *memories = calloc((size_t)piece->n_part, sizeof *memories);
  pgg_mem arena;
  bool good = parts && memories;
  /* What layout found out since. */
  pgg_weight *weights = s->plan.weights;
  memcpy(&s->plan, plan, sizeof s->plan);
  s->plan.weights = weights;
  for (int i = 0; parts && i < piece->n_part; i++) {
    parts[i] = piece->parts[i];
    parts[i].before = parts[i].after = NULL;
  }
  for (int i = 0; good && i < piece->n_part; i++) {
    parts[i] = piece->parts[i];
    good = near_memory(plan, parts[i].memory, &memories[i]);
    parts[i].memory = &memories[i];
    parts[i].before = near_moment(parts[i].before, plan->n_place);
    parts[i].after = near_moment(parts[i].after, plan->n_place);
    if (plan->recurrent && piece->output != PGG_ENCODES) good = good && parts[i].before && parts[i].after;
  }
  piece->parts = parts;
  if (piece->arena) {
    arena = (pgg_mem){truth(piece->arena), piece->arena->bytes};
    piece->arena = &arena;
  }
  pgg_status status = good ? pgg_backend_cpu.run(&s->segment, piece) : pgg_fail(PGG_ENOMEM, "mirror: no memory");
  for (int i = 0; memories && i < piece->n_part; i++) {
    for (int g = 0; memories[i].groups && g < plan->n_group; g++) free(memories[i].groups[g].at);
    free(memories[i].groups);
    if (parts) free((void *)parts[i].before), free((void *)parts[i].after);
  }
  free(memories);
  free(parts);
  return status;
}

static pgg_status wait(pgg_device *device) {
  pgg_segment *segment = device->segment;
  pgg_status status = called(MIRROR_WAIT, "wait");
  device->segment = NULL;
  if (status || !segment) return status;
  return run_now(segment, &device->piece);
}

const pgg_backend pgg_backend_mirror = {.name = "mirror",
                                        .count = count,
                                        .about = about,
                                        .open = open_mirror,
                                        .close = close_mirror,
                                        .alloc = alloc,
                                        .drop = drop,
                                        .write = write,
                                        .read = read,
                                        .copy = copy,
                                        .weight = weight,
                                        .compile = compile,
                                        .discard = discard,
                                        .rest = rest,
                                        .scratch = scratch,
                                        .run = run,
                                        .wait = wait};
