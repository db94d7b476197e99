/* Formats on hostile bytes and values: decode, dot, encode of every type, half conversions, activations.
 * Rows lie at the very end of exact allocations, so that a sanitizer sees any access outside of them. Values against
 * published decoders are compared in tests/unit/test_quant_decode.py. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quant.h"

static int failures;
#define CHECK(ok, ...)                       \
  do {                                       \
    if (!(ok)) {                             \
      failures++;                            \
      printf("%s:%d: ", __FILE__, __LINE__); \
      printf(__VA_ARGS__);                   \
      printf("\n");                          \
    }                                        \
  } while (0)

static uint64_t state = 0x9e3779b97f4a7c15u;
static uint32_t next_u32(void) { /* xorshift64* */
  state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
  return (uint32_t)(state * 0x2545f4914f6cdd1du >> 32);
}
static float next_unit(void) { return (float)(next_u32() >> 8) * 0x1p-24f; }
static float next_normal(void) { /* sum of 12 uniforms: tails to 6 are enough here */
  float sum = -6.0f;
  for (int i = 0; i < 12; i++) sum += next_unit();
  return sum;
}

static void *exact(size_t bytes) {
  void *p = malloc(bytes);
  if (!p) exit(2);
  return p;
}

static bool all_below(const float *y, int64_t k, float most) {
  for (int64_t i = 0; i < k; i++) {
    if (!(fabsf(y[i]) < most)) return false;
  }
  return true;
}

static bool all_finite(const float *y, int64_t k) {
  for (int64_t i = 0; i < k; i++) {
    if (!isfinite(y[i])) return false;
  }
  return true;
}

/* What an activation is worth. */
static double act_value(const pgg_act *act, int64_t i) {
  const pgg_act *a = act + i / PGG_ACT_LEN;
  double x = (double)a->d * a->q[i % PGG_ACT_LEN];
  for (int j = 0; j < a->n_spike; j++)
    if (a->at[j] == i % PGG_ACT_LEN) x += (double)a->spike_d * a->spike[j];
  return x;
}

/* ---- decode and dot ------------------------------------------------------------------------------------- */

static void check_dot(const pgg_quant *t, const void *row, const float *y, int64_t k) {
  float *x = exact((size_t)k * sizeof *x);
  for (int64_t i = 0; i < k; i++) x[i] = next_normal() * (next_u32() % 50 ? 1.0f : 40.0f);
  double sum = 0.0, sum_abs = 0.0;
  float got;
  if (t->info.kind == PGG_KIND_BLOCK) {
    pgg_act *act = exact((size_t)pgg_act_blocks(k) * sizeof *act);
    pgg_act_encode(x, act, k);
    got = t->dot(row, act, k);
    for (int64_t i = 0; i < k; i++) {
      const double p = (double)y[i] * act_value(act, i);
      sum += p, sum_abs += fabs(p);
    }
    free(act);
  } else {
    got = t->dot(row, x, k);
    for (int64_t i = 0; i < k; i++) sum += (double)y[i] * x[i], sum_abs += fabs((double)y[i] * x[i]);
  }
  CHECK(fabs(got - sum) <= 1e-5 * sum_abs + 1e-30, "%s dot %g, expected %g", t->info.name, got, sum);
  free(x);
}

static void check_bytes(const pgg_quant *t, int64_t blocks, int fill) {
  const size_t bytes = (size_t)blocks * (size_t)t->info.bytes;
  const int64_t k = blocks * t->info.elems;
  uint8_t *row = exact(bytes);
  float *y = exact((size_t)k * sizeof *y);
  for (size_t i = 0; i < bytes; i++) row[i] = fill < 0 ? (uint8_t)next_u32() : (uint8_t)fill;
  t->decode(row, y, k);
  if (fill == 0) {
    const float most = t->info.kind == PGG_KIND_BLOCK ? 0x1p-100f : 0.0f; /* a scale may be a power of two, never 0 */
    for (int64_t i = 0; i < k; i++) CHECK(fabsf(y[i]) <= most, "%s: zero bytes give %g", t->info.name, y[i]);
  }
  if (t->dot && all_below(y, k, 1e30f)) check_dot(t, row, y, k);
  free(row), free(y);
}

