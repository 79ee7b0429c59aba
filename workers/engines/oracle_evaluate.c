/* The forward pass of the oracle: a list of the operations of oracle_ops.h, and decoding. */
#include "oracle.h"

#include "sample.h"

#include <stdlib.h>
#include <string.h>

/* ---- traces ------------------------------------------------------------------------------- */

int oracle_trace(const struct oracle_trace *t, enum trace_stage stage, int layer, int n_dims,
		 const int64_t *shape, const double *x, struct err *e)
{
	struct trace_record r;
	int64_t n = 1;

	if (!t->fn || !(t->stages >> stage & 1))
		return 0;
	for (int d = 0; d < n_dims; d++)
		n *= shape[d];
	float *f = malloc((size_t)n * sizeof(*f));

	if (!f)
		return err_set(e, EXIT_INFERENCE, "no memory for a trace of %lld values",
			       (long long)n);
	for (int64_t i = 0; i < n; i++)
		f[i] = (float)x[i];
	trace_describe(&r, stage, layer, t->seq, "f64", n_dims, shape, f);
	int rc = t->fn(t->ctx, &r, t->values ? f : NULL);

	free(f);
	return rc;
}

/* ---- one call over n positions ------------------------------------------------------------ */

struct pass {
	struct engine *g;
	struct oracle_trace trace;
	const int32_t *tokens;
	int64_t n, pos0;
	const float *splice;	/* [n, n_embd] or NULL */
	int splice_layer;
	int rc;			/* sticky: what a trace callback returned */
	struct err *e;
	double *x;		/* [n, n_embd] the residual stream */
	double *a, *b;		/* [n, widest] working rows */
	double *q;		/* [n, n_head · d] */
	double *scores, *probs;	/* [n, n_head, cells] */
};

static void show(struct pass *p, enum trace_stage stage, int layer, int64_t width, const double *x)
{
	if (p->rc == 0)
		p->rc = oracle_trace(&p->trace, stage, layer, 2, (const int64_t[]){p->n, width}, x,
				     p->e);
}

static void product(struct pass *p, const struct linear *l, const double *x, double *y)
{
	oracle_linear(p->g->team, l, x, p->n, p->g->scratch, y);
	p->g->calls[ORACLE_LINEAR] += (uint64_t)p->n;
}

static void norm(struct pass *p, const double *x, const float *w, int64_t width, int64_t rows,
		 double *y)
{
	oracle_norm(x, w, (double)p->g->model.hp.norm_eps, width, rows, y);
	p->g->calls[ORACLE_NORM] += (uint64_t)rows;
}

static void rope(struct pass *p, double *x, int n_heads)
{
	const struct hparams *h = &p->g->model.hp;

	oracle_rope(x, &h->rope, h->neox, p->pos0, p->n, n_heads, h->head_dim);
	p->g->calls[ORACLE_ROPE] += (uint64_t)p->n;
}

/* Queries to p->q, keys and values into the cache. */
static void project(struct pass *p, int il, double *k, double *v)
{
	const struct hparams *h = &p->g->model.hp;
	const struct layer *l = &p->g->model.layers[il];
	int64_t d = h->head_dim, q_dim = h->n_head * d, kv_dim = h->n_kv_head * d;

	norm(p, p->x, l->attn_norm, h->n_embd, p->n, p->a);
	show(p, STAGE_ATTN_NORM, il, h->n_embd, p->a);
	product(p, &l->q, p->a, p->q);
	product(p, &l->k, p->a, k);
	product(p, &l->v, p->a, v);
	show(p, STAGE_Q, il, q_dim, p->q);
	show(p, STAGE_K, il, kv_dim, k);
	show(p, STAGE_V, il, kv_dim, v);
	if (l->q_norm) {
		norm(p, p->q, l->q_norm, d, p->n * h->n_head, p->q);
		show(p, STAGE_Q_NORM, il, q_dim, p->q);
	}
	if (l->k_norm) {
		norm(p, k, l->k_norm, d, p->n * h->n_kv_head, k);
		show(p, STAGE_K_NORM, il, kv_dim, k);
	}
	rope(p, p->q, h->n_head);
	show(p, STAGE_Q_ROPE, il, q_dim, p->q);
	rope(p, k, h->n_kv_head);
	show(p, STAGE_K_ROPE, il, kv_dim, k);
}

