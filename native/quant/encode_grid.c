/* Encoders of the grid types, the search: iq2_xxs iq2_xs iq2_s iq3_xxs iq3_s iq1_s iq1_m. Packing is in encode_iq.c.
 * With scale s a grid row g costs  sum w (|x| - s g)^2 = sum w x^2 + s (s B - 2 A),  A = sum w |x| g, B = sum w g^2,
 * and A, B do not depend on s. So the whole grid is scored once for each 8 values, and every scale looks for the least
 * s B - 2 A. Where seven sign bits must be even in number, an odd unit pays 4 w |x| s g for its cheapest flip, which
 * is a smaller A: exact as well.
 *   1. per sub-block: the best rows at several scales; these few stand for the grid in step 2;
 *   2. d and the integer levels of all sub-blocks together: candidates, exact least-squares refit of d;
 *   3. the best rows of the whole grid at the final scales, and a last refit.
 * Source: own, on the published layouts and grids. */
#include "quant/encode_grid.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { SAMPLES = 16, MOST_ENTRIES = 2048, TILE = 256 };

typedef struct grid_work {
  const pgg_grid_shape *shape;
  int8_t plane[8 * MOST_ENTRIES]; /* (row, entries): value j of every entry */
  /* scores of one unit, one list for each half (rows of 4) or shift (iq1): 2 A, 2 A after the cheapest flip, B */
  float a[2][MOST_ENTRIES], b[2][MOST_ENTRIES], flipped[2][512];
  /* the block */
  float x[256], w[256];                                 /* |x| 2^-exponent (iq1: with sign), weights */
  uint8_t negative[32];                                 /* signs of 8 */
  bool odd[32];                                         /* an odd number of them, where that matters */
  int exponent;                                         /* true value = x * 2^exponent */
  float most_a[2][SAMPLES][32], most_b[2][SAMPLES][32]; /* step 1, per shift: 2 A and B of the best rows */
} grid_work;

/* The rows of one unit. */
typedef struct grid_pick {
  float a, b; /* 2 A, B */
  int code[2];
  int flip; /* the half whose cheapest sign is turned, or -1 */
  int shift;
} grid_pick;

/* ---- scores -------------------------------------------------------------------------------------------- */

static void grid_score_8(const int8_t *plane, int n, int shift, const float *w, const float *wx, float *a, float *b) {
  for (int g = 0; g < n; g++) {
    float sa = 0.0f, sb = 0.0f;
    for (int j = 0; j < 8; j++) {
      const float q = (float)(plane[j * n + g] + shift);
      sa += wx[j] * q, sb += w[j] * q * q;
    }
    a[g] = 2.0f * sa, b[g] = sb;
  }
}

static void grid_score_4(const int8_t *plane, int n, const float *w, const float *wx, float *a, float *b) {
  for (int g = 0; g < n; g++) {
    float sa = 0.0f, sb = 0.0f;
    for (int j = 0; j < 4; j++) {
      const float q = (float)plane[j * n + g];
      sa += wx[j] * q, sb += w[j] * q * q;
    }
    a[g] = 2.0f * sa, b[g] = sb;
  }
}

/* What the cheapest flip leaves of a. */
static void grid_score_flipped(const int8_t *plane, int n, int row, const float *wx, const float *a, float *flipped) {
  for (int g = 0; g < n; g++) flipped[g] = FLT_MAX;
  for (int j = 0; j < row; j++) {
    for (int g = 0; g < n; g++) {
      const float cost = wx[j] * (float)plane[j * n + g];
      flipped[g] = cost < flipped[g] ? cost : flipped[g];
    }
  }
  for (int g = 0; g < n; g++) flipped[g] = a[g] - 4.0f * flipped[g];
}

static void grid_score(grid_work *g, int unit) {
  const pgg_grid_shape *shape = g->shape;
  const int n = shape->entries;
  float wx[8];
  for (int half = 0; half < 8 / shape->row; half++) {
    const int at = unit * 8 + half * shape->row;
    for (int j = 0; j < shape->row; j++) wx[j] = g->w[at + j] * g->x[at + j];
    if (shape->shift) {
      grid_score_8(g->plane, n, -1, g->w + at, wx, g->a[0], g->b[0]);
      grid_score_8(g->plane, n, 1, g->w + at, wx, g->a[1], g->b[1]);
    } else if (shape->row == 8) {
      grid_score_8(g->plane, n, 0, g->w + at, wx, g->a[0], g->b[0]);
    } else {
      grid_score_4(g->plane, n, g->w + at, wx, g->a[half], g->b[half]);
    }
    if (g->odd[unit]) grid_score_flipped(g->plane, n, shape->row, wx, g->a[half], g->flipped[half]);
  }
}

