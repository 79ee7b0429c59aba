#include "serve.h"

#include "machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#ifndef ASSAY_BUILD_ID
#include "build_id.h"
#endif

int64_t serve_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static long peak_kib(void)
{
	struct rusage u;

	return getrusage(RUSAGE_SELF, &u) == 0 ? u.ru_maxrss : 0;
}

static int send_hello(struct session *s, struct err *e)
{
	struct wire_builder *b = &s->ch.out;
	char isa[256];

	machine_isa(isa, sizeof(isa));
	wire_begin(b, WIRE_HELLO);
	wire_put(b, "protocol", "%d", WIRE_PROTOCOL);
	wire_put(b, "engine", "%s", s->ops->name);
	wire_put(b, "build", "%s", ASSAY_BUILD_ID);
	wire_put(b, "isa", "%s", isa);
	wire_put(b, "features", "%s%s", s->ops->features, s->traits->render ? ",template" : "");
	return channel_send(&s->ch, e);
}

static int need_engine(const struct session *s, struct err *e)
{
	return s->engine ? 0 : err_set(e, EXIT_USAGE, "no model is open: OPEN comes first");
}

/* ---- OPEN --------------------------------------------------------------------------------- */

static int on_note(void *ctx, const char *line)
{
	struct session *s = ctx;

	wire_begin(&s->ch.out, WIRE_NOTE);
	wire_body(&s->ch.out, line, strlen(line));
	return channel_send(&s->ch, NULL);
}

static int send_opened(struct session *s, int64_t start_us, struct err *e)
{
	const struct engine_info *i = s->ops->info(s->engine);
	struct wire_builder *b = &s->ch.out;

	wire_begin(b, WIRE_OPENED);
	wire_put(b, "arch", "%s", i->arch);
	wire_put(b, "n_vocab", "%d", i->n_vocab);
	wire_put(b, "n_layer", "%d", i->n_layer);
	wire_put(b, "n_embd", "%d", i->n_embd);
	wire_put(b, "n_ff", "%d", i->n_ff);
	wire_put(b, "n_head", "%d", i->n_head);
	wire_put(b, "n_kv_head", "%d", i->n_kv_head);
	wire_put(b, "head_dim", "%d", i->head_dim);
	wire_put(b, "n_ctx", "%d", i->n_ctx);
	wire_put(b, "bos", "%d", (int)i->bos);
	wire_put(b, "eos", "%d", (int)i->eos);
	wire_put(b, "eot", "%d", (int)i->eot);
	wire_put(b, "add_bos", "%d", i->add_bos);
	wire_put(b, "profile", "%s", i->profile);
	wire_put(b, "isa", "%s", i->isa);
	wire_put(b, "weights", "%s", i->weights);
	wire_put(b, "note", "%s", i->note);
	wire_put(b, "open_us", "%lld", (long long)(serve_now_us() - start_us));
	wire_put(b, "peak_kib", "%ld", peak_kib());
	return channel_send(&s->ch, e);
}

struct open_strings {
	char tokenizer[4096], profile[64], isa[64], kv[16];
	char overrides[ENGINE_OVERRIDES_MAX][512];
};

