/* Choosing a token. The chain, with llama.cpp's order and meaning: bias and mask -> penalties over the last tokens ->
 * top_k -> top_p -> min_p -> temperature -> draw; what few ask for in between: chain.c. Equal logits rank by lower id.
 * The n-th draw of a seed is a function of both (splitmix64), so the same seed gives the same text on any CPU level and
 * thread count: what is summed over the whole vocabulary is summed in slots whose bits are the same on all levels.
 * Which tokens are best: top_k.c. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "core/sampler.h"
#include "cpu/kernels.h"

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
             {"presence_penalty", how->presence_penalty},
             {"top_n_sigma", how->top_n_sigma},
             {"typical_p", how->typical_p},
             {"xtc_probability", how->xtc_probability},
             {"xtc_threshold", how->xtc_threshold},
             {"dynatemp_range", how->dynatemp_range},
             {"dynatemp_exponent", how->dynatemp_exponent},
             {"mirostat_tau", how->mirostat_tau},
             {"mirostat_eta", how->mirostat_eta}};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
    if (!isfinite(all[i].value))
      return pgg_fail(PGG_EINVAL, "sampler: %s is %g, expected a finite number", all[i].name, (double)all[i].value);
  if (!(how->repeat_penalty > 0))
    return pgg_fail(PGG_EINVAL, "sampler: repeat_penalty is %g, expected > 0 (1 is off)", (double)how->repeat_penalty);
  if (how->min_p > 1) return pgg_fail(PGG_EINVAL, "sampler: min_p is %g, expected at most 1", (double)how->min_p);
  if (how->repeat_last_n < -1)
    return pgg_fail(PGG_EINVAL, "sampler: repeat_last_n is %d, expected -1 or more", how->repeat_last_n);
  if (how->min_keep < 0) return pgg_fail(PGG_EINVAL, "sampler: min_keep is %d, expected 0 or more", how->min_keep);
  if (how->mirostat < 0 || how->mirostat > 2)
    return pgg_fail(PGG_EINVAL, "sampler: mirostat is %d, expected 0 (off), 1 or 2", how->mirostat);
  if (how->mirostat && pgg_chain_on(how))
    return pgg_fail(PGG_EINVAL,
                    "sampler: mirostat takes the place of all cuts; switch off top_n_sigma, typical_p, xtc, "
                    "dynatemp and min_keep");
  return PGG_OK;
}

pgg_status pgg_sampler_new(const pgg_sampling *how, int64_t n_vocab, pgg_sampler **out) {
  if (!how || !out) return pgg_fail(PGG_EINVAL, "sampler: how or sampler is NULL");
  *out = NULL;
  pgg_status status = judge(how, n_vocab);
  if (status || (status = pgg_init())) return status;
  pgg_sampler *s = calloc(1, sizeof *s);
  if (!s) return pgg_fail(PGG_ENOMEM, "no memory for a sampler");
  s->how = *how;
  s->n_vocab = n_vocab;
  s->mu = 2 * (double)how->mirostat_tau;
  pgg_top_k *f = &s->front;
  f->n_vocab = n_vocab;
  const size_t n = (size_t)n_vocab, n_tops = (n + PGG_TOPS_BLOCK - 1) / PGG_TOPS_BLOCK;
  bool ok = (f->list = malloc(n * sizeof *f->list)) != NULL && (s->weights = malloc(n * sizeof *s->weights)) != NULL &&
            (f->tops = s->tops = malloc(n_tops * sizeof *s->tops)) != NULL &&
            (f->room = malloc(n_tops * sizeof *f->room)) != NULL &&
            (s->sums = malloc((n / PGG_SUMS_BLOCK + 1) * sizeof *s->sums)) != NULL;
  if (ok && pgg_chain_typical(how)) ok = (s->far = pgg_chain_room(how, n_vocab)) != NULL;
  if (ok && window_on(how)) {
    s->cap = how->repeat_last_n > 0 ? how->repeat_last_n : 256;
    ok = (s->counts = calloc(n, sizeof *s->counts)) != NULL && (s->row = malloc(n * sizeof *s->row)) != NULL &&
         (s->window = malloc((size_t)s->cap * sizeof *s->window)) != NULL;
  }
  _Static_assert(sizeof *f->spare == sizeof *s->weights, "one room for both");
  f->spare = (pgg_candidate *)(void *)s->weights;
  if (!ok) {
    pgg_sampler_free(s);
    return pgg_fail(PGG_ENOMEM, "no memory for a sampler of %lld tokens", (long long)n_vocab);
  }
  *out = s;
  return PGG_OK;
}

void pgg_sampler_free(pgg_sampler *s) {
  if (!s) return;
  free(s->front.list);
  free(s->front.room);
  free(s->tops);
  free(s->sums);
  free(s->far);
  free(s->bias);
  free(s->allowed);
  pgg_dry_free(s->dry);
  free(s->order);
  if (s->adapt) free(s->adapt->p);
  free(s->adapt);
  free(s->row);
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
  pgg_status status = s->dry ? pgg_dry_push(s->dry, id) : PGG_OK;
  if (status || !s->window) return status;
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

/* What the caller gave: a logit with its bias, -infinity where the mask forbids it (what is no number stays so). */
static float given(const pgg_sampler *s, const float *logits, int64_t id) {
  const float logit = s->bias ? logits[id] + s->bias[id] : logits[id];
  return s->masked && !(s->allowed[id >> 5] >> (id & 31) & 1) ? logit + -INFINITY : logit;
}

