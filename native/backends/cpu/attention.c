/* The attention op: store the step's keys and values, attend in work items (sequence, KV head, block of tokens, span of
 * keys), merge the spans. A row has the same bits in whatever step its kind is fed: prompt rows see their keys in one
 * span, decode rows in spans of SPAN_KEYS that begin at multiples of it, blocks of keys begin at multiples of
 * PGG_ATTN_BLOCK, the kernel's form follows from the kind and the op, and spans are merged in order. */
#include <math.h>
#include <string.h>

#include "backends/cpu/cpu.h"
#include "base/memory.h"
#include "base/threads.h"

enum { STORE, ATTEND, MERGE, DONE };

/* Queries of an item: the heads of a group times tokens. Many share the work of turning a block of keys into what is
 * multiplied; few leave items enough for every thread. */
#define BLOCK_ROWS 64
#define BLOCK_ROWS_MOST 256
#define BLOCK_ITEMS 64 /* items a part should make before they grow */
#define SPAN_ROWS 256  /* with more queries than this there are items enough without taking spans apart */
#define SPAN_KEYS 512  /* of a decode row's span */
#define MANY_HEADS 16  /* heads of a group for which a decode row takes the form for many queries */

/* How a sequence's part of a step is cut. */
typedef struct cut {
  const pgg_part *part;
  int64_t group, k_dim, v_dim, n_head_kv;
  int64_t k_turn, v_turn;          /* runs in which keys and values are kept turned, 0: as they are */
  int64_t tokens, blocks;          /* of a block, of the part */
  int64_t keys, span, from, spans; /* spans from `from` on: those that any of its tokens sees */
  int64_t items;                   /* of the part: spans apart, or together where shared room is short */
  int64_t each, floats;            /* of partial results: of an item's span, of the whole part */
} cut;

/* Tokens of an item of a part of n tokens; does not shrink with n. */
static int64_t block_tokens(const pgg_op *op, int64_t n, bool decode) {
  const int64_t most = decode ? BLOCK_ROWS : BLOCK_ROWS_MOST;
  const int64_t wanted = pgg_min_i64(n * PGG_INT(op, attention, n_head) / BLOCK_ITEMS, most);
  return pgg_min_i64(n, pgg_max_i64(1, pgg_max_i64(wanted, BLOCK_ROWS) /
                                           (PGG_INT(op, attention, n_head) / PGG_INT(op, attention, n_head_kv))));
}

/* Partial results of an item: o (rows, v_dim), top (rows), sum (rows). */
static int64_t partial_floats(int64_t rows, int64_t v_dim) { return (rows * (v_dim + 2) + 15) / 16 * 16; }

/* Keys the token at pos may see. */
static void limits_of(const pgg_op *op, int64_t pos, int64_t keys, int32_t *first, int32_t *last) {
  const int64_t window = PGG_INT(op, attention, window);
  int64_t begin = 0, end = keys;
  if (PGG_INT(op, attention, causal)) {
    end = pos + 1;
    if (window) begin = PGG_INT(op, attention, chunked) ? pos - pos % window : pgg_max_i64(0, pos + 1 - window);
  } else if (window) {
    begin = pgg_max_i64(0, pos - window / 2);
    end = pgg_min_i64(keys, pos + window / 2 + 1);
  }
  *first = (int32_t)begin;
  *last = (int32_t)end;
}

static cut cut_of(const pgg_part *part, const pgg_plan_op_rec *rec, bool decode) {
  const pgg_op *op = &rec->op;
  const pgg_state_form *keys = &part->memory->forms[rec->state], *values = &part->memory->forms[rec->values];
  int32_t first, last;
  cut c = {.part = part,
           .group = PGG_INT(op, attention, n_head) / PGG_INT(op, attention, n_head_kv),
           .k_dim = PGG_INT(op, attention, k_dim),
           .v_dim = PGG_INT(op, attention, v_dim),
           .k_turn = keys->k_turn,
           .v_turn = values->v_row ? values->v_turn : values->k_turn,
           .n_head_kv = PGG_INT(op, attention, n_head_kv)};
  c.tokens = block_tokens(op, part->n, decode);
  c.blocks = (part->n + c.tokens - 1) / c.tokens;
  c.keys = rec->crosses ? part->memory->n_source : part->n_past + part->n;
  c.span = decode ? SPAN_KEYS : pgg_max_i64(1, c.keys);
  limits_of(op, part->n_past, c.keys, &first, &last);
  c.from = first / c.span;
  c.spans = (c.keys + c.span - 1) / c.span - c.from;
  c.each = partial_floats(c.tokens * c.group, c.v_dim);
  c.items = c.n_head_kv * c.blocks * c.spans;
  c.floats = c.spans > 1 ? c.items * c.each : 0;
  return c;
}

