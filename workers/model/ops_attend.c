#include "ops.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- KV cache ----------------------------------------------------------------------------- */

/* Anonymous pages: zero, and resident only where written; huge ones where the system gives them. */
static void *map_pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

static size_t element(const struct kv_cache *c)
{
	return c->f32 ? sizeof(float) : sizeof(uint16_t);
}

static size_t key_plane(const struct kv_cache *c)	/* bytes */
{
	return (size_t)attend_block_cells(c->n_ctx) * (size_t)c->head_dim * element(c);
}

static size_t value_plane(const struct kv_cache *c)
{
	return (size_t)c->v_stride * (size_t)c->head_dim * element(c);
}

void *kv_cache_keys(const struct kv_cache *c, int layer, int64_t head)
{
	return c->k + (size_t)layer * c->k_bytes + (size_t)head * key_plane(c);
}

void *kv_cache_values(const struct kv_cache *c, int layer, int64_t head)
{
	return c->v + (size_t)layer * c->v_bytes + (size_t)head * value_plane(c);
}

const uint8_t *kv_cache_places(const struct kv_cache *c)
{
	return c->k_blocks ? c->k_place : NULL;
}

int kv_cache_new(struct kv_cache *c, const struct kernels *k, int n_layers, int n_ctx, int n_heads,
		 int head_dim, bool f32, struct err *e)
{
	struct kv_cache n = {
		.f32 = f32, .k_blocks = !f32 && attend_in_blocks(k, head_dim), .n_layers = n_layers,
		.n_ctx = n_ctx, .n_heads = n_heads, .head_dim = head_dim,
	};
	if (n.k_blocks)
		attend_places(k, head_dim, n.k_place);
	/* not a power of two: channels fall into different sets of the caches */
	n.v_stride = n_ctx + ((size_t)n_ctx * element(&n) % 1024 == 0 ? 32 : 0);
	n.k_bytes = (size_t)n_heads * key_plane(&n);
	n.v_bytes = (size_t)n_heads * value_plane(&n);
	n.k = map_pages(n.k_bytes * (size_t)n_layers);
	n.v = map_pages(n.v_bytes * (size_t)n_layers);
	if (!n.k || !n.v) {
		kv_cache_free(&n);
		return err_set(e, EXIT_INFERENCE,
			       "no memory for a KV cache of %d positions (%zu MiB)", n_ctx,
			       (n.k_bytes + n.v_bytes) * (size_t)n_layers >> 20);
	}
	*c = n;
	return 0;
}

void kv_cache_clear(struct kv_cache *c)
{
	const size_t n = (size_t)c->n_stored * element(c), row = (size_t)c->v_stride * element(c);
	const size_t keys = (size_t)attend_block_cells(c->n_stored) * element(c);
	for (int layer = 0; layer < c->n_layers && n > 0; layer++)
		for (int head = 0; head < c->n_heads; head++) {
			uint8_t *v = kv_cache_values(c, layer, head);
			memset(kv_cache_keys(c, layer, head), 0, keys * (size_t)c->head_dim);
			for (int i = 0; i < c->head_dim; i++)
				memset(v + (size_t)i * row, 0, n);
		}
	c->n_stored = 0;
}

void kv_cache_free(struct kv_cache *c)
{
	if (c->k)
		munmap(c->k, c->k_bytes * (size_t)c->n_layers);
	if (c->v)
		munmap(c->v, c->v_bytes * (size_t)c->n_layers);
	c->k = c->v = NULL;
}

/* ---- attention ---------------------------------------------------------------------------- */

enum { STORE_CHANNELS = 32 };

/* Items are STORE_CHANNELS channels of a head, all rows of it: first those of keys, then of values. */
struct store_job {
	const struct ops *o;
	const struct kv_cache *kv;
	int layer;
	const float *k, *v;		/* [n_rows, n_heads · head_dim] */
	int64_t pos0, n_rows;
	int64_t groups;			/* of channels, all heads */
};

struct channels {
	const float *from;		/* of the first row */
	int64_t head, first, n;
};

static int64_t groups_of_head(const struct kv_cache *c)
{
	return (c->head_dim + STORE_CHANNELS - 1) / STORE_CHANNELS;
}

