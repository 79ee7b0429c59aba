/*
 * One operation alone, on given inputs: what the answer would be if nothing before it were wrong.
 * Inputs are named by their stage; K_ROPE and V hold every position from 0 on. A variant computes
 * a known mistake instead, so that a wrong answer can be given its name.
 */
#include "oracle.h"
#include "oracle_round.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct replay {
	struct engine *g;
	const struct engine_replay *q;
	const struct layer *layer;	/* NULL for layer −1 */
	struct err *e;
	int64_t rows, cells;		/* positions computed; positions there are */
	double *in[ENGINE_REPLAY_INPUTS_MAX];
	double *out;
	bool variant_used;
};

/* ---- variants ----------------------------------------------------------------------------- */

static const char variant_list[] = /* a part of native's list, under the same names */
	"silu, relu2, swap_gate_up, rope_norm, rope_neox, rope_base=X, rope_scale=X, no_freq_factors, no_yarn, "
	"eps=X, no_norm_weight, no_bias, attn_scale=X; and rounded, which is no mistake: operands as "
	"the weight's type and an F16 cache store them";

static bool variant(struct replay *r, const char *name)
{
	bool is = r->q->variant && strcmp(r->q->variant, name) == 0;

	r->variant_used |= is;
	return is;
}

/* "name=X": X, else the model's own. */
static double variant_number(struct replay *r, const char *name, double own)
{
	size_t n = strlen(name);

	if (!r->q->variant || strncmp(r->q->variant, name, n) != 0 || r->q->variant[n] != '=')
		return own;
	r->variant_used = true;
	return strtod(r->q->variant + n + 1, NULL);
}

/* ---- inputs ------------------------------------------------------------------------------- */

/* The i-th given input as float64 when it is one of two stages and has rows · width values. */
static const double *input(struct replay *r, enum trace_stage a, enum trace_stage b, int64_t rows,
			   int64_t width)
{
	const struct engine_replay *q = r->q;

	if (r->e->code)
		return NULL;
	for (int i = 0; i < q->n_inputs; i++) {
		if (q->input_stage[i] != a && q->input_stage[i] != b)
			continue;
		if (q->input_elements[i] != rows * width) {
			err_set(r->e, EXIT_USAGE,
				"input %s has %lld values, %lld rows of %lld are needed",
				trace_stage_name(q->input_stage[i]),
				(long long)q->input_elements[i], (long long)rows, (long long)width);
			return NULL;
		}
		if (!r->in[i] && (r->in[i] = malloc((size_t)(rows * width) * sizeof(double))))
			for (int64_t k = 0; k < rows * width; k++)
				r->in[i][k] = (double)q->input[i][k];
		if (!r->in[i])
			err_set(r->e, EXIT_INFERENCE, "no memory for the inputs of a replay");
		return r->in[i];
	}
	err_set(r->e, EXIT_USAGE, "replaying %s needs the input %s", trace_stage_name(q->stage),
		trace_stage_name(a));
	return NULL;
}

static bool make_output(struct replay *r, int64_t width)
{
	if (r->e->code)
		return false;
	r->out = malloc((size_t)(r->rows * width) * sizeof(double));
	if (!r->out)
		err_set(r->e, EXIT_INFERENCE, "no memory for the output of a replay");
	return r->out;
}

/* ---- the operations ----------------------------------------------------------------------- */

static int64_t replay_norm(struct replay *r, const double *x, const float *w, int64_t width,
			   int64_t heads)
{
	double eps = variant_number(r, "eps", (double)r->g->model.hp.norm_eps);
	float *ones = NULL;

	if (!make_output(r, width * heads))
		return 0;
	if (variant(r, "no_norm_weight")) {
		if (!(ones = malloc((size_t)width * sizeof(*ones)))) {
			err_set(r->e, EXIT_INFERENCE, "no memory for a replay");
			return 0;
		}
		for (int64_t i = 0; i < width; i++)
			ones[i] = 1;
	}
	oracle_norm(x, ones ? ones : w, eps, width, r->rows * heads, r->out);
	free(ones);
	return width * heads;
}

/* With the variant "rounded" x [rows, n] becomes what the engines' operand holds; x is an input. */
static void as_stored(struct replay *r, enum act_format f, const double *x, int64_t rows, int64_t n)
{
	if (!x || !variant(r, "rounded"))
		return;
	for (int i = 0; i < ENGINE_REPLAY_INPUTS_MAX; i++)
		if (r->in[i] == x)
			oracle_round(f, r->in[i], rows, n);
}

