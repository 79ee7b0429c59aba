#include "check_worker.h"

#include "sweep/client.h"
#include "wire.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 64 << 20, DEADLINE_MS = 120000 };

struct answer {
	struct check_worker *w;
	struct check_run *run;
	int n_tokens;
};

static int on_open(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct check_worker *w = ctx;

	(void)e;
	if (f->type != WIRE_OPENED)
		return 0;
	wire_get(f, "arch", 0, w->arch, sizeof(w->arch));
	wire_get(f, "profile", 0, w->profile, sizeof(w->profile));
	wire_get(f, "isa", 0, w->isa, sizeof(w->isa));
	w->n_vocab = (int)wire_get_int(f, "n_vocab", 0);
	w->n_layer = (int)wire_get_int(f, "n_layer", 0);
	return 0;
}

int check_worker_open(struct check_worker *w, const char *engine, const char *model,
		      const char *profile, int threads, struct err *e)
{
	struct client_options o = {.engine = engine, .deadline_ms = DEADLINE_MS};
	struct wire_builder b = {0};
	int r;

	memset(w, 0, sizeof(*w));
	r = client_open(&w->client, &o, e);
	if (r < 0)
		return r;
	wire_begin(&b, WIRE_OPEN);
	wire_put(&b, "model", "%s", model);
	wire_put(&b, "threads", "%d", threads);
	if (profile)
		wire_put(&b, "profile", "%s", profile);
	r = wire_finish(&b, e);
	if (r == 0)
		r = client_call(w->client, &b, on_open, w, e);
	wire_builder_free(&b);
	if (r == 0 && w->n_vocab < 1)
		r = err_set(e, EXIT_WORKER, "engine %s opened a model without a vocabulary",
			    engine);
	if (r < 0)
		check_worker_close(w);
	return r;
}

void check_worker_close(struct check_worker *w)
{
	client_close(w->client);
	w->client = NULL;
}

static int take_logits(struct answer *a, const struct wire_frame *f, struct err *e)
{
	int64_t pos = wire_get_int(f, "pos", -1);

	if (pos < 0 || pos >= a->n_tokens ||
	    f->body_bytes != (size_t)a->w->n_vocab * sizeof(float))
		return err_set(e, EXIT_WORKER,
			       "logits of position %lld with %zu bytes, expected %d values",
			       (long long)pos, f->body_bytes, a->w->n_vocab);
	memcpy(a->run->logits + (size_t)pos * (size_t)a->w->n_vocab, f->body, f->body_bytes);
	a->run->n_pos++;
	return 0;
}

static int take_trace(struct answer *a, const struct wire_frame *f, struct err *e)
{
	struct check_run *run = a->run;
	int64_t n = wire_get_int(f, "n", -1), offset = wire_get_int(f, "offset", 0);
	struct check_trace *t = run->n_traces ? &run->traces[run->n_traces - 1] : NULL;
	char stage[64] = "";

	if (n < 0 || n > VALUES_MAX || offset < 0 ||
	    (uint64_t)offset + f->body_bytes / sizeof(float) > (uint64_t)n)
		return err_set(e, EXIT_WORKER, "a trace of %lld values at %lld", (long long)n,
			       (long long)offset);
	if (offset == 0) {
		if (run->n_traces == CHECK_TRACES_MAX)
			return err_set(e, EXIT_WORKER, "more than %d traced tensors",
				       CHECK_TRACES_MAX);
		t = &run->traces[run->n_traces++];
		wire_get(f, "name", 0, t->name, sizeof(t->name));
		wire_get(f, "stage", 0, stage, sizeof(stage));
		t->stage = trace_stage_by_name(stage);
		t->layer = (int)wire_get_int(f, "layer", -1);
		t->n = n;
		t->values = calloc((size_t)n + 1, sizeof(float));
		assert(t->values);
	}
	if (!t || t->n != n)
		return err_set(e, EXIT_WORKER, "a later part of a trace without its first");
	memcpy(t->values + offset, f->body, f->body_bytes / sizeof(float) * sizeof(float));
	return 0;
}

static int on_answer(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct answer *a = ctx;

	if (f->type == WIRE_LOGITS)
		return take_logits(a, f, e);
	if (f->type == WIRE_TRACE)
		return take_trace(a, f, e);
	return 0;
}

static void run_init(struct check_run *run, int n_pos, int n_vocab, bool traces)
{
	memset(run, 0, sizeof(*run));
	run->n_vocab = n_vocab;
	run->logits = calloc((size_t)n_pos * (size_t)n_vocab + 1, sizeof(float));
	run->traces = calloc(traces ? CHECK_TRACES_MAX : 1, sizeof(*run->traces));
	assert(run->logits && run->traces);
}