static struct channels channels_of(const struct store_job *j, const float *x, int64_t group)
{
	const int64_t d = j->kv->head_dim, each = groups_of_head(j->kv);
	struct channels c = {.head = group / each, .first = group % each * STORE_CHANNELS};
	c.n = d - c.first < STORE_CHANNELS ? d - c.first : STORE_CHANNELS;
	c.from = x + c.head * d + c.first;
	return c;
}

/* n values to elements at + apart · place[i], or i where there are no places. */
static void store_values(const struct store_job *j, const float *from, void *to, int64_t at,
			 int64_t apart, const uint8_t *place, int64_t n)
{
	uint16_t half[STORE_CHANNELS];
	if (!j->kv->f32)
		j->o->k->to_f16(from, half, n);
	for (int64_t i = 0; i < n; i++) {
		int64_t to_i = at + apart * (place ? place[i] : i);
		if (j->kv->f32)
			((float *)to)[to_i] = from[i];
		else
			((uint16_t *)to)[to_i] = half[i];
	}
}

static void store_items(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct store_job *j = ctx;
	const struct kv_cache *kv = j->kv;
	const int64_t d = kv->head_dim, width = kv->n_heads * d;
	(void)thread;
	for (int64_t i = begin; i < end; i++) {
		const bool key = i < j->groups;
		struct channels c =
			channels_of(j, key ? j->k : j->v, key ? i : i - j->groups);
		void *keys = kv_cache_keys(kv, j->layer, c.head);
		void *values = kv_cache_values(kv, j->layer, c.head);
		for (int64_t t = 0; t < j->n_rows; t++) {
			const float *from = c.from + t * width;
			const int64_t cell = j->pos0 + t;
			if (!key)
				store_values(j, from, values, c.first * kv->v_stride + cell,
					     kv->v_stride, NULL, c.n);
			else if (kv->k_blocks)
				store_values(j, from, keys, attend_block_at(cell, 0, d),
					     ATTEND_BLOCK, kv->k_place + c.first, c.n);
			else
				store_values(j, from, keys, cell * d + c.first, 1, NULL, c.n);
		}
	}
}

void op_kv_store(struct ops *o, struct kv_cache *kv, int layer, const float *k, const float *v,
		 int64_t pos0, int64_t n_rows)
{
	assert(layer >= 0 && layer < kv->n_layers && pos0 + n_rows <= kv->n_ctx);
	struct store_job j = {
		.o = o, .kv = kv, .layer = layer, .k = k, .v = v, .pos0 = pos0, .n_rows = n_rows,
		.groups = kv->n_heads * groups_of_head(kv),
	};
	team_run(o->team, 2 * j.groups, n_rows == 1 ? j.groups : 1, store_items, &j);
	if (kv->n_stored < pos0 + n_rows)
		kv->n_stored = pos0 + n_rows;
	o->count.kv_store += (uint64_t)n_rows;
}

enum {
	ATTEND_ROWS = 64,	/* queries of one item */
	PARTS_LEAST = 32,	/* cells from which on parts are worth it */
};

struct attend_job {
	const struct ops *o;
	const struct attention *a;
	int heads;		/* query heads of one item, all of one key/value head */
	int64_t rows;		/* rows of one item */
	int64_t blocks;		/* items per group of heads */
	/* few rows: whole key/value heads, and the items of all heads that are done in parts */
	int64_t whole, scores, weights, values;
	atomic_int_least64_t scored, weighed;	/* of these items */
};

static int kv_group(const struct attention *a)
{
	return a->n_head / a->n_kv_head;
}

