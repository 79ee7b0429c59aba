/*
 * Attention in the lane order of the profiles that sum in float32 lanes; the half-precision one, an
 * F32 cache and odd heads take the plain path.
 *
 * Two products with the cache, four queries at a time. Queries with keys: vectors are neighbouring
 * cells of a block (kernels.h), so that the lanes of one dot product are different sums, added as
 * vectors. Weights with values: a tile is four channels times four queries, two channels at a time so
 * that all lanes stay in registers; these are folded to four neighbouring outputs. A few queries read
 * the halves of the cache themselves; for many, they are widened to float32 once. What is read next
 * is fetched meanwhile, a line of RUNS sequences at a time.
 *
 * A group's work comes in parts that threads can share: scores by cells, weights by queries, values
 * by channels (struct attend_parts). `attend` does all of them in turn.
 */
#ifndef ASSAY_ATTEND_TILES_H
#define ASSAY_ATTEND_TILES_H

#include "float_tiles.h"

enum {
	QUERIES = 4, ROWS = ATTEND_WIDE_ROWS,	/* of a tile */
	PAIR = ROWS / 2,		/* rows walked together */
	JOINT = VL == 16 ? 2 : 1,	/* vectors of lanes that fit the registers then */
	KEYS = 128,			/* fetched while as many are used */
};

/* Buffers of one group. */
struct attend_buffers {
	int64_t cells;		/* stride of a row of scores */
	float *scores;		/* [rows, cells], rows: queries; then their weights, rounded to half */
	float *queries;		/* [rows, head_dim], rounded to half */
	float *wide;		/* [ROWS, cells], only where rows are widened */
};

static struct attend_buffers attend_buffers(const struct attend *a, float *at)
{
	int group = attend_group(a), n = a->n_heads * a->n_tok, rows = n < group ? n : group;
	struct attend_buffers b = {.cells = attend_cells(a), .scores = at};

	b.queries = b.scores + rows * b.cells;
	b.wide = b.queries + rows * a->head_dim;
	return b;
}

/* Which queries: heads vary fastest. */
struct group { int first, count; };

/* Many queries use rows that are widened once for all of them; few read the halves themselves. */
static inline bool widens(struct group g)
{
	return g.count > ATTEND_QUERIES;
}

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

/* ---- the tile ----------------------------------------------------------------------------- */

/*
 * What is on its way to the core: RUNS sequences side by side (runs.h), a line of each in turn. Two
 * lines are asked for when two are used: many at once would make the loads wait that follow.
 */
struct fetch {
	const uint8_t *at;		/* the next line */
	int64_t apart;			/* bytes between two sequences; 0: all was asked for */
	int64_t lines;			/* of each sequence, left */
	unsigned pairs;			/* asked for */
};

static inline struct fetch fetch_runs(const void *at, int64_t apart, int64_t bytes)
{
	return (struct fetch){.at = at, .apart = apart, .lines = (bytes + 63) / 64};
}

static inline void fetch_pair(struct fetch *f)
{
	_mm_prefetch((const char *)f->at, _MM_HINT_T1);
	_mm_prefetch((const char *)f->at + f->apart, _MM_HINT_T1);
	f->at += 2 * f->apart;
	f->pairs++;
	if (f->pairs % (RUNS / 2) != 0 || f->apart == 0)
		return;
	f->at += 64 - RUNS * f->apart;
	f->lines--;
	if (f->lines == 0)
		f->apart = 0;
}

/* sums[q][r]: the lanes of w[r] · x[q] over n elements, a multiple of the step, joined. */
static inline __attribute__((always_inline)) void
pair_lanes(enum act_format type, const void *const *w, const float *const *x, int64_t n, int passes,
	   struct fetch *f, vf (*sums)[PAIR])
{
	vf z[PASSES_MAX][QUERIES][PAIR];

#pragma GCC unroll 8
	for (int p = 0; p < passes; p += JOINT) {
		vf acc[JOINT][QUERIES][PAIR];

#pragma GCC unroll 16
		for (int i = 0; i < JOINT * QUERIES * PAIR; i++)
			(&acc[0][0][0])[i] = vf_zero();
		for (int64_t i = p * VL; i < n; i += passes * VL) {
			for (int lanes = 0; p == 0 && lanes < passes * VL; lanes += 32)
				fetch_pair(f);
#pragma GCC unroll 2
			for (int k = 0; k < JOINT; k++) {
				vf c[PAIR];

#pragma GCC unroll 2
				for (int r = 0; r < PAIR; r++) {
					c[r] = row_vector(type, w[r], i + k * VL);
					vf_keep(c[r]);
				}
#pragma GCC unroll 4
				for (int q = 0; q < QUERIES; q++) {
					vf b = vf_load(x[q] + i + k * VL);

					vf_keep(b);
#pragma GCC unroll 2
					for (int r = 0; r < PAIR; r++)
						acc[k][q][r] = vf_fma(c[r], b, acc[k][q][r]);
				}
			}
		}
		memcpy(z[p], acc, sizeof(acc));
	}
#pragma GCC unroll 4
	for (int q = 0; q < QUERIES; q++)
#pragma GCC unroll 2
		for (int r = 0; r < PAIR; r++)
			sums[q][r] = join(&z[0][q][r], passes, QUERIES * PAIR);
}

