#include "attend_tiles.h"
#include "float_tiles.h"

void kernels_fill_float_avx2(struct kernels *k)
{
	k->by_type[TYPE_F16] = k->by_type[TYPE_BF16] = k->by_type[TYPE_F32] = float_matmul;
	k->attend = float_attend;
	k->attend_parts = &float_attend_parts;
}
