/* What this machine can do, as one JSON line: clock, multiply-adds per second of one core (f32, int8), bytes per second
 * read by 1 and by all threads on 4 KiB and on 2 MiB pages. Own loops, none of the package's code, so the numbers bound
 * any engine. Built by card.py for the vectors of this CPU; used for benchmarks only.
 *   probe THREADS [quick]     quick: only the reads, in about a second */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Calls body over and over for a while; the best calls per second of five tries. */
static double best_rate(void (*body)(void)) {
  double best = 0.0;
  for (int try = 0; try < 5; try++) {
    double start = now(), end;
    int64_t calls = 0;
    do {
      for (int i = 0; i < 16; i++) body();
      calls += 16;
      end = now();
    } while (end - start < 0.05);
    double rate = (double)calls / (end - start);
    if (rate > best) best = rate;
  }
  return best;
}

/* ---- clock: a chain of additions, one a cycle ---------------------------------------------------------------- */

enum { CHAIN = 4096 };
static void chain(void) {
  uint64_t x = 1;
  for (int i = 0; i < CHAIN / 16; i++) {
#if defined(__x86_64__)
#define STEP __asm__ volatile("add $1, %0" : "+r"(x));
#elif defined(__aarch64__)
#define STEP __asm__ volatile("add %0, %0, #1" : "+r"(x));
#else
#define STEP                      \
  __asm__ volatile("" : "+r"(x)); \
  x++;
#endif
    STEP STEP STEP STEP STEP STEP STEP STEP STEP STEP STEP STEP STEP STEP STEP STEP
  }
}

/* ---- peaks: twelve accumulators that never leave their registers ----------------------------------------------- */

