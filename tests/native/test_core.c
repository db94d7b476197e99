/* Plans, sessions and the executor against a plain C forward pass: whole, in pieces, token by token, on 1 to 3
 * threads; and every refusal with its message.
 * Sanitized (-O1, because the kernels take very long to compile otherwise):
 *   cmake -B build/asan native -DPGG_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS=-O1
 *   cmake --build build/asan && ctest --test-dir build/asan */
#include "tiny_plan.h"

#define N 29

static void logits_of(pgg_plan *plan, int kv, const int32_t *ids, int n, const int *pieces, int threads, float *out,
                      int n_vocab) {
  pgg_session *s = tiny_session(plan, 64, kv);
  for (int at = 0, p = 0; at < n; p++) {
    int len = pieces ? pieces[p] : n;
    if (len > n - at) len = n - at;
    CHECK_OK(pgg_session_step(s, ids + at, NULL, len, len, out + (size_t)at * n_vocab, threads));
    at += len;
    CHECK(pgg_session_n_past(s) == at, "n_past %lld", (long long)pgg_session_n_past(s));
  }
  pgg_session_free(s);
}

static void test_reference(int share, int type, int n_embd, int n_ff, int n_vocab, double bound) {
  tiny t = tiny_make(type, n_embd, 4, 2, 32, n_ff, n_vocab);
  t.share = share;
  int32_t ids[N];
  tiny_ids(ids, N, n_vocab, 3);
  double *want = malloc((size_t)N * n_vocab * sizeof *want);
  float *got = malloc((size_t)N * n_vocab * sizeof *got), *other = malloc((size_t)N * n_vocab * sizeof *other);
  const size_t bytes = (size_t)N * n_vocab * sizeof *got;
  tiny_reference(&t, ids, N, want);
  pgg_plan *plan = tiny_plan(&t, 32, 64, 0), *narrow = tiny_plan(&t, 3, 64, 0);
  const int ones[N] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  const int mixed[] = {1, 7, 2, 11, 8};
  const int kvs[] = {PGG_F32, PGG_F16, PGG_BF16, PGG_Q8_0};
  const double kv_bound[] = {0, 2e-3, 2e-2, 3e-2};
  for (int i = 0; i < 4; i++) {
    logits_of(plan, kvs[i], ids, N, NULL, 1, got, n_vocab);
    double d = distance(got, want, (int64_t)N * n_vocab);
    CHECK(d <= bound + kv_bound[i], "type %d cache %d: whole differs by %g", type, kvs[i], d);
    const struct {
      const char *name;
      pgg_plan *plan;
      const int *pieces;
    } ways[] = {{"whole", plan, NULL}, {"one by one", plan, ones}, {"mixed", plan, mixed}, {"cut", narrow, NULL}};
    for (int way = 0; way < 4; way++) {
      float *first = way ? other : got;
      logits_of(ways[way].plan, kvs[i], ids, N, ways[way].pieces, 1, first, n_vocab);
      d = distance_f(first, got, (int64_t)N * n_vocab);
      CHECK(d <= bound + kv_bound[i], "type %d cache %d: %s differs from whole by %g", type, kvs[i], ways[way].name, d);
      for (int threads = 2; threads <= 3; threads++) {
        float *again = malloc(bytes);
        logits_of(ways[way].plan, kvs[i], ids, N, ways[way].pieces, threads, again, n_vocab);
        CHECK(!memcmp(again, first, bytes), "type %d cache %d: %s on %d threads gives other bits", type, kvs[i],
              ways[way].name, threads);
        free(again);
      }
    }
  }
  pgg_plan_free(plan);
  pgg_plan_free(narrow);
  free(want), free(got), free(other);
  tiny_free(&t);
}

/* More keys than a span holds: partial results are merged. */
static void test_spans(void) {
  enum { LONG = 1300, V = 67 };
  tiny t = tiny_small(V);
  static int32_t ids[LONG];
  tiny_ids(ids, LONG, V, 5);
  pgg_plan *plan = tiny_plan(&t, 64, LONG, 0);
  pgg_session *s = NULL;
  float whole[4 * V], steps[4 * V], threads[4 * V];
  s = tiny_session(plan, LONG, PGG_F32);
  CHECK_OK(pgg_session_step(s, ids, NULL, LONG, 4, whole, 2));
  for (int th = 1; th <= 3; th++) {
    CHECK_OK(pgg_session_truncate(s, LONG - 4));
    for (int i = 0; i < 4; i++)
      CHECK_OK(pgg_session_step(s, ids + LONG - 4 + i, NULL, 1, 1, (th > 1 ? threads : steps) + i * V, th));
    if (th > 1) CHECK(!memcmp(steps, threads, sizeof steps), "other bits on %d threads", th);
  }
  double d = distance_f(steps, whole, 4 * V);
  CHECK(d < 1e-5, "spans differ by %g", d);
  tiny_end(s, plan, &t);
}

