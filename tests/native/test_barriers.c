/* How often the threads of a team wait for each other in a Llama block, counted by the executor itself; and that bits
 * stay the same however a step is cut. Predicted for a token: products of q, k, v with rope and storing | attention |
 * output product and sum | gate, up, activation, quantizing | down product and sum | = 5 a layer. */
#include "core/exec.h"
#include "tiny_plan.h"

enum { V = 96, CTX = 256, LAYERS = 2 };

static int run(pgg_plan *plan, pgg_memory *memory, const int32_t *ids, int64_t past, int64_t n, int threads, float *out,
               pgg_arenas *own) {
  pgg_part part = {.memory = memory, .n_past = past, .first = 0, .n = n, .wanted = 1};
  int count = -1;
  CHECK_OK(pgg_memory_grow(plan, memory, false, past, past + n));
  const pgg_piece piece = {.parts = &part,
                           .n_part = 1,
                           .n = n,
                           .wanted = 1,
                           .decode = n < 64,
                           .ids = ids,
                           .out = out,
                           .n_threads = threads,
                           .n_barrier = &count};
  CHECK_OK(pgg_exec(plan, &piece, plan->limits.keep_all ? own : NULL));
  return count;
}

static void test_type(int type, int most_one, int most_many) {
  static const int64_t counts[] = {1, 1, 64, 1, 2, 5, 160, 1};
  static float want[8][V], got[V];
  int32_t ids[160];
  tiny t = tiny_make(type, 512, 8, 4, 64, 512, V);
  for (int kept = 0; kept < 2; kept++) {
    pgg_plan *plan = tiny_plan(&t, 160, CTX, kept);
    for (int threads = 1; threads <= (kept ? 2 : 4); threads++) {
      pgg_memory memory;
      pgg_arenas own = {0};
      int64_t past = 0;
      CHECK_OK(pgg_memory_new(plan, PGG_F16, CTX, &memory));
      for (int i = 0; i < 8; i++) {
        tiny_ids(ids, (int)counts[i], V, (uint64_t)i + 1);
        const int met = run(plan, &memory, ids, past, counts[i], threads, kept || threads > 1 ? got : want[i], &own);
        past += counts[i];
        if (!kept && threads > 1)
          printf("type %d, %lld tokens, %d threads: %d barriers in %d layers\n", type, (long long)counts[i], threads,
                 met, LAYERS);
        if (kept || threads > 1)
          CHECK(!memcmp(got, want[i], sizeof got), "type %d step %d threads %d kept %d: other bits", type, i, threads,
                kept);
        if (threads == 1) CHECK(met == 0, "a thread alone met somebody");
        /* 3 threads cannot divide 4 heads; spans of keys have to be merged */
        if (threads == 2 && !kept && counts[i] == 1 && i < 7)
          CHECK(met > 0 && met <= most_one * LAYERS + 1, "type %d: %d barriers for a token", type, met);
        if (threads == 2 && !kept && counts[i] >= 64)
          CHECK(met > 0 && met <= most_many * LAYERS + 3, "type %d: %d barriers for %lld tokens", type, met,
                (long long)counts[i]);
      }
      pgg_memory_drop(plan, &memory);
      pgg_arenas_drop(plan, &own);
    }
    pgg_plan_free(plan);
  }
  tiny_free(&t);
}

int main(void) {
  test_type(PGG_Q4_0, 5, 12);
  test_type(PGG_Q4_K, 5, 12);
  test_type(PGG_F16, 5, 11);
  return check_done("test_barriers");
}
