/* What sessions remember: memory follows use, windows let go of what they have passed, forks share, and none of it can
 * be seen in a bit of any result. Also a state that is saved, loaded, shifted, and what is refused by which name. */
#include "backends/mirror/mirror.h"
#include "core/session.h"
#include "fork_race.h"
#include "tiny_plan.h"

enum { V = 67, CTX = 4096, BATCH = 48, LONG = 1500, MIRROR = 1 };

static tiny g_tiny;
static int32_t g_ids[CTX];

static pgg_plan *open_plan(int full, int mirrored) {
  pgg_plan *plan = tiny_plan_open(&g_tiny);
  const pgg_limits limits = {BATCH, CTX, 0};
  for (int i = 0; full && i < plan->n_state; i++) plan->states[i].window = 0; /* the mask stays, the memory too */
  if (mirrored) CHECK_OK(pgg_plan_place(plan, plan->n_op / 2, plan->n_op - 1, MIRROR));
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  return plan;
}

static void step(pgg_session *session, int64_t at, int64_t n, float *out) {
  CHECK_OK(pgg_session_step(session, g_ids + at, NULL, n, out ? 1 : 0, out, 1));
}

static size_t held(pgg_plan *plan) { return pgg_plan_cache_bytes(plan); }

static void test_follows_use(void) {
  pgg_plan *plan = open_plan(1, 0);
  pgg_session *s = tiny_session(plan, CTX, PGG_F16);
  const size_t span = (size_t)2 * PGG_SPAN * 2 * 2 * 32 * sizeof(uint16_t); /* layers, positions, heads, k and v, f16 */
  size_t of_session = 1;
  CHECK(held(plan) == 0, "an empty session holds %zu bytes", held(plan));
  step(s, 0, 4, NULL);
  CHECK(held(plan) == span, "4 tokens hold %zu bytes, a span has %zu", held(plan), span);
  step(s, 4, PGG_SPAN - 4, NULL);
  CHECK(held(plan) == span, "a full span holds %zu", held(plan));
  step(s, PGG_SPAN, 1, NULL);
  CHECK(held(plan) == 2 * span, "one more token: %zu", held(plan));
  step(s, PGG_SPAN, 1000, NULL);
  CHECK(held(plan) == 5 * span, "1257 tokens: %zu", held(plan));
  CHECK(pgg_plan_kv_bytes(plan, PGG_F16, CTX) == CTX / PGG_SPAN * span, "not the most");
  CHECK_OK(pgg_session_truncate(s, 10));
  CHECK(held(plan) == 2 * span, "truncated: %zu", held(plan));
  CHECK(pgg_plan_caches(plan, &of_session, 1) == 1 && of_session == 2 * span, "the session: %zu", of_session);
  pgg_session_close(s);
  CHECK(held(plan) == 0, "closed: %zu", held(plan));
  pgg_session_free(s);
  pgg_plan_free(plan);
}

