/* Matrices between floats and blocks, and from one type to another, rows shared by threads. What a type looks like is
 * quant/'s business. */
#include <math.h>
#include <stdatomic.h>

#include "base/threads.h"
#include "cpu/kernels.h"
#include "quant/quant.h"

/* Values that go from one type to another at once: they stay in the first cache. Every block divides it. */
enum { PIECE = 4096 };

typedef struct convert_job {
  const pgg_quant *quant, *source; /* source: requantize only */
  const pgg_kernels *kernels;
  const float *x; /* quantize: (rows, k) */
  float *out;     /* dequantize: (rows, k) */
  const char *blocks;
  char *blocks_out;
  const float *importance;
  size_t row_bytes, source_bytes; /* of a row */
  int64_t rows, k, bite;
  float limit;               /* quantize: every |x| must be less */
  _Atomic int64_t next, bad; /* bad: first row with a value that is not, rows if there is none */
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

static void encode_values(const convert_job *job, const float *x, char *out, int64_t k, const float *importance) {
  const int type = job->quant->info.id;
  (job->kernels->encode[type] ? job->kernels->encode[type] : job->quant->encode)(x, out, k, importance);
}

static void decode_values(const convert_job *job, const pgg_quant *quant, const char *blocks, float *out, int64_t k) {
  const int type = quant->info.id;
  (job->kernels->decode[type] ? job->kernels->decode[type] : quant->decode)(blocks, out, k);
}

static void encode_rows(void *ctx, pgg_team *team, int ith, int nth) {
  convert_job *job = ctx;
  (void)team, (void)ith, (void)nth;
  for (;;) {
    int64_t begin = atomic_fetch_add(&job->next, job->bite);
    if (begin >= job->rows) return;
    for (int64_t r = begin; r < pgg_min_i64(begin + job->bite, job->rows); r++) {
      const float *x = job->x + r * job->k;
      if (job->kernels->below(x, job->limit, job->k))
        encode_values(job, x, job->blocks_out + (size_t)r * job->row_bytes, job->k, job->importance);
      else
        note_bad(job, r);
    }
  }
}

static void decode_rows(void *ctx, pgg_team *team, int ith, int nth) {
  convert_job *job = ctx;
  (void)team, (void)ith, (void)nth;
  for (;;) {
    int64_t begin = atomic_fetch_add(&job->next, job->bite);
    if (begin >= job->rows) return;
    for (int64_t r = begin; r < pgg_min_i64(begin + job->bite, job->rows); r++)
      decode_values(job, job->quant, job->blocks + (size_t)r * job->row_bytes, job->out + r * job->k, job->k);
  }
}

/* Values [at, at + the return) of row r of the source as floats, whose bytes begin at *blocks. */
static int64_t source_piece(const convert_job *job, int64_t r, int64_t at, float *x) {
  const int64_t n = pgg_min_i64(PIECE, job->k - at);
  const char *blocks = job->blocks + (size_t)r * job->source_bytes;
  decode_values(job, job->source, blocks + at / job->source->info.elems * job->source->info.bytes, x, n);
  return n;
}

static void recode_rows(void *ctx, pgg_team *team, int ith, int nth) {
  convert_job *job = ctx;
  const pgg_type_info *to = &job->quant->info;
  float x[PIECE];
  (void)team, (void)ith, (void)nth;
  for (;;) {
    int64_t begin = atomic_fetch_add(&job->next, job->bite);
    if (begin >= job->rows) return;
    for (int64_t r = begin; r < pgg_min_i64(begin + job->bite, job->rows); r++) {
      char *out = job->blocks_out + (size_t)r * job->row_bytes;
      for (int64_t at = 0, n; at < job->k; at += n) {
        n = source_piece(job, r, at, x);
        if (job->kernels->below(x, job->limit, n))
          encode_values(job, x, out + at / to->elems * to->bytes, n, job->importance ? job->importance + at : NULL);
        else
          note_bad(job, r);
      }
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

static pgg_status judge_writing(const pgg_quant *to, const float *importance, int64_t k) {
  if (!to->encode) return pgg_fail(PGG_EUNSUPPORTED, "quantize: %s cannot be written, only read", to->info.name);
  for (int64_t c = 0; importance && c < k; c++)
    if (!(isfinite(importance[c]) && importance[c] >= 0))
      return pgg_fail(PGG_ENUMERIC, "quantize: importance of column %lld is %g, expected a finite number >= 0",
                      (long long)c, (double)importance[c]);
  return PGG_OK;
}

/* What is beyond a type's top, the next float. */
static float limit_of(const pgg_quant *to) { return nextafterf(to->top, INFINITY); }

static pgg_status refused(const pgg_quant *to, int64_t row, int64_t column, float value) {
  if (!isfinite(value))
    return pgg_fail(
        PGG_ENUMERIC,
        "quantize: the value at row %lld, column %lld is %g, expected a finite number: is the data damaged?",
        (long long)row, (long long)column, (double)value);
  return pgg_fail(
      PGG_ENUMERIC,
      "quantize: the value at row %lld, column %lld is %.9g, more than the %.9g that %s surely holds; use %s",
      (long long)row, (long long)column, (double)value, (double)to->top, to->info.name,
      to->info.id == PGG_BF16 ? "f32" : "bf16 or f32");
}

/* The first of n values that is not below a limit, n if there is none. */
static int64_t first_beyond(const float *x, float limit, int64_t n) {
  int64_t i = 0;
  while (i < n && fabsf(x[i]) < limit) i++;
  return i;
}

pgg_status pgg_quantize(int type, const float *x, void *y, int64_t rows, int64_t k, const float *importance,
                        int n_threads) {
  const pgg_quant *quant;
  pgg_status status = judge("quantize", type, rows, k, x, y, &quant);
  if (status || (status = pgg_init())) return status;
  if ((status = judge_writing(quant, importance, k))) return status;
  convert_job job = {.quant = quant,
                     .kernels = pgg_kernels_get(),
                     .x = x,
                     .blocks_out = y,
                     .importance = importance,
                     .row_bytes = pgg_row_bytes(type, k),
                     .rows = rows,
                     .k = k,
                     .limit = limit_of(quant)};
  atomic_store(&job.bad, rows);
  if ((status = pgg_team_run(plan_threads(&job, n_threads, 16384), encode_rows, &job))) return status;
  const int64_t bad = atomic_load(&job.bad);
  if (bad == rows) return PGG_OK;
  const int64_t c = first_beyond(x + bad * k, job.limit, k);
  return c < k ? refused(quant, bad, c, x[bad * k + c]) : pgg_fail(PGG_EINVAL, "quantize: x was changed meanwhile");
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

pgg_status pgg_requantize(int from_type, const void *x, int to_type, void *y, int64_t rows, int64_t k,
                          const float *importance, int n_threads) {
  const pgg_quant *source, *quant;
  pgg_status status = judge("requantize", from_type, rows, k, x, y, &source);
  if (status || (status = judge("requantize", to_type, rows, k, x, y, &quant)) || (status = pgg_init())) return status;
  if (!source->decode) return pgg_fail(PGG_EUNSUPPORTED, "requantize: %s has no decoding to floats", source->info.name);
  if ((status = judge_writing(quant, importance, k))) return status;
  convert_job job = {.quant = quant,
                     .source = source,
                     .kernels = pgg_kernels_get(),
                     .blocks = x,
                     .blocks_out = y,
                     .importance = importance,
                     .row_bytes = pgg_row_bytes(to_type, k),
                     .source_bytes = pgg_row_bytes(from_type, k),
                     .rows = rows,
                     .k = k,
                     .limit = limit_of(quant)};
  atomic_store(&job.bad, rows);
  if ((status = pgg_team_run(plan_threads(&job, n_threads, 16384), recode_rows, &job))) return status;
  const int64_t bad = atomic_load(&job.bad);
  float piece[PIECE];
  for (int64_t at = 0, n; bad < rows && at < k; at += n) {
    n = source_piece(&job, bad, at, piece);
    const int64_t i = first_beyond(piece, job.limit, n);
    if (i < n) return refused(quant, bad, at + i, piece[i]);
  }
  return bad < rows ? pgg_fail(PGG_EINVAL, "requantize: x was changed meanwhile") : PGG_OK;
}
