/* The sampler's chain and its refusals, and the calls that need no plan: types, quantize, matmul, dot, strings. */
#include <math.h>
#include <stdlib.h>

#include "bench_sample.h"
#include "check.h"
#include "sample_reference.h"

static const pgg_sampling plain = {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .repeat_last_n = 64, .seed = 1};

static int32_t next(const pgg_sampling *how, const float *logits, int64_t n, const int32_t *seen, int64_t n_seen) {
  pgg_sampler *s = NULL;
  int32_t id = -1;
  CHECK_OK(pgg_sampler_new(how, n, &s));
  CHECK_OK(pgg_sampler_accept(s, seen, n_seen));
  CHECK_OK(pgg_sampler_next(s, logits, &id));
  pgg_sampler_free(s);
  return id;
}

/* Counts of n draws. */
static void histogram(const pgg_sampling *how, const float *logits, int n_vocab, int n, int *count) {
  pgg_sampler *s = NULL;
  int32_t id;
  memset(count, 0, (size_t)n_vocab * sizeof *count);
  CHECK_OK(pgg_sampler_new(how, n_vocab, &s));
  for (int i = 0; i < n; i++) {
    CHECK_OK(pgg_sampler_next(s, logits, &id));
    count[id]++;
  }
  pgg_sampler_free(s);
}

static void test_chain(void) {
  enum { V = 6, DRAWS = 60000 };
  const float logits[V] = {0.5f, 2.0f, -INFINITY, 1.0f, 2.0f, -3.0f};
  pgg_sampling how = plain;
  int count[V];
  how.temperature = 0;
  CHECK(next(&how, logits, V, NULL, 0) == 1, "greedy takes the lower of equals");
  how.temperature = 0.7f;
  how.top_k = 1;
  for (uint64_t seed = 0; seed < 20; seed++) {
    how.seed = seed;
    CHECK(next(&how, logits, V, NULL, 0) == 1, "top_k 1 is greedy");
  }
  /* Frequencies follow softmax(logits / temperature). */
  how = plain;
  how.temperature = 1.5f;
  histogram(&how, logits, V, DRAWS, count);
  double sum = 0;
  for (int i = 0; i < V; i++) sum += exp(logits[i] / 1.5);
  for (int i = 0; i < V; i++) {
    const double p = exp(logits[i] / 1.5) / sum, sigma = sqrt(p * (1 - p) * DRAWS);
    CHECK(fabs(count[i] - p * DRAWS) <= 5 * sigma, "token %d: %d of %d, expected %.0f", i, count[i], DRAWS, p * DRAWS);
  }
  how.top_k = 3; /* 1, 4, 3 */
  histogram(&how, logits, V, 2000, count);
  CHECK(count[1] && count[4] && count[3] && !count[0] && !count[2] && !count[5], "top_k 3");
  how = plain;
  how.top_p = 0.79f; /* 2, 2: 0.7746 together; 1 comes in */
  histogram(&how, logits, V, 2000, count);
  CHECK(count[1] && count[4] && count[3] && !count[0] && !count[5], "top_p 0.79");
  how.top_p = 0.7f;
  histogram(&how, logits, V, 2000, count);
  CHECK(count[1] && count[4] && !count[3], "top_p 0.7");
  how.top_p = 0;
  histogram(&how, logits, V, 200, count);
  CHECK(count[1] == 200, "top_p 0 keeps the best");
  how = plain;
  how.min_p = 0.3f; /* e^-1 = 0.37 stays, e^-1.5 = 0.22 goes */
  histogram(&how, logits, V, 2000, count);
  CHECK(count[1] && count[4] && count[3] && !count[0], "min_p");
  how.min_p = 1;
  histogram(&how, logits, V, 2000, count);
  CHECK(count[1] && count[4] && !count[3], "min_p 1 keeps the equals of the best");
}

