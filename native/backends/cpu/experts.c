/* The experts op: each token passes a few of many gated feed-forwards, and their results are summed by weight.
 *
 * Pairs (token, chosen expert) are sorted by expert, so that an expert's weights are read once for all its tokens. Work
 * lies in one flat queue: a strip of an expert's hidden values for a stretch of its tokens (gate, up, activation and
 * the preparation for down in one go), then a strip of results through all experts. A sum over experts runs in the
 * order of their ids inside one strip, so neither threads nor cuts touch it. The kind of the rows says how they are
 * multiplied, however many of them an expert has: prompt rows by panels, decode rows one by one. One decode row takes
 * finer pieces of the first kind. */
#include "backends/cpu/experts.h"

#include <string.h>

#include "base/threads.h"
#include "cpu/products.h"

enum { SORT, PREPARE, PACK, HIDDEN, SUM, DONE };

#define LEAST_SLICE 64        /* rows of an expert in a piece of work for one token; divides EXPERT_STRIP */
#define GEMV_BYTES (32 << 10) /* of weights that stay near while several tokens use them */
#define AHEAD 2048            /* bytes of the next piece that are asked for in time */

static pgg_share share(const pgg_run *run, int op, int stage) {
  const pgg_op *o = &run->plan->ops[op].op;
  const int src = PGG_SRC(o, experts, x);
  switch (stage) {
    case SORT: return PGG_SHARE_ONE;
    case PREPARE:
      if (!pgg_experts_encodes(run->plan, o)) return PGG_SHARE_SKIP;
      return pgg_cpu_by_rows(run, src, run->plan->nodes[src].cols);
    case PACK: {
      const pgg_experts x =
          pgg_experts_of(run->plan, o, pgg_cpu_scratch_of(run)->kernels, pgg_run_rows(run, src), run->decode);
      return x.side[0].panel || x.side[1].panel ? PGG_SHARE_ANY : PGG_SHARE_SKIP;
    }
    case HIDDEN:
    case SUM: return PGG_SHARE_ANY;
    default: return PGG_SHARE_END;
  }
}

/* ---- sorting --------------------------------------------------------------------------------------------- */

/* Experts with tokens, those with most first (by powers of two: enough to keep the end of the queue short). */
static void put_in_order(const pgg_experts *x, const pgg_experts_sorted *s) {
  int64_t from[32] = {0}, at = 0;
  for (int64_t e = 0; e < x->n_expert; e++) {
    int size = 0;
    for (int64_t n = s->start[e + 1] - s->start[e]; n; n >>= 1) size++;
    from[size]++;
  }
  for (int size = 31; size > 0; size--) {
    const int64_t n = from[size];
    from[size] = at;
    at += n;
  }
  for (int64_t e = 0; e < x->n_expert; e++) {
    int size = 0;
    for (int64_t n = s->start[e + 1] - s->start[e]; n; n >>= 1) size++;
    if (size) s->order[from[size]++] = (int32_t)e;
  }
  s->queue->n_active = at;
  s->items[0] = 0;
  for (int64_t i = 0; i < at; i++) {
    const int64_t n = s->start[s->order[i] + 1] - s->start[s->order[i]];
    s->items[i + 1] = s->items[i] + x->strips * ((n + x->chunk - 1) / x->chunk);
  }
}

