/* For check_rows: the selective state space against doubles, and the same bits with rows and tokens cut anywhere. */
#ifndef CHECK_SCAN_H
#define CHECK_SCAN_H
#include "values.h"

enum { S_K = 150, S_V = 7, S_HEADS = 3, S_ROWS = S_V * S_HEADS, S_N = 40 };

typedef struct scan_case {
  guarded x, b, c, dt, a, bias, d, state, y;
  double want[S_N * S_ROWS], end[S_ROWS * S_K], size;
} scan_case;

static inline float *scan_floats(guarded g) { return (float *)(void *)g.p; }

static inline pgg_scan scan_job(const scan_case *it, int64_t n, int64_t k_dim, int64_t v_dim, int each, int has_d) {
  pgg_scan job = {.x = scan_floats(it->x), .b = scan_floats(it->b), .c = scan_floats(it->c), .dt = scan_floats(it->dt)};
  job.x_stride = S_HEADS * v_dim + 1, job.b_stride = k_dim + 2, job.c_stride = k_dim + 3, job.dt_stride = S_HEADS + 1;
  job.n = n, job.k_dim = k_dim, job.v_dim = v_dim, job.rows = S_HEADS * v_dim, job.skip = 0, job.each = each;
  job.a = scan_floats(it->a), job.bias = scan_floats(it->bias), job.d = has_d ? scan_floats(it->d) : NULL;
  job.before = job.after = scan_floats(it->state), job.y = scan_floats(it->y), job.y_stride = S_HEADS * v_dim + 4;
  return job;
}

static inline void scan_truth(scan_case *it, const pgg_scan *job) {
  double *s = it->end;
  it->size = 0;
  for (int64_t i = 0; i < job->rows * job->k_dim; i++) s[i] = job->before[i];
  for (int64_t t = 0; t < job->n; t++)
    for (int64_t r = 0; r < job->rows; r++) {
      const int64_t h = r / job->v_dim;
      const double raw = (double)job->dt[t * job->dt_stride + h] + job->bias[h];
      const double step = raw > 30 ? raw : log1p(exp(raw)), x = job->x[t * job->x_stride + r];
      double y = job->d ? x * job->d[h] : 0, size = fabs(y);
      for (int64_t i = 0; i < job->k_dim; i++) {
        double *at = &s[r * job->k_dim + i];
        *at = *at * exp(step * job->a[job->each ? h * job->k_dim + i : h]) + step * x * job->b[t * job->b_stride + i];
        y += *at * job->c[t * job->c_stride + i];
        size += fabs(*at * job->c[t * job->c_stride + i]);
      }
      it->want[t * job->rows + r] = y;
      it->size = fmax(it->size, size);
    }
}

static inline void check_scan_case(const pgg_kernels *t, int64_t n, int64_t k_dim, int64_t v_dim, int each, int f,
                                   float a) {
  const int64_t rows = S_HEADS * v_dim, n_a = S_HEADS * (each ? k_dim : 1), has_d = f != SMALL;
  scan_case it = {.x = guard_floats((n - 1) * (rows + 1) + rows), .b = guard_floats((n - 1) * (k_dim + 2) + k_dim)};
  it.c = guard_floats((n - 1) * (k_dim + 3) + k_dim), it.dt = guard_floats((n - 1) * (S_HEADS + 1) + S_HEADS);
  it.a = guard_floats(n_a), it.bias = guard_floats(S_HEADS), it.d = guard_floats(S_HEADS);
  it.state = guard_floats(rows * k_dim), it.y = guard_floats((n - 1) * (rows + 4) + rows);
  static float before[S_ROWS * S_K], ys[S_N * (S_ROWS + 4)], other[S_ROWS * S_K];
  const size_t state_bytes = (size_t)(rows * k_dim) * sizeof(float);
  const size_t y_bytes = (size_t)((n - 1) * (rows + 4) + rows) * sizeof(float);
  fill(scan_floats(it.x), (n - 1) * (rows + 1) + rows, f),
      fill(scan_floats(it.b), (n - 1) * (k_dim + 2) + k_dim, PLAIN);
  fill(scan_floats(it.c), (n - 1) * (k_dim + 3) + k_dim, PLAIN), fill(before, S_ROWS * S_K, PLAIN);
  for (int64_t i = 0; i < (n - 1) * (S_HEADS + 1) + S_HEADS; i++) scan_floats(it.dt)[i] = uniform(-30.0f, 30.0f);
  for (int64_t i = 0; i < n_a; i++) scan_floats(it.a)[i] = a * uniform(0.5f, 1.5f);
  fill(scan_floats(it.bias), S_HEADS, PLAIN), fill(scan_floats(it.d), S_HEADS, PLAIN);
  memcpy(it.state.p, before, state_bytes), memset(it.y.p, 0, y_bytes);
  const pgg_scan job = scan_job(&it, n, k_dim, v_dim, each, (int)has_d);
  scan_truth(&it, &job);
  t->scan(&job);
  for (int64_t r = 0; r < n; r++)
    for (int64_t c = 0; c < rows; c++)
      close_to("scan", f, n, r * rows + c, job.y[r * job.y_stride + c], it.want[r * rows + c], 4e-6 * it.size + 1e-30);
  for (int64_t i = 0; i < rows * k_dim; i++)
    close_to("state of scan", f, n, i, job.after[i], it.end[i], 4e-6 * it.size + 1e-30);
  memcpy(ys, it.y.p, y_bytes), memcpy(other, it.state.p, state_bytes);
  memset(it.y.p, 0, y_bytes);
  for (int64_t r = 0, more; r < rows; r += more) {
    more = pgg_min_i64(rows - r, 1 + bits32() % 9);
    for (int64_t at = 0, some; at < n; at += some) {
      pgg_scan part = scan_job(&it, some = pgg_min_i64(n - at, 1 + bits32() % 20), k_dim, v_dim, each, (int)has_d);
      const int64_t h = r / v_dim;
      part.x += at * part.x_stride + r, part.b += at * part.b_stride, part.c += at * part.c_stride;
      part.dt += at * part.dt_stride + h, part.a += h * (each ? k_dim : 1), part.bias += h,
          part.y += at * part.y_stride + r;
      part.d = part.d ? part.d + h : NULL, part.skip = r % v_dim, part.rows = more;
      part.before = (at ? part.after : before) + r * k_dim, part.after += r * k_dim;
      t->scan(&part);
    }
  }
  checks++;
  if (memcmp(ys, it.y.p, y_bytes) || memcmp(other, it.state.p, state_bytes))
    fail("scan of %lld tokens, %lld x %lld in pieces: other bits", (long long)n, (long long)v_dim, (long long)k_dim);
  test_unguard(it.x), test_unguard(it.b), test_unguard(it.c), test_unguard(it.dt), test_unguard(it.a);
  test_unguard(it.bias), test_unguard(it.d), test_unguard(it.state), test_unguard(it.y);
}

static inline void check_scan(const pgg_kernels *t, const pgg_kernels *ref) {
  static const int tokens[] = {1, 2, S_N}, keys[] = {1, 7, 16, 33, 128, S_K}, values[] = {1, 4, S_V};
  (void)ref;
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 6; j++)
      for (int k = 0; k < 3; k++)
        for (int each = 0; each < 2; each++) {
          check_scan_case(t, tokens[i], keys[j], values[k], each, PLAIN, -0.02f);
          check_scan_case(t, tokens[i], keys[j], values[k], each, k % 2 ? SMALL : ZEROS, -9.0f);
        }
}

#endif
