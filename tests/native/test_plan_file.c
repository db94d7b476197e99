/* Plans as bytes: what is read back computes the same bits; whatever was cut or altered is a status, never a crash.
 * With a number as argument so many more alterations are tried, which is how the reader is fuzzed under sanitizers. */
#include "core/plan_file.h"
#include "tiny_plan.h"

enum { HEADER = 96, ENDS = 2, CHECK_AT = 16, CHECKED_FROM = 24, N = 9, V = 50 };

/* A made-up GGUF file: a header and the weights of the tiny plan behind it. */
typedef struct fake {
  unsigned char *bytes;
  size_t size;
  uint64_t offsets[T_COUNT];
} fake;

static fake fake_of(const tiny *t) {
  fake f = {.size = HEADER};
  for (int i = 0; i < T_COUNT; i++) {
    const int type = t->rows[i] == 1 ? PGG_F32 : t->type;
    f.offsets[i] = f.size;
    f.size += ((size_t)t->rows[i] * pgg_row_bytes(type, t->cols[i]) + 31) / 32 * 32;
  }
  f.bytes = calloc(1, f.size);
  for (int i = 0; i < HEADER; i++) f.bytes[i] = (unsigned char)(i * 7);
  for (int i = 0; i < T_COUNT; i++) {
    const int type = t->rows[i] == 1 ? PGG_F32 : t->type;
    memcpy(f.bytes + f.offsets[i], t->raw[i], (size_t)t->rows[i] * pgg_row_bytes(type, t->cols[i]));
  }
  return f;
}

static void run(pgg_plan *plan, float *logits) {
  pgg_session *session = NULL;
  int32_t ids[N];
  tiny_ids(ids, N, V, 3);
  CHECK_OK(pgg_session_new(plan, 32, PGG_F32, &session));
  CHECK_OK(pgg_session_step(session, ids, NULL, N, N, logits, 1));
  pgg_session_free(session);
}

static uint64_t hash_of(const unsigned char *p, size_t n) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
  return hash;
}

/* Makes the check fit again, so that what lies behind it is reached. */
static void seal(unsigned char *bytes, size_t size) {
  const uint64_t hash = hash_of(bytes + CHECKED_FROM, size - CHECKED_FROM);
  for (int i = 0; i < 8; i++) bytes[CHECK_AT + i] = (unsigned char)(hash >> 8 * i);
}

/* Reads; frees what came of it. */
static pgg_status try_read(const unsigned char *bytes, size_t size, const fake *f) {
  pgg_plan *plan = NULL;
  pgg_plan_ends ends;
  pgg_status status = pgg_plan_read(bytes, size, f->bytes, f->size, &plan, &ends);
  CHECK(!status == (plan != NULL), "status %d and plan %p", (int)status, (void *)plan);
  CHECK(!status || strlen(pgg_last_error()) > 8, "no sentence for status %d", (int)status);
  pgg_plan_free(plan);
  free(ends.ids);
  return status;
}

static void test_alterations(const unsigned char *good, size_t size, const fake *f, long rounds) {
  unsigned char *bytes = malloc(size);
  uint64_t seed = 11;
  for (size_t n = 0; n < size; n += n < 256 ? 1 : 17) { /* copied, so that a read behind the end is seen */
    unsigned char *cut = malloc(n ? n : 1);
    memcpy(cut, good, n);
    CHECK(try_read(cut, n, f) == PGG_EFORMAT, "a plan cut to %zu of %zu bytes was read", n, size);
    if (n >= CHECKED_FROM) {
      seal(cut, n);
      CHECK(try_read(cut, n, f) != PGG_OK, "a plan cut to %zu of %zu bytes and sealed was read", n, size);
    }
    free(cut);
  }
  for (size_t at = 0; at < size; at++) {
    memcpy(bytes, good, size);
    bytes[at] ^= 0x40;
    CHECK(try_read(bytes, size, f) != PGG_OK, "a plan with byte %zu altered was read", at);
  }
  static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};
  for (long i = 0; i < rounds; i++) { /* sealed: some still make a plan, and that is fine */
    memcpy(bytes, good, size);
    for (int edits = 1 + (int)(i % 3); edits > 0; edits--) {
      const size_t at = CHECKED_FROM + (size_t)((check_random(&seed) + 1) / 2 * (float)(size - CHECKED_FROM - 9));
      const unsigned char value = values[(int)((check_random(&seed) + 1) * 2.49f)];
      memset(bytes + at, value, i % 4 == 0 ? 8 : i % 4 == 1 ? 4 : 1);
    }
    seal(bytes, size);
    try_read(bytes, size, f);
  }
  free(bytes);
}

