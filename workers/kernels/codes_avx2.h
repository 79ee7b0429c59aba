/*
 * Stored blocks to 8-bit codes, 32 at a time, and their scales: what the AVX2 and AVX-512 products
 * of quantised rows share. Codes are unsigned as stored.
 */
#ifndef ASSAY_CODES_AVX2_H
#define ASSAY_CODES_AVX2_H

#include "base_quant.h"

#include <immintrin.h>

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

ALWAYS void prefetch_block(const uint8_t *b, uint32_t bytes, int64_t ahead)
{
	for (uint32_t i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)b + ahead + i, _MM_HINT_T1);
}

ALWAYS float sum_halves(__m256 v)
{
	__m128 b = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
	__m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));

	return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

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

/* Unsigned codes of a block; Q8_0: signed. */
ALWAYS __m256i block32_codes(uint32_t type, const uint8_t *b)
{
	switch (type) {
	case TYPE_Q8_0: return load256(b + 2);
	case TYPE_Q4_0: return nibbles32(b + 2);
	case TYPE_Q4_1: return nibbles32(b + 4);
	case TYPE_Q5_0: return _mm256_or_si256(nibbles32(b + 6), fifth_bits(b + 2));
	default: return _mm256_or_si256(nibbles32(b + 8), fifth_bits(b + 4));
	}
}

/* What signed codes are above their value when stored (Q8_0: when moved to 0…255). */
ALWAYS int code_shift(uint32_t type)
{
	return type == TYPE_Q8_0 ? 128 : type == TYPE_Q5_0 ? 16 : type == TYPE_Q4_0 ? 8 : 0;
}

ALWAYS bool has_minimum(uint32_t type)
{
	return type == TYPE_Q4_1 || type == TYPE_Q5_1;
}

/* ---- super-blocks of 256 ------------------------------------------------------------------ */

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

#endif
