/* A small decoder made by hand, as a plan and as the plainest possible C over whole sequences in double. Two layers:
 * the first rotates neighbours and caps its scores, the second rotates halves by given factors, sees a window and has
 * sinks. */
#ifndef PGG_TINY_PLAN_H
#define PGG_TINY_PLAN_H
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "quant/quant.h"

typedef struct tiny {
  int n_embd, n_head, n_head_kv, dim, n_ff, n_vocab, type;
  int causal, window;
  int share; /* what the second layer takes of the first one's cache, or both of their keys */
  /* Per layer: norm, q, k, v, o, ffn norm, gate, up, down; then embedding, final norm, bias of q, factors, sinks. */
  float *f32[24];
  void *raw[24];
  int64_t rows[24], cols[24];
  int n;
} tiny;

enum { SHARE_NONE, SHARE_BOTH, SHARE_KEYS, SHARE_VALUES, VALUES_IN_KEYS, SHARE_KINDS };
enum {
  T_NORM,
  T_Q,
  T_K,
  T_V,
  T_O,
  T_FFN,
  T_GATE,
  T_UP,
  T_DOWN,
  T_LAYER,
  T_EMBD = 2 * T_LAYER,
  T_OUT_NORM,
  T_BIAS,
  T_FACTORS,
  T_SINKS,
  T_COUNT
};
#define TINY_EPS 1e-5f
#define TINY_BASE 10000.0
#define TINY_CAP 4.0

static inline void tiny_weight(tiny *t, int at, int64_t rows, int64_t cols, float scale, float offset, uint64_t *seed) {
  t->rows[at] = rows;
  t->cols[at] = cols;
  t->f32[at] = malloc((size_t)(rows * cols) * sizeof(float));
  for (int64_t i = 0; i < rows * cols; i++) t->f32[at][i] = offset + scale * check_random(seed);
  const int type = rows == 1 ? PGG_F32 : t->type;
  t->raw[at] = malloc((size_t)rows * pgg_row_bytes(type, cols));
  CHECK_OK(pgg_quantize(type, t->f32[at], t->raw[at], rows, cols, NULL, 1));
  CHECK_OK(pgg_dequantize(type, t->raw[at], t->f32[at], rows, cols, 1)); /* the reference sees what was kept */
}

static inline tiny tiny_make(int type, int n_embd, int n_head, int n_head_kv, int dim, int n_ff, int n_vocab) {
  tiny t = {n_embd, n_head, n_head_kv, dim, n_ff, n_vocab, type, 1, 5, SHARE_NONE, {0}, {0}, {0}, {0}, T_COUNT};
  uint64_t seed = 7;
  for (int l = 0; l < 2; l++) {
    const int b = l * T_LAYER;
    const float s = 1.7f / sqrtf((float)n_embd);
    tiny_weight(&t, b + T_NORM, 1, n_embd, 0.3f, 1, &seed);
    tiny_weight(&t, b + T_Q, n_head * dim, n_embd, s, 0, &seed);
    tiny_weight(&t, b + T_K, n_head_kv * dim, n_embd, s, 0, &seed);
    tiny_weight(&t, b + T_V, n_head_kv * dim, n_embd, s, 0, &seed);
    tiny_weight(&t, b + T_O, n_embd, n_head * dim, 1.7f / sqrtf((float)(n_head * dim)), 0, &seed);
    tiny_weight(&t, b + T_FFN, 1, n_embd, 0.3f, 1, &seed);
    tiny_weight(&t, b + T_GATE, n_ff, n_embd, s, 0, &seed);
    tiny_weight(&t, b + T_UP, n_ff, n_embd, s, 0, &seed);
    tiny_weight(&t, b + T_DOWN, n_embd, n_ff, 1.7f / sqrtf((float)n_ff), 0, &seed);
  }
  tiny_weight(&t, T_EMBD, n_vocab, n_embd, 1, 0, &seed);
  tiny_weight(&t, T_OUT_NORM, 1, n_embd, 0.3f, 1, &seed);
  tiny_weight(&t, T_BIAS, 1, n_head * dim, 0.5f, 0, &seed);
  tiny_weight(&t, T_FACTORS, 1, dim / 2, 0.5f, 1.6f, &seed);
  tiny_weight(&t, T_SINKS, 1, n_head, 2, 0, &seed);
  return t;
}