static void attend(struct pass *p, int il)
{
	const struct hparams *h = &p->g->model.hp;
	const struct layer *l = &p->g->model.layers[il];
	struct oracle_shape s = oracle_shape(p->g);
	int64_t q_dim = (int64_t)h->n_head * h->head_dim,
		kv_dim = (int64_t)h->n_kv_head * h->head_dim;
	int64_t cells = p->pos0 + p->n, shape[3] = { p->n, h->n_head, cells };
	double *k = p->g->k + (int64_t)il * p->g->n_ctx * kv_dim;
	double *v = p->g->v + (int64_t)il * p->g->n_ctx * kv_dim;

	project(p, il, k + p->pos0 * kv_dim, v + p->pos0 * kv_dim);
	oracle_scores(&s, p->q, k, p->pos0, p->n, cells, p->scores);
	oracle_softmax(&s, p->scores, (double)h->attn_scale, p->pos0, p->n, cells, p->probs);
	oracle_values(&s, p->probs, v, p->n, cells, p->a);
	for (int op = ORACLE_SCORES; op <= ORACLE_VALUES; op++)
		p->g->calls[op] += (uint64_t)(p->n * h->n_head);
	if (p->rc == 0)
		p->rc = oracle_trace(&p->trace, STAGE_ATTN_SCORES, il, 3, shape, p->scores, p->e);
	if (p->rc == 0)
		p->rc = oracle_trace(&p->trace, STAGE_ATTN_SOFTMAX, il, 3, shape, p->probs, p->e);
	show(p, STAGE_ATTN_OUT_HEADS, il, q_dim, p->a);
	if (l->attn_sub_norm) {
		norm(p, p->a, l->attn_sub_norm, q_dim, p->n, p->a);
		show(p, STAGE_ATTN_SUB_NORM, il, q_dim, p->a);
	}
	product(p, &l->o, p->a, p->b);
	show(p, STAGE_ATTN_O, il, h->n_embd, p->b);
	oracle_add(p->x, p->b, p->n * h->n_embd, p->x);
	p->g->calls[ORACLE_ADD] += (uint64_t)p->n;
	show(p, STAGE_ATTN_RESIDUAL, il, h->n_embd, p->x);
}

static void feed_forward(struct pass *p, int il)
{
	const struct hparams *h = &p->g->model.hp;
	const struct layer *l = &p->g->model.layers[il];
	double *gate = p->b, *up = p->b + p->n * h->n_ff;

	norm(p, p->x, l->ffn_norm, h->n_embd, p->n, p->a);
	show(p, STAGE_FFN_NORM, il, h->n_embd, p->a);
	product(p, &l->gate, p->a, gate);
	show(p, STAGE_FFN_GATE, il, h->n_ff, gate);
	product(p, &l->up, p->a, up);
	show(p, STAGE_FFN_UP, il, h->n_ff, up);
	oracle_glu(h->activation, gate, up, p->n * h->n_ff, gate);
	p->g->calls[ORACLE_GLU] += (uint64_t)p->n;
	show(p, STAGE_FFN_ACT, il, h->n_ff, gate);
	if (l->ffn_sub_norm) {
		norm(p, gate, l->ffn_sub_norm, h->n_ff, p->n, gate);
		show(p, STAGE_FFN_SUB_NORM, il, h->n_ff, gate);
	}
	product(p, &l->down, gate, p->a);
	show(p, STAGE_FFN_DOWN, il, h->n_embd, p->a);
	oracle_add(p->x, p->a, p->n * h->n_embd, p->x);
	p->g->calls[ORACLE_ADD] += (uint64_t)p->n;
}

static void splice(struct pass *p, int il)
{
	int64_t n = p->n * p->g->model.hp.n_embd;

	if (p->splice && p->splice_layer == il)
		for (int64_t i = 0; i < n; i++)
			p->x[i] = (double)p->splice[i];
}

