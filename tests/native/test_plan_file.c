/* Plans as bytes: what is read back computes the same bits, from one file and from parts; whatever was cut or altered
 * is a status, never a crash. With a number as argument so many more alterations are tried, which is how the reader is
 * fuzzed under sanitizers. */
#include <sys/stat.h>

#include "fake_gguf.h"

enum { N = 9, V = 50 };

static void run(pgg_plan *plan, float *logits) {
  pgg_session *session = NULL;
  int32_t ids[N];
  tiny_ids(ids, N, V, 3);
  CHECK_OK(pgg_session_new(plan, 32, PGG_F32, &session));
  CHECK_OK(pgg_session_step(session, ids, NULL, N, N, logits, 1));
  pgg_session_free(session);
}

/* Reads; frees what came of it. */
static pgg_status try_read(const unsigned char *bytes, size_t size, const fake *f) {
  pgg_plan *plan = NULL;
  pgg_plan_ends got;
  pgg_status status = pgg_plan_read(bytes, size, f->files, f->source.n_part, &plan, &got);
  CHECK(!status == (plan != NULL), "status %d and plan %p", (int)status, (void *)plan);
  CHECK(!status || strlen(pgg_last_error()) > 8, "no sentence for status %d", (int)status);
  pgg_plan_free(plan);
  free(got.ids);
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
  other[8] = 99;
  CHECK_FAILS(PGG_EUNSUPPORTED, "a plan of version 99; this library reads version 11", try_read(other, size, f));
  memcpy(other, bytes, size);
  other[0] = 'G';
  CHECK_FAILS(PGG_EFORMAT, "does not begin with PGGPLAN", try_read(other, size, f));
  memcpy(other, bytes, size);
  other[size - 1] ^= 1;
  CHECK_FAILS(PGG_EFORMAT, "was altered", try_read(other, size, f));
  const int last = f->source.n_part - 1;
  f->bytes[last][5]++;
  CHECK_FAILS(PGG_EFORMAT, "the headers differ", try_read(bytes, size, f));
  CHECK(strstr(pgg_last_error(), fake_paths[last]), "no name in: %s", pgg_last_error());
  f->bytes[last][5]--;
  f->files[last].size--;
  CHECK_FAILS(PGG_EFORMAT, "this one has", try_read(bytes, size, f));
  CHECK(strstr(pgg_last_error(), fake_paths[last]), "no name in: %s", pgg_last_error());
  f->files[last].size++;
  f->source.n_part++;
  CHECK_FAILS(PGG_EFORMAT, "parts, not in", try_read(bytes, size, f));
  f->source.n_part--;
  free(other);
}

/* What a caller of pgg_plan_save may get wrong. */
static void test_sources(const pgg_plan *plan, const fake *f) {
  size_t size = 0;
  pgg_plan_source bad = f->source;
  pgg_plan_part part = f->parts[0];
  int32_t part_of[T_COUNT];
  uint64_t offsets[T_COUNT];
  memcpy(part_of, f->part_of, sizeof part_of);
  memcpy(offsets, f->offsets, sizeof offsets);
  bad.n_part = 0;
  CHECK_FAILS(PGG_EINVAL, "0 files", pgg_plan_save(plan, &bad, NULL, &size));
  bad = f->source, bad.part_of = part_of;
  for (int wrong = -1; wrong <= f->source.n_part; wrong += f->source.n_part + 1) {
    part_of[2] = wrong;
    CHECK_FAILS(PGG_EINVAL, "weight w2 lies in file", pgg_plan_save(plan, &bad, NULL, &size));
  }
  bad = f->source, bad.offsets = offsets;
  offsets[1] = f->parts[0].size + f->parts[f->source.n_part - 1].size;
  CHECK_FAILS(PGG_EINVAL, "weight w1 at", pgg_plan_save(plan, &bad, NULL, &size));
  bad = f->source, bad.parts = &part, bad.n_part = 1;
  part.header_size = part.size + 1;
  CHECK_FAILS(PGG_EINVAL, "a header of", pgg_plan_save(plan, &bad, NULL, &size));
  part.header = NULL;
  CHECK_FAILS(PGG_EINVAL, "is NULL", pgg_plan_save(plan, &bad, NULL, &size));
  bad.parts = NULL;
  CHECK_FAILS(PGG_EINVAL, "parts", pgg_plan_save(plan, &bad, NULL, &size));
}

/* A plan of layers that share a state or not, from so many files. */
static void test_same_bits(int share, int n_part) {
  tiny t = tiny_make(PGG_F32, 64, 4, 2, 16, 96, V);
  t.share = share;
  fake *f = fake_of(&t, n_part);
  pgg_plan *plan = tiny_plan(&t, 8, 32, 0), *again = NULL;
  size_t size = 0;
  pgg_plan_ends got;
  float want[N * V], have[N * V];
  unsigned char *bytes = fake_save(plan, f, &size);
  CHECK_OK(pgg_plan_read(bytes, size, f->files, n_part, &again, &got));
  CHECK(got.n == ENDS && got.ids[0] == 3 && got.ids[1] == 49, "ends");
  run(plan, want);
  run(again, have);
  CHECK(!memcmp(want, have, sizeof want), "sharing %d, %d files: the plan that was read computes other bits", share,
        n_part);
  CHECK(pgg_plan_kv_bytes(plan, PGG_F32, 32) == pgg_plan_kv_bytes(again, PGG_F32, 32), "sharing %d: other states",
        share);
  pgg_plan_free(plan), pgg_plan_free(again);
  free(got.ids), free(bytes), fake_free(f);
  tiny_free(&t);
}

