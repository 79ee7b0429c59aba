#include "base_quant.h"
#include "variants.h"

#include <immintrin.h>

/*
 * Quantised rows against one token: eight float lanes per row as in base_quant.h, the integers of
 * a lane from 8-bit products. Codes are taken as unsigned where the format allows; signed ones give
 * their sign to the activation.
 */
enum { AHEAD_BYTES = 10240 };

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS __m256i load256(const void *p)
{
	return _mm256_loadu_si256(p);
}

ALWAYS float half_at(const uint8_t *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof(h));
	return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}

ALWAYS void prefetch_block(const uint8_t *b, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)b + AHEAD_BYTES + i, _MM_HINT_T1);
}

ALWAYS float sum_halves(__m256 v)
{
	__m128 b = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	__m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));

	return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

/* ---- blocks of 32 -------------------------------------------------------------------------- */

ALWAYS __m256i nibbles32(const uint8_t *p)
{
	__m128i x = _mm_loadu_si128((const void *)p);
	__m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(x), _mm_srli_epi16(x, 4), 1);

	return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* 32 bits to 32 bytes of 16 or 0 */
ALWAYS __m256i fifth_bits(const uint8_t *p)
{
	const __m256i bytes = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202,
						 0x0303030303030303);
	const __m256i bits = _mm256_set1_epi64x((long long)0x8040201008040201);
	int32_t word;

	memcpy(&word, p, sizeof(word));
	__m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(word), bytes);

	return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, bits), bits),
				_mm256_set1_epi8(16));
}

ALWAYS __m256i products(__m256i codes, __m256i q, bool is_signed)
{
	__m256i p = is_signed ? _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(q, codes))
			      : _mm256_maddubs_epi16(codes, q);

	return _mm256_madd_epi16(p, _mm256_set1_epi16(1));
}

ALWAYS __m256i block32_sums(uint32_t type, const uint8_t *b, __m256i q)
{
	switch (type) {
	case TYPE_Q8_0:
		return products(load256(b + 2), q, true);
	case TYPE_Q4_0:
		return products(_mm256_sub_epi8(nibbles32(b + 2), _mm256_set1_epi8(8)), q, true);
	case TYPE_Q4_1:
		return products(nibbles32(b + 4), q, false);
	case TYPE_Q5_0:
		return products(_mm256_sub_epi8(_mm256_or_si256(nibbles32(b + 6), fifth_bits(b + 2)),
						_mm256_set1_epi8(16)), q, true);
	default:
		return products(_mm256_or_si256(nibbles32(b + 8), fifth_bits(b + 4)), q, false);
	}
}

/* Two rows at once: each has one chain of sums, too slow for the memory alone. */
ALWAYS void rows32(uint32_t type, const struct weight *w, int64_t r, int rows, const uint8_t *act,
		   float *out)
{
	bool has_min = type == TYPE_Q4_1 || type == TYPE_Q5_1;
	uint32_t bytes = w->type->block_bytes;
	const uint8_t *b[2] = {w->data + (size_t)r * w->row_bytes,
			       w->data + (size_t)(r + rows - 1) * w->row_bytes};
	__m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
	float minima[2] = {0.0f, 0.0f};

	for (int64_t n = w->n_in; n > 0; n -= 32, act += has_min ? 36 : 34) {
		__m256i q = load256(act + (has_min ? 4 : 2));
		float da = half_at(act);

#pragma GCC unroll 2
		for (int i = 0; i < 2; i++, b[i - 1] += bytes) {
			_mm_prefetch((const char *)b[i] + AHEAD_BYTES, _MM_HINT_T1);
			__m256 n_l = _mm256_cvtepi32_ps(block32_sums(type, b[i], q));

			acc[i] = _mm256_fmadd_ps(_mm256_set1_ps(half_at(b[i]) * da), n_l, acc[i]);
			if (has_min)
				minima[i] = __builtin_fmaf(half_at(b[i] + 2), half_at(act + 2), minima[i]);
		}
	}
	for (int i = 0; i < rows; i++)
		out[r + i] = has_min ? sum_halves(acc[i]) + minima[i] : sum_halves(acc[i]);
}

/* ---- super-blocks of 256 ------------------------------------------------------------------- */

ALWAYS __m256i two_bits(const uint8_t *p, int shift)
{
	return _mm256_and_si256(_mm256_srli_epi16(load256(p), shift), _mm256_set1_epi8(3));
}

