#include "tensor_diff.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static int64_t ordered(float x)
{
	int32_t i;

	memcpy(&i, &x, sizeof(i));
	return i < 0 ? (int64_t)INT32_MIN - i : i;
}

uint32_t tensor_ulp(float a, float b)
{
	int64_t i = ordered(a), j = ordered(b), d = i > j ? i - j : j - i;

	if (isnan(a) || isnan(b))
		return memcmp(&a, &b, sizeof(a)) == 0 ? 0 : UINT32_MAX;
	return d > UINT32_MAX ? UINT32_MAX : (uint32_t)d;
}

struct sums {
	double aa, bb, ab, dd;
};

static double greatest(const float *b, int64_t n)
{
	double m = 0;

	for (int64_t i = 0; i < n; i++)
		if (isfinite(b[i]) && fabs((double)b[i]) > m)
			m = fabs((double)b[i]);
	return m;
}

static void add_value(struct tensor_diff *d, struct sums *s, float a, float b, int64_t at,
		      double unit)
{
	bool same = memcmp(&a, &b, sizeof(a)) == 0;
	double off = same ? 0 : fabs((double)a - (double)b);
	uint32_t ulp;

	d->n_nonfinite += !isfinite(a) || !isfinite(b);
	if (same && !isfinite(a))
		return;
	s->aa += (double)a * (double)a;
	s->bb += (double)b * (double)b;
	s->ab += (double)a * (double)b;
	s->dd += off * off;
	if (same)
		return;
	d->n_different++;
	ulp = tensor_ulp(a, b);
	d->max_ulp = ulp > d->max_ulp ? ulp : d->max_ulp;
	if (!isfinite(off))
		off = INFINITY;
	if (d->worst < 0 || off > d->max_abs) {
		d->max_abs = off;
		d->worst = at;
		d->worst_a = a;
		d->worst_b = b;
	}
	off = off > 0 ? off / unit : 0;
	d->row_ulp = off > d->row_ulp ? off : d->row_ulp;
}

void tensor_diff(struct tensor_diff *d, const float *a, const float *b, int64_t n, int64_t rows)
{
	int64_t width = rows > 0 ? n / rows : n;
	struct sums s = {0};

	*d = (struct tensor_diff){.n = n, .worst = -1, .cosine = 1};
	for (int64_t at = 0; at < n; at += width) {
		double most = greatest(b + at, width);
		double unit = most > 0x1p-126 ? most * 0x1p-23 : 0x1p-149;

		for (int64_t i = at; i < at + width; i++)
			add_value(d, &s, a[i], b[i], i, unit);
	}
	d->nmse = s.dd == 0 ? 0 : s.bb > 0 ? s.dd / s.bb : INFINITY;
	if (isnan(d->nmse) || isinf(d->max_abs))
		d->nmse = INFINITY;
	d->rel_rms = sqrt(d->nmse);
	if (d->n_different && (s.aa > 0 || s.bb > 0))
		d->cosine = s.aa > 0 && s.bb > 0 ? s.ab / sqrt(s.aa * s.bb) : 0;
}
