/* What freezing learns for this backend: which products share prepared activations, which ropes share a table; and the
 * scratch that follows from it. Scratch depends on the kernels in force and is made again when they change. */
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/cpu.h"
#include "base/memory.h"
#include "base/threads.h"
#include "core/rope.h"
#include "quant/quant.h"

#define PAGE 4096 /* threads' own scratch begins on pages of its own */

/* Whether two ropes turn by the same angles. */
static bool same_rope(const pgg_op *a, const float *fa, const pgg_op *b, const float *fb) {
  return fa == fb && PGG_INT(a, rope, n_rot) == PGG_INT(b, rope, n_rot) &&
         PGG_INT(a, rope, n_ctx_orig) == PGG_INT(b, rope, n_ctx_orig) && !memcmp(a->f, b->f, sizeof a->f);
}

static bool note_rope(const pgg_plan *plan, pgg_cpu_segment *notes, int op) {
  const pgg_op *o = &plan->ops[op].op;
  const float *factors = pgg_rope_factors(plan, o);
  int i = 0;
  while (i < notes->n_rope && !same_rope(notes->ropes[i].op, notes->ropes[i].factors, o, factors)) i++;
  notes->ops[op].rope = i;
  if (i < notes->n_rope) return true;
  notes->ropes[i] = (pgg_cpu_rope){o, factors, pgg_rope_speeds(o, factors)};
  notes->n_rope++;
  return notes->ropes[i].speed != NULL;
}

/* Every op has a kind, and the kernels what it needs; every level's table has the types or none. */
static pgg_status judge(const pgg_segment *segment) {
  const pgg_plan *plan = segment->plan;
  for (int i = segment->first; i < segment->end; i++) {
    const pgg_op *op = &plan->ops[i].op;
    const pgg_cpu_kind *kind = pgg_cpu_kind_of(op->kind);
    if (!kind) return pgg_fail(PGG_EUNSUPPORTED, "%s: the CPU backend has no op %s", op->name, pgg_op_name(op->kind));
    pgg_status status = kind->judge ? kind->judge(plan, op, pgg_kernels_get()) : PGG_OK;
    if (status) return status;
  }
  return PGG_OK;
}

/* Multiply-adds of one row through a weight, in those of small integers. */
static double macs_of(const pgg_weight *w) {
  return (pgg_type_get(w->type)->kind == PGG_KIND_BLOCK ? 1.0 : 3.0) * (double)w->cols * (double)w->rows;
}

static void note_work(const pgg_plan *plan, const pgg_op *op, pgg_cpu_phase *phase) {
  switch (op->kind) {
    case PGG_OP_MATMUL: phase->macs += macs_of(&plan->weights[PGG_WEIGHT(op, matmul, w)]); break;
    case PGG_OP_HEADS: phase->macs += macs_of(&plan->weights[PGG_WEIGHT(op, heads, w)]); break;
    case PGG_OP_EXPERTS: { /* three products of each chosen expert */
      const double used = (double)(plan->nodes[PGG_SRC(op, experts, routing)].cols / 2);
      for (int i = 0; i < 3; i++)
        if (op->weight[i] >= 0) /* up may lie in the tensor of gate */
          phase->macs += macs_of(&plan->weights[op->weight[i]]) / (double)PGG_INT(op, experts, n_expert) * used;
      break;
    }
    case PGG_OP_DELTA: /* decays and moves, is asked for the next key, and read */
      phase->macs += 9.0 * (double)(PGG_INT(op, delta, n_head) * PGG_INT(op, delta, k_dim) * PGG_INT(op, delta, v_dim));
      break;
    case PGG_OP_ATTENTION:
      phase->macs_past +=
          (double)(PGG_INT(op, attention, n_head) * (PGG_INT(op, attention, k_dim) + PGG_INT(op, attention, v_dim)));
      break;
    default: break;
  }
}

