#include "side.h"

#include "trace_frame.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int call(struct side *s, client_frame_fn *fn, void *ctx, struct err *e)
{
	int rc = wire_finish(&s->request, e);

	return rc < 0 ? rc : client_call(s->client, &s->request, fn, ctx, e);
}

/* ---- opening ------------------------------------------------------------------------------ */

static int on_opened(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct side *s = ctx;

	(void)e;
	if (f->type != WIRE_OPENED)
		return 0;
	wire_get(f, "arch", 0, s->arch, sizeof(s->arch));
	wire_get(f, "weights", 0, s->weights, sizeof(s->weights));
	wire_get(f, "profile", 0, s->profile, sizeof(s->profile));
	s->n_layer = (int)wire_get_int(f, "n_layer", 0);
	s->n_vocab = (int)wire_get_int(f, "n_vocab", 0);
	s->n_embd = (int)wire_get_int(f, "n_embd", 0);
	s->n_ctx = (int)wire_get_int(f, "n_ctx", 0);
	return 0;
}

static void put_text(struct wire_builder *b, const char *key, const char *value)
{
	if (value && *value)
		wire_put(b, key, "%s", value);
}

static int open_model(struct side *s, const struct exchange_setup *u, bool reference,
		      const char *opposite, int n_positions, struct err *e)
{
	struct wire_builder *b = &s->request;
	char profile[64] = "";
	int ctx = u->ctx;

	if (strcmp(s->engine, "native") == 0 && !u->profile && opposite)
		engine_profile(opposite, profile, sizeof(profile));
	if (ctx && ctx < n_positions)
		ctx = n_positions;
	wire_begin(b, WIRE_OPEN);
	put_text(b, "model", reference && u->model_ref ? u->model_ref : u->model);
	put_text(b, "tokenizer", u->tokenizer);
	put_text(b, "isa", u->isa);
	put_text(b, "kv", u->kv);
	if (strcmp(s->engine, "native") == 0)
		put_text(b, "profile", u->profile ? u->profile : profile);
	if (u->reproduce_defects && strcmp(s->engine, "native") == 0)
		wire_put(b, "reproduce_defects", "1");
	if (u->threads)
		wire_put(b, "threads", "%d", u->threads);
	if (ctx)
		wire_put(b, "ctx", "%d", ctx);
	if (u->ubatch)
		wire_put(b, "ubatch", "%d", u->ubatch);
	for (int k = 0; k < u->n_overrides; k++)
		wire_put(b, "override", "%s", u->overrides[k]);
	for (int k = 0; reference && k < u->n_overrides_ref; k++)
		wire_put(b, "override", "%s", u->overrides_ref[k]);
	return call(s, on_opened, s, e);
}

int side_open(struct side *s, const char *engine, const struct exchange_setup *u, bool reference,
	      const char *opposite, int n_positions, struct err *e)
{
	struct client_options o = {.engine = engine,
				   .deadline_ms = u->silence_s ? u->silence_s * 1000 :
								 SIDE_DEADLINE_MS,
				   .silence = true};
	int rc;

	*s = (struct side){0};
	snprintf(s->engine, sizeof(s->engine), "%s", engine);
	rc = client_open(&s->client, &o, e);
	if (rc < 0) {
		s->client = NULL;
		return rc;
	}
	s->traces = client_says(s->client, "trace");
	s->replays = client_says(s->client, "replay");
	s->splices = client_says(s->client, "splice");
	s->has_weights = client_says(s->client, "weights");
	rc = open_model(s, u, reference, opposite, n_positions, e);
	if (rc < 0)
		side_close(s);
	return rc;
}

void side_close(struct side *s)
{
	client_close(s->client);
	wire_builder_free(&s->request);
	free(s->part);
	*s = (struct side){0};
}

/* ---- traces ------------------------------------------------------------------------------- */

struct assembly {
	struct side *s;
	side_trace_fn *fn;
	int (*on_logits)(void *, int, int, int32_t, const float *, struct err *);
	void *ctx;
	struct trace_record r;
	int64_t have;			/* values of r so far */
};

static int room(struct side *s, int64_t n, struct err *e)
{
	float *p;

	if (n <= s->part_cap)
		return 0;
	p = realloc(s->part, (size_t)n * sizeof(*p));
	if (!p)
		return err_set(e, EXIT_INTERNAL, "no memory for a tensor of %lld values",
			       (long long)n);
	s->part = p;
	s->part_cap = n;
	return 0;
}

static int unfinished(const struct assembly *a, struct err *e)
{
	return err_set(e, EXIT_WORKER,
		       "engine %.200s: trace %.60s came with %lld of its %lld values; parts follow each "
		       "other, offset= counts values",
		       a->s->engine, a->r.name, (long long)a->have, (long long)a->r.num_elements);
}

static int begin_trace(struct assembly *a, const struct wire_frame *f, struct err *e)
{
	int rc;

	if (a->have < a->r.num_elements)
		return unfinished(a, e);
	rc = trace_frame_read(&a->r, f, a->s->engine, e);
	a->have = 0;
	if (rc < 0)
		a->r.num_elements = 0;
	return rc;
}

static int take_trace(struct assembly *a, const struct wire_frame *f, struct err *e)
{
	int64_t offset = wire_get_int(f, "offset", 0), n = (int64_t)(f->body_bytes / sizeof(float));
	int rc = offset == 0 ? begin_trace(a, f, e) : 0;

	if (rc < 0)
		return rc;
	if (f->body_bytes % sizeof(float) || offset != a->have ||
	    n > a->r.num_elements - a->have || n == 0)
		return unfinished(a, e);
	if (n == a->r.num_elements) {
		a->have = n;
		return a->fn(a->ctx, &a->r, (const float *)(const void *)f->body, e);
	}
	rc = room(a->s, a->r.num_elements, e);
	if (rc < 0)
		return rc;
	memcpy(a->s->part + offset, f->body, (size_t)n * sizeof(float));
	a->have += n;
	return a->have == a->r.num_elements ? a->fn(a->ctx, &a->r, a->s->part, e) : 0;
}