static void test_refusals(unsigned char *bytes, size_t size, fake *f) {
  unsigned char *other = malloc(size);
  memcpy(other, bytes, size);
  other[8] = 9;
  CHECK_FAILS(PGG_EUNSUPPORTED, "a plan of version 9; this library reads version 3", try_read(other, size, f));
  memcpy(other, bytes, size);
  other[0] = 'G';
  CHECK_FAILS(PGG_EFORMAT, "does not begin with PGGPLAN", try_read(other, size, f));
  memcpy(other, bytes, size);
  other[size - 1] ^= 1;
  CHECK_FAILS(PGG_EFORMAT, "was altered", try_read(other, size, f));
  f->bytes[5]++;
  CHECK_FAILS(PGG_EFORMAT, "the headers differ", try_read(bytes, size, f));
  f->bytes[5]--;
  f->size--;
  CHECK_FAILS(PGG_EFORMAT, "this one has", try_read(bytes, size, f));
  f->size++;
  free(other);
}

/* Layers that share a state say so in the file. */
static void test_shared(int share) {
  tiny t = tiny_make(PGG_F32, 64, 4, 2, 16, 96, V);
  t.share = share;
  fake f = fake_of(&t);
  pgg_plan *plan = tiny_plan(&t, 8, 32, 0), *again = NULL;
  const pgg_plan_source source = {f.bytes, HEADER, f.size, f.offsets, NULL, 0};
  size_t size = 0;
  pgg_plan_ends ends;
  float want[N * V], have[N * V];
  CHECK_OK(pgg_plan_save(plan, &source, NULL, &size));
  unsigned char *bytes = malloc(size);
  CHECK_OK(pgg_plan_save(plan, &source, bytes, &size));
  CHECK_OK(pgg_plan_read(bytes, size, f.bytes, f.size, &again, &ends));
  run(plan, want);
  run(again, have);
  CHECK(!memcmp(want, have, sizeof want), "sharing %d: the plan that was read computes other bits", share);
  CHECK(pgg_plan_kv_bytes(plan, PGG_F32, 32) == pgg_plan_kv_bytes(again, PGG_F32, 32), "sharing %d: other states",
        share);
  pgg_plan_free(plan), pgg_plan_free(again);
  free(ends.ids), free(bytes), free(f.bytes);
  tiny_free(&t);
}

int main(int argc, char **argv) {
  const long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 3000;
  tiny t = tiny_make(PGG_Q8_0, 64, 4, 2, 16, 96, V);
  fake f = fake_of(&t);
  pgg_plan *plan = tiny_plan(&t, 8, 32, 0), *again = NULL;
  const int32_t ends[ENDS] = {3, 49};
  const pgg_plan_source source = {f.bytes, HEADER, f.size, f.offsets, ends, ENDS};
  size_t size = 0, less;
  CHECK(pgg_plan_weight_count(plan) == T_COUNT && !pgg_plan_weight_name(plan, T_COUNT), "weights of the plan");
  CHECK_OK(pgg_plan_save(plan, &source, NULL, &size));
  unsigned char *bytes = malloc(size);
  less = size - 1;
  CHECK_FAILS(PGG_EINVAL, "room for", pgg_plan_save(plan, &source, bytes, &less));
  CHECK_OK(pgg_plan_save(plan, &source, bytes, &size));

  pgg_plan_ends got;
  float want[N * V], have[N * V];
  CHECK_OK(pgg_plan_read(bytes, size, f.bytes, f.size, &again, &got));
  CHECK(got.n == ENDS && got.ids[0] == 3 && got.ids[1] == 49, "ends");
  run(plan, want);
  run(again, have);
  CHECK(memcmp(want, have, sizeof want) == 0, "the plan that was read computes other bits");
  pgg_plan_free(again);
  free(got.ids);

  test_refusals(bytes, size, &f);
  test_alterations(bytes, size, &f, rounds);
  free(bytes);
  free(f.bytes);
  pgg_plan_free(plan);
  tiny_free(&t);
  for (int share = 0; share < SHARE_KINDS; share++) test_shared(share);
  return check_done("test_plan_file");
}
