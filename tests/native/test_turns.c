/* Turns and ends: everything that may come beside a running step, from other threads and from a watcher inside it. */
#include "tiny_plan.h"

#if defined(_WIN32)
int main(void) { return 0; } /* these tests are written with pthreads and fork */
#else

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_CHECKER 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define THREAD_CHECKER 1
#endif
#if !defined(THREAD_CHECKER)
#define THREAD_CHECKER 0
#endif

enum { V = 67, LONG = 1500 };
static int32_t ids[LONG];
static tiny model;

static void nap(int ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
  nanosleep(&t, NULL);
}

static pgg_session *session_of(pgg_plan *plan) {
  pgg_session *s = NULL;
  CHECK_OK(pgg_session_new(plan, LONG, PGG_F32, &s));
  return s;
}

/* A thread that makes long steps until one fails. */
typedef struct stepper {
  pgg_session *session;
  int n_threads;
  atomic_int steps; /* ended well */
  atomic_int runs;
  pgg_status status;
} stepper;

static void *keep_stepping(void *arg) {
  stepper *me = arg;
  me->status = PGG_OK;
  for (int i = 0; i < 100000 && !me->status; i++) {
    atomic_store(&me->runs, 1);
    me->status = pgg_session_step(me->session, ids, NULL, LONG, 0, NULL, me->n_threads);
    if (me->status) break;
    atomic_fetch_add(&me->steps, 1);
    me->status = pgg_session_truncate(me->session, 0);
  }
  return NULL;
}

static pthread_t start(stepper *s) {
  pthread_t thread;
  pthread_create(&thread, NULL, keep_stepping, s);
  while (!atomic_load(&s->runs)) nap(1);
  nap(5);
  return thread;
}

/* ---- other threads ------------------------------------------------------------------------------------- */

static atomic_int g_stop;

static void *shorten(void *session) {
  while (!atomic_load(&g_stop)) {
    pgg_status status = pgg_session_truncate(session, 0);
    CHECK(status == PGG_OK, "truncate beside a step: %s", pgg_last_error());
    pgg_session_cancel(session, 1);
    int64_t n = pgg_session_n_past(session);
    CHECK(n >= 0 && n <= LONG, "position %lld", (long long)n);
  }
  return NULL;
}

static void test_shortening(void) {
  pgg_plan *plan = tiny_plan(&model, 16, LONG, 0);
  pgg_session *s = session_of(plan);
  float want[V], got[V];
  CHECK_OK(pgg_session_step(s, ids, NULL, 30, 1, want, 1));
  CHECK_OK(pgg_session_truncate(s, 0));
  for (int threads = 1; threads <= 3; threads++) {
    pthread_t other;
    int ended[2] = {0, 0};
    atomic_store(&g_stop, 0);
    pthread_create(&other, NULL, shorten, s);
    for (int i = 0; i < 200; i++) {
      pgg_status status = pgg_session_step(s, ids, NULL, 200, 0, NULL, threads);
      CHECK(status == PGG_OK || status == PGG_ECANCELLED || status == PGG_EINVAL, "%s", pgg_last_error());
      ended[status != PGG_OK]++;
      int64_t n = pgg_session_n_past(s);
      CHECK(n >= 0 && n % 200 == 0, "position %lld", (long long)n);
    }
    atomic_store(&g_stop, 1);
    pthread_join(other, NULL);
    CHECK(ended[1] > 0, "nothing was cancelled");
    CHECK_OK(pgg_session_truncate(s, 0));
    pgg_session_cancel(s, 0);
    CHECK_OK(pgg_session_step(s, ids, NULL, 30, 1, got, 1));
    CHECK(!memcmp(got, want, sizeof got), "other bits after all that");
    CHECK_OK(pgg_session_truncate(s, 0));
  }
  pgg_session_free(s);
  pgg_plan_free(plan);
}

