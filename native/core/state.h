/* What a sequence remembers. A plan lists states. Keys and values a session holds in spans of PGG_SPAN positions, which
 * come as positions fill, are dropped where every window has passed them and no mark looks at them, and are shared by
 * forks: who writes into a span that others hold gets a copy first. Spans of states that look back equally far and lie
 * on one device are one piece of memory. States of the source have positions of their own and are filled once
 * (encode.c). States of rows it holds as moments: what they were at one position (moments.c). */
#ifndef PGG_STATE_H
#define PGG_STATE_H
#include "core/plan.h"

enum { PGG_SPAN = 256 }; /* positions; a block of the attention kernels divides it */

/* The memory of a span, or of a moment on a device. Counted under the lock of sync.h. */
typedef struct pgg_span {
  pgg_mem mem;
  size_t bytes; /* that were asked for */
  int refs;
  int place;
  struct pgg_span *next; /* in a list of those that are to be let go */
} pgg_span;

/* What the states of rows were at a position. Nobody writes into it but the step that makes it. */
typedef struct pgg_moment {
  int64_t pos;
  pgg_span *spans[PGG_MAX_PLACES]; /* NULL where nothing is held: at position 0, and on devices without such states */
  void *at[PGG_MAX_PLACES];        /* mem.p of each */
} pgg_moment;

/* Where a state of keys and values lies in the spans of its group: bytes. */
typedef struct pgg_state_form {
  size_t k, v;            /* of the first head */
  size_t k_row, v_row;    /* of a position of a head */
  size_t k_head, v_head;  /* of a head */
  int64_t k_turn, v_turn; /* values in a run that is kept turned, 0: rows are as they are */
} pgg_state_form;

/* The spans of the states of one group. */
typedef struct pgg_group_spans {
  int64_t n_span;
  pgg_span **spans; /* (n_span) by position / PGG_SPAN; NULL where none is held */
  void **at;        /* (n_span) mem.p of each */
  int64_t from;     /* positions before it are forgotten, but for what marks look at: those spans are still here */
} pgg_group_spans;

/* A session's. */
typedef struct pgg_memory {
  int type;
  int64_t n_ctx;
  int64_t n_source;        /* positions of the source; 0: nothing was encoded */
  pgg_state_form *forms;   /* (plan->n_state) */
  size_t *span_bytes;      /* (plan->n_group) */
  pgg_group_spans *groups; /* (plan->n_group) */
  size_t bytes;            /* of the spans held, and of each moment */
  /* Of a plan with states of rows or windows: positions that truncating can go back to, in order, and what states of
   * rows were there. Room for PGG_MAX_MARKS. */
  pgg_moment *marks; /* (n_mark) */
  int n_mark;
  /* Of a plan with states of rows: */
  pgg_moment now;     /* where the session stands */
  pgg_moment step[2]; /* what the pieces of a step write, in turns */
  int n_step;         /* pieces of the running step so far */
} pgg_memory;

/* span.c. Memory of a device, of one holder; what: for the message. One holder less, the lock is held: what nobody
 * holds any more is put on a list, which is dropped without the lock. */
pgg_status pgg_span_new(pgg_plan *plan, pgg_memory *memory, int place, size_t bytes, const char *what, pgg_span **span);
void pgg_span_let_go(pgg_plan *plan, pgg_memory *memory, pgg_span *span, pgg_span **list);
void pgg_spans_drop(const pgg_plan *plan, pgg_span *list);

/* Most bytes that a session of n_ctx positions holds at a place (-1: at all), how many of them each position takes, and
 * how many more each mark may hold back. */
typedef struct pgg_memory_bytes {
  size_t most, position, mark;
} pgg_memory_bytes;
pgg_status pgg_memory_most(const pgg_plan *plan, int type, int64_t n_ctx, int place, pgg_memory_bytes *bytes);
/* PGG_ETYPE where a type cannot hold the rows. On failure nothing is left. */
pgg_status pgg_memory_new(const pgg_plan *plan, int type, int64_t n_ctx, pgg_memory *memory);
/* Spans for positions [from, to) of the text or of the source, nobody else's. */
pgg_status pgg_memory_grow(pgg_plan *plan, pgg_memory *memory, bool source, int64_t from, int64_t to);
/* Memory like another, with spans for positions [from[group], n_past) of the text, and of n_source of the source. On
 * failure nothing is left. */
pgg_status pgg_memory_prepare(pgg_plan *plan, const pgg_memory *like, const int64_t *from, int64_t n_past,
                              int64_t n_source, pgg_memory *memory);
