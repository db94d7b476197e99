/* pgg.h - the C API of pyggml's core: quantized matrices, transformer plans, sessions, sampling.
 *
 * C99, no Python, no C++. Opaque handles; the caller owns every buffer it passes. Sizes are int64_t elements
 * or size_t bytes and the name says which. Nothing here prints, aborts, exits or touches signals. Functions
 * return a pgg_status; on failure pgg_last_error() gives this thread a sentence: what, where, expected, got.
 * Matrices are row-major. Letters: m weight rows, n tokens, k inner length.
 */
#ifndef PGG_H
#define PGG_H
#include <stddef.h>
#include <stdint.h>

#define PGG_ABI 5 /* grows with every incompatible change of this header */

#if defined(_WIN32)
#define PGG_API
#else
#define PGG_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status -------------------------------------------------------------------------------------------- */

typedef enum pgg_status {
  PGG_OK = 0,
  PGG_EINVAL,       /* a bad argument */
  PGG_ETYPE,        /* a tensor type that cannot be used here */
  PGG_ESHAPE,       /* shapes do not fit */
  PGG_ENOMEM,       /* memory refused */
  PGG_EFORMAT,      /* bytes that are not what they claim to be */
  PGG_EUNSUPPORTED, /* not available in this build or on this CPU */
  PGG_EBACKEND,     /* a backend or the thread team failed */
  PGG_ECANCELLED,   /* stopped on request */
  PGG_ENUMERIC      /* NaN or infinity where a finite number is needed */
} pgg_status;

PGG_API const char *pgg_version(void);
PGG_API int pgg_abi(void);
PGG_API const char *pgg_status_text(pgg_status status);
PGG_API const char *pgg_last_error(void); /* of this thread; "" if none; valid until its next failing call */

/* ---- CPU level ----------------------------------------------------------------------------------------- */

/* Chooses the kernels: PYGGML_ISA if set, else the best this CPU runs. Called by every other function on first
 * use; call it to get the error for a PYGGML_ISA that is unknown or unavailable (PGG_EUNSUPPORTED). */
PGG_API pgg_status pgg_init(void);
PGG_API const char *pgg_isa(void);                     /* "scalar" "avx2" "avxvnni" "avx512" "neon" */
PGG_API int pgg_isa_list(const char **names, int cap); /* levels that run here, slowest first; returns their count */
PGG_API pgg_status pgg_isa_force(const char *name);    /* NULL: back to automatic. Not while steps run. */
PGG_API int pgg_threads_default(void);                 /* cores this process may use (affinity, cgroup quota), >= 1 */

/* ---- long calls ---------------------------------------------------------------------------------------- */

/* Somebody who may want to end a step: called by the thread that made it, about ten times a second while it lasts; any
 * other value than 0 ends it with PGG_ECANCELLED. It may call everything here but a step, and a session that is in the
 * step is closed only when that has ended. One for the process; NULL: nobody. */
typedef int (*pgg_watcher)(void);
PGG_API void pgg_watch(pgg_watcher watcher);

/* ---- types --------------------------------------------------------------------------------------------- */

typedef enum pgg_type {
#define QUANT(id, NAME, name, elems, bytes, sub, kind) PGG_##NAME = id,
#include "quant_types.def"
#undef QUANT
  PGG_TYPE_LIMIT = 64
} pgg_type;

typedef enum pgg_type_kind { PGG_KIND_BLOCK, PGG_KIND_FLOAT, PGG_KIND_INT, PGG_KIND_ACT } pgg_type_kind;

typedef struct pgg_type_info {
  int id;
  const char *name; /* "q4_k" */
  int elems, bytes; /* of a block */
  int sub;          /* values under one scale */
  pgg_type_kind kind;
  int encodes; /* 1 if pgg_quantize can write it */
} pgg_type_info;

