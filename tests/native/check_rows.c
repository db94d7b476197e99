/* Holds every float slot of every level to a reference in doubles, and to the scalar level bit for bit where the slot
 * promises that. Each buffer ends at a page that may not be touched, so a read or write behind it stops the program.
 *
 *   check_rows            all levels that run here          check_rows avx2    that level; 77 if it does not run here
 *   check_rows --levels   the choice of a level             check_rows --init  what pgg_init chooses
 *   check_rows --bench [level]  some rates
 *
 * Products have their own program, and so have cache rows and attention. */
#include "check_recurrent.h"
#include "check_scan.h"
#include "values.h"

/* ---- element by element -------------------------------------------------------------------------------- */

static double true_silu(double x) { return x / (1.0 + exp(-x)); }
static double true_gelu(double x) { return x / (1.0 + exp(-1.5957691216057308 * x * (1.0 + 0.044715 * x * x))); }
static double true_gelu_erf(double x) { return 0.5 * x * erfc(-x * 0.70710678118654752440); }

static double true_sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

static double true_silu_capped(double x) {
  const double y = x > 7 ? 7 : x;
  return y / (1.0 + exp(-1.702 * y));
}

static double true_relu(double x) { return x < 0 ? 0 : x; }
static double true_relu_squared(double x) { return true_relu(x) * true_relu(x); }
static double true_elu(double x) { return x < 0 ? expm1(x) : x; }

/* What the other row of an activation counts as. */
static double plain(double up) { return up; }
static double up_of_silu_capped(double up) { return 1 + (up > 7 ? 7 : up < -7 ? -7 : up); }

static const struct {
  const char *name;
  double (*truth)(double), (*up)(double);
} activations[] = {
#define ACTIVATION(NAME, name) {#name, true_##name, plain},
#define ACTIVATION_OF_BOTH(NAME, name) {#name, true_##name, up_of_##name},
#include "activations.def"
#undef ACTIVATION
};

/* Each activation by itself, and times another row. The argument of exp is rounded, and exp makes that |argument|
 * units; below 1e-30 of x all is zero. */
