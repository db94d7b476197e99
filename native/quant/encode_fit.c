/* Least-squares search for two-level scales. Works on 16 lanes of 16 values, lanes innermost, so that every loop is
 * elementwise and the compiler vectorises it without reordering a sum; sub-blocks of 32 are pairs of lanes.
 *   1. per sub-block: many starting scales, each improved by rounding and exact refit (Lloyd steps);
 *   2. for several d, dmin: integer scales by local search, then exact refit of d, dmin as halves, until it stalls.
 * Values are first scaled by a power of two into [0.5, 1), which is exact and keeps every square finite.
 * Source: own; least-squares alternation (Lloyd, max) on the published layouts. */
#include "quant/encode_fit.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { PER = FIT_LEN / FIT_LANES };

typedef struct problem {
  const pgg_fit_shape *shape;
  float x[FIT_LEN], w[FIT_LEN];       /* (16 values, 16 lanes) */
  float sw[FIT_LANES], sx[FIT_LANES]; /* sums of w and w * x of the lane's sub-block */
  int exponent;                       /* true value = x * 2^exponent */
  pgg_fit_steps steps;                /* of the book, if there is one */
} problem;

/* A candidate: d and dmin are halves divided by 2^exponent. */
typedef struct trial {
  float d, dmin;
  float scale[FIT_LANES], min[FIT_LANES]; /* integers */
  double error;
  int side; /* 1: coded as -x with negative d and dmin */
} trial;

uint16_t pgg_fit_half(double f) {
  if (f > 65504.0) f = 65504.0;
  if (f < -65504.0) f = -65504.0;
  uint16_t h = pgg_f32_to_f16((float)f);
  return (h & 0x7fff) == 0 && f != 0.0 ? (uint16_t)(h | 1) : h;
}

static float snap(const problem *p, double d) {
  return ldexpf(pgg_f16_to_f32(pgg_fit_half(ldexp(d, p->exponent))), -p->exponent);
}

static inline float clamp(float v, float lo, float hi) { return v < lo ? lo : v > hi ? hi : v; }

static void invert(const float *scale, float *inverse) {
  for (int l = 0; l < FIT_LANES; l++) inverse[l] = fabsf(scale[l]) > 1e-30f ? 1.0f / scale[l] : 0.0f;
}

static void share(const problem *p, float *v) { /* both lanes of a sub-block of 32 get their sum */
  if (p->shape->sub == PER) return;
  for (int l = 0; l < FIT_LANES; l += 2) v[l] = v[l + 1] = v[l] + v[l + 1];
}

static inline float rounded(const problem *p, const bool book, float v, float lo, float hi) {
  return book ? pgg_book_nearest(&p->steps, v) : clamp(pgg_round_even(v), lo, hi);
}

static inline void errors_of(const problem *p, const bool book, const float *scale, const float *min, float *error) {
  const float lo = (float)p->shape->q_lo, hi = (float)p->shape->q_hi;
  float inverse[FIT_LANES], e[FIT_LANES] = {0};
  invert(scale, inverse);
  for (int i = 0; i < FIT_LEN; i += FIT_LANES) {
    PGG_LANES
    for (int l = 0; l < FIT_LANES; l++) {
      const float q = rounded(p, book, (p->x[i + l] + min[l]) * inverse[l], lo, hi);
      const float r = scale[l] * q - min[l] - p->x[i + l];
      e[l] += p->w[i + l] * r * r;
    }
  }
  memcpy(error, e, sizeof e);
  share(p, error);
}

/* Rounds every value to scale * q - min and gives each lane the weighted squared error of its sub-block. */
static void errors(const problem *p, const float *scale, const float *min, float *error) {
  if (p->shape->book) {
    errors_of(p, true, scale, min, error);
  } else {
    errors_of(p, false, scale, min, error);
  }
}

