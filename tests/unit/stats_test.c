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

static void test_bootstrap(void)
{
	double a[40], b[40];
	struct interval i, j;

	for (int k = 0; k < 40; k++) {
		a[k] = 100 + (k * 7) % 5;
		b[k] = 50 + (k * 3) % 5;
	}
	i = stats_quantile_ratio(a, 40, b, 40, 0.5);
	j = stats_quantile_ratio(a, 40, b, 40, 0.5);
	CHECK(i.low <= i.mid && i.mid <= i.high, "the interval holds the ratio");
	CHECK(i.low > 1.9 && i.high < 2.1, "and is narrow: [%g, %g]", i.low, i.high);
	CHECK(stats_quantile(a, 40, 0) == 100 && stats_quantile(a, 40, 1) == 104,
	      "quantiles 0 and 1");
	CHECK(i.low == j.low && i.high == j.high, "the same samples give the same interval");
}

int main(void)
{
	test_order();
	test_paired();
	test_bootstrap();
	return TEST_END();
}
