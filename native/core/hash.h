/* FNV-1a of 64 bits: tells bytes that were cut or altered, not who altered them. */
#ifndef PGG_HASH_H
#define PGG_HASH_H
#include <stddef.h>
#include <stdint.h>

#define PGG_HASH_BEGIN 0xcbf29ce484222325u

static inline uint64_t pgg_hash(uint64_t hash, const void *bytes, size_t size) {
  const unsigned char *p = bytes;
  for (size_t i = 0; i < size; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
  return hash;
}

#endif
