#include "machine.h"
#include "serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- answers on their way ----------------------------------------------------------------- */

int serve_trace(void *ctx, const struct trace_record *r, const float *values)
{
	struct session *s = ctx;
	struct wire_builder *b = &s->ch.out;
	const int64_t part = WIRE_PART_MAX / (int64_t)sizeof(float);
	int64_t at = 0;

	do {
		int64_t n = r->num_elements - at < part ? r->num_elements - at : part;
		char shape[128];
		int k = 0, rc;

		for (int i = 0; i < r->n_dims; i++)
			k += snprintf(shape + k, sizeof(shape) - (size_t)k, "%s%lld", i ? "," : "",
				      (long long)r->shape[i]);
		wire_begin(b, WIRE_TRACE);
		wire_put(b, "name", "%s", r->name);
		wire_put(b, "stage", "%s", trace_stage_name(r->stage));
		wire_put(b, "layer", "%d", r->layer);
		wire_put(b, "seq", "%d", r->seq);
		wire_put(b, "dtype", "%s", r->dtype);
		wire_put(b, "shape", "%s", shape);
		wire_put(b, "blake3", "%s", r->blake3);
		wire_put(b, "rms", "%.17g", r->rms);
		wire_put(b, "n", "%lld", (long long)r->num_elements);
		wire_put(b, "offset", "%lld", (long long)at);
		if (values)
			wire_body(b, values + at, (size_t)n * sizeof(float));
		rc = channel_send(&s->ch, NULL);
		if (rc < 0)
			return rc;
		at += n;
	} while (values && at < r->num_elements);
	return 0;
}

struct evaluation {
	struct session *s;
	int n_vocab, n_prompt;
	int64_t n_pos, start_us;
	bool timed, none;	/* none: what is computed to choose a token is not sent */
};

/* Difference of the two greatest values; 0 for a tie. */
static double margin(const float *x, int n)
{
	float first = x[0], second = x[0];
	bool one = true;

	for (int i = 1; i < n; i++) {
		if (x[i] > first) {
			second = first;
			first = x[i];
		} else if (one || x[i] > second) {
			second = x[i];
		}
		one = false;
	}
	return (double)first - (double)second;
}

/* Logits that are NaN or infinite: a broken model or a broken kernel, never an answer. */
static int count_nonfinite(const float *x, int n)
{
	uint32_t count = 0;

	for (int i = 0; i < n; i++) {
		uint32_t bits;

		memcpy(&bits, x + i, sizeof(bits));
		count += (bits & 0x7f800000u) == 0x7f800000u;
	}
	return (int)count;
}

static int on_logits(void *ctx, int pos, int step, int32_t token, const float *logits)
{
	struct evaluation *v = ctx;
	struct wire_builder *b = &v->s->ch.out;
	const int nonfinite = logits ? count_nonfinite(logits, v->n_vocab) : 0;

	wire_begin(b, WIRE_LOGITS);
	wire_put(b, "pos", "%d", pos);
	wire_put(b, "step", "%d", step);
	if (token >= 0)
		wire_put(b, "token", "%d", (int)token);
	if (nonfinite)
		wire_put(b, "nonfinite", "%d", nonfinite);
	if (v->none)
		logits = NULL;
	if (logits && token >= 0)
		wire_put(b, "margin", "%.9g", margin(logits, v->n_vocab));
	if (logits)
		wire_body(b, logits, (size_t)v->n_vocab * sizeof(float));
	v->n_pos++;
	if (step == 0 && pos == v->n_prompt - 1)
		v->s->prefill_us = serve_now_us() - v->start_us;
	return v->timed && !logits ? channel_hold(&v->s->ch, NULL) : channel_send(&v->s->ch, NULL);
}

static int on_trace(void *ctx, const struct trace_record *r, const float *values)
{
	return serve_trace(((struct evaluation *)ctx)->s, r, values);
}

/* ---- EVALUATE ----------------------------------------------------------------------------- */

/* "all", "none", or names with commas, as a set of bits. */
static int parse_stages(const char *text, uint64_t *bits, struct err *e)
{
	char copy[1024], *at = copy, *name;

	*bits = 0;
	if (strcmp(text, "none") == 0 || !*text)
		return 0;
	if (strcmp(text, "all") == 0) {
		*bits = STAGES_ALL;
		return 0;
	}
	snprintf(copy, sizeof(copy), "%s", text);
	while ((name = strsep(&at, ","))) {
		int stage = trace_stage_by_name(name);

		if (stage < 0)
			return err_set(e, EXIT_USAGE, "there is no stage \"%s\"", name);
		*bits |= (uint64_t)1 << stage;
	}
	return 0;
}

static int parse_logits(const struct wire_frame *f, enum engine_logits *out, struct err *e)
{
	static const char *const names[] = {"all", "last", "none"};
	char text[16] = "all";

	wire_get(f, "logits", 0, text, sizeof(text));
	for (int i = 0; i < 3; i++)
		if (strcmp(text, names[i]) == 0) {
			*out = (enum engine_logits)i;
			return 0;
		}
	return err_set(e, EXIT_USAGE, "logits=%s is none of all, last, none", text);
}