/* y[q][r] = w[r] · x[q] over n elements, a multiple of the step. */
static inline __attribute__((always_inline)) void
tile_of(enum act_format type, const void *const *w, const float *const *x, int64_t n, int passes,
	enum tree tree, struct fetch *f, float *const *y)
{
	vf a[QUERIES][PAIR], b[QUERIES][PAIR];

	pair_lanes(type, w, x, n, passes, f, a);
	pair_lanes(type, w + PAIR, x, n, passes, f, b);
#pragma GCC unroll 4
	for (int q = 0; q < QUERIES; q++)
		_mm_storeu_ps(y[q], fold4(a[q][0], a[q][1], b[q][0], b[q][1], tree));
}

static void tile(enum act_format type, const void *const *w, const float *const *x, int64_t n,
		 struct order o, struct fetch *f, float *const *y)
{
	if (type == ACT_F16 && o.passes == 32 / VL)
		tile_of(ACT_F16, w, x, n, 32 / VL, o.tree, f, y);
	else if (type == ACT_F16)
		tile_of(ACT_F16, w, x, n, 64 / VL, o.tree, f, y);
	else if (o.passes == 32 / VL)
		tile_of(ACT_F32, w, x, n, 32 / VL, o.tree, f, y);
	else
		tile_of(ACT_F32, w, x, n, 64 / VL, o.tree, f, y);
}

/* QUERIES rows of `base` from `first` on, `stride` floats apart; past the last of n, that again. */
static inline void query_rows(float *base, int64_t stride, int first, int n, float **rows)
{
	for (int q = 0; q < QUERIES; q++)
		rows[q] = base + (first + q < n ? first + q : n - 1) * stride;
}

/* ---- scores ------------------------------------------------------------------------------- */

/* Rounded to half, dimensions where keys have them. */
static void round_queries(const struct attend *a, struct group g, struct attend_buffers *b)
{
	const int d = a->head_dim;
	_Alignas(64) float rounded[ATTEND_DIM_MAX];

	for (int i = 0; i < g.count; i++) {
		const float *q = a->q + query_token(a, g.first + i) * a->q_stride +
				 query_head(a, g.first + i) * d;

		for (int c = 0; c < d; c += VL)
			vf_store(rounded + c, vf_round_half(vf_load(q + c)));
		for (int c = 0; c < d; c++)
			b->queries[i * d + a->k_place[c]] = rounded[c];
	}
}

/* A block of keys, halves or floats: VL cells of the dimension at place p at keys[p · ATTEND_BLOCK]. */
struct block {
	enum act_format type;
	const void *keys;
	const float *const *x;	/* QUERIES */
	int lanes, n;		/* lanes of a vector in the profile's order; dimensions of each */
};

struct sums { vf of[QUERIES]; };

static inline __attribute__((always_inline)) struct sums add_sums(struct sums a, struct sums b)
{
#pragma GCC unroll 4
	for (int q = 0; q < QUERIES; q++)
		a.of[q] = vf_add(a.of[q], b.of[q]);
	return a;
}

/* What one lane of an accumulator adds up, from place p on; a line holds two dimensions. */
static inline __attribute__((always_inline)) struct sums sum_lane(struct block b, int p,
								  struct fetch *f)
{
	struct sums s;

	for (int i = 0; i < b.n; i += 4)
		fetch_pair(f);
#pragma GCC unroll 4
	for (int q = 0; q < QUERIES; q++)
		s.of[q] = vf_zero();
#pragma GCC unroll 4
	for (int i = 0; i < b.n; i++) {
		vf c = row_vector(b.type, b.keys, (p + i) * ATTEND_BLOCK);

		vf_keep(c);
#pragma GCC unroll 4
		for (int q = 0; q < QUERIES; q++)
			s.of[q] = vf_fma(c, vf_set1(b.x[q][p + i]), s.of[q]);
	}
	return s;
}

