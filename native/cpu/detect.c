/* Chooses the kernels: asks the CPU and the OS what they run, builds one table per level, obeys PYGGML_ISA.
 * Holds no kernel. A level starts from the one below and overrides slots: scalar -> avx2 -> avxvnni, avx2 -> avx512,
 * scalar -> neon. Sources: Intel SDM vol. 2 CPUID and vol. 1 13.3 (XCR0), Linux arm64 elf_hwcaps. */
#include "cpu/detect.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(PGG_X86)
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(PGG_ARM64)
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
#include <windows.h>
#endif
#endif

/* ---- features ------------------------------------------------------------------------------------------ */

#if defined(PGG_X86)

static bool cpuid(unsigned leaf, unsigned sub, unsigned r[4]) {
#if defined(_MSC_VER) && !defined(__clang__)
  int out[4];
  __cpuid(out, 0);
  if ((unsigned)out[0] < leaf) return false;
  __cpuidex(out, (int)leaf, (int)sub);
  for (int i = 0; i < 4; i++) r[i] = (unsigned)out[i];
  return true;
#else
  return __get_cpuid_count(leaf, sub, &r[0], &r[1], &r[2], &r[3]) != 0;
#endif
}

/* Register state the OS saves; an instruction set the OS does not save must not be used. */
static uint64_t xcr0(void) {
#if defined(_MSC_VER) && !defined(__clang__)
  return _xgetbv(0);
#else
  uint32_t lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return ((uint64_t)hi << 32) | lo;
#endif
}

unsigned pgg_cpu_features(void) {
  unsigned one[4] = {0}, seven[4] = {0}, seven1[4] = {0};
  enum { A, B, C, D };
  if (!cpuid(1, 0, one) || !cpuid(7, 0, seven)) return 0;
  if (seven[A] >= 1 && !cpuid(7, 1, seven1)) memset(seven1, 0, sizeof seven1);
  if (!(one[C] >> 27 & 1)) return 0; /* OSXSAVE: without it xgetbv itself is illegal */
  const uint64_t saved = xcr0();
  unsigned f = 0;
  const bool ymm = (saved & 0x6) == 0x6, zmm = (saved & 0xe6) == 0xe6;
  const unsigned avx_fma_f16c = 1u << 28 | 1u << 12 | 1u << 29, avx2_bmi = 1u << 5 | 1u << 3 | 1u << 8;
  if (!ymm || (one[C] & avx_fma_f16c) != avx_fma_f16c || (seven[B] & avx2_bmi) != avx2_bmi) return 0;
  f |= PGG_CPU_AVX2;
  if (seven1[A] >> 4 & 1) f |= PGG_CPU_AVXVNNI;
  const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
  if (!zmm || (seven[B] & f_dq_bw_vl) != f_dq_bw_vl) return f;
  f |= PGG_CPU_AVX512;
  if (seven[C] >> 11 & 1) f |= PGG_CPU_AVX512VNNI;
  if (seven[C] >> 1 & 1) f |= PGG_CPU_AVX512VBMI;
  if (seven1[A] >> 5 & 1) f |= PGG_CPU_AVX512BF16;
  return f;
}

#elif defined(PGG_ARM64)

#if defined(__APPLE__)
static bool apple_has(const char *name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}
#endif

unsigned pgg_cpu_features(void) {
  unsigned f = PGG_CPU_NEON; /* Advanced SIMD is part of the arm64 calling conventions */
#if defined(__linux__)
  if (getauxval(AT_HWCAP) >> 20 & 1) f |= PGG_CPU_DOTPROD;
  if (getauxval(AT_HWCAP2) >> 13 & 1) f |= PGG_CPU_I8MM;
#elif defined(__APPLE__)
  if (apple_has("hw.optional.arm.FEAT_DotProd")) f |= PGG_CPU_DOTPROD;
  if (apple_has("hw.optional.arm.FEAT_I8MM")) f |= PGG_CPU_I8MM;
#elif defined(_WIN32)
  if (IsProcessorFeaturePresent(43)) f |= PGG_CPU_DOTPROD; /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE */
#endif
  return f;
}

#else

unsigned pgg_cpu_features(void) { return 0; }

#endif

/* ---- levels -------------------------------------------------------------------------------------------- */

typedef struct level {
  const char *name;
  int below; /* index of the level it starts from, -1: nothing */
  unsigned needs;
  const char *needs_text;
  void (*fill)(pgg_kernels *); /* NULL: not in this build */
  unsigned extra_needs[2];     /* features of the extras, in order */
  void (*extra[2])(pgg_kernels *);
} level;

#if defined(PGG_X86)
#define X86(fn) fn
#else
#define X86(fn) NULL
#endif
#if defined(PGG_ARM64)
#define ARM(fn) fn
#else
#define ARM(fn) NULL
#endif
#if defined(PGG_HAVE_AVX512_VBMI)
#define VBMI(fn) fn
#else
#define VBMI(fn) NULL
#endif
#if defined(PGG_HAVE_AVX512_BF16)
#define BF16(fn) fn
#else
#define BF16(fn) NULL
#endif

