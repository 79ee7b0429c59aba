#include "avx512vnni.h"
#include "row256.h"
#include "variants.h"

/*
 * Quantised rows against one token. Decoding is the limit before memory is, so what can be done
 * once is: the token is packed with what its unsigned codes start from, and the scales of a row are
 * widened before its products.
 */
enum { BLOCKS_MAX = 1024, ROOM = 8 };

/* ---- blocks of 32 ------------------------------------------------------------------------- */

struct token32 {
	struct { int8_t q[32]; int32_t start[8]; } block[BLOCKS_MAX];
	float d[BLOCKS_MAX + ROOM], s[BLOCKS_MAX + ROOM];
};

static void pack_token(uint32_t type, const uint8_t *act, int64_t blocks, struct token32 *t)
{
	bool q8_1 = has_minimum(type);
	const __m256i shift = _mm256_set1_epi8((char)code_shift(type));

	for (int64_t i = 0; i < blocks; i++, act += q8_1 ? 36 : 34) {
		__m256i q = load256(act + (q8_1 ? 4 : 2));
		__m256i above = _mm256_dpbusd_epi32(_mm256_setzero_si256(), shift, q);

		_mm256_storeu_si256((void *)t->block[i].q, q);
		_mm256_storeu_si256((void *)t->block[i].start,
				    _mm256_sub_epi32(_mm256_setzero_si256(), above));
		t->d[i] = half_at(act);
		t->s[i] = q8_1 ? half_at(act + 2) : 0.0f;
	}
}

ALWAYS int64_t block32_bytes(uint32_t type)
{
	switch (type) {
	case TYPE_Q4_0: return 18;
	case TYPE_Q4_1: return 20;
	case TYPE_Q5_0: return 22;
	default: return 24;
	}
}

/* 128 bytes; of fewer, the others are zero. */
ALWAYS void load128(const uint8_t *p, int64_t bytes, __m512i *v)
{
	if (bytes >= 128) {
		v[0] = _mm512_loadu_si512(p);
		v[1] = _mm512_loadu_si512(p + 64);
		return;
	}
	v[0] = _mm512_maskz_loadu_epi8(bytes >= 64 ? ~0ull : (1ull << bytes) - 1, p);
	v[1] = _mm512_maskz_loadu_epi8(bytes <= 64 ? 0 : (1ull << (bytes - 64)) - 1, p + 64);
}

/* Eight (four) blocks of a row: the F16 scales, each times that of the token, and the minima. */
ALWAYS void widen_scales(uint32_t type, const uint8_t *b, int64_t left, const float *by, float *d,
			 float *m)
{
	int words = (int)block32_bytes(type) / 2;
	const __m128i steps = _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7);
	__m128i first = _mm_mullo_epi16(steps, _mm_set1_epi16((short)words));
	__m512i at = _mm512_castsi128_si512(first), v[2], h;

	load128(b, left, v);
	h = _mm512_permutex2var_epi16(v[0], at, v[1]);
	_mm256_storeu_ps(d, _mm256_mul_ps(_mm256_cvtph_ps(_mm512_castsi512_si128(h)),
					  _mm256_loadu_ps(by)));
	if (!has_minimum(type))
		return;
	at = _mm512_castsi128_si512(_mm_add_epi16(first, _mm_set1_epi16(1)));
	h = _mm512_permutex2var_epi16(v[0], at, v[1]);
	_mm256_storeu_ps(m, _mm256_cvtph_ps(_mm512_castsi512_si128(h)));
}

/* The unsigned codes of a block. */
ALWAYS __m256i unsigned32(uint32_t type, const uint8_t *b)
{
	const __m256i low = _mm256_set1_epi8(15), shifts = _mm256_setr_epi64x(0, 0, 4, 4);
	int at = type == TYPE_Q4_0 ? 2 : type == TYPE_Q4_1 ? 4 : type == TYPE_Q5_0 ? 6 : 8;

	__m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)(b + at)));

	x = _mm256_and_si256(_mm256_srlv_epi64(x, shifts), low);
	if (type == TYPE_Q5_0 || type == TYPE_Q5_1)
		x = _mm256_mask_add_epi8(x, word_at(b + at - 4), x, _mm256_set1_epi8(16));
	return x;
}

struct sum32 { __m256 acc; float minima; };

/* The products of a block of both rows with block j of the token. */
ALWAYS void products32(uint32_t type, const uint8_t *const *b, int64_t at, const struct token32 *t,
		       int64_t j, const float (*d)[ROOM], const float (*m)[ROOM], int c,
		       struct sum32 *sum)
{
	__m256i q = load256(t->block[j + c].q), start = load256(t->block[j + c].start);

#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
		__m256i n = _mm256_dpbusd_epi32(start, unsigned32(type, b[i] + at), q);

