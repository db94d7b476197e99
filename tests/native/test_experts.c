/* route, experts and gate against the plainest C in double: all gatings, types that differ between the stacks, ragged
 * batches, one expert with every token and others with none; any number of threads gives the same bits. */
#include "tiny_plan.h"

typedef struct moe {
  int n_expert, n_used, k, n_ff, m, types[3], act, gating, norm, biased;
  float scale;
  float *router, *bias, *f32[3]; /* (n_expert, k), (n_expert), stacks as kept */
  void *raw[3];
  int groups[3], early; /* n_group, n_group_used, group_best */
} moe;

static float *randoms(int64_t n, float scale, uint64_t *seed) {
  float *x = malloc((size_t)n * sizeof *x);
  for (int64_t i = 0; i < n; i++) x[i] = scale * check_random(seed);
  return x;
}

static int64_t rows_of(const moe *x, int i) { return (int64_t)x->n_expert * (i < 2 ? x->n_ff : x->m); }
static int64_t cols_of(const moe *x, int i) { return i < 2 ? x->k : x->n_ff; }

static void fill(moe *x) {
  uint64_t seed = 17;
  x->router = randoms((int64_t)x->n_expert * x->k, 2.0f / sqrtf((float)x->k), &seed);
  x->bias = randoms(x->n_expert, 0.3f, &seed);
  for (int i = 0; i < 3; i++) {
    const int64_t rows = rows_of(x, i), cols = cols_of(x, i);
    x->f32[i] = randoms(rows * cols, 2.0f / sqrtf((float)cols), &seed);
    x->raw[i] = malloc((size_t)rows * pgg_row_bytes(x->types[i], cols));
    CHECK_OK(pgg_quantize(x->types[i], x->f32[i], x->raw[i], rows, cols, NULL, 1));
    CHECK_OK(pgg_dequantize(x->types[i], x->raw[i], x->f32[i], rows, cols, 1));
  }
}

static void drop(moe *x) {
  free(x->router), free(x->bias);
  for (int i = 0; i < 3; i++) free(x->f32[i]), free(x->raw[i]);
}

/* Rows in, results out. */
static pgg_plan *plan_of(const moe *x, int n_batch) {
  pgg_plan *plan = NULL;
  int w[5], node, logits;
  const char *const names[3] = {"gate", "up", "down"};
  CHECK_OK(pgg_plan_new(&plan));
  CHECK_OK(pgg_plan_weight(plan, "router", PGG_F32, x->router, x->n_expert, x->k, &w[3]));
  CHECK_OK(pgg_plan_weight(plan, "bias", PGG_F32, x->bias, 1, x->n_expert, &w[4]));
  for (int i = 0; i < 3; i++)
    CHECK_OK(pgg_plan_weight(plan, names[i], x->types[i], x->raw[i], rows_of(x, i), cols_of(x, i), &w[i]));
  pgg_op op = op_of(PGG_OP_INPUT, "input", -1, -1);
  PGG_INT(&op, input, cols) = x->k;
  node = add_op(plan, op);
  logits = add_matmul(plan, "router", node, w[3], -1);
  op = op_of(PGG_OP_ROUTE, "route", logits, -1);
  PGG_WEIGHT(&op, route, bias) = x->biased ? w[4] : -1;
  PGG_INT(&op, route, n_used) = x->n_used;
  PGG_INT(&op, route, gating) = x->gating;
  PGG_INT(&op, route, norm) = x->norm;
  PGG_FLOAT(&op, route, scale) = x->scale;
  PGG_INT(&op, route, n_group) = x->groups[0];
  PGG_INT(&op, route, n_group_used) = x->groups[1];
  PGG_INT(&op, route, group_best) = x->groups[2];
  const int routing = add_op(plan, op);
  op = op_of(PGG_OP_EXPERTS, "experts", node, routing);
  for (int i = 0; i < 3; i++) op.weight[i] = w[i];
  PGG_INT(&op, experts, n_expert) = x->n_expert;
  PGG_INT(&op, experts, act) = x->act;
  PGG_INT(&op, experts, early) = x->early;
  CHECK_OK(pgg_plan_output(plan, add_op(plan, op)));
  pgg_limits limits = {n_batch, 4096, 0};
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  return plan;
}

