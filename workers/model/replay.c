#include "replay_variant.h"

#include "replay_ties.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct replay {
	struct session *s;
	const struct engine_replay *q;
	struct replay_knobs k;
	int64_t n, pos0, cells;	/* rows; first position; pos0 + n */
	int64_t width;		/* of the output's rows */
	float *out;		/* [n, width] */
	struct err *e;
};

/* ---- inputs ------------------------------------------------------------------------------- */

static int64_t stage_width(const struct replay *r, enum trace_stage stage)
{
	const struct hparams *h = &r->k.hp;
	switch (stage) {
	case STAGE_Q: case STAGE_Q_NORM: case STAGE_Q_ROPE: case STAGE_ATTN_OUT_HEADS:
	case STAGE_ATTN_SUB_NORM:
		return (int64_t)h->n_head * h->head_dim;
	case STAGE_K: case STAGE_V: case STAGE_K_NORM: case STAGE_K_ROPE:
		return (int64_t)h->n_kv_head * h->head_dim;
	case STAGE_ATTN_SCORES: case STAGE_ATTN_SOFTMAX:
		return h->n_head * r->cells;
	case STAGE_FFN_GATE: case STAGE_FFN_UP: case STAGE_FFN_ACT: case STAGE_FFN_SUB_NORM:
		return h->n_ff;
	case STAGE_LOGITS:
		return h->n_vocab;
	default:
		return h->n_embd;
	}
}

/* The input that holds `stage`, checked to have `rows` rows; NULL when it was not given. */
static const float *given(struct replay *r, enum trace_stage stage, int64_t rows)
{
	const struct engine_replay *q = r->q;
	for (int i = 0; i < q->n_inputs && r->e->code == 0; i++) {
		if (q->input_stage[i] != stage)
			continue;
		int64_t want = rows * stage_width(r, stage);
		if (q->input_elements[i] == want)
			return q->input[i];
		err_set(r->e, EXIT_USAGE,
			"input %s of %s has %lld values; expected %lld rows of %lld",
			trace_stage_name(stage), trace_stage_name(q->stage),
			(long long)q->input_elements[i], (long long)rows,
			(long long)stage_width(r, stage));
	}
	return NULL;
}

/* Either of two stages that hold the same rows; the error names the first. */
static const float *either(struct replay *r, enum trace_stage a, enum trace_stage b, int64_t rows)
{
	const float *x = given(r, a, rows);
	if (!x)
		x = given(r, b, rows);
	if (!x && r->e->code == 0)
		err_set(r->e, EXIT_USAGE, "a replay of %s needs %s as input",
			trace_stage_name(r->q->stage), trace_stage_name(a));
	return x;
}

static const float *need(struct replay *r, enum trace_stage stage, int64_t rows)
{
	return either(r, stage, stage, rows);
}

static void *scratch(struct replay *r, size_t bytes)
{
	void *p = r->e->code == 0 ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
	if (!p && r->e->code == 0)
		err_set(r->e, EXIT_INFERENCE, "no memory to replay %s",
			trace_stage_name(r->q->stage));
	return p;
}

/* ---- the operations ----------------------------------------------------------------------- */

static void copy_rows(struct replay *r, const float *in)
{
	memcpy(r->out, in, (size_t)(r->n * r->width) * sizeof(float));
}

static void norm(struct replay *r, const float *in, const float *w, int64_t width)
{
	if (!in)
		return;
	if (r->k.skip)
		copy_rows(r, in);
	else if (r->k.form != FORM_OWN)
		form_norm(r->k.form, in, w, (double)r->k.hp.norm_eps, width,
			  r->n * (r->width / width), r->out);
	else
		op_norm(&r->s->ops, in, w, r->k.hp.norm_eps, width, r->n * (r->width / width),
			r->out);
}

static void product(struct replay *r, const float *in, const struct linear *lin)
{
	const enum act_format format = lin->w.type->act;
	uint8_t *act = in ? scratch(r, (size_t)r->n * act_row_bytes(format, lin->w.n_in)) : NULL;
	if (!act)
		return;
	struct act_rows rows = op_quantize(&r->s->ops, format, in, lin->w.n_in, r->n, act);
	if (r->k.tie && !ties_flip(format, in, lin->w.n_in, r->n, act, r->k.tie))
		err_set(r->e, EXIT_USAGE, "no row of %s has %lld activations on rounding ties",
			trace_stage_name(r->q->stage), (long long)r->k.tie);
	op_linear(&r->s->ops, &(struct op_product){lin, r->out}, 1, rows, r->n);
	free(act);
}

