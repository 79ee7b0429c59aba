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

int kv_cache_new(struct kv_cache *c, int n_layers, int n_ctx, int width, bool f32, struct err *e)
{
	const size_t elem = f32 ? 4 : 2;
	struct kv_cache n = {
		.f32 = f32, .n_layers = n_layers, .n_ctx = n_ctx, .width = width,
		/* not a power of two: channels fall into different sets of the caches */
		.v_stride = n_ctx + ((size_t)n_ctx * elem % 1024 == 0 ? 32 : 0),
	};
	n.k_bytes = (size_t)n_ctx * (size_t)width * elem;
	n.v_bytes = (size_t)n.v_stride * (size_t)width * elem;
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
	const size_t elem = c->f32 ? 4 : 2, n = (size_t)c->n_stored * elem;
	for (int layer = 0; layer < c->n_layers && n > 0; layer++) {
		uint8_t *v = c->v + (size_t)layer * c->v_bytes;
		memset(c->k + (size_t)layer * c->k_bytes, 0, n * (size_t)c->width);
		for (int i = 0; i < c->width; i++)
			memset(v + (size_t)i * (size_t)c->v_stride * elem, 0, n);
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
	uint8_t *kc, *vc;
	const float *k, *v;
	int64_t pos0, n_rows;
};

static void store_k(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct store_job *j = ctx;
	(void)thread;
	const int64_t width = j->kv->width, n = (end - begin) * width;
	const float *from = j->k + begin * width;
	size_t at = (size_t)((j->pos0 + begin) * width);
	if (j->kv->f32)
		memcpy((float *)(void *)j->kc + at, from, (size_t)n * sizeof(float));
	else
		j->o->k->to_f16(from, (uint16_t *)(void *)j->kc + at, n);
}

/* Channels [32·begin, 32·end) of all rows, transposed. */
static void store_v(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct store_job *j = ctx;
	(void)thread;
	const int64_t width = j->kv->width, stride = j->kv->v_stride;
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
					((float *)(void *)j->vc)[at + i * stride] = from[i];
				else
					((uint16_t *)(void *)j->vc)[at + i * stride] = half[i];
			}
		}
	}
}

void op_kv_store(struct ops *o, struct kv_cache *kv, int layer, const float *k, const float *v,
		 int64_t pos0, int64_t n_rows)
{
	assert(layer >= 0 && layer < kv->n_layers && pos0 + n_rows <= kv->n_ctx);
	struct store_job j = {
		.o = o,
		.kv = kv,
		.k = k,
		.v = v,
		.pos0 = pos0,
		.n_rows = n_rows,
		.kc = kv->k + (size_t)layer * kv->k_bytes,
		.vc = kv->v + (size_t)layer * kv->v_bytes,
	};
	int64_t groups = (kv->width + STORE_CHANNELS - 1) / STORE_CHANNELS;
	team_run(o->team, n_rows, op_row_chunk(o, n_rows), store_k, &j);
	team_run(o->team, groups, n_rows == 1 ? groups : 1, store_v, &j);
	if (kv->n_stored < pos0 + n_rows)
		kv->n_stored = pos0 + n_rows;
	o->count.kv_store += (uint64_t)n_rows;
}

enum {
	ATTEND_ROWS = 64,	/* queries of one item */
	PART_CELLS = 32,	/* of one item of scores */
	PART_CHANNELS = 64,	/* of one item of values */
};

struct attend_job {
	const struct ops *o;
	const struct attention *a;
	const uint8_t *kc, *vc;
	int heads;		/* query heads of one item, all of one key/value head */
	int64_t rows;		/* rows of one item */
	int64_t blocks;		/* items per group of heads */
};

