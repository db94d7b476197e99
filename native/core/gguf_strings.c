/* The one native leaf of the GGUF reader: walking an array of strings without trusting a length of it. */
#include "base/base.h"

static uint64_t read_u64(const unsigned char *p) {
  uint64_t v = 0;
  for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
  return v;
}

pgg_status pgg_gguf_strings(const void *data, size_t size, size_t at, int64_t count, uint64_t *spans, size_t *end) {
  if ((!data && size) || !end || (!spans && count > 0)) return pgg_fail(PGG_EINVAL, "data, spans or end is NULL");
  if (count < 0) return pgg_fail(PGG_EINVAL, "count of strings is %lld", (long long)count);
  if (at > size) return pgg_fail(PGG_EFORMAT, "offset %zu lies past the end (%zu bytes)", at, size);
  const unsigned char *bytes = data;
  /* Every string takes 8 bytes at least, so a huge count is known to be false before anything is walked. */
  if ((uint64_t)count > (uint64_t)(size - at) / 8)
    return pgg_fail(PGG_EFORMAT, "%lld strings cannot fit into the %zu bytes left at offset %zu", (long long)count,
                    size - at, at);
  for (int64_t i = 0; i < count; i++) {
    if (size - at < 8)
      return pgg_fail(PGG_EFORMAT, "string %lld of %lld begins at offset %zu, past the end (%zu bytes)", (long long)i,
                      (long long)count, at, size);
    uint64_t n = read_u64(bytes + at);
    at += 8;
    if (n > size - at)
      return pgg_fail(PGG_EFORMAT, "string %lld of %lld claims %llu bytes at offset %zu, only %zu are left",
                      (long long)i, (long long)count, (unsigned long long)n, at, size - at);
    spans[2 * i] = at;
    spans[2 * i + 1] = n;
    at += (size_t)n;
  }
  *end = at;
  return PGG_OK;
}