/* All of them: whole words of the mask at a time, of which most allow nothing or everything. */
static void give(const pgg_sampler *s, const float *logits, float *row) {
  if (s->bias)
    for (int64_t i = 0; i < s->n_vocab; i++) row[i] = logits[i] + s->bias[i];
  else
    memcpy(row, logits, (size_t)s->n_vocab * sizeof *row);
  for (int64_t at = 0; s->masked && at < s->n_vocab; at += 32) {
    const uint32_t word = s->allowed[at >> 5];
    const int64_t n = pgg_min_i64(32, s->n_vocab - at);
    if (!word)
      for (int64_t i = 0; i < n; i++) row[at + i] += -INFINITY;
    else if (word != UINT32_MAX)
      for (int64_t i = 0; i < n; i++)
        if (!(word >> i & 1)) row[at + i] += -INFINITY;
  }
}

static float penalised(const pgg_sampler *s, float logit, int32_t count) {
  if (!count) return logit;
  logit = logit <= 0 ? logit * s->how.repeat_penalty : logit / s->how.repeat_penalty;
  return logit - (float)count * s->how.frequency_penalty - s->how.presence_penalty;
}

/* The row to choose from: the logits themselves, or a copy with what was given, whose window's tokens are penalised. */
static const float *penalise(pgg_sampler *s, const float *logits) {
  if (!s->bias && !s->masked && !s->used && !s->dry && !s->order) return logits;
  give(s, logits, s->row);
  if (s->order) return s->row;            /* whose steps are taken later */
  for (int64_t i = 0; i < s->used; i++) { /* a token met again gets the same value again */
    const int32_t id = s->window[i];
    const float logit = given(s, logits, id);
    if (isfinite(logit)) s->row[id] = penalised(s, logit, s->counts[id]);
  }
  const pgg_dry_found *found = NULL;
  const int64_t n = s->dry ? pgg_dry_find(s->dry, &found) : 0;
  for (int64_t i = 0; i < n; i++)
    if (found[i].id < s->n_vocab) s->row[found[i].id] -= pgg_dry_penalty(s->dry, found[i].length);
  return s->row;
}