/* `heads` query heads from `head` on, `rows` rows from `row` on. */
static struct attend attend_of(const struct attend_job *j, int64_t head, int64_t row, int64_t rows,
			       int thread)
{
	const struct attention *a = j->a;
	const int64_t d = a->head_dim, width = a->n_head * d, plane = a->n_rows * a->n_kv;
	const int64_t kv_head = head / kv_group(a);
	const int64_t seen = a->pos0 + row + 1 + a->shift, trace = head * plane + row * a->n_kv;
	return (struct attend){
		.q = a->q + row * width + head * d, .q_stride = width,
		.out = a->out + row * width + head * d, .out_stride = width,
		.n_heads = j->heads, .n_tok = (int)rows, .head_dim = a->head_dim,
		.n_vis = seen < 1 ? 1 : seen, .n_kv = a->n_kv, .n_used = a->n_used,
		.kc = kv_cache_keys(a->kv, a->layer, kv_head), .k_stride = d,
		.k_place = kv_cache_places(a->kv),
		.vc = kv_cache_values(a->kv, a->layer, kv_head), .v_stride = a->kv->v_stride,
		.kv_f32 = a->kv->f32, .scale = a->scale,
		.scores = a->scores ? a->scores + trace : NULL,
		.probs = a->probs ? a->probs + trace : NULL, .trace_stride = plane,
		.scratch = j->o->scratch + (size_t)thread * j->o->scratch_bytes,
	};
}

/* Items are (group of heads, block of rows), rows fastest: neighbours read the same keys. */
static void attend_items(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct attend_job *j = ctx;
	for (int64_t i = begin; i < end; i++) {
		int64_t row = i % j->blocks * j->rows, left = j->a->n_rows - row;
		struct attend one = attend_of(j, i / j->blocks * j->heads, row,
					      left < j->rows ? left : j->rows, thread);
		j->o->k->attend(j->o->k, &one);
	}
}

/* The largest part of a group of query heads that still gives every thread a few items. */
static int heads_per_item(const struct ops *o, const struct attention *a, int64_t blocks)
{
	int group = kv_group(a);
	for (int n = group; n > 1; n--)
		if (group % n == 0 && a->n_head / n * blocks >= 2 * (int64_t)team_size(o->team))
			return n;
	return team_size(o->team) == 1 ? group : 1;
}

/* ---- few rows ----------------------------------------------------------------------------- */

/*
 * Every thread takes as many whole heads, with buffers that stay in its core's caches. The heads that
 * are left are done in parts: scores by cells, weights by queries, values by channels. All are items
 * of one run, begun in this order, so that whoever has done its heads goes on with the parts; only the
 * weights wait for all scores and the values for all weights. While an item is worked through, the
 * one that comes `threads` later is fetched.
 */
static int64_t parts_of(int64_t n, int64_t part)
{
	return (n + part - 1) / part;
}

static int64_t cells_of(const struct attention *a)
{
	return a->pos0 + a->n_rows + a->shift;
}

static int64_t score_parts(const struct attention *a)
{
	return parts_of(cells_of(a), ATTEND_CELLS);
}

static int64_t value_parts(const struct attention *a)
{
	return parts_of(a->head_dim, ATTEND_CHANNELS);
}

static int64_t queries_of(const struct attend_job *j)
{
	return j->heads * j->a->n_rows;
}

static float *shared_of(const struct attend_job *j, int64_t kv_head)
{
	return (float *)(void *)(j->o->shared +
				 (size_t)(kv_head - j->whole) * j->o->shared_bytes);
}

/*
 * All queries of a key/value head. `next` is the place of what is fetched meanwhile among the items
 * that read the cache: whole heads, scores, values.
 */
static struct attend few_of(const struct attend_job *j, int64_t kv_head, int64_t next, int thread)
{
	const struct attention *a = j->a;
	struct attend one = attend_of(j, kv_head * j->heads, 0, a->n_rows, thread);
	int64_t score = next - j->whole, value = score - j->scores;
	if (next < j->whole) {
		one.next_keys = kv_cache_keys(a->kv, a->layer, next);
	} else if (score < j->scores) {
		int64_t head = j->whole + score / score_parts(a);
		int64_t cell = score % score_parts(a) * ATTEND_CELLS;
		one.next_keys = (const uint16_t *)kv_cache_keys(a->kv, a->layer, head) +
				cell * a->head_dim;
	} else if (value < j->values) {
		int64_t head = j->whole + value / value_parts(a);
		int64_t channel = value % value_parts(a) * ATTEND_CHANNELS;
		one.next_values = (const uint16_t *)kv_cache_values(a->kv, a->layer, head) +
				  channel * a->kv->v_stride;
	}
	return one;
}

static void attend_whole(const struct attend_job *j, int64_t kv_head, int thread)
{
	struct attend one = few_of(j, kv_head, kv_head + team_size(j->o->team), thread);
	j->o->k->attend(j->o->k, &one);
}

