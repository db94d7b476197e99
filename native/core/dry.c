/* Source: llama.cpp's sampler of this name, after text-generation-webui's; the lengths by the Z algorithm, backwards.
 */
#include "core/dry.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct pgg_dry {
  double multiplier, base;
  int32_t allowed, last_n;
  int32_t *ids; /* the last `used`, oldest first */
  int64_t used, cap;
  int32_t *repeats;     /* (cap) of each place: how many tokens up to it are the last of the text too */
  pgg_dry_found *found; /* (cap) */
  int32_t *breakers;
  int32_t *lengths; /* (n_breaker) */
  int64_t n_breaker;
};

enum { DRY_ROOM = 256 };

static bool room(pgg_dry *d, int64_t cap) {
  int32_t *ids = realloc(d->ids, (size_t)cap * sizeof *ids);
  if (ids) d->ids = ids;
  int32_t *repeats = realloc(d->repeats, (size_t)cap * sizeof *repeats);
  if (repeats) d->repeats = repeats;
  pgg_dry_found *found = realloc(d->found, (size_t)cap * sizeof *found);
  if (found) d->found = found;
  if (!ids || !repeats || !found) return false;
  d->cap = cap;
  return true;
}

pgg_dry *pgg_dry_new(float multiplier, float base, int32_t allowed_length, int32_t last_n, const int32_t *ids,
                     const int32_t *lengths, int64_t n) {
  pgg_dry *d = calloc(1, sizeof *d);
  if (!d) return NULL;
  *d = (pgg_dry){.multiplier = multiplier, .base = base, .allowed = allowed_length, .last_n = last_n, .n_breaker = n};
  int64_t total = 0;
  for (int64_t i = 0; i < n; i++) total += lengths[i];
  d->breakers = malloc((size_t)(total + 1) * sizeof *d->breakers);
  d->lengths = malloc((size_t)(n + 1) * sizeof *d->lengths);
  if (!d->breakers || !d->lengths || !room(d, last_n > 0 ? pgg_max_i64(2, 2 * (int64_t)last_n) : DRY_ROOM)) {
    pgg_dry_free(d);
    return NULL;
  }
  if (total) memcpy(d->breakers, ids, (size_t)total * sizeof *ids);
  if (n) memcpy(d->lengths, lengths, (size_t)n * sizeof *lengths);
  return d;
}

void pgg_dry_free(pgg_dry *d) {
  if (!d) return;
  free(d->ids);
  free(d->repeats);
  free(d->found);
  free(d->breakers);
  free(d->lengths);
  free(d);
}

pgg_status pgg_dry_push(pgg_dry *d, int32_t id) {
  if (d->used == d->cap && d->last_n < 0) {
    if (!room(d, 2 * d->cap))
      return pgg_fail(PGG_ENOMEM, "no memory for a window of %lld tokens", (long long)d->cap * 2);
  } else if (d->used == d->cap) { /* twice the window: its second half moves down */
    memmove(d->ids, d->ids + (d->cap - d->last_n), (size_t)d->last_n * sizeof *d->ids);
    d->used = d->last_n;
  }
  d->ids[d->used++] = id;
  return PGG_OK;
}

/* How many of the last n tokens a breaker leaves: those behind the last one. text: the last of them is text[n - 1]. */
static int64_t unbroken(const pgg_dry *d, const int32_t *text, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    int64_t longest = -1;
    const int32_t *breaker = d->breakers;
    for (int64_t b = 0; b < d->n_breaker; breaker += d->lengths[b++]) {
      const int64_t tail = d->lengths[b] - 1;
      if (breaker[0] == text[n - 1 - i] && tail > longest && tail <= i &&
          !memcmp(breaker + 1, text + n - i, (size_t)tail * sizeof *text))
        longest = tail;
    }
    if (longest >= 0) return i - longest;
  }
  return n;
}

static bool breaks(const pgg_dry *d, int32_t id) {
  const int32_t *breaker = d->breakers;
  for (int64_t b = 0; b < d->n_breaker; breaker += d->lengths[b++])
    if (d->lengths[b] == 1 && breaker[0] == id) return true;
  return false;
}

static int by_id(const void *a, const void *b) {
  const pgg_dry_found *x = a, *y = b;
  return x->id != y->id ? (x->id < y->id ? -1 : 1) : x->length > y->length ? -1 : x->length < y->length;
}

int64_t pgg_dry_find(pgg_dry *d, const pgg_dry_found **found) {
  const int64_t n = d->last_n < 0 ? d->used : pgg_min_i64(d->used, d->last_n);
  const int32_t *text = d->ids + (d->used - n);
  *found = d->found;
  if (n <= d->allowed) return 0;
  const int64_t limit = unbroken(d, text, n);
  if (limit < d->allowed) return 0;
  int64_t left = 0, right = 0, count = 0; /* the box of the Z algorithm, counted from the end */
  for (int64_t k = 1; k < n; k++) {
    int64_t length = k <= right ? pgg_min_i64(d->repeats[k - left], right - k + 1) : 0;
    while (k + length < n && text[n - 1 - length] == text[n - 1 - k - length]) length++;
    d->repeats[k] = (int32_t)length;
    if (length && k + length - 1 > right) left = k, right = k + length - 1;
    length = pgg_min_i64(length, limit);
    const int32_t next = text[n - k]; /* what came behind the stretch then */
    if (length >= d->allowed && !breaks(d, next)) d->found[count++] = (pgg_dry_found){next, (int32_t)length};
  }
  qsort(d->found, (size_t)count, sizeof *d->found, by_id);
  int64_t kept = 0;
  for (int64_t i = 0; i < count; i++)
    if (!kept || d->found[i].id != d->found[kept - 1].id) d->found[kept++] = d->found[i];
  return kept;
}

float pgg_dry_penalty(const pgg_dry *d, int32_t length) {
  double times = length - d->allowed;
  if (d->base > 1.000001) times = fmin(times, floor(88.7228391 / log(d->base)));
  return (float)fmin(d->multiplier * pow(d->base, times), 1e30); /* a finite logit stays finite */
}
