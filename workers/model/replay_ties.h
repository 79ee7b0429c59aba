/*
 * Rounding ties of quantised activations. Engines that round the same float32 input to the same
 * int8 codes reach the quotient by other roundings (a scale by one or two divisions, a product
 * fused into what rounds it or not), together less than TIE_ULP units of the last place from the
 * exact quotient. So two engines can have different codes only where the exact quotient is that
 * near to a half; there both neighbours are right.
 */
#ifndef ASSAY_REPLAY_TIES_H
#define ASSAY_REPLAY_TIES_H

#include "weight_type.h"

#include <stdint.h>

enum { TIE_ULP = 2 };

/*
 * in: [n_rows, n] what was quantised into act, rows of act_row_bytes(format, n). In every row the
 * code of the nth tie (from 1) becomes its other neighbour, and the sums beside the codes are made
 * right again. Returns the number of rows that have so many; 0 for formats without codes.
 */
int64_t ties_flip(enum act_format format, const float *in, int64_t n, int64_t n_rows, uint8_t *act,
		  int64_t nth);

#endif