/* ---- in plain C ---------------------------------------------------------------------------------------- */

static double act_of(int gelu, double g) {
  return gelu ? 0.5 * g * (1 + tanh(0.7978845608028654 * (g + 0.044715 * g * g * g))) : g / (1 + exp(-g));
}

/* y (rows) = rows [r0, r0 + rows) of stack i times x, activations prepared as the type asks. */
static void product(const moe *x, int i, int64_t r0, int64_t rows, const double *in, double *y) {
  const int64_t k = cols_of(x, i);
  const bool blocks = pgg_type_get(x->types[i])->kind == PGG_KIND_BLOCK;
  double *acts = malloc((size_t)k * sizeof *acts);
  float *row = malloc((size_t)k * sizeof *row);
  pgg_act *act = aligned_alloc(64, (size_t)pgg_act_blocks(k) * sizeof *act);
  for (int64_t c = 0; c < k; c++) acts[c] = row[c] = (float)in[c];
  if (blocks) {
    pgg_act_encode(row, act, k);
    for (int64_t c = 0; c < k; c++) acts[c] = (double)act[c / 256].d * act[c / 256].q[c % 256];
    for (int64_t b = 0; b < pgg_act_blocks(k); b++)
      for (int j = 0; j < act[b].n_spike; j++) acts[b * 256 + act[b].at[j]] += (double)act[b].spike_d * act[b].spike[j];
  }
  for (int64_t r = 0; r < rows; r++) {
    y[r] = 0;
    for (int64_t c = 0; c < k; c++) y[r] += acts[c] * x->f32[i][(r0 + r) * k + c];
  }
  free(acts), free(row), free(act);
}

/* Scores of experts outside of the best groups become less than any. */
static void close_groups(const moe *x, double *score) {
  const int n = x->groups[0], each = n ? x->n_expert / n : 0;
  double best[64];
  for (int g = 0; g < n; g++) {
    double high[2] = {-1e300, -1e300};
    for (int i = 0; i < x->groups[2]; i++) { /* the highest, and the one below it */
      int at = -1;
      for (int e = g * each; e < (g + 1) * each; e++)
        if ((i == 0 || score[e] < high[0]) && (at < 0 || score[e] > score[at])) at = e;
      high[i] = score[at];
    }
    best[g] = x->groups[2] == 2 ? high[0] + high[1] : high[0];
  }
  for (int g = 0; g < n; g++) {
    int above = 0;
    for (int other = 0; other < n; other++) above += best[other] > best[g];
    for (int e = g * each; above >= x->groups[1] && e < (g + 1) * each; e++) score[e] = -1e300;
  }
}

static void reference(const moe *x, const float *in, double *out) {
  double logits[512], score[512], total = 0, sum = 0, *row = malloc((size_t)x->k * sizeof *row);
  double *gate = malloc((size_t)x->n_ff * sizeof *gate), *up = malloc((size_t)x->n_ff * sizeof *up);
  double *y = malloc((size_t)x->m * sizeof *y);
  int chosen[512];
  for (int c = 0; c < x->k; c++) row[c] = in[c];
  for (int e = 0; e < x->n_expert; e++) {
    logits[e] = 0;
    for (int c = 0; c < x->k; c++) logits[e] += row[c] * x->router[e * x->k + c];
    total += exp(logits[e]);
  }
  for (int e = 0; e < x->n_expert; e++) {
    score[e] = x->gating == 1 ? 1 / (1 + exp(-logits[e])) : x->gating == 0 ? exp(logits[e]) / total : logits[e];
    if (x->biased) score[e] += x->bias[e];
  }
  close_groups(x, score);
  for (int s = 0; s < x->n_used; s++) {
    chosen[s] = -1;
    for (int e = 0; e < x->n_expert; e++) {
      bool taken = false;
      for (int before = 0; before < s; before++) taken = taken || chosen[before] == e;
      if (!taken && (chosen[s] < 0 || score[e] > score[chosen[s]])) chosen[s] = e;
    }
    sum += x->gating == 1 ? 1 / (1 + exp(-logits[chosen[s]])) : exp(logits[chosen[s]]);
  }
  for (int r = 0; r < x->m; r++) out[r] = 0;
  for (int s = 0; s < x->n_used; s++) {
    const int e = chosen[s];
    double weight = x->gating == 1 ? 1 / (1 + exp(-logits[e])) : exp(logits[e]);
    weight = x->norm || x->gating == 2 ? weight / sum : x->gating == 0 ? weight / total : weight;
    product(x, 0, (int64_t)e * x->n_ff, x->n_ff, row, gate);
    product(x, 1, (int64_t)e * x->n_ff, x->n_ff, row, up);
    const double before = x->early ? weight * x->scale : 1, behind = x->early ? 1 : weight * x->scale;
    for (int c = 0; c < x->n_ff; c++) gate[c] = act_of(x->act, before * gate[c]) * before * up[c];
    product(x, 2, (int64_t)e * x->m, x->m, gate, y);
    for (int r = 0; r < x->m; r++) out[r] += behind * y[r];
  }
  free(row), free(gate), free(up), free(y);
}

