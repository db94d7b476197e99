/* The seam of backends: a plan of which some ops run on devices with memory of their own gives the bits of the plan
 * that runs on the CPU alone, wherever it is cut; what a backend refuses comes back as its status and sentence, and
 * nothing is lost or kept by it. The second backend is backends/mirror. */
#include <pthread.h>

#include "backends/mirror/mirror.h"
#include "base/base.h"
#include "fake_gguf.h"

enum { V = 67, CTX = 64, BATCH = 16, STEPS = 9, MIRROR = 1, SECOND = 2 };
static const int64_t counts[STEPS] = {20, 1, 1, 5, 1, 16, 2, 1, 1}; /* the first is two pieces */

typedef struct answers {
  float rows[STEPS][V], together[3][V];
} answers;

static pgg_status freeze(pgg_plan *plan, int keep_all) {
  const pgg_limits limits = {BATCH, CTX, keep_all};
  return pgg_plan_freeze(plan, &limits);
}

/* Every step a session makes, and one step of three sessions. */
static void ask(pgg_plan *plan, int threads, answers *a) {
  pgg_session *s[3];
  int32_t ids[CTX];
  const int64_t n[3] = {3, 1, 7}, wanted[3] = {1, 1, 1};
  memset(a, 0, sizeof *a);
  for (int i = 0; i < 3; i++) s[i] = tiny_session(plan, CTX, PGG_F16);
  for (int i = 0; i < STEPS; i++) {
    tiny_ids(ids, (int)counts[i], V, (uint64_t)i + 1);
    CHECK_OK(pgg_session_step(s[0], ids, NULL, counts[i], 1, a->rows[i], threads));
  }
  tiny_ids(ids, 11, V, 99);
  CHECK_OK(pgg_plan_step(plan, s, n, 3, ids, wanted, a->together[0], threads));
  for (int i = 0; i < 3; i++) pgg_session_free(s[i]);
}

static int n_ops(const tiny *t) {
  pgg_plan *plan = tiny_plan_open(t);
  const int n = pgg_plan_times(plan, NULL, 0);
  pgg_plan_free(plan);
  return n;
}

/* A plan whose ops run on a device after the other, each ops at a time, from the first device on; not frozen. */
static pgg_plan *open_placed(const tiny *t, int each, int first) {
  pgg_plan *plan = tiny_plan_open(t);
  const int n = pgg_plan_times(plan, NULL, 0);
  for (int at = 0; at < n; at++) CHECK_OK(pgg_plan_place(plan, at, at, first + at / each % (3 - first)));
  return plan;
}

static void same_answers(const answers *want, pgg_plan *plan, const char *what, int at) {
  static answers got;
  for (int threads = 1; threads <= 2; threads++) {
    ask(plan, threads, &got);
    CHECK(!memcmp(&got, want, sizeof got), "%s %d, %d threads: other bits", what, at, threads);
  }
}

static void test_cuts(int type) {
  static answers want;
  tiny t = tiny_make(type, 256, 8, 4, 32, 512, V);
  const int n = n_ops(&t);
  pgg_plan *plan = tiny_plan(&t, BATCH, CTX, 0);
  ask(plan, 1, &want);
  pgg_plan_free(plan);
  for (int at = 0; at < n; at++) {
    plan = tiny_plan_open(&t); /* from an op on */
    CHECK_OK(pgg_plan_place(plan, at, n - 1, MIRROR));
    CHECK_OK(freeze(plan, 0));
    same_answers(&want, plan, "from op", at);
    pgg_plan_free(plan);
    if (at % 3) continue;
    plan = tiny_plan_open(&t); /* up to an op, and a device more behind it */
    CHECK_OK(pgg_plan_place(plan, 0, at, MIRROR));
    if (at + 4 < n) CHECK_OK(pgg_plan_place(plan, at + 1, at + 4, SECOND));
    CHECK_OK(freeze(plan, 0));
    same_answers(&want, plan, "up to op", at);
    pgg_plan_free(plan);
  }
  plan = open_placed(&t, 1, 0); /* ops in turn: everything is carried, and back again */
  CHECK_OK(freeze(plan, 0));
  same_answers(&want, plan, "in turn", 0);
  CHECK(pgg_plan_arena_bytes(plan) > 0, "no scratch");
  pgg_plan_free(plan);
  CHECK_GIVEN_BACK();
  tiny_free(&t);
}

