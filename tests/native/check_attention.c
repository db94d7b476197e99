/* Holds the cache rows and the attention of every level to a reference in doubles. Each buffer ends at a page that may
 * not be touched, so a read or write behind it stops the program.
 *
 *   check_attention          all levels that run here        check_attention avx2   that level; 77 if it is not here
 *   check_attention --bench [level [type]]   rates: prompt tiles in GMAC/s, decode in GB/s of cache */
#include "quant/cache_types.h"
#include "values.h"

#define TYPE(NAME) PGG_##NAME,
static const int kv_types[] = {PGG_CACHE_TYPES(TYPE)};
#undef TYPE
enum { N_KV_TYPES = sizeof kv_types / sizeof kv_types[0] };

/* ---- cache rows ---------------------------------------------------------------------------------------- */

/* A block of 32 values: as near to them as a file's block of the type is (whose bytes are another encoder's, which for
 * iq4_nl searches), NaN where one of them is not finite, and not finite where halves are too small for them. */
static void check_block(const pgg_quant *q, const float *x, const float *back) {
  enum { N = 32 };
  uint8_t filed[64];
  float other[N];
  double top = 0, sum = 0, want = 0;
  bool odd = false;
  int lost = 0;
  for (int i = 0; i < N; i++) { /* a sum of flags beside a maximum is more than gcc 12 bears for 64-bit ARM */
    top = fmax(top, fabs((double)x[i]));
    if (!isfinite(x[i])) odd = true;
    if (!isfinite(back[i])) lost++;
  }
  checks++;
  if (odd) {
    for (int i = 0; i < N; i++)
      if (!isnan(back[i])) fail("kv_store %s: a value that is not finite was stored as %g", q->info.name, back[i]);
    return;
  }
  if (top > 8e6 && lost != N) fail("kv_store %s: %g was stored as finite numbers", q->info.name, top);
  if (top < 3e4 && lost) fail("kv_store %s: %d of 32 values up to %g were lost", q->info.name, lost, top);
  if (lost) return;
  q->encode(x, filed, N, NULL);
  q->decode(filed, other, N);
  for (int i = 0; i < N; i++) {
    sum += ((double)back[i] - x[i]) * ((double)back[i] - x[i]);
    want += ((double)other[i] - x[i]) * ((double)other[i] - x[i]);
  }
  /* scales are halves: 11 bits, or a multiple of 2^-24 */
  const double unit = top * 0x1p-11 + 128 * 0x1p-25,
               most = (q->info.id == PGG_IQ4_NL ? 2.5 : 1.25) * want + N * unit * unit;
  if (sum > most)
    fail("kv_store %s: squared error %g, of a file's block %g, values up to %g", q->info.name, sum, want, top);
}

static void check_store(const pgg_kernels *t, const pgg_kernels *ref) {
  for (int f = 0; f < N_FLAVOUR; f++)
    for (int l = 0; l < N_LENGTH; l++)
      for (int y = 0; y < N_KV_TYPES; y++) {
        const int type = kv_types[y];
        const pgg_quant *q = pgg_quant_get(type);
        const int64_t len = q->info.elems, n = (lengths[l] + len - 1) / len * len;
        const size_t bytes = (size_t)(n / len) * (size_t)q->info.bytes;
        guarded gx = guard_floats(n), gr = test_guard(bytes), gw = test_guard(bytes), gb = guard_floats(n);
        float *x = (float *)gx.p, *back = (float *)gb.p;
        fill(x, n, f);
        if (f == SPECIAL)
          for (int64_t i = 0; i < n; i++) x[i] = isnan(x[i]) ? NAN : x[i];
        t->kv_store(type, x, gr.p, n);
        ref->kv_store(type, x, gw.p, n);
        same_bytes(q->info.name, n, gr.p, gw.p, bytes);
        q->decode(gr.p, back, n);
        for (int64_t i = 0; i < n; i += len) { /* and the bytes mean the values */
          if (len > 1) {
            check_block(q, x + i, back + i);
            continue;
          }
          double want = x[i];
          if (type == PGG_F16) want = pgg_f16_to_f32(pgg_f32_to_f16(x[i]));
          if (type == PGG_BF16) want = pgg_bf16_to_f32(pgg_f32_to_bf16(x[i]));
          close_to("kv_store", type, n, i, back[i], want, 0);
        }
        test_unguard(gx), test_unguard(gr), test_unguard(gw), test_unguard(gb);
      }
}

