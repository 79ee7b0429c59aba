/*
 * Matrix products of F16, BF16 and F32 rows and attention, in the lane order of the profiles that
 * sum in float32 lanes (8- and 16-lane profiles; the half-precision one takes the plain path).
 *
 * A product keeps 32 or 64 lanes per output. A tile of ROWS × TOKENS outputs is walked once per
 * vector of those lanes ("pass"), so that all accumulators of a pass stay in registers; the passes
 * are then joined and folded, four outputs at once. Weights are widened to float32 once for many
 * tokens. Attention is two such products with the cache, keys and values widened once for all
 * query heads and tokens of a group.
 */
#ifndef ASSAY_FLOAT_TILES_H
#define ASSAY_FLOAT_TILES_H

#include "base_ops.h"
#include "variants.h"
#include "vec.h"

enum {
	TILE_ROWS = VL == 16 ? 6 : 3,
	TILE_TOKENS = 4,
	TILE = TILE_ROWS * TILE_TOKENS,
	PASSES_MAX = 64 / VL,
	N_MAX = 16384,			/* longest row that a token's buffer takes */
	PANEL_ROWS = 48,		/* weight rows widened at once … */
	PANEL_FLOATS = 147456,		/* … as far as they fit half the second-level cache */
	TOKEN_FLOATS = 393216,		/* tokens widened at once, 1.5 MiB … */
	TOKENS_MAX = 256,		/* … and at most so many */
	APART = 16,			/* rows of 2^k floats would share a set of the cache */
	RUN = 512,			/* floats of a pass walked before the next tile: 20 KiB */
	FEW_TOKENS = 3,
};

struct order {
	int passes;			/* vectors of lanes per output */
	int step;			/* elements of one round over all lanes */
	enum tree tree;
};

static inline struct order float_order(const struct profile *p, enum act_format f)
{
	int lanes = p->lanes == LANES_AVX2 ? 32 : 64;

	return (struct order){
		.passes = lanes / VL,
		.step = lanes,
		.tree = lanes == 32 && f != ACT_BF16 ? TREE_PAIRS : TREE_HALVES,
	};
}

/* ---- rows of any float type --------------------------------------------------------------- */

static inline __attribute__((always_inline)) vf row_vector(enum act_format f, const void *row,
							    int64_t i)
{
	if (f == ACT_F16)
		return vf_halves((const uint16_t *)row + i);
	if (f == ACT_BF16)
		return vf_bf16((const uint16_t *)row + i);
	return vf_load((const float *)row + i);
}

static float row_element(enum act_format f, const void *row, int64_t i)
{
	if (f == ACT_F16)
		return f16_to_f32(((const uint16_t *)row)[i]);
	if (f == ACT_BF16)
		return bf16_to_f32(((const uint16_t *)row)[i]);
	return ((const float *)row)[i];
}

/*
 * A row of n floats, sorted by pass: vector p of every round, then vector p+1 of every round, …,
 * at the end what is left of whole rounds. passes = 1 keeps the order.
 */
static inline __attribute__((always_inline)) void widen_type(enum act_format f, const void *src,
							      float *dst, int64_t n, int passes)
{
	int64_t step = passes * VL, whole = n / step * step, part = whole / passes;

	for (int64_t i = 0; i < whole; i += step)
		for (int p = 0; p < passes; p++)
			vf_store(dst + p * part + i / passes, row_vector(f, src, i + p * VL));
	for (int64_t i = whole; i < n; i++)
		dst[i] = row_element(f, src, i);
}

static void widen(enum act_format f, const void *src, float *dst, int64_t n, int passes)
{
	switch (f) {
	case ACT_F16: widen_type(ACT_F16, src, dst, n, passes); break;
	case ACT_BF16: widen_type(ACT_BF16, src, dst, n, passes); break;
	default: widen_type(ACT_F32, src, dst, n, passes);
	}
}

/* What is left after whole rounds of lanes, n elements of each, in the format's own way. */
static float finish_row(const struct kernels *k, enum act_format f, const float *w, const float *x,
			int64_t n, float s)
{
	double d = (double)s;

	if (f == ACT_F32)
		return tail_f32(k, w, x, 0, n, s);
	for (int64_t i = 0; i < n; i++)
		d += (double)(w[i] * x[i]);
	return (float)d;
}

