/* Every product slot of every level against the scalar reference, the way of checkasm: exact where scales are powers
 * of two, within 1e-5 * sum |a||w| elsewhere, bit-equal however rows and tokens are cut, nothing read past the weights.
 *
 *   check_products           all levels that run here
 *   check_products avx2      one level; 77 if this CPU lacks it
 *   check_products avx2 short  rows of up to three blocks: under an emulator or a sanitizer
 *   check_products --bench [isa]   speed instead, --batches: of small batches (bench_products.h) */
#define _DEFAULT_SOURCE 1
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/kernels.h"
#include "guarded.h"
#include "bench_products.h"

enum { SKIPPED = 77, MAX_K = 2048, MAX_ROWS = 70, MAX_N = 64, TRUE_N = 13 };

static int failures, longest = MAX_K;
static const char *level, *what;
#define FAIL(...)                              \
  do {                                         \
    if (failures++ < 40) {                     \
      fprintf(stderr, "%s %s: ", level, what); \
      fprintf(stderr, __VA_ARGS__);            \
      fputc('\n', stderr);                     \
    }                                          \
  } while (0)

/* ---- weights ------------------------------------------------------------------------------------------- */

typedef enum mode { EXACT, RANDOM, HOSTILE } mode;

static uint16_t half_power(int e) { return (uint16_t)((15 + e) << 10); }

/* Overwrites the float fields of a block; 0 where they could not be chosen and all of the block was drawn. */
static int set_scales(const pgg_quant *q, uint8_t *b, mode how, uint64_t *seed) {
  uint16_t h[2];
  for (int i = 0; i < 2; i++) {
    h[i] = half_power((int)(test_random(seed) % 2));
    if (how == RANDOM) h[i] = (uint16_t)(0x2000 + test_random(seed) % 0x1000); /* 0.008 .. 0.13 */
    if (test_random(seed) & 1 && how == RANDOM) h[i] |= 0x8000;
  }
  return test_put_scales(q, b, h[0], h[1], how == RANDOM ? (int)(test_random(seed) % 7) : 0, seed);
}

/* rows x k of type; pattern >= 0 fills the codes with that byte. 0 where the scales are not those of the mode. */
static int make_weights(const pgg_quant *q, uint8_t *w, int64_t rows, int64_t k, mode how, int pattern,
                        uint64_t *seed) {
  const int64_t blocks = rows * k / q->info.elems;
  int chosen = 1;
  for (int64_t i = 0; i < blocks; i++, w += q->info.bytes) {
    if (q->info.kind == PGG_KIND_FLOAT) {
      float x = how == RANDOM ? test_uniform(seed) : (float)((int)(test_random(seed) % 15) - 7);
      if (pattern >= 0) x = pattern & 1 ? 7.0f : -8.0f;
      test_put_float(q->info.id, w, x);
      continue;
    }
    for (int j = 0; j < q->info.bytes; j++) w[j] = pattern >= 0 ? (uint8_t)pattern : (uint8_t)test_random(seed);
    chosen &= set_scales(q, w, how, seed);
  }
  return chosen;
}

/* Up to as many spikes as fit, at rising places of the n values that are there. */
static void make_spikes(pgg_act *act, int64_t n, mode how, uint64_t *seed) {
  const int most = n < PGG_ACT_SPIKES ? (int)n : PGG_ACT_SPIKES,
            count = (int)(test_random(seed) % (unsigned)(most + 1));
  const int apart = (int)n / (count ? count : 1);
  for (int j = 0; j < count; j++) {
    int v = (int)(test_random(seed) % 255) - 127;
    if (how == EXACT) v %= 8;
    if (how == HOSTILE) v = j & 1 ? 127 : -127;
    act->at[j] = (uint8_t)(j * apart + (int)(test_random(seed) % (unsigned)apart));
    act->spike[j] = (int8_t)v;
  }
  act->n_spike = (uint8_t)count;
  if (count) act->spike_d = how == EXACT ? 1.0f : how == HOSTILE ? 0x1p20f : 0x1p-5f;
}