/* The unsigned codes of 32 elements, group g of a super-block; Q3_K: plus 4. */
ALWAYS __m256i group_codes(uint32_t type, const uint8_t *b, int g)
{
	const __m256i low4 = _mm256_set1_epi8(15);
	__m256i x, h;

	switch (type) {
	case TYPE_Q2_K:
		return two_bits(b + 16 + 32 * (g / 4), g % 4 * 2);
	case TYPE_Q3_K:
		h = _mm256_and_si256(_mm256_srli_epi16(load256(b), g), _mm256_set1_epi8(1));
		return _mm256_or_si256(two_bits(b + 32 + 32 * (g / 4), g % 4 * 2),
				       _mm256_slli_epi16(h, 2));
	case TYPE_Q4_K:
		x = load256(b + 16 + 32 * (g / 2));
		return _mm256_and_si256(g % 2 ? _mm256_srli_epi16(x, 4) : x, low4);
	case TYPE_Q5_K:
		x = load256(b + 48 + 32 * (g / 2));
		h = _mm256_and_si256(_mm256_srli_epi16(load256(b + 16), g), _mm256_set1_epi8(1));
		return _mm256_or_si256(_mm256_and_si256(g % 2 ? _mm256_srli_epi16(x, 4) : x, low4),
				       _mm256_slli_epi16(h, 4));
	case TYPE_Q6_K:
		x = load256(b + 64 * (g / 4) + 32 * (g % 2));
		h = two_bits(b + 128 + 32 * (g / 4), g % 4 * 2);
		return _mm256_or_si256(
			_mm256_and_si256(g % 4 / 2 ? _mm256_srli_epi16(x, 4) : x, low4),
			_mm256_slli_epi16(h, 4));
	default:
		return two_bits(b + 32 * (g / 4), g % 4 * 2);
	}
}

ALWAYS __m256i times3(__m256i v)
{
	return _mm256_add_epi8(v, _mm256_add_epi8(v, v));
}

/* The leading ternary digit, v · 3 >> 8: 1 from 86, 2 from 171. */
ALWAYS __m256i digit(__m256i v)
{
	__m256i one = _mm256_cmpeq_epi8(_mm256_max_epu8(v, _mm256_set1_epi8(86)), v);
	__m256i two = _mm256_cmpeq_epi8(_mm256_max_epu8(v, _mm256_set1_epi8((char)171)), v);

	return _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_add_epi8(one, two));
}

/* All eight groups of a TQ1_0 block. */
ALWAYS void ternary_groups(const uint8_t *b, __m256i *g)
{
	const __m256i powers = _mm256_setr_epi32(0, 0, 0, 0, 0x01010101, 0x03030303, 0x09090909,
						 0x1b1b1b1b);
	__m256i v = load256(b), low = _mm256_set1_epi16(0xff);
	__m128i w = _mm_loadu_si128((const void *)(b + 32)), w3[5];
	int32_t last;

	memcpy(&last, b + 48, sizeof(last));
	for (int d = 0; d < 5; d++, v = times3(v))
		g[d] = digit(v);
	for (int d = 0; d < 5; d++) {
		w3[d] = w;
		w = _mm_add_epi8(w, _mm_add_epi8(w, w));
	}
	g[5] = digit(_mm256_inserti128_si256(_mm256_castsi128_si256(w3[0]), w3[1], 1));
	g[6] = digit(_mm256_inserti128_si256(_mm256_castsi128_si256(w3[2]), w3[3], 1));
	/* the last four bytes by 1, 3, 9, 27: 8-bit products by 16-bit ones */
	__m256i x = _mm256_set1_epi32(last);
	__m256i even = _mm256_mullo_epi16(_mm256_and_si256(x, low), _mm256_and_si256(powers, low));
	__m256i odd = _mm256_mullo_epi16(_mm256_srli_epi16(x, 8), _mm256_srli_epi16(powers, 8));
	__m256i y = _mm256_or_si256(_mm256_and_si256(even, low), _mm256_slli_epi16(odd, 8));

	g[7] = digit(_mm256_inserti128_si256(y, w3[4], 0));
}

/* Scales (and minima) of a super-block as sixteen 16-bit numbers; Q4_K, Q5_K: eight of each. */
struct scales256 { int16_t scale[16], min[16]; };

ALWAYS uint32_t word_at(const uint8_t *p)
{
	uint32_t w;

	memcpy(&w, p, sizeof(w));
	return w;
}

/* Four 6-bit numbers: four low bits of `low`, two of `high`. */
ALWAYS uint32_t join_bits(uint32_t low, uint32_t high)
{
	return (low & 0x0f0f0f0f) | (high & 0x03030303) << 4;
}

/* As unpack_scales_k4 and unpack_scales_q3_k, four bytes at a time. */
ALWAYS void scales_k4_words(const uint8_t *p, uint32_t *s)
{
	uint32_t a = word_at(p), b = word_at(p + 4), c = word_at(p + 8);

	s[0] = a & 0x3f3f3f3f;
	s[1] = join_bits(c, a >> 6);
	s[2] = b & 0x3f3f3f3f;
	s[3] = join_bits(c >> 4, b >> 6);
}

