/* Floor 0: what every file of the core may use: integer types, alignment, errors, memory, threads.
 * Knows nothing of tensors or models. */
#ifndef PGG_BASE_H
#define PGG_BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgg.h"

/* Sets this thread's message (printf style, cut at 1,000 characters) and returns status. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
pgg_status pgg_fail(pgg_status status, const char *format, ...);

/* a * b in *out; false on overflow or a negative factor. */
bool pgg_mul_size(int64_t a, int64_t b, size_t *out);

static inline int64_t pgg_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t pgg_max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