/* Rows turned run by run: the bits of the scalar level, the sums of the definition, and back by turning once more. */
static void check_turn(const pgg_kernels *t, const pgg_kernels *ref) {
  static const int sizes[][2] = {{32, 32},  {64, 64},   {96, 32}, {128, 128}, {256, 256},
                                 {576, 64}, {512, 256}, {8, 8},   {6, 2}};
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
    const int n = sizes[s][0], run = sizes[s][1];
    guarded gx = guard_floats(n), gy = guard_floats(n), gz = guard_floats(n);
    float *x = (float *)gx.p, *y = (float *)gy.p, *z = (float *)gz.p;
    fill(x, n, PLAIN);
    memcpy(y, x, (size_t)n * sizeof *x), memcpy(z, x, (size_t)n * sizeof *x);
    t->kv_turn(y, n, run), ref->kv_turn(z, n, run);
    same_bytes("kv_turn", n, y, z, (size_t)n * sizeof *y);
    for (int i = 0; i < n; i++) {
      double sum = 0, size = 0;
      for (int j = 0; j < run; j++) {
        int sign = 0;
        for (int both = i % run & j; both; both &= both - 1) sign ^= 1;
        sum += (sign ? -1.0 : 1.0) * x[i / run * run + j];
        size += fabs((double)x[i / run * run + j]);
      }
      close_to("kv_turn", run, n, i, y[i], sum / sqrt(run), 1e-6 * size);
    }
    t->kv_turn(y, n, run);
    for (int i = 0; i < n; i++) close_to("kv_turn, twice", run, n, i, y[i], x[i], 4e-5);
    test_unguard(gx), test_unguard(gy), test_unguard(gz);
  }
}

/* ---- attention ----------------------------------------------------------------------------------------- */

enum { MANY = 16 };

typedef struct scene {
  int type, softcap;
  int64_t nq, k_dim, v_dim, k0, k1;
  guarded q, k, v, o, top, sum, first, last, scratch;
  pgg_attn job;
} scene;

static scene scene_new(const pgg_kernels *t, int type, int64_t nq, int64_t k_dim, int64_t v_dim, int64_t k0, int64_t k1,
                       float spread) {
  scene s = {.type = type, .nq = nq, .k_dim = k_dim, .v_dim = v_dim, .k0 = k0, .k1 = k1};
  const pgg_quant *fmt = pgg_quant_get(type);
  const size_t k_row = (size_t)(k_dim / fmt->info.elems * fmt->info.bytes);
  const size_t v_row = (size_t)(v_dim / fmt->info.elems * fmt->info.bytes);
  const int64_t widest = k_dim > v_dim ? k_dim : v_dim, q_stride = k_dim + 3;
  float *row = malloc((size_t)widest * sizeof *row);
  s.q = guard_floats((nq - 1) * q_stride + k_dim);
  s.k = test_guard(k_row * (size_t)k1), s.v = test_guard(v_row * (size_t)k1);
  s.o = guard_floats(nq * v_dim), s.top = guard_floats(nq), s.sum = guard_floats(nq);
  s.first = guard_floats(nq), s.last = guard_floats(nq);
  s.scratch = test_guard((t->attn_scratch(nq, k_dim, v_dim) + 63) / 64 * 64);
  for (int64_t i = 0; i < (nq - 1) * q_stride + k_dim; i++) ((float *)s.q.p)[i] = uniform(-spread, spread);
  for (int64_t j = 0; j < k1; j++) {
    for (int64_t d = 0; d < k_dim; d++) row[d] = uniform(-1.0f, 1.0f);
    t->kv_store(type, row, s.k.p + (size_t)j * k_row, k_dim);
    for (int64_t d = 0; d < v_dim; d++) row[d] = uniform(-1.0f, 1.0f);
    t->kv_store(type, row, s.v.p + (size_t)j * v_row, v_dim);
  }
  for (int64_t i = 0; i < nq; i++) ((int32_t *)s.first.p)[i] = (int32_t)k0, ((int32_t *)s.last.p)[i] = (int32_t)k1;
  s.job = (pgg_attn){.q = (float *)s.q.p,
                     .q_stride = q_stride,
                     .nq = nq,
                     .many = nq < MANY ? nq % 3 == 2 : nq != 19, /* the form does not follow from the number */
                     .k = s.k.p,
                     .v = s.v.p,
                     .kv_type = type,
                     .k_row = k_row,
                     .v_row = v_row,
                     .k_dim = k_dim,
                     .v_dim = v_dim,
                     .k0 = k0,
                     .k1 = k1,
                     .first = (int32_t *)s.first.p,
                     .last = (int32_t *)s.last.p,
                     .scale = 1.0f / sqrtf((float)k_dim),
                     .softcap = 0.0f,
                     .o = (float *)s.o.p,
                     .top = (float *)s.top.p,
                     .sum = (float *)s.sum.p,
                     .scratch = s.scratch.p};
  free(row);
  return s;
}

