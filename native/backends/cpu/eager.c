/* Products without a plan: pgg_matmul, and the row-by-row product for callers with loops of their own. */
#include <math.h>
#include <string.h>

#include "backends/cpu/cpu.h"
#include "base/memory.h"
#include "base/threads.h"

#define SMALL_MACS 1000000 /* not worth a second thread */
#define FEW_ROWS 8         /* so many are multiplied as decode rows are; nothing here says of what kind rows are */

static pgg_status judge_type(const char *what, int type, int64_t k) {
  const pgg_type_info *info = pgg_type_get(type);
  pgg_status status = pgg_init();
  if (status) return status;
  if (!info) return pgg_fail(PGG_ETYPE, "%s: there is no tensor type %d", what, type);
  if (!pgg_type_is_weight(type)) return pgg_fail(PGG_ETYPE, "%s: %s cannot be a weight", what, info->name);
  if (!pgg_kernels_get()->gemv[type])
    return pgg_fail(PGG_EUNSUPPORTED, "%s: the %s kernels have no product for %s", what, pgg_isa(), info->name);
  if (k < 1 || k % info->elems || k > (int64_t)1 << 40)
    return pgg_fail(PGG_ESHAPE, "%s: rows of %lld values do not fit %s, whose blocks hold %d", what, (long long)k,
                    info->name, info->elems);
  return PGG_OK;
}

typedef struct matmul_job {
  pgg_cpu_product product;
  const float *x;
  char *acts, *threads;
  size_t thread_bytes;
} matmul_job;

static void matmul_main(void *ctx, pgg_team *team, int ith, int nth) {
  matmul_job *job = ctx;
  const pgg_cpu_product *p = &job->product;
  int64_t t0, t1;
  pgg_team_range(p->n, 1, ith, nth, &t0, &t1);
  for (int64_t t = t0; t < t1; t++) {
    char *act = job->acts + (size_t)t * p->act_stride;
    const float *x = job->x + t * p->k;
    if (pgg_cpu_takes_blocks(p->type))
      p->kernels->act_encode(x, (pgg_act *)(void *)act, p->k);
    else
      memcpy(act, x, (size_t)p->k * sizeof(float));
  }
  pgg_team_barrier(team);
  if (p->panels) {
    pgg_cpu_pack(p, ith, nth);
    pgg_team_barrier(team);
  }
  pgg_cpu_multiply(p, job->threads + (size_t)ith * job->thread_bytes, ith, nth);
}

pgg_status pgg_matmul(int type, const void *w, const float *x, float *y, int64_t m, int64_t n, int64_t k,
                      int n_threads) {
  pgg_status status = judge_type("matmul", type, k);
  if (status) return status;
  if (m < 0 || n < 0)
    return pgg_fail(PGG_ESHAPE, "matmul: w is (%lld, %lld), x is (%lld, %lld)", (long long)m, (long long)k,
                    (long long)n, (long long)k);
  if (!m || !n) return PGG_OK;
  if (!w || !x || !y) return pgg_fail(PGG_EINVAL, "matmul: w, x or y is NULL");
  const pgg_kernels *kernels = pgg_kernels_get();
  pgg_cpu_tail tail = 0;
  matmul_job job = {.x = x};
  job.product = (pgg_cpu_product){.kernels = kernels,
                                  .type = type,
                                  .w = w,
                                  .row_bytes = pgg_row_bytes(type, k),
                                  .m = m,
                                  .n = n,
                                  .k = k,
                                  .decode = n <= FEW_ROWS,
                                  .act_stride = pgg_cpu_act_stride(type, k),
                                  .y = y,
                                  .y_stride = m,
                                  .tail = &tail};
  size_t acts, weights, results, threads;
  if (!pgg_mul_size(n, (int64_t)job.product.act_stride, &acts) || acts > SIZE_MAX / 8 ||
      !pgg_mul_size(m, (int64_t)job.product.row_bytes, &weights) || m > INT64_MAX / 4 ||
      !pgg_mul_size(n, m * 4, &results))
    return pgg_fail(PGG_ESHAPE, "matmul: w (%lld, %lld) and x (%lld, %lld) are larger than memory can be", (long long)m,
                    (long long)k, (long long)n, (long long)k);
  if (n_threads <= 0) n_threads = pgg_threads_default();
  if ((double)m * (double)n * (double)k < SMALL_MACS) n_threads = 1;
  acts = pgg_align_up(acts, PGG_ALIGN);
  size_t panels = pgg_align_up(pgg_cpu_panel_bytes(kernels, type, n, k, job.product.decode), PGG_ALIGN);
  job.thread_bytes = pgg_align_up(kernels->gemm_scratch(type, k), 4096);
  if (!pgg_mul_size(n_threads, (int64_t)job.thread_bytes, &threads) || threads > SIZE_MAX / 8)
    return pgg_fail(PGG_EINVAL, "matmul: %d threads need more scratch than memory can be", n_threads);
  const size_t bytes = acts + panels + threads;
  char *base = pgg_alloc(bytes);
  if (!base) return pgg_fail(PGG_ENOMEM, "matmul: the system refused %zu bytes of scratch", bytes);
  job.acts = base;
  job.product.acts = base;
  job.product.panels = panels ? base + acts : NULL;
  job.threads = base + acts + panels;
  status = pgg_team_run(n_threads, matmul_main, &job);
  pgg_free(base, bytes);
  return status;
}

size_t pgg_act_bytes(int type, int64_t k) {
  if (!pgg_type_is_weight(type) || k < 0 || k > (int64_t)1 << 40) return 0;
  return pgg_cpu_act_stride(type, k);
}

pgg_status pgg_act_prepare(int type, const float *x, void *act, int64_t k) {
  pgg_status status = judge_type("act_prepare", type, k);
  if (status) return status;
  if (!x || !act) return pgg_fail(PGG_EINVAL, "act_prepare: x or act is NULL");
  if ((uintptr_t)act % PGG_ALIGN) return pgg_fail(PGG_EINVAL, "act_prepare: act is not aligned to %d bytes", PGG_ALIGN);
  if (pgg_cpu_takes_blocks(type))
    pgg_kernels_get()->act_encode(x, act, k);
  else
    memcpy(act, x, (size_t)k * sizeof(float));
  return PGG_OK;
}

float pgg_dot(int type, const void *w_row, const void *act, int64_t k) {
  float y = NAN;
  if (type < 0 || type >= PGG_TYPE_LIMIT || pgg_init() || !pgg_kernels_get()->gemv[type]) return y;
  pgg_kernels_get()->gemv[type](w_row, pgg_row_bytes(type, k), act, &y, 1, k);
  return y;
}