/* ---- memory -------------------------------------------------------------------------------------------- */

static int64_t most_spans(const pgg_plan *plan, const pgg_op *op) {
  const int64_t source = pgg_plan_reads_source(plan) ? plan->limits.n_batch : 0,
                window = PGG_INT(op, attention, window);
  const int64_t all = (pgg_max_i64(plan->limits.n_ctx, source) + SPAN_KEYS - 1) / SPAN_KEYS;
  return window ? pgg_min_i64(all, (window + plan->limits.n_batch) / SPAN_KEYS + 2) : all;
}

/* Tokens of a part whose spans are surely taken apart. */
static int64_t span_tokens(const pgg_plan *plan, const pgg_op *op) {
  return pgg_min_i64(plan->limits.n_batch, pgg_max_i64(1, SPAN_ROWS / PGG_INT(op, attention, n_head)));
}

/* Room for one sequence's spans. */
static size_t shared_partials(const pgg_plan *plan, const pgg_op *op) {
  const int64_t group = PGG_INT(op, attention, n_head) / PGG_INT(op, attention, n_head_kv),
                spans = most_spans(plan, op);
  if (spans < 2) return 0;
  const int64_t tokens = span_tokens(plan, op), each = block_tokens(op, tokens, true),
                blocks = (tokens + each - 1) / each;
  return (size_t)(PGG_INT(op, attention, n_head_kv) * blocks * spans *
                  partial_floats(each * group, PGG_INT(op, attention, v_dim))) *
         sizeof(float);
}

typedef struct item_memory {
  float *q, *o, *top, *sum;
  int32_t *first, *last, *at;
  float *slope;
  void *joint, *kernel;
} item_memory;

static size_t carve(char *base, size_t *at, size_t bytes) {
  size_t begin = *at;
  (void)base;
  *at = pgg_align_up(begin + bytes, PGG_ALIGN);
  return begin;
}

/* joint: a block of keys and values in the widest type that a cache has; values may be columns of keys. */
static size_t item_layout(char *base, int64_t rows, int64_t k_dim, int64_t v_dim, item_memory *memory) {
  size_t at = 0, n = (size_t)rows;
  memory->q = (float *)(void *)(base + carve(base, &at, n * (size_t)k_dim * sizeof(float)));
  memory->o = (float *)(void *)(base + carve(base, &at, n * (size_t)v_dim * sizeof(float)));
  memory->top = (float *)(void *)(base + carve(base, &at, n * sizeof(float)));
  memory->sum = (float *)(void *)(base + carve(base, &at, n * sizeof(float)));
  memory->first = (int32_t *)(void *)(base + carve(base, &at, n * sizeof(int32_t)));
  memory->last = (int32_t *)(void *)(base + carve(base, &at, n * sizeof(int32_t)));
  memory->at = (int32_t *)(void *)(base + carve(base, &at, n * sizeof(int32_t)));
  memory->slope = (float *)(void *)(base + carve(base, &at, n * sizeof(float)));
  memory->joint = base + carve(base, &at, PGG_ATTN_BLOCK * (size_t)(k_dim + pgg_max_i64(k_dim, v_dim)) * sizeof(float));
  memory->kernel = base + at;
  return at;
}

/* The spans of one item. */
static size_t own_partials(const pgg_plan *plan, const pgg_op *op) {
  const int64_t spans = most_spans(plan, op), tokens = block_tokens(op, plan->limits.n_batch, true);
  if (spans < 2 || plan->limits.n_batch < 2) return 0;
  return (size_t)(spans * partial_floats(tokens * (PGG_INT(op, attention, n_head) / PGG_INT(op, attention, n_head_kv)),
                                         PGG_INT(op, attention, v_dim))) *
         sizeof(float);
}

static size_t own_scratch(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels) {
  const int64_t rows = PGG_INT(op, attention, n_head) / PGG_INT(op, attention, n_head_kv) *
                       block_tokens(op, plan->limits.n_batch, false);
  item_memory memory;
  char none[1];
  size_t bytes = item_layout(none, rows, PGG_INT(op, attention, k_dim), PGG_INT(op, attention, v_dim), &memory);
  bytes += own_partials(plan, op);
  return bytes + (kernels->attn_scratch
                      ? kernels->attn_scratch(rows, PGG_INT(op, attention, k_dim), PGG_INT(op, attention, v_dim))
                      : 0);
}

