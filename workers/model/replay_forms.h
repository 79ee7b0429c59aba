/*
 * Operations in forms that no engine of ours runs, in plain loops and float64: what a hypothesis is
 * compared with. Values in logical order, as in replay.h.
 */
#ifndef ASSAY_REPLAY_FORMS_H
#define ASSAY_REPLAY_FORMS_H

#include <stdint.h>

enum replay_form {
	FORM_OWN,		/* as the model has it */
	FORM_GELU,		/* x·(1 + tanh(√(2/π)(x + 0.044715x³)))/2 (Hendrycks and Gimpel, 2016) */
	FORM_GELU_ERF,		/* x·(1 + erf(x/√2))/2 */
	FORM_RELU,
	FORM_LINEAR,		/* no activation */
	FORM_UNGATED,		/* the activation alone, up unused */
	FORM_LAYER_NORM,	/* the mean subtracted first, then the variance */
	FORM_WEIGHT_PLUS_ONE,	/* RMSNorm times 1 + weight */
	FORM_EPS_OUTSIDE,	/* 1 / (√mean square + epsilon) */
};

/* out[i] = form(gate[i]) · up[i], n values; silu: the activation of FORM_UNGATED. */
void form_glu(enum replay_form f, int silu, const float *gate, const float *up, float *out,
	      int64_t n);

/* Rows of n values; w [n] or NULL. */
void form_norm(enum replay_form f, const float *in, const float *w, double eps, int64_t n,
	       int64_t n_rows, float *out);

/* x ← cap · tanh(x / cap), n values. */
void form_softcap(float *x, double cap, int64_t n);

/* To half precision, toward zero: a cache written by truncation. */
void form_half_toward_zero(const float *in, float *out, int64_t n);

#endif
