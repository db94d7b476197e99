/* A C program outside the package: quantizes a random 4096 x 4096 matrix to q4_k, multiplies it with a few rows on
 * 2 threads, and prints the relative error against the plain f32 product. Uses pgg.h and nothing else of pyggml. */
#include <math.h>
#include <pgg.h>
#include <stdio.h>
#include <stdlib.h>

enum { M = 4096, K = 4096, N = 4, THREADS = 2 };

static uint64_t state = 42;

/* Sum of four uniforms: near enough to weights. */
static float draw(void) {
  float sum = 0.0f;
  for (int i = 0; i < 4; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    sum += (float)(state >> 40) / 16777216.0f - 0.5f;
  }
  return sum;
}

static int failed(const char *what) {
  fprintf(stderr, "%s: %s\n", what, pgg_last_error());
  return 1;
}

int main(void) {
  if (pgg_abi() != PGG_ABI) return fprintf(stderr, "the header is not the library's\n"), 1;
  size_t packed = pgg_row_bytes(PGG_Q4_K, K) * M;
  float *w = pgg_alloc(sizeof *w * M * K);
  float *x = malloc(sizeof *x * N * K), *y = malloc(sizeof *y * N * M);
  void *q = pgg_alloc(packed);
  if (!w || !x || !y || !q) return fprintf(stderr, "no memory\n"), 1;
  for (int64_t i = 0; i < (int64_t)M * K; i++) w[i] = draw();
  for (int64_t i = 0; i < (int64_t)N * K; i++) x[i] = draw();
  if (pgg_quantize(PGG_Q4_K, w, q, M, K, NULL, THREADS)) return failed("quantize");
  if (pgg_matmul(PGG_Q4_K, q, x, y, M, N, K, THREADS)) return failed("matmul");
  double wrong = 0.0, size = 0.0;
  for (int t = 0; t < N; t++) {
    for (int r = 0; r < M; r++) {
      double want = 0.0;
      for (int i = 0; i < K; i++) want += (double)w[(int64_t)r * K + i] * x[(int64_t)t * K + i];
      double off = y[(int64_t)t * M + r] - want;
      wrong += off * off;
      size += want * want;
    }
  }
  printf("isa %s bytes %zu error %.6f\n", pgg_isa(), packed, sqrt(wrong / size));
  /* A refused call gives a sentence, not an abort. */
  if (pgg_matmul(PGG_Q4_K, q, x, y, M, N, K - 1, THREADS) == PGG_OK || !pgg_last_error()[0]) return 1;
  printf("refused: %s\n", pgg_last_error());
  pgg_free(w, sizeof *w * M * K);
  pgg_free(q, packed);
  free(x);
  free(y);
  return 0;
}
