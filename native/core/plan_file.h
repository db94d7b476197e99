/* Reading a plan that pgg_plan_save wrote: first how many files it wants, then the plan over them. */
#ifndef PGG_PLAN_FILE_H
#define PGG_PLAN_FILE_H
#include "base/file.h"
#include "core/plan.h"

#define PGG_PLAN_ALIGN 8 /* of weights in a GGUF file, whatever its own alignment says */

typedef struct pgg_plan_ends {
  int32_t *ids; /* (n) that end a text; owned */
  int n;
} pgg_plan_ends;

/* In how many files the GGUF file lies that the plan of bytes was saved for: 1, or the parts of a split one. */
pgg_status pgg_plan_part_count(const void *bytes, size_t size, int *n_part);
/* The plan of bytes, frozen, over those files in their order: its weights are borrowed from there. */
pgg_status pgg_plan_read(const void *bytes, size_t size, const pgg_file *parts, int n_part, pgg_plan **plan,
                         pgg_plan_ends *ends);

#endif
