/*
 * The I2_S product with 256-bit registers; included by the AVX2 and the AVX-VNNI file, which
 * differ in what one multiplication does. The plan is i2s_avx512vnni.c's: one token walks the rows
 * as the file packs them; many tokens walk panels of unpacked codes, eight rows to a register.
 */
#ifndef ASSAY_I2S_256_H
#define ASSAY_I2S_256_H

#include "runs.h"
#include "variants.h"

#include <string.h>

enum {
	BLOCK = 128, BLOCK_BYTES = 32,
	FEW_TOKENS = 3,
	LANES = 8,			/* rows in one register */
	GROUPS = 3,
	PANEL_ROWS = LANES * GROUPS,
	TILE_TOKENS = 4,
	PANEL_N = 512,			/* columns unpacked at once: 12 KiB */
	PANEL_TOKENS = 256,
	NARROW_BLOCKS = 8,		/* 16-bit sums of one token: 8 · 4 · 762 fits */
};

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS __m256i load256(const void *p)
{
	return _mm256_loadu_si256(p);
}

ALWAYS __m256i codes_at(__m256i w, int shift)
{
	return _mm256_and_si256(_mm256_srli_epi16(w, shift), _mm256_set1_epi8(3));
}

ALWAYS int32_t sum_all(__m256i v)
{
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
	return _mm_cvtsi128_si32(s);
}

/* ---- few tokens --------------------------------------------------------------------------- */

#if defined(__AVXVNNI__)

/* masked in place, codes are code · 64, 16, 4, 1: four sums, shifted down at the end */
static int32_t row_sum(const uint8_t *w, const int8_t *q, int64_t n)
{
	const __m256i three = _mm256_set1_epi8(3);
	__m256i acc[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
			  _mm256_setzero_si256()};

	for (; n > 0; n -= BLOCK, w += BLOCK_BYTES, q += BLOCK) {
		__m256i v = load256(w);

		run_fetch(w, BLOCK_BYTES);
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++)
			acc[j] = _mm256_dpbusd_avx_epi32(
				acc[j], _mm256_and_si256(v, _mm256_slli_epi16(three, 6 - 2 * j)),
				load256(q + 32 * j));
	}
	acc[0] = _mm256_add_epi32(_mm256_srai_epi32(acc[0], 6), _mm256_srai_epi32(acc[1], 4));
	return sum_all(
		_mm256_add_epi32(_mm256_add_epi32(acc[0], _mm256_srai_epi32(acc[2], 2)), acc[3]));
}

#else

static int32_t row_sum(const uint8_t *w, const int8_t *q, int64_t n)
{
	__m256i sum = _mm256_setzero_si256();

	while (n > 0) {
		int64_t blocks = n / BLOCK < NARROW_BLOCKS ? n / BLOCK : NARROW_BLOCKS;
		__m256i a = _mm256_setzero_si256(), b = _mm256_setzero_si256();

		n -= blocks * BLOCK;
		for (; blocks > 0; blocks--, w += BLOCK_BYTES, q += BLOCK) {
			__m256i v = load256(w);

			run_fetch(w, BLOCK_BYTES);
			a = _mm256_add_epi16(a, _mm256_maddubs_epi16(codes_at(v, 6), load256(q)));
			b = _mm256_add_epi16(b,
					     _mm256_maddubs_epi16(codes_at(v, 4), load256(q + 32)));
			a = _mm256_add_epi16(a,
					     _mm256_maddubs_epi16(codes_at(v, 2), load256(q + 64)));
			b = _mm256_add_epi16(b,
					     _mm256_maddubs_epi16(codes_at(v, 0), load256(q + 96)));
		}
		sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, _mm256_set1_epi16(1)));
		sum = _mm256_add_epi32(sum, _mm256_madd_epi16(b, _mm256_set1_epi16(1)));
	}
	return sum_all(sum);
}

#endif