/* Where the spans of all rows do not fit the shared room, each item does its spans one after another and merges
 * them itself: the same numbers in the same order. */
typedef enum how { ONE_SPAN, TOGETHER, BY_ITEM } how;

static how how_of(const pgg_run *run, const pgg_plan_op_rec *rec) {
  int64_t floats = 0;
  for (int i = 0; i < run->n_part; i++) floats += cut_of(&run->parts[i], rec, run->decode).floats;
  if (!floats) return ONE_SPAN;
  return (size_t)floats * sizeof(float) <= shared_partials(run->plan, &rec->op) ? TOGETHER : BY_ITEM;
}

/* A walk over the parts: what lies before the one it stands at. */
typedef struct walk {
  cut c;
  bool decode;
  int64_t items, floats;
  how way;
} walk;

static walk walk_begin(const pgg_run *run, const pgg_plan_op_rec *rec, how way) {
  walk w = {.c = cut_of(run->parts, rec, run->decode), .decode = run->decode, .way = way};
  if (way == BY_ITEM) w.c.items /= w.c.spans;
  return w;
}

static void walk_on(walk *w, const pgg_plan_op_rec *rec) {
  w->items += w->c.items;
  w->floats += w->c.floats;
  w->c = cut_of(w->c.part + 1, rec, w->decode);
  if (w->way == BY_ITEM) w->c.items /= w->c.spans;
}

/* ---- stages -------------------------------------------------------------------------------------------- */

/* Where a cache has blocks, keys and values are stored turned: queries are turned the same way, so that scores stay,
 * and results back (docs/adr/0011-attention-in-16-bits.md). */
static void turn(const pgg_run *run, float *x, int64_t n, int64_t by) {
  if (by) pgg_cpu_scratch_of(run)->kernels->kv_turn(x, n, by);
}

static char *memory_of(const pgg_run *run) {
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  return scratch->base + scratch->threads + (size_t)run->ith * scratch->thread_bytes;
}

/* Those of the keys, which are those of the values: states that are read together lie in the same spans. */
static void *const *spans_of(const pgg_part *part, const pgg_plan *plan, const pgg_plan_op_rec *rec) {
  return part->memory->groups[plan->states[rec->state].group].at;
}

/* Whether the op writes keys or values; in this run: those of the source are written when it is encoded. */
static bool stores(const pgg_op *op) { return PGG_SRC(op, attention, k) >= 0 || PGG_SRC(op, attention, v) >= 0; }
static bool stores_now(const pgg_run *run, const pgg_plan_op_rec *rec) {
  return stores(&rec->op) && (!rec->crosses || run->output == PGG_ENCODES);
}

/* A row as it is stored: itself, or turned in room. */
static const float *ready(const pgg_run *run, const float *x, float *room, int64_t n, int64_t by) {
  if (!by) return x;
  turn(run, memcpy(room, x, (size_t)n * sizeof *x), n, by);
  return room;
}

/* Heads [h0, h1) of tokens [t0, t1). */
static void store(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t t0, int64_t t1, int64_t h0, int64_t h1) {
  const pgg_kernels *kernels = pgg_cpu_scratch_of(run)->kernels;
  float *room = (float *)(void *)memory_of(run); /* a key or a value at least */
  const int ks = PGG_SRC(&rec->op, attention, k), vs = PGG_SRC(&rec->op, attention, v);
  const int64_t k_dim = PGG_INT(&rec->op, attention, k_dim), v_dim = PGG_INT(&rec->op, attention, v_dim);
  for (int i = 0; i < run->n_part; i++) {
    const pgg_part *part = &run->parts[i];
    const pgg_state_form *keys = &part->memory->forms[rec->state], *values = &part->memory->forms[rec->values];
    void *const *at = spans_of(part, run->plan, rec);
    const int type = part->memory->type;
    const int64_t end = pgg_min_i64(t1, part->first + part->n);
    for (int64_t t = pgg_max_i64(t0, part->first); t < end; t++) {
      const float *k = ks < 0 ? NULL : pgg_run_data(run, ks) + t * pgg_run_stride(run, ks);
      const float *v = vs < 0 ? NULL : pgg_run_data(run, vs) + t * pgg_run_stride(run, vs);
      const int64_t pos = part->n_past + t - part->first;
      const size_t row = (size_t)(pos % PGG_SPAN);
      char *span = at[pos / PGG_SPAN];
      for (int64_t h = h0; h < h1; h++) {
        char *key = span + keys->k + (size_t)h * keys->k_head + row * keys->k_row;
        char *value = span + values->v + (size_t)h * values->v_head + row * values->v_row;
        if (k) kernels->kv_store(type, ready(run, k + h * k_dim, room, k_dim, keys->k_turn), key, k_dim);
        if (v) kernels->kv_store(type, ready(run, v + h * v_dim, room, v_dim, values->v_turn), value, v_dim);
      }
    }
  }
}

