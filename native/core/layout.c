/* Freezing: where each node lives in the arena of its device, and of those it is carried to, and which ops must wait
 * for which. A node lives from the op that makes it to the last that reads it; nodes whose lives do not meet share
 * memory. Largest first, lowest free place. Nodes that each thread may make for itself have a second place, in that
 * thread's memory. */
#include <limits.h>
#include <stdlib.h>

#include "base/memory.h"
#include "core/backend.h"

#define LOOK_BACK 64 /* ops that may run between two barriers; one more than that waits */

typedef struct placing {
  int node;
  int from, to; /* the moments of its life there */
  size_t bytes;
  size_t offset;
} placing;

static int larger_first(const void *a_, const void *b_) {
  const placing *a = a_, *b = b_;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
  return a->node - b->node;
}

static int lower_first(const void *a_, const void *b_) {
  const placing *a = a_, *b = b_;
  if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
  return a->node - b->node;
}

/* When an op runs, as far as memory is concerned: ops that threads pass through without waiting are one moment. */
static void number_moments(const pgg_plan *plan, int *moments) {
  for (int i = 0, moment = 0; i < plan->n_op; i++) moments[i] = i && plan->ops[i].joined ? moment : ++moment;
  moments[plan->n_op] = INT_MAX; /* the output is read after all of them */
}

static bool lives_meet(const placing *a, const placing *b) { return a->from <= b->to && b->from <= a->to; }

static pgg_status measure(pgg_plan *plan) {
  for (int i = 0; i < plan->n_node; i++) {
    pgg_node *node = &plan->nodes[i];
    if (i == plan->bound || i == plan->ahead) continue;
    if (!pgg_mul_size(plan->limits.n_batch, node->stride * (int64_t)sizeof(float), &node->bytes) ||
        node->bytes > SIZE_MAX / 4)
      return pgg_fail(PGG_ESHAPE, "%s: %d rows of %lld columns are larger than memory can be",
                      plan->ops[node->op].op.name, plan->limits.n_batch, (long long)node->cols);
    node->own_bytes = (size_t)(pgg_min_i64(node->own_rows, plan->limits.n_batch) * node->stride) * sizeof(float);
  }
  return PGG_OK;
}

typedef struct lists {
  int *moments;
  placing *order, *taken; /* (n_node) */
} lists;

/* Places the nodes whose sizes are in desk->order, largest first; *total is what they need together. */
static pgg_status place(const pgg_plan *plan, lists *desk, int n, size_t *total) {
  placing *order = desk->order, *taken = desk->taken;
  *total = 0;
  qsort(order, (size_t)n, sizeof *order, larger_first);
  for (int i = 0; i < n; i++) {
    if (!order[i].bytes) continue;
    int n_taken = 0;
    for (int j = 0; j < i; j++)
      if (plan->limits.keep_all || lives_meet(&order[i], &order[j])) taken[n_taken++] = order[j];
    qsort(taken, (size_t)n_taken, sizeof *taken, lower_first);
    size_t at = 0;
    for (int j = 0; j < n_taken; j++) {
      if (at + order[i].bytes <= taken[j].offset) break;
      size_t end = taken[j].offset + taken[j].bytes;
      if (end > at) at = end;
    }
    if (at > SIZE_MAX / 2) return pgg_fail(PGG_ESHAPE, "the plan needs more scratch than memory can be");
    order[i].offset = at;
    if (at + order[i].bytes > *total) *total = at + order[i].bytes;
  }
  return PGG_OK;
}

/* When op i runs for a place: all of it. Whatever a segment reads of another device is there when it begins. */
static void begin_life(placing *it, int moment) {
  if (moment < it->from) it->from = moment;
  if (moment > it->to) it->to = moment;
}