static void sort(const pgg_experts *x, const pgg_experts_sorted *s, const float *routing, int64_t stride) {
  atomic_store_explicit(&s->queue->hidden, 0, memory_order_relaxed);
  atomic_store_explicit(&s->queue->sum, 0, memory_order_relaxed);
  for (int64_t i = 0; x->single && i < x->n_used * x->strips; i++)
    atomic_store_explicit(&s->ready[i], 0, memory_order_relaxed);
  memset(s->start, 0, (size_t)(x->n_expert + 1) * sizeof *s->start);
  for (int64_t t = 0; t < x->n; t++)
    for (int64_t u = 0; u < x->n_used; u++) s->start[(int64_t)routing[t * stride + u] + 1]++;
  s->panel[0] = 0;
  for (int64_t e = 0; e < x->n_expert; e++) {
    s->panel[e + 1] = s->panel[e] + (int32_t)((s->start[e + 1] + x->tokens - 1) / x->tokens);
    s->start[e + 1] += s->start[e];
  }
  put_in_order(x, s);
  for (int64_t t = 0; t < x->n; t++)
    for (int64_t u = 0; u < x->n_used; u++) {
      const int32_t at = s->start[(int64_t)routing[t * stride + u]]++; /* start[e] moves to start[e + 1] ... */
      s->token[at] = (int32_t)t;
      s->weight[at] = routing[t * stride + x->n_used + u];
    }
  for (int64_t e = x->n_expert; e > 0; e--) s->start[e] = s->start[e - 1]; /* ... and back */
  s->start[0] = 0;
}

/* ---- products of one expert -------------------------------------------------------------------------------- */

static const char *row_of(const pgg_experts_side *side, int64_t e, int64_t r) {
  return (const char *)side->w->data + (size_t)(e * side->step + side->begin + r) * side->w->row_bytes;
}

/* y (n, rows), rows y_stride apart: rows [r, r + rows) of expert e times its tokens [first, first + n). index: where
 * their prepared rows are, NULL for one after another in the order of pairs. */
static void multiply(const pgg_experts *x, const pgg_experts_sorted *s, const pgg_experts_side *side, int64_t e,
                     int64_t r, int64_t rows, int64_t first, int64_t n, const int32_t *index, float *y,
                     int64_t y_stride, void *scratch) {
  const int64_t k = side->w->cols;
  const char *w = row_of(side, e, r);
  if (side->panel) {
    const pgg_gemm gemm = {.w = w,
                           .row_bytes = side->w->row_bytes,
                           .panels = side->panels + (size_t)(s->panel[e] + first / x->tokens) * side->panel,
                           .y = y,
                           .y_stride = y_stride,
                           .rows = rows,
                           .n = n,
                           .k = k,
                           .scratch = scratch};
    x->kernels->gemm[side->w->type](&gemm);
    return;
  }
  const int64_t step = n > 1 ? pgg_max_i64(16, (int64_t)(GEMV_BYTES / side->w->row_bytes) / 16 * 16) : rows;
  for (int64_t at = 0; at < rows; at += step)
    for (int64_t t = 0; t < n; t++) {
      const int64_t pair = s->start[e] + first + t;
      x->kernels->gemv[side->w->type](w + (size_t)at * side->w->row_bytes, side->w->row_bytes,
                                      side->acts + (size_t)(index ? index[pair] : pair) * side->stride,
                                      y + t * y_stride + at, pgg_min_i64(step, rows - at), k);
    }
}

/* y (n, rows), rows y_stride apart, plus the biases of rows [r, r + rows) of expert e. */
static void add_bias(const pgg_experts *x, const pgg_experts_side *side, int64_t e, int64_t r, int64_t rows, int64_t n,
                     float *y, int64_t y_stride) {
  for (int64_t t = 0; side->bias && t < n; t++)
    x->kernels->add(y + t * y_stride, side->bias + e * side->rows + r, y + t * y_stride, rows);
}

/* Where weights count early: y (n, rows) of tokens [first, first + n) of expert e, each times its weight. */
static void weigh(const pgg_experts *x, const pgg_experts_sorted *s, int64_t e, int64_t rows, int64_t first, int64_t n,
                  float *y, int64_t y_stride) {
  const float *weights = s->weight + s->start[e] + first;
  for (int64_t t = 0; x->early && t < n; t++) x->kernels->scale(y + t * y_stride, weights[t], y + t * y_stride, rows);
}