/* Windows with a memory of what they look at, against the same with all of it. */
static void test_windows(int type) {
  static const int64_t cuts[] = {1, 47, 48, 49, 300, 1, 1, 700, 2, 350};
  float want[V], got[V];
  pgg_plan *full = open_plan(1, 0), *ring = open_plan(0, 0);
  pgg_session *a = tiny_session(full, CTX, type), *b = tiny_session(ring, CTX, type);
  int64_t at = 0;
  size_t most = 0;
  for (int i = 0; i < 10; at += cuts[i++]) {
    step(a, at, cuts[i], want);
    step(b, at, cuts[i], got);
    CHECK(!memcmp(got, want, sizeof got), "type %d, step %d at %lld: other bits", type, i, (long long)at);
    if (held(ring) > most) most = held(ring);
  }
  const size_t windowed = (size_t)(PGG_SPAN * 2) * (pgg_row_bytes(type, 32) * 2);
  CHECK(most <= held(full) / 2 + 3 * windowed, "the window holds %zu of %zu", most, held(full));
  CHECK(most <= pgg_plan_kv_bytes(ring, type, at), "more than the most: %zu", most);
  /* Back as far as it can, and no farther. */
  const int64_t reach = pgg_session_reach(b);
  CHECK(pgg_session_reach(a) == 0 && reach > at - 2 * PGG_SPAN - 5 && reach <= at - PGG_SPAN, "reach %lld of %lld",
        (long long)reach, (long long)at);
  CHECK_FAILS(PGG_EUNSUPPORTED, "a window has forgotten", pgg_session_truncate(b, reach - 1));
  CHECK(pgg_session_n_past(b) == at, "moved");
  CHECK_OK(pgg_session_truncate(a, reach));
  CHECK_OK(pgg_session_truncate(b, reach));
  step(a, reach, 60, want);
  step(b, reach, 60, got);
  CHECK(!memcmp(got, want, sizeof got), "type %d, after truncate: other bits", type);
  CHECK_OK(pgg_session_truncate(b, 0));
  CHECK(pgg_session_reach(b) == 0, "reach %lld of an empty session", (long long)pgg_session_reach(b));
  CHECK_OK(pgg_session_truncate(a, 0));
  step(a, 0, 30, want);
  step(b, 0, 30, got);
  CHECK(!memcmp(got, want, sizeof got), "type %d, anew: other bits", type);
  pgg_session_free(a), pgg_session_free(b);
  pgg_plan_free(full), pgg_plan_free(ring);
}

/* A step of many pieces that ends in the middle: all states are as before it. */
static void test_rollback(int64_t until) {
  float want[V], got[V];
  pgg_plan *plan = open_plan(0, 1);
  pgg_session *s = tiny_session(plan, CTX, PGG_F32), *calm = tiny_session(plan, CTX, PGG_F32);
  for (int64_t at = 0; at < until; at += 300) {
    for (int runs = 1; runs < 20; runs += 9) {
      mirror_cancel(s, runs);
      CHECK_FAILS(PGG_ECANCELLED, "cancelled", pgg_session_step(s, g_ids + at, NULL, 1200, 1, got, 1));
      mirror_cancel(NULL, 0);
      CHECK(pgg_session_n_past(s) == at, "at %lld", (long long)pgg_session_n_past(s));
    }
    step(s, at, 300, got);
    step(calm, at, 300, want);
    CHECK(!memcmp(got, want, sizeof got), "at %lld: other bits", (long long)at);
  }
  pgg_session_free(s), pgg_session_free(calm);
  pgg_plan_free(plan);
}

