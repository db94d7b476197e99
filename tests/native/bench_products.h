/* Speed of the product slots, one thread: gemv in GB/s of weights read from memory, gemm in GMAC/s, both beside what
 * the machine does without us (a plain read of the same buffer; the fastest multiply instruction of the level).
 * Prints; asserts nothing. */
#ifndef BENCH_PRODUCTS_H
#define BENCH_PRODUCTS_H
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cpu/kernels.h"
#include "guarded.h"

/* Processor time: what others do on the machine counts as little as possible. */
static inline double bench_now(void) { return (double)clock() / CLOCKS_PER_SEC; }

#if defined(__GNUC__) && defined(__x86_64__)
#define TWELVE(op, a, r)                                                                                            \
  op " " a "," r "0\n" op " " a "," r "1\n" op " " a "," r "2\n" op " " a "," r "3\n" op " " a "," r "4\n" op " " a \
     "," r "5\n" op " " a "," r "6\n" op " " a "," r "7\n" op " " a "," r "8\n" op " " a "," r "9\n" op " " a "," r \
     "10\n" op " " a "," r "11\n"
#define CLOBBERED "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11"
#define PEAK(text, macs)                                                  \
  for (int r = 0; r < 5; r++) {                                           \
    const double t0 = bench_now();                                        \
    for (int i = 0; i < 200000; i++) __asm__ volatile(text::: CLOBBERED); \
    const double g = 200000. * 12 * (macs) / (bench_now() - t0) / 1e9;    \
    if (g > best) best = g;                                               \
  }
/* GMAC/s: int8 where the level has a byte product in one instruction, else of f32 fma */
static double bench_peak(const char *isa, int floats) {
  double best = 0;
  if (!strcmp(isa, "avx512") && floats) {
    PEAK(TWELVE("vfmadd231ps", "%%zmm12,%%zmm13", "%%zmm"), 16)
  } else if (!strcmp(isa, "avx512")) {
    PEAK(TWELVE("vpdpbusd", "%%zmm12,%%zmm13", "%%zmm"), 64)
  } else if (!strcmp(isa, "avxvnni") && !floats) {
    PEAK(TWELVE("%{vex%} vpdpbusd", "%%ymm12,%%ymm13", "%%ymm"), 32)
  } else if (!strcmp(isa, "avx2") || !strcmp(isa, "avxvnni")) {
    if (floats) {
      PEAK(TWELVE("vfmadd231ps", "%%ymm12,%%ymm13", "%%ymm"), 8)
    } else {
      PEAK(TWELVE("vpmaddubsw", "%%ymm12,%%ymm13", "%%ymm"), 32)
    }
  }
  return best;
}
#else
static double bench_peak(const char *isa, int floats) { return (void)isa, (void)floats, 0; }
#endif

enum { BENCH_BYTES = 128 << 20, BENCH_K = 4096, BENCH_SIDE = 2048, BENCH_N = 512 };

/* The roof: a load and a fma per vector are far below what a core can issue while memory delivers. */
static double bench_read(const pgg_kernels *k, const uint8_t *w) {
  double best = 1e9;
  float *y = malloc(BENCH_BYTES / (BENCH_K * 4) * sizeof *y), *x = calloc(BENCH_K, sizeof *x);
  for (int round = 0; round < 7; round++) {
    const double t0 = bench_now();
    k->gemv[PGG_F32](w, BENCH_K * 4, x, y, BENCH_BYTES / (BENCH_K * 4), BENCH_K);
    const double t = bench_now() - t0;
    if (t < best) best = t;
  }
  free(x), free(y);
  return BENCH_BYTES / best / 1e9;
}

