#include "verdict/stats.h"
#include "test.h"

#include <math.h>

static void test_order(void)
{
	const double x[] = {5, 1, 4, 2, 3};
	struct stats s = stats_of(x, 5);

	CHECK(s.min == 1 && s.max == 5 && s.median == 3 && s.mad == 1, "five values");
	s = stats_of(x, 4);
	CHECK(s.median == 3, "an even number takes the middle of two");
}

/* Coverage of a sign-test interval for 9 pairs is 2·P(B ≤ 1) = 20/512 outside: order 2 and 8. */
static void test_paired(void)
{
	const double a[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, b[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
	struct interval i = stats_paired_ratio(a, b, 9);

	CHECK(i.mid == 5 && i.low == 2 && i.high == 8, "nine pairs: second and eighth");
	i = stats_paired_ratio(a, b, 5);
	CHECK(i.low == 1 && i.high == 5,
	      "five pairs: the range, 95 %% is not to be had from fewer than six");
	i = stats_paired_ratio(a, b, 6);
	CHECK(i.low == 1 && i.high == 6, "six pairs: 2/64 outside the range");
}

static void test_sessions(void)
{
	enum { N = 40, M = 5 };
	double a[M * N], b[M * N];
	int sizes[M] = {N, N, N, N, N};
	struct stats_sessions one = {a, sizes, NULL, 1}, other = {b, sizes, NULL, 1};
	struct stats_sessions five = {a, sizes, NULL, M}, also = {b, sizes, NULL, M};
	double half[M] = {0.5, 0.5, 0.5, 0.5, 0.5};
	struct interval i, j;

	for (int k = 0; k < M * N; k++) {
		a[k] = 100 + (k * 7) % 5;
		b[k] = 50 + (k * 3) % 5;
	}
	i = stats_sessions_ratio(&one, &other, 0.5);
	j = stats_sessions_ratio(&one, &other, 0.5);
	CHECK(i.low <= i.mid && i.mid <= i.high, "the interval holds the ratio");
	CHECK(i.low > 1.85 && i.high < 2.1, "and is narrow: [%g, %g]", i.low, i.high);
	CHECK(i.low == j.low && i.high == j.high, "the same samples give the same interval");
	CHECK(stats_sessions_quantile(&one, 0) == 100 && stats_sessions_quantile(&one, 1) == 104 &&
		      stats_sessions_quantile(&one, 0.5) == 102,
	      "quantiles 0, 1 and a half");
	CHECK(i.high / i.mid > 1.027, "one process each leaves 1 %% each open: %g",
	      i.high / i.mid);
	j = stats_sessions_ratio(&five, &also, 0.5);
	CHECK(j.high / j.low < i.high / i.low, "five alike leave less open");
	for (int k = 0; k < N; k++)
		a[2 * N + k] *= 0.8; /* one process stood in the shade */
	j = stats_sessions_ratio(&five, &also, 0.5);
	CHECK(j.mid > 0.98 * i.mid && j.low > 0.95 * i.mid, "one slow session of five moves little");
	for (int k = 0; k < M * N; k++)
		a[k] = 100 + (k * 7) % 5 + 10. * (k / N); /* NOLINT: whole sessions */
	j = stats_sessions_ratio(&five, &also, 0.5);
	CHECK(j.high / j.low > 1.2, "sessions that differ widen it: %g", j.high / j.low);
	five.scale = half;
	i = stats_sessions_ratio(&five, &also, 0.5);
	CHECK(fabs(i.mid - j.mid / 2) < 1e-12 && fabs(i.high - j.high / 2) < 1e-9,
	      "a scale moves the ratio and leaves its width");
}

int main(void)
{
	test_order();
	test_paired();
	test_sessions();
	return TEST_END();
}