PGG_API int pgg_type_count(void);
PGG_API const pgg_type_info *pgg_type_at(int index); /* NULL outside [0, count) */
PGG_API const pgg_type_info *pgg_type_get(int id);   /* NULL if there is no such type */
PGG_API size_t pgg_row_bytes(int type, int64_t k);   /* 0 if k does not fit the type or overflows */
/* The codes of a type: every integer q that its blocks hold, y = scale * q - min, rising. Writes the first cap of them
 * (256 are always enough) and returns how many there are; 0 for what has no blocks. */
PGG_API int pgg_type_codes(int type, int16_t *codes, int cap);

/* x (rows, k) f32 -> y (rows) blocks. importance: k weights >= 0 for the squared error of each column, or NULL.
 * PGG_ENUMERIC for a value that is not finite, or larger than the type holds wherever it stands (f16: 65504). */
PGG_API pgg_status pgg_quantize(int type, const float *x, void *y, int64_t rows, int64_t k, const float *importance,
                                int n_threads);
PGG_API pgg_status pgg_dequantize(int type, const void *x, float *y, int64_t rows, int64_t k, int n_threads);
/* x (rows, k) of from_type -> y of to_type: what pgg_dequantize and then pgg_quantize give, without the floats between.
 */
PGG_API pgg_status pgg_requantize(int from_type, const void *x, int to_type, void *y, int64_t rows, int64_t k,
                                  const float *importance, int n_threads);

/* ---- products ------------------------------------------------------------------------------------------ */

/* y (n, m) = x (n, k) f32 times w (m, k) transposed, w of any weight type. */
PGG_API pgg_status pgg_matmul(int type, const void *w, const float *x, float *y, int64_t m, int64_t n, int64_t k,
                              int n_threads);

/* The same product row by row, for callers with loops of their own. An activation row is prepared once for all
 * weights of a type: act needs pgg_act_bytes(type, k) bytes, 64-byte aligned. pgg_dot cannot fail. */
PGG_API size_t pgg_act_bytes(int type, int64_t k);
PGG_API pgg_status pgg_act_prepare(int type, const float *x, void *act, int64_t k);
PGG_API float pgg_dot(int type, const void *w_row, const void *act, int64_t k);

/* ---- memory -------------------------------------------------------------------------------------------- */

/* Zeroed, 2 MiB aligned where bytes >= 2 MiB and then advised to use huge pages. NULL when refused. */
PGG_API void *pgg_alloc(size_t bytes);
PGG_API void pgg_free(void *p, size_t bytes);

/* ---- plans --------------------------------------------------------------------------------------------- */

/* A plan is a list of ops over nodes. A node is a 2-D f32 array (rows, cols) whose rows are the tokens of a step
 * or the wanted ones among them. Built once per model, judged while it is built, frozen, then shared by sessions. */
typedef struct pgg_plan pgg_plan;

typedef enum pgg_activation {
#define ACTIVATION(NAME, name) PGG_ACTIVATION_##NAME,
#include "activations.def"
#undef ACTIVATION
  PGG_ACTIVATION_COUNT
} pgg_activation;

typedef enum pgg_op_kind {
#define OP(NAME, name, fields) PGG_OP_##NAME,
#include "ops.def"
  PGG_OP_COUNT
} pgg_op_kind;

PGG_API const char *pgg_op_name(int kind);       /* "rms_norm"; NULL if there is no such op */
PGG_API const char *pgg_activation_name(int at); /* "silu"; NULL if there is none */

enum { PGG_MAX_OUTPUTS = 8 }; /* of a plan */
enum { PGG_MAX_SRC = 6, PGG_MAX_WEIGHTS = 6, PGG_MAX_INTS = 12, PGG_MAX_FLOATS = 8 };

typedef struct pgg_op {
  int kind;                    /* pgg_op_kind; ops.def says which fields each kind reads */
  const char *name;            /* for messages and the profile: "blk.3.attn_q"; copied */
  int src[PGG_MAX_SRC];        /* nodes; -1 where absent */
  int weight[PGG_MAX_WEIGHTS]; /* weights; -1 where absent */
  int64_t i[PGG_MAX_INTS];
  float f[PGG_MAX_FLOATS];
} pgg_op;

