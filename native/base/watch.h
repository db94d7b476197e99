/* Somebody who may want to end a long call: asked by the thread that made the call, about ten times a second. */
#ifndef PGG_WATCH_H
#define PGG_WATCH_H
#include "base/base.h"

#define PGG_WATCH_MS 100

/* Asks pgg_watch's function if it is time to. Never call it under the lock of sync.h: the function may run anything,
 * even the calls of this library or a fork. */
bool pgg_watch_stops(void);

#endif
