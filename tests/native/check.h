/* The few words of a native test: CHECK counts and prints what was wrong, check_done gives the exit status. */
#ifndef PGG_CHECK_H
#define PGG_CHECK_H
#include <stdio.h>
#include <string.h>

#include "pgg.h"

static int check_failures;

#define CHECK(cond, ...)                                \
  do {                                                  \
    if (!(cond)) {                                      \
      check_failures++;                                 \
      printf("%s:%d: %s: ", __FILE__, __LINE__, #cond); \
      printf(__VA_ARGS__);                              \
      printf("\n");                                     \
    }                                                   \
  } while (0)

#define CHECK_OK(call)                                                              \
  do {                                                                              \
    pgg_status status_ = (call);                                                    \
    CHECK(status_ == PGG_OK, "%s: %s", pgg_status_text(status_), pgg_last_error()); \
  } while (0)

/* The call fails with that status, and its message holds the text. */
#define CHECK_FAILS(want, text, call)                                                 \
  do {                                                                                \
    pgg_status status_ = (call);                                                      \
    CHECK(status_ == (want), "got %s", pgg_status_text(status_));                     \
    CHECK(strstr(pgg_last_error(), (text)) != NULL, "message: %s", pgg_last_error()); \
  } while (0)

static inline int check_done(const char *name) {
  if (check_failures)
    printf("%s: %d checks failed\n", name, check_failures);
  else
    printf("%s: ok\n", name);
  return check_failures != 0;
}

/* A small generator of its own, so that numbers are the same everywhere. */
static inline float check_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (float)(int32_t)(*state >> 32) * 0x1p-31f;
}

#endif
