/*
 * Whether rounding ties are all that two results of one product differ by. Two engines may give an
 * activation whose quotient lies at a half to either neighbour; what that changes in every channel
 * is known exactly (its weights times a step). So a row that is beyond the bound of its sums is a
 * tie's doing only when some of *its own* ties, taken over to the other side, leave no more than
 * that bound; nothing else is forgiven. Pure.
 */
#ifndef ASSAY_TIES_H
#define ASSAY_TIES_H

#include <stdint.h>

enum { TIES_MAX = 16 };		/* of a row that are tried */

struct ties {
	const float *plain;		/* [rows, width] the replayer's result */
	const float *turned[TIES_MAX];	/* [n] the same with each row's tie 1, 2, … on the other side */
	int n;
	const float *got;		/* [rows, width] the run's */
	int64_t rows, width;
	double bound;			/* row ulp of tensor_diff.h */
};

/*
 * Writes to out [rows, width] the replayer's result with those ties turned that bring rows beyond
 * the bound nearest to the run's. Returns how many were turned.
 */
int ties_turn(const struct ties *t, float *out);

#endif
