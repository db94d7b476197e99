/* Encoding over the seam of backends: a plan that attends to a source gives the bits of the one that runs on the CPU
 * alone, wherever it is cut, on one thread and on two; what a device refuses leaves the session as it was. */
#include "backends/mirror/mirror.h"
#include "tiny_plan.h"

enum { V = 67, CTX = 64, BATCH = 600, N_SOURCE = 530, N = 9, MIRROR = 1, SECOND = 2 };

static pgg_op attention_of(const tiny *t, const char *name, int q, int k, int v, int state, int causal) {
  pgg_op op = op_of(PGG_OP_ATTENTION, name, q, k);
  PGG_SRC(&op, attention, v) = v;
  PGG_WEIGHT(&op, attention, sinks) = -1;
  PGG_INT(&op, attention, keys) = PGG_INT(&op, attention, values) = state;
  PGG_INT(&op, attention, n_head) = t->n_head;
  PGG_INT(&op, attention, n_head_kv) = t->n_head_kv;
  PGG_INT(&op, attention, k_dim) = PGG_INT(&op, attention, v_dim) = t->dim;
  PGG_INT(&op, attention, causal) = causal;
  PGG_FLOAT(&op, attention, scale) = 1.0f / sqrtf((float)t->dim);
  return op;
}

static int embed_of(pgg_plan *plan, const char *name, int table, int source) {
  pgg_op op = op_of(PGG_OP_EMBED, name, -1, -1);
  PGG_WEIGHT(&op, embed, table) = table;
  PGG_INT(&op, embed, source) = source;
  return add_op(plan, op);
}

/* Attention of x to itself, back to its width, and x. */
static int layer(pgg_plan *plan, const tiny *t, const int *w, int x, int state, int causal) {
  const int b = state * T_LAYER, h = add_norm(plan, "norm", x, w[b + T_NORM], t->n_embd);
  const int q = add_matmul(plan, "q", h, w[b + T_Q], w[T_BIAS]), k = add_matmul(plan, "k", h, w[b + T_K], -1);
  const int v = add_matmul(plan, "v", h, w[b + T_V], -1);
  const int seen = add_op(plan, attention_of(t, "attention", q, k, v, state, causal));
  return add_op(plan, op_of(PGG_OP_ADD, "add", x, add_matmul(plan, "o", seen, w[b + T_O], -1)));
}

/* A layer that reads, a layer of the text that attends to itself, and one that attends to what was read. */
static pgg_plan *open_plan(const tiny *t) {
  pgg_plan *plan = NULL;
  int w[T_COUNT];
  char name[32];
  CHECK_OK(pgg_plan_new(&plan));
  for (int i = 0; i < T_COUNT; i++) {
    snprintf(name, sizeof name, "w%d", i);
    CHECK_OK(
        pgg_plan_weight(plan, name, t->rows[i] == 1 ? PGG_F32 : t->type, t->raw[i], t->rows[i], t->cols[i], &w[i]));
  }
  const int read = layer(plan, t, w, embed_of(plan, "read", w[T_EMBD], 1), 0, 0);
  int x = layer(plan, t, w, embed_of(plan, "embed", w[T_EMBD], 0), 1, 1);
  const int q = add_matmul(plan, "cross_q", add_norm(plan, "cross_norm", x, w[T_FFN], t->n_embd), w[T_Q], -1);
  const int k = add_matmul(plan, "cross_k", read, w[T_K], -1), v = add_matmul(plan, "cross_v", read, w[T_V], -1);
  const int seen = add_op(plan, attention_of(t, "cross", q, k, v, 2, 0));
  x = add_op(plan, op_of(PGG_OP_ADD, "add", x, add_matmul(plan, "cross_o", seen, w[T_O], -1)));
  x = add_op(plan, op_of(PGG_OP_ROWS, "rows", x, -1));
  x = add_matmul(plan, "head", add_norm(plan, "norm", x, w[T_OUT_NORM], t->n_embd), w[T_EMBD], -1);
  CHECK_OK(pgg_plan_output(plan, x));
  return plan;
}

static void freeze(pgg_plan *plan) {
  const pgg_limits limits = {BATCH, CTX, 0};
  CHECK_OK(pgg_plan_freeze(plan, &limits));
}