static inline void sums_of(const problem *p, const bool book, const float *scale, const float *min, float *sq,
                           float *sqq, float *sxq) {
  const float lo = (float)p->shape->q_lo, hi = (float)p->shape->q_hi;
  float inverse[FIT_LANES], a[FIT_LANES] = {0}, b[FIT_LANES] = {0}, c[FIT_LANES] = {0};
  invert(scale, inverse);
  for (int i = 0; i < FIT_LEN; i += FIT_LANES) {
    PGG_LANES
    for (int l = 0; l < FIT_LANES; l++) {
      const float q = rounded(p, book, (p->x[i + l] + min[l]) * inverse[l], lo, hi), wq = p->w[i + l] * q;
      a[l] += wq;
      b[l] += wq * q;
      c[l] += wq * p->x[i + l];
    }
  }
  memcpy(sq, a, sizeof a), memcpy(sqq, b, sizeof b), memcpy(sxq, c, sizeof c);
  share(p, sq), share(p, sqq), share(p, sxq);
}

/* The same rounding; sums of w*q, w*q*q and w*x*q. */
static void sums(const problem *p, const float *scale, const float *min, float *sq, float *sqq, float *sxq) {
  if (p->shape->book) {
    sums_of(p, true, scale, min, sq, sqq, sxq);
  } else {
    sums_of(p, false, scale, min, sq, sqq, sxq);
  }
}

/* ---- 1: free scale and minimum of each sub-block -------------------------------------------------------- */

/* Rounds with (scale, min), then solves for the pair with 0 <= min <= cap that fits those q best. */
static void refit(const problem *p, float cap, float *scale, float *min) {
  float sq[FIT_LANES], sqq[FIT_LANES], sxq[FIT_LANES];
  sums(p, scale, min, sq, sqq, sxq);
  for (int l = 0; l < FIT_LANES; l++) {
    double s = scale[l], m = 0.0;
    if (p->shape->min_hi) {
      const double det = (double)p->sw[l] * sqq[l] - (double)sq[l] * sq[l];
      if (det > 1e-6 * p->sw[l] * sqq[l]) {
        s = ((double)p->sw[l] * sxq[l] - (double)p->sx[l] * sq[l]) / det;
      } /* else all q are the same, and s stays */
      m = fmin(fmax((s * sq[l] - p->sx[l]) / p->sw[l], 0.0), cap);
    }
    if (sqq[l] > 0.0f) s = (sxq[l] + m * sq[l]) / sqq[l]; /* exact for this m, also when m met a bound */
    if (p->shape->min_hi && s <= 0.0) continue;
    scale[l] = (float)s, min[l] = (float)m;
  }
}

