/* What is asked of a sampler beside its settings: biases, masks, DRY, another order, adaptive-p. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/sampler.h"

pgg_status pgg_sampler_bias(pgg_sampler *s, const int32_t *ids, const float *bias, int64_t n) {
  if (!s || n < 0 || (n && (!ids || !bias))) return pgg_fail(PGG_EINVAL, "bias: sampler, ids or bias missing");
  for (int64_t i = 0; i < n; i++) {
    if (ids[i] < 0 || ids[i] >= s->n_vocab)
      return pgg_fail(PGG_EINVAL, "bias: id at position %lld is %d, expected 0 to %lld", (long long)i, ids[i],
                      (long long)s->n_vocab - 1);
    if (!isfinite(bias[i]) && bias[i] != -INFINITY)
      return pgg_fail(PGG_EINVAL, "bias: that of token %d is %g, expected a number or -infinity", ids[i],
                      (double)bias[i]);
  }
  if (!n) return PGG_OK;
  const size_t size = (size_t)s->n_vocab;
  if (!s->bias && !(s->bias = calloc(size, sizeof *s->bias))) return pgg_fail(PGG_ENOMEM, "no memory for biases");
  if (!s->row && !(s->row = malloc(size * sizeof *s->row))) return pgg_fail(PGG_ENOMEM, "no memory for biases");
  for (int64_t i = 0; i < n; i++) s->bias[ids[i]] = bias[i];
  return PGG_OK;
}

/* Words of a mask, and which bits of the last one stand for tokens. */
static int64_t mask_words(int64_t n_vocab, uint32_t *last) {
  *last = n_vocab % 32 ? (1u << (n_vocab % 32)) - 1 : UINT32_MAX;
  return (n_vocab + 31) / 32;
}

pgg_status pgg_sampler_allow(pgg_sampler *s, const uint32_t *allowed) {
  if (!s) return pgg_fail(PGG_EINVAL, "allow: sampler is NULL");
  if (!allowed) {
    s->masked = false;
    return PGG_OK;
  }
  uint32_t last, any = 0;
  const int64_t n = mask_words(s->n_vocab, &last);
  for (int64_t i = 0; i < n; i++) any |= allowed[i] & (i == n - 1 ? last : UINT32_MAX);
  if (!any) return pgg_fail(PGG_EINVAL, "allow: the mask forbids all of the %lld tokens", (long long)s->n_vocab);
  if (!s->allowed && !(s->allowed = malloc((size_t)n * sizeof *s->allowed)))
    return pgg_fail(PGG_ENOMEM, "no memory for a mask");
  if (!s->row && !(s->row = malloc((size_t)s->n_vocab * sizeof *s->row)))
    return pgg_fail(PGG_ENOMEM, "no memory for a mask");
  memcpy(s->allowed, allowed, (size_t)n * sizeof *s->allowed);
  s->masked = true;
  return PGG_OK;
}

pgg_status pgg_sampler_dry(pgg_sampler *s, float multiplier, float base, int32_t allowed_length, int32_t last_n,
                           const int32_t *breakers, const int32_t *lengths, int64_t n) {
  if (!s || n < 0 || (n && (!breakers || !lengths))) return pgg_fail(PGG_EINVAL, "dry: sampler or breakers missing");
  if (!isfinite(multiplier) || multiplier < 0 || !isfinite(base) || base < 1)
    return pgg_fail(PGG_EINVAL, "dry: multiplier is %g and base %g, expected 0 or more, and 1 or more",
                    (double)multiplier, (double)base);
  if (allowed_length < 0 || last_n < -1 || last_n > 1 << 24)
    return pgg_fail(PGG_EINVAL, "dry: allowed_length is %d and last_n %d, expected 0 or more, and -1 to 2^24",
                    allowed_length, last_n);
  for (int64_t i = 0; i < n; i++)
    if (lengths[i] < 1 || lengths[i] > 1000)
      return pgg_fail(PGG_EINVAL, "dry: breaker %lld has %d ids, expected 1 to 1000", (long long)i, lengths[i]);
  pgg_dry_free(s->dry);
  s->dry = NULL;
  if (multiplier == 0 || last_n == 0) return PGG_OK;
  if (!s->row && !(s->row = malloc((size_t)s->n_vocab * sizeof *s->row)))
    return pgg_fail(PGG_ENOMEM, "no memory for dry");
  s->dry = pgg_dry_new(multiplier, base, allowed_length, last_n, breakers, lengths, n);
  return s->dry ? PGG_OK : pgg_fail(PGG_ENOMEM, "no memory for dry");
}

pgg_status pgg_sampler_order(pgg_sampler *s, const int32_t *steps, int n) {
  if (!s || (n && !steps)) return pgg_fail(PGG_EINVAL, "order: sampler or steps missing");
  if (s->how.mirostat) return pgg_fail(PGG_EINVAL, "order: mirostat takes the place of the steps");
  pgg_steps order;
  pgg_status status = pgg_order_read(&order, steps, n);
  if (status) return status;
  if (!s->order && !(s->order = malloc(sizeof *s->order))) return pgg_fail(PGG_ENOMEM, "no memory for an order");
  if (!s->row && !(s->row = malloc((size_t)s->n_vocab * sizeof *s->row)))
    return pgg_fail(PGG_ENOMEM, "no memory for an order");
  *s->order = order;
  return PGG_OK;
}

pgg_status pgg_sampler_adapt(pgg_sampler *s, float target, float decay) {
  if (!s || !s->order) return pgg_fail(PGG_EINVAL, "adapt: sampler missing, or no order was given to it");
  if (!(target >= 0 && target <= 1) || !(decay >= 0 && decay <= 0.99f))
    return pgg_fail(PGG_EINVAL, "adapt: target is %g and decay %g, expected 0 to 1, and 0 to 0.99", (double)target,
                    (double)decay);
  double *p = s->adapt ? s->adapt->p : malloc((size_t)s->n_vocab * sizeof *p);
  if (p && !s->adapt && !(s->adapt = malloc(sizeof *s->adapt))) {
    free(p);
    p = NULL;
  }
  if (!p) return pgg_fail(PGG_ENOMEM, "no memory for adaptive-p");
  const double weight = 1 / (1 - (double)decay);
  *s->adapt = (pgg_adapt){target, decay, target * weight, weight, p};
  return PGG_OK;
}
