/* Holds every float slot of every level to a reference in doubles, and to the scalar level bit for bit where the slot
 * promises that. Each buffer ends at a page that may not be touched, so a read or write behind it stops the program.
 *
 *   check_rows            all levels that run here          check_rows avx2    that level; 77 if it does not run here
 *   check_rows --levels   the choice of a level             check_rows --init  what pgg_init chooses
 *   check_rows --bench [level]  some rates
 *
 * Products have their own program. */
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/kernels.h"
#include "guarded.h"

static int failures;
static long checks;
static const char *level_name = "";

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
static void fail(const char *format, ...) {
  va_list args;
  if (++failures > 40) return;
  va_start(args, format);
  printf("FAIL %s: ", level_name);
  vprintf(format, args);
  printf("\n");
  va_end(args);
}

typedef test_guarded guarded;
static guarded guard_floats(int64_t n) { return test_guard((size_t)n * sizeof(float)); }

/* ---- values -------------------------------------------------------------------------------------------- */

static uint64_t seed = 1;
static uint32_t bits32(void) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(seed >> 33) ^ (uint32_t)(seed >> 12);
}
static float uniform(float lo, float hi) { return lo + (hi - lo) * (float)(bits32() >> 8) * 0x1p-24f; }

enum { PLAIN, WIDE, ZEROS, EQUAL, TINY, HUGE_MIX, BIG_TOP, SMALL, TIES, SPECIAL, N_FLAVOUR };

static float value(int flavour, int64_t i) {
  static const float odd[] = {0.0f,   -0.0f,   1e-40f, -1e-45f, 1e30f,   -1e30f,   88.0f,    -88.0f,    89.0f, -89.0f,
                              104.0f, -104.0f, 1e-7f,  -1e-7f,  FLT_MAX, -FLT_MAX, INFINITY, -INFINITY, NAN};
  switch (flavour) {
    case WIDE: return uniform(-110.0f, 110.0f);
    case ZEROS: return i & 1 ? -0.0f : 0.0f;
    case EQUAL: return 3.25f;
    case TINY: return uniform(-1e-38f, 1e-38f);
    case HUGE_MIX: return i % 3 ? uniform(-1.0f, 1.0f) : uniform(-1e30f, 1e30f);
    case BIG_TOP: return i == 0 ? 1e30f : uniform(-1.0f, 1.0f);
    case SMALL: return uniform(-0.02f, 0.02f);
    case TIES: { /* half way between two bf16, or two f16 */
      const uint32_t u = 0x3f000000u | (i & 1 ? (bits32() & 0xff0000u) | 0x8000u : (bits32() & 0x7fe000u) | 0x1000u);
      float x;
      memcpy(&x, &u, sizeof x);
      return x;
    }
    case SPECIAL: return i % 5 ? uniform(-4.0f, 4.0f) : odd[bits32() % (sizeof odd / sizeof odd[0])];
    default: return uniform(-6.0f, 6.0f);
  }
}

static void fill(float *x, int64_t n, int flavour) {
  for (int64_t i = 0; i < n; i++) x[i] = value(flavour, i);
}

static const int lengths[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 255, 256, 257, 1000};
enum { N_LENGTH = sizeof lengths / sizeof lengths[0] };

/* NaN answers NaN, infinity answers infinity, everything else lies within bound; a result between the largest float
 * and infinity may be either. */
static void close_to(const char *what, int flavour, int64_t n, int64_t i, float got, double want, double bound) {
  checks++;
  if (isnan(want)            ? isnan(got)
      : fabs(want) > FLT_MAX ? got == (want > 0 ? INFINITY : -INFINITY)
                             : fabs((double)got - want) <= bound)
    return;
  fail("%s flavour %d n %lld at %lld: %.9g, expected %.9g within %.3g", what, flavour, (long long)n, (long long)i,
       (double)got, want, bound);
}

static void same_bytes(const char *what, int64_t n, const void *got, const void *want, size_t bytes) {
  checks++;
  if (memcmp(got, want, bytes) == 0) return;
  for (size_t i = 0; i < bytes; i++)
    if (((const char *)got)[i] != ((const char *)want)[i]) {
      fail("%s n %lld: bytes differ from the reference, first at %zu of %zu", what, (long long)n, i, bytes);
      return;
    }
}

/* Bit-equal but for the payload of NaN. */
static void same_floats(const char *what, int64_t n, const float *got, const float *want, int64_t count) {
  checks++;
  for (int64_t i = 0; i < count; i++) {
    if (isnan(want[i]) && isnan(got[i])) continue;
    if (memcmp(got + i, want + i, sizeof *got) == 0) continue;
    fail("%s n %lld at %lld: %.9g, expected exactly %.9g", what, (long long)n, (long long)i, (double)got[i],
         (double)want[i]);
    return;
  }
}

/* ---- element by element -------------------------------------------------------------------------------- */

static double true_silu(double x) { return x / (1.0 + exp(-x)); }
static double true_gelu(double x) { return x / (1.0 + exp(-1.5957691216057308 * x * (1.0 + 0.044715 * x * x))); }
static double true_gelu_erf(double x) { return 0.5 * x * erfc(-x * 0.70710678118654752440); }

