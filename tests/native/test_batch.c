/* Steps of several sequences against the same sequences alone, to the bit: prompt rows, decode rows, both in one step,
 * any number of threads, any cut into pieces; and refusals, which leave all of them as they were. */
#include "tiny_plan.h"

enum { V = 67, MANY = 5, MOST = 40 };

static const int64_t first_counts[MANY] = {7, 1, 12, 3, 1};
static const int64_t then_counts[MANY] = {1, 1, 1, 1, 1};
static const int64_t last_counts[MANY] = {2, 9, 1, 1, 4};
static const int64_t *const rounds[] = {first_counts, then_counts, last_counts};

static int64_t sum_of(const int64_t *counts, int n) {
  int64_t sum = 0;
  for (int i = 0; i < n; i++) sum += counts[i];
  return sum;
}

/* What sequence i is fed in a round: prompts first, then a mix. */
static int kind_of(int round, int i) { return round && (round + i) % 3 ? PGG_DECODE_ROWS : PGG_PROMPT_ROWS; }

/* All logits of the rounds, sequence by sequence: out (MANY, MOST, cols). threads 0: each sequence alone, on one, token
 * by token. */
static void feed(pgg_plan *plan, const int *kv, int threads, float *out, int64_t cols) {
  pgg_session *sessions[MANY];
  float *rows = malloc((size_t)(MANY * MOST * cols) * sizeof(float));
  for (int i = 0; i < MANY; i++) CHECK_OK(pgg_session_new(plan, MOST, kv[i], &sessions[i]));
  int64_t past[MANY] = {0};
  for (int r = 0; r < 3; r++) {
    int32_t ids[MANY * MOST];
    int64_t n = 0;
    for (int i = 0; i < MANY; i++) {
      tiny_ids(ids + n, (int)rounds[r][i], V, (uint64_t)(100 * i + r));
      CHECK_OK(pgg_session_kind(sessions[i], kind_of(r, i)));
      for (int64_t t = 0; !threads && t < rounds[r][i]; t++)
        CHECK_OK(pgg_session_step(sessions[i], ids + n + t, NULL, 1, 1, out + (i * MOST + past[i] + t) * cols, 1));
      n += rounds[r][i];
    }
    if (threads) CHECK_OK(pgg_plan_step(plan, sessions, rounds[r], MANY, ids, rounds[r], rows, threads));
    const float *row = rows;
    for (int i = 0; i < MANY; i++) {
      if (threads) memcpy(out + (i * MOST + past[i]) * cols, row, (size_t)(rounds[r][i] * cols) * sizeof(float));
      row += rounds[r][i] * cols;
      past[i] += rounds[r][i];
      CHECK(pgg_session_n_past(sessions[i]) == past[i], "sequence %d is at %lld", i,
            (long long)pgg_session_n_past(sessions[i]));
    }
  }
  for (int i = 0; i < MANY; i++) pgg_session_free(sessions[i]);
  free(rows);
}

static void test_logits(int type, int n_embd, int n_ff) {
  tiny t = tiny_make(type, n_embd, 4, 2, 32, n_ff, V);
  const int kv[MANY] = {PGG_F32, PGG_F32, PGG_F16, PGG_F32, PGG_Q8_0}; /* each sequence has a cache of its own type */
  const size_t n = (size_t)MANY * MOST * V;
  float *alone = calloc(n, sizeof *alone), *one = calloc(n, sizeof *one), *more = calloc(n, sizeof *more);
  for (int n_batch = 32; n_batch >= 5; n_batch -= 27) { /* in one piece, in many */
    pgg_plan *plan = tiny_plan(&t, n_batch, MOST, 0);
    feed(plan, kv, 0, alone, V);
    feed(plan, kv, 1, one, V);
    CHECK(!memcmp(one, alone, n * sizeof *one), "type %d n_batch %d: together has other bits than alone", type,
          n_batch);
    for (int threads = 2; threads <= 3; threads++) {
      feed(plan, kv, threads, more, V);
      CHECK(!memcmp(one, more, n * sizeof *one), "type %d n_batch %d: other bits on %d threads", type, n_batch,
            threads);
    }
    pgg_plan_free(plan);
  }
  free(alone), free(one), free(more);
  tiny_free(&t);
}

/* ---- attention alone ------------------------------------------------------------------------------------- */

enum { DIM = 16, HEADS = 8, HEADS_KV = 2, LONG = 1300 };

