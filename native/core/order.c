/* Source: llama.cpp's chain, whose order is the caller's, and its sampler adaptive-p (pull request 17927). */
#include "core/order.h"

#include <math.h>
#include <stdlib.h>

pgg_status pgg_order_read(pgg_steps *order, const int32_t *steps, int n) {
  uint32_t seen = 0;
  if (n < 0 || n > PGG_STEPS) return pgg_fail(PGG_EINVAL, "order: %d steps, there are %d", n, PGG_STEPS);
  for (int i = 0; i < n; i++) {
    if (steps[i] < 0 || steps[i] >= PGG_STEPS) return pgg_fail(PGG_EINVAL, "order: there is no step %d", steps[i]);
    if (seen >> steps[i] & 1) return pgg_fail(PGG_EINVAL, "order: step %d comes twice", steps[i]);
    seen |= 1u << steps[i];
    order->steps[i] = steps[i];
  }
  order->n = n;
  return PGG_OK;
}

static int by_rank(const void *a, const void *b) {
  const pgg_candidate *x = a, *y = b;
  if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
  return x->id < y->id ? -1 : x->id > y->id;
}

void pgg_order_sort(pgg_chain *c) { qsort(c->list, (size_t)c->n, sizeof *c->list, by_rank); }

static void cut_sigma(pgg_chain *c, float n_sigma) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < c->n; i++) sum += c->list[i].logit;
  const double mean = sum / (double)c->n;
  for (int64_t i = 0; i < c->n; i++) squares += (c->list[i].logit - mean) * (c->list[i].logit - mean);
  const double least = (double)c->list[0].logit - (double)n_sigma * sqrt(squares / (double)c->n);
  while (c->n > 1 && (double)c->list[c->n - 1].logit < least) c->n--;
}

void pgg_order_cut(pgg_chain *c, const pgg_sampling *how, int step, double chance) {
  if (step == PGG_STEP_TOP_N_SIGMA && how->top_n_sigma > 0) cut_sigma(c, how->top_n_sigma);
  if (step == PGG_STEP_TOP_K && how->top_k > 0) c->n = pgg_min_i64(c->n, how->top_k);
  if (step == PGG_STEP_TEMPERATURE) {
    const double temperature = pgg_chain_temperature(c, how);
    if (!(temperature > 0)) c->n = 1;
    for (int64_t i = 0; i < c->n && temperature > 0; i++) c->list[i].logit = (float)(c->list[i].logit / temperature);
  }
  pgg_sampling one = {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .min_keep = how->min_keep};
  if (step == PGG_STEP_TYPICAL_P) one.typical_p = how->typical_p;
  if (step == PGG_STEP_TOP_P) one.top_p = how->top_p;
  if (step == PGG_STEP_MIN_P) one.min_p = how->min_p;
  if (step == PGG_STEP_XTC) one.xtc_probability = how->xtc_probability, one.xtc_threshold = how->xtc_threshold;
  pgg_chain_cut(c, &one, chance);
}

void pgg_adapt_turn(pgg_adapt *a, pgg_chain *c) {
  const double width = 0.3, peak = 5, sharpness = 10;
  const double near = fmin(fmax(2 * a->target - a->sum / a->weight, 0), 1);
  double sum = 0;
  float top = c->list[0].logit;
  for (int64_t i = 1; i < c->n; i++) top = fmaxf(top, c->list[i].logit);
  for (int64_t i = 0; i < c->n; i++) sum += a->p[i] = exp((double)c->list[i].logit - top);
  for (int64_t i = 0; i < c->n; i++) {
    const double far = fabs((a->p[i] /= sum) - near) / width;
    c->list[i].logit = (float)(peak - sharpness * far * far / (1 + far));
  }
}

void pgg_adapt_took(pgg_adapt *a, int64_t at) {
  a->sum = a->p[at] + a->decay * a->sum;
  a->weight = 1 + a->decay * a->weight;
}
