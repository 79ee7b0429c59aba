#include "matched.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A bin needs this many samples of both; less than a third of a side in shared bins decides nothing. */
enum { BIN_LEAST = 8, SESSION_LEAST = 8, SESSIONS_THAT_TELL = 8, RESAMPLES = 300 };
static const double bin_width = 0.05, shared_least = 1. / 3;
/*
 * So near to the quickest pace the core had no neighbour. And of what a neighbour slows, so much is
 * unknown: two neighbours that slow the pace alike slow a program by up to a sixth of it differently
 * (measured: the same program at the same pace of 1.9 times its own, 9 % apart).
 */
static const double own_within = 0.12, unknown_share = 0.15;

struct point {
	int bin;
	double log_x;
};

struct cloud {
	struct point *p;		/* [n] */
	int n;
};

static int by_bin(const void *a, const void *b)
{
	const struct point *x = a, *y = b;

	if (x->bin != y->bin)
		return x->bin < y->bin ? -1 : 1;
	return (x->log_x > y->log_x) - (x->log_x < y->log_x);
}

static struct cloud cloud_of(const struct matched_side *s, int from, int n)
{
	struct cloud c = {malloc((size_t)n * sizeof(*c.p)), n};

	assert(c.p);
	for (int i = 0; i < n; i++)
		c.p[i] = (struct point){(int)floor(log(s->pace[from + i]) / bin_width),
					log(s->x[from + i])};
	qsort(c.p, (size_t)n, sizeof(*c.p), by_bin);
	return c;
}

static double middle(const struct point *p, int n)
{
	return n % 2 ? p[n / 2].log_x : (p[n / 2 - 1].log_x + p[n / 2].log_x) / 2;
}

static int run_length(const struct cloud *c, int at)
{
	int n = 1;

	while (at + n < c->n && c->p[at + n].bin == c->p[at].bin)
		n++;
	return n;
}

/* Mean logarithm of a over b at equal pace; *shared = the lesser share of the two sides in common bins. */
static double difference(const struct cloud *a, const struct cloud *b, double *shared)
{
	double sum = 0, weights = 0;
	int in_a = 0, in_b = 0;

	for (int i = 0, k = 0; i < a->n && k < b->n;) {
		int n = run_length(a, i), m = run_length(b, k);

		if (a->p[i].bin < b->p[k].bin) {
			i += n;
			continue;
		}
		if (a->p[i].bin == b->p[k].bin && n >= BIN_LEAST && m >= BIN_LEAST) {
			double w = (double)n * m / (n + m);

			sum += w * (middle(a->p + i, n) - middle(b->p + k, m));
			weights += w;
			in_a += n;
			in_b += m;
		}
		i += a->p[i].bin == b->p[k].bin ? n : 0;
		k += m;
	}
	*shared = fmin((double)in_a / a->n, (double)in_b / b->n);
	return weights > 0 ? sum / weights : NAN;
}

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void resample(const struct cloud *from, struct cloud *to, uint64_t *state)
{
	for (int i = 0; i < from->n; i++)
		to->p[i] = from->p[next(state) % (uint64_t)from->n];
	qsort(to->p, (size_t)to->n, sizeof(*to->p), by_bin);
}

