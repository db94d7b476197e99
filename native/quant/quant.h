/* Floor 1: formats. Bytes of blocks <-> floats, scalar and portable; no tensors, no threads, cannot fail.
 * Shapes are rows of k values, k a multiple of the type's block. */
#ifndef PGG_QUANT_H
#define PGG_QUANT_H
#include "base/base.h"

typedef struct pgg_quant {
  pgg_type_info info;
  /* k values of one row -> floats; bit-equal to the format's published decode. Never NULL: INT types convert, ACT types
   * give d * q. */
  void (*decode)(const void *row, float *y, int64_t k);
  /* floats -> one row; importance (k) or NULL. NULL where the type cannot be written yet. */
  void (*encode)(const float *x, void *row, int64_t k, const float *importance);
  /* Largest magnitude that encode is made for; 0 without one. */
  float top;
  /* Reference product of one row with prepared activations; the truth all kernels are held to, within
   * 1e-5 * sum |w[i] * x[i]|. NULL for INT and ACT.
   * BLOCK: act is pgg_act (k). For every sub-block s in order, in float, each operation rounded by itself:
   *     acc = acc + d_act * (scale(s) * isum - min(s) * asum)         acc starts at 0
   * isum = sum of q * q_act and asum = sum of q_act over the sub-block, exact in int32; then the same of the spikes in
   * it with spike_d, where it has any.
   * FLOAT: act is float (k). Products and one running sum in double, in order; the result is rounded to float. */
  float (*dot)(const void *row, const void *act, int64_t k);
} pgg_quant;

const pgg_quant *pgg_quant_get(int type); /* NULL if unknown */

float pgg_f16_to_f32(uint16_t h);
uint16_t pgg_f32_to_f16(float f); /* round to nearest even; NaN stays NaN, overflow is infinity */
float pgg_bf16_to_f32(uint16_t h);
uint16_t pgg_f32_to_bf16(float f); /* round to nearest even */

/* ---- activations --------------------------------------------------------------------------------------- */

/* What weights of FLOAT types are multiplied with: k floats as they are.
 * What weights of BLOCK types are multiplied with: one pgg_act per 256 values (the last one padded with zeros), for
 * every block type the same, so one preparation serves all matrices that read a row.
 *   x[i] ~ d * q[i] + spike_d * spike[j] at at[j],  q and spike in [-127, 127];  d is NaN when any x of the 256 is not
 * finite. Spikes are the few values far above the others, as the outlier channels of real models are: a second, sparse
 * plane, so that they do not make the scale of the others coarse (docs/adr/0007). A block without them is one plane.
 *
 * In float arithmetic, every operation rounded by itself, with top = max|x| and n values of the row in the block:
 *   limit = PGG_ACT_SPIKE * sum|x| / n      the sum of 32 lanes, lane i of x[i], x[i + 32] ..; then lane i + lane i +
 * 16,
 *                                           + 8, + 4, + 2, + 1
 *   spikes: |x| > limit. While there are more than PGG_ACT_SPIKES, limit = 1.25 * limit. None, where top <
 *   PGG_ACT_LEAST or the largest other value is above PGG_ACT_WORTH * top.
 *   spike_d = the least power of two >= top / 127, spike = round_half_even(x / spike_d); what is left of x, exactly,
 *   belongs to the first plane: x = x - spike_d * spike.
 *   d = top / 127, q[i] = round_half_even(x[i] * (127 / top)) with top = max|x| of what is left.
 * When top < PGG_ACT_TINY (127 / top would overflow) q are 0; when d is NaN (0x7fc00000), q and sums are 0. Without
 * spikes spike_d is 0, and what is behind the last spike and pad are always 0; at rises. */
#define PGG_ACT_LEN 256
#define PGG_ACT_TINY 0x1p-119f
#define PGG_ACT_LEAST 0x1p-100f
#define PGG_ACT_SPIKE 7.0f
#define PGG_ACT_WORTH 0.875f
#define PGG_ACT_SPIKES 8
typedef struct pgg_act {
  int8_t q[PGG_ACT_LEN];
  int16_t sums[PGG_ACT_LEN / 16]; /* of each 16 q */
  float d, spike_d;
  int8_t spike[PGG_ACT_SPIKES];
  uint8_t at[PGG_ACT_SPIKES], n_spike;
  uint8_t pad[7]; /* to 320 bytes: rows stay 64-byte aligned */
} pgg_act;

static inline int64_t pgg_act_blocks(int64_t k) { return (k + PGG_ACT_LEN - 1) / PGG_ACT_LEN; }
/* Reference preparation; q rounds half to even. Every ISA must give exactly these bytes. */
void pgg_act_encode(const float *x, pgg_act *act, int64_t k);

#endif