/* Tables for q, k and v and nothing else, so that every bit is attention's. The output has all tokens' rows. */
static pgg_plan *attention_plan(const float *data, int n_batch, int window, int causal, bool sinks) {
  pgg_plan *plan = NULL;
  int w[3], src[3], sink = -1;
  CHECK_OK(pgg_plan_new(&plan));
  const int64_t cols[3] = {HEADS * DIM, HEADS_KV * DIM, HEADS_KV * DIM};
  for (int i = 0; i < 3; i++) {
    CHECK_OK(pgg_plan_weight(plan, "table", PGG_F32, data + i * 1000, V, cols[i], &w[i]));
    pgg_op embed = op_of(PGG_OP_EMBED, "embed", -1, -1);
    PGG_WEIGHT(&embed, embed, table) = w[i];
    src[i] = add_op(plan, embed);
  }
  pgg_op op = op_of(PGG_OP_ATTENTION, "attention", src[0], src[1]);
  if (sinks) CHECK_OK(pgg_plan_weight(plan, "sinks", PGG_F32, data, 1, HEADS, &sink));
  PGG_SRC(&op, attention, v) = src[2];
  PGG_WEIGHT(&op, attention, sinks) = sink;
  PGG_INT(&op, attention, n_head) = HEADS;
  PGG_INT(&op, attention, n_head_kv) = HEADS_KV;
  PGG_INT(&op, attention, k_dim) = PGG_INT(&op, attention, v_dim) = DIM;
  PGG_INT(&op, attention, causal) = causal;
  PGG_INT(&op, attention, window) = window;
  PGG_FLOAT(&op, attention, scale) = 0.2f;
  CHECK_OK(pgg_plan_output(plan, add_op(plan, op)));
  pgg_limits limits = {n_batch, LONG, 0};
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  return plan;
}

/* n_session sequences of odd lengths, then counts more tokens each, alone one by one and together. */
static void test_attention(int n_session, const int64_t *counts, int window, int causal, bool sinks, int kind) {
  enum { COLS = HEADS * DIM, CAP = 50 };
  static float data[2000 + V * COLS], alone[CAP * COLS * 2], together[CAP * COLS * 2];
  static int32_t before[LONG];
  uint64_t seed = 11;
  for (size_t i = 0; i < sizeof data / sizeof *data; i++) data[i] = check_random(&seed);
  tiny_ids(before, LONG, V, 4);
  pgg_plan *plan = attention_plan(data, causal ? 128 : LONG, window, causal, sinks);
  pgg_session *sessions[CAP];
  int32_t ids[2 * CAP];
  int64_t n = 0;
  for (int i = 0; i < n_session; i++) {
    /* One span, two, and (few, because feeding them takes the square of it) three. */
    const int64_t past = i == 0 ? 0 : i % 16 == 3 ? 1100 + i : 514 + (int64_t)(i * 577) % 64;
    CHECK_OK(pgg_session_new(plan, LONG, PGG_F16, &sessions[i]));
    if (past) CHECK_OK(pgg_session_step(sessions[i], before + i, NULL, past, 0, NULL, 2));
    tiny_ids(ids + n, (int)counts[i], V, (uint64_t)(50 + i));
    CHECK_OK(pgg_session_kind(sessions[i], kind));
    const int64_t piece = causal ? 1 : counts[i];
    for (int64_t t = 0; t < counts[i]; t += piece)
      CHECK_OK(pgg_session_step(sessions[i], ids + n + t, NULL, piece, piece, alone + (n + t) * COLS, 1));
    CHECK_OK(pgg_session_truncate(sessions[i], past));
    n += counts[i];
  }
  CHECK(n <= 2 * CAP, "room");
  for (int threads = 1; threads <= 3; threads++) {
    memset(together, 0, sizeof together);
    CHECK_OK(pgg_plan_step(plan, sessions, counts, n_session, ids, counts, together, threads));
    CHECK(!memcmp(alone, together, (size_t)(n * COLS) * sizeof(float)),
          "%d sequences, window %d, causal %d, sinks %d, kind %d, %d threads: attention has other bits", n_session,
          window, causal, sinks, kind, threads);
    for (int i = 0; i < n_session; i++)
      CHECK_OK(pgg_session_truncate(sessions[i], pgg_session_n_past(sessions[i]) - counts[i]));
  }
  /* Of an output of all tokens, each sequence's last row. */
  int64_t ones[CAP];
  for (int i = 0; i < n_session; i++) ones[i] = 1;
  CHECK_OK(pgg_plan_step(plan, sessions, counts, n_session, ids, ones, together, 2));
  n = 0;
  for (int i = 0; i < n_session; i++) {
    n += counts[i];
    CHECK(!memcmp(together + i * COLS, alone + (n - 1) * COLS, COLS * sizeof(float)), "last row of sequence %d", i);
  }
  for (int i = 0; i < n_session; i++) pgg_session_free(sessions[i]);
  pgg_plan_free(plan);
}

/* ---- refusals -------------------------------------------------------------------------------------------- */

