/* What core/ asks of a backend: to run the ops of a plan in stages that a team of threads shares. core/ orders the
 * stages, puts the barriers between them and knows nothing of how they compute. */
#ifndef PGG_BACKEND_H
#define PGG_BACKEND_H
#include "core/kv.h"
#include "core/plan.h"

/* One piece of a step, as every thread sees it. Constant while it runs. */
typedef struct pgg_run {
  const pgg_plan *plan;
  const pgg_kv *kv;
  int64_t n, wanted;  /* rows of TOKENS and WANTED nodes; the wanted are the last of the tokens */
  int64_t n_past;     /* position of the first token */
  const int32_t *ids; /* (n), or NULL */
  const float *rows;  /* (n, plan->n_input), or NULL */
  char *arena;
  float *out;    /* (wanted, cols) of the bound output node */
  void *scratch; /* the backend's */
} pgg_run;

static inline int64_t pgg_run_rows(const pgg_run *run, int node) {
  return run->plan->nodes[node].rows == PGG_ROWS_WANTED ? run->wanted : run->n;
}
static inline float *pgg_run_data(const pgg_run *run, int node) {
  return node == run->plan->bound ? run->out : (float *)(void *)(run->arena + run->plan->nodes[node].offset);
}
static inline int64_t pgg_run_stride(const pgg_run *run, int node) {
  return node == run->plan->bound ? run->plan->nodes[node].cols : run->plan->nodes[node].stride;
}

/* How threads share a stage. All threads must get the same answer. */
typedef enum pgg_share {
  PGG_SHARE_END,    /* no such stage: the op is done */
  PGG_SHARE_SKIP,   /* nothing to do this time */
  PGG_SHARE_ONE,    /* the first thread does it alone */
  PGG_SHARE_TOKENS, /* each thread its rows of pgg_team_range(n, 1), and it touches no other thread's rows */
  PGG_SHARE_WANTED, /* the same for the wanted rows */
  PGG_SHARE_ANY,    /* as the stage likes: it reads what any thread wrote */
  PGG_SHARE_FENCED  /* as ANY, and it writes scratch that an earlier stage may still be reading */
} pgg_share;

struct pgg_backend {
  const char *name;
  pgg_status (*compile)(pgg_plan *plan); /* at freeze: may refuse; sets plan->compiled */
  void (*discard)(pgg_plan *plan);
  /* Scratch of one space for n_threads threads. reserve makes *scratch fit and leaves it alone where it does. */
  size_t (*scratch_bytes)(const pgg_plan *plan, int n_threads);
  pgg_status (*reserve)(const pgg_plan *plan, void **scratch, int n_threads);
  void (*release)(void *scratch);
  void (*begin)(const pgg_run *run, int n_threads); /* before the threads start on a piece */
  pgg_share (*share)(const pgg_run *run, int op, int stage);
  pgg_status (*stage)(const pgg_run *run, int op, int stage, int ith, int nth);
};

/* The backend of plans; defined by the backend that is built in. */
const pgg_backend *pgg_backend_default(void);

#endif