/* Its source is that of another memory too, in place of what it held of one. The lock is held. */
void pgg_memory_share_source(const pgg_plan *plan, pgg_memory *memory, const pgg_memory *other);
/* The source has been encoded: n positions, of which only steps' keys and values stay. The lock is held. */
void pgg_memory_encoded(pgg_plan *plan, pgg_memory *memory, int64_t n, pgg_span **list);
/* No source any more. The lock is held. */
void pgg_memory_forget_source(pgg_plan *plan, pgg_memory *memory, pgg_span **list);
/* Holds what another session of the plan and of this size holds up to n_past, where it stands. The lock is held. */
void pgg_memory_share(const pgg_plan *plan, pgg_memory *memory, const pgg_memory *other, int64_t n_past);

/* Spans of a group for positions [from, to) that a mark looks at. */
pgg_status pgg_memory_hold(pgg_plan *plan, pgg_memory *memory, int group, int64_t from, int64_t to);

/* The lock is held; what nobody holds any more is put on the list, for pgg_spans_drop without the lock. cut: nothing
 * from n_past on is used; a span of it stays, and what lies before it is there if windows did not pass it, or n_past is
 * a mark. pass: what no step from n_past on looks at, but for a span and for what marks look at; keep: from there on
 * nothing goes but spans from `keep` on, as long as a step may fail. unmarked: what only marks looked at that are gone.
 */
void pgg_memory_cut(pgg_plan *plan, pgg_memory *memory, int64_t n_past, pgg_span **list);
void pgg_memory_pass(pgg_plan *plan, pgg_memory *memory, int64_t n_past, int64_t keep, pgg_span **list);
void pgg_memory_unmarked(pgg_plan *plan, pgg_memory *memory, pgg_span **list);
void pgg_memory_drop(pgg_plan *plan, pgg_memory *memory); /* without the lock */

/* The lowest position, but 0, that the session at n_past can go back to; and the highest, at most n. */
int64_t pgg_memory_reach(const pgg_plan *plan, const pgg_memory *memory, int64_t n_past);
int64_t pgg_memory_back(const pgg_plan *plan, const pgg_memory *memory, int64_t n_past, int64_t n);

/* moments.c. Before a piece: what its first token finds and where its last one writes. */
pgg_status pgg_moments_ready(pgg_plan *plan, pgg_memory *memory, const pgg_moment **before, const pgg_moment **after);
/* The lock is held. A step has ended; keep: at n_past, well. */
void pgg_moments_end(pgg_plan *plan, pgg_memory *memory, bool keep, int64_t n_past, pgg_span **list);
void pgg_moments_cut(pgg_plan *plan, pgg_memory *memory, int64_t n_past, pgg_span **list); /* 0, a mark, or now */
void pgg_moments_share(const pgg_plan *plan, pgg_memory *memory, const pgg_memory *other);
void pgg_moments_drop(pgg_plan *plan, pgg_memory *memory, pgg_span **list);
bool pgg_moments_mark(pgg_plan *plan, pgg_memory *memory, int64_t n_past); /* false: there are too many */
void pgg_moments_unmark(pgg_plan *plan, pgg_memory *memory, int64_t pos, pgg_span **list);
/* Memory for a moment that is to be written from outside. */
pgg_status pgg_moment_new(pgg_plan *plan, pgg_memory *memory, int64_t pos, pgg_moment *moment);
size_t pgg_moment_bytes(const pgg_plan *plan); /* of one, on all devices */

/* Rows of a head of a state, at most PGG_SPAN and within one span. values: of v, not of k. */
typedef struct pgg_rows_at {
  int state;
  int64_t head, pos, n;
  bool values;
} pgg_rows_at;
pgg_status pgg_memory_read(const pgg_plan *plan, const pgg_memory *memory, const pgg_rows_at *at, void *rows);
pgg_status pgg_memory_write(const pgg_plan *plan, const pgg_memory *memory, const pgg_rows_at *at, const void *rows);

/* The first position that a window at n_past looks at. */
static inline int64_t pgg_window_begin(int64_t window, int64_t n_past) {
  return n_past + 1 > window ? n_past + 1 - window : 0;
}

/* Positions of a group that are filled. */
static inline int64_t pgg_memory_end(const pgg_plan *plan, const pgg_memory *memory, int group, int64_t n_past) {
  return plan->groups[group].source ? memory->n_source : n_past;
}

static inline size_t pgg_memory_row(const pgg_memory *memory, int state, bool values) {
  return values ? memory->forms[state].v_row : memory->forms[state].k_row;
}

#endif
