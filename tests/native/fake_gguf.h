/* A made-up GGUF file around the weights of the tiny plan, for tests of plan files. */
#ifndef PGG_FAKE_GGUF_H
#define PGG_FAKE_GGUF_H
#include "core/plan_file.h"
#include "seal.h"
#include "tiny_plan.h"

enum { HEADER = 96, ENDS = 2, MOST_PARTS = 3 };

/* A made-up GGUF file, or some parts of one: headers, and the weights of the tiny plan behind them in turn. */
typedef struct fake {
  unsigned char *bytes[MOST_PARTS];
  pgg_file files[MOST_PARTS];
  pgg_plan_part parts[MOST_PARTS];
  int32_t part_of[T_COUNT];
  uint64_t offsets[T_COUNT];
  pgg_plan_source source;
} fake;

static const int32_t fake_ends[ENDS] = {3, 49};
static char *const fake_paths[MOST_PARTS] = {"fake-00001-of-00003.gguf", "fake-00002-of-00003.gguf",
                                             "fake-00003-of-00003.gguf"};

static inline size_t fake_weight_bytes(const tiny *t, int i) {
  return (size_t)t->rows[i] * pgg_row_bytes(t->rows[i] == 1 ? PGG_F32 : t->type, t->cols[i]);
}

static inline fake *fake_of(const tiny *t, int n_part) {
  fake *f = calloc(1, sizeof *f);
  for (int p = 0; p < n_part; p++) {
    size_t size = HEADER;
    for (int i = p; i < T_COUNT; i += n_part) {
      f->part_of[i] = p;
      f->offsets[i] = size;
      size += (fake_weight_bytes(t, i) + 31) / 32 * 32;
    }
    f->bytes[p] = calloc(1, size);
    for (int i = 0; i < HEADER; i++) f->bytes[p][i] = (unsigned char)(i * 7 + p);
    for (int i = p; i < T_COUNT; i += n_part) memcpy(f->bytes[p] + f->offsets[i], t->raw[i], fake_weight_bytes(t, i));
    f->files[p] = (pgg_file){.bytes = f->bytes[p], .size = size, .path = fake_paths[p], .fd = -1};
    f->parts[p] = (pgg_plan_part){f->bytes[p], HEADER, size};
  }
  f->source = (pgg_plan_source){f->parts, n_part, f->part_of, f->offsets, fake_ends, ENDS};
  return f;
}

static inline void fake_free(fake *f) {
  for (int p = 0; p < f->source.n_part; p++) free(f->bytes[p]);
  free(f);
}

/* The plan as bytes, for that file; the caller frees them. */
static inline unsigned char *fake_save(const pgg_plan *plan, const fake *f, size_t *size) {
  CHECK_OK(pgg_plan_save(plan, &f->source, NULL, size));
  unsigned char *bytes = malloc(*size);
  CHECK_OK(pgg_plan_save(plan, &f->source, bytes, size));
  return bytes;
}

#endif
