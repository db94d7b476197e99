/* The speed of every pair of a rope. In double: at position 100,000 a float has lost the fraction. YaRN after arXiv
 * 2309.00071. */
#include "core/rope.h"

#include <math.h>
#include <stdlib.h>

#define TWO_PI 6.283185307179586

/* The pair index at which a wave turns `turns` times over the original context. */
static double pair_of_turns(const pgg_op *op, double turns) {
  return (double)PGG_INT(op, rope, n_rot) * log((double)PGG_INT(op, rope, n_ctx_orig) / (turns * TWO_PI)) /
         (2 * log((double)PGG_FLOAT(op, rope, freq_base)));
}

/* Radians per position of every pair. */
static double speed_of(const pgg_op *op, const float *factors, int64_t pair) {
  const double scale = PGG_FLOAT(op, rope, freq_scale), ext = PGG_FLOAT(op, rope, ext_factor);
  double raw = pow((double)PGG_FLOAT(op, rope, freq_base), -2.0 * (double)pair / (double)PGG_INT(op, rope, n_rot));
  if (factors) raw /= factors[pair];
  if (!(ext > 0)) return raw * scale;
  double low = pair_of_turns(op, PGG_FLOAT(op, rope, beta_fast)),
         high = pair_of_turns(op, PGG_FLOAT(op, rope, beta_slow));
  if (!PGG_INT(op, rope, exact)) low = floor(low), high = ceil(high);
  low = low < 0 ? 0 : low;
  high = high > (double)PGG_INT(op, rope, n_rot) - 1 ? (double)PGG_INT(op, rope, n_rot) - 1 : high;
  double ramp = ((double)pair - low) / (high - low > 0.001 ? high - low : 0.001);
  ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
  double mix = (1 - ramp) * ext; /* 1: fast pairs keep their speed */
  return raw * scale * (1 - mix) + raw * mix;
}

const float *pgg_rope_factors(const pgg_plan *plan, const pgg_op *op) {
  const int far = PGG_WEIGHT(op, rope, far);
  const bool is_far = far >= 0 && plan->limits.n_ctx > PGG_INT(op, rope, n_ctx_orig);
  return pgg_plan_vec(plan, is_far ? far : PGG_WEIGHT(op, rope, factors));
}

double *pgg_rope_speeds(const pgg_op *op, const float *factors) {
  const int64_t pairs = PGG_INT(op, rope, n_rot) / 2;
  double *speed = malloc((size_t)(pairs + 1) * sizeof *speed);
  for (int64_t pair = 0; speed && pair < pairs; pair++) speed[pair] = speed_of(op, factors, pair);
  return speed;
}
