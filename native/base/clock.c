/* The monotonic clock of each system. */
#if !defined(_WIN32)
#define _POSIX_C_SOURCE 200809L
#endif
#include "base/clock.h"

#if defined(_WIN32)
#include <windows.h>

int64_t pgg_now_ns(void) {
  LARGE_INTEGER t, f;
  QueryPerformanceCounter(&t);
  QueryPerformanceFrequency(&f);
  return (int64_t)((double)t.QuadPart * 1e9 / (double)f.QuadPart);
}

#else
#include <time.h>

int64_t pgg_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