static void bench_type(const pgg_kernels *k, int type, uint8_t *w, double read, const double peak[2]) {
  const pgg_quant *q = pgg_quant_get(type);
  const int floats = q->info.kind == PGG_KIND_FLOAT, slow = !strcmp(k->isa, "scalar");
  const size_t row = (size_t)(BENCH_K / q->info.elems * q->info.bytes),
               stride = floats ? BENCH_K * 4 : BENCH_K / 256 * 320;
  const int64_t rows = (int64_t)((slow ? 4 << 20 : BENCH_BYTES) / row);
  float *x = test_aligned(BENCH_K * 4), *y = test_aligned(sizeof(float) * (size_t)(rows + BENCH_N * BENCH_SIDE));
  uint8_t *acts = test_aligned(BENCH_N * stride);
  uint64_t seed = 1;
  for (int i = 0; i < BENCH_K; i++) x[i] = test_uniform(&seed);
  for (int t = 0; t < BENCH_N; t++) {
    if (floats) {
      memcpy(acts + (size_t)t * stride, x, BENCH_K * 4);
    } else {
      pgg_act_encode(x, (pgg_act *)(void *)(acts + (size_t)t * stride), BENCH_K);
    }
  }
  double best = 1e9;
  for (int round = 0; round < (slow ? 1 : 3); round++) {
    const double t0 = bench_now();
    k->gemv[type](w, row, acts, y, rows, BENCH_K);
    const double t = bench_now() - t0;
    if (t < best) best = t;
    if (t > 0.2) break;
  }
  const double gbs = (double)rows * (double)row / best / 1e9;
  printf("%-8s %-8s gemv %6.2f GB/s %5.1f%%", k->isa, q->info.name, gbs, 100 * gbs / read);
  const double macs = (double)BENCH_SIDE * BENCH_SIDE / (slow ? 8 : 1);
  const int64_t m = slow ? BENCH_SIDE / 8 : BENCH_SIDE, sizes[3] = {6, 48, slow ? 48 : BENCH_N};
  const size_t short_row = (size_t)(BENCH_SIDE / q->info.elems * q->info.bytes);
  if (k->gemm[type]) {
    uint8_t *panels = test_aligned(k->panel_bytes(type, BENCH_N, BENCH_SIDE) + 64);
    void *scratch = test_aligned(k->gemm_scratch(type, BENCH_SIDE) + 64);
    double one = 1e9;
    for (int round = 0; round < 3; round++) {
      const double t0 = bench_now();
      k->gemv[type](w, short_row, acts, y, m, BENCH_SIDE);
      const double t = bench_now() - t0;
      if (t < one) one = t;
    }
    printf("  gemm");
    for (int s = 0; s < 3; s++) {
      const int64_t n = sizes[s], panels_n = (n + k->panel_tokens - 1) / k->panel_tokens;
      best = 1e9;
      for (int round = 0; round < 3; round++) {
        const double t0 = bench_now();
        k->pack_panels(type, acts, stride, n, BENCH_SIDE, 0, panels_n, panels);
        const pgg_gemm job = {w, short_row, acts, stride, panels, y, m, m, n, BENCH_SIDE, scratch};
        k->gemm[type](&job);
        const double t = bench_now() - t0;
        if (t < best) best = t;
        if (t > 0.3) break;
      }
      const double g = macs * (double)n / best / 1e9;
      printf(" n=%d %6.1f", (int)n, g);
      if (s == 0) printf(" (worth %.1f gemv)", best / one);
      if (s == 2 && peak[0] > 0) {
        const int in_floats = k->panel_bytes(type, 6, 256) == 6 * 256 * 4;
        printf(" GMAC/s %5.1f%% of %s", 100 * g / peak[in_floats], in_floats ? "f32" : "int8");
      }
    }
    test_aligned_free(panels), test_aligned_free(scratch);
  }
  printf("\n");
  fflush(stdout);
  test_aligned_free(x), test_aligned_free(y), test_aligned_free(acts);
}

/* Every n of a batch (few, up to 64 rows; then gemm) against one big matrix, read from memory by each call (pack
 * included). */