/* What lies behind the first `part` dimensions of each head is as it was before. */
static void keep_unrotated(struct replay *r, const float *in, int n_heads)
{
	const int64_t d = r->k.hp.head_dim, half = r->k.hp.rope.n_dims / 2, part = r->k.rope_part;
	for (int64_t i = 0; part && i < r->n * n_heads * d; i++) {
		int64_t at = i % d;

		if (r->k.hp.neox ? at % half >= part / 2 : at >= part)
			r->out[i] = in[i];
	}
}

static void rope(struct replay *r, const float *in, int n_heads)
{
	const struct hparams *h = &r->k.hp;
	float *cs = in ? scratch(r, (size_t)(r->n * h->rope.n_dims) * sizeof(float)) : NULL;
	if (!cs)
		return;
	copy_rows(r, in);
	if (!r->k.skip) {
		op_rope_angles(&r->s->ops, &h->rope, r->pos0 + r->k.pos_shift, r->n, cs);
		op_rope(&r->s->ops, r->out, cs, n_heads, h->head_dim, h->rope.n_dims, h->neox,
			r->n);
		keep_unrotated(r, in, n_heads);
	}
	free(cs);
}

static void binary(struct replay *r, const float *a, const float *b)
{
	if (a && b && r->k.skip)
		copy_rows(r, a);
	else if (a && b)
		op_add(&r->s->ops, a, b, r->out, r->width, r->n);
}

static void glu(struct replay *r)
{
	const float *gate = need(r, STAGE_FFN_GATE, r->n), *up = need(r, STAGE_FFN_UP, r->n);
	if (gate && up && r->k.form != FORM_OWN)
		form_glu(r->k.form, r->k.hp.activation == ACTIVATION_SILU, gate, up, r->out,
			 r->width * r->n);
	else if (gate && up)
		op_glu(&r->s->ops, r->k.hp.activation, r->k.swap_inputs ? up : gate,
		       r->k.swap_inputs ? gate : up, r->out, r->width, r->n);
}

static void embed(struct replay *r)
{
	if (!r->q->tokens) {
		err_set(r->e, EXIT_USAGE, "a replay of embeddings needs token ids");
		return;
	}
	for (int64_t i = 0; i < r->n; i++) {
		if (r->q->tokens[i] < 0 || r->q->tokens[i] >= r->k.hp.n_vocab) {
			err_set(r->e, EXIT_USAGE, "token %d is outside the vocabulary of %d",
				r->q->tokens[i], r->k.hp.n_vocab);
			return;
		}
	}
	op_embed(&r->s->ops, &r->s->m->embd, r->q->tokens, r->n, r->out);
}

/* ---- attention ---------------------------------------------------------------------------- */

static int64_t visible(const struct replay *r, int64_t row)
{
	int64_t v = r->pos0 + row + 1 + r->k.mask_shift;
	return v < 1 ? 1 : v > r->cells ? r->cells : v;
}

static int64_t kv_head_of(const struct replay *r, int64_t head)
{
	const struct hparams *h = &r->k.hp;
	return r->k.interleaved_heads ? head % h->n_kv_head : head / (h->n_head / h->n_kv_head);
}

/* The cache holds zeros where an operation does not ask for keys or for values. */
static int fill_cache(struct replay *r, struct kv_cache *kv, const float *k, const float *v)
{
	const struct hparams *h = &r->k.hp;
	const int width = h->n_kv_head * h->head_dim;
	const int64_t spare = 128, n_kv = session_n_kv(r->s, r->cells);
	float *zeros = calloc((size_t)(r->cells * width * 3), sizeof(float));
	if (zeros && r->k.kv_toward_zero) {
		float *copy = zeros + r->cells * width;

		form_half_toward_zero(k ? k : zeros, copy, r->cells * width);
		form_half_toward_zero(v ? v : zeros, copy + r->cells * width, r->cells * width);
		k = copy;
		v = copy + r->cells * width;
	}
	int rc = zeros ? kv_cache_new(kv, r->s->k, 1, (int)(n_kv + spare), h->n_kv_head,
				      h->head_dim, r->k.kv_f32, r->e)
		       : -1;
	if (rc == 0)
		op_kv_store(&r->s->ops, kv, 0, k ? k : zeros, v ? v : zeros, 0, r->cells);
	else if (r->e->code == 0)
		err_set(r->e, EXIT_INFERENCE, "no memory to replay attention");
	free(zeros);
	return rc;
}

