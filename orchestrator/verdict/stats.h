/*
 * Order statistics of repeated measurements and confidence intervals of their ratios.
 * Resampling is seeded: the same samples give the same interval.
 */
#ifndef ASSAY_STATS_H
#define ASSAY_STATS_H

struct stats {
	int n;
	double min, median, max, mean;
	double mad;	/* median of |x − median|; 0 for one sample */
};

/* n ≥ 1; the samples keep their order. */
struct stats stats_of(const double *x, int n);

struct interval { double low, mid, high; };

/*
 * Ratio a/b of paired samples (a[i] and b[i] were taken side by side): median of the ratios with a
 * two-sided 95 % interval by the sign test's order statistics (Thompson 1936; exact for n < 60:
 * the widest interval of order statistics whose coverage is still at least 95 %, the range when n
 * is too small for that).
 */
struct interval stats_paired_ratio(const double *a, const double *b, int n);

/*
 * Samples of one thing measured in several sessions (processes, nights): the first sizes[0] of x are
 * of the first session, and so on. scale: each session's samples count times this; NULL = 1.
 */
enum { STATS_SESSIONS_MAX = 256 };
struct stats_sessions {
	const double *x;
	const int *sizes;	/* [n], each ≥ 1 */
	const double *scale;	/* [n] or NULL */
	int n;
};

/* The median over sessions of each one's quantile q (0…1), linear between order statistics. */
double stats_sessions_quantile(const struct stats_sessions *s, double q);

/*
 * Ratio of two such, a over b, with a 95 % interval. Its half-width, on the logarithm, is the root of
 * the sum of the squares of two: what the samples leave open within their sessions (percentile
 * bootstrap, Efron 1979, 2000 resamples, seeded) and what differs from one session to the next: a new
 * process has another place in memory and other neighbours, and stays there. That is taken from three
 * and more sessions of a side (1.4826 MAD of the logarithms, at least 0.5 %, Student's t), of fewer from
 * the other side's, and is taken to be 1 % where neither can tell.
 */
struct interval stats_sessions_ratio(const struct stats_sessions *a,
				     const struct stats_sessions *b, double q);

/* Two-sided 95 % quantile of Student's t; degrees ≥ 1. */
double stats_student(int degrees);

#endif
