/* What this machine can do, as one JSON line: clock, multiply-adds per second (int8, bf16, f32; one core, and all
 * threads at once), bytes per second read by 1 and by all threads from a mapped file (4 KiB pages) and from anonymous
 * memory on 2 MiB pages. Own loops, none of the package's code, so the numbers bound any engine. Built by card.py with
 * named vector flags; used for benchmarks only.
 *   probe SECONDS FILE THREADS...   SECONDS for one try of a figure; FILE: its first 256 MiB are read, warmed before
 * Each figure is named after its threads: {"clock_ghz": .., "int8_gmac_1": .., "read_gbs_4k_2": ..}. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double limit = 0.05; /* seconds of one try */
enum { TRIES = 3, MOST = 256 };

/* ---- many threads, one start ---------------------------------------------------------------------------------- */

typedef struct worker {
  double (*work)(struct worker *); /* -> units a second of this thread */
  void (*body)(void);
  const char *data;
  size_t bytes;
  pthread_barrier_t *start;
  double rate;
} worker;

static void *worker_main(void *arg) {
  worker *w = arg;
  pthread_barrier_wait(w->start);
  w->rate = w->work(w);
  return NULL;
}

/* The sum of all threads' rates, each with its own part of data; the best of some tries. 0: threads were refused. */
static double together(worker what, int threads) {
  double best = 0.0;
  for (int try = 0; try < TRIES; try++) {
    pthread_barrier_t start;
    pthread_t ids[MOST];
    worker ws[MOST];
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    size_t part = what.bytes / (size_t)threads / 4096 * 4096;
    for (int i = 0; i < threads; i++) {
      ws[i] = what;
      ws[i].start = &start;
      ws[i].data = what.data ? what.data + part * (size_t)i : NULL;
      ws[i].bytes = part;
      if (pthread_create(&ids[i], NULL, worker_main, &ws[i])) exit(1); /* the others wait for ever otherwise */
    }
    double sum = 0.0;
    for (int i = 0; i < threads; i++) {
      pthread_join(ids[i], NULL);
      sum += ws[i].rate;
    }
    pthread_barrier_destroy(&start);
    if (sum > best) best = sum;
  }
  return best;
}

/* Calls body over and over for a while: calls per second. */
static double calls(worker *w) {
  double start = now(), end;
  int64_t n = 0;
  do {
    for (int i = 0; i < 16; i++) w->body();
    n += 16;
    end = now();
  } while (end - start < limit);
  return (double)n / (end - start);
}

static double best_rate(void (*body)(void), int threads) {
  return together((worker){.work = calls, .body = body}, threads);
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
#elif defined(__AVXVNNI__)
#define I_LANES 32
static void i8_body(void) {
  __m256i one = _mm256_set1_epi8(1);
#define X(i) __m256i a##i = one;
  TWELVE(X)
#undef X
  for (int r = 0; r < ROUNDS; r++) {
#define X(i) __asm__ volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(a##i) : "x"(one));
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

#if defined(__AVX512BF16__)
#define B_LANES 32
static void bf16_body(void) {
  __m512 one = _mm512_set1_ps(1.0f);
#define X(i) __m512 a##i = one;
  TWELVE(X)
#undef X
  for (int r = 0; r < ROUNDS; r++) {
#define X(i) __asm__ volatile("vdpbf16ps %1, %1, %0" : "+v"(a##i) : "v"(one));
    TWELVE(X)
#undef X
  }
}
#endif

/* ---- reads ----------------------------------------------------------------------------------------------------- */

#define BYTES ((size_t)256 << 20)
#define AHEAD ((size_t)8192) /* the prefetch looks past the end */
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

/* Bytes per second of this thread's part, 4 MiB at a time, round and round, so that all threads end together. */
static double reads(worker *w) {
  double start = now(), end;
  size_t done = 0, at = 0, piece = (size_t)4 << 20;
  uint64_t s = 0;
  if (piece > w->bytes) piece = w->bytes;
  do {
    s |= read_all(w->data + at, piece);
    done += piece;
    at = at + 2 * piece <= w->bytes ? at + piece : 0;
    end = now();
  } while (end - start < limit);
  __atomic_fetch_or(&sink, s, __ATOMIC_RELAXED);
  return (double)done / (end - start);
}

/* Memory on huge pages where the system gives them; NULL: refused. */
static char *huge_pages(void) {
  size_t huge = (size_t)2 << 20, room = BYTES + 2 * huge;
  char *raw = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return NULL;
  char *p = (char *)(((uintptr_t)raw + huge - 1) & ~(uintptr_t)(huge - 1));
#ifdef MADV_HUGEPAGE
  madvise(p, BYTES + AHEAD, MADV_HUGEPAGE);
#endif
  memset(p, 1, BYTES + AHEAD);
  return p;
}

/* The beginning of a file as a model's weights are mapped; its size in *bytes. */
static char *file_pages(const char *path, size_t *bytes) {
  struct stat st;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &st) || (size_t)st.st_size < ((size_t)16 << 20)) return NULL;
  *bytes = (size_t)st.st_size < BYTES ? (size_t)st.st_size : BYTES;
  *bytes = (*bytes - AHEAD) / 4096 / MOST * 4096 * MOST;
  char *p = mmap(NULL, *bytes + AHEAD, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (p == MAP_FAILED) return NULL;
  sink |= read_all(p, *bytes); /* touches every page, so that no fault is timed */
  return p;
}

static void figure(const char *name, int threads, double value) {
  printf(", \"%s_%d\": %.1f", name, threads, value / 1e9);
}

int main(int argc, char **argv) {
  if (argc < 4) return 1;
  limit = atof(argv[1]);
  size_t file_bytes = 0;
  char *file = file_pages(argv[2], &file_bytes), *huge = huge_pages();
  if (!file || !huge || !(limit > 0.0)) return 1;
  printf("{\"clock_ghz\": %.3f", best_rate(chain, 1) * CHAIN / 1e9);
  for (int i = 3; i < argc; i++) {
    int n = atoi(argv[i]);
    if (n < 1 || n > MOST) return 1;
#ifdef F_LANES
    figure("f32_gmac", n, best_rate(f32_body, n) * ROUNDS * ACCS * F_LANES);
#endif
#ifdef B_LANES
    figure("bf16_gmac", n, best_rate(bf16_body, n) * ROUNDS * ACCS * B_LANES);
#endif
#ifdef I_LANES
    figure("int8_gmac", n, best_rate(i8_body, n) * ROUNDS * ACCS * I_LANES);
#endif
    figure("read_gbs_4k", n, together((worker){.work = reads, .data = file, .bytes = file_bytes}, n));
    figure("read_gbs_2m", n, together((worker){.work = reads, .data = huge, .bytes = BYTES}, n));
  }
  printf("}\n");
  return 0;
}
