/*
 * How far native's float32 answer of one operation may be from the oracle's float64 answer on the
 * same inputs, derived from the formats, as worst cases:
 *
 *	u = 2^-24	a float32 operation rounds once: relative u
 *	activations	native rounds the rows of a product to its weight type's activation format:
 *			F16 |x|·2^-11 (and 2^-25 below its normal range), BF16 |x|·2^-9, and codes of
 *			±127: half a step, step = max|x| / 127 over 32 (Q8_0, Q8_1), 256 (Q8_K) or all
 *			(I8) elements; the step itself is a half in Q8_0 and Q8_1: codes times 2^-11
 *	products	Σ|w|·(what x lost) + roundings of sums: lanes of 8 add up n/8 terms, then some
 *			more, of size |w| + 4·(largest |w| near it), because offsets of a block are
 *			summed apart from its codes
 *	norms		a sum of rounded squares (u), mean, epsilon, root, quotient, two products
 *	RoPE		the angle comes from i products of a rounded ratio: relative (2i + 6)·u, at most
 *			pos · base^(−2i/d) large; sine and cosine follow it, then two products
 *	softmax		e^z moves by as much as z does: u times the largest |z|, a few times
 *	attention	keys, values, queries and probabilities are halves
 */
#ifndef ASSAY_ORACLE_BOUNDS_H
#define ASSAY_ORACLE_BOUNDS_H

#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double bound_u = 0x1p-24, bound_half = 0x1p-11, bound_half_least = 0x1p-25;

/* Largest |x| of the block of `size` elements that i lies in; 0 = all n. */
static inline double bound_block_max(const float *x, int64_t n, int64_t i, int64_t size)
{
	int64_t from = size ? i / size * size : 0, to = size && from + size < n ? from + size : n;
	double most = 0;

	for (int64_t k = from; k < to; k++)
		most = fmax(most, fabs((double)x[k]));
	return most;
}

/* lost[i]: how far x[i] may move when its row is stored in `act`. */
static inline void bound_activation(enum act_format act, const float *x, int64_t n, double *lost)
{
	static const int64_t block[ACT_COUNT] = {
		[ACT_Q8_0] = 32, [ACT_Q8_1] = 32, [ACT_Q8_K] = 256};
	double most = 0;

	for (int64_t i = 0; i < n; i++) {
		double a = fabs((double)x[i]);

		if (act >= ACT_Q8_0 && (i == 0 || (block[act] && i % block[act] == 0)))
			most = bound_block_max(x, n, i, block[act]);
		double step = (act == ACT_I8 ? fmax(most, 1e-5) : most) / 127 * (1 + 8 * bound_u);

		lost[i] = act == ACT_F32    ? 0
			  : act == ACT_F16  ? a * bound_half + bound_half_least
			  : act == ACT_BF16 ? a * 0x1p-9
					    : 0.5 * step;
		if ((act == ACT_Q8_0 || act == ACT_Q8_1) && step > 0)
			lost[i] += (a / step + 0.5) * fmax(step * bound_half, bound_half_least);
	}
}

static inline void bound_row(const struct weight *w, int64_t row, float *dst)
{
	w->type->dequantize(w->data + (size_t)row * w->row_bytes, w->tail, dst, w->n_in);
}

/* bound: [rows, n_out]; y: the oracle's answer. */
static inline void bound_linear(const struct linear *l, const float *x, int64_t rows,
				const float *y, double *bound)
{
	int64_t n = l->w.n_in;
	int64_t near = l->w.type->block_elems > 1 ? 32 : 0;
	float *w = malloc((size_t)n * sizeof(*w));
	double *lost = malloc((size_t)(n * rows) * sizeof(*lost)),
	       *most = malloc((size_t)n * sizeof(*most));

	for (int64_t t = 0; t < rows; t++)
		bound_activation(l->w.type->act, x + t * n, n, lost + t * n);
	for (int64_t r = 0; r < l->w.n_out; r++) {
		bound_row(&l->w, r, w);
		for (int64_t i = 0; i < n; i++)
			most[i] = !near      ? 0
				  : i % near ? most[i - 1]
					     : 4 * bound_block_max(w, n, i, near);
		for (int64_t t = 0; t < rows; t++) {
			double moved = 0, sums = 0, block = 0;

			for (int64_t i = 0; i < n; i++) {
				double a = fabs((double)x[t * n + i]) + lost[t * n + i];

				moved += fabs((double)w[i]) * lost[t * n + i];
				sums += (fabs((double)w[i]) + most[i]) * a;
				block += most[i] / 4 * a; /* the block's sum is a half (Q8_1) */
			}
			if (l->w.type->act == ACT_Q8_1)
				moved += block * bound_half + (double)n / 32 * bound_half_least;
			bound[t * l->w.n_out + r] =
				moved + sums * ((double)n / 8 + 40) * bound_u +
				4 * bound_u * fabs((double)y[t * l->w.n_out + r]) +
				(l->bias ? 4 * bound_u * fabs((double)l->bias[r]) : 0);
		}
	}
	free(w);
	free(lost);
	free(most);
}

