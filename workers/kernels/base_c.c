#include "base_ops.h"
#include "variants.h"

void kernels_fill_base_c(struct kernels *k)
{
	base_fill(k);
}
