/* The scan op against the plainest C: in any pieces, on any threads, alone and together to the bit; what it refuses.
 * What sessions do with its state is as with any state of rows (test_recurrent.c). */
#include "core/session.h"
#include "pieces.h"

enum { V = 67, HEADS = 6, GROUPS = 2, K = 24, DIM = 20, CTX = 512, N = 200 };
enum { B_AT = HEADS * DIM, C_AT = B_AT + GROUPS * K, DT_AT = C_AT + GROUPS * K, D = DT_AT + HEADS, WIDE = HEADS * DIM };

static float g_table[V * D], g_a[HEADS * K], g_bias[HEADS], g_d[HEADS];
static int32_t g_ids[CTX];

/* Of the columns of a table of tokens: nothing but the op decides a bit. */
static pgg_op scan_of(pgg_plan *plan, int each) {
  const int x = add_embed(plan, add_weight(plan, "table", g_table, V, D));
  pgg_op op = op_of(PGG_OP_SCAN, "scan", add_cols(plan, "x", x, D, 0, WIDE), -1);
  PGG_SRC(&op, scan, b) = add_cols(plan, "b", x, D, B_AT, GROUPS * K);
  PGG_SRC(&op, scan, c) = add_cols(plan, "c", x, D, C_AT, GROUPS * K);
  PGG_SRC(&op, scan, dt) = add_cols(plan, "dt", x, D, DT_AT, HEADS);
  PGG_WEIGHT(&op, scan, a) = add_weight(plan, "a", g_a, 1, each ? HEADS * K : HEADS);
  PGG_WEIGHT(&op, scan, bias) = add_weight(plan, "bias", g_bias, 1, HEADS);
  PGG_WEIGHT(&op, scan, d) = each ? -1 : add_weight(plan, "d", g_d, 1, HEADS);
  PGG_INT(&op, scan, state) = 3, PGG_INT(&op, scan, each) = each;
  PGG_INT(&op, scan, n_head) = HEADS, PGG_INT(&op, scan, n_group) = GROUPS;
  PGG_INT(&op, scan, k_dim) = K, PGG_INT(&op, scan, v_dim) = DIM;
  return op;
}

static void reference(int each, double *y) {
  static double s[HEADS][DIM][K];
  memset(s, 0, sizeof s);
  for (int t = 0; t < N; t++)
    for (int h = 0; h < HEADS; h++) {
      const float *row = g_table + g_ids[t] * D, *x = row + h * DIM;
      const float *b = row + B_AT + h / (HEADS / GROUPS) * K, *c = row + C_AT + h / (HEADS / GROUPS) * K;
      const double step = log1p(exp((double)row[DT_AT + h] + g_bias[h]));
      for (int j = 0; j < DIM; j++) {
        double sum = each ? 0 : (double)g_d[h] * x[j];
        for (int i = 0; i < K; i++) {
          s[h][j][i] = s[h][j][i] * exp(step * g_a[each ? h * K + i : h]) + step * x[j] * b[i];
          sum += s[h][j][i] * c[i];
        }
        y[t * WIDE + h * DIM + j] = sum;
      }
    }
}

static pgg_plan *plan_of(int n_batch, int64_t n_ctx, int each) {
  const pgg_limits limits = {n_batch, n_ctx, 0};
  pgg_plan *plan = NULL;
  pgg_plan_bytes bytes;
  CHECK_OK(pgg_plan_new(&plan));
  CHECK_OK(pgg_plan_output(plan, add_op(plan, scan_of(plan, each))));
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  CHECK_OK(pgg_plan_memory(plan, 0, PGG_F16, n_ctx, &bytes));
  CHECK(bytes.mark == HEADS * K * DIM * sizeof(float) && !bytes.position, "a mark of %zu bytes", bytes.mark);
  return plan;
}

static void test_bits(int each) {
  static double want[N * WIDE];
  reference(each, want);
  check_pieces(&(pieces){plan_of, each, g_ids, N, CTX, WIDE, want, 2e-6});
}

static void test_refusals(void) {
  pgg_plan *plan = NULL;
  int node;
  CHECK_OK(pgg_plan_new(&plan));
  const pgg_op good = scan_of(plan, 0);
  static const float unfit[HEADS] = {1, INFINITY};
  pgg_op op = good;
  PGG_INT(&op, scan, n_group) = 4;
  CHECK_FAILS(PGG_EINVAL, "scan: n_head 6 is not a multiple of n_group 4", pgg_plan_op(plan, &op, &node));
  PGG_INT(&op, scan, n_group) = 7;
  CHECK_FAILS(PGG_EINVAL, "n_group is 7, expected 1 to 6", pgg_plan_op(plan, &op, &node));
  static const char *const said[] = {"input b has 48 columns, expected 120 (6 heads of 20)",
                                     "input x has 120 columns, expected 48 (2 heads of 24)", "expected 48",
                                     "input x has 120 columns, expected 6 (6 heads of 1)"};
  for (int i = 0; i < 4; i++) {
    op = good, op.src[i] = i ? PGG_SRC(&good, scan, x) : PGG_SRC(&good, scan, b);
    CHECK_FAILS(PGG_ESHAPE, said[i], pgg_plan_op(plan, &op, &node));
  }
  op = good;
  PGG_INT(&op, scan, each) = 1;
  CHECK_FAILS(PGG_ESHAPE, "weight a is (1, 6), expected (1, 144)", pgg_plan_op(plan, &op, &node));
  op = good;
  PGG_WEIGHT(&op, scan, d) = add_weight(plan, "short", g_d, 1, HEADS - 1);
  CHECK_FAILS(PGG_ESHAPE, "weight short is (1, 5), expected (1, 6)", pgg_plan_op(plan, &op, &node));
  op = good;
  PGG_WEIGHT(&op, scan, bias) = add_weight(plan, "unfit", unfit, 1, HEADS);
  CHECK_FAILS(PGG_ENUMERIC, "value 1 of unfit is inf", pgg_plan_op(plan, &op, &node));
  CHECK_OK(pgg_plan_op(plan, &good, &node));
  op = good, op.name = "again";
  CHECK_FAILS(PGG_EINVAL, "again: state 3 is written by scan already", pgg_plan_op(plan, &op, &node));
  pgg_plan_free(plan);
}

int main(void) {
  uint64_t seed = 5;
  for (int i = 0; i < V * D; i++) g_table[i] = check_random(&seed);
  for (int i = 0; i < HEADS * K; i++) g_a[i] = -0.05f - 0.4f * (check_random(&seed) + 1);
  for (int h = 0; h < HEADS; h++) g_bias[h] = 0.4f * (float)(h - 3), g_d[h] = check_random(&seed);
  tiny_ids(g_ids, CTX, V, 11);
  test_refusals();
  for (int each = 0; each < 2; each++) test_bits(each);
  return check_done("test_scan");
}
