/* A matrix product over threads: weight rows are divided, a sum never is, so bits do not depend on their number.
 * Each thread walks a long run of rows of its own; the last eighth is handed out in small pieces, because threads are
 * never equally fast. */
#include "backends/cpu/cpu.h"
#include "base/memory.h"
#include "base/threads.h"

#define GEMV_GRAIN 16                 /* rows: one cache line of results */
#define GEMV_CHUNK ((size_t)32 << 10) /* bytes of weights that stay near while several tokens use them */

bool pgg_cpu_takes_blocks(int type) { return pgg_type_get(type)->kind == PGG_KIND_BLOCK; }

size_t pgg_cpu_act_stride(int type, int64_t k) {
  if (pgg_cpu_takes_blocks(type)) return (size_t)pgg_act_blocks(k) * sizeof(pgg_act);
  return pgg_align_up((size_t)k * sizeof(float), PGG_ALIGN);
}

bool pgg_cpu_uses_gemm(const pgg_kernels *kernels, int type, int64_t n) {
  return kernels->gemm[type] && n >= kernels->gemm_min_n[type];
}

bool pgg_cpu_uses_loose_panels(const pgg_kernels *kernels, int type, int64_t n) {
  return kernels->gemm[type] && kernels->pack_panel && n >= kernels->panel_min_n[type];
}

size_t pgg_cpu_panel_bytes(const pgg_kernels *kernels, int type, int64_t n, int64_t k) {
  if (!pgg_cpu_uses_gemm(kernels, type, n) || !kernels->panel_bytes) return 0;
  return kernels->panel_bytes(type, n, k);
}

size_t pgg_cpu_gemm_scratch(const pgg_kernels *kernels, int type, int64_t k) {
  return kernels->gemm[type] && kernels->gemm_scratch ? kernels->gemm_scratch(type, k) : 0;
}

void pgg_cpu_pack(const pgg_cpu_product *job, int ith, int nth) {
  const pgg_kernels *kernels = job->kernels;
  int64_t panels = (job->n + kernels->panel_tokens - 1) / kernels->panel_tokens, p0, p1;
  pgg_team_range(panels, 1, ith, nth, &p0, &p1);
  if (p0 < p1) kernels->pack_panels(job->type, job->acts, job->act_stride, job->n, job->k, p0, p1, job->panels);
}

static void by_gemv(const pgg_cpu_product *job, int64_t r0, int64_t r1) {
  const pgg_gemv_fn gemv = job->kernels->gemv[job->type];
  const pgg_gemm_fn many = job->kernels->gemv_many[job->type];
  const char *w = job->w, *acts = job->acts;
  int64_t step = r1 - r0;
  if (job->n > 1) { /* every token over a few rows at a time */
    step = (int64_t)(GEMV_CHUNK / job->row_bytes) / GEMV_GRAIN * GEMV_GRAIN;
    step = pgg_max_i64(step, GEMV_GRAIN);
  }
  for (int64_t r = r0; r < r1; r += step) {
    int64_t rows = pgg_min_i64(step, r1 - r);
    if (job->n > 1 && many) {
      const pgg_gemm some = {.w = w + (size_t)r * job->row_bytes,
                             .row_bytes = job->row_bytes,
                             .acts = acts,
                             .act_stride = job->act_stride,
                             .y = job->y + r,
                             .y_stride = job->y_stride,
                             .rows = rows,
                             .n = job->n,
                             .k = job->k};
      many(&some);
      continue;
    }
    for (int64_t t = 0; t < job->n; t++)
      gemv(w + (size_t)r * job->row_bytes, job->row_bytes, acts + (size_t)t * job->act_stride,
           job->y + t * job->y_stride + r, rows, job->k);
  }
}

static void by_gemm(const pgg_cpu_product *job, void *scratch, int64_t r0, int64_t r1) {
  pgg_gemm gemm = {.w = (const char *)job->w + (size_t)r0 * job->row_bytes,
                   .row_bytes = job->row_bytes,
                   .acts = job->acts,
                   .act_stride = job->act_stride,
                   .panels = job->panels,
                   .y = job->y + r0,
                   .y_stride = job->y_stride,
                   .rows = r1 - r0,
                   .n = job->n,
                   .k = job->k,
                   .scratch = scratch};
  job->kernels->gemm[job->type](&gemm);
}

static void some_rows(const pgg_cpu_product *job, void *scratch, bool gemm, int64_t r0, int64_t r1) {
  if (r0 >= r1) return;
  if (gemm)
    by_gemm(job, scratch, r0, r1);
  else
    by_gemv(job, r0, r1);
  if (!job->bias) return;
  for (int64_t t = 0; t < job->n; t++) {
    float *y = job->y + t * job->y_stride;
    for (int64_t r = r0; r < r1; r++) y[r] += job->bias[r];
  }
}

void pgg_cpu_multiply_rows(const pgg_cpu_product *job, void *scratch, int64_t r0, int64_t r1) {
  some_rows(job, scratch, pgg_cpu_uses_gemm(job->kernels, job->type, job->n), r0, r1);
}

void pgg_cpu_multiply(const pgg_cpu_product *job, void *scratch, int ith, int nth) {
  const bool gemm = pgg_cpu_uses_gemm(job->kernels, job->type, job->n);
  const int64_t grain = gemm ? job->kernels->gemm_rows : GEMV_GRAIN;
  if (nth == 1) {
    some_rows(job, scratch, gemm, 0, job->m);
    return;
  }
  const int64_t grains = (job->m + grain - 1) / grain;
  const int64_t each = grains * 7 / 8 / nth; /* of a thread for sure */
  const int64_t rest = each * nth;
  some_rows(job, scratch, gemm, ith * each * grain, pgg_min_i64((ith + 1) * each * grain, job->m));
  const int64_t bite = pgg_max_i64(1, (grains - rest) / (4 * nth));
  for (;;) {
    int64_t g = rest + atomic_fetch_add_explicit(job->tail, bite, memory_order_relaxed);
    if (g >= grains) return;
    some_rows(job, scratch, gemm, g * grain, pgg_min_i64((g + bite) * grain, job->m));
  }
}
