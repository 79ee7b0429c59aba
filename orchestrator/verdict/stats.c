#include "stats.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 4000, SAMPLES_MAX = 100000 };

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double *sorted(const double *x, int n)
{
	double *s;

	assert(n >= 1 && n <= SAMPLES_MAX);
	s = malloc((size_t)n * sizeof(*s));
	assert(s);
	memcpy(s, x, (size_t)n * sizeof(*s));
	qsort(s, (size_t)n, sizeof(*s), by_value);
	return s;
}

static double middle(const double *s, int n)
{
	return n % 2 ? s[n / 2] : (s[n / 2 - 1] + s[n / 2]) / 2;
}

struct stats stats_of(const double *x, int n)
{
	double *s = sorted(x, n);
	struct stats r = {.n = n, .min = s[0], .max = s[n - 1], .median = middle(s, n)};

	for (int i = 0; i < n; i++)
		s[i] = fabs(s[i] - r.median);
	qsort(s, (size_t)n, sizeof(*s), by_value);
	r.mad = middle(s, n);
	free(s);
	return r;
}

struct interval stats_paired_ratio(const double *a, const double *b, int n)
{
	double *r = malloc((size_t)n * sizeof(*r)), *s;
	struct interval i;
	double term = pow(0.5, n), below = 0;	/* P(Binomial(n, 1/2) ≤ k) */
	int k = 0;

	assert(r && n >= 1);
	for (int j = 0; j < n; j++)
		r[j] = a[j] / b[j];
	s = sorted(r, n);
	/* the greatest k with 2 · P(B < k) ≤ 0.05 */
	while (2 * (below + term) <= 0.05 && k < n / 2) {
		below += term;
		term = term * (n - k) / (k + 1);
		k++;
	}
	i.low = s[k ? k - 1 : 0];
	i.mid = middle(s, n);
	i.high = s[k ? n - k : n - 1];
	free(r);
	free(s);
	return i;
}

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static double quantile(const double *s, int n, double q)
{
	double at = q * (n - 1);
	int i = (int)at;

	return i + 1 < n ? s[i] + (at - i) * (s[i + 1] - s[i]) : s[n - 1];
}

double stats_quantile(const double *x, int n, double q)
{
	double *s = sorted(x, n), v = quantile(s, n, q);

	free(s);
	return v;
}

static double resampled(const double *x, int n, double q, double *scratch, uint64_t *state)
{
	for (int i = 0; i < n; i++)
		scratch[i] = x[next(state) % (uint64_t)n];
	qsort(scratch, (size_t)n, sizeof(*scratch), by_value);
	return quantile(scratch, n, q);
}

struct interval stats_quantile_ratio(const double *a, int na, const double *b, int nb, double q)
{
	double *scratch = malloc((size_t)(na > nb ? na : nb) * sizeof(*scratch));
	double *ratios = malloc(RESAMPLES * sizeof(*ratios));
	struct interval i;
	uint64_t state = 1;

	assert(scratch && ratios);
	for (int k = 0; k < RESAMPLES; k++) {
		double top = resampled(a, na, q, scratch, &state);

		ratios[k] = top / resampled(b, nb, q, scratch, &state);
	}
	qsort(ratios, RESAMPLES, sizeof(*ratios), by_value);
	i.low = ratios[RESAMPLES * 25 / 1000];
	i.high = ratios[RESAMPLES * 975 / 1000];
	i.mid = stats_quantile(a, na, q) / stats_quantile(b, nb, q);
	free(scratch);
	free(ratios);
	return i;
}
