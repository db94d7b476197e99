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

/* How rows of a kind are multiplied: tiles and one row at a time take any number of them. */
typedef enum form { TILES, FEW, SINGLY } form;

static form form_of(const pgg_kernels *kernels, int type, int64_t n, bool decode) {
  if (!decode) return TILES;
  return n > 1 && kernels->few[type] ? FEW : SINGLY;
}

size_t pgg_cpu_panel_bytes(const pgg_kernels *kernels, int type, int64_t n, int64_t k, bool decode) {
  switch (form_of(kernels, type, n, decode)) {
    case TILES: return kernels->panel_bytes(type, n, k);
    case FEW: return kernels->few_bytes(type, n, k);
    default: return 0;
  }
}

void pgg_cpu_pack(const pgg_cpu_product *job, int ith, int nth) {
  const pgg_kernels *kernels = job->kernels;
  const int64_t each = job->decode ? 1 : kernels->panel_tokens;
  int64_t p0, p1;
  pgg_team_range((job->n + each - 1) / each, 1, ith, nth, &p0, &p1);
  if (p0 >= p1) return;
  if (job->decode)
    kernels->pack_few(job->type, job->acts, job->act_stride, job->n, job->k, p0, p1, job->panels);
  else
    kernels->pack_panels(job->type, job->acts, job->act_stride, job->n, job->k, p0, p1, job->panels);
}

static void by_gemv(const pgg_cpu_product *job, int64_t r0, int64_t r1) {
  for (int64_t t = 0; t < job->n; t++)
    job->kernels->gemv[job->type]((const char *)job->w + (size_t)r0 * job->row_bytes, job->row_bytes,
                                  (const char *)job->acts + (size_t)t * job->act_stride,
                                  job->y + t * job->y_stride + r0, r1 - r0, job->k);
}

static void by_slot(const pgg_cpu_product *job, pgg_gemm_fn slot, void *scratch, int64_t r0, int64_t r1) {
  const pgg_gemm gemm = {.w = (const char *)job->w + (size_t)r0 * job->row_bytes,
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
  slot(&gemm);
}

static void some_rows(const pgg_cpu_product *job, void *scratch, int64_t r0, int64_t r1) {
  const form how = form_of(job->kernels, job->type, job->n, job->decode);
  int64_t step = r1 - r0;
  if (r0 >= r1) return;
  if (job->decode && job->n > 1 && !job->panels) { /* every token over a few rows at a time */
    step = (int64_t)(GEMV_CHUNK / job->row_bytes) / GEMV_GRAIN * GEMV_GRAIN;
    step = pgg_max_i64(step, GEMV_GRAIN);
  }
  for (int64_t r = r0; r < r1; r += step) {
    const int64_t end = pgg_min_i64(r + step, r1);
    if (how == SINGLY)
      by_gemv(job, r, end);
    else
      by_slot(job, how == TILES ? job->kernels->gemm[job->type] : job->kernels->few[job->type], scratch, r, end);
  }
  if (!job->bias) return;
  for (int64_t t = 0; t < job->n; t++) {
    float *y = job->y + t * job->y_stride;
    for (int64_t r = r0; r < r1; r++) y[r] += job->bias[r];
  }
}

void pgg_cpu_multiply_rows(const pgg_cpu_product *job, void *scratch, int64_t r0, int64_t r1) {
  some_rows(job, scratch, r0, r1);
}

void pgg_cpu_multiply(const pgg_cpu_product *job, void *scratch, int ith, int nth) {
  const int64_t grain = job->decode ? GEMV_GRAIN : job->kernels->gemm_rows;
  if (nth == 1) {
    some_rows(job, scratch, 0, job->m);
    return;
  }
  const int64_t grains = (job->m + grain - 1) / grain;
  const int64_t each = grains * 7 / 8 / nth; /* of a thread for sure */
  const int64_t rest = each * nth;
  some_rows(job, scratch, ith * each * grain, pgg_min_i64((ith + 1) * each * grain, job->m));
  const int64_t bite = pgg_max_i64(1, (grains - rest) / (4 * nth));
  for (;;) {
    int64_t g = rest + atomic_fetch_add_explicit(job->tail, bite, memory_order_relaxed);
    if (g >= grains) return;
    some_rows(job, scratch, g * grain, pgg_min_i64((g + bite) * grain, job->m));
  }
}
