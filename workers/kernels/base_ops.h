/*
 * Everything that is no matrix product: norm, rotation, gate, addition, softmax, attention, and
 * the matmul loop over them; the plain definition. See base_dot.h.
 */
#ifndef ASSAY_BASE_OPS_H
#define ASSAY_BASE_OPS_H

#include "base_quant.h"
#include "variants.h"

#include <math.h>

/* ---- rows --------------------------------------------------------------------------------- */

static inline double sum_of_squares(const float *x, int64_t n)
{
	double sum = 0;

	for (int64_t i = 0; i < n; i++)
		sum += (double)(x[i] * x[i]);
	return sum;
}

/*
 * The mean of squares, summed in order and rounded to float, without the wait for each addition:
 * any order of n non-negative terms is within n · 2^-53 of the exact sum, so when both ends of that
 * interval (doubled) round to the same float, the ordered sum does too. Else it is summed in order.
 */
static inline float mean_of_squares(const float *x, int64_t n)
{
	double lane[16] = {0}, sum = 0, reach = (double)n * 0x1p-51, low, high;
	int64_t i = 0;

	for (; i + 16 <= n; i += 16)
		for (int l = 0; l < 16; l++)
			lane[l] += (double)(x[i + l] * x[i + l]);
	for (; i < n; i++)
		sum += (double)(x[i] * x[i]);
	for (int l = 0; l < 16; l++)
		sum += lane[l];
	low = sum * (1 - reach) / (double)n;
	high = sum * (1 + reach) / (double)n;
	if ((float)low == (float)high)
		return (float)low;
	return (float)(sum_of_squares(x, n) / (double)n);
}

static inline void base_rms_norm(const struct kernels *k, const float *x, const float *w, float eps,
			  float *y, int64_t n, int64_t n_rows)
{
	(void)k;
	for (int64_t r = 0; r < n_rows; r++, x += n, y += n) {
		float scale = 1.0f / sqrtf(mean_of_squares(x, n) + eps);

		if (w)
			for (int64_t i = 0; i < n; i++)
				y[i] = x[i] * scale * w[i];
		else
			for (int64_t i = 0; i < n; i++)
				y[i] = x[i] * scale;
	}
}

/* the product with the second half is rounded, the one with the first is fused */
static inline void rotate(float *a, float *b, float c, float s)
{
	float x0 = *a, x1 = *b;

	*a = __builtin_fmaf(x0, c, -(x1 * s));
	*b = __builtin_fmaf(x0, s, x1 * c);
}

/* gcc 12 makes a vfmaddsub of such a pair even under -ffp-contract=off: hence volatile */
static inline void rotate_unfused(float *a, float *b, float c, float s)
{
	volatile float p0 = *a * c, p1 = *b * s, p2 = *a * s, p3 = *b * c;

	*a = p0 - p1;
	*b = p2 + p3;
}

static inline void base_rope(const struct kernels *k, float *x, const float *cs, int n_heads,
			     int head_dim, int n_dims, bool neox)
{
	int pairs = n_dims / 2, lanes = k->profile.lanes == LANES_AVX2 ? 2 : 4;
	int fused = k->profile.rope_norm_tail_unfused ? pairs - pairs % lanes : pairs;

	for (int h = 0; h < n_heads; h++, x += head_dim) {
		if (neox) {
			for (int i = 0; i < pairs; i++)
				rotate(&x[i], &x[i + pairs], cs[2 * i], cs[2 * i + 1]);
			continue;
		}
		for (int i = 0; i < fused; i++)
			rotate(&x[2 * i], &x[2 * i + 1], cs[2 * i], cs[2 * i + 1]);
		for (int i = fused; i < pairs; i++)
			rotate_unfused(&x[2 * i], &x[2 * i + 1], cs[2 * i], cs[2 * i + 1]);
	}
}

