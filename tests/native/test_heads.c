/* heads against the plainest C in double: types, odd sizes, prompt and decode rows; any number of threads gives the
 * same bits. temper and chunks of attention are checked from Python. */
#include "tiny_plan.h"

typedef struct heads {
  int type, n_head, k, m;
  double bound;
} heads;

static pgg_plan *plan_of(const heads *x, const void *raw, int n_batch) {
  pgg_plan *plan = NULL;
  int w;
  CHECK_OK(pgg_plan_new(&plan));
  CHECK_OK(pgg_plan_weight(plan, "w", x->type, raw, (int64_t)x->n_head * x->m, x->k, &w));
  pgg_op op = op_of(PGG_OP_INPUT, "input", -1, -1);
  PGG_INT(&op, input, cols) = x->n_head * x->k;
  op = op_of(PGG_OP_HEADS, "heads", add_op(plan, op), -1);
  PGG_WEIGHT(&op, heads, w) = w;
  PGG_INT(&op, heads, n_head) = x->n_head;
  CHECK_OK(pgg_plan_output(plan, add_op(plan, op)));
  pgg_limits limits = {n_batch, 4096, 0};
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  return plan;
}

static void run(pgg_plan *plan, const float *in, int n, int threads, float *out, size_t bytes) {
  pgg_session *s = NULL;
  CHECK_OK(pgg_session_new(plan, 4096, PGG_F32, &s));
  memset(out, 0x55, bytes);
  CHECK_OK(pgg_session_step(s, NULL, in, n, n, out, threads));
  pgg_session_free(s);
}

static void test_heads(heads x) {
  enum { N = 37 };
  const int64_t rows = (int64_t)x.n_head * x.m, cols = (int64_t)x.n_head * x.k;
  const size_t size = (size_t)(N * rows) * sizeof(float);
  uint64_t seed = 3;
  float *w = malloc((size_t)(rows * x.k) * sizeof *w), *in = malloc((size_t)(N * cols) * sizeof *in);
  float *got = malloc(size), *again = malloc(size);
  double *want = malloc(2 * size);
  void *raw = malloc((size_t)rows * pgg_row_bytes(x.type, x.k));
  for (int64_t i = 0; i < rows * x.k; i++) w[i] = check_random(&seed);
  for (int64_t i = 0; i < N * cols; i++) in[i] = check_random(&seed);
  CHECK_OK(pgg_quantize(x.type, w, raw, rows, x.k, NULL, 1));
  CHECK_OK(pgg_dequantize(x.type, raw, w, rows, x.k, 1));
  for (int64_t t = 0; t < N; t++)
    for (int64_t r = 0; r < rows; r++) {
      want[t * rows + r] = 0;
      for (int64_t c = 0; c < x.k; c++)
        want[t * rows + r] += (double)w[r * x.k + c] * (double)in[t * cols + r / x.m * x.k + c];
    }
  const int counts[] = {1, 2, 9, N};
  for (int i = 0; i < 4; i++) {
    const int n = counts[i];
    pgg_plan *plan = plan_of(&x, raw, n);
    run(plan, in, n, 1, got, size);
    const double d = distance(got, want, n * rows);
    CHECK(d <= x.bound, "type %d, %d heads of (%d, %d), %d rows: differs by %g", x.type, x.n_head, x.m, x.k, n, d);
    for (int threads = 2; threads <= 3; threads++) {
      run(plan, in, n, threads, again, size);
      CHECK(!memcmp(got, again, (size_t)(n * rows) * sizeof *got), "type %d, %d rows, other bits on %d threads", x.type,
            n, threads);
    }
    pgg_plan_free(plan);
  }
  free(w), free(in), free(got), free(again), free(want), free(raw);
}

static void test_refusals(void) {
  float ones[6 * 4] = {0};
  pgg_plan *plan = NULL;
  int w, bad;
  CHECK_OK(pgg_plan_new(&plan));
  CHECK_OK(pgg_plan_weight(plan, "w", PGG_F32, ones, 6, 4, &w));
  pgg_op op = op_of(PGG_OP_INPUT, "input", -1, -1);
  PGG_INT(&op, input, cols) = 8;
  op = op_of(PGG_OP_HEADS, "heads", add_op(plan, op), -1);
  PGG_WEIGHT(&op, heads, w) = w;
  CHECK_FAILS(PGG_EINVAL, "n_head is 0, expected 1 to", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, heads, n_head) = 4;
  CHECK_FAILS(PGG_ESHAPE, "w is (6, 4), expected (4 * m, k) for input input of 4 * k = 8",
              pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, heads, n_head) = 3;
  CHECK_FAILS(PGG_ESHAPE, "w is (6, 4), expected (3 * m, k)", pgg_plan_op(plan, &op, &bad));
  PGG_INT(&op, heads, n_head) = 2;
  add_op(plan, op);
  pgg_plan_free(plan);
}

int main(void) {
  const char *levels[16];
  const int n = pgg_isa_list(levels, 16);
  for (int i = 0; i < n; i++) { /* every level this CPU runs */
    CHECK_OK(pgg_isa_force(levels[i]));
    const int before = check_failures;
    test_heads((heads){PGG_F32, 3, 16, 40, 1e-5});
    test_heads((heads){PGG_F32, 1, 5, 7, 1e-5});
    test_heads((heads){PGG_F16, 8, 48, 33, 1e-5});
    test_heads((heads){PGG_BF16, 2, 32, 64, 1e-2}); /* pairs round the activations too */
    test_heads((heads){PGG_Q8_0, 4, 128, 96, 1e-2});
    test_heads((heads){PGG_Q4_K, 2, 512, 16, 1e-2});
    CHECK(check_failures == before, "level %s", levels[i]);
  }
  test_refusals();
  return check_done("test_heads");
}
