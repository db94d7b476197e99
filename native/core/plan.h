/* What a plan is made of: nodes, weights, ops, and what freezing adds (arena offsets, hazards). Shared by the files of
 * core/ and read by backends; no file outside changes it. */
#ifndef PGG_PLAN_H
#define PGG_PLAN_H
#include <stdatomic.h>

#include "base/base.h"
#include "base/sync.h"

typedef struct pgg_backend pgg_backend;

typedef struct pgg_node {
  int64_t rows; /* PGG_ROWS_TOKENS or PGG_ROWS_WANTED */
  int64_t cols;
  int64_t stride; /* floats from row to row: cols rounded up to 64 bytes */
  int op;         /* that makes it */
  int last_use;   /* last op that reads it; its own op if none */
  size_t offset;  /* bytes in the arena */
  size_t bytes;   /* of n_batch rows; 0 for the output node when it is bound to the caller's buffer */
  /* With so few rows each thread of a team makes the node for itself, in memory of its own. 0: never. */
  int64_t own_rows;
  size_t own_offset, own_bytes; /* in that memory */
} pgg_node;

typedef struct pgg_weight {
  char *name;
  int type;
  const void *data; /* (rows, cols), borrowed */
  int64_t rows, cols;
  size_t row_bytes;
  const float *vec; /* (cols) where rows is 1 and the type is a float one: data, or the copy below */
  float *own;       /* f32 copy of a vector stored in another float type */
} pgg_weight;

typedef struct pgg_plan_op_rec {
  pgg_op op; /* op.name is owned */
  int node;
  int kv; /* attention: index into plan->kv, else -1 */
  /* The last op before this one that must be finished by all threads before this one starts, -1 if none:
   * when threads divide both freely, and when both are divided by rows in the same way. */
  int after_any, after_rows;
  bool joined; /* threads may pass from the op before to this one without waiting: neither reuses the other's memory */
  _Atomic int64_t calls, ns;
} pgg_plan_op_rec;

typedef struct pgg_kv_layer {
  int64_t layer, n_head_kv, k_dim, v_dim;
} pgg_kv_layer;

#define PGG_MAX_SPACES 17 /* scratch sets: one of the team, and up to 16 for steps on a single thread */

typedef struct pgg_space pgg_space;

struct pgg_plan {
  pgg_node *nodes;
  pgg_weight *weights;
  pgg_plan_op_rec *ops;
  pgg_kv_layer *kv;
  int n_node, n_weight, n_op, n_kv;
  int cap_node, cap_weight, cap_op, cap_kv;
  int output;      /* node, -1 */
  int bound;       /* the output node if its rows are written straight to the caller's buffer, else -1 */
  int n_embed;     /* embed ops */
  int64_t n_vocab; /* smallest table of the embed ops */
  int64_t n_input; /* columns of the input op, 0 */
  bool any_order;  /* an attention op without causality */
  bool frozen;
  pgg_limits limits;
  size_t arena_bytes; /* of the nodes */
  size_t own_bytes;   /* of the nodes that each thread makes for itself */
  double macs;        /* work of one token, attention apart, in multiply-adds of small integers */
  double macs_past;   /* more of them for each position looked at */
  const pgg_backend *backend;
  void *compiled; /* the backend's own notes about the ops */
  pgg_gate gate;  /* of spaces 1.. */
  pgg_space *spaces[PGG_MAX_SPACES];
  atomic_int profile;
  /* turn.c, under the lock of sync.h: */
  pgg_session *sessions;
  bool closed;
  pgg_cond quiet;      /* a turn has ended */
  unsigned generation; /* of the process that quiet belongs to */
};

/* The floats of a vector; NULL where it is absent (-1). */
static inline const float *pgg_plan_vec(const pgg_plan *plan, int weight) {
  return weight >= 0 ? plan->weights[weight].vec : NULL;
}

/* shape.c: the only validator. Fills rows and cols of the node the op would make. */
pgg_status pgg_shape_judge(const pgg_plan *plan, const pgg_op *op, pgg_node *out);
int pgg_op_src_count(int kind); /* ops.c */
bool pgg_type_is_weight(int type);

/* layout.c */
pgg_status pgg_layout_freeze(pgg_plan *plan);

#endif
