/* The table of ops, made from ops.def: names, fields in order, and the judge of each field by itself. What one field
 * demands of another is in shape.c. */
#include "core/ops.h"

#include <math.h>

static const char *const activation_names[] = {
#define ACTIVATION(NAME, name) #name,
#include "activations.def"
#undef ACTIVATION
};

const char *pgg_activation_name(int at) { return at >= 0 && at < PGG_ACTIVATION_COUNT ? activation_names[at] : NULL; }

#define OP(NAME, name, fields) static const pgg_op_field fields_of_##name[] = {fields{0}};
#define SRC(field, rows) {#field, PGG_FIELD_SRC, PGG_RULE_##rows, 0, 0},
#define WEIGHT(field, need) {#field, PGG_FIELD_WEIGHT, PGG_RULE_##need, 0, 0},
#define INT(field, low, high) {#field, PGG_FIELD_INT, PGG_RULE_ANY, low, high},
#define FLOAT(field, range) {#field, PGG_FIELD_FLOAT, PGG_RULE_##range, 0, 0},
#include "core/ops.def"

/* A row that needs more places than pgg_op has does not compile. */
#define OP(NAME, name, fields)                                                     \
  _Static_assert(sizeof(struct pgg_src_of_##name) <= PGG_MAX_SRC + 1 &&            \
                     sizeof(struct pgg_weight_of_##name) <= PGG_MAX_WEIGHTS + 1 && \
                     sizeof(struct pgg_int_of_##name) <= PGG_MAX_INTS + 1 &&       \
                     sizeof(struct pgg_float_of_##name) <= PGG_MAX_FLOATS + 1,     \
                 #name " has more fields than pgg_op holds");
#include "core/ops.def"

typedef struct op_row {
  const char *name;
  const pgg_op_field *fields;
  int n_src, n_weight;
} op_row;

static const op_row rows[] = {
#define OP(NAME, name, fields) \
  {#name, fields_of_##name, (int)sizeof(struct pgg_src_of_##name) - 1, (int)sizeof(struct pgg_weight_of_##name) - 1},
#include "core/ops.def"
};

static bool known(int kind) { return kind >= 0 && kind < PGG_OP_COUNT; }

const char *pgg_op_name(int kind) { return known(kind) ? rows[kind].name : NULL; }
const pgg_op_field *pgg_op_fields(int kind) { return known(kind) ? rows[kind].fields : NULL; }
int pgg_op_src_count(int kind) { return rows[kind].n_src; }
int pgg_op_weight_count(int kind) { return rows[kind].n_weight; }

static pgg_status judge_src(const pgg_plan *plan, const pgg_op *op, const pgg_op_field *field, int node) {
  if (node == -1 && field->rule == PGG_RULE_OPTIONAL) return PGG_OK;
  if (node < 0 || node >= plan->n_node)
    return pgg_fail(PGG_EINVAL, "%s: input %s of %s is node %d, which is not there (the plan has %d)", op->name,
                    field->name, pgg_op_name(op->kind), node, plan->n_node);
  const int64_t has = plan->nodes[node].rows;
  const bool either = field->rule == PGG_RULE_EITHER || field->rule == PGG_RULE_OPTIONAL;
  if (field->rule == PGG_RULE_ANY || has == PGG_ROWS_TOKENS || (either && has == PGG_ROWS_SOURCE)) return PGG_OK;
  return pgg_fail(PGG_ESHAPE, "%s: input %s has %s, %s needs those of all tokens", op->name,
                  plan->ops[plan->nodes[node].op].op.name,
                  has == PGG_ROWS_SOURCE ? "the rows of the source" : "only the wanted rows", pgg_op_name(op->kind));
}

static pgg_status judge_weight(const pgg_plan *plan, const pgg_op *op, const pgg_op_field *field, int w) {
  if (w < 0 && field->rule == PGG_RULE_OPTIONAL) return PGG_OK;
  if (w >= 0 && w < plan->n_weight) return PGG_OK;
  return pgg_fail(PGG_EINVAL, "%s: %s: there is no weight %d (the plan has %d)", op->name, field->name, w,
                  plan->n_weight);
}

static pgg_status judge_int(const pgg_op *op, const pgg_op_field *field, int64_t value) {
  if (value >= field->low && value <= field->high) return PGG_OK;
  return pgg_fail(PGG_EINVAL, "%s: %s is %lld, expected %lld to %lld", op->name, field->name, (long long)value,
                  (long long)field->low, (long long)field->high);
}

static pgg_status judge_float(const pgg_op *op, const pgg_op_field *field, float value) {
  static const char *const wanted[] = {
      [PGG_RULE_ANY] = "", [PGG_RULE_FROM_ZERO] = " >= 0", [PGG_RULE_POSITIVE] = " > 0"};
  const bool good = field->rule == PGG_RULE_POSITIVE ? value > 0 : field->rule == PGG_RULE_ANY || value >= 0;
  if (isfinite(value) && good) return PGG_OK;
  return pgg_fail(PGG_EINVAL, "%s: %s is %g, expected a finite number%s", op->name, field->name, (double)value,
                  wanted[field->rule]);
}

pgg_status pgg_op_judge_fields(const pgg_plan *plan, const pgg_op *op) {
  if (!known(op->kind)) return pgg_fail(PGG_EINVAL, "%s: there is no op of kind %d", op->name, op->kind);
  int at[4] = {0};
  pgg_status status = PGG_OK;
  for (const pgg_op_field *field = pgg_op_fields(op->kind); field->name && !status; field++) {
    const int i = at[field->kind]++;
    switch (field->kind) {
      case PGG_FIELD_SRC: status = judge_src(plan, op, field, op->src[i]); break;
      case PGG_FIELD_WEIGHT: status = judge_weight(plan, op, field, op->weight[i]); break;
      case PGG_FIELD_INT: status = judge_int(op, field, op->i[i]); break;
      case PGG_FIELD_FLOAT: status = judge_float(op, field, op->f[i]); break;
    }
  }
  return status;
}
