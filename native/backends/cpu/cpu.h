/* The CPU backend inside: its notes about a segment of a plan, its scratch, and the parts of its ops. Rows and threads
 * are decided here, arithmetic is behind the slots of kernels.h. */
#ifndef PGG_CPU_BACKEND_H
#define PGG_CPU_BACKEND_H
#include <stdatomic.h>

#include "backends/cpu/stages.h"
#include "cpu/kernels.h"

/* Fewer values than this are not worth dividing: one thread does them while the others wait. */
#define PGG_CPU_SMALL 8192
/* So many values or fewer each thread makes for itself where the next stage needs them all. */
#define PGG_CPU_EACH 16384
#define PGG_CPU_COLUMNS 32 /* chunks of columns are multiples: whole strips of products, cache lines of their own */

/* ---- products (product.c) ------------------------------------------------------------------------------ */

typedef _Atomic int64_t pgg_cpu_tail; /* next piece of work that belongs to no thread in particular; starts at 0 */

typedef struct pgg_cpu_product {
  const pgg_kernels *kernels;
  int type;
  const void *w; /* (m, k) */
  size_t row_bytes;
  int64_t m, n, k;
  bool decode;      /* the kind of the rows, which chooses the kernels; their number never does */
  const void *acts; /* (n) prepared rows, act_stride bytes apart */
  size_t act_stride;
  void *panels; /* where packed panels are kept, or NULL */
  float *y;     /* (n, m), rows y_stride floats apart */
  int64_t y_stride;
  const float *bias; /* (m) or NULL */
  pgg_cpu_tail *tail;
} pgg_cpu_product;

bool pgg_cpu_takes_blocks(int type);            /* activations are pgg_act rows, not floats */
size_t pgg_cpu_act_stride(int type, int64_t k); /* bytes of a prepared row, a multiple of 64 */
size_t pgg_cpu_panel_bytes(const pgg_kernels *kernels, int type, int64_t n, int64_t k, bool decode); /* 0: none */
void pgg_cpu_pack(const pgg_cpu_product *job, int ith, int nth);
void pgg_cpu_multiply_rows(const pgg_cpu_product *job, void *scratch, int64_t r0, int64_t r1); /* r0: of a strip */
void pgg_cpu_multiply(const pgg_cpu_product *job, void *scratch, int ith, int nth);

/* ---- plans (compile.c) --------------------------------------------------------------------------------- */

typedef struct pgg_cpu_op {
  bool acts_there;   /* matmul: the activations were just prepared for an earlier op */
  bool panels_there; /* the same for packed panels */
  int prepared_by;   /* matmul: the op that prepares its activations */
  int acts_slot;     /* matmul: which of two places they lie in, so that the next can be made while these are read */
  int rope;          /* rope: which table */
  /* fusion.c: chunks of the stage that writes the node (attention: the cache), 0 where it is not cut into columns;
   * whether it goes along with the stage before. prepare: chunks of a matmul's preparation, which always does. */
  int chunks, prepare;
  bool along;
} pgg_cpu_op;

typedef struct pgg_cpu_rope {
  const pgg_op *op; /* the first op with these numbers */
  const float *factors;
  double *speed; /* (n_rot / 2) radians per position of every pair */
} pgg_cpu_rope;

typedef struct pgg_cpu_scratch {
  const pgg_kernels *kernels; /* sizes below are for this table */
  int n_threads;
  char *base;
  size_t bytes;
  size_t acts, acts_slot[2], panels, ropes, partials; /* offsets; acts is acts_slot[0] */
  size_t experts, expert_acts, own_acts, threads;
  size_t own_acts_bytes, thread_bytes; /* of a thread */
  pgg_cpu_tail *tails;                 /* (plan->n_op) */
} pgg_cpu_scratch;

#define PGG_CPU_SPACES 17 /* one of the team, and up to 16 for steps on a single thread */

typedef _Atomic int pgg_cpu_claim; /* the next chunk that belongs to no thread in particular */

/* What one running piece needs: the arena where the piece brings none, the threads' own memory, scratch. */
typedef struct pgg_cpu_space {
  char *arena;
  size_t arena_bytes;
  char *own; /* (threads, plan->own_bytes) */
  size_t own_bytes;
  pgg_cpu_claim *claims; /* (2 * plan->n_op) */
  pgg_cpu_scratch *scratch;
} pgg_cpu_space;

/* What runs of a segment in a step, or when the source is encoded. */
typedef struct pgg_cpu_phase {
  int opening; /* the op before whose stages the tables of ropes are made; -1: no rows of tokens, or of the source */
  double macs; /* work of one token, attention apart, in multiply-adds of small integers */
  double macs_past; /* more of them for each position looked at */
} pgg_cpu_phase;