static void check_map(const pgg_kernels *t) {
  for (int f = 0; f < N_FLAVOUR; f++)
    for (int l = 0; l < N_LENGTH; l++) {
      const int64_t n = lengths[l];
      guarded gx = guard_floats(n), gu = guard_floats(n), gy = guard_floats(n);
      float *x = (float *)gx.p, *up = (float *)gu.p, *y = (float *)gy.p;
      fill(x, n, f);
      fill(up, n, f == SPECIAL ? SPECIAL : PLAIN);
      for (int which = 0; which < 5; which++) {
        static const char *const names[] = {"silu", "gelu", "gelu_erf", "glu silu", "glu gelu"};
        memset(y, 0x55, (size_t)n * sizeof *y);
        if (which == 0) t->silu(x, y, n);
        if (which == 1) t->gelu(x, y, n);
        if (which == 2) t->gelu_erf(x, y, n);
        if (which >= 3) t->glu(x, up, y, n, which == 4);
        for (int64_t i = 0; i < n; i++) {
          const double v = x[i], by = which >= 3 ? (double)up[i] : 1.0;
          double want = which == 0 || which == 3 ? true_silu(v) : which == 2 ? true_gelu_erf(v) : true_gelu(v);
          /* gelu: the argument of exp is rounded, and exp makes that |argument| units; below 1e-30 of x all is zero */
          double bound = which == 0 || which == 3 ? 4e-7 * fabs(want) : 4e-7 * fabs(v);
          bound = (bound + 1e-36) * (by != by ? 1.0 : fabs(by) + 1e-9);
          if (which >= 3) want = isinf(by) || isinf(want) ? (float)want * by : want * by;
          if (isinf(bound) || (isinf(by) && fabs(want) <= FLT_MAX)) continue;
          close_to(names[which], f, n, i, y[i], want, bound);
        }
      }
      t->silu(x, y, n);
      t->silu(x, x, n); /* in place */
      same_floats("silu in place", n, x, y, n);
      test_unguard(gx), test_unguard(gu), test_unguard(gy);
    }
}

static void check_arithmetic(const pgg_kernels *t, const pgg_kernels *ref) {
  for (int f = 0; f < N_FLAVOUR; f++)
    for (int l = 0; l < N_LENGTH; l++) {
      const int64_t n = lengths[l];
      guarded ga = guard_floats(n), gb = guard_floats(n), gy = guard_floats(n), gr = guard_floats(n);
      float *a = (float *)ga.p, *b = (float *)gb.p, *y = (float *)gy.p, *r = (float *)gr.p;
      fill(a, n, f), fill(b, n, SPECIAL);
      t->add(a, b, y, n), ref->add(a, b, r, n);
      same_floats("add", n, y, r, n);
      t->mul(a, b, y, n), ref->mul(a, b, r, n);
      same_floats("mul", n, y, r, n);
      t->scale(a, 0.37f, y, n), ref->scale(a, 0.37f, r, n);
      same_floats("scale", n, y, r, n);
      memcpy(r, a, (size_t)n * sizeof *r);
      for (int64_t i = 0; i < n; i++) r[i] = r[i] + b[i];
      t->add(a, b, a, n);
      same_floats("add in place", n, a, r, n);
      test_unguard(ga), test_unguard(gb), test_unguard(gy), test_unguard(gr);
    }
}

/* ---- along the row ------------------------------------------------------------------------------------- */

static void check_norm(const pgg_kernels *t) {
  for (int f = 0; f < N_FLAVOUR; f++)
    for (int l = 0; l < N_LENGTH; l++) {
      const int64_t n = lengths[l];
      guarded gx = guard_floats(n), gw = guard_floats(n), gy = guard_floats(n);
      float *x = (float *)gx.p, *w = (float *)gw.p, *y = (float *)gy.p;
      fill(x, n, f), fill(w, n, PLAIN);
      t->rms_norm(x, w, y, n, 1e-6f);
      double total = 0;
      for (int64_t i = 0; i < n; i++) total += (double)x[i] * x[i];
      const double by = 1.0 / sqrt(total / (double)n + (double)1e-6f);
      for (int64_t i = 0; i < n; i++) {
        const double want = x[i] * by * w[i];
        close_to("rms_norm", f, n, i, y[i], want, 1e-6 * fabs(want) + 1e-36);
      }
      test_unguard(gx), test_unguard(gw), test_unguard(gy);
    }
}