static void test_large(void) {
  enum { V = 50000 };
  float *logits = malloc(V * sizeof *logits);
  uint64_t seed = 5;
  for (int i = 0; i < V; i++) logits[i] = floorf(check_random(&seed) * 40) / 8; /* many equals */
  for (int top_k = 1; top_k < V; top_k = top_k * 7 + 3) {
    pgg_sampling how = plain;
    how.top_k = top_k;
    how.temperature = 100;
    for (how.seed = 0; how.seed < 5; how.seed++) {
      const int32_t id = next(&how, logits, V, NULL, 0);
      int better = 0;
      for (int i = 0; i < V; i++) better += logits[i] > logits[id] || (logits[i] == logits[id] && i < id);
      CHECK(better < top_k, "top_k %d gave the %dth", top_k, better);
    }
  }
  /* A nucleus far larger than the first sorted part, against a count by hand. */
  pgg_sampling how = plain;
  how.top_p = 0.5f;
  for (how.seed = 0; how.seed < 40; how.seed++) {
    const int32_t id = next(&how, logits, V, NULL, 0);
    double sum = 0, above = 0;
    for (int i = 0; i < V; i++) {
      sum += exp(logits[i]);
      if (logits[i] > logits[id] || (logits[i] == logits[id] && i < id)) above += exp(logits[i]);
    }
    CHECK(above < 0.5 * sum * (1 + 1e-6), "outside of the nucleus: %g of %g", above, sum);
  }
  free(logits);
}

static void test_logprobs(void) {
  enum { V = 3000, TOP = 200 };
  static float logits[V];
  static int32_t ids[V];
  static double values[V];
  double one, sum = 0;
  uint64_t seed = 9;
  pgg_sampler *s = NULL;
  for (int i = 0; i < V; i++) sum += exp(logits[i] = floorf(check_random(&seed) * 60) / 8);
  CHECK_OK(pgg_sampler_new(&plain, V, &s));
  CHECK_OK(pgg_sampler_logprobs(s, logits, 17, &one, TOP, ids, values));
  CHECK(fabs(one - (logits[17] - log(sum))) < 2e-6, "%g", one);
  for (int i = 0; i < TOP; i++) {
    int better = 0; /* of place i exactly i are better */
    for (int j = 0; j < V; j++) better += logits[j] > logits[ids[i]] || (logits[j] == logits[ids[i]] && j < ids[i]);
    CHECK(better == i, "place %d: token %d is the %dth", i, ids[i], better);
    CHECK(fabs(values[i] - (logits[ids[i]] - log(sum))) < 2e-6, "place %d: %g", i, values[i]);
  }
  for (int i = 0; i < V; i++)
    if (i != 5 && i != 9) logits[i] = -INFINITY;
  logits[5] = 1, logits[9] = 1;
  CHECK_OK(pgg_sampler_logprobs(s, logits, 0, &one, 4, ids, values));
  CHECK(one == -INFINITY && ids[0] == 5 && ids[1] == 9 && ids[2] == 0 && ids[3] == 1, "forbidden ones come last");
  CHECK(fabs(values[1] - log(0.5)) < 1e-6 && values[3] == -INFINITY, "%g %g", values[1], values[3]);
  CHECK_OK(pgg_sampler_logprobs(s, logits, 5, &one, V, ids, values));
  CHECK(ids[V - 1] == V - 1, "all of them");
  CHECK_FAILS(PGG_EINVAL, "id is 3000", pgg_sampler_logprobs(s, logits, V, &one, 0, NULL, NULL));
  CHECK_FAILS(PGG_EINVAL, "n_top is 3001", pgg_sampler_logprobs(s, logits, 0, &one, V + 1, ids, values));
  logits[8] = NAN;
  CHECK_FAILS(PGG_ENUMERIC, "token 8 is nan", pgg_sampler_logprobs(s, logits, 5, &one, 1, ids, values));
  pgg_sampler_free(s);
}

