/* Least-squares search for two-level scales. Works on 16 lanes of 16 values, lanes innermost, so that every loop is
 * elementwise and the compiler vectorises it without reordering a sum; sub-blocks of 32 are pairs of lanes.
 *   1. per sub-block: many starting scales, each improved by rounding and exact refit (Lloyd steps);
 *   2. for several d, dmin: integer scales by local search, then exact refit of d, dmin as halves, until it stalls.
 * Values are first scaled by a power of two into [0.5, 1), which is exact and keeps every square finite.
 * Source: own; least-squares alternation (Lloyd, max) on the published layouts. */
#include "quant/encode_fit.h"

#include <math.h>
#include <string.h>

enum { PER = FIT_LEN / FIT_LANES };

typedef struct problem {
  const pgg_fit_shape *shape;
  float x[FIT_LEN], w[FIT_LEN];       /* (16 values, 16 lanes) */
  float sw[FIT_LANES], sx[FIT_LANES]; /* sums of w and w * x of the lane's sub-block */
  int exponent;                       /* true value = x * 2^exponent */
} problem;

/* A candidate: d and dmin are halves divided by 2^exponent. */
typedef struct trial {
  float d, dmin;
  float scale[FIT_LANES], min[FIT_LANES]; /* integers */
  double error;
} trial;

uint16_t pgg_fit_half(float f) {
  if (f > 65504.0f) f = 65504.0f;
  if (f < -65504.0f) f = -65504.0f;
  uint16_t h = pgg_f32_to_f16(f);
  return (h & 0x7fff) == 0 && f != 0.0f ? (uint16_t)(h | 1) : h;
}

static float snap(const problem *p, double d) {
  return ldexpf(pgg_f16_to_f32(pgg_fit_half(ldexpf((float)d, p->exponent))), -p->exponent);
}

/* Half to even for |v| < 2^22; larger values stay large, which is all that a clamp behind it needs. */
static inline float round_even(float v) { return (v + 12582912.0f) - 12582912.0f; }
static inline float clamp(float v, float lo, float hi) { return v < lo ? lo : v > hi ? hi : v; }

static void invert(const float *scale, float *inverse) {
  for (int l = 0; l < FIT_LANES; l++) inverse[l] = fabsf(scale[l]) > 1e-30f ? 1.0f / scale[l] : 0.0f;
}

static void share(const problem *p, float *v) { /* both lanes of a sub-block of 32 get their sum */
  if (p->shape->sub == PER) return;
  for (int l = 0; l < FIT_LANES; l += 2) v[l] = v[l + 1] = v[l] + v[l + 1];
}

/* Rounds every value to scale * q - min and gives each lane the weighted squared error of its sub-block. */
static void errors(const problem *p, const float *scale, const float *min, float *error) {
  const float lo = (float)p->shape->q_lo, hi = (float)p->shape->q_hi;
  float inverse[FIT_LANES], e[FIT_LANES] = {0};
  invert(scale, inverse);
  for (int i = 0; i < FIT_LEN; i += FIT_LANES) {
    for (int l = 0; l < FIT_LANES; l++) {
      float q = clamp(round_even((p->x[i + l] + min[l]) * inverse[l]), lo, hi);
      float r = scale[l] * q - min[l] - p->x[i + l];
      e[l] += p->w[i + l] * r * r;
    }
  }
  memcpy(error, e, sizeof e);
  share(p, error);
}

/* The same rounding; sums of w*q, w*q*q and w*x*q. */
static void sums(const problem *p, const float *scale, const float *min, float *sq, float *sqq, float *sxq) {
  const float lo = (float)p->shape->q_lo, hi = (float)p->shape->q_hi;
  float inverse[FIT_LANES], a[FIT_LANES] = {0}, b[FIT_LANES] = {0}, c[FIT_LANES] = {0};
  invert(scale, inverse);
  for (int i = 0; i < FIT_LEN; i += FIT_LANES) {
    for (int l = 0; l < FIT_LANES; l++) {
      float q = clamp(round_even((p->x[i + l] + min[l]) * inverse[l]), lo, hi), wq = p->w[i + l] * q;
      a[l] += wq;
      b[l] += wq * q;
      c[l] += wq * p->x[i + l];
    }
  }
  memcpy(sq, a, sizeof a), memcpy(sqq, b, sizeof b), memcpy(sxq, c, sizeof c);
  share(p, sq), share(p, sqq), share(p, sxq);
}