/* n tokens; floats or pgg_act, half of which have spikes. range: largest magnitude of q. */
static void make_acts(int floats, uint8_t *acts, size_t stride, int64_t n, int64_t k, mode how, uint64_t *seed) {
  for (int64_t t = 0; t < n; t++) {
    uint8_t *row = acts + t * (int64_t)stride;
    if (floats) {
      for (int64_t i = 0; i < k; i++)
        ((float *)row)[i] = how == RANDOM ? test_uniform(seed) : (float)((int)(test_random(seed) % 15) - 7);
      continue;
    }
    pgg_act *act = (pgg_act *)row;
    for (int64_t b = 0; b < pgg_act_blocks(k); b++, act++) {
      memset(act, 0, sizeof *act);
      act->d = how == RANDOM ? 0.001f + 0.01f * fabsf(test_uniform(seed)) : t & 1 ? 0.25f : 0.5f;
      for (int64_t i = 0; i < PGG_ACT_LEN && b * PGG_ACT_LEN + i < k; i++) {
        int v = (int)(test_random(seed) % 255) - 127;
        if (how == EXACT) v %= 8;
        if (how == HOSTILE) v = t % 3 == 0 ? 127 : t % 3 == 1 ? -127 : i & 1 ? 127 : -127;
        act->q[i] = (int8_t)v;
        act->sums[i / 16] = (int16_t)(act->sums[i / 16] + v);
      }
      if (t % 4 > 1) make_spikes(act, k - b * PGG_ACT_LEN < PGG_ACT_LEN ? k - b * PGG_ACT_LEN : PGG_ACT_LEN, how, seed);
    }
  }
}

/* to nearest even, as the level rounds activations for products of bf16 */
static float to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
  memcpy(&x, &bits, 4);
  return x;
}

static double act_value(int floats, int bf16, const uint8_t *row, int64_t i) {
  if (bf16) return to_bf16(((const float *)row)[i]);
  if (floats) return ((const float *)row)[i];
  const pgg_act *act = (const pgg_act *)row + i / PGG_ACT_LEN;
  double x = (double)act->d * act->q[i % PGG_ACT_LEN];
  for (int j = 0; j < act->n_spike; j++)
    if (act->at[j] == i % PGG_ACT_LEN) x += (double)act->spike_d * act->spike[j];
  return x;
}

/* ---- one level, one type ------------------------------------------------------------------------------- */

typedef struct bench {
  const pgg_kernels *k;
  const pgg_quant *q;
  int floats, bf16; /* bf16: the level rounds activations of this type to bf16 */
  int64_t len;
  size_t row_bytes, act_stride;
  test_guarded w, acts;
  uint8_t *panels, *scratch;
  float *y;                       /* (MAX_N, MAX_ROWS + 3) */
  double truth[TRUE_N][MAX_ROWS]; /* in double, from decode */
  double bound[TRUE_N][MAX_ROWS];
  double f32_truth[TRUE_N][MAX_ROWS], f32_bound[TRUE_N][MAX_ROWS]; /* of activations as they were given */
  float reference[TRUE_N][MAX_ROWS];
  float gemv[TRUE_N][MAX_ROWS], gemm[TRUE_N][MAX_ROWS];
} bench;

enum { Y_STRIDE = MAX_ROWS + 3 };
static const float UNTOUCHED = -12345.0f;

/* Room for panels of both kinds. */
static uint8_t *new_panels(const pgg_kernels *k, int type, int64_t len) {
  const size_t many = k->panel_bytes(type, MAX_N, len), few = k->few_bytes(type, MAX_N, len);
  return test_aligned((many > few ? many : few) + 64);
}

static void run(bench *b, int few, int64_t rows, int64_t n) {
  const int type = b->q->info.id;
  if (!few) {
    const int64_t panels = (n + b->k->panel_tokens - 1) / b->k->panel_tokens, cut = panels / 2;
    b->k->pack_panels(type, b->acts.p, b->act_stride, n, b->len, cut, panels, b->panels);
    b->k->pack_panels(type, b->acts.p, b->act_stride, n, b->len, 0, cut, b->panels);
  } else if (b->k->few_bytes(type, n, b->len)) {
    b->k->pack_few(type, b->acts.p, b->act_stride, n, b->len, n / 2, n, b->panels);
    b->k->pack_few(type, b->acts.p, b->act_stride, n, b->len, 0, n / 2, b->panels);
  }
  for (int i = 0; i < MAX_N * Y_STRIDE; i++) b->y[i] = UNTOUCHED;
  const pgg_gemm job = {b->w.p,   b->row_bytes, b->acts.p, b->act_stride, b->panels, b->y,
                        Y_STRIDE, rows,         n,         b->len,        b->scratch};
  (few ? b->k->few : b->k->gemm)[type](&job);
  for (int64_t t = 0; t < MAX_N; t++)
    for (int64_t r = 0; r < Y_STRIDE; r++)
      if ((t >= n || r >= rows) && b->y[t * Y_STRIDE + r] != UNTOUCHED) {
        FAIL("products of rows %d n %d k %d wrote y[%d][%d]", (int)rows, (int)n, (int)b->len, (int)t, (int)r);
        return;
      }
}

