/* Choosing a token. The chain, with llama.cpp's order and meaning: penalties over the last tokens -> top_k -> top_p
 * -> min_p -> temperature -> draw. Equal logits rank by lower id. The n-th draw of a seed is a function of both
 * (splitmix64), so the same seed gives the same text on any machine and thread count. Never a full sort: the part
 * that can be chosen is selected first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

typedef struct candidate {
  float logit;
  int32_t id;
} candidate;

struct pgg_sampler {
  pgg_sampling how;
  int64_t n_vocab;
  uint64_t draws;
  candidate *list; /* (n_vocab) */
  double *weights; /* (n_vocab) of the survivors, running sums */
  int32_t *counts; /* (n_vocab) occurrences in the window */
  int32_t *window; /* ring of the last ids; grows when the window is everything */
  int64_t cap, used, head;
};

static bool window_on(const pgg_sampling *how) {
  return how->repeat_last_n && (how->repeat_penalty != 1 || how->frequency_penalty != 0 || how->presence_penalty != 0);
}

static pgg_status judge(const pgg_sampling *how, int64_t n_vocab) {
  if (n_vocab < 1 || n_vocab > INT32_MAX)
    return pgg_fail(PGG_EINVAL, "sampler: n_vocab is %lld, expected 1 to 2^31 - 1", (long long)n_vocab);
  const struct {
    const char *name;
    float value;
  } all[] = {{"temperature", how->temperature},
             {"top_p", how->top_p},
             {"min_p", how->min_p},
             {"repeat_penalty", how->repeat_penalty},
             {"frequency_penalty", how->frequency_penalty},
             {"presence_penalty", how->presence_penalty}};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
    if (!isfinite(all[i].value))
      return pgg_fail(PGG_EINVAL, "sampler: %s is %g, expected a finite number", all[i].name, (double)all[i].value);
  if (!(how->repeat_penalty > 0))
    return pgg_fail(PGG_EINVAL, "sampler: repeat_penalty is %g, expected > 0 (1 is off)", (double)how->repeat_penalty);
  if (how->min_p > 1) return pgg_fail(PGG_EINVAL, "sampler: min_p is %g, expected at most 1", (double)how->min_p);
  if (how->repeat_last_n < -1)
    return pgg_fail(PGG_EINVAL, "sampler: repeat_last_n is %d, expected -1 or more", how->repeat_last_n);
  return PGG_OK;
}

pgg_status pgg_sampler_new(const pgg_sampling *how, int64_t n_vocab, pgg_sampler **out) {
  if (!how || !out) return pgg_fail(PGG_EINVAL, "sampler: how or sampler is NULL");
  *out = NULL;
  pgg_status status = judge(how, n_vocab);
  if (status) return status;
  pgg_sampler *s = calloc(1, sizeof *s);
  if (!s) return pgg_fail(PGG_ENOMEM, "no memory for a sampler");
  s->how = *how;
  s->n_vocab = n_vocab;
  bool ok = (s->list = malloc((size_t)n_vocab * sizeof *s->list)) != NULL &&
            (s->weights = malloc((size_t)n_vocab * sizeof *s->weights)) != NULL;
  if (ok && window_on(how)) {
    s->cap = how->repeat_last_n > 0 ? how->repeat_last_n : 256;
    ok = (s->counts = calloc((size_t)n_vocab, sizeof *s->counts)) != NULL &&
         (s->window = malloc((size_t)s->cap * sizeof *s->window)) != NULL;
  }
  if (!ok) {
    pgg_sampler_free(s);
    return pgg_fail(PGG_ENOMEM, "no memory for a sampler of %lld tokens", (long long)n_vocab);
  }
  *out = s;
  return PGG_OK;
}

void pgg_sampler_free(pgg_sampler *s) {
  if (!s) return;
  free(s->list);
  free(s->weights);
  free(s->counts);
  free(s->window);
  free(s);
}

