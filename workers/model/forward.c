#include "forward.h"

#include <stdlib.h>
#include <string.h>

/* ---- tracing ------------------------------------------------------------------------------ */

static bool traced(const struct forward_call *c, enum trace_stage stage)
{
	return c->trace_stages >> stage & 1;
}

static int emit(const struct forward_call *c, enum trace_stage stage, int layer, int n_dims,
		const int64_t *shape, const float *values)
{
	struct trace_record r;
	trace_describe(&r, stage, layer, c->seq, "f32", n_dims, shape, values);
	return c->on_trace(c->ctx, &r, c->trace_values ? values : NULL);
}

/* Rows of `width` values; costs one test when the stage is not wanted. */
static int offer(const struct forward_call *c, enum trace_stage stage, int layer, int64_t n_rows,
		 int64_t width, const float *values)
{
	if (!traced(c, stage) || n_rows == 0)
		return 0;
	return emit(c, stage, layer, 2, (const int64_t[]){n_rows, width}, values);
}

/* [n_head, n_rows, n_kv] as the kernels wrote it becomes [n_rows, n_head, cells], with the masked
 * cells of each row 0. */
static int offer_cells(const struct forward_call *c, enum trace_stage stage, int layer,
		       const struct attention *a, const float *values)
{
	if (!traced(c, stage))
		return 0;
	const int64_t cells = a->n_used;
	float *out = calloc((size_t)(a->n_rows * a->n_head * cells), sizeof(float));
	if (!out)
		return -EXIT_INFERENCE;
	for (int64_t row = 0; row < a->n_rows; row++)
		for (int64_t head = 0; head < a->n_head; head++)
			memcpy(out + (row * a->n_head + head) * cells,
			       values + (head * a->n_rows + row) * a->n_kv,
			       (size_t)(a->pos0 + row + 1) * sizeof(float));
	int rc = emit(c, stage, layer, 3, (const int64_t[]){a->n_rows, a->n_head, cells}, out);
	free(out);
	return rc;
}

#define OFFER(...)                                                                          \
	do {                                                                                \
		int rc_ = offer(__VA_ARGS__);                                               \
		if (rc_ != 0)                                                               \
			return rc_;                                                         \
	} while (0)

/* ---- a layer ------------------------------------------------------------------------------ */

/* Products of the same rows; weights that want another form of the rows get their own pass. */
static void products(struct session *s, const struct op_product *p, int n, const float *in,
		     int64_t n_in, int64_t n_rows)
{
	bool done[OPS_LINEAR_MAX] = {false};
	for (int i = 0; i < n; i++) {
		struct op_product same[OPS_LINEAR_MAX];
		int k = 0;
		for (int j = i; j < n; j++) {
			if (done[j] || p[j].lin->w.type->act != p[i].lin->w.type->act)
				continue;
			done[j] = true;
			same[k++] = p[j];
		}
		if (k == 0)
			continue;
		struct act_rows act = op_quantize(&s->ops, p[i].lin->w.type->act, in, n_in, n_rows,
						  s->act);
		op_linear(&s->ops, same, k, act, n_rows);
	}
}

/* Which rows a layer carries on with: all, or in the last layer only the wanted ones. */
struct span {
	int64_t first, n;
};

static int attend_rows(struct session *s, const struct forward_call *c, int il, struct span w)
{
	const struct hparams *h = &s->m->hp;
	const int64_t q_dim = (int64_t)h->n_head * h->head_dim;
	struct attention a = {
		.kv = &s->kv,
		.layer = il,
		.n_head = h->n_head,
		.n_kv_head = h->n_kv_head,
		.head_dim = h->head_dim,
		.scale = h->attn_scale,
		.pos0 = c->pos0 + w.first,
		.n_rows = w.n,
		.n_used = c->pos0 + c->n,
		.n_kv = session_n_kv(s, c->pos0 + c->n),
		.q = s->q + w.first * q_dim,
		.out = s->heads + w.first * q_dim,
	};
	const bool keep = traced(c, STAGE_ATTN_SCORES) || traced(c, STAGE_ATTN_SOFTMAX);
	if (keep) {
		size_t n = (size_t)(a.n_rows * a.n_head * a.n_kv);
		a.scores = malloc(n * 2 * sizeof(float));
		if (!a.scores)
			return -EXIT_INFERENCE;
		a.probs = a.scores + n;
	}
	op_attend(&s->ops, &a);
	int rc = 0;
	if (keep) {
		rc = offer_cells(c, STAGE_ATTN_SCORES, il, &a, a.scores);
		if (rc == 0)
			rc = offer_cells(c, STAGE_ATTN_SOFTMAX, il, &a, a.probs);
		free(a.scores);
	}
	return rc;
}