/* slowest first; the last one that runs is the automatic choice */
static const level levels[] = {
    {"scalar", -1, 0, "nothing", pgg_isa_scalar, {0}, {NULL}},
    {"avx2", 0, PGG_CPU_AVX2, "AVX2, FMA, F16C, BMI1 and BMI2", X86(pgg_isa_avx2), {0}, {NULL}},
    {"avxvnni", 1, PGG_CPU_AVX2 | PGG_CPU_AVXVNNI, "AVX2 and AVX-VNNI", X86(pgg_isa_avxvnni), {0}, {NULL}},
    {"avx512",
     1,
     PGG_CPU_AVX2 | PGG_CPU_AVX512 | PGG_CPU_AVX512VNNI,
     "AVX-512 F, BW, VL, DQ and VNNI",
     X86(pgg_isa_avx512),
     {PGG_CPU_AVX512VBMI, PGG_CPU_AVX512BF16},
     {VBMI(pgg_isa_avx512_vbmi), BF16(pgg_isa_avx512_bf16)}},
    {"neon",
     0,
     PGG_CPU_NEON,
     "Advanced SIMD",
     ARM(pgg_isa_neon),
     {PGG_CPU_DOTPROD, PGG_CPU_I8MM},
     {ARM(pgg_isa_neon_dotprod), ARM(pgg_isa_neon_i8mm)}},
};
enum { N_LEVEL = (int)(sizeof levels / sizeof levels[0]) };

static pgg_kernels tables[N_LEVEL]; /* written once by build, read only after */
static pgg_kernels bare[N_LEVEL];   /* the same without extras */
static unsigned features;
static int automatic = -1; /* level of automatic choice, -1 if PYGGML_ISA names none that runs */
static char asked[64];     /* PYGGML_ISA as it was at the first call */
static atomic_int stage;   /* 0 untouched, 1 being built, 2 built */
static _Atomic(const pgg_kernels *) in_force;

static bool runs(int i) { return levels[i].fill && (features & levels[i].needs) == levels[i].needs; }

static int find(const char *name) {
  for (int i = 0; i < N_LEVEL; i++)
    if (strcmp(levels[i].name, name) == 0) return i;
  return -1;
}

static void build(void) {
  int best = 0;
  features = pgg_cpu_features();
  for (int i = 0; i < N_LEVEL; i++) {
    if (!runs(i)) continue;
    if (levels[i].below >= 0) tables[i] = tables[levels[i].below];
    tables[i].isa = levels[i].name;
    levels[i].fill(&tables[i]);
    bare[i] = tables[i];
    for (int e = 0; e < 2; e++)
      if (levels[i].extra[e] && (features & levels[i].extra_needs[e])) levels[i].extra[e](&tables[i]);
    best = i;
  }
  const char *env = getenv("PYGGML_ISA");
  automatic = best;
  if (env && env[0]) {
    snprintf(asked, sizeof asked, "%s", env);
    const int i = strlen(env) < sizeof asked ? find(env) : -1;
    automatic = i >= 0 && runs(i) ? i : -1;
  }
  atomic_store(&in_force, automatic >= 0 ? &tables[automatic] : NULL);
}

/* The first caller builds, the others wait: filling tables takes microseconds. */
static void build_once(void) {
  int untouched = 0;
  if (atomic_load_explicit(&stage, memory_order_acquire) == 2) return;
  if (atomic_compare_exchange_strong(&stage, &untouched, 1)) {
    build();
    atomic_store_explicit(&stage, 2, memory_order_release);
  } else {
    while (atomic_load_explicit(&stage, memory_order_acquire) != 2) {}
  }
}

static pgg_status refuse(const char *who, const char *name) {
  char list[96] = "";
  for (int i = 0; i < N_LEVEL; i++)
    if (runs(i)) {
      strcat(list, list[0] ? ", " : "");
      strcat(list, levels[i].name);
    }
  const int i = find(name);
  if (i < 0) return pgg_fail(PGG_EUNSUPPORTED, "%s: unknown CPU level '%.60s'; available here: %s", who, name, list);
  if (!levels[i].fill)
    return pgg_fail(PGG_EUNSUPPORTED, "%s: CPU level '%s' is for another architecture; available here: %s", who, name,
                    list);
  return pgg_fail(PGG_EUNSUPPORTED, "%s: CPU level '%s' needs %s, which this CPU or OS lacks; available here: %s", who,
                  name, levels[i].needs_text, list);
}

/* ---- pgg.h and kernels.h ------------------------------------------------------------------------------- */

pgg_status pgg_init(void) {
  build_once();
  if (atomic_load(&in_force)) return PGG_OK;
  return refuse("PYGGML_ISA", asked);
}

const char *pgg_isa(void) {
  build_once();
  const pgg_kernels *table = atomic_load(&in_force);
  return table ? table->isa : ""; /* "": pgg_init says why */
}

int pgg_isa_list(const char **names, int cap) {
  int count = 0;
  build_once();
  for (int i = 0; i < N_LEVEL; i++) {
    if (!runs(i)) continue;
    if (names && count < cap) names[count] = levels[i].name;
    count++;
  }
  return count;
}

pgg_status pgg_isa_force(const char *name) {
  build_once();
  if (!name) {
    atomic_store(&in_force, automatic >= 0 ? &tables[automatic] : NULL);
    return pgg_init();
  }
  const int i = find(name);
  if (i < 0 || !runs(i)) return refuse("pgg_isa_force", name);
  atomic_store(&in_force, &tables[i]);
  return PGG_OK;
}

const pgg_kernels *pgg_kernels_get(void) {
  const pgg_kernels *table = atomic_load_explicit(&in_force, memory_order_acquire);
  if (table) return table;
  build_once();
  return atomic_load(&in_force);
}

const pgg_kernels *pgg_kernels_level(const char *isa) {
  build_once();
  const int i = find(isa);
  return i >= 0 && runs(i) ? &tables[i] : NULL;
}

const pgg_kernels *pgg_kernels_bare(const char *isa) {
  const pgg_kernels *table = pgg_kernels_level(isa);
  if (!table) return NULL;
  for (int e = 0; e < 2; e++)
    if (levels[table - tables].extra[e] && (features & levels[table - tables].extra_needs[e]))
      return &bare[table - tables];
  return NULL;
}
