/*
 * The registry of weight types: one row per type. Sizes and layouts as in ggml's
 * (ggml-common.h) and bitnet.cpp's (ggml-bitnet) formats; see docs/formats.md.
 */
#ifndef ASSAY_WEIGHT_TYPE_H
#define ASSAY_WEIGHT_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ggml_type_id {
	TYPE_F32 = 0, TYPE_F16 = 1, TYPE_Q4_0 = 2, TYPE_Q4_1 = 3, TYPE_Q5_0 = 6, TYPE_Q5_1 = 7,
	TYPE_Q8_0 = 8, TYPE_Q8_1 = 9, TYPE_Q2_K = 10, TYPE_Q3_K = 11, TYPE_Q4_K = 12,
	TYPE_Q5_K = 13, TYPE_Q6_K = 14, TYPE_Q8_K = 15, TYPE_BF16 = 30, TYPE_TQ1_0 = 34,
	TYPE_TQ2_0 = 35, TYPE_I2_S = 36, TYPE_TL1 = 38, TYPE_TL2 = 39,
};

/* How an activation row is stored for the dot product with a weight row. */
enum act_format {
	ACT_F32,	/* as is */
	ACT_F16,	/* RNE halves */
	ACT_BF16,
	ACT_Q8_0,	/* blocks of 32: f16 scale, 32 int8 */
	ACT_Q8_1,	/* blocks of 32: f16 scale, f16 sum, 32 int8 */
	ACT_Q8_K,	/* blocks of 256: f32 scale, 256 int8, 16 int16 sums */
	ACT_I8,		/* a whole row: struct act_i8_head, then int8 [n] */
	ACT_TL,		/* the same, filled with zeros to a multiple of 128; rounded as tl.h says */
	ACT_COUNT,
};

struct act_i8_head {
	float scale;
	int32_t sum;
	uint8_t pad[56];
}; /* 64 bytes, then the codes */

struct weight_type {
	const char *name;	/* "i2_s", as ggml prints it in lower case */
	uint32_t id;		/* enum ggml_type_id */
	uint32_t block_elems;	/* a row's length must be a multiple */
	uint32_t block_bytes;	/* bytes of one block; I2_S: 32 per 128; TL2: 0, see tl2_bytes */
	uint32_t tail_bytes; /* after all blocks of a tensor: I2_S 32 (f32 scale, 28 unspecified) */
	enum act_format act;
	/* n elements starting at a block border; tail: the tensor's tail bytes or NULL. */
	void (*dequantize)(const uint8_t *blocks, const uint8_t *tail, float *dst, int64_t n);
	/* Types laid out by tiles have this instead: one row of a whole tensor (tail included) of
	 * ne0 columns, whose shape was checked with tl_check. row_bytes mean nothing for them. */
	void (*dequantize_row)(const uint8_t *tensor, int64_t ne0, int64_t rows, int64_t row,
			       float *dst);
};

const struct weight_type *weight_type_by_id(uint32_t id);		/* NULL when unknown */
const struct weight_type *weight_type_by_name(const char *name);	/* any case; NULL */
extern const struct weight_type weight_types[];	/* ends with name NULL */

/* Bytes of a tensor of ne0·rows elements, tail included; 0 when ne0 does not fit the block. */
uint64_t weight_type_bytes(const struct weight_type *t, int64_t ne0, int64_t rows);
/* Bytes of an activation row of n elements. */
size_t act_row_bytes(enum act_format act, int64_t n);

#endif