static int attention(struct session *s, const struct forward_call *c, int il, struct span w)
{
	const struct hparams *h = &s->m->hp;
	const struct layer *l = &s->m->layers[il];
	const int64_t d = h->head_dim, q_dim = h->n_head * d, kv_dim = h->n_kv_head * d, n = c->n;
	const int64_t e = h->n_embd;
	float *q = s->q + w.first * q_dim, *heads = s->heads + w.first * q_dim;
	const float *cs = s->cs + w.first * h->rope.n_dims;
	op_norm(&s->ops, s->x, l->attn_norm, h->norm_eps, e, n, s->norm);
	OFFER(c, STAGE_ATTN_NORM, il, n, e, s->norm);
	if (w.n == n) {
		products(s, (struct op_product[]){{&l->q, q}, {&l->k, s->kcur}, {&l->v, s->v}}, 3,
			 s->norm, e, n);
	} else {
		products(s, (struct op_product[]){{&l->k, s->kcur}, {&l->v, s->v}}, 2, s->norm, e,
			 n);
		if (w.n > 0)
			products(s, (struct op_product[]){{&l->q, q}}, 1, s->norm + w.first * e, e,
				 w.n);
	}
	OFFER(c, STAGE_Q, il, w.n, q_dim, q);
	OFFER(c, STAGE_K, il, n, kv_dim, s->kcur);
	OFFER(c, STAGE_V, il, n, kv_dim, s->v);
	if (l->q_norm) {
		op_norm(&s->ops, q, l->q_norm, h->norm_eps, d, w.n * h->n_head, q);
		OFFER(c, STAGE_Q_NORM, il, w.n, q_dim, q);
	}
	if (l->k_norm) {
		op_norm(&s->ops, s->kcur, l->k_norm, h->norm_eps, d, n * h->n_kv_head, s->kcur);
		OFFER(c, STAGE_K_NORM, il, n, kv_dim, s->kcur);
	}
	op_rope(&s->ops, q, cs, h->n_head, h->head_dim, h->rope.n_dims, h->neox, w.n);
	OFFER(c, STAGE_Q_ROPE, il, w.n, q_dim, q);
	op_rope(&s->ops, s->kcur, s->cs, h->n_kv_head, h->head_dim, h->rope.n_dims, h->neox, n);
	OFFER(c, STAGE_K_ROPE, il, n, kv_dim, s->kcur);
	op_kv_store(&s->ops, &s->kv, il, s->kcur, s->v, c->pos0, n);
	if (w.n == 0)
		return 0;
	int rc = attend_rows(s, c, il, w);
	if (rc != 0)
		return rc;
	OFFER(c, STAGE_ATTN_OUT_HEADS, il, w.n, q_dim, heads);
	if (l->attn_sub_norm) {
		op_norm(&s->ops, heads, l->attn_sub_norm, h->norm_eps, q_dim, w.n, heads);
		OFFER(c, STAGE_ATTN_SUB_NORM, il, w.n, q_dim, heads);
	}
	float *o = s->norm + w.first * e, *x = s->x + w.first * e;
	products(s, (struct op_product[]){{&l->o, o}}, 1, heads, q_dim, w.n);
	OFFER(c, STAGE_ATTN_O, il, w.n, e, o);
	op_add(&s->ops, o, x, x, e, w.n);
	OFFER(c, STAGE_ATTN_RESIDUAL, il, w.n, e, x);
	return 0;
}

static int feed_forward(struct session *s, const struct forward_call *c, int il, struct span w)
{
	const struct hparams *h = &s->m->hp;
	const struct layer *l = &s->m->layers[il];
	const int64_t e = h->n_embd, f = h->n_ff;
	float *x = s->x + w.first * e, *norm = s->norm + w.first * e;
	op_norm(&s->ops, x, l->ffn_norm, h->norm_eps, e, w.n, norm);
	OFFER(c, STAGE_FFN_NORM, il, w.n, e, norm);
	products(s, (struct op_product[]){{&l->gate, s->gate}, {&l->up, s->up}}, 2, norm, e, w.n);
	OFFER(c, STAGE_FFN_GATE, il, w.n, f, s->gate);
	OFFER(c, STAGE_FFN_UP, il, w.n, f, s->up);
	op_glu(&s->ops, h->activation, s->gate, s->up, s->gate, f, w.n);
	OFFER(c, STAGE_FFN_ACT, il, w.n, f, s->gate);
	if (l->ffn_sub_norm) {
		op_norm(&s->ops, s->gate, l->ffn_sub_norm, h->norm_eps, f, w.n, s->gate);
		OFFER(c, STAGE_FFN_SUB_NORM, il, w.n, f, s->gate);
	}
	products(s, (struct op_product[]){{&l->down, norm}}, 1, s->gate, f, w.n);
	OFFER(c, STAGE_FFN_DOWN, il, w.n, e, norm);
	op_add(&s->ops, norm, x, x, e, w.n);
	return 0;
}

