#include "kl.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static void moment_add(struct kl_moment *m, double x, int64_t n)
{
	double d = x - m->mean;

	m->mean += d / (double)n;
	m->m2 += d * (x - m->mean);
}

/* Standard error of the mean. */
static double moment_error(const struct kl_moment *m, int64_t n)
{
	return n > 1 ? sqrt(m->m2 / (double)(n - 1) / (double)n) : 0;
}

static void make_room(struct kl_sums *s)
{
	if (s->n < s->cap)
		return;
	s->cap = s->cap ? 2 * s->cap : 1024;
	s->kl = realloc(s->kl, (size_t)s->cap * sizeof(*s->kl));
	s->dp = realloc(s->dp, (size_t)s->cap * sizeof(*s->dp));
	assert(s->kl && s->dp);
}

void kl_add(struct kl_sums *s, const struct metrics *m, const float *ours, const float *ref,
	    int n_vocab, int32_t next)
{
	double a, b, dp;

	if (m->n_nonfinite_ours || m->n_nonfinite_ref) {
		s->n_nonfinite++;
		return;
	}
	a = metrics_log_prob(ours, n_vocab, next);
	b = m->bits_equal ? a : metrics_log_prob(ref, n_vocab, next);
	dp = exp(a) - exp(b);
	make_room(s);
	s->kl[s->n] = m->kl;
	s->dp[s->n++] = dp;
	s->n_top1 += m->top1_agree;
	moment_add(&s->ours, -a, s->n);
	moment_add(&s->ref, -b, s->n);
	moment_add(&s->diff, b - a, s->n);
	moment_add(&s->kl_m, m->kl, s->n);
	moment_add(&s->dp_m, dp, s->n);
	moment_add(&s->dp_squares, dp * dp, s->n);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double percentile(const double *sorted, int64_t n, double fraction)
{
	double at = fraction * (double)(n - 1), low = floor(at);
	int64_t i = (int64_t)low;

	return i + 1 < n ? sorted[i] + (at - low) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

static void spread(struct kl_spread *out, double *values, const struct kl_moment *m, int64_t n)
{
	qsort(values, (size_t)n, sizeof(*values), by_value);
	*out = (struct kl_spread){
		.mean = m->mean,
		.mean_error = moment_error(m, n),
		.min = values[0],
		.p001 = percentile(values, n, 0.001),
		.p01 = percentile(values, n, 0.01),
		.p05 = percentile(values, n, 0.05),
		.p10 = percentile(values, n, 0.10),
		.p25 = percentile(values, n, 0.25),
		.median = percentile(values, n, 0.5),
		.p75 = percentile(values, n, 0.75),
		.p90 = percentile(values, n, 0.90),
		.p95 = percentile(values, n, 0.95),
		.p99 = percentile(values, n, 0.99),
		.p999 = percentile(values, n, 0.999),
		.max = values[n - 1],
	};
}

/* Σ(x−x̄)(y−ȳ) from the sums of squares of x, y and their difference. */
static double joint(const struct kl_sums *s)
{
	return (s->ours.m2 + s->ref.m2 - s->diff.m2) / 2;
}

static void relate(const struct kl_sums *s, struct kl_summary *out)
{
	double n = (double)s->n, cov = n > 1 ? joint(s) / (n - 1) / n : 0,
	       both = sqrt(s->ours.m2) * sqrt(s->ref.m2),
	       square = out->ppl_ours_error * out->ppl_ours_error +
			out->ppl_ref_error * out->ppl_ref_error -
			2 * out->ppl_ours * out->ppl_ref * cov;

	out->ratio = exp(out->ln_ratio);
	out->ratio_error = out->ratio * out->ln_ratio_error;
	out->difference = out->ppl_ours - out->ppl_ref;
	out->difference_error = square > 0 ? sqrt(square) : 0;
	out->correlation = both > 0 ? joint(s) / both : 0;
}

void kl_summarise(struct kl_sums *s, struct kl_summary *out)
{
	double f;

	*out = (struct kl_summary){.n = s->n, .n_nonfinite = s->n_nonfinite};
	if (s->n == 0)
		return;
	f = (double)s->n_top1 / (double)s->n;
	out->ppl_ours = exp(s->ours.mean);
	out->ppl_ours_error = out->ppl_ours * moment_error(&s->ours, s->n);
	out->ppl_ref = exp(s->ref.mean);
	out->ppl_ref_error = out->ppl_ref * moment_error(&s->ref, s->n);
	out->ln_ratio = s->diff.mean;
	out->ln_ratio_error = moment_error(&s->diff, s->n);
	out->same_top1 = f;
	out->same_top1_error = s->n > 1 ? sqrt(f * (1 - f) / (double)(s->n - 1)) : 0;
	relate(s, out);
	out->dp_rms = sqrt(s->dp_squares.mean);
	if (out->dp_rms > 0)
		out->dp_rms_error = 0.5 / out->dp_rms * moment_error(&s->dp_squares, s->n);
	spread(&out->kl, s->kl, &s->kl_m, s->n);
	spread(&out->dp, s->dp, &s->dp_m, s->n);
}

void kl_free(struct kl_sums *s)
{
	free(s->kl);
	free(s->dp);
	*s = (struct kl_sums){.n = 0};
}