static void check_softmax(const pgg_kernels *t) {
  for (int f = 0; f < N_FLAVOUR; f++)
    for (int l = 0; l < N_LENGTH; l++) {
      const int64_t n = lengths[l];
      guarded gx = guard_floats(n), gy = guard_floats(n);
      float *x = (float *)gx.p, *y = (float *)gy.p;
      double top = -INFINITY, total = 0, sum = 0;
      fill(x, n, f);
      int lost = 0;
      for (int64_t i = 0; i < n; i++) {
        lost |= isnan(x[i]) || x[i] == INFINITY;
        top = x[i] > top ? (double)x[i] : top;
      }
      for (int64_t i = 0; i < n; i++) total += exp(x[i] - top);
      t->softmax(x, y, n);
      for (int64_t i = 0; i < n; i++) {
        const double want = lost || isinf(top) ? NAN : exp(x[i] - top) / total;
        close_to("softmax", f, n, i, y[i], want, want * (1e-6 + 1.5e-7 * fmin(top - x[i], 104.0)) + 1e-37);
        sum += y[i];
      }
      if (!lost && !isinf(top)) close_to("sum of softmax", f, n, -1, (float)sum, 1.0, 2e-6);
      t->softmax(x, x, n);
      same_floats("softmax in place", n, x, y, n);
      test_unguard(gx), test_unguard(gy);
    }
}

static void check_finite(const pgg_kernels *t) {
  static const float bad[] = {INFINITY, -INFINITY, NAN};
  for (int l = 0; l < N_LENGTH; l++) {
    const int64_t n = lengths[l];
    guarded gx = guard_floats(n);
    float *x = (float *)gx.p;
    fill(x, n, HUGE_MIX);
    x[n - 1] = FLT_MAX, x[0] = -FLT_MAX;
    checks++;
    if (!t->finite(x, n)) fail("finite n %lld: finite values refused", (long long)n);
    for (int64_t i = 0; i < n; i++) {
      const float keep = x[i];
      x[i] = bad[i % 3];
      checks++;
      if (t->finite(x, n)) fail("finite n %lld: missed %g at %lld", (long long)n, (double)x[i], (long long)i);
      x[i] = keep;
    }
    test_unguard(gx);
  }
}

/* Maxima of blocks, and weights with the sums of theirs: exactly the scalar level's (a zero may have either sign), the
 * weights also near to the true ones. */
static void check_choosing(const pgg_kernels *t, const pgg_kernels *ref) {
  static const float bad[] = {INFINITY, NAN};
  for (int f = 0; f <= SMALL; f++)
    for (int l = 0; l < N_LENGTH; l++) {
      const int64_t n = lengths[l], n_top = (n + PGG_TOPS_BLOCK - 1) / PGG_TOPS_BLOCK;
      const int64_t n_sum = (n + PGG_SUMS_BLOCK - 1) / PGG_SUMS_BLOCK;
      guarded gx = guard_floats(n), gt = guard_floats(n_top), gs = guard_floats(n_sum), gw = guard_floats(n);
      float *x = (float *)gx.p, *tops = (float *)gt.p, *sums = (float *)gs.p, *w = (float *)gw.p;
      float sums_ref[8], w_ref[1000], top = -INFINITY;
      fill(x, n, f);
      if (n > 2) x[n / 2] = -INFINITY;
      checks++;
      if (!t->tops(x, tops, n)) fail("tops flavour %d n %lld: good values refused", f, (long long)n);
      for (int64_t b = 0; b < n_top; b++) {
        float most = -INFINITY;
        for (int64_t i = b * PGG_TOPS_BLOCK; i < n && i < (b + 1) * PGG_TOPS_BLOCK; i++) most = fmaxf(most, x[i]);
        checks++;
        if (tops[b] != most)
          fail("tops flavour %d n %lld: %g, expected %g", f, (long long)n, (double)tops[b], (double)most);
        top = fmaxf(top, most);
      }
      for (int hot = 0; hot < 2; hot++) {
        const float by = hot ? 0.3f : 1.25f;
        t->weights(x, top, by, sums, w, n);
        ref->weights(x, top, by, sums_ref, w_ref, n);
        same_floats("weights", n, w, w_ref, n);
        same_floats("sums of weights", n, sums, sums_ref, n_sum);
        t->weights(x, top, by, sums, NULL, n);
        same_floats("sums alone", n, sums, sums_ref, n_sum);
        for (int64_t i = 0; i < n; i++) {
          const double want = exp((double)((x[i] - top) * by));
          close_to("weights", f, n, i, w[i], want, 3e-7 * want + 2e-38);
        }
        for (int64_t b = 0; b < n_sum; b++) {
          double want = 0;
          for (int64_t i = b * PGG_SUMS_BLOCK; i < n && i < (b + 1) * PGG_SUMS_BLOCK; i++) want += w_ref[i];
          close_to("sums of weights", f, n, b, sums[b], want, 2e-6 * want);
        }
      }
      for (int64_t i = 0; i < n; i++) {
        const float keep = x[i];
        x[i] = bad[i % 2];
        checks++;
        if (t->tops(x, tops, n)) fail("tops n %lld: missed %g at %lld", (long long)n, (double)x[i], (long long)i);
        x[i] = keep;
      }
      test_unguard(gx), test_unguard(gt), test_unguard(gs), test_unguard(gw);
    }
}

/* ---- rope, decoders, cache rows ------------------------------------------------------------------------ */

