#include "weight_type.h"

#include "dequantize.h"
#include "tl.h"

#include <strings.h>

const struct weight_type weight_types[] = {
	/* name     id         elems bytes tail activation  dequantize, dequantize_row */
	{ "f32",    TYPE_F32,    1,    4,  0, ACT_F32,  dequantize_f32, NULL },
	{ "f16",    TYPE_F16,    1,    2,  0, ACT_F16,  dequantize_f16, NULL },
	{ "bf16",   TYPE_BF16,   1,    2,  0, ACT_BF16, dequantize_bf16, NULL },
	{ "q4_0",   TYPE_Q4_0,  32,   18,  0, ACT_Q8_0, dequantize_q4_0, NULL },
	{ "q4_1",   TYPE_Q4_1,  32,   20,  0, ACT_Q8_1, dequantize_q4_1, NULL },
	{ "q5_0",   TYPE_Q5_0,  32,   22,  0, ACT_Q8_0, dequantize_q5_0, NULL },
	{ "q5_1",   TYPE_Q5_1,  32,   24,  0, ACT_Q8_1, dequantize_q5_1, NULL },
	{ "q8_0",   TYPE_Q8_0,  32,   34,  0, ACT_Q8_0, dequantize_q8_0, NULL },
	{ "q2_k",   TYPE_Q2_K, 256,   84,  0, ACT_Q8_K, dequantize_q2_k, NULL },
	{ "q3_k",   TYPE_Q3_K, 256,  110,  0, ACT_Q8_K, dequantize_q3_k, NULL },
	{ "q4_k",   TYPE_Q4_K, 256,  144,  0, ACT_Q8_K, dequantize_q4_k, NULL },
	{ "q5_k",   TYPE_Q5_K, 256,  176,  0, ACT_Q8_K, dequantize_q5_k, NULL },
	{ "q6_k",   TYPE_Q6_K, 256,  210,  0, ACT_Q8_K, dequantize_q6_k, NULL },
	{ "tq1_0",  TYPE_TQ1_0, 256,  54,  0, ACT_Q8_K, dequantize_tq1_0, NULL },
	{ "tq2_0",  TYPE_TQ2_0, 256,  66,  0, ACT_Q8_K, dequantize_tq2_0, NULL },
	{ "i2_s",   TYPE_I2_S, 128,   32, 32, ACT_I8,   dequantize_i2_s, NULL },
	{ "tl1",    TYPE_TL1,    4,    1, 32, ACT_TL,   NULL, tl1_dequantize_row },
	{ "tl2",    TYPE_TL2,   32,    0, 32, ACT_TL,   NULL, tl2_dequantize_row },
	{ 0 },
};

const struct weight_type *weight_type_by_id(uint32_t id)
{
	for (const struct weight_type *t = weight_types; t->name; t++)
		if (t->id == id)
			return t;
	return NULL;
}

const struct weight_type *weight_type_by_name(const char *name)
{
	for (const struct weight_type *t = weight_types; t->name; t++)
		if (strcasecmp(t->name, name) == 0)
			return t;
	return NULL;
}

uint64_t weight_type_bytes(const struct weight_type *t, int64_t ne0, int64_t rows)
{
	uint64_t bytes;

	if (ne0 <= 0 || rows <= 0 || ne0 % t->block_elems != 0)
		return 0;
	if (t->id == TYPE_TL2)
		return tl2_bytes(ne0, rows);
	if (__builtin_mul_overflow((uint64_t)ne0 / t->block_elems * t->block_bytes, (uint64_t)rows,
				   &bytes) ||
	    (uint64_t)ne0 / t->block_elems > UINT64_MAX / 2 / t->block_bytes ||
	    bytes > UINT64_MAX / 2)
		return 0;
	return bytes + t->tail_bytes;
}

size_t act_row_bytes(enum act_format act, int64_t n)
{
	size_t count = (size_t)n;

	switch (act) {
	case ACT_F32: return count * 4;
	case ACT_F16: return count * 2;
	case ACT_BF16: return count * 2;
	case ACT_Q8_0: return count / 32 * 34;
	case ACT_Q8_1: return count / 32 * 36;
	case ACT_Q8_K: return count / 256 * 292;
	case ACT_I8: return sizeof(struct act_i8_head) + count;
	case ACT_TL: return sizeof(struct act_i8_head) + (count + 127) / 128 * 128;
	case ACT_COUNT: break;
	}
	return 0;
}
