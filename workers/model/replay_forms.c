#include "replay_forms.h"

#include <math.h>

static double activate(enum replay_form f, int silu, double x)
{
	double positive = x > 0 ? x : 0;

	switch (f) {
	case FORM_GELU:
		return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
	case FORM_GELU_ERF:
		return 0.5 * x * (1 + erf(x * 0.7071067811865476));
	case FORM_RELU:
		return positive;
	case FORM_UNGATED:
		return silu ? x / (1 + exp(-x)) : positive * positive;
	default:
		return x;
	}
}

void form_glu(enum replay_form f, int silu, const float *gate, const float *up, float *out,
	      int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		double y = activate(f, silu, (double)gate[i]);

		out[i] = (float)(f == FORM_UNGATED ? y : y * (double)up[i]);
	}
}

static void norm_row(enum replay_form f, const float *in, const float *w, double eps, int64_t n,
		     float *out)
{
	double mean = 0, square = 0, scale;

	for (int64_t i = 0; i < n && f == FORM_LAYER_NORM; i++)
		mean += (double)in[i] / (double)n;
	for (int64_t i = 0; i < n; i++)
		square += ((double)in[i] - mean) * ((double)in[i] - mean) / (double)n;
	scale = f == FORM_EPS_OUTSIDE ? 1 / (sqrt(square) + eps) : 1 / sqrt(square + eps);
	for (int64_t i = 0; i < n; i++) {
		double weight = w ? (double)w[i] : 1;

		if (f == FORM_WEIGHT_PLUS_ONE)
			weight += 1;
		out[i] = (float)(((double)in[i] - mean) * scale * weight);
	}
}

void form_norm(enum replay_form f, const float *in, const float *w, double eps, int64_t n,
	       int64_t n_rows, float *out)
{
	for (int64_t r = 0; r < n_rows; r++)
		norm_row(f, in + r * n, w, eps, n, out + r * n);
}

void form_softcap(float *x, double cap, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)(cap * tanh((double)x[i] / cap));
}

void form_half_toward_zero(const float *in, float *out, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		int e;
		float m = frexpf(in[i], &e);
		/* 11 bits of mantissa; below 2⁻¹⁴ steps of 2⁻²⁴ */
		int bits = e > -14 ? 11 : e + 24;

		out[i] = bits <= 0 ? 0 : ldexpf(truncf(ldexpf(m, bits)), e - bits);
	}
}
