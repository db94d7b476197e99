/* Where the fields of blocks lie, for kernels that read bytes: said by the structs of quant/blocks_*.h. */
#ifndef PGG_FIELDS_H
#define PGG_FIELDS_H
#include <stddef.h>

#include "quant/blocks_basic.h"
#include "quant/blocks_fp4.h"
#include "quant/blocks_iq.h"
#include "quant/blocks_k.h"

/* From the bytes p of a block of a type: a field of it (block 0) or of one of those behind it. */
#define FIELD(name, p, block, field) ((p) + (int)sizeof(pgg_##name) * (block) + (int)offsetof(pgg_##name, field))

#endif
