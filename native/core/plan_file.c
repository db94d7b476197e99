/* A plan as bytes, and back. All numbers are little-endian; text is a u32 length and its bytes.
 *
 *   "PGGPLAN\n"  u32 version  u32 0  u64 check: FNV-1a of all that follows
 *   u32 n: that many files, the GGUF file or its parts: u64 size  u64 size of the header  u64 FNV-1a of the header
 *   u32 n_batch  u32 n_ctx  u32 keep_all
 *   u32 n: that many u32, the ids that end a text
 *   u32 n: that many weights: text name  u32 type  u64 rows  u64 cols  u32 file  u64 offset in it
 *   u32 n: that many ops: text kind  text name  u32 fields, and each in the order of ops.def: a node, a weight or an
 *          integer as i64, a float as the bits of an f32
 *   u32 n: that many u32, the output nodes
 *   u32 n: that many runs of ops on other devices than the first: text id  u32 first op  u32 last op
 *
 * Nothing of it is trusted: every length is held against what is left, and the plan is built through the calls that
 * judge any other plan. */
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/ops.h"
#include "core/plan_file.h"

#define VERSION 11
static const char magic[8] = {'P', 'G', 'G', 'P', 'L', 'A', 'N', '\n'};
enum { CHECKED_FROM = 24, MOST_TEXT = 4096, PART = 24, LEAST_WEIGHT = 36, LEAST_OP = 12, LEAST_RUN = 13 };

static uint64_t fnv1a(const void *bytes, size_t size) { return pgg_hash(PGG_HASH_BEGIN, bytes, size); }

/* ---- writing --------------------------------------------------------------------------------------------- */

typedef struct sink {
  unsigned char *bytes; /* NULL: only counted */
  size_t room, at;
} sink;

static void put(sink *s, const void *bytes, size_t n) {
  if (s->bytes && n && s->at + n <= s->room) memcpy(s->bytes + s->at, bytes, n);
  s->at += n;
}

static void put_number(sink *s, uint64_t value, size_t n) {
  unsigned char bytes[8];
  for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)(value >> 8 * i);
  put(s, bytes, n);
}
static void put_u32(sink *s, int64_t value) { put_number(s, (uint64_t)value, 4); }
static void put_u64(sink *s, uint64_t value) { put_number(s, value, 8); }

static void put_text(sink *s, const char *text) {
  put_u32(s, (int64_t)strlen(text));
  put(s, text, strlen(text));
}

static void put_op(sink *s, const pgg_op *op) {
  const pgg_op_field *fields = pgg_op_fields(op->kind);
  int n = 0, at[4] = {0};
  while (fields[n].name) n++;
  put_text(s, pgg_op_name(op->kind));
  put_text(s, op->name);
  put_u32(s, n);
  for (int i = 0; i < n; i++) {
    const int j = at[fields[i].kind]++;
    uint32_t bits;
    switch (fields[i].kind) {
      case PGG_FIELD_SRC: put_u64(s, (uint64_t)(int64_t)op->src[j]); break;
      case PGG_FIELD_WEIGHT: put_u64(s, (uint64_t)(int64_t)op->weight[j]); break;
      case PGG_FIELD_INT: put_u64(s, (uint64_t)op->i[j]); break;
      case PGG_FIELD_FLOAT:
        memcpy(&bits, &op->f[j], sizeof bits);
        put_u32(s, bits);
        break;
    }
  }
}

/* The runs of ops on other devices than the first, where s is not NULL; how many there are. */
static int put_runs(sink *s, const pgg_plan *plan) {
  int n = 0;
  for (int i = 0; i < plan->n_segment; i++) {
    const pgg_segment *segment = &plan->segments[i];
    const pgg_place *place = &plan->places[segment->place];
    if (place->number == 0) continue;
    n++;
    if (!s) continue;
    put_text(s, place->id);
    put_u32(s, segment->first);
    put_u32(s, segment->end - 1);
  }
  return n;
}

