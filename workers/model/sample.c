#include "sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sample_candidate {
	float logit;
	int32_t id;
	double p;
};

int32_t sample_greedy(const float *logits, int n_vocab)
{
	int32_t best = 0;
	for (int32_t i = 1; i < n_vocab; i++)
		if (logits[i] > logits[best] || (isnan(logits[best]) && !isnan(logits[i])))
			best = i;
	return best;
}

int sampler_init(struct sampler *s, int n_vocab, float temperature, int top_k, float top_p,
		 uint64_t seed, struct err *e)
{
	if (!(temperature >= 0) || !isfinite(temperature) || top_k < 0 ||
	    !(top_p >= 0 && top_p <= 1))
		return err_set(e, EXIT_USAGE,
			       "temperature %g, top-k %d, top-p %g: expected ≥ 0, ≥ 0 and 0 to 1",
			       (double)temperature, top_k, (double)top_p);
	struct sampler n = {temperature, top_k, top_p, seed, NULL, n_vocab};
	if (temperature > 0) {
		n.order = malloc((size_t)n_vocab * sizeof(*n.order));
		if (!n.order)
			return err_set(e, EXIT_INFERENCE, "no memory to sample from %d tokens",
				       n_vocab);
	}
	*s = n;
	return 0;
}

void sampler_free(struct sampler *s)
{
	free(s->order);
	memset(s, 0, sizeof(*s));
}

static double uniform(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int by_logit(const void *a, const void *b)
{
	const struct sample_candidate *x = a, *y = b;
	if (x->logit != y->logit)
		return x->logit > y->logit ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

int32_t sampler_choose(struct sampler *s, const float *logits)
{
	if (s->temperature <= 0)
		return sample_greedy(logits, s->n_vocab);
	int n = 0;
	for (int32_t i = 0; i < s->n_vocab; i++)
		if (!isnan(logits[i]))
			s->order[n++] = (struct sample_candidate){logits[i], i, 0};
	if (n == 0)
		return 0;
	qsort(s->order, (size_t)n, sizeof(*s->order), by_logit);
	if (s->top_k > 0 && s->top_k < n)
		n = s->top_k;
	double total = 0, kept = 0;
	for (int i = 0; i < n; i++) {
		double z = ((double)s->order[i].logit - s->order[0].logit) / s->temperature;
		total += s->order[i].p = exp(z);
	}
	int m = 0;
	while (m < n && (m == 0 || kept < s->top_p * total))
		kept += s->order[m++].p;
	double u = uniform(&s->state) * kept;
	for (int i = 0; i < m; i++) {
		u -= s->order[i].p;
		if (u < 0)
			return s->order[i].id;
	}
	return s->order[m - 1].id;
}
