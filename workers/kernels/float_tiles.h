/*
 * Matrix products of F16, BF16 and F32 rows, in the lane order of the profiles that sum in float32
 * lanes (8- and 16-lane profiles; the half-precision one takes the plain path).
 *
 * A product keeps 32 or 64 lanes per output. A tile of ROWS × TOKENS outputs is walked once per
 * vector of those lanes ("pass"), so that all accumulators of a pass stay in registers; the passes
 * are then joined and folded, four outputs at once. Weights are widened to float32 once for many
 * tokens.
 */
#ifndef ASSAY_FLOAT_TILES_H
#define ASSAY_FLOAT_TILES_H

#include "base_ops.h"
#include "runs.h"
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
 * Floats [from, end) of one pass of w[r] · x[t] added to the lanes z[r · TILE_TOKENS + t], or
 * from zero; rows of w and x are `stride` floats apart and begin with this pass.
 */
static inline __attribute__((always_inline)) void tile_pass(const float *w, const float *x,
							     int64_t stride, int64_t from,
							     int64_t end, vf *z)
{
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
			a[r] = vf_load(w + r * stride + i);
#pragma GCC unroll 8
		for (int t = 0; t < TILE_TOKENS; t++) {
			vf b = vf_load(x + t * stride + i);

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

/* ---- one token ---------------------------------------------------------------------------- */

/* Lanes of `rows` weight rows against x, each joined to one vector. */
static inline __attribute__((always_inline)) void gemv_rows(enum act_format f,
							     const uint8_t *const *w,
							     const float *x, int64_t n, int passes,
							     int rows, vf *sums)
{
	const int size = f == ACT_F32 ? 4 : 2, step = passes * VL;
	vf acc[RUNS][PASSES_MAX];

#pragma GCC unroll 8
	for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
		for (int p = 0; p < passes; p++)
			acc[r][p] = vf_zero();
	for (int64_t i = 0; i < n; i += step) {
#pragma GCC unroll 8
		for (int r = 0; r < rows; r++)
			run_fetch(w[r] + i * size, step * size);
#pragma GCC unroll 8
		for (int p = 0; p < passes; p++) {
			vf v = vf_load(x + i + p * VL);

#pragma GCC unroll 8
			for (int r = 0; r < rows; r++)
				acc[r][p] = vf_fma(row_vector(f, w[r], i + p * VL), v, acc[r][p]);
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++)
		sums[r] = join(acc[r], passes, 1);
}

/* As many rows at once as leave half of the registers to what is loaded. */
static inline __attribute__((always_inline)) void
gemv_type(const struct kernels *k, enum act_format f, const struct weight *w, int64_t r0,
	  int64_t r1, const float *x, struct order o, int passes, float *out)
{
	const int rows = (VL == 16 ? 16 : 8) / passes;
	int64_t n = w->n_in / o.step * o.step;
	struct runs u = runs_of(r0, r1);

	runs_begin(w, u);
	for (int64_t i = 0; i < u.each; i++) {
		const uint8_t *p[RUNS];
		vf sums[RUNS];
		float y[RUNS];

		runs_rows(w, u, i, p);
		for (int run = 0; run < RUNS; run += rows)
			gemv_rows(f, p + run, x, n, passes, rows, sums + run);
		for (int run = 0; run < RUNS; run += 4)
			_mm_storeu_ps(y + run, fold4(sums[run], sums[run + 1], sums[run + 2],
						     sums[run + 3], o.tree));
		runs_store(u, i, y, out);
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
			for (int64_t r = 0; r < rows; r += TILE_ROWS)
				tile_pass(panel + r * stride + p * part, x + p * part, stride, from,
					  part - from < RUN ? part : from + RUN,
					  z[r / TILE_ROWS] + p * TILE);
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

#endif