/* Fields by the names of ops.def: PGG_INT(&op, rope, n_rot) = 64. */
#define PGG_SRC(op, kind, field) ((op)->src[offsetof(struct pgg_src_of_##kind, field)])
#define PGG_WEIGHT(op, kind, field) ((op)->weight[offsetof(struct pgg_weight_of_##kind, field)])
#define PGG_INT(op, kind, field) ((op)->i[offsetof(struct pgg_int_of_##kind, field)])
#define PGG_FLOAT(op, kind, field) ((op)->f[offsetof(struct pgg_float_of_##kind, field)])
/* The order of those names, a byte each; last_ is behind them. */
#define OP(NAME, name, fields) \
  struct pgg_src_of_##name {   \
    fields char last_;         \
  };
#define SRC(field, rows) char field;
#include "ops.def"
#define OP(NAME, name, fields)  \
  struct pgg_weight_of_##name { \
    fields char last_;          \
  };
#define WEIGHT(field, need) char field;
#include "ops.def"
#define OP(NAME, name, fields) \
  struct pgg_int_of_##name {   \
    fields char last_;         \
  };
#define INT(field, low, high) char field;
#include "ops.def"
#define OP(NAME, name, fields) \
  struct pgg_float_of_##name { \
    fields char last_;         \
  };
#define FLOAT(field, range) char field;
#include "ops.def"

typedef enum pgg_field_kind { PGG_FIELD_SRC, PGG_FIELD_WEIGHT, PGG_FIELD_INT, PGG_FIELD_FLOAT } pgg_field_kind;
typedef enum pgg_field_rule {
  PGG_RULE_ANY,
  PGG_RULE_TOKENS,   /* of a node: a row of every token */
  PGG_RULE_NEEDED,   /* of a weight */
  PGG_RULE_OPTIONAL, /* of a weight, or of a node as EITHER: -1 where absent */
  PGG_RULE_FROM_ZERO,
  PGG_RULE_POSITIVE,
  PGG_RULE_EITHER /* of a node: a row of every token, or of every row of the source */
} pgg_field_rule;

typedef struct pgg_op_field {
  const char *name; /* NULL behind the last */
  pgg_field_kind kind;
  pgg_field_rule rule;
  int64_t low, high; /* of an integer */
} pgg_op_field;
PGG_API const pgg_op_field *pgg_op_fields(int kind); /* in the order of ops.def; NULL if there is no such op */

typedef struct pgg_limits {
  int n_batch;  /* most tokens computed at once; a longer step is cut into such pieces */
  int n_ctx;    /* most positions of any session */
  int keep_all; /* 1: no two nodes share memory, so pgg_session_node can read every one after a step */
} pgg_limits;

/* Devices that plans can be placed on: what backends of this build find on this machine. Device 0 is the CPU. */
typedef enum pgg_device_kind { PGG_DEVICE_CPU, PGG_DEVICE_GPU, PGG_DEVICE_IGPU } pgg_device_kind;
typedef struct pgg_device_info {
  char id[32], name[128], driver[64]; /* id: "cpu:0" */
  pgg_device_kind kind;
  int unified;                /* its memory is the host's */
  uint64_t total, free_bytes; /* of its memory; 0: not known */
  char why_not[256];          /* "" where it can be used */
} pgg_device_info;
PGG_API int pgg_device_count(void);
PGG_API pgg_status pgg_device_about(int device, pgg_device_info *about);

PGG_API pgg_status pgg_plan_new(pgg_plan **plan);
PGG_API void pgg_plan_free(pgg_plan *plan); /* after its sessions; NULL is fine */
/* Ends all sessions as pgg_session_close does, and frees what they shared: weights are not read any more. From any
 * thread, any number of times. 0 only to a watcher inside a step of this plan, for which it cannot wait. */