static int64_t replay_linear(struct replay *r, const double *x, const struct linear *l)
{
	struct linear own = *l;

	as_stored(r, l->w.type->act, x, r->rows, l->w.n_in);

	if (variant(r, "no_bias"))
		own.bias = NULL;
	if (!make_output(r, l->w.n_out))
		return 0;
	oracle_linear(r->g->team, &own, x, r->rows, r->g->scratch, r->out);
	return l->w.n_out;
}

static int64_t replay_rope(struct replay *r, const double *x, int n_heads)
{
	const struct hparams *h = &r->g->model.hp;
	struct rope_params p = h->rope;
	bool neox = variant(r, "rope_neox") || (h->neox && !variant(r, "rope_norm"));
	int64_t width = (int64_t)n_heads * h->head_dim;

	p.base = (float)variant_number(r, "rope_base", (double)p.base);
	p.freq_scale = (float)variant_number(r, "rope_scale", (double)p.freq_scale);
	if (variant(r, "no_freq_factors"))
		p.freq_factors = NULL;
	if (variant(r, "no_yarn")) {
		p.ext_factor = 0;
		p.attn_factor = 1;
	}
	if (!make_output(r, width))
		return 0;
	memcpy(r->out, x, (size_t)(r->rows * width) * sizeof(double));
	oracle_rope(r->out, &p, neox, r->q->pos0, r->rows, n_heads, h->head_dim);
	return width;
}

static int64_t replay_glu(struct replay *r)
{
	const struct hparams *h = &r->g->model.hp;
	const double *gate = input(r, STAGE_FFN_GATE, STAGE_FFN_GATE, r->rows, h->n_ff);
	const double *up = input(r, STAGE_FFN_UP, STAGE_FFN_UP, r->rows, h->n_ff);
	int64_t n = r->rows * h->n_ff;
	enum activation a = h->activation;

	if (!make_output(r, h->n_ff))
		return 0;
	if (variant(r, "silu"))
		a = ACTIVATION_SILU;
	if (variant(r, "relu2"))
		a = ACTIVATION_RELU2;
	if (variant(r, "swap_gate_up"))
		oracle_glu(a, up, gate, n, r->out);
	else
		oracle_glu(a, gate, up, n, r->out);
	return h->n_ff;
}

static int64_t replay_add(struct replay *r, enum trace_stage a, enum trace_stage b,
			  enum trace_stage b_too)
{
	int64_t width = r->g->model.hp.n_embd;
	const double *x = input(r, a, a, r->rows, width), *y = input(r, b, b_too, r->rows, width);

	if (make_output(r, width))
		oracle_add(x, y, r->rows * width, r->out);
	return width;
}

static int64_t replay_scores(struct replay *r)
{
	const struct hparams *h = &r->g->model.hp;
	struct oracle_shape s = oracle_shape(r->g);
	int64_t d = h->head_dim;
	const double *q = input(r, STAGE_Q_ROPE, STAGE_Q_ROPE, r->rows, h->n_head * d);
	const double *k = input(r, STAGE_K_ROPE, STAGE_K_ROPE, r->cells, h->n_kv_head * d);

	as_stored(r, ACT_F16, q, r->rows, h->n_head * d);
	as_stored(r, ACT_F16, k, r->cells, h->n_kv_head * d);
	if (make_output(r, h->n_head * r->cells))
		oracle_scores(&s, q, k, r->q->pos0, r->rows, r->cells, r->out);
	return h->n_head * r->cells;
}

static bool given(const struct replay *r, enum trace_stage stage)
{
	for (int i = 0; i < r->q->n_inputs; i++)
		if (r->q->input_stage[i] == stage)
			return true;
	return false;
}

/* From the scores, or from queries and keys. */
static int64_t replay_softmax(struct replay *r)
{
	const struct hparams *h = &r->g->model.hp;
	struct oracle_shape s = oracle_shape(r->g);
	double scale = variant_number(r, "attn_scale", (double)h->attn_scale);
	int64_t width = h->n_head * r->cells;

	if (!given(r, STAGE_ATTN_SCORES)) {
		replay_scores(r);
		if (r->out)
			oracle_softmax(&s, r->out, scale, r->q->pos0, r->rows, r->cells, r->out);
		return width;
	}
	const double *x = input(r, STAGE_ATTN_SCORES, STAGE_ATTN_SCORES, r->rows, width);

	if (make_output(r, width))
		oracle_softmax(&s, x, scale, r->q->pos0, r->rows, r->cells, r->out);
	return width;
}

