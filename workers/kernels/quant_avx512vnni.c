#include "avx512vnni.h"
#include "codes_avx2.h"
#include "variants.h"

/*
 * Quantised matrices against many tokens. The eight float lanes of an output become eight
 * registers with sixteen rows each, so that the sum of four products (one dot4 on sixteen rows) is
 * exactly what a lane adds per block, and the lanes are folded without shuffles at the end. Codes
 * are unpacked once per block for all tokens, unsigned; what signed codes are shifted by starts the
 * integer sum. A token tile walks the panel while it is in the first-level cache.
 */
enum {
	LANES = 16,
	CHUNK = 1024,			/* columns unpacked at once */
	FEW_TOKENS = 3,
	TILE = 3,			/* tokens of a tile, blocks of 32 */
	SUPER_TILE = 4,			/* tokens of a tile, super-blocks */
	TOKENS_MAX = 128,		/* sums kept at once */
	BLOCKS32_MAX = 11520,		/* packed token blocks: 810 KiB */
};

ALWAYS __m512 fold_lanes(const __m512 *v)
{
	__m512 b[4];

	for (int i = 0; i < 4; i++)
		b[i] = _mm512_add_ps(v[i], v[i + 4]);
	return _mm512_add_ps(_mm512_add_ps(b[0], b[2]), _mm512_add_ps(b[1], b[3]));
}

static __mmask16 row_mask(int64_t rows)
{
	return rows >= LANES ? 0xffff : (__mmask16)((1 << rows) - 1);
}