/* Every node of a plan that keeps them, wherever it lies. */
static void test_nodes(void) {
  tiny t = tiny_make(PGG_Q4_0, 256, 8, 4, 32, 512, V);
  const int n = n_ops(&t);
  pgg_plan *plain = tiny_plan(&t, BATCH, CTX, 1), *placed = open_placed(&t, 3, 0);
  int32_t ids[5];
  static float want[5 * 512], got[5 * 512];
  tiny_ids(ids, 5, V, 3);
  CHECK_OK(freeze(placed, 1));
  pgg_session *a = tiny_session(plain, CTX, PGG_F32), *b = tiny_session(placed, CTX, PGG_F32);
  CHECK_FAILS(PGG_EINVAL, "has not made a step", pgg_session_node(b, 0, got, 5));
  CHECK_OK(pgg_session_step(a, ids, NULL, 5, 2, want, 1));
  CHECK_OK(pgg_session_step(b, ids, NULL, 5, 2, got, 2));
  CHECK(!memcmp(got, want, 2 * V * sizeof *got), "other logits");
  for (int node = 0; node < n; node++) {
    int64_t rows, cols;
    CHECK_OK(pgg_plan_node_shape(plain, node, &rows, &cols));
    const int64_t count = (rows == PGG_ROWS_WANTED ? 2 : 5) * cols;
    CHECK_OK(pgg_session_node(a, node, want, count));
    CHECK_OK(pgg_session_node(b, node, got, count));
    CHECK(!memcmp(got, want, (size_t)count * sizeof *got), "node %d: other bits", node);
  }
  pgg_session_free(a), pgg_session_free(b);
  pgg_plan_free(plain), pgg_plan_free(placed);
  CHECK_GIVEN_BACK();
  tiny_free(&t);
}

static const char *const names[MIRROR_CALLS] = {
    [MIRROR_OPEN] = "open",     [MIRROR_ALLOC] = "alloc",     [MIRROR_WRITE] = "write", [MIRROR_READ] = "read",
    [MIRROR_WEIGHT] = "weight", [MIRROR_COMPILE] = "compile", [MIRROR_RUN] = "run",     [MIRROR_WAIT] = "wait",
};

/* All that is done with a placed plan, until somebody refuses. */
static pgg_status live(pgg_plan *plan, const int32_t *ids, float *out) {
  pgg_session *session = NULL;
  pgg_status status = freeze(plan, 0);
  if (!status) status = pgg_session_new(plan, CTX, PGG_F32, &session);
  if (!status) {
    status = pgg_session_step(session, ids, NULL, 5, 1, out, 1);
    CHECK(pgg_session_n_past(session) == (status ? 0 : 5), "at %lld", (long long)pgg_session_n_past(session));
    if (status) { /* once more: the session is as before */
      char text[200];
      snprintf(text, sizeof text, "%s", pgg_last_error());
      mirror_fails = MIRROR_NONE;
      CHECK_OK(pgg_session_step(session, ids, NULL, 5, 1, out, 1));
      pgg_fail(status, "%s", text);
    }
  }
  pgg_session_free(session);
  return status;
}