static inline void tiny_free(tiny *t) {
  for (int i = 0; i < t->n; i++) {
    free(t->f32[i]);
    free(t->raw[i]);
  }
}

/* ---- as a plan ----------------------------------------------------------------------------------------- */

static inline pgg_op op_of(int kind, const char *name, int a, int b) {
  pgg_op op = {.kind = kind, .name = name};
  for (int i = 0; i < PGG_MAX_SRC; i++) op.src[i] = i == 0 ? a : i == 1 ? b : -1;
  for (int i = 0; i < PGG_MAX_WEIGHTS; i++) op.weight[i] = -1;
  return op;
}

static inline int add_op(pgg_plan *plan, pgg_op op) {
  int node = -1;
  CHECK_OK(pgg_plan_op(plan, &op, &node));
  return node;
}

static inline int add_weight(pgg_plan *plan, const char *name, const float *data, int64_t rows, int64_t cols) {
  int index = -1;
  CHECK_OK(pgg_plan_weight(plan, name, PGG_F32, data, rows, cols, &index));
  return index;
}

static inline int add_embed(pgg_plan *plan, int table) {
  pgg_op op = op_of(PGG_OP_EMBED, "embed", -1, -1);
  PGG_WEIGHT(&op, embed, table) = table;
  return add_op(plan, op);
}

/* Columns [start, start + n) of each run of seg. */
static inline int add_cols(pgg_plan *plan, const char *name, int x, int64_t seg, int64_t start, int64_t n) {
  pgg_op op = op_of(PGG_OP_COLS, name, x, -1);
  PGG_INT(&op, cols, seg) = seg, PGG_INT(&op, cols, start) = start, PGG_INT(&op, cols, n) = n;
  return add_op(plan, op);
}

static inline int add_norm(pgg_plan *plan, const char *name, int x, int w, int64_t seg) {
  pgg_op op = op_of(PGG_OP_RMS_NORM, name, x, -1);
  PGG_WEIGHT(&op, rms_norm, w) = w;
  PGG_INT(&op, rms_norm, seg) = seg;
  PGG_FLOAT(&op, rms_norm, eps) = TINY_EPS;
  return add_op(plan, op);
}

static inline int add_matmul(pgg_plan *plan, const char *name, int x, int w, int bias) {
  pgg_op op = op_of(PGG_OP_MATMUL, name, x, -1);
  PGG_WEIGHT(&op, matmul, w) = w;
  PGG_WEIGHT(&op, matmul, bias) = bias;
  return add_op(plan, op);
}

static inline int add_rope(pgg_plan *plan, const tiny *t, const char *name, int x, int n_head, int layer, int factors) {
  pgg_op op = op_of(PGG_OP_ROPE, name, x, -1);
  PGG_INT(&op, rope, n_head) = n_head;
  PGG_INT(&op, rope, head_dim) = t->dim;
  PGG_INT(&op, rope, n_rot) = layer ? t->dim - 4 : t->dim;
  PGG_INT(&op, rope, style) = layer;
  PGG_FLOAT(&op, rope, freq_base) = (float)TINY_BASE;
  PGG_FLOAT(&op, rope, freq_scale) = PGG_FLOAT(&op, rope, attn_factor) = 1;
  PGG_WEIGHT(&op, rope, factors) = factors;
  return add_op(plan, op);
}

static inline int add_attention(pgg_plan *plan, const tiny *t, const char *name, int q, int k, int v, int layer,
                                int sinks) {
  pgg_op op = op_of(PGG_OP_ATTENTION, name, q, k);
  PGG_SRC(&op, attention, v) = v;
  PGG_WEIGHT(&op, attention, sinks) = sinks;
  PGG_INT(&op, attention, keys) = k < 0 ? 0 : layer;
  PGG_INT(&op, attention, values) = v < 0 && t->share != VALUES_IN_KEYS ? 0 : layer;
  PGG_INT(&op, attention, n_head) = t->n_head;
  PGG_INT(&op, attention, n_head_kv) = t->n_head_kv;
  PGG_INT(&op, attention, k_dim) = PGG_INT(&op, attention, v_dim) = t->dim;
  PGG_INT(&op, attention, causal) = t->causal;
  PGG_INT(&op, attention, window) = layer ? t->window : 0;
  PGG_FLOAT(&op, attention, scale) = 1.0f / sqrtf((float)t->dim);
  PGG_FLOAT(&op, attention, softcap) = layer ? 0 : (float)TINY_CAP;
  return add_op(plan, op);
}

