/* The attention op: store the step's keys and values, attend in work items (KV head, block of tokens, span of keys),
 * merge the spans. Which items there are depends on the step alone, never on the threads, and spans are merged in
 * order: bits do not depend on the number of threads. */
#include <math.h>
#include <string.h>

#include "backends/cpu/cpu.h"
#include "base/memory.h"
#include "base/threads.h"

enum { STORE, ATTEND, MERGE, DONE };

#define BLOCK_ROWS 64 /* queries of an item: the heads of a group times tokens */
#define SPAN_ROWS 256 /* with more queries than this there are items enough without cutting the keys */
#define SPAN_KEYS 512 /* keys of a span at least */
#define MAX_SPANS 32

/* How a step is cut. */
typedef struct cut {
  int64_t group, k_dim, v_dim, n_head_kv;
  int64_t tokens, blocks; /* of a block, of the step */
  int64_t keys, span, spans;
} cut;

static int64_t block_tokens(int64_t group) { return pgg_max_i64(1, BLOCK_ROWS / group); }

static cut cut_of(const pgg_run *run, const pgg_op *op) {
  cut c = {.group = op->i[1] / op->i[2], .k_dim = op->i[3], .v_dim = op->i[4], .n_head_kv = op->i[2]};
  c.tokens = pgg_min_i64(run->n, block_tokens(c.group));
  c.blocks = (run->n + c.tokens - 1) / c.tokens;
  c.keys = run->n_past + run->n;
  c.span = c.keys;
  if (run->n == 1 || run->n * op->i[1] <= SPAN_ROWS) {
    c.span = ((c.keys + MAX_SPANS - 1) / MAX_SPANS + 255) / 256 * 256;
    c.span = pgg_max_i64(c.span, SPAN_KEYS);
  }
  c.spans = (c.keys + c.span - 1) / c.span;
  return c;
}

/* ---- memory -------------------------------------------------------------------------------------------- */

/* Partial results of an item: o (rows, v_dim), top (rows), sum (rows). */
static int64_t partial_floats(int64_t rows, int64_t v_dim) { return (rows * (v_dim + 2) + 15) / 16 * 16; }

size_t pgg_cpu_attention_partials(const pgg_plan *plan, const pgg_op *op) {
  const int64_t group = op->i[1] / op->i[2];
  int64_t spans = pgg_min_i64(MAX_SPANS, (plan->limits.n_ctx + SPAN_KEYS - 1) / SPAN_KEYS);
  if (spans < 2) return 0;
  int64_t tokens = pgg_min_i64(plan->limits.n_batch, pgg_max_i64(1, SPAN_ROWS / op->i[1]));
  int64_t each = pgg_min_i64(tokens, block_tokens(group));
  int64_t blocks = (tokens + each - 1) / each;
  return (size_t)(op->i[2] * blocks * spans * partial_floats(each * group, op->i[4])) * sizeof(float);
}

typedef struct item_memory {
  float *q, *o, *top, *sum;
  int32_t *first, *last;
  void *kernel;
} item_memory;

static size_t carve(char *base, size_t *at, size_t bytes) {
  size_t begin = *at;
  (void)base;
  *at = pgg_align_up(begin + bytes, PGG_ALIGN);
  return begin;
}

static size_t item_layout(char *base, int64_t rows, int64_t k_dim, int64_t v_dim, item_memory *memory) {
  size_t at = 0, n = (size_t)rows;
  memory->q = (float *)(void *)(base + carve(base, &at, n * (size_t)k_dim * sizeof(float)));
  memory->o = (float *)(void *)(base + carve(base, &at, n * (size_t)v_dim * sizeof(float)));
  memory->top = (float *)(void *)(base + carve(base, &at, n * sizeof(float)));
  memory->sum = (float *)(void *)(base + carve(base, &at, n * sizeof(float)));
  memory->first = (int32_t *)(void *)(base + carve(base, &at, n * sizeof(int32_t)));
  memory->last = (int32_t *)(void *)(base + carve(base, &at, n * sizeof(int32_t)));
  memory->kernel = base + at;
  return at;
}

size_t pgg_cpu_attention_scratch(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels) {
  const int64_t group = op->i[1] / op->i[2];
  const int64_t rows = group * pgg_min_i64(plan->limits.n_batch, block_tokens(group));
  item_memory memory;
  char none[1];
  size_t bytes = item_layout(none, rows, op->i[3], op->i[4], &memory);
  return bytes + (kernels->attn_scratch ? kernels->attn_scratch(rows, op->i[3], op->i[4]) : 0);
}