/* One row and head with the whole cache by the fused kernel. */
static void attend_head(struct replay *r, const struct kv_cache *kv, const float *q, int64_t row,
			int64_t head, float *scores, float *probs, float *out)
{
	const struct hparams *h = &r->k.hp;
	const int64_t d = h->head_dim, kv_head = kv_head_of(r, head);
	const struct attend a = {
		.q = q, .q_stride = d, .out = out, .out_stride = d, .n_heads = 1, .n_tok = 1,
		.head_dim = h->head_dim, .n_vis = visible(r, row), .n_used = r->cells,
		.n_kv = session_n_kv(r->s, r->cells), .kc = kv_cache_keys(kv, 0, kv_head),
		.k_stride = d, .k_place = kv_cache_places(kv),
		.vc = kv_cache_values(kv, 0, kv_head), .v_stride = kv->v_stride,
		.kv_f32 = kv->f32, .scale = h->attn_scale, .scores = scores, .probs = probs,
		.trace_stride = 0, .scratch = r->s->ops.scratch,
	};
	r->s->k->attend(r->s->k, &a);
	*(kv->f32 ? &r->s->ops.count.attend_f32 : &r->s->ops.count.attend_f16) += 1;
}

/* p·V for given probabilities [cells], padded as the reference pads them. */
static void value_head(struct replay *r, const struct kv_cache *kv, const float *probs,
		       int64_t head, float *padded, float *out)
{
	const struct hparams *h = &r->k.hp;
	const int64_t d = h->head_dim, n_kv = session_n_kv(r->s, r->cells);
	const void *values = kv_cache_values(kv, 0, kv_head_of(r, head));
	uint16_t *half = (uint16_t *)(void *)(padded + n_kv);
	memset(padded, 0, (size_t)n_kv * sizeof(float));
	memcpy(padded, probs, (size_t)r->cells * sizeof(float));
	r->s->k->to_f16(padded, half, n_kv);
	for (int64_t i = 0; i < d; i++) {
		int64_t at = i * kv->v_stride;
		out[i] = kv->f32 ? r->s->k->dot_f32(r->s->k, (const float *)values + at, padded,
						    n_kv)
				 : r->s->k->dot_f16(r->s->k, (const uint16_t *)values + at, half,
						    n_kv);
	}
	r->s->ops.count.dot += (uint64_t)d;
}

/* The part of a score row that a position sees; the rest of the output stays 0. */
static void softmax_row(struct replay *r, const float *scores, int64_t row, float *padded,
			float *out)
{
	const int64_t n_kv = session_n_kv(r->s, r->cells), n = visible(r, row);
	if (r->k.window || r->k.softcap > 0) {
		float *changed = padded + n_kv;
		int64_t out_of = r->k.window ? r->pos0 + row + 1 - r->k.window : 0;

		for (int64_t c = 0; c < n; c++)
			changed[c] = c < out_of ? -INFINITY : scores[c] * r->k.hp.attn_scale;
		if (r->k.softcap > 0)
			form_softcap(changed, r->k.softcap, n);
		for (int64_t c = 0; c < n; c++)
			changed[c] = c < out_of ? -INFINITY : changed[c] / r->k.hp.attn_scale;
		scores = changed;
	}
	r->s->k->softmax(r->s->k, scores, r->k.hp.attn_scale, n, n_kv, padded);
	memcpy(out, padded, (size_t)n * sizeof(float));
	r->s->ops.count.softmax++;
}

static void from_scores(struct replay *r, const float *scores, float *padded)
{
	const int64_t heads = r->k.hp.n_head;
	for (int64_t i = 0; i < r->n * heads; i++)
		softmax_row(r, scores + i * r->cells, i / heads, padded, r->out + i * r->cells);
}

static void from_softmax(struct replay *r, const float *probs, float *padded)
{
	const int64_t heads = r->k.hp.n_head, d = r->k.hp.head_dim;
	const float *v = need(r, STAGE_V, r->cells);
	struct kv_cache kv = {0};
	if (!v || fill_cache(r, &kv, NULL, v) != 0)
		return;
	for (int64_t i = 0; i < r->n * heads; i++)
		value_head(r, &kv, probs + i * r->cells, i % heads, padded, r->out + i * d);
	kv_cache_free(&kv);
}

