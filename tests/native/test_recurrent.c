/* States of rows: a convolution against the plainest C, in any pieces, on any threads, alone and together to the bit;
 * and what a session does with them: steps that fail, marks, forks, saved states, memory, what is refused by name. */
#include "backends/mirror/mirror.h"
#include "core/session.h"
#include "fork_race.h"
#include "pieces.h"
#include "seal.h"

enum { V = 67, D = 96, TAPS_1 = 3, TAPS_2 = 4, CTX = 2048, BATCH = 48, MIRROR = 1, HEADS = 3, DIM = 32 };

static float g_table[V * D], g_w1[D * TAPS_1], g_w2[D * TAPS_2], g_bias[D], g_square[4][D * D], g_head[V * D];
static int32_t g_ids[CTX];
static int g_type = PGG_F32; /* of the states */

static void fill(float *x, size_t n, float scale, uint64_t seed) {
  for (size_t i = 0; i < n; i++) x[i] = scale * check_random(&seed);
}

static pgg_op conv_of(const char *name, int x, int w, int bias, int state) {
  pgg_op op = op_of(PGG_OP_CONV, name, x, -1);
  PGG_WEIGHT(&op, conv, w) = w;
  PGG_WEIGHT(&op, conv, bias) = bias;
  PGG_INT(&op, conv, state) = state;
  PGG_INT(&op, conv, type) = g_type;
  return op;
}

/* table -> conv -> conv of its square -> all rows: nothing but convolutions decides a bit. */
static pgg_plan *bare_plan(int n_batch, int64_t n_ctx, int how) {
  pgg_plan *plan = NULL;
  (void)how;
  CHECK_OK(pgg_plan_new(&plan));
  int x = add_embed(plan, add_weight(plan, "table", g_table, V, D));
  x = add_op(plan, conv_of("c1", x, add_weight(plan, "w1", g_w1, D, TAPS_1), add_weight(plan, "b", g_bias, 1, D), 7));
  x = add_op(plan, op_of(PGG_OP_MUL, "square", x, x));
  x = add_op(plan, conv_of("c2", x, add_weight(plan, "w2", g_w2, D, TAPS_2), -1, 0));
  CHECK_OK(pgg_plan_output(plan, x));
  const pgg_limits limits = {n_batch, n_ctx, 0};
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  return plan;
}

/* A value as the states keep it. */
static double kept(double x) {
  if (g_type == PGG_F16) return pgg_f16_to_f32(pgg_f32_to_f16((float)x));
  return g_type == PGG_BF16 ? pgg_bf16_to_f32(pgg_f32_to_bf16((float)x)) : x;
}

static void reference(const int32_t *ids, int n, double *y) {
  double *square = calloc((size_t)n * D, sizeof *square);
  for (int t = 0; t < n; t++)
    for (int c = 0; c < D; c++) {
      double sum = g_bias[c];
      for (int j = 0; j < TAPS_1; j++)
        if (t - TAPS_1 + 1 + j >= 0) sum += g_w1[c * TAPS_1 + j] * kept(g_table[ids[t - TAPS_1 + 1 + j] * D + c]);
      square[t * D + c] = sum * sum;
    }
  for (int t = 0; t < n; t++)
    for (int c = 0; c < D; c++) {
      y[t * D + c] = 0;
      for (int j = 0; j < TAPS_2; j++)
        if (t - TAPS_2 + 1 + j >= 0) y[t * D + c] += g_w2[c * TAPS_2 + j] * kept(square[(t - TAPS_2 + 1 + j) * D + c]);
    }
  free(square);
}

/* Nobody has a session any more: nothing is held. */
static void end(pgg_plan *plan) {
  CHECK(pgg_plan_cache_bytes(plan) == 0, "%zu bytes were not given back", pgg_plan_cache_bytes(plan));
  pgg_plan_close(plan), pgg_plan_free(plan);
  CHECK_GIVEN_BACK();
}