static void put_plan(sink *s, const pgg_plan *plan, const pgg_plan_source *source) {
  put_u32(s, source->n_part);
  for (int i = 0; i < source->n_part; i++) {
    const pgg_plan_part *part = &source->parts[i];
    put_u64(s, part->size);
    put_u64(s, part->header_size);
    put_u64(s, fnv1a(part->header, part->header_size));
  }
  put_u32(s, plan->limits.n_batch);
  put_u32(s, plan->limits.n_ctx);
  put_u32(s, plan->limits.keep_all);
  put_u32(s, source->n_end);
  for (int i = 0; i < source->n_end; i++) put_u32(s, source->ends[i]);
  put_u32(s, plan->n_weight);
  for (int i = 0; i < plan->n_weight; i++) {
    const pgg_weight *w = &plan->weights[i];
    put_text(s, w->name);
    put_u32(s, w->type);
    put_u64(s, (uint64_t)w->rows);
    put_u64(s, (uint64_t)w->cols);
    put_u32(s, source->part_of[i]);
    put_u64(s, source->offsets[i]);
  }
  put_u32(s, plan->n_op);
  for (int i = 0; i < plan->n_op; i++) put_op(s, &plan->ops[i].op);
  put_u32(s, plan->n_output);
  for (int i = 0; i < plan->n_output; i++) put_u32(s, plan->outputs[i]);
  put_u32(s, put_runs(NULL, plan));
  put_runs(s, plan);
}

static bool fits(uint64_t offset, uint64_t bytes, uint64_t size) { return offset <= size && bytes <= size - offset; }

static pgg_status judge_source(const pgg_plan *plan, const pgg_plan_source *source) {
  if (source->n_part < 1 || source->n_end < 0)
    return pgg_fail(PGG_EINVAL, "save: %d files and %d ends, expected at least 1 and 0", source->n_part, source->n_end);
  for (int i = 0; i < source->n_part; i++) {
    const pgg_plan_part *part = &source->parts[i];
    if (!part->header) return pgg_fail(PGG_EINVAL, "save: the header of file %d is NULL", i);
    if (part->header_size > part->size)
      return pgg_fail(PGG_EINVAL, "save: a header of %llu bytes in a file of %llu",
                      (unsigned long long)part->header_size, (unsigned long long)part->size);
  }
  for (int i = 0; i < plan->n_weight; i++) {
    const pgg_weight *w = &plan->weights[i];
    const int in = source->part_of[i];
    if (in < 0 || in >= source->n_part)
      return pgg_fail(PGG_EINVAL, "save: weight %s lies in file %d of %d", w->name, in, source->n_part);
    if (!fits(source->offsets[i], (uint64_t)w->rows * w->row_bytes, source->parts[in].size))
      return pgg_fail(PGG_EINVAL, "save: weight %s at %llu lies outside the file", w->name,
                      (unsigned long long)source->offsets[i]);
  }
  return PGG_OK;
}

pgg_status pgg_plan_save(const pgg_plan *plan, const pgg_plan_source *source, void *bytes, size_t *size) {
  if (!plan || !source || !size || !source->parts || (plan->n_weight && !(source->part_of && source->offsets)) ||
      (source->n_end && !source->ends))
    return pgg_fail(PGG_EINVAL, "save: plan, source, its parts, part_of, offsets or ends, or size is NULL");
  if (!plan->frozen) return pgg_fail(PGG_EINVAL, "save: the plan is not frozen");
  pgg_status status = judge_source(plan, source);
  if (status) return status;
  sink s = {.bytes = bytes, .room = bytes ? *size : 0};
  put(&s, magic, sizeof magic);
  put_u32(&s, VERSION);
  put_u32(&s, 0);
  put_u64(&s, 0); /* the check, known at the end */
  put_plan(&s, plan, source);
  if (bytes && s.at > *size)
    return pgg_fail(PGG_EINVAL, "save: the plan takes %zu bytes, room for %zu given", s.at, *size);
  *size = s.at;
  if (!bytes) return PGG_OK;
  sink check = {.bytes = s.bytes + CHECKED_FROM - 8, .room = 8};
  put_u64(&check, fnv1a(s.bytes + CHECKED_FROM, s.at - CHECKED_FROM));
  return PGG_OK;
}