static void test_penalties(void) {
  enum { V = 4 };
  const float logits[V] = {2.0f, 1.9f, -1.0f, 0};
  pgg_sampling how = plain;
  how.temperature = 0;
  const int32_t seen[] = {0, 1, 1};
  how.repeat_penalty = 1.2f;
  CHECK(next(&how, logits, V, seen, 1) == 1, "repeat penalty");
  how.repeat_penalty = 1;
  how.frequency_penalty = 0.1f; /* 1.9 against 1.7 */
  CHECK(next(&how, logits, V, seen, 3) == 0, "frequency penalty");
  how.frequency_penalty = 0;
  how.presence_penalty = 2; /* 0, -0.1, -1, 0 */
  CHECK(next(&how, logits, V, seen, 3) == 0, "presence penalty counts once");
  how.presence_penalty = 2.5f;
  CHECK(next(&how, logits, V, seen, 3) == 3, "presence penalty");
  how.repeat_last_n = 1; /* only the last token is seen: 0 is free again */
  CHECK(next(&how, logits, V, seen, 3) == 0, "window of one");
  how.repeat_last_n = 0;
  CHECK(next(&how, logits, V, seen, 1) == 0, "window off");
  how.repeat_last_n = -1;
  int32_t many[1000] = {0};
  CHECK(next(&how, logits, V, many, 1000) == 1, "window of everything");
  const float negative[2] = {-1.0f, -1.05f};
  how = plain;
  how.temperature = 0;
  how.repeat_penalty = 1.1f;
  CHECK(next(&how, negative, 2, seen, 1) == 1, "a negative logit is multiplied");
}

static void test_refusals(void) {
  float logits[4] = {0, 1, NAN, 2};
  pgg_sampling how = plain;
  pgg_sampler *s = NULL;
  int32_t id = 7, bad = 4;
  CHECK_OK(pgg_sampler_new(&how, 4, &s));
  CHECK_FAILS(PGG_ENUMERIC, "token 2 is nan", pgg_sampler_next(s, logits, &id));
  logits[2] = INFINITY;
  CHECK_FAILS(PGG_ENUMERIC, "token 2 is inf", pgg_sampler_next(s, logits, &id));
  for (int i = 0; i < 4; i++) logits[i] = -INFINITY;
  CHECK_FAILS(PGG_ENUMERIC, "none of the 4", pgg_sampler_next(s, logits, &id));
  CHECK(id == 7, "a token was made up");
  logits[0] = 1, logits[1] = -3e38f;
  {
    pgg_sampling sinks = plain;
    pgg_sampler *t = NULL;
    const int32_t one = 1;
    sinks.repeat_penalty = 9;
    CHECK_OK(pgg_sampler_new(&sinks, 4, &t));
    CHECK_OK(pgg_sampler_accept(t, &one, 1));
    CHECK_FAILS(PGG_ENUMERIC, "token 1 is -inf after the penalties", pgg_sampler_next(t, logits, &id));
    pgg_sampler_free(t);
  }
  CHECK_FAILS(PGG_EINVAL, "position 0 is 4, expected 0 to 3", pgg_sampler_accept(s, &bad, 1));
  pgg_sampler_free(s);
  how.temperature = NAN;
  CHECK_FAILS(PGG_EINVAL, "temperature is nan", pgg_sampler_new(&how, 4, &s));
  how = plain;
  how.repeat_penalty = 0;
  CHECK_FAILS(PGG_EINVAL, "repeat_penalty is 0", pgg_sampler_new(&how, 4, &s));
  CHECK_FAILS(PGG_EINVAL, "n_vocab is 0", pgg_sampler_new(&plain, 0, &s));
  pgg_sampler_free(NULL);
}