PGG_API int pgg_plan_close(pgg_plan *plan);
/* Registers a matrix or vector (rows 1); data (rows, cols) is borrowed. Sets *index. The matrices of n experts are one
 * of n times their rows. */
PGG_API pgg_status pgg_plan_weight(pgg_plan *plan, const char *name, int type, const void *data, int64_t rows,
                                   int64_t cols, int *index);
PGG_API pgg_status pgg_plan_op(pgg_plan *plan, const pgg_op *op, int *node);
/* Once for each node that steps may return, at most PGG_MAX_OUTPUTS; the first is what they return unless a session was
 * told another (pgg_session_choose). */
PGG_API pgg_status pgg_plan_output(pgg_plan *plan, int node);
/* Before freezing: ops first_op to last_op, both included and counted in the order of pgg_plan_op, run on a device; ops
 * that are not placed run on device 0. Nodes that another device reads are copied at the cuts. */
PGG_API pgg_status pgg_plan_place(pgg_plan *plan, int first_op, int last_op, int device);
PGG_API pgg_status pgg_plan_freeze(pgg_plan *plan, const pgg_limits *limits);

enum { PGG_ROWS_TOKENS = -1, PGG_ROWS_WANTED = -2, PGG_ROWS_SOURCE = -3 };
PGG_API pgg_status pgg_plan_node_shape(const pgg_plan *plan, int node, int64_t *rows, int64_t *cols);
PGG_API int64_t pgg_plan_output_cols(const pgg_plan *plan); /* of the first output; 0 while there is none */
PGG_API int64_t pgg_plan_input_cols(const pgg_plan *plan);  /* of the `input` op; 0 for a plan fed by ids */
PGG_API int64_t pgg_plan_source_cols(const pgg_plan *plan); /* of that of the source; 0 where it is read by ids */
/* What a frozen plan takes, in bytes, never more than SIZE_MAX / 4 each. */
typedef struct pgg_plan_bytes {
  size_t weights;  /* that ops read, and float copies of vectors; on device 0 the matrices are the caller's own */
  size_t scratch;  /* of steps, shared by all sessions: as many threads as there are */
  size_t cache;    /* most that a session holds when all its positions are filled: a window keeps what it looks back at
                      and a step, recurrent states (conv) three of their kind */
  size_t position; /* of the cache, for each position while no window has passed it; it comes in spans of 256 */
  size_t mark;     /* for each mark of a session: recurrent states, and what windows look at */
} pgg_plan_bytes;
/* On a device, or on all with device -1; a session of n_ctx positions whose cache is of kv_type. PGG_EINVAL where none
 * of the plan lies on the device, PGG_ETYPE where the type cannot hold the cache. */
PGG_API pgg_status pgg_plan_memory(const pgg_plan *plan, int device, int kv_type, int64_t n_ctx, pgg_plan_bytes *bytes);
/* The same on all devices, in short: `scratch`, and `cache` or 0 where the type cannot hold it or before freezing. */
PGG_API size_t pgg_plan_arena_bytes(const pgg_plan *plan);
PGG_API size_t pgg_plan_kv_bytes(const pgg_plan *plan, int kv_type, int64_t n_ctx);

/* Bytes that each open session's cache holds now; what forks share counts in each. Returns their count. */
PGG_API int pgg_plan_caches(pgg_plan *plan, size_t *bytes, int cap);
/* Bytes that the caches of all sessions hold together, what they share once. */
PGG_API size_t pgg_plan_cache_bytes(pgg_plan *plan);

typedef struct pgg_op_time {
  const char *name;
  const char *kind;
  int64_t calls;
  int64_t ns;
} pgg_op_time;
PGG_API pgg_status pgg_plan_profile(pgg_plan *plan, int on);                   /* on: zeroes and starts, 0: stops */
PGG_API int pgg_plan_times(const pgg_plan *plan, pgg_op_time *times, int cap); /* returns the number of ops */