static void test_bits(void) {
  enum { N = 300 };
  static double want[N * D];
  reference(g_ids, N, want);
  /* a square may lie between two that can be kept: floats and doubles round it to one or the other */
  const double bound = g_type == PGG_F32 ? 1e-6 : g_type == PGG_F16 ? 6e-4 : 5e-3;
  check_pieces(&(pieces){bare_plan, 0, g_ids, N, CTX, D, want, bound});
  CHECK_GIVEN_BACK();
}

/* ---- beside attention, on two devices --------------------------------------------------------------------- */

static pgg_op attention_of(int q, int k, int v, int state) {
  pgg_op op = op_of(PGG_OP_ATTENTION, "attention", q, k);
  PGG_SRC(&op, attention, v) = v;
  PGG_INT(&op, attention, keys) = PGG_INT(&op, attention, values) = state;
  PGG_INT(&op, attention, n_head) = HEADS, PGG_INT(&op, attention, n_head_kv) = 1;
  PGG_INT(&op, attention, k_dim) = PGG_INT(&op, attention, v_dim) = DIM;
  PGG_INT(&op, attention, causal) = 1;
  PGG_INT(&op, attention, window) = 300;
  PGG_FLOAT(&op, attention, scale) = 0.2f;
  return op;
}

/* table -> product -> conv (along with it) -> attention in a window -> conv -> logits; the second half on device. */
static pgg_plan *mixed_plan(int device) {
  pgg_plan *plan = NULL;
  const pgg_limits limits = {BATCH, CTX, 0};
  CHECK_OK(pgg_plan_new(&plan));
  const int x = add_embed(plan, add_weight(plan, "table", g_table, V, D));
  int h = add_matmul(plan, "m", x, add_weight(plan, "m", g_square[0], D, D), -1);
  h = add_op(plan, conv_of("c1", h, add_weight(plan, "w1", g_w1, D, TAPS_1), -1, 0));
  h = add_op(plan, op_of(PGG_OP_ADD, "add", x, h));
  const int q = add_matmul(plan, "q", h, add_weight(plan, "q", g_square[1], D, D), -1);
  const int k = add_matmul(plan, "k", h, add_weight(plan, "k", g_square[2], DIM, D), -1);
  const int v = add_matmul(plan, "v", h, add_weight(plan, "v", g_square[3], DIM, D), -1);
  h = add_op(plan, op_of(PGG_OP_ADD, "add", h, add_op(plan, attention_of(q, k, v, 1))));
  h = add_op(plan, conv_of("c2", h, add_weight(plan, "w2", g_w2, D, TAPS_2), add_weight(plan, "b", g_bias, 1, D), 2));
  h = add_matmul(plan, "head", add_op(plan, op_of(PGG_OP_ROWS, "rows", h, -1)), add_weight(plan, "head", g_head, V, D),
                 -1);
  CHECK_OK(pgg_plan_output(plan, h));
  if (device) CHECK_OK(pgg_plan_place(plan, 6, plan->n_op - 1, device));
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  return plan;
}

static pgg_session *new_session(pgg_plan *plan) { return tiny_session(plan, CTX, PGG_F32); }

static void step(pgg_session *session, int64_t at, int64_t n, float *out) {
  CHECK_OK(pgg_session_step(session, g_ids + at, NULL, n, out ? 1 : 0, out, 2));
}

static void same_next(pgg_session *a, pgg_session *b, const char *what) {
  float want[V], got[V];
  for (int i = 0; i < 3; i++) { /* a convolution of both kinds looks back so far */
    step(a, 40 + i, 1 + i, want);
    step(b, 40 + i, 1 + i, got);
    CHECK(!memcmp(want, got, sizeof got), "%s: other bits", what);
  }
}