/* One lane of all four accumulators. */
static inline __attribute__((always_inline)) struct sums join_lane(struct block b, int p,
								   struct fetch *f)
{
	struct sums s = sum_lane(b, p, f), t;

	s = add_sums(s, sum_lane(b, p + b.n, f));
	t = sum_lane(b, p + 2 * b.n, f);
	return add_sums(s, add_sums(t, sum_lane(b, p + 3 * b.n, f)));
}

/* A quarter of the lanes, halves added. */
static inline __attribute__((always_inline)) struct sums sum_quarter(struct block b, int p,
								     struct fetch *f)
{
	const int each = 4 * b.n;
	struct sums s = join_lane(b, p, f);

	s = add_sums(s, join_lane(b, p + each, f));
	if (b.lanes == 8)
		return s;
	struct sums t = join_lane(b, p + 2 * each, f);

	return add_sums(s, add_sums(t, join_lane(b, p + 3 * each, f)));
}

static inline __attribute__((always_inline)) struct sums sum_block(struct block b, struct fetch *f)
{
	const int each = b.n * b.lanes;
	struct sums s = sum_quarter(b, 0, f), t;

	s = add_sums(s, sum_quarter(b, each, f));
	t = sum_quarter(b, 2 * each, f);
	return add_sums(s, add_sums(t, sum_quarter(b, 3 * each, f)));
}

/* y[q][c] = key c of the block · x[q]. */
static inline __attribute__((always_inline)) void
score_lanes(enum act_format type, const void *keys, const float *const *x, int lanes, int n,
	    struct fetch *f, float *const *y)
{
	const size_t size = type == ACT_F16 ? sizeof(uint16_t) : sizeof(float);
	struct block b = {.type = type, .x = x, .lanes = lanes, .n = n};

	for (int c = 0; c < ATTEND_BLOCK; c += VL) {
		b.keys = (const uint8_t *)keys + (size_t)c * size;
		struct sums s = sum_block(b, f);

#pragma GCC unroll 4
		for (int q = 0; q < QUERIES; q++)
			vf_store(y[q] + c, s.of[q]);
	}
}

static void score_block(enum act_format type, const void *keys, const float *const *x, int d,
			struct order o, struct fetch *f, float *const *y)
{
	const int n = d / o.step;

	if (type == ACT_F16 && o.step == 32 && n == 4)
		score_lanes(ACT_F16, keys, x, 8, 4, f, y);
	else if (type == ACT_F16 && o.step == 32)
		score_lanes(ACT_F16, keys, x, 8, n, f, y);
	else if (type == ACT_F16)
		score_lanes(ACT_F16, keys, x, 16, n, f, y);
	else if (o.step == 32 && n == 4)
		score_lanes(ACT_F32, keys, x, 8, 4, f, y);
	else if (o.step == 32)
		score_lanes(ACT_F32, keys, x, 8, n, f, y);
	else
		score_lanes(ACT_F32, keys, x, 16, n, f, y);
}

/* n keys, as RUNS runs of neighbours. */
static inline struct fetch fetch_keys(const struct attend *a, const void *keys, int n)
{
	const int64_t bytes = n / RUNS * a->head_dim * (int64_t)sizeof(uint16_t);

	return keys ? fetch_runs(keys, bytes, bytes) : fetch_runs(a->q, 0, 0);
}

/* scores[q][c] for cells [c0, c1), whole blocks. With KEYS of them the next ones are fetched, with the
 * last `after`. */
