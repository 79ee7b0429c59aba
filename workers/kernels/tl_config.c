#include "tl_config.h"

#include "weight_type.h"

#include <stddef.h>

#define LARGE "bitnet_b1_58-large"
#define B3 "bitnet_b1_58-3B"
#define LLAMA3 "Llama3-8B-1.58-100B-tokens"

/* TL2's kernels and packer step 32 rows; the 64 given for 4096 × 1536 is read by neither. */
const struct tl_config tl_configs[] = {
	/* type, rows, columns, BM, BK, bmm, preset */
	{ TYPE_TL1, 1536, 4096, 256, 128, 32, LARGE },
	{ TYPE_TL1, 1536, 1536, 128, 64, 64, LARGE },
	{ TYPE_TL1, 4096, 1536, 256, 128, 32, LARGE },
	{ TYPE_TL1, 3200, 8640, 160, 64, 32, B3 },
	{ TYPE_TL1, 3200, 3200, 320, 128, 64, B3 },
	{ TYPE_TL1, 8640, 3200, 320, 64, 32, B3 },
	{ TYPE_TL1, 14336, 4096, 256, 128, 64, LLAMA3 },
	{ TYPE_TL1, 4096, 14336, 256, 128, 32, LLAMA3 },
	{ TYPE_TL1, 1024, 4096, 128, 64, 64, LLAMA3 },
	{ TYPE_TL1, 4096, 4096, 128, 64, 32, LLAMA3 },
	{ TYPE_TL2, 1536, 4096, 256, 96, 32, LARGE },
	{ TYPE_TL2, 1536, 1536, 128, 192, 32, LARGE },
	{ TYPE_TL2, 4096, 1536, 256, 96, 32, LARGE },
	{ TYPE_TL2, 3200, 8640, 160, 96, 32, B3 },
	{ TYPE_TL2, 3200, 3200, 320, 96, 32, B3 },
	{ TYPE_TL2, 8640, 3200, 320, 96, 32, B3 },
	{ TYPE_TL2, 14336, 4096, 256, 96, 32, LLAMA3 },
	{ TYPE_TL2, 4096, 14336, 128, 96, 32, LLAMA3 },
	{ TYPE_TL2, 1024, 4096, 256, 96, 32, LLAMA3 },
	{ TYPE_TL2, 4096, 4096, 128, 96, 32, LLAMA3 },
	{ 0 },
};

const struct tl_config *tl_config_find(uint32_t type, int64_t n_in, int64_t rows)
{
	for (const struct tl_config *c = tl_configs; c->preset; c++)
		if (c->type == type && c->n_in == n_in && c->rows == rows)
			return c;
	return NULL;
}