static void test_encoder(void) {
  enum { V = 67 };
  tiny t = tiny_small(V);
  t.causal = 0;
  int32_t ids[N];
  tiny_ids(ids, N, V, 9);
  double *want = malloc(N * V * sizeof *want);
  float *got = malloc(N * V * sizeof *got);
  tiny_reference(&t, ids, N, want);
  pgg_plan *plan = tiny_plan(&t, N, 64, 0);
  pgg_session *s = tiny_session(plan, 64, PGG_F32);
  CHECK_OK(pgg_session_step(s, ids, NULL, N, N, got, 2));
  double d = distance(got, want, N * V);
  CHECK(d < 1e-5, "encoder differs by %g", d);
  CHECK_OK(pgg_session_truncate(s, 0));
  int32_t many[N + 1] = {0};
  CHECK_FAILS(PGG_EINVAL, "n_batch is 29", pgg_session_step(s, many, NULL, N + 1, 1, got, 1));
  tiny_end(s, plan, &t);
  free(want), free(got);
}

static void test_session(void) {
  enum { V = 67 };
  tiny t = tiny_small(V);
  int32_t ids[N], bad[3] = {1, 2, V};
  tiny_ids(ids, N, V, 3);
  pgg_plan *plan = tiny_plan(&t, 8, 40, 0);
  pgg_session *s = NULL;
  float a[V], b[V];
  CHECK_FAILS(PGG_EINVAL, "expected 1 to 40", pgg_session_new(plan, 41, PGG_F32, &s));
  CHECK_FAILS(PGG_ETYPE, "cannot be q4_k", pgg_session_new(plan, 40, PGG_Q4_K, &s));
  s = tiny_session(plan, 40, PGG_F16);
  CHECK_OK(pgg_session_step(s, ids, NULL, 12, 1, a, 1));
  CHECK_FAILS(PGG_EINVAL, "position 2 is 67, expected 0 to 66", pgg_session_step(s, bad, NULL, 3, 1, b, 1));
  bad[2] = -1;
  CHECK_FAILS(PGG_EINVAL, "position 2 is -1", pgg_session_step(s, bad, NULL, 3, 1, b, 1));
  CHECK_FAILS(PGG_EINVAL, "holds 40 positions and 12 are taken", pgg_session_step(s, ids, NULL, 29, 1, b, 1));
  CHECK_FAILS(PGG_EINVAL, "expected at least 1", pgg_session_step(s, ids, NULL, 0, 0, b, 1));
  CHECK_FAILS(PGG_EINVAL, "rows wanted", pgg_session_step(s, ids, NULL, 2, 3, b, 1));
  CHECK_FAILS(PGG_EINVAL, "out is NULL", pgg_session_step(s, ids, NULL, 2, 1, NULL, 1));
  CHECK_FAILS(PGG_EINVAL, "missing", pgg_session_step(s, NULL, a, 2, 1, b, 1));
  CHECK_FAILS(PGG_EINVAL, "expected 0 to 12", pgg_session_truncate(s, 13));
  CHECK(pgg_session_n_past(s) == 12 && pgg_session_n_ctx(s) == 40, "moved");
  /* Forgotten positions leave no trace. */
  CHECK_OK(pgg_session_step(s, ids + 5, NULL, 20, 0, NULL, 2));
  CHECK_OK(pgg_session_truncate(s, 11));
  CHECK_OK(pgg_session_step(s, ids + 11, NULL, 1, 1, b, 1));
  double d = distance_f(b, a, V);
  CHECK(d < 1e-5, "after truncate: %g", d);
  /* Cancelled before it starts; then as if nothing had been. */
  pgg_session_cancel(s, 1);
  CHECK_FAILS(PGG_ECANCELLED, "cancelled", pgg_session_step(s, ids, NULL, 20, 1, b, 2));
  pgg_session_cancel(s, 1);
  CHECK_FAILS(PGG_ECANCELLED, "cancelled", pgg_session_step(s, ids, NULL, 1, 1, b, 1));
  CHECK(pgg_session_n_past(s) == 12, "cancel moved to %lld", (long long)pgg_session_n_past(s));
  CHECK_OK(pgg_session_step(s, ids + 12, NULL, 1, 1, b, 1));
  CHECK_FAILS(PGG_EINVAL, "keep_all", pgg_session_node(s, 0, b, V));
  pgg_session_free(s);
  CHECK(pgg_plan_kv_bytes(plan, PGG_F16, 40) == 2 * 2 * 2 * 256 * 64, "kv bytes %zu", /* a whole span */
        pgg_plan_kv_bytes(plan, PGG_F16, 40));
  CHECK(pgg_plan_kv_bytes(plan, PGG_Q4_K, 40) == 0, "kv type");
  CHECK(pgg_plan_kv_bytes(plan, PGG_F32, INT64_MAX / 2) == SIZE_MAX / 4, "kv overflow");
  CHECK(pgg_plan_arena_bytes(plan) > 0, "arena");
  CHECK_OK(pgg_plan_profile(plan, 1));
  s = tiny_session(plan, 40, PGG_F32);
  CHECK_OK(pgg_session_step(s, ids, NULL, 20, 1, b, 2));
  pgg_op_time times[64];
  int n = pgg_plan_times(plan, times, 64);
  CHECK(n == 34 && !strcmp(times[1].kind, "rms_norm") && times[1].calls == 3, "%d ops, %s, %lld calls", n,
        times[1].kind, (long long)times[1].calls);
  CHECK(times[n - 1].calls == 1, "head ran %lld times", (long long)times[n - 1].calls);
  tiny_end(s, plan, &t);
}