/* The nodes of a place and their lives there: made, read, carried to or from somewhere. */
static void lives_at(const pgg_plan *plan, const lists *desk, int at) {
  for (int i = 0; i < plan->n_node; i++) {
    const pgg_node *node = &plan->nodes[i];
    desk->order[i] = (placing){i, INT_MAX, -1, node->place == at ? node->bytes : 0, 0};
    if (node->place != at) continue;
    begin_life(&desk->order[i], desk->moments[node->op]);
    if (node->last_use == plan->n_op) begin_life(&desk->order[i], desk->moments[plan->n_op]);
  }
  for (int s = 0; s < plan->n_segment; s++) {
    const pgg_segment *segment = &plan->segments[s];
    for (int i = 0; i < segment->n_taken; i++) {
      const int node = segment->taken[i];
      if (segment->place == at) desk->order[node].bytes = plan->nodes[node].bytes;
      if (segment->place == at || plan->nodes[node].place == at)
        begin_life(&desk->order[node], desk->moments[segment->first]);
    }
    for (int i = segment->first; i < segment->end && segment->place == at; i++)
      for (int j = 0; j < pgg_op_src_count(plan->ops[i].op.kind); j++)
        if (plan->ops[i].op.src[j] >= 0) begin_life(&desk->order[plan->ops[i].op.src[j]], desk->moments[i]);
  }
}

static pgg_status place_all(pgg_plan *plan) {
  const int n = plan->n_node;
  const size_t more = (size_t)n + 1;
  lists desk = {malloc(((size_t)plan->n_op + 1) * sizeof *desk.moments), malloc(more * sizeof *desk.order),
                malloc(more * sizeof *desk.taken)};
  pgg_status status = PGG_OK;
  if (!desk.moments || !desk.order || !desk.taken) status = pgg_fail(PGG_ENOMEM, "no memory to lay out %d nodes", n);
  if (!status) number_moments(plan, desk.moments);
  for (int p = 0; p < plan->n_place && !status; p++) {
    pgg_place *there = &plan->places[p];
    lives_at(plan, &desk, p);
    status = place(plan, &desk, n, &there->arena_bytes);
    for (int i = 0; i < n && !status; i++) there->offsets[desk.order[i].node] = desk.order[i].offset;
  }
  for (int i = 0; i < n && !status; i++) {
    const pgg_node *node = &plan->nodes[i];
    desk.order[i] = (placing){i, desk.moments[node->op], desk.moments[node->last_use], node->own_bytes, 0};
  }
  if (!status) status = place(plan, &desk, n, &plan->own_bytes);
  for (int i = 0; i < n && !status; i++) plan->nodes[desk.order[i].node].own_offset = desk.order[i].offset;
  free(desk.moments);
  free(desk.order);
  free(desk.taken);
  return status;
}

/* The largest node that goes between two devices neither of which is the host. */
static void measure_cuts(pgg_plan *plan) {
  plan->between_bytes = 0;
  for (int s = 0; s < plan->n_segment; s++) {
    const pgg_segment *segment = &plan->segments[s];
    for (int i = 0; i < segment->n_taken; i++) {
      const pgg_node *node = &plan->nodes[segment->taken[i]];
      if (plan->places[node->place].backend->host || plan->places[segment->place].backend->host) continue;
      if (node->bytes > plan->between_bytes) plan->between_bytes = node->bytes;
    }
  }
}

/* ---- who must wait for whom ---------------------------------------------------------------------------- */

static bool overlap(const pgg_plan *plan, const pgg_place *at, int a, int b) {
  const size_t x = at->offsets[a], y = at->offsets[b];
  return a == b || (x < y + plan->nodes[b].bytes && y < x + plan->nodes[a].bytes);
}

/* by_rows: both ops are cut into the same rows, so reading the very node the other made needs no wait. */
static bool clash(const pgg_plan *plan, const pgg_place *at, const pgg_plan_op_rec *later,
                  const pgg_plan_op_rec *earlier, bool by_rows) {
  if (overlap(plan, at, later->node, earlier->node)) return true;
  for (int i = 0; i < pgg_op_src_count(earlier->op.kind); i++)
    if (earlier->op.src[i] >= 0 && overlap(plan, at, later->node, earlier->op.src[i])) return true;
  for (int i = 0; i < pgg_op_src_count(later->op.kind); i++) {
    int src = later->op.src[i];
    if (src < 0) continue;
    if (src == earlier->node ? !by_rows : overlap(plan, at, src, earlier->node)) return true;
  }
  return false;
}

