/*
 * Activation quantisers and the dot products of quantised rows: the plain definition.
 *
 * All block types share one shape: eight float lanes, lane l collects elements 4l…4l+3 of every
 * 32, as exact integers, and per block acc[l] = fma(D, (float)n_l, acc[l]) with D = round(weight
 * scale · activation scale); blocks in order, lanes by tree_r8. Types differ in codes, in scales
 * inside the block and in how an offset is taken out.
 */
#ifndef ASSAY_BASE_QUANT_H
#define ASSAY_BASE_QUANT_H

#include "base_dot.h"
#include "dequantize.h"

/* ---- activations -------------------------------------------------------------------------- */

static inline void quantize_f32(const struct kernels *k, const float *x, void *dst, int64_t n)
{
	(void)k;
	memcpy(dst, x, (size_t)n * sizeof(*x));
}

static inline void quantize_f16(const struct kernels *k, const float *x, void *dst, int64_t n)
{
	(void)k;
	floats_to_halves(x, dst, n);
}

static inline void quantize_bf16(const struct kernels *k, const float *x, void *dst, int64_t n)
{
	uint16_t *y = dst;

	(void)k;
	for (int64_t i = 0; i < n; i++)
		y[i] = f32_to_bf16(x[i]);
}

/* Nearest even; what does not fit is −128, as a saturating conversion gives. */
static inline int8_t round_to_i8(float v)
{
	float t = v + 12582912.0f;
	int32_t i = (int32_t)(f32_bits(t) & 0x7fffff) - 0x400000;

	return __builtin_fabsf(v) < 4194304.0f ? (int8_t)(i > 127    ? 127
							  : i < -128 ? -128
								     : i)
					       : -128;
}

/* The largest |x|, by its bits: those of a NaN are above all others. */
static inline float largest(const float *x, int64_t n)
{
	int32_t m = 0;

	for (int64_t i = 0; i < n; i++) {
		int32_t a = (int32_t)(f32_bits(x[i]) & 0x7fffffff);

		m = a > m ? a : m;
	}
	return f32_from_bits((uint32_t)m);
}

/* One block of 32: codes and their sum; returns the unrounded scale. */
static inline float quantize_block32(const float *x, int8_t *q, int32_t *sum)
{
	float m = largest(x, 32);
	int32_t s = 0;
	float inverse = m != 0.0f ? 127.0f / m : 0.0f;

	for (int i = 0; i < 32; i++)
		q[i] = round_to_i8(x[i] * inverse);
	for (int i = 0; i < 32; i++)
		s += q[i];
	*sum = s;
	return m / 127.0f;
}

static inline void quantize_q8_0(const struct kernels *k, const float *x, void *dst, int64_t n)
{
	uint8_t *y = dst;
	int32_t sum;

	(void)k;
	for (; n >= 32; n -= 32, x += 32, y += 34) {
		uint16_t d = f32_to_f16(quantize_block32(x, (int8_t *)y + 2, &sum));

		memcpy(y, &d, sizeof(d));
	}
}

static inline void quantize_q8_1(const struct kernels *k, const float *x, void *dst, int64_t n)
{
	uint8_t *y = dst;
	int32_t sum;

	(void)k;
	for (; n >= 32; n -= 32, x += 32, y += 36) {
		float d = quantize_block32(x, (int8_t *)y + 4, &sum);
		uint16_t head[2] = {f32_to_f16(d), f32_to_f16(d * (float)sum)};

		memcpy(y, head, sizeof(head));
	}
}

enum { Q8_K_BYTES = 292, Q8_K_CODES = 4, Q8_K_SUMS = 260 };

/* The signed value of the first element with the largest magnitude. */
static inline float signed_max256(const float *x)
{
	float m = largest(x, 256);

	for (int i = 0; i < 256; i += 16) {
		int found = 0;

		for (int j = 0; j < 16; j++)
			found |= __builtin_fabsf(x[i + j]) == m;
		for (int j = 0; found && j < 16; j++)
			if (__builtin_fabsf(x[i + j]) == m)
				return x[i + j];
	}
	return 0.0f;
}