/* ---- encode ---------------------------------------------------------------------------------------------- */

enum { NORMAL, ZERO, CONSTANT, TINY, SUBNORMAL, HUGE_VALUES, SPIKE, SHIFTED, WITH_NAN, WITH_INF, SOURCES };

static void fill(float *x, int64_t k, int source) {
  for (int64_t i = 0; i < k; i++) {
    switch (source) {
      case NORMAL: x[i] = next_normal(); break;
      case ZERO: x[i] = i % 2 ? 0.0f : -0.0f; break;
      case CONSTANT: x[i] = -1.3f; break;
      case TINY: x[i] = next_normal() * 1e-9f; break;
      case SUBNORMAL: x[i] = next_normal() * 1e-41f; break;
      case HUGE_VALUES: x[i] = next_u32() % 2 ? FLT_MAX : -FLT_MAX * next_unit(); break;
      case SPIKE: x[i] = i % 97 == 5 ? 1000.0f : next_normal(); break;
      case SHIFTED: x[i] = 50.0f + next_normal(); break;
      default: x[i] = i == k / 2 ? (source == WITH_NAN ? NAN : INFINITY) : next_normal(); break;
    }
  }
}

/* Whole bits of a code: those that tell its values apart, or what a weight has where codes are chosen together. */
static int code_bits(const pgg_quant *t) {
  const int apart = (int)ceil(log2(pgg_type_codes(t->info.id, NULL, 0))), most = 8 * t->info.bytes / t->info.elems;
  return apart < most ? apart : most;
}

/* Root mean square error over largest magnitude that no block of normal values may pass. */
static double bound(const pgg_quant *t) {
  switch (t->info.id) {
    case PGG_F32: return 0.0;
    case PGG_F16: return 0x1p-11;
    case PGG_BF16: return 0x1p-8;
    case PGG_Q2_K: return 0.12;
    case PGG_Q3_K: return 0.07;
    case PGG_Q4_0: return 0.06; /* all values of one sign use half of the codes */
    case PGG_Q4_1:
    case PGG_Q4_K: return 0.04;
    case PGG_Q5_0: return 0.03;
    case PGG_Q5_1:
    case PGG_Q5_K: return 0.02;
    case PGG_Q6_K: return 0.01;
    case PGG_Q8_0: return 0.003;
    case PGG_IQ4_NL:
    case PGG_IQ4_XS: return 0.05;
    case PGG_NVFP4: return 0.1;
    case PGG_IQ3_XXS:
    case PGG_IQ3_S: return 0.15;
    case PGG_MXFP4: /* powers of two */
    case PGG_IQ2_XXS:
    case PGG_IQ2_XS:
    case PGG_IQ2_S: return 0.2;
    case PGG_IQ1_S:
    case PGG_IQ1_M:
    case PGG_TQ1_0:
    case PGG_TQ2_0:
    case PGG_Q2_0: return 0.25;
    case PGG_Q1_0: return 0.3;
    default: /* whatever blocks: as the worst above, mxfp4, whose scales are powers of two */
      return t->info.kind == PGG_KIND_BLOCK ? 3.2 * exp2(-code_bits(t)) : -1.0;
  }
}

