/* Memory in pieces that fill huge pages. A span of the cache of a small model is less than a huge page, or one and a
 * half: on small pages attention over a long text is a tenth slower. So pieces of one size share slabs, as many as make
 * whole huge pages; a slab goes when its last piece does. */
#include <stdlib.h>

#include "backends/cpu/cpu.h"
#include "base/memory.h"

#define HUGE_PAGE ((size_t)2 << 20)
#define MOST_PIECES 64

typedef struct slab {
  struct slab *next;
  char *base;
  size_t bytes, piece;
  int n;
  uint64_t used; /* a bit for each of n pieces */
} slab;

static slab *g_slabs; /* under the lock of sync.h */

/* The fewest pieces that leave less than an eighth of their huge pages empty. */
static int pieces_of(size_t piece) {
  for (int n = 1; n < MOST_PIECES && piece <= SIZE_MAX / 2 / MOST_PIECES; n++) {
    const size_t all = (size_t)n * piece;
    if (pgg_align_up(all, HUGE_PAGE) - all <= all / 8) return n;
  }
  return piece < HUGE_PAGE ? MOST_PIECES : 1;
}

static char *take(size_t piece) {
  for (slab *s = g_slabs; s; s = s->next)
    for (int i = 0; s->piece == piece && i < s->n; i++)
      if (!(s->used >> i & 1)) {
        s->used |= (uint64_t)1 << i;
        return s->base + (size_t)i * piece;
      }
  return NULL;
}

void *pgg_cpu_piece(size_t bytes) {
  const size_t piece = pgg_align_up(bytes, PGG_ALIGN);
  if (piece < bytes) return NULL;
  pgg_lock();
  char *p = take(piece);
  pgg_unlock();
  if (p) return p;
  slab *s = malloc(sizeof *s);
  if (!s) return NULL;
  *s = (slab){.piece = piece, .n = pieces_of(piece), .used = 1};
  const size_t all = (size_t)s->n * piece;
  s->bytes = all < HUGE_PAGE ? all : pgg_align_up(all, HUGE_PAGE);
  if (s->bytes < all || !(s->base = pgg_alloc(s->bytes))) {
    free(s);
    return NULL;
  }
  pgg_lock();
  s->next = g_slabs;
  g_slabs = s;
  pgg_unlock();
  return s->base;
}

void pgg_cpu_piece_free(void *p) {
  slab *dead = NULL;
  pgg_lock();
  for (slab **at = &g_slabs; *at; at = &(*at)->next) {
    slab *s = *at;
    const uintptr_t from = (uintptr_t)s->base, here = (uintptr_t)p;
    if (here < from || here >= from + s->bytes) continue;
    s->used &= ~((uint64_t)1 << (here - from) / s->piece);
    if (!s->used) {
      *at = s->next;
      dead = s;
    }
    break;
  }
  pgg_unlock();
  if (!dead) return;
  pgg_free(dead->base, dead->bytes);
  free(dead);
}