static void scene_free(scene *s) {
  guarded *all[] = {&s->q, &s->k, &s->v, &s->o, &s->top, &s->sum, &s->first, &s->last, &s->scratch};
  for (int i = 0; i < 9; i++) test_unguard(*all[i]);
}

/* Scores without a value, against the largest of the keys: one that weighs nothing, and ones that weigh all. */
static const float sinks[] = {-1e4f, -3, 0, 2, 30, 1e4f};
enum { N_SINKS = sizeof sinks / sizeof sinks[0] };

static void check_scene(const char *what, const scene *s, double bound) {
  const pgg_attn *a = &s->job;
  const pgg_quant *fmt = pgg_quant_get(s->type);
  double *score = malloc((size_t)s->k1 * sizeof *score), *sum = malloc((size_t)s->v_dim * sizeof *sum);
  float *row = malloc((size_t)(s->k_dim + s->v_dim) * sizeof *row);
  for (int64_t i = 0; i < s->nq; i++) {
    const int64_t lo = a->first[i] > a->k0 ? a->first[i] : a->k0, hi = a->last[i] < a->k1 ? a->last[i] : a->k1;
    double top = -INFINITY, total = 0;
    for (int64_t j = lo; j < hi; j++) {
      fmt->decode((const char *)a->k + (size_t)j * a->k_row, row, s->k_dim);
      score[j] = 0;
      for (int64_t d = 0; d < s->k_dim; d++) score[j] += (double)a->q[i * a->q_stride + d] * row[d];
      score[j] *= a->scale;
      if (a->softcap > 0) score[j] = a->softcap * tanh(score[j] / a->softcap);
      if (a->slope) score[j] -= (double)a->slope[i] * fabs((double)(j - a->at[i]));
      top = fmax(top, score[j]);
    }
    for (int64_t d = 0; d < s->v_dim; d++) sum[d] = 0;
    for (int64_t j = lo; j < hi; j++) {
      const double p = exp(score[j] - top);
      fmt->decode((const char *)a->v + (size_t)j * a->v_row, row, s->v_dim);
      total += p;
      for (int64_t d = 0; d < s->v_dim; d++) sum[d] += p * row[d];
    }
    checks++;
    if (!(a->top[i] >= -FLT_MAX && a->top[i] <= FLT_MAX)) fail("%s: top %g is not finite", what, (double)a->top[i]);
    if (lo >= hi) {
      if (a->sum[i] != 0.0f) fail("%s: sum %g for a query that sees nothing", what, (double)a->sum[i]);
      for (int64_t d = 0; d < s->v_dim; d++)
        if (a->o[i * s->v_dim + d] != 0.0f) fail("%s: output for a query that sees nothing", what);
      continue;
    }
    close_to("attention top", s->type, s->nq, i, a->top[i], top, bound * 4 + 2e-6 * fabs(top));
    if (fabs(top) < 1e3) /* beyond, a float's unit is too much for exp */
      close_to("attention sum", s->type, s->nq, i, a->sum[i], total * exp(top - a->top[i]), total * bound);
    for (int64_t d = 0; d < s->v_dim; d++)
      close_to(what, s->type, s->k1, d, a->o[i * s->v_dim + d] / a->sum[i], sum[d] / total, bound);
    same_bytes("attention: share", i, &(float){pgg_attn_share(a->top[i], a->sum[i], NULL)}, &(float){1 / a->sum[i]}, 4);
    for (int n = 0; n < N_SINKS && fabs(top) < 1e3; n++) {
      const float sink = (float)top + sinks[n], share = pgg_attn_share(a->top[i], a->sum[i], &sink);
      for (int64_t d = 0; d < s->v_dim; d++) /* an error of the top moves the sink against all keys */
        close_to("attention, sink", s->type, s->k1, d, a->o[i * s->v_dim + d] * share,
                 sum[d] / (total + exp(sink - top)), 2 * bound + 1e-6 * fabs(top));
    }
  }
  free(score), free(sum), free(row);
}