/* ---- the checks ---------------------------------------------------------------------------------------------- */

/* n rows in pieces of at most n_batch. */
static void run(pgg_plan *plan, const float *in, int n, int64_t m, int threads, float *out) {
  pgg_session *s = NULL;
  CHECK_OK(pgg_session_new(plan, 4096, PGG_F32, &s));
  memset(out, 0x55, (size_t)(n * m) * sizeof *out);
  CHECK_OK(pgg_session_step(s, NULL, in, n, n, out, threads));
  pgg_session_free(s);
}

static void test_experts(moe x, const char *what, double bound) {
  enum { N = 300 };
  uint64_t seed = 5;
  fill(&x);
  float *in = randoms((int64_t)N * x.k, 1, &seed);
  const size_t size = (size_t)(N * x.m) * sizeof(float);
  float *got = malloc(size), *again = malloc(size);
  double *want = malloc(2 * size);
  const int counts[] = {1, 2, 3, 7, 64, N};
  for (int r = 0; r < 64; r++) reference(&x, in + r * x.k, want + (int64_t)r * x.m);
  for (int i = 0; i < 6; i++) {
    pgg_plan *plan = plan_of(&x, counts[i]);
    const int n = counts[i], checked = n < 64 ? n : 64;
    run(plan, in, n, x.m, 1, got);
    const double d = distance(got, want, (int64_t)checked * x.m);
    CHECK(d <= bound, "%s: %d rows differ by %g", what, n, d);
    for (int threads = 2; threads <= 3; threads++) {
      run(plan, in, n, x.m, threads, again);
      CHECK(!memcmp(got, again, (size_t)(n * x.m) * sizeof *got), "%s: %d rows, other bits on %d threads", what, n,
            threads);
    }
    pgg_plan_free(plan);
  }
  pgg_plan *plan = plan_of(&x, 1); /* row by row */
  run(plan, in, 64, x.m, 3, got);
  const double d = distance(got, want, (int64_t)64 * x.m);
  CHECK(d <= bound, "%s: one by one differs by %g", what, d);
  pgg_plan_free(plan);
  free(in), free(got), free(again), free(want);
  drop(&x);
}

