#include "stats.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 2000, SAMPLES_MAX = 100000 };

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

	for (int i = 0; i < n; i++) {
		r.mean += x[i] / n;
		s[i] = fabs(s[i] - r.median);
	}
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

/* ---- sessions ----------------------------------------------------------------------------- */

static void swap(double *a, double *b)
{
	double t = *a;

	*a = *b;
	*b = t;
}

/* Puts the k-th smallest of x to its place, smaller ones before it (Hoare 1961). */
static void select_kth(double *x, int n, int k)
{
	int low = 0, high = n - 1;

	while (low < high) {
		double pivot = x[low + (high - low) / 2];
		int i = low, j = high;

		while (i <= j) {
			while (x[i] < pivot)
				i++;
			while (x[j] > pivot)
				j--;
			if (i <= j)
				swap(&x[i++], &x[j--]);
		}
		if (k <= j)
			high = j;
		else if (k >= i)
			low = i;
		else
			return;
	}
}

/* Type 7 of Hyndman & Fan 1996, of values in any order, which it moves. */
static double quantile_of(double *x, int n, double q)
{
	double at = q * (n - 1), next_up;
	int i = (int)at;

	select_kth(x, n, i);
	if (i + 1 == n)
		return x[i];
	next_up = x[i + 1];
	for (int k = i + 2; k < n; k++)
		next_up = x[k] < next_up ? x[k] : next_up;
	return x[i] + (at - i) * (next_up - x[i]);
}

/* state NULL: of the samples as they are, else of a resample. */
static double session_quantile(const double *x, int n, double q, double *scratch, uint64_t *state)
{
	for (int i = 0; i < n; i++)
		scratch[i] = x[state ? next(state) % (uint64_t)n : (uint64_t)i];
	return quantile_of(scratch, n, q);
}

static double *scratch_for(const struct stats_sessions *s)
{
	double *scratch;
	int most = 0;

	assert(s->n >= 1 && s->n <= STATS_SESSIONS_MAX);
	for (int i = 0; i < s->n; i++) {
		assert(s->sizes[i] >= 1);
		most = s->sizes[i] > most ? s->sizes[i] : most;
	}
	scratch = malloc((size_t)most * sizeof(*scratch));
	assert(scratch);
	return scratch;
}

/* Each session's quantile into out[s->n]; returns their median. */
static double each_session(const struct stats_sessions *s, double q, double *scratch,
			   uint64_t *state, double *out)
{
	const double *x = s->x;

	for (int i = 0; i < s->n; i++) {
		out[i] = session_quantile(x, s->sizes[i], q, scratch, state);
		if (s->scale)
			out[i] *= s->scale[i];
		x += s->sizes[i];
	}
	return stats_of(out, s->n).median;
}

double stats_sessions_quantile(const struct stats_sessions *s, double q)
{
	double *scratch = scratch_for(s), each[STATS_SESSIONS_MAX];
	double v = each_session(s, q, scratch, NULL, each);

	free(scratch);
	return v;
}

double stats_student(int degrees)
{
	static const double t[] = {12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306};

	assert(degrees >= 1);
	return degrees <= 8 ? t[degrees - 1] : 1.96 + 2.6 / degrees;
}

enum { SESSIONS_THAT_TELL = 3 };

/* Deviation of the sessions' logarithms; negative where there are too few to tell. */
static double spread(const double *x, int n)
{
	const double least = 0.005, middle_x = stats_of(x, n).median;
	double away[STATS_SESSIONS_MAX], deviation;

	if (n < SESSIONS_THAT_TELL)
		return -1;
	for (int i = 0; i < n; i++)
		away[i] = fabs(log(x[i] / middle_x));
	deviation = 1.4826 * stats_of(away, n).median;
	return deviation > least ? deviation : least;
}

/* Half-width of the logarithm of the ratio from what differs between sessions. */
static double between(const double *a, int na, const double *b, int nb)
{
	const double unknown = 0.01;
	double of_a = spread(a, na), of_b = spread(b, nb);
	int degrees = (of_a > 0 ? na - 1 : 0) + (of_b > 0 ? nb - 1 : 0);
	double t = degrees ? stats_student(degrees) : 1.96;

	if (of_a < 0)
		of_a = of_b > 0 ? of_b : unknown;
	if (of_b < 0)
		of_b = of_a;
	return t * sqrt(of_a * of_a / na + of_b * of_b / nb);
}

struct interval stats_sessions_ratio(const struct stats_sessions *a,
				     const struct stats_sessions *b, double q)
{
	double *scratch_a = scratch_for(a), *scratch_b = scratch_for(b);
	double *ratios = malloc(RESAMPLES * sizeof(*ratios));
	double each_a[STATS_SESSIONS_MAX], each_b[STATS_SESSIONS_MAX], half, low, high;
	struct interval r;
	uint64_t state = 1;

	assert(ratios);
	for (int k = 0; k < RESAMPLES; k++)
		ratios[k] = each_session(a, q, scratch_a, &state, each_a) /
			    each_session(b, q, scratch_b, &state, each_b);
	qsort(ratios, RESAMPLES, sizeof(*ratios), by_value);
	r.mid = each_session(a, q, scratch_a, NULL, each_a) /
		each_session(b, q, scratch_b, NULL, each_b);
	half = between(each_a, a->n, each_b, b->n);
	low = log(r.mid / ratios[RESAMPLES * 25 / 1000]);
	high = log(ratios[RESAMPLES * 975 / 1000] / r.mid);
	low = low > 0 ? low : 0;
	high = high > 0 ? high : 0;
	r.low = r.mid * exp(-hypot(half, low));
	r.high = r.mid * exp(hypot(half, high));
	free(scratch_a);
	free(scratch_b);
	free(ratios);
	return r;
}