enum { ROUNDS = 256, ACCS = 12 };
#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#if defined(__AVX512F__)
typedef __m512 vf;
#define F_LANES 16
#define F_ONE _mm512_set1_ps(1.0f)
#define F_MAC(acc) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+v"(acc) : "v"(one))
#elif defined(__AVX2__) && defined(__FMA__)
typedef __m256 vf;
#define F_LANES 8
#define F_ONE _mm256_set1_ps(1.0f)
#define F_MAC(acc) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+x"(acc) : "x"(one))
#endif
#ifdef F_LANES
static void f32_body(void) {
  vf one = F_ONE;
#define X(i) vf a##i = one;
  TWELVE(X)
#undef X
  for (int r = 0; r < ROUNDS; r++) {
#define X(i) F_MAC(a##i);
    TWELVE(X)
#undef X
  }
}
#endif
#if defined(__AVX512VNNI__)
#define I_LANES 64
static void i8_body(void) {
  __m512i one = _mm512_set1_epi8(1);
#define X(i) __m512i a##i = one;
  TWELVE(X)
#undef X
  for (int r = 0; r < ROUNDS; r++) {
#define X(i) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(a##i) : "v"(one));
    TWELVE(X)
#undef X
  }
}
#elif defined(__AVX2__)
#define I_LANES 32
static void i8_body(void) { /* maddubs, madd by ones, add: what AVX2 needs for 32 multiply-adds */
  __m256i one = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
#define X(i) __m256i a##i = one;
  TWELVE(X)
#undef X
  for (int r = 0; r < ROUNDS; r++) {
#define X(i)                                                                             \
  do {                                                                                   \
    __m256i t;                                                                           \
    __asm__ volatile("vpmaddubsw %2, %2, %1\n\tvpmaddwd %3, %1, %1\n\tvpaddd %1, %0, %0" \
                     : "+x"(a##i), "=&x"(t)                                              \
                     : "x"(one), "x"(ones));                                             \
  } while (0);
    TWELVE(X)
#undef X
  }
}
#endif

/* ---- reads ----------------------------------------------------------------------------------------------------- */

#define BYTES ((size_t)256 << 20)
typedef struct reader {
  const char *data;
  size_t bytes;
  pthread_barrier_t *start;
  double seconds;
} reader;

static uint64_t sink;

static uint64_t read_all(const char *p, size_t bytes) {
#if defined(__AVX512F__)
  __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
  for (size_t i = 0; i < bytes; i += 256) {
    _mm_prefetch(p + i + 4096, _MM_HINT_T0);
    _mm_prefetch(p + i + 4096 + 128, _MM_HINT_T0);
    s0 = _mm512_or_si512(s0, _mm512_load_si512(p + i));
    s1 = _mm512_or_si512(s1, _mm512_load_si512(p + i + 64));
    s2 = _mm512_or_si512(s2, _mm512_load_si512(p + i + 128));
    s3 = _mm512_or_si512(s3, _mm512_load_si512(p + i + 192));
  }
  return (uint64_t)_mm512_reduce_or_epi64(_mm512_or_si512(_mm512_or_si512(s0, s1), _mm512_or_si512(s2, s3)));
#else
  uint64_t s[8] = {0};
  for (size_t i = 0; i < bytes; i += 64) {
    __builtin_prefetch(p + i + 4096);
    for (int j = 0; j < 8; j++) {
      uint64_t v;
      memcpy(&v, p + i + 8 * (size_t)j, 8);
      s[j] |= v;
    }
  }
  return s[0] | s[1] | s[2] | s[3] | s[4] | s[5] | s[6] | s[7];
#endif
}

static void *reader_main(void *arg) {
  reader *r = arg;
  pthread_barrier_wait(r->start);
  double start = now();
  uint64_t s = read_all(r->data, r->bytes);
  r->seconds = now() - start;
  __atomic_fetch_or(&sink, s, __ATOMIC_RELAXED);
  return NULL;
}

/* Best of five passes over 256 MiB, the slowest thread counting. GB/s. */
static double read_rate(const char *data, int threads) {
  double best = 0.0;
  for (int try = 0; try < 5; try++) {
    pthread_barrier_t start;
    pthread_t ids[256];
    reader rs[256];
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    size_t part = BYTES / (size_t)threads / 4096 * 4096;
    for (int i = 0; i < threads; i++) {
      rs[i] = (reader){data + part * (size_t)i, part, &start, 0.0};
      if (pthread_create(&ids[i], NULL, reader_main, &rs[i])) return 0.0;
    }
    double slowest = 0.0;
    for (int i = 0; i < threads; i++) {
      pthread_join(ids[i], NULL);
      if (rs[i].seconds > slowest) slowest = rs[i].seconds;
    }
    pthread_barrier_destroy(&start);
    double rate = (double)part * threads / slowest / 1e9;
    if (rate > best) best = rate;
  }
  return best;
}

static char *pages(int huge) {
  size_t room = BYTES + ((size_t)4 << 20);
  char *raw = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return NULL;
  char *p = (char *)(((uintptr_t)raw + ((size_t)2 << 20) - 1) & ~(((uintptr_t)2 << 20) - 1));
#ifdef MADV_HUGEPAGE
  madvise(p, BYTES + 8192, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#endif
  memset(p, 1, BYTES + 8192); /* the prefetch looks a little ahead */
  return p;
}

int main(int argc, char **argv) {
  int threads = argc > 1 ? atoi(argv[1]) : 1, quick = argc > 2 && !strcmp(argv[2], "quick");
  if (threads < 1 || threads > 256) return 1;
  printf("{");
  if (!quick) {
    printf("\"clock_ghz\": %.3f, ", best_rate(chain) * CHAIN / 1e9);
#ifdef F_LANES
    printf("\"f32_gmac_core\": %.1f, ", best_rate(f32_body) * ROUNDS * ACCS * F_LANES / 1e9);
#endif
#ifdef I_LANES
    printf("\"int8_gmac_core\": %.1f, ", best_rate(i8_body) * ROUNDS * ACCS * I_LANES / 1e9);
#endif
  }
  for (int huge = 0; huge < 2; huge++) {
    char *data = pages(huge);
    if (!data) return 1;
    const char *size = huge ? "2m" : "4k";
    if (!quick) printf("\"read_gbs_%s_1\": %.1f, ", size, read_rate(data, 1));
    printf("\"read_gbs_%s_%d\": %.1f%s", size, threads, read_rate(data, threads), huge ? "" : ", ");
    munmap(data, BYTES);
  }
  printf("}\n");
  return 0;
}
