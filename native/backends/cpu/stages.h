/* Ops in stages that a team of threads shares: what team.c, which orders the stages and puts the barriers between them,
 * asks of the kinds, which know how they compute. */
#ifndef PGG_CPU_STAGES_H
#define PGG_CPU_STAGES_H
#include "core/backend.h"

typedef struct pgg_cpu_segment pgg_cpu_segment;

/* One piece of a step, as every thread sees it. Constant while it runs. */
typedef struct pgg_run {
  const pgg_plan *plan;
  const pgg_segment *segment;
  const pgg_cpu_segment *notes; /* what compiling found */
  const size_t *offsets;        /* of nodes in the arena */
  const pgg_part *parts;        /* (n_part) one after another: first = the sum of n before it */
  int n_part;
  int64_t n, wanted;  /* rows of TOKENS and WANTED nodes: of all parts */
  bool decode;        /* the kind of all of them */
  const int32_t *ids; /* (n), or NULL */
  const float *rows;  /* (n, columns of the input op), or NULL */
  char *arena;
  int output; /* which of the plan's outputs is computed: ops that do not serve it are left out; or PGG_ENCODES */
  float *out; /* (wanted, cols) of that node */
  const void *scratch;
  int nth;   /* threads of the team */
  int ith;   /* of this thread; here and below each thread has its own copy of the record */
  char *own; /* memory of this thread's nodes, NULL where it works alone */
} pgg_run;

static inline int64_t pgg_run_rows(const pgg_run *run, int node) {
  return run->plan->nodes[node].rows == PGG_ROWS_WANTED ? run->wanted : run->n;
}
/* Each thread makes this node for itself: so few rows that waiting for another would take longer. */
static inline bool pgg_run_own(const pgg_run *run, int node) {
  return run->own && pgg_run_rows(run, node) <= run->plan->nodes[node].own_rows;
}
static inline float *pgg_run_data(const pgg_run *run, int node) {
  const pgg_node *it = &run->plan->nodes[node];
  if (node == run->plan->bound || node == run->plan->ahead) return run->out;
  return (float *)(void *)(pgg_run_own(run, node) ? run->own + it->own_offset : run->arena + run->offsets[node]);
}
static inline int64_t pgg_run_stride(const pgg_run *run, int node) {
  const bool with_caller = node == run->plan->bound || node == run->plan->ahead;
  return with_caller ? run->plan->nodes[node].cols : run->plan->nodes[node].stride;
}

/* Where row `first` of a node begins, from column c on; and how far its rows are from each other. */
static inline float *pgg_run_from(const pgg_run *run, int node, int64_t first, int64_t c, int64_t *stride) {
  *stride = pgg_run_stride(run, node);
  return pgg_run_data(run, node) + first * *stride + c;
}

/* The token that a wanted row belongs to. */
static inline int64_t pgg_run_token(const pgg_run *run, int64_t row) {
  const pgg_part *part = run->parts;
  for (; row >= part->wanted; part++) row -= part->wanted;
  return part->first + part->n - part->wanted + row;
}

/* How threads share a stage. All threads must get the same answer. */
typedef enum pgg_share {
  PGG_SHARE_END,    /* no such stage: the op is done */
  PGG_SHARE_SKIP,   /* nothing to do this time */
  PGG_SHARE_ONE,    /* the first thread does it alone */
  PGG_SHARE_TOKENS, /* each thread its rows of pgg_team_range(n, 1), and it touches no other thread's rows */
  PGG_SHARE_WANTED, /* the same for the wanted rows */
  PGG_SHARE_EACH,   /* every thread does all of it, and writes memory of its own only: own nodes, own scratch */
  PGG_SHARE_CHUNKS, /* the columns of its node are cut into equal chunks, which threads take as they come */
  PGG_SHARE_ALONG,  /* as the stage before it, a thread its own chunks: it reads no other thread's columns of what
                       stages in this row wrote. Layout keeps their nodes apart (`joined`), so nobody waits. */
  PGG_SHARE_ANY,    /* as the stage likes: it reads what any thread wrote */
  PGG_SHARE_FENCED  /* as ANY, and it writes scratch that an earlier stage may still be reading */
} pgg_share;

/* How a stage is shared; what it computes; where it is cut into chunks: how many, and the work of [c0, c1) of n. */
pgg_share pgg_cpu_share(const pgg_run *run, int op, int stage);
void pgg_cpu_stage(const pgg_run *run, int op, int stage, int ith, int nth);
int pgg_cpu_chunks(const pgg_run *run, int op, int stage);
void pgg_cpu_columns(const pgg_run *run, int op, int stage, int c0, int c1, int n);

#endif
