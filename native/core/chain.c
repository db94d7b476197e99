/* Sources: typical_p arXiv 2202.00666, mirostat arXiv 2007.14966, min_p and top_n_sigma arXiv 2411.07641; xtc and the
 * dynamic temperature as llama.cpp computes them. */
#include "core/chain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct pgg_far {
  double far; /* from what the entropy lets expect */
  int64_t at;
};

bool pgg_chain_typical(const pgg_sampling *how) { return how->typical_p > 0 && how->typical_p < 1; }

bool pgg_chain_on(const pgg_sampling *how) {
  return how->top_n_sigma > 0 || pgg_chain_typical(how) || how->xtc_probability > 0 || how->dynatemp_range > 0 ||
         how->min_keep > 1;
}

pgg_far *pgg_chain_room(const pgg_sampling *how, int64_t n_vocab) {
  return pgg_chain_typical(how) ? malloc((size_t)n_vocab * sizeof(pgg_far)) : NULL;
}

float pgg_chain_sigma(const float *row, int64_t n_vocab, float top, float n_sigma) {
  double sum = 0, squares = 0;
  int64_t n = 0;
  for (int64_t i = 0; i < n_vocab; i++)
    if (row[i] != -INFINITY) sum += row[i], n++;
  const double mean = sum / (double)n;
  for (int64_t i = 0; i < n_vocab; i++)
    if (row[i] != -INFINITY) squares += (row[i] - mean) * (row[i] - mean);
  const double least = (double)top - (double)n_sigma * sqrt(squares / (double)n);
  const float near = (float)least;
  return (double)near < least ? nextafterf(near, INFINITY) : near;
}

/* p of all that are left; -> their entropy in nats. */
static double weigh(const pgg_chain *c) {
  double sum = 0, entropy = 0;
  for (int64_t i = 0; i < c->n; i++) sum += c->p[i] = exp((double)c->list[i].logit - c->list[0].logit);
  for (int64_t i = 0; i < c->n; i++) {
    c->p[i] /= sum;
    if (c->p[i] > 0) entropy -= c->p[i] * log(c->p[i]);
  }
  return entropy;
}

static int nearest(const void *a, const void *b) {
  const pgg_far *x = a, *y = b;
  return x->far < y->far ? -1 : x->far > y->far ? 1 : x->at < y->at ? -1 : x->at > y->at;
}

static int by_place(const void *a, const void *b) {
  const pgg_far *x = a, *y = b;
  return x->at < y->at ? -1 : x->at > y->at;
}

/* Those whose surprise lies nearest to the entropy, until they have typical_p of the probability together. */
static void cut_typical(pgg_chain *c, const pgg_sampling *how) {
  const double entropy = weigh(c), sum = log(1 / c->p[0]); /* logit - top - sum: log of the probability */
  for (int64_t i = 0; i < c->n; i++)
    c->far[i] = (pgg_far){fabs(sum - ((double)c->list[i].logit - c->list[0].logit) - entropy), i};
  qsort(c->far, (size_t)c->n, sizeof *c->far, nearest);
  double seen = 0;
  int64_t kept = 0;
  while (kept < c->n) {
    seen += c->p[c->far[kept++].at];
    if (seen > (double)how->typical_p && kept >= how->min_keep) break;
  }
  qsort(c->far, (size_t)kept, sizeof *c->far, by_place);
  for (int64_t i = 0; i < kept; i++) c->list[i] = c->list[c->far[i].at];
  c->n = kept;
}

static void cut_top_p(pgg_chain *c, const pgg_sampling *how) {
  double seen = 0;
  weigh(c);
  for (int64_t i = 0; i < c->n; i++) {
    seen += c->p[i];
    if (seen >= (double)how->top_p && i + 1 >= how->min_keep) c->n = i + 1;
  }
}

static void cut_min_p(pgg_chain *c, const pgg_sampling *how) {
  const double least = (double)c->list[0].logit + log((double)how->min_p);
  int64_t kept = 1;
  while (kept < c->n && ((double)c->list[kept].logit >= least || kept < how->min_keep)) kept++;
  c->n = kept;
}

/* Takes away all but the last of those that are likely enough. */
static void cut_best(pgg_chain *c, const pgg_sampling *how) {
  int64_t last = 0;
  weigh(c);
  while (last + 1 < c->n && c->p[last + 1] >= (double)how->xtc_threshold) last++;
  if (c->p[0] < (double)how->xtc_threshold || !last || c->n - last < how->min_keep) return;
  memmove(c->list, c->list + last, (size_t)(c->n - last) * sizeof *c->list);
  c->n -= last;
}

void pgg_chain_cut(pgg_chain *c, const pgg_sampling *how, double chance) {
  if (pgg_chain_typical(how)) cut_typical(c, how);
  if (how->top_p < 1) cut_top_p(c, how);
  if (how->min_p > 0) cut_min_p(c, how);
  if (how->xtc_probability > 0 && chance < (double)how->xtc_probability && how->xtc_threshold <= 0.5f) cut_best(c, how);
}

double pgg_chain_temperature(const pgg_chain *c, const pgg_sampling *how) {
  const double middle = how->temperature, range = how->dynatemp_range;
  if (!(range > 0) || c->n < 2) return middle;
  const double least = fmax(0, middle - range), share = weigh(c) / log((double)c->n);
  return least + (middle + range - least) * pow(share, (double)how->dynatemp_exponent);
}

int64_t pgg_chain_mirostat(const pgg_candidate *list, int64_t n, int64_t n_vocab, double by, double mu) {
  double products = 0, squares = 0;
  for (int64_t i = 0; i + 1 < n; i++) {
    const double t = log((double)(i + 2) / (double)(i + 1));
    products += t * ((double)list[i].logit - list[i + 1].logit) * by;
    squares += t * t;
  }
  const double s = products / squares, e = s - 1;
  const double kept = pow(e * pow(2, mu) / (1 - pow((double)n_vocab, -e)), 1 / s);
  return kept >= (double)n_vocab ? n_vocab : kept >= 2 ? (int64_t)kept : 1; /* NaN, of one token or equal ones: 1 */
}
