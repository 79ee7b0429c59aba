#include "oracle_round.h"

#include <math.h>

/* The nearest value with so many bits of mantissa, ties to even; steps no finer than 2^least. */
static double nearest(double x, int bits, int least)
{
	int e;

	frexp(x, &e);
	e = e - bits > least ? e - bits : least;
	return ldexp(rint(ldexp(x, -e)), e);
}

static double half(double x)
{
	return fabs(x) >= 65520 ? copysign(INFINITY, x) : nearest(x, 11, -24);
}

/* One block to 8 bits: codes rint(x / step), step = the greatest / 127, kept as stored says. */
static void block(double *x, int64_t n, double least, double (*stored)(double))
{
	double most = least;

	for (int64_t i = 0; i < n; i++)
		most = fabs(x[i]) > most ? fabs(x[i]) : most;
	for (int64_t i = 0; i < n && most > 0; i++) {
		float inverse = (float)(1.0 / (double)(float)(most / 127));
		double step = most / 127;

		x[i] = rint((double)((float)x[i] * inverse)) * (stored ? stored(step) : step);
	}
}

static void round_row(enum act_format f, double *x, int64_t n)
{
	int64_t size = f == ACT_Q8_0 || f == ACT_Q8_1 ? 32 : f == ACT_Q8_K ? 256 : n;

	switch (f) {
	case ACT_F16:
		for (int64_t i = 0; i < n; i++)
			x[i] = half(x[i]);
		break;
	case ACT_BF16:
		for (int64_t i = 0; i < n; i++)
			x[i] = nearest(x[i], 8, -133);
		break;
	case ACT_Q8_0: case ACT_Q8_1: case ACT_Q8_K: case ACT_I8: case ACT_TL:
		for (int64_t i = 0; i + size <= n; i += size)
			block(x + i, size, f == ACT_I8 || f == ACT_TL ? 1e-5 : 0,
			      size == 32 ? half : 0);
		break;
	default:
		break;
	}
}

void oracle_round(enum act_format f, double *x, int64_t rows, int64_t n)
{
	for (int64_t r = 0; r < rows; r++)
		round_row(f, x + r * n, n);
}
