/*
 * Choosing the next token: the first maximum (greedy), or by temperature, top-k and top-p with a
 * seed. The generator is SplitMix64 (Steele, Lea, Flood 2014): state += 0x9e3779b97f4a7c15, two
 * xor-shift-multiply rounds; its top 53 bits give a uniform number in [0, 1). The same seed,
 * logits and settings choose the same tokens on every machine.
 *
 * Order: sort by logit (ties: lower id first), keep top_k, softmax of logit/temperature in
 * float64, keep the smallest prefix whose probability reaches top_p, draw.
 */
#ifndef ASSAY_SAMPLE_H
#define ASSAY_SAMPLE_H

#include "err.h"

#include <stdint.h>

struct sampler {
	float temperature;	/* 0 = greedy */
	int top_k;		/* 0 = all */
	float top_p;		/* 1 = all */
	uint64_t state;
	struct sample_candidate *order;	/* [n_vocab], owned */
	int n_vocab;
};

int sampler_init(struct sampler *s, int n_vocab, float temperature, int top_k, float top_p,
		 uint64_t seed, struct err *e);
void sampler_free(struct sampler *s);		/* accepts zeroed */
int32_t sampler_choose(struct sampler *s, const float *logits);	/* [n_vocab] */

/* First maximum; NaN never wins. */
int32_t sample_greedy(const float *logits, int n_vocab);

#endif
