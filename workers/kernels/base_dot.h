/*
 * Dot products of two rows and the exponential, in every profile's order: the plain definition,
 * compiled once per instruction set (base_c.c, base_avx2.c, base_avx512.c) and the reference that
 * all faster variants are tested against. docs/numerics.md describes the orders.
 */
#ifndef ASSAY_BASE_DOT_H
#define ASSAY_BASE_DOT_H

#include "kernels.h"

#include <string.h>
#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

static inline uint32_t f32_bits(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

static inline float f32_from_bits(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

static inline void halves_to_floats(const uint16_t *h, float *f, int64_t n)
{
	int64_t whole = 0;

#if defined(__F16C__)
	whole = n / 8 * 8;
	for (int64_t i = 0; i < whole; i += 8)
		_mm256_storeu_ps(f + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(h + i))));
#elif defined(__aarch64__)
	whole = n / 4 * 4;
	for (int64_t i = 0; i < whole; i += 4)
		vst1q_f32(f + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h + i))));
#endif
	for (int64_t i = whole; i < n; i++)
		f[i] = f16_to_f32(h[i]);
}

static inline void floats_to_halves(const float *f, uint16_t *h, int64_t n)
{
	int64_t whole = 0;

#if defined(__F16C__)
	whole = n / 8 * 8;
	for (int64_t i = 0; i < whole; i += 8)
		_mm_storeu_si128((void *)(h + i), _mm256_cvtps_ph(_mm256_loadu_ps(f + i), 0));
#elif defined(__aarch64__)
	whole = n / 4 * 4;
	for (int64_t i = 0; i < whole; i += 4)
		vst1_u16(h + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(f + i))));
#endif
	for (int64_t i = whole; i < n; i++)
		h[i] = f32_to_f16(f[i]);
}