static void test_refusals(void) {
  tiny t = tiny_small(V);
  pgg_plan *plan = tiny_plan(&t, 8, MOST, 0), *other = tiny_plan(&t, 8, MOST, 0), *kept = tiny_plan(&t, 8, MOST, 1);
  pgg_session *s[3], *strange = NULL, *k[2];
  int64_t counts[3] = {4, 20, 2}, wanted[3] = {1, 0, 2};
  int32_t ids[60] = {0};
  float out[3 * V], again[3 * V];
  for (int i = 0; i < 3; i++) CHECK_OK(pgg_session_new(plan, MOST, PGG_F32, &s[i]));
  for (int i = 0; i < 2; i++) CHECK_OK(pgg_session_new(kept, MOST, PGG_F32, &k[i]));
  CHECK_OK(pgg_session_new(other, MOST, PGG_F32, &strange));
  tiny_ids(ids, 60, V, 2);
  CHECK_OK(pgg_session_step(s[1], ids, NULL, 15, 0, NULL, 1));
  CHECK_FAILS(PGG_EINVAL, "no sessions", pgg_plan_step(plan, s, counts, 0, ids, wanted, out, 1));
  CHECK_FAILS(PGG_EINVAL, "out is NULL", pgg_plan_step(plan, s, counts, 3, ids, wanted, NULL, 1));
  CHECK_FAILS(PGG_EINVAL, "ids, which are missing", pgg_plan_step(plan, s, counts, 3, NULL, wanted, out, 1));
  CHECK_FAILS(PGG_EINVAL, "one session at a time", pgg_plan_step(kept, k, counts, 2, ids, wanted, out, 1));
  pgg_session *twice[3] = {s[0], s[1], s[0]}, *foreign[3] = {s[0], strange, s[1]}, *gap[3] = {s[0], s[1], NULL};
  CHECK_FAILS(PGG_EINVAL, "session 2 is given twice", pgg_plan_step(plan, twice, counts, 3, ids, wanted, out, 1));
  CHECK_FAILS(PGG_EINVAL, "session 1 is of another plan", pgg_plan_step(plan, foreign, counts, 3, ids, wanted, out, 1));
  CHECK_FAILS(PGG_EINVAL, "session 2 is NULL", pgg_plan_step(plan, gap, counts, 3, ids, wanted, out, 1));
  counts[1] = 26;
  CHECK_FAILS(PGG_EINVAL, "sequence 1: 26 tokens do not fit: the context holds 40 positions and 15 are taken",
              pgg_plan_step(plan, s, counts, 3, ids, wanted, out, 1));
  counts[1] = 20, counts[2] = 0;
  CHECK_FAILS(PGG_EINVAL, "sequence 2: 0 tokens", pgg_plan_step(plan, s, counts, 3, ids, wanted, out, 1));
  counts[2] = 2, wanted[0] = 5;
  CHECK_FAILS(PGG_EINVAL, "sequence 0: 5 rows wanted of 4", pgg_plan_step(plan, s, counts, 3, ids, wanted, out, 1));
  wanted[0] = 1, ids[25] = V;
  CHECK_FAILS(PGG_EINVAL, "sequence 2: id at position 1 is 67", pgg_plan_step(plan, s, counts, 3, ids, wanted, out, 1));
  ids[25] = 1;
  for (int i = 0; i < 3; i++) { /* any of the flags */
    pgg_session_cancel(s[i], 1);
    CHECK_FAILS(PGG_ECANCELLED, "cancelled", pgg_plan_step(plan, s, counts, 3, ids, wanted, out, 2));
    pgg_session_cancel(s[i], 0);
    for (int j = 0; j < 3; j++)
      CHECK(pgg_session_n_past(s[j]) == (j == 1 ? 15 : 0), "%d moved to %lld", j, (long long)pgg_session_n_past(s[j]));
  }
  CHECK_OK(pgg_plan_step(plan, s, counts, 3, ids, wanted, out, 1)); /* nothing of it left a trace */
  CHECK_OK(pgg_session_truncate(s[0], 0));
  CHECK_OK(pgg_session_step(s[0], ids, NULL, 4, 1, again, 1));
  double d = distance_f(out, again, V);
  CHECK(d < 1e-5, "after refusals: %g", d);
  for (int i = 0; i < 3; i++) pgg_session_free(s[i]);
  for (int i = 0; i < 2; i++) pgg_session_free(k[i]);
  pgg_session_free(strange);
  pgg_plan_free(plan), pgg_plan_free(other), pgg_plan_free(kept);
  tiny_free(&t);
}