static void check_map(const pgg_kernels *t, const pgg_kernels *ref) {
  (void)ref;
  for (int f = 0; f < N_FLAVOUR; f++)
    for (int l = 0; l < N_LENGTH; l++) {
      const int64_t n = lengths[l];
      guarded gx = guard_floats(n), gu = guard_floats(n), gy = guard_floats(n);
      float *x = (float *)gx.p, *up = (float *)gu.p, *y = (float *)gy.p;
      fill(x, n, f);
      fill(up, n, f == SPECIAL ? SPECIAL : PLAIN);
      for (int which = 0; which < 2 * PGG_ACTIVATION_COUNT; which++) {
        const int act = which / 2, times = which % 2;
        memset(y, 0x55, (size_t)n * sizeof *y);
        if (times)
          t->glu[act](x, up, y, n);
        else
          t->activate[act](x, y, n);
        for (int64_t i = 0; i < n; i++) {
          const double v = x[i], by = times ? activations[act].up((double)up[i]) : 1.0;
          double want = activations[act].truth(v);
          double bound = 4e-7 * (act == PGG_ACTIVATION_SILU ? fabs(want) : fmax(fabs(v), fabs(want)));
          bound = (bound + 1e-36) * (by != by ? 1.0 : fabs(by) + 1e-9);
          if (times) want = isinf(by) || fabs(want) > FLT_MAX ? (float)want * by : want * by;
          if (isinf(bound) || (isinf(by) && fabs(want) <= FLT_MAX)) continue;
          close_to(activations[act].name, f, n, i, y[i], want, bound);
        }
        if (times) continue;
        t->activate[act](x, y, n);
        t->activate[act](x, x, n); /* in place */
        same_floats("activation in place", n, x, y, n);
        fill(x, n, f);
      }
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

static void check_norm(const pgg_kernels *t, const pgg_kernels *ref) {
  (void)ref;
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
      t->rms_norm(x, NULL, y, n, 1e-6f);
      for (int64_t i = 0; i < n; i++)
        close_to("rms_norm without weights", f, n, i, y[i], x[i] * by, 1e-6 * fabs(x[i] * by) + 1e-36);
      test_unguard(gx), test_unguard(gw), test_unguard(gy);
    }
}

/* With and without weights and biases, and in place. */
static void check_layer_norm(const pgg_kernels *t, const pgg_kernels *ref) {
  (void)ref;
  for (int f = 0; f < N_FLAVOUR; f++)
    for (int l = 0; l < N_LENGTH; l++) {
      const int64_t n = lengths[l];
      guarded gx = guard_floats(n), gw = guard_floats(n), gb = guard_floats(n), gy = guard_floats(n);
      float *x = (float *)gx.p, *w = (float *)gw.p, *b = (float *)gb.p, *y = (float *)gy.p;
      double mean = 0, total = 0, most = 0;
      fill(x, n, f), fill(w, n, PLAIN), fill(b, n, PLAIN);
      for (int64_t i = 0; i < n; i++) mean += (double)x[i] / (double)n;
      for (int64_t i = 0; i < n; i++) {
        total += (x[i] - mean) * (x[i] - mean);
        most = fmax(most, fabs((double)x[i]));
      }
      const double by = 1.0 / sqrt(total / (double)n + (double)1e-5f);
      for (int with = 0; with < 4; with++) {
        t->layer_norm(x, with & 1 ? w : NULL, with & 2 ? b : NULL, y, n, 1e-5f);
        for (int64_t i = 0; i < n; i++) {
          const double scale = by * (with & 1 ? (double)w[i] : 1.0), shift = with & 2 ? (double)b[i] : 0.0;
          const double want = (x[i] - mean) * scale + shift;
          close_to("layer_norm", f, n, i, y[i], want, 4e-7 * (most * fabs(scale) + fabs(want) + fabs(shift)) + 1e-36);
        }
      }
      t->layer_norm(x, w, b, x, n, 1e-5f);
      same_floats("layer_norm in place", n, x, y, n);
      test_unguard(gx), test_unguard(gw), test_unguard(gb), test_unguard(gy);
    }
}

static void check_softcap(const pgg_kernels *t, const pgg_kernels *ref) {
  (void)ref;
  static const float caps[] = {0.5f, 30.0f, 1e30f};
  for (int f = 0; f < N_FLAVOUR; f++)
    for (int l = 0; l < N_LENGTH; l++)
      for (int c = 0; c < 3; c++) {
        const int64_t n = lengths[l];
        guarded gx = guard_floats(n), gy = guard_floats(n);
        float *x = (float *)gx.p, *y = (float *)gy.p;
        fill(x, n, f);
        t->softcap(x, caps[c], y, n);
        for (int64_t i = 0; i < n; i++) {
          const double want = (double)caps[c] * tanh((double)x[i] / (double)caps[c]);
          close_to("softcap", f, n, i, y[i], want, 5e-7 * fabs(want) + 1e-37 * fmax(1.0, (double)caps[c]));
        }
        t->softcap(x, caps[c], x, n);
        same_floats("softcap in place", n, x, y, n);
        test_unguard(gx), test_unguard(gy);
      }
}

static void check_softmax(const pgg_kernels *t, const pgg_kernels *ref) {
  (void)ref;
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

static void check_finite(const pgg_kernels *t, const pgg_kernels *ref) {
  (void)ref;
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
    for (int64_t i = 0; i < n; i++) x[i] = i % 2 ? 65504.0f : -65504.0f;
    const float next = nextafterf(65504.0f, INFINITY);
    checks += 2;
    if (!t->below(x, next, n)) fail("below n %lld: values below the limit refused", (long long)n);
    if (t->below(x, 65504.0f, n)) fail("below n %lld: the limit itself taken", (long long)n);
    for (int64_t i = 0; i < n; i++) {
      const float keep = x[i];
      x[i] = i % 4 < 3 ? bad[i % 4] : -next;
      checks++;
      if (t->below(x, next, n)) fail("below n %lld: missed %g at %lld", (long long)n, (double)x[i], (long long)i);
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

/* Weights by grade, exactly the scalar level's and near to the true ones; places of values in a range. */
static void check_grades(const pgg_kernels *t, const pgg_kernels *ref) {
  for (int f = 0; f <= SMALL; f++)
    for (int l = 0; l < N_LENGTH; l++) {
      const int64_t n = lengths[l];
      guarded gx = guard_floats(n), gi = guard_floats(n);
      float *x = (float *)gx.p, top = -INFINITY;
      int32_t *ids = (int32_t *)(void *)gi.p;
      static double bins[PGG_GRADE_BINS + 1], bins_ref[PGG_GRADE_BINS + 1];
      fill(x, n, f);
      for (int64_t i = 0; i < n; i++) top = fmaxf(top, x[i]);
      if (n > 2) x[n / 2] = -INFINITY;
      if (n > 3) x[n / 3] = top; /* may have been the top */
      for (int wide = 0; wide < 2; wide++) {
        const pgg_grades how = {.top = top, .least = top - (wide ? 30 : 2), .per = wide ? 64 : 512, .by = 1.25f};
        double sum = 0, want = 0;
        memset(bins, 0, sizeof bins), memset(bins_ref, 0, sizeof bins_ref);
        t->grades(x, &how, bins, n), ref->grades(x, &how, bins_ref, n);
        checks++;
        if (memcmp(bins, bins_ref, sizeof bins)) fail("grades flavour %d n %lld: other bits", f, (long long)n);
        for (int g = 0; g < PGG_GRADE_BINS; g++) sum += bins[g] * exp(-g / (double)how.per * how.by);
        for (int64_t i = 0; i < n; i++)
          if (x[i] >= how.least) want += exp(((double)x[i] - top) * how.by);
        checks++;
        if (!(fabs(sum - want) <= 1e-8 * want))
          fail("grades flavour %d n %lld: %.10g, expected %.10g", f, (long long)n, sum, want);
        const float low = wide ? -0.7f : top - 0.25f, high = wide ? 0.1f : top;
        const int64_t found = t->find(x, low, high, ids, n);
        int64_t k = 0;
        for (int64_t i = 0; i < n; i++)
          if (x[i] >= low && x[i] <= high && (k >= found || ids[k++] != i)) k = n + 1;
        checks++;
        if (k != found) fail("find flavour %d n %lld: %lld found", f, (long long)n, (long long)found);
      }
      test_unguard(gx), test_unguard(gi);
    }
}

/* ---- rope, decoders ------------------------------------------------------------------------ */

static void check_rope(const pgg_kernels *t, const pgg_kernels *ref) {
  (void)ref;
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

/* check_attention holds these */
static void check_elsewhere(const pgg_kernels *t, const pgg_kernels *ref) { (void)t, (void)ref; }

#define CHECK_OF_rms_norm check_norm
#define CHECK_OF_layer_norm check_layer_norm
#define CHECK_OF_softcap check_softcap
#define CHECK_OF_add check_arithmetic
#define CHECK_OF_mul check_arithmetic
#define CHECK_OF_scale check_arithmetic
#define CHECK_OF_activate check_map
#define CHECK_OF_glu check_map
#define CHECK_OF_softmax check_softmax
#define CHECK_OF_conv check_conv
#define CHECK_OF_delta check_delta
#define CHECK_OF_scan check_scan
#define CHECK_OF_rope check_rope
#define CHECK_OF_kv_store check_elsewhere
#define CHECK_OF_kv_turn check_elsewhere
#define CHECK_OF_attn_scratch check_elsewhere
#define CHECK_OF_attention check_elsewhere
#define CHECK_OF_finite check_finite
#define CHECK_OF_below check_finite
#define CHECK_OF_tops check_choosing
#define CHECK_OF_weights check_choosing
#define CHECK_OF_find check_choosing
#define CHECK_OF_grades check_grades

static const struct {
  const char *name;
  size_t at;
  int count;
  void (*check)(const pgg_kernels *t, const pgg_kernels *ref);
} slots[] = {
#define SLOT(result, name, args) {#name, offsetof(pgg_kernels, name), 1, CHECK_OF_##name},
#define SLOTS(result, name, count, args) {#name, offsetof(pgg_kernels, name), count, CHECK_OF_##name},
#include "cpu/slots.def"
};
enum { N_SLOT = sizeof slots / sizeof slots[0] };

static void check_filled(const pgg_kernels *t) {
  checks++;
  if (strcmp(t->isa, level_name) != 0) fail("table is named %s", t->isa);
  for (int i = 0; i < N_SLOT; i++)
    for (int j = 0; j < slots[i].count; j++) {
      void (*slot)(void);
      memcpy(&slot, (const char *)t + slots[i].at + (size_t)j * sizeof slot, sizeof slot);
      if (!slot) fail("slot %s %d is empty", slots[i].name, j);
    }
}

/* Each check once, however many slots it holds. */
static void check_slots(const pgg_kernels *t, const pgg_kernels *ref) {
  for (int i = 0; i < N_SLOT; i++) {
    int before = 0;
    while (slots[before].check != slots[i].check) before++;
    if (before == i) slots[i].check(t, ref);
  }
}

static int check_level(const char *name) {
  const pgg_kernels *t = pgg_kernels_level(name), *ref = pgg_kernels_level("scalar");
  const int before = failures;
  if (!t) return 0;
  level_name = name, seed = 1;
  check_filled(t);
  if (failures > before) return 1;
  check_slots(t, ref);
  check_decode(t);
  printf("%s: %s\n", name, failures == before ? "ok" : "FAILED");
  return 1;
}

/* ---- rates --------------------------------------------------------------------------------------------- */

static void bench_level(const pgg_kernels *t) {
  static const struct {
    const char *name;
    int which;
  } rates[] = {{"rms_norm", 0}, {"softmax", 1}, {"silu", 2}, {"gelu", 3}, {"gelu_erf", 4}, {"glu", 5}};
  enum { N = 4096 };
  float *x = malloc(N * 4), *y = malloc(N * 4), *w = malloc(N * 4);
  fill(x, N, PLAIN), fill(w, N, PLAIN);
  for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
    double best = 1e9;
    for (int r = 0; r < 9; r++) {
      const double from = now();
      for (int rep = 0; rep < 20; rep++) {
        if (rates[i].which == 0) t->rms_norm(x, w, y, N, 1e-6f);
        if (rates[i].which == 1) t->softmax(x, y, N);
        if (rates[i].which == 2) t->activate[PGG_ACTIVATION_SILU](x, y, N);
        if (rates[i].which == 3) t->activate[PGG_ACTIVATION_GELU](x, y, N);
        if (rates[i].which == 4) t->activate[PGG_ACTIVATION_GELU_ERF](x, y, N);
        if (rates[i].which == 5) t->glu[PGG_ACTIVATION_SILU](x, w, y, N);
      }
      best = fmin(best, (now() - from) / 20);
    }
    printf("%-8s %-9s %6.2f Gvalue/s\n", t->isa, rates[i].name, 1e-9 * N / best);
  }
  free(x), free(y), free(w);
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
