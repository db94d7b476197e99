/* Which ops the CPU backend computes: a row for each, to the file that knows it. */
#include "backends/cpu/cpu.h"

static const pgg_cpu_kind *const kinds[PGG_OP_COUNT] = {
    [PGG_OP_EMBED] = &pgg_cpu_kind_embed,
    [PGG_OP_POSITIONS] = &pgg_cpu_kind_positions,
    [PGG_OP_KINDS] = &pgg_cpu_kind_kinds,
    [PGG_OP_ROW] = &pgg_cpu_kind_row,
    [PGG_OP_INPUT] = &pgg_cpu_kind_input,
    [PGG_OP_RMS_NORM] = &pgg_cpu_kind_rms_norm,
    [PGG_OP_LAYER_NORM] = &pgg_cpu_kind_layer_norm,
    [PGG_OP_MATMUL] = &pgg_cpu_kind_matmul,
    [PGG_OP_HEADS] = &pgg_cpu_kind_heads,
    [PGG_OP_ADD] = &pgg_cpu_kind_add,
    [PGG_OP_MUL] = &pgg_cpu_kind_mul,
    [PGG_OP_SCALE] = &pgg_cpu_kind_scale,
    [PGG_OP_TEMPER] = &pgg_cpu_kind_temper,
    [PGG_OP_SOFTCAP] = &pgg_cpu_kind_softcap,
    [PGG_OP_COLS] = &pgg_cpu_kind_cols,
    [PGG_OP_CONCAT] = &pgg_cpu_kind_concat,
    [PGG_OP_ROPE] = &pgg_cpu_kind_rope,
    [PGG_OP_ATTENTION] = &pgg_cpu_kind_attention,
    [PGG_OP_CONV] = &pgg_cpu_kind_conv,
    [PGG_OP_DELTA] = &pgg_cpu_kind_delta,
    [PGG_OP_SCAN] = &pgg_cpu_kind_scan,
    [PGG_OP_ACTIVATE] = &pgg_cpu_kind_activate,
    [PGG_OP_GLU] = &pgg_cpu_kind_glu,
    [PGG_OP_SOFTMAX] = &pgg_cpu_kind_softmax,
    [PGG_OP_ROWS] = &pgg_cpu_kind_rows,
    [PGG_OP_ROUTE] = &pgg_cpu_kind_route,
    [PGG_OP_EXPERTS] = &pgg_cpu_kind_experts,
    [PGG_OP_GATE] = &pgg_cpu_kind_gate,
    [PGG_OP_MIX] = &pgg_cpu_kind_mix,
    [PGG_OP_LEVEL] = &pgg_cpu_kind_level,
    [PGG_OP_EXCESS] = &pgg_cpu_kind_excess,
};

const pgg_cpu_kind *pgg_cpu_kind_of(int kind) { return kinds[kind]; }

pgg_status pgg_cpu_judge_weight(const pgg_op *op, const pgg_weight *w, const pgg_kernels *kernels, const char *what,
                                bool has) {
  if (has) return PGG_OK;
  return pgg_fail(PGG_EUNSUPPORTED, "%s: weight %s is %s, for which the %s kernels have no %s", op->name, w->name,
                  pgg_type_get(w->type)->name, kernels->isa, what);
}