/* Forks go their own ways, and the one they come from does not notice. */
static void test_forks(int mirrored) {
  enum { PREFIX = 2000, MANY = 30 };
  static float want[MANY][V], got[V], after[V];
  pgg_plan *plan = open_plan(1, mirrored);
  pgg_session *root = tiny_session(plan, CTX, PGG_F16), *forks[MANY], *other = NULL;
  step(root, 0, PREFIX, NULL);
  const size_t one = held(plan), span = one / 8;
  for (int i = 0; i < MANY; i++) {
    CHECK_OK(pgg_session_fork(i % 2 && i > 1 ? forks[i - 1] : root, &forks[i]));
    CHECK(pgg_session_n_past(forks[i]) == PREFIX, "fork at %lld", (long long)pgg_session_n_past(forks[i]));
  }
  CHECK(held(plan) == one, "%d sessions hold %zu, one prefix %zu", MANY + 1, held(plan), one);
  for (int i = 0; i < MANY; i++) step(forks[i], i, 9, want[i]);
  CHECK(held(plan) == one + MANY * span, "after a step: %zu, expected %zu", held(plan), one + MANY * span);
  step(root, 100, 1, after);
  pgg_session *lone = tiny_session(plan, CTX, PGG_F16);
  step(lone, 0, PREFIX, NULL);
  step(lone, 100, 1, got);
  CHECK(!memcmp(got, after, sizeof got), "the root: other bits");
  for (int i = 0; i < MANY; i += 7) {
    CHECK_OK(pgg_session_truncate(lone, PREFIX));
    step(lone, i, 9, got);
    CHECK(!memcmp(got, want[i], sizeof got), "fork %d: other bits", i);
  }
  pgg_session_free(root);                        /* what the others look at stays */
  CHECK_OK(pgg_session_truncate(forks[3], 700)); /* into a span that all share */
  step(forks[3], 50, 5, got);
  CHECK_OK(pgg_session_truncate(lone, 700));
  step(lone, 50, 5, after);
  CHECK(!memcmp(got, after, sizeof got), "after truncate: other bits");
  CHECK_OK(pgg_session_truncate(forks[4], PREFIX));
  step(forks[4], 4, 9, got);
  CHECK(!memcmp(got, want[4], sizeof got), "a neighbour: other bits");
  if (mirrored) { /* the copy of a shared span is refused: the fork is as before */
    CHECK_OK(pgg_session_fork(forks[5], &other));
    mirror_fails = MIRROR_COPY;
    CHECK_FAILS(PGG_EBACKEND, "copy was told to fail", pgg_session_step(other, g_ids, NULL, 3, 1, got, 1));
    CHECK(pgg_session_n_past(other) == PREFIX + 9, "moved");
    mirror_fails = MIRROR_NONE;
    step(other, 0, 3, got);
    step(forks[5], 0, 3, after);
    CHECK(!memcmp(got, after, sizeof got), "after a refusal: other bits");
    pgg_session_free(other);
  }
  for (int i = 0; i < MANY; i++) pgg_session_free(forks[i]);
  pgg_session_free(lone);
  CHECK(held(plan) == 0, "%zu bytes were not given back", held(plan));
  CHECK_FAILS(PGG_EINVAL, "NULL", pgg_session_fork(NULL, &other));
  pgg_plan_close(plan);
  pgg_plan_free(plan);
  CHECK_GIVEN_BACK();
}

/* Saved and loaded, in a window that has forgotten much, on both devices. */
static void test_files(int type, int mirrored) {
  float want[V], got[V];
  pgg_plan *plan = open_plan(0, mirrored), *small = NULL;
  pgg_session *a = tiny_session(plan, CTX, type), *b = tiny_session(plan, CTX, type), *tight = NULL;
  size_t size = 0, empty = 0;
  CHECK_OK(pgg_session_save(a, NULL, &empty));
  step(a, 0, 1000, NULL);
  CHECK_OK(pgg_session_save(a, NULL, &size));
  CHECK(size > empty, "%zu bytes", size);
  unsigned char *bytes = malloc(size + 1);
  size_t less = size - 1;
  CHECK_FAILS(PGG_EINVAL, "room for", pgg_session_save(a, bytes, &less));
  CHECK_OK(pgg_session_save(a, bytes, &size));
  step(b, 0, 77, NULL);
  /* Nothing but the whole is taken; the session stays as it was. */
  for (size_t cut = 0; cut < size; cut += cut < 200 ? 1 : 9973)
    CHECK_FAILS(PGG_EFORMAT, "load: ", pgg_session_load(b, bytes, cut));
  CHECK_FAILS(PGG_EFORMAT, "cut or altered", pgg_session_load(b, bytes, size + 1));
  for (size_t at = 0; at < size; at += at < 100 ? 1 : 7919) {
    bytes[at] ^= 1;
    const pgg_status status = pgg_session_load(b, bytes, size);
    CHECK(status == (at >= 8 && at < 12    ? PGG_EUNSUPPORTED
                     : at >= 12 && at < 16 ? PGG_EINVAL
                                           : PGG_EFORMAT),
          "byte %zu altered: %s", at, pgg_last_error());
    bytes[at] ^= 1;
  }
  CHECK(pgg_session_n_past(b) == 77, "moved");
  CHECK_OK(pgg_session_load(b, bytes, size));
  CHECK(pgg_session_n_past(b) == 1000 && pgg_session_reach(b) == pgg_session_reach(a), "at %lld",
        (long long)pgg_session_n_past(b));
  for (int i = 0; i < 3; i++) {
    step(a, 1000 + 50 * i, 50, want);
    step(b, 1000 + 50 * i, 50, got);
    CHECK(!memcmp(got, want, sizeof got), "type %d, loaded: other bits", type);
  }
  tight = tiny_session(plan, 999, type);
  CHECK_FAILS(PGG_EINVAL, "has 1000 positions, the session holds 999", pgg_session_load(tight, bytes, size));
  pgg_session_free(tight);
  tight = tiny_session(plan, CTX, type == PGG_F16 ? PGG_F32 : PGG_F16);
  CHECK_FAILS(PGG_EINVAL, "load: the state's cache is", pgg_session_load(tight, bytes, size));
  pgg_session_free(tight);
  tiny strange = tiny_small(V);
  small = tiny_plan(&strange, BATCH, CTX, 0);
  ((float *)strange.raw[T_Q])[0] += 1; /* the same in all but a weight */
  tight = tiny_session(small, CTX, type);
  CHECK_FAILS(PGG_EINVAL, "of another model", pgg_session_load(tight, bytes, size));
  tiny_end(tight, small, &strange);
  pgg_session_free(a), pgg_session_free(b);
  pgg_plan_free(plan);
  free(bytes);
}

