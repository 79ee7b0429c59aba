/*
 * TL1 and TL2, bitnet.cpp's table-lookup layouts of ternary matrices: how its converter packs them
 * (utils/convert-hf-to-gguf-bitnet.py) and its generated kernels read them (utils/codegen_tl1.py,
 * codegen_tl2.py). Facts of the layout are in docs/formats.md.
 *
 * A matrix has one float32 scale in its tail, so it is its ternary codes and that scale. Products do
 * not look up tables: the references' tables hold exact small integers, and the sum of codes times
 * rounded activations is the same integer in any order. Codes are unpacked once into rows of I2_S
 * and take its kernels.
 */
#ifndef ASSAY_TL_H
#define ASSAY_TL_H

#include "kernels.h"

static inline bool tl_type(uint32_t id)
{
	return id == TYPE_TL1 || id == TYPE_TL2;
}

/* Bytes of a TL2 tensor as ggml_nbytes of bitnet.cpp counts them, tail included; 0: not possible. */
uint64_t tl2_bytes(int64_t n_in, int64_t rows);

/* Whether the shape has a configuration; only then may the functions below be called with it.
 * Otherwise -EXIT_MODEL_LOAD with a sentence about tensor `name`. */
int tl_check(const struct weight_type *t, const char *name, int64_t n_in, int64_t rows,
	     struct err *e);

/* codes [n_in] of one row, −1, 0, +1. data: the tensor. Codes that no packer writes count as 0. */
void tl_row(const struct weight_type *t, const uint8_t *data, int64_t n_in, int64_t rows,
	    int64_t row, int8_t *codes);
/* Puts one row into the tensor, whose bytes were zero before the first. */
void tl_put_row(const struct weight_type *t, uint8_t *data, int64_t n_in, int64_t rows, int64_t row,
		const int8_t *codes);
/* code · scale of one row, as struct weight_type's dequantize_row. */
void tl1_dequantize_row(const uint8_t *data, int64_t n_in, int64_t rows, int64_t row, float *dst);
void tl2_dequantize_row(const uint8_t *data, int64_t n_in, int64_t rows, int64_t row, float *dst);

/* The codes as I2_S has them, rows filled to a multiple of 128 with zeros; caller frees. NULL when
 * out of memory. */
uint8_t *tl_unpack(const struct weight_type *t, const uint8_t *data, int64_t n_in, int64_t rows);

/*
 * ACT_TL: s = 127 / max|x|, codes RNE(x · s), as both references' per_tensor_quant and table builders.
 * Codes are followed by zeros up to a multiple of 128. A row of zeros has codes 0 (the reference's s is
 * infinite there and its products are zeros too, of either sign).
 */
void tl_quantize(const struct kernels *k, const float *x, void *dst, int64_t n);

/* float(Σ code · q) / s · scale, each operation rounded once; w->packed as from tl_unpack. */
matmul_variant tl_matmul;

#endif