static void check_rope(const pgg_kernels *t) {
  static const int shapes[][2] = {{2, 2},   {8, 4},   {20, 20},  {48, 32},   {64, 64}, {66, 66},
                                  {80, 20}, {96, 96}, {128, 64}, {128, 128}, {34, 30}, {576, 64}};
  for (int neox = 0; neox < 2; neox++)
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
      for (int heads = 1; heads <= 3; heads++) {
        const int dim = shapes[s][0], n_rot = shapes[s][1], half = n_rot / 2;
        const int64_t n = (int64_t)heads * dim;
        guarded gx = guard_floats(n), gy = guard_floats(n), gc = guard_floats(n_rot);
        float *x = (float *)gx.p, *y = (float *)gy.p, *cs = (float *)gc.p;
        fill(x, n, PLAIN);
        for (int i = 0; i < half; i++) {
          const float angle = uniform(-3.0f, 3.0f);
          cs[2 * i] = cosf(angle), cs[2 * i + 1] = sinf(angle);
        }
        const pgg_rope how = {cs, heads, dim, n_rot, neox};
        t->rope(&how, x, y);
        for (int h = 0; h < heads; h++)
          for (int i = 0; i < dim; i++) {
            const float *head = x + h * dim;
            double want = head[i], bound = 0;
            if (i < 2 * half) {
              const int pair = neox ? i % half : i / 2, second = neox ? i >= half : i & 1;
              const double a = head[neox ? pair : 2 * pair], b = head[neox ? pair + half : 2 * pair + 1];
              const double c = cs[2 * pair], sn = cs[2 * pair + 1];
              want = second ? a * sn + b * c : a * c - b * sn;
              bound = 2e-7 * (fabs(a) + fabs(b));
            }
            close_to(neox ? "rope neox" : "rope norm", n_rot, dim, i, y[h * dim + i], want, bound);
          }
        t->rope(&how, x, x);
        same_floats("rope in place", dim, x, y, n);
        test_unguard(gx), test_unguard(gy), test_unguard(gc);
      }
}

static void check_decode(const pgg_kernels *t) {
  for (int id = 0; id < PGG_TYPE_LIMIT; id++) {
    const pgg_quant *q = pgg_quant_get(id);
    if (!q || !q->decode || q->info.kind == PGG_KIND_INT) continue;
    if (!t->decode[id]) {
      fail("decode %s: no slot", q->info.name);
      continue;
    }
    for (int blocks = 1; blocks <= (q->info.elems == 1 ? 70 : 5); blocks++) {
      const int64_t k = (int64_t)blocks * q->info.elems;
      const size_t bytes = (size_t)blocks * (size_t)q->info.bytes;
      guarded gr = test_guard(bytes), gy = guard_floats(k), gw = guard_floats(k);
      for (size_t i = 0; i < bytes; i++) gr.p[i] = (uint8_t)bits32();
      /* floats read as floats need their alignment, random bytes do not have it when bytes is odd */
      t->decode[id](gr.p, (float *)gy.p, k);
      q->decode(gr.p, (float *)gw.p, k);
      same_floats(q->info.name, k, (float *)gy.p, (float *)gw.p, k);
      test_unguard(gr), test_unguard(gy), test_unguard(gw);
    }
  }
}

static void check_store(const pgg_kernels *t, const pgg_kernels *ref) {
  static const int types[] = {PGG_F32, PGG_F16, PGG_BF16, PGG_Q8_0};
  for (int f = 0; f < N_FLAVOUR; f++)
    for (int l = 0; l < N_LENGTH; l++)
      for (int y = 0; y < 4; y++) {
        const int type = types[y];
        const int64_t n = type == PGG_Q8_0 ? (lengths[l] + 31) / 32 * 32 : lengths[l];
        const pgg_quant *q = pgg_quant_get(type);
        const size_t bytes = (size_t)(n / q->info.elems) * (size_t)q->info.bytes;
        guarded gx = guard_floats(n), gr = test_guard(bytes), gw = test_guard(bytes), gb = guard_floats(n);
        float *x = (float *)gx.p, *back = (float *)gb.p;
        fill(x, n, f);
        if (f == SPECIAL)
          for (int64_t i = 0; i < n; i++) x[i] = isnan(x[i]) ? NAN : x[i];
        t->kv_store(type, x, gr.p, n);
        ref->kv_store(type, x, gw.p, n);
        same_bytes(q->info.name, n, gr.p, gw.p, bytes);
        q->decode(gr.p, back, n);
        for (int64_t i = 0; i < n; i++) { /* and the bytes mean the values */
          double want = x[i], bound = 0;
          if (type == PGG_F16) want = pgg_f16_to_f32(pgg_f32_to_f16(x[i]));
          if (type == PGG_BF16) want = pgg_bf16_to_f32(pgg_f32_to_bf16(x[i]));
          if (type == PGG_Q8_0) {
            double top = 0;
            int bad = 0;
            for (int64_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++) {
              if (!isfinite(x[j])) bad = 1;
              if (fabs(x[j]) > top) top = fabs(x[j]);
            }
            const float d = pgg_f16_to_f32(pgg_f32_to_f16((float)(top / 127.0)));
            if (bad) want = NAN;
            /* half a step, and what rounding d to a half moves 127 steps; d itself is infinite above 65504 */
            bound = top / 127.0 * 0.5001 + 127.0 * fabs((double)d - top / 127.0) + 1e-37;
            if (!bad && isinf(d)) {
              checks++;
              if (isfinite(back[i])) fail("kv_store q8_0: %g stored as the finite %g", (double)x[i], (double)back[i]);
              continue;
            }
          }
          close_to("kv_store", type, n, i, back[i], want, bound);
        }
        test_unguard(gx), test_unguard(gr), test_unguard(gw), test_unguard(gb);
      }
}