/* The form for many queries of a cache that is not f32 may have a bound of its own (kernels.h); others are floats. */
static int is_loose(const scene *s) { return s->type != PGG_F32 && s->job.many && !strcmp(level_name, "avx512"); }
static double bound_of(const scene *s) {
  return is_loose(s)                                                                     ? 4e-3
         : (s->type == PGG_Q8_0 || s->type == PGG_Q4_0) && !strcmp(level_name, "avx512") ? 2e-4
                                                                                         : 1e-5;
}

/* Each query alone, with keys of the others poisoned, must give the bits it gave in company. */
static void check_alone(const pgg_kernels *t, scene *s) {
  const int poison = is_loose(s) ? 0x55 : 0xff; /* 0xff is NaN in every float type, 0x55 large and finite */
  const size_t o_row = (size_t)s->v_dim * sizeof(float);
  const size_t k_bytes = s->job.k_row * (size_t)s->k1, v_bytes = s->job.v_row * (size_t)s->k1;
  char *k = malloc(k_bytes), *v = malloc(v_bytes);
  float *o = malloc(o_row), top, sum;
  memcpy(k, s->k.p, k_bytes), memcpy(v, s->v.p, v_bytes);
  for (int64_t i = 0; i < s->nq; i++) {
    pgg_attn one = s->job;
    int64_t hi = pgg_min_i64(s->job.last[i], s->k1);
    one.q += i * one.q_stride, one.q_stride = 0, one.nq = 1;
    one.first += i, one.last += i, one.o = o, one.top = &top, one.sum = &sum;
    if (one.slope) one.slope += i, one.at += i;
    if (i & 1) one.k1 = pgg_max_i64(hi, s->k0 + 1); /* a step ends where the token is */
    for (int64_t j = 0; j < s->k1; j++) {
      const int seen = j >= s->job.first[i] && j < hi && j >= s->k0;
      if (seen) continue;
      memset(s->k.p + (size_t)j * s->job.k_row, 0xff, s->job.k_row);
      memset(s->v.p + (size_t)j * s->job.v_row, poison, s->job.v_row);
    }
    t->attention(&one);
    memcpy(s->k.p, k, k_bytes), memcpy(s->v.p, v, v_bytes);
    same_bytes("attention alone: o", i, o, s->job.o + i * s->v_dim, o_row);
    same_bytes("attention alone: top", i, &top, s->job.top + i, sizeof top);
    same_bytes("attention alone: sum", i, &sum, s->job.sum + i, sizeof sum);
  }
  free(o), free(k), free(v);
}

/* The same keys and values in spans, each at the end of what may be touched: the same bits. */
static void check_spans(const pgg_kernels *t, scene *s) {
  enum { SPAN = 128, AT = 64 };
  const pgg_attn whole = s->job;
  const int64_t n_span = (s->k1 + SPAN - 1) / SPAN;
  const size_t k_bytes = SPAN * whole.k_row, v_bytes = SPAN * whole.v_row, out = (size_t)(s->nq * s->v_dim) * 4;
  guarded spans[8], joint = test_guard(PGG_ATTN_BLOCK * (whole.k_row + whole.v_row));
  void *at[9] = {0}, *want = malloc(out + 8 * (size_t)s->nq);
  memcpy(want, s->o.p, out);
  memcpy((char *)want + out, s->top.p, 4 * (size_t)s->nq);
  memcpy((char *)want + out + 4 * (size_t)s->nq, s->sum.p, 4 * (size_t)s->nq);
  for (int64_t i = 0; i < n_span; i++) {
    const size_t keys = (size_t)(s->k1 - i * SPAN < SPAN ? s->k1 - i * SPAN : SPAN);
    spans[i] = test_guard(AT + k_bytes + keys * whole.v_row); /* keys are read in whole spans, values to the last */
    at[i] = spans[i].p;
    memset(spans[i].p, 0, AT + k_bytes);
    memcpy(spans[i].p + AT, (const char *)whole.k + (size_t)i * k_bytes, keys * whole.k_row);
    memcpy(spans[i].p + AT + k_bytes, (const char *)whole.v + (size_t)i * v_bytes, keys * whole.v_row);
  }
  s->job.k = s->job.v = NULL;
  s->job.spans = at, s->job.span = SPAN, s->job.n_span = n_span;
  s->job.k_at = AT, s->job.v_at = AT + k_bytes, s->job.joint = joint.p;
  t->attention(&s->job);
  same_bytes("attention in spans, o", s->nq, s->o.p, want, out);
  same_bytes("attention in spans, top", s->nq, s->top.p, (char *)want + out, 4 * (size_t)s->nq);
  same_bytes("attention in spans, sum", s->nq, s->sum.p, (char *)want + out + 4 * (size_t)s->nq, 4 * (size_t)s->nq);
  s->job = whole;
  for (int64_t i = 0; i < n_span; i++) test_unguard(spans[i]);
  test_unguard(joint);
  free(want);
}