/* Damaged numbers end as an error, and the position is what it was. */
static void test_numbers(void) {
  enum { V = 67 };
  tiny t = tiny_small(V);
  ((float *)t.raw[T_LAYER + T_UP])[5] = NAN;
  pgg_plan *plan = tiny_plan(&t, 8, 40, 0);
  pgg_session *s = NULL;
  pgg_sampler *sampler = NULL;
  pgg_sampling how = {.top_p = 1, .repeat_penalty = 1};
  int32_t ids[3] = {1, 2, 3}, id;
  float out[V];
  s = tiny_session(plan, 40, PGG_F32);
  CHECK_OK(pgg_sampler_new(&how, V, &sampler));
  CHECK_FAILS(PGG_ENUMERIC, "damaged", pgg_session_step(s, ids, NULL, 3, 1, out, 1));
  CHECK_FAILS(PGG_ENUMERIC, "damaged", pgg_session_next(s, sampler, ids, 3, 1, &id));
  CHECK(pgg_session_n_past(s) == 0, "moved");
  pgg_sampler_free(sampler);
  CHECK_OK(pgg_sampler_new(&how, V + 1, &sampler));
  CHECK_FAILS(PGG_ESHAPE, "68 tokens", pgg_session_next(s, sampler, ids, 3, 1, &id));
  pgg_sampler_free(sampler);
  tiny_end(s, plan, &t);
}

static void test_nodes(void) {
  enum { V = 67 };
  tiny t = tiny_small(V);
  pgg_plan *plan = tiny_plan(&t, 8, 40, 1);
  pgg_session *s = NULL;
  int32_t ids[5] = {4, 9, 1, 0, 66};
  float out[2 * V], node[5 * 64], last[2 * V];
  s = tiny_session(plan, 40, PGG_F32);
  CHECK_FAILS(PGG_EINVAL, "has not made a step", pgg_session_node(s, 0, node, 5 * 64));
  CHECK_OK(pgg_session_step(s, ids, NULL, 5, 2, out, 2));
  CHECK_OK(pgg_session_node(s, 0, node, 5 * 64));
  for (int i = 0; i < 5; i++)
    CHECK(!memcmp(node + i * 64, t.f32[T_EMBD] + ids[i] * 64, 64 * sizeof(float)), "row %d of embed", i);
  CHECK_OK(pgg_session_node(s, 33, last, 2 * V));
  CHECK(!memcmp(last, out, sizeof last), "output node");
  CHECK_FAILS(PGG_ESHAPE, "(5, 64)", pgg_session_node(s, 0, node, 4 * 64));
  CHECK_FAILS(PGG_EINVAL, "no node 99", pgg_session_node(s, 99, node, 1));
  tiny_end(s, plan, &t);
}

