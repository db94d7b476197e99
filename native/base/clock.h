/* The time that only goes forward. */
#ifndef PGG_BASE_CLOCK_H
#define PGG_BASE_CLOCK_H

#include <stdint.h>

int64_t pgg_now_ns(void); /* monotonic; from an arbitrary start */

#endif