static int same_bits(float a, float b) { return memcmp(&a, &b, 4) == 0; }

/* Cuts of rows and counts of tokens must give the bits of the whole. */
static void check_cuts(bench *b) {
  static const int rows_of[] = {1, 2, 3, 31, 32, 33, 70};
  static const int n_of[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 23, 24, 25, 33, 64};
  const int type = b->q->info.id;
  for (size_t i = 0; i < sizeof rows_of / sizeof rows_of[0]; i++) {
    const int rows = rows_of[i];
    for (int r = 0; r < Y_STRIDE; r++) b->y[r] = UNTOUCHED;
    b->k->gemv[type](b->w.p, b->row_bytes, b->acts.p, b->y, rows, b->len);
    for (int r = 0; r < Y_STRIDE; r++)
      if (!same_bits(b->y[r], r < rows ? b->gemv[0][r] : UNTOUCHED)) {
        FAIL("gemv k %d: row %d of %d differs from the whole", (int)b->len, r, rows);
        break;
      }
  }
  /* few gives the bits of gemv, gemm its own */
  for (int few = 0; few < (b->k->few[type] ? 2 : 1); few++)
    for (size_t i = 0; i < sizeof rows_of / sizeof rows_of[0] + sizeof n_of / sizeof n_of[0]; i++) {
      const int rows = i < 7 ? rows_of[i] : 33, n = i < 7 ? 7 : n_of[i - 7];
      int bad = 0;
      run(b, few, rows, n);
      for (int t = 0; t < n; t++)
        for (int r = 0; r < rows; r++)
          bad += !same_bits(b->y[t * Y_STRIDE + r], (few ? b->gemv : b->gemm)[t % TRUE_N][r]);
      if (bad)
        FAIL("%s k %d: %d values of rows %d n %d differ from the whole", few ? "few" : "gemm", (int)b->len, bad, rows,
             n);
    }
  /* second strip by itself, as another thread would get it */
  const int first = b->k->gemm_rows;
  if (first < MAX_ROWS) {
    test_guarded whole = b->w;
    int bad = 0;
    b->w.p += (size_t)first * b->row_bytes;
    run(b, 0, MAX_ROWS - first, TRUE_N);
    b->w = whole;
    for (int t = 0; t < TRUE_N; t++)
      for (int r = first; r < MAX_ROWS; r++) bad += !same_bits(b->y[t * Y_STRIDE + r - first], b->gemm[t][r]);
    if (bad) FAIL("gemm k %d: %d values differ when rows are cut at %d", (int)b->len, bad, first);
  }
}

/* Loose panels (no acts), packed block by block as the experts do: any count of tokens gives the bits of many. */
static void check_loose(bench *b) {
  static const int n_of[] = {1, 2, 5, 6, 7, 13, 24, 25};
  const int type = b->q->info.id;
  if (b->len % PGG_ACT_LEN) return;
  const size_t panel = b->k->panel_bytes(type, 1, b->len), block = b->k->panel_bytes(type, 1, PGG_ACT_LEN);
  const size_t act = b->floats ? PGG_ACT_LEN * sizeof(float) : sizeof(pgg_act);
  for (size_t i = 0; i < sizeof n_of / sizeof n_of[0]; i++) {
    const int64_t n = n_of[i], each = b->k->panel_tokens;
    for (int64_t t = 0; t < n; t += each)
      for (int64_t c = 0; c < b->len / PGG_ACT_LEN; c++)
        b->k->pack_panel(type, b->acts.p + (size_t)t * b->act_stride + (size_t)c * act, b->act_stride,
                         n - t < each ? n - t : each, PGG_ACT_LEN,
                         b->panels + (size_t)(t / each) * panel + (size_t)c * block);
    const pgg_gemm job = {.w = b->w.p,
                          .row_bytes = b->row_bytes,
                          .panels = b->panels,
                          .y = b->y,
                          .y_stride = Y_STRIDE,
                          .rows = MAX_ROWS,
                          .n = n,
                          .k = b->len,
                          .scratch = b->scratch};
    b->k->gemm[type](&job);
    int bad = 0;
    for (int t = 0; t < n; t++)
      for (int r = 0; r < MAX_ROWS; r++) bad += !same_bits(b->y[t * Y_STRIDE + r], b->gemm[t % TRUE_N][r]);
    if (bad) FAIL("gemm k %d: %d values by loose panels differ, n %d", (int)b->len, bad, (int)n);
  }
}