pgg_status pgg_sampler_fits(const pgg_sampler *sampler, int64_t n_vocab);
pgg_status pgg_sampler_fits(const pgg_sampler *sampler, int64_t n_vocab) {
  if (sampler->n_vocab == n_vocab) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "the sampler is for %lld tokens, the plan's output has %lld columns",
                  (long long)sampler->n_vocab, (long long)n_vocab);
}

/* ---- the window of the penalties ----------------------------------------------------------------------- */

static pgg_status window_push(pgg_sampler *s, int32_t id) {
  if (!s->window) return PGG_OK;
  if (s->used == s->cap && s->how.repeat_last_n < 0) {
    int32_t *more = realloc(s->window, (size_t)s->cap * 2 * sizeof *more);
    if (!more) return pgg_fail(PGG_ENOMEM, "no memory for a window of %lld tokens", (long long)s->cap * 2);
    s->window = more;
    s->cap *= 2;
  }
  if (s->used == s->cap) { /* full: the new id takes the place of the oldest */
    s->counts[s->window[s->head]]--;
    s->window[s->head] = id;
    s->head = (s->head + 1) % s->cap;
  } else {
    s->window[s->used++] = id;
  }
  s->counts[id]++;
  return PGG_OK;
}

pgg_status pgg_sampler_accept(pgg_sampler *s, const int32_t *ids, int64_t n) {
  if (!s || n < 0 || (n && !ids)) return pgg_fail(PGG_EINVAL, "accept: sampler or ids missing");
  for (int64_t i = 0; i < n; i++)
    if (ids[i] < 0 || ids[i] >= s->n_vocab)
      return pgg_fail(PGG_EINVAL, "accept: id at position %lld is %d, expected 0 to %lld", (long long)i, ids[i],
                      (long long)s->n_vocab - 1);
  for (int64_t i = 0; i < n; i++) {
    pgg_status status = window_push(s, ids[i]);
    if (status) return status;
  }
  return PGG_OK;
}

static float penalised(const pgg_sampler *s, float logit, int32_t count) {
  if (!count) return logit;
  logit = logit <= 0 ? logit * s->how.repeat_penalty : logit / s->how.repeat_penalty;
  return logit - (float)count * s->how.frequency_penalty - s->how.presence_penalty;
}

/* Every logit that can be chosen, penalties applied. Their number, or -1 with a message. */
static int64_t collect(pgg_sampler *s, const float *logits, pgg_status *status) {
  int64_t n = 0;
  for (int64_t i = 0; i < s->n_vocab; i++) {
    float x = logits[i];
    if (x == -INFINITY) continue; /* forbidden by the caller */
    if (isfinite(x) && s->counts) x = penalised(s, x, s->counts[i]);
    if (!isfinite(x)) {
      *status = pgg_fail(PGG_ENUMERIC, "logit of token %lld is %g%s; no token can be chosen", (long long)i, (double)x,
                         isfinite(logits[i]) ? " after the penalties" : "");
      return -1;
    }
    s->list[n++] = (candidate){x, (int32_t)i};
  }
  if (!n) *status = pgg_fail(PGG_ENUMERIC, "none of the %lld logits is finite", (long long)s->n_vocab);
  return n ? n : -1;
}

/* ---- selection ----------------------------------------------------------------------------------------- */

