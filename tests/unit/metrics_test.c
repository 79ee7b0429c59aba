/* Every metric against a plain long double computation, and by hand where hands can. */
#include "test.h"

#include "verdict/metrics.h"
#include "verdict/metrics_loops.h"

#include <math.h>
#include <stdbool.h>
#include <time.h>

static uint64_t state = 88172645463325252ull;

static float random_float(float scale)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return scale * (float)((double)(state >> 11) / 9007199254740992.0 - 0.5);
}

struct plain {
	long double cosine, nmse, max_abs, l2, kl, log_prob0;
};

static struct plain plain_metrics(const float *a, const float *b, int n)
{
	long double aa = 0, bb = 0, ab = 0, dd = 0, ma = a[0], mb = b[0], sa = 0, sb = 0;
	struct plain p = {0};

	for (int i = 0; i < n; i++) {
		long double x = a[i], y = b[i], d = fabsl(x - y);

		aa += x * x;
		bb += y * y;
		ab += x * y;
		dd += d * d;
		p.max_abs = d > p.max_abs ? d : p.max_abs;
		ma = x > ma ? x : ma;
		mb = y > mb ? y : mb;
	}
	for (int i = 0; i < n; i++) {
		sa += expl((long double)a[i] - ma);
		sb += expl((long double)b[i] - mb);
	}
	for (int i = 0; i < n; i++) {
		long double lb = (long double)b[i] - mb - logl(sb);
		long double la = (long double)a[i] - ma - logl(sa);

		p.kl += expl(lb) * (lb - la);
	}
	p.cosine = ab / sqrtl(aa * bb);
	p.nmse = dd / bb;
	p.l2 = sqrtl(dd);
	p.log_prob0 = (long double)a[0] - ma - logl(sa);
	return p;
}

static bool near(double got, long double want, double tolerance)
{
	return fabsl((long double)got - want) <= (long double)tolerance * (1 + fabsl(want));
}

static void check_against_plain(int n, float scale, float noise)
{
	float *a = calloc((size_t)n, sizeof(*a)), *b = calloc((size_t)n, sizeof(*b));
	struct metrics m;
	struct plain p;

	for (int i = 0; i < n; i++) {
		b[i] = random_float(scale);
		a[i] = b[i] + random_float(noise);
	}
	metrics_compare(&m, a, b, n);
	p = plain_metrics(a, b, n);
	CHECK(near(m.cosine, p.cosine, 1e-14) && near(m.nmse, p.nmse, 1e-14) &&
		      near(m.l2, p.l2, 1e-14) && near(m.max_abs, p.max_abs, 0),
	      "n=%d scale=%g noise=%g: cosine, nmse, l2, max_abs", n, (double)scale, (double)noise);
	CHECK(near(m.kl, p.kl, 1e-13), "n=%d scale=%g: kl %.17g, plain %.17Lg", n, (double)scale,
	      m.kl, p.kl);
	CHECK(near(metrics_log_prob(a, n, 0), p.log_prob0, 1e-13), "n=%d: log probability", n);
	free(a);
	free(b);
}

static void check_same_bits(const char *name, metrics_block_fn *block, metrics_exp_fn *exps)
{
	enum { N = 509 };
	float a[N], b[N];
	struct metrics_sums x = {0}, y = {0};
	struct metrics_exps u = {0}, v = {0};

	for (int i = 0; i < N; i++) {
		b[i] = random_float(20);
		a[i] = b[i] + random_float(0.1f);
	}
	metrics_block_base(&x, a, b, N);
	block(&y, a, b, N);
	metrics_exp_base(&u, a, b, N, 10.1, 10);
	exps(&v, a, b, N, 10.1, 10);
	CHECK(x.aa == y.aa && x.bb == y.bb && x.ab == y.ab && x.dd == y.dd && x.max_d == y.max_d &&
		      x.max_a == y.max_a && x.max_b == y.max_b && x.max_ulp == y.max_ulp &&
		      u.a == v.a && u.b == v.b && u.bd == v.bd,
	      "%s and baseline give the same bits", name);
}

static void check_same_bits_everywhere(void)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		check_same_bits("avx2", metrics_block_avx2, metrics_exp_avx2);
	else
		SKIP("avx2 and baseline give the same bits", "no AVX2 here");
	if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512vl"))
		check_same_bits("avx512", metrics_block_avx512, metrics_exp_avx512);
	else
		SKIP("avx512 and baseline give the same bits", "no AVX-512 here");
#endif
}

