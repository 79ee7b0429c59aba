#include "i2s_512.h"
#include "runs.h"
#include "variants.h"

/*
 * Eight matrix rows against one token: the codes stay where the file packs them. Masked in place,
 * every second one is code · 4, so one of the two sums per row is an exact multiple and is shifted
 * down once.
 * More tokens: rows are unpacked once, sixteen rows to a register, four columns to a lane, and a
 * register tile of 48 rows × 8 tokens walks them while they are in the first-level cache.
 */
enum {
	GEMV_N_MAX = 32768, /* longer rows take the plain path */
	GEMV_TOKENS = 3,    /* up to here unpacking does not pay */
	GROUPS = 3,             /* registers of rows in a tile */
	PANEL_ROWS = LANES * GROUPS,
	TILE_TOKENS = 8,
	PANEL_N = 512,      /* columns unpacked at once: 24 KiB */
	PANEL_TOKENS = 256, /* tokens whose sums are kept: 48 KiB */
};

/* ---- few tokens --------------------------------------------------------------------------- */

/* q [n] in the order of the packed codes: of each 256, columns 32j…32j+31 and 128+32j…, j = 0…3. */
static void permute_activation(const int8_t *q, int8_t *dst, int64_t n)
{
	for (int64_t i = 0; i < n; i += CHUNK, q += CHUNK, dst += CHUNK) {
		bool whole = i + CHUNK <= n;

		for (int j = 0; j < 4; j++) {
			__m256i lo = _mm256_loadu_si256((const void *)(q + 32 * j)), hi;

			hi = whole ? _mm256_loadu_si256((const void *)(q + BLOCK + 32 * j))
				   : _mm256_setzero_si256();
			_mm512_store_si512(dst + 64 * j,
					   _mm512_inserti64x4(_mm512_castsi256_si512(lo), hi, 1));
		}
	}
}

/*
 * One load of codes of every row, `whole` or only half of it, at byte `at`, times its activations:
 * acc[0] += codes · activations, acc[1] += 4 · codes · activations.
 */
static inline __attribute__((always_inline)) void
gemv_step(__m512i (*acc)[2], const uint8_t *const *w, int64_t at, const int8_t *q, bool whole)
{
	const __m512i low = _mm512_set1_epi8(3), high = _mm512_set1_epi8(12);
	__m512i q0 = _mm512_load_si512(q), q1 = _mm512_load_si512(q + 64);
	__m512i q2 = _mm512_load_si512(q + 128), q3 = _mm512_load_si512(q + 192);

#pragma GCC unroll 8
	for (int r = 0; r < RUNS; r++) {
		__m512i v = whole ? _mm512_loadu_si512(w[r] + at)
				  : _mm512_maskz_loadu_epi32(0xff, w[r] + at);
		__asm__("" : "+v"(v));	/* loaded once, not for each use */
		__m512i up = _mm512_srli_epi16(v, 4);

		run_fetch(w[r] + at, 64);
		dot4(&acc[r][1], _mm512_and_si512(up, high), q0);
		dot4(&acc[r][0], _mm512_and_si512(up, low), q1);
		dot4(&acc[r][1], _mm512_and_si512(v, high), q2);
		dot4(&acc[r][0], _mm512_and_si512(v, low), q3);
	}
}