/* A step of one piece or many that is cancelled, or whose memory is refused, has changed nothing. */
static void test_rollback(void) {
  pgg_plan *plan = mixed_plan(MIRROR);
  pgg_session *s = new_session(plan), *calm = new_session(plan);
  float got[V];
  for (int64_t at = 0; at < 600; at += 120) {
    for (int runs = 1; runs < 12; runs += 3) {
      mirror_cancel(s, runs);
      CHECK_FAILS(PGG_ECANCELLED, "cancelled", pgg_session_step(s, g_ids + at, NULL, 700, 1, got, 2));
      mirror_cancel(NULL, 0);
      CHECK(pgg_session_n_past(s) == at, "at %lld", (long long)pgg_session_n_past(s));
    }
    step(s, at, 120, NULL);
    step(calm, at, 120, NULL);
  }
  pgg_session *fork = NULL; /* whose next state needs memory of its own */
  CHECK_OK(pgg_session_fork(s, &fork));
  mirror_fails = MIRROR_ALLOC;
  CHECK_FAILS(PGG_EBACKEND, "alloc was told to fail", pgg_session_step(fork, g_ids, NULL, 1, 1, got, 1));
  mirror_fails = MIRROR_NONE;
  CHECK(pgg_session_n_past(fork) == 600, "moved");
  same_next(calm, fork, "after a refusal");
  pgg_session_free(s), pgg_session_free(calm), pgg_session_free(fork);
  end(plan);
}

/* Marks are the places to go back to. */
static void test_marks(int device) {
  pgg_plan *plan = mixed_plan(device);
  pgg_session *s = new_session(plan), *at_40 = new_session(plan), *at_100 = new_session(plan);
  CHECK_OK(pgg_session_mark(s)); /* the beginning is one anyway */
  step(s, 0, 40, NULL), step(at_40, 0, 40, NULL), step(at_100, 0, 40, NULL);
  CHECK(pgg_session_reach(s) == 40 && pgg_session_back(s, 39) == 0 && pgg_session_back(s, 99) == 40, "unmarked");
  CHECK_OK(pgg_session_mark(s));
  CHECK_OK(pgg_session_mark(s));
  step(s, 40, 60, NULL), step(at_100, 40, 60, NULL);
  CHECK_OK(pgg_session_mark(s));
  step(s, 100, 30, NULL);
  CHECK(pgg_session_reach(s) == 40, "reach %lld", (long long)pgg_session_reach(s));
  CHECK(pgg_session_back(s, 129) == 100 && pgg_session_back(s, 99) == 40 && pgg_session_back(s, 39) == 0 &&
            pgg_session_back(s, 130) == 130,
        "back");
  CHECK_FAILS(PGG_EUNSUPPORTED, "position 99, which was not marked", pgg_session_truncate(s, 99));
  CHECK_FAILS(PGG_EUNSUPPORTED, "can go back to 40, a mark before it", pgg_session_truncate(s, 99));
  CHECK_FAILS(PGG_EUNSUPPORTED, "can go back to 0", pgg_session_truncate(s, 39));
  CHECK(pgg_session_n_past(s) == 130, "moved");
  CHECK_OK(pgg_session_truncate(s, 130));
  CHECK_OK(pgg_session_truncate(s, 100));
  same_next(at_100, s, "at 100");
  CHECK_OK(pgg_session_truncate(s, 40)); /* and again, though it went on from there */
  same_next(at_40, s, "at 40");
  CHECK(pgg_session_back(s, 45) == 40, "a later mark is gone");
  CHECK_OK(pgg_session_truncate(s, 40));
  pgg_session *fork = NULL;
  CHECK_OK(pgg_session_fork(s, &fork));
  step(fork, 0, 9, NULL);
  CHECK_OK(pgg_session_unmark(s, 40));
  CHECK_OK(pgg_session_unmark(s, 41));
  CHECK(pgg_session_back(s, 39) == 0 && pgg_session_back(fork, 45) == 40, "a fork has its marks");
  pgg_session_free(s);
  CHECK_OK(pgg_session_truncate(fork, 40));
  CHECK_OK(pgg_session_truncate(fork, 0));
  CHECK(pgg_session_reach(fork) == 0, "reach %lld of an empty session", (long long)pgg_session_reach(fork));
  for (int i = 0; i < PGG_MAX_MARKS; i++) {
    step(fork, i, 1, NULL);
    CHECK_OK(pgg_session_mark(fork));
  }
  CHECK_OK(pgg_session_mark(fork));
  step(fork, 0, 1, NULL);
  CHECK_FAILS(PGG_EINVAL, "has 64 marks", pgg_session_mark(fork));
  CHECK_OK(pgg_session_unmark(fork, 1));
  CHECK_OK(pgg_session_mark(fork));
  step(fork, 0, 800, NULL); /* a window passes them, and what they look at is held back */
  CHECK(pgg_session_reach(fork) == 2, "reach %lld", (long long)pgg_session_reach(fork));
  CHECK_OK(pgg_session_truncate(fork, 20));
  CHECK_FAILS(PGG_EUNSUPPORTED, "which was not marked", pgg_session_truncate(fork, 1));
  pgg_session_free(fork), pgg_session_free(at_40), pgg_session_free(at_100);
  CHECK_FAILS(PGG_EINVAL, "NULL", pgg_session_mark(NULL));
  CHECK_FAILS(PGG_EINVAL, "NULL", pgg_session_unmark(NULL, 0));
  end(plan);
}

