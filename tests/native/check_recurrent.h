/* For check_rows: the float slots that go over several positions, against references in doubles. */
#ifndef CHECK_RECURRENT_H
#define CHECK_RECURRENT_H
#include "values.h"

/* With rows that are missing, and in place of the newest one. */
static inline void check_conv(const pgg_kernels *t, const pgg_kernels *ref) {
  enum { MOST = 5 };
  (void)ref;
  for (int f = 0; f < N_FLAVOUR; f++)
    for (int l = 0; l < N_LENGTH; l++)
      for (int taps = 2; taps <= MOST; taps++) {
        const int64_t n = lengths[l], stride = n + taps % 3;
        guarded gx = guard_floats(n * taps), gw = guard_floats(stride * (taps - 1) + n), gb = guard_floats(n);
        guarded gy = guard_floats(n);
        float *x = (float *)gx.p, *w = (float *)gw.p, *bias = (float *)gb.p, *y = (float *)gy.p;
        const float *rows[MOST];
        fill(x, n * taps, f), fill(w, stride * (taps - 1) + n, PLAIN), fill(bias, n, PLAIN);
        for (int missing = 0; missing <= taps; missing++) {
          const float *b = missing % 2 ? bias : NULL;
          for (int j = 0; j < taps; j++) rows[j] = j < missing ? NULL : x + j * n;
          t->conv(rows, w, stride, taps, b, y, n);
          for (int64_t i = 0; i < n; i++) {
            double want = b ? (double)b[i] : 0, size = fabs(want);
            for (int j = missing; j < taps; j++) {
              want += (double)w[j * stride + i] * x[j * n + i];
              size += fabs((double)w[j * stride + i] * x[j * n + i]);
            }
            if (fabs(size) > 0.1 * FLT_MAX && !isnan(want)) continue; /* a sum on the way may be beyond a float */
            close_to("conv", f, n, i, y[i], want, 6e-7 * size + 1e-44);
          }
          if (missing == taps) continue;
          t->conv(rows, w, stride, taps, b, x + (taps - 1) * n, n);
          same_floats("conv in place", n, x + (taps - 1) * n, y, n);
          fill(x + (taps - 1) * n, n, f);
        }
        test_unguard(gx), test_unguard(gw), test_unguard(gb), test_unguard(gy);
      }
}

/* ---- the gated delta rule ------------------------------------------------------------------------------- */

enum { D_K = 19, D_COLS = 150, D_WIDE = D_COLS + 3, D_N = 70, D_HEADS = 2 }; /* heads side by side, one is computed */

/* Everything that a job reads and writes; each buffer ends with what the job may touch. */
typedef struct delta_case {
  guarded q, k, v, alpha, beta, state, y;
  double want[D_N * D_COLS], end[D_K * D_COLS], size;
} delta_case;

static inline float *floats_of(guarded g) { return (float *)(void *)g.p; }

/* Keys and queries of length 1, as models have them: others make the states grow. */
static inline void fill_units(float *x, int64_t rows, int64_t stride, int64_t n) {
  fill(x, (rows - 1) * stride + n, PLAIN);
  for (int64_t r = 0; r < rows; r++) {
    double total = 1e-6;
    for (int64_t i = 0; i < n; i++) total += (double)x[r * stride + i] * x[r * stride + i];
    for (int64_t i = 0; i < n; i++) x[r * stride + i] /= (float)sqrt(total);
  }
}

static inline pgg_delta delta_job(const delta_case *it, int64_t n, int64_t k_dim, int64_t cols, float a) {
  pgg_delta job = {.q = floats_of(it->q), .k = floats_of(it->k), .v = floats_of(it->v), .alpha = floats_of(it->alpha)};
  job.beta = floats_of(it->beta), job.y = floats_of(it->y), job.before = job.after = floats_of(it->state);
  job.q_stride = job.k_stride = k_dim + 2, job.v_stride = cols + 1, job.y_stride = cols + 5;
  job.alpha_stride = job.beta_stride = D_HEADS, job.state_stride = D_WIDE;
  job.n = n, job.k_dim = k_dim, job.cols = cols, job.a = a, job.dt = 0.3f, job.scale = 0.7f;
  return job;
}

static inline void delta_truth(delta_case *it, const pgg_delta *job) {
  double *s = it->end;
  it->size = 0;
  for (int64_t i = 0; i < job->k_dim; i++)
    for (int64_t c = 0; c < job->cols; c++) {
      s[i * job->cols + c] = job->before[i * job->state_stride + c];
      it->size = fmax(it->size, fabs(s[i * job->cols + c]));
    }
  for (int64_t t = 0; t < job->n; t++) {
    const double x = (double)job->alpha[t * job->alpha_stride] + job->dt;
    const double decay = exp(job->a * (x > 30 ? x : log1p(exp(x))));
    const double share = 1 / (1 + exp(-(double)job->beta[t * job->beta_stride]));
    for (int64_t c = 0; c < job->cols; c++) {
      double d = job->v[t * job->v_stride + c], y = 0;
      for (int64_t i = 0; i < job->k_dim; i++) d -= decay * s[i * job->cols + c] * job->k[t * job->k_stride + i];
      for (int64_t i = 0; i < job->k_dim; i++) {
        s[i * job->cols + c] = s[i * job->cols + c] * decay + share * d * job->k[t * job->k_stride + i];
        y += s[i * job->cols + c] * job->q[t * job->q_stride + i];
        it->size = fmax(it->size, fabs(s[i * job->cols + c]));
      }
      it->want[t * job->cols + c] = y * job->scale;
    }
  }
}