static inline void base_glu(const struct kernels *k, enum activation a, const float *gate,
			    const float *up, float *y, int64_t n)
{
	int lanes = k->profile.lanes == LANES_AVX2 ? 8 : 16;
	int64_t whole = n / lanes * lanes;

	if (a == ACTIVATION_RELU2) {
		for (int64_t i = 0; i < n; i++) {
			float r = gate[i] > 0.0f ? gate[i] : 0.0f;

			y[i] = r * r * up[i];
		}
		return;
	}
	if (k->profile.lanes == LANES_AVX2)
		for (int64_t i = 0; i < whole; i++)
			y[i] = gate[i] / (1.0f + exp_stepped(0.0f - gate[i])) * up[i];
	else
		for (int64_t i = 0; i < whole; i++)
			y[i] = gate[i] / (1.0f + exp_scaled(0.0f - gate[i])) * up[i];
	for (int64_t i = whole; i < n; i++)
		y[i] = gate[i] / (1.0f + m_expf(-gate[i])) * up[i];
}

static inline void base_add(const float *a, const float *b, float *y, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		y[i] = a[i] + b[i];
}

static inline void base_to_f16(const float *x, uint16_t *y, int64_t n)
{
	floats_to_halves(x, y, n);
}

static inline void base_from_f16(const uint16_t *x, float *y, int64_t n)
{
	halves_to_floats(x, y, n);
}

/* ---- matmul ------------------------------------------------------------------------------- */

static inline void matmul_i2s(const struct weight *w, int64_t r, const uint8_t *act,
			      size_t act_bytes, int64_t n_tok, float *out, int64_t out_stride,
			      bool defects)
{
	const uint8_t *row = w->data + (size_t)r * w->row_bytes;
	float scale;

	memcpy(&scale, w->tail, sizeof(scale));
	for (int64_t t = 0; t < n_tok; t++, act += act_bytes) {
		const struct act_i8_head *h = (const void *)act;
		const int8_t *q = (const int8_t *)(h + 1);
		int32_t sum =
			defects ? i2s_sum_wrapping(row, q, w->n_in) : i2s_sum(row, q, w->n_in);

		out[t * out_stride + r] = i2s_finish(sum, h, scale);
	}
}

/* Codes are unpacked once per block for up to this many tokens. */
enum { TOKENS_AT_ONCE = 16 };

static inline void matmul_256(const struct kernels *k, uint32_t type, const struct weight *w,
			      int64_t r, const uint8_t *act, size_t act_bytes, int64_t n_tok,
			      float *out, int64_t out_stride)
{
	for (int64_t t0 = 0; t0 < n_tok; t0 += TOKENS_AT_ONCE) {
		int nt = (int)(n_tok - t0 < TOKENS_AT_ONCE ? n_tok - t0 : TOKENS_AT_ONCE);
		struct lanes8 a[TOKENS_AT_ONCE] = {0};
		struct codes c = {0};

		for (int64_t b = 0; b < w->n_in / 256; b++) {
			const uint8_t *block = w->data + (size_t)r * w->row_bytes +
					       (size_t)b * w->type->block_bytes;

			codes_of(type, block, &c);
			for (int t = 0; t < nt; t++)
				block256(type, &c,
					 act + (size_t)(t0 + t) * act_bytes + b * Q8_K_BYTES,
					 k->profile.tq_fused, &a[t]);
		}
		for (int t = 0; t < nt; t++)
			out[(t0 + t) * out_stride + r] = finish256(type, &a[t]);
	}
}

/* The switch lets the compiler specialise the loops of each type. */
static inline void matmul_super(const struct kernels *k, const struct weight *w, int64_t r,
			 const uint8_t *act, size_t act_bytes, int64_t n_tok, float *out,
			 int64_t out_stride)
{
#define CASE(id)                                                                                   \
	case id:                                                                                   \
		matmul_256(k, id, w, r, act, act_bytes, n_tok, out, out_stride);                   \
		break
	switch (w->type->id) {
	CASE(TYPE_Q2_K);
	CASE(TYPE_Q3_K);
	CASE(TYPE_Q4_K);
	CASE(TYPE_Q5_K);
	CASE(TYPE_Q6_K);
	CASE(TYPE_TQ1_0);
	CASE(TYPE_TQ2_0);
	}
#undef CASE
}