static bool before(candidate a, candidate b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

static int compare(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  return before(*x, *y) ? -1 : before(*y, *x) ? 1 : 0;
}

static void swap(candidate *a, candidate *b) {
  candidate t = *a;
  *a = *b;
  *b = t;
}

/* Moves the k best of list (n) to its front, in no order. Expected linear: the pivot is the median of three. */
static void select_best(candidate *list, int64_t n, int64_t k) {
  int64_t low = 0, high = n - 1;
  while (low < high && k > low && k <= high) {
    int64_t mid = low + (high - low) / 2;
    if (before(list[mid], list[low])) swap(&list[mid], &list[low]);
    if (before(list[high], list[low])) swap(&list[high], &list[low]);
    if (before(list[high], list[mid])) swap(&list[high], &list[mid]);
    const candidate pivot = list[mid];
    int64_t i = low, j = high;
    while (i <= j) {
      while (before(list[i], pivot)) i++;
      while (before(pivot, list[j])) j--;
      if (i <= j) swap(&list[i++], &list[j--]);
    }
    if (k - 1 <= j)
      high = j;
    else if (k - 1 >= i)
      low = i;
    else
      return;
  }
}

/* The sorted front of the list: grown eightfold until `enough` lies in it. */
typedef struct front {
  candidate *list;
  int64_t n, sorted;
} front;

static void front_grow(front *f, int64_t to) {
  if (to > f->n) to = f->n;
  if (to <= f->sorted) return;
  candidate *rest = f->list + f->sorted;
  select_best(rest, f->n - f->sorted, to - f->sorted);
  qsort(rest, (size_t)(to - f->sorted), sizeof *rest, compare);
  f->sorted = to;
}

/* How many of the best share top_p of the whole probability. */
static int64_t keep_top_p(front *f, float top_p) {
  double sum = 0, seen = 0;
  front_grow(f, 1);
  const float top = f->list[0].logit;
  for (int64_t i = 0; i < f->n; i++) sum += exp((double)f->list[i].logit - top);
  for (int64_t i = 0; i < f->n; i++) {
    if (i >= f->sorted) front_grow(f, pgg_max_i64(64, f->sorted * 8));
    seen += exp((double)f->list[i].logit - top);
    if (seen >= (double)top_p * sum) return i + 1;
  }
  return f->n;
}

/* Those whose probability is at least min_p of the best one's. */
static int64_t keep_min_p(front *f, float min_p) {
  front_grow(f, 1);
  const double least = (double)f->list[0].logit + log((double)min_p);
  for (int64_t i = 1; i < f->n; i++) {
    if (i >= f->sorted) front_grow(f, pgg_max_i64(64, f->sorted * 8));
    if ((double)f->list[i].logit < least) return i;
  }
  return f->n;
}

static double uniform(uint64_t seed, uint64_t draw) {
  uint64_t z = seed + (draw + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return (double)(z >> 11) * 0x1p-53;
}

static int32_t draw(pgg_sampler *s, const candidate *list, int64_t n) {
  double sum = 0;
  float top = list[0].logit;
  for (int64_t i = 1; i < n; i++)
    if (list[i].logit > top) top = list[i].logit;
  for (int64_t i = 0; i < n; i++)
    s->weights[i] = sum += exp(((double)list[i].logit - top) / (double)s->how.temperature);
  const double at = uniform(s->how.seed, s->draws) * sum;
  int64_t low = 0, high = n - 1; /* first running sum past the point */
  while (low < high) {
    int64_t mid = low + (high - low) / 2;
    if (s->weights[mid] > at)
      high = mid;
    else
      low = mid + 1;
  }
  return list[low].id;
}

pgg_status pgg_sampler_next(pgg_sampler *s, const float *logits, int32_t *id) {
  if (!s || !logits || !id) return pgg_fail(PGG_EINVAL, "sampler, logits or id is NULL");
  pgg_status status = PGG_OK;
  int64_t n = collect(s, logits, &status);
  if (n < 0) return status;
  int32_t chosen;
  if (s->how.temperature <= 0) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
      if (s->list[i].logit > s->list[best].logit) best = i;
    chosen = s->list[best].id;
  } else {
    front f = {s->list, n, 0};
    if (s->how.top_k > 0 && s->how.top_k < n) {
      front_grow(&f, s->how.top_k);
      f.n = f.sorted;
    }
    if (s->how.top_p < 1) f.n = keep_top_p(&f, s->how.top_p);
    if (s->how.min_p > 0) f.n = keep_min_p(&f, s->how.min_p);
    chosen = draw(s, s->list, f.n);
  }
  if ((status = window_push(s, chosen))) return status;
  s->draws++;
  *id = chosen;
  return PGG_OK;
}
