#include "llama_engine.h"
#include "llama_stages.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

void llama_watch_begin(struct llama_watch *w, int pos0, int n_tokens, int seq)
{
	w->pos0 = pos0;
	w->n_tokens = n_tokens;
	w->seq = seq;
	w->stop = false;
	w->rc = 0;
	w->err = ERR_NONE;
	w->has_pending = false;
	w->n_records = 0;
	memset(w->seen, 0, sizeof(w->seen));
	for (int i = 0; i < w->n_over; i++)
		w->over[i].done = false;
}

/* ---- reading ------------------------------------------------------------------------------ */

static int flush(struct llama_watch *w)
{
	const struct trace_record *p = &w->pending;
	int64_t shape[TRACE_DIMS_MAX], width = 1;
	struct trace_record r;

	if (!w->has_pending)
		return 0;
	w->has_pending = false;
	for (int i = 1; i < p->n_dims; i++) {
		shape[i] = p->shape[i];
		width *= p->shape[i];
	}
	shape[0] = p->shape[0] - w->row0;
	trace_describe(&r, p->stage, p->layer, w->seq, p->dtype, p->n_dims, shape,
		       w->buf + w->row0 * width);
	w->n_records++;
	w->rc = w->on_trace(w->ctx, &r, w->values ? w->buf + w->row0 * width : NULL);
	return w->rc;
}

static int room(struct llama_watch *w, size_t n)
{
	float *p;

	if (n <= w->cap)
		return 0;
	p = realloc(w->buf, n * sizeof(*p));
	if (!p)
		return err_set(&w->err, EXIT_INTERNAL, "no memory for a trace of %zu values", n);
	w->buf = p;
	w->cap = n;
	return 0;
}

/* Element i of a row that lies densely at p. */
static float element(const void *p, enum ggml_type type, int64_t i)
{
	return type == GGML_TYPE_F16 ? ggml_fp16_to_fp32(((const ggml_fp16_t *)p)[i])
				     : ((const float *)p)[i];
}

static bool dense(const struct ggml_tensor *t)
{
	size_t want = t->type == GGML_TYPE_F16 ? 2 : 4;

	for (int i = 0; i < 4; i++) {
		if (t->nb[i] != want)
			return false;
		want *= (size_t)t->ne[i];
	}
	return t->type == GGML_TYPE_F32 || t->type == GGML_TYPE_F16;
}

static bool is_scores(enum trace_stage s)
{
	return s == STAGE_ATTN_SCORES || s == STAGE_ATTN_SOFTMAX;
}

/* [n_kv padded, T, heads] as ggml has it → [T, heads, C], cells after the row's own are 0. */
static int take_scores(struct llama_watch *w, const struct ggml_tensor *t)
{
	int64_t cells = w->pos0 + w->n_tokens, heads = t->ne[2];

	if (t->ne[0] < cells || t->ne[1] < w->n_tokens || t->ne[3] != 1)
		return err_set(
			&w->err, EXIT_INFERENCE,
			"tensor %s has %lld cells and %lld rows, expected at least %lld and %d",
			t->name, (long long)t->ne[0], (long long)t->ne[1], (long long)cells,
			w->n_tokens);
	if (room(w, (size_t)(cells * heads * w->n_tokens)) < 0)
		return -1;
	for (int64_t row = 0; row < w->n_tokens; row++)
		for (int64_t h = 0; h < heads; h++)
			for (int64_t c = 0; c < cells; c++)
				w->buf[(row * heads + h) * cells + c] =
					c > w->pos0 + row
						? 0
						: element(t->data, t->type,
							  (h * t->ne[1] + row) * t->ne[0] + c);
	w->pending.n_dims = 3;
	w->pending.shape[0] = w->n_tokens;
	w->pending.shape[1] = heads;
	w->pending.shape[2] = cells;
	return 0;
}

static int take_rows(struct llama_watch *w, const struct ggml_tensor *t)
{
	int64_t total = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];

	if (total % w->n_tokens)
		return err_set(&w->err, EXIT_INFERENCE,
			       "tensor %s has %lld values, which are not %d rows", t->name,
			       (long long)total, w->n_tokens);
	if (room(w, (size_t)total) < 0)
		return -1;
	for (int64_t i = 0; i < total; i++)
		w->buf[i] = element(t->data, t->type, i);
	w->pending.n_dims = 2;
	w->pending.shape[0] = w->n_tokens;
	w->pending.shape[1] = total / w->n_tokens;
	return 0;
}

static int take(struct llama_watch *w, const struct ggml_tensor *t, enum trace_stage stage,
		int layer)
{
	if (w->has_pending && (w->pending.stage != stage || w->pending.layer != layer) &&
	    flush(w) != 0)
		return -1;
	if (!dense(t))
		return err_set(&w->err, EXIT_INFERENCE, "tensor %s (%s) is not dense float data",
			       t->name, ggml_type_name(t->type));
	memset(&w->pending, 0, sizeof(w->pending));
	w->pending.stage = stage;
	w->pending.layer = layer;
	strcpy(w->pending.dtype, t->type == GGML_TYPE_F16 ? "f16" : "f32");
	w->has_pending = true;
	return is_scores(stage) ? take_scores(w, t) : take_rows(w, t);
}

/* ---- writing ------------------------------------------------------------------------------ */

static int put_scores(struct llama_watch *w, const struct llama_overwrite *o,
		      struct ggml_tensor *t)
{
	int64_t cells = w->pos0 + w->n_tokens, heads = t->ne[2];
	float *data = t->data;

	for (int64_t row = 0; row < o->n_rows; row++)
		for (int64_t h = 0; h < heads; h++)
			memcpy(data + (h * t->ne[1] + o->row0 + row) * t->ne[0],
			       o->values + (row * heads + h) * cells,
			       (size_t)cells * sizeof(float));
	return 0;
}