static void score_cells(const struct attend *a, struct order o, struct group g, int64_t c0,
			int64_t c1, struct attend_buffers *b, struct fetch after)
{
	const int d = a->head_dim;
	const uint16_t *keys = a->kc;
	_Alignas(64) float wide[ATTEND_BLOCK * ATTEND_DIM_MAX];
	struct fetch f = after;

	for (int64_t c = c0; c < c1; c += ATTEND_BLOCK) {
		const void *block = keys + c * d;

		if ((c - c0) % KEYS == 0)
			f = c1 - c > KEYS ? fetch_keys(a, keys + (c + KEYS) * d, KEYS) : after;
		if (widens(g)) {
			widen(ACT_F16, block, wide, ATTEND_BLOCK * d, 1);
			block = wide;
		}
		for (int q = 0; q < g.count; q += QUERIES) {
			float *x[QUERIES], *y[QUERIES];

			query_rows(b->queries, d, q, g.count, x);
			query_rows(b->scores + c, b->cells, q, g.count, y);
			score_block(widens(g) ? ACT_F32 : ACT_F16, block, (const float *const *)x,
				    d, o, &f, y);
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
static inline void exp_some(bool lanes8, float *e, struct extremes x, int64_t n)
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

static inline void exp_row(bool lanes8, float *e, struct extremes x, int64_t n, struct fetch *f)
{
	enum { SOME = 64 };

	for (int64_t i = 0; i < n; i += SOME) {
		fetch_pair(f);
		exp_some(lanes8, e + i, x, n - i < SOME ? n - i : SOME);
		fetch_pair(f);
	}
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
static void softmax_row(const struct profile *p, float *s, float scale, int64_t n, int64_t end,
			struct fetch *f)
{
	bool lanes8 = p->lanes == LANES_AVX2;
	int64_t padded = (n + 63) / 64 * 64;
	struct extremes x = scale_row(s, scale, n);

	exp_row(lanes8, s, x, n, f);
	for (int64_t i = n; i < padded || i < end; i++)
		s[i] = 0.0f;
	vf inverse = vf_set1((float)(1.0 / sum_groups(lanes8, s, padded)));

	for (int64_t i = 0; i < padded; i += VL)
		vf_store(s + i, vf_mul(vf_load(s + i), inverse));
}

/* Scores of query i of a group -> its weights, rounded to half, in place, up to n_value. Traces are
 * written here. */
static void weigh_query(const struct kernels *k, const struct attend *a, struct group g, int i,
			int64_t n_value, struct attend_buffers *b, struct fetch *f)
{
	int q = g.first + i;
	int64_t n_vis = query_cells(a, q), end = a->probs && n_value < a->n_kv ? a->n_kv : n_value;
	int64_t trace = query_head(a, q) * a->trace_stride + query_token(a, q) * a->n_kv;
	float *s = b->scores + i * b->cells;

	if (a->scores) {
		memset(a->scores + trace, 0, (size_t)a->n_kv * sizeof(float));
		memcpy(a->scores + trace, s, (size_t)a->n_used * sizeof(float));
	}
	softmax_row(&k->profile, s, a->scale, n_vis, end, f);
	if (a->probs)
		memcpy(a->probs + trace, s, (size_t)a->n_kv * sizeof(float));
	for (int64_t c = 0; c < n_value; c += VL)
		vf_store(s + c, vf_round_half(vf_load(s + c)));
}

/* ---- values ------------------------------------------------------------------------------- */

/* What is left after whole rounds of lanes, cells [n_lanes, n_value), one after the other. */
static float finish_value(enum act_format type, const float *weight, const void *value,
			  int64_t n_lanes, int64_t n_value, float y)
{
	double s = (double)y;

	for (int64_t c = n_lanes; c < n_value; c++)
		s += (double)(weight[c] * row_element(type, value, c));
	return (float)s;
}

/* Channels `at`, n_value values each at w, halves or floats, of all queries. */
static void sum_channels(const struct attend *a, struct order o, struct group g,
			 enum act_format type, const void *const *w, const int *at,
			 int64_t n_value, struct fetch *f, struct attend_buffers *b)
{
	int64_t n_lanes = n_value / o.step * o.step;

	for (int q = 0; q < g.count; q += QUERIES) {
		float sums[QUERIES][ROWS], *x[QUERIES];
		float *y[QUERIES] = {sums[0], sums[1], sums[2], sums[3]};

		query_rows(b->scores, b->cells, q, g.count, x);
		tile(type, w, (const float *const *)x, n_lanes, o, f, y);
		for (int j = 0; j < QUERIES && q + j < g.count; j++) {
			float *out = a->out + query_token(a, g.first + q + j) * a->out_stride +
				     query_head(a, g.first + q + j) * a->head_dim;

			for (int r = 0; r < ROWS; r++)
				out[at[r]] = n_lanes == n_value
						     ? y[j][r]
						     : finish_value(type, x[j], w[r], n_lanes,
								    n_value, y[j][r]);
		}
	}
}

/* The first n values of RUNS channels, `apart` channels from one to the next. */
static inline struct fetch fetch_values(const struct attend *a, const void *values, int apart,
					int64_t n)
{
	const int64_t element = (int64_t)sizeof(uint16_t), stride = a->v_stride * element;

	return values ? fetch_runs(values, apart * stride, n * element) : fetch_runs(a->q, 0, 0);
}

/*
 * Channels [i0, i1) of all queries of a group, as RUNS runs of neighbours read side by side as in
 * runs.h; past the end, the last channel again. The first `here` channels of all runs were fetched;
 * meanwhile it goes on with the next ones, at last with `after`.
 */
static void sum_values(const struct kernels *k, const struct attend *a, struct group g, int i0,
		       int i1, struct attend_buffers *b, int here, struct fetch after)
{
	struct order o = float_order(&k->profile, ACT_F16);
	int64_t n = value_cells(&k->profile, false, group_cells(a, g), a->n_kv);
	const uint16_t *values = a->vc;
	int each = (i1 - i0 + RUNS - 1) / RUNS;
	struct fetch f = after;

	for (int i = i0; i < i0 + each; i++) {
		int next = i + here;

		if (next < i0 + each)
			f = fetch_values(a, values + next * a->v_stride, each, n);
		else if (next == i0 + each)
			f = after;
		for (int run = 0; run < RUNS; run += ROWS) {
			const void *w[ROWS];
			int at[ROWS];

			for (int r = 0; r < ROWS; r++) {
				int own = i + (run + r) * each;

				at[r] = own < i1 ? own : i1 - 1;
				w[r] = values + at[r] * a->v_stride;
			}
			for (int r = 0; r < ROWS && widens(g); r++) {
				widen(ACT_F16, w[r], b->wide + r * b->cells, n, 1);
				w[r] = b->wide + r * b->cells;
			}
			sum_channels(a, o, g, widens(g) ? ACT_F32 : ACT_F16, w, at, n, &f, b);
		}
	}
}

/* ---- all of it ---------------------------------------------------------------------------- */

static bool takes_blocks(const struct kernels *k, int head_dim)
{
	return k->profile.lanes != LANES_AVX512_FP16 && head_dim <= ATTEND_DIM_MAX &&
	       head_dim % float_order(&k->profile, ACT_F16).step == 0;
}

static void weigh_group(const struct kernels *k, const struct attend *a, struct group g, int q0,
			int q1, struct attend_buffers *b, struct fetch f)
{
	int64_t n_value = value_cells(&k->profile, false, group_cells(a, g), a->n_kv);

	for (int i = q0; i < q1; i++)
		weigh_query(k, a, g, i, n_value, b, &f);
}

static void float_attend(const struct kernels *k, const struct attend *a)
{
	const int group = attend_group(a), n = a->n_heads * a->n_tok, each = a->head_dim / RUNS;
	const void *second = (const uint16_t *)a->vc + a->v_stride;
	struct order o = float_order(&k->profile, ACT_F16);
	struct attend_buffers b = attend_buffers(a, a->scratch);

	if (!a->k_place) {
		base_attend(k, a);
		return;
	}
	for (int first = 0; first < n; first += group) {
		struct group g = {first, n - first < group ? n - first : group};
		int64_t seen = group_cells(a, g);
		const void *next = first + group < n ? a->kc : a->next_keys;

		round_queries(a, g, &b);
		score_cells(a, o, g, 0, a->scores ? a->n_used : seen, &b,
			    fetch_values(a, a->vc, each, seen));
		weigh_group(k, a, g, 0, g.count, &b, fetch_values(a, second, each, seen));
		sum_values(k, a, g, 0, a->head_dim, &b, 2, fetch_keys(a, next, KEYS));
	}
}

/* ---- in parts ----------------------------------------------------------------------------- */

static inline struct group all_queries(const struct attend *a)
{
	return (struct group){0, a->n_heads * a->n_tok};
}

static void float_queries(const struct attend *a, float *shared)
{
	struct attend_buffers b = attend_buffers(a, shared);

	round_queries(a, all_queries(a), &b);
}

/* What is read after a part. */
static inline struct fetch fetch_next(const struct attend *a)
{
	return a->next_keys ? fetch_keys(a, a->next_keys, ATTEND_CELLS)
			    : fetch_values(a, a->next_values, ATTEND_CHANNELS / RUNS,
					   group_cells(a, all_queries(a)));
}

static void float_scores(const struct kernels *k, const struct attend *a, float *shared, int64_t c0,
			 int64_t c1)
{
	struct attend_buffers b = attend_buffers(a, shared);

	score_cells(a, float_order(&k->profile, ACT_F16), all_queries(a), c0, c1, &b,
		    fetch_next(a));
}

static void float_weights(const struct kernels *k, const struct attend *a, float *shared, int q0,
			  int q1)
{
	struct attend_buffers b = attend_buffers(a, shared);

	weigh_group(k, a, all_queries(a), q0, q1, &b, fetch_next(a));
}

static void float_values(const struct kernels *k, const struct attend *a, float *shared, int i0,
			 int i1)
{
	struct attend_buffers b = attend_buffers(a, shared);

	sum_values(k, a, all_queries(a), i0, i1, &b, 1, fetch_next(a));
}

static const struct attend_parts float_attend_parts = {
	.takes_blocks = takes_blocks,
	.queries = float_queries,
	.scores = float_scores,
	.weights = float_weights,
	.values = float_values,
};

#endif