/* The panels of gate and up: prepared rows gathered by expert. */
static void pack(const pgg_experts *x, const pgg_experts_sorted *s, char *own, int ith, int nth) {
  int64_t p0, p1, e = 0;
  pgg_team_range(s->panel[x->n_expert], 1, ith, nth, &p0, &p1);
  for (int64_t p = p0; p < p1; p++) {
    while (s->panel[e + 1] <= p) e++;
    const int64_t all = s->start[e + 1] - s->start[e], first = (p - s->panel[e]) * x->tokens;
    const int64_t n = pgg_min_i64(x->tokens, all - first);
    for (int i = 0; i < 2; i++) {
      const pgg_experts_side *side = &x->side[i];
      if (!side->panel || (i == 1 && x->shared)) continue;
      for (int64_t t = 0; t < n; t++)
        memcpy(own + (size_t)t * side->stride, side->acts + (size_t)s->token[s->start[e] + first + t] * side->stride,
               side->stride);
      x->kernels->pack_panel(side->w->type, own, side->stride, n, side->w->cols,
                             side->panels + (size_t)p * side->panel);
    }
  }
}

/* ---- hidden values ------------------------------------------------------------------------------------------- */

/* Hidden values (n, width) of strip b become what down multiplies with. */
static void hand_over(const pgg_experts *x, const pgg_experts_sorted *s, int64_t e, int64_t b, int64_t first, int64_t n,
                      const float *h, int64_t width, pgg_act *acts) {
  const pgg_experts_side *down = &x->side[2];
  const bool blocks = pgg_cpu_takes_blocks(down->w->type);
  const int64_t pair = s->start[e] + first;
  if (!down->panel) {
    for (int64_t t = 0; t < n; t++) {
      char *row = down->acts + (size_t)(pair + t) * down->stride;
      if (blocks)
        x->kernels->act_encode(h + t * EXPERT_STRIP, (pgg_act *)(void *)row + b, width);
      else
        memcpy(row + (size_t)b * EXPERT_STRIP * sizeof(float), h + t * EXPERT_STRIP, (size_t)width * sizeof(float));
    }
    return;
  }
  char *panels = down->panels + (size_t)(s->panel[e] + first / x->tokens) * down->panel;
  for (int64_t t = 0; t < n; t += x->tokens, panels += down->panel) {
    const int64_t some = pgg_min_i64(x->tokens, n - t);
    const void *rows = h + t * EXPERT_STRIP;
    size_t stride = EXPERT_STRIP * sizeof(float);
    if (blocks) {
      for (int64_t i = 0; i < some; i++) x->kernels->act_encode(h + (t + i) * EXPERT_STRIP, acts + i, width);
      rows = acts;
      stride = sizeof *acts;
    }
    x->kernels->pack_panel(down->w->type, rows, stride, some, width, panels + (size_t)b * x->panel_strip);
  }
}

/* What the activation makes of n values: by themselves, or as the gate of others. y may be x. */
static void bend(const pgg_experts *e, const float *x, const float *up, float *y, int64_t n) {
  if (e->plain)
    e->kernels->activate[e->act](x, y, n);
  else
    e->kernels->glu[e->act](x, up, y, n);
}

/* A strip of hidden values of some tokens of an expert. */
static void strip(const pgg_experts *x, const pgg_experts_sorted *s, int64_t e, int64_t b, int64_t first, char *own) {
  const int64_t r = b * EXPERT_STRIP, width = pgg_min_i64(EXPERT_STRIP, x->n_ff - r);
  const int64_t n = pgg_min_i64(x->chunk, s->start[e + 1] - s->start[e] - first);
  float *parts[2] = {(float *)(void *)own, (float *)(void *)own + x->chunk * EXPERT_STRIP}, *gate = parts[0];
  pgg_act *acts = (pgg_act *)(void *)(parts[1] + x->chunk * EXPERT_STRIP);
  for (int i = 0; i < (x->plain ? 1 : 2); i++) {
    multiply(x, s, &x->side[i], e, r, width, first, n, s->token, parts[i], EXPERT_STRIP, own + x->own_gemm);
    weigh(x, s, e, width, first, n, parts[i], EXPERT_STRIP);
    add_bias(x, &x->side[i], e, r, width, n, parts[i], EXPERT_STRIP);
  }
  for (int64_t t = 0; t < n; t++) {
    float *h = gate + t * EXPERT_STRIP;
    bend(x, h, parts[1] + t * EXPERT_STRIP, h, width);
  }
  hand_over(x, s, e, b, first, n, gate, width, acts);
}

