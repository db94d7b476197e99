/* The team: barriers, order, many callers at once, cancelling, fork.
 * Thread checker (OpenMP's own run time is not built for it, so the workers are the other ones):
 *   cmake -B build/tsan native -DPGG_SANITIZE=thread -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS=-O1 \
 *     -DCMAKE_C_COMPILER=clang -DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON
 *   cmake --build build/tsan --target test_threads && ctest --test-dir build/tsan -R threads */
#include "tiny_plan.h"

#if defined(_WIN32)
int main(void) { return 0; } /* these tests are written with pthreads and fork */
#else

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/sync.h"
#include "base/threads.h"

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

static void nap(int ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
  nanosleep(&t, NULL);
}

/* ---- the team itself ----------------------------------------------------------------------------------- */

enum { ROUNDS = 200, SLOTS = 64 };
typedef struct relay {
  int values[ROUNDS][SLOTS];
  int wrong[SLOTS];
  int nth;
} relay;

/* In every round each thread writes, and after the barrier reads what its neighbour wrote. */
static void relay_run(void *ctx, pgg_team *team, int ith, int nth) {
  relay *r = ctx;
  if (ith == 0) r->nth = nth;
  for (int i = 0; i < ROUNDS; i++) {
    r->values[i][ith] = i * nth + ith;
    pgg_team_barrier(team);
    const int other = (ith + 1) % nth;
    if (r->values[i][other] != i * nth + other) r->wrong[ith]++;
  }
}

static void *relay_caller(void *arg) {
  relay *r = calloc(1, sizeof *r);
  for (int i = 0; i < 10; i++) {
    CHECK_OK(pgg_team_run(1 + (int)(intptr_t)arg % 4, relay_run, r));
    for (int j = 0; j < SLOTS; j++) CHECK(!r->wrong[j], "thread %d read too early", j);
  }
  free(r);
  return NULL;
}

static void test_team(void) {
  pthread_t threads[6];
  for (int i = 0; i < 6; i++) pthread_create(&threads[i], NULL, relay_caller, (void *)(intptr_t)i);
  for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
  for (int64_t n = 0; n < 40; n++)
    for (int nth = 1; nth < 6; nth++) {
      int64_t at = 0, begin, end;
      for (int ith = 0; ith < nth; ith++) {
        pgg_team_range(n, 8, ith, nth, &begin, &end);
        CHECK(begin == at && end >= begin && (end % 8 == 0 || end == n), "range of %d of %d", ith, nth);
        at = end;
      }
      CHECK(at == n, "ranges of %lld end at %lld", (long long)n, (long long)at);
    }
  CHECK(pgg_threads_default() >= 1, "default");
  setenv("OMP_NUM_THREADS", "3", 1);
  CHECK(pgg_threads_default() == 3, "OMP_NUM_THREADS");
  setenv("OMP_NUM_THREADS", "0", 1);
  CHECK(pgg_threads_default() >= 1, "OMP_NUM_THREADS of 0");
  unsetenv("OMP_NUM_THREADS");
}

/* Waiters get their slot in the order in which they came. */
static pgg_gate gate = {.n = 1};
static int order[8];
static atomic_int n_order, n_come;

static void *gate_caller(void *arg) {
  while (atomic_load(&n_come) != (int)(intptr_t)arg) nap(1);
  atomic_fetch_add(&n_come, 1);
  int slot = pgg_gate_enter(&gate);
  order[atomic_fetch_add(&n_order, 1)] = (int)(intptr_t)arg;
  pgg_gate_leave(&gate, slot);
  return NULL;
}

static void test_gate(void) {
  pthread_t threads[8];
  int slot = pgg_gate_enter(&gate);
  CHECK(slot == 0, "slot %d", slot);
  for (int i = 0; i < 8; i++) {
    pthread_create(&threads[i], NULL, gate_caller, (void *)(intptr_t)i);
    while (atomic_load(&n_come) <= i) nap(1);
    nap(20); /* to let it reach the gate */
  }
  pgg_gate_leave(&gate, slot);
  for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 8; i++) CHECK(order[i] == i, "place %d went to %d", i, order[i]);
}

/* ---- steps from many threads --------------------------------------------------------------------------- */

enum { CALLERS = 8, STEPS = 12, V = 300 };
static pgg_plan *g_plan;

typedef struct speaker {
  int n_threads;
  uint64_t seed;
  int32_t ids[STEPS];
} speaker;

static void *speak(void *arg) {
  speaker *me = arg;
  pgg_session *s = NULL;
  pgg_sampler *sampler = NULL;
  pgg_sampling how = {
      .temperature = 1, .top_k = 40, .top_p = 0.95f, .repeat_penalty = 1.1f, .repeat_last_n = 16, .seed = me->seed};
  int32_t prompt[20];
  tiny_ids(prompt, 20, V, me->seed);
  CHECK_OK(pgg_session_new(g_plan, 64, PGG_F16, &s));
  CHECK_OK(pgg_sampler_new(&how, V, &sampler));
  CHECK_OK(pgg_session_next(s, sampler, prompt, 20, me->n_threads, &me->ids[0]));
  for (int i = 1; i < STEPS; i++)
    CHECK_OK(pgg_session_next(s, sampler, &me->ids[i - 1], 1, me->n_threads, &me->ids[i]));
  pgg_sampler_free(sampler);
  pgg_session_free(s);
  return NULL;
}