/* The entry with the least s * b - a; n is a multiple of 256. Two chains of 16 lanes, so that a comparison need not
 * wait for the one before. */
static int grid_find(const float *a, const float *b, int n, float s) {
  float best0[16], best1[16], low = INFINITY;
  int at0[16], at1[16], where = 0;
  for (int l = 0; l < 16; l++) best0[l] = best1[l] = INFINITY, at0[l] = at1[l] = 0;
  for (int base = 0; base < n; base += TILE) {
    const float *pa = a + base, *pb = b + base;
    PGG_LANES
    for (int l = 0; l < 16; l++) {
      float v0 = best0[l], v1 = best1[l];
      int i0 = at0[l], i1 = at1[l];
      PGG_UNROLL
      for (int t = 0; t < TILE; t += 32) {
        const float u0 = s * pb[t + l] - pa[t + l], u1 = s * pb[t + 16 + l] - pa[t + 16 + l];
        i0 = u0 < v0 ? base + t : i0, v0 = u0 < v0 ? u0 : v0;
        i1 = u1 < v1 ? base + t + 16 : i1, v1 = u1 < v1 ? u1 : v1;
      }
      best0[l] = v0, best1[l] = v1, at0[l] = i0, at1[l] = i1;
    }
  }
  for (int l = 0; l < 16; l++) {
    if (best0[l] < low) low = best0[l], where = at0[l] + l;
    if (best1[l] < low) low = best1[l], where = at1[l] + l;
  }
  return where;
}

/* The best rows of the scored unit at scale s; shift: the list to use where sub-blocks share it. */
static grid_pick grid_choose(const grid_work *g, int unit, float s, int shift) {
  const pgg_grid_shape *shape = g->shape;
  const int n = shape->entries;
  grid_pick pick = {.flip = -1, .shift = shift};
  if (shape->row == 8) {
    const float *a = g->odd[unit] ? g->flipped[0] : g->a[shift];
    int at = grid_find(a, g->b[shift], n, s);
    if (shape->shift == PGG_SHIFT_UNIT) {
      const int other = grid_find(g->a[1], g->b[1], n, s);
      if (s * g->b[1][other] - g->a[1][other] < s * g->b[0][at] - g->a[0][at]) at = other, pick.shift = 1;
      a = g->a[pick.shift];
    }
    pick.code[0] = at, pick.a = a[at], pick.b = g->b[pick.shift][at];
    if (g->odd[unit]) pick.flip = 0;
    return pick;
  }
  float plain[2], turned[2];
  int at[2], at_turned[2];
  for (int h = 0; h < 2; h++) {
    at[h] = grid_find(g->a[h], g->b[h], n, s);
    plain[h] = s * g->b[h][at[h]] - g->a[h][at[h]];
    if (!g->odd[unit]) continue;
    at_turned[h] = grid_find(g->flipped[h], g->b[h], n, s);
    turned[h] = s * g->b[h][at_turned[h]] - g->flipped[h][at_turned[h]];
  }
  if (g->odd[unit]) pick.flip = turned[0] + plain[1] < plain[0] + turned[1] ? 0 : 1;
  for (int h = 0; h < 2; h++) {
    const int code = pick.flip == h ? at_turned[h] : at[h];
    pick.code[h] = code;
    pick.a += pick.flip == h ? g->flipped[h][code] : g->a[h][code];
    pick.b += g->b[h][code];
  }
  return pick;
}

/* ---- 1: rows worth keeping ------------------------------------------------------------------------------- */