/* Which products read what was prepared for an earlier one. */
static void note_products(const pgg_segment *segment, pgg_cpu_op *ops) {
  const pgg_plan *plan = segment->plan;
  unsigned serves = 0;
  int acts_of = -1, panels_of = -1, panels_type = -1; /* nodes whose prepared rows lie in scratch */
  int prepared_by = -1, slot = 1;
  for (int i = segment->first; i < segment->end; i++) {
    const pgg_op *op = &plan->ops[i].op;
    if (op->kind != PGG_OP_MATMUL) continue;
    if (serves != plan->ops[i].serves) acts_of = panels_of = -1; /* one may run without the other */
    serves = plan->ops[i].serves;
    const int src = PGG_SRC(op, matmul, x), type = plan->weights[PGG_WEIGHT(op, matmul, w)].type;
    ops[i].acts_there = acts_of == src;
    ops[i].panels_there = panels_of == src && panels_type == type;
    if (pgg_cpu_takes_blocks(type)) {
      if (acts_of != src) {
        acts_of = src;
        prepared_by = i;
        slot = !slot;
      }
      ops[i].prepared_by = prepared_by;
      ops[i].acts_slot = slot;
    }
    panels_of = src;
    panels_type = type;
  }
}

static pgg_status note_ops(const pgg_segment *segment, pgg_cpu_segment *notes) {
  const pgg_plan *plan = segment->plan;
  notes->step.opening = notes->encoding.opening = -1;
  for (int i = segment->first; i < segment->end; i++) {
    const pgg_op *op = &plan->ops[i].op;
    const int64_t rows = plan->nodes[plan->ops[i].node].rows;
    pgg_cpu_phase *phase = rows == PGG_ROWS_SOURCE ? &notes->encoding : &notes->step;
    if (phase->opening < 0 && rows != PGG_ROWS_WANTED) {
      phase->opening = i; /* the tables of ropes are made before it, whatever is asked for */
      segment->plan->ops[i].serves |= rows == PGG_ROWS_SOURCE ? 1u << PGG_ENCODES : (1u << PGG_ENCODES) - 1;
    }
    note_work(plan, op, phase);
    if (op->kind == PGG_OP_ROPE && !note_rope(plan, notes, i))
      return pgg_fail(PGG_ENOMEM, "%s: no memory for the angles", op->name);
  }
  return PGG_OK;
}

pgg_status pgg_cpu_compile(pgg_segment *segment) {
  const size_t n = (size_t)segment->plan->n_op + 1;
  pgg_status status = judge(segment);
  if (status) return status;
  pgg_cpu_segment *notes = calloc(1, sizeof *notes);
  segment->compiled = notes;
  if (notes) {
    notes->ops = calloc(n, sizeof *notes->ops);
    notes->ropes = calloc(n, sizeof *notes->ropes);
    const int single = pgg_threads_default();
    notes->gate.n = single < PGG_CPU_SPACES - 1 ? single : PGG_CPU_SPACES - 1;
  }
  if (!notes || !notes->ops || !notes->ropes)
    status = pgg_fail(PGG_ENOMEM, "no memory for notes on %d ops", segment->plan->n_op);
  if (!status) status = note_ops(segment, notes);
  if (status) {
    pgg_cpu_discard(segment);
    return status;
  }
  note_products(segment, notes->ops);
  pgg_cpu_find_rows(segment, notes->ops);
  return PGG_OK;
}

void pgg_cpu_space_free(pgg_cpu_space *space) {
  if (!space) return;
  pgg_cpu_release(space->scratch);
  pgg_free(space->arena, space->arena_bytes);
  pgg_free(space->own, space->own_bytes);
  free(space->claims);
  free(space);
}

void pgg_cpu_rest(pgg_segment *segment) {
  pgg_cpu_segment *notes = segment->compiled;
  if (!notes) return;
  pgg_cpu_space *spaces[PGG_CPU_SPACES];
  pgg_lock();
  for (int i = 0; i < PGG_CPU_SPACES; i++) {
    spaces[i] = notes->spaces[i];
    notes->spaces[i] = NULL;
  }
  pgg_unlock();
  for (int i = 0; i < PGG_CPU_SPACES; i++) pgg_cpu_space_free(spaces[i]);
}