/* The rows of q of a head group and a block, one after another. t0: of all tokens. */
static const float *gather(const pgg_run *run, const pgg_op *op, const cut *c, int64_t h, int64_t t0, int64_t tokens,
                           float *room) {
  const float *q = pgg_run_data(run, PGG_SRC(op, attention, q)) + h * c->group * c->k_dim;
  const int64_t stride = pgg_run_stride(run, PGG_SRC(op, attention, q)), width = c->group * c->k_dim;
  if (tokens == 1 && !c->k_turn) return q + t0 * stride;
  for (int64_t t = 0; t < tokens; t++) memcpy(room + t * width, q + (t0 + t) * stride, (size_t)width * sizeof(float));
  turn(run, room, tokens * c->group * c->k_dim, c->k_turn);
  return room;
}

/* Where the spans of a KV head and a block lie when they are shared. */
static float *partials_of(const pgg_run *run, const walk *w, int64_t h, int64_t block) {
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  float *all = (float *)(void *)(scratch->base + scratch->partials);
  return all + w->floats + (h * w->c.blocks + block) * w->c.spans * w->c.each;
}

/* The sink of query i of a block, NULL without any. */
static const float *sink_of(const pgg_run *run, const pgg_op *op, const cut *c, int64_t h, int64_t i) {
  const float *sinks = pgg_plan_vec(run->plan, PGG_WEIGHT(op, attention, sinks));
  return sinks ? sinks + h * c->group + i % c->group : NULL;
}

/* One query's spans, in order: row i of rows. */
static void merge(const cut *c, const float *partials, int64_t i, int64_t rows, const float *sink, float *y) {
  float top = 0, sum = 0;
  bool any = false, begun = false;
  for (int64_t s = 0; s < c->spans; s++) {
    const float *o = partials + s * c->each, *tops = o + rows * c->v_dim, *sums = tops + rows;
    if (sums[i] == 0) continue;
    if (!any || tops[i] > top) top = tops[i];
    any = true;
  }
  memset(y, 0, (size_t)c->v_dim * sizeof(float));
  for (int64_t s = 0; s < c->spans; s++) {
    const float *o = partials + s * c->each, *tops = o + rows * c->v_dim, *sums = tops + rows;
    if (sums[i] == 0) continue;
    const float weight = expf(tops[i] - top);
    sum += weight * sums[i];
    if (begun)
      for (int64_t d = 0; d < c->v_dim; d++) y[d] += weight * o[i * c->v_dim + d];
    else /* a single span is as if nothing were merged, down to the sign of zeros */
      for (int64_t d = 0; d < c->v_dim; d++) y[d] = weight * o[i * c->v_dim + d];
    begun = true;
  }
  const float scale = pgg_attn_share(top, sum, sink);
  for (int64_t d = 0; d < c->v_dim; d++) y[d] *= scale;
}

/* Where query i of a block lies in the result. t0: the block's first of all tokens. */
static float *result_of(const pgg_run *run, const pgg_plan_op_rec *rec, const cut *c, int64_t h, int64_t t0,
                        int64_t i) {
  float *row = pgg_run_data(run, rec->node) + (t0 + i / c->group) * pgg_run_stride(run, rec->node);
  return row + (h * c->group + i % c->group) * c->v_dim;
}

/* What a position of distance costs in a head: arXiv 2108.12409, for numbers of heads that are no power of two too. */
static float slope_of(const pgg_op *op, int64_t head) {
  const double most = PGG_FLOAT(op, attention, alibi);
  int64_t n = 1;
  while (2 * n <= PGG_INT(op, attention, n_head)) n *= 2;
  return (float)exp2(head < n ? -most * (double)(head + 1) / (double)n
                              : -most * ((double)(head - n) + 0.5) / (double)n);
}