static void check_attention(const pgg_kernels *t) {
  static const int dims[][2] = {{64, 64}, {128, 128}, {8, 8},   {20, 20},   {48, 48}, {80, 80},
                                {96, 96}, {192, 128}, {32, 64}, {256, 256}, {3, 5}};
  static const int keys[] = {1, 2, 3, 7, 16, 17, 63, 64, 65, 100, 130, 257};
  static const int groups[] = {1, 2, 3, 4, 5, 6, 7, 8, 17, 19, 32};
  int turn = 0;
  for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++)
    for (size_t n = 0; n < sizeof keys / sizeof keys[0]; n++)
      for (int y = 0; y < N_KV_TYPES; y++) {
        const int type = kv_types[y];
        const int64_t nq = groups[turn++ % 11], k0 = turn % 3 ? 0 : 5, k1 = k0 + keys[n];
        if (pgg_quant_get(type)->info.elems > 1 && (dims[d][0] % 32 || dims[d][1] % 32)) continue;
        scene s = scene_new(t, type, nq, dims[d][0], dims[d][1], k0, k1, 4.0f);
        int32_t *first = (int32_t *)s.first.p, *last = (int32_t *)s.last.p;
        t->attention(&s.job);
        check_scene("attention, all keys", &s, bound_of(&s));
        check_spans(t, &s);
        s.job.softcap = 5.0f;
        for (int64_t i = 0; i < nq; i++) last[i] = (int32_t)(k1 - nq + 1 + i < k0 ? k0 : k1 - nq + 1 + i); /* causal */
        t->attention(&s.job);
        check_scene("attention, causal, soft cap", &s, bound_of(&s));
        check_alone(t, &s);
        s.job.softcap = 0.0f;
        for (int64_t i = 0; i < nq; i++) first[i] = last[i] - 9 + (int32_t)(i % 3); /* window, partly outside */
        t->attention(&s.job);
        check_scene("attention, window", &s, bound_of(&s));
        check_spans(t, &s);
        check_alone(t, &s);
        float slopes[32];
        int32_t at[32];
        for (int64_t i = 0; i < nq; i++) slopes[i] = 0.5f / (float)(1 + i % 7), at[i] = last[i] - 1 - (int32_t)(i % 2);
        s.job.slope = slopes, s.job.at = at;
        for (int64_t i = 0; i < nq; i++) first[i] = 0; /* keys on both sides of some queries */
        t->attention(&s.job);
        check_scene("attention, by distance", &s, bound_of(&s));
        check_alone(t, &s);
        s.job.slope = NULL;
        for (int64_t i = 0; i < nq; i++) /* some queries see nothing, others something odd */
          if (i % 3 == 0)
            first[i] = last[i] = (int32_t)k1 - 1;
          else
            first[i] = (int32_t)(bits32() % (uint32_t)k1), last[i] = first[i] + (int32_t)(bits32() % 80);
        t->attention(&s.job);
        check_scene("attention, holes", &s, bound_of(&s));
        check_alone(t, &s);
        scene_free(&s);
      }
  /* many queries over many blocks, as a prompt */
  for (int y = 0; y < N_KV_TYPES; y++) {
    scene s = scene_new(t, kv_types[y], 96, 64, 64, 3, 300, 4.0f);
    for (int64_t i = 0; i < 96; i++) ((int32_t *)s.last.p)[i] = (int32_t)(200 + i / 2 * 2);
    t->attention(&s.job);
    check_scene("attention, prompt", &s, bound_of(&s));
    check_spans(t, &s);
    check_alone(t, &s);
    scene_free(&s);
  }
}

