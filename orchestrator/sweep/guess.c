#include "guess.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NARROWING_STEPS = 48, DIGITS_MAX = 7 };

struct guessing {
	struct side *native;
	struct finding *f;
	const struct local_seen *s;
	const struct hypothesis_value *v;	/* of the hypothesis that is being tried; NULL = none */
};

bool guess_again(struct side *native, const char *variant, const struct local_seen *s,
		 struct tensor_diff *d)
{
	struct side_op op = s->op;
	struct err ignored = ERR_NONE;
	float *out = NULL;
	int64_t n = 0;

	op.variant = variant;
	if (side_replay(native, &op, &out, &n, &ignored) < 0)
		return false;
	if (n == s->n)
		tensor_diff(d, out, s->got, n, s->op.n_rows);
	free(out);
	return n == s->n;
}

/* Kept when it comes nearer than what there is; false: native cannot compute it. */
static bool take_nearest(struct guessing *g, const struct hypothesis *h, const char *variant,
			 struct tensor_diff *d)
{
	struct finding *f = g->f;

	if (!guess_again(g->native, variant, g->s, d))
		return false;
	if (!(d->row_ulp < f->diff.row_ulp) || (*f->variant && !(d->row_ulp < f->variant_row_ulp)))
		return true;
	snprintf(f->variant, sizeof(f->variant), "%s", variant);
	f->hypothesis = h;
	f->variant_row_ulp = d->row_ulp;
	f->variant_rel_rms = d->rel_rms;
	f->explains = d->row_ulp <= f->bound;
	return true;
}

/* ---- values ------------------------------------------------------------------------------- */

/* The factor that brings what was replayed nearest to what is there. */
static double fitted_scale(const struct local_seen *s)
{
	double ab = 0, aa = 0;

	for (int64_t i = 0; i < s->n; i++) {
		ab += (double)s->replayed[i] * (double)s->got[i];
		aa += (double)s->replayed[i] * (double)s->replayed[i];
	}
	return aa > 0 ? ab / aa : 0;
}

/* Distance with the value, INFINITY when it cannot be computed; keeps the nearest. */
static double with_value(struct guessing *g, const struct hypothesis *h, double value, int digits)
{
	struct tensor_diff d;
	char variant[64];

	snprintf(variant, sizeof(variant), "%s%.*g", h->variant, digits, value);
	return take_nearest(g, h, variant, &d) && isfinite(d.rel_rms) ? d.rel_rms : INFINITY;
}

static void each_name(struct guessing *g, const struct hypothesis *h)
{
	struct tensor_diff d;
	char variant[64];

	for (int k = 0; k < (g->v->how == FIT_LAYER ? g->native->n_layer : STAGE_COUNT); k++) {
		bool own = g->v->how == FIT_LAYER ? k == g->s->op.layer : k == (int)g->s->op.stage;

		if (own || g->f->explains)
			continue;
		if (g->v->how == FIT_LAYER)
			snprintf(variant, sizeof(variant), "%s%d", h->variant, k);
		else
			snprintf(variant, sizeof(variant), "%s%s", h->variant,
				 trace_stage_name((enum trace_stage)k));
		take_nearest(g, h, variant, &d);
	}
}

/* The roundest value that still explains what is there. */
static void round_value(struct guessing *g, const struct hypothesis *h, double value)
{
	struct tensor_diff d;
	char variant[64];

	for (int digits = 1; g->f->explains && digits <= DIGITS_MAX; digits++) {
		snprintf(variant, sizeof(variant), "%s%.*g", h->variant, digits, value);
		if (!guess_again(g->native, variant, g->s, &d) || d.row_ulp > g->f->bound)
			continue;
		snprintf(g->f->variant, sizeof(g->f->variant), "%s", variant);
		g->f->variant_row_ulp = d.row_ulp;
		g->f->variant_rel_rms = d.rel_rms;
		return;
	}
}

/* The least distance between two neighbours of the best step, by golden sections of the logarithm. */
static void narrow(struct guessing *g, const struct hypothesis *h, double low, double high)
{
	const double golden = 0.6180339887498949;
	double a = log(low), b = log(high), c = b - golden * (b - a), d = a + golden * (b - a);
	double at_c = with_value(g, h, exp(c), 9), at_d = with_value(g, h, exp(d), 9);

	for (int i = 0; i < NARROWING_STEPS; i++)
		if (at_c < at_d) {
			b = d, d = c, at_d = at_c;
			c = b - golden * (b - a);
			at_c = with_value(g, h, exp(c), 9);
		} else {
			a = c, c = d, at_c = at_d;
			d = a + golden * (b - a);
			at_d = with_value(g, h, exp(d), 9);
		}
	round_value(g, h, exp(at_c < at_d ? c : d));
}

/* Steps of whole thousandths of a decade: 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8 and their like. */
static void search(struct guessing *g, const struct hypothesis *h)
{
	static const double steps[] = {1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8};
	const int n = sizeof(steps) / sizeof(steps[0]);
	double best = INFINITY, at = 0;

	for (double decade = pow(10, floor(log10(g->v->low))); decade <= g->v->high; decade *= 10)
		for (int i = 0; i < n && !g->f->explains; i++) {
			double value = decade * steps[i], off;

			if (value < g->v->low || value > g->v->high)
				continue;
			off = with_value(g, h, value, 9);
			if (off < best)
				best = off, at = value;
			off = with_value(g, h, 1 / value, 9);
			if (1 / value >= g->v->low && 1 / value <= g->v->high && off < best)
				best = off, at = 1 / value;
		}
	if (at > 0 && !g->f->explains && best < g->f->diff.rel_rms)
		narrow(g, h, fmax(at / 1.4, g->v->low), fmin(at * 1.4, g->v->high));
}

static void fit(struct guessing *g, const struct hypothesis *h)
{
	double factor;

	switch (g->v->how) {
	case FIT_SCALE:
		factor = fitted_scale(g->s);
		if (isfinite(factor) && factor != 0 && fabs(factor - 1) >= 1e-6)
			with_value(g, h, factor, 9);
		break;
	case FIT_LAYER: case FIT_STAGE:
		each_name(g, h);
		break;
	case FIT_INTEGER:
		for (double v = g->v->low; v <= g->v->high && !g->f->explains; v++)
			with_value(g, h, v, 9);
		break;
	default:
		search(g, h);
	}
}

static const struct hypothesis_value *value_of(const struct hypothesis *h)
{
	for (const struct hypothesis_value *v = hypothesis_values; v->variant; v++)
		if (strcmp(v->variant, h->variant) == 0)
			return v;
	return NULL;
}

void guess(struct side *native, struct finding *f, const struct local_seen *s)
{
	struct guessing g = {native, f, s, NULL};
	struct tensor_diff d;

	for (const struct hypothesis *h = hypotheses; h->variant; h++) {
		if (!(h->stages >> f->stage & 1))
			continue;
		g.v = value_of(h);
		if (!g.v)
			take_nearest(&g, h, h->variant, &d);
		else if (!f->explains || g.v->how < FIT_INTEGER)
			fit(&g, h);
	}
	f->n_explained = f->explains;
}