static void free_fit(const problem *p, float cap, float *scale, float *min) {
  const int half = p->shape->sub / PER, spread = p->shape->q_hi - p->shape->q_lo;
  float low[FIT_LANES] = {0}, high[FIT_LANES] = {0}, best[FIT_LANES], noise[FIT_LANES];
  for (int i = 0; i < FIT_LEN; i++) {
    int l = i % FIT_LANES / half * half; /* the first lane of the pair collects both */
    if (p->x[i] < low[l]) low[l] = p->x[i];
    if (p->x[i] > high[l]) high[l] = p->x[i];
  }
  for (int l = 0; l < FIT_LANES; l++) low[l] = low[l / half * half], high[l] = high[l / half * half];
  memset(scale, 0, sizeof best), memset(min, 0, sizeof best);
  if (p->shape->min_hi) {
    for (int l = 0; l < FIT_LANES; l++) low[l] = fmaxf(low[l], -cap), min[l] = -low[l];
  }
  errors(p, scale, min, best);
  for (int l = 0; l < FIT_LANES; l++) noise[l] = 1e-12f * best[l];
  /* clip < 1 leaves room at the ends, clip > 1 cuts values off; coarse formats gain from a wider range. */
  const float from = spread < 8 ? 0.7f : 0.85f, to = spread < 8 ? 1.5f : 1.2f;
  enum { STEPS = 12 };
  for (int step = 0; step < 2 * STEPS + 2; step++) { /* the unclipped range first: it wins among equals */
    const float clip = step < 2 ? 1.0f : from + (to - from) * (float)(step / 2 - 1) / (STEPS - 1);
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
    refit(p, cap, s, m);
    refit(p, cap, s, m);
    errors(p, s, m, e);
    for (int l = 0; l < FIT_LANES; l++) {
      if (e[l] < best[l] - noise[l]) best[l] = e[l], scale[l] = s[l], min[l] = m[l];
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

/* Moves each sub-block to its best integers within reach of where it is; sets t->error. */
static void walk(const problem *p, trial *t, int reach) {
  const int reach_min = p->shape->min_hi ? reach : 0;
  const float s_lo = (float)p->shape->scale_lo, s_hi = (float)p->shape->scale_hi, m_hi = (float)p->shape->min_hi;
  float best[FIT_LANES], e[FIT_LANES];
  lane_errors(p, t, best);
  const trial at = *t;
  trial next = at;
  for (int flip = 0; flip <= (s_lo < 0.0f && reach < 4); flip++) { /* q is lopsided: the other sign is another grid */
    for (int ds = -reach; ds <= reach; ds++) {
      for (int dm = -reach_min; dm <= reach_min; dm++) {
        for (int l = 0; l < FIT_LANES; l++) {
          next.scale[l] = clamp((flip ? -at.scale[l] : at.scale[l]) + (float)ds, s_lo, s_hi);
          next.min[l] = clamp(at.min[l] + (float)dm, 0.0f, m_hi);
        }
        lane_errors(p, &next, e);
        for (int l = 0; l < FIT_LANES; l++) {
          if (e[l] < best[l]) best[l] = e[l], t->scale[l] = next.scale[l], t->min[l] = next.min[l];
        }
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

/* Walks and refits until it stalls. */
static void descend(const problem *p, trial t, trial *best) {
  for (int round = 0; round < 8; round++) {
    const double last = t.error;
    if (t.error < best->error) *best = t;
    refit_super(p, &t);
    walk(p, &t, 1);
    if (t.error < best->error) *best = t;
    if (!(t.error < last * (1.0 - 1e-5))) return;
  }
}

static void begin(const problem *p, const float *scale, const float *min, double d, double dmin, trial *t) {
  t->d = snap(p, d);
  t->dmin = snap(p, dmin);
  for (int l = 0; l < FIT_LANES; l++) {
    const float s = t->d != 0.0f ? pgg_round_even(scale[l] / t->d) : 0.0f;
    const float m = t->dmin != 0.0f ? pgg_round_even(min[l] / t->dmin) : 0.0f;
    t->scale[l] = clamp(s, (float)p->shape->scale_lo, (float)p->shape->scale_hi);
    t->min[l] = clamp(m, 0.0f, (float)p->shape->min_hi);
  }
}

/* Judges one scale and one minimum for all sub-blocks. */
static void judge_level(const problem *p, double d, float scale, double dmin, float min, trial *best) {
  trial t = {.d = snap(p, d), .dmin = snap(p, dmin), .side = best->side};
  float e[FIT_LANES];
  for (int l = 0; l < FIT_LANES; l++) t.scale[l] = scale, t.min[l] = min;
  lane_errors(p, &t, e);
  t.error = total(p, e);
  if (t.error < best->error) *best = t;
}

/* For nearly exact blocks (constant rows): only what the halves lose is left, so every product that could give the
 * largest value is worth a look, then all integers near the best. */
static void exact(const problem *p, trial *best) {
  const pgg_fit_shape *shape = p->shape;
  const int end = shape->scale_lo < 0 ? shape->scale_lo : shape->scale_hi;
  float top = 0.0f;
  for (int i = 0; i < FIT_LEN; i++) top = fabsf(p->x[i]) > fabsf(top) ? p->x[i] : top;
  for (int q = shape->q_lo; q <= shape->q_hi; q++) {
    if (q == 0 || (shape->book && !memchr(shape->book->value, (uint8_t)q, 16))) continue;
    judge_level(p, (double)top / (end * q), (float)end, 0.0, 0.0f, best);
  }
  for (int m = 1; m <= shape->min_hi; m++) judge_level(p, 0.0, 0.0f, -(double)top / m, (float)m, best);
  trial t = *best;
  walk(p, &t, shape->min_hi ? 6 : 24);
  if (t.error < best->error) *best = t;
}

enum { KEEP = 3 };

/* Puts t among the n best so far and returns their new number. */
static int keep(trial *kept, int n, const trial *t) {
  int at = n < KEEP ? n : KEEP;
  for (; at > 0 && t->error < kept[at - 1].error; at--) {
    if (at < KEEP) kept[at] = kept[at - 1];
  }
  if (at < KEEP) kept[at] = *t;
  return n < KEEP ? n + 1 : KEEP;
}

/* The best starts of one side. */
static int start(const problem *p, int side, trial *kept, int n) {
  /* Where d begins, in units of the one that gives the largest scale the last code: a d a little off lets other
   * integers fit, a larger one leaves codes unused, a smaller one saturates. Types with minima have two sides (and
   * q2_k several dmin) to try, so they get fewer; fine scales gain little from the far ones. */
  static const float coarse_with_minima[] = {1.0f, 1.06f, 1.15f, 0.94f, 1.3f, 1.6f, 0.8f, 0.67f, 0.5f};
  static const float fine_with_minima[] = {1.0f, 1.06f, 1.15f};
  static const float without_minima[] = {0.94f, 0.97f, 1.0f,  1.02f, 1.04f, 1.06f, 1.08f,
                                         1.1f,  1.12f, 1.15f, 1.2f,  1.3f,  1.6f,  2.0f};
  static const float stretches_min[] = {1.0f, 0.9f, 1.15f};
  const bool minima = p->shape->min_hi != 0, coarse = p->shape->scale_hi < 32;
  const float *stretches = !minima ? without_minima : coarse ? coarse_with_minima : fine_with_minima;
  const size_t bytes = !minima ? sizeof without_minima : coarse ? sizeof coarse_with_minima : sizeof fine_with_minima;
  const int count = (int)(bytes / sizeof *stretches);
  float scale[FIT_LANES], min[FIT_LANES], cap = INFINITY;
  for (int set = 0; set < 2; set++) {
    free_fit(p, cap, scale, min);
    float top = 0.0f, top_min = 0.0f, mean_min = 0.0f;
    for (int l = 0; l < FIT_LANES; l++) {
      if (fabsf(scale[l]) > fabsf(top)) top = scale[l];
      if (min[l] > top_min) top_min = min[l];
      mean_min += min[l] / FIT_LANES;
    }
    const double d = top / (double)(p->shape->scale_lo < 0 ? p->shape->scale_lo : p->shape->scale_hi);
    const double dmin = minima ? top_min / (double)p->shape->min_hi : 0.0;
    for (int i = 0; i < count; i++) {
      for (int j = 0; j < (minima && coarse && set == 0 ? 3 : 1); j++) {
        trial t;
        begin(p, scale, min, d * stretches[i], dmin * stretches_min[j], &t);
        t.side = side;
        walk(p, &t, 1);
        n = keep(kept, n, &t);
      }
    }
    /* One sub-block with a far larger minimum makes a coarse dmin useless for all others: try without. */
    if (!minima || !coarse || top_min < 3.0f * mean_min) break;
    cap = mean_min;
  }
  return n;
}

/* Leaves the best for a nearby d or dmin, or for far integers, and descends again from what that finds. */
static void hop(const problem *p, trial *best) {
  static const float steps[] = {0.97f, 0.985f, 1.015f, 1.03f};
  const trial from = *best;
  trial found = from, t;
  if (p->shape->min_hi == 0) { /* one scale a sub-block: looking far costs little, and helps sparse ones */
    t = from;
    walk(p, &t, p->shape->scale_hi < 32 ? 32 : 8);
    descend(p, t, best);
    return;
  }
  found.error = INFINITY;
  for (int i = 0; i < 8; i++) {
    float scale[FIT_LANES], min[FIT_LANES];
    for (int l = 0; l < FIT_LANES; l++) scale[l] = from.d * from.scale[l], min[l] = from.dmin * from.min[l];
    begin(p, scale, min, i < 4 ? from.d * steps[i] : from.d, i < 4 ? from.dmin : from.dmin * steps[i - 4], &t);
    t.side = from.side;
    walk(p, &t, 1);
    if (t.error < found.error) found = t;
  }
  descend(p, found, best);
}

/* p (sides) */
static void search(const problem *p, int sides, trial *best) {
  trial kept[KEEP];
  float nothing[FIT_LANES];
  int n = 0;
  memset(best, 0, sizeof *best);
  lane_errors(p, best, nothing);
  best->error = total(p, nothing);
  const double energy = best->error;
  if (energy == 0.0) return;
  for (int side = 0; side < sides; side++) n = start(&p[side], side, kept, n);
  for (int i = 0; i < n; i++) descend(&p[kept[i].side], kept[i], best);
  hop(&p[best->side], best);
  if (best->error < 1e-6 * energy) {
    for (int side = 0; side < sides; side++) {
      trial t = *best;
      if (side != t.side) t.error = INFINITY; /* its integers mean something else on this side */
      t.side = side;
      exact(&p[side], &t);
      if (t.error < best->error) *best = t;
    }
  }
}

/* ---- entry ---------------------------------------------------------------------------------------------- */

bool pgg_fit_prepare(const float *x, const float *importance, int n, float most, float *out, float *w, int *exponent) {
  float top = 0.0f, heaviest = 0.0f, mean = 0.0f;
  bool finite = true, weighted = importance != NULL;
  for (int i = 0; i < n; i++) {
    const float a = fabsf(x[i]);
    finite = finite && a <= FLT_MAX;
    if (a > top) top = a;
    if (!weighted) continue;
    weighted = importance[i] >= 0.0f && importance[i] <= FLT_MAX;
    if (importance[i] > heaviest) heaviest = importance[i];
  }
  if (!finite) return false;
  if (top > most) top = most;
  weighted = weighted && heaviest > 0.0f;
  (void)frexpf(top, exponent);
  if (*exponent < -120) *exponent = -120;
  const double down = ldexp(1.0, -*exponent);
  for (int i = 0; i < n; i++) out[i] = (float)(clamp(x[i], -most, most) * down), w[i] = 1.0f;
  if (!weighted) return true;
  for (int i = 0; i < n; i++) mean += importance[i] / heaviest;
  mean /= (float)n;
  for (int i = 0; i < n; i++) w[i] = importance[i] / heaviest + 1e-6f * mean;
  return true;
}

static bool prepare(problem *p, const float *x, const float *importance) {
  /* The largest value that this format can hold; what is beyond saturates. */
  const pgg_fit_shape *shape = p->shape;
  const float most = 65504.0f * (float)(shape->scale_lo < 0 ? -shape->scale_lo : shape->scale_hi) *
                     (float)(shape->q_lo < 0 ? -shape->q_lo : shape->q_hi);
  float v[FIT_LEN], w[FIT_LEN];
  if (!pgg_fit_prepare(x, importance, FIT_LEN, most, v, w, &p->exponent)) return false;
  memset(p->sw, 0, sizeof p->sw), memset(p->sx, 0, sizeof p->sx);
  for (int i = 0; i < FIT_LEN; i++) {
    const int l = i / PER, at = i % PER * FIT_LANES + l;
    p->x[at] = v[i], p->w[at] = w[i];
    p->sw[l] += w[i], p->sx[l] += w[i] * v[i];
  }
  share(p, p->sw), share(p, p->sx);
  return true;
}

void pgg_fit_block(const pgg_fit_shape *shape, const float *x, const float *importance, pgg_fit *fit) {
  problem sides[2];
  trial best;
  memset(fit, 0, sizeof *fit);
  sides[0].shape = shape;
  if (shape->book) sides[0].steps = pgg_book_steps(shape->book);
  if (!prepare(&sides[0], x, importance)) {
    fit->d = 0x7e00;
    return;
  }
  if (shape->min_hi) { /* -x with negative d and dmin: the only way to code blocks that lie above zero */
    sides[1] = sides[0];
    for (int i = 0; i < FIT_LEN; i++) sides[1].x[i] = -sides[1].x[i];
    for (int l = 0; l < FIT_LANES; l++) sides[1].sx[l] = -sides[1].sx[l];
  }
  search(sides, shape->min_hi ? 2 : 1, &best);
  const problem *p = &sides[best.side];
  const float sign = best.side ? -1.0f : 1.0f;
  fit->d = pgg_fit_half(ldexp(sign * best.d, p->exponent));
  fit->dmin = pgg_fit_half(ldexp(sign * best.dmin, p->exponent));
  const int lanes = shape->sub / PER;
  for (int l = 0; l < FIT_LANES; l++) {
    const float s = best.d * best.scale[l], m = best.dmin * best.min[l];
    const float inverse = fabsf(s) > 1e-30f ? 1.0f / s : 0.0f;
    fit->scale[l / lanes] = (int)best.scale[l];
    fit->min[l / lanes] = (int)best.min[l];
    for (int i = 0; i < PER; i++) {
      const float v = (p->x[i * FIT_LANES + l] + m) * inverse;
      fit->q[l * PER + i] = (int8_t)(shape->book ? pgg_book_place(&p->steps, v)
                                                 : clamp(pgg_round_even(v), (float)shape->q_lo, (float)shape->q_hi));
    }
  }
}