/* ---- 1: free scale and minimum of each sub-block -------------------------------------------------------- */

/* Rounds with (scale, min), then solves for the pair that fits those q best; lanes without a solution stay. */
static void refit(const problem *p, float *scale, float *min) {
  float sq[FIT_LANES], sqq[FIT_LANES], sxq[FIT_LANES];
  sums(p, scale, min, sq, sqq, sxq);
  for (int l = 0; l < FIT_LANES; l++) {
    double s = sqq[l] > 0.0f ? (double)sxq[l] / sqq[l] : scale[l], m = 0.0;
    if (p->shape->min_hi) {
      double det = (double)p->sw[l] * sqq[l] - (double)sq[l] * sq[l];
      if (det > 1e-6 * p->sw[l] * sqq[l]) {
        double s2 = ((double)p->sw[l] * sxq[l] - (double)p->sx[l] * sq[l]) / det, m2 = (s2 * sq[l] - p->sx[l]) / p->sw[l];
        if (m2 > 0.0) s = s2, m = m2; /* else the best allowed minimum is 0 and s is already right */
      } else { /* one q for all */
        s = scale[l], m = fmax(0.0, (s * sq[l] - p->sx[l]) / p->sw[l]);
      }
      if (s <= 0.0) continue;
    }
    scale[l] = (float)s, min[l] = (float)m;
  }
}

static void free_fit(const problem *p, float *scale, float *min) {
  const int half = p->shape->sub / PER, spread = p->shape->q_hi - p->shape->q_lo;
  float low[FIT_LANES] = {0}, high[FIT_LANES] = {0}, best[FIT_LANES];
  for (int i = 0; i < FIT_LEN; i++) {
    int l = i % FIT_LANES / half * half; /* the first lane of the pair collects both */
    if (p->x[i] < low[l]) low[l] = p->x[i];
    if (p->x[i] > high[l]) high[l] = p->x[i];
  }
  for (int l = 0; l < FIT_LANES; l++) low[l] = low[l / half * half], high[l] = high[l / half * half];
  memset(scale, 0, sizeof best), memset(min, 0, sizeof best);
  if (p->shape->min_hi) memcpy(min, low, sizeof low);
  for (int l = 0; l < FIT_LANES; l++) min[l] = -min[l];
  errors(p, scale, min, best);
  /* clip < 1 leaves room at the ends, clip > 1 cuts values off; coarse formats gain from a wider range. */
  const float from = spread < 8 ? 0.6f : 0.85f, to = spread < 8 ? 1.7f : 1.2f;
  enum { STEPS = 12 };
  for (int step = 0; step < 2 * STEPS; step++) {
    const float clip = from + (to - from) * (float)(step / 2) / (STEPS - 1);
    float s[FIT_LANES], m[FIT_LANES], e[FIT_LANES];
    for (int l = 0; l < FIT_LANES; l++) {
      if (p->shape->min_hi) { /* odd: cut both ends, even: the top only */
        s[l] = (high[l] - low[l]) / ((float)spread * clip);
        m[l] = -low[l];
        if (step % 2) m[l] = fmaxf(0.0f, -0.5f * (low[l] + high[l] - s[l] * (float)spread));
      } else { /* the largest magnitude at either end of q */
        float top = high[l] > -low[l] ? high[l] : low[l];
        s[l] = top / ((float)(step % 2 ? p->shape->q_hi : p->shape->q_lo) * clip);
        m[l] = 0.0f;
      }
    }
    refit(p, s, m);
    refit(p, s, m);
    errors(p, s, m, e);
    for (int l = 0; l < FIT_LANES; l++) {
      if (e[l] < best[l]) best[l] = e[l], scale[l] = s[l], min[l] = m[l];
    }
  }
}

/* ---- 2: integer scales under d and dmin ----------------------------------------------------------------- */

static void lane_errors(const problem *p, const trial *t, float *error) {
  float s[FIT_LANES], m[FIT_LANES];
  for (int l = 0; l < FIT_LANES; l++) s[l] = t->d * t->scale[l], m[l] = t->dmin * t->min[l];
  errors(p, s, m, error);
}