/* From the probabilities and V, or from queries, keys and V. */
static int64_t replay_heads(struct replay *r)
{
	const struct hparams *h = &r->g->model.hp;
	struct oracle_shape s = oracle_shape(r->g);
	int64_t d = h->head_dim, width = h->n_head * d;
	const double *v = input(r, STAGE_V, STAGE_V, r->cells, h->n_kv_head * d), *p;
	double *probs = NULL;

	if (given(r, STAGE_ATTN_SOFTMAX)) {
		p = input(r, STAGE_ATTN_SOFTMAX, STAGE_ATTN_SOFTMAX, r->rows, h->n_head * r->cells);
		as_stored(r, ACT_F16, p, r->rows, h->n_head * r->cells);
	} else {
		replay_softmax(r);
		p = probs = r->out;
		r->out = NULL;
	}
	as_stored(r, ACT_F16, v, r->cells, h->n_kv_head * d);
	if (make_output(r, width))
		oracle_values(&s, p, v, r->rows, r->cells, r->out);
	free(probs);
	return width;
}

/* Operations of layer −1; returns the width of the output. */
static int64_t replay_outside(struct replay *r)
{
	const struct hparams *h = &r->g->model.hp;
	const struct model *m = &r->g->model;
	int64_t embd = h->n_embd;

	switch (r->q->stage) {
	case STAGE_EMBEDDINGS:
		for (int64_t t = 0; r->q->tokens && t < r->rows; t++)
			if (r->q->tokens[t] < 0 || r->q->tokens[t] >= h->n_vocab)
				return err_set(r->e, EXIT_INFERENCE,
					       "token %d is outside the vocabulary of %d",
					       r->q->tokens[t], h->n_vocab),
				       0;
		if (!r->q->tokens)
			return err_set(r->e, EXIT_USAGE, "replaying embeddings needs token ids"), 0;
		if (make_output(r, embd))
			oracle_embed(&m->embd, r->q->tokens, r->rows, r->g->scratch, r->out);
		return embd;
	case STAGE_OUTPUT_NORM:
		return replay_norm(r, input(r, STAGE_LAYER_OUT, STAGE_EMBEDDINGS, r->rows, embd),
				   m->output_norm, embd, 1);
	case STAGE_LOGITS:
		return replay_linear(r,
				     input(r, STAGE_OUTPUT_NORM, STAGE_OUTPUT_NORM, r->rows, embd),
				     &m->output);
	default:
		return err_set(r->e, EXIT_USAGE, "%s belongs to a layer; name it",
			       trace_stage_name(r->q->stage)),
		       0;
	}
}

static int64_t replay_attention(struct replay *r)
{
	const struct hparams *h = &r->g->model.hp;
	const struct layer *l = r->layer;
	int64_t d = h->head_dim, q_dim = h->n_head * d, kv_dim = h->n_kv_head * d, embd = h->n_embd,
		n = r->rows;

	switch (r->q->stage) {
	case STAGE_ATTN_NORM:
		return replay_norm(r, input(r, STAGE_LAYER_OUT, STAGE_EMBEDDINGS, n, embd),
				   l->attn_norm, embd, 1);
	case STAGE_Q:
		return replay_linear(r, input(r, STAGE_ATTN_NORM, STAGE_ATTN_NORM, n, embd), &l->q);
	case STAGE_K:
		return replay_linear(r, input(r, STAGE_ATTN_NORM, STAGE_ATTN_NORM, n, embd), &l->k);
	case STAGE_V:
		return replay_linear(r, input(r, STAGE_ATTN_NORM, STAGE_ATTN_NORM, n, embd), &l->v);
	case STAGE_Q_NORM:
		return replay_norm(r, input(r, STAGE_Q, STAGE_Q, n, q_dim), l->q_norm, d,
				   h->n_head);
	case STAGE_K_NORM:
		return replay_norm(r, input(r, STAGE_K, STAGE_K, n, kv_dim), l->k_norm, d,
				   h->n_kv_head);
	case STAGE_Q_ROPE:
		return replay_rope(r, input(r, STAGE_Q_NORM, STAGE_Q, n, q_dim), h->n_head);
	case STAGE_K_ROPE:
		return replay_rope(r, input(r, STAGE_K_NORM, STAGE_K, n, kv_dim), h->n_kv_head);
	case STAGE_ATTN_SCORES: return replay_scores(r);
	case STAGE_ATTN_SOFTMAX: return replay_softmax(r);
	case STAGE_ATTN_OUT_HEADS: return replay_heads(r);
	case STAGE_ATTN_SUB_NORM:
		return replay_norm(r,
				   input(r, STAGE_ATTN_OUT_HEADS, STAGE_ATTN_OUT_HEADS, n, q_dim),
				   l->attn_sub_norm, q_dim, 1);
	case STAGE_ATTN_O:
		return replay_linear(
			r,
			input(r, l->attn_sub_norm ? STAGE_ATTN_SUB_NORM : STAGE_ATTN_OUT_HEADS,
			      STAGE_ATTN_SUB_NORM, n, q_dim),
			&l->o);
	default: return replay_add(r, STAGE_ATTN_O, STAGE_LAYER_OUT, STAGE_EMBEDDINGS);
	}
}

