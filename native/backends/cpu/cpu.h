/* The CPU backend inside: its notes about a frozen plan, its scratch, and the parts of its ops. Rows and threads are
 * decided here, arithmetic is behind the slots of kernels.h. */
#ifndef PGG_CPU_BACKEND_H
#define PGG_CPU_BACKEND_H
#include <stdatomic.h>

#include "core/backend.h"
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
bool pgg_cpu_uses_gemm(const pgg_kernels *kernels, int type, int64_t n);
bool pgg_cpu_uses_loose_panels(const pgg_kernels *kernels, int type, int64_t n);
size_t pgg_cpu_panel_bytes(const pgg_kernels *kernels, int type, int64_t n, int64_t k); /* 0: none */
size_t pgg_cpu_gemm_scratch(const pgg_kernels *kernels, int type, int64_t k);
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
  /* along.c: chunks of the stage that writes the node (attention: the cache), 0 where it is not cut into columns;
   * whether it goes along with the stage before. prepare: chunks of a matmul's preparation, which always does. */
  int chunks, prepare;
  bool along;
} pgg_cpu_op;

typedef struct pgg_cpu_rope {
  const pgg_op *op; /* the first op with these numbers */
  const float *factors;
  double *speed; /* (n_rot / 2) radians per position of every pair */
} pgg_cpu_rope;

typedef struct pgg_cpu_plan {
  pgg_cpu_op *ops;     /* (plan->n_op) */
  pgg_cpu_rope *ropes; /* (n_rope) */
  int n_rope;
} pgg_cpu_plan;

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

pgg_status pgg_cpu_compile(pgg_plan *plan);
void pgg_cpu_discard(pgg_plan *plan);
size_t pgg_cpu_scratch_bytes(const pgg_plan *plan, int n_threads);
pgg_status pgg_cpu_reserve(const pgg_plan *plan, void **scratch, int n_threads);
void pgg_cpu_release(void *scratch);

static inline const pgg_cpu_scratch *pgg_cpu_scratch_of(const pgg_run *run) { return run->scratch; }
static inline const pgg_cpu_plan *pgg_cpu_plan_of(const pgg_run *run) { return run->plan->compiled; }

/* ---- ops: how a stage is shared, and the stage ----------------------------------------------------------- */

pgg_share pgg_cpu_matmul_share(const pgg_run *run, int op, int stage);
void pgg_cpu_matmul(const pgg_run *run, int op, int stage, int ith, int nth);
void pgg_cpu_matmul_columns(const pgg_run *run, int op, int stage, int c0, int c1, int n);
pgg_share pgg_cpu_attention_share(const pgg_run *run, int op, int stage);
void pgg_cpu_attention(const pgg_run *run, int op, int stage, int ith, int nth);
void pgg_cpu_attention_columns(const pgg_run *run, int op, int c0, int c1, int n);
pgg_share pgg_cpu_rope_share(const pgg_run *run, int op, int stage);
void pgg_cpu_rope_stage(const pgg_run *run, int op, int ith, int nth);
void pgg_cpu_rope_columns(const pgg_run *run, int op, int c0, int c1, int n);
void pgg_cpu_rope_tables(const pgg_run *run, int ith, int nth);
pgg_share pgg_cpu_rows_share(const pgg_run *run, int op, int stage);
void pgg_cpu_rows(const pgg_run *run, int op, int ith, int nth);
pgg_share pgg_cpu_route_share(const pgg_run *run, int op, int stage);
void pgg_cpu_route(const pgg_run *run, int op, int ith, int nth);
pgg_share pgg_cpu_experts_share(const pgg_run *run, int op, int stage);
void pgg_cpu_experts(const pgg_run *run, int op, int stage, int ith, int nth);
void pgg_cpu_rows_columns(const pgg_run *run, int op, int c0, int c1, int n);
bool pgg_cpu_elementwise(int kind);

/* ---- rows of stages that go along with each other (along.c) ---------------------------------------------- */

void pgg_cpu_find_rows(pgg_plan *plan, pgg_cpu_op *ops);
/* How a stage is shared that may be cut into so many chunks; SKIP: not cut this time. */
pgg_share pgg_cpu_cut(const pgg_run *run, int chunks, bool along);

/* A stage that goes over the rows of a node, cols values each. */
pgg_share pgg_cpu_by_rows(const pgg_run *run, int node, int64_t cols);

/* Bytes attention needs: partial results shared by threads, and scratch of each. */
size_t pgg_cpu_attention_partials(const pgg_plan *plan, const pgg_op *op);
size_t pgg_cpu_attention_scratch(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels);
/* Experts: whether x is prepared in blocks, whether sizes fit, bytes of shared scratch and of each thread's. */
bool pgg_cpu_experts_encodes(const pgg_plan *plan, const pgg_op *op);
pgg_status pgg_cpu_experts_judge(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels);
size_t pgg_cpu_experts_shared(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels);
size_t pgg_cpu_experts_own(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels);
double *pgg_cpu_rope_speeds(const pgg_op *op, const float *factors); /* (n_rot / 2), NULL without memory */
int64_t pgg_cpu_rope_stride(const pgg_op *op);                       /* floats of a position's cos and sin */

#endif
