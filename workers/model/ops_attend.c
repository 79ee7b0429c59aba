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
	return (size_t)c->n_ctx * (size_t)c->head_dim * element(c);
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

int kv_cache_new(struct kv_cache *c, int n_layers, int n_ctx, int n_heads, int head_dim, bool f32,
		 struct err *e)
{
	struct kv_cache n = {
		.f32 = f32, .n_layers = n_layers, .n_ctx = n_ctx, .n_heads = n_heads,
		.head_dim = head_dim,
	};
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
	for (int layer = 0; layer < c->n_layers && n > 0; layer++)
		for (int head = 0; head < c->n_heads; head++) {
			uint8_t *v = kv_cache_values(c, layer, head);
			memset(kv_cache_keys(c, layer, head), 0, n * (size_t)c->head_dim);
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

struct store_job {
	const struct ops *o;
	const struct kv_cache *kv;
	int layer;
	const float *k, *v;
	int64_t pos0, n_rows;
};

static int kv_width(const struct kv_cache *c)
{
	return c->n_heads * c->head_dim;
}

static void store_k(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct store_job *j = ctx;
	(void)thread;
	const int64_t d = j->kv->head_dim, width = kv_width(j->kv);
	for (int64_t t = begin; t < end; t++)
		for (int64_t h = 0; h < j->kv->n_heads; h++) {
			void *keys = kv_cache_keys(j->kv, j->layer, h);
			const float *from = j->k + t * width + h * d;
			int64_t at = (j->pos0 + t) * d;
			if (j->kv->f32)
				memcpy((float *)keys + at, from, (size_t)d * sizeof(float));
			else
				j->o->k->to_f16(from, (uint16_t *)keys + at, d);
		}
}

/* Channels [32·begin, 32·end) of all rows, transposed. */
static void store_v(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct store_job *j = ctx;
	(void)thread;
	const int64_t width = kv_width(j->kv), stride = j->kv->v_stride;
	void *vc = kv_cache_values(j->kv, j->layer, 0);
	for (int64_t c0 = begin * STORE_CHANNELS; c0 < end * STORE_CHANNELS && c0 < width;
	     c0 += STORE_CHANNELS) {
		int64_t n = width - c0 < STORE_CHANNELS ? width - c0 : STORE_CHANNELS;
		for (int64_t t = 0; t < j->n_rows; t++) {
			const float *from = j->v + t * width + c0;
			int64_t at = c0 * stride + j->pos0 + t;
			uint16_t half[STORE_CHANNELS];
			if (!j->kv->f32)
				j->o->k->to_f16(from, half, n);
			for (int64_t i = 0; i < n; i++) {
				if (j->kv->f32)
					((float *)vc)[at + i * stride] = from[i];
				else
					((uint16_t *)vc)[at + i * stride] = half[i];
			}
		}
	}
}

void op_kv_store(struct ops *o, struct kv_cache *kv, int layer, const float *k, const float *v,
		 int64_t pos0, int64_t n_rows)
{
	assert(layer >= 0 && layer < kv->n_layers && pos0 + n_rows <= kv->n_ctx);
	struct store_job j = {
		.o = o, .kv = kv, .layer = layer, .k = k, .v = v, .pos0 = pos0, .n_rows = n_rows,
	};
	int64_t groups = (kv_width(kv) + STORE_CHANNELS - 1) / STORE_CHANNELS;
	team_run(o->team, n_rows, op_row_chunk(o, n_rows), store_k, &j);
	team_run(o->team, groups, n_rows == 1 ? groups : 1, store_v, &j);
	if (kv->n_stored < pos0 + n_rows)
		kv->n_stored = pos0 + n_rows;
	o->count.kv_store += (uint64_t)n_rows;
}

enum {
	ATTEND_ROWS = 64,	/* queries of one item */
	PARTS_LEAST = 32,	/* cells from which on parts are worth it */
	PART_CELLS = 32,	/* of one item of scores */
	PART_CHANNELS = 64,	/* of one item of values */
};

struct attend_job {
	const struct ops *o;
	const struct attention *a;
	int heads;		/* query heads of one item, all of one key/value head */
	int64_t rows;		/* rows of one item */
	int64_t blocks;		/* items per group of heads */
	int64_t first;		/* key/value head of those in parts */
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
		.vc = kv_cache_values(a->kv, a->layer, kv_head), .v_stride = a->kv->v_stride,
		.kv_f32 = a->kv->f32, .scale = a->scale,
		.scores = a->scores ? a->scores + trace : NULL,
		.probs = a->probs ? a->probs + trace : NULL, .trace_stride = plane,
		.scratch = j->o->scratch + (size_t)thread * j->o->scratch_bytes,
	};
}

static int64_t cells_of(const struct attention *a)
{
	return a->pos0 + a->n_rows + a->shift;
}

/* What the thread that has `kv_head` reads after it: its next whole head, or its part of the rest. */
static const void *next_keys(const struct attend_job *j, int64_t kv_head)
{
	const int64_t threads = team_size(j->o->team), each = j->first / threads;
	const struct attention *a = j->a;
	if (each == 0)
		return NULL;
	if ((kv_head + 1) % each != 0)
		return kv_cache_keys(a->kv, a->layer, kv_head + 1);
	if (j->first == a->n_kv_head)
		return NULL;
	int64_t cell = cells_of(a) * (kv_head / each) / threads / PART_CELLS * PART_CELLS;
	return (const uint16_t *)kv_cache_keys(a->kv, a->layer, j->first) + cell * a->head_dim;
}

/* Items are (group of heads, block of rows), rows fastest: neighbours read the same keys. */
static void attend_items(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct attend_job *j = ctx;
	for (int64_t i = begin; i < end; i++) {
		int64_t row = i % j->blocks * j->rows, left = j->a->n_rows - row;
		int64_t head = i / j->blocks * j->heads, kv_head = head / kv_group(j->a);
		struct attend one =
			attend_of(j, head, row, left < j->rows ? left : j->rows, thread);
		one.next_keys = next_keys(j, kv_head);
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
 * Every thread takes as many whole heads, with buffers that stay in its core's caches; what is left
 * is done in parts that all threads share.
 */
static float *shared_of(const struct attend_job *j, int64_t kv_head)
{
	return (float *)(void *)(j->o->shared +
				 (size_t)(kv_head - j->first) * j->o->shared_bytes);
}

static int64_t parts_of(int64_t n, int64_t part)
{
	return (n + part - 1) / part;
}

static void score_items(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct attend_job *j = ctx;
	const int64_t cells = cells_of(j->a), parts = parts_of(cells, PART_CELLS);
	for (int64_t i = begin; i < end; i++) {
		int64_t kv_head = j->first + i / parts, c0 = i % parts * PART_CELLS;
		int64_t c1 = c0 + PART_CELLS;
		struct attend one = attend_of(j, kv_head * j->heads, 0, j->a->n_rows, thread);
		j->o->k->attend_parts->scores(j->o->k, &one, shared_of(j, kv_head), c0,
					      c1 < cells ? c1 : cells);
	}
}

static void weight_items(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct attend_job *j = ctx;
	const int n = j->heads * (int)j->a->n_rows;
	for (int64_t i = begin; i < end; i++) {
		int64_t kv_head = j->first + i / n;
		struct attend one = attend_of(j, kv_head * j->heads, 0, j->a->n_rows, thread);
		int q = (int)(i % n);
		j->o->k->attend_parts->weights(j->o->k, &one, shared_of(j, kv_head), q, q + 1);
	}
}

static void value_items(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct attend_job *j = ctx;
	const int d = j->a->head_dim;
	const int64_t parts = parts_of(d, PART_CHANNELS);
	for (int64_t i = begin; i < end; i++) {
		int64_t kv_head = j->first + i / parts;
		struct attend one = attend_of(j, kv_head * j->heads, 0, j->a->n_rows, thread);
		int from = (int)(i % parts) * PART_CHANNELS;
		j->o->k->attend_parts->values(j->o->k, &one, shared_of(j, kv_head), from,
					      from + PART_CHANNELS < d ? from + PART_CHANNELS : d);
	}
}

static bool few_rows(const struct attend_job *j)
{
	const struct attention *a = j->a;
	const struct attend_parts *parts = j->o->k->attend_parts;
	if (!parts || a->scores || a->n_rows * j->heads > ATTEND_QUERIES)
		return false;
	struct attend one = attend_of(j, 0, 0, a->n_rows, 0);
	return one.n_vis + a->n_rows > PARTS_LEAST && parts->fits(j->o->k, &one);
}

static void attend_in_parts(struct ops *o, struct attend_job *j)
{
	const struct attention *a = j->a;
	const int64_t n = a->n_kv_head - j->first;
	for (int64_t h = j->first; h < a->n_kv_head; h++) {
		struct attend one = attend_of(j, h * j->heads, 0, a->n_rows, 0);
		o->k->attend_parts->queries(&one, shared_of(j, h));
	}
	team_run(o->team, n * parts_of(cells_of(a), PART_CELLS), 1, score_items, j);
	team_run(o->team, n * j->heads * a->n_rows, 1, weight_items, j);
	team_run(o->team, n * parts_of(a->head_dim, PART_CHANNELS), 1, value_items, j);
}

void op_attend(struct ops *o, const struct attention *a)
{
	const int group = kv_group(a), threads = team_size(o->team);
	if (a->n_rows <= 0)
		return;
	struct attend_job j = {.o = o, .a = a, .heads = group, .rows = a->n_rows, .blocks = 1};
	if (few_rows(&j)) {
		j.first = a->n_kv_head / threads * threads;
		team_run(o->team, j.first, 1, attend_items, &j);
		attend_in_parts(o, &j);
	} else {
		j.rows = group < ATTEND_ROWS ? ATTEND_ROWS / group : 1;
		j.blocks = (a->n_rows + j.rows - 1) / j.rows;
		j.heads = heads_per_item(o, a, j.blocks);
		team_run(o->team, j.blocks * (a->n_head / j.heads), 1, attend_items, &j);
	}
	*(a->kv->f32 ? &o->count.attend_f32 : &o->count.attend_f16) +=
		(uint64_t)(a->n_rows * a->n_head);
}