/* Every row the same: some experts have all of them, the others none. */
static void test_crowd(int type) {
  enum { N = 260 };
  moe x = {6, 2, 256, 288, 96, {type, type, type}, 0, 0, 1, 0, 1, NULL, NULL, {0}, {0}, {0}, 0};
  uint64_t seed = 9;
  fill(&x);
  float *one = randoms(x.k, 1, &seed), *in = malloc(sizeof(float) * N * (size_t)x.k);
  float *got = malloc(sizeof(float) * N * (size_t)x.m), *again = malloc(sizeof(float) * N * (size_t)x.m);
  double *want = malloc(sizeof(double) * (size_t)x.m);
  for (int r = 0; r < N; r++) memcpy(in + r * x.k, one, sizeof(float) * (size_t)x.k);
  reference(&x, one, want);
  pgg_plan *plan = plan_of(&x, N);
  run(plan, in, N, x.m, 1, got);
  for (int r = 0; r < N; r++) {
    const double d = distance(got + r * x.m, want, x.m);
    CHECK(d < 2e-2, "row %d differs by %g", r, d);
    CHECK(!memcmp(got, got + r * x.m, sizeof(float) * (size_t)x.m), "row %d has other bits than the first", r);
  }
  run(plan, in, N, x.m, 3, again);
  CHECK(!memcmp(got, again, sizeof(float) * N * (size_t)x.m), "other bits on 3 threads");
  /* A row of NaN hurts no other row. */
  for (int c = 0; c < x.k; c++) in[7 * x.k + c] = NAN;
  pgg_session *s = NULL;
  CHECK_OK(pgg_session_new(plan, 4096, PGG_F32, &s));
  CHECK_FAILS(PGG_ENUMERIC, "wanted row 7", pgg_session_step(s, NULL, in, N, N, again, 3));
  for (int c = 0; c < x.k; c++) in[7 * x.k + c] = c % 2 ? INFINITY : -INFINITY;
  CHECK_FAILS(PGG_ENUMERIC, "wanted row 7", pgg_session_step(s, NULL, in, N, N, again, 2));
  CHECK_FAILS(PGG_ENUMERIC, "wanted row 0", pgg_session_step(s, NULL, in + 7 * x.k, 1, 1, again, 2));
  pgg_session_free(s);
  pgg_plan_free(plan);
  free(one), free(in), free(got), free(again), free(want);
  drop(&x);
}