/* What the longer chain chooses is checked against numpy (tests/unit/test_sampling_chain.py): here its ends. */
static void test_long_chain(void) {
  enum { V = 300 };
  float logits[V], bias[2] = {-INFINITY, 50};
  const int32_t ids[2] = {7, 9}, bad = V;
  uint64_t seed = 4;
  for (int i = 0; i < V; i++) logits[i] = i == 7 ? 20 : check_random(&seed);
  pgg_sampling how = plain;
  how.mirostat = 2, how.mirostat_tau = 3, how.mirostat_eta = 0.1f, how.typical_p = 0.5f;
  pgg_sampler *s = NULL;
  CHECK_FAILS(PGG_EINVAL, "takes the place", pgg_sampler_new(&how, V, &s));
  how.typical_p = 0, how.mirostat = 3;
  CHECK_FAILS(PGG_EINVAL, "mirostat is 3", pgg_sampler_new(&how, V, &s));
  for (int which = 0; which < 4; which++) {
    int32_t id = -1;
    how = plain;
    if (which < 3) how.mirostat = which, how.mirostat_tau = 3, how.mirostat_eta = 0.1f;
    if (which == 3) how.typical_p = 0.7f, how.xtc_probability = 1, how.xtc_threshold = 0.01f, how.dynatemp_range = 0.5f;
    CHECK_OK(pgg_sampler_new(&how, V, &s));
    CHECK_FAILS(PGG_EINVAL, "position 0 is 300", pgg_sampler_bias(s, &bad, bias, 1));
    CHECK_OK(pgg_sampler_bias(s, ids, bias, 2));
    for (int i = 0; i < 20; i++) {
      CHECK_OK(pgg_sampler_next(s, logits, &id));
      CHECK(which == 3 ? id != 7 : id == 9, "%d: token %d", which, id);
    }
    bias[1] = NAN;
    CHECK_FAILS(PGG_EINVAL, "token 9 is nan", pgg_sampler_bias(s, ids, bias, 2));
    bias[1] = 50;
    pgg_sampler_free(s);
  }
  for (int which = 1; which < 3; which++) { /* of one token that can be chosen, and of equal ones */
    int32_t id = -1;
    how = plain, how.mirostat = which, how.mirostat_tau = 3, how.mirostat_eta = 0.1f;
    for (int i = 0; i < V; i++) logits[i] = which == 1 && i != 5 ? -INFINITY : 1;
    CHECK_OK(pgg_sampler_new(&how, V, &s));
    for (int i = 0; i < 3; i++) CHECK_OK(pgg_sampler_next(s, logits, &id));
    CHECK(which == 2 || id == 5, "token %d", id);
    pgg_sampler_free(s);
  }
}

/* Whatever the settings, what a mask leaves is chosen from as if the rest had a logit of -infinity. */
static void test_mask(void) {
  enum { V = 1003, WORDS = (V + 31) / 32 };
  static float logits[V], sunk[V];
  uint32_t mask[WORDS] = {0}, none[WORDS] = {0};
  uint64_t seed = 12;
  for (int i = 0; i < V; i++) logits[i] = check_random(&seed);
  for (int i = 0; i < V; i++)
    if (i / 32 % 3 && (i / 32 % 3 == 1 || check_random(&seed) < 0.5f)) mask[i >> 5] |= 1u << (i & 31);
  for (int i = 0; i < V; i++) sunk[i] = mask[i >> 5] >> (i & 31) & 1 ? logits[i] : -INFINITY;
  none[WORDS - 1] = 1u << 31; /* of no token */
  pgg_sampling each[6] = {plain, plain, plain, plain, plain, plain};
  each[0].temperature = 0;
  each[2].top_k = 5, each[2].repeat_penalty = 1.3f;
  each[3].top_p = 0.3f, each[3].min_p = 0.01f;
  each[4].mirostat = 2, each[4].mirostat_tau = 3;
  each[5].typical_p = 0.7f, each[5].top_n_sigma = 1;
  for (int which = 0; which < 6; which++) {
    pgg_sampler *s = NULL, *reference = NULL;
    int32_t id = -1, want = -1;
    CHECK_OK(pgg_sampler_new(&each[which], V, &s));
    CHECK_OK(pgg_sampler_new(&each[which], V, &reference));
    CHECK_FAILS(PGG_EINVAL, "forbids all of the 1003", pgg_sampler_allow(s, none));
    CHECK_OK(pgg_sampler_allow(s, mask));
    CHECK_FAILS(PGG_EINVAL, "forbids all of the 1003", pgg_sampler_allow(s, none)); /* the mask stays */
    for (int i = 0; i < 40; i++) {
      CHECK_OK(pgg_sampler_next(s, logits, &id));
      CHECK_OK(pgg_sampler_next(reference, sunk, &want));
      CHECK(id == want && sunk[id] > -INFINITY, "%d, draw %d: token %d, expected %d", which, i, id, want);
    }
    CHECK_OK(pgg_sampler_allow(s, NULL));
    for (int i = 0; i < 40; i++) {
      CHECK_OK(pgg_sampler_next(s, logits, &id));
      CHECK_OK(pgg_sampler_next(reference, logits, &want));
      CHECK(id == want, "%d, without a mask: token %d, expected %d", which, id, want);
    }
    pgg_sampler_free(s);
    pgg_sampler_free(reference);
  }
  pgg_sampler *s = NULL;
  int32_t id = -1;
  const float bias = -INFINITY;
  CHECK_OK(pgg_sampler_new(&plain, V, &s));
  memset(none, 0, sizeof none);
  none[1] = 1; /* token 32 alone */
  const int32_t only = 32;
  CHECK_OK(pgg_sampler_allow(s, none));
  CHECK_OK(pgg_sampler_next(s, logits, &id));
  CHECK(id == only, "token %d", id);
  logits[7] = NAN; /* is no less a fault where it is forbidden */
  CHECK_FAILS(PGG_ENUMERIC, "token 7 is nan", pgg_sampler_next(s, logits, &id));
  logits[7] = 0, logits[only] = -INFINITY;
  CHECK_FAILS(PGG_ENUMERIC, "of those that the mask allows", pgg_sampler_next(s, logits, &id));
  logits[only] = 0;
  CHECK_OK(pgg_sampler_bias(s, &only, &bias, 1));
  CHECK_FAILS(PGG_ENUMERIC, "of those that bias and mask leave", pgg_sampler_next(s, logits, &id));
  CHECK_FAILS(PGG_EINVAL, "sampler is NULL", pgg_sampler_allow(NULL, none));
  pgg_sampler_free(s);
}