/* ---- attention ----------------------------------------------------------------------------------------- */

typedef struct scene {
  int type, softcap;
  int64_t nq, k_dim, v_dim, k0, k1;
  guarded q, k, v, o, top, sum, first, last, scratch;
  pgg_attn job;
} scene;

static scene scene_new(const pgg_kernels *t, int type, int64_t nq, int64_t k_dim, int64_t v_dim, int64_t k0, int64_t k1,
                       float spread) {
  scene s = {.type = type, .nq = nq, .k_dim = k_dim, .v_dim = v_dim, .k0 = k0, .k1 = k1};
  const pgg_quant *fmt = pgg_quant_get(type);
  const size_t k_row = (size_t)(k_dim / fmt->info.elems * fmt->info.bytes);
  const size_t v_row = (size_t)(v_dim / fmt->info.elems * fmt->info.bytes);
  const int64_t widest = k_dim > v_dim ? k_dim : v_dim, q_stride = k_dim + 3;
  float *row = malloc((size_t)widest * sizeof *row);
  s.q = guard_floats((nq - 1) * q_stride + k_dim);
  s.k = test_guard(k_row * (size_t)k1), s.v = test_guard(v_row * (size_t)k1);
  s.o = guard_floats(nq * v_dim), s.top = guard_floats(nq), s.sum = guard_floats(nq);
  s.first = guard_floats(nq), s.last = guard_floats(nq);
  s.scratch = test_guard((t->attn_scratch(nq, k_dim, v_dim) + 63) / 64 * 64);
  for (int64_t i = 0; i < (nq - 1) * q_stride + k_dim; i++) ((float *)s.q.p)[i] = uniform(-spread, spread);
  for (int64_t j = 0; j < k1; j++) {
    for (int64_t d = 0; d < k_dim; d++) row[d] = uniform(-1.0f, 1.0f);
    t->kv_store(type, row, s.k.p + (size_t)j * k_row, k_dim);
    for (int64_t d = 0; d < v_dim; d++) row[d] = uniform(-1.0f, 1.0f);
    t->kv_store(type, row, s.v.p + (size_t)j * v_row, v_dim);
  }
  for (int64_t i = 0; i < nq; i++) ((int32_t *)s.first.p)[i] = (int32_t)k0, ((int32_t *)s.last.p)[i] = (int32_t)k1;
  s.job = (pgg_attn){.q = (float *)s.q.p,
                     .q_stride = q_stride,
                     .nq = nq,
                     .k = s.k.p,
                     .v = s.v.p,
                     .kv_type = type,
                     .k_row = k_row,
                     .v_row = v_row,
                     .k_dim = k_dim,
                     .v_dim = v_dim,
                     .k0 = k0,
                     .k1 = k1,
                     .first = (int32_t *)s.first.p,
                     .last = (int32_t *)s.last.p,
                     .scale = 1.0f / sqrtf((float)k_dim),
                     .softcap = 0.0f,
                     .o = (float *)s.o.p,
                     .top = (float *)s.top.p,
                     .sum = (float *)s.sum.p,
                     .scratch = s.scratch.p};
  free(row);
  return s;
}

static void scene_free(scene *s) {
  guarded *all[] = {&s->q, &s->k, &s->v, &s->o, &s->top, &s->sum, &s->first, &s->last, &s->scratch};
  for (int i = 0; i < 9; i++) test_unguard(*all[i]);
}