/* Fills most_a, most_b and gives the best free scale of each sub-block. */
static void grid_sample(grid_work *g, float *scale) {
  const pgg_grid_shape *shape = g->shape;
  const int units = shape->sub / 8, lists = shape->shift == PGG_SHIFT_SUB ? 2 : 1;
  for (int sub = 0; sub < 256 / shape->sub; sub++) {
    float energy = 0.0f, weight = 0.0f, top = 0.0f, s[SAMPLES];
    for (int i = sub * shape->sub; i < (sub + 1) * shape->sub; i++) {
      const float v = fabsf(g->x[i]);
      energy += g->w[i] * v * v, weight += g->w[i];
      top = v > top ? v : top;
    }
    const float rms = weight > 0.0f ? sqrtf(energy / weight) : 0.0f;
    /* From all values at the last code to the largest there or all at a small one, with some room. */
    const float low = 0.8f * rms / shape->top, least = rms / shape->small;
    const float high = 1.15f * (top / shape->top > least ? top / shape->top : least);
    float ratio = low > 0.0f ? high / low : 1.0f;
    for (int i = SAMPLES; i > 1; i /= 2) ratio = sqrtf(ratio);
    s[0] = low > 0.0f ? low : 1.0f;
    for (int i = 1; i < SAMPLES; i++) s[i] = s[i - 1] * ratio;
    for (int u = sub * units; u < (sub + 1) * units; u++) {
      grid_score(g, u);
      for (int list = 0; list < lists; list++) {
        for (int i = 0; i < SAMPLES; i++) {
          const grid_pick pick = grid_choose(g, u, s[i], list);
          g->most_a[list][i][u] = pick.a, g->most_b[list][i][u] = pick.b;
        }
      }
    }
    float best = 0.0f;
    scale[sub] = 0.0f;
    for (int list = 0; list < lists; list++) {
      for (int i = 0; i < SAMPLES; i++) {
        float a = 0.0f, b = 0.0f;
        for (int u = sub * units; u < (sub + 1) * units; u++) a += g->most_a[list][i][u], b += g->most_b[list][i][u];
        if (a > 0.0f && b > 0.0f && -a * a / b < best) best = -a * a / b, scale[sub] = 0.5f * a / b;
      }
    }
  }
}

/* ---- 2: d and levels ------------------------------------------------------------------------------------- */

typedef struct grid_trial {
  float d; /* of level 0, a half in disguise */
  uint8_t level[16], shift[16];
  float error;
} grid_trial;

static float grid_snap(const grid_work *g, float d) {
  return ldexpf(pgg_f16_to_f32(pgg_fit_half(ldexp((double)d * g->shape->unit, g->exponent))), -g->exponent) /
         (float)g->shape->unit;
}

/* Each unit's least s (s B - 2 A) among the kept rows, and A, B of that. */
static void grid_units(const grid_work *g, int list, const float *s, float *error, float *a, float *b) {
  PGG_LANES
  for (int u = 0; u < 32; u++) {
    float best = INFINITY, best_a = 0.0f, best_b = 0.0f;
    PGG_UNROLL
    for (int i = 0; i < SAMPLES; i++) {
      const float ca = g->most_a[list][i][u], cb = g->most_b[list][i][u], v = s[u] * cb - ca;
      best_a = v < best ? ca : best_a, best_b = v < best ? cb : best_b, best = v < best ? v : best;
    }
    error[u] = s[u] * best, a[u] = best_a, b[u] = best_b;
  }
}

/* The best levels near the free scales for this d; refit: then the exact d for them, not yet snapped. */
static void grid_judge(const grid_work *g, const float *scale, int reach, grid_trial *t, float *refit) {
  const pgg_grid_shape *shape = g->shape;
  const int units = shape->sub / 8, subs = 256 / shape->sub, lists = shape->shift == PGG_SHIFT_SUB ? 2 : 1;
  float best[16], best_a[16] = {0}, best_b[16] = {0};
  int near[16];
  for (int sub = 0; sub < subs; sub++) {
    const float k = t->d > 0.0f ? 0.5f * (scale[sub] / t->d - 1.0f) : 0.0f;
    near[sub] = k >= (float)shape->levels ? shape->levels - 1 : (int)(k > 0.0f ? k + 0.5f : 0.0f);
    best[sub] = INFINITY;
  }
  for (int step = -reach; step <= reach; step++) {
    float s[32], e[32], a[32], b[32];
    for (int u = 0; u < 32; u++) {
      int k = near[u / units] + step;
      k = k < 0 ? 0 : k >= shape->levels ? shape->levels - 1 : k;
      s[u] = t->d * (float)(2 * k + 1);
    }
    for (int list = 0; list < lists; list++) {
      grid_units(g, list, s, e, a, b);
      for (int sub = 0; sub < subs; sub++) {
        float sum = 0.0f, sum_a = 0.0f, sum_b = 0.0f;
        for (int u = sub * units; u < (sub + 1) * units; u++) sum += e[u], sum_a += a[u], sum_b += b[u];
        if (sum < best[sub]) {
          int k = near[sub] + step;
          t->level[sub] = (uint8_t)(k < 0 ? 0 : k >= shape->levels ? shape->levels - 1 : k);
          t->shift[sub] = (uint8_t)list;
          best[sub] = sum, best_a[sub] = sum_a, best_b[sub] = sum_b;
        }
      }
    }
  }
  double top = 0.0, bottom = 0.0, error = 0.0;
  for (int sub = 0; sub < subs; sub++) {
    const double k = 2 * t->level[sub] + 1;
    top += 0.5 * k * best_a[sub], bottom += k * k * best_b[sub], error += best[sub];
  }
  t->error = (float)error;
  *refit = bottom > 0.0 && top > 0.0 ? (float)(top / bottom) : t->d;
}

