/* What a plan is made of: nodes, weights, ops, and what freezing adds (places, segments, arena offsets, hazards).
 * Shared by the files of core/ and read by backends; no file outside changes it. */
#ifndef PGG_PLAN_H
#define PGG_PLAN_H
#include <stdatomic.h>

#include "base/base.h"
#include "base/sync.h"

#define PGG_MAX_PLACES 8 /* devices of a plan */

/* As the output of a piece: the source is encoded, and nothing is returned. */
enum { PGG_ENCODES = PGG_MAX_OUTPUTS };

typedef struct pgg_backend pgg_backend;
typedef struct pgg_device pgg_device; /* a backend's, opened */

/* Memory of a device. An address only where the backend says so; what it is else is the backend's secret. */
typedef struct pgg_mem {
  void *p;
  size_t bytes;
} pgg_mem;

typedef struct pgg_node {
  int64_t rows; /* PGG_ROWS_TOKENS, PGG_ROWS_WANTED or PGG_ROWS_SOURCE */
  int64_t cols;
  int64_t stride; /* floats from row to row: cols rounded up to 64 bytes */
  int op;         /* that makes it */
  int last_use;   /* last op that reads it; its own op if none */
  int place;      /* of the segment that makes it */
  size_t bytes;   /* of n_batch rows; 0 where the node lies in the caller's buffer */
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
  int state;  /* index into plan->states, -1: it has none; attention: of the keys */
  int values; /* attention: index of the state of the values */
  int device; /* that it was placed on: a number of pgg_device_about */
  /* The last op before this one that must be finished by all threads before this one starts, -1 if none:
   * when threads divide both freely, and when both are divided by rows in the same way. */
  int after_any, after_rows;
  bool writes;     /* a state */
  bool crosses;    /* attention of the text to what was written of the source */
  unsigned serves; /* outputs that need it, a bit each, that of PGG_ENCODES too; all where it writes a state */
  bool joined; /* threads may pass from the op before to this one without waiting: neither reuses the other's memory */
  _Atomic int64_t calls, ns;
} pgg_plan_op_rec;

/* KV: keys and values of every position. ROWS: some rows of numbers, which each position makes out of those before. */
typedef enum pgg_state_kind { PGG_STATE_KV, PGG_STATE_ROWS } pgg_state_kind;

/* What a sequence remembers; ops name it by its number. */
typedef struct pgg_state {
  int64_t number;
  pgg_state_kind kind;
  int maker; /* the op that writes it */
  /* KV. k_dim 0: the keys are another's; v_dim 0: the values are, or they are columns of the keys */
  int64_t n_head_kv, k_dim, v_dim;
  int64_t window; /* positions that are ever looked back at, the token's own included; 0: all */
  bool source;    /* of the source's rows, not of the text's tokens */
  bool kept;      /* of the source: steps read it */
  int group;
  /* ROWS */
  int64_t rows, cols;
  int type;
  size_t at; /* in the rows of its place */
  int place;
} pgg_state;

/* States whose spans are one piece of memory. */
typedef struct pgg_state_group {
  int place;
  int64_t window;
  bool source, kept;
} pgg_state_group;

/* A device that some of the plan runs on. */
typedef struct pgg_place {
  const pgg_backend *backend;
  int number;  /* of pgg_device_about */
  char id[32]; /* "cpu:0" */
  pgg_device *device;
  size_t arena_bytes;
  size_t rows_bytes; /* of the ROWS states that are there */
  size_t *offsets;   /* (n_node) in the arena, of the nodes that are there */
  pgg_mem *weights;  /* (n_weight) those that its ops read */
} pgg_place;

/* Ops [first, end), which one device runs in one go. */
typedef struct pgg_segment {
  pgg_plan *plan;
  int place;
  int first, end;
  int *taken; /* (n_taken) nodes that another device made: copied here before it runs */
  int n_taken;
  void *compiled; /* the backend's own notes about the ops */
} pgg_segment;

/* Memory of the nodes of one running piece in every device, where more than one segment looks at them; and a row of
 * host memory on the way from device to device. */
