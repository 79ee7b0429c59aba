/* Perplexity and KL statistics against a plain long double computation. */
#include "test.h"

#include "verdict/kl.h"

#include <math.h>
#include <stdbool.h>

enum { VOCAB = 97, ROWS = 40 };

static float random_float(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return (float)(*state >> 8) / 1048576 - 8;
}

static long double log_sum(const float *x)
{
	long double s = 0;

	for (int i = 0; i < VOCAB; i++)
		s += expl((long double)x[i]);
	return logl(s);
}

static long double plain_kl(const float *a, const float *b)
{
	long double la = log_sum(a), lb = log_sum(b), sum = 0;

	for (int i = 0; i < VOCAB; i++)
		sum += expl(b[i] - lb) * ((b[i] - lb) - (a[i] - la));
	return sum;
}

struct plain {
	long double ours[ROWS], ref[ROWS], kl[ROWS], dp[ROWS];
	int same;
};

static long double mean(const long double *x)
{
	long double s = 0;

	for (int i = 0; i < ROWS; i++)
		s += x[i];
	return s / ROWS;
}

static long double error(const long double *x)
{
	long double m = mean(x), s = 0;

	for (int i = 0; i < ROWS; i++)
		s += (x[i] - m) * (x[i] - m);
	return sqrtl(s / (ROWS - 1) / ROWS);
}

static bool near(double a, long double b)
{
	return fabsl(a - b) <= 1e-11L * (1 + fabsl(b));
}

static int best(const float *x)
{
	int at = 0;

	for (int i = 1; i < VOCAB; i++)
		at = x[i] > x[at] ? i : at;
	return at;
}

static void fill(float a[ROWS][VOCAB], float b[ROWS][VOCAB], struct kl_sums *s, struct plain *p)
{
	uint32_t state = 7;

	for (int r = 0; r < ROWS; r++) {
		int next = (r * 31) % VOCAB;
		struct metrics m;

		for (int i = 0; i < VOCAB; i++) {
			b[r][i] = random_float(&state);
			a[r][i] = b[r][i] + random_float(&state) / 16;
		}
		metrics_compare(&m, a[r], b[r], VOCAB);
		kl_add(s, &m, a[r], b[r], VOCAB, next);
		p->ours[r] = log_sum(a[r]) - (long double)a[r][next];
		p->ref[r] = log_sum(b[r]) - (long double)b[r][next];
		p->kl[r] = plain_kl(a[r], b[r]);
		p->dp[r] = expl(-p->ours[r]) - expl(-p->ref[r]);
		p->same += best(a[r]) == best(b[r]);
	}
}

static void sort(long double *x)
{
	for (int i = 1; i < ROWS; i++)
		for (int k = i; k > 0 && x[k] < x[k - 1]; k--) {
			long double t = x[k];

			x[k] = x[k - 1];
			x[k - 1] = t;
		}
}