/* Keys of the first layer depend on their token and position alone, so they tell whether a shift turned them right. */
static void test_shift(int type, double bound) {
  pgg_plan *plan = open_plan(0, 0);
  pgg_session *s = tiny_session(plan, CTX, type), *shorter = tiny_session(plan, CTX, type);
  const int64_t first = 100, last = 417, n = 700;
  float out[V];
  step(s, 0, n, NULL);
  step(shorter, 0, first, NULL);
  step(shorter, last, n - last, NULL);
  CHECK_FAILS(PGG_EINVAL, "are no stretch of the 700", pgg_session_shift(s, 5, 5));
  CHECK_FAILS(PGG_EINVAL, "are no stretch of the 700", pgg_session_shift(s, -1, 5));
  CHECK_FAILS(PGG_EINVAL, "are no stretch of the 700", pgg_session_shift(s, 5, n + 1));
  const size_t row = pgg_row_bytes(type, 32);
  char *old = malloc(row * 4 * (size_t)n); /* (values, positions, heads): what must stay, whatever it moves to */
  for (int i = 0; i < 4 * n; i++) {
    const pgg_rows_at at = {0, i % 2, i / 2 % n, 1, i / 2 >= n};
    CHECK_OK(pgg_memory_read(plan, &s->memory, &at, old + row * (size_t)i));
  }
  CHECK_OK(pgg_session_shift(s, first, last));
  CHECK(pgg_session_n_past(s) == n - (last - first), "at %lld", (long long)pgg_session_n_past(s));
  char *a = malloc(row), *b = malloc(row);
  float x[32], y[32];
  double worst = 0, top = 0;
  for (int values = 0; values < 2; values++)
    for (int64_t pos = 0; pos < pgg_session_n_past(s); pos++)
      for (int64_t h = 0; h < 2; h++) {
        const pgg_rows_at at = {0, h, pos, 1, values};
        CHECK_OK(pgg_memory_read(plan, &s->memory, &at, a));
        CHECK_OK(pgg_memory_read(plan, &shorter->memory, &at, b));
        const int64_t was = pos < first ? pos : pos + last - first;
        if (values || pos < first)
          CHECK(!memcmp(a, old + row * (size_t)(values * 2 * n + was * 2 + h), row), "position %lld was changed",
                (long long)pos);
        pgg_quant_get(type)->decode(a, x, 32);
        pgg_quant_get(type)->decode(b, y, 32);
        for (int d = 0; d < 32; d++) {
          if (fabs((double)x[d] - (double)y[d]) > worst) worst = fabs((double)x[d] - (double)y[d]);
          if (fabs((double)y[d]) > top) top = fabs((double)y[d]);
        }
      }
  CHECK(worst <= bound * top, "type %d: keys differ by %g of %g", type, worst, top);
  step(s, 3, 40, out); /* and it goes on */
  CHECK_OK(pgg_session_shift(s, 0, 1));
  step(s, 3, 1, out);
  free(a), free(b), free(old);
  pgg_session_free(s);
  pgg_session_free(shorter);
  pgg_plan_free(plan);
}