static void test_speakers(void) {
  static speaker alone[CALLERS], together[CALLERS];
  pthread_t threads[CALLERS];
  for (int i = 0; i < CALLERS; i++) {
    alone[i] = (speaker){.n_threads = 1, .seed = (uint64_t)i + 1};
    together[i] = (speaker){.n_threads = 1 + i % 3, .seed = (uint64_t)i + 1};
    speak(&alone[i]);
  }
  for (int i = 0; i < CALLERS; i++) pthread_create(&threads[i], NULL, speak, &together[i]);
  for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < CALLERS; i++)
    CHECK(!memcmp(alone[i].ids, together[i].ids, sizeof alone[i].ids), "speaker %d says something else in company", i);
}

/* ---- cancelling a running step ------------------------------------------------------------------------- */

static void *cancel_later(void *session) {
  nap(30);
  pgg_session_cancel(session, 1);
  return NULL;
}

static void test_cancel(void) {
  enum { LONG = 4000 };
  static int32_t ids[LONG];
  tiny t = tiny_make(PGG_F32, 256, 4, 2, 32, 512, V);
  pgg_plan *plan = tiny_plan(&t, 64, LONG, 0);
  pgg_session *s = NULL;
  float before[V], after[V];
  tiny_ids(ids, LONG, V, 3);
  CHECK_OK(pgg_session_new(plan, LONG, PGG_F32, &s));
  CHECK_OK(pgg_session_step(s, ids, NULL, 10, 1, before, 2));
  for (int threads = 1; threads <= 3; threads++) {
    pthread_t other;
    pthread_create(&other, NULL, cancel_later, s);
    pgg_status status = PGG_OK;
    for (int i = 0; i < 1000 && status == PGG_OK; i++) { /* a fast machine may finish some */
      status = pgg_session_step(s, ids, NULL, LONG - 10, 0, NULL, threads);
      if (status == PGG_OK) CHECK_OK(pgg_session_truncate(s, 10));
    }
    pthread_join(other, NULL);
    CHECK(status == PGG_ECANCELLED, "%s", pgg_status_text(status));
    CHECK(pgg_session_n_past(s) == 10, "moved to %lld", (long long)pgg_session_n_past(s));
    pgg_session_cancel(s, 0);
    CHECK_OK(pgg_session_truncate(s, 9));
    CHECK_OK(pgg_session_step(s, ids + 9, NULL, 1, 1, after, threads));
    CHECK(distance_f(after, before, V) < 1e-5, "the cache was changed");
  }
  pgg_session_free(s);
  pgg_plan_free(plan);
  tiny_free(&t);
}

/* ---- fork ---------------------------------------------------------------------------------------------- */

static atomic_int g_stop;
static void *busy(void *arg) {
  speaker me = {.n_threads = (int)(intptr_t)arg, .seed = 5};
  while (!atomic_load(&g_stop)) speak(&me);
  return NULL;
}

/* A child made while other threads are in the middle of steps does a step of its own and leaves. */
static void test_fork(void) {
  static speaker parent, child;
  pthread_t threads[3];
  parent = (speaker){.n_threads = 2, .seed = 11};
  speak(&parent);
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, busy, (void *)(intptr_t)(i + 1));
  for (int i = 0; i < 5; i++) {
    nap(3);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
      alarm(30);
      child = (speaker){.n_threads = 1 + i % 3, .seed = 11};
      speak(&child);
      _exit(check_failures || memcmp(parent.ids, child.ids, sizeof child.ids) != 0);
    }
    CHECK(pid > 0, "fork");
    int how = 0;
    if (pid > 0) waitpid(pid, &how, 0);
    CHECK(WIFEXITED(how) && WEXITSTATUS(how) == 0, "child %d ended with %x", i, how);
  }
  atomic_store(&g_stop, 1);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  child = (speaker){.n_threads = 2, .seed = 11};
  speak(&child);
  CHECK(!memcmp(parent.ids, child.ids, sizeof child.ids), "the parent after its forks");
}

int main(void) {
  test_team();
  test_gate();
  tiny t = tiny_make(PGG_Q8_0, 512, 4, 2, 32, 1024, V);
  g_plan = tiny_plan(&t, 32, 64, 0);
  test_speakers();
  test_cancel();
  /* Neither thread checkers nor qemu-user (whose CPU run.sh names) follow a fork of many threads. */
  if (!THREAD_CHECKER && !getenv("QEMU_CPU")) test_fork();
  pgg_plan_free(g_plan);
  tiny_free(&t);
  return check_done("test_threads");
}

#endif