static void grid_levels(const grid_work *g, const float *scale, grid_trial *best) {
  static const float stretches[] = {0.8f, 0.87f, 0.92f, 0.96f, 1.0f, 1.04f, 1.08f, 1.13f,
                                    1.2f, 1.3f,  1.45f, 1.65f, 1.9f, 2.3f,  3.0f,  5.0f};
  enum { STRETCHES = sizeof stretches / sizeof *stretches, KEPT = 4 };
  grid_trial kept[KEPT];
  float again[KEPT], top = 0.0f;
  int n = 0;
  for (int sub = 0; sub < 256 / g->shape->sub; sub++) top = scale[sub] > top ? scale[sub] : top;
  for (int i = 0; i < STRETCHES; i++) {
    grid_trial t = {.d = grid_snap(g, top * stretches[i] / (float)(2 * g->shape->levels - 1))};
    float d;
    grid_judge(g, scale, 1, &t, &d);
    int at = n < KEPT ? n++ : KEPT;
    for (; at > 0 && t.error < kept[at - 1].error; at--) {
      if (at < KEPT) kept[at] = kept[at - 1], again[at] = again[at - 1];
    }
    if (at < KEPT) kept[at] = t, again[at] = d;
  }
  *best = kept[0];
  for (int i = 0; i < n; i++) {
    grid_trial t = kept[i];
    float d = again[i];
    for (int round = 0; round < 4; round++) {
      const float last = t.error;
      t.d = grid_snap(g, d);
      grid_judge(g, scale, 2, &t, &d);
      if (t.error < best->error) *best = t;
      if (!(t.error < last)) break;
    }
  }
}

/* ---- 3: the whole grid ------------------------------------------------------------------------------------ */

static void grid_store(const grid_work *g, int unit, const grid_pick *pick, pgg_grid_fit *fit) {
  const int rows = 8 / g->shape->row;
  uint8_t signs = g->negative[unit];
  for (int h = 0; h < rows; h++) fit->code[unit * rows + h] = (uint16_t)pick->code[h];
  if (pick->flip >= 0) {
    const int at = unit * 8 + pick->flip * g->shape->row, code = pick->code[pick->flip];
    float least = INFINITY;
    int which = 0;
    for (int j = 0; j < g->shape->row; j++) {
      const float cost = g->w[at + j] * g->x[at + j] * (float)g->plane[j * g->shape->entries + code];
      if (cost < least) least = cost, which = j + pick->flip * g->shape->row;
    }
    signs ^= (uint8_t)(1 << which);
  }
  fit->signs[unit] = signs;
  fit->shift[unit] = (uint8_t)pick->shift;
}

static void grid_finish(grid_work *g, const grid_trial *t, pgg_grid_fit *fit) {
  const pgg_grid_shape *shape = g->shape;
  const int units = shape->sub / 8, lists = shape->shift == PGG_SHIFT_SUB ? 2 : 1;
  double top = 0.0, bottom = 0.0;
  for (int sub = 0; sub < 256 / shape->sub; sub++) {
    const double k = 2 * t->level[sub] + 1;
    const float s = t->d * (float)k;
    grid_pick picks[2][4];
    float error[2] = {0};
    for (int u = 0; u < units; u++) {
      grid_score(g, sub * units + u);
      for (int list = 0; list < lists; list++) {
        const grid_pick *p = &picks[list][u];
        picks[list][u] = grid_choose(g, sub * units + u, s, list);
        error[list] += s * p->b - p->a;
      }
    }
    const grid_pick *chosen = picks[lists > 1 && error[1] < error[0]];
    for (int u = 0; u < units; u++) {
      grid_store(g, sub * units + u, &chosen[u], fit);
      top += 0.5 * k * chosen[u].a, bottom += k * k * chosen[u].b;
    }
    fit->level[sub] = t->level[sub];
  }
  float d = t->d;
  if (bottom > 0.0 && top > 0.0) {
    const float again = grid_snap(g, (float)(top / bottom));
    if (again * (again * bottom - 2.0 * top) < d * (d * bottom - 2.0 * top)) d = again;
  }
  fit->d = pgg_fit_half(ldexp((double)d * shape->unit, g->exponent));
}

