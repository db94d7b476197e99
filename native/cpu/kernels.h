/* Floor 2: the slot table. Rows in, rows out; no malloc, no threads, cannot fail. One table per ISA level: a level
 * starts from the one below and overrides slots. Letters: m weight rows, n tokens, k inner length.
 * Pointers are 64-byte aligned only where a line says so. */
#ifndef PGG_KERNELS_H
#define PGG_KERNELS_H
#include <math.h>

#include "base/base.h"
#include "quant/quant.h"

/* y[r] for rows r of w against one activation row: y[r] = dot(w + r * row_bytes, act). Sequential walk, prefetch. */
typedef void (*pgg_gemv_fn)(const void *w, size_t row_bytes, const void *act, float *y, int64_t rows, int64_t k);

/* Block product: y[t * y_stride + r] for r in [0, rows), t in [0, n). A token's bits depend on its row alone: not on
 * n, and not on how weight rows are cut into calls as long as cuts are multiples of gemm_rows.
 * acts: n prepared rows, act_stride bytes apart (pgg_act or floats, as the type needs), 64-byte aligned.
 * panels: the same activations as the slot wants them, for gemm by pack_panels, or by pack_panel, each
 * panel_bytes(type, 1, k) from the last; for few by pack_few where few_bytes is not 0.
 * scratch: gemm_scratch(type, k) bytes, 64-byte aligned, private to the thread. */
typedef struct pgg_gemm {
  const void *w; /* (rows, k) */
  size_t row_bytes;
  const void *acts;
  size_t act_stride;
  const void *panels;
  float *y;
  int64_t y_stride; /* floats */
  int64_t rows, n, k;
  void *scratch;
} pgg_gemm;
typedef void (*pgg_gemm_fn)(const pgg_gemm *job);

/* Attention of one KV head: nq query rows (its group's heads times tokens) against keys [k0, k1) of its cache.
 * Query i sees keys first[i] <= j < last[i]. Writes unnormalised partials (online softmax): o (nq, v_dim),
 * top[i] = running maximum (finite, very negative when nothing was seen), sum[i] = sum of exp(score - top).
 * An f32 cache is attended in floats. Others may take a 16-bit form where the job says `many` (attention_pairs.inc:
 * outputs within 2^-8 of the largest value), integer ones a byte form where it does not (attention_bytes.inc). How many
 * queries there are chooses nothing: a query has the same bits among any others. */
enum { PGG_ATTN_BLOCK = 128 };

typedef struct pgg_attn {
  const float *q; /* (nq, k_dim), rows q_stride floats apart; not yet scaled */
  int64_t q_stride, nq;
  int many;          /* the form made for many queries */
  const void *k, *v; /* (n_ctx, k_dim), (n_ctx, v_dim) in kv_type; what is read ahead behind them is not used */
  /* Or in spans, memory of positions [i * span, (i + 1) * span) each, from k_at and v_at on: then k and v are not read.
   * span is a multiple of PGG_ATTN_BLOCK; joint: room for so many keys and values, 64-byte aligned. */
  void *const *spans;
  int64_t span, n_span;
  size_t k_at, v_at;
  void *joint;
  int kv_type;
  size_t k_row, v_row; /* bytes */
  int64_t k_dim, v_dim, k0, k1;
  const int32_t *first, *last; /* (nq) */
  float scale, softcap;        /* score = scale * q.k, then cap * tanh(score / cap) when cap > 0 */
  const float *slope;          /* (nq) or NULL: then slope * |position of the query - that of the key| is taken off */
  const int32_t *at;           /* (nq) positions of the queries, where there are slopes */
  float *o, *top, *sum;
  void *scratch; /* attn_scratch(nq, k_dim, v_dim) bytes, 64-byte aligned, private to the thread */
  /* For attention.inc alone: where reading ahead leaves the span, and how far it is from there to the next. */
  uintptr_t k_edge, v_edge, k_jump, v_jump;
} pgg_attn;

/* What a query's partials of all its keys are multiplied by: 1 over the sum of weights, 0 where nothing was seen. sink:
 * one more score that has a weight and no value, or NULL; it comes in last and once, however the keys were cut. */
static inline float pgg_attn_share(float top, float sum, const float *sink) {
  if (sum == 0.0f) return 0.0f;
  if (!sink) return 1.0f / sum;
  const float most = *sink > top ? *sink : top, keys = expf(top - most);
  return keys / (keys * sum + expf(*sink - most));
}

enum { PGG_TOPS_BLOCK = 64, PGG_SUMS_BLOCK = 256, PGG_GRADE_BINS = 2048 };