/* ---- reading --------------------------------------------------------------------------------------------- */

typedef struct source {
  const unsigned char *bytes;
  size_t size, at;
  bool cut; /* it ended too early: everything read since is 0 */
  char text[2][MOST_TEXT + 1];
} source;

static uint64_t get_number(source *s, size_t n) {
  uint64_t value = 0;
  if (s->cut || s->size - s->at < n) {
    s->cut = true;
    return 0;
  }
  for (size_t i = n; i-- > 0;) value = value << 8 | s->bytes[s->at + i];
  s->at += n;
  return value;
}
static uint32_t get_u32(source *s) { return (uint32_t)get_number(s, 4); }
static uint64_t get_u64(source *s) { return get_number(s, 8); }

/* Text of 1 to MOST_TEXT bytes without a zero, in one of two places. */
static const char *get_text(source *s, int place) {
  char *text = s->text[place];
  const uint32_t n = get_u32(s);
  text[0] = 0;
  if (s->cut || n == 0 || n > MOST_TEXT || n > s->size - s->at || memchr(s->bytes + s->at, 0, n)) {
    s->cut = true;
    return text;
  }
  memcpy(text, s->bytes + s->at, n);
  text[n] = 0;
  s->at += n;
  return text;
}

/* A count of things that take so many bytes at least. */
static uint32_t get_count(source *s, size_t least) {
  const uint32_t n = get_u32(s);
  if (s->cut || n > (s->size - s->at) / least) s->cut = true;
  return s->cut ? 0 : n;
}

static int get_index(source *s) {
  const uint64_t value = get_u64(s);
  if (value != UINT64_MAX && value > INT32_MAX) s->cut = true;
  return s->cut || value == UINT64_MAX ? -1 : (int)value;
}

static pgg_status cut(const source *s) {
  return pgg_fail(PGG_EFORMAT, "the plan is cut or broken near byte %zu of %zu; export it again", s->at, s->size);
}

/* Up to the list of files, of which there are *n. */
static pgg_status read_head(source *s, uint32_t *n) {
  if (s->size < CHECKED_FROM || memcmp(s->bytes, magic, sizeof magic) != 0)
    return pgg_fail(PGG_EFORMAT, "no plan: it does not begin with PGGPLAN");
  s->at = sizeof magic;
  const uint32_t version = get_u32(s);
  if (version != VERSION)
    return pgg_fail(PGG_EUNSUPPORTED, "a plan of version %u; this library reads version %d: export it again", version,
                    VERSION);
  if (get_u32(s) != 0) return pgg_fail(PGG_EFORMAT, "the plan is broken: its head holds what no version writes");
  if (get_u64(s) != fnv1a(s->bytes + CHECKED_FROM, s->size - CHECKED_FROM))
    return pgg_fail(PGG_EFORMAT, "the plan is cut or was altered: its check does not fit; export it again");
  *n = get_count(s, PART);
  return s->cut || *n < 1 || *n > INT32_MAX ? cut(s) : PGG_OK;
}

/* Whether the files are those that the plan was saved for. */
static pgg_status judge_parts(source *s, const pgg_file *parts, int n_part) {
  for (int i = 0; i < n_part; i++) {
    const pgg_file *part = &parts[i];
    const uint64_t size = get_u64(s), header = get_u64(s), hash = get_u64(s);
    if (size != part->size)
      return pgg_fail(PGG_EFORMAT, "%s: the plan is for a GGUF file of %llu bytes, this one has %zu; export it again",
                      part->path, (unsigned long long)size, part->size);
    if (header > size || hash != fnv1a(part->bytes, header))
      return pgg_fail(PGG_EFORMAT, "%s: the plan is for another GGUF file: the headers differ; export it again",
                      part->path);
  }
  return PGG_OK;
}