static inline bool tiny_has_k(const tiny *t, int l) { return !l || (t->share != SHARE_BOTH && t->share != SHARE_KEYS); }
static inline bool tiny_has_v(const tiny *t, int l) {
  return t->share == SHARE_NONE || (t->share != VALUES_IN_KEYS && !l) || (l && t->share == SHARE_KEYS);
}

/* Not frozen yet. */
static inline pgg_plan *tiny_plan_open(const tiny *t) {
  pgg_plan *plan = NULL;
  int w[T_COUNT], factors = -1;
  char name[32];
  CHECK_OK(pgg_plan_new(&plan));
  for (int i = 0; i < T_COUNT; i++) {
    snprintf(name, sizeof name, "w%d", i);
    int64_t cols = t->cols[i];
    if (i == T_FACTORS) cols -= 2; /* the second layer turns all but four values */
    CHECK_OK(pgg_plan_weight(plan, name, t->rows[i] == 1 ? PGG_F32 : t->type, t->raw[i], t->rows[i], cols, &w[i]));
  }
  factors = w[T_FACTORS];
  pgg_op embed = op_of(PGG_OP_EMBED, "embed", -1, -1);
  PGG_WEIGHT(&embed, embed, table) = w[T_EMBD];
  int x = add_op(plan, embed);
  for (int l = 0; l < 2; l++) {
    const int b = l * T_LAYER;
    int h = add_norm(plan, "attn_norm", x, w[b + T_NORM], t->n_embd);
    int q = add_matmul(plan, "q", h, w[b + T_Q], w[T_BIAS]);
    int k = tiny_has_k(t, l) ? add_matmul(plan, "k", h, w[b + T_K], -1) : -1;
    int v = tiny_has_v(t, l) ? add_matmul(plan, "v", h, w[b + T_V], -1) : -1;
    q = add_rope(plan, t, "rope_q", q, t->n_head, l, l ? factors : -1);
    if (k >= 0) k = add_rope(plan, t, "rope_k", k, t->n_head_kv, l, l ? factors : -1);
    const int seen = add_attention(plan, t, "attention", q, k, v, l, l ? w[T_SINKS] : -1);
    const int o = add_matmul(plan, "o", seen, w[b + T_O], -1);
    x = add_op(plan, op_of(PGG_OP_ADD, "add", x, o));
    h = add_norm(plan, "ffn_norm", x, w[b + T_FFN], t->n_embd);
    int gate = add_matmul(plan, "gate", h, w[b + T_GATE], -1), up = add_matmul(plan, "up", h, w[b + T_UP], -1);
    pgg_op glu = op_of(PGG_OP_GLU, "glu", gate, up);
    PGG_INT(&glu, glu, act) = l; /* silu, gelu */
    x = add_op(plan, op_of(PGG_OP_ADD, "add", x, add_matmul(plan, "down", add_op(plan, glu), w[b + T_DOWN], -1)));
  }
  x = add_op(plan, op_of(PGG_OP_ROWS, "rows", x, -1));
  x = add_matmul(plan, "head", add_norm(plan, "norm", x, w[T_OUT_NORM], t->n_embd), w[T_EMBD], -1);
  CHECK_OK(pgg_plan_output(plan, x));
  return plan;
}

static inline pgg_plan *tiny_plan(const tiny *t, int n_batch, int n_ctx, int keep_all) {
  pgg_plan *plan = tiny_plan_open(t);
  pgg_limits limits = {n_batch, n_ctx, keep_all};
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  return plan;
}

/* The decoder of tests that want no more than one. */
static inline tiny tiny_small(int n_vocab) { return tiny_make(PGG_F32, 64, 4, 2, 32, 96, n_vocab); }

