/* What core/ asks of a backend: to run the ops of a plan in stages that a team of threads shares. core/ orders the
 * stages, puts the barriers between them and knows nothing of how they compute. */
#ifndef PGG_BACKEND_H
#define PGG_BACKEND_H
#include "core/kv.h"
#include "core/plan.h"

/* The tokens of one sequence in a piece. */
typedef struct pgg_part {
  const pgg_kv *kv;
  int64_t n_past;   /* position of its first token */
  int64_t first, n; /* its rows of TOKENS nodes */
  int64_t wanted;   /* the last of its tokens; rows of WANTED nodes follow the order of parts */
} pgg_part;

/* One piece of a step, as every thread sees it. Constant while it runs. */
typedef struct pgg_run {
  const pgg_plan *plan;
  const pgg_part *parts; /* (n_part) one after another: first = the sum of n before it */
  int n_part;
  int64_t n, wanted;  /* rows of TOKENS and WANTED nodes: of all parts */
  const int32_t *ids; /* (n), or NULL */
  const float *rows;  /* (n, plan->n_input), or NULL */
  char *arena;
  float *out;    /* (wanted, cols) of the bound output node */
  void *scratch; /* the backend's */
  int nth;       /* threads of the team */
  int ith;       /* of this thread; here and below each thread has its own copy of the record */
  char *own;     /* memory of this thread's nodes, NULL where it works alone */
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
  if (node == run->plan->bound) return run->out;
  return (float *)(void *)(pgg_run_own(run, node) ? run->own + it->own_offset : run->arena + it->offset);
}
static inline int64_t pgg_run_stride(const pgg_run *run, int node) {
  return node == run->plan->bound ? run->plan->nodes[node].cols : run->plan->nodes[node].stride;
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

struct pgg_backend {
  const char *name;
  /* At freeze, before nodes have places: may refuse; sets plan->compiled, own_rows of nodes and joined of ops. */
  pgg_status (*compile)(pgg_plan *plan);
  void (*discard)(pgg_plan *plan);
  /* Scratch of one space for n_threads threads. reserve makes *scratch fit and leaves it alone where it does. */
  size_t (*scratch_bytes)(const pgg_plan *plan, int n_threads);
  pgg_status (*reserve)(const pgg_plan *plan, void **scratch, int n_threads);
  void (*release)(void *scratch);
  void (*begin)(const pgg_run *run, int n_threads); /* before the threads start on a piece */
  pgg_share (*share)(const pgg_run *run, int op, int stage);
  pgg_status (*stage)(const pgg_run *run, int op, int stage, int ith, int nth);
  /* Stages that are cut into chunks: how many, and the work of chunks [c0, c1) of n. */
  int (*chunks)(const pgg_run *run, int op, int stage);
  pgg_status (*columns)(const pgg_run *run, int op, int stage, int c0, int c1, int n);
};

/* The backend of plans; defined by the backend that is built in. */
const pgg_backend *pgg_backend_default(void);

#endif