static inline void bound_relative(const float *y, int64_t n, double times_u, double *bound)
{
	for (int64_t i = 0; i < n; i++)
		bound[i] = fabs((double)y[i]) * times_u * bound_u + 0x1p-140;
}

static inline void bound_add(const float *a, const float *b, int64_t n, double *bound)
{
	for (int64_t i = 0; i < n; i++)
		bound[i] = 2 * bound_u * (fabs((double)a[i]) + fabs((double)b[i]));
}

static inline void bound_rope(const struct hparams *h, const float *x, int64_t pos0, int64_t rows,
			      int heads, double *bound)
{
	int half = h->rope.n_dims / 2;

	memset(bound, 0, (size_t)(rows * heads * h->head_dim) * sizeof(*bound));
	for (int64_t t = 0; t < rows; t++)
		for (int i = 0; i < half; i++) {
			double theta = (double)(pos0 + t) *
				       pow((double)h->rope.base, -2.0 * i / h->rope.n_dims);
			double off = theta * (2 * i + 6) * bound_u + 8 * bound_u;

			for (int head = 0; head < heads; head++) {
				int64_t at = (t * heads + head) * h->head_dim;
				int64_t a = at + (h->neox ? i : 2 * i),
					b = at + (h->neox ? i + half : 2 * i + 1);

				bound[a] = bound[b] =
					(fabs((double)x[a]) + fabs((double)x[b])) * off * 2;
			}
		}
}

static inline void bound_scores(const struct hparams *h, const float *q, const float *k,
				int64_t pos0, int64_t rows, int64_t cells, double *bound)
{
	int d = h->head_dim, share = h->n_head / h->n_kv_head;

	for (int64_t t = 0; t < rows; t++)
		for (int head = 0; head < h->n_head; head++)
			for (int64_t c = 0; c < cells; c++) {
				const float *qh = q + (t * h->n_head + head) * d;
				const float *kh = k + (c * h->n_kv_head + head / share) * d;
				double sum = 0, flat = 0;

				for (int i = 0; i < d && c <= pos0 + t; i++) {
					sum += fabs((double)qh[i] * (double)kh[i]);
					flat += fabs((double)qh[i]) + fabs((double)kh[i]);
				}
				bound[(t * h->n_head + head) * cells + c] =
					sum * (2.01 * bound_half + (d / 8.0 + 40) * bound_u) +
					flat * bound_half_least;
			}
}

static inline void bound_softmax(const struct hparams *h, const float *scores, const float *p,
				 int64_t rows, int64_t cells, double *bound)
{
	for (int64_t r = 0; r < rows * h->n_head; r++) {
		double most = 0;

		for (int64_t c = 0; c < cells; c++)
			most = fmax(most,
				    fabs((double)scores[r * cells + c] * (double)h->attn_scale));
		for (int64_t c = 0; c < cells; c++)
			bound[r * cells + c] =
				fabs((double)p[r * cells + c]) * (8 * most + 24) * bound_u +
				0x1p-126;
	}
}

static inline void bound_heads(const struct hparams *h, const float *p, const float *v,
			       int64_t rows, int64_t cells, double *bound)
{
	int d = h->head_dim, share = h->n_head / h->n_kv_head;

	for (int64_t t = 0; t < rows; t++)
		for (int head = 0; head < h->n_head; head++)
			for (int i = 0; i < d; i++) {
				double sum = 0, flat = 0;

				for (int64_t c = 0; c < cells; c++) {
					double w =
						fabs((double)p[(t * h->n_head + head) * cells + c]);
					double x = fabs(
						(double)v[(c * h->n_kv_head + head / share) * d +
							  i]);

					sum += w * x;
					flat += w + x;
				}
				bound[(t * h->n_head + head) * d + i] =
					sum * (2.01 * bound_half +
					       ((double)cells / 8 + 40) * bound_u) +
					flat * bound_half_least;
			}
}

#endif