static double total(const problem *p, const float *error) {
  double sum = 0.0;
  for (int l = 0; l < FIT_LANES; l += p->shape->sub / PER) sum += error[l];
  return sum;
}

/* Moves each sub-block to its best neighbouring integers; sets t->error. */
static void walk(const problem *p, trial *t) {
  const int reach = p->shape->min_hi ? 1 : 3;
  const float s_lo = (float)p->shape->scale_lo, s_hi = (float)p->shape->scale_hi, m_hi = (float)p->shape->min_hi;
  float best[FIT_LANES];
  lane_errors(p, t, best);
  trial at = *t;
  for (int ds = -reach; ds <= reach; ds++) {
    for (int dm = p->shape->min_hi ? -1 : 0; dm <= (p->shape->min_hi ? 1 : 0); dm++) {
      if (ds == 0 && dm == 0) continue;
      trial next = at;
      float e[FIT_LANES];
      for (int l = 0; l < FIT_LANES; l++) {
        next.scale[l] = clamp(at.scale[l] + (float)ds, s_lo, s_hi);
        next.min[l] = clamp(at.min[l] + (float)dm, 0.0f, m_hi);
      }
      lane_errors(p, &next, e);
      for (int l = 0; l < FIT_LANES; l++) {
        if (e[l] < best[l]) best[l] = e[l], t->scale[l] = next.scale[l], t->min[l] = next.min[l];
      }
    }
  }
  t->error = total(p, best);
}

/* The exact least-squares d and dmin for the integers of t. */
static void refit_super(const problem *p, trial *t) {
  float s[FIT_LANES], m[FIT_LANES], sq[FIT_LANES], sqq[FIT_LANES], sxq[FIT_LANES];
  for (int l = 0; l < FIT_LANES; l++) s[l] = t->d * t->scale[l], m[l] = t->dmin * t->min[l];
  sums(p, s, m, sq, sqq, sxq);
  double a = 0, b = 0, c = 0, u = 0, v = 0;
  for (int l = 0; l < FIT_LANES; l += p->shape->sub / PER) {
    const double S = t->scale[l], M = t->min[l];
    a += S * S * sqq[l], b += S * M * sq[l], c += M * M * p->sw[l];
    u += S * sxq[l], v += M * p->sx[l];
  }
  const double det = a * c - b * b;
  if (c > 0.0 && det > 1e-9 * a * c) {
    t->d = snap(p, (u * c - b * v) / det);
    t->dmin = snap(p, (u * b - a * v) / det);
  } else if (a > 0.0) {
    t->d = snap(p, (u + b * t->dmin) / a);
  } else if (c > 0.0) {
    t->dmin = snap(p, -v / c);
  }
}

static void descend(const problem *p, trial *t, trial *best) {
  double last = INFINITY;
  for (int round = 0; round < 8; round++) {
    walk(p, t);
    if (t->error < best->error) *best = *t;
    if (!(t->error < last * (1.0 - 1e-5))) return;
    last = t->error;
    refit_super(p, t);
  }
}

static void search(const problem *p, trial *best) {
  float scale[FIT_LANES], min[FIT_LANES], zero[FIT_LANES];
  memset(best, 0, sizeof *best);
  lane_errors(p, best, zero);
  best->error = total(p, zero);
  free_fit(p, scale, min);
  float top = 0.0f, top_min = 0.0f;
  for (int l = 0; l < FIT_LANES; l++) {
    if (fabsf(scale[l]) > fabsf(top)) top = scale[l];
    if (min[l] > top_min) top_min = min[l];
  }
  const int coarse = p->shape->scale_hi < 32;
  const int starts = coarse ? 5 : 3;
  const float s_lo = (float)p->shape->scale_lo, s_hi = (float)p->shape->scale_hi;
  for (int i = 0; i < starts; i++) {
    for (int j = 0; j < (p->shape->min_hi ? (coarse ? 3 : 1) : 1); j++) {
      /* A d a little off lets other integers fit; the largest scale then saturates or leaves its top code unused. */
      const float stretch = 1.0f + (float)(i - starts / 2) * (coarse ? 0.06f : 0.03f);
      const float stretch_min = 1.0f + (float)((j + 1) % 3 - 1) * 0.08f;
      const float end = s_lo < 0 ? s_lo : s_hi;
      trial t;
      t.d = snap(p, top / end * stretch);
      t.dmin = p->shape->min_hi ? snap(p, top_min / (float)p->shape->min_hi * stretch_min) : 0.0f;
      for (int l = 0; l < FIT_LANES; l++) {
        t.scale[l] = t.d != 0.0f ? clamp(round_even(scale[l] / t.d), s_lo, s_hi) : 0.0f;
        t.min[l] = t.dmin != 0.0f ? clamp(round_even(min[l] / t.dmin), 0.0f, (float)p->shape->min_hi) : 0.0f;
      }
      descend(p, &t, best);
    }
  }
}

