/*
 * Attention in the lane order of the profiles that sum in float32 lanes; the half-precision one, an
 * F32 cache and odd heads take the plain path.
 *
 * Two products with the cache: queries with keys, weights with values. A tile is four rows of the
 * cache times two queries; its vectors of lanes are folded to four neighbouring outputs, so results
 * are stored as they come. Rows of the cache are widened to float32 once for all queries of a group.
 *
 * A group's work comes in parts that threads can share: scores by cells, weights by queries, values
 * by channels (struct attend_parts). `attend` does all of them in turn.
 */
#ifndef ASSAY_ATTEND_TILES_H
#define ASSAY_ATTEND_TILES_H

#include "float_tiles.h"

enum {
	ROWS = 4,
	JOINT = VL == 16 ? 2 : 1,	/* vectors of lanes that fit the registers together */
	KEYS = 32,			/* keys widened at once */
	CHANNELS = ROWS,		/* value channels, the same */
};

/* Buffers of one group: what its parts share, and what each needs alone. */
struct attend_buffers {
	int64_t cells;		/* stride of a row of scores */
	float *scores;		/* [rows, cells]; rows: queries, rounded up to whole tiles */
	float *weights;		/* [rows, cells], rounded to half */
	float *queries;		/* alone: [rows, head_dim], rounded to half */
	float *wide;		/* alone: [CHANNELS, cells] */
};

static struct attend_buffers attend_buffers(const struct attend *a, float *shared, float *alone)
{
	int group = attend_group(a), n = a->n_heads * a->n_tok;
	int rows = ((n < group ? n : group) + 1) / 2 * 2;
	struct attend_buffers b = {.cells = attend_cells(a), .scores = shared};

	b.weights = b.scores + rows * b.cells;
	b.queries = alone ? alone : b.weights + rows * b.cells;
	b.wide = b.queries + rows * a->head_dim;
	return b;
}

/* Which queries: heads vary fastest. */
struct group { int first, count; };

static inline int64_t query_token(const struct attend *a, int q)
{
	return q / a->n_heads;
}

static inline int64_t query_head(const struct attend *a, int q)
{
	return q % a->n_heads;
}

static inline int64_t query_cells(const struct attend *a, int q)
{
	return a->n_vis + query_token(a, q);
}

static inline int64_t group_cells(const struct attend *a, struct group g)
{
	return query_cells(a, g.first + g.count - 1);
}

/* n halves into the second-level cache. */
static inline void fetch_row(const uint16_t *row, int64_t n)
{
	for (int64_t i = 0; i < n; i += 32)
		_mm_prefetch((const char *)(row + i), _MM_HINT_T1);
}

/* ---- the tile ----------------------------------------------------------------------------- */

/* y[q][r] = w[r] · x[q] over n elements, a multiple of the step; rows w_stride, x_stride apart. */
static inline __attribute__((always_inline)) void
tile_of(const float *w, int64_t w_stride, const float *x, int64_t x_stride, int64_t n, int passes,
	enum tree tree, float *y0, float *y1)
{
	vf z[PASSES_MAX][2][ROWS], j[ROWS];

#pragma GCC unroll 8
	for (int p = 0; p < passes; p += JOINT) {
		vf acc[JOINT][2][ROWS];

#pragma GCC unroll 16
		for (int i = 0; i < JOINT * 2 * ROWS; i++)
			(&acc[0][0][0])[i] = vf_zero();
		for (int64_t i = p * VL; i < n; i += passes * VL) {
#pragma GCC unroll 2
			for (int k = 0; k < JOINT; k++) {
				vf b0 = vf_load(x + i + k * VL);
				vf b1 = vf_load(x + x_stride + i + k * VL);

#pragma GCC unroll 4
				for (int r = 0; r < ROWS; r++) {
					vf c = vf_load(w + r * w_stride + i + k * VL);

					vf_keep(c);
					acc[k][0][r] = vf_fma(c, b0, acc[k][0][r]);
					acc[k][1][r] = vf_fma(c, b1, acc[k][1][r]);
				}
			}
		}
		memcpy(z[p], acc, sizeof(acc));
	}
#pragma GCC unroll 2
	for (int q = 0; q < 2; q++) {
#pragma GCC unroll 4
		for (int r = 0; r < ROWS; r++)
			j[r] = join(&z[0][q][r], passes, 2 * ROWS);
		_mm_storeu_ps(q ? y1 : y0, fold4(j[0], j[1], j[2], j[3], tree));
	}
}