static void test_second_step(void) {
  pgg_plan *plan = tiny_plan(&model, 16, LONG, 0);
  stepper a = {.session = session_of(plan), .n_threads = 2};
  pgg_session *free_one = session_of(plan), *pair[2] = {free_one, a.session};
  const int64_t counts[2] = {1, 1}, wanted[2] = {0, 0};
  pthread_t thread = start(&a);
  int refused = 0;
  for (int i = 0; i < 200 && refused < 2; i++) { /* between two steps it is free */
    if (pgg_session_step(a.session, ids, NULL, 1, 0, NULL, 1)) {
      CHECK(strstr(pgg_last_error(), "running in another thread"), "%s", pgg_last_error());
      refused++;
    }
    if (pgg_plan_step(plan, pair, counts, 2, ids, wanted, NULL, 1)) {
      CHECK(strstr(pgg_last_error(), "session 1 is running"), "%s", pgg_last_error());
      refused++;
    }
  }
  CHECK(refused >= 2, "a second step was never refused");
  CHECK_OK(pgg_session_step(free_one, ids, NULL, 1, 0, NULL, 1)); /* the one that could be taken was given back */
  pgg_session_free(free_one);
  pgg_session_close(a.session);
  pthread_join(thread, NULL);
  pgg_session_free(a.session);
  pgg_plan_free(plan);
}

static void test_close(void) {
  pgg_plan *plan = tiny_plan(&model, 16, LONG, 0);
  for (int threads = 1; threads <= 3; threads++) {
    stepper a = {.session = session_of(plan), .n_threads = threads};
    size_t bytes[2] = {1, 1};
    CHECK(pgg_plan_caches(plan, bytes, 2) == 1 && bytes[0] == 0, "a cache before its first step");
    pthread_t thread = start(&a);
    pgg_session_close(a.session);
    CHECK(pgg_plan_caches(plan, NULL, 0) == 0, "a cache is left");
    pgg_session_close(a.session);
    pthread_join(thread, NULL);
    CHECK(a.status == PGG_ECANCELLED || a.status == PGG_EINVAL, "%s", pgg_status_text(a.status));
    CHECK(pgg_session_n_past(a.session) == -1, "not closed");
    pgg_session_cancel(a.session, 1);
    CHECK_FAILS(PGG_EINVAL, "this session is closed", pgg_session_step(a.session, ids, NULL, 1, 0, NULL, 1));
    CHECK_FAILS(PGG_EINVAL, "this session is closed", pgg_session_truncate(a.session, 0));
    pgg_session_free(a.session);
  }
  pgg_plan_free(plan);
}

static void *close_plan(void *plan) {
  CHECK(pgg_plan_close(plan) == 1, "not quiet");
  return NULL;
}

static void test_plan_close(void) {
  for (int round = 0; round < 5; round++) {
    pgg_plan *plan = tiny_plan(&model, 16, LONG, 0);
    stepper a[4] = {{0}};
    pthread_t threads[4], closers[2];
    pgg_session *never = NULL;
    for (int i = 0; i < 4; i++) {
      a[i] = (stepper){.session = session_of(plan), .n_threads = 1 + i % 3};
      threads[i] = start(&a[i]);
    }
    for (int i = 0; i < 2; i++) pthread_create(&closers[i], NULL, close_plan, plan);
    for (int i = 0; i < 2; i++) pthread_join(closers[i], NULL);
    CHECK(pgg_plan_caches(plan, NULL, 0) == 0, "a cache is left");
    CHECK_FAILS(PGG_EINVAL, "the plan is closed", pgg_session_new(plan, 8, PGG_F32, &never));
    for (int i = 0; i < 4; i++) {
      pthread_join(threads[i], NULL);
      CHECK(a[i].status == PGG_ECANCELLED || a[i].status == PGG_EINVAL, "%s", pgg_status_text(a[i].status));
      pgg_session_free(a[i].session);
    }
    pgg_plan_free(plan);
  }
}

/* A cancel ends one step, and failures that come before a step leave it to the next. */
static void test_cancel(void) {
  pgg_plan *plan = tiny_plan(&model, 16, LONG, 0);
  pgg_session *s = session_of(plan);
  pgg_session_cancel(s, 1);
  CHECK_FAILS(PGG_EINVAL, "expected at least 1", pgg_session_step(s, ids, NULL, 0, 0, NULL, 1));
  CHECK_FAILS(PGG_ECANCELLED, "cancelled", pgg_session_step(s, ids, NULL, 1, 0, NULL, 1));
  CHECK_OK(pgg_session_step(s, ids, NULL, 1, 0, NULL, 1));
  CHECK(pgg_session_n_past(s) == 1, "position %lld", (long long)pgg_session_n_past(s));
  pgg_session_free(s);
  pgg_plan_free(plan);
}

/* ---- a watcher ----------------------------------------------------------------------------------------- */

static pthread_t g_caller;
static pgg_session *g_session;
static pgg_plan *g_plan;
static atomic_int g_asked;

static int watch_stop(void) {
  if (!pthread_equal(pthread_self(), g_caller)) CHECK(0, "asked by another thread");
  atomic_fetch_add(&g_asked, 1);
  return 1;
}