/* ---- tiles -------------------------------------------------------------------------------- */

/*
 * Where the rows of a tile lie: floats sorted by pass (widen), or halves in their own order, widened
 * on the way, which pays when a single tile of tokens uses them.
 */
struct tile_rows {
	const float *floats;
	int64_t stride;
	const uint16_t *halves[TILE_ROWS];	/* used when floats is NULL */
};

/*
 * Floats [from, end) of pass `pass` of w[r] · x[t] added to the lanes z[r · TILE_TOKENS + t], or
 * from zero; a pass of a row has n floats.
 */
static inline __attribute__((always_inline)) void
tile_pass(const struct tile_rows *w, bool halves, int pass, int passes, const float *x,
	  int64_t x_stride, int64_t n, int64_t from, int64_t end, vf *z)
{
	const float *wide = halves ? NULL : w->floats + pass * n;
	int64_t stride = w->stride;
	vf acc[TILE_ROWS][TILE_TOKENS];

#pragma GCC unroll 8
	for (int r = 0; r < TILE_ROWS; r++)
#pragma GCC unroll 8
		for (int t = 0; t < TILE_TOKENS; t++)
			acc[r][t] = from > 0 ? z[r * TILE_TOKENS + t] : vf_zero();
	for (int64_t i = from; i < end; i += VL) {
		vf a[TILE_ROWS];

#pragma GCC unroll 8
		for (int r = 0; r < TILE_ROWS; r++)
			a[r] = halves ? vf_halves(w->halves[r] + i * passes + pass * VL)
				      : vf_load(wide + r * stride + i);
#pragma GCC unroll 8
		for (int t = 0; t < TILE_TOKENS; t++) {
			vf b = vf_load(x + t * x_stride + i);

#pragma GCC unroll 8
			for (int r = 0; r < TILE_ROWS; r++)
				acc[r][t] = vf_fma(a[r], b, acc[r][t]);
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < TILE_ROWS; r++)
#pragma GCC unroll 8
		for (int t = 0; t < TILE_TOKENS; t++)
			z[r * TILE_TOKENS + t] = acc[r][t];
}

/* y[r][t] = the lanes of all passes as one sum. */
static inline void fold_tile(const vf *z, struct order o, float (*y)[TILE_TOKENS])
{
	for (int r = 0; r < TILE_ROWS; r++) {
		vf j[TILE_TOKENS];

		for (int t = 0; t < TILE_TOKENS; t++)
			j[t] = join(z + r * TILE_TOKENS + t, o.passes, TILE);
		_mm_storeu_ps(y[r], fold4(j[0], j[1], j[2], j[3], o.tree));
	}
}

/* y[r][t]: whole products of a tile over n elements, a multiple of the step; x sorted by pass. */
static void tile(const struct tile_rows *w, const float *x, int64_t x_stride, int64_t n,
		 struct order o, float (*y)[TILE_TOKENS])
{
	int64_t part = n / o.passes;
	vf z[PASSES_MAX * TILE];

	for (int p = 0; p < o.passes; p++) {
		if (w->floats)
			tile_pass(w, false, p, o.passes, x + p * part, x_stride, part, 0, part,
				  z + p * TILE);
		else
			tile_pass(w, true, p, o.passes, x + p * part, x_stride, part, 0, part,
				  z + p * TILE);
	}
	fold_tile(z, o, y);
}

/* ---- one token ---------------------------------------------------------------------------- */

/* Lanes of one weight row against x, joined to one vector. One row after the other: see i2s. */
static inline __attribute__((always_inline)) vf gemv_row(enum act_format f, const uint8_t *w,
							  const float *x, int64_t n, int passes,
							  int64_t ahead)
{
	int step = passes * VL, bytes = step * (f == ACT_F32 ? 4 : 2);
	vf acc[PASSES_MAX];

#pragma GCC unroll 8
	for (int p = 0; p < passes; p++)
		acc[p] = vf_zero();
	for (int64_t i = 0; i < n; i += step) {
		const uint8_t *at = w + i * (f == ACT_F32 ? 4 : 2);

#pragma GCC unroll 4
		for (int b = 0; b < bytes; b += 64)
			_mm_prefetch((const char *)at + ahead + b, _MM_HINT_T1);
#pragma GCC unroll 8
		for (int p = 0; p < passes; p++)
			acc[p] = vf_fma(row_vector(f, w, i + p * VL), vf_load(x + i + p * VL),
					acc[p]);
	}
	return join(acc, passes, 1);
}

static inline __attribute__((always_inline)) void
gemv_type(const struct kernels *k, enum act_format f, const struct weight *w, int64_t r0,
	  int64_t r1, const float *x, struct order o, int passes, float *out)
{
	int64_t n = w->n_in / o.step * o.step;

	for (int64_t r = r0; r < r1; r += 4) {
		vf j[4];
		float y[4];

		for (int i = 0; i < 4; i++)
			j[i] = r + i < r1 ? gemv_row(f, w->data + (size_t)(r + i) * w->row_bytes, x,
						     n, passes, k->ahead_bytes)
					  : vf_zero();
		_mm_storeu_ps(y, fold4(j[0], j[1], j[2], j[3], o.tree));
		for (int i = 0; i < 4 && r + i < r1; i++)
			out[r + i] = y[i];
	}
	if (n == w->n_in)
		return;
	for (int64_t r = r0; r < r1; r++) {
		float rest[64] = {0};

		for (int64_t i = n; i < w->n_in; i++)
			rest[i - n] = row_element(f, w->data + (size_t)r * w->row_bytes, i);
		out[r] = finish_row(k, f, rest, x + n, w->n_in - n, out[r]);
	}
}

static void gemv(const struct kernels *k, enum act_format f, const struct weight *w, int64_t r0,
		 int64_t r1, const void *act, float *out)
{
	struct order o = float_order(&k->profile, f);
	float x[N_MAX];

	widen(f, act, x, w->n_in, 1);
#define CASE(format)                                                                               \
	case format:                                                                               \
		if (o.step == 32)                                                                  \
			gemv_type(k, format, w, r0, r1, x, o, 32 / VL, out);                       \
		else                                                                               \
			gemv_type(k, format, w, r0, r1, x, o, 64 / VL, out);                       \
		break
	switch (f) {
	CASE(ACT_F16);
	CASE(ACT_BF16);
	default:
	CASE(ACT_F32);
	}
#undef CASE
}

/* ---- many tokens -------------------------------------------------------------------------- */

/*
 * Lanes of a widened panel with one tile of tokens, a run of floats after the other, so that the
 * tokens of a run stay in the first-level cache while the rows pass.
 */
static void panel_lanes(struct order o, const float *panel, int64_t rows, const float *x,
			int64_t stride, int64_t whole, vf (*z)[PASSES_MAX * TILE])
{
	int64_t part = whole / o.passes;

	for (int64_t from = 0; from < part; from += RUN)
		for (int p = 0; p < o.passes; p++)
			for (int64_t r = 0; r < rows; r += TILE_ROWS) {
				struct tile_rows w = {.floats = panel + r * stride,
						      .stride = stride};

				tile_pass(&w, false, p, o.passes, x + p * part, stride, part, from,
					  part - from < RUN ? part : from + RUN,
					  z[r / TILE_ROWS] + p * TILE);
			}
}

/* rows × tokens outputs of a widened panel; x [TILE_TOKENS, n + APART], unused tokens are zero. */
static void panel_times_tokens(const struct kernels *k, enum act_format f, const float *panel,
			       int64_t rows, const float *x, int64_t n, int tokens, float *out,
			       int64_t out_stride)
{
	struct order o = float_order(&k->profile, f);
	int64_t whole = n / o.step * o.step, stride = n + APART;
	vf z[PANEL_ROWS / TILE_ROWS][PASSES_MAX * TILE];

	if (whole == 0)
		memset(z, 0, sizeof(z));
	panel_lanes(o, panel, rows, x, stride, whole, z);
	for (int64_t r = 0; r < rows; r += TILE_ROWS) {
		float y[TILE_ROWS][TILE_TOKENS];

		fold_tile(z[r / TILE_ROWS], o, y);
		for (int i = 0; i < TILE_ROWS && r + i < rows; i++)
			for (int t = 0; t < tokens; t++) {
				float s = y[i][t];

				if (whole < n)
					s = finish_row(k, f, panel + (r + i) * stride + whole,
						       x + t * stride + whole, n - whole, s);
				out[t * out_stride + r + i] = s;
			}
	}
}

/* All rows against as many widened tokens as x holds; unused ones of the last tile are zero. */
static void gemm_tokens(const struct kernels *k, enum act_format f, const struct weight *w,
			int64_t r0, int64_t r1, const float *x, int64_t tokens, float *out,
			int64_t out_stride)
{
	int64_t n = w->n_in, stride = n + APART;
	int64_t fit = PANEL_FLOATS / stride / TILE_ROWS * TILE_ROWS;
	int passes = float_order(&k->profile, f).passes;
	int64_t panel_rows = fit < PANEL_ROWS ? fit : PANEL_ROWS;
	_Alignas(64) float panel[PANEL_FLOATS];

	for (int64_t r = r0; r < r1; r += panel_rows) {
		int64_t rows = r1 - r < panel_rows ? r1 - r : panel_rows;
		int64_t padded = (rows + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;

		for (int64_t i = 0; i < rows; i++)
			widen(f, w->data + (size_t)(r + i) * w->row_bytes, panel + i * stride,
			      n, passes);
		memset(panel + rows * stride, 0,
		       (size_t)((padded - rows) * stride) * sizeof(*panel));
		const uint8_t *next = w->data + (size_t)(r + rows) * w->row_bytes;
		int64_t left = r1 - r - rows < rows ? r1 - r - rows : rows;
		int64_t bytes = left * (int64_t)w->row_bytes;
		int64_t share = bytes * TILE_TOKENS / tokens + 64;

		for (int64_t t = 0; t < tokens; t += TILE_TOKENS) {
			int64_t stop = bytes > share ? bytes - share : 0;

			for (; bytes > stop; bytes -= 64, next += 64)
				_mm_prefetch((const char *)next, _MM_HINT_T1);
			panel_times_tokens(k, f, panel, rows, x + t * stride, n,
					   tokens - t < TILE_TOKENS ? (int)(tokens - t)
								    : TILE_TOKENS,
					   out + t * out_stride + r, out_stride);
		}
	}
}

static void gemm(const struct kernels *k, enum act_format f, const struct weight *w, int64_t r0,
		 int64_t r1, const uint8_t *act, size_t act_bytes, int64_t n_tok, float *out,
		 int64_t out_stride)
{
	int64_t n = w->n_in, stride = n + APART;
	int64_t fit = TOKEN_FLOATS / stride / TILE_TOKENS * TILE_TOKENS;
	int64_t step = fit < TOKENS_MAX ? fit : TOKENS_MAX;
	int passes = float_order(&k->profile, f).passes;
	_Alignas(64) float x[TOKEN_FLOATS];

	for (int64_t t = 0; t < n_tok; t += step) {
		int64_t tokens = n_tok - t < step ? n_tok - t : step;
		int64_t padded = (tokens + TILE_TOKENS - 1) / TILE_TOKENS * TILE_TOKENS;

		for (int64_t i = 0; i < tokens; i++)
			widen(f, act + (size_t)(t + i) * act_bytes, x + i * stride, n, passes);
		memset(x + tokens * stride, 0, (size_t)((padded - tokens) * stride) * sizeof(*x));
		gemm_tokens(k, f, w, r0, r1, x, tokens, out + t * out_stride, out_stride);
	}
}

static bool float_matmul(const struct kernels *k, const struct weight *w, int64_t r0, int64_t r1,
			 const void *act, size_t act_bytes, int64_t n_tok, float *out,
			 int64_t out_stride)
{
	enum act_format f = w->type->act;
	enum profile_lanes lanes = k->profile.lanes;

	if ((f == ACT_F16 && lanes == LANES_AVX512_FP16) ||
	    (f == ACT_BF16 && lanes != LANES_AVX2) || w->n_in > N_MAX)
		return false;
	if (n_tok > FEW_TOKENS) {
		gemm(k, f, w, r0, r1, act, act_bytes, n_tok, out, out_stride);
		return true;
	}
	for (int64_t t = 0; t < n_tok; t++)
		gemv(k, f, w, r0, r1, (const uint8_t *)act + (size_t)t * act_bytes,
		     out + t * out_stride);
	return true;
}

/* ---- attention ---------------------------------------------------------------------------- */

enum {
	GROUP = ATTEND_GROUP,
	KEY_CELLS = 4 * TILE_ROWS,	/* keys widened at once */
	FETCH_CELLS = 40,		/* keys fetched ahead: about 10 KiB */
	FETCH_ROWS = 6,			/* value channels fetched ahead */
};

/* Buffers of one group in the caller's scratch; `cells` is the stride of a row of scores. */
struct attend_buffers {
	int64_t cells;
	float *scores;		/* [GROUP, cells], then the weights, rounded and sorted by pass */
	float *weights;		/* [GROUP, cells] */
	float *values;		/* [TILE_ROWS, cells] */
	float *queries;		/* [GROUP, head_dim], sorted by pass */
	float *keys;		/* [KEY_CELLS, head_dim], sorted by pass */
};

static inline struct attend_buffers attend_buffers(const struct attend *a)
{
	struct attend_buffers b = {.cells = attend_cells(a)};

	b.scores = a->scratch;
	b.weights = b.scores + GROUP * b.cells;
	b.values = b.weights + GROUP * b.cells;
	b.queries = b.values + TILE_ROWS * b.cells;
	b.keys = b.queries + GROUP * a->head_dim;
	return b;
}

/* Query g of a group that starts at query `first`: heads vary fastest. */
static inline int64_t query_token(const struct attend *a, int first, int g)
{
	return (first + g) / a->n_heads;
}

static inline int64_t query_head(const struct attend *a, int first, int g)
{
	return (first + g) % a->n_heads;
}

static inline int64_t query_cells(const struct attend *a, int first, int g)
{
	return a->n_vis + query_token(a, first, g);
}

static void round_queries(const struct attend *a, struct order o, int first, int count,
			  struct attend_buffers *b)
{
	int d = a->head_dim, padded = (count + TILE_TOKENS - 1) / TILE_TOKENS * TILE_TOKENS;
	int part = d / o.passes;

	for (int g = 0; g < count; g++) {
		const float *q = a->q + query_token(a, first, g) * a->q_stride +
				 query_head(a, first, g) * d;
		float *to = b->queries + g * d;

		for (int i = 0; i < d; i += o.step)
			for (int p = 0; p < o.passes; p++)
				vf_store(to + p * part + i / o.passes,
					 vf_round_half(vf_load(q + i + p * VL)));
	}
	memset(b->queries + count * d, 0, (size_t)((padded - count) * d) * sizeof(float));
}

/* A row of n halves into the second-level cache. */
static inline void fetch_row(const uint16_t *row, int64_t n)
{
	for (int64_t i = 0; i < n; i += 32)
		_mm_prefetch((const char *)(row + i), _MM_HINT_T1);
}

/* scores[g][c] for all cells below n_cells. */
static void score_cells(const struct attend *a, struct order o, int count, int64_t n_cells,
			struct attend_buffers *b)
{
	const uint16_t *keys = a->kc;
	int64_t d = a->head_dim;

	for (int64_t c = 0; c < n_cells; c += KEY_CELLS) {
		int n = n_cells - c < KEY_CELLS ? (int)(n_cells - c) : KEY_CELLS;
		struct tile_rows w = {.stride = d};

		for (int i = 0; i < n; i++) {
			if (c + i + FETCH_CELLS < n_cells)
				fetch_row(keys + (c + i + FETCH_CELLS) * a->k_stride, d);
			if (count > TILE_TOKENS)
				widen(ACT_F16, keys + (c + i) * a->k_stride, b->keys + i * d, d,
				      o.passes);
		}
		for (int i = 0; i < n; i += TILE_ROWS) {
			for (int r = 0; r < TILE_ROWS; r++) /* past the end: the last cell again */
				w.halves[r] =
					keys + (c + (i + r < n ? i + r : n - 1)) * a->k_stride;
			if (count > TILE_TOKENS)
				w.floats = b->keys + i * d;
			for (int g = 0; g < count; g += TILE_TOKENS) {
				float y[TILE_ROWS][TILE_TOKENS];

				tile(&w, b->queries + g * d, d, d, o, y);
				for (int r = 0; r < TILE_ROWS; r++)
					for (int t = 0; t < TILE_TOKENS; t++)
						b->scores[(g + t) * b->cells + c + i + r] = y[r][t];
			}
		}
	}
}

static inline float max_of(const float *x, int64_t n)
{
	vf m = vf_set1(-INFINITY);
	float lanes[VL], best;
	int64_t i = 0;

	for (; i + VL <= n; i += VL)
		m = vf_max(vf_load(x + i), m);
	vf_store(lanes, m);
	best = lanes[0];
	for (int l = 1; l < VL; l++)
		best = lanes[l] > best ? lanes[l] : best;
	for (; i < n; i++)
		best = x[i] > best ? x[i] : best;
	return best;
}

/* The same softmax as base_ops.h's, four groups of lanes summed at once; e has room to `padded`. */
static void softmax_wide(const struct profile *p, const float *s, float scale, float *e, int64_t n)
{
	int lanes = p->lanes == LANES_AVX2 ? 8 : 16;
	int64_t padded = (n + 63) / 64 * 64;
	float max, sums[4];
	double sum = 0;

	for (int64_t i = 0; i < n; i++)
		e[i] = s[i] * scale;
	max = max_of(e, n);
	for (int64_t i = n; i < padded; i++)
		e[i] = -INFINITY;
	if (lanes == 8)
		for (int64_t i = 0; i < padded; i++)
			e[i] = exp_stepped(e[i] - max);
	else
		for (int64_t i = 0; i < padded; i++)
			e[i] = exp_scaled(e[i] - max);
	for (int64_t i = 0; i < padded; i += 4 * lanes) {
		if (lanes == 8)
			_mm_storeu_ps(sums,
				      fold4_256(_mm256_loadu_ps(e + i), _mm256_loadu_ps(e + i + 8),
						_mm256_loadu_ps(e + i + 16),
						_mm256_loadu_ps(e + i + 24), TREE_HALVES));
		else
			for (int j = 0; j < 4; j++)
				sums[j] = tree_r16(e + i + 16 * j);
		for (int j = 0; j < 4; j++)
			sum += (double)sums[j];
	}
	vf inverse = vf_set1((float)(1.0 / sum));

	for (int64_t i = 0; i < padded; i += VL)
		vf_store(e + i, vf_mul(vf_load(e + i), inverse));
}

/*
 * Scores of query g -> its softmax weights, rounded to half, in `weights` up to n_lanes sorted by
 * pass, from there to n_value in order. Traces are written here.
 */
static void weigh_cells(const struct kernels *k, const struct attend *a, struct order o, int first,
			int g, int64_t n_lanes, int64_t n_value, struct attend_buffers *b)
{
	int64_t n_vis = query_cells(a, first, g), part = n_lanes / o.passes;
	int64_t padded = (n_vis + 63) / 64 * 64;
	int64_t trace =
		query_head(a, first, g) * a->trace_stride + query_token(a, first, g) * a->n_kv;
	float *s = b->scores + g * b->cells, *w = b->weights + g * b->cells;

	if (a->scores) {
		memset(a->scores + trace, 0, (size_t)a->n_kv * sizeof(float));
		memcpy(a->scores + trace, s, (size_t)a->n_used * sizeof(float));
	}
	softmax_wide(&k->profile, s, a->scale, s, n_vis);
	for (int64_t c = padded; c < n_value; c++)
		s[c] = 0.0f;
	if (a->probs) {
		int64_t known = padded < a->n_kv ? padded : a->n_kv;

		memset(a->probs + trace, 0, (size_t)a->n_kv * sizeof(float));
		memcpy(a->probs + trace, s, (size_t)known * sizeof(float));
	}
	for (int64_t i = 0; i < n_lanes; i += o.step)
		for (int p = 0; p < o.passes; p++)
			vf_store(w + p * part + i / o.passes,
				 vf_round_half(vf_load(s + i + p * VL)));
	for (int64_t i = n_lanes; i < n_value; i += VL)
		vf_store(w + i, vf_round_half(vf_load(s + i)));
}

/* out of a group: Σ weight · value over n_lanes cells in lanes, then to n_value one by one. */
static void sum_values(const struct attend *a, struct order o, int first, int count,
		       int64_t n_lanes, int64_t n_value, struct attend_buffers *b)
{
	const uint16_t *values = a->vc;

	for (int i = 0; i < a->head_dim && i < FETCH_ROWS; i++)
		fetch_row(values + i * a->v_stride, n_value);
	for (int i = 0; i < a->head_dim; i += TILE_ROWS) {
		int rows = a->head_dim - i < TILE_ROWS ? a->head_dim - i : TILE_ROWS;
		struct tile_rows w = {.floats = count > TILE_TOKENS ? b->values : NULL,
				      .stride = b->cells};

		for (int r = 0; r < TILE_ROWS; r++)	/* past the end: the last channel again */
			w.halves[r] = values + (i + (r < rows ? r : rows - 1)) * a->v_stride;
		for (int r = 0; r < rows; r++) {
			const uint16_t *v = values + (i + r) * a->v_stride;
			float *to = b->values + r * b->cells;

			if (i + r + FETCH_ROWS < a->head_dim)
				fetch_row(v + FETCH_ROWS * a->v_stride, n_value);

			if (count > TILE_TOKENS)
				widen(ACT_F16, v, to, n_lanes, o.passes);
			widen(ACT_F16, v + n_lanes, to + n_lanes, n_value - n_lanes, 1);
		}
		for (int g = 0; g < count; g += TILE_TOKENS) {
			float y[TILE_ROWS][TILE_TOKENS];

			tile(&w, b->weights + g * b->cells, b->cells, n_lanes, o, y);
			for (int t = 0; t < TILE_TOKENS && g + t < count; t++) {
				float *out = a->out + query_token(a, first, g + t) * a->out_stride +
					     query_head(a, first, g + t) * a->head_dim + i;
				const float *weight = b->weights + (g + t) * b->cells;

				for (int r = 0; r < rows; r++) {
					const float *v = b->values + r * b->cells;
					double s = (double)y[r][t];

					for (int64_t c = n_lanes; c < n_value; c++)
						s += (double)(weight[c] * v[c]);
					out[r] = (float)s;
				}
			}
		}
	}
}

static void attend_group(const struct kernels *k, const struct attend *a, struct order o, int first,
			 int count)
{
	struct attend_buffers b = attend_buffers(a);
	int64_t n_vis = query_cells(a, first, count - 1);
	int64_t n_value = value_cells(&k->profile, false, n_vis, a->n_kv);
	int64_t n_lanes = n_value / o.step * o.step;
	int padded = (count + TILE_TOKENS - 1) / TILE_TOKENS * TILE_TOKENS;

	round_queries(a, o, first, count, &b);
	score_cells(a, o, count, a->scores ? a->n_used : n_vis, &b);
	for (int g = 0; g < count; g++)
		weigh_cells(k, a, o, first, g, n_lanes, n_value, &b);
	for (int g = count; g < padded; g++)
		memset(b.weights + g * b.cells, 0, (size_t)n_lanes * sizeof(float));
	sum_values(a, o, first, count, n_lanes, n_value, &b);
}

static void float_attend(const struct kernels *k, const struct attend *a)
{
	struct order o = float_order(&k->profile, ACT_F16);
	int n = a->n_heads * a->n_tok;

	if (a->kv_f32 || k->profile.lanes == LANES_AVX512_FP16 || a->head_dim % o.step) {
		base_attend(k, a);
		return;
	}
	for (int first = 0; first < n; first += GROUP)
		attend_group(k, a, o, first, n - first < GROUP ? n - first : GROUP);
}

#endif