/* ---- stages -------------------------------------------------------------------------------------------- */

static void store(const pgg_run *run, const pgg_plan_op_rec *rec, const cut *c, int ith, int nth) {
  const pgg_kv_span *kv = &run->kv->layers[rec->kv];
  const pgg_kernels *kernels = pgg_cpu_scratch_of(run)->kernels;
  const int ks = rec->op.src[1], vs = rec->op.src[2];
  int64_t t0, t1;
  pgg_team_range(run->n, 1, ith, nth, &t0, &t1);
  for (int64_t t = t0; t < t1; t++) {
    const float *k = pgg_run_data(run, ks) + t * pgg_run_stride(run, ks);
    const float *v = pgg_run_data(run, vs) + t * pgg_run_stride(run, vs);
    const size_t pos = (size_t)(run->n_past + t);
    for (int64_t h = 0; h < c->n_head_kv; h++) {
      kernels->kv_store(run->kv->type, k + h * c->k_dim, kv->k + (size_t)h * kv->k_head + pos * kv->k_row, c->k_dim);
      kernels->kv_store(run->kv->type, v + h * c->v_dim, kv->v + (size_t)h * kv->v_head + pos * kv->v_row, c->v_dim);
    }
  }
}

/* Keys the token at pos may see. */
static void limits_of(const pgg_op *op, int64_t pos, int64_t keys, int32_t *first, int32_t *last) {
  const int64_t window = op->i[6];
  int64_t begin = 0, end = keys;
  if (op->i[5]) {
    end = pos + 1;
    if (window) begin = pgg_max_i64(0, pos + 1 - window);
  } else if (window) {
    begin = pgg_max_i64(0, pos - window / 2);
    end = pgg_min_i64(keys, pos + window / 2 + 1);
  }
  *first = (int32_t)begin;
  *last = (int32_t)end;
}

static float *partial_of(const pgg_run *run, const cut *c, int64_t h, int64_t block, int64_t span) {
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  const int64_t each = partial_floats(c->tokens * c->group, c->v_dim);
  return (float *)(void *)(scratch->base + scratch->partials) + ((h * c->blocks + block) * c->spans + span) * each;
}

/* The rows of q of a head group and a block, one after another. */
static const float *gather(const pgg_run *run, const pgg_op *op, const cut *c, int64_t h, int64_t t0, int64_t tokens,
                           float *room) {
  const float *q = pgg_run_data(run, op->src[0]) + h * c->group * c->k_dim;
  const int64_t stride = pgg_run_stride(run, op->src[0]), width = c->group * c->k_dim;
  if (tokens == 1) return q + t0 * stride;
  for (int64_t t = 0; t < tokens; t++) memcpy(room + t * width, q + (t0 + t) * stride, (size_t)width * sizeof(float));
  return room;
}

static void attend(const pgg_run *run, const pgg_plan_op_rec *rec, const cut *c, int64_t item, int ith) {
  const pgg_op *op = &rec->op;
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  const pgg_kv_span *kv = &run->kv->layers[rec->kv];
  const int64_t span = item % c->spans, h = item / c->spans % c->n_head_kv;
  const int64_t block = c->blocks - 1 - item / c->spans / c->n_head_kv; /* later tokens see more: they begin */
  const int64_t t0 = block * c->tokens, tokens = pgg_min_i64(c->tokens, run->n - t0), rows = tokens * c->group;
  item_memory mem;
  item_layout(scratch->base + scratch->threads + (size_t)ith * scratch->thread_bytes, c->tokens * c->group, c->k_dim,
              c->v_dim, &mem);
  int64_t low = INT32_MAX, high = 0;
  for (int64_t t = 0; t < tokens; t++) {
    int32_t first, last;
    limits_of(op, run->n_past + t0 + t, c->keys, &first, &last);
    low = pgg_min_i64(low, first);
    high = pgg_max_i64(high, last);
    for (int64_t g = 0; g < c->group; g++) {
      mem.first[t * c->group + g] = first;
      mem.last[t * c->group + g] = last;
    }
  }
  pgg_attn job = {.q = gather(run, op, c, h, t0, tokens, mem.q),
                  .q_stride = c->k_dim,
                  .nq = rows,
                  .k = kv->k + (size_t)h * kv->k_head,
                  .v = kv->v + (size_t)h * kv->v_head,
                  .kv_type = run->kv->type,
                  .k_row = kv->k_row,
                  .v_row = kv->v_row,
                  .k_dim = c->k_dim,
                  .v_dim = c->v_dim,
                  .k0 = pgg_max_i64(low, span * c->span),
                  .k1 = pgg_min_i64(high, (span + 1) * c->span),
                  .first = mem.first,
                  .last = mem.last,
                  .scale = op->f[0],
                  .softcap = op->f[1],
                  .o = mem.o,
                  .top = mem.top,
                  .sum = mem.sum,
                  .scratch = mem.kernel};
  if (c->spans > 1) {
    job.o = partial_of(run, c, h, block, span);
    job.top = job.o + rows * c->v_dim;
    job.sum = job.top + rows;
    if (job.k0 >= job.k1) { /* a window that ends before this span */
      for (int64_t i = 0; i < rows; i++) job.sum[i] = 0;
      return;
    }
  }
  scratch->kernels->attention(&job);
  if (c->spans > 1) return;
  for (int64_t t = 0; t < tokens; t++) {
    float *y = pgg_run_data(run, rec->node) + (t0 + t) * pgg_run_stride(run, rec->node) + h * c->group * c->v_dim;
    for (int64_t g = 0; g < c->group; g++) {
      const int64_t i = t * c->group + g;
      const float scale = job.sum[i] > 0 || job.sum[i] != job.sum[i] ? 1.0f / job.sum[i] : 0.0f;
      for (int64_t d = 0; d < c->v_dim; d++) y[g * c->v_dim + d] = job.o[i * c->v_dim + d] * scale;
    }
  }
}