/* bytes[row][n] -> panel[n / 4], sixteen rows a register; n a multiple of 64. */
static void to_panel(const uint8_t (*bytes)[CHUNK], int64_t n, __m512i *panel)
{
	for (int64_t c = 0; c < n; c += 64) {
		__m512i v[16];

		for (int r = 0; r < 16; r++)
			v[r] = _mm512_loadu_si512(bytes[r] + c);
		transpose16(v);
		for (int d = 0; d < 16; d++)
			panel[c / 4 + d] = v[d];
	}
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

struct token32 { int8_t q[32]; int32_t start[8]; float d, s; };

struct panel32 {
	__m512i codes[CHUNK / 4];
	__m512 d[CHUNK / 32], m[CHUNK / 32];
};

struct sums32 { __m512 acc[8], minima; };

static void pack_token32(uint32_t type, const uint8_t *act, int64_t n, struct token32 *t)
{
	bool q8_1 = has_minimum(type);

	for (; n > 0; n -= 32, act += q8_1 ? 36 : 34, t++) {
		memcpy(t->q, act + (q8_1 ? 4 : 2), 32);
		t->d = half_bytes(act);
		t->s = q8_1 ? half_bytes(act + 2) : 0.0f;
		for (int l = 0; l < 8; l++)
			t->start[l] = -code_shift(type) * (t->q[4 * l] + t->q[4 * l + 1] +
							   t->q[4 * l + 2] + t->q[4 * l + 3]);
	}
}

/* Blocks [b0, b0 + blocks) of up to sixteen rows; missing rows are zero. */
ALWAYS void fill_panel32(uint32_t type, const struct weight *w, int64_t r0, int64_t rows,
			 int64_t b0, int64_t blocks, struct panel32 *p)
{
	_Alignas(64) uint8_t bytes[LANES][CHUNK];
	_Alignas(64) float d[CHUNK / 32][LANES] = {{0}}, m[CHUNK / 32][LANES] = {{0}};

	for (int64_t r = 0; r < LANES; r++) {
		const uint8_t *b = w->data + (size_t)(r0 + r) * w->row_bytes +
				   (size_t)b0 * w->type->block_bytes;

		if (r >= rows) {
			memset(bytes[r], 0, CHUNK);
			continue;
		}
		for (int64_t i = 0; i < blocks; i++, b += w->type->block_bytes) {
			__m256i c = block32_codes(type, b);

			if (type == TYPE_Q8_0)
				c = _mm256_xor_si256(c, _mm256_set1_epi8((char)0x80));
			_mm256_store_si256((void *)(bytes[r] + 32 * i), c);
			d[i][r] = half_at(b);
			if (has_minimum(type))
				m[i][r] = half_at(b + 2);
		}
		if (blocks % 2)
			memset(bytes[r] + 32 * blocks, 0, 32);
	}
	to_panel((const uint8_t (*)[CHUNK])bytes, (blocks + 1) / 2 * 64, p->codes);
	for (int64_t i = 0; i < blocks; i++) {
		p->d[i] = _mm512_load_ps(d[i]);
		p->m[i] = _mm512_load_ps(m[i]);
	}
}

/* blocks of the panel against `tokens` tokens, `stride` blocks apart. */
ALWAYS void tile32(uint32_t type, const struct panel32 *p, int64_t blocks, const struct token32 *t,
		   int64_t stride, int tokens, struct sums32 *s)
{
	__m512 acc[TILE][8];

#pragma GCC unroll 3
	for (int i = 0; i < tokens; i++)
#pragma GCC unroll 8
		for (int l = 0; l < 8; l++)
			acc[i][l] = s[i].acc[l];
	for (int64_t b = 0; b < blocks; b++, t++) {
		__m512 d[TILE];

#pragma GCC unroll 3
		for (int i = 0; i < tokens; i++) {
			d[i] = _mm512_mul_ps(p->d[b], _mm512_set1_ps(t[i * stride].d));
			if (has_minimum(type))
				s[i].minima = _mm512_fmadd_ps(
					p->m[b], _mm512_set1_ps(t[i * stride].s), s[i].minima);
		}
#pragma GCC unroll 8
		for (int l = 0; l < 8; l++) {
			__m512i w = p->codes[8 * b + l];

#pragma GCC unroll 3
			for (int i = 0; i < tokens; i++) {
				const struct token32 *x = &t[i * stride];
				__m512i n = code_shift(type) ? four_at(&x->start[l])
							     : _mm512_setzero_si512();

				dot4(&n, w, four_at(x->q + 4 * l));
				acc[i][l] = _mm512_fmadd_ps(d[i], _mm512_cvtepi32_ps(n), acc[i][l]);
			}
		}
	}
#pragma GCC unroll 3
	for (int i = 0; i < tokens; i++)
#pragma GCC unroll 8
		for (int l = 0; l < 8; l++)
			s[i].acc[l] = acc[i][l];
}

/* Sixteen rows against packed tokens. */
ALWAYS void group32(uint32_t type, const struct weight *w, int64_t r0, int64_t rows,
		    const struct token32 *t, int64_t n_tok, float *out, int64_t out_stride)
{
	struct sums32 s[TOKENS_MAX];
	struct panel32 p;
	int64_t all = w->n_in / 32;

	memset(s, 0, (size_t)n_tok * sizeof(s[0]));
	for (int64_t b = 0; b < all; b += CHUNK / 32) {
		int64_t blocks = all - b < CHUNK / 32 ? all - b : CHUNK / 32, i = 0;

		fill_panel32(type, w, r0, rows, b, blocks, &p);
		for (; i + TILE <= n_tok; i += TILE)
			tile32(type, &p, blocks, t + i * all + b, all, TILE, s + i);
		for (; i < n_tok; i++)
			tile32(type, &p, blocks, t + i * all + b, all, 1, s + i);
	}
	for (int64_t i = 0; i < n_tok; i++) {
		__m512 y = fold_lanes(s[i].acc);

		if (has_minimum(type))
			y = _mm512_add_ps(y, s[i].minima);
		_mm512_mask_storeu_ps(out + i * out_stride + r0, row_mask(rows), y);
	}
}

ALWAYS void many32(uint32_t type, const struct weight *w, int64_t r0, int64_t r1,
		   const uint8_t *act, size_t act_bytes, int64_t n_tok, float *out,
		   int64_t out_stride)
{
	struct token32 packed[BLOCKS32_MAX];
	int64_t blocks = w->n_in / 32, fit = BLOCKS32_MAX / blocks / TILE * TILE;
	int64_t step = fit < TOKENS_MAX ? fit : TOKENS_MAX - TOKENS_MAX % TILE;

	for (int64_t t = 0; t < n_tok; t += step) {
		int64_t n = n_tok - t < step ? n_tok - t : step;

		for (int64_t i = 0; i < n; i++)
			pack_token32(type, act + (size_t)(t + i) * act_bytes, w->n_in,
				     packed + i * blocks);
		for (int64_t r = r0; r < r1; r += LANES)
			group32(type, w, r, r1 - r < LANES ? r1 - r : LANES, packed, n,
				out + t * out_stride, out_stride);
	}
}

/* ---- super-blocks of 256 ------------------------------------------------------------------ */

struct panel256 {
	__m512i codes[CHUNK / 4];
	__m512i scale[CHUNK / 16];	/* per 16 columns, in the low half of a lane */
	__m512i pair[CHUNK / 32]; /* two neighbouring scales, Q6_K; minima, the K types with them */
	__m512 d[CHUNK / 256], dmin[CHUNK / 256];
};

struct sums256 { __m512 acc[8], min[4]; };

ALWAYS bool is_ternary(uint32_t type)
{
	return type == TYPE_TQ1_0 || type == TYPE_TQ2_0;
}

ALWAYS void row_codes256(uint32_t type, const uint8_t *b, uint8_t *dst)
{
	__m256i g[8];

	if (type == TYPE_TQ1_0)
		ternary_groups(b, g);
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
		_mm256_store_si256((void *)(dst + 32 * i),
				   type == TYPE_TQ1_0 ? g[i] : group_codes(type, b, i));
}

ALWAYS void fill_panel256(uint32_t type, const struct weight *w, int64_t r0, int64_t rows,
			  int64_t b0, int64_t blocks, struct panel256 *p)
{
	_Alignas(64) uint8_t bytes[LANES][CHUNK];
	_Alignas(64) int32_t scale[CHUNK / 16][LANES] = {{0}};
	_Alignas(64) int16_t pair[CHUNK / 32][LANES][2] = {{{0}}};
	_Alignas(64) float d[CHUNK / 256][LANES] = {{0}}, dmin[CHUNK / 256][LANES] = {{0}};

	for (int64_t r = 0; r < LANES; r++) {
		const uint8_t *b = w->data + (size_t)(r0 + r) * w->row_bytes +
				   (size_t)b0 * w->type->block_bytes;

		if (r >= rows) {
			memset(bytes[r], 0, CHUNK);
			continue;
		}
		for (int64_t i = 0; i < blocks; i++, b += w->type->block_bytes) {
			struct scales256 c = {0};

			row_codes256(type, b, bytes[r] + 256 * i);
			scales_of(type, b, &c);
			for (int j = 0; j < 16; j++) {
				bool k4 = type == TYPE_Q4_K || type == TYPE_Q5_K;

				scale[16 * i + j][r] = c.scale[k4 ? j / 2 : j] & 0xffff;
				pair[8 * i + j / 2][r][j % 2] =
					type == TYPE_Q6_K ? c.scale[j] : c.min[j];
			}
			d[i][r] = block_scale(type, b);
			if (type == TYPE_Q2_K || type == TYPE_Q4_K || type == TYPE_Q5_K)
				dmin[i][r] = half_at(b + (type == TYPE_Q2_K ? 82 : 2));
		}
	}
	to_panel((const uint8_t (*)[CHUNK])bytes, blocks * 256, p->codes);
	memcpy(p->scale, scale, sizeof(scale));
	memcpy(p->pair, pair, sizeof(pair));
	memcpy(p->d, d, sizeof(d));
	memcpy(p->dmin, dmin, sizeof(dmin));
}

/* The integer lane l of a super-block, for `tokens` tokens. */
ALWAYS void lane256(uint32_t type, const struct panel256 *p, int64_t b, int l,
		    const uint8_t *const *act, int tokens, __m512i *n)
{
	const __m512i *codes = p->codes + 64 * b + l, *scale = p->scale + 16 * b + l / 4;

#pragma GCC unroll 8
	for (int g = 0; g < 8; g++) {
		__m512i w = codes[8 * g];

#pragma GCC unroll 4
		for (int i = 0; i < tokens; i++) {
			__m512i q = four_at(act[i] + Q8_K_CODES + 32 * g + 4 * l);

			if (is_ternary(type)) {
				dot4(&n[i], w, q);
				continue;
			}
			__m512i part = _mm512_setzero_si512();

			dot4(&part, w, q);	/* at most 32004: the low half of the lane */
			if (type == TYPE_Q3_K) {
				__m512i shift = _mm512_setzero_si512();

				dot4(&shift, _mm512_set1_epi8(4), q);
				part = _mm512_sub_epi32(part, shift);
			}
			dot2(&n[i], part, scale[2 * g]);
		}
	}
}

ALWAYS void block256_lanes(const struct kernels *k, uint32_t type, const struct panel256 *p,
			   int64_t b, const uint8_t *const *act, int tokens, struct sums256 *s)
{
	bool fused = !is_ternary(type) || k->profile.tq_fused;
	__m512 d[SUPER_TILE];

	for (int i = 0; i < tokens; i++) {
		float da;

		memcpy(&da, act[i], sizeof(da));
		d[i] = _mm512_mul_ps(_mm512_set1_ps(da), p->d[b]);
	}
	for (int l = 0; l < 8; l++) {
		__m512i n[SUPER_TILE];

#pragma GCC unroll 4
		for (int i = 0; i < tokens; i++)
			n[i] = _mm512_setzero_si512();
		lane256(type, p, b, l, act, tokens, n);
#pragma GCC unroll 4
		for (int i = 0; i < tokens; i++) {
			__m512i bs = four_at(act[i] + Q8_K_SUMS + 4 * l),
				off = _mm512_setzero_si512();

			if (is_ternary(type))
				dot2(&off, bs, _mm512_set1_epi16(1));
			if (type == TYPE_Q6_K) {
				dot2(&off, p->pair[8 * b + l], bs);
				off = _mm512_slli_epi32(off, 5);
			}
			__m512 v = _mm512_cvtepi32_ps(_mm512_sub_epi32(n[i], off));

			s[i].acc[l] = fused ? _mm512_fmadd_ps(d[i], v, s[i].acc[l])
					    : _mm512_add_ps(_mm512_mul_ps(v, d[i]), s[i].acc[l]);
		}
	}
}

/* What the minima of one block add for one token. */
ALWAYS void block256_minima(uint32_t type, const struct panel256 *p, int64_t b, const uint8_t *act,
			    struct sums256 *s)
{
	const __m512i *pair = p->pair + 8 * b, zero = _mm512_setzero_si512();
	int16_t bs[16], two[8];
	float da;

	memcpy(&da, act, sizeof(da));
	memcpy(bs, act + Q8_K_SUMS, sizeof(bs));
	for (int j = 0; j < 8; j++)
		two[j] = (int16_t)(bs[2 * j] + bs[2 * j + 1]);
	__m512 m = _mm512_mul_ps(_mm512_set1_ps(-da), p->dmin[b]);
	__m512i total = zero;

	for (int i = 0; i < (type == TYPE_Q2_K ? 8 : 4); i++) {
		__m512i n = zero;

		dot2(&n, pair[i], four_at(type == TYPE_Q2_K ? bs + 2 * i : two + 2 * i));
		if (type == TYPE_Q2_K)
			s->acc[i] = _mm512_fmadd_ps(m, _mm512_cvtepi32_ps(n), s->acc[i]);
		else if (type == TYPE_Q4_K)
			s->min[i] = _mm512_fmadd_ps(m, _mm512_cvtepi32_ps(n), s->min[i]);
		total = _mm512_add_epi32(total, n);
	}
	if (type == TYPE_Q5_K)
		s->min[0] = _mm512_fmadd_ps(m, _mm512_cvtepi32_ps(total), s->min[0]);
}

ALWAYS void tile256(const struct kernels *k, uint32_t type, const struct panel256 *p, int64_t b0,
		    int64_t blocks, const uint8_t *act, size_t act_bytes, int tokens,
		    struct sums256 *s)
{
	bool has_min = type == TYPE_Q2_K || type == TYPE_Q4_K || type == TYPE_Q5_K;

	for (int64_t b = 0; b < blocks; b++) {
		const uint8_t *x[SUPER_TILE];

		for (int i = 0; i < tokens; i++) {
			x[i] = act + (size_t)i * act_bytes + (size_t)(b0 + b) * Q8_K_BYTES;
			if (has_min)
				block256_minima(type, p, b, x[i], &s[i]);
		}
		block256_lanes(k, type, p, b, x, tokens, s);
	}
}

ALWAYS __m512 finish256_rows(uint32_t type, const struct sums256 *s)
{
	__m512 y = fold_lanes(s->acc);

	if (type == TYPE_Q4_K)
		y = _mm512_add_ps(y, _mm512_add_ps(_mm512_add_ps(s->min[0], s->min[2]),
						   _mm512_add_ps(s->min[1], s->min[3])));
	else if (type == TYPE_Q5_K)
		y = _mm512_add_ps(y, s->min[0]);
	return y;
}

ALWAYS void group256(const struct kernels *k, uint32_t type, const struct weight *w, int64_t r0,
		     int64_t rows, const uint8_t *act, size_t act_bytes, int64_t n_tok, float *out,
		     int64_t out_stride)
{
	struct sums256 s[TOKENS_MAX];
	struct panel256 p;
	int64_t all = w->n_in / 256;

	memset(s, 0, (size_t)n_tok * sizeof(s[0]));
	for (int64_t b = 0; b < all; b += CHUNK / 256) {
		int64_t blocks = all - b < CHUNK / 256 ? all - b : CHUNK / 256, i = 0;

		fill_panel256(type, w, r0, rows, b, blocks, &p);
		for (; i + SUPER_TILE <= n_tok; i += SUPER_TILE)
			tile256(k, type, &p, b, blocks, act + (size_t)i * act_bytes, act_bytes,
				SUPER_TILE, s + i);
		for (; i < n_tok; i++)
			tile256(k, type, &p, b, blocks, act + (size_t)i * act_bytes, act_bytes, 1,
				s + i);
	}
	for (int64_t i = 0; i < n_tok; i++)
		_mm512_mask_storeu_ps(out + i * out_stride + r0, row_mask(rows),
				      finish256_rows(type, &s[i]));
}

ALWAYS void gemm256(const struct kernels *k, uint32_t type, const struct weight *w, int64_t r0,
		    int64_t r1, const uint8_t *act, size_t act_bytes, int64_t n_tok, float *out,
		    int64_t out_stride)
{
	for (int64_t t = 0; t < n_tok; t += TOKENS_MAX) {
		int64_t n = n_tok - t < TOKENS_MAX ? n_tok - t : TOKENS_MAX;

		for (int64_t r = r0; r < r1; r += LANES)
			group256(k, type, w, r, r1 - r < LANES ? r1 - r : LANES,
				 act + (size_t)t * act_bytes, act_bytes, n, out + t * out_stride,
				 out_stride);
	}
}

/* ---- the product -------------------------------------------------------------------------- */

bool quant_matmul_avx512vnni(const struct kernels *k, const struct weight *w, int64_t r0,
			     int64_t r1, const void *act, size_t act_bytes, int64_t n_tok,
			     float *out, int64_t out_stride)
{
	bool fits = w->type->block_elems == 256 || w->n_in / 32 * TILE <= BLOCKS32_MAX, done = fits;

	if (n_tok <= FEW_TOKENS)
		for (int64_t t = 0; t < n_tok && done; t++)
			done = quant_gemv_avx512vnni(k, w, r0, r1,
						     (const uint8_t *)act + (size_t)t * act_bytes,
						     out + t * out_stride);
	if (!done)
		return quant_matmul_avx2(k, w, r0, r1, act, act_bytes, n_tok, out, out_stride);
	if (n_tok <= FEW_TOKENS)
		return true;
#define CASE32(type)                                                                               \
	case type:                                                                                 \
		many32(type, w, r0, r1, act, act_bytes, n_tok, out, out_stride);                   \
		break
#define CASE256(type)                                                                              \
	case type:                                                                                 \
		gemm256(k, type, w, r0, r1, act, act_bytes, n_tok, out, out_stride);               \
		break
	switch (w->type->id) {
	CASE32(TYPE_Q8_0);
	CASE32(TYPE_Q4_0);
	CASE32(TYPE_Q4_1);
	CASE32(TYPE_Q5_0);
	CASE32(TYPE_Q5_1);
	CASE256(TYPE_Q2_K);
	CASE256(TYPE_Q3_K);
	CASE256(TYPE_Q4_K);
	CASE256(TYPE_Q5_K);
	CASE256(TYPE_Q6_K);
	CASE256(TYPE_TQ1_0);
	CASE256(TYPE_TQ2_0);
	}
#undef CASE32
#undef CASE256
	return true;
}