/* Asks for the first lines of what comes next: a piece of work is so short that the way to its first bytes counts. */
static void look_ahead(const pgg_experts_side *side, int64_t e, int64_t r) {
  const char *p = row_of(side, e, r);
  for (int i = 0; i < AHEAD; i += 64) PGG_PREFETCH(p + i);
}

/* One token: some rows of one expert. Who finishes the last of a strip prepares it. */
static void slice(const pgg_experts *x, const pgg_experts_sorted *s, int64_t e, int64_t r, int64_t rows) {
  const int64_t width = pgg_min_i64(rows, x->n_ff - r), pair = s->start[e], b = r / EXPERT_STRIP;
  const int64_t strip_width = pgg_min_i64(EXPERT_STRIP, x->n_ff - b * EXPERT_STRIP);
  float parts[2][EXPERT_STRIP], *h = s->row + pair * x->row_stride;
  if (!x->plain) look_ahead(&x->side[1], e, r);
  for (int i = 0; i < (x->plain ? 1 : 2); i++) {
    multiply(x, s, &x->side[i], e, r, width, 0, 1, s->token, parts[i], EXPERT_STRIP, NULL);
    weigh(x, s, e, width, 0, 1, parts[i], EXPERT_STRIP);
    add_bias(x, &x->side[i], e, r, width, 1, parts[i], EXPERT_STRIP);
  }
  bend(x, parts[0], parts[1], h + r, width);
  const int32_t slices = (int32_t)((strip_width + rows - 1) / rows);
  if (atomic_fetch_add_explicit(&s->ready[pair * x->strips + b], 1, memory_order_acq_rel) + 1 == slices)
    hand_over(x, s, e, b, 0, 1, h + b * EXPERT_STRIP, strip_width, NULL);
}

/* One token: the chosen experts' rows in slices, about six for each thread. */
static void hidden_of_one(const pgg_experts *x, const pgg_experts_sorted *s, int nth) {
  int64_t rows = EXPERT_STRIP, slices = x->strips;
  while (rows > LEAST_SLICE && slices * x->n_used < 6 * nth) {
    rows /= 2;
    slices = (x->n_ff + rows - 1) / rows;
  }
  const int64_t end = s->queue->n_active * slices;
  int64_t item = atomic_fetch_add_explicit(&s->queue->hidden, 1, memory_order_relaxed);
  while (item < end) {
    const int64_t next = atomic_fetch_add_explicit(&s->queue->hidden, 1, memory_order_relaxed);
    if (next < end) look_ahead(&x->side[0], s->order[next / slices], next % slices * rows);
    slice(x, s, s->order[item / slices], item % slices * rows, rows);
    item = next;
  }
}

static void hidden(const pgg_experts *x, const pgg_experts_sorted *s, char *own, int nth) {
  if (x->single) {
    hidden_of_one(x, s, nth);
    return;
  }
  int64_t i = 0;
  for (;;) {
    const int64_t item = atomic_fetch_add_explicit(&s->queue->hidden, 1, memory_order_relaxed);
    if (item >= s->items[s->queue->n_active]) return;
    while (s->items[i + 1] <= item) i++;
    const int64_t at = item - s->items[i], e = s->order[i];
    const int64_t chunks = (s->items[i + 1] - s->items[i]) / x->strips;
    strip(x, s, e, at / chunks, at % chunks * x->chunk, own);
  }
}

/* ---- results --------------------------------------------------------------------------------------------------- */