static void test_refusals(void) {
  moe x = {4, 2, 64, 32, 64, {PGG_F32, PGG_F32, PGG_F32}, 0, 0, 1, 0, 1, NULL, NULL, {0}, {0}, {0}, 0};
  fill(&x);
  pgg_plan *plan = NULL;
  int router, bias, gate, up, down, in, logits, routing, bad;
  CHECK_OK(pgg_plan_new(&plan));
  CHECK_OK(pgg_plan_weight(plan, "router", PGG_F32, x.router, 4, 64, &router));
  x.bias[2] = INFINITY;
  CHECK_OK(pgg_plan_weight(plan, "bias", PGG_F32, x.bias, 1, 4, &bias));
  CHECK_OK(pgg_plan_weight(plan, "gate", PGG_F32, x.raw[0], 4 * 32, 64, &gate));
  CHECK_OK(pgg_plan_weight(plan, "up", PGG_F32, x.raw[1], 4 * 32, 64, &up));
  CHECK_OK(pgg_plan_weight(plan, "down", PGG_F32, x.raw[2], 4 * 64, 32, &down));
  pgg_op op = op_of(PGG_OP_INPUT, "input", -1, -1);
  PGG_INT(&op, input, cols) = 64;
  in = add_op(plan, op);
  logits = add_matmul(plan, "router", in, router, -1);
  op = op_of(PGG_OP_ROUTE, "route", logits, -1);
  PGG_FLOAT(&op, route, scale) = 1;
  CHECK_FAILS(PGG_EINVAL, "n_used is 0, expected 1 to 1024", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, route, n_used) = 5;
  CHECK_FAILS(PGG_EINVAL, "n_used is 5, expected 1 to 4", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, route, n_used) = 2, PGG_INT(&op, route, gating) = 3;
  CHECK_FAILS(PGG_EINVAL, "gating is 3", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, route, gating) = 0, PGG_FLOAT(&op, route, scale) = NAN;
  CHECK_FAILS(PGG_EINVAL, "scale is nan", pgg_plan_op(plan, &op, &bad));
  PGG_FLOAT(&op, route, scale) = 1, PGG_INT(&op, route, n_group) = 3;
  CHECK_FAILS(PGG_EINVAL, "3 groups do not divide 4 experts", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, route, n_group) = 4;
  CHECK_FAILS(PGG_EINVAL, "n_group_used is 0, expected 1 to 4", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, route, n_group_used) = 1, PGG_INT(&op, route, group_best) = 2;
  CHECK_FAILS(PGG_EINVAL, "group_best is 2, expected 1 to 1", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, route, group_best) = 1;
  CHECK_FAILS(PGG_EINVAL, "n_used is 2, expected 1 to 1", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, route, n_group) = 0;
  PGG_WEIGHT(&op, route, bias) = bias;
  CHECK_FAILS(PGG_ENUMERIC, "value 2 of bias is inf", pgg_plan_op(plan, &op, &bad));
  PGG_WEIGHT(&op, route, bias) = gate;
  CHECK_FAILS(PGG_ESHAPE, "gate is (128, 64), expected (1, 4)", pgg_plan_op(plan, &op, &bad));
  PGG_WEIGHT(&op, route, bias) = -1;
  routing = add_op(plan, op);
  op = op_of(PGG_OP_EXPERTS, "experts", in, logits);
  PGG_WEIGHT(&op, experts, gate) = gate, PGG_WEIGHT(&op, experts, up) = up, PGG_WEIGHT(&op, experts, down) = down;
  PGG_INT(&op, experts, n_expert) = 4;
  CHECK_FAILS(PGG_EINVAL, "router does not choose among 4 experts", pgg_plan_op(plan, &op, &bad));
  PGG_SRC(&op, experts, routing) = routing, PGG_INT(&op, experts, n_expert) = 2;
  CHECK_FAILS(PGG_EINVAL, "route does not choose among 2 experts", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, experts, n_expert) = 4, PGG_INT(&op, experts, act) = 99;
  CHECK_FAILS(PGG_EINVAL, "act is 99", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, experts, act) = 0, PGG_WEIGHT(&op, experts, up) = -1;
  CHECK_FAILS(PGG_ESHAPE, "for each of 4 experts, expected (64, 16)", pgg_plan_op(plan, &op, &bad));
  PGG_WEIGHT(&op, experts, up) = down;
  CHECK_FAILS(PGG_ESHAPE, "down has (64, 32) for each of 4 experts, expected (32, 64)", pgg_plan_op(plan, &op, &bad));
  PGG_WEIGHT(&op, experts, up) = router;
  CHECK_FAILS(PGG_ESHAPE, "router has (1, 64) for each of 4 experts, expected (32, 64)", pgg_plan_op(plan, &op, &bad));
  PGG_WEIGHT(&op, experts, up) = bias;
  CHECK_FAILS(PGG_ESHAPE, "bias has 1 rows, which 4 experts do not divide", pgg_plan_op(plan, &op, &bad));
  PGG_WEIGHT(&op, experts, up) = up;
  add_op(plan, op);
  op = op_of(PGG_OP_ROWS, "rows", in, -1);
  const int wanted = add_op(plan, op);
  op = op_of(PGG_OP_EXPERTS, "experts", wanted, routing);
  PGG_WEIGHT(&op, experts, gate) = gate, PGG_WEIGHT(&op, experts, up) = up, PGG_WEIGHT(&op, experts, down) = down;
  PGG_INT(&op, experts, n_expert) = 4;
  CHECK_FAILS(PGG_ESHAPE, "rows has rows of wanted, route of tokens", pgg_plan_op(plan, &op, &bad));
  op = op_of(PGG_OP_GATE, "gated", in, logits);
  CHECK_FAILS(PGG_ESHAPE, "router is (tokens, 4), expected (tokens, 1)", pgg_plan_op(plan, &op, &bad));
  pgg_plan_free(plan);
  drop(&x);
}

static void test_gate(void) {
  pgg_plan *plan = NULL;
  float in[] = {1, 2, 3, -4, 0, 5}, w[] = {0.5f, 0, -1}, out[6];
  int at, x, by;
  CHECK_OK(pgg_plan_new(&plan));
  CHECK_OK(pgg_plan_weight(plan, "w", PGG_F32, w, 1, 3, &at));
  pgg_op op = op_of(PGG_OP_INPUT, "input", -1, -1);
  PGG_INT(&op, input, cols) = 3;
  x = add_op(plan, op);
  by = add_matmul(plan, "by", x, at, -1);
  CHECK_OK(pgg_plan_output(plan, add_op(plan, op_of(PGG_OP_GATE, "gate", x, by))));
  pgg_limits limits = {4, 4096, 0};
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  run(plan, in, 2, 3, 1, out);
  for (int i = 0; i < 6; i++) {
    const double g = i < 3 ? 0.5 - 3 : -2 - 5, want = in[i] / (1 + exp(-g));
    CHECK(fabs(out[i] - want) < 1e-6, "value %d is %g, expected %g", i, (double)out[i], want);
  }
  pgg_plan_free(plan);
}