static void score_part(struct attend_job *j, int64_t part, int thread)
{
	const int64_t next = j->whole + part + team_size(j->o->team), cells = cells_of(j->a);
	int64_t kv_head = j->whole + part / score_parts(j->a);
	int64_t c0 = part % score_parts(j->a) * ATTEND_CELLS, c1 = c0 + ATTEND_CELLS;
	struct attend one = few_of(j, kv_head, next, thread);
	j->o->k->attend_parts->scores(j->o->k, &one, shared_of(j, kv_head), c0,
				      c1 < cells ? c1 : cells);
	atomic_fetch_add_explicit(&j->scored, 1, memory_order_release);
}

static void weigh_part(struct attend_job *j, int64_t part, int thread)
{
	int64_t kv_head = j->whole + part / queries_of(j);
	int q = (int)(part % queries_of(j));
	struct attend one = attend_of(j, kv_head * j->heads, 0, j->a->n_rows, thread);
	team_wait(&j->scored, j->scores);
	j->o->k->attend_parts->weights(j->o->k, &one, shared_of(j, kv_head), q, q + 1);
	atomic_fetch_add_explicit(&j->weighed, 1, memory_order_release);
}

static void value_part(struct attend_job *j, int64_t part, int thread)
{
	const int64_t next = j->whole + j->scores + part + team_size(j->o->team);
	const int d = j->a->head_dim;
	int64_t kv_head = j->whole + part / value_parts(j->a);
	int i0 = (int)(part % value_parts(j->a)) * ATTEND_CHANNELS, i1 = i0 + ATTEND_CHANNELS;
	struct attend one = few_of(j, kv_head, next, thread);
	team_wait(&j->weighed, j->weights);
	j->o->k->attend_parts->values(j->o->k, &one, shared_of(j, kv_head), i0, i1 < d ? i1 : d);
}

static void few_items(void *ctx, int64_t begin, int64_t end, int thread)
{
	struct attend_job *j = ctx;
	for (int64_t i = begin; i < end; i++) {
		int64_t score = i - j->whole, weight = score - j->scores;
		if (i < j->whole)
			attend_whole(j, i, thread);
		else if (score < j->scores)
			score_part(j, score, thread);
		else if (weight < j->weights)
			weigh_part(j, weight, thread);
		else
			value_part(j, weight - j->weights, thread);
	}
}

static bool few_rows(const struct attend_job *j)
{
	const struct attention *a = j->a;
	return a->kv->k_blocks && !a->scores && queries_of(j) <= ATTEND_QUERIES &&
	       cells_of(a) >= PARTS_LEAST;
}

static void attend_few(struct ops *o, struct attend_job *j)
{
	const struct attention *a = j->a;
	const int threads = team_size(o->team);
	j->whole = a->n_kv_head / threads * threads;
	const int64_t left = a->n_kv_head - j->whole;
	j->scores = left * score_parts(a);
	j->weights = left * queries_of(j);
	j->values = left * value_parts(a);
	for (int64_t h = j->whole; h < a->n_kv_head; h++) {
		struct attend one = attend_of(j, h * j->heads, 0, a->n_rows, 0);
		o->k->attend_parts->queries(&one, shared_of(j, h));
	}
	team_run_in_order(o->team, j->whole + j->scores + j->weights + j->values, few_items, j);
}

void op_attend(struct ops *o, const struct attention *a)
{
	const int group = kv_group(a);
	if (a->n_rows <= 0)
		return;
	struct attend_job j = {.o = o, .a = a, .heads = group, .rows = a->n_rows, .blocks = 1};
	if (few_rows(&j)) {
		attend_few(o, &j);
	} else {
		j.rows = group < ATTEND_ROWS ? ATTEND_ROWS / group : 1;
		j.blocks = (a->n_rows + j.rows - 1) / j.rows;
		j.heads = heads_per_item(o, a, j.blocks);
		team_run(o->team, j.blocks * (a->n_head / j.heads), 1, attend_items, &j);
	}
	*(a->kv->f32 ? &o->count.attend_f32 : &o->count.attend_f16) +=
		(uint64_t)(a->n_rows * a->n_head);
}
