/*
 * Weight blocks to float32, for every type of the registry: the function that defines what a
 * stored weight is. The roundings are those of ggml's dequantisation (its GET_ROWS), which is
 * compiled without fused multiply-add: each product and each difference rounds once.
 *
 * Each takes n elements starting at a block border, n a multiple of the block, and writes n
 * floats; tail is read only by I2_S, where it holds the tensor's float32 scale.
 */
#ifndef ASSAY_DEQUANTIZE_H
#define ASSAY_DEQUANTIZE_H

#include <stdint.h>

typedef void dequantize_fn(const uint8_t *blocks, const uint8_t *tail, float *dst, int64_t n);

dequantize_fn dequantize_f32, dequantize_f16, dequantize_bf16;
dequantize_fn dequantize_q4_0, dequantize_q4_1, dequantize_q5_0, dequantize_q5_1, dequantize_q8_0;
dequantize_fn dequantize_q2_k, dequantize_q3_k, dequantize_q4_k, dequantize_q5_k, dequantize_q6_k;
dequantize_fn dequantize_tq1_0, dequantize_tq2_0, dequantize_i2_s;

/* The eight 6-bit scales and minima of a Q4_K or Q5_K block from its 12 packed bytes. */
void unpack_scales_k4(const uint8_t *packed /* [12] */, uint8_t *scales, uint8_t *minima /* [8] */);

/* The sixteen scales of a Q3_K block, −32…31, from its 12 packed bytes. */
void unpack_scales_q3_k(const uint8_t *packed /* [12] */, int8_t *scales /* [16] */);

#endif