		sum[i].acc = _mm256_fmadd_ps(_mm256_set1_ps(d[i][c]), _mm256_cvtepi32_ps(n),
					     sum[i].acc);
		if (has_minimum(type))
			sum[i].minima = __builtin_fmaf(m[i][c], t->s[j + c], sum[i].minima);
	}
}

/* `count` of at most `step` blocks of both rows, which begin at block j of the token. */
ALWAYS void run32(const struct kernels *k, uint32_t type, const uint8_t **b,
		  const struct token32 *t, int64_t j, int64_t step, int64_t count, bool whole,
		  struct sum32 *sum)
{
	enum { LINE = 64 };
	const int64_t bytes = block32_bytes(type);
	float d[2][ROOM], m[2][ROOM];

#pragma GCC unroll 2
	for (int i = 0; i < 2; i++) {
#pragma GCC unroll 4
		for (int64_t line = 0; line < step * bytes; line += LINE)
			_mm_prefetch((const char *)b[i] + k->ahead_bytes + line, _MM_HINT_T1);
		widen_scales(type, b[i], whole ? 128 : count * bytes, t->d + j, d[i], m[i]);
	}
	if (whole)
#pragma GCC unroll 8
		for (int c = 0; c < (int)step; c++)
			products32(type, b, c * bytes, t, j, d, m, c, sum);
	else
		for (int c = 0; c < (int)count; c++)
			products32(type, b, c * bytes, t, j, d, m, c, sum);
	b[0] += step * bytes;
	b[1] += step * bytes;
}

/* Rows r and other, far apart: each is a plain sequence of lines, which the hardware prefetches. */
ALWAYS void rows32(const struct kernels *k, uint32_t type, const struct weight *w, int64_t r,
		   int64_t other, const struct token32 *t, float *out)
{
	const int64_t bytes = block32_bytes(type), step = type == TYPE_Q4_0 ? 8 : 4;
	const uint8_t *b[2] = {w->data + (size_t)r * w->row_bytes,
			       w->data + (size_t)other * w->row_bytes};
	struct sum32 sum[2] = {{_mm256_setzero_ps(), 0.0f}, {_mm256_setzero_ps(), 0.0f}};
	int64_t blocks = w->n_in / 32, j = 0;
	float y[2];

	for (; blocks - j >= step && (blocks - j) * bytes >= 128; j += step)
		run32(k, type, b, t, j, step, step, true, sum);
	for (; j < blocks; j += step)
		run32(k, type, b, t, j, step, blocks - j < step ? blocks - j : step, false, sum);
	for (int i = 0; i < 2; i++)
		y[i] = has_minimum(type) ? sum_halves(sum[i].acc) + sum[i].minima
					 : sum_halves(sum[i].acc);
	out[r] = y[0];
	out[other] = y[1];
}

ALWAYS void all32(const struct kernels *k, uint32_t type, const struct weight *w, int64_t r0,
		  int64_t r1, const uint8_t *act, float *out)
{
	int64_t half = (r1 - r0 + 1) / 2;
	struct token32 t;

	pack_token(type, act, w->n_in / 32, &t);
	for (int64_t r = r0; r < r0 + half; r++)
		rows32(k, type, w, r, r + half < r1 ? r + half : r, &t, out);
}

/* ---- super-blocks of 256 ------------------------------------------------------------------ */

ALWAYS __m512i twice(const uint8_t *p)
{
	return _mm512_broadcast_i64x4(load256(p));
}

/* The first half of a register shifted right by a, the second by b, and masked. */
ALWAYS __m512i shifted(__m512i x, int a, int b, int mask)
{
	__m512i by = _mm512_inserti64x4(_mm512_set1_epi64(a), _mm256_set1_epi64x(b), 1);

	return _mm512_and_si512(_mm512_srlv_epi64(x, by), _mm512_set1_epi8((char)mask));
}

/* bit a of each byte of the first half, bit b of the second: plus `value` where it is set. */
ALWAYS __m512i add_where(__m512i x, __m512i bits, int a, int b, int value)
{
	__m512i test = _mm512_inserti64x4(_mm512_set1_epi8((char)(1 << a)),
					  _mm256_set1_epi8((char)(1 << b)), 1);

	return _mm512_mask_add_epi8(x, _mm512_test_epi8_mask(bits, test), x,
				    _mm512_set1_epi8((char)value));
}

/* The unsigned codes of groups 2j and 2j + 1 of a super-block; Q3_K: plus 4. */
ALWAYS __m512i pair_codes(uint32_t type, const uint8_t *b, int j)
{
	int at = type == TYPE_Q2_K ? 16 : type == TYPE_Q3_K ? 32 : 0, two = j % 2 * 4;
	__m512i x;

	switch (type) {
	case TYPE_Q4_K: return shifted(twice(b + 16 + 32 * j), 0, 4, 15);
	case TYPE_Q5_K:
		x = shifted(twice(b + 48 + 32 * j), 0, 4, 15);
		return add_where(x, twice(b + 16), 2 * j, 2 * j + 1, 16);
	case TYPE_Q6_K:
		x = shifted(_mm512_loadu_si512(b + 64 * (j / 2)), two, two, 15);
		return _mm512_or_si512(
			x, _mm512_slli_epi16(
				   shifted(twice(b + 128 + 32 * (j / 2)), two, two + 2, 3), 4));
	}
	x = shifted(twice(b + at + 32 * (j / 2)), two, two + 2, 3);
	return type == TYPE_Q3_K ? add_where(x, twice(b), 2 * j, 2 * j + 1, 4) : x;
}

