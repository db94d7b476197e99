/* What detect.c shares with the isa_*.c files: CPU features and one fill function per file.
 * A fill function overrides the slots its ISA does better in a table that already holds the level below. */
#ifndef PGG_DETECT_H
#define PGG_DETECT_H
#include "cpu/kernels.h"

enum {
  PGG_CPU_AVX2 = 1 << 0,    /* AVX2, FMA, F16C, BMI1, BMI2 and the OS saves ymm */
  PGG_CPU_AVXVNNI = 1 << 1, /* VEX vpdpbusd */
  PGG_CPU_AVX512 = 1 << 2,  /* F, BW, VL, DQ and the OS saves zmm */
  PGG_CPU_AVX512VNNI = 1 << 3,
  PGG_CPU_AVX512VBMI = 1 << 4,
  PGG_CPU_AVX512BF16 = 1 << 5,
  PGG_CPU_NEON = 1 << 6,
  PGG_CPU_DOTPROD = 1 << 7,
  PGG_CPU_I8MM = 1 << 8
};

unsigned pgg_cpu_features(void); /* PGG_CPU_ bits; asks the CPU and the OS anew */

void pgg_isa_scalar(pgg_kernels *table);       /* fills every slot */
void pgg_isa_avx2(pgg_kernels *table);         /* over scalar */
void pgg_isa_avxvnni(pgg_kernels *table);      /* over avx2 */
void pgg_isa_avx512(pgg_kernels *table);       /* over avx2 */
void pgg_isa_avx512_vbmi(pgg_kernels *table);  /* extra of avx512 */
void pgg_isa_avx512_bf16(pgg_kernels *table);  /* extra of avx512 */
void pgg_isa_neon(pgg_kernels *table);         /* over scalar */
void pgg_isa_neon_dotprod(pgg_kernels *table); /* extra of neon */
void pgg_isa_neon_i8mm(pgg_kernels *table);    /* extra of neon, over dotprod */

void pgg_encoders_avx2(pgg_kernels *table); /* fill the encode slots */
void pgg_encoders_avx512(pgg_kernels *table);

#endif