/* `heads` query heads from `head` on, `rows` rows from `row` on. */
static struct attend attend_of(const struct attend_job *j, int64_t head, int64_t row, int64_t rows,
			       int thread)
{
	const struct attention *a = j->a;
	const size_t elem = a->kv->f32 ? 4 : 2;
	const int64_t d = a->head_dim, width = a->n_head * d, plane = a->n_rows * a->n_kv;
	const int64_t kv_head = head / (a->n_head / a->n_kv_head);
	const int64_t seen = a->pos0 + row + 1 + a->shift, trace = head * plane + row * a->n_kv;
	return (struct attend){
		.q = a->q + row * width + head * d, .q_stride = width,
		.out = a->out + row * width + head * d, .out_stride = width,
		.n_heads = j->heads, .n_tok = (int)rows, .head_dim = a->head_dim,
		.n_vis = seen < 1 ? 1 : seen, .n_kv = a->n_kv, .n_used = a->n_used,
		.kc = j->kc + (size_t)(kv_head * d) * elem, .k_stride = a->kv->width,
		.vc = j->vc + (size_t)(kv_head * d * a->kv->v_stride) * elem,
		.v_stride = a->kv->v_stride, .kv_f32 = a->kv->f32, .scale = a->scale,
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
	int group = a->n_head / a->n_kv_head;
	for (int n = group; n > 1; n--)
		if (group % n == 0 && a->n_head / n * blocks >= 2 * (int64_t)team_size(o->team))
			return n;
	return team_size(o->team) == 1 ? group : 1;
}

/* ---- attention in parts: few rows, so that whole heads would not keep all threads busy --------- */

static float *shared_of(const struct attend_job *j, int64_t kv_head)
{
	return (float *)(void *)(j->o->shared + (size_t)kv_head * j->o->shared_bytes);
}

/* Items are blocks of cells, in each all heads: keys are read as they lie. */
static void score_items(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct attend_job *j = ctx;
	const struct attention *a = j->a;
	for (int64_t i = begin; i < end; i++)
		for (int64_t h = 0; h < a->n_kv_head; h++) {
			struct attend one = attend_of(j, h * j->heads, 0, a->n_rows, thread);
			int64_t c0 = i * PART_CELLS, c1 = c0 + PART_CELLS;
			int64_t n = one.n_vis + a->n_rows - 1;
			/* the same cells of the next head, at last the next cells of the first */
			bool last = h + 1 == a->n_kv_head;
			const uint16_t *next = (const uint16_t *)(last ? j->kc : one.kc);
			next += last ? c1 * one.k_stride : c0 * one.k_stride + a->head_dim;
			j->o->k->attend_parts->scores(j->o->k, &one, shared_of(j, h), c0,
						      c1 < n ? c1 : n, next);
		}
}

static void weight_items(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct attend_job *j = ctx;
	const int n = j->heads * (int)j->a->n_rows;
	for (int64_t i = begin; i < end; i++) {
		struct attend one = attend_of(j, i / n * j->heads, 0, j->a->n_rows, thread);
		int q = (int)(i % n);
		j->o->k->attend_parts->weights(j->o->k, &one, shared_of(j, i / n), q, q + 1);
	}
}

static void value_items(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct attend_job *j = ctx;
	const int d = j->a->head_dim, parts = (d + PART_CHANNELS - 1) / PART_CHANNELS;
	for (int64_t i = begin; i < end; i++) {
		int64_t kv_head = i / parts;
		struct attend one = attend_of(j, kv_head * j->heads, 0, j->a->n_rows, thread);
		int from = (int)(i % parts) * PART_CHANNELS;
		j->o->k->attend_parts->values(j->o->k, &one, shared_of(j, kv_head), from,
					      from + PART_CHANNELS < d ? from + PART_CHANNELS : d);
	}
}

static bool in_parts(struct attend_job *j)
{
	const struct attention *a = j->a;
	const struct attend_parts *parts = j->o->k->attend_parts;
	j->heads = a->n_head / a->n_kv_head;
	if (!parts || a->scores || team_size(j->o->team) == 1 ||
	    a->n_rows * j->heads > ATTEND_QUERIES)
		return false;
	struct attend one = attend_of(j, 0, 0, a->n_rows, 0);
	return one.n_vis + a->n_rows > PART_CELLS && parts->fits(j->o->k, &one);
}

static void attend_in_parts(struct ops *o, struct attend_job *j)
{
	const struct attention *a = j->a;
	const int64_t cells = a->pos0 + a->n_rows + a->shift;
	team_run(o->team, (cells + PART_CELLS - 1) / PART_CELLS, 1, score_items, j);
	team_run(o->team, a->n_head * a->n_rows, 1, weight_items, j);
	team_run(o->team, a->n_kv_head * ((a->head_dim + PART_CHANNELS - 1) / PART_CHANNELS), 1,
		 value_items, j);
}

void op_attend(struct ops *o, const struct attention *a)
{
	if (a->n_rows <= 0)
		return;
	struct attend_job j = {
		.o = o, .a = a, .kc = a->kv->k + (size_t)a->layer * a->kv->k_bytes,
		.vc = a->kv->v + (size_t)a->layer * a->kv->v_bytes,
	};
	if (in_parts(&j)) {
		attend_in_parts(o, &j);
	} else {
		const int group = a->n_head / a->n_kv_head;
		j.rows = group < ATTEND_ROWS ? ATTEND_ROWS / group : 1;
		j.blocks = (a->n_rows + j.rows - 1) / j.rows;
		j.heads = heads_per_item(o, a, j.blocks);
		team_run(o->team, j.blocks * (a->n_head / j.heads), 1, attend_items, &j);
	}
	*(a->kv->f32 ? &o->count.attend_f32 : &o->count.attend_f16) +=
		(uint64_t)(a->n_rows * a->n_head);
}