static void test_shapes(void) {
  pgg_plan *plan = NULL;
  static float data[64 * 64];
  int w_embd, w_sq, w_vec, w_q, node, h, bad;
  CHECK_OK(pgg_plan_new(&plan));
  CHECK_OK(pgg_plan_weight(plan, "token_embd.weight", PGG_F32, data, 50, 32, &w_embd));
  CHECK_OK(pgg_plan_weight(plan, "blk.3.attn_q.weight", PGG_F32, data, 64, 64, &w_sq));
  CHECK_OK(pgg_plan_weight(plan, "norm.weight", PGG_F16, data, 1, 32, &w_vec));
  CHECK_OK(pgg_plan_weight(plan, "quantized.norm", PGG_Q8_0, data, 1, 32, &w_q));
  CHECK_FAILS(PGG_ETYPE, "i32 cannot be a weight", pgg_plan_weight(plan, "x", PGG_I32, data, 1, 1, &bad));
  CHECK_FAILS(PGG_ETYPE, "no tensor type 4", pgg_plan_weight(plan, "x", 4, data, 1, 1, &bad));
  CHECK_FAILS(PGG_ESHAPE, "do not fit q4_k", pgg_plan_weight(plan, "x", PGG_Q4_K, data, 1, 128, &bad));
  CHECK_FAILS(PGG_ESHAPE, "is empty", pgg_plan_weight(plan, "x", PGG_F32, data, 0, 4, &bad));
  CHECK_FAILS(PGG_ESHAPE, "larger than memory",
              pgg_plan_weight(plan, "x", PGG_F32, data, INT64_MAX / 2, INT64_MAX / 2, &bad));
  CHECK_FAILS(PGG_ESHAPE, "larger than memory", pgg_plan_weight(plan, "x", PGG_F32, data, INT64_MAX / 2, 64, &bad));
  pgg_op op = op_of(PGG_OP_MATMUL, "early", 0, -1);
  CHECK_FAILS(PGG_EINVAL, "is node 0, which is not there", pgg_plan_op(plan, &op, &bad));
  op = op_of(PGG_OP_EMBED, "embed", -1, -1);
  CHECK_FAILS(PGG_EINVAL, "no weight -1", pgg_plan_op(plan, &op, &bad));
  PGG_WEIGHT(&op, embed, table) = w_embd;
  CHECK_OK(pgg_plan_op(plan, &op, &node));
  op = op_of(PGG_OP_RMS_NORM, "blk.3.attn_norm", node, -1);
  PGG_WEIGHT(&op, rms_norm, w) = w_vec;
  PGG_INT(&op, rms_norm, seg) = 32;
  PGG_FLOAT(&op, rms_norm, eps) = NAN;
  CHECK_FAILS(PGG_EINVAL, "eps is nan", pgg_plan_op(plan, &op, &bad));
  PGG_FLOAT(&op, rms_norm, eps) = 1e-5f;
  PGG_INT(&op, rms_norm, seg) = 5;
  CHECK_FAILS(PGG_ESHAPE, "runs of 5", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, rms_norm, seg) = 32;
  PGG_WEIGHT(&op, rms_norm, w) = w_q;
  CHECK_FAILS(PGG_ETYPE, "quantized.norm is q8_0", pgg_plan_op(plan, &op, &bad));
  PGG_WEIGHT(&op, rms_norm, w) = w_sq;
  CHECK_FAILS(PGG_ESHAPE, "is (64, 64), expected (1, 32)", pgg_plan_op(plan, &op, &bad));
  PGG_WEIGHT(&op, rms_norm, w) = w_vec;
  CHECK_OK(pgg_plan_op(plan, &op, &h));
  op = op_of(PGG_OP_MATMUL, "blk.3.attn_q", h, -1);
  PGG_WEIGHT(&op, matmul, w) = w_sq;
  CHECK_FAILS(PGG_ESHAPE,
              "blk.3.attn_q: weight blk.3.attn_q.weight is (64, 64), expected (m, 32) for input blk.3.attn_norm",
              pgg_plan_op(plan, &op, &bad));
  PGG_WEIGHT(&op, matmul, w) = w_embd;
  PGG_WEIGHT(&op, matmul, bias) = w_vec;
  CHECK_FAILS(PGG_ESHAPE, "expected (1, 50)", pgg_plan_op(plan, &op, &bad));
  op = op_of(PGG_OP_ROPE, "rope", h, -1);
  PGG_INT(&op, rope, n_head) = 1, PGG_INT(&op, rope, head_dim) = 31, PGG_INT(&op, rope, n_rot) = 30;
  PGG_FLOAT(&op, rope, freq_base) = 1e4f, PGG_FLOAT(&op, rope, freq_scale) = PGG_FLOAT(&op, rope, attn_factor) = 1;
  CHECK_FAILS(PGG_ESHAPE, "has 32 columns, expected 31", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, rope, head_dim) = 32, PGG_INT(&op, rope, n_rot) = 34;
  CHECK_FAILS(PGG_EINVAL, "n_rot is 34", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, rope, n_rot) = 31;
  CHECK_FAILS(PGG_EINVAL, "even", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, rope, n_rot) = 32, PGG_FLOAT(&op, rope, ext_factor) = 1;
  CHECK_FAILS(PGG_EINVAL, "n_ctx_orig", pgg_plan_op(plan, &op, &bad));
  op = op_of(PGG_OP_ATTENTION, "attn", h, h);
  PGG_SRC(&op, attention, v) = h;
  PGG_INT(&op, attention, n_head) = 4, PGG_INT(&op, attention, n_head_kv) = 3,
                          PGG_INT(&op, attention, k_dim) = PGG_INT(&op, attention, v_dim) = 8;
  PGG_FLOAT(&op, attention, scale) = 1;
  CHECK_FAILS(PGG_EINVAL, "not a multiple", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, attention, n_head_kv) = 4;
  CHECK_OK(pgg_plan_op(plan, &op, &bad));
  CHECK_FAILS(PGG_EINVAL, "attn: state 0 is written by attn already", pgg_plan_op(plan, &op, &bad));
  int rows;
  op = op_of(PGG_OP_ROWS, "rows", h, -1);
  CHECK_OK(pgg_plan_op(plan, &op, &rows));
  op = op_of(PGG_OP_ADD, "sum", h, rows);
  CHECK_FAILS(PGG_ESHAPE, "blk.3.attn_norm is (tokens, 32), rows is (wanted, 32)", pgg_plan_op(plan, &op, &bad));
  op = op_of(PGG_OP_INPUT, "input", -1, -1);
  PGG_INT(&op, input, cols) = 8;
  CHECK_OK(pgg_plan_op(plan, &op, &bad)); /* beside ids */
  CHECK_FAILS(PGG_EINVAL, "fed by rows already", pgg_plan_op(plan, &op, &bad));
  op.kind = 99;
  CHECK_FAILS(PGG_EINVAL, "no op of kind 99", pgg_plan_op(plan, &op, &bad));
  pgg_limits limits = {8, 8, 0};
  CHECK_FAILS(PGG_EINVAL, "no output", pgg_plan_freeze(plan, &limits));
  CHECK_FAILS(PGG_EINVAL, "no node 77", pgg_plan_output(plan, 77));
  CHECK_OK(pgg_plan_output(plan, rows));
  limits.n_batch = 0;
  CHECK_FAILS(PGG_EINVAL, "n_batch is 0", pgg_plan_freeze(plan, &limits));
  limits.n_batch = 8;
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  CHECK_FAILS(PGG_EINVAL, "frozen", pgg_plan_op(plan, &op, &bad));
  pgg_session *s = NULL;
  CHECK_FAILS(PGG_ETYPE, "cached as q8_0, which needs multiples of 32", pgg_session_new(plan, 8, PGG_Q8_0, &s));
  s = tiny_session(plan, 8, PGG_F32);
  pgg_session_free(s);
  pgg_plan_free(plan);
  pgg_plan_free(NULL);
  pgg_session_free(NULL);
}

