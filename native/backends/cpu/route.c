/* The ops around experts that treat a row alone: `route` chooses experts from the router's logits, `gate` scales a row
 * by the sigmoid of one number. A row costs a few hundred additions, so this is plain C, the same on every CPU level.
 */
#include <float.h>
#include <math.h>

#include "backends/cpu/cpu.h"
#include "base/threads.h"
#include "core/ops.h"

enum { SOFTMAX, SIGMOID, CHOSEN };

static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/* What a row's choice goes by. */
typedef struct keys {
  const float *logits, *bias; /* (n_expert), bias NULL without any */
  int64_t n_expert;
  int gating;
  bool plain;       /* the order is all that counts, and that is the one of the logits */
  float top, total; /* of the logits, and of softmax's powers */
} keys;

static float key_of(const keys *k, int64_t e) {
  float key = k->logits[e];
  if (k->plain) return key;
  if (k->gating == SIGMOID)
    key = sigmoid(key);
  else if (k->gating == SOFTMAX)
    key = expf(key - k->top) / k->total;
  return k->bias ? key + k->bias[e] : key;
}

/* ids[at] and keys[at] go where key belongs among the `have` highest, highest first; those behind move on. Returns how
 * many there are then, at most n. */
static int64_t insert(float key, int64_t id, float *ids, float *sorted, int64_t have, int64_t n) {
  if (have == n && !(key > sorted[n - 1])) return have;
  int64_t at = have < n ? have++ : n - 1;
  for (; at > 0 && key > sorted[at - 1]; at--) sorted[at] = sorted[at - 1], ids[at] = ids[at - 1];
  sorted[at] = key;
  ids[at] = (float)id;
  return have;
}

/* open[g]: whether experts of group g may be chosen. */
static void open_groups(const pgg_op *op, const keys *k, bool *open) {
  const int64_t n = PGG_INT(op, route, n_group), n_used = PGG_INT(op, route, n_group_used), each = k->n_expert / n;
  float ids[PGG_MOST_GROUPS], sorted[PGG_MOST_GROUPS];
  int64_t have = 0;
  for (int64_t g = 0; g < n; g++) {
    float first = -INFINITY, second = -INFINITY;
    for (int64_t e = g * each; e < (g + 1) * each; e++) {
      const float key = key_of(k, e);
      if (key > first)
        second = first, first = key;
      else if (key > second)
        second = key;
    }
    have = insert(PGG_INT(op, route, group_best) == 2 ? first + second : first, g, ids, sorted, have, n_used);
    open[g] = false;
  }
  for (int64_t i = 0; i < n_used; i++) open[(int64_t)ids[i]] = true;
}

/* ids[0, n_used): the experts of the highest keys, highest first, of equal ones the lower id. sorted is room for as
 * many. Whatever the keys are, the ids are different and in range. */
static void choose(const pgg_op *op, const keys *k, float *ids, float *sorted) {
  const int64_t n_used = PGG_INT(op, route, n_used), n_group = PGG_INT(op, route, n_group);
  const int64_t each = n_group ? k->n_expert / n_group : k->n_expert;
  bool open[PGG_MOST_GROUPS] = {true};
  int64_t have = 0;
  if (n_group) open_groups(op, k, open);
  for (int64_t e = 0; e < k->n_expert; e++)
    if (open[e / each]) have = insert(key_of(k, e), e, ids, sorted, have, n_used);
}

/* Logits (n_expert) -> ids (n_used), weights (n_used). A logit that is not finite makes weights of NaN, which the check
 * of the step's output reports. */
static void route_row(const pgg_op *op, const float *logits, const float *bias, const float *scales, int64_t n_expert,
                      float *ids, float *weights) {
  const int64_t n_used = PGG_INT(op, route, n_used);
  float top = -FLT_MAX;
  bool finite = true;
  for (int64_t e = 0; e < n_expert; e++) {
    finite = finite && isfinite(logits[e]);
    if (logits[e] > top) top = logits[e];
  }
  if (!finite) {
    for (int64_t s = 0; s < n_used; s++) ids[s] = (float)s, weights[s] = NAN;
    return;
  }
  keys k = {logits, bias, n_expert, (int)PGG_INT(op, route, gating), !bias && !PGG_INT(op, route, n_group), top, 0};
  for (int64_t e = 0; k.gating == SOFTMAX && e < n_expert; e++) k.total += expf(logits[e] - top);
  choose(op, &k, ids, weights);
  float sum = 0;
  for (int64_t s = 0; s < n_used; s++) {
    const float x = logits[(int64_t)ids[s]];
    weights[s] = PGG_INT(op, route, gating) == SIGMOID ? sigmoid(x) : expf(x - top);
    sum += weights[s];
  }
  if (PGG_INT(op, route, gating) == SOFTMAX && !PGG_INT(op, route, norm)) sum = k.total;
  if (PGG_INT(op, route, gating) == SIGMOID && !PGG_INT(op, route, norm)) sum = 1;
  if (sum < FLT_MIN) sum = FLT_MIN; /* all chosen far below zero: weights of nearly nothing */
  for (int64_t s = 0; s < n_used; s++) weights[s] = weights[s] / sum * PGG_FLOAT(op, route, scale);
  for (int64_t s = 0; scales && s < n_used; s++) weights[s] *= scales[(int64_t)ids[s]];
}

/* By rows of the first input: logits, or x. */
static pgg_share share(const pgg_run *run, int op, int stage) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  if (stage > 0) return PGG_SHARE_END;
  return pgg_cpu_by_rows(run, rec->node, run->plan->nodes[rec->op.src[0]].cols);
}

static void route(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int src = PGG_SRC(&rec->op, route, logits);
  const float *bias = pgg_plan_vec(run->plan, PGG_WEIGHT(&rec->op, route, bias));
  const float *scales = pgg_plan_vec(run->plan, PGG_WEIGHT(&rec->op, route, scales));
  int64_t begin, end;
  (void)stage;
  pgg_team_range(pgg_run_rows(run, rec->node), 1, ith, nth, &begin, &end);
  for (int64_t r = begin; r < end; r++) {
    const float *x = pgg_run_data(run, src) + r * pgg_run_stride(run, src);
    float *y = pgg_run_data(run, rec->node) + r * pgg_run_stride(run, rec->node);
    route_row(&rec->op, x, bias, scales, run->plan->nodes[src].cols, y, y + PGG_INT(&rec->op, route, n_used));
  }
}

static void gate(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const int src = PGG_SRC(&rec->op, gate, x), by = PGG_SRC(&rec->op, gate, by);
  int64_t begin, end;
  (void)stage;
  pgg_team_range(pgg_run_rows(run, rec->node), 1, ith, nth, &begin, &end);
  for (int64_t r = begin; r < end; r++) {
    const float *x = pgg_run_data(run, src) + r * pgg_run_stride(run, src);
    float *y = pgg_run_data(run, rec->node) + r * pgg_run_stride(run, rec->node);
    const float factor = sigmoid(pgg_run_data(run, by)[r * pgg_run_stride(run, by)]);
    pgg_cpu_scratch_of(run)->kernels->scale(x, factor, y, run->plan->nodes[src].cols);
  }
}

const pgg_cpu_kind pgg_cpu_kind_route = {.share = share, .stage = route};
const pgg_cpu_kind pgg_cpu_kind_gate = {.share = share, .stage = gate};
