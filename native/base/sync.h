/* Locks, conditions and threads of the platform, one process-wide lock for short critical sections, and the fair
 * gate. Everything here survives fork: the lock is taken around it, and the child sees a new generation by which
 * owners of waiting lists know that the other threads are gone. */
#ifndef PGG_SYNC_H
#define PGG_SYNC_H
#include "base/base.h"

#if defined(_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
typedef CONDITION_VARIABLE pgg_cond;
#else
#include <pthread.h>
typedef pthread_cond_t pgg_cond;
#endif

/* The process-wide lock. Held for a few instructions only, never while computing. */
void pgg_lock(void);
void pgg_unlock(void);
unsigned pgg_generation(void); /* grows in a forked child; read it under the lock */

void pgg_cond_init(pgg_cond *cond);
void pgg_cond_free(pgg_cond *cond);
void pgg_cond_wait(pgg_cond *cond);            /* the lock is held before and after */
bool pgg_cond_wait_ms(pgg_cond *cond, int ms); /* the same; false when the time is over */
void pgg_cond_wake(pgg_cond *cond);            /* one waiter */
void pgg_cond_wake_all(pgg_cond *cond);

/* Starts a detached thread that takes no signals. false if the system refuses. */
bool pgg_thread_start(void (*fn)(void *), void *arg);

static inline void pgg_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ __volatile__("isb" ::: "memory"); /* yield does nothing on most cores; isb waits about as long as pause */
#elif defined(_WIN32)
  YieldProcessor();
#endif
}

/* n slots, entered in order of arrival. All zero but n is a valid gate. */
#define PGG_GATE_MAX 32
typedef struct pgg_gate_waiter pgg_gate_waiter;
typedef struct pgg_gate {
  int n; /* 1..PGG_GATE_MAX */
  uint32_t busy;
  unsigned generation;
  pgg_gate_waiter *head, *tail;
} pgg_gate;
int pgg_gate_enter(pgg_gate *gate); /* waits its turn; a slot in [0, n), or -1 when the watcher (watch.h) said stop */
void pgg_gate_leave(pgg_gate *gate, int slot);

#endif