/* A plan that is fed with rows of 3 (*x) and doubles them (*y). */
static pgg_plan *input_plan(int *x, int *y) {
  pgg_plan *plan = NULL;
  CHECK_OK(pgg_plan_new(&plan));
  pgg_op op = op_of(PGG_OP_INPUT, "input", -1, -1);
  PGG_INT(&op, input, cols) = 3;
  *x = add_op(plan, op);
  op = op_of(PGG_OP_SCALE, "scale", *x, -1);
  PGG_FLOAT(&op, scale, factor) = 2;
  *y = add_op(plan, op);
  return plan;
}

/* Rows in, tokens out: a plan of softmax and sums fed with rows. */
static void test_input(void) {
  int x, y;
  float in[6] = {1, 2, 3, -1, 0, 5}, out[6];
  pgg_plan *plan = input_plan(&x, &y);
  y = add_op(plan, op_of(PGG_OP_MUL, "mul", x, y));
  CHECK_OK(pgg_plan_output(plan, add_op(plan, op_of(PGG_OP_SOFTMAX, "softmax", y, -1))));
  pgg_limits limits = {4, 8, 0};
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  CHECK(pgg_plan_input_cols(plan) == 3 && pgg_plan_output_cols(plan) == 3, "columns");
  pgg_session *s = tiny_session(plan, 8, PGG_F32);
  CHECK_OK(pgg_session_step(s, NULL, in, 2, 2, out, 1));
  for (int r = 0; r < 2; r++) {
    double sum = 0, want[3];
    for (int c = 0; c < 3; c++) sum += want[c] = exp(2.0 * in[3 * r + c] * in[3 * r + c] - 50);
    for (int c = 0; c < 3; c++) CHECK(fabs(out[3 * r + c] - want[c] / sum) < 1e-6, "softmax %d %d", r, c);
  }
  float row[3];
  CHECK_OK(pgg_session_step(s, NULL, in, 2, 1, row, 1)); /* an output of all tokens: its last rows */
  CHECK(!memcmp(row, out + 3, sizeof row), "last row");
  pgg_session_free(s);
  pgg_plan_free(plan);
}