/* ---- sessions ------------------------------------------------------------------------------------------ */

/* One sequence: its key/value cache and position. A session is in one thread at a time: a second step is refused
 * (PGG_EINVAL), truncate waits, close cancels and waits. Sessions of one plan may be used by many threads at once
 * (their steps take turns on one team). */
typedef struct pgg_session pgg_session;

PGG_API pgg_status pgg_session_new(pgg_plan *plan, int64_t n_ctx, int kv_type, pgg_session **session);
/* Frees the cache, after a running step, which is cancelled. From any thread, any number of times; later steps fail. */
PGG_API void pgg_session_close(pgg_session *session);
PGG_API void pgg_session_free(pgg_session *session);            /* closes it first; nobody may use it any more */
PGG_API int64_t pgg_session_n_past(const pgg_session *session); /* -1: closed */
PGG_API int64_t pgg_session_n_ctx(const pgg_session *session);
/* Forgets later positions. Where it cannot be, it is PGG_EUNSUPPORTED: where windows have passed what n_past looks at,
 * and in a plan with recurrent states (conv) everywhere. Marks and 0 always can be. pgg_session_reach is the lowest
 * position to go back to, but 0; pgg_session_back the highest that is at most n_past. */
PGG_API pgg_status pgg_session_truncate(pgg_session *session, int64_t n_past);
PGG_API int64_t pgg_session_reach(const pgg_session *session);
PGG_API int64_t pgg_session_back(const pgg_session *session, int64_t n_past);
/* Forgets everything: all positions, and what was encoded. As truncate, it waits for a running step. */
PGG_API pgg_status pgg_session_reset(pgg_session *session);
/* Keeps what recurrent states are at the present position and holds back what windows look at there, so that truncating
 * can go back to it; forks and saved states have the marks too, a shift drops them. It costs pgg_plan_memory's `mark`
 * at most, of windows nothing until they pass, and nothing at all where there are neither. PGG_EINVAL beyond
 * PGG_MAX_MARKS. unmark: forgets one, if it is there. */
enum { PGG_MAX_MARKS = 64 };
PGG_API pgg_status pgg_session_mark(pgg_session *session);
PGG_API pgg_status pgg_session_unmark(pgg_session *session, int64_t n_past);
/* Another session at the same position. What both remember is kept once; who writes into a span of it gets a copy. Here
 * and below: PGG_EINVAL while a step of the session runs. */
PGG_API pgg_status pgg_session_fork(pgg_session *session, pgg_session **fork);
/* Forgets positions [first, last): later ones move down, their keys are turned back. PGG_EUNSUPPORTED, by name, where
 * keys were not turned by a rope, are kept as q4_0, a window would look at what it has forgotten, or a state is
 * recurrent. As of any cache
 * that is edited, what later positions have seen of the forgotten ones stays in their values. */
PGG_API pgg_status pgg_session_shift(pgg_session *session, int64_t first, int64_t last);
/* What the session remembers as bytes, for the same plan over the same weights. bytes NULL: only sets *size. Otherwise
 * *size is the room, and then what was written. */
PGG_API pgg_status pgg_session_save(pgg_session *session, void *bytes, size_t *size);
/* PGG_EFORMAT: cut or altered; PGG_EUNSUPPORTED: another version; PGG_EINVAL: of another model, of another type of
 * cache, or longer than n_ctx. On any failure the session is as before. */
PGG_API pgg_status pgg_session_load(pgg_session *session, const void *bytes, size_t size);
/* From any thread: a running step ends within one op, with PGG_ECANCELLED; where none runs, the next one does. Then it
 * is spent. on 0 takes it back. */
PGG_API void pgg_session_cancel(pgg_session *session, int on);

/* Which of the plan's outputs steps of the session return from now on: 0, the first, until told. Only what it needs is
 * computed. */