/* The scales of groups 2j and 2j + 1 in the low halves of the lanes that they scale. */
ALWAYS __m512i pair_scales(uint32_t type, __m512i all, int j)
{
	bool per_group = type == TYPE_Q4_K || type == TYPE_Q5_K;
	const __m512i by_8 = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
	const __m512i by_4 = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
	__m512i at = per_group ? _mm512_add_epi32(by_8, _mm512_set1_epi32(2 * j))
			       : _mm512_add_epi32(by_4, _mm512_set1_epi32(4 * j));

	return _mm512_permutexvar_epi32(at, all);
}

/* Integer sums of the eight lanes, offsets taken out. */
ALWAYS __m256i block256_sums(uint32_t type, const uint8_t *b, const uint8_t *act,
			     const struct scales256 *s)
{
	bool ternary = type == TYPE_TQ1_0 || type == TYPE_TQ2_0;
	const uint8_t *q = act + Q8_K_CODES;
	__m512i sums = _mm512_setzero_si512(), all = sums;
	bool per_group = type == TYPE_Q4_K || type == TYPE_Q5_K;
	__m256i bs = load256(act + Q8_K_SUMS), digits[8], n;

	if (type == TYPE_TQ1_0)
		ternary_groups(b, digits);
	if (!ternary)
		all = per_group ? _mm512_castsi256_si512(_mm256_cvtepu16_epi32(
					  _mm_loadu_si128((const void *)s->scale)))
				: _mm512_cvtepu16_epi32(load256(s->scale));
#pragma GCC unroll 4
	for (int j = 0; j < 4; j++) {
		__m512i x = _mm512_loadu_si512(q + 64 * j), part = _mm512_setzero_si512();
		__m512i codes =
			type == TYPE_TQ1_0
				? _mm512_inserti64x4(_mm512_castsi256_si512(digits[2 * j]),
						     digits[2 * j + 1], 1)
				: pair_codes(type, b, j);

		if (ternary) {
			dot4(&sums, codes, x);
			continue;
		}
		dot4(&part, codes, x);
		if (type == TYPE_Q3_K) {
			__m512i shift = _mm512_setzero_si512();

			dot4(&shift, _mm512_set1_epi8(4), x);
			part = _mm512_sub_epi32(part, shift);
		}
		dot2(&sums, part, pair_scales(type, all, j));
	}
	n = _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
	if (ternary)
		n = _mm256_sub_epi32(n, _mm256_madd_epi16(bs, _mm256_set1_epi16(1)));
	if (type == TYPE_Q6_K)
		n = _mm256_sub_epi32(
			n, _mm256_slli_epi32(_mm256_madd_epi16(load256(s->scale), bs), 5));
	return n;
}

ALWAYS void all256(const struct kernels *k, uint32_t type, const struct weight *w, int64_t r0,
		   int64_t r1, const uint8_t *act, float *out)
{
	for (int64_t r = r0; r < r1; r++)
		out[r] = row256(k, type, w->data + (size_t)r * w->row_bytes, w->type->block_bytes,
				act, w->n_in, block256_sums);
}

/* ---- the product -------------------------------------------------------------------------- */

bool quant_gemv_avx512vnni(const struct kernels *k, const struct weight *w, int64_t r0, int64_t r1,
			   const uint8_t *act, float *out)
{
	if (w->type->block_elems == 32 && w->n_in > 32 * BLOCKS_MAX)
		return false;
	if (w->type->id == TYPE_Q8_0)	/* memory is its limit with plain AVX2, too */
		return false;
#define CASE(type, all)                                                                            \
	case type:                                                                                 \
		all(k, type, w, r0, r1, act, out);                                                 \
		break
	switch (w->type->id) {
	CASE(TYPE_Q4_0, all32);
	CASE(TYPE_Q4_1, all32);
	CASE(TYPE_Q5_0, all32);
	CASE(TYPE_Q5_1, all32);
	CASE(TYPE_Q2_K, all256);
	CASE(TYPE_Q3_K, all256);
	CASE(TYPE_Q4_K, all256);
	CASE(TYPE_Q5_K, all256);
	CASE(TYPE_Q6_K, all256);
	CASE(TYPE_TQ1_0, all256);
	CASE(TYPE_TQ2_0, all256);
	}
#undef CASE
	return true;
}