static void attend(const pgg_run *run, const pgg_plan_op_rec *rec, const walk *w, int64_t item) {
  const cut *c = &w->c;
  const pgg_op *op = &rec->op;
  const pgg_part *part = c->part;
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  const pgg_state_form *keys = &part->memory->forms[rec->state], *values = &part->memory->forms[rec->values];
  const bool within = !values->v_row;                     /* values are columns of keys */
  const int64_t apart = w->way == BY_ITEM ? 1 : c->spans; /* items that a head and a block make */
  const int64_t s0 = item % apart, s1 = w->way == BY_ITEM ? c->spans : s0 + 1;
  const int64_t h = item / apart % c->n_head_kv;
  const int64_t block = c->blocks - 1 - item / apart / c->n_head_kv; /* later tokens see more: they begin */
  const int64_t b0 = block * c->tokens, tokens = pgg_min_i64(c->tokens, part->n - b0), rows = tokens * c->group;
  char *mine = memory_of(run);
  item_memory mem;
  size_t before = w->way == BY_ITEM ? (size_t)(c->spans * c->each) * sizeof(float) : 0; /* its spans come first */
  item_layout(mine + before, c->tokens * c->group, c->k_dim, c->v_dim, &mem);
  const bool near = PGG_FLOAT(op, attention, alibi) > 0;
  int64_t low = INT32_MAX, high = 0;
  for (int64_t t = 0; t < tokens; t++) {
    int32_t first, last;
    limits_of(op, part->n_past + b0 + t, c->keys, &first, &last);
    low = pgg_min_i64(low, first);
    high = pgg_max_i64(high, last);
    for (int64_t g = 0; g < c->group; g++) {
      mem.first[t * c->group + g] = first;
      mem.last[t * c->group + g] = last;
      mem.at[t * c->group + g] = (int32_t)(part->n_past + b0 + t);
      if (near) mem.slope[t * c->group + g] = slope_of(op, h * c->group + g);
    }
  }
  low = low / PGG_ATTN_BLOCK * PGG_ATTN_BLOCK;
  pgg_attn job = {.q = gather(run, op, c, h, part->first + b0, tokens, mem.q),
                  .q_stride = c->k_dim,
                  .nq = rows,
                  .many = !run->decode || c->group >= MANY_HEADS,
                  .spans = spans_of(part, run->plan, rec),
                  .span = PGG_SPAN,
                  .n_span = part->memory->groups[run->plan->states[rec->state].group].n_span,
                  .k_at = keys->k + (size_t)h * keys->k_head,
                  .v_at = within ? values->k + (size_t)h * values->k_head : values->v + (size_t)h * values->v_head,
                  .joint = mem.joint,
                  .kv_type = part->memory->type,
                  .k_row = keys->k_row,
                  .v_row = within ? values->k_row : values->v_row,
                  .k_dim = c->k_dim,
                  .v_dim = c->v_dim,
                  .first = mem.first,
                  .last = mem.last,
                  .scale = PGG_FLOAT(op, attention, scale),
                  .softcap = PGG_FLOAT(op, attention, softcap),
                  .slope = near ? mem.slope : NULL,
                  .at = mem.at,
                  .o = mem.o,
                  .top = mem.top,
                  .sum = mem.sum,
                  .scratch = mem.kernel};
  float *partials = NULL;
  if (c->spans > 1) partials = w->way == TOGETHER ? partials_of(run, w, h, block) : (float *)(void *)mine;
  for (int64_t s = s0; s < s1; s++) {
    job.k0 = pgg_max_i64(low, (c->from + s) * c->span);
    job.k1 = pgg_min_i64(high, (c->from + s + 1) * c->span);
    if (partials) {
      job.o = partials + s * c->each;
      job.top = job.o + rows * c->v_dim;
      job.sum = job.top + rows;
      if (job.k0 >= job.k1) { /* nothing in it is seen by these tokens */
        for (int64_t i = 0; i < rows; i++) job.sum[i] = 0;
        continue;
      }
    }
    scratch->kernels->attention(&job);
  }
  if (partials && w->way == TOGETHER) return; /* the next stage merges */
  for (int64_t i = 0; i < rows; i++) {
    float *y = result_of(run, rec, c, h, part->first + b0, i);
    const float *sink = sink_of(run, op, c, h, i);
    if (partials) {
      merge(c, partials, i, rows, sink, y);
    } else {
      const float scale = pgg_attn_share(job.top[i], job.sum[i], sink);
      for (int64_t d = 0; d < c->v_dim; d++) y[d] = job.o[i * c->v_dim + d] * scale;
    }
    turn(run, y, c->v_dim, c->v_turn);
  }
}