static void test_files(int device) {
  pgg_plan *plan = mixed_plan(device);
  pgg_session *a = new_session(plan), *b = new_session(plan);
  size_t size;
  unsigned char *bytes = tiny_saved(a, &size);
  step(b, 0, 9, NULL);
  CHECK_OK(pgg_session_load(b, bytes, size));
  CHECK(pgg_session_n_past(b) == 0, "an empty one");
  free(bytes);
  step(a, 0, 500, NULL);
  CHECK_OK(pgg_session_mark(a));
  step(a, 500, 100, NULL);
  bytes = tiny_saved(a, &size);
  step(b, 0, 77, NULL);
  for (size_t cut = 0; cut < size; cut += cut < 200 ? 1 : 997)
    CHECK_FAILS(PGG_EFORMAT, "load: ", pgg_session_load(b, bytes, cut));
  for (size_t at = 16; at < size; at += at < 200 ? 1 : 991) {
    bytes[at] ^= 1;
    CHECK(pgg_session_load(b, bytes, size) == PGG_EFORMAT, "byte %zu altered: %s", at, pgg_last_error());
    bytes[at] ^= 1;
  }
  CHECK(pgg_session_n_past(b) == 77, "moved");
  if (device) { /* a device that refuses in the middle of it */
    for (int after = 0; after < 6; after++) {
      mirror_fails = after % 2 ? MIRROR_WRITE : MIRROR_ALLOC, mirror_after = after / 2;
      CHECK_FAILS(PGG_EBACKEND, "was told to fail", pgg_session_load(b, bytes, size));
      mirror_fails = MIRROR_NONE;
      CHECK(pgg_session_n_past(b) == 77, "moved");
    }
  }
  CHECK_OK(pgg_session_load(b, bytes, size));
  CHECK(pgg_session_n_past(b) == 600 && pgg_session_back(b, 599) == 500, "at %lld", (long long)pgg_session_n_past(b));
  same_next(a, b, "loaded");
  CHECK_OK(pgg_session_truncate(a, 500));
  CHECK_OK(pgg_session_truncate(b, 500));
  same_next(a, b, "loaded, at its mark");
  CHECK_FAILS(PGG_EUNSUPPORTED, "shift: c1 remembers all positions in one state", pgg_session_shift(b, 1, 2));
  pgg_session_free(a), pgg_session_free(b);
  free(bytes);
  end(plan);
}