static void check_scene(const char *what, const scene *s, double bound) {
  const pgg_attn *a = &s->job;
  const pgg_quant *fmt = pgg_quant_get(s->type);
  double *score = malloc((size_t)s->k1 * sizeof *score), *sum = malloc((size_t)s->v_dim * sizeof *sum);
  float *row = malloc((size_t)(s->k_dim + s->v_dim) * sizeof *row);
  for (int64_t i = 0; i < s->nq; i++) {
    const int64_t lo = a->first[i] > a->k0 ? a->first[i] : a->k0, hi = a->last[i] < a->k1 ? a->last[i] : a->k1;
    double top = -INFINITY, total = 0;
    for (int64_t j = lo; j < hi; j++) {
      fmt->decode((const char *)a->k + (size_t)j * a->k_row, row, s->k_dim);
      score[j] = 0;
      for (int64_t d = 0; d < s->k_dim; d++) score[j] += (double)a->q[i * a->q_stride + d] * row[d];
      score[j] *= a->scale;
      if (a->softcap > 0) score[j] = a->softcap * tanh(score[j] / a->softcap);
      top = fmax(top, score[j]);
    }
    for (int64_t d = 0; d < s->v_dim; d++) sum[d] = 0;
    for (int64_t j = lo; j < hi; j++) {
      const double p = exp(score[j] - top);
      fmt->decode((const char *)a->v + (size_t)j * a->v_row, row, s->v_dim);
      total += p;
      for (int64_t d = 0; d < s->v_dim; d++) sum[d] += p * row[d];
    }
    checks++;
    if (!(a->top[i] >= -FLT_MAX && a->top[i] <= FLT_MAX)) fail("%s: top %g is not finite", what, (double)a->top[i]);
    if (lo >= hi) {
      if (a->sum[i] != 0.0f) fail("%s: sum %g for a query that sees nothing", what, (double)a->sum[i]);
      for (int64_t d = 0; d < s->v_dim; d++)
        if (a->o[i * s->v_dim + d] != 0.0f) fail("%s: output for a query that sees nothing", what);
      continue;
    }
    close_to("attention top", s->type, s->nq, i, a->top[i], top, bound * 4 + 2e-6 * fabs(top));
    if (fabs(top) < 1e3) /* beyond, a float's unit is too much for exp */
      close_to("attention sum", s->type, s->nq, i, a->sum[i], total * exp(top - a->top[i]), total * bound);
    for (int64_t d = 0; d < s->v_dim; d++)
      close_to(what, s->type, s->k1, d, a->o[i * s->v_dim + d] / a->sum[i], sum[d] / total, bound);
  }
  free(score), free(sum), free(row);
}

/* Each query alone, with keys of the others poisoned, must give the bits it gave in company. */
static void check_alone(const pgg_kernels *t, scene *s) {
  const size_t o_bytes = (size_t)(s->nq * s->v_dim) * sizeof(float);
  float *o = malloc(o_bytes), *top = malloc((size_t)s->nq * 4), *sum = malloc((size_t)s->nq * 4);
  const size_t k_bytes = s->job.k_row * (size_t)s->k1, v_bytes = s->job.v_row * (size_t)s->k1;
  char *k = malloc(k_bytes), *v = malloc(v_bytes);
  memcpy(o, s->o.p, o_bytes), memcpy(top, s->top.p, (size_t)s->nq * 4), memcpy(sum, s->sum.p, (size_t)s->nq * 4);
  memcpy(k, s->k.p, k_bytes), memcpy(v, s->v.p, v_bytes);
  for (int64_t i = 0; i < s->nq; i++) {
    pgg_attn one = s->job;
    int64_t hi = pgg_min_i64(s->job.last[i], s->k1);
    one.q += i * one.q_stride, one.first += i, one.last += i, one.nq = 1;
    one.o += i * s->v_dim, one.top += i, one.sum += i;
    if (i & 1) one.k1 = pgg_max_i64(hi, s->k0 + 1); /* a step ends where the token is */
    for (int64_t j = 0; j < s->k1; j++) {
      const int seen = j >= s->job.first[i] && j < hi && j >= s->k0;
      if (seen) continue;
      memset(s->k.p + (size_t)j * s->job.k_row, 0xff, s->job.k_row); /* NaN in every float type */
      memset(s->v.p + (size_t)j * s->job.v_row, 0xff, s->job.v_row);
    }
    t->attention(&one);
    memcpy(s->k.p, k, k_bytes), memcpy(s->v.p, v, v_bytes);
  }
  same_bytes("attention alone: o", s->nq, s->o.p, o, o_bytes);
  same_bytes("attention alone: top", s->nq, s->top.p, top, (size_t)s->nq * 4);
  same_bytes("attention alone: sum", s->nq, s->sum.p, sum, (size_t)s->nq * 4);
  free(o), free(top), free(sum), free(k), free(v);
}