/* From q and k (and v for the whole): the fused kernel, of which the wanted part is kept. */
static void from_queries(struct replay *r, float *padded)
{
	const int64_t heads = r->k.hp.n_head, d = r->k.hp.head_dim,
		      n_kv = session_n_kv(r->s, r->cells);
	const float *q = need(r, STAGE_Q_ROPE, r->n), *k = need(r, STAGE_K_ROPE, r->cells);
	const float *v = r->q->stage == STAGE_ATTN_OUT_HEADS ? need(r, STAGE_V, r->cells) : NULL;
	float *scores = scratch(r, (size_t)(n_kv + d) * sizeof(float)),
	      *out = scores ? scores + n_kv : NULL;
	struct kv_cache kv = {0};
	if (r->e->code == 0 && fill_cache(r, &kv, k, v) == 0) {
		for (int64_t i = 0; i < r->n * heads; i++) {
			int64_t row = i / heads, seen = visible(r, row);
			attend_head(r, &kv, q + i * d, row, i % heads, scores, padded, out);
			if (r->q->stage == STAGE_ATTN_OUT_HEADS)
				memcpy(r->out + i * d, out, (size_t)d * sizeof(float));
			else
				memcpy(r->out + i * r->cells,
				       r->q->stage == STAGE_ATTN_SCORES ? scores : padded,
				       (size_t)seen * sizeof(float));
		}
		kv_cache_free(&kv);
	}
	free(scores);
}

static void attention(struct replay *r)
{
	const int64_t n_kv = session_n_kv(r->s, r->cells);
	float *padded = scratch(r, (size_t)(n_kv * 2 + 64) * sizeof(float));
	const float *x = NULL;
	if (r->q->stage == STAGE_ATTN_SOFTMAX && (x = given(r, STAGE_ATTN_SCORES, r->n)))
		from_scores(r, x, padded);
	else if (r->q->stage == STAGE_ATTN_OUT_HEADS && (x = given(r, STAGE_ATTN_SOFTMAX, r->n)))
		from_softmax(r, x, padded);
	else if (r->e->code == 0)
		from_queries(r, padded);
	free(padded);
}

/* ---- dispatch ----------------------------------------------------------------------------- */

static void compute(struct replay *r)
{
	const struct hparams *h = &r->k.hp;
	const struct layer *l = &r->k.layer;
	const int64_t n = r->n;
	switch (r->q->stage) {
	case STAGE_EMBEDDINGS: embed(r); break;
	case STAGE_ATTN_NORM:
		norm(r, either(r, STAGE_LAYER_OUT, STAGE_EMBEDDINGS, n), l->attn_norm, h->n_embd);
		break;
	case STAGE_Q: product(r, need(r, STAGE_ATTN_NORM, n), &l->q); break;
	case STAGE_K: product(r, need(r, STAGE_ATTN_NORM, n), &l->k); break;
	case STAGE_V: product(r, need(r, STAGE_ATTN_NORM, n), &l->v); break;
	case STAGE_Q_NORM: norm(r, need(r, STAGE_Q, n), l->q_norm, h->head_dim); break;
	case STAGE_K_NORM: norm(r, need(r, STAGE_K, n), l->k_norm, h->head_dim); break;
	case STAGE_Q_ROPE: rope(r, either(r, STAGE_Q_NORM, STAGE_Q, n), h->n_head); break;
	case STAGE_K_ROPE: rope(r, either(r, STAGE_K_NORM, STAGE_K, n), h->n_kv_head); break;
	case STAGE_ATTN_SCORES: case STAGE_ATTN_SOFTMAX: case STAGE_ATTN_OUT_HEADS:
		attention(r); break;
	case STAGE_ATTN_SUB_NORM:
		norm(r, need(r, STAGE_ATTN_OUT_HEADS, n), l->attn_sub_norm, r->width); break;
	case STAGE_ATTN_O:
		product(r, either(r, STAGE_ATTN_SUB_NORM, STAGE_ATTN_OUT_HEADS, n), &l->o); break;
	case STAGE_ATTN_RESIDUAL:
		binary(r, need(r, STAGE_ATTN_O, n),
		       either(r, STAGE_LAYER_OUT, STAGE_EMBEDDINGS, n));
		break;
	case STAGE_FFN_NORM:
		norm(r, need(r, STAGE_ATTN_RESIDUAL, n), l->ffn_norm, h->n_embd);
		break;
	case STAGE_FFN_GATE: product(r, need(r, STAGE_FFN_NORM, n), &l->gate); break;
	case STAGE_FFN_UP: product(r, need(r, STAGE_FFN_NORM, n), &l->up); break;
	case STAGE_FFN_ACT: glu(r); break;
	case STAGE_FFN_SUB_NORM:
		norm(r, need(r, STAGE_FFN_ACT, n), l->ffn_sub_norm, h->n_ff);
		break;
	case STAGE_FFN_DOWN:
		product(r, either(r, STAGE_FFN_SUB_NORM, STAGE_FFN_ACT, n), &l->down); break;
	case STAGE_LAYER_OUT:
		binary(r, need(r, STAGE_FFN_DOWN, n), need(r, STAGE_ATTN_RESIDUAL, n)); break;
	case STAGE_OUTPUT_NORM:
		norm(r, need(r, STAGE_LAYER_OUT, n), r->k.output_norm, h->n_embd); break;
	case STAGE_LOGITS: product(r, need(r, STAGE_OUTPUT_NORM, n), &r->k.output); break;
	case STAGE_COUNT: break;
	}
}