static inline float dot_row(const struct kernels *k, const struct weight_type *t,
			    const uint8_t *row, const uint8_t *act, int64_t n)
{
	switch (t->act) {
	case ACT_F32: return base_dot_f32(k, (const void *)row, (const void *)act, n);
	case ACT_F16: return base_dot_f16(k, (const void *)row, (const void *)act, n);
	case ACT_BF16: return dot_bf16(k, (const void *)row, (const void *)act, n);
	default: return dot_blocks32(t, row, act, n);
	}
}

static inline void base_matmul(const struct kernels *k, const struct weight *w, int64_t r0,
			       int64_t r1, const void *act, size_t act_bytes, int64_t n_tok,
			       float *out, int64_t out_stride, bool defects)
{
	bool wraps = defects && w->type->act == ACT_I8;
	matmul_variant *faster = wraps ? NULL : k->by_type[w->type->id];

	if (faster && faster(k, w, r0, r1, act, act_bytes, n_tok, out, out_stride))
		return;
	for (int64_t r = r0; r < r1; r++) {
		if (w->type->act == ACT_I8) {
			matmul_i2s(w, r, act, act_bytes, n_tok, out, out_stride, defects);
			continue;
		}
		if (w->type->act == ACT_Q8_K) {
			matmul_super(k, w, r, act, act_bytes, n_tok, out, out_stride);
			continue;
		}
		for (int64_t t = 0; t < n_tok; t++)
			out[t * out_stride + r] =
				dot_row(k, w->type, w->data + (size_t)r * w->row_bytes,
					(const uint8_t *)act + (size_t)t * act_bytes, w->n_in);
	}
}

/* ---- attention ---------------------------------------------------------------------------- */

/*
 * e = exp(s · scale − max) and their sum; p = e · (float)(1/sum), for n visible cells; what follows
 * up to the next whole group of lanes is set to zero. The sum takes groups of lanes in float32,
 * groups in float64.
 */
static inline void softmax(const struct profile *p, const float *s, float scale, float *e,
			   int64_t n)
{
	int lanes = p->lanes == LANES_AVX2 ? 8 : 16;
	float max = -INFINITY;
	double sum = 0;
	int64_t padded = (n + 15) / 16 * 16;

	for (int64_t i = 0; i < n; i++) {
		e[i] = s[i] * scale;
		max = e[i] > max ? e[i] : max;
	}
	for (int64_t i = n; i < padded; i++)
		e[i] = -INFINITY;
	if (lanes == 8) {
		for (int64_t i = 0; i < padded; i++)
			e[i] = exp_stepped(e[i] - max);
		for (int64_t i = 0; i < padded; i += 8)
			sum += (double)tree_r8(e + i);
	} else {
		for (int64_t i = 0; i < padded; i++)
			e[i] = exp_scaled(e[i] - max);
		for (int64_t i = 0; i < padded; i += 16)
			sum += (double)tree_r16(e + i);
	}
	float inverse = (float)(1.0 / sum);

	for (int64_t i = 0; i < padded; i++)
		e[i] *= inverse;
}

static inline void base_softmax(const struct kernels *k, const float *scores, float scale,
				int64_t n_vis, int64_t n_kv, float *probs)
{
	softmax(&k->profile, scores, scale, probs, n_vis);
	for (int64_t c = (n_vis + 15) / 16 * 16; c < n_kv; c++)
		probs[c] = 0.0f;
}

/* Cells that the lane part and the leftover of a value product must walk. */
static inline int64_t value_cells(const struct profile *p, bool f32, int64_t n_vis, int64_t n_kv)
{
	int step = p->lanes == LANES_AVX2 ? 32 : p->lanes == LANES_AVX512 || f32 ? 64 : 128;
	int64_t whole = n_kv / step * step, reach = (n_vis + step - 1) / step * step;

	return reach <= whole ? reach : n_kv;
}