static int check_ids(const struct engine_eval *q, const struct engine_info *i, struct err *e)
{
	if (q->n_tokens < 1)
		return err_set(e, EXIT_USAGE, "an evaluation needs at least one token");
	for (int k = 0; k < q->n_tokens; k++)
		if (q->tokens[k] < 0 || q->tokens[k] >= i->n_vocab)
			return err_set(e, EXIT_USAGE,
				       "token %d at position %d is outside the vocabulary of %d",
				       (int)q->tokens[k], k, i->n_vocab);
	if (q->n_greedy < 0 || (int64_t)q->n_tokens + q->n_greedy > i->n_ctx)
		return err_set(e, EXIT_USAGE,
			       "%d tokens and %d more do not fit the context of %d positions",
			       q->n_tokens, q->n_greedy, i->n_ctx);
	return 0;
}

/* Where the ids end the splice begins; its first byte may be unaligned for nothing but floats. */
static int parse_body(struct engine_eval *q, const struct wire_frame *f,
		      const struct engine_info *i, struct err *e)
{
	int64_t have = (int64_t)f->body_bytes / (int64_t)sizeof(int32_t);
	int64_t n = wire_get_int(f, "tokens", have);
	int64_t layer = wire_get_int(f, "splice_layer", INT32_MIN);
	int64_t want;

	if (n < 0 || n > have || n > INT32_MAX)
		return err_set(e, EXIT_USAGE, "tokens=%lld, but the body holds %lld ids",
			       (long long)n, (long long)have);
	want = n * 4;
	q->tokens = (const int32_t *)(const void *)f->body;
	q->n_tokens = (int)n;
	if (layer != INT32_MIN) {
		if (layer < -1 || layer >= i->n_layer)
			return err_set(e, EXIT_USAGE, "splice_layer=%lld, the model has %d layers",
				       (long long)layer, i->n_layer);
		q->splice = (const float *)(const void *)(f->body + want);
		q->splice_layer = (int)layer;
		want += n * i->n_embd * 4;
	}
	if (want != (int64_t)f->body_bytes)
		return err_set(e, EXIT_USAGE, "the body has %zu bytes, expected %lld",
			       f->body_bytes, (long long)want);
	return 0;
}

static int parse_evaluate(struct engine_eval *q, int32_t *stops, const struct wire_frame *f,
			  const struct engine_info *i, struct err *e)
{
	char text[1024] = "none", number[32];
	int rc;

	q->batch = wire_get_int(f, "single", 0) ? 1 : (int)wire_get_int(f, "batch", 0);
	q->n_greedy = (int)wire_get_int(f, "greedy", 0);
	q->temperature = (float)wire_get_real(f, "temperature", 0);
	q->top_k = (int)wire_get_int(f, "top_k", 0);
	q->top_p = (float)wire_get_real(f, "top_p", 1);
	q->seed = (uint64_t)wire_get_int(f, "seed", 0);
	q->trace_values = wire_get_int(f, "values", 1) != 0;
	while (q->n_stops < SERVE_STOPS_MAX &&
	       wire_get(f, "stop", q->n_stops, number, sizeof(number)))
		stops[q->n_stops++] = (int32_t)strtol(number, NULL, 10);
	q->stops = stops;
	if (q->batch < 0)
		return err_set(e, EXIT_USAGE, "batch=%d", q->batch);
	rc = parse_logits(f, &q->logits, e);
	if (rc < 0)
		return rc;
	wire_get(f, "trace", 0, text, sizeof(text));
	rc = parse_stages(text, &q->trace_stages, e);
	if (rc < 0)
		return rc;
	rc = parse_body(q, f, i, e);
	return rc < 0 ? rc : check_ids(q, i, e);
}

int serve_evaluate(struct session *s, const struct wire_frame *f, struct err *e)
{
	const struct engine_info *i = s->ops->info(s->engine);
	struct evaluation v = {.s = s, .n_vocab = i->n_vocab};
	struct engine_eval q = {.on_logits = on_logits, .on_trace = on_trace, .ctx = &v};
	int32_t stops[SERVE_STOPS_MAX];
	int64_t start_us;
	int rc;

	v.timed = wire_get_int(f, "timed", 0) != 0;
	s->pace_ns = v.timed ? machine_pace_ns() : 0;
	v.start_us = start_us = serve_now_us();
	rc = parse_evaluate(&q, stops, f, i, e);
	if (rc < 0)
		return rc;
	if (q.trace_stages && !strstr(s->ops->features, "trace"))
		return err_set(e, EXIT_USAGE, "engine %s has no traces", s->ops->name);
	if (q.splice && !strstr(s->ops->features, "splice"))
		return err_set(e, EXIT_USAGE, "engine %s cannot splice", s->ops->name);
	v.n_prompt = q.n_tokens;
	v.none = q.logits == ENGINE_LOGITS_NONE;
	rc = s->ops->evaluate(s->engine, &q, e);
	return rc < 0 ? rc : serve_done(s, v.n_pos, start_us, e);
}