static void compute(bench *b) {
  const int type = b->q->info.id;
  for (int t = 0; t < TRUE_N; t++)
    b->k->gemv[type](b->w.p, b->row_bytes, b->acts.p + (size_t)t * b->act_stride, b->gemv[t], MAX_ROWS, b->len);
  run(b, 0, MAX_ROWS, MAX_N);
  for (int t = 0; t < TRUE_N; t++) memcpy(b->gemm[t], b->y + t * Y_STRIDE, sizeof b->gemm[t]);
}

/* Row r's sums over the values of a token, and the sums of their magnitudes. */
static double true_dot(const float *row, const double *act, int64_t len, double *parts) {
  double sum = 0;
  *parts = 0;
  for (int64_t i = 0; i < len; i++) {
    const double p = (double)row[i] * act[i];
    sum += p, *parts += fabs(p);
  }
  return sum;
}

static void compute_truth(bench *b) {
  static float row[MAX_K];
  static double used[TRUE_N][MAX_K], given[TRUE_N][MAX_K];
  for (int t = 0; t < TRUE_N; t++)
    for (int64_t i = 0; i < b->len; i++) {
      const uint8_t *act = b->acts.p + (size_t)t * b->act_stride;
      used[t][i] = act_value(b->floats, b->bf16, act, i), given[t][i] = act_value(b->floats, 0, act, i);
    }
  for (int r = 0; r < MAX_ROWS; r++) {
    const uint8_t *w = b->w.p + (size_t)r * b->row_bytes;
    b->q->decode(w, row, b->len);
    for (int t = 0; t < TRUE_N; t++) {
      double parts, f32_parts;
      b->truth[t][r] = true_dot(row, used[t], b->len, &parts);
      b->bound[t][r] = 1e-5 * parts;
      b->f32_truth[t][r] = b->bf16 ? true_dot(row, given[t], b->len, &f32_parts) : (f32_parts = parts, b->truth[t][r]);
      b->f32_bound[t][r] = (b->bf16 ? 0x1p-8 + 1e-5 : 1e-5) * f32_parts;
      b->reference[t][r] = b->q->dot(w, b->acts.p + (size_t)t * b->act_stride, b->len);
    }
  }
}

static void check_values(bench *b, mode how, float (*got)[MAX_ROWS], const char *slot) {
  double worst = 0;
  int bad = 0, at_t = 0, at_r = 0;
  for (int t = 0; t < TRUE_N; t++)
    for (int r = 0; r < MAX_ROWS; r++) {
      const double error = fabs((double)got[t][r] - b->truth[t][r]), bound = b->bound[t][r];
      const int near = fabs((double)got[t][r] - b->f32_truth[t][r]) <= b->f32_bound[t][r];
      const int wrong = how == EXACT ? got[t][r] != b->reference[t][r] : !(error <= bound) || !near;
      if (wrong && !bad++) at_t = t, at_r = r;
      if (error > worst) worst = error;
    }
  if (bad)
    FAIL("%s k %d mode %d: %d of %d wrong; first token %d row %d: %.9g, reference %.9g, truth %.9g, bound %.3g", slot,
         (int)b->len, (int)how, bad, TRUE_N * MAX_ROWS, at_t, at_r, (double)got[at_t][at_r],
         (double)b->reference[at_t][at_r], b->truth[at_t][at_r], b->bound[at_t][at_r]);
}