static int put(struct llama_watch *w, struct llama_overwrite *o, struct ggml_tensor *t)
{
	int64_t total = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
	int64_t width = total / w->n_tokens;

	if (is_scores(o->stage))
		width = t->ne[2] * (w->pos0 + w->n_tokens);
	if (t->type != GGML_TYPE_F32 || !dense(t) || o->elements != o->n_rows * width)
		return err_set(&w->err, EXIT_USAGE,
			       "tensor %s takes %lld values for %d rows, %lld were given", t->name,
			       (long long)(o->n_rows * width), o->n_rows, (long long)o->elements);
	o->done = true;
	if (is_scores(o->stage))
		return put_scores(w, o, t);
	memcpy((float *)t->data + o->row0 * width, o->values,
	       (size_t)o->elements * sizeof(float));
	return 0;
}

/* ---- the callback ------------------------------------------------------------------------- */

static int stage_of(const struct ggml_tensor *t, int *layer)
{
	return llama_stage(t->name, ggml_op_desc(t), t->src[0] ? t->src[0]->name : NULL, layer);
}

static bool wanted(const struct llama_watch *w, int stage, int layer)
{
	return stage >= 0 && w->stages >> stage & 1 &&
	       (w->only_layer == INT_MIN || w->only_layer == layer);
}

static struct llama_overwrite *overwrite_of(struct llama_watch *w, int stage, int layer)
{
	for (int i = 0; i < w->n_over; i++)
		if ((int)w->over[i].stage == stage && w->over[i].layer == layer)
			return &w->over[i];
	return NULL;
}

static void count(struct engine *g, const struct ggml_tensor *t)
{
	unsigned op = (unsigned)t->op, type = 0;

	switch (t->op) {
	case GGML_OP_NONE:
	case GGML_OP_VIEW:
	case GGML_OP_RESHAPE:
	case GGML_OP_PERMUTE:
	case GGML_OP_TRANSPOSE:
		return;
	default:
		break;
	}
	if (t->op == GGML_OP_MUL_MAT && t->src[0])
		type = (unsigned)t->src[0]->type + 1;
	if (op < LLAMA_OPS_MAX && type < LLAMA_TYPES_MAX)
		g->calls[op][type]++;
}

/* Asked before the operation runs: is its result needed on its own? */
static bool ask_for(struct engine *g, const struct ggml_tensor *t)
{
	struct llama_watch *w = &g->watch;
	int layer, stage;

	count(g, t);
	if (!w->stages && !w->n_over)
		return false;
	stage = stage_of(t, &layer);
	if (stage == LLAMA_UNKNOWN && w->stages && !w->err.code)
		err_set(&w->err, EXIT_INFERENCE,
			"tensor \"%s\" (%s) of this reference belongs to no known stage", t->name,
			ggml_op_desc(t));
	if (stage >= 0 && layer < LLAMA_LAYERS_MAX)
		w->seen[layer + 1] |= (uint64_t)1 << stage;
	return w->err.code || wanted(w, stage, layer) || overwrite_of(w, stage, layer);
}

bool llama_watch_eval(struct ggml_tensor *t, bool ask, void *user_data)
{
	struct engine *g = user_data;
	struct llama_watch *w = &g->watch;
	struct llama_overwrite *o;
	int layer, stage;

	if (ask)
		return ask_for(g, t);
	if (w->err.code || w->rc)
		return false;
	stage = stage_of(t, &layer);
	o = overwrite_of(w, stage, layer);
	if (o && put(w, o, t) < 0)
		return false;
	if (wanted(w, stage, layer) && take(w, t, (enum trace_stage)stage, layer) < 0)
		return false;
	return true;
}

static int missing(const struct engine *g, struct err *e)
{
	const struct llama_watch *w = &g->watch;

	for (int layer = -1; layer < g->info.n_layer && layer < LLAMA_LAYERS_MAX; layer++) {
		uint64_t lack = w->stages & llama_stages_expected(g->info.arch, layer) &
				~w->seen[layer + 1];
		const uint64_t parts =
			STAGE_BIT(STAGE_ATTN_SCORES) | STAGE_BIT(STAGE_ATTN_SOFTMAX);

		/* flash attention computes neither on its own */
		if (!(w->seen[layer + 1] & parts) && w->seen[layer + 1] >> STAGE_ATTN_OUT_HEADS & 1)
			lack &= ~parts;
		for (int s = 0; lack && s < STAGE_COUNT; s++)
			if (lack >> s & 1)
				return err_set(e, EXIT_INFERENCE,
					       "the reference computed no tensor for stage %s of "
					       "layer %d (architecture %s)",
					       trace_stage_name((enum trace_stage)s), layer,
					       g->info.arch);
	}
	return 0;
}

int llama_watch_end(struct engine *g, struct err *e)
{
	struct llama_watch *w = &g->watch;

	if (w->err.code) {
		*e = w->err;
		return -e->code;
	}
	if (w->rc == 0)
		flush(w);
	if (w->rc)
		return w->rc < 0 ? w->rc : -EXIT_INFERENCE;
	for (int i = 0; i < w->n_over; i++)
		if (!w->over[i].done)
			return err_set(e, EXIT_INFERENCE,
				       "the reference computed no tensor for stage %s of layer %d",
				       trace_stage_name(w->over[i].stage), w->over[i].layer);
	if (w->only_layer == INT_MIN)
		return missing(g, e);
	if (w->n_records == 0)
		return err_set(e, EXIT_USAGE, "this model computes no such stage in layer %d",
			       w->only_layer);
	return 0;
}
