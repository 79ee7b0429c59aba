/*
 * How far two engines' logits of one position are apart. Pure arithmetic, sums in float64.
 *
 * a = ours, b = the reference's, n values each, float32 widened to float64 before any operation:
 *
 *	cosine		Σab / √(Σa²·Σb²); both all zero: 1; one of them: 0
 *	nmse		Σ(a−b)² / Σb² (llama.cpp's tests/test-backend-ops.cpp calls this nmse);
 *			Σb² = 0: 0 when equal, else +Inf
 *	max_abs		max |a−b|, first index in max_abs_at
 *	l2		√Σ(a−b)²
 *	kl		KL(softmax b ‖ softmax a) = Σ p_b·(ln p_b − ln p_a) in nats, by
 *			log-sum-exp with the maximum taken out (Kullback & Leibler 1951; the term
 *			llama.cpp's perplexity tool reports as KLD); rounding below 0 is shown as 0
 *	top-1, top-k	ids of the k greatest values, equal values: the lower id first;
 *			agreement = |top-k(a) ∩ top-k(b)| / k, k cut to n
 *	margin_ref	first minus second greatest of b
 *	flip_margin	b[top1(b)] − b[top1(a)]: what the reference would have to be wrong by
 *	kendall		tau-b (Kendall 1945) of a against b over the reference's top ten ids:
 *			(C − D) / √((n0−n1)(n0−n2)), n1, n2 = tied pairs; all tied in both: 1, in
 *			one: 0
 *	bits_equal	every float32 has the same bits (−0 and +0 differ)
 *	max_ulp		greatest distance in representable float32 values (−0 and +0: 0)
 *
 * NaN and Inf: n_nonfinite counts them on either side; where it is not 0 the sums are NaN, and the
 * verdict is a divergence whatever the bits. Denormals are ordinary numbers and never flushed.
 * The order of the sums is fixed by the source (8 lanes over blocks), so every machine and every
 * instruction set gives the same bits.
 */
#ifndef ASSAY_METRICS_H
#define ASSAY_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { METRICS_TOP_MAX = 10, METRICS_TOP_K = 5 };

struct metrics {
	double cosine, nmse, max_abs, l2, kl;
	double margin_ref, flip_margin, kendall;
	double top5_agree;		/* 0…1 */
	double top10_agree;		/* 0…1 */
	int32_t top1_ours, top1_ref;	/* −1 when no value is finite */
	int32_t max_abs_at;
	uint32_t max_ulp;
	int64_t n_nonfinite_ours, n_nonfinite_ref;
	bool bits_equal, top1_agree;
};

/* a, b: [n], n ≥ 1. Allocates nothing. */
void metrics_compare(struct metrics *m, const float *a, const float *b, int n);

/* Ids of the k greatest, in order; fewer when n < k or values are NaN. Returns how many. */
int metrics_top(int32_t *ids, int k, const float *x, int n);

/* Σ ln softmax: the log probability (nats) that x [n] gives to id. */
double metrics_log_prob(const float *x, int n, int32_t id);

#endif
