#include "ops.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- shared machinery --------------------------------------------------------------------- */

int ops_init(struct ops *o, const struct kernels *k, struct team *team, int64_t cells_max,
	     int head_dim, int n_kv_head, struct err *e)
{
	const struct attend widest = {.n_kv = cells_max, .head_dim = head_dim};
	memset(o, 0, sizeof(*o));
	o->k = k;
	o->team = team;
	o->scratch_bytes = (attend_scratch_bytes(&widest) + 127) / 128 * 128;
	o->shared_bytes = attend_shared_bytes(&widest);
	size_t bytes = (size_t)team_size(team) * o->scratch_bytes;
	size_t shared = (size_t)n_kv_head * o->shared_bytes;
	o->scratch = aligned_alloc(64, bytes);
	o->shared = aligned_alloc(64, shared);
	if (!o->scratch || !o->shared) {
		ops_free(o);
		return err_set(e, EXIT_INFERENCE, "no memory for attention scores (%zu bytes)",
			       bytes + shared);
	}
	return 0;
}

void ops_free(struct ops *o)
{
	free(o->scratch);
	free(o->shared);
	o->scratch = o->shared = NULL;
}

int64_t op_row_chunk(const struct ops *o, int64_t n_rows)
{
	int64_t chunks = (int64_t)team_size(o->team) * 4;
	return (n_rows + chunks - 1) / chunks;
}

static int type_index(const struct weight_type *t)
{
	ptrdiff_t i = t - weight_types;
	assert(i >= 0 && i < OPS_WEIGHT_TYPES_MAX);
	return (int)i;
}

/* What the row-wise operations share; each uses the fields it needs. */
struct rows {
	const struct ops *o;
	const float *a, *b;
	float *out;
	int64_t n;
	float eps;
	enum activation activation;
	enum act_format format;
	uint8_t *bytes;
	size_t row_bytes;
	const struct weight *w;
	const int32_t *tokens;
	int n_heads, head_dim, n_dims;
	bool neox;
	const struct rope_params *rope;
	int64_t pos0;
};

static void run_rows(struct ops *o, int64_t n_rows, team_fn *fn, struct rows *r)
{
	r->o = o;
	if (n_rows > 0)
		team_run(o->team, n_rows, op_row_chunk(o, n_rows), fn, r);
}

/* ---- row-wise operations ------------------------------------------------------------------ */

static void embed_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct rows *r = ctx;
	(void)thread;
	for (int64_t t = begin; t < end; t++)
		weight_row(r->w, r->tokens[t], r->out + t * r->w->n_in);
}

void op_embed(struct ops *o, const struct weight *w, const int32_t *tokens, int64_t n_rows,
	      float *out)
{
	run_rows(o, n_rows, embed_rows, &(struct rows){.w = w, .tokens = tokens, .out = out});
	o->count.embed[type_index(w->type)] += (uint64_t)n_rows;
}

static void norm_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct rows *r = ctx;
	(void)thread;
	r->o->k->rms_norm(r->o->k, r->a + begin * r->n, r->b, r->eps, r->out + begin * r->n, r->n,
			  end - begin);
}

void op_norm(struct ops *o, const float *in, const float *w, float eps, int64_t n, int64_t n_rows,
	     float *out)
{
	run_rows(o, n_rows, norm_rows,
		 &(struct rows){.a = in, .b = w, .eps = eps, .n = n, .out = out});
	o->count.rms_norm += (uint64_t)n_rows;
}

static void quantize_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct rows *r = ctx;
	(void)thread;
	for (int64_t t = begin; t < end; t++)
		r->o->k->quantize[r->format](r->o->k, r->a + t * r->n,
					     r->bytes + (size_t)t * r->row_bytes, r->n);
}

struct act_rows op_quantize(struct ops *o, enum act_format format, const float *in, int64_t n,
			    int64_t n_rows, uint8_t *dst)
{
	size_t row_bytes = act_row_bytes(format, n);
	if (format == ACT_F32)
		return (struct act_rows){(const uint8_t *)in, row_bytes};
	run_rows(o, n_rows, quantize_rows,
		 &(struct rows){.a = in, .n = n, .format = format, .bytes = dst,
				.row_bytes = row_bytes});
	o->count.quantize[format] += (uint64_t)n_rows;
	return (struct act_rows){dst, row_bytes};
}

static void angle_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct rows *r = ctx;
	(void)thread;
	for (int64_t t = begin; t < end; t++)
		kernels_rope_angles(r->rope, r->pos0 + t, r->out + t * r->rope->n_dims);
}

void op_rope_angles(struct ops *o, const struct rope_params *p, int64_t pos0, int64_t n_rows,
		    float *cs)
{
	run_rows(o, n_rows, angle_rows, &(struct rows){.rope = p, .pos0 = pos0, .out = cs});
}

