/* What every op with a state of rows must hold: a text has the same bits whole, token by token, in pieces of any
 * length, by plans of any batch, on any threads, alone and together with others at places of their own. */
#ifndef TEST_PIECES_H
#define TEST_PIECES_H
#include "tiny_plan.h"

enum { PIECES_MANY = 5 }; /* sequences of a step together: 1, 31, 61 ... tokens at 0, 17, 34 ... */

typedef struct pieces {
  pgg_plan *(*plan)(int n_batch, int64_t n_ctx, int how); /* frozen; its output is every row */
  int how;
  const int32_t *ids; /* (n), n >= 17 * 4 + 121 */
  int n;
  int64_t n_ctx, wide;
  const double *want; /* (n, wide) */
  double bound;       /* of distance */
} pieces;

/* Whole, one by one, and in pieces of any length. */
static inline void pieces_alone(const pieces *it, pgg_plan *plan, int n_batch, float *whole) {
  const size_t floats = (size_t)it->n * (size_t)it->wide;
  float *got = malloc(floats * sizeof *got);
  pgg_session *s = tiny_session(plan, it->n_ctx, PGG_F16);
  for (int threads = 1; threads <= 3; threads++) {
    uint64_t seed = (uint64_t)threads;
    for (int way = 0; way < 3; way++) {
      CHECK_OK(pgg_session_truncate(s, 0));
      for (int64_t at = 0, n; at < it->n; at += n) {
        n = way == 0 ? it->n : way == 1 ? 1 : pgg_min_i64(it->n - at, 1 + (int64_t)((check_random(&seed) + 1) * 9));
        CHECK_OK(pgg_session_step(s, it->ids + at, NULL, n, n, got + at * it->wide, threads));
      }
      if (n_batch >= it->n && !way && threads == 1) {
        memcpy(whole, got, floats * sizeof *got);
        CHECK(distance(whole, it->want, it->n * it->wide) < it->bound, "differs by %g",
              distance(whole, it->want, it->n * it->wide));
      }
      CHECK(!memcmp(whole, got, floats * sizeof *got), "n_batch %d, threads %d, way %d: other bits", n_batch, threads,
            way);
    }
  }
  pgg_session_free(s);
  free(got);
}

static inline void pieces_together(const pieces *it, pgg_plan *plan, int n_batch, const float *whole) {
  pgg_session *many[PIECES_MANY];
  int64_t counts[PIECES_MANY], n = 0;
  for (int i = 0; i < PIECES_MANY; n += counts[i++]) {
    many[i] = tiny_session(plan, it->n_ctx, PGG_F16);
    if (i) CHECK_OK(pgg_session_step(many[i], it->ids, NULL, 17 * i, 0, NULL, 1));
    counts[i] = 1 + 30 * i;
  }
  int32_t *ids = malloc((size_t)n * sizeof *ids);
  float *both = malloc((size_t)(n * it->wide) * sizeof *both);
  for (int64_t i = 0, at = 0; i < PIECES_MANY; at += counts[i++])
    memcpy(ids + at, it->ids + 17 * i, (size_t)counts[i] * sizeof *ids);
  CHECK_OK(pgg_plan_step(plan, many, counts, PIECES_MANY, ids, counts, both, 2));
  for (int64_t i = 0, at = 0; i < PIECES_MANY; at += counts[i++])
    CHECK(!memcmp(both + at * it->wide, whole + 17 * i * it->wide, (size_t)(counts[i] * it->wide) * sizeof(float)),
          "n_batch %d, sequence %lld: other bits together", n_batch, (long long)i);
  for (int i = 0; i < PIECES_MANY; i++) pgg_session_free(many[i]);
  free(ids), free(both);
}

static inline void check_pieces(const pieces *it) {
  static const int batches[] = {512, 48, 1};
  float *whole = malloc((size_t)it->n * (size_t)it->wide * sizeof *whole);
  for (int b = 0; b < 3; b++) {
    pgg_plan *plan = it->plan(batches[b], it->n_ctx, it->how);
    pieces_alone(it, plan, batches[b], whole);
    pieces_together(it, plan, batches[b], whole);
    CHECK(pgg_plan_cache_bytes(plan) == 0, "%zu bytes were not given back", pgg_plan_cache_bytes(plan));
    pgg_plan_close(plan), pgg_plan_free(plan);
  }
  free(whole);
}

#endif