/* A segment's notes. */
struct pgg_cpu_segment {
  pgg_cpu_op *ops;     /* (plan->n_op) those of the segment */
  pgg_cpu_rope *ropes; /* (n_rope) */
  int n_rope;
  pgg_cpu_phase step, encoding;
  pgg_gate gate; /* of spaces 1.. */
  pgg_cpu_space *spaces[PGG_CPU_SPACES];
};

pgg_status pgg_cpu_compile(pgg_segment *segment);
void pgg_cpu_discard(pgg_segment *segment);
void pgg_cpu_rest(pgg_segment *segment);
size_t pgg_cpu_scratch_bytes(const pgg_segment *segment);
pgg_status pgg_cpu_reserve(const pgg_segment *segment, pgg_cpu_scratch **scratch, int n_threads);
void pgg_cpu_release(pgg_cpu_scratch *scratch);

/* slabs.c: memory for a long time, on huge pages where there is enough of its size. Zeroed the first time. */
void *pgg_cpu_piece(size_t bytes); /* NULL when refused */
void pgg_cpu_piece_free(void *p);

/* team.c */
pgg_status pgg_cpu_run(pgg_segment *segment, const pgg_piece *piece);
void pgg_cpu_space_free(pgg_cpu_space *space); /* NULL is fine */

static inline const pgg_cpu_scratch *pgg_cpu_scratch_of(const pgg_run *run) { return run->scratch; }
static inline const pgg_cpu_segment *pgg_cpu_segment_of(const pgg_run *run) { return run->notes; }
static inline const pgg_cpu_phase *pgg_cpu_phase_of(const pgg_run *run) {
  return run->output == PGG_ENCODES ? &run->notes->encoding : &run->notes->step;
}

/* ---- kinds of ops (kinds.c) ------------------------------------------------------------------------------ */

/* Bytes of each part of scratch: the most that any op of a plan needs. */
typedef struct pgg_cpu_needs {
  size_t acts[2], own_acts, panels, partials, experts, expert_acts, own;
} pgg_cpu_needs;

static inline void pgg_cpu_need(size_t *have, size_t bytes) {
  if (bytes > *have) *have = bytes;
}

/* What the backend does with the ops of a kind. Only share and stage must be there; an op whose kind has no entry is
 * refused when its plan is frozen. */
typedef struct pgg_cpu_kind {
  pgg_share (*share)(const pgg_run *run, int op, int stage);
  void (*stage)(const pgg_run *run, int op, int stage, int ith, int nth);
  /* Where columns can be computed apart: into how many equal chunks at most, and chunks [c0, c1) of n. */
  int64_t (*units)(const pgg_plan *plan, const pgg_plan_op_rec *rec);
  void (*columns)(const pgg_run *run, int op, int stage, int c0, int c1, int n);
  bool own; /* each thread may make the node for itself where rows are few */
  pgg_status (*judge)(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels); /* at freeze */
  void (*scratch)(const pgg_segment *segment, int op, const pgg_kernels *kernels, pgg_cpu_needs *needs);
  /* rows.c: one row, or n values of a row where every value needs only those at its place */
  void (*row)(const pgg_run *run, const pgg_plan_op_rec *rec, int64_t r, float *y);
  void (*elements)(const pgg_kernels *kernels, const pgg_op *op, const float *a, const float *b, float *y, int64_t n);
} pgg_cpu_kind;

const pgg_cpu_kind *pgg_cpu_kind_of(int kind); /* NULL if this backend has none */
/* For judges: refused by name unless the kernels have what the op needs for the type of its weight. */
pgg_status pgg_cpu_judge_weight(const pgg_op *op, const pgg_weight *w, const pgg_kernels *kernels, const char *what,
                                bool has);

/* Each is defined beside its op; kinds.c lists those that are. */
#define OP(NAME, name, fields) extern const pgg_cpu_kind pgg_cpu_kind_##name;
#include "core/ops.def"

/* rope.c: the stage before the first op, and what compiling asks of it. */
void pgg_cpu_rope_tables(const pgg_run *run, int ith, int nth);
int64_t pgg_cpu_rope_stride(const pgg_op *op); /* floats of a position's cos and sin */

/* ---- rows of stages that go along with each other (fusion.c) ---------------------------------------------- */

void pgg_cpu_find_rows(pgg_segment *segment, pgg_cpu_op *ops);
/* The units of an op whose columns may be cut anywhere; 0: there are too odd a number of them. */
int64_t pgg_cpu_column_units(const pgg_plan *plan, const pgg_plan_op_rec *rec);
/* How a stage is shared that may be cut into so many chunks; SKIP: not cut this time. */
pgg_share pgg_cpu_cut(const pgg_run *run, int chunks, bool along);

/* A stage that goes over the rows of a node, cols values each. */
pgg_share pgg_cpu_by_rows(const pgg_run *run, int node, int64_t cols);

#endif