static void check_encode(const pgg_quant *t, int source, int weights) {
  const int64_t blocks = t->info.elems == 1 ? 37 : 3, k = blocks * t->info.elems;
  float *x = exact((size_t)k * sizeof *x), *y = exact((size_t)k * sizeof *y), *w = exact((size_t)k * sizeof *w);
  uint8_t *row = exact((size_t)blocks * (size_t)t->info.bytes);
  fill(x, k, source);
  for (int64_t i = 0; i < k; i++) w[i] = weights == 2 ? 0.0f : weights == 3 ? NAN : next_unit() + 0.01f;
  t->encode(x, row, k, weights ? w : NULL);
  t->decode(row, y, k);
  const bool plain = t->info.kind == PGG_KIND_FLOAT;
  const bool may_be_odd = source >= WITH_NAN || (plain && source == HUGE_VALUES);
  const bool no_nan = t->info.id == PGG_NVFP4; /* its scales are all finite: zeros */
  CHECK(may_be_odd || all_finite(y, k), "%s: finite values (case %d) encoded to others", t->info.name, source);
  if (source >= WITH_NAN && !no_nan) CHECK(!all_finite(y, k), "%s: a value that is not finite vanished", t->info.name);
  if (source == ZERO) {
    for (int64_t i = 0; i < k; i++) CHECK(y[i] == 0.0f, "%s: zero became %g", t->info.name, y[i]);
  }
  if (source == NORMAL || source == SHIFTED || source == CONSTANT) {
    double error = 0.0, top = 0.0;
    for (int64_t i = 0; i < k; i++) error += ((double)x[i] - y[i]) * ((double)x[i] - y[i]), top = fmax(top, fabs(x[i]));
    const double rms = sqrt(error / (double)k), most = bound(t) * top;
    CHECK(rms <= most, "%s: case %d, weights %d: error %g above %g", t->info.name, source, weights, rms, most);
  }
  free(x), free(y), free(w), free(row);
}

/* ---- codes ---------------------------------------------------------------------------------------------- */

/* What is published of some alphabets; each type's codes rise, fit int8, and are the accessors' own by construction. */
static void check_codes(const pgg_quant *t) {
  static const int16_t e2m1[] = {-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12},
                       grid[] = {-43, -25, -8, 8, 25, 43};
  static const struct {
    int type, count, low, high;
    const int16_t *all;
  } known[] = {{PGG_Q4_0, 16, -8, 7, NULL},       {PGG_Q5_1, 32, 0, 31, NULL},    {PGG_Q8_0, 256, -128, 127, NULL},
               {PGG_Q3_K, 8, -4, 3, NULL},        {PGG_Q6_K, 64, -32, 31, NULL},  {PGG_TQ1_0, 3, -1, 1, NULL},
               {PGG_IQ4_NL, 16, -127, 113, NULL}, {PGG_IQ3_S, 16, -15, 15, NULL}, {PGG_IQ1_M, 6, -9, 9, NULL},
               {PGG_MXFP4, 15, -12, 12, e2m1},    {PGG_IQ2_S, 6, -43, 43, grid}};
  int16_t codes[256];
  const int n = pgg_type_codes(t->info.id, codes, 256);
  CHECK((n > 0) == (t->info.kind == PGG_KIND_BLOCK || t->info.kind == PGG_KIND_ACT), "%s: %d codes", t->info.name, n);
  CHECK(n <= 256 && pgg_type_codes(t->info.id, NULL, 0) == n, "%s: %d codes", t->info.name, n);
  for (int i = 1; i < n; i++) CHECK(codes[i] > codes[i - 1], "%s: code %d does not rise", t->info.name, i);
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    if (known[i].type != t->info.id) continue;
    CHECK(n == known[i].count && codes[0] == known[i].low && codes[n - 1] == known[i].high, "%s: %d codes %d .. %d",
          t->info.name, n, codes[0], codes[n - 1]);
    if (known[i].all) CHECK(!memcmp(codes, known[i].all, (size_t)n * sizeof codes[0]), "%s: other codes", t->info.name);
  }
}

/* ---- halves ---------------------------------------------------------------------------------------------- */

