#include "ties.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { PASSES_MAX = 4 };

/* Σ (got − now) · step and Σ step² of one row: their ratio is how often the step is missing. */
static double missing(const float *got, const float *now, const float *from, const float *to,
		      int64_t width)
{
	double along = 0, square = 0;

	for (int64_t i = 0; i < width; i++) {
		double step = (double)to[i] - (double)from[i];

		along += ((double)got[i] - (double)now[i]) * step;
		square += step * step;
	}
	return square > 0 ? along / square : 0;
}

static bool beyond(const float *a, const float *b, int64_t width, double bound)
{
	double most = 0, unit = 0;

	for (int64_t i = 0; i < width; i++) {
		most = fmax(most, fabs((double)a[i] - (double)b[i]));
		unit = fmax(unit, fabs((double)b[i]));
	}
	return !(most <= bound * unit * 0x1p-23);
}

/* One tie alone is the replayer's own result; of several the steps add up. */
static void put_together(const struct ties *t, int64_t at, const bool *turned, float *out)
{
	const float *plain = t->plain + at;
	int n = 0, last = 0;

	for (int k = 0; k < t->n; k++)
		if (turned[k]) {
			n++;
			last = k;
		}
	if (n <= 1) {
		memcpy(out, n ? t->turned[last] + at : plain, (size_t)t->width * sizeof(float));
		return;
	}
	for (int64_t i = 0; i < t->width; i++) {
		double x = (double)plain[i];

		for (int k = 0; k < t->n; k++)
			if (turned[k])
				x += (double)t->turned[k][at + i] - (double)plain[i];
		out[i] = (float)x;
	}
}

static int turn_row(const struct ties *t, int64_t at, float *out)
{
	const float *plain = t->plain + at, *got = t->got + at;
	bool turned[TIES_MAX] = {false}, moved = true;
	int n = 0;

	for (int pass = 0; pass < PASSES_MAX && moved; pass++) {
		moved = false;
		for (int k = 0; k < t->n; k++) {
			double m = missing(got, out, plain, t->turned[k] + at, t->width);

			if (turned[k] ? !(m < -0.5) : !(m > 0.5))
				continue;
			turned[k] = !turned[k];
			n += turned[k] ? 1 : -1;
			moved = true;
			put_together(t, at, turned, out);
		}
	}
	return n;
}

int ties_turn(const struct ties *t, float *out)
{
	int n = 0;

	memcpy(out, t->plain, (size_t)(t->rows * t->width) * sizeof(float));
	for (int64_t r = 0; r < t->rows; r++) {
		int64_t at = r * t->width;

		if (beyond(t->plain + at, t->got + at, t->width, t->bound))
			n += turn_row(t, at, out + at);
	}
	return n;
}