/* A special scale in one row, a NaN activation in one token: exactly those results stop being finite. */
static void check_specials(bench *b) {
  static const uint16_t specials[] = {0x7e00, 0x7c00, 0xfc00};
  const int type = b->q->info.id, row = 40, token = 5;
  static float before_v[TRUE_N][MAX_ROWS], before_m[TRUE_N][MAX_ROWS];
  memcpy(before_v, b->gemv, sizeof before_v), memcpy(before_m, b->gemm, sizeof before_m);
  for (int s = 0; s < 4; s++) {
    uint8_t *at = b->w.p + (size_t)row * b->row_bytes + b->row_bytes - (size_t)b->q->info.bytes, saved[512];
    pgg_act *act = (pgg_act *)(b->acts.p + (size_t)token * b->act_stride);
    const float d = b->floats ? ((float *)act)[b->len - 1] : act->d;
    memcpy(saved, at, (size_t)b->q->info.bytes);
    if (s == 3) {
      if (b->floats) {
        ((float *)act)[b->len - 1] = NAN;
      } else {
        act->d = NAN;
      }
    } else if (!test_put_special(type, at, specials[s])) {
      continue;
    }
    compute(b);
    for (int t = 0; t < TRUE_N; t++)
      for (int r = 0; r < MAX_ROWS; r++) {
        const int hit = s == 3 ? t == token : r == row;
        if (hit ? isfinite(b->gemv[t][r]) : !same_bits(b->gemv[t][r], before_v[t][r]))
          FAIL("gemv k %d special %d: token %d row %d is %g", (int)b->len, s, t, r, (double)b->gemv[t][r]);
        if (hit ? isfinite(b->gemm[t][r]) : !same_bits(b->gemm[t][r], before_m[t][r]))
          FAIL("gemm k %d special %d: token %d row %d is %g", (int)b->len, s, t, r, (double)b->gemm[t][r]);
      }
    memcpy(at, saved, (size_t)b->q->info.bytes);
    if (b->floats) {
      ((float *)act)[b->len - 1] = d;
    } else {
      act->d = d;
    }
  }
}

static void check_type(const pgg_kernels *k, int type) {
  static const int lens[] = {1, 7, 32, 64, 128, 256, 288, 768, 2048};
  static const int patterns[] = {0x00, 0xff, 0x80, 0x7f};
  bench *b = calloc(1, sizeof *b);
  uint64_t seed = 0x9e3779b97f4a7c15u + (uint64_t)type;
  b->k = k, b->q = pgg_quant_get(type), b->floats = b->q->info.kind == PGG_KIND_FLOAT;
  b->bf16 = type == PGG_BF16 && k->bf16_acts;
  what = b->q->info.name;
  for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
    b->len = lens[i];
    if (b->len % b->q->info.elems || b->len > longest) continue;
    b->row_bytes = (size_t)(b->len / b->q->info.elems * b->q->info.bytes);
    b->act_stride = b->floats ? (size_t)(b->len * 4 + 63) / 64 * 64 : (size_t)pgg_act_blocks(b->len) * sizeof(pgg_act);
    b->w = test_guard(b->row_bytes * MAX_ROWS);
    b->acts = test_guard(b->act_stride * MAX_N);
    b->panels = new_panels(k, type, b->len);
    b->scratch = test_aligned(k->gemm_scratch(type, b->len) + 64);
    b->y = malloc(sizeof(float) * MAX_N * Y_STRIDE);
    for (mode how = EXACT; how <= HOSTILE; how++) {
      for (size_t p = 0; p < (how == HOSTILE ? 4 : 1); p++) {
        const int pattern = how == HOSTILE ? patterns[p] : -1;
        const int chosen = make_weights(b->q, b->w.p, MAX_ROWS, b->len, how, pattern, &seed);
        make_acts(b->floats, b->acts.p, b->act_stride, TRUE_N, b->len, how, &seed);
        for (int t = TRUE_N; t < MAX_N; t++)
          memcpy(b->acts.p + (size_t)t * b->act_stride, b->acts.p + (size_t)(t % TRUE_N) * b->act_stride,
                 b->act_stride);
        compute_truth(b);
        compute(b);
        const mode near = how == EXACT && !chosen ? RANDOM : how; /* scales that are no powers of two round */
        check_values(b, near, b->gemv, "gemv");
        check_values(b, near, b->gemm, "gemm");
        if (how != HOSTILE) check_cuts(b), check_loose(b);
        if (how == RANDOM) check_specials(b);
      }
    }
    test_unguard(b->w), test_unguard(b->acts);
    test_aligned_free(b->panels), test_aligned_free(b->scratch), free(b->y);
  }
  free(b);
}