static int on_evaluated(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct assembly *a = ctx;

	if (f->type == WIRE_TRACE && a->fn)
		return take_trace(a, f, e);
	if (f->type == WIRE_DONE && a->have < a->r.num_elements)
		return unfinished(a, e);
	if (f->type != WIRE_LOGITS || !a->on_logits)
		return 0;
	if (f->body_bytes != (size_t)a->s->n_vocab * sizeof(float))
		return err_set(e, EXIT_WORKER,
			       "engine %.200s: LOGITS of %zu bytes where %d values were expected",
			       a->s->engine, f->body_bytes, a->s->n_vocab);
	return a->on_logits(a->ctx, (int)wire_get_int(f, "pos", -1),
			    (int)wire_get_int(f, "step", 0), (int32_t)wire_get_int(f, "token", -1),
			    (const float *)(const void *)f->body, e);
}

static void put_stages(struct wire_builder *b, uint64_t stages)
{
	char list[512] = "";
	size_t n = 0;

	for (int i = 0; i < STAGE_COUNT; i++)
		if (stages >> i & 1)
			n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? "," : "",
					      trace_stage_name((enum trace_stage)i));
	wire_put(b, "trace", "%s", n ? list : "all");
}

int side_evaluate(struct side *s, const struct side_eval *q, struct err *e)
{
	struct wire_builder *b = &s->request;
	struct assembly a = {.s = s, .fn = q->on_trace, .on_logits = q->on_logits, .ctx = q->ctx};

	wire_begin(b, WIRE_EVALUATE);
	wire_put(b, "logits", "all");
	wire_put(b, "greedy", "%d", q->n_greedy);
	wire_put(b, "tokens", "%d", q->n_ids);
	if (q->batch)
		wire_put(b, "batch", "%d", q->batch);
	if (!q->no_trace) {
		put_stages(b, q->stages);
		wire_put(b, "values", "1");
	}
	if (q->splice)
		wire_put(b, "splice_layer", "%d", q->splice_layer);
	wire_body(b, q->ids, (size_t)q->n_ids * sizeof(*q->ids));
	if (q->splice)
		wire_body(b, q->splice, (size_t)q->n_ids * (size_t)s->n_embd * sizeof(float));
	return call(s, on_evaluated, &a, e);
}

/* ---- one operation ------------------------------------------------------------------------ */

struct replayed {
	float *out;
	int64_t n;
};

static int keep_replayed(void *ctx, const struct trace_record *r, const float *values,
			 struct err *e)
{
	struct replayed *p = ctx;

	free(p->out);
	p->n = r->num_elements;
	p->out = malloc((size_t)p->n * sizeof(float));
	if (!p->out)
		return err_set(e, EXIT_INTERNAL, "no memory for a replayed operation");
	memcpy(p->out, values, (size_t)p->n * sizeof(float));
	return 0;
}

int side_replay(struct side *s, const struct side_op *op, float **out, int64_t *n, struct err *e)
{
	struct wire_builder *b = &s->request;
	struct replayed got = {0};
	struct assembly a = {.s = s, .fn = keep_replayed, .ctx = &got};
	char inputs[256] = "";
	size_t at = 0;
	int rc;

	wire_begin(b, WIRE_REPLAY);
	wire_put(b, "layer", "%d", op->layer);
	wire_put(b, "stage", "%s", trace_stage_name(op->stage));
	wire_put(b, "pos0", "%d", op->pos0);
	wire_put(b, "n_tokens", "%d", op->n_rows);
	put_text(b, "variant", op->variant);
	for (int i = 0; i < op->n_inputs; i++)
		at += (size_t)snprintf(inputs + at, sizeof(inputs) - at, "%s%s:%lld", i ? "," : "",
				       trace_stage_name(op->input_stage[i]),
				       (long long)op->input_elements[i]);
	put_text(b, "inputs", inputs);
	for (int i = 0; i < op->n_inputs; i++)
		wire_body(b, op->input[i], (size_t)op->input_elements[i] * sizeof(float));
	if (op->n_inputs == 0)
		wire_body(b, op->ids, (size_t)op->n_rows * sizeof(*op->ids));
	rc = call(s, on_evaluated, &a, e);
	if (rc == 0 && !got.out)
		rc = err_set(e, EXIT_WORKER, "engine %s replayed %s without an answer", s->engine,
			     trace_stage_name(op->stage));
	if (rc < 0) {
		free(got.out);
		return rc;
	}
	*out = got.out;
	*n = got.n;
	return 0;
}

/* ---- weights ------------------------------------------------------------------------------ */

struct weighing {
	side_weight_fn *fn;
	void *ctx;
};

static int on_weight(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct weighing *w = ctx;
	char name[256] = "", type[32] = "", sha[65] = "";

	if (f->type != WIRE_WEIGHT || wire_get_int(f, "offset", 0) > 0)
		return 0;
	wire_get(f, "name", 0, name, sizeof(name));
	wire_get(f, "type", 0, type, sizeof(type));
	wire_get(f, "sha256", 0, sha, sizeof(sha));
	return w->fn(w->ctx, name, type, sha, e);
}

int side_weights(struct side *s, side_weight_fn *fn, void *ctx, struct err *e)
{
	struct weighing w = {fn, ctx};

	wire_begin(&s->request, WIRE_WEIGHTS);
	wire_put(&s->request, "values", "0");
	return call(s, on_weight, &w, e);
}