static pgg_share share(const pgg_run *run, int op, int stage) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  const pgg_op *o = &rec->op;
  if (rec->crosses && run->output == PGG_ENCODES && stage > STORE) return PGG_SHARE_END;
  switch (stage) {
    case STORE: {
      const pgg_cpu_op *mine = &pgg_cpu_segment_of(run)->ops[op];
      const int64_t cols = PGG_INT(o, attention, n_head_kv) * PGG_INT(o, attention, k_dim);
      if (!stores_now(run, rec)) return PGG_SHARE_SKIP;
      const pgg_share cut_up = pgg_cpu_cut(run, mine->chunks, mine->along);
      return cut_up == PGG_SHARE_SKIP ? pgg_cpu_by_rows(run, PGG_SRC(o, attention, q), cols) : cut_up;
    }
    case ATTEND:
      return stores_now(run, rec) ? PGG_SHARE_ANY : PGG_SHARE_FENCED; /* the op before may still merge its parts */
    case MERGE: return how_of(run, rec) == TOGETHER ? PGG_SHARE_ANY : PGG_SHARE_SKIP;
    default: return PGG_SHARE_END;
  }
}

static void attend_all(const pgg_run *run, int op) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  pgg_cpu_tail *tail = &pgg_cpu_scratch_of(run)->tails[op];
  const pgg_part *last = run->parts + run->n_part - 1;
  walk w = walk_begin(run, rec, how_of(run, rec));
  for (;;) {
    int64_t item = atomic_fetch_add_explicit(tail, 1, memory_order_relaxed);
    while (item >= w.items + w.c.items) { /* a thread's items only grow */
      if (w.c.part == last) return;
      walk_on(&w, rec);
    }
    attend(run, rec, &w, item - w.items);
  }
}

/* The queries begin to end of all parts, those of a token one after another. */
static void merge_range(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t begin, int64_t end) {
  const int64_t n_head = PGG_INT(&rec->op, attention, n_head);
  walk w = walk_begin(run, rec, TOGETHER);
  for (int64_t at = begin; at < end; at++) {
    while (at / n_head >= w.c.part->first + w.c.part->n) walk_on(&w, rec);
    const cut *c = &w.c;
    if (c->spans == 1) continue;
    const int64_t t = at / n_head - c->part->first, h = at % n_head / c->group, block = t / c->tokens;
    const int64_t rows = pgg_min_i64(c->tokens, c->part->n - block * c->tokens) * c->group;
    const int64_t i = (t - block * c->tokens) * c->group + at % c->group;
    float *y = result_of(run, rec, c, h, c->part->first + block * c->tokens, i);
    merge(c, partials_of(run, &w, h, block), i, rows, sink_of(run, &rec->op, c, h, i), y);
    turn(run, y, c->v_dim, c->v_turn);
  }
}

static void stage_of(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  if (stage == STORE) {
    int64_t t0, t1;
    pgg_team_range(run->n, 1, ith, nth, &t0, &t1);
    store(run, rec, t0, t1, 0, PGG_INT(&rec->op, attention, n_head_kv));
  } else if (stage == ATTEND) {
    attend_all(run, op);
  } else {
    int64_t begin, end;
    pgg_team_range(run->n * PGG_INT(&rec->op, attention, n_head), 1, ith, nth, &begin, &end);
    merge_range(run, rec, begin, end);
  }
}

static void columns(const pgg_run *run, int op, int stage, int c0, int c1, int n) {
  (void)stage; /* STORE */
  const pgg_plan_op_rec *rec = &run->plan->ops[op];
  store(run, rec, 0, run->n, c0 * (PGG_INT(&rec->op, attention, n_head_kv) / n),
        c1 * (PGG_INT(&rec->op, attention, n_head_kv) / n));
}

static int64_t units(const pgg_plan *plan, const pgg_plan_op_rec *rec) {
  (void)plan;
  return stores(&rec->op) ? PGG_INT(&rec->op, attention, n_head_kv) : 0;
}

static void scratch(const pgg_segment *segment, int op, const pgg_kernels *kernels, pgg_cpu_needs *needs) {
  const pgg_plan *plan = segment->plan;
  const pgg_op *o = &plan->ops[op].op;
  pgg_cpu_need(&needs->partials, shared_partials(plan, o));
  pgg_cpu_need(&needs->own, own_scratch(plan, o, kernels));
}

const pgg_cpu_kind pgg_cpu_kind_attention = {
    .share = share, .stage = stage_of, .units = units, .columns = columns, .scratch = scratch};