/* What is wrong with a row that cannot be chosen from; -infinity is forbidden by the caller, and no fault. */
static pgg_status refuse(const pgg_sampler *s, const float *logits, const float *row) {
  for (int64_t i = 0; i < s->n_vocab; i++)
    if (given(s, logits, i) != -INFINITY && !isfinite(row[i]))
      return pgg_fail(PGG_ENUMERIC, "logit of token %lld is %g%s; no token can be chosen", (long long)i, (double)row[i],
                      isfinite(logits[i]) ? " after the penalties" : "");
  const char *what = s->masked ? s->bias ? " of those that bias and mask leave" : " of those that the mask allows"
                     : s->bias ? ", with its bias"
                               : "";
  return pgg_fail(PGG_ENUMERIC, "none of the %lld logits is finite%s", (long long)s->n_vocab, what);
}

/* Penalties may have made -infinity of a finite logit, which is a fault and not a wish. */
static bool sunk(const pgg_sampler *s, const float *logits, const float *row) {
  if (row == logits) return false;
  for (int64_t i = 0; i < s->used; i++)
    if (row[s->window[i]] == -INFINITY && given(s, logits, s->window[i]) != -INFINITY) return true;
  return false;
}

/* ---- cuts ---------------------------------------------------------------------------------------------- */

/* Sorts the best until place i is in order; eightfold each time, so that all of it costs little more than the last. */
static bool reach(pgg_top_k *f, int64_t i, int64_t limit) {
  if (i >= limit) return false;
  if (i >= f->sorted) pgg_top_k_sort(f, pgg_min_i64(limit, pgg_max_i64(64, f->sorted * 8)));
  return i < f->sorted;
}

/* Lowers limit to how many of the best share top_p of the probability; sum is that of the exp(logit - top) of all.
 * False, and limit no more than there are, if the first `limit` have less. */
static bool keep_top_p(pgg_top_k *f, int64_t *limit, double sum, float top_p) {
  double seen = 0;
  int64_t i = 0;
  for (; reach(f, i, *limit); i++) {
    seen += exp((double)f->list[i].logit - f->list[0].logit);
    if (seen >= (double)top_p * sum) {
      *limit = i + 1;
      return true;
    }
  }
  *limit = i;
  return false;
}

/* The least logit whose probability is min_p of the best one's, whose logit is top. */
static float least_of(float top, float min_p) {
  const double least = (double)top + log((double)min_p);
  const float near = (float)least;
  return (double)near < least ? nextafterf(near, INFINITY) : near;
}

/* How many of the first `limit` are `least` or better. */
static int64_t keep_least(pgg_top_k *f, int64_t limit, float least) {
  int64_t i = 1;
  while (reach(f, i, limit) && f->list[i].logit >= least) i++;
  return i;
}

/* The sum of exp((logit - top) * by) over the row, of its blocks in order. */
static double sum_row(pgg_sampler *s, float top, float by) {
  double sum = 0;
  const int64_t blocks = (s->n_vocab + PGG_SUMS_BLOCK - 1) / PGG_SUMS_BLOCK;
  pgg_kernels_get()->weights(s->front.row, top, by, s->sums, NULL, s->n_vocab);
  for (int64_t b = 0; b < blocks; b++) sum += s->sums[b];
  return sum;
}

/* ---- drawing ------------------------------------------------------------------------------------------- */