PGG_API pgg_status pgg_session_choose(pgg_session *session, int output);
PGG_API int64_t pgg_session_output_cols(const pgg_session *session); /* of the output that was chosen */
/* Rows are of two kinds, which are computed by different kernels: prompt rows, read many at a time, and decode rows, a
 * token at a time (or some that are to be checked). The kind alone says how: a row of a kind has the same bits whatever
 * shares its step, in whatever pieces a text is fed, on any number of threads. Between the kinds the order of sums
 * differs. pgg_session_kind: what the session is fed from now on; prompt rows until told, which one at a time are slow.
 * pgg_session_prompted: positions from the first on that prompt rows made: as if all of them had been fed at once. */
enum { PGG_PROMPT_ROWS = 0, PGG_DECODE_ROWS = 1 };
PGG_API pgg_status pgg_session_kind(pgg_session *session, int kind);
PGG_API int64_t pgg_session_prompted(const pgg_session *session);
/* Feeds n tokens at positions n_past... Input: ids (n), or rows (n, cols) for a plan that begins with `input`; one or
 * both for a plan with `embed` and `input`, where an id may be -1: NULL or -1 are zeros.
 * out (n_wanted, cols of the output) receives the last n_wanted positions; n_wanted may be 0.
 * On any failure the session is as before the call. */
PGG_API pgg_status pgg_session_step(pgg_session *session, const int32_t *ids, const float *rows, int64_t n,
                                    int64_t n_wanted, float *out, int n_threads);
/* Reads another text, to which steps attend: the source of a plan whose embed or input op is of the source. All of it
 * at once, n at most n_batch; ids or rows as of a step. It takes the place of what was encoded before, and truncate
 * leaves it, forks and saved states have it. PGG_EINVAL where the session is not at position 0, since what stands there
 * has attended to another source; a step before anything was encoded is PGG_EINVAL too. PGG_EUNSUPPORTED where the plan
 * reads no source. On any failure the session is as before the call. */
PGG_API pgg_status pgg_session_encode(pgg_session *session, const int32_t *ids, const float *rows, int64_t n,
                                      int n_threads);
PGG_API int64_t pgg_session_n_source(const pgg_session *session); /* rows that were encoded */
/* One step of several sequences, so that weights are read once for all of them. sessions: n_session different ones of
 * this plan; counts: tokens of each; ids: all tokens, session after session; n_wanted: wanted rows of each, at the end
 * of its tokens; out (sum of n_wanted, cols): those rows, session after session. What a sequence attends to is its own,
 * to the bit. Sessions of one kind should stand beside each other: a piece of the step has rows of one kind. Only for
 * plans fed by ids and without keep_all. A flag set by pgg_session_cancel on any of the sessions
 * ends the step for all. On any failure all sessions are as before the call. */
PGG_API pgg_status pgg_plan_step(pgg_plan *plan, pgg_session *const *sessions, const int64_t *counts, int n_session,
                                 const int32_t *ids, const int64_t *n_wanted, float *out, int n_threads);
/* After a step of a keep_all plan: the node's rows of the last piece computed. */
PGG_API pgg_status pgg_session_node(pgg_session *session, int node, float *out, int64_t count);

/* ---- sampling ------------------------------------------------------------------------------------------ */

