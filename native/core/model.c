/* A model without Python: a GGUF file, mapped, and the plan that was exported for it. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "core/plan_file.h"

struct pgg_model {
  pgg_file gguf;
  char *path; /* of the GGUF file */
  pgg_plan *plan;
  pgg_plan_ends ends;
};

pgg_status pgg_model_open(const char *gguf, const char *plan, pgg_model **out) {
  if (!gguf || !plan || !out) return pgg_fail(PGG_EINVAL, "gguf, plan or model is NULL");
  *out = NULL;
  pgg_file text;
  pgg_model *model = calloc(1, sizeof *model);
  if (!model || !(model->path = malloc(strlen(gguf) + 1))) {
    free(model);
    return pgg_fail(PGG_ENOMEM, "no memory for a model");
  }
  memcpy(model->path, gguf, strlen(gguf) + 1);
  pgg_status status = pgg_file_open(gguf, &model->gguf);
  if (!status && !(status = pgg_file_open(plan, &text))) {
    status = pgg_plan_read(text.bytes, text.size, model->gguf.bytes, model->gguf.size, &model->plan, &model->ends);
    pgg_file_close(&text);
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
  pgg_file_close(&model->gguf);
  free(model->ends.ids);
  free(model->path);
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
  return pgg_file_unchanged(&model->gguf, model->path);
}
