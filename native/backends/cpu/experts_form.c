/* The experts op before it runs: which of its sizes memory can hold, how much scratch it needs, and where the parts
 * lie. Sizes only grow with the number of rows, so a layout made for fewer rows fits where the largest was reserved. */
#include "backends/cpu/experts.h"

#include "base/memory.h"

#define CHUNK_PANELS 20   /* panels of a piece of work: the unpacking of a strip of weights is paid once for them */
#define MOST_BYTES 0x1p56 /* more than any machine has, and sums of it fit size_t */

/* Which weight holds gate (0), up (1), down (2); up may lie behind gate in one. */
static int weight_of(const pgg_op *op, int side) {
  return side == 1 && op->weight[1] < 0 ? op->weight[0] : op->weight[side];
}

bool pgg_experts_encodes(const pgg_plan *plan, const pgg_op *op) {
  return pgg_cpu_takes_blocks(plan->weights[weight_of(op, 0)].type) ||
         pgg_cpu_takes_blocks(plan->weights[weight_of(op, 1)].type);
}

pgg_experts pgg_experts_of(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels, int64_t n, bool decode) {
  pgg_experts x = {
      .kernels = kernels, .n = n, .n_expert = PGG_INT(op, experts, n_expert), .act = (int)PGG_INT(op, experts, act)};
  const int biases[3] = {PGG_WEIGHT(op, experts, gate_bias), PGG_WEIGHT(op, experts, up_bias),
                         PGG_WEIGHT(op, experts, down_bias)};
  x.n_used = plan->nodes[PGG_SRC(op, experts, routing)].cols / 2;
  x.pairs = n * x.n_used;
  x.plain = PGG_INT(op, experts, plain) != 0;
  x.early = PGG_INT(op, experts, early) != 0;
  x.single = decode && n == 1;
  x.tokens = kernels->panel_tokens > 0 ? kernels->panel_tokens : 1;
  x.chunk = CHUNK_PANELS * x.tokens;
  for (int i = 0; i < 3; i++) {
    pgg_experts_side *side = &x.side[i];
    side->w = &plan->weights[weight_of(op, i)];
    side->rows = side->step = side->w->rows / x.n_expert;
    if (i < 2 && op->weight[1] < 0 && !x.plain) {
      side->rows /= 2;
      side->begin = i * side->rows;
    }
    side->bias = pgg_plan_vec(plan, biases[i]);
    side->stride = pgg_cpu_act_stride(side->w->type, side->w->cols);
    if (!decode) side->panel = kernels->panel_bytes(side->w->type, 1, side->w->cols);
  }
  x.n_ff = x.side[0].rows;
  x.n_out = x.side[2].rows;
  x.strips = (x.n_ff + EXPERT_STRIP - 1) / EXPERT_STRIP;
  x.row_stride = (x.n_ff + 15) / 16 * 16;
  x.shared = x.side[0].w->type == x.side[1].w->type;
  const int64_t strip = kernels->gemm_rows > 0 ? kernels->gemm_rows : 1;
  x.unit = (15 + strip) / strip * strip;
  if (x.side[2].panel) x.panel_strip = kernels->panel_bytes(x.side[2].w->type, 1, EXPERT_STRIP);
  size_t own = (size_t)x.chunk * EXPERT_STRIP * 2 * sizeof(float) + (size_t)x.tokens * sizeof(pgg_act);
  for (int i = 0; i < 2; i++) /* or the rows of one panel */
    if ((size_t)x.tokens * x.side[i].stride > own) own = (size_t)x.tokens * x.side[i].stride;
  x.own_gemm = pgg_align_up(own, PGG_ALIGN);
  return x;
}

/* An expert's last panel may be nearly empty. */
static int64_t most_panels(const pgg_experts *x) { return x->pairs / x->tokens + pgg_min_i64(x->n_expert, x->pairs); }

pgg_status pgg_experts_judge(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels) {
  const pgg_experts x = pgg_experts_of(plan, op, kernels, plan->limits.n_batch, false);
  double bytes = (double)x.pairs * ((double)x.side[2].stride + 64) + (double)x.n_used * (double)x.row_stride * 8;
  for (int i = 0; i < 3; i++) bytes += (double)most_panels(&x) * (double)x.side[i].panel;
  if (bytes < MOST_BYTES && x.pairs < INT32_MAX) return PGG_OK;
  return pgg_fail(PGG_ESHAPE,
                  "%s: %d tokens with %lld experts each of %lld hidden values are larger than memory can be", op->name,
                  plan->limits.n_batch, (long long)x.n_used, (long long)x.n_ff);
}

static void *take(char *base, size_t *at, size_t bytes) {
  void *p = base ? base + *at : NULL;
  *at = pgg_align_up(*at + bytes, PGG_ALIGN);
  return p;
}

pgg_experts_sorted pgg_experts_place(pgg_experts *x, char *base, size_t *bytes) {
  pgg_experts_sorted s;
  size_t at = 0;
  const size_t experts = (size_t)x->n_expert, pairs = (size_t)x->pairs, panels = (size_t)most_panels(x);
  s.queue = take(base, &at, sizeof *s.queue);
  s.items = take(base, &at, (experts + 1) * sizeof *s.items);
  s.start = take(base, &at, (experts + 1) * sizeof *s.start);
  s.panel = take(base, &at, (experts + 1) * sizeof *s.panel);
  s.order = take(base, &at, experts * sizeof *s.order);
  s.token = take(base, &at, pairs * sizeof *s.token);
  s.weight = take(base, &at, pairs * sizeof *s.weight);
  s.ready = take(base, &at, (size_t)(x->n_used * x->strips) * sizeof *s.ready);
  s.row = take(base, &at, (size_t)(x->n_used * x->row_stride) * sizeof *s.row);
  x->side[2].acts = take(base, &at, pairs * x->side[2].stride);
  for (int i = 0; i < 3; i++) {
    if (i == 1 && x->shared)
      x->side[1].panels = x->side[0].panels;
    else
      x->side[i].panels = take(base, &at, panels * x->side[i].panel);
  }
  if (bytes) *bytes = at;
  return s;
}

static size_t shared_bytes(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels) {
  pgg_experts x = pgg_experts_of(plan, op, kernels, plan->limits.n_batch, false); /* panels are what takes more */
  size_t bytes;
  pgg_experts_place(&x, NULL, &bytes);
  return bytes;
}

static size_t own_bytes(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels) {
  const pgg_experts x = pgg_experts_of(plan, op, kernels, plan->limits.n_batch, false);
  size_t gemm = 0;
  for (int i = 0; i < 3; i++) {
    const size_t need = kernels->gemm_scratch(x.side[i].w->type, x.side[i].w->cols);
    if (need > gemm) gemm = need;
  }
  return x.own_gemm + gemm;
}

void pgg_experts_scratch(const pgg_segment *segment, int op, const pgg_kernels *kernels, pgg_cpu_needs *needs) {
  const pgg_plan *plan = segment->plan;
  const pgg_op *o = &plan->ops[op].op;
  const int64_t cols = plan->weights[PGG_WEIGHT(o, experts, gate)].cols;
  pgg_cpu_need(&needs->expert_acts, (size_t)plan->limits.n_batch * (size_t)pgg_act_blocks(cols) * sizeof(pgg_act));
  pgg_cpu_need(&needs->experts, shared_bytes(plan, o, kernels));
  pgg_cpu_need(&needs->own, own_bytes(plan, o, kernels));
}