/* Against doubles; then the same bits with columns and tokens cut anywhere, and from one memory into another. */
static inline void check_delta_case(const pgg_kernels *t, int64_t n, int64_t k_dim, int64_t cols, int f, float a) {
  delta_case it = {.q = guard_floats((n - 1) * (k_dim + 2) + k_dim), .k = guard_floats((n - 1) * (k_dim + 2) + k_dim)};
  it.v = guard_floats((n - 1) * (cols + 1) + cols), it.y = guard_floats((n - 1) * (cols + 5) + cols);
  it.alpha = guard_floats((n - 1) * D_HEADS + 1), it.beta = guard_floats((n - 1) * D_HEADS + 1);
  it.state = guard_floats((k_dim - 1) * D_WIDE + cols);
  static float before[D_K * D_WIDE], ys[D_N * (D_COLS + 5)], other[D_K * D_WIDE];
  const size_t state_bytes = (size_t)((k_dim - 1) * D_WIDE + cols) * sizeof(float);
  const size_t y_bytes = (size_t)((n - 1) * (cols + 5) + cols) * sizeof(float);
  fill_units(floats_of(it.q), n, k_dim + 2, k_dim), fill_units(floats_of(it.k), n, k_dim + 2, k_dim);
  fill(floats_of(it.v), (n - 1) * (cols + 1) + cols, f);
  fill(floats_of(it.alpha), (n - 1) * D_HEADS + 1, WIDE), fill(floats_of(it.beta), (n - 1) * D_HEADS + 1, WIDE);
  fill(before, D_K * D_WIDE, PLAIN);
  memcpy(it.state.p, before, state_bytes), memset(it.y.p, 0, y_bytes);
  const pgg_delta job = delta_job(&it, n, k_dim, cols, a);
  delta_truth(&it, &job);
  t->delta(&job);
  for (int64_t r = 0; r < n; r++)
    for (int64_t c = 0; c < cols; c++)
      close_to("delta", f, n, r * cols + c, job.y[r * job.y_stride + c], it.want[r * cols + c], 4e-6 * it.size + 1e-30);
  for (int64_t i = 0; i < k_dim; i++)
    for (int64_t c = 0; c < cols; c++)
      close_to("state of delta", f, n, i * cols + c, job.after[i * D_WIDE + c], it.end[i * cols + c],
               4e-6 * it.size + 1e-30);
  memcpy(ys, it.y.p, y_bytes), memcpy(other, it.state.p, state_bytes);
  memset(it.y.p, 0, y_bytes);
  for (int64_t c = 0, more; c < cols; c += more) {
    more = pgg_min_i64(cols - c, 1 + bits32() % 40);
    for (int64_t at = 0, some; at < n; at += some) {
      pgg_delta part = delta_job(&it, some = pgg_min_i64(n - at, 1 + bits32() % 66), k_dim, cols, a);
      part.q += at * part.q_stride, part.k += at * part.k_stride, part.v += at * part.v_stride + c;
      part.alpha += at * part.alpha_stride, part.beta += at * part.beta_stride, part.y += at * part.y_stride + c;
      part.before = (at ? part.after : before) + c, part.after += c, part.cols = more;
      t->delta(&part);
    }
  }
  checks++;
  if (memcmp(ys, it.y.p, y_bytes) || memcmp(other, it.state.p, state_bytes))
    fail("delta of %lld tokens, %lld columns in pieces: other bits", (long long)n, (long long)cols);
  test_unguard(it.q), test_unguard(it.k), test_unguard(it.v), test_unguard(it.alpha), test_unguard(it.beta);
  test_unguard(it.state), test_unguard(it.y);
}

static inline void check_delta(const pgg_kernels *t, const pgg_kernels *ref) {
  static const int tokens[] = {1, 2, 5, D_N}, keys[] = {1, 16, D_K}, cols[] = {1, 7, 16, 33, 64, 128, D_COLS};
  (void)ref;
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 3; j++)
      for (int k = 0; k < 7; k++) {
        check_delta_case(t, tokens[i], keys[j], cols[k], PLAIN, -0.02f);
        check_delta_case(t, tokens[i], keys[j], cols[k], k % 2 ? SMALL : ZEROS, k % 2 ? -3.0f : 0.0f);
      }
}

#endif