static inline float bf16_to_f32(uint16_t h)
{
	return f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t f32_to_bf16(float x)
{
	uint32_t u = f32_bits(x);

	if ((u & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(u >> 16 | 64);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- trees over lanes --------------------------------------------------------------------- */

static inline float tree_r8(const float *v)
{
	float b[4];

	for (int i = 0; i < 4; i++)
		b[i] = v[i] + v[i + 4];
	return (b[0] + b[2]) + (b[1] + b[3]);
}

static inline float tree_r16(const float *v)
{
	float a[8];

	for (int i = 0; i < 8; i++)
		a[i] = v[i] + v[i + 8];
	return tree_r8(a);
}

static inline float tree_h8(const float *v)
{
	float b[4];

	for (int i = 0; i < 4; i++)
		b[i] = v[i] + v[i + 4];
	return (b[0] + b[1]) + (b[2] + b[3]);
}

/* Four accumulators of n lanes, one after the other in a -> the first: (A0+A2)+(A1+A3). */
static inline void join4(float *a, int n)
{
	for (int i = 0; i < 2 * n; i++)
		a[i] += a[i + 2 * n];
	for (int i = 0; i < n; i++)
		a[i] += a[i + n];
}

static inline float tail_f64(const uint16_t *x, const uint16_t *y, int64_t i, int64_t n, double s)
{
	for (; i < n; i++)
		s += (double)(f16_to_f32(x[i]) * f16_to_f32(y[i]));
	return (float)s;
}

/* ---- F16 ---------------------------------------------------------------------------------- */

/* One rounding to half of a·b+c, all three halves held as floats: the float32 sum is corrected
 * towards its rounding error where that decides (round to odd), then rounded once more. */
static inline float half_sum_to_odd(float a, float b, float c)
{
	float p = a * b, s = p + c, t = s - p;
	float e = (p - (s - t)) + (c - t);
	uint32_t u = f32_bits(s), finite = (u & 0x7f800000) != 0x7f800000;
	uint32_t step = (f32_bits(e) ^ u) >> 31 ? -1u : 1u;

	return f32_from_bits(e != 0.0f && finite && !(u & 1) ? u + step : u);
}

static inline void round_to_halves(float *f, int n)
{
	uint16_t h[128];

	floats_to_halves(f, h, n);
	halves_to_floats(h, f, n);
}

static inline void half_add(float *a, const float *b, int n)
{
	for (int i = 0; i < n; i++)
		a[i] += b[i];
	round_to_halves(a, n);
}

static inline float dot_f16_half(const uint16_t *x, const uint16_t *y, int64_t n)
{
	float a[128] = {0}, xf[128], yf[128];
	int64_t i = 0;

	for (; i + 128 <= n; i += 128) {
		halves_to_floats(x + i, xf, 128);
		halves_to_floats(y + i, yf, 128);
		for (int l = 0; l < 128; l++)
			a[l] = half_sum_to_odd(xf[l], yf[l], a[l]);
		round_to_halves(a, 128);
	}
	half_add(a, a + 64, 64);
	for (int h = 32; h > 0; h /= 2)
		half_add(a, a + h, h);
	return tail_f64(x, y, i, n, (double)a[0]);
}

static inline float dot_f16_lanes16(const uint16_t *x, const uint16_t *y, int64_t n)
{
	float a[64] = {0}, xf[64], yf[64];
	int64_t i = 0;

	for (; i + 64 <= n; i += 64) {
		halves_to_floats(x + i, xf, 64);
		halves_to_floats(y + i, yf, 64);
		for (int l = 0; l < 64; l++)
			a[l] = __builtin_fmaf(xf[l], yf[l], a[l]);
	}
	join4(a, 16);
	return tail_f64(x, y, i, n, (double)tree_r16(a));
}

static inline float dot_f16_lanes8(const uint16_t *x, const uint16_t *y, int64_t n)
{
	float a[32] = {0}, xf[32], yf[32];
	int64_t i = 0;

	for (; i + 32 <= n; i += 32) {
		halves_to_floats(x + i, xf, 32);
		halves_to_floats(y + i, yf, 32);
		for (int l = 0; l < 32; l++)
			a[l] = __builtin_fmaf(xf[l], yf[l], a[l]);
	}
	join4(a, 8);
	return tail_f64(x, y, i, n, (double)tree_h8(a));
}

static inline float base_dot_f16(const struct kernels *k, const uint16_t *x, const uint16_t *y,
				 int64_t n)
{
	switch (k->profile.lanes) {
	case LANES_AVX2: return dot_f16_lanes8(x, y, n);
	case LANES_AVX512: return dot_f16_lanes16(x, y, n);
	case LANES_AVX512_FP16: break;
	}
	return dot_f16_half(x, y, n);
}

/* ---- F32 ---------------------------------------------------------------------------------- */

/* The compiler of the reference vectorised the tail in groups of 8 (4 with 8 lanes), unfused. */
static inline float tail_f32(const struct kernels *k, const float *x, const float *y, int64_t i,
			     int64_t n, float s)
{
	int group = k->profile.lanes == LANES_AVX2 ? 4 : 8;
	int64_t unfused = k->profile.f32_tail_fma ? i : i + (n - i) / group * group;

	for (; i < unfused; i++)
		s += x[i] * y[i];
	for (; i < n; i++)
		s = __builtin_fmaf(x[i], y[i], s);
	return s;
}

static inline float base_dot_f32(const struct kernels *k, const float *x, const float *y, int64_t n)
{
	int lanes = k->profile.lanes == LANES_AVX2 ? 8 : 16;
	float a[64] = {0};
	int64_t i = 0;

	if (lanes == 8) {
		for (; i + 32 <= n; i += 32)
			for (int l = 0; l < 32; l++)
				a[l] = __builtin_fmaf(x[i + l], y[i + l], a[l]);
	} else {
		for (; i + 64 <= n; i += 64)
			for (int l = 0; l < 64; l++)
				a[l] = __builtin_fmaf(x[i + l], y[i + l], a[l]);
	}
	join4(a, lanes);
	return tail_f32(k, x, y, i, n, lanes == 8 ? tree_h8(a) : tree_r16(a));
}

/* ---- BF16 --------------------------------------------------------------------------------- */

static inline float flush_tiny(float x)
{
	return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0.0f, x) : x;
}

/* Two accumulators of 16 lanes; dpbf16: lane l takes elements 2l and 2l+1, the odd one first, and
 * subnormals are flushed. Eight lanes: four accumulators. */
static inline double bf16_lanes(const struct kernels *k, const uint16_t *x, const uint16_t *y,
				int64_t n, int64_t *done)
{
	float a[32] = {0};
	int64_t i = 0;

	if (k->profile.bf16_dp && k->profile.lanes != LANES_AVX2) {
		for (; i + 64 <= n; i += 64)
			for (int l = 0; l < 32; l++) {
				float x0 = flush_tiny(bf16_to_f32(x[i + 2 * l]));
				float x1 = flush_tiny(bf16_to_f32(x[i + 2 * l + 1]));
				float y0 = flush_tiny(bf16_to_f32(y[i + 2 * l]));
				float y1 = flush_tiny(bf16_to_f32(y[i + 2 * l + 1]));
				float t = flush_tiny(__builtin_fmaf(x1, y1, a[l]));

				a[l] = flush_tiny(__builtin_fmaf(x0, y0, t));
			}
	} else {
		for (; i + 32 <= n; i += 32)
			for (int l = 0; l < 32; l++)
				a[l] = __builtin_fmaf(bf16_to_f32(x[i + l]), bf16_to_f32(y[i + l]),
						      a[l]);
	}
	*done = i;
	if (k->profile.lanes == LANES_AVX2) {
		join4(a, 8);
		return (double)tree_r8(a);
	}
	return (double)tree_r16(a) + (double)tree_r16(a + 16);
}

static inline float dot_bf16(const struct kernels *k, const uint16_t *x, const uint16_t *y,
			     int64_t n)
{
	int64_t i;
	double s = bf16_lanes(k, x, y, n, &i);

	for (; i < n; i++)
		s += (double)(bf16_to_f32(x[i]) * bf16_to_f32(y[i]));
	return (float)s;
}

/* ---- exponential -------------------------------------------------------------------------- */

struct exp_parts { float z, n, b, u, p, q; };

static inline struct exp_parts exp_reduce(float x)
{
	struct exp_parts e;

	e.z = __builtin_fmaf(x, 0x1.715476p+0f, 0x1.8p23f);
	e.n = e.z - 0x1.8p23f;
	e.b = __builtin_fmaf(-e.n, 0x1.7f7d1cp-20f, __builtin_fmaf(-e.n, 0x1.62e4p-1f, x));
	e.u = e.b * e.b;
	e.p = __builtin_fmaf(0x1.0e4020p-7f, e.b, 0x1.573e2ep-5f);
	e.q = __builtin_fmaf(0x1.555e66p-3f, e.b, 0x1.fffdb6p-2f);
	return e;
}

/* The 16-lane form: j · 2^n with one rounding. */
static inline float exp_scaled(float x)
{
	struct exp_parts e = exp_reduce(x);
	float linear = __builtin_fmaf(0x1.ffffecp-1f, e.b, 1.0f);
	float j = __builtin_fmaf(__builtin_fmaf(e.p, e.u, e.q), e.u, linear);
	float n = e.n > 200.0f ? 200.0f : e.n < -200.0f ? -200.0f : e.n;
	uint64_t u = (uint64_t)(n == n ? (int32_t)n + 1023 : 1023) << 52;
	double scale;

	memcpy(&scale, &u, sizeof(scale));
	float y = (float)((double)j * scale);

	if (__builtin_fabsf(e.n) > 192.0f)
		y = e.n <= 0.0f ? 0.0f : __builtin_inff();
	return y;
}

/* The 8-lane form: k + k·j with k = 2^n, in two steps where 2^n leaves the normal range. */
static inline float exp_stepped(float x)
{
	struct exp_parts e = exp_reduce(x);
	float j = __builtin_fmaf(__builtin_fmaf(e.p, e.u, e.q), e.u, 0x1.ffffecp-1f * e.b);
	uint32_t shifted = f32_bits(e.z) << 23, g = e.n <= 0.0f ? 0x82000000u : 0u;
	float k = f32_from_bits(shifted + 0x3f800000u);
	float s1 = f32_from_bits(g + 0x7f000000u), s2 = f32_from_bits(shifted - g);
	float y = __builtin_fmaf(k, j, k);

	if (__builtin_fabsf(e.n) > 126.0f)
		y = __builtin_fmaf(s2, j, s2) * s1;
	if (__builtin_fabsf(e.n) > 192.0f)
		y = s1 * s1;
	return y;
}

/* exp_stepped where 2^n is an ordinary number, |x| below 87. */
static inline float exp_ordinary(float x)
{
	struct exp_parts e = exp_reduce(x);
	float j = __builtin_fmaf(__builtin_fmaf(e.p, e.u, e.q), e.u, 0x1.ffffecp-1f * e.b);
	float k = f32_from_bits((f32_bits(e.z) << 23) + 0x3f800000u);

	return __builtin_fmaf(k, j, k);
}

static inline float profile_exp(const struct profile *p, float x)
{
	return p->lanes == LANES_AVX2 ? exp_stepped(x) : exp_scaled(x);
}

#endif
