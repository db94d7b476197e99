/* States of rows of a session: convolutions, recurrences. Each is a few rows that every position makes anew, so nothing
 * of what it was before is left unless it was kept. A session holds them as moments: all of them at one position, a
 * piece of memory on each device. A step reads one and writes another, so that a step that fails has changed nothing;
 * a mark, a fork hold one more time what is there. */
#include <string.h>

#include "core/backend.h"

size_t pgg_moment_bytes(const pgg_plan *plan) {
  size_t bytes = 0;
  for (int p = 0; p < plan->n_place; p++) bytes += plan->places[p].rows_bytes;
  return bytes;
}

/* The lock is held. */
static void let_go(pgg_plan *plan, pgg_memory *memory, pgg_moment *moment, pgg_span **list) {
  for (int p = 0; p < plan->n_place; p++) pgg_span_let_go(plan, memory, moment->spans[p], list);
  *moment = (pgg_moment){0};
}

/* The lock is held: one more holder. */
static pgg_moment hold(const pgg_plan *plan, pgg_memory *memory, const pgg_moment *moment) {
  for (int p = 0; p < plan->n_place; p++) {
    if (!moment->spans[p]) continue;
    moment->spans[p]->refs++;
    memory->bytes += moment->spans[p]->bytes;
  }
  return *moment;
}

/* Memory of nobody else for all that is to be written. What it held is not needed. */
static pgg_status own(pgg_plan *plan, pgg_memory *memory, pgg_moment *moment) {
  pgg_status status = PGG_OK;
  for (int p = 0; p < plan->n_place && !status; p++) {
    pgg_span *old = moment->spans[p], *list = NULL;
    if (!plan->places[p].rows_bytes) continue;
    pgg_lock(); /* who holds it alone is the only one that could give it to another */
    const bool mine = old && old->refs == 1;
    if (!mine) {
      pgg_span_let_go(plan, memory, old, &list);
      moment->spans[p] = NULL;
    }
    pgg_unlock();
    pgg_spans_drop(plan, list);
    if (mine) continue;
    status =
        pgg_span_new(plan, memory, p, plan->places[p].rows_bytes, "the state of recurrent layers", &moment->spans[p]);
    moment->at[p] = status ? NULL : moment->spans[p]->mem.p;
  }
  return status;
}

pgg_status pgg_moments_ready(pgg_plan *plan, pgg_memory *memory, const pgg_moment **before, const pgg_moment **after) {
  if (!plan->recurrent) return PGG_OK;
  pgg_moment *to = &memory->step[memory->n_step & 1];
  pgg_status status = own(plan, memory, to);
  if (status) return status;
  *before = memory->n_step ? &memory->step[(memory->n_step - 1) & 1] : &memory->now;
  *after = to;
  memory->n_step++;
  return PGG_OK;
}

void pgg_moments_end(pgg_plan *plan, pgg_memory *memory, bool keep, int64_t n_past, pgg_span **list) {
  if (!memory->n_step) return;
  if (keep) {
    pgg_moment *last = &memory->step[(memory->n_step - 1) & 1];
    const pgg_moment old = memory->now;
    memory->now = *last;
    memory->now.pos = n_past;
    *last = old;
  }
  memory->n_step = 0;
  let_go(plan, memory, &memory->step[1], list); /* the other is the next step's */
}

void pgg_moments_cut(pgg_plan *plan, pgg_memory *memory, int64_t n_past, pgg_span **list) {
  for (; memory->n_mark && memory->marks[memory->n_mark - 1].pos > n_past; memory->n_mark--)
    let_go(plan, memory, &memory->marks[memory->n_mark - 1], list);
  if (!plan->recurrent || n_past == memory->now.pos) return;
  let_go(plan, memory, &memory->now, list);
  if (n_past) memory->now = hold(plan, memory, &memory->marks[memory->n_mark - 1]);
}

void pgg_moments_share(const pgg_plan *plan, pgg_memory *memory, const pgg_memory *other) {
  memory->now = hold(plan, memory, &other->now);
  for (memory->n_mark = 0; memory->n_mark < other->n_mark; memory->n_mark++)
    memory->marks[memory->n_mark] = hold(plan, memory, &other->marks[memory->n_mark]);
}

void pgg_moments_drop(pgg_plan *plan, pgg_memory *memory, pgg_span **list) {
  let_go(plan, memory, &memory->now, list);
  for (int i = 0; i < 2; i++) let_go(plan, memory, &memory->step[i], list);
  while (memory->n_mark) let_go(plan, memory, &memory->marks[--memory->n_mark], list);
}

bool pgg_moments_mark(pgg_plan *plan, pgg_memory *memory, int64_t n_past) {
  const int n = memory->n_mark;
  if (!memory->marks || !n_past || (n && memory->marks[n - 1].pos == n_past)) return true;
  if (n == PGG_MAX_MARKS) return false;
  memory->marks[n] = hold(plan, memory, &memory->now);
  memory->marks[n].pos = n_past;
  memory->n_mark++;
  return true;
}

void pgg_moments_unmark(pgg_plan *plan, pgg_memory *memory, int64_t pos, pgg_span **list) {
  int i = 0;
  while (i < memory->n_mark && memory->marks[i].pos != pos) i++;
  if (i == memory->n_mark) return;
  let_go(plan, memory, &memory->marks[i], list);
  memory->n_mark--;
  memmove(&memory->marks[i], &memory->marks[i + 1], (size_t)(memory->n_mark - i) * sizeof *memory->marks);
}

pgg_status pgg_moment_new(pgg_plan *plan, pgg_memory *memory, int64_t pos, pgg_moment *moment) {
  *moment = (pgg_moment){.pos = pos};
  return own(plan, memory, moment);
}
