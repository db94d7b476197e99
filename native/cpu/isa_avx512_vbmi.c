/* What AVX512-VBMI adds to the avx512 level: products of the types whose weights are looked up. Same panels, same bits
 * for few tokens; strips in the same form. */
#include "cpu/detect.h"
#include "cpu/lanes_grid_avx512.h"

#define VBMI_TYPES(X) PGG_SMALL_TYPES(X) PGG_GRID_TYPES(X)
#undef PGG_LANE_TYPES
#define PGG_LANE_TYPES(X) VBMI_TYPES(X)
#define LANES_ROWS_FIRST 1
#undef LANES_FEW_WORDS
#undef LANES_FEW_PACKED
#define FEW_CODED_TYPES(X)
#define FEW_TAKEN_TYPES(X)
#define FEW_WHOLE_TYPES(X) VBMI_TYPES(X)

/* A stretch in the order of the file, for a strip. Folding twice is no change. */
#define WHOLE(NAME, name, ...)                                                        \
  PGG_ALWAYS void whole_##name(const uint8_t *b, uint8_t *to) {                       \
    lb v[4];                                                                          \
    lf scale[2];                                                                      \
    taken_##name(b, v, scale);                                                        \
    lb_fold(v);                                                                       \
    PGG_UNROLL(4) for (int j = 0; j < 4; j++) _mm512_storeu_si512(to + 64 * j, v[j]); \
  }
VBMI_TYPES(WHOLE)

#include "cpu/unpack.inc"
#include "cpu/few.inc"
#include "cpu/gemm.inc"

void pgg_isa_avx512_vbmi(pgg_kernels *table) {
  l_grids_fill();
#define SET(NAME, name, ...)                \
  table->gemv[PGG_##NAME] = gemv_##name;    \
  table->few[PGG_##NAME] = few_rows_##name; \
  table->gemm[PGG_##NAME] = gemm_##name;
  VBMI_TYPES(SET)
#undef SET
}
