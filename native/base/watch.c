/* When the watcher is asked: at most once in PGG_WATCH_MS by each thread, so that asking costs nothing that counts. */
#include "base/watch.h"

#include <stdatomic.h>

#include "base/clock.h"

#if defined(_MSC_VER)
static __declspec(thread) int64_t t_asked;
#else
static _Thread_local int64_t t_asked; /* when, in nanoseconds */
#endif

static _Atomic(pgg_watcher) g_watcher;

void pgg_watch(pgg_watcher watcher) { atomic_store(&g_watcher, watcher); }

bool pgg_watch_stops(void) {
  pgg_watcher watcher = atomic_load_explicit(&g_watcher, memory_order_relaxed);
  if (!watcher) return false;
  const int64_t now = pgg_now_ns();
  if (now - t_asked < PGG_WATCH_MS * (int64_t)1000000) return false;
  t_asked = now;
  return watcher() != 0;
}