static void check_halves(void) {
  for (uint32_t h = 0; h < 0x10000; h++) {
    const float f = pgg_f16_to_f32((uint16_t)h), b = pgg_bf16_to_f32((uint16_t)h);
    if (isnan(f)) {
      CHECK((h & 0x7fff) > 0x7c00 && isnan(pgg_f16_to_f32(pgg_f32_to_f16(f))), "f16 NaN %04x", h);
    } else {
      CHECK(pgg_f32_to_f16(f) == h, "f16 %04x came back as %04x", h, pgg_f32_to_f16(f));
    }
    if (isnan(b)) {
      CHECK(isnan(pgg_bf16_to_f32(pgg_f32_to_bf16(b))), "bf16 NaN %04x", h);
    } else {
      CHECK(pgg_f32_to_bf16(b) == h, "bf16 %04x came back as %04x", h, pgg_f32_to_bf16(b));
    }
    if ((h & 0x7fff) < 0x7bff) { /* half way to the next goes to the even one, a hair beyond to the next */
      const float above = pgg_f16_to_f32((uint16_t)(h + 1)), middle = f + (above - f) * 0.5f;
      const uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);
      CHECK(pgg_f32_to_f16(middle) == even, "f16 tie at %04x", h);
      CHECK(pgg_f32_to_f16(nextafterf(middle, above)) == h + 1, "f16 above a tie at %04x", h);
      CHECK(pgg_f32_to_f16(nextafterf(middle, f)) == h, "f16 below a tie at %04x", h);
    }
  }
  CHECK(pgg_f32_to_f16(65519.0f) == 0x7bff && pgg_f32_to_f16(65520.0f) == 0x7c00, "f16 overflow");
  CHECK(pgg_f32_to_f16(-FLT_MAX) == 0xfc00 && pgg_f32_to_bf16(INFINITY) == 0x7f80, "infinities");
  CHECK(pgg_f32_to_f16(-1e-30f) == 0x8000, "sign of a vanishing value");
}

/* ---- activations ----------------------------------------------------------------------------------------- */

/* Places rise and lie in the row; what is not used is zero. */
static void check_spikes(const pgg_act *a, int n) {
  CHECK(a->n_spike <= PGG_ACT_SPIKES && (a->spike_d > 0.0f) == (a->n_spike > 0), "%d spikes of %g", a->n_spike,
        a->spike_d);
  for (int j = 0; j < PGG_ACT_SPIKES; j++) {
    if (j >= a->n_spike) {
      CHECK(!a->at[j] && !a->spike[j], "what is behind the last spike is not zero");
    } else {
      CHECK(a->at[j] < n && (!j || a->at[j] > a->at[j - 1]) && a->spike[j] >= -127, "place of a spike");
    }
  }
}

/* One value in three far above the others makes their scale no coarser; more than there is room for do. */
static void check_planted(void) {
  static const float sizes[] = {20.0f, 300.0f, 5e3f, 1e5f, 1e-30f};
  float x[PGG_ACT_LEN];
  pgg_act act;
  for (int n = 1; n <= PGG_ACT_SPIKES; n++)
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
      const float size = sizes[s] < 1.0f ? 20.0f * sizes[s] : sizes[s], unit = sizes[s] < 1.0f ? sizes[s] : 1.0f;
      for (int i = 0; i < PGG_ACT_LEN; i++) x[i] = unit * (float)((i * 7919 % 201) - 100) / 100.0f;
      for (int j = 0; j < n; j++) x[j * 31 + 3] = (j % 2 ? -1.0f : 1.0f) * size * (1.0f + 0.03f * (float)j);
      pgg_act_encode(x, &act, PGG_ACT_LEN);
      CHECK(act.n_spike == n, "%d values of %g beside 1: %d are spikes", n, size, act.n_spike);
      const float fine = unit / 127.0f, coarse = 1.3f * size / 127.0f / 127.0f; /* what two bytes can hold */
      CHECK(act.d <= (fine > coarse ? fine : coarse) * 1.001f, "%d values of %g beside 1: d %g", n, size, act.d);
      for (int i = 0; i < PGG_ACT_LEN; i++)
        CHECK(fabs(act_value(&act, i) - x[i]) <= 0.5001 * act.d, "value %d is off", i);
    }
}