/* Four registers of sixteen partial sums -> four sums. */
static inline __m128i sum4(__m512i a, __m512i b, __m512i c, __m512i d)
{
	__m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
	__m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
	__m512i s = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
	__m256i h = _mm256_add_epi32(_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64(s, 1));

	return _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

/* Sixteen partial sums each of RUNS rows of n columns, which share the loads of the activation. */
static inline __attribute__((always_inline)) void gemv_rows(const uint8_t *const *w,
							    const int8_t *q, int64_t n,
							    __m512i *sums)
{
	__m512i acc[RUNS][2];
	int64_t at = 0, bytes = n / 4;

#pragma GCC unroll 8
	for (int r = 0; r < RUNS; r++)
		acc[r][0] = acc[r][1] = _mm512_setzero_si512();
	for (; at + 64 <= bytes; at += 64, q += CHUNK)
		gemv_step(acc, w, at, q, true);
	if (at < bytes)
		gemv_step(acc, w, at, q, false);
#pragma GCC unroll 8
	for (int r = 0; r < RUNS; r++)
		sums[r] = _mm512_add_epi32(acc[r][0], _mm512_srai_epi32(acc[r][1], 2));
}

static inline __m128 finish4(__m128i sum, const struct act_i8_head *h, float scale)
{
	__m128 y = _mm_sub_ps(_mm_cvtepi32_ps(sum), _mm_set1_ps((float)h->sum));

	return _mm_mul_ps(_mm_div_ps(y, _mm_set1_ps(h->scale)), _mm_set1_ps(scale));
}

static void gemv(const struct weight *w, int64_t r0, int64_t r1, const uint8_t *act, float *out)
{
	const struct act_i8_head *h = (const void *)act;
	_Alignas(64) int8_t q[GEMV_N_MAX];
	struct runs u = runs_of(r0, r1);
	float scale;

	memcpy(&scale, w->tail, sizeof(scale));
	runs_begin(w, u);
	permute_activation((const int8_t *)(h + 1), q, w->n_in);
	for (int64_t i = 0; i < u.each; i++) {
		const uint8_t *p[RUNS];
		__m512i s[RUNS];
		float y[RUNS];

		runs_rows(w, u, i, p);
		gemv_rows(p, q, w->n_in, s);
		for (int run = 0; run < RUNS; run += 4)
			_mm_storeu_ps(y + run, finish4(sum4(s[run], s[run + 1], s[run + 2],
							    s[run + 3]), h, scale));
		runs_store(u, i, y, out);
	}
}

/* ---- many tokens -------------------------------------------------------------------------- */

/* sums[t][g] += panel · activations, n columns, `tokens` rows of q. */
static inline __attribute__((always_inline)) void
tile(const __m512i *panel, const int8_t *q, size_t act_bytes, int64_t n, int tokens, int groups,
	__m512i (*sums)[GROUPS])
{
	__m512i acc[TILE_TOKENS][GROUPS];

#pragma GCC unroll 8
	for (int t = 0; t < tokens; t++)
#pragma GCC unroll 3
		for (int g = 0; g < groups; g++)
			acc[t][g] = sums[t][g];
	for (int64_t i = 0; i < n; i += 4, panel += GROUPS) {
		__m512i w0 = panel[0], w1 = panel[1], w2 = panel[2];

#pragma GCC unroll 8
		for (int t = 0; t < tokens; t++) {
			__m512i a = four_at(q + (size_t)t * act_bytes + i);

			dot4(&acc[t][0], w0, a);
			if (groups > 1)
				dot4(&acc[t][1], w1, a);
			if (groups > 2)
				dot4(&acc[t][2], w2, a);
		}
	}
#pragma GCC unroll 8
	for (int t = 0; t < tokens; t++)
#pragma GCC unroll 3
		for (int g = 0; g < groups; g++)
			sums[t][g] = acc[t][g];
}

static inline __attribute__((always_inline)) void
tiles_of(const __m512i *panel, const int8_t *q, size_t act_bytes, int64_t n, int64_t n_tok,
	 int groups, __m512i (*sums)[GROUPS])
{
	int64_t t = 0;

	for (; t + TILE_TOKENS <= n_tok; t += TILE_TOKENS)
		tile(panel, q + (size_t)t * act_bytes, act_bytes, n, TILE_TOKENS, groups, sums + t);
	for (; t + 3 <= n_tok; t += 3)
		tile(panel, q + (size_t)t * act_bytes, act_bytes, n, 3, groups, sums + t);
	for (; t < n_tok; t++)
		tile(panel, q + (size_t)t * act_bytes, act_bytes, n, 1, groups, sums + t);
}

static void tiles(const __m512i *panel, const int8_t *q, size_t act_bytes, int64_t n,
		  int64_t n_tok, int groups, __m512i (*sums)[GROUPS])
{
	switch (groups) {
	case 1: tiles_of(panel, q, act_bytes, n, n_tok, 1, sums); break;
	case 2: tiles_of(panel, q, act_bytes, n, n_tok, 2, sums); break;
	default: tiles_of(panel, q, act_bytes, n, n_tok, GROUPS, sums);
	}
}

static void finish_panel(__m512i (*sums)[GROUPS], const uint8_t *act, size_t act_bytes,
			 int64_t n_tok, int64_t rows, float scale, float *out, int64_t out_stride)
{
	for (int64_t t = 0; t < n_tok; t++, act += act_bytes) {
		for (int g = 0; g < GROUPS && rows > g * LANES; g++) {
			int64_t left = rows - g * LANES;

			_mm512_mask_storeu_ps(out + t * out_stride + g * LANES,
					      left >= LANES ? 0xffff : (__mmask16)((1 << left) - 1),
					      i2s_finish16(sums[t][g], (const void *)act, scale));
		}
	}
}

/* Rows r… of at most a panel, at most PANEL_TOKENS tokens. */
static void gemm_panel(const struct weight *w, int64_t r, int64_t rows, const uint8_t *act,
		       size_t act_bytes, int64_t n_tok, float *out, int64_t out_stride)
{
	__m512i panel[PANEL_N / 4 * GROUPS], sums[PANEL_TOKENS][GROUPS];
	const int8_t *q = (const int8_t *)act + sizeof(struct act_i8_head);
	int groups = (int)(rows + LANES - 1) / LANES;
	float scale;

	memcpy(&scale, w->tail, sizeof(scale));
	memset(sums, 0, (size_t)n_tok * sizeof(sums[0]));
	for (int64_t c = 0; c < w->n_in; c += PANEL_N) {
		int64_t n = w->n_in - c < PANEL_N ? w->n_in - c : PANEL_N;

		for (int g = 0; g < groups; g++)
			unpack_group(w->data + (size_t)(r + g * LANES) * w->row_bytes, w->row_bytes,
				     rows - g * LANES, c, n, panel + g, GROUPS);
		tiles(panel, q + c, act_bytes, n, n_tok, groups, sums);
	}
	finish_panel(sums, act, act_bytes, n_tok, rows, scale, out + r, out_stride);
}

static void gemm(const struct weight *w, int64_t r0, int64_t r1, const uint8_t *act,
		 size_t act_bytes, int64_t n_tok, float *out, int64_t out_stride)
{
	for (int64_t t = 0; t < n_tok; t += PANEL_TOKENS) {
		int64_t nt = n_tok - t < PANEL_TOKENS ? n_tok - t : PANEL_TOKENS;

		for (int64_t r = r0; r < r1; r += PANEL_ROWS)
			gemm_panel(w, r, r1 - r < PANEL_ROWS ? r1 - r : PANEL_ROWS,
				   act + (size_t)t * act_bytes, act_bytes, nt, out + t * out_stride,
				   out_stride);
	}
}

bool i2s_matmul_avx512vnni(const struct kernels *k, const struct weight *w, int64_t r0, int64_t r1,
			   const void *act, size_t act_bytes, int64_t n_tok, float *out,
			   int64_t out_stride)
{
	(void)k;
	if (n_tok > GEMV_TOKENS) {
		gemm(w, r0, r1, act, act_bytes, n_tok, out, out_stride);
		return true;
	}
	if (w->n_in > GEMV_N_MAX)
		return false;
	for (int64_t t = 0; t < n_tok; t++)
		gemv(w, r0, r1, (const uint8_t *)act + (size_t)t * act_bytes, out + t * out_stride);
	return true;
}