static void bench_batches(const pgg_kernels *k, uint8_t *w, double read) {
  static const int ns[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 24, 32, 128, 512};
  static const int types[] = {PGG_Q4_0, PGG_Q4_K, PGG_Q5_K, PGG_Q6_K, PGG_Q8_0, PGG_IQ4_XS};
  enum { SHAPES = 2 };
  const int64_t lens[SHAPES] = {2048, 8192};
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
    for (int shape = 0; shape < SHAPES; shape++) {
      const pgg_quant *q = pgg_quant_get(types[i]);
      const int64_t len = lens[shape];
      const size_t row = (size_t)(len / q->info.elems * q->info.bytes), stride = (size_t)len / 256 * sizeof(pgg_act);
      float *x = test_aligned((size_t)len * 4), *y = test_aligned(sizeof(float) * BENCH_BYTES / 288);
      uint8_t *acts = test_aligned(BENCH_N * stride);
      uint8_t *panels = test_aligned(k->panel_bytes(types[i], BENCH_N, len) + k->few_bytes(types[i], 64, len) + 64);
      void *scratch = test_aligned(k->gemm_scratch(types[i], len) + 64);
      uint64_t seed = 1;
      for (int64_t j = 0; j < len; j++) x[j] = test_uniform(&seed);
      for (int t = 0; t < BENCH_N; t++) pgg_act_encode(x, (pgg_act *)(void *)(acts + (size_t)t * stride), len);
      printf("%-7s %-7s k %4d:", k->isa, q->info.name, (int)len);
      for (size_t s = 0; s < sizeof ns / sizeof ns[0]; s++) {
        const int64_t n = ns[s], bytes = n <= 16 ? BENCH_BYTES : 8 << 20, all = bytes / (int64_t)row;
        const int64_t room = BENCH_BYTES / 288 / n, rows = all < room ? all : room; /* y is reused in cache */
        double best = 1e9;
        for (int round = 0; round < 3; round++) {
          const double t0 = bench_now();
          if (n == 1) {
            for (int64_t r = 0; r < all; r += rows) k->gemv[types[i]](w + (size_t)r * row, row, acts, y, rows, len);
          } else {
            const pgg_gemm_fn slot = n <= 64 && k->few[types[i]] ? k->few[types[i]] : k->gemm[types[i]];
            if (slot == k->few[types[i]])
              k->pack_few(types[i], acts, stride, n, len, 0, n, panels);
            else
              k->pack_panels(types[i], acts, stride, n, len, 0, (n + k->panel_tokens - 1) / k->panel_tokens, panels);
            for (int64_t r = 0; r + 512 <= all; r += 512) {
              const pgg_gemm job = {w + (size_t)r * row, row, acts, stride, panels, y, 512, 512, n, len, scratch};
              slot(&job);
            }
          }
          const double t = (bench_now() - t0) / (double)(n == 1 ? all : all / 512 * 512);
          if (t < best) best = t;
        }
        const double gbs = (double)row / best / 1e9;
        if (n <= 16)
          printf(" %d: %.1f", (int)n, gbs);
        else
          printf(" %d: %.0f", (int)n, gbs * (double)len / (double)row * (double)n);
        fflush(stdout);
      }
      printf("\n");
      test_aligned_free(x), test_aligned_free(y), test_aligned_free(acts), test_aligned_free(panels);
      test_aligned_free(scratch);
    }
  (void)read;
}

/* only: a level, or NULL for the best one here; batches: small n instead of the two usual figures of every type */
static int bench_products(const char *only, int batches) {
  const char *names[16];
  const int count = pgg_isa_list(names, 16);
  uint8_t *w = NULL;
#if TEST_HAS_GUARD
  w = mmap(NULL, BENCH_BYTES + (4 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (w == MAP_FAILED) return 1;
  w += (size_t)(2 << 20) - (size_t)((uintptr_t)w % (2 << 20));
#if defined(MADV_HUGEPAGE)
  madvise(w, BENCH_BYTES + (1 << 20), MADV_HUGEPAGE);
#endif
#else
  w = test_aligned(BENCH_BYTES + (1 << 20));
#endif
  uint64_t seed = 5;
  for (size_t i = 0; i < BENCH_BYTES + (1 << 20); i += 8) {
    const uint64_t v = test_random(&seed) & 0x2f2f2f2f2f2f2f2fu; /* every half and float stays finite and small */
    memcpy(w + i, &v, 8);
  }
  if (!only) only = names[count - 1];
  const double read = bench_read(pgg_kernels_level(names[count - 1]), w);
  printf("read %.1f GB/s (f32 gemv of %s)\n", read, names[count - 1]);
  for (int i = 0; i < count; i++) {
    if (strcmp(only, names[i])) continue;
    const pgg_kernels *k = pgg_kernels_level(names[i]);
    const double peak[2] = {bench_peak(names[i], 0), bench_peak(names[i], 1)};
    if (peak[0] > 0) printf("%s peak: %.0f int8, %.0f f32 GMAC/s\n", names[i], peak[0], peak[1]);
    if (batches) {
      printf("n: GB/s of weights up to 16 tokens, above GMAC/s\n");
      bench_batches(k, w, read);
      continue;
    }
    for (int type = 0; type < PGG_TYPE_LIMIT; type++)
      if (k->gemv[type]) bench_type(k, type, w, read, peak);
  }
  return 0;
}

#endif