/* Where a mark's place in a saved state is no place. */
static void test_bad_marks(void) {
  pgg_plan *plan = mixed_plan(0);
  pgg_session *a = new_session(plan);
  for (int i = 1; i <= 2; i++) {
    step(a, 0, 10, NULL);
    CHECK_OK(pgg_session_mark(a));
  }
  size_t size;
  unsigned char *bytes = tiny_saved(a, &size);
  const size_t first = 60 + 8 * (size_t)plan->n_group + 4; /* behind head, positions, groups, count */
  CHECK(bytes[first] == 10 && bytes[first + 8] == 20, "the form is another");
  static const unsigned char bad[][2] = {{0, 20}, {20, 20}, {20, 10}, {10, 21}};
  for (int i = 0; i < 4; i++) {
    bytes[first] = bad[i][0], bytes[first + 8] = bad[i][1];
    seal(bytes, size);
    CHECK_FAILS(PGG_EFORMAT, "cut or altered", pgg_session_load(a, bytes, size));
  }
  free(bytes);
  pgg_session_free(a);
  pgg_plan_free(plan);
}

static void test_memory(void) {
  pgg_plan *plan = mixed_plan(MIRROR);
  const size_t first = (TAPS_1 - 1) * pgg_row_bytes(g_type, D), one = first + (TAPS_2 - 1) * pgg_row_bytes(g_type, D);
  const size_t span = (size_t)PGG_SPAN * 2 * DIM * sizeof(float);
  pgg_plan_bytes all, cpu, mirror;
  CHECK_OK(pgg_plan_memory(plan, -1, PGG_F32, CTX, &all));
  CHECK_OK(pgg_plan_memory(plan, 0, PGG_F32, CTX, &cpu));
  CHECK_OK(pgg_plan_memory(plan, MIRROR, PGG_F32, CTX, &mirror));
  CHECK(all.mark == one + 3 * span && all.position == 2 * DIM * sizeof(float), "mark %zu, position %zu", all.mark,
        all.position);
  CHECK(all.cache == pgg_plan_kv_bytes(plan, PGG_F32, CTX) && all.scratch == pgg_plan_arena_bytes(plan), "in short");
  CHECK(cpu.mark == first && mirror.mark == all.mark - first, "marks by device");
  CHECK(cpu.weights + mirror.weights == all.weights && cpu.cache + mirror.cache == all.cache && cpu.position == 0 &&
            mirror.position == all.position,
        "by device");
  const size_t floats = V * D + D * D + D * TAPS_1 + D * D + 2 * DIM * D + D * TAPS_2 + D + V * D;
  CHECK(all.weights == floats * sizeof(float), "weights %zu", all.weights);
  CHECK(all.scratch >= cpu.scratch + mirror.scratch, "scratch");
  CHECK_FAILS(PGG_EINVAL, "nothing of the plan lies on device 2", pgg_plan_memory(plan, 2, PGG_F32, CTX, &all));
  CHECK_FAILS(PGG_EINVAL, "nothing of the plan lies on device -2", pgg_plan_memory(plan, -2, PGG_F32, CTX, &all));
  CHECK_FAILS(PGG_ETYPE, "cannot be q4_k", pgg_plan_memory(plan, -1, PGG_Q4_K, CTX, &all));
  pgg_session *s = new_session(plan);
  size_t most = 0;
  step(s, 0, 3, NULL);
  CHECK(pgg_plan_cache_bytes(plan) == span + one, "a step: %zu", pgg_plan_cache_bytes(plan));
  step(s, 0, 3, NULL);
  CHECK(pgg_plan_cache_bytes(plan) == span + 2 * one, "two: %zu", pgg_plan_cache_bytes(plan));
  CHECK_OK(pgg_session_mark(s));
  CHECK(pgg_plan_cache_bytes(plan) == span + 2 * one, "a mark costs nothing yet: %zu", pgg_plan_cache_bytes(plan));
  for (int i = 0; i < 3; i++) step(s, 0, 3, NULL);
  CHECK(pgg_plan_cache_bytes(plan) == span + 3 * one, "and then its own: %zu", pgg_plan_cache_bytes(plan));
  CHECK_OK(pgg_session_unmark(s, 6));
  for (int i = 0; i < 4; i++) {
    step(s, 0, 300, NULL);
    if (pgg_plan_cache_bytes(plan) > most) most = pgg_plan_cache_bytes(plan);
  }
  CHECK(most <= mirror.cache + cpu.cache, "%zu is more than the most, %zu", most, mirror.cache + cpu.cache);
  pgg_session_close(s);
  CHECK(pgg_plan_cache_bytes(plan) == 0, "%zu bytes were not given back", pgg_plan_cache_bytes(plan));
  CHECK(pgg_session_back(s, 5) == 0 && pgg_session_reach(s) == 0, "a closed one");
  CHECK_FAILS(PGG_EINVAL, "closed", pgg_session_mark(s));
  pgg_session_free(s);
  end(plan);
}