static int layers(struct pass *p)
{
	const struct hparams *h = &p->g->model.hp;

	oracle_embed(&p->g->model.embd, p->tokens, p->n, p->g->scratch, p->x);
	p->g->calls[ORACLE_EMBED] += (uint64_t)p->n;
	splice(p, -1);
	show(p, STAGE_EMBEDDINGS, -1, h->n_embd, p->x);
	for (int il = 0; il < h->n_layer && p->rc == 0; il++) {
		attend(p, il);
		feed_forward(p, il);
		splice(p, il);
		show(p, STAGE_LAYER_OUT, il, h->n_embd, p->x);
	}
	return p->rc;
}

static int pass_memory(struct pass *p)
{
	const struct hparams *h = &p->g->model.hp;
	int64_t q_dim = (int64_t)h->n_head * h->head_dim, cells = p->pos0 + p->n;
	int64_t wide = q_dim > h->n_embd ? q_dim : h->n_embd, two_ff = 2 * (int64_t)h->n_ff;
	size_t n = (size_t)p->n;

	p->x = malloc(n * (size_t)h->n_embd * sizeof(double));
	p->q = malloc(n * (size_t)q_dim * sizeof(double));
	p->a = malloc(n * (size_t)wide * sizeof(double));
	p->b = malloc(n * (size_t)(wide > two_ff ? wide : two_ff) * sizeof(double));
	p->scores = malloc(n * (size_t)(h->n_head * cells) * sizeof(double));
	p->probs = malloc(n * (size_t)(h->n_head * cells) * sizeof(double));
	if (p->x && p->q && p->a && p->b && p->scores && p->probs)
		return 0;
	return err_set(p->e, EXIT_INFERENCE,
		       "no memory to evaluate %lld positions at once; lower the batch",
		       (long long)p->n);
}

static void pass_free(struct pass *p)
{
	free(p->x);
	free(p->q);
	free(p->a);
	free(p->b);
	free(p->scores);
	free(p->probs);
}

/* ---- logits and decoding ------------------------------------------------------------------ */

struct run {
	struct engine *g;
	const struct engine_eval *q;
	struct sampler sampler;
	int64_t pos0;
	int step;
	int32_t chosen;
};

/* Logits of rows [first, p->n), each handed on; after the last a token is chosen when asked. */
static int head(struct run *r, struct pass *p, int64_t first, bool choose)
{
	const struct hparams *h = &r->g->model.hp;
	const struct engine_eval *q = r->q;
	int64_t rows = p->n - first, vocab = h->n_vocab;
	double *y = malloc((size_t)(rows * vocab) * sizeof(*y));
	float *f = malloc((size_t)vocab * sizeof(*f));
	int rc = y && f ? 0
			: err_set(p->e, EXIT_INFERENCE, "no memory for %lld rows of logits",
				  (long long)rows);

	if (rc == 0) {
		norm(p, p->x + first * h->n_embd, r->g->model.output_norm, h->n_embd, rows, p->a);
		rc = oracle_trace(&p->trace, STAGE_OUTPUT_NORM, -1, 2, (int64_t[]){rows, h->n_embd},
				  p->a, p->e);
	}
	if (rc == 0) {
		oracle_linear(r->g->team, &r->g->model.output, p->a, rows, r->g->scratch, y);
		r->g->calls[ORACLE_LINEAR] += (uint64_t)rows;
		rc = oracle_trace(&p->trace, STAGE_LOGITS, -1, 2, (int64_t[]){rows, vocab}, y,
				  p->e);
	}
	for (int64_t t = 0; t < rows && rc == 0; t++) {
		int32_t token = -1;

		for (int64_t i = 0; i < vocab; i++)
			f[i] = (float)y[t * vocab + i];
		if (choose && t == rows - 1)
			token = r->chosen = sampler_choose(&r->sampler, f);
		if (q->on_logits)
			rc = q->on_logits(q->ctx, (int)(r->pos0 + first + t), r->step, token,
					  q->logits == ENGINE_LOGITS_NONE && token < 0 ? NULL : f);
	}
	free(y);
	free(f);
	return rc;
}