/* What newer CPUs add to a level gives the bits of the level, for one token, a few and many: codes are integers. The
 * random rows name every row of every grid. */
static void check_extra(const char *isa) {
  const pgg_kernels *const tables[2] = {pgg_kernels_bare(isa), pgg_kernels_level(isa)};
  uint64_t seed = 77;
  bench *b = calloc(1, sizeof *b);
  float *first = malloc(sizeof(float) * MAX_N * Y_STRIDE);
  b->len = MAX_K, b->y = malloc(sizeof(float) * MAX_N * Y_STRIDE);
  for (int type = 0; type < PGG_TYPE_LIMIT; type++) {
    b->q = pgg_quant_get(type);
    if (!b->q || b->q->info.kind != PGG_KIND_BLOCK || tables[0]->gemv[type] == tables[1]->gemv[type]) continue;
    what = b->q->info.name;
    b->row_bytes = (size_t)(b->len / b->q->info.elems * b->q->info.bytes);
    b->act_stride = (size_t)pgg_act_blocks(b->len) * sizeof(pgg_act);
    b->w = test_guard(b->row_bytes * MAX_ROWS);
    b->acts = test_guard(b->act_stride * MAX_N);
    b->panels = new_panels(tables[0], type, b->len);
    b->scratch = test_aligned(tables[0]->gemm_scratch(type, b->len) + 64);
    make_weights(b->q, b->w.p, MAX_ROWS, b->len, RANDOM, -1, &seed);
    make_acts(0, b->acts.p, b->act_stride, MAX_N, b->len, RANDOM, &seed);
    for (int which = 0; which < 2; which++)
      tables[which]->gemv[type](b->w.p, b->row_bytes, b->acts.p, b->gemv[which], MAX_ROWS, b->len);
    if (memcmp(b->gemv[0], b->gemv[1], sizeof b->gemv[0])) FAIL("gemv: bits differ from the bare level's");
    for (int few = 0; few < 2; few++) {
      b->k = tables[0], run(b, few, MAX_ROWS, 48);
      memcpy(first, b->y, sizeof(float) * MAX_N * Y_STRIDE);
      b->k = tables[1], run(b, few, MAX_ROWS, 48);
      if (memcmp(first, b->y, sizeof(float) * MAX_N * Y_STRIDE))
        FAIL("%s: bits differ from the bare level's", few ? "few" : "gemm");
    }
    test_unguard(b->w), test_unguard(b->acts);
    test_aligned_free(b->panels), test_aligned_free(b->scratch);
  }
  free(first), free(b->y), free(b);
}

/* ---- activations --------------------------------------------------------------------------------------- */

/* The encoders of a level are the portable ones compiled again: bytes must be equal. */
static void check_encoders(const pgg_kernels *k) {
  enum { LEN = 512 };
  static float x[LEN], w[LEN];
  static uint8_t want[LEN * 4], got[LEN * 4];
  what = "encode";
  for (int type = 0; type < PGG_TYPE_LIMIT; type++) {
    if (!k->encode[type]) continue;
    const pgg_quant *quant = pgg_quant_get(type);
    for (int kind = 0; kind < 4; kind++) {
      for (int i = 0; i < LEN; i++) {
        const float v = (float)(i * 7919 % 1009) / 504.5f - 1.0f;
        x[i] = kind == 0 ? v : kind == 1 ? v * v * v : kind == 2 ? 0.3f : i % 9 ? 0.0f : v * 1e-3f;
        w[i] = 0.01f + (float)(i * 31 % 101) / 101.0f;
      }
      for (int weighted = 0; weighted < 2; weighted++) {
        memset(want, 1, sizeof want), memset(got, 2, sizeof got);
        quant->encode(x, want, LEN, weighted ? w : NULL);
        k->encode[type](x, got, LEN, weighted ? w : NULL);
        if (memcmp(want, got, (size_t)(LEN / quant->info.elems * quant->info.bytes))) {
          FAIL("%s: bytes differ from pgg_quant.encode, input kind %d, weighted %d", quant->info.name, kind, weighted);
        }
      }
    }
  }
}