int check_worker_evaluate(struct check_worker *w, const int32_t *ids, int n, bool single,
			  bool traces, struct check_run *out, struct err *e)
{
	struct answer a = {.w = w, .run = out, .n_tokens = n};
	struct wire_builder b = {0};
	int r;

	run_init(out, n, w->n_vocab, traces);
	wire_begin(&b, WIRE_EVALUATE);
	wire_put(&b, "tokens", "%d", n);
	wire_put(&b, "single", "%d", single);
	wire_put(&b, "logits", "all");
	wire_put(&b, "trace", traces ? "all" : "none");
	wire_put(&b, "values", "1");
	wire_body(&b, ids, (size_t)n * sizeof(*ids));
	r = wire_finish(&b, e);
	if (r == 0)
		r = client_call(w->client, &b, on_answer, &a, e);
	wire_builder_free(&b);
	if (r == 0 && out->n_pos != n)
		r = err_set(e, EXIT_WORKER, "%d positions answered, %d asked", out->n_pos, n);
	if (r < 0)
		check_run_free(out);
	return r;
}

int check_worker_replay(struct check_worker *w, int stage, int layer, int n_tokens,
			const struct check_trace *const *inputs, int n_inputs, const char *variant,
			struct check_run *out, struct err *e)
{
	struct answer a = {.w = w, .run = out};
	struct wire_builder b = {0};
	char names[512] = "";
	int r;

	run_init(out, 0, 0, true);
	for (int i = 0; i < n_inputs; i++) {
		size_t at = strlen(names);

		snprintf(names + at, sizeof(names) - at, "%s%s:%lld", at ? "," : "",
			 trace_stage_name((enum trace_stage)inputs[i]->stage),
			 (long long)inputs[i]->n);
	}
	wire_begin(&b, WIRE_REPLAY);
	wire_put(&b, "stage", "%s", trace_stage_name((enum trace_stage)stage));
	wire_put(&b, "layer", "%d", layer);
	wire_put(&b, "pos0", "0");
	wire_put(&b, "n_tokens", "%d", n_tokens);
	wire_put(&b, "inputs", "%s", names);
	if (variant)
		wire_put(&b, "variant", "%s", variant);
	for (int i = 0; i < n_inputs; i++)
		wire_body(&b, inputs[i]->values, (size_t)inputs[i]->n * sizeof(float));
	r = wire_finish(&b, e);
	if (r == 0)
		r = client_call(w->client, &b, on_answer, &a, e);
	wire_builder_free(&b);
	if (r == 0 && out->n_traces < 1)
		r = err_set(e, EXIT_WORKER, "a replay without an answer");
	if (r < 0)
		check_run_free(out);
	return r;
}

void check_run_free(struct check_run *r)
{
	for (int i = 0; i < r->n_traces; i++)
		free(r->traces[i].values);
	free(r->traces);
	free(r->logits);
	memset(r, 0, sizeof(*r));
}

const struct check_trace *check_run_trace(const struct check_run *r, const char *name)
{
	for (int i = 0; i < r->n_traces; i++)
		if (strcmp(r->traces[i].name, name) == 0)
			return &r->traces[i];
	return NULL;
}

double check_nmse(const float *a, int64_t na, const float *b, int64_t nb)
{
	double d2 = 0, b2 = 0;

	if (na != nb)
		return (double)INFINITY;
	for (int64_t i = 0; i < na; i++) {
		double d = (double)a[i] - (double)b[i];

		d2 += d * d;
		b2 += (double)b[i] * (double)b[i];
	}
	if (!isfinite(d2))
		return (double)INFINITY;
	return d2 == 0 ? 0 : b2 == 0 ? (double)INFINITY : d2 / b2;
}

double check_cosine(const float *a, const float *b, int64_t n)
{
	double ab = 0, aa = 0, bb = 0;

	for (int64_t i = 0; i < n; i++) {
		ab += (double)a[i] * (double)b[i];
		aa += (double)a[i] * (double)a[i];
		bb += (double)b[i] * (double)b[i];
	}
	return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

bool check_same_bits(const struct check_run *a, const struct check_run *b)
{
	return a->n_pos == b->n_pos && a->n_vocab == b->n_vocab &&
	       memcmp(a->logits, b->logits,
		      (size_t)a->n_pos * (size_t)a->n_vocab * sizeof(float)) == 0;
}
