/* A model without Python: a GGUF file, mapped, whole or in parts, and the plan that was exported for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "core/plan_file.h"

struct pgg_model {
  pgg_file *parts; /* (n_part) of the GGUF file, in their order */
  int n_part;
  pgg_plan *plan;
  pgg_plan_ends ends;
};

/* ---- parts: names are made of the one that was given, so a plan cannot lead to other folders ----------------------
 */

enum { DIGITS = 5, TAIL = 20, MOST_PARTS = 99999 }; /* -00001-of-00003.gguf */

/* Whether path ends as that of one of n parts. */
static bool names_part(const char *path, int n) {
  const size_t size = strlen(path);
  char want[TAIL + 1];
  int number = 0;
  if (size < TAIL) return false;
  const char *tail = path + size - TAIL;
  for (int i = 1; i <= DIGITS; i++) {
    if (tail[i] < '0' || tail[i] > '9') return false;
    number = number * 10 + (tail[i] - '0');
  }
  snprintf(want, sizeof want, "-%05d-of-%05d.gguf", number, n % (MOST_PARTS + 1));
  return number >= 1 && number <= n && !strcmp(tail, want);
}

static pgg_status open_parts(pgg_model *model, const char *path, int n) {
  const size_t size = strlen(path);
  if (n > 1 && (n > MOST_PARTS || !names_part(path, n)))
    return pgg_fail(PGG_EFORMAT,
                    "%s: the plan is for a GGUF file in %d parts; give one that is named NAME-%05d-of-%05d.gguf", path,
                    n, 1, n);
  char *name = malloc(size + 1);
  model->parts = calloc((size_t)n, sizeof *model->parts);
  pgg_status status = name && model->parts ? PGG_OK : pgg_fail(PGG_ENOMEM, "no memory for %d files", n);
  if (name) memcpy(name, path, size + 1);
  for (int i = 0; i < n && !status; i++) {
    char digits[16];
    snprintf(digits, sizeof digits, "%05d", i + 1);
    if (n > 1) memcpy(name + size - TAIL + 1, digits, DIGITS);
    status = pgg_file_open(name, &model->parts[i]);
    if (!status) model->n_part++;
  }
  free(name);
  return status;
}

/* ---- the model ------------------------------------------------------------------------------------------- */

static pgg_status read_model(pgg_model *model, const char *gguf, const pgg_file *plan) {
  int n_part;
  pgg_status status = pgg_plan_part_count(plan->bytes, plan->size, &n_part);
  if (status || (status = open_parts(model, gguf, n_part))) return status;
  return pgg_plan_read(plan->bytes, plan->size, model->parts, n_part, &model->plan, &model->ends);
}

pgg_status pgg_model_open(const char *gguf, const char *plan, pgg_model **out) {
  if (!gguf || !plan || !out) return pgg_fail(PGG_EINVAL, "gguf, plan or model is NULL");
  *out = NULL;
  pgg_file file;
  pgg_model *model = calloc(1, sizeof *model);
  if (!model) return pgg_fail(PGG_ENOMEM, "no memory for a model");
  pgg_status status = pgg_file_open(plan, &file);
  if (!status) {
    status = read_model(model, gguf, &file);
    pgg_file_close(&file);
  }
  if (status)
    pgg_model_close(model);
  else
    *out = model;
  return status;
}

void pgg_model_close(pgg_model *model) {
  if (!model) return;
  pgg_plan_free(model->plan);
  for (int i = 0; i < model->n_part; i++) pgg_file_close(&model->parts[i]);
  free(model->parts);
  free(model->ends.ids);
  free(model);
}

pgg_plan *pgg_model_plan(const pgg_model *model) { return model ? model->plan : NULL; }

int pgg_model_is_end(const pgg_model *model, int32_t id) {
  for (int i = 0; model && i < model->ends.n; i++)
    if (model->ends.ids[i] == id) return 1;
  return 0;
}

pgg_status pgg_model_unchanged(const pgg_model *model) {
  if (!model) return pgg_fail(PGG_EINVAL, "model is NULL");
  pgg_status status = PGG_OK;
  for (int i = 0; i < model->n_part && !status; i++) status = pgg_file_unchanged(&model->parts[i]);
  return status;
}
