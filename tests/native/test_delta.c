/* The delta op against the plainest C: in any pieces, on any threads, alone and together to the bit; what it refuses.
 * What sessions do with its state is as with any state of rows (test_recurrent.c). */
#include "core/session.h"
#include "pieces.h"

enum { V = 67, HEADS = 4, HEADS_K = 2, K = 12, DIM = 40, CTX = 512, N = 200 };
enum { Q_AT = 0, K_AT = HEADS_K * K, V_AT = 2 * HEADS_K * K, A_AT = V_AT + HEADS * DIM, B_AT = A_AT + HEADS };
enum { D = B_AT + HEADS, WIDE = HEADS * DIM };

static float g_table[V * D], g_a[HEADS], g_dt[HEADS];
static int32_t g_ids[CTX];

/* Of the columns of a table of tokens: nothing but the rule decides a bit. */
static pgg_op delta_of(pgg_plan *plan, int grouped) {
  const int x = add_embed(plan, add_weight(plan, "table", g_table, V, D));
  pgg_op op = op_of(PGG_OP_DELTA, "delta", add_cols(plan, "q", x, D, Q_AT, HEADS_K * K),
                    add_cols(plan, "k", x, D, K_AT, HEADS_K * K));
  PGG_SRC(&op, delta, v) = add_cols(plan, "v", x, D, V_AT, WIDE);
  PGG_SRC(&op, delta, alpha) = add_cols(plan, "alpha", x, D, A_AT, HEADS);
  PGG_SRC(&op, delta, beta) = add_cols(plan, "beta", x, D, B_AT, HEADS);
  PGG_WEIGHT(&op, delta, a) = add_weight(plan, "a", g_a, 1, HEADS);
  PGG_WEIGHT(&op, delta, dt) = add_weight(plan, "dt", g_dt, 1, HEADS);
  PGG_INT(&op, delta, state) = 3, PGG_INT(&op, delta, grouped) = grouped;
  PGG_INT(&op, delta, n_head) = HEADS, PGG_INT(&op, delta, n_head_k) = HEADS_K;
  PGG_INT(&op, delta, k_dim) = K, PGG_INT(&op, delta, v_dim) = DIM;
  PGG_FLOAT(&op, delta, scale) = 0.3f;
  return op;
}

static void reference(int grouped, double *y) {
  static double s[HEADS][K][DIM];
  memset(s, 0, sizeof s);
  for (int t = 0; t < N; t++)
    for (int h = 0; h < HEADS; h++) {
      const float *row = g_table + g_ids[t] * D, *v = row + V_AT + h * DIM;
      const int of = grouped ? h / (HEADS / HEADS_K) : h % HEADS_K;
      const float *q = row + Q_AT + of * K, *k = row + K_AT + of * K;
      const double decay = exp(g_a[h] * log1p(exp((double)row[A_AT + h] + g_dt[h])));
      const double share = 1 / (1 + exp(-(double)row[B_AT + h]));
      for (int c = 0; c < DIM; c++) {
        double said = 0, read = 0;
        for (int i = 0; i < K; i++) said += (s[h][i][c] *= decay) * k[i];
        for (int i = 0; i < K; i++) read += (s[h][i][c] += k[i] * share * (v[c] - said)) * q[i];
        y[t * WIDE + h * DIM + c] = read * (double)0.3f;
      }
    }
}

static pgg_plan *plan_of(int n_batch, int64_t n_ctx, int grouped) {
  const pgg_limits limits = {n_batch, n_ctx, 0};
  pgg_plan *plan = NULL;
  pgg_plan_bytes bytes;
  CHECK_OK(pgg_plan_new(&plan));
  CHECK_OK(pgg_plan_output(plan, add_op(plan, delta_of(plan, grouped))));
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  CHECK_OK(pgg_plan_memory(plan, 0, PGG_F16, n_ctx, &bytes));
  CHECK(bytes.mark == HEADS * K * DIM * sizeof(float) && !bytes.position, "a mark of %zu bytes", bytes.mark);
  return plan;
}

static void test_bits(int grouped) {
  static double want[N * WIDE];
  reference(grouped, want);
  check_pieces(&(pieces){plan_of, grouped, g_ids, N, CTX, WIDE, want, 2e-6});
}

static void test_refusals(void) {
  pgg_plan *plan = NULL;
  int node;
  CHECK_OK(pgg_plan_new(&plan));
  const pgg_op good = delta_of(plan, 0);
  static const float unfit[HEADS] = {1, INFINITY};
  pgg_op op = good;
  PGG_INT(&op, delta, n_head_k) = 3;
  CHECK_FAILS(PGG_EINVAL, "delta: n_head 4 is not a multiple of n_head_k 3", pgg_plan_op(plan, &op, &node));
  PGG_INT(&op, delta, n_head_k) = 5;
  CHECK_FAILS(PGG_EINVAL, "n_head_k is 5, expected 1 to 4", pgg_plan_op(plan, &op, &node));
  for (int i = 0; i < 5; i++) {
    static const char *const said[] = {"input v has 160 columns, expected 24 (2 heads of 12)", "expected 24",
                                       "expected 160 (4 heads of 40)", "expected 4 (4 heads of 1)", "expected 4"};
    op = good, op.src[i] = PGG_SRC(&good, delta, v) + (i == 2);
    CHECK_FAILS(PGG_ESHAPE, said[i], pgg_plan_op(plan, &op, &node));
  }
  op = good;
  PGG_WEIGHT(&op, delta, a) = add_weight(plan, "short", g_a, 1, HEADS - 1);
  CHECK_FAILS(PGG_ESHAPE, "weight short is (1, 3), expected (1, 4)", pgg_plan_op(plan, &op, &node));
  op = good;
  PGG_WEIGHT(&op, delta, dt) = add_weight(plan, "unfit", unfit, 1, HEADS);
  CHECK_FAILS(PGG_ENUMERIC, "value 1 of unfit is inf", pgg_plan_op(plan, &op, &node));
  CHECK_OK(pgg_plan_op(plan, &good, &node));
  op = good, op.name = "again";
  CHECK_FAILS(PGG_EINVAL, "again: state 3 is written by delta already", pgg_plan_op(plan, &op, &node));
  pgg_plan_free(plan);
}

int main(void) {
  uint64_t seed = 5;
  for (int i = 0; i < V * D; i++)
    g_table[i] = check_random(&seed) * (i % D < V_AT ? 0.45f : i % D < A_AT ? 1.0f : 3.0f);
  for (int h = 0; h < HEADS; h++) g_a[h] = -0.02f - 0.1f * (float)h, g_dt[h] = 0.2f * (float)(h - 2);
  tiny_ids(g_ids, CTX, V, 11);
  test_refusals();
  for (int grouped = 0; grouped < 2; grouped++) test_bits(grouped);
  return check_done("test_delta");
}
