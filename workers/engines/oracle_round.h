/*
 * What the formats that store an operand do to it, apart from everything else: the values after
 * rounding, in float64. An engine that computes with 8-bit activations is right when it computes
 * with these; the error that the rounding itself makes is nobody's fault.
 */
#ifndef ASSAY_ORACLE_ROUND_H
#define ASSAY_ORACLE_ROUND_H

#include "weight_type.h"

/* x: [rows, n], in place. Block formats as ggml-quants.c and bitnet.cpp's quantisers have them. */
void oracle_round(enum act_format f, double *x, int64_t rows, int64_t n);

#endif
