/*
 * How far two tensors of one stage are apart. Pure arithmetic, sums in float64.
 *
 * a = ours, b = the reference's, [n] values in `rows` rows of the same length:
 *
 *	rel_rms		√(Σ(a−b)² / Σb²); Σb² = 0: 0 when equal, else +Inf
 *	nmse		rel_rms², as verdict/metrics.h has it
 *	cosine		Σab / √(Σa²·Σb²); both all zero: 1, one of them: 0
 *	max_ulp		greatest distance in representable float32 values (−0 and +0: 0)
 *	row_ulp		greatest |a−b| in units of 2⁻²³ · max|b| of its row: what one rounding of the
 *			row's greatest value is worth. Unlike max_ulp it does not explode where a
 *			sum cancels to almost nothing
 *	worst		index of the greatest |a−b|, the first of equals
 *
 * A value that is not finite on one side only makes row_ulp, rel_rms and nmse infinite; the same
 * bits on both sides are no difference.
 */
#ifndef ASSAY_TENSOR_DIFF_H
#define ASSAY_TENSOR_DIFF_H

#include <stdint.h>

struct tensor_diff {
	int64_t n, n_different;		/* values; those with other bits */
	int64_t n_nonfinite;		/* on either side */
	double rel_rms, nmse, cosine, row_ulp, max_abs;
	uint32_t max_ulp;
	int64_t worst;			/* −1: the same bits everywhere */
	float worst_a, worst_b;
};

/* rows divides n. */
void tensor_diff(struct tensor_diff *d, const float *a, const float *b, int64_t n, int64_t rows);

/* Distance in representable float32 values; NaN on one side: UINT32_MAX. */
uint32_t tensor_ulp(float a, float b);

#endif
