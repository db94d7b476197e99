/* Memory below pgg_alloc: pages of the system and 64-byte aligned blocks. Nothing here keeps lists or pools. */
#ifndef PGG_MEMORY_H
#define PGG_MEMORY_H
#include "base/base.h"

/* Zeroed pages that cost nothing until they are touched; huge asks for 2 MiB pages. NULL when refused.
 * Give them back with pgg_free. */
void *pgg_pages(size_t bytes, bool huge);

#define PGG_ALIGN 64
static inline size_t pgg_align_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

#endif