/* y[r, r + rows) of every token: the sum over its experts. */
static void sum_rows(const pgg_experts *x, const pgg_experts_sorted *s, float *y, int64_t y_stride, int64_t r,
                     int64_t rows, char *own) {
  float *part = (float *)(void *)own;
  for (int64_t t = 0; t < x->n; t++) memset(y + t * y_stride + r, 0, (size_t)rows * sizeof *y);
  for (int64_t e = 0; e < x->n_expert; e++)
    for (int64_t first = 0, all = s->start[e + 1] - s->start[e]; first < all; first += x->chunk) {
      const int64_t n = pgg_min_i64(x->chunk, all - first);
      multiply(x, s, &x->side[2], e, r, rows, first, n, NULL, part, EXPERT_STRIP, own + x->own_gemm);
      add_bias(x, &x->side[2], e, r, rows, n, part, EXPERT_STRIP);
      for (int64_t t = 0; t < n; t++) {
        const int64_t pair = s->start[e] + first + t;
        const float weight = x->early ? 1.0f : s->weight[pair], *from = part + t * EXPERT_STRIP;
        float *to = y + s->token[pair] * y_stride + r;
        for (int64_t c = 0; c < rows; c++) to[c] += weight * from[c];
      }
    }
}

static void sum(const pgg_experts *x, const pgg_experts_sorted *s, float *y, int64_t y_stride, char *own, int nth) {
  const int64_t unit = x->unit;
  int64_t rows = x->n_out / (nth * 6) / unit * unit; /* about six pieces of work for each thread */
  rows = nth == 1 ? EXPERT_STRIP / unit * unit : pgg_min_i64(pgg_max_i64(rows, unit), EXPERT_STRIP / unit * unit);
  for (;;) {
    const int64_t r = rows * atomic_fetch_add_explicit(&s->queue->sum, 1, memory_order_relaxed);
    if (r >= x->n_out) return;
    sum_rows(x, s, y, y_stride, r, pgg_min_i64(rows, x->n_out - r), own);
  }
}

static void stage_of(const pgg_run *run, int op, int stage, int ith, int nth) {
  const pgg_plan *plan = run->plan;
  const pgg_plan_op_rec *rec = &plan->ops[op];
  const int src = PGG_SRC(&rec->op, experts, x);
  const pgg_cpu_scratch *scratch = pgg_cpu_scratch_of(run);
  char *own = scratch->base + scratch->threads + (size_t)ith * scratch->thread_bytes;
  char *acts = scratch->base + scratch->expert_acts;
  float *rows = pgg_run_data(run, src);
  const int64_t stride = pgg_run_stride(run, src);
  pgg_experts x = pgg_experts_of(plan, &rec->op, scratch->kernels, pgg_run_rows(run, src), run->decode);
  const pgg_experts_sorted sorted = pgg_experts_place(&x, scratch->base + scratch->experts, NULL);
  for (int i = 0; i < 2; i++) x.side[i].acts = pgg_cpu_takes_blocks(x.side[i].w->type) ? acts : (char *)rows;
  switch (stage) {
    case SORT:
      sort(&x, &sorted, pgg_run_data(run, PGG_SRC(&rec->op, experts, routing)),
           pgg_run_stride(run, PGG_SRC(&rec->op, experts, routing)));
      break;
    case PREPARE: {
      const int64_t cols = plan->nodes[src].cols;
      const size_t bytes = (size_t)pgg_act_blocks(cols) * sizeof(pgg_act);
      int64_t t0, t1;
      pgg_team_range(x.n, 1, ith, nth, &t0, &t1);
      for (int64_t t = t0; t < t1; t++)
        x.kernels->act_encode(rows + t * stride, (pgg_act *)(void *)(acts + (size_t)t * bytes), cols);
      break;
    }
    case PACK: pack(&x, &sorted, own, ith, nth); break;
    case HIDDEN: hidden(&x, &sorted, own, nth); break;
    default: sum(&x, &sorted, pgg_run_data(run, rec->node), pgg_run_stride(run, rec->node), own, nth); break;
  }
}

const pgg_cpu_kind pgg_cpu_kind_experts = {
    .share = share, .stage = stage_of, .judge = pgg_experts_judge, .scratch = pgg_experts_scratch};
