/* Locks, conditions, threads and the fair gate: the one file that knows pthreads and their Windows names. */
#if !defined(_WIN32) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "base/sync.h"

#include <stdlib.h>

#include "base/watch.h"

#if defined(_WIN32)

static SRWLOCK g_lock = SRWLOCK_INIT;
void pgg_lock(void) { AcquireSRWLockExclusive(&g_lock); }
void pgg_unlock(void) { ReleaseSRWLockExclusive(&g_lock); }
unsigned pgg_generation(void) { return 0; }
void pgg_cond_init(pgg_cond *cond) { InitializeConditionVariable(cond); }
void pgg_cond_free(pgg_cond *cond) { (void)cond; }
void pgg_cond_wait(pgg_cond *cond) { SleepConditionVariableSRW(cond, &g_lock, INFINITE, 0); }
bool pgg_cond_wait_ms(pgg_cond *cond, int ms) { return SleepConditionVariableSRW(cond, &g_lock, (DWORD)ms, 0); }
void pgg_cond_wake(pgg_cond *cond) { WakeConditionVariable(cond); }
void pgg_cond_wake_all(pgg_cond *cond) { WakeAllConditionVariable(cond); }

#else

#include <signal.h>
#include <time.h>

static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t g_once = PTHREAD_ONCE_INIT;
static unsigned g_generation;

/* Holding the lock across fork means that the child never sees a half-changed list. Its copy of the lock is made
 * anew rather than unlocked, because the thread that holds it there has another identity. */
static void before_fork(void) { pthread_mutex_lock(&g_lock); }
static void after_fork_parent(void) { pthread_mutex_unlock(&g_lock); }
static void after_fork_child(void) {
  pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
  g_lock = fresh;
  g_generation++;
}
static void register_fork(void) { pthread_atfork(before_fork, after_fork_parent, after_fork_child); }

void pgg_lock(void) {
  pthread_once(&g_once, register_fork);
  pthread_mutex_lock(&g_lock);
}
void pgg_unlock(void) { pthread_mutex_unlock(&g_lock); }
unsigned pgg_generation(void) { return g_generation; }
void pgg_cond_init(pgg_cond *cond) {
#if defined(__APPLE__)
  pthread_cond_init(cond, NULL);
#else
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* nobody sets it back */
  pthread_cond_init(cond, &attr);
  pthread_condattr_destroy(&attr);
#endif
}
void pgg_cond_free(pgg_cond *cond) { pthread_cond_destroy(cond); }
void pgg_cond_wait(pgg_cond *cond) { pthread_cond_wait(cond, &g_lock); }
bool pgg_cond_wait_ms(pgg_cond *cond, int ms) {
#if defined(__APPLE__)
  const struct timespec span = {ms / 1000, ms % 1000 * 1000000L};
  return pthread_cond_timedwait_relative_np(cond, &g_lock, &span) == 0;
#else
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  const int64_t ns = end.tv_nsec + (int64_t)ms * 1000000;
  end.tv_sec += (time_t)(ns / 1000000000);
  end.tv_nsec = (long)(ns % 1000000000);
  return pthread_cond_timedwait(cond, &g_lock, &end) == 0;
#endif
}
void pgg_cond_wake(pgg_cond *cond) { pthread_cond_signal(cond); }
void pgg_cond_wake_all(pgg_cond *cond) { pthread_cond_broadcast(cond); }

#endif

/* ---- threads ------------------------------------------------------------------------------------------- */

typedef struct thread_start {
  void (*fn)(void *);
  void *arg;
} thread_start;

#if defined(_WIN32)
static DWORD WINAPI thread_main(LPVOID arg) {
#else
static void *thread_main(void *arg) {
#endif
  thread_start start = *(thread_start *)arg;
  free(arg);
  start.fn(start.arg);
  return 0;
}

bool pgg_thread_start(void (*fn)(void *), void *arg) {
  thread_start *start = malloc(sizeof *start);
  if (!start) return false;
  start->fn = fn;
  start->arg = arg;
#if defined(_WIN32)
  HANDLE thread = CreateThread(NULL, 0, thread_main, start, 0, NULL);
  bool ok = thread != NULL;
  if (ok) CloseHandle(thread);
#else
  /* The host's signal handlers belong to the host's threads: a new thread inherits the mask of its maker. */
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pthread_t thread;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  bool ok = pthread_create(&thread, &attr, thread_main, start) == 0;
  pthread_attr_destroy(&attr);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
#endif
  if (!ok) free(start);
  return ok;
}

/* ---- the fair gate ------------------------------------------------------------------------------------- */

struct pgg_gate_waiter {
  pgg_cond cond;
  int slot; /* -1 while waiting */
  pgg_gate_waiter *next;
};

/* In a forked child the threads that held or awaited slots do not exist. */
static void gate_renew(pgg_gate *gate) {
  if (gate->generation == pgg_generation()) return;
  gate->generation = pgg_generation();
  gate->busy = 0;
  gate->head = gate->tail = NULL;
}

/* The slot goes straight to the longest waiter, so nobody can take it in between. Under the lock. */
static void slot_back(pgg_gate *gate, int slot) {
  pgg_gate_waiter *next = gate->head;
  if (next) {
    gate->head = next->next;
    if (!gate->head) gate->tail = NULL;
    next->slot = slot;
    pgg_cond_wake(&next->cond);
  } else {
    gate->busy &= ~((uint32_t)1 << slot);
  }
}

/* One who waits no longer. In a forked child the list is empty. */
static void step_out(pgg_gate *gate, pgg_gate_waiter *me) {
  pgg_gate_waiter *before = NULL;
  for (pgg_gate_waiter **at = &gate->head; *at; before = *at, at = &(*at)->next)
    if (*at == me) {
      *at = me->next;
      if (gate->tail == me) gate->tail = before;
      return;
    }
}

int pgg_gate_enter(pgg_gate *gate) {
  pgg_lock();
  gate_renew(gate);
  int slot = -1;
  if (!gate->head)
    for (int i = 0; i < gate->n && slot < 0; i++)
      if (!(gate->busy >> i & 1)) slot = i;
  if (slot >= 0) {
    gate->busy |= (uint32_t)1 << slot;
  } else {
    pgg_gate_waiter me = {.slot = -1};
    pgg_cond_init(&me.cond);
    if (gate->tail)
      gate->tail->next = &me;
    else
      gate->head = &me;
    gate->tail = &me;
    bool stops = false;
    while (me.slot < 0 && !stops) {
      if (pgg_cond_wait_ms(&me.cond, PGG_WATCH_MS)) continue;
      const unsigned generation = pgg_generation();
      pgg_unlock();
      stops = pgg_watch_stops();
      pgg_lock();
      gate_renew(gate);
      if (pgg_generation() != generation) stops = true; /* forked meanwhile: nobody here would give the slot */
    }
    if (stops && me.slot < 0) step_out(gate, &me);
    if (stops && me.slot >= 0) slot_back(gate, me.slot);
    slot = stops ? -1 : me.slot;
    pgg_cond_free(&me.cond);
  }
  pgg_unlock();
  return slot;
}

void pgg_gate_leave(pgg_gate *gate, int slot) {
  pgg_lock();
  gate_renew(gate);
  slot_back(gate, slot);
  pgg_unlock();
}
