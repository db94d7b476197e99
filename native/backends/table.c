/* The list of backends, from backends.def. */
#include "core/backend.h"

#define BACKEND(name) extern const pgg_backend pgg_backend_##name;
#include "backends.def"

#define BACKEND(name) &pgg_backend_##name,
static const pgg_backend *const backends[] = {
#include "backends.def"
};

const pgg_backend *const *pgg_backends(int *n) {
  *n = (int)(sizeof backends / sizeof *backends);
  return backends;
}