static bool is_global(enum trace_stage stage)
{
	return stage == STAGE_EMBEDDINGS || stage == STAGE_OUTPUT_NORM || stage == STAGE_LOGITS;
}

static int check_request(const struct session *s, const struct engine_replay *q, struct err *e)
{
	const struct arch *a = s->m->hp.arch;
	if ((unsigned)q->stage >= STAGE_COUNT)
		return err_set(e, EXIT_USAGE, "stage %d does not exist", (int)q->stage);
	if (is_global(q->stage) ? q->layer != -1 : q->layer < 0 || q->layer >= s->m->hp.n_layer)
		return err_set(e, EXIT_USAGE, "stage %s of layer %d does not exist; layers are %s",
			       trace_stage_name(q->stage), q->layer,
			       is_global(q->stage) ? "-1 for this one" : "counted from 0");
	if (((q->stage == STAGE_ATTN_SUB_NORM || q->stage == STAGE_FFN_SUB_NORM) &&
	     !a->sub_norms) ||
	    ((q->stage == STAGE_Q_NORM || q->stage == STAGE_K_NORM) && !a->qk_norms))
		return err_set(e, EXIT_USAGE, "architecture %s has no %s", a->name,
			       trace_stage_name(q->stage));
	if (q->n_tokens < 1 || q->pos0 < 0 || q->n_tokens > s->n_ctx - q->pos0)
		return err_set(e, EXIT_USAGE,
			       "%d rows from position %d do not fit the context of %d", q->n_tokens,
			       q->pos0, s->n_ctx);
	return 0;
}

static int deliver(struct replay *r)
{
	const struct engine_replay *q = r->q;
	const bool cells = q->stage == STAGE_ATTN_SCORES || q->stage == STAGE_ATTN_SOFTMAX;
	if (r->k.factor != 1)
		for (int64_t i = 0; i < r->n * r->width; i++)
			r->out[i] *= r->k.factor;
	if (r->k.softcap > 0 && q->stage != STAGE_ATTN_SOFTMAX)
		form_softcap(r->out, r->k.softcap, r->n * r->width);
	struct trace_record rec;
	trace_describe(&rec, q->stage, q->layer, 0, "f32", cells ? 3 : 2,
		       cells ? (const int64_t[]){r->n, r->k.hp.n_head, r->cells}
			     : (const int64_t[]){r->n, r->width}, r->out);
	return q->on_trace ? q->on_trace(q->ctx, &rec, r->out) : 0;
}

int replay_run(struct session *s, const struct engine_replay *q, struct err *e)
{
	struct err first = ERR_NONE;
	struct replay r = {.s = s, .q = q, .e = &first};
	int rc = check_request(s, q, e);
	if (rc == 0)
		rc = replay_knobs_set(&r.k, s, q, e);
	if (rc != 0)
		return rc;
	r.n = q->n_tokens;
	r.pos0 = q->pos0;
	r.cells = r.pos0 + r.n;
	r.width = stage_width(&r, q->stage);
	r.out = calloc((size_t)(r.n * r.width), sizeof(float));
	if (!r.out)
		return err_set(e, EXIT_INFERENCE, "no memory to replay %s",
			       trace_stage_name(q->stage));
	compute(&r);
	rc = first.code != 0 ? err_set(e, (enum exit_code)first.code, "%s", first.msg)
			     : deliver(&r);
	free(r.out);
	return rc;
}