static void check_attention(const pgg_kernels *t) {
  static const int types[] = {PGG_F32, PGG_F16, PGG_BF16, PGG_Q8_0};
  static const int dims[][2] = {{64, 64}, {128, 128}, {8, 8},   {20, 20},   {48, 48}, {80, 80},
                                {96, 96}, {192, 128}, {32, 64}, {256, 256}, {3, 5}};
  static const int keys[] = {1, 2, 3, 7, 16, 17, 63, 64, 65, 100, 130, 257};
  static const int groups[] = {1, 2, 3, 4, 5, 6, 7, 8, 17};
  int turn = 0;
  for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++)
    for (size_t n = 0; n < sizeof keys / sizeof keys[0]; n++)
      for (int y = 0; y < 4; y++) {
        const int type = types[y];
        const int64_t nq = groups[turn++ % 9], k0 = turn % 3 ? 0 : 5, k1 = k0 + keys[n];
        if (type == PGG_Q8_0 && (dims[d][0] % 32 || dims[d][1] % 32)) continue;
        scene s = scene_new(t, type, nq, dims[d][0], dims[d][1], k0, k1, 4.0f);
        int32_t *first = (int32_t *)s.first.p, *last = (int32_t *)s.last.p;
        t->attention(&s.job);
        check_scene("attention, all keys", &s, 1e-5);
        s.job.softcap = 5.0f;
        for (int64_t i = 0; i < nq; i++) last[i] = (int32_t)(k1 - nq + 1 + i < k0 ? k0 : k1 - nq + 1 + i); /* causal */
        t->attention(&s.job);
        check_scene("attention, causal, soft cap", &s, 1e-5);
        check_alone(t, &s);
        s.job.softcap = 0.0f;
        for (int64_t i = 0; i < nq; i++) first[i] = last[i] - 9 + (int32_t)(i % 3); /* window, partly outside */
        t->attention(&s.job);
        check_scene("attention, window", &s, 1e-5);
        check_alone(t, &s);
        for (int64_t i = 0; i < nq; i++) /* some queries see nothing, others something odd */
          if (i % 3 == 0)
            first[i] = last[i] = (int32_t)k1 - 1;
          else
            first[i] = (int32_t)(bits32() % (uint32_t)k1), last[i] = first[i] + (int32_t)(bits32() % 80);
        t->attention(&s.job);
        check_scene("attention, holes", &s, 1e-5);
        check_alone(t, &s);
        scene_free(&s);
      }
  /* many queries over many blocks, as a prompt */
  for (int y = 0; y < 4; y++) {
    scene s = scene_new(t, types[y], 66, 64, 64, 0, 200, 4.0f);
    for (int64_t i = 0; i < 66; i++) ((int32_t *)s.last.p)[i] = (int32_t)(135 + i / 2 * 2);
    t->attention(&s.job);
    check_scene("attention, prompt", &s, 1e-5);
    check_alone(t, &s);
    scene_free(&s);
  }
}

/* Scores far outside what exp can take, and numbers that are none. */
static void check_attention_hostile(const pgg_kernels *t) {
  static const float sizes[] = {0.0f, 1e-30f, 1e4f, 1e30f};
  for (int z = 0; z < 4; z++) {
    scene s = scene_new(t, PGG_F32, 5, 64, 64, 0, 150, 1.0f);
    float *q = (float *)s.q.p, *k = (float *)s.k.p, *v = (float *)s.v.p;
    for (int64_t i = 0; i < 4 * s.job.q_stride + 64; i++) q[i] = 0.0f;
    for (int64_t i = 0; i < 5; i++) q[i * s.job.q_stride] = i & 1 ? -sizes[z] : sizes[z]; /* scores have one term */
    t->attention(&s.job);
    /* one key wins, or nearly; float scores are exact here but for the scale */
    check_scene("attention, size", &s, z == 2 ? 2e-3 : 1e-5);
    if (z == 0) {
      for (int64_t j = 0; j < 150 * 64; j++) k[j] = 1e20f;
      q[1] = -1e30f; /* query 0: every score overflows to -infinity */
      t->attention(&s.job);
      checks++;
      for (int64_t d = 0; d < 64; d++)
        if (isnan(s.job.o[64 + d])) fail("attention: an infinite score of query 0 reached query 1");
      if (s.job.sum[0] != 0.0f || isnan(s.job.top[0])) fail("attention: scores of -infinity must weigh nothing");
      q[1] = NAN, v[3 * 64 + 7] = INFINITY, k[0] = 0.0f;
      t->attention(&s.job);
      checks++;
      for (int64_t d = 0; d < 64; d++) {
        if (!isnan(s.job.o[d])) fail("attention: NaN in a query was lost at %d", (int)d);
        const float o = s.job.o[64 + d];
        if (d == 7 ? o != INFINITY : !isfinite(o)) fail("attention: infinity in a value went to %d", (int)d);
      }
    }
    scene_free(&s);
  }
}

/* ---- levels -------------------------------------------------------------------------------------------- */

static void check_levels(void) {
  const char *names[16];
  const int n = pgg_isa_list(names, 16);
  level_name = "levels";
  checks += 6;
  if (n < 1 || strcmp(names[0], "scalar") != 0) fail("the list must begin with scalar");
  if (pgg_isa_force("sse9") != PGG_EUNSUPPORTED) fail("an unknown level was accepted");
  if (!strstr(pgg_last_error(), "sse9") || !strstr(pgg_last_error(), names[n - 1]))
    fail("message names neither the level nor what is available: %s", pgg_last_error());
#if defined(__aarch64__) || defined(_M_ARM64)
  const char *other = "avx2";
#else
  const char *other = "neon";
#endif
  if (pgg_isa_force(other) != PGG_EUNSUPPORTED || pgg_kernels_level(other)) fail("a level of another architecture");
  if (pgg_kernels_level("") || pgg_kernels_level("AVX2")) fail("level names are exact");
  for (int i = 0; i < n; i++) {
    if (pgg_isa_force(names[i]) != PGG_OK || strcmp(pgg_isa(), names[i]) != 0 ||
        pgg_kernels_get() != pgg_kernels_level(names[i]))
      fail("forcing %s gave %s", names[i], pgg_isa());
  }
  if (pgg_isa_force(NULL) != PGG_OK) fail("back to automatic: %s", pgg_last_error());
  if (!getenv("PYGGML_ISA") && strcmp(pgg_isa(), names[n - 1]) != 0) fail("automatic is not the fastest level");
}

