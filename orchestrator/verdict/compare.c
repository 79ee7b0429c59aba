#include "compare.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
	const char *name;
	int code;
} verdicts[] = {
	[VERDICT_NOT_RUN] = {"NOT_RUN", EXIT_NOTHING_RAN},
	[VERDICT_IDENTICAL] = {"IDENTICAL", EXIT_AGREE},
	[VERDICT_EQUIVALENT] = {"EQUIVALENT", EXIT_AGREE},
	[VERDICT_WITHIN_NOISE] = {"WITHIN_NOISE", EXIT_AGREE},
	[VERDICT_DRIFT] = {"DRIFT", EXIT_AGREE},
	[VERDICT_DIVERGED] = {"DIVERGED", EXIT_DIVERGED},
	[VERDICT_TOKENS_DIFFER] = {"TOKENS_DIFFER", EXIT_TOKENS_DIFFER},
	[VERDICT_NOT_COMPARABLE] = {"NOT_COMPARABLE", EXIT_NOTHING_RAN},
	[VERDICT_CRASHED] = {"CRASHED", EXIT_WORKER},
	[VERDICT_TIMED_OUT] = {"TIMED_OUT", EXIT_WORKER},
	[VERDICT_FAILED] = {"FAILED", EXIT_INFERENCE},
};

const char *verdict_name(enum verdict v)
{
	return verdicts[v].name;
}

int verdict_exit_code(enum verdict v)
{
	return verdicts[v].code;
}

static int severity(int code)
{
	switch (code) {
	case EXIT_AGREE:
		return 0;
	case EXIT_NOTHING_RAN:
		return 1;
	case EXIT_WORKER:
		return 3;
	case EXIT_TOKENS_DIFFER:
		return 4;
	case EXIT_DIVERGED:
		return 5;
	case EXIT_INTERRUPTED:
		return 6;
	default:
		return 2;
	}
}

int verdict_worse(int a, int b)
{
	return severity(b) > severity(a) ? b : a;
}

void compare_init(struct comparison *c, const struct thresholds *t)
{
	*c = (struct comparison){
		.first_different = -1,
		.first_beyond_noise = -1,
		.first_beyond_limit = -1,
		.worst = -1,
		.flip_step = -1,
		.min_cosine = 1,
	};
	c->thresholds = *t;
}

static struct compare_row *add_row(struct comparison *c)
{
	if (c->n == c->cap) {
		c->cap = c->cap ? 2 * c->cap : 64;
		c->rows = realloc(c->rows, (size_t)c->cap * sizeof(*c->rows));
		assert(c->rows);
	}
	return &c->rows[c->n++];
}

static void note_first(int *first, bool fine, int row)
{
	if (!fine && *first < 0)
		*first = row;
}

/* A NaN is worse than any number and stays. */
static bool worse(double x, double than)
{
	return !isnan(than) && !(x <= than);
}

static void keep_worst(double *kept, double x)
{
	if (worse(x, *kept))
		*kept = x;
}

static void sum_up(struct comparison *c, const struct metrics *m, int row)
{
	c->n_bits_equal += m->bits_equal;
	c->n_top1 += m->top1_agree;
	c->sum_top5 += m->top5_agree;
	c->n_nonfinite_ours += m->n_nonfinite_ours;
	c->n_nonfinite_ref += m->n_nonfinite_ref;
	c->max_ulp = m->max_ulp > c->max_ulp ? m->max_ulp : c->max_ulp;
	if (c->worst < 0 || worse(m->nmse, c->max_nmse))
		c->worst = row;
	keep_worst(&c->max_nmse, m->nmse);
	keep_worst(&c->max_abs, m->max_abs);
	keep_worst(&c->max_kl, m->kl);
	keep_worst(&c->max_l2, m->l2);
	if (!isnan(c->min_cosine) && !(m->cosine >= c->min_cosine))
		c->min_cosine = m->cosine;
	c->sum_cosine += m->cosine;
	c->sum_kl += m->kl;
}

