/* Reading a plan that pgg_plan_save wrote. */
#ifndef PGG_PLAN_FILE_H
#define PGG_PLAN_FILE_H
#include "core/plan.h"

#define PGG_PLAN_ALIGN 8 /* of weights in a GGUF file, whatever its own alignment says */

typedef struct pgg_plan_ends {
  int32_t *ids; /* (n) that end a text; owned */
  int n;
} pgg_plan_ends;

/* The plan of bytes, frozen, over the GGUF file in memory: its weights are borrowed from there. */
pgg_status pgg_plan_read(const void *bytes, size_t size, const void *gguf, size_t gguf_size, pgg_plan **plan,
                         pgg_plan_ends *ends);

#endif