/* What cannot be shifted is said by name, and stays. */
static void test_shift_refusals(void) {
  pgg_plan *plan = open_plan(0, 0);
  pgg_session *s = tiny_session(plan, CTX, PGG_F16);
  step(s, 0, 1200, NULL);
  CHECK_OK(pgg_session_shift(s, 10, 20)); /* before what the window holds */
  CHECK_FAILS(PGG_EUNSUPPORTED, "which are forgotten", pgg_session_shift(s, 700, 1189));
  CHECK(pgg_session_n_past(s) == 1190, "moved");
  pgg_session_free(s);
  pgg_plan_free(plan);
  tiny ahead = tiny_small(V);
  ahead.causal = 0;
  plan = tiny_plan(&ahead, BATCH, CTX, 0);
  s = tiny_session(plan, CTX, PGG_F32);
  step(s, 0, 20, NULL);
  CHECK_FAILS(PGG_EUNSUPPORTED, "attention looks ahead", pgg_session_shift(s, 1, 2));
  tiny_end(s, plan, &ahead);
}

static void test_threads(void) {
  pgg_plan *plan = open_plan(0, 0);
  pgg_session *root = tiny_session(plan, CTX, PGG_F16);
  float want[V], got[V];
  step(root, 0, 500, NULL);
  pgg_session *calm;
  CHECK_OK(pgg_session_fork(root, &calm));
  race_forks(root, g_ids, V, NULL);
  step(root, 7, 5, got);
  step(calm, 7, 5, want);
  CHECK(!memcmp(got, want, sizeof got), "others left a trace");
  pgg_session_free(root), pgg_session_free(calm);
  CHECK(held(plan) == 0, "%zu bytes were not given back", held(plan));
  pgg_plan_free(plan);
}

/* With "once" every test runs in one of its settings: under emulation all of them take minutes. */
int main(int argc, char **argv) {
  const int once = argc > 1 && !strcmp(argv[1], "once");
  g_tiny = tiny_small(V);
  tiny_ids(g_ids, CTX, V, 11);
  test_follows_use();
  static const int types[] = {PGG_F16, PGG_F32, PGG_BF16, PGG_Q8_0, PGG_Q4_0};
  for (int i = 0; i < (once ? 1 : 5); i++) test_windows(types[i]);
  test_rollback(once ? 300 : LONG);
  test_forks(1);
  if (!once) test_forks(0);
  test_files(PGG_Q8_0, 1);
  if (!once) test_files(PGG_F16, 0);
  test_shift(PGG_F16, 2e-3);
  if (!once) test_shift(PGG_F32, 1e-5);
  if (!once) test_shift(PGG_Q8_0, 2e-2), test_shift(PGG_Q5_1, 0.1), test_shift(PGG_Q5_0, 0.15);
  if (!once) test_shift(PGG_Q4_1, 0.2), test_shift(PGG_Q4_0, 0.3), test_shift(PGG_IQ4_NL, 0.3);
  test_shift_refusals();
  test_threads();
  tiny_free(&g_tiny);
  return check_done("test_state");
}