/* Evaluates n more tokens; `last` when the prompt or a decoding step ends with them. */
static int call(struct run *r, const int32_t *tokens, int64_t n, bool last, struct err *e)
{
	const struct engine_eval *q = r->q;
	bool choose = last && q->n_greedy > 0;
	struct pass p = {
		.g = r->g,
		.tokens = tokens,
		.n = n,
		.pos0 = r->pos0,
		.splice_layer = q->splice_layer,
		.e = e,
		.trace = {q->on_trace ? q->trace_stages : 0, q->trace_values, r->step, q->on_trace,
			  q->ctx},
	};
	int64_t first = q->logits == ENGINE_LOGITS_ALL ? 0
			: choose || (last && q->logits == ENGINE_LOGITS_LAST) ? n - 1 : n;

	if (q->splice && r->step == 0)
		p.splice = q->splice + r->pos0 * r->g->model.hp.n_embd;
	int rc = pass_memory(&p);

	if (rc == 0)
		rc = layers(&p);
	if (rc == 0 && first < n)
		rc = head(r, &p, first, choose);
	pass_free(&p);
	r->pos0 += n;
	return rc;
}

static int prompt(struct run *r, struct err *e)
{
	const struct engine_eval *q = r->q;
	int batch = q->batch > 0 ? q->batch : q->n_tokens, rc = 0;

	for (int from = 0; from < q->n_tokens && rc == 0; from += batch) {
		int to = q->n_tokens - from < batch ? q->n_tokens : from + batch;

		for (int at = from; at < to && rc == 0; at += r->g->n_ubatch) {
			int n = to - at < r->g->n_ubatch ? to - at : r->g->n_ubatch;

			rc = call(r, q->tokens + at, n, at + n == q->n_tokens, e);
		}
	}
	return rc;
}

static bool is_stop(const struct engine_eval *q, int32_t id)
{
	for (int i = 0; i < q->n_stops; i++)
		if (q->stops[i] == id)
			return true;
	return false;
}

static int check(const struct engine *g, const struct engine_eval *q, struct err *e)
{
	const struct hparams *h = &g->model.hp;

	if (!h->n_layer)
		return err_set(e, EXIT_USAGE, "the model was opened for its vocabulary only");
	if (q->n_tokens < 1)
		return err_set(e, EXIT_INFERENCE, "there is no token to evaluate");
	for (int i = 0; i < q->n_tokens; i++)
		if (q->tokens[i] < 0 || q->tokens[i] >= h->n_vocab)
			return err_set(e, EXIT_INFERENCE,
				       "token %d at position %d is outside the vocabulary of %d",
				       q->tokens[i], i, h->n_vocab);
	if (q->n_tokens > g->n_ctx || (q->n_greedy > 1 && q->n_greedy - 1 > g->n_ctx - q->n_tokens))
		return err_set(e, EXIT_INFERENCE,
			       "%d prompt tokens and %d to decode do not fit the context of %d "
			       "positions; open the model with a larger one",
			       q->n_tokens, q->n_greedy, g->n_ctx);
	if (q->splice && (q->splice_layer < -1 || q->splice_layer >= h->n_layer))
		return err_set(e, EXIT_USAGE, "splice layer %d; the model has layers 0 to %d",
			       q->splice_layer, h->n_layer - 1);
	return 0;
}

int oracle_evaluate(struct engine *g, const struct engine_eval *q, struct err *e)
{
	struct run r = { .g = g, .q = q, .chosen = -1 };
	int rc = check(g, q, e);

	if (rc < 0)
		return rc;
	rc = sampler_init(&r.sampler, g->model.hp.n_vocab, q->temperature, q->top_k, q->top_p,
			  q->seed, e);
	if (rc == 0)
		rc = prompt(&r, e);
	for (int i = 1; rc == 0 && i < q->n_greedy && !is_stop(q, r.chosen); i++) {
		int32_t token = r.chosen;

		r.step = i;
		rc = call(&r, &token, 1, true, e);
	}
	sampler_free(&r.sampler);
	return rc;
}
