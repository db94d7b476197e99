/* Status texts, this thread's message, and the size arithmetic every floor shares. The message buffer is
 * thread-local, so a failing thread never overwrites what another one is about to read. */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/base.h"

#define MESSAGE_CAP 1001 /* 1,000 characters and the end */

#if defined(_MSC_VER)
static __declspec(thread) char t_message[MESSAGE_CAP];
#else
static _Thread_local char t_message[MESSAGE_CAP];
#endif

const char *pgg_version(void) { return PGG_VERSION; }

int pgg_abi(void) { return PGG_ABI; }

const char *pgg_last_error(void) { return t_message; }

const char *pgg_status_text(pgg_status status) {
  switch (status) {
    case PGG_OK: return "ok";
    case PGG_EINVAL: return "bad argument";
    case PGG_ETYPE: return "tensor type not usable here";
    case PGG_ESHAPE: return "shapes do not fit";
    case PGG_ENOMEM: return "out of memory";
    case PGG_EFORMAT: return "malformed data";
    case PGG_EUNSUPPORTED: return "not available in this build or on this CPU";
    case PGG_EBACKEND: return "backend failed";
    case PGG_ECANCELLED: return "cancelled";
    case PGG_ENUMERIC: return "not a finite number";
  }
  return "unknown status";
}

pgg_status pgg_fail(pgg_status status, const char *format, ...) {
  /* Formatted aside first: an argument may be the old message itself. */
  char text[MESSAGE_CAP];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (n < 0) text[0] = 0;
  for (int i = 0; i < MESSAGE_CAP; i++) {
    t_message[i] = text[i];
    if (!text[i]) break;
  }
  return status;
}

bool pgg_mul_size(int64_t a, int64_t b, size_t *out) {
  if (a < 0 || b < 0) return false;
  if (b != 0 && (uint64_t)a > (uint64_t)SIZE_MAX / (uint64_t)b) return false;
  *out = (size_t)a * (size_t)b;
  return true;
}
