/* What a step or an encoding is fed, judged: ids and rows against the ops that take them in. */
#include "core/session.h"

pgg_status pgg_feed_given(const pgg_feed *feed, const int32_t *ids, const float *rows, const char *who) {
  if ((ids && feed->n_embed) || (rows && feed->n_input) || (!feed->n_embed && !feed->n_input)) return PGG_OK;
  return pgg_fail(PGG_EINVAL, "%s: this plan is fed by %s, which are missing", who,
                  !feed->n_embed   ? "rows"
                  : !feed->n_input ? "ids"
                                   : "ids or rows");
}

pgg_status pgg_feed_ids(const pgg_feed *feed, const int32_t *ids, int64_t n, const char *who) {
  const int least = feed->n_input ? -1 : 0;
  const int64_t end = pgg_min_i64(feed->n_vocab * pgg_max_i64(feed->n_kind, 1), INT32_MAX);
  for (int64_t t = 0; feed->n_embed && ids && t < n; t++)
    if (ids[t] < least || ids[t] >= end)
      return pgg_fail(PGG_EINVAL, "%s: id at position %lld is %d, expected %d to %lld", who, (long long)t, ids[t],
                      least, (long long)end - 1);
  return PGG_OK;
}