static int watch_touch(void) {
  if (atomic_fetch_add(&g_asked, 1)) return 0;
  CHECK_FAILS(PGG_EINVAL, "in the middle of a step", pgg_session_step(g_session, ids, NULL, 1, 0, NULL, 1));
  CHECK_FAILS(PGG_EINVAL, "inside a step", pgg_session_truncate(g_session, 0));
  return 1;
}

static int watch_close(void) {
  if (!atomic_fetch_add(&g_asked, 1)) pgg_session_close(g_session);
  return 0;
}

static int watch_close_plan(void) {
  if (!atomic_fetch_add(&g_asked, 1)) CHECK(pgg_plan_close(g_plan) == 0, "quiet in the middle of a step");
  return 0;
}

static void *step_watched(void *arg) {
  const int threads = *(int *)arg;
  pgg_status status = PGG_OK;
  g_caller = pthread_self();
  for (int i = 0; i < 100000 && !status; i++) {
    status = pgg_session_step(g_session, ids, NULL, LONG, 0, NULL, threads);
    if (!status) CHECK_OK(pgg_session_truncate(g_session, 0));
  }
  CHECK(status == PGG_ECANCELLED, "%s: %s", pgg_status_text(status), pgg_last_error());
  return NULL;
}

static void test_watcher(void) {
  const pgg_watcher watchers[] = {watch_stop, watch_touch, watch_close, watch_close_plan};
  for (int threads = 1; threads <= 2; threads++)
    for (int w = 0; w < 4; w++) {
      pthread_t thread; /* a new one: it has not been asked yet */
      g_plan = tiny_plan(&model, 64, LONG, 0);
      g_session = session_of(g_plan);
      atomic_store(&g_asked, 0);
      pgg_watch(watchers[w]);
      pthread_create(&thread, NULL, step_watched, &threads);
      pthread_join(thread, NULL);
      pgg_watch(NULL);
      CHECK(atomic_load(&g_asked) >= 1, "nobody was asked");
      CHECK(pgg_session_n_past(g_session) == (w < 2 ? 0 : -1), "watcher %d: position %lld", w,
            (long long)pgg_session_n_past(g_session));
      CHECK(pgg_plan_caches(g_plan, NULL, 0) == (w < 2), "watcher %d: caches", w);
      if (w < 2) CHECK_OK(pgg_session_step(g_session, ids, NULL, 1, 0, NULL, threads));
      pgg_session_free(g_session);
      pgg_plan_free(g_plan);
    }
}

/* ---- fork ---------------------------------------------------------------------------------------------- */

/* In the child of a fork beside steps nobody has a turn: all can be used, closed and freed. */
static void test_fork(void) {
  pgg_plan *plan = tiny_plan(&model, 16, LONG, 0);
  stepper a[2] = {{.session = session_of(plan), .n_threads = 2}, {.session = session_of(plan), .n_threads = 1}};
  pthread_t threads[2] = {start(&a[0]), start(&a[1])};
  for (int i = 0; i < 6; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      alarm(60);
      int bad = pgg_session_truncate(a[0].session, 0) != PGG_OK;
      bad |= pgg_session_step(a[0].session, ids, NULL, 20, 0, NULL, 2) != PGG_OK;
      pgg_session_close(a[1].session);
      bad |= pgg_plan_caches(plan, NULL, 0) != 1;
      bad |= pgg_plan_close(plan) != 1;
      for (int j = 0; j < 2; j++) pgg_session_free(a[j].session);
      pgg_plan_free(plan);
      _exit(bad);
    }
    CHECK(pid > 0, "fork");
    int how = 0;
    if (pid > 0) waitpid(pid, &how, 0);
    CHECK(WIFEXITED(how) && WEXITSTATUS(how) == 0, "child %d ended with %x", i, (unsigned)how);
    nap(3);
  }
  for (int i = 0; i < 2; i++) {
    pgg_session_close(a[i].session);
    pthread_join(threads[i], NULL);
    pgg_session_free(a[i].session);
  }
  pgg_plan_free(plan);
}

int main(void) {
  model = tiny_small(V);
  tiny_ids(ids, LONG, V, 3);
  test_cancel();
  test_shortening();
  test_second_step();
  test_close();
  test_plan_close();
  test_watcher();
  /* As in test_threads.c. */
  if (!THREAD_CHECKER && !getenv("QEMU_CPU")) test_fork();
  tiny_free(&model);
  return check_done("test_turns");
}

#endif
