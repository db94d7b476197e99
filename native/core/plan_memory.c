/* What a plan takes, on each device that it lies on. Nothing is measured: it is what freezing laid out. */
#include "base/memory.h"
#include "core/backend.h"

/* Those that ops on the device read, and the float copies beside them. */
static size_t weights_at(const pgg_plan *plan, int place) {
  size_t bytes = 0;
  for (int w = 0; w < plan->n_weight; w++) {
    const pgg_weight *it = &plan->weights[w];
    if (!plan->places[place].weights[w].p) continue;
    bytes += (size_t)it->rows * it->row_bytes + (it->own ? (size_t)it->cols * sizeof(float) : 0);
  }
  return bytes;
}

static size_t scratch_at(const pgg_plan *plan, int place) {
  size_t bytes = plan->places[place].arena_bytes;
  for (int s = 0; s < plan->n_segment; s++)
    if (plan->segments[s].place == place) bytes += plan->places[place].backend->scratch(&plan->segments[s]);
  return bytes;
}

size_t pgg_plan_arena_bytes(const pgg_plan *plan) {
  if (!plan || !plan->frozen) return 0;
  size_t bytes = plan->between_bytes;
  for (int p = 0; p < plan->n_place; p++) bytes += scratch_at(plan, p);
  return bytes;
}

pgg_status pgg_plan_memory(const pgg_plan *plan, int device, int kv_type, int64_t n_ctx, pgg_plan_bytes *bytes) {
  if (!plan || !bytes) return pgg_fail(PGG_EINVAL, "plan or bytes is NULL");
  if (!plan->frozen) return pgg_fail(PGG_EINVAL, "memory: the plan is not frozen: call pgg_plan_freeze first");
  if (n_ctx < 0) return pgg_fail(PGG_EINVAL, "memory: n_ctx is %lld, expected 0 or more", (long long)n_ctx);
  int place = -1;
  while (device >= 0 && ++place < plan->n_place && plan->places[place].number != device) continue;
  if (device < -1 || place == plan->n_place)
    return pgg_fail(PGG_EINVAL, "memory: nothing of the plan lies on device %d", device);
  *bytes = (pgg_plan_bytes){.scratch = device < 0 ? plan->between_bytes : 0};
  for (int p = 0; p < plan->n_place; p++) {
    if (device >= 0 && p != place) continue;
    bytes->weights += weights_at(plan, p);
    bytes->scratch += scratch_at(plan, p);
  }
  pgg_memory_bytes sums;
  const pgg_status status = pgg_memory_most(plan, kv_type, n_ctx, place, &sums);
  if (status) return status;
  bytes->cache = sums.most;
  bytes->position = sums.position;
  bytes->mark = sums.mark;
  return PGG_OK;
}
