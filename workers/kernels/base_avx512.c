#include "base_ops.h"
#include "variants.h"

void kernels_fill_base_avx512(struct kernels *k)
{
	base_fill(k);
}