static void test_refusals(void) {
  tiny t = tiny_small(V);
  const int n = n_ops(&t);
  float want[V], got[V];
  int32_t ids[5];
  tiny_ids(ids, 5, V, 3);
  pgg_plan *plan = tiny_plan_open(&t);
  CHECK_OK(live(plan, ids, want));
  CHECK_FAILS(PGG_EINVAL, "frozen", pgg_plan_place(plan, 0, 0, 0));
  pgg_plan_free(plan);
  for (mirror_call call = MIRROR_OPEN; call < MIRROR_CALLS; call++) {
    if (call == MIRROR_COPY) continue; /* of states: test_state.c */
    int failed = 0;
    for (int after = 0;; after++) {
      char text[100];
      plan = open_placed(&t, 5, 0);
      mirror_fails = call;
      mirror_after = after;
      const pgg_status status = live(plan, ids, got);
      snprintf(text, sizeof text, "mirror: %s was told to fail", names[call]);
      if (status) CHECK_FAILS(PGG_EBACKEND, text, status);
      failed += status != PGG_OK;
      if (status && mirror_fails) { /* at freeze or at the session's beginning: once more */
        mirror_fails = MIRROR_NONE;
        if (call == MIRROR_OPEN || call == MIRROR_WEIGHT || call == MIRROR_COMPILE) CHECK_OK(freeze(plan, 0));
        pgg_session *session = tiny_session(plan, CTX, PGG_F32);
        CHECK_OK(pgg_session_step(session, ids, NULL, 5, 1, got, 1));
        pgg_session_free(session);
      }
      CHECK(!memcmp(got, want, sizeof got), "%s %d: other bits", names[call], after);
      pgg_plan_free(plan);
      mirror_fails = MIRROR_NONE;
      CHECK(mirror_held == 0, "%s %d: %d things were not given back", names[call], after, mirror_held);
      if (!status) break;
    }
    CHECK(failed > 0, "%s was never called", names[call]);
  }
  plan = tiny_plan_open(&t);
  CHECK_FAILS(PGG_EINVAL, "there is no device 9; this machine has 3", pgg_plan_place(plan, 0, 0, 9));
  CHECK_FAILS(PGG_EINVAL, "there is no device -1", pgg_plan_place(plan, 0, 0, -1));
  CHECK_FAILS(PGG_EINVAL, "ops 3 to 2 are not", pgg_plan_place(plan, 3, 2, 0));
  CHECK_FAILS(PGG_EINVAL, "are not in the plan", pgg_plan_place(plan, 0, n, 0));
  CHECK_FAILS(PGG_EINVAL, "are not in the plan", pgg_plan_place(plan, -1, 0, 0));
  CHECK_FAILS(PGG_EINVAL, "plan is NULL", pgg_plan_place(NULL, 0, 0, 0));
  pgg_plan_free(plan);
  tiny_free(&t);
}

static void test_devices(void) {
  pgg_device_info about;
  CHECK(pgg_device_count() == 3, "%d devices", pgg_device_count());
  CHECK_OK(pgg_device_about(0, &about));
  CHECK(!strcmp(about.id, "cpu:0") && about.kind == PGG_DEVICE_CPU && about.unified, "%s", about.id);
  CHECK_OK(pgg_device_about(2, &about));
  CHECK(!strcmp(about.id, "mirror:1") && !strcmp(about.name, "mirror 1") && !about.why_not[0], "%s", about.id);
  CHECK_FAILS(PGG_EINVAL, "there is no device 3", pgg_device_about(3, &about));
  CHECK_FAILS(PGG_EINVAL, "about is NULL", pgg_device_about(0, NULL));
}

static int g_watched;
static int watcher(void) { return ++g_watched > 0; }

/* Between segments: the ones behind do not run, and the session is as before. */
static void test_cancel(void) {
  tiny t = tiny_small(V);
  float want[V], got[V];
  int32_t ids[5];
  tiny_ids(ids, 5, V, 3);
  pgg_plan *plan = open_placed(&t, 4, MIRROR);
  CHECK_OK(freeze(plan, 0));
  pgg_session *s = tiny_session(plan, CTX, PGG_F32);
  CHECK_OK(pgg_session_step(s, ids, NULL, 5, 1, want, 1));
  mirror_calls[MIRROR_RUN] = 0;
  mirror_cancel(s, 1);
  CHECK_FAILS(PGG_ECANCELLED, "cancelled", pgg_session_step(s, ids, NULL, 5, 1, got, 1));
  mirror_cancel(NULL, 0);
  CHECK(mirror_calls[MIRROR_RUN] == 1, "%d segments ran", mirror_calls[MIRROR_RUN]);
  mirror_calls[MIRROR_RUN] = 0;
  pgg_watch(watcher);
  for (int i = 0; i < 50 && !g_watched; i++) (void)pgg_session_step(s, ids, NULL, 1, 1, got, 1);
  pgg_watch(NULL);
  CHECK_OK(pgg_session_truncate(s, 0));
  CHECK_OK(pgg_session_step(s, ids, NULL, 5, 1, got, 1));
  CHECK(!memcmp(got, want, sizeof got), "a cancelled step left a trace");
  tiny_end(s, plan, &t);
  CHECK_GIVEN_BACK();
}