static void check_act_encode(const pgg_kernels *k) {
  static const int lens[] = {1, 31, 32, 255, 256, 257, 288, 512};
  static float x[512];
  static pgg_act want[2], got[2];
  uint64_t seed = 7;
  what = "act_encode";
  for (int round = 0; round < 640; round++) {
    const int len = lens[round % 8], kind = round / 8 % 16;
    for (int i = 0; i < len; i++) {
      x[i] = test_uniform(&seed);
      if (kind == 1) x[i] = (float)((int)(test_random(&seed) % 255) - 127) + (i ? 0.5f : 0.0f); /* ties */
      if (kind == 2) x[i] = 0.0f * x[i];
      if (kind == 3) x[i] *= 0x1p-125f;
      if (kind == 4) x[i] *= 0x1p-119f;
      if (kind == 5) x[i] *= 0x1p127f;
    }
    if (kind == 1) x[0] = 127.0f;
    if (kind == 6) x[(unsigned)test_random(&seed) % (unsigned)len] = NAN;
    if (kind == 7) x[(unsigned)test_random(&seed) % (unsigned)len] = INFINITY;
    if (kind == 8) x[(unsigned)test_random(&seed) % (unsigned)len] = -INFINITY;
    if (kind == 9) x[len - 1] = 1e30f;
    if (kind > 9) { /* far above the others: a few, as many as there is room for, more */
      static const float units[] = {1.0f, 0x1p-140f, 0x1p-104f, 1.0f, 0x1p100f, 0.0f};
      const int many = round % 5 * 4;
      for (int i = 0; i < len; i++) x[i] *= units[kind - 10];
      for (int j = 0; j < many; j++) {
        const float size = (kind == 13 ? 128.0f : 20.0f + 9.0f * test_uniform(&seed)) * (kind == 12 ? 0x1p-104f : 1.0f);
        x[(unsigned)test_random(&seed) % (unsigned)len] = test_random(&seed) & 1 ? size : -size;
      }
    }
    memset(want, 0xaa, sizeof want), memset(got, 0x55, sizeof got);
    pgg_act_encode(x, want, len), k->act_encode(x, got, len);
    if (memcmp(want, got, sizeof(pgg_act) * (size_t)pgg_act_blocks(len)))
      FAIL("bytes differ from pgg_act_encode, k %d, input kind %d", len, kind);
  }
}

static void check_table(const char *isa, const char *form, const pgg_kernels *k) {
  const int before = failures;
  int types = 0, gemms = 0;
  level = isa;
  check_act_encode(k);
  check_encoders(k);
  for (int type = 0; type < PGG_TYPE_LIMIT; type++) {
    const pgg_quant *q = pgg_quant_get(type);
    if (!q || (q->info.kind != PGG_KIND_BLOCK && q->info.kind != PGG_KIND_FLOAT)) continue;
    what = q->info.name;
    if (!k->gemv[type]) {
      FAIL("weight type without gemv");
      continue;
    }
    check_type(k, type);
    types++, gemms += k->gemm[type] != NULL;
  }
  printf("%-8s%s %d types, %d with gemm: %s\n", isa, form, types, gemms, failures == before ? "ok" : "FAILED");
}

/* As this CPU runs the level, and without what newer CPUs add to it. */
static void check_level(const char *isa) {
  check_table(isa, "", pgg_kernels_level(isa));
  if (!pgg_kernels_bare(isa)) return;
  check_table(isa, " (bare)", pgg_kernels_bare(isa));
  check_extra(isa);
}

int main(int argc, char **argv) {
  const char *names[16];
  const int count = pgg_isa_list(names, 16);
  const int batches = argc > 1 && strcmp(argv[1], "--batches") == 0;
  const int speed = argc > 1 && (batches || strcmp(argv[1], "--bench") == 0);
  const char *only = argc > 1 + speed ? argv[1 + speed] : NULL;
  if (argc > 2 && strcmp(argv[2], "short") == 0) longest = 3 * 256;
  if (only && !pgg_kernels_level(only)) {
    fprintf(stderr, "level %s does not run here\n", only);
    return SKIPPED;
  }
  if (speed) return bench_products(only, batches);
  for (int i = 0; i < count; i++)
    if (!only || strcmp(only, names[i]) == 0) check_level(names[i]);
  return failures != 0;
}