typedef struct pgg_sampling {
  float temperature;       /* <= 0: greedy */
  int32_t top_k;           /* <= 0: off */
  float top_p;             /* >= 1: off */
  float min_p;             /* <= 0: off */
  float repeat_penalty;    /* 1: off */
  float frequency_penalty; /* 0: off */
  float presence_penalty;  /* 0: off */
  int32_t repeat_last_n;   /* window of the penalties; 0: off, -1: everything */
  uint64_t seed;
  /* 0 is off for all that follow, which are computed as llama.cpp does, in its order: penalties -> top_n_sigma -> top_k
   * -> typical_p -> top_p -> min_p -> xtc -> temperature -> draw. */
  float top_n_sigma; /* of those so many standard deviations of the logits from the best */
  float typical_p;   /* below 1: of those whose surprise is nearest to the entropy, with this probability together */
  float xtc_probability; /* how often all likely tokens but the last of them are taken away; */
  float xtc_threshold;   /* what is likely: above 0.5 nothing is */
  float dynatemp_range;  /* temperature - range to + range, by the entropy of what is left */
  float dynatemp_exponent;
  int32_t min_keep;   /* typical_p, top_p, min_p and xtc leave so many */
  int32_t mirostat;   /* 1 or 2: takes the place of all cuts and keeps the surprise near */
  float mirostat_tau; /* this many bits a token, */
  float mirostat_eta; /* so fast */
} pgg_sampling;

typedef struct pgg_sampler pgg_sampler;

PGG_API pgg_status pgg_sampler_new(const pgg_sampling *how, int64_t n_vocab, pgg_sampler **sampler);
PGG_API void pgg_sampler_free(pgg_sampler *sampler);
/* Added to the logits of ids (n different ones) before all else; -infinity forbids a token. Not for log-probabilities.
 */
PGG_API pgg_status pgg_sampler_bias(pgg_sampler *sampler, const int32_t *ids, const float *bias, int64_t n);
/* Which tokens may be chosen from now on: bit id & 31 of word id >> 5, (n_vocab + 31) / 32 words, which are copied;
 * NULL: all, as at first. What it forbids counts as a bias of -infinity. PGG_EINVAL for one that forbids all tokens;
 * on any failure the mask is as before. Not for log-probabilities. */
PGG_API pgg_status pgg_sampler_allow(pgg_sampler *sampler, const uint32_t *allowed);
/* DRY, behind the penalties: of tokens that would go on repeating a stretch of allowed_length tokens or more, logits
 * fall by multiplier * base^(length - allowed_length). last_n: tokens it looks back at, -1: all. A stretch ends at a
 * breaker: n of them, one after the other in breakers, of lengths[i] ids each. Before the first accept. multiplier 0:
 * off. */
PGG_API pgg_status pgg_sampler_dry(pgg_sampler *sampler, float multiplier, float base, int32_t allowed_length,
                                   int32_t last_n, const int32_t *breakers, const int32_t *lengths, int64_t n);
/* The steps behind the biases in another order; steps that are left out are not taken. Not with mirostat. */
enum {
  PGG_STEP_PENALTIES,
  PGG_STEP_DRY,
  PGG_STEP_TOP_N_SIGMA,
  PGG_STEP_TOP_K,
  PGG_STEP_TYPICAL_P,
  PGG_STEP_TOP_P,
  PGG_STEP_MIN_P,
  PGG_STEP_XTC,
  PGG_STEP_TEMPERATURE,
  PGG_STEPS
};
PGG_API pgg_status pgg_sampler_order(pgg_sampler *sampler, const int32_t *steps, int n);
/* adaptive-p in place of the last draw, with an order: tokens whose probability is near target are likely, and target
 * moves so that what was chosen has it on average over about 1 / (1 - decay) tokens. decay 0 to 0.99. */
PGG_API pgg_status pgg_sampler_adapt(pgg_sampler *sampler, float target, float decay);
PGG_API pgg_status pgg_sampler_accept(pgg_sampler *sampler, const int32_t *ids, int64_t n); /* feeds the window */
/* Chooses a token of logits (n_vocab) and accepts it. PGG_ENUMERIC if no logit is finite or any is NaN/+inf. */
PGG_API pgg_status pgg_sampler_next(pgg_sampler *sampler, const float *logits, int32_t *id);
/* Natural log-probability of id, penalties and cuts left aside, and of the n_top likeliest: top_ids, top_logprobs
 * (n_top), best first, equal ones by lower id. n_top is at most n_vocab; a token that is forbidden has -infinity. */