static double uniform(uint64_t seed, uint64_t draw) {
  uint64_t z = seed + (draw + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return (double)(z >> 11) * 0x1p-53;
}

/* The place of one of the first n of the list. */
static int64_t draw(pgg_sampler *s, int64_t n, double temperature) {
  const pgg_candidate *list = s->front.list;
  double sum = 0;
  float top = list[0].logit;
  for (int64_t i = 1; i < n; i++)
    if (list[i].logit > top) top = list[i].logit;
  for (int64_t i = 0; i < n; i++) s->weights[i] = sum += exp(((double)list[i].logit - top) / temperature);
  const double at = uniform(s->how.seed, s->draws) * sum;
  int64_t low = 0, high = n - 1; /* first running sum past the point */
  while (low < high) {
    int64_t mid = low + (high - low) / 2;
    if (s->weights[mid] > at)
      high = mid;
    else
      low = mid + 1;
  }
  return low;
}

/* Of the whole row: first the block that holds the point, then the token. Rounding may leave the point behind the last
 * weight of its block, which then is the one. */
static int32_t draw_row(pgg_sampler *s, float top) {
  const float by = fminf(1.0f / s->how.temperature, FLT_MAX);
  const double at = uniform(s->how.seed, s->draws) * sum_row(s, top, by);
  const int64_t blocks = (s->n_vocab + PGG_SUMS_BLOCK - 1) / PGG_SUMS_BLOCK;
  double seen = 0;
  int64_t block = 0;
  for (int64_t b = 0; b < blocks; b++) {
    if (!(s->sums[b] > 0)) continue;
    block = b;
    if (seen + s->sums[b] > at) break;
    seen += s->sums[b];
  }
  const int64_t start = block * PGG_SUMS_BLOCK, n = pgg_min_i64(PGG_SUMS_BLOCK, s->n_vocab - start);
  float weights[PGG_SUMS_BLOCK], sum;
  pgg_kernels_get()->weights(s->front.row + start, top, by, &sum, weights, n);
  int64_t last = 0;
  for (int64_t i = 0; i < n; i++) {
    if (!(weights[i] > 0)) continue;
    last = i;
    seen += weights[i];
    if (seen > at) break;
  }
  return (int32_t)(start + last);
}

/* What the rest of the file would draw by sorting all that top_p (of a sum as in keep_top_p) and `least` leave, or -1
 * if only sorting can tell. */
static int32_t draw_among_many(pgg_sampler *s, float top, double sum, float least) {
  const pgg_sampling *how = &s->how;
  pgg_top_k *f = &s->front;
  pgg_nucleus *m = &s->mass;
  int64_t out = 0; /* equals of the least that top_p leaves out: the last by rank */
  if (how->top_p < 1) {
    const double beyond = (1 - (double)how->top_p) * sum / (double)s->n_vocab; /* worse ones have less than 1 - top_p */
    pgg_nucleus_weigh(m, f, top, -FLT_MAX, fmax(0.1 - log(beyond), 0.1), 1);
    const int64_t last = pgg_nucleus_place(m, f, (double)how->top_p * sum);
    if (last < 0) return -1;
    const float cut = f->list[last].logit;
    if (cut >= least) {
      least = cut;
      while (last + 1 + out < f->n && f->list[last + 1 + out].logit == cut) out++;
    }
  }
  const double by = 1 / (double)how->temperature;
  pgg_nucleus_weigh(m, f, top, least, INFINITY, by);
  const double kept = m->total - (double)out * exp(((double)least - top) * by);
  const int64_t at = pgg_nucleus_place(m, f, uniform(how->seed, s->draws) * kept);
  return at < 0 ? -1 : f->list[at].id;
}

/* With all cuts there are: over a list in order. */
static int32_t choose_long(pgg_sampler *s, float top) {
  const pgg_sampling *how = &s->how;
  pgg_top_k *f = &s->front;
  const float least = how->top_n_sigma > 0 ? pgg_chain_sigma(f->row, s->n_vocab, top, how->top_n_sigma) : -INFINITY;
  pgg_top_k_above(f, least, s->n_vocab);
  f->whole = true; /* of what top_n_sigma keeps */
  pgg_top_k_sort(f, how->top_k > 0 ? how->top_k : f->n);
  pgg_chain left = {f->list, f->sorted, s->weights, s->far};
  pgg_chain_cut(&left, how, uniform(~s->how.seed, s->draws));
  const double temperature = pgg_chain_temperature(&left, how);
  return f->list[temperature > 0 ? draw(s, left.n, temperature) : 0].id;
}

/* Of as many as keep the surprise near tau. */
static int32_t choose_mirostat(pgg_sampler *s, float top) {
  const pgg_sampling *how = &s->how;
  pgg_top_k *f = &s->front;
  const double by = 1 / (double)how->temperature;
  int64_t kept = 0;
  f->n = f->sorted = 0;
  f->whole = false;
  if (how->mirostat == 1) {
    pgg_top_k_sort(f, PGG_MIROSTAT_M);
    kept = pgg_chain_mirostat(f->list, pgg_min_i64(f->sorted, PGG_MIROSTAT_M), s->n_vocab, by, s->mu);
    pgg_top_k_sort(f, kept);
    kept = pgg_min_i64(kept, f->sorted);
  } else {
    const double bits = log2(sum_row(s, top, fminf(1.0f / how->temperature, FLT_MAX)));
    while (reach(f, kept, s->n_vocab) && (!kept || bits - ((double)f->list[kept].logit - top) * by / log(2) <= s->mu))
      kept++;
  }
  const int64_t at = draw(s, kept, how->temperature);
  const double p = (s->weights[at] - (at ? s->weights[at - 1] : 0)) / s->weights[kept - 1];
  s->mu -= (double)how->mirostat_eta * (-log2(p) - (double)how->mirostat_tau);
  return f->list[at].id;
}

static int dry_order(const void *id, const void *found) {
  const int32_t x = *(const int32_t *)id, y = ((const pgg_dry_found *)found)->id;
  return x < y ? -1 : x > y;
}

/* The penalties of what is left of a list. */
static void penalise_list(pgg_sampler *s, pgg_chain *c, bool dry) {
  const pgg_dry_found *found = NULL;
  const int64_t n = dry && s->dry ? pgg_dry_find(s->dry, &found) : 0;
  if (dry ? !n : !s->used) return;
  for (int64_t i = 0; i < c->n; i++) {
    const int32_t id = c->list[i].id;
    const pgg_dry_found *one = dry ? bsearch(&id, found, (size_t)n, sizeof *found, dry_order) : NULL;
    if (one) c->list[i].logit -= pgg_dry_penalty(s->dry, one->length);
    if (!dry) c->list[i].logit = penalised(s, c->list[i].logit, s->counts[id]);
  }
  pgg_order_sort(c);
}

/* The steps in the caller's order. */
static int32_t choose_ordered(pgg_sampler *s) {
  pgg_top_k *f = &s->front;
  f->n = f->sorted = 0;
  f->whole = false;
  pgg_top_k_sort(f, s->n_vocab);
  pgg_chain left = {f->list, f->sorted, s->weights, s->far};
  for (int i = 0; i < s->order->n; i++) {
    const int step = s->order->steps[i];
    if (step == PGG_STEP_PENALTIES || step == PGG_STEP_DRY)
      penalise_list(s, &left, step == PGG_STEP_DRY);
    else
      pgg_order_cut(&left, &s->how, step, uniform(~s->how.seed, s->draws));
  }
  if (s->adapt) pgg_adapt_turn(s->adapt, &left);
  const int64_t at = draw(s, left.n, 1);
  if (s->adapt) pgg_adapt_took(s->adapt, at);
  return f->list[at].id;
}

/* What the cuts leave is drawn from in order of rank, a whole row in order of ids. temperature > 0; best is the
 * likeliest token. */
static int32_t choose(pgg_sampler *s, int64_t best) {
  enum { FEW = 64, MANY = 512 };
  const pgg_sampling *how = &s->how;
  pgg_top_k *f = &s->front;
  const float top = f->row[best];
  if (how->mirostat) return choose_mirostat(s, top);
  if (pgg_chain_on(how)) return choose_long(s, top);
  const bool top_k = how->top_k > 0 && how->top_k < s->n_vocab, top_p = how->top_p < 1, min_p = how->min_p > 0;
  if (!top_k && !top_p && !min_p) return draw_row(s, top);
  const float least = min_p ? least_of(top, how->min_p) : -FLT_MAX;
  int64_t limit = s->n_vocab;
  double sum = 0;
  bool few = true; /* so few are left that sorting them is quicker */
  f->n = f->sorted = 0;
  f->whole = false;
  if (top_k) {
    pgg_top_k_gather(f, how->top_k);
    pgg_top_k_sort(f, how->top_k);
    limit = pgg_min_i64(f->n, how->top_k);
    if (top_p)
      for (int64_t i = 0; i < limit; i++) sum += exp((double)f->list[i].logit - top);
    if (top_p) keep_top_p(f, &limit, sum, how->top_p);
  } else if (top_p) {
    sum = sum_row(s, top, 1.0f);
    limit = FEW;
    few = keep_top_p(f, &limit, sum, how->top_p) || (min_p && f->list[limit - 1].logit < least);
  } else {
    pgg_top_k_above(f, least, MANY);
    f->whole = true; /* of what min_p can keep */
    few = (limit = f->n) <= MANY;
  }
  if (!few) {
    const int32_t id = draw_among_many(s, top, sum, least);
    if (id >= 0) return id;
    limit = s->n_vocab;
    f->n = f->sorted = 0;
    f->whole = false;
    if (top_p) keep_top_p(f, &limit, sum, how->top_p);
  }
  if (min_p) limit = keep_least(f, limit, least);
  return f->list[draw(s, limit, how->temperature)].id;
}

pgg_status pgg_sampler_next(pgg_sampler *s, const float *logits, int32_t *id) {
  if (!s || !logits || !id) return pgg_fail(PGG_EINVAL, "sampler, logits or id is NULL");
  const float *row = s->front.row = penalise(s, logits);
  if (!pgg_kernels_get()->tops(row, s->tops, s->n_vocab) || sunk(s, logits, row)) return refuse(s, logits, row);
  const int64_t best = pgg_top_k_best(&s->front);
  if (best < 0) return refuse(s, logits, row);
  const int32_t chosen = s->order ? choose_ordered(s) : s->how.temperature <= 0 ? (int32_t)best : choose(s, best);
  pgg_status status = window_push(s, chosen);
  if (status) return status;
  s->draws++;
  *id = chosen;
  return PGG_OK;
}

pgg_status pgg_sampler_logprobs(pgg_sampler *s, const float *logits, int32_t id, double *logprob, int64_t n_top,
                                int32_t *top_ids, double *top_logprobs) {
  if (!s || !logits || !logprob || (n_top && (!top_ids || !top_logprobs)))
    return pgg_fail(PGG_EINVAL, "logprobs: sampler, logits or room for the answer is NULL");
  if (id < 0 || id >= s->n_vocab)
    return pgg_fail(PGG_EINVAL, "logprobs: id is %d, expected 0 to %lld", id, (long long)s->n_vocab - 1);
  if (n_top < 0 || n_top > s->n_vocab)
    return pgg_fail(PGG_EINVAL, "logprobs: n_top is %lld, expected 0 to %lld", (long long)n_top, (long long)s->n_vocab);
  pgg_top_k *f = &s->front;
  f->row = logits;
  if (!pgg_kernels_get()->tops(logits, s->tops, s->n_vocab)) return refuse(s, logits, logits);
  const int64_t best = pgg_top_k_best(f);
  if (best < 0) return refuse(s, logits, logits);
  const double top = logits[best], shift = log(sum_row(s, logits[best], 1.0f));
  *logprob = (double)logits[id] - top - shift;
  if (!n_top) return PGG_OK;
  pgg_top_k_gather(f, n_top);
  pgg_top_k_sort(f, n_top);
  for (int64_t i = 0; i < f->sorted; i++) {
    top_ids[i] = f->list[i].id;
    top_logprobs[i] = (double)f->list[i].logit - top - shift;
  }
  int64_t at = f->sorted; /* all that can be chosen is named: the forbidden follow */
  for (int32_t i = 0; at < n_top; i++)
    if (logits[i] == -INFINITY) {
      top_ids[at] = i;
      top_logprobs[at++] = -INFINITY;
    }
  return PGG_OK;
}