/* Replaces the residual stream after splice_layer (−1: the embeddings). */
static void splice(struct session *s, const struct forward_call *c, int il)
{
	if (c->splice && c->splice_layer == il)
		memcpy(s->x, c->splice, (size_t)c->n * (size_t)s->m->hp.n_embd * sizeof(float));
}

/* ---- the head ----------------------------------------------------------------------------- */

/* Logits of the wanted rows, as many rows at once as the shared block holds, handed out by row. */
static int head(struct session *s, const struct forward_call *c, forward_logits_fn *fn, void *ctx)
{
	const struct hparams *h = &s->m->hp;
	const int64_t e = h->n_embd, vocab = h->n_vocab, first = c->first_out, n = c->n - first;
	float *norm = s->norm + first * e;
	op_norm(&s->ops, s->x + first * e, s->m->output_norm, h->norm_eps, e, n, norm);
	OFFER(c, STAGE_OUTPUT_NORM, -1, n, e, norm);
	const bool whole = traced(c, STAGE_LOGITS);
	if (!fn && !whole)
		return 0;
	int64_t step = (int64_t)(s->block_floats / (size_t)vocab);
	float *all = s->block;
	if (whole) {	/* a record hashes the tensor as one, so here it is held as one */
		step = n;
		all = malloc((size_t)(n * vocab) * sizeof(float));
		if (!all)
			return -EXIT_INFERENCE;
	}
	int rc = 0;
	for (int64_t r0 = 0; r0 < n && rc == 0; r0 += step) {
		int64_t rows = n - r0 < step ? n - r0 : step;
		products(s, (struct op_product[]){{&s->m->output, all}}, 1, norm + r0 * e, e, rows);
		if (whole)
			rc = offer(c, STAGE_LOGITS, -1, n, vocab, all);
		for (int64_t t = 0; t < rows && rc == 0 && fn; t++)
			rc = fn(ctx, (int)(first + r0 + t), all + t * vocab);
	}
	if (whole)
		free(all);
	return rc;
}

/* ---- one call ----------------------------------------------------------------------------- */

static int check_tokens(const struct session *s, const struct forward_call *c, struct err *e)
{
	for (int i = 0; i < c->n; i++)
		if (c->tokens[i] < 0 || c->tokens[i] >= s->m->hp.n_vocab)
			return err_set(e, EXIT_INFERENCE,
				       "token %d at position %d is outside the vocabulary of %d",
				       c->tokens[i], c->pos0 + i, s->m->hp.n_vocab);
	if (c->pos0 + c->n > s->n_ctx)
		return err_set(
			e, EXIT_INFERENCE,
			"position %d is beyond the context of %d positions; open the model with a larger one",
			c->pos0 + c->n - 1, s->n_ctx);
	return 0;
}

static int run_layers(struct session *s, const struct forward_call *c)
{
	const struct hparams *h = &s->m->hp;
	const bool cut = c->trace_stages == 0 && !c->splice;
	op_rope_angles(&s->ops, &h->rope, c->pos0, c->n, s->cs);
	op_embed(&s->ops, &s->m->embd, c->tokens, c->n, s->x);
	splice(s, c, -1);
	OFFER(c, STAGE_EMBEDDINGS, -1, c->n, h->n_embd, s->x);
	for (int il = 0; il < h->n_layer; il++) {
		struct span w = {0, c->n};
		if (cut && il == h->n_layer - 1)
			w = (struct span){c->first_out, c->n - c->first_out};
		int rc = attention(s, c, il, w);
		if (rc == 0 && w.n > 0)
			rc = feed_forward(s, c, il, w);
		if (rc != 0)
			return rc;
		splice(s, c, il);
		OFFER(c, STAGE_LAYER_OUT, il, w.n, h->n_embd, s->x + w.first * h->n_embd);
	}
	return 0;
}

int forward_run(struct session *s, const struct forward_call *c, forward_logits_fn *fn, void *ctx,
		struct err *e)
{
	int rc = check_tokens(s, c, e);
	if (rc == 0)
		rc = run_layers(s, c);
	if (rc == 0 && c->first_out < c->n)
		rc = head(s, c, fn, ctx);
	if (rc < 0 && e->code == 0)
		return err_set(e, EXIT_INFERENCE, "no memory for a trace of %d positions", c->n);
	return rc;
}