static void test_level(void) {
  const int f = PGG_F32;
#define MOE(...) ((moe){__VA_ARGS__, NULL, NULL, {0}, {0}, {0}, 0})
#define GROUPED(early, n, used, best, ...) ((moe){__VA_ARGS__, NULL, NULL, {0}, {0}, {n, used, best}, early})
  test_experts(MOE(5, 2, 64, 96, 48, {f, f, f}, 0, 0, 1, 0, 1), "norm", 1e-5);
  test_experts(MOE(5, 5, 64, 300, 40, {f, PGG_F16, PGG_F16}, 1, 0, 0, 0, 0.5f), "all experts, gelu", 1e-5);
  /* bf16 pairs round the activations too: half a step of 8 bits, 2^-8 with room for the norm of the reference */
  test_experts(MOE(5, 5, 64, 300, 40, {f, PGG_F16, PGG_BF16}, 1, 0, 0, 0, 0.5f), "bf16 last", 4e-3);
  test_experts(MOE(33, 4, 64, 32, 64, {f, f, f}, 0, 1, 1, 1, 2.5f), "sigmoid with bias", 1e-5);
  test_experts(MOE(8, 3, 64, 32, 64, {f, f, f}, 0, 2, 0, 0, 1), "softmax of the chosen", 1e-5);
  test_experts(MOE(1, 1, 64, 70, 130, {f, f, f}, 0, 1, 0, 0, 1), "one expert", 1e-5);
  test_experts(MOE(6, 2, 256, 512, 64, {PGG_Q4_K, PGG_Q4_K, PGG_Q4_K}, 0, 0, 1, 0, 1), "q4_k", 2e-2);
  test_experts(MOE(6, 2, 128, 160, 96, {PGG_Q8_0, PGG_Q4_0, PGG_Q5_0}, 0, 0, 1, 0, 1), "mixed blocks", 2e-2);
  test_experts(MOE(6, 2, 128, 288, 96, {f, PGG_Q8_0, PGG_Q4_0}, 0, 0, 1, 0, 1), "floats and blocks", 2e-2);
  test_experts(MOE(6, 2, 128, 288, 96, {PGG_Q8_0, PGG_Q8_0, PGG_F16}, 0, 0, 1, 0, 1), "floats last", 2e-2);
  test_experts(MOE(24, 3, 64, 32, 64, {f, f, f}, 0, 0, 0, 1, 1), "softmax with bias", 1e-5);
  test_experts(GROUPED(0, 4, 2, 2, 32, 6, 64, 32, 64, {f, f, f}, 0, 1, 1, 1, 2.5f), "groups by two, sigmoid", 1e-5);
  test_experts(GROUPED(0, 8, 3, 1, 24, 4, 64, 32, 64, {f, f, f}, 0, 0, 0, 0, 1), "groups by one, softmax", 1e-5);
  test_experts(GROUPED(0, 4, 2, 1, 8, 4, 64, 32, 64, {f, f, f}, 0, 2, 0, 1, 1), "all of two groups", 1e-5);
  test_experts(GROUPED(1, 0, 0, 0, 16, 1, 64, 300, 64, {f, f, f}, 0, 1, 0, 0, 1), "one expert, weighed early", 1e-5);
  test_experts(GROUPED(1, 0, 0, 0, 6, 2, 128, 288, 96, {PGG_Q8_0, PGG_Q4_0, PGG_Q8_0}, 0, 1, 0, 0, 1), "early, blocks",
               2e-2);
  test_crowd(PGG_F32);
  test_crowd(PGG_Q8_0);
}

/* With "ends" on the lowest and the highest level alone: under a sanitizer all of them take minutes. */
int main(int argc, char **argv) {
  const char *levels[16];
  const int n = pgg_isa_list(levels, 16), step = argc > 1 && !strcmp(argv[1], "ends") && n > 1 ? n - 1 : 1;
  for (int i = 0; i < n; i += step) { /* every level this CPU runs */
    CHECK_OK(pgg_isa_force(levels[i]));
    const int before = check_failures;
    test_level();
    CHECK(check_failures == before, "level %s", levels[i]);
  }
  test_refusals();
  test_gate();
  return check_done("test_experts");
}