static int open_options(struct engine_options *o, struct open_strings *t, char *model,
			size_t model_size, const struct wire_frame *f, struct err *e)
{
	if (!wire_get(f, "model", 0, model, model_size) || !*model)
		return err_set(e, EXIT_USAGE, "OPEN names no model");
	o->model_path = model;
	if (wire_get(f, "tokenizer", 0, t->tokenizer, sizeof(t->tokenizer)) && *t->tokenizer)
		o->tokenizer_path = t->tokenizer;
	if (wire_get(f, "profile", 0, t->profile, sizeof(t->profile)) && *t->profile)
		o->profile = t->profile;
	if (wire_get(f, "isa", 0, t->isa, sizeof(t->isa)) && *t->isa)
		o->isa = t->isa;
	if (wire_get(f, "kv", 0, t->kv, sizeof(t->kv)) && *t->kv) {
		if (strcmp(t->kv, "f16") != 0 && strcmp(t->kv, "f32") != 0)
			return err_set(e, EXIT_USAGE, "kv=%s is neither f16 nor f32", t->kv);
		o->kv_f32 = strcmp(t->kv, "f32") == 0;
	}
	o->n_threads = (int)wire_get_int(f, "threads", 0);
	o->n_ctx = (int)wire_get_int(f, "ctx", 0);
	o->n_ubatch = (int)wire_get_int(f, "ubatch", 0);
	if (o->n_threads <= 0)
		o->n_threads = machine_threads();
	if (o->n_threads > 4096 || o->n_ctx < 0 || o->n_ubatch < 0)
		return err_set(e, EXIT_USAGE, "threads=%d ctx=%d ubatch=%d is out of range",
			       o->n_threads, o->n_ctx, o->n_ubatch);
	o->vocab_only = wire_get_int(f, "vocab_only", 0) != 0;
	o->pin_threads = wire_get_int(f, "pin", 0) != 0;
	o->reproduce_defects = wire_get_int(f, "reproduce_defects", 0) != 0;
	while (wire_get(f, "override", o->n_overrides, t->overrides[o->n_overrides],
			sizeof(t->overrides[0]))) {
		o->overrides[o->n_overrides] = t->overrides[o->n_overrides];
		if (++o->n_overrides == ENGINE_OVERRIDES_MAX)
			break;
	}
	return 0;
}

int serve_open(struct session *s, const struct wire_frame *f, struct err *e)
{
	struct engine_options o = {.on_note = on_note, .note_ctx = s};
	struct open_strings *t = calloc(1, sizeof(*t));
	int64_t start_us = serve_now_us();
	int rc;

	if (!t)
		return err_set(e, EXIT_INTERNAL, "no memory");
	if (s->engine)
		s->ops->close(s->engine);
	s->engine = NULL;
	s->counted.n = 0;
	rc = open_options(&o, t, s->model_path, sizeof(s->model_path), f, e);
	if (rc == 0)
		rc = s->ops->open(&s->engine, &o, e);
	free(t);
	return rc < 0 ? rc : send_opened(s, start_us, e);
}

/* ---- TOKENIZE, DETOKENIZE ----------------------------------------------------------------- */

static int serve_tokenize(struct session *s, const struct wire_frame *f, struct err *e)
{
	bool add_bos = wire_get_int(f, "add_bos", 0) != 0;
	bool parse_special = wire_get_int(f, "parse_special", 0) != 0;
	int32_t *ids = NULL;
	int n = 0, rc;

	rc = s->ops->tokenize(s->engine, (const char *)f->body, f->body_bytes, add_bos,
			      parse_special, &ids, &n, e);
	if (rc < 0)
		return rc;
	wire_begin(&s->ch.out, WIRE_TOKENS);
	wire_put(&s->ch.out, "n", "%d", n);
	wire_body(&s->ch.out, ids, (size_t)n * sizeof(*ids));
	free(ids);
	return channel_send(&s->ch, e);
}

static int serve_detokenize(struct session *s, const struct wire_frame *f, struct err *e)
{
	const int32_t *ids = (const int32_t *)(const void *)f->body;
	char piece[4096];

	if (f->body_bytes % sizeof(*ids))
		return err_set(e, EXIT_USAGE, "%zu bytes are not a list of int32 ids",
			       f->body_bytes);
	wire_begin(&s->ch.out, WIRE_PIECES);
	for (size_t i = 0; i < f->body_bytes / sizeof(*ids); i++) {
		int n = s->ops->piece(s->engine, ids[i], piece, sizeof(piece), e);
		uint32_t length = n < 0 ? 0 : (uint32_t)n;

		if (n < 0)
			return n;
		wire_body(&s->ch.out, &length, sizeof(length));
		wire_body(&s->ch.out, piece, length);
	}
	return channel_send(&s->ch, e);
}

/* ---- DONE --------------------------------------------------------------------------------- */

static void count(void *ctx, const char *kernel, uint64_t calls)
{
	struct counters *c = ctx;

	if (c->n == SERVE_COUNTERS_MAX)
		return;
	snprintf(c->items[c->n].kernel, sizeof(c->items[0].kernel), "%s", kernel);
	c->items[c->n++].calls = calls;
}

