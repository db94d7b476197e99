/* Plans and saved states carry a check of what lies behind it: made to fit again, what was altered is reached. */
#ifndef PGG_SEAL_H
#define PGG_SEAL_H
#include "core/hash.h"

enum { CHECK_AT = 16, CHECKED_FROM = 24 };

static inline void seal(unsigned char *bytes, size_t size) {
  const uint64_t hash = pgg_hash(PGG_HASH_BEGIN, bytes + CHECKED_FROM, size - CHECKED_FROM);
  for (int i = 0; i < 8; i++) bytes[CHECK_AT + i] = (unsigned char)(hash >> 8 * i);
}

#endif