static void mark_and_go_back(pgg_session *it) {
  (void)pgg_session_mark(it);
  (void)pgg_session_truncate(it, 50);
}

static void test_threads(void) {
  pgg_plan *plan = mixed_plan(0);
  pgg_session *root = new_session(plan), *calm = new_session(plan);
  step(root, 0, 50, NULL), step(calm, 0, 50, NULL);
  CHECK_OK(pgg_session_mark(root));
  step(root, 50, 5, NULL), step(calm, 50, 5, NULL);
  race_forks(root, g_ids, V, mark_and_go_back);
  same_next(calm, root, "others left a trace");
  pgg_session_free(root), pgg_session_free(calm);
  end(plan);
}

static void test_refusals(void) {
  pgg_plan *plan = NULL;
  int node;
  CHECK_OK(pgg_plan_new(&plan));
  pgg_op op;
  const int x = add_embed(plan, add_weight(plan, "table", g_table, V, D)), w = add_weight(plan, "w", g_w1, D, TAPS_1);
  op = conv_of("c", x, add_weight(plan, "short", g_w1, D - 1, TAPS_1), -1, 0);
  CHECK_FAILS(PGG_ESHAPE, "c: weight short is (95, 3), expected (96, taps) for input embed",
              pgg_plan_op(plan, &op, &node));
  op = conv_of("c", x, add_weight(plan, "one", g_w1, D, 1), -1, 0);
  CHECK_FAILS(PGG_EINVAL, "the number of taps is 1, expected 2 to 16", pgg_plan_op(plan, &op, &node));
  op = conv_of("c", x, w, w, 0);
  CHECK_FAILS(PGG_ESHAPE, "expected (1, 96)", pgg_plan_op(plan, &op, &node));
  int packed;
  CHECK_OK(pgg_plan_weight(plan, "packed", PGG_Q8_0, g_square[0], D, 32, &packed));
  op = conv_of("c", x, packed, -1, 0);
  CHECK_FAILS(PGG_ETYPE, "weight packed is q8_0, expected f32", pgg_plan_op(plan, &op, &node));
  op = conv_of("c", x, w, -1, 4);
  PGG_INT(&op, conv, type) = PGG_Q8_0;
  CHECK_FAILS(PGG_ETYPE, "c: a state of rows cannot be q8_0; f32, f16 and bf16 can", pgg_plan_op(plan, &op, &node));
  PGG_INT(&op, conv, type) = PGG_TYPE_LIMIT - 1;
  CHECK_FAILS(PGG_ETYPE, "of an unknown type", pgg_plan_op(plan, &op, &node));
  op = conv_of("c", x, w, -1, 4);
  CHECK_OK(pgg_plan_op(plan, &op, &node));
  op = conv_of("d", x, w, -1, 4);
  CHECK_FAILS(PGG_EINVAL, "d: state 4 is written by c already", pgg_plan_op(plan, &op, &node));
  op = attention_of(x, -1, -1, 4);
  CHECK_FAILS(PGG_EINVAL, "attention: state 4 of c holds no keys and values", pgg_plan_op(plan, &op, &node));
  op = attention_of(x, -1, -1, 5);
  CHECK_FAILS(PGG_EINVAL, "nothing before it writes state 5", pgg_plan_op(plan, &op, &node));
  const int k = add_cols(plan, "k", x, D, 0, DIM);
  op = attention_of(x, k, k, 5);
  PGG_INT(&op, attention, values) = 6;
  CHECK_FAILS(PGG_EINVAL, "lie in one state, not in 5 and 6", pgg_plan_op(plan, &op, &node));
  PGG_INT(&op, attention, values) = 5;
  CHECK_OK(pgg_plan_op(plan, &op, &node));
  op = attention_of(x, -1, k, 5);
  CHECK_FAILS(PGG_EINVAL, "need a state of their own", pgg_plan_op(plan, &op, &node));
  op = attention_of(x, -1, -1, 5);
  PGG_INT(&op, attention, v_dim) = DIM / 2;
  CHECK_FAILS(PGG_ESHAPE, "v_dim is 16, but attention keeps 32 values", pgg_plan_op(plan, &op, &node));
  PGG_INT(&op, attention, n_head_kv) = 3;
  CHECK_FAILS(PGG_ESHAPE, "n_head_kv is 3, but attention keeps 1 heads", pgg_plan_op(plan, &op, &node));
  op = attention_of(x, k, -1, 8);
  PGG_INT(&op, attention, v_dim) = DIM + 1;
  CHECK_FAILS(PGG_ESHAPE, "values are columns of keys, which have 32", pgg_plan_op(plan, &op, &node));
  PGG_INT(&op, attention, v_dim) = DIM / 2;
  op.name = "latent";
  CHECK_OK(pgg_plan_op(plan, &op, &node));
  op = attention_of(x, -1, -1, 8);
  op.name = "reader";
  CHECK_OK(pgg_plan_op(plan, &op, &node));
  CHECK_OK(pgg_plan_output(plan, node));
  const pgg_limits limits = {BATCH, CTX, 0};
  CHECK_OK(pgg_plan_place(plan, plan->n_op - 1, plan->n_op - 1, MIRROR));
  CHECK_FAILS(PGG_EUNSUPPORTED, "reader attends to what latent keeps on another device",
              pgg_plan_freeze(plan, &limits));
  CHECK_OK(pgg_plan_place(plan, plan->n_op - 1, plan->n_op - 1, 0));
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  pgg_session *s = NULL;
  CHECK_FAILS(PGG_ETYPE,
              "latent reads 16 values out of keys, which blocks of a q4_0 cache do not end with; they hold 32",
              pgg_session_new(plan, CTX, PGG_Q4_0, &s));
  pgg_plan_free(plan);
}

int main(void) {
  fill(g_table, V * D, 1, 1), fill(g_w1, D * TAPS_1, 0.6f, 2), fill(g_w2, D * TAPS_2, 0.6f, 3),
      fill(g_bias, D, 0.3f, 4);
  for (int i = 0; i < 4; i++) fill(g_square[i], D * D, 0.17f, (uint64_t)(5 + i));
  fill(g_head, V * D, 0.2f, 9);
  tiny_ids(g_ids, CTX, V, 11);
  test_refusals();
  static const int types[] = {PGG_F16, PGG_BF16, PGG_F32};
  for (int i = 0; i < 3; i++) {
    g_type = types[i];
    test_bits();
    test_memory();
    test_marks(i % 2 ? MIRROR : 0);
    test_files(i % 2 ? 0 : MIRROR);
  }
  test_rollback();
  test_marks(MIRROR);
  test_files(0);
  test_bad_marks();
  test_threads();
  return check_done("test_recurrent");
}
