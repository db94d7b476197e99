/* The delta op against the plainest C: in any pieces, on any threads, alone and together to the bit; what it refuses.
 * What sessions do with its state is as with any state of rows (test_recurrent.c). */
#include "core/session.h"
#include "tiny_plan.h"

enum { V = 67, HEADS = 4, HEADS_K = 2, K = 12, DIM = 40, CTX = 512, N = 200 };
enum { Q_AT = 0, K_AT = HEADS_K * K, V_AT = 2 * HEADS_K * K, A_AT = V_AT + HEADS * DIM, B_AT = A_AT + HEADS };
enum { D = B_AT + HEADS, WIDE = HEADS * DIM };

static float g_table[V * D], g_a[HEADS], g_dt[HEADS];
static int32_t g_ids[CTX];

static int add_weight(pgg_plan *plan, const char *name, const float *data, int64_t rows, int64_t cols) {
  int index = -1;
  CHECK_OK(pgg_plan_weight(plan, name, PGG_F32, data, rows, cols, &index));
  return index;
}

static int part(pgg_plan *plan, const char *name, int x, int64_t start, int64_t n) {
  pgg_op op = op_of(PGG_OP_COLS, name, x, -1);
  PGG_INT(&op, cols, seg) = D, PGG_INT(&op, cols, start) = start, PGG_INT(&op, cols, n) = n;
  return add_op(plan, op);
}

/* Of the columns of a table of tokens: nothing but the rule decides a bit. */
static pgg_op delta_of(pgg_plan *plan, int grouped) {
  pgg_op embed = op_of(PGG_OP_EMBED, "embed", -1, -1);
  PGG_WEIGHT(&embed, embed, table) = add_weight(plan, "table", g_table, V, D);
  const int x = add_op(plan, embed);
  pgg_op op =
      op_of(PGG_OP_DELTA, "delta", part(plan, "q", x, Q_AT, HEADS_K * K), part(plan, "k", x, K_AT, HEADS_K * K));
  PGG_SRC(&op, delta, v) = part(plan, "v", x, V_AT, WIDE);
  PGG_SRC(&op, delta, alpha) = part(plan, "alpha", x, A_AT, HEADS);
  PGG_SRC(&op, delta, beta) = part(plan, "beta", x, B_AT, HEADS);
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

static void test_bits(int grouped) {
  enum { MANY = 4 };
  static double want[N * WIDE];
  static float whole[N * WIDE], got[N * WIDE], both[MANY * N * WIDE];
  static const int batches[] = {512, 48, 1};
  reference(grouped, want);
  for (int b = 0; b < 3; b++) {
    pgg_plan *plan = NULL;
    const pgg_limits limits = {batches[b], CTX, 0};
    CHECK_OK(pgg_plan_new(&plan));
    CHECK_OK(pgg_plan_output(plan, add_op(plan, delta_of(plan, grouped))));
    CHECK_OK(pgg_plan_freeze(plan, &limits));
    pgg_plan_bytes bytes;
    CHECK_OK(pgg_plan_memory(plan, 0, PGG_F16, CTX, &bytes));
    CHECK(bytes.mark == HEADS * K * DIM * sizeof(float) && !bytes.position, "a mark of %zu bytes", bytes.mark);
    pgg_session *s = tiny_session(plan, CTX, PGG_F16);
    for (int threads = 1; threads <= 3; threads++) {
      uint64_t seed = (uint64_t)threads;
      for (int way = 0; way < 3; way++) { /* whole, one by one, in pieces of any length */
        CHECK_OK(pgg_session_truncate(s, 0));
        for (int64_t at = 0, n; at < N; at += n) {
          n = way == 0 ? N : way == 1 ? 1 : pgg_min_i64(N - at, 1 + (int64_t)((check_random(&seed) + 1) * 9));
          CHECK_OK(pgg_session_step(s, g_ids + at, NULL, n, n, got + at * WIDE, threads));
        }
        if (!b && !way && threads == 1) {
          memcpy(whole, got, sizeof got);
          CHECK(distance(whole, want, N * WIDE) < 2e-6, "differs by %g", distance(whole, want, N * WIDE));
        }
        CHECK(!memcmp(whole, got, sizeof got), "n_batch %d, threads %d, way %d: other bits", batches[b], threads, way);
      }
    }
    pgg_session *many[MANY]; /* together, each at a place of its own */
    int64_t counts[MANY], n = 0;
    int32_t ids[MANY * N];
    for (int i = 0; i < MANY; n += counts[i++]) {
      many[i] = tiny_session(plan, CTX, PGG_F16);
      if (i) CHECK_OK(pgg_session_step(many[i], g_ids, NULL, 17 * i, 0, NULL, 1));
      memcpy(ids + n, g_ids + 17 * i, (size_t)(counts[i] = 1 + 30 * i) * sizeof *ids);
    }
    CHECK_OK(pgg_plan_step(plan, many, counts, MANY, ids, counts, both, 2));
    for (int i = 0, at = 0; i < MANY; at += (int)counts[i++])
      CHECK(!memcmp(both + at * WIDE, whole + 17 * i * WIDE, (size_t)(counts[i] * WIDE) * sizeof(float)),
            "n_batch %d, sequence %d: other bits together", batches[b], i);
    for (int i = 0; i < MANY; i++) pgg_session_free(many[i]);
    pgg_session_free(s);
    pgg_plan_free(plan);
  }
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