PGG_API pgg_status pgg_sampler_logprobs(pgg_sampler *sampler, const float *logits, int32_t id, double *logprob,
                                        int64_t n_top, int32_t *top_ids, double *top_logprobs);
/* One call a token: feeds ids (n), then chooses the next. Tokens that were chosen are decode rows (pgg_session_kind).
 */
PGG_API pgg_status pgg_session_next(pgg_session *session, pgg_sampler *sampler, const int32_t *ids, int64_t n,
                                    int n_threads, int32_t *id);
/* The same for several sequences: one step, then one choice for each; out_ids (n_session), -1 where its sampler is
 * NULL, as in the middle of a prompt. The first failure wins, its message names the sequence, and all sessions are as
 * before; samplers of the sequences before it have chosen. */
PGG_API pgg_status pgg_plan_next(pgg_plan *plan, pgg_session *const *sessions, pgg_sampler *const *samplers,
                                 const int64_t *counts, int n_session, const int32_t *ids, int n_threads,
                                 int32_t *out_ids);

/* ---- plans as files, models without Python ----------------------------------------------------------------- */

PGG_API int pgg_plan_weight_count(const pgg_plan *plan);
PGG_API const char *pgg_plan_weight_name(const pgg_plan *plan, int index); /* NULL if there is none */

/* A file that weights lie in: the GGUF file, or one of the parts that it was split into. */
typedef struct pgg_plan_part {
  const void *header; /* header_size bytes: what lies before its tensors */
  uint64_t header_size, size;
} pgg_plan_part;

typedef struct pgg_plan_source {
  const pgg_plan_part *parts; /* (n_part), in their order */
  int n_part;
  const int32_t *part_of;  /* (weights of the plan) the part that each lies in, from 0 */
  const uint64_t *offsets; /* (weights of the plan) where it lies there */
  const int32_t *ends;     /* (n_end) ids that end a text */
  int n_end;
} pgg_plan_source;

/* A frozen plan as bytes, for the GGUF file that its weights lie in: its size and a hash of its header are kept with
 * it, those of each part where it is split; so are the ids of devices that ops were placed on. bytes NULL: only sets
 * *size. Otherwise *size is the room, and then what was written. */
PGG_API pgg_status pgg_plan_save(const pgg_plan *plan, const pgg_plan_source *source, void *bytes, size_t *size);

/* A GGUF file, mapped, and the plan that was saved for it (Python: Model.export_plan). Of a split one gguf is any part
 * (NAME-00001-of-00003.gguf), the others lie beside it. A plan that is cut or altered, or of another file, a part that
 * is missing or altered, are PGG_EFORMAT, a plan of another version or on a device that is not here PGG_EUNSUPPORTED;
 * the message names the file or the device. */
typedef struct pgg_model pgg_model;
PGG_API pgg_status pgg_model_open(const char *gguf, const char *plan, pgg_model **model);
PGG_API void pgg_model_close(pgg_model *model);                   /* after its sessions; NULL is fine */
PGG_API pgg_plan *pgg_model_plan(const pgg_model *model);         /* borrowed: make sessions of it */
PGG_API int pgg_model_is_end(const pgg_model *model, int32_t id); /* 1 if the token ends a text */
/* PGG_EFORMAT if the GGUF file, or a part of it, was cut or rewritten since. Steps do not look: a map of a file that
 * was cut ends the process, so ask before a step where somebody may do that. */
PGG_API pgg_status pgg_model_unchanged(const pgg_model *model);

/* ---- GGUF leaf ----------------------------------------------------------------------------------------- */

/* Walks count strings (u64 length, bytes) from data[at] and writes where each begins and how long it is:
 * spans (count, 2) offset, length in bytes. *end is the offset behind the last. PGG_EFORMAT if one would pass size. */
PGG_API pgg_status pgg_gguf_strings(const void *data, size_t size, size_t at, int64_t count, uint64_t *spans,
                                    size_t *end);

#ifdef __cplusplus
}
#endif
#endif /* PGG_H */