static pgg_status read_weights(source *s, pgg_plan *plan, const pgg_file *parts, uint32_t n_part) {
  const uint32_t n = get_count(s, LEAST_WEIGHT);
  for (uint32_t i = 0; i < n; i++) {
    const char *name = get_text(s, 0);
    const uint32_t type = get_u32(s);
    const uint64_t rows = get_u64(s), cols = get_u64(s);
    const uint32_t in = get_u32(s);
    const uint64_t offset = get_u64(s);
    size_t bytes;
    int index;
    if (s->cut || type >= PGG_TYPE_LIMIT || rows > INT64_MAX || cols > INT64_MAX || in >= n_part) return cut(s);
    const pgg_file *part = &parts[in];
    const size_t row = pgg_row_bytes((int)type, (int64_t)cols);
    if (!row || !pgg_mul_size((int64_t)rows, (int64_t)row, &bytes) || !fits(offset, bytes, part->size))
      return pgg_fail(PGG_EFORMAT, "plan: weight %s lies outside the GGUF file %s", name, part->path);
    if (offset % PGG_PLAN_ALIGN)
      return pgg_fail(PGG_EFORMAT, "plan: weight %s lies at byte %llu, no multiple of %d", name,
                      (unsigned long long)offset, PGG_PLAN_ALIGN);
    const char *data = (const char *)part->bytes + offset;
    pgg_status status = pgg_plan_weight(plan, name, (int)type, data, (int64_t)rows, (int64_t)cols, &index);
    if (status) return status;
  }
  return s->cut ? cut(s) : PGG_OK;
}

static int kind_of(const char *name) {
  int kind = 0;
  while (kind < PGG_OP_COUNT && strcmp(pgg_op_name(kind), name) != 0) kind++;
  return kind;
}

static pgg_status read_op(source *s, pgg_plan *plan) {
  const char *kind = get_text(s, 0), *name = get_text(s, 1);
  const uint32_t n = get_u32(s);
  pgg_op op = {.kind = kind_of(kind), .name = name};
  int at[4] = {0}, node;
  if (s->cut) return cut(s);
  if (op.kind == PGG_OP_COUNT) return pgg_fail(PGG_EUNSUPPORTED, "plan: %s: this library has no op %s", name, kind);
  for (int i = 0; i < PGG_MAX_SRC; i++) op.src[i] = -1;
  for (int i = 0; i < PGG_MAX_WEIGHTS; i++) op.weight[i] = -1;
  const pgg_op_field *field = pgg_op_fields(op.kind);
  for (uint32_t i = 0; i < n && field->name; i++, field++) {
    const int j = at[field->kind]++;
    switch (field->kind) {
      case PGG_FIELD_SRC: op.src[j] = get_index(s); break;
      case PGG_FIELD_WEIGHT: op.weight[j] = get_index(s); break;
      case PGG_FIELD_INT: op.i[j] = (int64_t)get_u64(s); break;
      case PGG_FIELD_FLOAT: {
        const uint32_t bits = get_u32(s);
        memcpy(&op.f[j], &bits, sizeof bits);
        break;
      }
    }
    if (i + 1 == n && field[1].name) s->cut = true; /* fewer fields than the op has */
  }
  const pgg_op_field *fields = pgg_op_fields(op.kind);
  if (s->cut || (int64_t)n != field - fields || field->name) return cut(s);
  return pgg_plan_op(plan, &op, &node);
}