static void tile(const float *w, int64_t w_stride, const float *x, int64_t x_stride, int64_t n,
		 struct order o, float *y0, float *y1)
{
	if (o.passes == 32 / VL)
		tile_of(w, w_stride, x, x_stride, n, 32 / VL, o.tree, y0, y1);
	else
		tile_of(w, w_stride, x, x_stride, n, 64 / VL, o.tree, y0, y1);
}

/* ---- scores ------------------------------------------------------------------------------- */

static void round_queries(const struct attend *a, struct group g, struct attend_buffers *b)
{
	int d = a->head_dim;

	for (int i = 0; i < g.count; i++) {
		const float *q = a->q + query_token(a, g.first + i) * a->q_stride +
				 query_head(a, g.first + i) * d;

		for (int c = 0; c < d; c += VL)
			vf_store(b->queries + i * d + c, vf_round_half(vf_load(q + c)));
	}
	if (g.count % 2)
		memset(b->queries + g.count * d, 0, (size_t)d * sizeof(float));
}

/* Key i of n in the order in which they are fetched: RUNS sequences side by side, see runs.h. */
static inline int64_t fetch_order(int64_t i, int64_t n)
{
	int64_t each = n / RUNS;

	return i < each * RUNS ? i % RUNS * each + i / RUNS : i;
}

/* scores[q][c] for cells [c0, c1), c0 a multiple of ROWS. Keys from `next` on are fetched, as many. */
static void score_cells(const struct attend *a, struct order o, struct group g, int64_t c0,
			int64_t c1, const uint16_t *next, struct attend_buffers *b)
{
	_Alignas(64) float wide[KEYS * HEAD_DIM_MAX];
	const uint16_t *keys = a->kc;
	int64_t d = a->head_dim;

	for (int64_t c = c0; c < c1; c += KEYS) {
		int n = c1 - c < KEYS ? (int)(c1 - c) : KEYS, fetched = 0;

		for (int i = 0; i < n; i++)
			widen(ACT_F16, keys + (c + i) * a->k_stride, wide + i * d, d, 1);
		for (int i = n; i % ROWS; i++)
			memset(wide + i * d, 0, (size_t)d * sizeof(float));
		for (int q = 0; q < g.count; q += 2) {
			float *to = b->scores + q * b->cells + c;

			for (int i = 0; i < n; i += ROWS) {
				/* a few at a time: a core has room for as many as come meanwhile */
				int due = (q * n + 2 * (i + ROWS)) / g.count;

				for (; fetched < n && fetched < due; fetched++)
					fetch_row(next + fetch_order(c - c0 + fetched, c1 - c0) *
								 a->k_stride, d);
				tile(wide + i * d, d, b->queries + q * d, d, d, o, to + i,
				     to + b->cells + i);
			}
		}
	}
}

/* ---- weights ------------------------------------------------------------------------------ */

struct extremes { float min, max; };

/* s · scale, its least and its greatest value. */
static inline struct extremes scale_row(float *s, float scale, int64_t n)
{
	vf low = vf_set1(INFINITY), high = vf_set1(-INFINITY), by = vf_set1(scale);
	float lows[VL], highs[VL];
	struct extremes x = {INFINITY, -INFINITY};
	int64_t i = 0;

	for (; i + VL <= n; i += VL) {
		vf v = vf_mul(vf_load(s + i), by);

		vf_store(s + i, v);
		low = vf_min(v, low);
		high = vf_max(v, high);
	}
	vf_store(lows, low);
	vf_store(highs, high);
	for (int l = 0; l < VL; l++) {
		x.min = lows[l] < x.min ? lows[l] : x.min;
		x.max = highs[l] > x.max ? highs[l] : x.max;
	}
	for (; i < n; i++) {
		s[i] *= scale;
		x.min = s[i] < x.min ? s[i] : x.min;
		x.max = s[i] > x.max ? s[i] : x.max;
	}
	return x;
}

/* e = exp(e − max) of n values, in the profile's form. */
static inline void exp_row(bool lanes8, float *e, struct extremes x, int64_t n)
{
	enum { NEVER_SMALL = -80 };	/* above it 2^n is an ordinary number */

	if (lanes8 && x.min - x.max > (float)NEVER_SMALL)
		for (int64_t i = 0; i < n; i++)
			e[i] = exp_ordinary(e[i] - x.max);
	else if (lanes8)
		for (int64_t i = 0; i < n; i++)
			e[i] = exp_stepped(e[i] - x.max);
	else
		for (int64_t i = 0; i < n; i++)
			e[i] = exp_scaled(e[i] - x.max);
}