/* NaN and infinity in a cache of 16 bits: a query that sees them is lost, one that does not is right. */
static void check_attention_poisoned(const pgg_kernels *t) {
  for (int where = 0; where < 3; where++) { /* key, value, query */
    scene s = scene_new(t, PGG_F16, 20, 64, 64, 0, 300, 4.0f);
    const uint16_t bad = where == 1 ? 0x7c00 : 0x7e00;
    int32_t *last = (int32_t *)s.last.p;
    for (int64_t i = 0; i < 20; i++) last[i] = i < 10 ? 140 : 290;
    if (where == 0) memcpy(s.k.p + 200 * s.job.k_row + 6, &bad, 2);
    if (where == 1) memcpy(s.v.p + 141 * s.job.v_row + 6, &bad, 2);
    if (where == 2) ((float *)s.q.p)[12 * s.job.q_stride] = NAN;
    t->attention(&s.job);
    for (int64_t i = 0; i < 20; i++) {
      const float *o = s.job.o + i * 64;
      const int lost = where == 2 ? i == 12 : i >= 10;
      checks++;
      if (lost && (where == 1 ? isfinite(o[3]) : !isnan(o[3])))
        fail("attention: poison %d missed by query %d", where, (int)i);
      if (!lost && !isfinite(o[3])) fail("attention: poison %d reached query %d", where, (int)i);
    }
    if (where != 2) { /* the queries in front, as if nothing were there */
      s.nq = 10;
      check_scene("attention, poison behind", &s, 4e-3);
      s.nq = 20;
    }
    scene_free(&s);
  }
}

/* Scores far outside what exp can take, and numbers that are none. */
static void check_attention_hostile(const pgg_kernels *t) {
  static const float sizes[] = {0.0f, 1e-30f, 1e4f, 1e30f};
  for (int z = 0; z < 4; z++) {
    scene s = scene_new(t, PGG_F32, 5, 64, 64, 0, 150, 1.0f);
    float *q = (float *)s.q.p, *k = (float *)s.k.p, *v = (float *)s.v.p;
    for (int64_t i = 0; i < 4 * s.job.q_stride + 64; i++) q[i] = 0.0f;
    for (int64_t i = 0; i < 5; i++) q[i * s.job.q_stride] = i & 1 ? -sizes[z] : sizes[z]; /* scores have one term */
    t->attention(&s.job);
    /* one key wins, or nearly; float scores are exact here but for the scale */
    check_scene("attention, size", &s, z == 2 ? 2e-3 : 1e-5);
    if (z == 0) {
      for (int64_t j = 0; j < 150 * 64; j++) k[j] = 1e20f;
      q[1] = -1e30f; /* query 0: every score overflows to -infinity */
      t->attention(&s.job);
      checks++;
      for (int64_t d = 0; d < 64; d++)
        if (isnan(s.job.o[64 + d])) fail("attention: an infinite score of query 0 reached query 1");
      if (s.job.sum[0] != 0.0f || isnan(s.job.top[0])) fail("attention: scores of -infinity must weigh nothing");
      q[1] = NAN, v[3 * 64 + 7] = INFINITY, k[0] = 0.0f;
      t->attention(&s.job);
      checks++;
      for (int64_t d = 0; d < 64; d++) {
        if (!isnan(s.job.o[d])) fail("attention: NaN in a query was lost at %d", (int)d);
        const float o = s.job.o[64 + d];
        if (d == 7 ? o != INFINITY : !isfinite(o)) fail("attention: infinity in a value went to %d", (int)d);
      }
    }
    scene_free(&s);
  }
}

/* ---- rates --------------------------------------------------------------------------------------------- */

/* A prompt: nq queries of a KV head that see all n keys. Processor time of a core; both products count. */
static void bench_prompt(const pgg_kernels *t, int type, int64_t nq, int64_t dim, int64_t n) {
  scene s = scene_new(t, type, nq, dim, dim, 0, n, 1.0f);
  double best = 1e9;
  for (int r = 0; r < 5; r++) {
    const double from = now();
    t->attention(&s.job);
    best = fmin(best, now() - from);
  }
  printf("%-8s prompt %-5s %3d queries dim %3d keys %5d: %8.1f us %6.1f GMAC/s\n", t->isa,
         pgg_quant_get(type)->info.name, (int)nq, (int)dim, (int)n, best * 1e6, 2e-9 * (double)(nq * dim * n) / best);
  scene_free(&s);
}

