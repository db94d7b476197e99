/* Ops in the middle of a plan on the second device, which the copy got from its new backend: the bits of the plan that
 * is on the first one alone. */
#include "base/base.h"
#include "tiny_plan.h"

enum { V = 67, N = 20 };

static void ask(const tiny *t, int placed, float *out) {
  const pgg_limits limits = {16, 64, 0};
  pgg_plan *plan = tiny_plan_open(t);
  pgg_session *session;
  int32_t ids[N];
  const int n = pgg_plan_times(plan, NULL, 0);
  tiny_ids(ids, N, V, 1);
  if (placed) CHECK_OK(pgg_plan_place(plan, n / 4, n / 2, 1));
  CHECK_OK(pgg_plan_freeze(plan, &limits));
  CHECK_OK(pgg_session_new(plan, 64, PGG_F16, &session));
  CHECK_OK(pgg_session_step(session, ids, NULL, N, 1, out, 2));
  pgg_session_free(session);
  pgg_plan_free(plan);
}

int main(void) {
  float rows[2][V];
  pgg_device_info about;
  tiny t = tiny_make(PGG_Q8_0, 256, 8, 4, 32, 512, V);
  CHECK(pgg_device_count() == 2, "%d devices", pgg_device_count());
  CHECK_OK(pgg_device_about(1, &about));
  CHECK(!strcmp(about.name, "twin 0"), "the second device is %s", about.name);
  for (int placed = 0; placed < 2; placed++) ask(&t, placed, rows[placed]);
  CHECK(!memcmp(rows[0], rows[1], sizeof rows[0]), "other bits");
  tiny_free(&t);
  return check_done("placed");
}