/* Logits of a text in pieces after each of two sources. */
static void ask(pgg_plan *plan, int threads, float *rows) {
  int32_t source[N_SOURCE], ids[N];
  pgg_session *s = tiny_session(plan, CTX, PGG_F16);
  for (int i = 0; i < 2; i++, rows += N * V) {
    tiny_ids(source, N_SOURCE, V, (uint64_t)i + 3);
    tiny_ids(ids, N, V, 1);
    CHECK_OK(pgg_session_truncate(s, 0));
    CHECK_OK(pgg_session_encode(s, source, NULL, i ? 17 : N_SOURCE, threads));
    CHECK(pgg_session_n_source(s) == (i ? 17 : N_SOURCE), "%d rows", (int)pgg_session_n_source(s));
    CHECK_OK(pgg_session_step(s, ids, NULL, 5, 5, rows, threads));
    CHECK_OK(pgg_session_step(s, ids + 5, NULL, 1, 1, rows + 5 * V, threads));
    CHECK_OK(pgg_session_step(s, ids + 6, NULL, N - 6, N - 6, rows + 6 * V, threads));
  }
  pgg_session_free(s);
}

static void same(const float *want, pgg_plan *plan, const char *what, int at) {
  static float got[2 * N * V];
  for (int threads = 1; threads <= 2; threads++) {
    ask(plan, threads, got);
    CHECK(!memcmp(got, want, sizeof got), "%s %d, %d threads: other bits", what, at, threads);
  }
  pgg_plan_free(plan);
}

static void test_cuts(int type) {
  static float want[2 * N * V];
  tiny t = tiny_make(type, 256, 8, 4, 32, 512, V);
  pgg_plan *plan = open_plan(&t);
  const int n = pgg_plan_times(plan, NULL, 0);
  freeze(plan);
  ask(plan, 1, want);
  CHECK(memcmp(want, want + N * V, N * V * sizeof *want) != 0, "another source makes no difference");
  same(want, plan, "whole", 0);
  for (int at = 0; at < n; at++) {
    plan = open_plan(&t); /* from an op on */
    CHECK_OK(pgg_plan_place(plan, at, n - 1, MIRROR));
    freeze(plan);
    same(want, plan, "from op", at);
  }
  plan = open_plan(&t); /* each op on another device than the one before */
  for (int at = 0; at < n; at++) CHECK_OK(pgg_plan_place(plan, at, at, at % 3));
  freeze(plan);
  same(want, plan, "every op", n);
  tiny_free(&t);
}

/* Each call of a device refused once: the source that was there stays, and nothing is lost. */
static void test_failures(void) {
  static float want[V], got[V];
  tiny t = tiny_small(V);
  int32_t source[40], other[40], id = 3;
  tiny_ids(source, 40, V, 1);
  tiny_ids(other, 40, V, 2);
  pgg_plan *plan = open_plan(&t);
  CHECK_OK(pgg_plan_place(plan, 0, pgg_plan_times(plan, NULL, 0) - 1, MIRROR));
  freeze(plan);
  pgg_session *s = tiny_session(plan, CTX, PGG_F32);
  CHECK_FAILS(PGG_EINVAL, "none was encoded", pgg_session_step(s, &id, NULL, 1, 1, got, 1));
  CHECK_OK(pgg_session_encode(s, source, NULL, 40, 1));
  CHECK_OK(pgg_session_step(s, &id, NULL, 1, 1, want, 1));
  CHECK_FAILS(PGG_EINVAL, "truncate it to 0 first", pgg_session_encode(s, other, NULL, 40, 1));
  CHECK_OK(pgg_session_truncate(s, 0));
  int refused = 0;
  for (mirror_call call = MIRROR_ALLOC; call < MIRROR_CALLS; call++)
    for (int after = 0;; after++) {
      mirror_fails = call;
      mirror_after = after;
      const pgg_status status = pgg_session_encode(s, other, NULL, 40, 1);
      mirror_fails = MIRROR_NONE;
      if (!status) {
        CHECK_OK(pgg_session_encode(s, source, NULL, 40, 1));
        break;
      }
      refused++;
      CHECK(pgg_session_n_source(s) == 40, "the source is gone");
      CHECK_OK(pgg_session_step(s, &id, NULL, 1, 1, got, 1));
      CHECK(!memcmp(got, want, sizeof got), "call %d, %d: another source", (int)call, after);
      CHECK_OK(pgg_session_truncate(s, 0));
    }
  CHECK(refused > 2, "only %d calls were refused", refused);
  pgg_session_free(s);
  pgg_plan_free(plan);
  tiny_free(&t);
  CHECK_GIVEN_BACK();
}

int main(void) {
  test_cuts(PGG_F32);
  test_cuts(PGG_Q8_0);
  test_failures();
  return check_done("encode");
}