/* The sum of e [n], a multiple of 64: groups of lanes in float32, groups in float64. */
static inline double sum_groups(bool lanes8, const float *e, int64_t n)
{
	float sums[4];
	double sum = 0;

	for (int64_t i = 0; i < n; i += lanes8 ? 32 : 64) {
		if (lanes8)
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
	return sum;
}

/* The same softmax as base_ops.h's, in place; what follows up to `end` becomes zero. */
static void softmax_row(const struct profile *p, float *s, float scale, int64_t n, int64_t end)
{
	bool lanes8 = p->lanes == LANES_AVX2;
	int64_t padded = (n + 63) / 64 * 64;
	struct extremes x = scale_row(s, scale, n);

	exp_row(lanes8, s, x, n);
	for (int64_t i = n; i < padded || i < end; i++)
		s[i] = 0.0f;
	vf inverse = vf_set1((float)(1.0 / sum_groups(lanes8, s, padded)));

	for (int64_t i = 0; i < padded; i += VL)
		vf_store(s + i, vf_mul(vf_load(s + i), inverse));
}

/* Scores of query i of a group -> its weights, rounded to half, up to n_value. Traces are written
 * here. */
static void weigh_query(const struct kernels *k, const struct attend *a, struct group g, int i,
			int64_t n_value, struct attend_buffers *b)
{
	int q = g.first + i;
	int64_t n_vis = query_cells(a, q), end = a->probs && n_value < a->n_kv ? a->n_kv : n_value;
	int64_t trace = query_head(a, q) * a->trace_stride + query_token(a, q) * a->n_kv;
	float *s = b->scores + i * b->cells, *w = b->weights + i * b->cells;

	if (a->scores) {
		memset(a->scores + trace, 0, (size_t)a->n_kv * sizeof(float));
		memcpy(a->scores + trace, s, (size_t)a->n_used * sizeof(float));
	}
	softmax_row(&k->profile, s, a->scale, n_vis, end);
	if (a->probs)
		memcpy(a->probs + trace, s, (size_t)a->n_kv * sizeof(float));
	for (int64_t c = 0; c < n_value; c += VL)
		vf_store(w + c, vf_round_half(vf_load(s + c)));
}

/* ---- values ------------------------------------------------------------------------------- */

/* What is left after whole rounds of lanes, cells [n_lanes, n_value), one after the other. */
static float finish_value(const float *weight, const float *value, int64_t n_lanes, int64_t n_value,
			  float y)
{
	double s = (double)y;

	for (int64_t c = n_lanes; c < n_value; c++)
		s += (double)(weight[c] * value[c]);
	return (float)s;
}

/* CHANNELS rows of n values that are fetched in `steps` steps, a part of each row in every one. */
struct value_fetch {
	const uint16_t *first;
	int64_t apart, n;
	int step, steps;
};

static inline void fetch_step(struct value_fetch *f)
{
	int64_t from = f->n * f->step / f->steps, to = f->n * (f->step + 1) / f->steps;

	for (int r = 0; r < CHANNELS; r++)
		fetch_row(f->first + r * f->apart + from, to - from);
	f->step++;
}

/* Channels `at` of all queries, widened before. */
static void sum_channels(const struct attend *a, struct order o, struct group g, const int *at,
			 int64_t n_lanes, int64_t n_value, struct attend_buffers *b,
			 struct value_fetch *f)
{
	for (int q = 0; q < g.count; q += 2) {
		const float *weights = b->weights + q * b->cells;
		float y[2][CHANNELS];

		fetch_step(f);
		tile(b->wide, b->cells, weights, b->cells, n_lanes, o, y[0], y[1]);
		for (int j = 0; j < 2 && q + j < g.count; j++) {
			float *out = a->out + query_token(a, g.first + q + j) * a->out_stride +
				     query_head(a, g.first + q + j) * a->head_dim;

			for (int r = 0; r < CHANNELS && n_lanes < n_value; r++)
				y[j][r] = finish_value(weights + j * b->cells,
						       b->wide + r * b->cells, n_lanes, n_value,
						       y[j][r]);
			for (int r = 0; r < CHANNELS; r++)
				out[at[r]] = y[j][r];
		}
	}
}

/*
 * Channels [i0, i1) of all queries of a group, as CHANNELS runs of neighbours read side by side as in
 * runs.h; past the end, the last channel again. Fetched meanwhile are the next ones of all runs; with
 * the last the first ones of the runs that follow.
 */
static void sum_values(const struct kernels *k, const struct attend *a, struct group g, int i0,
		       int i1, struct attend_buffers *b)
{
	struct order o = float_order(&k->profile, ACT_F16);
	int64_t n = value_cells(&k->profile, false, group_cells(a, g), a->n_kv);
	const uint16_t *values = a->vc;
	int apart = (i1 - i0 + CHANNELS - 1) / CHANNELS, at[CHANNELS];

	for (int i = i0; i < i0 + apart; i++) {
		struct value_fetch f = {
			.first = values + (i + 1 < i0 + apart ? i + 1 : i1) * a->v_stride,
			.apart = apart * a->v_stride, .n = n,
			.steps = CHANNELS + (g.count + 1) / 2,
		};

		for (int r = 0; r < CHANNELS; r++) {
			at[r] = i + r * apart < i1 ? i + r * apart : i1 - 1;
			fetch_step(&f);
			widen(ACT_F16, values + at[r] * a->v_stride, b->wide + r * b->cells, n, 1);
		}
		sum_channels(a, o, g, at, n / o.step * o.step, n, b, &f);
	}
}

/* ---- all of it ---------------------------------------------------------------------------- */

static bool attend_fits(const struct kernels *k, const struct attend *a)
{
	return !a->kv_f32 && k->profile.lanes != LANES_AVX512_FP16 && a->head_dim <= HEAD_DIM_MAX &&
	       a->head_dim % float_order(&k->profile, ACT_F16).step == 0;
}

static void weigh_group(const struct kernels *k, const struct attend *a, struct group g, int q0,
			int q1, struct attend_buffers *b)
{
	int64_t n_value = value_cells(&k->profile, false, group_cells(a, g), a->n_kv);

	for (int i = q0; i < q1; i++)
		weigh_query(k, a, g, i, n_value, b);
	if (q1 == g.count && g.count % 2)
		memset(b->weights + g.count * b->cells, 0, (size_t)n_value * sizeof(float));
}

static void float_attend(const struct kernels *k, const struct attend *a)
{
	int group = attend_group(a), n = a->n_heads * a->n_tok;
	struct attend_buffers b = attend_buffers(a, a->scratch, NULL);

	if (!attend_fits(k, a)) {
		base_attend(k, a);
		return;
	}
	for (int first = 0; first < n; first += group) {
		struct group g = {first, n - first < group ? n - first : group};

		round_queries(a, g, &b);
		score_cells(a, float_order(&k->profile, ACT_F16), g, 0,
			    a->scores ? a->n_used : group_cells(a, g),
			    (const uint16_t *)a->kc + KEYS * a->k_stride, &b);
		weigh_group(k, a, g, 0, g.count, &b);
		sum_values(k, a, g, 0, a->head_dim, &b);
	}
}

/* ---- in parts ----------------------------------------------------------------------------- */

static inline struct group all_queries(const struct attend *a)
{
	return (struct group){0, a->n_heads * a->n_tok};
}

static void float_scores(const struct kernels *k, const struct attend *a, float *shared, int64_t c0,
			 int64_t c1, const void *next)
{
	struct attend_buffers b = attend_buffers(a, shared, a->scratch);

	round_queries(a, all_queries(a), &b);
	score_cells(a, float_order(&k->profile, ACT_F16), all_queries(a), c0, c1, next, &b);
}

static void float_weights(const struct kernels *k, const struct attend *a, float *shared, int q0,
			  int q1)
{
	struct attend_buffers b = attend_buffers(a, shared, a->scratch);

	weigh_group(k, a, all_queries(a), q0, q1, &b);
}

static void float_values(const struct kernels *k, const struct attend *a, float *shared, int i0,
			 int i1)
{
	struct attend_buffers b = attend_buffers(a, shared, a->scratch);

	sum_values(k, a, all_queries(a), i0, i1, &b);
}

static const struct attend_parts float_attend_parts = {
	.fits = attend_fits,
	.scores = float_scores,
	.weights = float_weights,
	.values = float_values,
};

#endif