/* One query's spans, in order. */
static void merge(const pgg_run *run, const pgg_plan_op_rec *rec, const cut *c, int64_t t, int64_t head) {
  const int64_t h = head / c->group, block = t / c->tokens;
  const int64_t rows = pgg_min_i64(c->tokens, run->n - block * c->tokens) * c->group;
  const int64_t i = (t - block * c->tokens) * c->group + head % c->group;
  float *y = pgg_run_data(run, rec->node) + t * pgg_run_stride(run, rec->node) + head * c->v_dim;
  float top = 0, sum = 0;
  bool any = false;
  for (int64_t s = 0; s < c->spans; s++) {
    const float *o = partial_of(run, c, h, block, s), *tops = o + rows * c->v_dim, *sums = tops + rows;
    if (sums[i] == 0) continue;
    if (!any || tops[i] > top) top = tops[i];
    any = true;
  }
  memset(y, 0, (size_t)c->v_dim * sizeof(float));
  for (int64_t s = 0; s < c->spans; s++) {
    const float *o = partial_of(run, c, h, block, s), *tops = o + rows * c->v_dim, *sums = tops + rows;
    if (sums[i] == 0) continue;
    const float weight = expf(tops[i] - top);
    sum += weight * sums[i];
    for (int64_t d = 0; d < c->v_dim; d++) y[d] += weight * o[i * c->v_dim + d];
  }
  const float scale = any ? 1.0f / sum : 0.0f;
  for (int64_t d = 0; d < c->v_dim; d++) y[d] *= scale;
}

pgg_share pgg_cpu_attention_share(const pgg_run *run, int op, int stage) {
  const pgg_op *o = &run->plan->ops[op].op;
  switch (stage) {
    case STORE: return pgg_cpu_by_rows(run, o->src[1], o->i[2] * o->i[3]);
    case ATTEND: return PGG_SHARE_ANY;
    case MERGE: return cut_of(run, o).spans > 1 ? PGG_SHARE_ANY : PGG_SHARE_SKIP;
    default: return PGG_SHARE_END;
  }
}

void pgg_cpu_attention(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const cut c = cut_of(run, &rec->op);
  if (stage == STORE) {
    store(run, rec, &c, ith, nth);
  } else if (stage == ATTEND) {
    const int64_t items = c.n_head_kv * c.blocks * c.spans;
    pgg_cpu_tail *tail = &pgg_cpu_scratch_of(run)->tails[op];
    for (;;) {
      int64_t item = atomic_fetch_add_explicit(tail, 1, memory_order_relaxed);
      if (item >= items) return;
      attend(run, rec, &c, item, ith);
    }
  } else {
    const int64_t n_head = rec->op.i[1];
    int64_t begin, end;
    pgg_team_range(run->n * n_head, 1, ith, nth, &begin, &end);
    for (int64_t i = begin; i < end; i++) merge(run, rec, &c, i / n_head, i % n_head);
  }
}
