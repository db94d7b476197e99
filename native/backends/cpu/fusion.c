/* Which stages go along with each other: products of one source, and behind them the ops whose columns depend on the
 * same columns only (rope and storing of heads, norms of heads, activations, sums, quantizing). Each thread takes
 * chunks of columns and runs the whole row of stages on them, so there is no barrier inside. Also which nodes every
 * thread may make for itself. Found once, when a plan is frozen. */
#include "backends/cpu/cpu.h"

#define CHUNKS_EACH 8 /* chunks a thread should have where they cannot be divided evenly */

static int64_t common(int64_t a, int64_t b) {
  while (b) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

int64_t pgg_cpu_column_units(const pgg_plan *plan, const pgg_plan_op_rec *rec) {
  const int64_t cols = plan->nodes[rec->node].cols;
  return cols % PGG_CPU_COLUMNS ? 0 : cols / PGG_CPU_COLUMNS;
}

/* Into how many equal chunks of columns the op can be cut at most; 0 or 1: it cannot. */
static int64_t units(const pgg_plan *plan, const pgg_plan_op_rec *rec) {
  const pgg_cpu_kind *kind = pgg_cpu_kind_of(rec->op.kind);
  return kind->units ? kind->units(plan, rec) : 0;
}

static bool made_in(const pgg_plan *plan, int node, int first, int end) {
  return node >= 0 && plan->nodes[node].op >= first && plan->nodes[node].op < end;
}

static bool made_or_absent(const pgg_plan *plan, int node, int first, int end) {
  return node < 0 || made_in(plan, node, first, end);
}

/* Whether op `at` needs of the row [first, at) only the columns that it makes itself. */
static bool fits(const pgg_plan *plan, int first, int at) {
  const pgg_op *op = &plan->ops[at].op;
  if (plan->ops[at].serves != plan->ops[first].serves) return false; /* one may run without the other */
  if (op->kind == PGG_OP_MATMUL) return PGG_SRC(op, matmul, x) == PGG_SRC(&plan->ops[first].op, matmul, x);
  if (op->kind == PGG_OP_ATTENTION)
    return made_or_absent(plan, PGG_SRC(op, attention, k), first, at) &&
           made_or_absent(plan, PGG_SRC(op, attention, v), first, at);
  for (int i = 0; i < pgg_op_src_count(op->kind); i++)
    if (made_in(plan, op->src[i], first, at)) return true;
  return false;
}

/* The preparation of a product that reads the row's last node: quantizing in blocks of 256. */
static int64_t prepare_units(const pgg_segment *segment, int at, const pgg_cpu_op *ops) {
  const pgg_plan *plan = segment->plan;
  if (at >= segment->end || plan->ops[at].op.kind != PGG_OP_MATMUL || ops[at].acts_there) return 0;
  if (plan->ops[at].serves != plan->ops[at - 1].serves) return 0;
  const pgg_op *op = &plan->ops[at].op;
  const pgg_weight *w = &plan->weights[PGG_WEIGHT(op, matmul, w)];
  if (PGG_SRC(op, matmul, x) != plan->ops[at - 1].node || !pgg_cpu_takes_blocks(w->type) || w->cols % PGG_ACT_LEN)
    return 0;
  return w->cols / PGG_ACT_LEN;
}

/* The row that begins with the product `first`; returns the op behind it. */
static int find_row(const pgg_segment *segment, pgg_cpu_op *ops, int first) {
  pgg_plan *plan = segment->plan;
  int64_t chunks = units(plan, &plan->ops[first]);
  int end = first + 1;
  bool stored = false;
  if (chunks < 2) return end;
  for (; end < segment->end && !stored && fits(plan, first, end); end++) {
    const pgg_plan_op_rec *rec = &plan->ops[end];
    const int64_t fewer = common(chunks, units(plan, rec));
    if (fewer < 2 || !units(plan, rec)) break;
    chunks = fewer;
    stored = rec->op.kind == PGG_OP_ATTENTION; /* attending needs the keys of all */
  }
  const int64_t prepare = stored ? 0 : common(chunks, prepare_units(segment, end, ops));
  const bool prepares = prepare > 1 && prepare_units(segment, end, ops);
  if (prepares) chunks = prepare;
  if (chunks < 2 || chunks > 1 << 20 || (end == first + 1 && !prepares)) return first + 1;
  for (int i = first; i < end; i++) {
    ops[i].chunks = (int)chunks;
    ops[i].along = plan->ops[i].joined = i > first;
  }
  if (prepares) ops[end].prepare = (int)chunks;
  return end;
}

/* Nodes small enough when rows are few; not those that somebody else reads, nor those of a row. */
static void note_own(const pgg_segment *segment, const pgg_cpu_op *ops, int at) {
  const pgg_plan_op_rec *rec = &segment->plan->ops[at];
  pgg_node *node = &segment->plan->nodes[rec->node];
  if (!pgg_cpu_kind_of(rec->op.kind)->own) return;
  if (!ops[at].chunks && !pgg_node_leaves(segment->plan, segment, rec->node))
    node->own_rows = PGG_CPU_EACH / node->stride;
}

void pgg_cpu_find_rows(pgg_segment *segment, pgg_cpu_op *ops) {
  pgg_plan *plan = segment->plan;
  const int first = segment->first, end = segment->end;
  for (int i = first; i < end; i++) {
    plan->ops[i].joined = false;
    plan->nodes[plan->ops[i].node].own_rows = 0;
  }
  for (int i = first; i < end;) i = plan->ops[i].op.kind == PGG_OP_MATMUL ? find_row(segment, ops, i) : i + 1;
  for (int i = first; i < end; i++) {
    note_own(segment, ops, i);
    /* What each made for itself, and read to make it, is still read when a row behind it begins. */
    const bool own = plan->nodes[plan->ops[i].node].own_rows > 0;
    if (i > first && plan->nodes[plan->ops[i - 1].node].own_rows > 0 && (own || ops[i].chunks))
      plan->ops[i].joined = true;
  }
}

pgg_share pgg_cpu_cut(const pgg_run *run, int chunks, bool along) {
  if (!chunks || PGG_CPU_COLUMNS % pgg_cpu_scratch_of(run)->kernels->gemm_rows) return PGG_SHARE_SKIP;
  if (run->nth == 1 ? run->n == 1 : chunks % run->nth && chunks < CHUNKS_EACH * run->nth) return PGG_SHARE_SKIP;
  return along ? PGG_SHARE_ALONG : PGG_SHARE_CHUNKS;
}
