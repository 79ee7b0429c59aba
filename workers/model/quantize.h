/*
 * Float rows to weight blocks, for every type of the registry: simple quantisers for generated
 * models. Only exactly rounded operations are used, so the blocks are the same on every machine.
 *
 * scale: the tensor's one scale of I2_S (each x is −scale, 0 or +scale, rounded to the nearest
 * of the three); other types find their own and do not read it.
 */
#ifndef ASSAY_QUANTIZE_H
#define ASSAY_QUANTIZE_H

#include "weight_type.h"

/* x: [n], n a multiple of the type's block. dst: n / block_elems · block_bytes. */
void quantize_row(const struct weight_type *t, const float *x, float scale, uint8_t *dst,
		  int64_t n);

/* The bytes that follow the blocks of a tensor: tail_bytes of them. */
void quantize_tail(const struct weight_type *t, float scale, uint8_t *dst);

#endif
