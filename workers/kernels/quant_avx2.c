#include "row256.h"
#include "variants.h"

/*
 * Quantised rows against one token: eight float lanes per row as in base_quant.h, the integers of
 * a lane from 8-bit products. Codes are taken as unsigned where the format allows; signed ones give
 * their sign to the activation.
 */
/* ---- blocks of 32 ------------------------------------------------------------------------- */

ALWAYS __m256i products(__m256i codes, __m256i q, bool is_signed)
{
	__m256i p =
		is_signed ? _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(q, codes))
			  : _mm256_maddubs_epi16(codes, q);

	return _mm256_madd_epi16(p, _mm256_set1_epi16(1));
}

ALWAYS __m256i block32_sums(uint32_t type, const uint8_t *b, __m256i q)
{
	__m256i codes = block32_codes(type, b);

	if (has_minimum(type))
		return products(codes, q, false);
	if (type != TYPE_Q8_0)
		codes = _mm256_sub_epi8(codes, _mm256_set1_epi8((char)code_shift(type)));
	return products(codes, q, true);
}

/*
 * Two rows at once: each has one chain of sums, too slow for the memory alone. They are not
 * neighbours, so that each is part of a plain sequence of lines, which the hardware prefetches.
 */
ALWAYS void rows32(const struct kernels *k, uint32_t type, const struct weight *w, int64_t r,
		   int64_t other, const uint8_t *act, float *out)
{
	bool has_min = has_minimum(type);
	uint32_t bytes = w->type->block_bytes;
	const uint8_t *b[2] = {w->data + (size_t)r * w->row_bytes,
			       w->data + (size_t)other * w->row_bytes};
	__m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
	float minima[2] = {0.0f, 0.0f}, y[2];

	for (int64_t n = w->n_in; n > 0; n -= 32, act += has_min ? 36 : 34) {
		__m256i q = load256(act + (has_min ? 4 : 2));
		float da = half_at(act);

#pragma GCC unroll 2
		for (int i = 0; i < 2; i++, b[i - 1] += bytes) {
			_mm_prefetch((const char *)b[i] + k->ahead_bytes, _MM_HINT_T1);
			__m256 n_l = _mm256_cvtepi32_ps(block32_sums(type, b[i], q));

			acc[i] = _mm256_fmadd_ps(_mm256_set1_ps(half_at(b[i]) * da), n_l, acc[i]);
			if (has_min)
				minima[i] = __builtin_fmaf(half_at(b[i] + 2), half_at(act + 2),
							   minima[i]);
		}
	}
	for (int i = 0; i < 2; i++)
		y[i] = has_min ? sum_halves(acc[i]) + minima[i] : sum_halves(acc[i]);
	out[r] = y[0];
	out[other] = y[1];
}

/* ---- super-blocks of 256 ------------------------------------------------------------------ */

/* Integer sums of the eight lanes, offsets taken out. */
ALWAYS __m256i block256_sums(uint32_t type, const uint8_t *b, const uint8_t *act,
			     const struct scales256 *s)
{
	bool ternary = type == TYPE_TQ1_0 || type == TYPE_TQ2_0;
	bool per_group = type == TYPE_Q4_K || type == TYPE_Q5_K;
	const int8_t *q = (const int8_t *)act + Q8_K_CODES;
	__m256i sums = _mm256_setzero_si256(), bs = load256(act + Q8_K_SUMS), digits[8];

	if (type == TYPE_TQ1_0)
		ternary_groups(b, digits);
#pragma GCC unroll 8
	for (int g = 0; g < 8; g++) {
		__m256i codes = type == TYPE_TQ1_0 ? digits[g] : group_codes(type, b, g);
		__m256i x = load256(q + 32 * g), p = _mm256_maddubs_epi16(codes, x);

		if (ternary) {	/* eight of at most 762: no overflow in 16 bits */
			sums = _mm256_add_epi16(sums, p);
			continue;
		}
		if (type == TYPE_Q3_K)
			p = _mm256_sub_epi16(p, _mm256_maddubs_epi16(_mm256_set1_epi8(4), x));
		__m256i scale = per_group ? _mm256_set1_epi16(s->scale[g])
					  : _mm256_setr_m128i(_mm_set1_epi16(s->scale[2 * g]),
							      _mm_set1_epi16(s->scale[2 * g + 1]));

		sums = _mm256_add_epi32(sums, _mm256_madd_epi16(p, scale));
	}
	if (ternary)
		return _mm256_sub_epi32(_mm256_madd_epi16(sums, _mm256_set1_epi16(1)),
					_mm256_madd_epi16(bs, _mm256_set1_epi16(1)));
	if (type == TYPE_Q6_K)
		sums = _mm256_sub_epi32(
			sums, _mm256_slli_epi32(_mm256_madd_epi16(load256(s->scale), bs), 5));
	return sums;
}

/* ---- the product -------------------------------------------------------------------------- */

ALWAYS void rows_of(const struct kernels *k, uint32_t type, const struct weight *w, int64_t r0,
		    int64_t r1, const uint8_t *act, float *out)
{
	uint32_t bytes = w->type->block_bytes;

	if (w->type->block_elems == 32) {
		int64_t half = (r1 - r0 + 1) / 2;

		for (int64_t r = r0; r < r0 + half; r++)
			rows32(k, type, w, r, r + half < r1 ? r + half : r, act, out);
		return;
	}
	for (int64_t r = r0; r < r1; r++)
		out[r] = row256(k, type, w->data + (size_t)r * w->row_bytes, bytes, act, w->n_in,
				block256_sums);
}

static void gemv(const struct kernels *k, const struct weight *w, int64_t r0, int64_t r1,
		 const uint8_t *act, float *out)
{
#define CASE(type)                                                                                 \
	case type:                                                                                 \
		rows_of(k, type, w, r0, r1, act, out);                                             \
		break
	switch (w->type->id) {
	CASE(TYPE_Q8_0);
	CASE(TYPE_Q4_0);
	CASE(TYPE_Q4_1);
	CASE(TYPE_Q5_0);
	CASE(TYPE_Q5_1);
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

bool quant_matmul_avx2(const struct kernels *k, const struct weight *w, int64_t r0, int64_t r1,
		       const void *act, size_t act_bytes, int64_t n_tok, float *out,
		       int64_t out_stride)
{
	/* of several tokens, rows stay in the cache while they pass */
	int64_t step = n_tok > 1 ? 16 : r1 - r0;

	for (int64_t r = r0; r < r1; r += step)
		for (int64_t t = 0; t < n_tok; t++)
			gemv(k, w, r, r1 - r < step ? r1 : r + step,
			     (const uint8_t *)act + (size_t)t * act_bytes, out + t * out_stride);
	return true;
}
