/* What a session is made of, and the turns in which it may be touched. Only files of core/ that act on sessions look
 * inside. */
#ifndef PGG_SESSION_H
#define PGG_SESSION_H
#include "core/exec.h"
#include "core/state.h"

struct pgg_session {
  pgg_plan *plan;
  pgg_memory memory;
  int64_t n_ctx;
  int output;             /* of the plan's: what its steps return */
  bool decode;            /* the kind of rows that its steps are fed */
  int64_t prompted;       /* positions from the first on that prompt rows made, up to the first other one */
  _Atomic int64_t n_past; /* moves only when a step has ended well, or under the lock while there is none */
  atomic_int cancel;
  pgg_arenas own;              /* of a keep_all plan: its nodes stay readable */
  int64_t last_n, last_wanted; /* rows of the last piece */
  int64_t last_source;         /* rows of the source that was encoded last */
  float *logits;               /* (n_logits, output cols) of a step that chooses and begins with this session */
  int n_logits;
  int64_t fed; /* while a step runs: the tokens of it that are done */
  /* Under the lock of sync.h: */
  bool busy;            /* a thread has the turn */
  bool closed;          /* for good; what it held goes when the turn ends */
  bool buried;          /* it went */
  const void *owner;    /* the thread that has the turn, by an address of its own */
  pgg_session *next;    /* of the plan's */
  pgg_session **before; /* what points to this one */
};

/* Takes the turn of all n sessions of one plan, or of none: a session is in one thread at a time. PGG_EINVAL where one
 * is closed, running or given twice, or where a watcher begins a step inside a step of its own thread. */
pgg_status pgg_turn_begin(pgg_session *const *sessions, int n);
/* Gives it back. keep: the positions move on by what was fed. */
void pgg_turn_end(pgg_session *const *sessions, int n, bool keep);

/* feed.c: what a step or an encoding is fed, judged: something of what the ops take; ids of the vocabulary, -1 where
 * the ops take rows too. */
pgg_status pgg_feed_given(const pgg_feed *feed, const int32_t *ids, const float *rows, const char *who);
pgg_status pgg_feed_ids(const pgg_feed *feed, const int32_t *ids, int64_t n, const char *who);

/* In its turn: the session remembers this instead, at n_past, as prompted says. What it remembered is dropped. */
void pgg_session_take(pgg_session *session, pgg_memory *memory, int64_t n_past, int64_t prompted);

/* Adds a session to its plan. false where that is closed. */
bool pgg_turn_join(pgg_session *session);
void pgg_turn_part(pgg_session *session);

#endif
