/* The ops around experts that treat a row alone: `route` chooses experts from the router's logits, `gate` scales a row
 * by the sigmoid of one number. A row costs a few hundred additions, so this is plain C, the same on every CPU level.
 */
#include <float.h>
#include <math.h>

#include "backends/cpu/cpu.h"
#include "base/threads.h"

enum { SOFTMAX, SIGMOID, CHOSEN };

static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/* ids[0, n_used): the experts of the highest keys, highest first, of equal ones the lower id. keys is room for as many.
 * Whatever the keys are, the ids are different and in range. */
static void choose(const pgg_op *op, const float *logits, const float *bias, int64_t n_expert, float *ids,
                   float *keys) {
  const int64_t n_used = PGG_INT(op, route, n_used);
  int64_t have = 0;
  for (int64_t e = 0; e < n_expert; e++) {
    float key = PGG_INT(op, route, gating) == SIGMOID ? sigmoid(logits[e]) : logits[e]; /* softmax keeps the order */
    if (bias) key += bias[e];
    if (have == n_used && !(key > keys[n_used - 1])) continue;
    int64_t at = have < n_used ? have++ : n_used - 1;
    for (; at > 0 && key > keys[at - 1]; at--) keys[at] = keys[at - 1], ids[at] = ids[at - 1];
    keys[at] = key;
    ids[at] = (float)e;
  }
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
  choose(op, logits, bias, n_expert, ids, weights);
  float sum = 0;
  for (int64_t s = 0; s < n_used; s++) {
    const float x = logits[(int64_t)ids[s]];
    weights[s] = PGG_INT(op, route, gating) == SIGMOID ? sigmoid(x) : expf(x - top);
    sum += weights[s];
  }
  if (PGG_INT(op, route, gating) == SOFTMAX && !PGG_INT(op, route, norm)) {
    sum = 0;
    for (int64_t e = 0; e < n_expert; e++) sum += expf(logits[e] - top);
  }
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