static pgg_status read_runs(source *s, pgg_plan *plan) {
  const uint32_t n = get_count(s, LEAST_RUN);
  for (uint32_t i = 0; i < n; i++) {
    const char *id = get_text(s, 0);
    const uint32_t first = get_u32(s), last = get_u32(s);
    if (s->cut || first > last || last >= (uint32_t)plan->n_op) return cut(s);
    const int device = pgg_device_find(id);
    if (device < 0)
      return pgg_fail(PGG_EUNSUPPORTED,
                      "plan: %s and %u ops behind it are placed on device %s, which is not here: "
                      "export the plan where it shall run",
                      plan->ops[first].op.name, last - first, id);
    pgg_status status = pgg_plan_place(plan, (int)first, (int)last, device);
    if (status) return status;
  }
  return s->cut ? cut(s) : PGG_OK;
}

static pgg_status read_ends(source *s, pgg_plan_ends *ends) {
  const uint32_t n = get_count(s, 4);
  if (s->cut) return cut(s);
  *ends = (pgg_plan_ends){malloc((n + (size_t)1) * sizeof *ends->ids), (int)n};
  if (!ends->ids) return pgg_fail(PGG_ENOMEM, "no memory for %u ids", n);
  for (uint32_t i = 0; i < n; i++) ends->ids[i] = (int32_t)get_u32(s);
  return PGG_OK;
}

static pgg_status read_plan(source *s, const pgg_file *parts, int n_part, pgg_plan *plan, pgg_plan_ends *ends) {
  uint32_t n_file;
  pgg_status status = read_head(s, &n_file);
  if (status) return status;
  if ((int)n_file != n_part)
    return pgg_fail(PGG_EFORMAT, "the plan is for a GGUF file in %u parts, not in %d", n_file, n_part);
  if ((status = judge_parts(s, parts, n_part))) return status;
  const uint32_t n_batch = get_u32(s), n_ctx = get_u32(s), keep_all = get_u32(s);
  if (s->cut || n_batch > INT32_MAX || n_ctx > INT32_MAX || keep_all > 1) return cut(s);
  if ((status = read_ends(s, ends)) || (status = read_weights(s, plan, parts, n_file))) return status;
  const uint32_t n = get_count(s, LEAST_OP);
  for (uint32_t i = 0; i < n; i++)
    if ((status = read_op(s, plan))) return status;
  const uint32_t n_output = get_count(s, 4);
  for (uint32_t i = 0; i < n_output; i++) {
    const uint32_t output = get_u32(s);
    if (s->cut || output > INT32_MAX) return cut(s);
    if ((status = pgg_plan_output(plan, (int)output))) return status;
  }
  if ((status = read_runs(s, plan))) return status;
  if (s->at != s->size) return cut(s);
  const pgg_limits limits = {(int)n_batch, (int)n_ctx, (int)keep_all};
  return pgg_plan_freeze(plan, &limits);
}

static pgg_status begin(const void *bytes, size_t size, source **s) {
  if (!(*s = calloc(1, sizeof **s))) return pgg_fail(PGG_ENOMEM, "no memory to read a plan");
  (*s)->bytes = bytes;
  (*s)->size = size;
  return PGG_OK;
}

pgg_status pgg_plan_part_count(const void *bytes, size_t size, int *n_part) {
  source *s;
  uint32_t n = 0;
  pgg_status status = begin(bytes, size, &s);
  if (status) return status;
  status = read_head(s, &n);
  *n_part = (int)n;
  free(s);
  return status;
}

pgg_status pgg_plan_read(const void *bytes, size_t size, const pgg_file *parts, int n_part, pgg_plan **out,
                         pgg_plan_ends *ends) {
  *out = NULL;
  *ends = (pgg_plan_ends){NULL, 0};
  source *s;
  pgg_status begun = begin(bytes, size, &s);
  if (begun) return begun;
  pgg_plan *plan;
  pgg_status status = pgg_plan_new(&plan);
  if (!status && (status = read_plan(s, parts, n_part, plan, ends))) {
    pgg_plan_free(plan);
    free(ends->ids);
    *ends = (pgg_plan_ends){NULL, 0};
  } else if (!status) {
    *out = plan;
  }
  free(s);
  return status;
}