static double deviation_of_resamples(const struct cloud *a, const struct cloud *b)
{
	struct cloud x = {malloc((size_t)a->n * sizeof(*x.p)), a->n},
		     y = {malloc((size_t)b->n * sizeof(*y.p)), b->n};
	double sum = 0, squares = 0, shared;
	uint64_t state = 1;
	int n = 0;

	assert(x.p && y.p);
	for (int k = 0; k < RESAMPLES; k++) {
		double d;

		resample(a, &x, &state);
		resample(b, &y, &state);
		d = difference(&x, &y, &shared);
		if (isnan(d))
			continue;
		sum += d;
		squares += d * d;
		n++;
	}
	free(x.p);
	free(y.p);
	return n > 1 ? sqrt(fmax(0, (squares - sum * sum / n) / (n - 1))) : INFINITY;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median_of(double *x, int n)
{
	qsort(x, (size_t)n, sizeof(*x), by_value);
	return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

/* How far each of one session's samples is from the middle of the other side's bin; their median. */
static double session_off(const struct cloud *one, const struct cloud *other)
{
	double *off = malloc((size_t)one->n * sizeof(*off)), m;
	int n = 0;

	assert(off);
	for (int i = 0, k = 0; i < one->n && k < other->n;) {
		int m_other = run_length(other, k);

		if (one->p[i].bin < other->p[k].bin) {
			i++;
		} else if (one->p[i].bin > other->p[k].bin) {
			k += m_other;
		} else {
			if (m_other >= BIN_LEAST)
				off[n++] = one->p[i].log_x - middle(other->p + k, m_other);
			i++;
		}
	}
	m = n >= SESSION_LEAST ? median_of(off, n) : NAN;
	free(off);
	return m;
}

/* Each session of s against the whole other side; NaN where too little could be matched. */
static void each_session(const struct matched_side *s, const struct cloud *other,
			 double out[STATS_SESSIONS_MAX])
{
	for (int i = 0, at = 0; i < s->n_sessions; at += s->sizes[i++]) {
		struct cloud one = cloud_of(s, at, s->sizes[i]);

		out[i] = session_off(&one, other);
		free(one.p);
	}
}

static int drop_nan(double *x, int n)
{
	int kept = 0;

	for (int i = 0; i < n; i++)
		if (!isnan(x[i]))
			x[kept++] = x[i];
	return kept;
}

/*
 * Half-width from sessions alone. What differs between two sessions of a side is all there is: the
 * samples' own noise is in it. Both sides are runs of one kind, so they tell it together.
 */
static double half_width(double *of_a, int na, double *of_b, int nb)
{
	double away[2 * STATS_SESSIONS_MAX], deviation;
	double a = median_of(of_a, na), b = median_of(of_b, nb);
	int degrees = na + nb - 2;

	for (int i = 0; i < na; i++)
		away[i] = fabs(of_a[i] - a);
	for (int i = 0; i < nb; i++)
		away[na + i] = fabs(of_b[i] - b);
	deviation = 1.4826 * median_of(away, na + nb) * sqrt((na + nb) / (double)degrees);
	return stats_student(degrees) * deviation * sqrt(1. / na + 1. / nb);
}

/* Where session i of both ran side by side: their difference has nothing of what they shared. */
static double paired_half_width(const double *of_a, const double *of_b, int n)
{
	double off[STATS_SESSIONS_MAX], away[STATS_SESSIONS_MAX], m;

	for (int i = 0; i < n; i++)
		off[i] = of_a[i] - of_b[i];
	n = drop_nan(off, n);
	if (n < SESSIONS_THAT_TELL)
		return INFINITY;
	m = median_of(off, n);
	for (int i = 0; i < n; i++)
		away[i] = fabs(off[i] - m);
	return stats_student(n - 1) * 1.4826 * median_of(away, n) * sqrt(1. / (n - 1));
}

/* All bins that both have; false where they do not tell. */
static bool in_common(const struct matched_side *a, const struct matched_side *b, bool side_by_side,
		      double *d, double *half)
{
	double of_a[STATS_SESSIONS_MAX], of_b[STATS_SESSIONS_MAX], shared, paired;
	struct cloud x = cloud_of(a, 0, a->n), y = cloud_of(b, 0, b->n);
	int na, nb;

	*d = difference(&x, &y, &shared);
	each_session(a, &y, of_a);
	each_session(b, &x, of_b);
	paired = side_by_side && a->n_sessions == b->n_sessions
			 ? paired_half_width(of_a, of_b, a->n_sessions)
			 : INFINITY;
	na = drop_nan(of_a, a->n_sessions);
	nb = drop_nan(of_b, b->n_sessions);
	*half = na + nb > 2 && na && nb ? half_width(of_a, na, of_b, nb) : INFINITY;
	if (na < SESSIONS_THAT_TELL || nb < SESSIONS_THAT_TELL)
		*half = hypot(*half, 1.96 * deviation_of_resamples(&x, &y));
	*half = fmin(*half, paired);
	free(x.p);
	free(y.p);
	return !isnan(*d) && shared >= shared_least && isfinite(*half);
}

/* ---- the core to itself ------------------------------------------------------------------- */

/* The pace that a side reaches in one of a hundred samples: nobody else was there. */
static double own_pace(const struct matched_side *s)
{
	struct stats_sessions all = {.x = s->pace, .sizes = &s->n, .n = 1};

	return stats_sessions_quantile(&all, 0.01);
}

struct kept {
	struct matched_side side;
	double *x, *pace;
	int sizes[STATS_SESSIONS_MAX];
};

static struct kept at_most(const struct matched_side *s, double pace)
{
	struct kept k = {.x = malloc((size_t)s->n * sizeof(double)),
			 .pace = malloc((size_t)s->n * sizeof(double))};

	assert(k.x && k.pace);
	for (int i = 0, at = 0; i < s->n_sessions; i++) {
		int before = k.side.n;

		for (int end = at + s->sizes[i]; at < end; at++)
			if (s->pace[at] <= pace) {
				k.x[k.side.n] = s->x[at];
				k.pace[k.side.n++] = s->pace[at];
			}
		if (k.side.n > before)
			k.sizes[k.side.n_sessions++] = k.side.n - before;
	}
	return k;
}

static bool undisturbed(const struct matched_side *a, const struct matched_side *b, double pace,
			double *d, double *half)
{
	struct kept x = at_most(a, pace), y = at_most(b, pace);
	bool tells;

	x.side.x = x.x, x.side.pace = x.pace, x.side.sizes = x.sizes;
	y.side.x = y.x, y.side.pace = y.pace, y.side.sizes = y.sizes;
	tells = x.side.n >= MATCHED_LEAST && y.side.n >= MATCHED_LEAST &&
		in_common(&x.side, &y.side, false, d, half);
	free(x.x);
	free(x.pace);
	free(y.x);
	free(y.pace);
	return tells;
}

/* How far the slower side's usual pace is from the core's own, as a logarithm. */
static double disturbance(const struct matched_side *a, const struct matched_side *b, double own)
{
	struct stats_sessions x = {.x = a->pace, .sizes = &a->n, .n = 1},
			      y = {.x = b->pace, .sizes = &b->n, .n = 1};

	return log(fmax(stats_sessions_quantile(&x, 0.5), stats_sessions_quantile(&y, 0.5)) / own);
}

bool matched_ratio(const struct matched_side *a, const struct matched_side *b, bool side_by_side,
		   struct matched *out)
{
	double d, half, own, unknown = 0;

	if (a->n < MATCHED_LEAST || b->n < MATCHED_LEAST)
		return false;
	own = fmin(own_pace(a), own_pace(b));
	if (side_by_side || !undisturbed(a, b, own * (1 + own_within), &d, &half)) {
		if (!in_common(a, b, side_by_side, &d, &half))
			return false;
		if (!side_by_side)
			unknown = unknown_share * fmax(0, disturbance(a, b, own) - own_within);
	}
	half += unknown;
	out->ratio = (struct interval){.low = exp(d - half), .mid = exp(d), .high = exp(d + half)};
	out->disturbed = unknown > 0;
	return true;
}