static void rope_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct rows *r = ctx;
	(void)thread;
	for (int64_t t = begin; t < end; t++)
		r->o->k->rope(r->o->k, r->out + t * r->n_heads * r->head_dim, r->a + t * r->n_dims,
			      r->n_heads, r->head_dim, r->n_dims, r->neox);
}

void op_rope(struct ops *o, float *x, const float *cs, int n_heads, int head_dim, int n_dims,
	     bool neox, int64_t n_rows)
{
	run_rows(o, n_rows, rope_rows,
		 &(struct rows){.out = x, .a = cs, .n_heads = n_heads, .head_dim = head_dim,
				.n_dims = n_dims, .neox = neox});
	*(neox ? &o->count.rope_neox : &o->count.rope_norm) += (uint64_t)n_rows;
}

static void glu_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct rows *r = ctx;
	(void)thread;
	for (int64_t t = begin; t < end; t++)
		r->o->k->glu(r->o->k, r->activation, r->a + t * r->n, r->b + t * r->n,
			     r->out + t * r->n, r->n);
}

void op_glu(struct ops *o, enum activation a, const float *gate, const float *up, float *out,
	    int64_t n, int64_t n_rows)
{
	run_rows(o, n_rows, glu_rows,
		 &(struct rows){.activation = a, .a = gate, .b = up, .out = out, .n = n});
	o->count.glu[a] += (uint64_t)n_rows;
}

static void add_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct rows *r = ctx;
	(void)thread;
	r->o->k->add(r->a + begin * r->n, r->b + begin * r->n, r->out + begin * r->n,
		     (end - begin) * r->n);
}

void op_add(struct ops *o, const float *a, const float *b, float *out, int64_t n, int64_t n_rows)
{
	run_rows(o, n_rows, add_rows, &(struct rows){.a = a, .b = b, .out = out, .n = n});
	o->count.add += (uint64_t)n_rows;
}

/* ---- matrix products ---------------------------------------------------------------------- */

enum {
	ROWS_STEP = 96,				/* of weights: whole panels of every kernel */
	CHUNKS_MIN = 6, CHUNKS_MAX = 12,	/* of each thread */
	TOKENS_STEP = 32,
	TOKENS_BYTES = 1280 << 10,	/* activations that stay in the second-level cache */
};

struct linear_job {
	const struct ops *o;
	const struct op_product *p;
	int n;
	struct act_rows act;
	int64_t n_rows, block;			/* tokens, and how many of them at once */
	int64_t chunk;				/* weight rows at once */
	int64_t first[OPS_LINEAR_MAX + 1];	/* first chunk of each product */
};

static void finish_rows(const struct linear *lin, float *out, int64_t r0, int64_t r1,
			int64_t n_rows)
{
	for (int64_t t = 0; t < n_rows; t++) {
		float *y = out + t * lin->w.n_out;
		if (lin->bias && lin->bias_first)
			for (int64_t r = r0; r < r1; r++)
				y[r] += lin->bias[r];
		if (lin->scale)
			for (int64_t r = r0; r < r1; r++)
				y[r] *= lin->scale[0];
		if (lin->bias && !lin->bias_first)
			for (int64_t r = r0; r < r1; r++)
				y[r] += lin->bias[r];
	}
}

/* One chunk of weight rows against one block of tokens. */
static void linear_chunk(const struct linear_job *j, int64_t chunk, int64_t t0)
{
	int i = 0;
	while (chunk >= j->first[i + 1])
		i++;
	const struct linear *lin = j->p[i].lin;
	int64_t r0 = (chunk - j->first[i]) * j->chunk, r1 = r0 + j->chunk;
	int64_t n = j->n_rows - t0 < j->block ? j->n_rows - t0 : j->block;
	float *out = j->p[i].out + t0 * lin->w.n_out;
	if (r1 > lin->w.n_out)
		r1 = lin->w.n_out;
	j->o->k->matmul(j->o->k, &lin->w, r0, r1, j->act.data + (size_t)t0 * j->act.row_bytes,
			j->act.row_bytes, n, out, lin->w.n_out, j->o->defects);
	if (lin->scale || lin->bias)
		finish_rows(lin, out, r0, r1, n);
}

/* Items are (block of tokens, chunk), chunks fastest: a block stays in the caches. */
static void linear_items(void *ctx, int64_t begin, int64_t end, int thread)
{
	const struct linear_job *j = ctx;
	const int64_t chunks = j->first[j->n];
	(void)thread;
	for (int64_t i = begin; i < end; i++)
		linear_chunk(j, i % chunks, i / chunks * j->block);
}