static void check_by_hand(void)
{
	static const float b[6] = {1, 5, 3, 5, -2, 0};
	static const float a[6] = {1, 4, 3, 5, -2, 0};
	struct metrics m;
	int32_t ids[3];

	metrics_compare(&m, a, b, 6);
	CHECK(m.max_abs == 1 && m.max_abs_at == 1 && m.l2 == 1 && m.nmse == 1.0 / 64, "distances");
	CHECK(m.top1_ref == 1 && m.top1_ours == 3 && !m.top1_agree,
	      "of equal values the lower id is first");
	CHECK(m.margin_ref == 0 && m.flip_margin == 0, "a tie of the reference has margin 0");
	CHECK(m.top5_agree == 1 && m.top10_agree == 1, "top-5 and the cut top-10");
	/* pairs: 15; ours ties none, the reference ties 1; no discordant pair */
	CHECK(fabs(m.kendall - 14 / sqrt(15.0 * 14.0)) < 1e-15, "tau-b with one tied pair");
	CHECK(!m.bits_equal && m.max_ulp == 1u << 21, "4 to 5 are 2^21 float32 apart");
	CHECK(metrics_top(ids, 3, b, 6) == 3 && ids[0] == 1 && ids[1] == 3 && ids[2] == 2, "top 3");
	metrics_compare(&m, b, b, 6);
	CHECK(m.bits_equal && m.cosine == 1 && m.nmse == 0 && m.kl == 0 && m.kendall == 1 &&
		      m.max_ulp == 0 && m.top1_agree,
	      "equal to the bit");
}

static void check_order(void)
{
	float b[20], a[20];
	struct metrics m;

	for (int i = 0; i < 20; i++) {
		b[i] = (float)i;
		a[i] = (float)-i;
	}
	metrics_compare(&m, a, b, 20);
	CHECK(m.kendall == -1 && m.top10_agree == 0 && m.top5_agree == 0, "reversed order");
	CHECK(m.flip_margin == 19 && m.margin_ref == 1, "margins");
}

static void check_edges(void)
{
	float zero[4] = {0}, minus[4] = {-0.0f, 0, 0, 0}, one[4] = {1, 0, 0, 0};
	float tiny[2] = {1e-45f, 0}, none[2] = {0, 0};
	float bad[3] = {NAN, 2, 1}, good[3] = {0, 2, 1}, inf[3] = {INFINITY, 2, 1};
	struct metrics m;

	metrics_compare(&m, minus, zero, 4);
	CHECK(!m.bits_equal && m.max_ulp == 0 && m.nmse == 0 && m.cosine == 1, "−0 against +0");
	metrics_compare(&m, one, zero, 4);
	CHECK(m.cosine == 0 && isinf(m.nmse), "something against nothing");
	metrics_compare(&m, tiny, none, 2);
	CHECK(m.max_ulp == 1 && !m.bits_equal && m.max_abs > 0, "denormals count");
	metrics_compare(&m, bad, good, 3);
	CHECK(m.n_nonfinite_ours == 1 && m.n_nonfinite_ref == 0 && isnan(m.nmse) &&
		  isnan(m.cosine) && m.top1_ours == 1,
	      "NaN on our side");
	metrics_compare(&m, good, inf, 3);
	CHECK(m.n_nonfinite_ref == 1 && isnan(m.kl) && m.top1_ref == 0, "Inf on the reference's");
	metrics_compare(&m, bad, bad, 3);
	CHECK(m.bits_equal && m.n_nonfinite_ours == 1, "equal bits do not hide a NaN");
	metrics_compare(&m, one, one, 1);
	CHECK(m.bits_equal && m.top5_agree == 1 && m.kendall == 1, "one value");
}

static void measure(void)
{
	enum { N = 128256, RUNS = 20 };
	float *a = calloc(N, sizeof(*a)), *b = calloc(N, sizeof(*b));
	struct timespec t0, t1;
	struct metrics m;
	double best = 1e9;

	for (int i = 0; i < N; i++) {
		b[i] = random_float(20);
		a[i] = b[i] + random_float(0.01f);
	}
	for (int r = 0; r < RUNS; r++) {
		double ms;

		clock_gettime(CLOCK_MONOTONIC, &t0);
		metrics_compare(&m, a, b, N);
		clock_gettime(CLOCK_MONOTONIC, &t1);
		ms = 1e3 * (double)(t1.tv_sec - t0.tv_sec) +
		     1e-6 * (double)(t1.tv_nsec - t0.tv_nsec);
		best = ms < best ? ms : best;
	}
	printf("# comparing one position of %d logits: %.3f ms\n", N, best);
	free(a);
	free(b);
}

int main(void)
{
	static const int sizes[] = {1, 2, 7, 8, 9, 130, 511, 512, 513, 1280, 32000};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		check_against_plain(sizes[i], 10, 1e-3f);
	check_against_plain(5000, 3000, 100);	/* beyond where exp is 0 */
	check_against_plain(5000, 1e-3f, 1e-5f);
	check_same_bits_everywhere();
	check_by_hand();
	check_order();
	check_edges();
	measure();
	return TEST_END();
}