typedef struct pgg_arenas {
  pgg_mem mem[PGG_MAX_PLACES];
  pgg_mem between;
} pgg_arenas;

/* What ops take in from outside. */
typedef struct pgg_feed {
  int n_embed;        /* embed ops */
  int64_t n_vocab;    /* smallest table of the embed ops */
  int64_t n_position; /* that of the positions ops; 0 without any */
  int64_t n_kind;     /* that of the kinds ops; 0 without any */
  int64_t n_input;    /* columns of the input op, 0 */
} pgg_feed;

struct pgg_plan {
  pgg_node *nodes;
  pgg_weight *weights;
  pgg_plan_op_rec *ops;
  pgg_state *states;
  pgg_state_group *groups;
  int n_node, n_weight, n_op, n_state, n_group;
  int cap_node, cap_weight, cap_op, cap_state;
  int outputs[PGG_MAX_OUTPUTS]; /* nodes that steps may return */
  int n_output;
  int bound; /* the first output if its rows are written straight to the caller's buffer, else -1 */
  int ahead; /* what becomes the bound output in place, value by value, in the same buffer; else -1 */
  pgg_feed text, source;
  bool recurrent; /* a state of ROWS */
  bool windowed;  /* a group with a window */
  bool any_order; /* an attention op of the text to itself without causality */
  bool crosses;   /* an attention op of the text to the source */
  bool frozen;
  pgg_limits limits;
  size_t own_bytes; /* of the nodes that a thread may make for itself */
  pgg_place places[PGG_MAX_PLACES];
  int n_place;
  pgg_segment *segments;
  int n_segment;
  size_t between_bytes; /* largest node that goes from one device to another */
  pgg_gate gate;        /* of arenas: one piece at a time */
  pgg_arenas arenas;
  atomic_int profile;
  /* turn.c, under the lock of sync.h: */
  pgg_session *sessions;
  bool closed;
  size_t cache_bytes;  /* of the spans that sessions hold, each once */
  pgg_cond quiet;      /* a turn has ended */
  unsigned generation; /* of the process that quiet belongs to */
};

/* Whether a session of the plan can encode something. */
static inline bool pgg_plan_reads_source(const pgg_plan *plan) { return plan->source.n_embed || plan->source.n_input; }

/* The floats of a vector; NULL where it is absent (-1). */
static inline const float *pgg_plan_vec(const pgg_plan *plan, int weight) {
  return weight >= 0 ? plan->weights[weight].vec : NULL;
}

/* shape.c: the only validator. Fills rows and cols of the node the op would make. */
pgg_status pgg_shape_judge(const pgg_plan *plan, const pgg_op *op, pgg_node *out);
int pgg_op_src_count(int kind); /* ops.c */
int pgg_op_weight_count(int kind);
bool pgg_type_is_weight(int type);

/* states.c: what an op that keeps or shares a state demands; its states, in a plan that has room for one more; where
 * the plan's states lie. */
pgg_status pgg_states_judge(const pgg_plan *plan, const pgg_op *op);
void pgg_states_note(pgg_plan *plan, const pgg_op *op, pgg_plan_op_rec *rec);
pgg_status pgg_states_settle(pgg_plan *plan);

/* layout.c: which outputs need which ops, before the segments are compiled; the rest after it */
void pgg_layout_serves(pgg_plan *plan);
pgg_status pgg_layout_freeze(pgg_plan *plan);

int pgg_device_find(const char *id); /* place.c: its number, -1 if this machine has no device of that id */

/* place.c: devices opened, segments found and compiled, weights given to devices; and all of it undone. */
pgg_status pgg_places_find(pgg_plan *plan);
void pgg_places_drop(pgg_plan *plan);
void pgg_places_rest(pgg_plan *plan); /* nothing runs: what only running needs is given back */
bool pgg_node_leaves(const pgg_plan *plan, const pgg_segment *segment, int node); /* somebody outside reads it */
pgg_status pgg_arenas_ready(const pgg_plan *plan, pgg_arenas *arenas);
void pgg_arenas_drop(const pgg_plan *plan, pgg_arenas *arenas);

#endif