static inline void quantize_block256(const float *x, uint8_t *y)
{
	float max = signed_max256(x), inverse, d;
	int8_t *q = (int8_t *)y + Q8_K_CODES;
	int16_t sums[16];

	memset(y, 0, Q8_K_BYTES);
	if (max == 0.0f)
		return;
	inverse = -127.0f / max;
	for (int i = 0; i < 256; i++) {
		float t = inverse * x[i] + 12582912.0f;
		int32_t v = (int32_t)(f32_bits(t) & 0x7fffff) - 0x400000;

		q[i] = (int8_t)(uint8_t)(v > 127 ? 127 : v);
	}
	for (int j = 0; j < 16; j++) {
		int s = 0;

		for (int i = 0; i < 16; i++)
			s += q[16 * j + i];
		sums[j] = (int16_t)s;
	}
	d = 1.0f / inverse;
	memcpy(y, &d, sizeof(d));
	memcpy(y + Q8_K_SUMS, sums, sizeof(sums));
}

static inline void quantize_q8_k(const struct kernels *k, const float *x, void *dst, int64_t n)
{
	uint8_t *y = dst;

	(void)k;
	for (; n >= 256; n -= 256, x += 256, y += Q8_K_BYTES)
		quantize_block256(x, y);
}

/* A NaN resets the running maximum, as the reference's comparison does. */
static inline double row_max(const float *x, int64_t n)
{
	float f = largest(x, n);
	double m = 1e-5;

	if (f == f)
		return (double)f > m ? (double)f : m;
	for (int64_t i = 0; i < n; i++) {
		double a = (double)__builtin_fabsf(x[i]);

		m = m > a ? m : a;
	}
	return m;
}

static inline void quantize_i8(const struct kernels *k, const float *x, void *dst, int64_t n)
{
	struct act_i8_head *head = dst;
	int8_t *q = (int8_t *)(head + 1);
	float s = (float)(127.0 / row_max(x, n));
	bool fused = k->profile.i8_quant_fma;
	int32_t sum = 0;

	for (int64_t i = 0; i < n; i++) {
		float t = fused ? __builtin_fmaf(x[i], s, 12582912.0f) : x[i] * s + 12582912.0f;
		int32_t v = (int32_t)(f32_bits(t) & 0x7fffff) - 0x400000;

		v = v > 127 ? 127 : v < -128 ? -128 : v;
		q[i] = (int8_t)v;
		sum += v;
	}
	*head = (struct act_i8_head){.scale = s, .sum = sum};
}

/* ---- weight blocks to codes --------------------------------------------------------------- */

/* A super-block of 256 with its scales taken apart. */
struct codes {
	float d, dmin;		/* F16 scales, exact */
	int8_t q[256];		/* unsigned codes as stored, but −4…3 for Q3_K */
	int8_t scale[16];	/* per 16 elements; 1 for the ternary types */
	uint8_t min[16];	/* Q2_K: per 16; Q4_K, Q5_K: the first eight, per 32 */
};