/* Tokens of equal blocks that fit TOKENS_BYTES. */
static int64_t linear_block(size_t row_bytes, int64_t n_rows)
{
	int64_t bytes = (int64_t)row_bytes * n_rows;
	int64_t blocks = (bytes + TOKENS_BYTES - 1) / TOKENS_BYTES;
	int64_t block = (n_rows + blocks - 1) / blocks;
	return (block + TOKENS_STEP - 1) / TOKENS_STEP * TOKENS_STEP;
}

/* Chunks of `chunk` rows of all products; `first`, when wanted: the first of each product. */
static int64_t count_chunks(const struct op_product *p, int n, int64_t chunk, int64_t *first)
{
	int64_t chunks = 0;
	for (int i = 0; i < n; i++) {
		if (first)
			first[i] = chunks;
		chunks += (p[i].lin->w.n_out + chunk - 1) / chunk;
	}
	if (first)
		first[n] = chunks;
	return chunks;
}

/* Rows of a chunk, whole panels of the kernels, so that the busiest thread has least to do. */
static int64_t chunk_rows(const struct ops *o, const struct op_product *p, int n)
{
	const int64_t threads = team_size(o->team);
	int64_t total = 0, best = 0, best_rows = INT64_MAX;
	for (int i = 0; i < n; i++)
		total += p[i].lin->w.n_out;
	for (int64_t c = CHUNKS_MIN; c <= CHUNKS_MAX; c++) {
		int64_t panels = total / (threads * c * ROWS_STEP);
		int64_t chunk = (panels > 0 ? panels : 1) * ROWS_STEP;
		int64_t rounds = (count_chunks(p, n, chunk, NULL) + threads - 1) / threads;
		if (rounds * chunk < best_rows) {
			best_rows = rounds * chunk;
			best = chunk;
		}
	}
	return best;
}

void op_linear(struct ops *o, const struct op_product *p, int n, struct act_rows act,
	       int64_t n_rows)
{
	assert(n >= 1 && n <= OPS_LINEAR_MAX);
	if (n_rows <= 0)
		return;
	struct linear_job j = {.o = o, .p = p, .n = n, .act = act, .n_rows = n_rows};
	j.chunk = chunk_rows(o, p, n);
	j.block = linear_block(act.row_bytes, n_rows);
	count_chunks(p, n, j.chunk, j.first);
	for (int i = 0; i < n; i++)
		o->count.matmul[type_index(p[i].lin->w.type)] += (uint64_t)n_rows;
	int64_t blocks = (n_rows + j.block - 1) / j.block;
	team_run(o->team, blocks * j.first[n], 1, linear_items, &j);
}

/* ---- counters ----------------------------------------------------------------------------- */

static void count_one(engine_counter_fn *fn, void *ctx, const char *what, const char *kind,
		      uint64_t calls)
{
	char name[64];
	if (calls == 0)
		return;
	snprintf(name, sizeof(name), "%s%s%s", what, kind ? "_" : "", kind ? kind : "");
	fn(ctx, name, calls);
}

void op_counts_each(const struct op_counts *c, engine_counter_fn *fn, void *ctx)
{
	static const char *const acts[ACT_COUNT] = {
		[ACT_F32] = "f32", [ACT_F16] = "f16", [ACT_BF16] = "bf16", [ACT_Q8_0] = "q8_0",
		[ACT_Q8_1] = "q8_1", [ACT_Q8_K] = "q8_k", [ACT_I8] = "i8", [ACT_TL] = "tl",
	};
	for (int i = 0; weight_types[i].name && i < OPS_WEIGHT_TYPES_MAX; i++) {
		count_one(fn, ctx, "embed", weight_types[i].name, c->embed[i]);
		count_one(fn, ctx, "matmul", weight_types[i].name, c->matmul[i]);
	}
	for (int i = 0; i < ACT_COUNT; i++)
		count_one(fn, ctx, "quantize", acts[i], c->quantize[i]);
	count_one(fn, ctx, "rms_norm", NULL, c->rms_norm);
	count_one(fn, ctx, "rope_neox", NULL, c->rope_neox);
	count_one(fn, ctx, "rope_norm", NULL, c->rope_norm);
	count_one(fn, ctx, "kv_store", NULL, c->kv_store);
	count_one(fn, ctx, "attend_f16", NULL, c->attend_f16);
	count_one(fn, ctx, "attend_f32", NULL, c->attend_f32);
	count_one(fn, ctx, "glu_silu", NULL, c->glu[ACTIVATION_SILU]);
	count_one(fn, ctx, "glu_relu2", NULL, c->glu[ACTIVATION_RELU2]);
	count_one(fn, ctx, "add", NULL, c->add);
	count_one(fn, ctx, "softmax", NULL, c->softmax);
	count_one(fn, ctx, "dot", NULL, c->dot);
}