static inline pgg_session *tiny_session(pgg_plan *plan, int64_t n_ctx, int kv_type) {
  pgg_session *session = NULL;
  CHECK_OK(pgg_session_new(plan, n_ctx, kv_type, &session));
  return session;
}

/* A session's state as bytes; the caller frees them. */
static inline unsigned char *tiny_saved(pgg_session *session, size_t *size) {
  *size = 0;
  CHECK_OK(pgg_session_save(session, NULL, size));
  unsigned char *bytes = malloc(*size);
  CHECK_OK(pgg_session_save(session, bytes, size));
  return bytes;
}

/* The end of a session, its plan and the decoder. */
static inline void tiny_end(pgg_session *session, pgg_plan *plan, tiny *t) {
  pgg_session_free(session);
  pgg_plan_free(plan);
  tiny_free(t);
}

/* ---- in plain C ---------------------------------------------------------------------------------------- */

static inline void ref_norm(const double *x, const float *w, double *y, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += x[i] * x[i];
  for (int i = 0; i < n; i++) y[i] = x[i] / sqrt(sum / n + (double)TINY_EPS) * w[i];
}

static inline void ref_matmul(const tiny *t, int at, const double *x, double *y, const float *bias) {
  const int64_t k = t->cols[at];
  float *xf = malloc((size_t)k * sizeof(float));
  void *act = aligned_alloc(64, (size_t)pgg_act_blocks(k) * sizeof(pgg_act));
  const bool blocks = pgg_type_get(t->type)->kind == PGG_KIND_BLOCK;
  for (int64_t c = 0; c < k; c++) xf[c] = (float)x[c];
  if (blocks) pgg_act_encode(xf, act, k);
  for (int64_t r = 0; r < t->rows[at]; r++) {
    y[r] = bias ? bias[r] : 0;
    if (blocks)
      y[r] += pgg_quant_get(t->type)->dot((const char *)t->raw[at] + (size_t)r * pgg_row_bytes(t->type, k), act, k);
    else
      for (int64_t c = 0; c < k; c++) y[r] += x[c] * t->f32[at][r * k + c];
  }
  free(xf);
  free(act);
}

static inline void ref_rope(const tiny *t, double *x, int n_head, int pos, int layer) {
  const int n_rot = layer ? t->dim - 4 : t->dim;
  for (int h = 0; h < n_head; h++)
    for (int i = 0; i < n_rot / 2; i++) {
      double *head = x + h * t->dim, angle = pos * pow(TINY_BASE, -2.0 * i / n_rot);
      if (layer) angle /= t->f32[T_FACTORS][i];
      const int a = layer ? i : 2 * i, b = layer ? i + n_rot / 2 : 2 * i + 1;
      const double u = head[a], v = head[b];
      head[a] = u * cos(angle) - v * sin(angle);
      head[b] = u * sin(angle) + v * cos(angle);
    }
}