bool compare_add(struct comparison *c, int pos, int step, const struct metrics *m,
		 int32_t token_ours, int32_t token_ref)
{
	struct compare_row *r;
	int row = c->n;

	if (c->flip_step >= 0)
		return false;
	r = add_row(c);
	*r = (struct compare_row){
		.pos = pos,
		.step = step,
		.top1_ours = m->top1_ours,
		.top1_ref = m->top1_ref,
		.cosine = m->cosine,
		.nmse = m->nmse,
		.max_abs = m->max_abs,
		.l2 = m->l2,
		.kl = m->kl,
		.margin_ref = m->margin_ref,
		.kendall = m->kendall,
		.top5_agree = m->top5_agree,
		.max_ulp = m->max_ulp,
		.bits_equal = m->bits_equal,
		.inside_limit = limits_hold(&c->thresholds.limit, m),
		.inside_noise = limits_hold(&c->thresholds.noise, m),
	};
	c->n_decode += step > 0;
	sum_up(c, m, row);
	note_first(&c->first_different, m->bits_equal, row);
	note_first(&c->first_beyond_noise, r->inside_noise, row);
	note_first(&c->first_beyond_limit, r->inside_limit, row);
	if (token_ours >= 0 && token_ref >= 0) {
		c->n_greedy++;
		if (token_ours != token_ref) {
			c->flip_step = c->n_greedy - 1;
			c->flip_ours = token_ours;
			c->flip_ref = token_ref;
			c->flip_margin = m->flip_margin;
			c->flip_error = c->max_abs;
			/* a side that does not take its own greatest logit is no tie */
			c->flip_is_tie = r->inside_limit && m->flip_margin <= c->max_abs &&
					 m->top1_ours == token_ours && m->top1_ref == token_ref;
		}
	}
	return true;
}

static bool fractions_hold(const struct limits *l, const struct comparison *c)
{
	if (!isnan(l->min_top1) && !((double)c->n_top1 / c->n >= l->min_top1))
		return false;
	return isnan(l->min_top5) || c->sum_top5 / c->n >= l->min_top5;
}

enum verdict compare_decide(const struct comparison *c)
{
	if (c->n == 0)
		return VERDICT_NOT_RUN;
	if (c->first_beyond_limit >= 0 || (c->flip_step >= 0 && !c->flip_is_tie) ||
	    !fractions_hold(&c->thresholds.limit, c))
		return VERDICT_DIVERGED;
	if (c->first_different < 0 && c->flip_step < 0)
		return VERDICT_IDENTICAL;
	if (c->first_beyond_noise >= 0 || !fractions_hold(&c->thresholds.noise, c))
		return VERDICT_DRIFT;
	return VERDICT_WITHIN_NOISE;
}

static const char *position_kind(const struct compare_row *r)
{
	return r->step > 0 ? "decode" : "prefill";
}

static int explain_divergence(const struct comparison *c, char *out, size_t size)
{
	const struct compare_row *r;

	if (c->first_beyond_limit >= 0) {
		r = &c->rows[c->first_beyond_limit];
		if (c->n_nonfinite_ours + c->n_nonfinite_ref && isnan(r->nmse))
			return snprintf(
			    out, size,
			    "diverged first at position %d (%s): NaN or Inf in the logits "
			    "(ours %lld in all, reference %lld)",
			    r->pos, position_kind(r), (long long)c->n_nonfinite_ours,
			    (long long)c->n_nonfinite_ref);
		return snprintf(out, size,
				"diverged first at position %d (%s): NMSE %.3g, cosine %.9g, "
				"max|diff| %.3g; worst position %d",
				r->pos, position_kind(r), r->nmse, r->cosine, r->max_abs,
				c->rows[c->worst].pos);
	}
	if (c->flip_step >= 0 && !c->flip_is_tie)
		return snprintf(
		    out, size,
		    "greedy decoding flipped at id %d after the prompt: ours %d, reference "
		    "%d, which it preferred by %.3g where the measured error is %.3g",
		    c->flip_step, c->flip_ours, c->flip_ref, c->flip_margin, c->flip_error);
	return snprintf(out, size, "top-1 agreement %.4f, top-5 %.4f over %d positions",
			(double)c->n_top1 / c->n, c->sum_top5 / c->n, c->n);
}

void compare_explain(const struct comparison *c, char *out, size_t size)
{
	enum verdict v = compare_decide(c);
	int n;

	if (v == VERDICT_NOT_RUN) {
		snprintf(out, size, "no position was compared");
		return;
	}
	if (v == VERDICT_DIVERGED)
		n = explain_divergence(c, out, size);
	else if (v == VERDICT_IDENTICAL)
		n = snprintf(out, size, "the same bits at all %d positions", c->n);
	else
		n = snprintf(out, size, "worst NMSE %.3g at position %d, %d compared",
			     c->max_nmse, c->rows[c->worst].pos, c->n);
	if (c->flip_step >= 0 && c->flip_is_tie && n >= 0 && (size_t)n < size)
		snprintf(out + n, size - (size_t)n,
			 "; greedy ids equal up to a near tie at id %d (margin %.3g, error %.3g)",
			 c->flip_step, c->flip_margin, c->flip_error);
}

void compare_free(struct comparison *c)
{
	free(c->rows);
	*c = (struct comparison){0};
}