/* One token of a group of four heads over more KV heads than the caches of the CPU hold. */
static void bench_decode(const pgg_kernels *t, int type, int64_t dim, int64_t n) {
  const pgg_quant *fmt = pgg_quant_get(type);
  const size_t row = (size_t)(dim / fmt->info.elems * fmt->info.bytes), head = row * (size_t)n;
  const int heads = (int)(((size_t)96 << 20) / (2 * head));
  scene s = scene_new(t, type, 4, dim, dim, 0, n, 1.0f);
  size_t room = 2 * head * (size_t)heads + ((size_t)2 << 20);
  test_guarded g = test_guard(room);
  uint8_t *all = g.p + ((size_t)2 << 20) - (size_t)((uintptr_t)g.p % ((size_t)2 << 20));
#if TEST_HAS_GUARD && defined(MADV_HUGEPAGE)
  madvise(all, 2 * head * (size_t)heads / ((size_t)2 << 20) * ((size_t)2 << 20), MADV_HUGEPAGE);
#endif
  for (int h = 0; h < 2 * heads; h++) memcpy(all + (size_t)h * head, h & 1 ? s.v.p : s.k.p, head);
  double best = 1e9;
  for (int r = 0; r < 4; r++) {
    const double from = now();
    for (int h = 0; h < heads; h++) {
      s.job.k = all + (size_t)(2 * h) * head, s.job.v = all + (size_t)(2 * h + 1) * head;
      t->attention(&s.job);
    }
    best = fmin(best, (now() - from) / heads);
  }
  printf("%-8s decode %-5s group 4 dim %3d keys %5d: %8.1f us %6.2f GB/s %6.2f Gvalue/s\n", t->isa, fmt->info.name,
         (int)dim, (int)n, best * 1e6, 2e-9 * (double)head / best, 2e-9 * (double)(dim * n) / best);
  test_unguard(g), scene_free(&s);
}

/* type: of the cache, or NULL for all */
static void bench_level(const pgg_kernels *t, const char *type) {
  for (int y = 0; y < N_KV_TYPES; y++) {
    if (type && strcmp(type, pgg_quant_get(kv_types[y])->info.name)) continue;
    bench_prompt(t, kv_types[y], 64, 64, 512);
    bench_prompt(t, kv_types[y], 64, 64, 8192);
    bench_prompt(t, kv_types[y], 256, 64, 8192);
    bench_prompt(t, kv_types[y], 256, 128, 8192);
  }
  for (int y = 0; y < N_KV_TYPES; y++) {
    if (type && strcmp(type, pgg_quant_get(kv_types[y])->info.name)) continue;
    bench_decode(t, kv_types[y], 64, 8192);
    bench_decode(t, kv_types[y], 128, 8192);
  }
}

/* ---- levels -------------------------------------------------------------------------------------------- */

static int check_level(const char *name) {
  const pgg_kernels *t = pgg_kernels_level(name), *ref = pgg_kernels_level("scalar");
  const int before = failures;
  if (!t) return 0;
  level_name = name, seed = 1;
  check_store(t, ref);
  check_turn(t, ref);
  check_attention(t);
  check_attention_hostile(t);
  check_attention_poisoned(t);
  printf("%s: %s\n", name, failures == before ? "ok" : "FAILED");
  return 1;
}

int main(int argc, char **argv) {
  const char *names[16], *only = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL;
  const int n = pgg_isa_list(names, 16);
  if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
    for (int i = 0; i < n; i++)
      if (argc < 3 || strcmp(argv[2], names[i]) == 0)
        bench_level(pgg_kernels_level(names[i]), argc > 3 ? argv[3] : NULL);
    return 0;
  }
  if (only) {
    if (!check_level(only)) {
      printf("skipped: level '%s' does not run here\n", only);
      return 77;
    }
  } else {
    for (int i = 0; i < n; i++) check_level(names[i]);
  }
  printf("%ld checks, %d failures\n", checks, failures);
  return failures ? 1 : 0;
}