static void gemv(const struct weight *w, int64_t r0, int64_t r1, const uint8_t *act, float *out)
{
	const struct act_i8_head *h = (const void *)act;
	struct runs u = runs_of(r0, r1);
	float scale;

	memcpy(&scale, w->tail, sizeof(scale));
	runs_begin(w, u);
	for (int64_t i = 0; i < u.each; i++)
		for (int run = 0; run < RUNS; run++) {
			int64_t r = run_row(u, run, i);
			int32_t sum = row_sum(w->data + (size_t)r * w->row_bytes,
					      (const int8_t *)(h + 1), w->n_in);

			out[r] = ((float)sum - (float)h->sum) / h->scale * scale;
		}
}

/* ---- many tokens -------------------------------------------------------------------------- */

/* Eight rows of 32 bytes -> eight registers, register d = dword d of every row. */
ALWAYS void transpose8(__m256i *v)
{
	__m256i t[8];

	for (int i = 0; i < 8; i += 4) {
		__m256i a = _mm256_unpacklo_epi32(v[i], v[i + 1]);
		__m256i b = _mm256_unpackhi_epi32(v[i], v[i + 1]);
		__m256i c = _mm256_unpacklo_epi32(v[i + 2], v[i + 3]);
		__m256i d = _mm256_unpackhi_epi32(v[i + 2], v[i + 3]);

		t[i] = _mm256_unpacklo_epi64(a, c);
		t[i + 1] = _mm256_unpackhi_epi64(a, c);
		t[i + 2] = _mm256_unpacklo_epi64(b, d);
		t[i + 3] = _mm256_unpackhi_epi64(b, d);
	}
	for (int i = 0; i < 4; i++) {
		v[i] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x20);
		v[i + 4] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x31);
	}
}

/* Columns [c0, c0 + n) of eight rows (missing ones zero) to panel[(column / 4) · GROUPS]. */
static void unpack_group(const uint8_t *w, size_t row_bytes, int64_t rows, int64_t c0, int64_t n,
			 __m256i *panel)
{
	for (int64_t c = 0; c < n; c += BLOCK) {
		__m256i v[8];

		for (int r = 0; r < 8; r++)
			v[r] = r < rows ? load256(w + (size_t)r * row_bytes + (size_t)(c0 + c) / 4)
					: _mm256_setzero_si256();
		transpose8(v);
		for (int d = 0; d < 8; d++) {
			__m256i *to = &panel[(c / 4 + d) * GROUPS];

			to[0] = codes_at(v[d], 6);
			to[8 * GROUPS] = codes_at(v[d], 4);
			to[16 * GROUPS] = codes_at(v[d], 2);
			to[24 * GROUPS] = codes_at(v[d], 0);
		}
	}
}

ALWAYS __m256i four_at(const int8_t *p)
{
	int32_t v;

	memcpy(&v, p, sizeof(v));
	return _mm256_set1_epi32(v);
}

/* sums[t][g] += one block of 128 columns; `tokens` rows of q. */
ALWAYS void tile_block(const __m256i *panel, const int8_t *q, size_t act_bytes, int tokens,
		       __m256i (*sums)[GROUPS])
{
	__m256i acc[TILE_TOKENS][GROUPS];

#pragma GCC unroll 4
	for (int t = 0; t < tokens; t++)
#pragma GCC unroll 3
		for (int g = 0; g < GROUPS; g++)
#if defined(__AVXVNNI__)
			acc[t][g] = sums[t][g];
#else
			acc[t][g] = _mm256_setzero_si256();	/* 16 bits: 32 · 762 fits */
#endif
	for (int i = 0; i < BLOCK; i += 4, panel += GROUPS) {
#pragma GCC unroll 4
		for (int t = 0; t < tokens; t++) {
			__m256i a = four_at(q + (size_t)t * act_bytes + i);

#pragma GCC unroll 3
			for (int g = 0; g < GROUPS; g++)
#if defined(__AVXVNNI__)
				acc[t][g] = _mm256_dpbusd_avx_epi32(acc[t][g], panel[g], a);
#else
				acc[t][g] = _mm256_add_epi16(acc[t][g],
							     _mm256_maddubs_epi16(panel[g], a));
#endif
		}
	}
#pragma GCC unroll 4
	for (int t = 0; t < tokens; t++)
#pragma GCC unroll 3
		for (int g = 0; g < GROUPS; g++)
#if defined(__AVXVNNI__)
			sums[t][g] = acc[t][g];
#else
			sums[t][g] = _mm256_add_epi32(
				sums[t][g], _mm256_madd_epi16(acc[t][g], _mm256_set1_epi16(1)));
#endif
}