/* Grade of a logit x >= least: round((top - x) * per), less than PGG_GRADE_BINS; per is a power of two. */
typedef struct pgg_grades {
  float top, least, per, by;
} pgg_grades;

typedef struct pgg_rope {
  const float *cos_sin; /* (n_rot / 2, 2) of this position, attention factor folded in */
  int n_head, head_dim, n_rot, neox;
} pgg_rope;

/* The gated delta rule (ops.def) for columns of one head over n tokens, one after another: columns of S do not look at
 * each other, so neither how they are cut nor where the text is changes a bit. Rows of before and after are
 * state_stride floats apart; they may be one. */
typedef struct pgg_delta {
  const float *q, *k, *v, *alpha, *beta; /* of the first token */
  int64_t q_stride, k_stride, v_stride, alpha_stride, beta_stride;
  int64_t n, k_dim, cols;
  float a, dt, scale;
  const float *before; /* (k_dim, cols) */
  float *after;
  int64_t state_stride;
  float *y; /* (n, cols) */
  int64_t y_stride;
} pgg_delta;

/* A selective state space (ops.def) for rows of heads with the same b and c over n tokens, one after another: rows of S
 * do not look at each other, so neither how they are cut nor where the text is changes a bit. */
typedef struct pgg_scan {
  const float *x, *b, *c, *dt; /* of the first token: x of the first row, dt of its head */
  int64_t x_stride, b_stride, c_stride, dt_stride;
  int64_t n, k_dim, v_dim, rows, skip; /* rows of the first head before them */
  int each;                            /* a is (heads, k_dim), else (heads) */
  const float *a, *bias, *d;           /* from the first head on; d may be NULL */
  const float *before;                 /* (rows, k_dim) */
  float *after;                        /* may be before */
  float *y;                            /* (n, rows) */
  int64_t y_stride;
} pgg_scan;

typedef struct pgg_kernels {
  const char *isa;

  /* By type id; every weight type (BLOCK, FLOAT) has gemv and gemm. Decode rows go through gemv, and through few where
   * there are several; prompt rows through gemm, however many there are: it adds in another order. */
  pgg_gemv_fn gemv[PGG_TYPE_LIMIT];
  pgg_gemm_fn few[PGG_TYPE_LIMIT]; /* bits of gemv; NULL: gemv per token is as good */
  pgg_gemm_fn gemm[PGG_TYPE_LIMIT];
  int bf16_acts;                                         /* products of bf16 weights round activations to bf16 */
  int gemm_rows;                                         /* rows of a strip: cuts between threads are multiples */
  size_t (*gemm_scratch)(int type, int64_t k);           /* bytes per thread, for gemm and few */
  size_t (*panel_bytes)(int type, int64_t n, int64_t k); /* of all panels of n tokens */
  int64_t panel_tokens;                                  /* tokens in a panel */
  void (*pack_panels)(int type, const void *acts, size_t act_stride, int64_t n, int64_t k, int64_t p0, int64_t p1,
                      void *panels); /* panels [p0, p1) of ceil(n / panel_tokens) */
  /* one loose panel of n <= panel_tokens; may be done in parts of whole blocks of 256 of k, one after another */
  void (*pack_panel)(int type, const void *acts, size_t act_stride, int64_t n, int64_t k, void *panel);
  size_t (*few_bytes)(int type, int64_t n, int64_t k); /* 0: few reads the prepared rows themselves */
  void (*pack_few)(int type, const void *acts, size_t act_stride, int64_t n, int64_t k, int64_t t0, int64_t t1,
                   void *panels); /* tokens [t0, t1) of n */

  void (*act_encode)(const float *x, pgg_act *act, int64_t k);          /* bytes equal to pgg_act_encode */
  void (*decode[PGG_TYPE_LIMIT])(const void *row, float *y, int64_t k); /* bit-equal to pgg_quant.decode */
  /* bytes equal to pgg_quant.encode; NULL: no faster one */
  void (*encode[PGG_TYPE_LIMIT])(const float *x, void *row, int64_t k, const float *importance);

  /* rows of floats; every level fills all of them */
#define SLOT(result, name, args) result(*name) args;
#define SLOTS(result, name, count, args) result(*name[count]) args;
#include "cpu/slots.def"
} pgg_kernels;

/* The table in force; pgg_init must have succeeded. */
const pgg_kernels *pgg_kernels_get(void);
/* A level's table for tests, NULL if it does not run here. "scalar" is the reference. */
const pgg_kernels *pgg_kernels_level(const char *isa);
/* The same level without what newer CPUs add to it, for tests of both forms; NULL if nothing was added. */
const pgg_kernels *pgg_kernels_bare(const char *isa);

#endif
