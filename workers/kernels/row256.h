/*
 * One row of super-blocks of 256 against one token: eight float lanes as in base_quant.h. The exact
 * integers of a block's lanes come from a function, which is the widest that an instruction set has.
 */
#ifndef ASSAY_ROW256_H
#define ASSAY_ROW256_H

#include "codes_avx2.h"

/* Integer sums of the eight lanes of block b with a Q8_K block, offsets taken out. */
typedef __m256i block256_fn(uint32_t type, const uint8_t *b, const uint8_t *act,
			    const struct scales256 *s);

struct row256 { __m256 acc; __m128 min; float min_scalar; };

/* What the minima of a block add: before the products, as the reference does. */
ALWAYS void row256_minima(uint32_t type, const uint8_t *b, const uint8_t *act, float da,
			  const struct scales256 *s, struct row256 *a)
{
	float m = -da * half_at(b + (type == TYPE_Q2_K ? 82 : 2));
	__m256i bs = load256(act + Q8_K_SUMS);
	__m128i pairs, sums;

	if (type == TYPE_Q2_K) {
		__m256 v = _mm256_cvtepi32_ps(_mm256_madd_epi16(load256(s->min), bs));

		a->acc = _mm256_fmadd_ps(_mm256_set1_ps(m), v, a->acc);
		return;
	}
	pairs = _mm_hadd_epi16(_mm256_castsi256_si128(bs), _mm256_extracti128_si256(bs, 1));
	sums = _mm_madd_epi16(_mm_loadu_si128((const void *)s->min), pairs);
	if (type == TYPE_Q4_K) {
		a->min = _mm_fmadd_ps(_mm_set1_ps(m), _mm_cvtepi32_ps(sums), a->min);
		return;
	}
	sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0x4e));
	sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0xb1));
	a->min_scalar = __builtin_fmaf(m, (float)_mm_cvtsi128_si32(sums), a->min_scalar);
}

ALWAYS float row256(const struct kernels *k, uint32_t type, const uint8_t *b, uint32_t bytes,
		    const uint8_t *act, int64_t n, block256_fn *sums)
{
	bool ternary = type == TYPE_TQ1_0 || type == TYPE_TQ2_0;
	bool has_min = type == TYPE_Q2_K || type == TYPE_Q4_K || type == TYPE_Q5_K;
	bool fused = !ternary || k->profile.tq_fused;
	struct row256 a = {_mm256_setzero_ps(), _mm_setzero_ps(), 0.0f};

	for (; n > 0; n -= 256, b += bytes, act += Q8_K_BYTES) {
		struct scales256 s = {0};
		float da;

		prefetch_block(b, bytes, k->ahead_bytes);
		memcpy(&da, act, sizeof(da));
		scales_of(type, b, &s);
		if (has_min)
			row256_minima(type, b, act, da, &s, &a);
		__m256 v = _mm256_cvtepi32_ps(sums(type, b, act, &s));
		__m256 d = _mm256_set1_ps(da * block_scale(type, b));

		a.acc = fused ? _mm256_fmadd_ps(d, v, a.acc)
			      : _mm256_add_ps(_mm256_mul_ps(v, d), a.acc);
	}
	float y = sum_halves(a.acc);

	if (type == TYPE_Q4_K) {
		__m128 c = _mm_add_ps(a.min, _mm_movehl_ps(a.min, a.min));

		y += _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
	} else if (type == TYPE_Q5_K) {
		y += a.min_scalar;
	}
	return y;
}

#endif