/* A plan file keeps where ops run: by the names of devices, so that none is taken for another. */
static void test_plan_file(void) {
  static answers want;
  tiny t = tiny_make(PGG_Q8_0, 64, 4, 2, 32, 96, V);
  fake *f = fake_of(&t, 2);
  const int n = n_ops(&t);
  pgg_plan *plan = tiny_plan(&t, BATCH, CTX, 0), *again = NULL;
  pgg_plan_ends got;
  size_t size = 0, plain = 0;
  ask(plan, 1, &want);
  free(fake_save(plan, f, &plain));
  pgg_plan_free(plan);
  plan = open_placed(&t, 3, 0);
  CHECK_OK(freeze(plan, 0));
  unsigned char *bytes = fake_save(plan, f, &size);
  CHECK(size > plain, "%zu bytes with places, %zu without", size, plain);
  CHECK_OK(pgg_plan_read(bytes, size, f->files, 2, &again, &got));
  for (int at = 0; at < n; at++)
    CHECK(again->ops[at].device == at / 3 % 3, "op %d is read for device %d", at, again->ops[at].device);
  same_answers(&want, again, "as a file", 0);
  pgg_plan_free(plan), pgg_plan_free(again);
  free(got.ids);
  mirror_fails = MIRROR_OPEN, mirror_after = 0;
  CHECK_FAILS(PGG_EBACKEND, "told to fail", pgg_plan_read(bytes, size, f->files, 2, &again, &got));
  mirror_fails = MIRROR_NONE;
  size_t at = plain;
  while (at < size && memcmp(bytes + at, "mirror:1", 8)) at++;
  CHECK(at + 16 <= size, "no second mirror");
  const unsigned char last[4] = {bytes[at + 12], bytes[at + 13], bytes[at + 14], bytes[at + 15]};
  bytes[at + 12] = (unsigned char)n, bytes[at + 13] = bytes[at + 14] = bytes[at + 15] = 0;
  seal(bytes, size);
  CHECK_FAILS(PGG_EFORMAT, "cut or broken", pgg_plan_read(bytes, size, f->files, 2, &again, &got));
  memcpy(bytes + at + 12, last, 4);
  bytes[at + 7] = '2';
  seal(bytes, size);
  CHECK_FAILS(PGG_EUNSUPPORTED, "device mirror:2, which is not here",
              pgg_plan_read(bytes, size, f->files, 2, &again, &got));
  bytes[at + 7] = '1';
  for (at = plain - 4; at < size; at++) { /* whatever stands there, it is a plan or a status, and nothing is kept */
    bytes[at] ^= 0x41;
    seal(bytes, size);
    if (!pgg_plan_read(bytes, size, f->files, 2, &again, &got)) pgg_plan_free(again), free(got.ids);
    bytes[at] ^= 0x41;
  }
  free(bytes), fake_free(f);
  CHECK_GIVEN_BACK();
  tiny_free(&t);
}

typedef struct walker {
  pgg_plan *plan;
  answers got;
} walker;

static void *walk(void *ctx) {
  walker *w = ctx;
  for (int i = 0; i < 5; i++) ask(w->plan, 1, &w->got);
  return NULL;
}

/* Pieces of a placed plan take turns. */
static void test_threads(void) {
  static walker walkers[3];
  static answers want;
  pthread_t threads[3];
  tiny t = tiny_small(V);
  const int n = n_ops(&t);
  for (int whole = 0; whole < 2; whole++) {
    pgg_plan *plan = tiny_plan(&t, BATCH, CTX, 0);
    ask(plan, 1, &want);
    pgg_plan_free(plan);
    plan = tiny_plan_open(&t);
    CHECK_OK(pgg_plan_place(plan, whole ? 0 : n / 2, n - 1, MIRROR));
    CHECK_OK(freeze(plan, 0));
    for (int i = 0; i < 3; i++) {
      walkers[i].plan = plan;
      pthread_create(&threads[i], NULL, walk, &walkers[i]);
    }
    for (int i = 0; i < 3; i++) {
      pthread_join(threads[i], NULL);
      CHECK(!memcmp(&walkers[i].got, &want, sizeof want), "thread %d: other bits", i);
    }
    CHECK(pgg_plan_close(plan) == 1, "not closed");
    pgg_plan_free(plan);
  }
  CHECK_GIVEN_BACK();
  tiny_free(&t);
}

int main(void) {
  test_devices();
  test_cuts(PGG_F32);
  test_cuts(PGG_Q4_0);
  test_nodes();
  test_refusals();
  test_cancel();
  test_plan_file();
  test_threads();
  return check_done("test_place");
}