/* ---- REPLAY ------------------------------------------------------------------------------- */

/* "stage:elements,stage:elements" and the floats that follow one another in the body. */
static int parse_inputs(struct engine_replay *q, const struct wire_frame *f, struct err *e)
{
	const float *at = (const float *)(const void *)f->body;
	int64_t left = (int64_t)(f->body_bytes / sizeof(float));
	char text[512] = "", *rest = text, *item;

	wire_get(f, "inputs", 0, text, sizeof(text));
	while (*text && (item = strsep(&rest, ","))) {
		char *colon = strchr(item, ':');
		int64_t n = colon ? strtoll(colon + 1, NULL, 10) : left;
		int stage;

		if (colon)
			*colon = 0;
		stage = trace_stage_by_name(item);
		if (stage < 0)
			return err_set(e, EXIT_USAGE, "there is no stage \"%s\"", item);
		if (q->n_inputs == ENGINE_REPLAY_INPUTS_MAX || n < 0 || n > left)
			return err_set(e, EXIT_USAGE, "input %s: %lld values asked, %lld are there",
				       item, (long long)n, (long long)left);
		q->input_stage[q->n_inputs] = (enum trace_stage)stage;
		q->input[q->n_inputs] = at;
		q->input_elements[q->n_inputs++] = n;
		at += n;
		left -= n;
	}
	if (q->n_inputs && left)
		return err_set(e, EXIT_USAGE, "%lld values belong to no input", (long long)left);
	return 0;
}

int serve_replay(struct session *s, const struct wire_frame *f, struct err *e)
{
	struct engine_replay q = {.on_trace = serve_trace, .ctx = s};
	const struct engine_info *i = s->ops->info(s->engine);
	int64_t start_us = serve_now_us();
	char name[64] = "", variant[128] = "";
	int rc, stage;

	wire_get(f, "stage", 0, name, sizeof(name));
	stage = trace_stage_by_name(name);
	if (stage < 0)
		return err_set(e, EXIT_USAGE, "there is no stage \"%s\"", name);
	q.stage = (enum trace_stage)stage;
	q.layer = (int)wire_get_int(f, "layer", -1);
	q.pos0 = (int)wire_get_int(f, "pos0", 0);
	q.n_tokens = (int)wire_get_int(f, "n_tokens", 0);
	if (wire_get(f, "variant", 0, variant, sizeof(variant)) && *variant)
		q.variant = variant;
	if (q.layer < -1 || q.layer >= i->n_layer || q.pos0 < 0 || q.n_tokens < 1)
		return err_set(e, EXIT_USAGE, "layer=%d pos0=%d n_tokens=%d is out of range",
			       q.layer, q.pos0, q.n_tokens);
	rc = parse_inputs(&q, f, e);
	if (rc < 0)
		return rc;
	if (q.n_inputs == 0) {
		q.tokens = (const int32_t *)(const void *)f->body;
		if (f->body_bytes != (size_t)q.n_tokens * sizeof(int32_t))
			return err_set(e, EXIT_USAGE, "the body has %zu bytes, expected %d ids",
				       f->body_bytes, q.n_tokens);
	}
	rc = s->ops->replay(s->engine, &q, e);
	return rc < 0 ? rc : serve_done(s, q.n_tokens, start_us, e);
}

/* ---- WEIGHTS ------------------------------------------------------------------------------ */

static int on_weight(void *ctx, const char *name, const char *type, int n_dims,
		     const int64_t *shape, const char *sha256, const float *values)
{
	struct session *s = ctx;
	struct wire_builder *b = &s->ch.out;
	const int64_t part = WIRE_PART_MAX / (int64_t)sizeof(float);
	int64_t total = 1, at = 0;
	char text[128];
	int k = 0;

	for (int i = 0; i < n_dims; i++) {
		k += snprintf(text + k, sizeof(text) - (size_t)k, "%s%lld", i ? "," : "",
			      (long long)shape[i]);
		total *= shape[i];
	}
	do {
		int64_t n = total - at < part ? total - at : part;
		int rc;

		wire_begin(b, WIRE_WEIGHT);
		wire_put(b, "name", "%s", name);
		wire_put(b, "type", "%s", type);
		wire_put(b, "shape", "%s", text);
		wire_put(b, "sha256", "%s", sha256);
		wire_put(b, "n", "%lld", (long long)total);
		wire_put(b, "offset", "%lld", (long long)at);
		if (values)
			wire_body(b, values + at, (size_t)n * sizeof(float));
		rc = channel_send(&s->ch, NULL);
		if (rc < 0)
			return rc;
		at += n;
	} while (values && at < total);
	return 0;
}

int serve_weights(struct session *s, const struct wire_frame *f, struct err *e)
{
	int64_t start_us = serve_now_us();
	char name[256];
	bool one = wire_get(f, "name", 0, name, sizeof(name)) && *name;
	int rc;

	rc = s->ops->weights(s->engine, one ? name : NULL, wire_get_int(f, "values", 0) != 0,
			     on_weight, s, e);
	return rc < 0 ? rc : serve_done(s, 0, start_us, e);
}