/* What DRY and another order choose is checked against numpy (tests/unit/test_sampling_order.py): here their ends. */
static void test_dry_and_order(void) {
  enum { V = 6 };
  const float logits[V] = {3, 2, 1, 0, -1, -2};
  const int32_t seen[] = {4, 5, 0, 1, 4, 5}, breaker[] = {5}, one[] = {1}, none[] = {0}, bad[] = {9}, twice[] = {3, 3};
  pgg_sampling how = plain;
  pgg_sampler *s = NULL;
  int32_t id = -1;
  how.temperature = 0;
  for (int broken = 0; broken < 2; broken++) { /* 4 5 0 was there: another 0 would repeat it */
    CHECK_OK(pgg_sampler_new(&how, V, &s));
    CHECK_FAILS(PGG_EINVAL, "base 0.5", pgg_sampler_dry(s, 1, 0.5f, 2, 64, NULL, NULL, 0));
    CHECK_FAILS(PGG_EINVAL, "last_n -2", pgg_sampler_dry(s, 1, 1.5f, 2, -2, NULL, NULL, 0));
    CHECK_FAILS(PGG_EINVAL, "breaker 0 has 0 ids", pgg_sampler_dry(s, 1, 1.5f, 2, 64, breaker, none, 1));
    CHECK_OK(pgg_sampler_dry(s, 1e30f, 1e3f, 2, broken ? -1 : 64, breaker, one, broken));
    CHECK_OK(pgg_sampler_accept(s, seen, 6));
    CHECK_OK(pgg_sampler_next(s, logits, &id));
    CHECK(id == !broken, "broken %d: token %d", broken, id);
    for (int i = 0; i < 2000; i++) CHECK_OK(pgg_sampler_next(s, logits, &id)); /* the window moves, or grows */
    pgg_sampler_free(s);
  }
  CHECK_OK(pgg_sampler_new(&how, V, &s));
  CHECK_FAILS(PGG_EINVAL, "no order", pgg_sampler_adapt(s, 0.5f, 0.9f));
  CHECK_FAILS(PGG_EINVAL, "no step 9", pgg_sampler_order(s, bad, 1));
  CHECK_FAILS(PGG_EINVAL, "step 3 comes twice", pgg_sampler_order(s, twice, 2));
  CHECK_FAILS(PGG_EINVAL, "11 steps", pgg_sampler_order(s, twice, 11));
  const int32_t heat[] = {PGG_STEP_TEMPERATURE};
  CHECK_OK(pgg_sampler_order(s, heat, 1));
  CHECK_OK(pgg_sampler_next(s, logits, &id));
  CHECK(id == 0, "temperature 0 in an order: token %d", id);
  CHECK_FAILS(PGG_EINVAL, "decay 1,", pgg_sampler_adapt(s, 0.5f, 1));
  CHECK_OK(pgg_sampler_adapt(s, 0.5f, 0.9f));
  CHECK_OK(pgg_sampler_adapt(s, 0, 0)); /* again */
  for (int i = 0; i < 20; i++) CHECK_OK(pgg_sampler_next(s, logits, &id));
  pgg_sampler_free(s);
  how.mirostat = 2, how.mirostat_tau = 3;
  CHECK_OK(pgg_sampler_new(&how, V, &s));
  CHECK_FAILS(PGG_EINVAL, "mirostat takes the place", pgg_sampler_order(s, heat, 1));
  pgg_sampler_free(s);
}

