/*
 * Order statistics of repeated measurements and confidence intervals of their ratios.
 * Resampling is seeded: the same samples give the same interval.
 */
#ifndef ASSAY_STATS_H
#define ASSAY_STATS_H

struct stats {
	int n;
	double min, median, max;
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

/* Quantile q (0…1) by linear interpolation between order statistics (Hyndman & Fan 1996, type 7). */
double stats_quantile(const double *x, int n, double q);

/*
 * Ratio of quantile q of two unpaired sets, a over b, with a 95 % interval by the percentile
 * bootstrap (Efron 1979), 4000 resamples.
 */
struct interval stats_quantile_ratio(const double *a, int na, const double *b, int nb, double q);

#endif
