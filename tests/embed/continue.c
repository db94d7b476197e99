/* Continues a prompt without Python: a GGUF file, the plan that Model.export_plan wrote for it, and token ids.
 *
 *   program model.gguf model.plan 16 1 403 407   prints up to 16 ids that follow, the likeliest each time */
#include <pgg.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char *what) {
  fprintf(stderr, "%s: %s\n", what, pgg_last_error());
  return 1;
}

int main(int argc, char **argv) {
  pgg_model *model = NULL;
  pgg_session *session = NULL;
  pgg_sampler *sampler = NULL;
  const pgg_sampling greedy = {.temperature = 0, .top_p = 1, .repeat_penalty = 1};
  int32_t feed[256], id = -1;
  int64_t n = argc - 4;
  int rc = 1;
  if (argc < 5 || n > 256) return fprintf(stderr, "usage: program model.gguf model.plan most id [id ...]\n"), 2;
  for (int64_t i = 0; i < n; i++) feed[i] = (int32_t)strtol(argv[4 + i], NULL, 10);
  if (pgg_model_open(argv[1], argv[2], &model)) {
    failed("open");
    goto done;
  }
  pgg_plan *plan = pgg_model_plan(model);
  if (pgg_session_new(plan, 512, PGG_F16, &session) || pgg_sampler_new(&greedy, pgg_plan_output_cols(plan), &sampler) ||
      pgg_sampler_accept(sampler, feed, n)) {
    failed("session");
    goto done;
  }
  for (long most = strtol(argv[3], NULL, 10); most > 0; most--) {
    if (pgg_model_unchanged(model) || pgg_session_next(session, sampler, feed, n, 0, &id) ||
        pgg_session_kind(session, PGG_DECODE_ROWS)) { /* from now on what was chosen */
      failed("step");
      goto done;
    }
    if (pgg_model_is_end(model, id)) break;
    printf("%d ", (int)id);
    feed[0] = id;
    n = 1;
  }
  printf("\n");
  rc = 0;
done:
  pgg_sampler_free(sampler);
  pgg_session_free(session);
  pgg_model_close(model);
  return rc;
}