static void check_slots(const pgg_kernels *t) {
  checks++;
  if (strcmp(t->isa, level_name) != 0) fail("table is named %s", t->isa);
  if (!t->rms_norm || !t->add || !t->mul || !t->scale || !t->silu || !t->gelu || !t->gelu_erf || !t->glu ||
      !t->softmax || !t->rope || !t->kv_store || !t->attn_scratch || !t->attention || !t->finite || !t->tops ||
      !t->weights)
    fail("an empty slot");
}

static int check_level(const char *name) {
  const pgg_kernels *t = pgg_kernels_level(name), *ref = pgg_kernels_level("scalar");
  const int before = failures;
  if (!t) return 0;
  level_name = name, seed = 1;
  check_slots(t);
  if (failures > before) return 1;
  check_arithmetic(t, ref);
  check_map(t);
  check_norm(t);
  check_softmax(t);
  check_finite(t);
  check_choosing(t, ref);
  check_rope(t);
  check_decode(t);
  check_store(t, ref);
  check_attention(t);
  check_attention_hostile(t);
  printf("%s: %s\n", name, failures == before ? "ok" : "FAILED");
  return 1;
}

/* ---- rates --------------------------------------------------------------------------------------------- */

static double now(void) {
  struct timespec ts;
  timespec_get(&ts, TIME_UTC);
  return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void bench_attention(const pgg_kernels *t, int type, int64_t nq, int64_t dim, int64_t n) {
  scene s = scene_new(t, type, nq, dim, dim, 0, n, 1.0f);
  double best = 1e9;
  for (int r = 0; r < 7; r++) {
    const double from = now();
    t->attention(&s.job);
    best = fmin(best, now() - from);
  }
  printf("%-8s attention %-5s nq %3d dim %3d keys %5d: %7.1f us %6.1f GFLOP/s %6.2f Gvalue/s of cache\n", t->isa,
         pgg_quant_get(type)->info.name, (int)nq, (int)dim, (int)n, best * 1e6, 4e-9 * (double)(nq * dim * n) / best,
         2e-9 * (double)(dim * n) / best);
  scene_free(&s);
}

static void bench_level(const pgg_kernels *t) {
  static const struct {
    const char *name;
    int which;
  } slots[] = {{"rms_norm", 0}, {"softmax", 1}, {"silu", 2}, {"gelu", 3}, {"gelu_erf", 4}, {"glu", 5}};
  enum { N = 4096 };
  float *x = malloc(N * 4), *y = malloc(N * 4), *w = malloc(N * 4);
  fill(x, N, PLAIN), fill(w, N, PLAIN);
  for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
    double best = 1e9;
    for (int r = 0; r < 9; r++) {
      const double from = now();
      for (int rep = 0; rep < 20; rep++) {
        if (slots[i].which == 0) t->rms_norm(x, w, y, N, 1e-6f);
        if (slots[i].which == 1) t->softmax(x, y, N);
        if (slots[i].which == 2) t->silu(x, y, N);
        if (slots[i].which == 3) t->gelu(x, y, N);
        if (slots[i].which == 4) t->gelu_erf(x, y, N);
        if (slots[i].which == 5) t->glu(x, w, y, N, 0);
      }
      best = fmin(best, (now() - from) / 20);
    }
    printf("%-8s %-9s %6.2f Gvalue/s\n", t->isa, slots[i].name, 1e-9 * N / best);
  }
  free(x), free(y), free(w);
  static const int types[] = {PGG_F32, PGG_F16, PGG_BF16, PGG_Q8_0};
  for (int y2 = 0; y2 < 4; y2++) bench_attention(t, types[y2], 4, 128, 2048);
  bench_attention(t, PGG_F16, 1, 64, 2048);
  bench_attention(t, PGG_F16, 8, 64, 2048);
  bench_attention(t, PGG_F16, 64, 64, 2048);
  bench_attention(t, PGG_F16, 64, 128, 2048);
}

int main(int argc, char **argv) {
  const char *names[16], *only = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL;
  const int n = pgg_isa_list(names, 16);
  if (argc > 1 && strcmp(argv[1], "--init") == 0) {
    const pgg_status status = pgg_init();
    printf("status %d isa '%s' error '%s'\n", (int)status, pgg_isa(), status ? pgg_last_error() : "");
    return 0;
  }
  if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
    for (int i = 0; i < n; i++)
      if (argc < 3 || strcmp(argv[2], names[i]) == 0) bench_level(pgg_kernels_level(names[i]));
    return 0;
  }
  if (argc > 1 && strcmp(argv[1], "--levels") == 0) {
    check_levels();
  } else if (only) {
    if (!check_level(only)) {
      printf("skipped: level '%s' does not run here\n", only);
      return 77;
    }
  } else {
    check_levels();
    for (int i = 0; i < n; i++) check_level(names[i]);
  }
  printf("%ld checks, %d failures\n", checks, failures);
  return failures ? 1 : 0;
}