static void test_statistics(void)
{
	static float a[ROWS][VOCAB], b[ROWS][VOCAB];
	struct kl_sums s = {.n = 0};
	struct plain p = {.same = 0};
	long double diff[ROWS], squares[ROWS], rms = 0, cov = 0, f;
	struct kl_summary k;

	fill(a, b, &s, &p);
	kl_summarise(&s, &k);
	for (int i = 0; i < ROWS; i++) {
		diff[i] = p.ours[i] - p.ref[i];
		squares[i] = p.dp[i] * p.dp[i];
		rms += squares[i] / ROWS;
	}
	f = (long double)p.same / ROWS;
	CHECK(k.n == ROWS && k.n_nonfinite == 0, "every row counts");
	CHECK(near(k.ppl_ours, expl(mean(p.ours))), "perplexity of ours %.12g", k.ppl_ours);
	CHECK(near(k.ppl_ours_error, expl(mean(p.ours)) * error(p.ours)), "its error");
	CHECK(near(k.ppl_ref, expl(mean(p.ref))), "perplexity of the reference %.12g", k.ppl_ref);
	CHECK(near(k.ppl_ref_error, expl(mean(p.ref)) * error(p.ref)), "its error");
	CHECK(near(k.ln_ratio, mean(diff)) && near(k.ln_ratio_error, error(diff)), "ln ratio");
	CHECK(near(k.kl.mean, mean(p.kl)) && near(k.kl.mean_error, error(p.kl)), "mean KL %.12g",
	      k.kl.mean);
	CHECK(near(k.dp.mean, mean(p.dp)) && near(k.dp_rms, sqrtl(rms)), "mean and RMS of Δp");
	CHECK(near(k.dp_rms_error, error(squares) / sqrtl(rms) / 2), "error of the RMS");
	CHECK(near(k.same_top1, f) && p.same > 0 && p.same < ROWS, "same top-1: %d of %d", p.same,
	      ROWS);
	CHECK(near(k.same_top1_error, sqrtl(f * (1 - f) / (ROWS - 1))), "its error");
	sort(p.kl);
	sort(p.dp);
	CHECK(near(k.kl.min, p.kl[0]) && near(k.kl.max, p.kl[ROWS - 1]), "least and greatest KL");
	CHECK(near(k.kl.median, (p.kl[19] + p.kl[20]) / 2), "median KL");
	for (int i = 0; i < ROWS; i++)
		cov += (p.ours[i] - mean(p.ours)) * (p.ref[i] - mean(p.ref)) / (ROWS - 1) / ROWS;
	CHECK(near(k.correlation, cov / error(p.ours) / error(p.ref)), "correlation");
	CHECK(near(k.ratio, expl(mean(diff))) &&
		      near(k.ratio_error, expl(mean(diff)) * error(diff)), "ratio");
	CHECK(near(k.difference, expl(mean(p.ours)) - expl(mean(p.ref))), "difference");
	CHECK(near(k.difference_error,
		   sqrtl(powl(expl(mean(p.ours)) * error(p.ours), 2) +
			 powl(expl(mean(p.ref)) * error(p.ref), 2) -
			 2 * expl(mean(p.ours) + mean(p.ref)) * cov)), "its error");
	CHECK(near(k.kl.p99, p.kl[38] + 0.61L * (p.kl[39] - p.kl[38])), "p99 KL");
	CHECK(near(k.dp.p25, p.dp[9] + 0.75L * (p.dp[10] - p.dp[9])) &&
		      near(k.dp.p75, p.dp[29] + 0.25L * (p.dp[30] - p.dp[29])) &&
		      near(k.dp.p001, p.dp[0] + 0.039L * (p.dp[1] - p.dp[0])),
	      "quartiles and p0.1 of Δp");
	CHECK(near(k.dp.p10, p.dp[3] + 0.9L * (p.dp[4] - p.dp[3])), "p10 of Δp");
	kl_free(&s);
}

static void test_edges(void)
{
	float same[4] = {1, 2, 3, 4}, broken[4] = {1, NAN, 3, 4};
	struct kl_sums s = {.n = 0};
	struct kl_summary k;
	struct metrics m;

	kl_summarise(&s, &k);
	CHECK(k.n == 0, "nothing gives nothing");
	metrics_compare(&m, broken, same, 4);
	kl_add(&s, &m, broken, same, 4, 0);
	kl_summarise(&s, &k);
	CHECK(k.n == 0 && k.n_nonfinite == 1, "a NaN is counted, not added");
	metrics_compare(&m, same, same, 4);
	kl_add(&s, &m, same, same, 4, 3);
	kl_summarise(&s, &k);
	CHECK(k.n == 1 && k.kl.max == 0 && k.dp_rms == 0 && k.same_top1 == 1 && k.ln_ratio == 0,
	      "equal rows: all zero");
	CHECK(k.kl.median == 0 && k.ppl_ours == k.ppl_ref && k.ppl_ours_error == 0,
	      "one row has no error");
	kl_free(&s);
}

int main(void)
{
	test_statistics();
	test_edges();
	return TEST_END();
}