/* Within a segment: what ran before it is done. */
static int last_clash(const pgg_plan *plan, const pgg_segment *segment, int op, bool by_rows) {
  const pgg_place *at = &plan->places[segment->place];
  for (int j = op - 1; j >= segment->first; j--)
    if (j < op - LOOK_BACK || clash(plan, at, &plan->ops[op], &plan->ops[j], by_rows)) return j;
  return -1;
}

/* The first output's rows go straight to the caller where nothing in the plan reads them. */
static int bound_output(const pgg_plan *plan) {
  const int first = plan->outputs[0];
  const pgg_node *out = &plan->nodes[first];
  for (int i = 1; i < plan->n_output; i++)
    if (plan->outputs[i] == first) return -1;
  return out->rows == PGG_ROWS_WANTED && out->last_use == out->op && !plan->limits.keep_all ? first : -1;
}

/* Logits that are scaled or capped: what they are made of would take a batch of rows of the vocabulary for itself. */
static int ahead_of_bound(const pgg_plan *plan) {
  if (plan->bound < 0) return -1;
  const int last = plan->nodes[plan->bound].op, kind = plan->ops[last].op.kind;
  if (kind != PGG_OP_SCALE && kind != PGG_OP_SOFTCAP) return -1;
  const int src = plan->ops[last].op.src[0];
  const pgg_node *from = &plan->nodes[src];
  for (int i = 0; i < plan->n_output; i++)
    if (plan->outputs[i] == src) return -1;
  for (int s = 0; s < plan->n_segment; s++) {
    const pgg_segment *segment = &plan->segments[s];
    if (last < segment->first || last >= segment->end) continue;
    const bool here = from->op >= segment->first && plan->places[segment->place].backend->host;
    if (here && from->rows == PGG_ROWS_WANTED && from->last_use == last && !from->own_rows) return src;
  }
  return -1;
}

void pgg_layout_serves(pgg_plan *plan) {
  const unsigned all = (1u << plan->n_output) - 1, encodes = 1u << PGG_ENCODES;
  for (int i = 0; i < plan->n_op; i++) {
    pgg_plan_op_rec *rec = &plan->ops[i];
    const bool source = plan->nodes[rec->node].rows == PGG_ROWS_SOURCE;
    rec->serves = plan->limits.keep_all ? (source ? encodes : all) : 0;
    if (rec->writes) rec->serves |= plan->states[rec->state].source ? encodes : all;
  }
  for (int i = 0; i < plan->n_output; i++) plan->ops[plan->nodes[plan->outputs[i]].op].serves |= 1u << i;
  for (int i = plan->n_op - 1; i >= 0; i--)
    for (int j = 0; j < pgg_op_src_count(plan->ops[i].op.kind); j++) {
      if (plan->ops[i].op.src[j] < 0) continue;
      const pgg_node *src = &plan->nodes[plan->ops[i].op.src[j]];
      if (src->rows != PGG_ROWS_SOURCE)
        plan->ops[src->op].serves |= plan->ops[i].serves & all;
      else if (plan->ops[i].serves)
        plan->ops[src->op].serves |= encodes;
    }
}

pgg_status pgg_layout_freeze(pgg_plan *plan) {
  plan->bound = bound_output(plan);
  plan->ahead = ahead_of_bound(plan);
  pgg_status status = measure(plan);
  for (int i = 0; i < plan->n_output; i++)
    if (plan->outputs[i] != plan->bound) plan->nodes[plan->outputs[i]].last_use = plan->n_op;
  if (!status) status = place_all(plan);
  if (status) return status;
  measure_cuts(plan);
  for (int s = 0; s < plan->n_segment; s++)
    for (int i = plan->segments[s].first; i < plan->segments[s].end; i++) {
      plan->ops[i].after_any = last_clash(plan, &plan->segments[s], i, false);
      plan->ops[i].after_rows = last_clash(plan, &plan->segments[s], i, true);
    }
  return PGG_OK;
}
