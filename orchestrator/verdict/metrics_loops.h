/*
 * The two passes over all values, written once and compiled per instruction set: LANES partial
 * sums in fixed order, so that every instruction set gives the same bits.
 */
#ifndef ASSAY_METRICS_LOOPS_H
#define ASSAY_METRICS_LOOPS_H

#include <stdint.h>

enum { METRICS_BLOCK = 512, METRICS_LANES = 8 };

struct metrics_sums {
	double aa, bb, ab, dd;		/* Σa² Σb² Σab Σ(a−b)² */
	float max_a, max_b;		/* of this block */
	double max_d;			/* max |a−b| of this block */
	uint32_t max_ulp;
	uint32_t bits;			/* or of all differing bits */
	uint32_t nonfinite;		/* count over both sides */
};

struct metrics_exps {
	double a, b;			/* Σexp(a − max a), Σexp(b − max b) */
	double bd;			/* Σexp(b − max b)·(b − a) */
};

/* n ≤ METRICS_BLOCK; sums are added to s, maxima are of this block alone. */
typedef void metrics_block_fn(struct metrics_sums *s, const float *a, const float *b, int n);
typedef void metrics_exp_fn(struct metrics_exps *x, const float *a, const float *b, int n,
			    double max_a, double max_b);

/* Maximum and non-finite count alone: max_b of this block; nonfinite is added to. */
typedef void metrics_max_fn(struct metrics_sums *s, const float *b, int n);

metrics_max_fn metrics_max_base, metrics_max_avx2, metrics_max_avx512;
metrics_block_fn metrics_block_base, metrics_block_avx2, metrics_block_avx512;
metrics_exp_fn metrics_exp_base, metrics_exp_avx2, metrics_exp_avx512;

#endif