ALWAYS __m128i scales_q3_words(const uint8_t *p)
{
	uint32_t a = word_at(p), b = word_at(p + 4), c = word_at(p + 8);
	__m128i s = _mm_setr_epi32((int)join_bits(a, c), (int)join_bits(b, c >> 2),
				   (int)join_bits(a >> 4, c >> 4), (int)join_bits(b >> 4, c >> 6));

	return _mm_sub_epi8(s, _mm_set1_epi8(32));
}

ALWAYS void scales_of(uint32_t type, const uint8_t *b, struct scales256 *s)
{
	uint32_t words[4];
	__m128i x;

	switch (type) {
	case TYPE_Q2_K:
		x = _mm_loadu_si128((const void *)b);
		_mm256_storeu_si256((void *)s->scale,
				    _mm256_cvtepu8_epi16(_mm_and_si128(x, _mm_set1_epi8(15))));
		x = _mm_and_si128(_mm_srli_epi16(x, 4), _mm_set1_epi8(15));
		_mm256_storeu_si256((void *)s->min, _mm256_cvtepu8_epi16(x));
		break;
	case TYPE_Q3_K:
		_mm256_storeu_si256((void *)s->scale,
				    _mm256_cvtepi8_epi16(scales_q3_words(b + 96)));
		break;
	case TYPE_Q4_K:
	case TYPE_Q5_K:
		scales_k4_words(b + 4, words);
		x = _mm_setr_epi32((int)words[0], (int)words[1], (int)words[2], (int)words[3]);
		_mm_storeu_si128((void *)s->scale, _mm_cvtepu8_epi16(x));
		_mm_storeu_si128((void *)s->min, _mm_cvtepu8_epi16(_mm_srli_si128(x, 8)));
		break;
	case TYPE_Q6_K:
		x = _mm_loadu_si128((const void *)(b + 192));
		_mm256_storeu_si256((void *)s->scale, _mm256_cvtepi8_epi16(x));
		break;
	}
}

ALWAYS float block_scale(uint32_t type, const uint8_t *b)
{
	switch (type) {
	case TYPE_Q2_K: return half_at(b + 80);
	case TYPE_Q3_K: return half_at(b + 108);
	case TYPE_Q6_K: return half_at(b + 208);
	case TYPE_TQ1_0: return half_at(b + 52);
	case TYPE_TQ2_0: return half_at(b + 64);
	default: return half_at(b);
	}
}

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

struct row256 { __m256 acc; __m128 min; float min_scalar; };

/* What the minima of a block add: before the products, as the reference does. */
ALWAYS void block256_minima(uint32_t type, const uint8_t *b, const uint8_t *act, float da,
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
		    const uint8_t *act, int64_t n)
{
	bool ternary = type == TYPE_TQ1_0 || type == TYPE_TQ2_0;
	bool has_min = type == TYPE_Q2_K || type == TYPE_Q4_K || type == TYPE_Q5_K;
	bool fused = !ternary || k->profile.tq_fused;
	struct row256 a = {_mm256_setzero_ps(), _mm_setzero_ps(), 0.0f};

	for (; n > 0; n -= 256, b += bytes, act += Q8_K_BYTES) {
		struct scales256 s = {0};
		float da;

		prefetch_block(b, bytes);
		memcpy(&da, act, sizeof(da));
		scales_of(type, b, &s);
		if (has_min)
			block256_minima(type, b, act, da, &s, &a);
		__m256 v = _mm256_cvtepi32_ps(block256_sums(type, b, act, &s));
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

/* ---- the product --------------------------------------------------------------------------- */

ALWAYS void rows_of(const struct kernels *k, uint32_t type, const struct weight *w, int64_t r0,
		    int64_t r1, const uint8_t *act, float *out)
{
	uint32_t bytes = w->type->block_bytes;

	if (w->type->block_elems == 32) {
		for (int64_t r = r0; r < r1; r += 2)
			rows32(type, w, r, r1 - r < 2 ? 1 : 2, act, out);
		return;
	}
	for (int64_t r = r0; r < r1; r++)
		out[r] = row256(k, type, w->data + (size_t)r * w->row_bytes, bytes, act, w->n_in);
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
	enum { ROWS = 16 };	/* stay in the cache while the tokens pass */

	for (int64_t r = r0; r < r1; r += ROWS)
		for (int64_t t = 0; t < n_tok; t++)
			gemv(k, w, r, r1 - r < ROWS ? r1 : r + ROWS,
			     (const uint8_t *)act + (size_t)t * act_bytes, out + t * out_stride);
	return true;
}