static int64_t replay_feed_forward(struct replay *r)
{
	const struct hparams *h = &r->g->model.hp;
	const struct layer *l = r->layer;
	int64_t embd = h->n_embd, ff = h->n_ff, n = r->rows;

	switch (r->q->stage) {
	case STAGE_FFN_NORM:
		return replay_norm(r, input(r, STAGE_ATTN_RESIDUAL, STAGE_ATTN_RESIDUAL, n, embd),
				   l->ffn_norm, embd, 1);
	case STAGE_FFN_GATE:
		return replay_linear(r, input(r, STAGE_FFN_NORM, STAGE_FFN_NORM, n, embd),
				     &l->gate);
	case STAGE_FFN_UP:
		return replay_linear(r, input(r, STAGE_FFN_NORM, STAGE_FFN_NORM, n, embd), &l->up);
	case STAGE_FFN_ACT: return replay_glu(r);
	case STAGE_FFN_SUB_NORM:
		return replay_norm(r, input(r, STAGE_FFN_ACT, STAGE_FFN_ACT, n, ff),
				   l->ffn_sub_norm, ff, 1);
	case STAGE_FFN_DOWN:
		return replay_linear(r,
				     input(r, l->ffn_sub_norm ? STAGE_FFN_SUB_NORM : STAGE_FFN_ACT,
					   STAGE_FFN_SUB_NORM, n, ff),
				     &l->down);
	default: return replay_add(r, STAGE_FFN_DOWN, STAGE_ATTN_RESIDUAL, STAGE_ATTN_RESIDUAL);
	}
}

/* ---- the request -------------------------------------------------------------------------- */

static bool has_stage(const struct replay *r)
{
	const struct layer *l = r->layer;

	switch (r->q->stage) {
	case STAGE_Q_NORM: return l && l->q_norm;
	case STAGE_K_NORM: return l && l->k_norm;
	case STAGE_ATTN_SUB_NORM: return l && l->attn_sub_norm;
	case STAGE_FFN_SUB_NORM: return l && l->ffn_sub_norm;
	case STAGE_EMBEDDINGS: case STAGE_OUTPUT_NORM: case STAGE_LOGITS: return !l;
	default: return l;
	}
}

static int answer(struct replay *r, int64_t width)
{
	const struct engine_replay *q = r->q;
	struct oracle_trace t = { UINT64_MAX, true, 0, q->on_trace, q->ctx };
	bool cells = q->stage == STAGE_ATTN_SCORES || q->stage == STAGE_ATTN_SOFTMAX;
	int64_t heads = r->g->model.hp.n_head;

	if (q->variant && !r->variant_used)
		return err_set(r->e, EXIT_USAGE, "%s has no variant '%s'; known are %s",
			       trace_stage_name(q->stage), q->variant, variant_list);
	if (cells)
		return oracle_trace(&t, q->stage, q->layer, 3,
				    (int64_t[]){r->rows, heads, r->cells}, r->out, r->e);
	return oracle_trace(&t, q->stage, q->layer, 2, (int64_t[]){ r->rows, width }, r->out, r->e);
}

int oracle_replay(struct engine *g, const struct engine_replay *q, struct err *e)
{
	struct err failed = ERR_NONE;
	struct replay r = {
		.g = g, .q = q, .e = &failed, .rows = q->n_tokens, .cells = q->pos0 + q->n_tokens};
	int64_t width = 0;
	int rc = 0;

	if (!g->model.layers)
		return err_set(e, EXIT_USAGE, "the model was opened for its vocabulary only");
	if (q->layer < -1 || q->layer >= g->model.hp.n_layer || q->pos0 < 0 || q->n_tokens < 1 ||
	    r.cells > g->n_ctx)
		return err_set(e, EXIT_USAGE, "there is no layer %d or position %d to replay",
			       q->layer, q->pos0 + q->n_tokens - 1);
	r.layer = q->layer < 0 ? NULL : &g->model.layers[q->layer];
	if (!has_stage(&r))
		return err_set(e, EXIT_USAGE, "architecture %s has no %s in layer %d", g->info.arch,
			       trace_stage_name(q->stage), q->layer);
	if (!r.layer)
		width = replay_outside(&r);
	else if (q->stage <= STAGE_ATTN_RESIDUAL)
		width = replay_attention(&r);
	else
		width = replay_feed_forward(&r);
	if (failed.code == 0)
		rc = answer(&r, width);
	for (int i = 0; i < ENGINE_REPLAY_INPUTS_MAX; i++)
		free(r.in[i]);
	free(r.out);
	return failed.code ? err_set(e, (enum exit_code)failed.code, "%s", failed.msg) : rc;
}