void pgg_cpu_discard(pgg_segment *segment) {
  pgg_cpu_segment *notes = segment->compiled;
  if (!notes) return;
  pgg_cpu_rest(segment);
  free(notes->ops);
  for (int i = 0; i < notes->n_rope; i++) free(notes->ropes[i].speed);
  free(notes->ropes);
  free(notes);
  segment->compiled = NULL;
}

/* ---- scratch ------------------------------------------------------------------------------------------- */

/* Offsets and sizes for n_threads. Every part is far below SIZE_MAX / 4: rows were bounded by layout.c. */
static void measure(const pgg_segment *segment, pgg_cpu_scratch *s) {
  const pgg_plan *plan = segment->plan;
  const pgg_cpu_segment *notes = segment->compiled;
  pgg_cpu_needs needs = {.own = 0};
  size_t ropes = 0;
  for (int i = segment->first; i < segment->end; i++) {
    const pgg_cpu_kind *kind = pgg_cpu_kind_of(plan->ops[i].op.kind);
    if (kind->scratch) kind->scratch(segment, i, s->kernels, &needs);
  }
  for (int i = 0; i < notes->n_rope; i++)
    ropes += (size_t)(plan->limits.n_batch * pgg_cpu_rope_stride(notes->ropes[i].op)) * sizeof(float);
  s->acts = s->acts_slot[0] = 0;
  s->acts_slot[1] = pgg_align_up(needs.acts[0], PAGE);
  s->panels = pgg_align_up(s->acts_slot[1] + needs.acts[1], PAGE);
  s->ropes = pgg_align_up(s->panels + needs.panels, PAGE);
  s->partials = pgg_align_up(s->ropes + ropes, PAGE);
  s->experts = pgg_align_up(s->partials + needs.partials, PAGE);
  s->expert_acts = pgg_align_up(s->experts + needs.experts, PAGE);
  s->own_acts = pgg_align_up(s->expert_acts + needs.expert_acts, PAGE);
  s->own_acts_bytes = pgg_align_up(needs.own_acts, PAGE);
  s->threads = s->own_acts + (size_t)s->n_threads * s->own_acts_bytes;
  s->thread_bytes = pgg_align_up(needs.own, PAGE);
  s->bytes = s->threads + (size_t)s->n_threads * s->thread_bytes;
}

size_t pgg_cpu_scratch_bytes(const pgg_segment *segment) {
  pgg_cpu_scratch s = {.kernels = pgg_kernels_get(), .n_threads = pgg_threads_default()};
  measure(segment, &s);
  return s.bytes + (size_t)s.n_threads * segment->plan->own_bytes;
}

pgg_status pgg_cpu_reserve(const pgg_segment *segment, pgg_cpu_scratch **scratch, int n_threads) {
  pgg_cpu_scratch *old = *scratch;
  if (old && old->n_threads >= n_threads && old->kernels == pgg_kernels_get()) return PGG_OK;
  pgg_cpu_scratch *s = calloc(1, sizeof *s);
  if (s) s->tails = calloc((size_t)segment->plan->n_op + 1, sizeof *s->tails);
  if (!s || !s->tails) {
    free(s);
    return pgg_fail(PGG_ENOMEM, "no memory for scratch");
  }
  s->kernels = pgg_kernels_get();
  s->n_threads = n_threads;
  measure(segment, s);
  if (s->bytes && !(s->base = pgg_alloc(s->bytes))) {
    pgg_status status = pgg_fail(PGG_ENOMEM, "the system refused %zu bytes of scratch", s->bytes);
    pgg_cpu_release(s);
    return status;
  }
  *scratch = s;
  pgg_cpu_release(old);
  return PGG_OK;
}

void pgg_cpu_release(pgg_cpu_scratch *s) {
  if (!s) return;
  pgg_free(s->base, s->bytes);
  free(s->tails);
  free(s);
}