static uint64_t counted_before(const struct counters *c, const char *kernel)
{
	for (int i = 0; i < c->n; i++)
		if (strcmp(c->items[i].kernel, kernel) == 0)
			return c->items[i].calls;
	return 0;
}

int serve_done(struct session *s, int64_t n_pos, int64_t start_us, struct err *e)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_.-";
	struct wire_builder *b = &s->ch.out;
	struct counters now = {.n = 0};

	if (s->ops->counters)
		s->ops->counters(s->engine, count, &now);
	wire_begin(b, WIRE_DONE);
	wire_put(b, "n_pos", "%lld", (long long)n_pos);
	wire_put(b, "eval_us", "%lld", (long long)(serve_now_us() - start_us));
	if (s->prefill_us)
		wire_put(b, "prefill_us", "%lld", (long long)s->prefill_us);
	/* before and after what was measured: one of them alone can have had another neighbour */
	if (s->pace_ns)
		wire_put(b, "pace_ns", "%lld", (long long)(s->pace_ns + machine_pace_ns()) / 2);
	s->prefill_us = 0;
	s->pace_ns = 0;
	wire_put(b, "peak_kib", "%ld", peak_kib());
	for (int i = 0; i < now.n; i++) {
		const struct counter *c = &now.items[i];
		uint64_t calls = c->calls - counted_before(&s->counted, c->kernel);
		char key[80];

		snprintf(key, sizeof(key), "kernel.%s", c->kernel);
		key[strspn(key, allowed)] = 0;
		if (calls)
			wire_put(b, key, "%llu", (unsigned long long)calls);
	}
	s->counted = now;
	return channel_send(&s->ch, e);
}

/* ---- the loop ----------------------------------------------------------------------------- */

static int dispatch(struct session *s, const struct wire_frame *f, struct err *e)
{
	int rc = 0;

	switch (f->type) {
	case WIRE_OPEN:
		return serve_open(s, f, e);
	case WIRE_TEMPLATE:
		if (!s->traits->render)
			break;
		if (!*s->model_path)
			return need_engine(s, e);
		return s->traits->render(&s->ch, s->model_path, f, e);
	case WIRE_MEASURE:
		if (!s->traits->measure)
			break;
		return s->traits->measure(&s->ch, f, e);
	case WIRE_TOKENIZE:
	case WIRE_DETOKENIZE:
	case WIRE_EVALUATE:
	case WIRE_REPLAY:
	case WIRE_WEIGHTS:
		rc = need_engine(s, e);
		if (rc < 0)
			return rc;
		if (f->type == WIRE_TOKENIZE)
			return serve_tokenize(s, f, e);
		if (f->type == WIRE_DETOKENIZE)
			return serve_detokenize(s, f, e);
		if (f->type == WIRE_EVALUATE)
			return serve_evaluate(s, f, e);
		if (f->type == WIRE_REPLAY && s->ops->replay)
			return serve_replay(s, f, e);
		if (f->type == WIRE_WEIGHTS && s->ops->weights)
			return serve_weights(s, f, e);
		break;
	default:
		break;
	}
	return err_set(e, EXIT_USAGE, "engine %s does not answer %s (type %d)", s->ops->name,
		       wire_type_name(f->type), (int)f->type);
}

int serve(int fd, const struct engine_ops *ops, const struct worker_traits *traits, struct err *e)
{
	struct session *s = calloc(1, sizeof(*s));
	struct wire_frame f;
	int rc;

	if (!s)
		return err_set(e, EXIT_INTERNAL, "no memory");
	s->ch.fd = fd;
	s->ops = ops;
	s->traits = traits;
	rc = send_hello(s, e);
	while (rc >= 0 && (rc = channel_read(&s->ch, &f, e)) == 1) {
		struct err why = ERR_NONE;

		if (f.type == WIRE_BYE) {
			rc = 0;
			break;
		}
		rc = dispatch(s, &f, &why);
		if (rc < 0)
			rc = channel_fail(&s->ch, &why, e);
	}
	if (s->engine)
		ops->close(s->engine);
	channel_free(&s->ch);
	free(s);
	return rc;
}
