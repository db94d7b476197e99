/* Weighted least-squares search for one scale, and a minimum if the format has one, over 32 or 64 values.
 * Many starts are tried at once: a lane is a start, so loops are elementwise and sums keep their order. Each start is
 * stored as halves, rounded to and refitted a few times; then the neighbourhood of the best is searched.
 * Values are first scaled by a power of two below 1 and weights to at most 1, so that no square overflows.
 * Source: own. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "quant/encode_fit.h"

enum { MOST = 64, LANES = 16, TURNS = 3 };

typedef struct search {
  float x[MOST], w[MOST];
  float sw, sx, lo, hi;
  int len;
  const pgg_fit_book *book;
  pgg_fit_steps steps;
  double up, down; /* true value = x * up; down = 1 / up; powers of two */
  bool affine;
  int n; /* lanes filled */
  float d[LANES], m[LANES];
  float least, best_d, best_m; /* halves divided by up */
} search;

static float clamp(float v, float lo, float hi) { return v < lo ? lo : v > hi ? hi : v; }

static float as_half(const search *s, float f) { return (float)(pgg_f16_to_f32(pgg_fit_half(f * s->up)) * s->down); }

/* Rounds every value in every lane; q from the book or from [lo, hi]. */
static inline void rounding(const search *s, const float *inverse, const bool book, float *error, float *sq, float *sqq,
                            float *sxq) {
  const pgg_fit_steps steps = s->steps;
  const float lo = s->lo, hi = s->hi;
  float e[LANES] = {0}, a[LANES] = {0}, b[LANES] = {0}, c[LANES] = {0};
  for (int i = 0; i < s->len; i++) {
    const float x = s->x[i], w = s->w[i];
    PGG_LANES
    for (int l = 0; l < LANES; l++) {
      const float v = (x - s->m[l]) * inverse[l];
      const float q = book ? pgg_book_nearest(&steps, v) : clamp(pgg_round_even(v), lo, hi);
      const float wq = w * q, r = s->d[l] * q + s->m[l] - x;
      e[l] += w * r * r;
      a[l] += wq, b[l] += wq * q, c[l] += wq * x;
    }
  }
  memcpy(error, e, sizeof e), memcpy(sq, a, sizeof a), memcpy(sqq, b, sizeof b), memcpy(sxq, c, sizeof c);
}

/* Judges all lanes and leaves in d, m the best pair for the q they rounded to. */
static void turn(search *s) {
  float inverse[LANES], error[LANES], sq[LANES], sqq[LANES], sxq[LANES];
  for (int l = 0; l < LANES; l++) {
    s->d[l] = as_half(s, s->d[l]);
    if (s->affine) s->m[l] = as_half(s, s->m[l]);
    inverse[l] = fabsf(s->d[l]) > 1e-30f ? 1.0f / s->d[l] : 0.0f;
  }
  if (s->book) {
    rounding(s, inverse, true, error, sq, sqq, sxq);
  } else {
    rounding(s, inverse, false, error, sq, sqq, sxq);
  }
  for (int l = 0; l < LANES; l++) {
    if (error[l] < s->least) s->least = error[l], s->best_d = s->d[l], s->best_m = s->m[l];
    const double det = (double)s->sw * sqq[l] - (double)sq[l] * sq[l];
    if (!s->affine) {
      if (sqq[l] > 0.0f) s->d[l] = sxq[l] / sqq[l];
    } else if (det > 1e-6 * s->sw * sqq[l]) {
      s->d[l] = (float)(((double)s->sw * sxq[l] - (double)s->sx * sq[l]) / det);
      s->m[l] = (s->sx - s->d[l] * sq[l]) / s->sw;
    }
  }
}

static void flush(search *s) {
  if (s->n == 0) return;
  for (int l = s->n; l < LANES; l++) s->d[l] = s->d[0], s->m[l] = s->m[0];
  for (int i = 0; i < TURNS; i++) turn(s);
  s->n = 0;
}

static void add(search *s, float d, float m) {
  s->d[s->n] = d, s->m[s->n] = m;
  if (++s->n == LANES) flush(s);
}

/* Starts that span the values of at least this weight: a little more than them, or less where the ends weigh little. */
static void start(search *s, float least_weight) {
  static const float cuts[] = {0.0f, 0.04f, 0.09f, 0.17f, 0.3f}; /* parts of the span, from either end */
  enum { CUTS = sizeof cuts / sizeof *cuts, FINE = 22, STEPS = 28 };
  float low = INFINITY, high = -INFINITY;
  for (int i = 0; i < s->len; i++) {
    if (s->w[i] < least_weight) continue;
    if (s->x[i] < low) low = s->x[i];
    if (s->x[i] > high) high = s->x[i];
  }
  const float span = high - low, top = fabsf(low) > fabsf(high) ? low : high;
  if (s->affine && span == 0.0f) add(s, low - as_half(s, low), as_half(s, low)); /* q = 1 adds what the half lost */
  float clip = 0.89f;                                                            /* above 1 the ends are cut off */
  for (int step = 0; step < STEPS; step++, clip *= step < FINE ? 1.01f : 1.12f) {
    if (s->affine) {
      const float d = span / ((s->hi - s->lo) * clip);
      add(s, d, low), add(s, d, 0.5f * (low + high - d * (s->hi - s->lo))), add(s, d, high - d * (s->hi - s->lo));
    } else {
      add(s, top / (s->lo * clip), 0.0f), add(s, top / (s->hi * clip), 0.0f);
    }
  }
  for (int i = 0; s->affine && i < CUTS * CUTS; i++) {
    const float below = cuts[i / CUTS], above = cuts[i % CUTS];
    add(s, span * (1.0f - below - above) / (s->hi - s->lo), low + span * below);
  }
  for (int k = 0; s->book && k < 16; k++) add(s, top / s->book->value[k], 0.0f); /* flat rows: some half fits best */
}

void pgg_fit_one(const float *x, const float *w, const pgg_fit_range *range, uint16_t *d, uint16_t *m) {
  search s = {.lo = (float)range->lo,
              .hi = (float)range->hi,
              .len = range->n,
              .affine = range->affine,
              .book = range->book,
              .least = INFINITY};
  const float most = 65504.0f * (s.hi > -s.lo ? s.hi : -s.lo);
  float top = 0.0f, heaviest = 0.0f;
  if (s.book) s.steps = pgg_book_steps(s.book);
  for (int i = 0; i < s.len; i++) {
    if (fabsf(x[i]) > top) top = fabsf(x[i]);
    if (w[i] > heaviest) heaviest = w[i];
  }
  int exponent;
  (void)frexpf(top < most ? top : most, &exponent);
  if (exponent < -120) exponent = -120;
  s.up = ldexp(1.0, exponent), s.down = ldexp(1.0, -exponent);
  for (int i = 0; i < s.len; i++) {
    s.x[i] = (float)(clamp(x[i], -most, most) * s.down);
    s.w[i] = w[i] / heaviest;
    s.sw += s.w[i], s.sx += s.w[i] * s.x[i];
  }
  start(&s, 0.0f);
  start(&s, s.sw / (float)s.len);
  flush(&s);
  for (int round = 0; round < 4; round++) { /* then around the best */
    const float least = s.least, near_d = s.best_d, near_m = s.best_m;
    for (int i = 0; i < LANES; i++) add(&s, near_d * (1.0f + 0.006f * (float)(i - LANES / 2)), near_m);
    if (!(s.least < least)) break;
  }
  *d = pgg_fit_half(s.best_d * s.up);
  *m = s.affine ? pgg_fit_half(s.best_m * s.up) : 0;
}
