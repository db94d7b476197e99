/* Matrices between floats and blocks, rows shared by threads. What a type looks like is quant/'s business. */
#include <math.h>
#include <stdatomic.h>

#include "base/threads.h"
#include "cpu/kernels.h"
#include "quant/quant.h"

typedef struct convert_job {
  const pgg_quant *quant;
  const pgg_kernels *kernels;
  const float *x; /* quantize: (rows, k) */
  float *out;     /* dequantize: (rows, k) */
  const char *blocks;
  char *blocks_out;
  const float *importance;
  size_t row_bytes;
  int64_t rows, k, bite;
  _Atomic int64_t next, bad; /* bad: first row with a value that is none, rows if there is none */
} convert_job;

static pgg_status judge(const char *what, int type, int64_t rows, int64_t k, const void *a, const void *b,
                        const pgg_quant **quant) {
  const pgg_quant *q = *quant = pgg_quant_get(type);
  size_t bytes;
  if (!q) return pgg_fail(PGG_ETYPE, "%s: there is no tensor type %d", what, type);
  if (rows < 0 || k < 0) return pgg_fail(PGG_ESHAPE, "%s: shape (%lld, %lld)", what, (long long)rows, (long long)k);
  if (k % q->info.elems)
    return pgg_fail(PGG_ESHAPE, "%s: rows of %lld values do not fit %s, whose blocks hold %d", what, (long long)k,
                    q->info.name, q->info.elems);
  size_t row_bytes = pgg_row_bytes(type, k);
  if ((k && !row_bytes) || row_bytes > INT64_MAX || !pgg_mul_size(rows, (int64_t)row_bytes, &bytes) ||
      k > INT64_MAX / 4 || !pgg_mul_size(rows, k * 4, &bytes))
    return pgg_fail(PGG_ESHAPE, "%s: shape (%lld, %lld) is larger than memory can be", what, (long long)rows,
                    (long long)k);
  if (rows && k && (!a || !b)) return pgg_fail(PGG_EINVAL, "%s: x or y is NULL", what);
  return PGG_OK;
}

static void note_bad(convert_job *job, int64_t row) {
  int64_t seen = atomic_load(&job->bad);
  while (row < seen && !atomic_compare_exchange_weak(&job->bad, &seen, row)) {}
}

static void encode_rows(void *ctx, pgg_team *team, int ith, int nth) {
  convert_job *job = ctx;
  const int type = job->quant->info.id;
  (void)team, (void)ith, (void)nth;
  for (;;) {
    int64_t begin = atomic_fetch_add(&job->next, job->bite);
    if (begin >= job->rows) return;
    for (int64_t r = begin; r < pgg_min_i64(begin + job->bite, job->rows); r++) {
      const float *x = job->x + r * job->k;
      if (job->kernels->finite(x, job->k))
        (job->kernels->encode[type] ? job->kernels->encode[type] : job->quant->encode)(
            x, job->blocks_out + (size_t)r * job->row_bytes, job->k, job->importance);
      else
        note_bad(job, r);
    }
  }
}

static void decode_rows(void *ctx, pgg_team *team, int ith, int nth) {
  convert_job *job = ctx;
  const int type = job->quant->info.id;
  (void)team, (void)ith, (void)nth;
  for (;;) {
    int64_t begin = atomic_fetch_add(&job->next, job->bite);
    if (begin >= job->rows) return;
    for (int64_t r = begin; r < pgg_min_i64(begin + job->bite, job->rows); r++) {
      const char *row = job->blocks + (size_t)r * job->row_bytes;
      if (job->kernels->decode[type])
        job->kernels->decode[type](row, job->out + r * job->k, job->k);
      else
        job->quant->decode(row, job->out + r * job->k, job->k);
    }
  }
}

/* Rows a thread takes at once, and threads worth starting. */
static int plan_threads(convert_job *job, int n_threads, int64_t values_each) {
  if (n_threads <= 0) n_threads = pgg_threads_default();
  job->bite = pgg_max_i64(1, 16384 / pgg_max_i64(job->k, 1));
  int64_t worth = job->rows * job->k / values_each;
  return worth < 2 ? 1 : (int)pgg_min_i64(worth, n_threads);
}

pgg_status pgg_quantize(int type, const float *x, void *y, int64_t rows, int64_t k, const float *importance,
                        int n_threads) {
  const pgg_quant *quant;
  pgg_status status = judge("quantize", type, rows, k, x, y, &quant);
  if (status || (status = pgg_init())) return status;
  if (!quant->encode) return pgg_fail(PGG_EUNSUPPORTED, "quantize: %s cannot be written, only read", quant->info.name);
  for (int64_t c = 0; importance && c < k; c++)
    if (!(isfinite(importance[c]) && importance[c] >= 0))
      return pgg_fail(PGG_ENUMERIC, "quantize: importance of column %lld is %g, expected a finite number >= 0",
                      (long long)c, (double)importance[c]);
  convert_job job = {.quant = quant,
                     .kernels = pgg_kernels_get(),
                     .x = x,
                     .blocks_out = y,
                     .importance = importance,
                     .row_bytes = pgg_row_bytes(type, k),
                     .rows = rows,
                     .k = k};
  atomic_store(&job.bad, rows);
  if ((status = pgg_team_run(plan_threads(&job, n_threads, 16384), encode_rows, &job))) return status;
  const int64_t bad = atomic_load(&job.bad);
  if (bad == rows) return PGG_OK;
  int64_t c = 0;
  while (c < k - 1 && isfinite(x[bad * k + c])) c++;
  return pgg_fail(PGG_ENUMERIC, "quantize: the value at row %lld, column %lld is %g, expected a finite number",
                  (long long)bad, (long long)c, (double)x[bad * k + c]);
}

pgg_status pgg_dequantize(int type, const void *x, float *y, int64_t rows, int64_t k, int n_threads) {
  const pgg_quant *quant;
  pgg_status status = judge("dequantize", type, rows, k, x, y, &quant);
  if (status || (status = pgg_init())) return status;
  if (!quant->decode) return pgg_fail(PGG_EUNSUPPORTED, "dequantize: %s has no decoding to floats", quant->info.name);
  convert_job job = {.quant = quant,
                     .kernels = pgg_kernels_get(),
                     .out = y,
                     .blocks = x,
                     .row_bytes = pgg_row_bytes(type, k),
                     .rows = rows,
                     .k = k};
  return pgg_team_run(plan_threads(&job, n_threads, 262144), decode_rows, &job);
}