/* ---- entry ------------------------------------------------------------------------------------------------ */

/* All magnitudes equal: only the rounding of d is left, which A and B are too coarse for. Tries every level with every
 * entry that repeats one value; false if this is another kind of block. */
static bool grid_flat(const grid_work *g, const float *x, pgg_grid_fit *fit) {
  const pgg_grid_shape *shape = g->shape;
  double least = INFINITY;
  int level = 0, code = -1, shift = 0;
  for (int i = 1; i < 256; i++) {
    if (shape->shift ? x[i] != x[0] : fabsf(x[i]) != fabsf(x[0])) return false;
  }
  for (int u = 0; u < 32; u++) {
    if (g->odd[u]) return false;
  }
  const double c = shape->shift ? x[0] : fabsf(x[0]);
  for (int e = 0; e < shape->entries; e++) {
    bool same = true;
    for (int j = 1; j < shape->row; j++) same = same && g->plane[j * shape->entries + e] == g->plane[e];
    for (int v = 0; same && v < (shape->shift ? 2 : 1); v++) {
      const int q = g->plane[e] + (shape->shift ? 2 * v - 1 : 0);
      for (int k = 0; q != 0 && k < shape->levels; k++) {
        const double times = (double)q * (2 * k + 1) / shape->unit;
        const uint16_t d = pgg_fit_half(c / times);
        const double error = fabs(c - pgg_f16_to_f32(d) * times);
        if (error < least) least = error, fit->d = d, level = k, code = e, shift = v;
      }
    }
  }
  if (code < 0) return false;
  for (int i = 0; i < 64; i++) fit->code[i] = (uint16_t)code;
  for (int i = 0; i < 16; i++) fit->level[i] = (uint8_t)level;
  for (int i = 0; i < 32; i++) fit->signs[i] = g->negative[i], fit->shift[i] = (uint8_t)shift;
  return true;
}

static void grid_begin(grid_work *g, const pgg_grid_shape *shape) {
  const int bits = 16 / shape->row;
  g->shape = shape;
  for (int j = 0; j < shape->row; j++) {
    for (int e = 0; e < shape->entries; e++) {
      g->plane[j * shape->entries + e] = shape->value[shape->grid[e] >> j * bits & ((1 << bits) - 1)];
    }
  }
}

static void grid_block(grid_work *g, const float *x, const float *importance, pgg_grid_fit *fit) {
  const pgg_grid_shape *shape = g->shape;
  memset(fit, 0, sizeof *fit);
  float scale[16];
  const float most = 65504.0f * (float)(2 * shape->levels - 1) * shape->top / (float)shape->unit;
  if (!pgg_fit_prepare(x, importance, 256, most, g->x, g->w, &g->exponent)) {
    fit->d = 0x7e00;
    return;
  }
  bool zero = true;
  for (int u = 0; u < 32; u++) {
    int count = 0;
    g->negative[u] = 0;
    for (int i = u * 8; i < u * 8 + 8; i++) {
      const bool negative = !shape->shift && g->x[i] < 0.0f;
      zero = zero && g->x[i] == 0.0f;
      g->negative[u] |= (uint8_t)(negative << (i & 7));
      if (!shape->shift) g->x[i] = fabsf(g->x[i]);
      count += negative;
    }
    g->odd[u] = shape->parity && count % 2;
  }
  if (zero || grid_flat(g, x, fit)) return;
  grid_trial best;
  grid_sample(g, scale);
  grid_levels(g, scale, &best);
  grid_finish(g, &best, fit);
}

void pgg_grid_row(const pgg_grid_shape *shape, const float *x, int64_t k, const float *importance, void *row,
                  size_t bytes, void (*pack)(void *block, const pgg_grid_fit *fit)) {
  grid_work work;
  grid_begin(&work, shape);
  for (int64_t i = 0; i < k; i += 256) {
    pgg_grid_fit fit;
    grid_block(&work, x + i, importance ? importance + i : NULL, &fit);
    pack((char *)row + (size_t)(i / 256) * bytes, &fit);
  }
}