static void tiles(const __m256i *panel, const int8_t *q, size_t act_bytes, int64_t n, int64_t n_tok,
		  __m256i (*sums)[GROUPS])
{
	int64_t t = 0;

	for (; t + TILE_TOKENS <= n_tok; t += TILE_TOKENS)
		for (int64_t c = 0; c < n; c += BLOCK)
			tile_block(panel + c / 4 * GROUPS, q + (size_t)t * act_bytes + c, act_bytes,
				   TILE_TOKENS, sums + t);
	for (; t < n_tok; t++)
		for (int64_t c = 0; c < n; c += BLOCK)
			tile_block(panel + c / 4 * GROUPS, q + (size_t)t * act_bytes + c, act_bytes,
				   1, sums + t);
}

static void finish_panel(__m256i (*sums)[GROUPS], const uint8_t *act, size_t act_bytes,
			 int64_t n_tok, int64_t rows, float scale, float *out, int64_t out_stride)
{
	for (int64_t t = 0; t < n_tok; t++, act += act_bytes) {
		const struct act_i8_head *h = (const void *)act;
		__m256 sum = _mm256_set1_ps((float)h->sum), s = _mm256_set1_ps(h->scale);
		float y[PANEL_ROWS];

		for (int g = 0; g < GROUPS; g++) {
			__m256 v = _mm256_sub_ps(_mm256_cvtepi32_ps(sums[t][g]), sum);

			v = _mm256_mul_ps(_mm256_div_ps(v, s), _mm256_set1_ps(scale));
			_mm256_storeu_ps(y + g * LANES, v);
		}
		memcpy(out + t * out_stride, y, (size_t)rows * sizeof(*y));
	}
}

static void gemm_panel(const struct weight *w, int64_t r, int64_t rows, const uint8_t *act,
		       size_t act_bytes, int64_t n_tok, float *out, int64_t out_stride)
{
	__m256i panel[PANEL_N / 4 * GROUPS], sums[PANEL_TOKENS][GROUPS];
	const int8_t *q = (const int8_t *)act + sizeof(struct act_i8_head);
	float scale;

	memcpy(&scale, w->tail, sizeof(scale));
	memset(sums, 0, (size_t)n_tok * sizeof(sums[0]));
	for (int64_t c = 0; c < w->n_in; c += PANEL_N) {
		int64_t n = w->n_in - c < PANEL_N ? w->n_in - c : PANEL_N;

		for (int g = 0; g < GROUPS; g++)
			unpack_group(w->data + (size_t)(r + g * LANES) * w->row_bytes, w->row_bytes,
				     rows - g * LANES, c, n, panel + g);
		tiles(panel, q + c, act_bytes, n, n_tok, sums);
	}
	finish_panel(sums, act, act_bytes, n_tok, rows, scale, out + r, out_stride);
}

static bool i2s_matmul_256(const struct weight *w, int64_t r0, int64_t r1, const uint8_t *act,
			   size_t act_bytes, int64_t n_tok, float *out, int64_t out_stride)
{
	if (n_tok <= FEW_TOKENS) {
		for (int64_t t = 0; t < n_tok; t++)
			gemv(w, r0, r1, act + (size_t)t * act_bytes, out + t * out_stride);
		return true;
	}
	for (int64_t t = 0; t < n_tok; t += PANEL_TOKENS) {
		int64_t nt = n_tok - t < PANEL_TOKENS ? n_tok - t : PANEL_TOKENS;

		for (int64_t r = r0; r < r1; r += PANEL_ROWS)
			gemm_panel(w, r, r1 - r < PANEL_ROWS ? r1 - r : PANEL_ROWS,
				   act + (size_t)t * act_bytes, act_bytes, nt, out + t * out_stride,
				   out_stride);
	}
	return true;
}

#endif