/* ---- entry ---------------------------------------------------------------------------------------------- */

/* False when a value is not finite. */
static bool prepare(problem *p, const float *x, const float *importance) {
  float top = 0.0f, heaviest = 0.0f, mean = 0.0f;
  bool finite = true;
  for (int i = 0; i < FIT_LEN; i++) {
    const float a = fabsf(x[i]);
    finite = finite && a <= 3.402823466e38f;
    if (a > top) top = a;
    if (importance && importance[i] > heaviest) heaviest = importance[i];
  }
  if (!finite) return false;
  const bool weighted = heaviest > 0.0f && heaviest <= 3.402823466e38f;
  (void)frexpf(top, &p->exponent);
  if (p->exponent < -120) p->exponent = -120;
  if (weighted) {
    for (int i = 0; i < FIT_LEN; i++) mean += importance[i] / heaviest;
    mean /= FIT_LEN;
  }
  memset(p->sw, 0, sizeof p->sw), memset(p->sx, 0, sizeof p->sx);
  for (int i = 0; i < FIT_LEN; i++) {
    const int l = i / PER, at = i % PER * FIT_LANES + l;
    p->x[at] = ldexpf(x[i], -p->exponent);
    /* A trace of the mean weight keeps sub-blocks of weight 0 sensible. */
    p->w[at] = weighted ? importance[i] / heaviest + 1e-6f * mean : 1.0f;
    p->sw[l] += p->w[at], p->sx[l] += p->w[at] * p->x[at];
  }
  share(p, p->sw), share(p, p->sx);
  return true;
}

void pgg_fit_block(const pgg_fit_shape *shape, const float *x, const float *importance, pgg_fit *fit) {
  problem p;
  trial best, mirrored;
  float sign = 1.0f;
  memset(fit, 0, sizeof *fit);
  p.shape = shape;
  if (!prepare(&p, x, importance)) {
    fit->d = 0x7e00;
    return;
  }
  search(&p, &best);
  if (shape->min_hi) { /* -x with negative d and dmin: the only way to code blocks that lie above zero */
    for (int i = 0; i < FIT_LEN; i++) p.x[i] = -p.x[i];
    for (int l = 0; l < FIT_LANES; l++) p.sx[l] = -p.sx[l];
    search(&p, &mirrored);
    if (mirrored.error < best.error) {
      best = mirrored, sign = -1.0f;
    } else {
      for (int i = 0; i < FIT_LEN; i++) p.x[i] = -p.x[i];
    }
  }
  fit->d = pgg_fit_half(ldexpf(sign * best.d, p.exponent));
  fit->dmin = pgg_fit_half(ldexpf(sign * best.dmin, p.exponent));
  const int half = shape->sub / PER;
  for (int l = 0; l < FIT_LANES; l++) {
    const float s = best.d * best.scale[l], m = best.dmin * best.min[l];
    const float inverse = fabsf(s) > 1e-30f ? 1.0f / s : 0.0f;
    fit->scale[l / half] = (int)best.scale[l];
    fit->min[l / half] = (int)best.min[l];
    for (int i = 0; i < PER; i++) {
      float q = clamp(round_even((p.x[i * FIT_LANES + l] + m) * inverse), (float)shape->q_lo, (float)shape->q_hi);
      fit->q[l * PER + i] = (int8_t)q;
    }
  }
}