static inline float half_bytes(const uint8_t *p)
{
	return f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

static inline void codes_q2_k(const uint8_t *b, struct codes *c)
{
	c->d = half_bytes(b + 80);
	c->dmin = half_bytes(b + 82);
	for (int j = 0; j < 16; j++) {
		c->scale[j] = (int8_t)(b[j] & 15);
		c->min[j] = b[j] >> 4;
	}
	for (int i = 0; i < 256; i++)
		c->q[i] = (int8_t)(b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3);
}

static inline void codes_q3_k(const uint8_t *b, struct codes *c)
{
	c->d = half_bytes(b + 108);
	unpack_scales_q3_k(b + 96, c->scale);
	for (int i = 0; i < 256; i++) {
		int low = b[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;

		c->q[i] = (int8_t)(low - ((b[i % 32] >> (i / 32)) & 1 ? 0 : 4));
	}
}

static inline void scales_k4(const uint8_t *b, struct codes *c)
{
	uint8_t scales[8];

	c->d = half_bytes(b);
	c->dmin = half_bytes(b + 2);
	unpack_scales_k4(b + 4, scales, c->min);
	for (int j = 0; j < 16; j++)
		c->scale[j] = (int8_t)scales[j / 2];
}

static inline void codes_q4_k(const uint8_t *b, struct codes *c)
{
	scales_k4(b, c);
	for (int j = 0; j < 4; j++)
		for (int i = 0; i < 32; i++) {
			c->q[64 * j + i] = (int8_t)(b[16 + 32 * j + i] & 15);
			c->q[64 * j + 32 + i] = (int8_t)(b[16 + 32 * j + i] >> 4);
		}
}

static inline void codes_q5_k(const uint8_t *b, struct codes *c)
{
	scales_k4(b, c);
	for (int j = 0; j < 8; j++)
		for (int i = 0; i < 32; i++) {
			int low = b[48 + j / 2 * 32 + i] >> (j % 2 * 4) & 15;

			c->q[32 * j + i] = (int8_t)(low | ((b[16 + i] >> j) & 1) << 4);
		}
}

static inline void codes_q6_k(const uint8_t *b, struct codes *c)
{
	c->d = half_bytes(b + 208);
	memcpy(c->scale, b + 192, 16);
	for (int j = 0; j < 8; j++)
		for (int i = 0; i < 32; i++) {
			int part = j / 4, quarter = j % 4;
			int low = b[64 * part + 32 * (quarter % 2) + i] >> (quarter / 2 * 4) & 15;
			int high = b[128 + 32 * part + i] >> (2 * quarter) & 3;

			c->q[32 * j + i] = (int8_t)(low | high << 4);
		}
}

static inline void codes_tq2_0(const uint8_t *b, struct codes *c)
{
	c->d = half_bytes(b + 64);
	for (int j = 0; j < 8; j++)
		for (int i = 0; i < 32; i++)
			c->q[32 * j + i] = (int8_t)(b[j / 4 * 32 + i] >> (j % 4 * 2) & 3);
}

static inline int8_t ternary_digit(uint8_t b, uint8_t power)
{
	return (int8_t)((uint8_t)(b * power) * 3 >> 8);
}

static inline void codes_tq1_0(const uint8_t *b, struct codes *c)
{
	static const uint8_t power[5] = {1, 3, 9, 27, 81};

	c->d = half_bytes(b + 52);
	for (int digit = 0; digit < 5; digit++) {
		for (int i = 0; i < 32; i++)
			c->q[32 * digit + i] = ternary_digit(b[i], power[digit]);
		for (int i = 0; i < 16; i++)
			c->q[160 + 16 * digit + i] = ternary_digit(b[32 + i], power[digit]);
	}
	for (int digit = 0; digit < 4; digit++)
		for (int i = 0; i < 4; i++)
			c->q[240 + 4 * digit + i] = ternary_digit(b[48 + i], power[digit]);
}

static inline void codes_of(uint32_t type, const uint8_t *b, struct codes *c)
{
	switch (type) {
	case TYPE_Q2_K: codes_q2_k(b, c); break;
	case TYPE_Q3_K: codes_q3_k(b, c); break;
	case TYPE_Q4_K: codes_q4_k(b, c); break;
	case TYPE_Q5_K: codes_q5_k(b, c); break;
	case TYPE_Q6_K: codes_q6_k(b, c); break;
	case TYPE_TQ1_0: codes_tq1_0(b, c); break;
	case TYPE_TQ2_0: codes_tq2_0(b, c); break;
	}
}

/* ---- super-blocks against one Q8_K block -------------------------------------------------- */

struct lanes8 {
	float acc[8];
	float min[4];		/* Q4_K: four lanes; Q5_K: one scalar in the first */
};

static inline void lane_sums(const int8_t *c, const int8_t *q, int32_t *n)
{
	for (int l = 0; l < 8; l++) {
		int32_t s = 0;

		for (int g = 0; g < 8; g++)
			for (int i = 0; i < 4; i++)
				s += c[32 * g + 4 * l + i] * q[32 * g + 4 * l + i];
		n[l] = s;
	}
}

static inline void lane_sums_scaled(const struct codes *c, const int8_t *q, int32_t *n)
{
	for (int l = 0; l < 8; l++) {
		int32_t s = 0;

		for (int g = 0; g < 8; g++) {
			int32_t part = 0;

			for (int i = 0; i < 4; i++)
				part += c->q[32 * g + 4 * l + i] * q[32 * g + 4 * l + i];
			s += part * c->scale[2 * g + l / 4];
		}
		n[l] = s;
	}
}

static inline void subtract_offset(uint32_t type, const struct codes *c, const int16_t *bs,
				   int32_t *n)
{
	for (int l = 0; l < 8; l++) {
		if (type == TYPE_Q6_K)
			n[l] -= 32 *
				(c->scale[2 * l] * bs[2 * l] + c->scale[2 * l + 1] * bs[2 * l + 1]);
		else
			n[l] -= bs[2 * l] + bs[2 * l + 1];
	}
}

static inline void add_minima(uint32_t type, const struct codes *c, const int16_t *bs, float m,
			      struct lanes8 *a)
{
	const uint8_t *mn = c->min;
	int32_t total = 0;

	if (type == TYPE_Q2_K) {
		for (int l = 0; l < 8; l++) {
			int32_t s = mn[2 * l] * bs[2 * l] + mn[2 * l + 1] * bs[2 * l + 1];

			a->acc[l] = __builtin_fmaf(m, (float)s, a->acc[l]);
		}
	} else if (type == TYPE_Q4_K) {
		for (int i = 0; i < 4; i++) {
			int32_t s = mn[2 * i] * (bs[4 * i] + bs[4 * i + 1]) +
				    mn[2 * i + 1] * (bs[4 * i + 2] + bs[4 * i + 3]);

			a->min[i] = __builtin_fmaf(m, (float)s, a->min[i]);
		}
	} else if (type == TYPE_Q5_K) {
		for (int j = 0; j < 8; j++)
			total += mn[j] * (bs[2 * j] + bs[2 * j + 1]);
		a->min[0] = __builtin_fmaf(m, (float)total, a->min[0]);
	}
}

static inline void block256(uint32_t type, const struct codes *c, const uint8_t *act, bool tq_fused,
			    struct lanes8 *a)
{
	bool ternary = type == TYPE_TQ1_0 || type == TYPE_TQ2_0;
	const int8_t *q = (const int8_t *)act + Q8_K_CODES;
	int16_t bs[16];
	int32_t n[8];
	float d;

	memcpy(&d, act, sizeof(d));
	memcpy(bs, act + Q8_K_SUMS, sizeof(bs));
	float scale = d * c->d;

	add_minima(type, c, bs, -d * c->dmin, a);
	if (ternary)
		lane_sums(c->q, q, n);
	else
		lane_sums_scaled(c, q, n);
	if (ternary || type == TYPE_Q6_K)
		subtract_offset(type, c, bs, n);
	if (ternary && !tq_fused) {
		for (int l = 0; l < 8; l++)
			a->acc[l] = (float)n[l] * scale + a->acc[l];
		return;
	}
	for (int l = 0; l < 8; l++)
		a->acc[l] = __builtin_fmaf(scale, (float)n[l], a->acc[l]);
}

static inline float finish256(uint32_t type, const struct lanes8 *a)
{
	float r = tree_r8(a->acc);

	if (type == TYPE_Q4_K)
		r += (a->min[0] + a->min[2]) + (a->min[1] + a->min[3]);
	else if (type == TYPE_Q5_K)
		r += a->min[0];
	return r;
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

/* Codes of one block, signed where the type has no minimum; returns where the codes' scale lies. */
static inline void codes32(uint32_t type, const uint8_t *b, int8_t *c, float *d, float *m)
{
	static const uint8_t none[4] = {0};
	bool five = type == TYPE_Q5_0 || type == TYPE_Q5_1;
	bool has_min = type == TYPE_Q4_1 || type == TYPE_Q5_1;
	const uint8_t *p = b + (has_min ? 4 : 2);
	const uint8_t *high = five ? p : none;
	int offset = has_min ? 0 : five ? 16 : 8;

	*d = half_bytes(b);
	*m = has_min ? half_bytes(b + 2) : 0.0f;
	if (type == TYPE_Q8_0) {
		memcpy(c, b + 2, 32);
		return;
	}
	p += five ? 4 : 0;
	for (int i = 0; i < 16; i++) {
		int h0 = (high[i / 8] >> (i % 8) & 1) << 4;
		int h1 = (high[2 + i / 8] >> (i % 8) & 1) << 4;

		c[i] = (int8_t)(((p[i] & 15) | h0) - offset);
		c[i + 16] = (int8_t)(((p[i] >> 4) | h1) - offset);
	}
}

static inline void lane_sums32(const int8_t *c, const int8_t *q, int32_t *n)
{
	for (int l = 0; l < 8; l++) {
		int32_t s = 0;

		for (int i = 0; i < 4; i++)
			s += c[4 * l + i] * q[4 * l + i];
		n[l] = s;
	}
}

static inline float dot_blocks32(const struct weight_type *t, const uint8_t *w, const uint8_t *act,
				 int64_t n)
{
	bool q8_1 = t->act == ACT_Q8_1;
	int act_bytes = q8_1 ? 36 : 34;
	float acc[8] = {0}, minima = 0.0f;

	for (; n > 0; n -= 32, w += t->block_bytes, act += act_bytes) {
		float dw, m;
		int8_t c[32];
		int32_t s[8];

		codes32(t->id, w, c, &dw, &m);
		lane_sums32(c, (const int8_t *)act + (q8_1 ? 4 : 2), s);
		float d = dw * half_bytes(act);

		if (q8_1)
			minima = __builtin_fmaf(m, half_bytes(act + 2), minima);
		for (int l = 0; l < 8; l++)
			acc[l] = __builtin_fmaf(d, (float)s[l], acc[l]);
	}
	return q8_1 ? tree_r8(acc) + minima : tree_r8(acc);
}

/* ---- I2_S --------------------------------------------------------------------------------- */

/* Sum of code · activation over one run of 128-blocks, as exact integers. */
static inline int32_t i2s_sum(const uint8_t *w, const int8_t *q, int64_t n)
{
	int32_t sum = 0;

	for (; n > 0; n -= 128, w += 32, q += 128)
		for (int i = 0; i < 32; i++)
			sum += (w[i] >> 6) * q[i] + (w[i] >> 4 & 3) * q[i + 32] +
			       (w[i] >> 2 & 3) * q[i + 64] + (w[i] & 3) * q[i + 96];
	return sum;
}

/* The same with the reference's sixteen 16-bit lanes, which wrap within a run of 4096 weights. */
static inline int32_t i2s_sum_wrapping(const uint8_t *w, const int8_t *q, int64_t n)
{
	enum { RUN = 4096 };
	int32_t sum = 0;

	for (int64_t run = 0; run < n; run += RUN) {
		int64_t end = run + RUN < n ? run + RUN : n;
		uint16_t lane[16] = {0};

		for (int64_t i = run; i < end; i++) {
			int code = w[i / 128 * 32 + i % 32] >> (6 - i % 128 / 32 * 2) & 3;

			lane[i % 32 / 2] = (uint16_t)(lane[i % 32 / 2] + code * q[i]);
		}
		for (int l = 0; l < 16; l++)
			sum += (int16_t)lane[l];
	}
	return sum;
}

static inline float i2s_finish(int32_t sum, const struct act_i8_head *h, float scale)
{
	return ((float)sum - (float)h->sum) / h->scale * scale;
}

#endif