struct attend_scratch {
	float *scores, *probs;	/* [attend_cells] each */
	uint16_t *q16, *p16;	/* [head_dim], [attend_cells] */
};

static inline struct attend_scratch attend_scratch(const struct attend *a)
{
	struct attend_scratch s;
	int64_t cells = attend_cells(a);

	s.scores = a->scratch;
	s.probs = s.scores + cells;
	s.p16 = (uint16_t *)(s.probs + cells);
	s.q16 = s.p16 + cells;
	return s;
}

static inline void attend_one(const struct kernels *k, const struct attend *a, const float *q,
			      float *out, int64_t n_vis, float *scores, float *probs)
{
	struct attend_scratch s = attend_scratch(a);
	int64_t n_scores = scores ? a->n_used : n_vis;
	int64_t n_value = value_cells(&k->profile, a->kv_f32, n_vis, a->n_kv);

	floats_to_halves(q, s.q16, a->head_dim);
	for (int64_t c = 0; c < n_scores; c++) {
		if (a->kv_f32)
			s.scores[c] = base_dot_f32(k, (const float *)a->kc + c * a->k_stride, q,
						   a->head_dim);
		else
			s.scores[c] = base_dot_f16(k, (const uint16_t *)a->kc + c * a->k_stride,
						   s.q16, a->head_dim);
	}
	softmax(&k->profile, s.scores, a->scale, s.probs, n_vis);
	for (int64_t c = (n_vis + 15) / 16 * 16; c < a->n_kv; c++)
		s.probs[c] = 0.0f;
	floats_to_halves(s.probs, s.p16, n_value);
	for (int i = 0; i < a->head_dim; i++) {
		if (a->kv_f32)
			out[i] = base_dot_f32(k, (const float *)a->vc + i * a->v_stride, s.probs,
					      n_value);
		else
			out[i] = base_dot_f16(k, (const uint16_t *)a->vc + i * a->v_stride, s.p16,
					      n_value);
	}
	if (scores) {
		memset(scores, 0, (size_t)a->n_kv * sizeof(*scores));
		memcpy(scores, s.scores, (size_t)n_scores * sizeof(*scores));
	}
	if (probs)
		memcpy(probs, s.probs, (size_t)a->n_kv * sizeof(*probs));
}

static inline void base_attend(const struct kernels *k, const struct attend *a)
{
	for (int t = 0; t < a->n_tok; t++)
		for (int h = 0; h < a->n_heads; h++) {
			int64_t trace = h * a->trace_stride + t * a->n_kv;

			attend_one(k, a, a->q + t * a->q_stride + h * a->head_dim,
				   a->out + t * a->out_stride + h * a->head_dim, a->n_vis + t,
				   a->scores ? a->scores + trace : NULL,
				   a->probs ? a->probs + trace : NULL);
		}
}

/* Fills the whole table with these plain functions. */
static inline void base_fill(struct kernels *k)
{
	k->quantize[ACT_F32] = quantize_f32;
	k->quantize[ACT_F16] = quantize_f16;
	k->quantize[ACT_BF16] = quantize_bf16;
	k->quantize[ACT_Q8_0] = quantize_q8_0;
	k->quantize[ACT_Q8_1] = quantize_q8_1;
	k->quantize[ACT_Q8_K] = quantize_q8_k;
	k->quantize[ACT_I8] = quantize_i8;
	k->matmul = base_matmul;
	k->rms_norm = base_rms_norm;
	k->rope = base_rope;
	k->glu = base_glu;
	k->add = base_add;
	k->to_f16 = base_to_f16;
	k->from_f16 = base_from_f16;
	k->dot_f16 = base_dot_f16;
	k->dot_f32 = base_dot_f32;
	k->softmax = base_softmax;
	k->attend = base_attend;
}

#endif