static void test_next(void) {
  tiny t = tiny_small(V);
  ((float *)t.raw[T_EMBD])[3 * 64] = NAN; /* whoever reads token 3 is lost; so is its logit in everybody's row */
  pgg_plan *sick = tiny_plan(&t, 8, MOST, 0);
  tiny sound = tiny_small(V);
  pgg_plan *plan = tiny_plan(&sound, 8, MOST, 0);
  pgg_sampling how = {.temperature = 1, .top_p = 1, .repeat_penalty = 1};
  pgg_session *s[3], *alone[3], *lost[3];
  pgg_sampler *a[3], *b[3], *narrow;
  const int64_t counts[3] = {2, 5, 1}, ones[3] = {1, 1, 1};
  int32_t ids[8], got[3], want;
  tiny_ids(ids, 8, V, 6);
  for (int i = 0; i < 3; i++) {
    how.seed = (uint64_t)i;
    CHECK_OK(pgg_session_new(plan, MOST, PGG_F32, &s[i]));
    CHECK_OK(pgg_session_new(plan, MOST, PGG_F32, &alone[i]));
    CHECK_OK(pgg_session_new(sick, MOST, PGG_F32, &lost[i]));
    CHECK_OK(pgg_sampler_new(&how, V, &a[i]));
    CHECK_OK(pgg_sampler_new(&how, V, &b[i]));
  }
  CHECK_OK(pgg_sampler_new(&how, V + 1, &narrow));
  pgg_sampler *wrong[3] = {a[0], narrow, a[2]};
  CHECK_FAILS(PGG_ESHAPE, "sequence 1", pgg_plan_next(plan, s, wrong, counts, 3, ids, 1, got));
  CHECK_FAILS(PGG_ENUMERIC, "sequence 0", pgg_plan_next(sick, lost, a, counts, 3, ids, 1, got));
  CHECK(pgg_session_n_past(lost[0]) == 0 && pgg_session_n_past(lost[2]) == 0 && pgg_session_n_past(s[0]) == 0, "moved");
  for (int round = 0; round < 12; round++) {
    int32_t fed[3] = {got[0], got[1], got[2]};
    const int32_t *in = round ? fed : ids;
    const int64_t *n = round ? ones : counts;
    CHECK_OK(pgg_plan_next(plan, s, a, n, 3, in, 1 + round % 3, got));
    for (int i = 0; i < 3; i++) {
      CHECK_OK(pgg_session_next(alone[i], b[i], in, n[i], 1, &want));
      CHECK(got[i] == want, "round %d sequence %d: %d, alone %d", round, i, got[i], want);
      in += n[i];
    }
  }
  pgg_sampler *some[3] = {a[0], NULL, a[2]}; /* the second is in the middle of its prompt */
  CHECK_OK(pgg_plan_next(plan, s, some, counts, 3, ids, 1, got));
  CHECK(got[1] == -1, "chose %d without a sampler", got[1]);
  for (int i = 0; i < 3; i += 2) {
    CHECK_OK(pgg_session_next(alone[i], b[i], ids + (i ? 7 : 0), counts[i], 1, &want));
    CHECK(got[i] == want, "beside a prompt, sequence %d: %d, alone %d", i, got[i], want);
  }
  CHECK(pgg_session_n_past(s[1]) == 5 + 11 + 5, "its rows are there: %lld", (long long)pgg_session_n_past(s[1]));
  for (int i = 0; i < 3; i++) {
    pgg_session_free(s[i]), pgg_session_free(alone[i]), pgg_session_free(lost[i]);
    pgg_sampler_free(a[i]), pgg_sampler_free(b[i]);
  }
  pgg_sampler_free(narrow);
  pgg_plan_free(plan), pgg_plan_free(sick);
  tiny_free(&t), tiny_free(&sound);
}

int main(void) {
  const int64_t ragged[5] = {1, 7, 30, 1, 2}, short_ones[2] = {1, 3};
  int64_t ones[50];
  for (int i = 0; i < 50; i++) ones[i] = 1;
  CHECK(sum_of(first_counts, MANY) <= 32, "the first round is one piece");
  test_logits(PGG_F32, 64, 96);
  test_logits(PGG_F32, 256, 512);
  test_logits(PGG_BF16, 256, 512);
  test_logits(PGG_Q4_0, 256, 512);
  test_logits(PGG_Q5_0, 256, 512);
  for (int i = 0; i < 4; i++) {
    const bool sinks = i & 1;
    const int kind = i / 2 ? PGG_DECODE_ROWS : PGG_PROMPT_ROWS;
    test_attention(2, short_ones, 0, 1, sinks, kind); /* spans fit the shared room */
    test_attention(5, ragged, 0, 1, sinks, kind);
    test_attention(5, ragged, 300, 1, sinks, kind);
    test_attention(50, ones, 0, 1, sinks, kind); /* they do not */
    test_attention(50, ones, 700, 1, sinks, kind);
    test_attention(2, short_ones, 0, 0, sinks, kind);
  }
  test_refusals();
  test_next();
  return check_done("test_batch");
}