static void test_seed(void) {
  enum { V = 100 };
  float logits[V];
  uint64_t seed = 2;
  int32_t runs[3][50];
  for (int i = 0; i < V; i++) logits[i] = check_random(&seed);
  for (int run = 0; run < 3; run++) {
    pgg_sampling how = plain;
    pgg_sampler *s = NULL;
    how.seed = run == 2 ? 43 : 42;
    CHECK_OK(pgg_sampler_new(&how, V, &s));
    for (int i = 0; i < 50; i++) CHECK_OK(pgg_sampler_next(s, logits, &runs[run][i]));
    pgg_sampler_free(s);
  }
  CHECK(!memcmp(runs[0], runs[1], sizeof runs[0]), "one seed, two texts");
  CHECK(memcmp(runs[0], runs[2], sizeof runs[0]), "two seeds, one text");
}

static void test_strings(void) {
  unsigned char data[64] = {0};
  uint64_t spans[8];
  size_t end;
  memcpy(data + 4, "\3\0\0\0\0\0\0\0abc\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0xy", 29);
  CHECK_OK(pgg_gguf_strings(data, 33, 4, 3, spans, &end));
  CHECK(end == 33 && spans[0] == 12 && spans[1] == 3 && spans[2] == 23 && spans[3] == 0 && spans[4] == 31, "spans");
  CHECK_FAILS(PGG_EFORMAT, "string 2 of 3 claims 2 bytes at offset 31, only 1 are left",
              pgg_gguf_strings(data, 32, 4, 3, spans, &end));
  CHECK_FAILS(PGG_EFORMAT, "cannot fit", pgg_gguf_strings(data, 64, 4, INT64_MAX, spans, &end));
  CHECK_FAILS(PGG_EFORMAT, "past the end", pgg_gguf_strings(data, 64, 65, 1, spans, &end));
  CHECK_FAILS(PGG_EINVAL, "count", pgg_gguf_strings(data, 64, 4, -1, spans, &end));
  memset(data, 0xff, sizeof data);
  CHECK_FAILS(PGG_EFORMAT, "18446744073709551615", pgg_gguf_strings(data, 64, 0, 1, spans, &end));
}

