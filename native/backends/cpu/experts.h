/* The experts op inside: its numbers, and where its shared scratch lies. experts_form.c sizes, experts.c computes. */
#ifndef PGG_CPU_EXPERTS_H
#define PGG_CPU_EXPERTS_H
#include "backends/cpu/cpu.h"

#define EXPERT_STRIP PGG_ACT_LEN /* hidden values of a piece of work: one block of prepared activations */

/* One of the three stacks of matrices: gate, up, down. */
typedef struct pgg_experts_side {
  const pgg_weight *w; /* (n_expert * step, k) */
  const float *bias;   /* (n_expert, rows) or NULL */
  int64_t rows;        /* of one expert */
  int64_t step, begin; /* rows from one expert to the next, and before its first: gate and up may lie in one tensor */
  char *acts;          /* prepared rows: of tokens for gate and up, of pairs for down */
  size_t stride;       /* bytes from one to the next */
  char *panels;        /* of every expert, one after another */
  size_t panel;        /* bytes of one; 0: decode rows, which use none */
} pgg_experts_side;

typedef struct pgg_experts {
  const pgg_kernels *kernels;
  pgg_experts_side side[3];
  int64_t n, n_used, n_expert, n_ff, n_out; /* rows of x, experts of a row, experts, widths */
  int64_t pairs;                            /* n * n_used */
  int64_t tokens;                           /* of a panel */
  int64_t chunk;                            /* most pairs of a piece of work, a multiple of tokens */
  int64_t strips;                           /* of EXPERT_STRIP hidden values */
  int64_t unit;                             /* results are cut at multiples of this */
  int64_t row_stride;                       /* floats of a row of hidden values */
  int act;                                  /* pgg_activation */
  bool single;                              /* one decode row */
  bool early;                               /* weights multiply gate and up, not the result */
  bool plain;                               /* there is no up */
  bool shared;                              /* up multiplies with gate's panels */
  size_t panel_strip;                       /* bytes of one strip in a panel for down */
  size_t own_gemm;                          /* offset of the kernels' scratch in that of a thread */
} pgg_experts;

typedef struct pgg_experts_queue {
  pgg_cpu_tail hidden; /* next piece of work of each kind */
  char apart[64 - sizeof(pgg_cpu_tail)];
  pgg_cpu_tail sum;
  char apart_too[64 - sizeof(pgg_cpu_tail)];
  int64_t n_active; /* experts with tokens */
} pgg_experts_queue;

/* What sorting finds. Pairs lie expert after expert, by token inside one. */
typedef struct pgg_experts_sorted {
  pgg_experts_queue *queue;
  int64_t *items;         /* (n_active + 1) first piece of work of order[i] */
  int32_t *start;         /* (n_expert + 1) first pair of an expert */
  int32_t *panel;         /* (n_expert + 1) first panel of an expert */
  int32_t *order;         /* (n_active) experts, those with most tokens first */
  int32_t *token;         /* (pairs) */
  float *weight;          /* (pairs) */
  _Atomic int32_t *ready; /* one token: (n_used, strips) slices that are done */
  float *row;             /* one token: (n_used, row_stride) hidden values */
} pgg_experts_sorted;

/* The numbers for n rows of a kind; acts and panels are not placed yet. */
pgg_experts pgg_experts_of(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels, int64_t n, bool decode);
/* Places acts of down, panels and the sorted lists from base on (PGG_ALIGN); NULL: only *bytes, where wanted. */
pgg_experts_sorted pgg_experts_place(pgg_experts *x, char *base, size_t *bytes);

/* For the kind: whether x is prepared in blocks, whether sizes fit, scratch. */
bool pgg_experts_encodes(const pgg_plan *plan, const pgg_op *op);
pgg_status pgg_experts_judge(const pgg_plan *plan, const pgg_op *op, const pgg_kernels *kernels);
void pgg_experts_scratch(const pgg_segment *segment, int op, const pgg_kernels *kernels, pgg_cpu_needs *needs);

#endif