/* Two outputs of one plan: a session returns the one that it was told. */
static void test_outputs(void) {
  int x, y;
  const float in[6] = {1, 2, 3, -1, 0, 5};
  float out[6];
  pgg_plan *plan = input_plan(&x, &y);
  pgg_op op = op_of(PGG_OP_CONCAT, "concat", y, x);
  PGG_INT(&op, concat, a_seg) = PGG_INT(&op, concat, b_seg) = 3;
  CHECK_OK(pgg_plan_output(plan, add_op(plan, op)));
  CHECK_OK(pgg_plan_output(plan, y));
  for (int i = 2; i < PGG_MAX_OUTPUTS; i++) CHECK_OK(pgg_plan_output(plan, x));
  CHECK_FAILS(PGG_EINVAL, "a plan has at most 8", pgg_plan_output(plan, x));
  pgg_limits limits = {4, 8, 0};
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  pgg_session *s = tiny_session(plan, 8, PGG_F32);
  CHECK(pgg_plan_output_cols(plan) == 6 && pgg_session_output_cols(s) == 6, "columns of the first output");
  CHECK_OK(pgg_session_step(s, NULL, in, 2, 1, out, 1));
  for (int c = 0; c < 6; c++) CHECK(out[c] == (c < 3 ? 2 * in[3 + c] : in[c]), "first output, column %d", c);
  CHECK_FAILS(PGG_EINVAL, "there is no output 8 (the plan has 8)", pgg_session_choose(s, PGG_MAX_OUTPUTS));
  CHECK_FAILS(PGG_EINVAL, "there is no output -1", pgg_session_choose(s, -1));
  CHECK_OK(pgg_session_choose(s, 1));
  CHECK(pgg_session_output_cols(s) == 3, "columns of the second output");
  CHECK_OK(pgg_session_step(s, NULL, in, 2, 2, out, 2));
  for (int c = 0; c < 6; c++) CHECK(out[c] == 2 * in[c], "second output, value %d", c);
  pgg_session_free(s);
  pgg_plan_free(plan);
}

int main(void) {
  test_reference(SHARE_NONE, PGG_F32, 64, 96, 67, 1e-5);
  test_reference(SHARE_NONE, PGG_F16, 64, 96, 67, 1e-5);
  test_reference(SHARE_NONE, PGG_Q8_0, 64, 96, 67, 3e-2);
  test_reference(SHARE_NONE, PGG_Q4_0, 256, 512, 300, 3e-2);
  test_reference(SHARE_NONE, PGG_F32, 256, 512, 2000, 1e-5);
  for (int share = 1; share < SHARE_KINDS; share++) test_reference(share, PGG_F32, 64, 96, 67, 1e-5);
  test_spans();
  test_encoder();
  test_session();
  test_numbers();
  test_nodes();
  test_shapes();
  test_input();
  test_outputs();
  return check_done("test_core");
}
