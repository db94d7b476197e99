/* The heads op: each head's run of columns times a matrix of its own. Work is cut into strips of weight rows, head
 * after head; a thread prepares the activations of the heads that its strips belong to for itself, so nobody waits. */
#include <string.h>

#include "backends/cpu/cpu.h"
#include "base/memory.h"
#include "base/threads.h"

#define STRIP 16 /* weight rows of a piece of work for decode rows: one cache line of results */

/* Where the parts of a thread's scratch lie, for n rows. */
typedef struct room {
  size_t act_stride, panels, gemm, bytes;
} room;

static room room_of(const pgg_kernels *kernels, const pgg_weight *w, int64_t n, bool decode) {
  room r = {.act_stride = pgg_cpu_act_stride(w->type, w->cols)};
  r.panels = pgg_align_up((size_t)n * r.act_stride, PGG_ALIGN);
  r.gemm = pgg_align_up(r.panels + pgg_cpu_panel_bytes(kernels, w->type, n, w->cols, decode), PGG_ALIGN);
  r.bytes = r.gemm + kernels->gemm_scratch(w->type, w->cols);
  return r;
}

static pgg_share share(const pgg_run *run, int op, int stage) {
  (void)run, (void)op;
  return stage > 0 ? PGG_SHARE_END : PGG_SHARE_ANY;
}

/* The run of head h of every row, as the products want it. */
static void prepare(const pgg_run *run, int src, int64_t h, const pgg_cpu_product *job, char *acts) {
  const float *x = pgg_run_data(run, src) + h * job->k;
  for (int64_t t = 0; t < job->n; t++, x += pgg_run_stride(run, src), acts += job->act_stride) {
    if (pgg_cpu_takes_blocks(job->type))
      job->kernels->act_encode(x, (pgg_act *)(void *)acts, job->k);
    else
      memcpy(acts, x, (size_t)job->k * sizeof *x);
  }
}

static void stage_of(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_plan *plan = run->plan;
  const pgg_plan_op_rec *rec = &plan->ops[op];
  const pgg_weight *w = &plan->weights[PGG_WEIGHT(&rec->op, heads, w)];
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  const int src = PGG_SRC(&rec->op, heads, x);
  const int64_t n_head = PGG_INT(&rec->op, heads, n_head), m = w->rows / n_head, n = pgg_run_rows(run, src);
  const int64_t grain = run->decode ? STRIP : scratch->kernels->gemm_rows, strips = (m + grain - 1) / grain;
  const room at = room_of(scratch->kernels, w, n, run->decode);
  char *own = scratch->base + scratch->threads + (size_t)run->ith * scratch->thread_bytes;
  int64_t begin, end;
  (void)stage;
  pgg_team_range(n_head * strips, 1, ith, nth, &begin, &end);
  while (begin < end) {
    const int64_t h = begin / strips, first = begin % strips, last = pgg_min_i64(strips, first + end - begin);
    const pgg_cpu_product job = {.kernels = scratch->kernels,
                                 .type = w->type,
                                 .w = (const char *)w->data + (size_t)(h * m) * w->row_bytes,
                                 .row_bytes = w->row_bytes,
                                 .m = m,
                                 .n = n,
                                 .k = w->cols,
                                 .decode = run->decode,
                                 .acts = own,
                                 .act_stride = at.act_stride,
                                 .panels = at.gemm > at.panels ? own + at.panels : NULL,
                                 .y = pgg_run_data(run, rec->node) + h * m,
                                 .y_stride = pgg_run_stride(run, rec->node)};
    prepare(run, src, h, &job, own);
    if (job.panels) pgg_cpu_pack(&job, 0, 1);
    pgg_cpu_multiply_rows(&job, own + at.gemm, first * grain, pgg_min_i64(last * grain, m));
    begin += last - first;
  }
}

static pgg_status judge(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels) {
  const pgg_weight *w = &plan->weights[PGG_WEIGHT(op, heads, w)];
  return pgg_cpu_judge_weight(op, w, kernels, "product", kernels->gemv[w->type] != NULL);
}

static void scratch_of(const pgg_segment *segment, int op, const pgg_kernels *kernels, pgg_cpu_needs *needs) {
  const pgg_plan *plan = segment->plan;
  const pgg_weight *w = &plan->weights[PGG_WEIGHT(&plan->ops[op].op, heads, w)];
  for (int decode = 0; decode < 2; decode++)
    pgg_cpu_need(&needs->own, room_of(kernels, w, plan->limits.n_batch, decode).bytes);
}

const pgg_cpu_kind pgg_cpu_kind_heads = {.share = share, .stage = stage_of, .judge = judge, .scratch = scratch_of};