static void test_bytes(int n_part, long rounds) {
  tiny t = tiny_make(PGG_Q8_0, 64, 4, 2, 16, 96, V);
  fake *f = fake_of(&t, n_part);
  pgg_plan *plan = tiny_plan(&t, 8, 32, 0);
  size_t size = 0, less;
  int count = 0;
  CHECK(pgg_plan_weight_count(plan) == T_COUNT && !pgg_plan_weight_name(plan, T_COUNT), "weights of the plan");
  unsigned char *bytes = fake_save(plan, f, &size), *small = malloc(size);
  less = size - 1;
  CHECK_FAILS(PGG_EINVAL, "room for", pgg_plan_save(plan, &f->source, small, &less));
  free(small);
  CHECK_OK(pgg_plan_part_count(bytes, size, &count));
  CHECK(count == n_part, "%d files", count);
  test_sources(plan, f);
  test_refusals(bytes, size, f);
  test_alterations(bytes, size, f, rounds);
  free(bytes), fake_free(f);
  pgg_plan_free(plan);
  tiny_free(&t);
}

/* ---- files: pgg_model_open ------------------------------------------------------------------------------- */

#define FOLDER "test_plan_file.tmp"
static const char *const plan_path = FOLDER "/x.plan";

static void write_file(const char *path, const void *bytes, size_t size) {
  FILE *out = fopen(path, "wb");
  CHECK(out && fwrite(bytes, 1, size, out) == size && !fclose(out), "%s cannot be written", path);
}

static void part_path(char *path, int part) { snprintf(path, 100, FOLDER "/fake-%05d-of-00003.gguf", part + 1); }

static void open_fails(const char *gguf, pgg_status status, const char *text) {
  pgg_model *model = NULL;
  CHECK_FAILS(status, text, pgg_model_open(gguf, plan_path, &model));
  CHECK(!model, "a model came of %s", gguf);
}

static void test_model(void) {
  tiny t = tiny_make(PGG_Q8_0, 64, 4, 2, 16, 96, V);
  fake *f = fake_of(&t, MOST_PARTS);
  pgg_plan *plan = tiny_plan(&t, 8, 32, 0);
  size_t size = 0;
  float want[N * V], have[N * V];
  char path[100];
  unsigned char *bytes = fake_save(plan, f, &size);
  (void)mkdir(FOLDER, 0755);
  write_file(plan_path, bytes, size);
  for (int p = 0; p < MOST_PARTS; p++) {
    part_path(path, p);
    write_file(path, f->bytes[p], f->files[p].size);
  }
  run(plan, want);
  for (int p = 0; p < MOST_PARTS; p++) { /* any of them leads to all */
    pgg_model *model = NULL;
    part_path(path, p);
    CHECK_OK(pgg_model_open(path, plan_path, &model));
    if (!model) continue;
    run(pgg_model_plan(model), have);
    CHECK(!memcmp(want, have, sizeof want), "%s: other bits", path);
    CHECK(pgg_model_is_end(model, 49) && !pgg_model_is_end(model, 4), "ends");
    CHECK_OK(pgg_model_unchanged(model));
    part_path(path, MOST_PARTS - 1);
    write_file(path, f->bytes[MOST_PARTS - 1], f->files[MOST_PARTS - 1].size - 1);
    CHECK_FAILS(PGG_EFORMAT, "fake-00003-of-00003.gguf changed", pgg_model_unchanged(model));
    pgg_model_close(model);
    part_path(path, p);
    open_fails(path, PGG_EFORMAT, "fake-00003-of-00003.gguf: the plan is for a GGUF file of");
    part_path(path, MOST_PARTS - 1);
    write_file(path, f->bytes[MOST_PARTS - 1], f->files[MOST_PARTS - 1].size);
  }
  static const char *const others[] = {"fake.gguf",
                                       "fake-00001-of-00002.gguf",
                                       "fake-00000-of-00003.gguf",
                                       "fake-00004-of-00003.gguf",
                                       "fake-0000a-of-00003.gguf",
                                       "x-00001-of-00003.ggu",
                                       "",
                                       "/00001-of-00003.gguf"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    open_fails(others[i], PGG_EFORMAT, "3 parts; give one that is named NAME-00001-of-00003.gguf");
  part_path(path, 1);
  f->bytes[1][7]++;
  write_file(path, f->bytes[1], f->files[1].size);
  part_path(path, 0);
  open_fails(path, PGG_EFORMAT, "fake-00002-of-00003.gguf: the plan is for another GGUF file");
  part_path(path, 1);
  CHECK(!remove(path), "%s stays", path);
  part_path(path, 0);
  open_fails(path, PGG_EFORMAT, "fake-00002-of-00003.gguf cannot be opened");
  part_path(path, 2);
  remove(path);
  part_path(path, 0);
  remove(path);
  open_fails(path, PGG_EFORMAT, "fake-00001-of-00003.gguf cannot be opened");
  remove(plan_path);
  open_fails(path, PGG_EFORMAT, "x.plan cannot be opened");
  remove(FOLDER);
  free(bytes), fake_free(f);
  pgg_plan_free(plan);
  tiny_free(&t);
}

int main(int argc, char **argv) {
  const long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 3000;
  test_bytes(1, rounds);
  test_bytes(MOST_PARTS, rounds / 4);
  for (int share = 0; share < SHARE_KINDS; share++) test_same_bits(share, 1 + share % MOST_PARTS);
  test_same_bits(0, MOST_PARTS);
  test_model();
  return check_done("test_plan_file");
}