static void check_act(void) {
  enum { K = 3 * PGG_ACT_LEN - 64 };
  float x[K];
  pgg_act act[3];
  for (int source = 0; source < SOURCES; source++) {
    fill(x, K, source);
    memset(act, 0xaa, sizeof act);
    pgg_act_encode(x, act, K);
    for (int b = 0; b < 3; b++) {
      const pgg_act *a = &act[b];
      const int n = b == 2 ? K - 2 * PGG_ACT_LEN : PGG_ACT_LEN;
      const float *v = x + b * PGG_ACT_LEN;
      int sums[PGG_ACT_LEN / 16] = {0};
      for (int i = 0; i < PGG_ACT_LEN; i++) {
        CHECK(a->q[i] >= -127, "activation %d below -127", a->q[i]);
        CHECK(i < n || a->q[i] == 0, "padding is not zero");
        sums[i / 16] += a->q[i];
      }
      for (int i = 0; i < PGG_ACT_LEN / 16; i++) CHECK(sums[i] == a->sums[i], "activation sum");
      for (int i = 0; i < 7; i++) CHECK(a->pad[i] == 0, "pad is not zero");
      check_spikes(a, n);
      if (!all_finite(v, n)) {
        CHECK(isnan(a->d) && !a->n_spike, "d of a block that is not finite is %g", a->d);
        continue;
      }
      for (int i = 0; i < n; i++) {
        const double off = fabs(act_value(a, i) - v[i]);
        CHECK(off <= 0.5001 * a->d + PGG_ACT_TINY, "case %d: activation %g off by %g at d %g", source, v[i], off, a->d);
      }
    }
  }
  float ties[PGG_ACT_LEN] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f};
  for (int i = 6; i < PGG_ACT_LEN; i++) ties[i] = 100.0f;
  pgg_act_encode(ties, act, PGG_ACT_LEN);
  CHECK(act->q[1] == 0 && act->q[2] == 2 && act->q[3] == 2 && act->q[4] == 0 && act->q[5] == -2, "ties go to even");
}

int main(void) {
  int types = 0, encoders = 0;
  for (int id = -1; id <= PGG_TYPE_LIMIT; id++) {
    const pgg_quant *t = pgg_quant_get(id);
    if (!t) continue;
    types++;
    CHECK(t->info.id == id && t->decode, "type %d", id);
    CHECK((t->dot != NULL) == (t->info.kind == PGG_KIND_BLOCK || t->info.kind == PGG_KIND_FLOAT), "%s dot",
          t->info.name);
    CHECK(t->info.encodes == (t->encode != NULL), "%s encode", t->info.name);
    check_codes(t);
    const int64_t most = t->info.elems >= 256 ? 3 : 9; /* rows that end inside a pgg_act too */
    for (int64_t blocks = 1; blocks <= most; blocks++) {
      check_bytes(t, blocks, 0x00);
      check_bytes(t, blocks, 0xff);
      for (int i = 0; i < 50; i++) check_bytes(t, blocks, -1);
    }
    if (!t->encode) continue;
    encoders++;
    for (int source = 0; source < SOURCES; source++) {
      for (int weights = 0; weights < 4; weights++) check_encode(t, source, weights);
    }
  }
  CHECK(pgg_type_codes(-1, NULL, 0) == 0 && pgg_type_codes(PGG_TYPE_LIMIT, NULL, 0) == 0, "codes of no type");
  CHECK(types == pgg_type_count() && types >= 35, "%d types", types);
  check_halves();
  check_act();
  check_planted();
  printf("%d types, %d encoders, %d failures\n", types, encoders, failures);
  return failures != 0;
}