/* logits (n, n_vocab) of the whole sequence */
static inline void tiny_reference(const tiny *t, const int32_t *ids, int n, double *logits) {
  const int e = t->n_embd, nq = t->n_head * t->dim, nk = t->n_head_kv * t->dim, group = t->n_head / t->n_head_kv;
  double *x = calloc((size_t)n * e, sizeof *x), *q = calloc((size_t)n * nq, sizeof *q);
  double *k = calloc((size_t)n * nk, sizeof *k), *v = calloc((size_t)n * nk, sizeof *v);
  double *a = calloc((size_t)n * nq, sizeof *a), *h = calloc((size_t)e, sizeof *h), *s = calloc((size_t)n, sizeof *s);
  double *gate = calloc((size_t)t->n_ff, sizeof *gate), *up = calloc((size_t)t->n_ff, sizeof *up);
  for (int i = 0; i < n; i++)
    for (int c = 0; c < e; c++) x[i * e + c] = t->f32[T_EMBD][ids[i] * e + c];
  for (int l = 0; l < 2; l++) {
    const int b = l * T_LAYER;
    for (int i = 0; i < n; i++) {
      ref_norm(x + i * e, t->f32[b + T_NORM], h, e);
      ref_matmul(t, b + T_Q, h, q + i * nq, t->f32[T_BIAS]);
      if (tiny_has_k(t, l)) ref_matmul(t, b + T_K, h, k + i * nk, NULL);
      if (tiny_has_v(t, l)) ref_matmul(t, b + T_V, h, v + i * nk, NULL);
      ref_rope(t, q + i * nq, t->n_head, i, l);
      if (tiny_has_k(t, l)) ref_rope(t, k + i * nk, t->n_head_kv, i, l);
      if (t->share == VALUES_IN_KEYS) memcpy(v + i * nk, k + i * nk, (size_t)nk * sizeof *v);
    }
    for (int i = 0; i < n; i++)
      for (int hd = 0; hd < t->n_head; hd++) {
        int from = 0, to = t->causal ? i + 1 : n;
        if (l && t->window && t->causal && i + 1 - t->window > 0) from = i + 1 - t->window;
        if (l && t->window && !t->causal) {
          from = i - t->window / 2 < 0 ? 0 : i - t->window / 2;
          to = i + t->window / 2 + 1 > n ? n : i + t->window / 2 + 1;
        }
        double top = -1e300, sum = 0;
        for (int j = from; j < to; j++) {
          s[j] = 0;
          for (int d = 0; d < t->dim; d++)
            s[j] += q[i * nq + hd * t->dim + d] * k[j * nk + hd / group * t->dim + d] / sqrt((double)t->dim);
          if (!l) s[j] = TINY_CAP * tanh(s[j] / TINY_CAP);
          if (s[j] > top) top = s[j];
        }
        if (l && t->f32[T_SINKS][hd] > top) top = t->f32[T_SINKS][hd];
        for (int j = from; j < to; j++) sum += s[j] = exp(s[j] - top);
        if (l) sum += exp(t->f32[T_SINKS][hd] - top);
        for (int d = 0; d < t->dim; d++) {
          double y = 0;
          for (int j = from; j < to; j++) y += s[j] / sum * v[j * nk + hd / group * t->dim + d];
          a[i * nq + hd * t->dim + d] = y;
        }
      }
    for (int i = 0; i < n; i++) {
      ref_matmul(t, b + T_O, a + i * nq, h, NULL);
      for (int c = 0; c < e; c++) x[i * e + c] += h[c];
      ref_norm(x + i * e, t->f32[b + T_FFN], h, e);
      ref_matmul(t, b + T_GATE, h, gate, NULL);
      ref_matmul(t, b + T_UP, h, up, NULL);
      for (int c = 0; c < t->n_ff; c++) {
        const double g = gate[c];
        const double act =
            l ? 0.5 * g * (1 + tanh(0.7978845608028654 * (g + 0.044715 * g * g * g))) : g / (1 + exp(-g));
        gate[c] = act * up[c];
      }
      ref_matmul(t, b + T_DOWN, gate, h, NULL);
      for (int c = 0; c < e; c++) x[i * e + c] += h[c];
    }
  }
  for (int i = 0; i < n; i++) {
    ref_norm(x + i * e, t->f32[T_OUT_NORM], h, e);
    ref_matmul(t, T_EMBD, h, logits + (size_t)i * t->n_vocab, NULL);
  }
  free(x), free(q), free(k), free(v), free(a), free(h), free(s), free(gate), free(up);
}

/* Largest difference over largest value. */
static inline double distance(const float *a, const double *b, int64_t n) {
  double worst = 0, top = 1e-30;
  for (int64_t i = 0; i < n; i++) {
    const double d = fabs(a[i] - b[i]);
    if (!(d <= worst)) worst = d; /* NaN counts */
    if (fabs(b[i]) > top) top = fabs(b[i]);
  }
  return worst / top;
}

static inline double distance_f(const float *a, const float *b, int64_t n) {
  double worst = 0, top = 1e-30;
  for (int64_t i = 0; i < n; i++) {
    const double d = fabs((double)a[i] - (double)b[i]);
    if (!(d <= worst)) worst = d;
    if (fabs((double)b[i]) > top) top = fabs((double)b[i]);
  }
  return worst / top;
}

static inline void tiny_ids(int32_t *ids, int n, int n_vocab, uint64_t seed) {
  for (int i = 0; i < n; i++) ids[i] = (int32_t)((check_random(&seed) + 1) * 0.4999f * (float)n_vocab);
}

#endif
