/*
 * Two engines on a text, as llama.cpp's perplexity tool reports them (--kl-divergence): what each
 * gives to the id that really comes next, and how far their distributions are apart. Per
 * position, nats, float64:
 *
 *	nll		−ln softmax(logits)[next id]
 *	kl		KL(reference ‖ ours) of metrics.h
 *	dp		p_ours(next) − p_reference(next)
 *
 * perplexity = exp(mean nll); its ± is perplexity · s(nll)/√n. ± of means is s/√n, of the
 * fraction f of equal top-1 √(f(1−f)/(n−1)). ln ratio = mean(nll_ours − nll_ref) with the ± of
 * those differences; ratio = its exp. ± of the difference of both perplexities has the covariance
 * of their nll in it, ± of Δp RMS is s(dp²)/√n / (2 · RMS). Percentiles interpolate linearly
 * between the sorted values. s: √(Σ(x−x̄)²/(n−1)).
 */
#ifndef ASSAY_KL_H
#define ASSAY_KL_H

#include "metrics.h"

#include <stdbool.h>
#include <stdint.h>

struct kl_sums {
	double *kl, *dp;		/* [n] as they came; sorted by kl_summarise */
	int64_t n, cap, n_top1, n_nonfinite;
	/* running mean and sum of squared deviations (Welford 1962) */
	struct kl_moment { double mean, m2; } ours, ref, diff, kl_m, dp_m, dp_squares;
};

struct kl_spread {
	double mean, mean_error, min, p001, p01, p05, p10, p25, median;
	double p75, p90, p95, p99, p999, max;
};

struct kl_summary {
	int64_t n, n_nonfinite;
	double ppl_ours, ppl_ours_error, ppl_ref, ppl_ref_error;
	double ln_ratio, ln_ratio_error, ratio, ratio_error;	/* ours : reference */
	double difference, difference_error;			/* ours − reference */
	double correlation;	/* of both nll; 0 where one does not vary */
	double same_top1, same_top1_error;	/* 0…1 */
	struct kl_spread kl, dp;
	double dp_rms, dp_rms_error;
};

/* m: metrics of the same two rows [n_vocab]. A position with NaN or Inf is counted, not added. */
void kl_add(struct kl_sums *s, const struct metrics *m, const float *ours, const float *ref,
	    int n_vocab, int32_t next);
void kl_summarise(struct kl_sums *s, struct kl_summary *out);
void kl_free(struct kl_sums *s);	/* accepts zeroed */

#endif