static void test_eager(void) {
  enum { M = 37, NN = 11, K = 512 };
  static float w[M * K], x[NN * K], y[NN * M], z[NN * M], back[M * K];
  uint64_t seed = 3;
  for (int i = 0; i < M * K; i++) w[i] = check_random(&seed);
  for (int i = 0; i < NN * K; i++) x[i] = check_random(&seed);
  const int types[] = {PGG_F32, PGG_F16, PGG_BF16, PGG_Q4_0, PGG_Q8_0, PGG_Q4_K, PGG_Q6_K};
  for (int i = 0; i < 7; i++) {
    const int type = types[i];
    const size_t row = pgg_row_bytes(type, K);
    char *q = malloc(M * row);
    CHECK_OK(pgg_quantize(type, w, q, M, K, NULL, 2));
    CHECK_OK(pgg_dequantize(type, q, back, M, K, 2));
    CHECK_OK(pgg_matmul(type, q, x, y, M, NN, K, 1));
    CHECK_OK(pgg_matmul(type, q, x, z, M, NN, K, 3));
    CHECK(!memcmp(y, z, sizeof y), "type %d: other bits on 3 threads", type);
    for (int t = 0; t < NN; t++) {
      void *act = aligned_alloc(64, (pgg_act_bytes(type, K) + 63) / 64 * 64);
      CHECK_OK(pgg_act_prepare(type, x + t * K, act, K));
      for (int r = 0; r < M; r++) {
        double want = 0, size = 0;
        for (int c = 0; c < K; c++) {
          want += (double)back[r * K + c] * x[t * K + c];
          size += fabs((double)back[r * K + c] * x[t * K + c]);
        }
        /* bf16: activations may be rounded to bf16 (docs/adr/0008) */
        const double of_type = type == PGG_BF16 ? 0x1p-8 + 1e-5 : 1e-5;
        const double bound = (pgg_type_get(type)->kind == PGG_KIND_FLOAT ? of_type : 1e-2) * size;
        CHECK(fabs(y[t * M + r] - want) <= bound, "type %d: %g, expected %g", type, (double)y[t * M + r], want);
        CHECK(fabs(pgg_dot(type, q + r * row, act, K) - want) <= bound, "type %d: dot", type);
      }
      free(act);
    }
    free(q);
  }
  x[K + 3] = NAN;
  CHECK_FAILS(PGG_ENUMERIC, "row 1, column 3", pgg_quantize(PGG_Q8_0, x, back, 4, K, NULL, 2));
  for (int i = 0; i < K; i++) w[i] = i == 7 ? -1.0f : 1.0f;
  CHECK_FAILS(PGG_ENUMERIC, "column 7", pgg_quantize(PGG_Q8_0, x, back, 1, K, w, 1));
  CHECK_FAILS(PGG_ESHAPE, "blocks hold 32", pgg_quantize(PGG_Q8_0, x, back, 1, 33, NULL, 1));
  CHECK_FAILS(PGG_ESHAPE, "larger than memory", pgg_dequantize(PGG_Q8_0, x, back, INT64_MAX / 2, 32, 1));
  CHECK_FAILS(PGG_ETYPE, "no tensor type 5", pgg_dequantize(5, x, back, 1, 32, 1));
  CHECK_FAILS(PGG_ETYPE, "i8 cannot be a weight", pgg_matmul(PGG_I8, w, x, y, 1, 1, 32, 1));
  CHECK_FAILS(PGG_ESHAPE, "larger than memory", pgg_matmul(PGG_F32, w, x, y, INT64_MAX / 2, 2, 32, 1));
  CHECK_FAILS(PGG_EINVAL, "aligned", pgg_act_prepare(PGG_Q8_0, x, (char *)back + 1, K));
  CHECK(isnan(pgg_dot(PGG_I8, w, x, 32)), "dot of no weight type");
  CHECK(pgg_row_bytes(PGG_Q4_K, 255) == 0 && pgg_row_bytes(PGG_Q4_K, 512) == 288, "row bytes");
  CHECK(pgg_row_bytes(PGG_F64, INT64_MAX) == 0 && pgg_row_bytes(-3, 1) == 0, "row bytes overflow");
  CHECK(pgg_type_at(-1) == NULL && pgg_type_at(pgg_type_count()) == NULL && pgg_type_at(0)->id == PGG_F32, "types");
  char *big = pgg_alloc((size_t)5 << 20);
  CHECK(big && (uintptr_t)big % ((size_t)2 << 20) == 0 && !big[0] && !big[(5 << 20) - 1], "pgg_alloc");
  pgg_free(big, (size_t)5 << 20);
  CHECK(pgg_alloc(SIZE_MAX - 5) == NULL, "all of memory");
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "--bench")) {
    bench_sample();
    return check_done("test_sample");
  }
  /* ctest names a level; it is forced by PYGGML_ISA */
  if (argc > 1 && !pgg_kernels_level(argv[1])) return 77;
  CHECK_OK(pgg_init());
  CHECK(argc < 2 || !strcmp(pgg_isa(), argv[1]), "the level in force is %s", pgg_isa());
  test_reference();
  test_many();
  test_places();
  if (argc > 1) return check_done("test_sample");
  test_chain();
  test_large();
  test_logprobs();
  test_penalties();
  test_refusals();
  test_long_chain();
  test_mask();
  test_dry_and_order();
  test_seed();
  test_strings();
  test_eager();
  return check_done("test_sample");
}
