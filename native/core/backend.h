/* The seam: what core/ asks of a backend. core judges shapes, lays out lifetimes, owns plans, sessions and their state;
 * a backend owns devices and their memory and runs segments, stretches of a plan's ops, in whatever way it likes.
 * Everything comes back as a status with a sentence. core names no backend; backends/table.c lists them. */
#ifndef PGG_BACKEND_H
#define PGG_BACKEND_H
#include <stdatomic.h>

#include "core/state.h"
#include "core/plan.h"

/* The tokens of one sequence in a piece. */
typedef struct pgg_part {
  const pgg_memory *memory;
  const pgg_moment *before, *after; /* states of rows: as its first token finds them, and for its last one to write */
  int64_t n_past;                   /* position of its first token */
  int64_t first, n;                 /* its rows of TOKENS nodes */
  int64_t wanted;                   /* the last of its tokens; rows of WANTED nodes follow the order of parts */
} pgg_part;

/* One piece of a step, as a segment gets it. */
typedef struct pgg_piece {
  const pgg_part *parts; /* (n_part) one after another: first = the sum of n before it */
  int n_part;
  int64_t n, wanted;  /* rows of TOKENS and WANTED nodes: of all parts */
  bool decode;        /* rows of the other kind: the kind, never the number, says how rows are computed (adr/0007) */
  const int32_t *ids; /* (n), -1: none; or NULL: none at all; host memory, as rows and out are */
  const float *rows;  /* (n, columns of the input op), or NULL: zeros */
  int output; /* which of the plan's outputs; ops that do not serve it need not run. PGG_ENCODES: none, n rows of
                 the source are read, and rows of TOKENS nodes are there in name only */
  float *out; /* (wanted, cols of that node) for the segment that makes it, or NULL */
  /* The segment's nodes in its device, at the offsets of its place; NULL (only where pieces may run together): nobody
   * else looks at them, and the backend brings memory of its own. */
  const pgg_mem *arena;
  const atomic_int *const *cancel; /* (n_cancel) flags, each of which ends it */
  int n_cancel;
  int n_threads;  /* of the host that it may use; 0: as many as there are */
  int *n_barrier; /* how often a team met while it ran the ops, where there is a team; or NULL */
} pgg_piece;

static inline int64_t pgg_piece_rows(const pgg_plan *plan, const pgg_piece *piece, int node) {
  return plan->nodes[node].rows == PGG_ROWS_WANTED ? piece->wanted : piece->n;
}

struct pgg_backend {
  const char *name;
  bool host;                                              /* pgg_mem.p is an address of this process */
  bool together;                                          /* run is done when it returns, and several may run at once */
  int (*count)(void);                                     /* devices; 0 without a driver. Quiet */
  pgg_status (*about)(int index, pgg_device_info *about); /* all but id, which core writes */
  pgg_status (*open)(int index, pgg_device **device);
  void (*close)(pgg_device *device);
  pgg_status (*alloc)(pgg_device *device, size_t bytes, pgg_mem *mem); /* zeroed, or as good as: read when written */
  void (*drop)(pgg_device *device, pgg_mem *mem);                      /* an empty one is fine */
  pgg_status (*write)(pgg_device *device, const pgg_mem *to, size_t at, const void *from, size_t bytes);
  pgg_status (*read)(pgg_device *device, const pgg_mem *from, size_t at, void *to, size_t bytes);
  pgg_status (*copy)(pgg_device *device, const pgg_mem *to, size_t to_at, const pgg_mem *from, size_t from_at,
                     size_t bytes);
  pgg_status (*weight)(pgg_device *device, const pgg_weight *weight, pgg_mem *mem); /* in the device's own layout */
  /* At freeze, before nodes have places: may refuse, sets segment->compiled, own_rows of nodes and joined of ops. */
  pgg_status (*compile)(pgg_segment *segment);
  void (*discard)(pgg_segment *segment);
  void (*rest)(pgg_segment *segment);            /* nothing runs: gives back what only running needs */
  size_t (*scratch)(const pgg_segment *segment); /* bytes it will hold beside the arena, about */
  /* run may return before it is done, wait not; what comes of either is the segment's status. A flag of piece->cancel
   * ends them with PGG_ECANCELLED. */
  pgg_status (*run)(pgg_segment *segment, const pgg_piece *piece);
  pgg_status (*wait)(pgg_device *device);
};

/* The backends of this build, in the order in which their devices are numbered (backends/table.c). */
const pgg_backend *const *pgg_backends(int *n);

#endif
