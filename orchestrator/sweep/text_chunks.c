#include "text_chunks.h"

#include "client.h"
#include "token_gate.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tokenized {
	const char *engine;
	int32_t *ids;
	int n;
	int32_t bos;
	bool add_bos;
};

static int on_frame(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct tokenized *t = ctx;

	(void)e;
	if (f->type == WIRE_OPENED) {
		t->bos = (int32_t)wire_get_int(f, "bos", -1);
		t->add_bos = wire_get_int(f, "add_bos", 0) != 0 && t->bos >= 0;
	} else if (f->type == WIRE_TOKENS) {
		free(t->ids);
		t->ids = malloc(f->body_bytes + 1);
		assert(t->ids);
		if (f->body_bytes)
			memcpy(t->ids, f->body, f->body_bytes);
		t->n = (int)(f->body_bytes / sizeof(*t->ids));
	}
	return 0;
}

static int call(struct client *c, struct wire_builder *b, struct tokenized *t, struct err *e)
{
	int rc = wire_finish(b, e);

	return rc < 0 ? rc : client_call(c, b, on_frame, t, e);
}

static int ask(const struct text_chunks *t, struct client *c, struct tokenized *out, struct err *e)
{
	const struct exchange_setup *u = t->setup;
	struct wire_builder b = {0};
	int rc;

	wire_begin(&b, WIRE_OPEN);
	wire_put(&b, "model", "%s", u->model);
	if (u->tokenizer)
		wire_put(&b, "tokenizer", "%s", u->tokenizer);
	wire_put(&b, "vocab_only", "1");
	for (int i = 0; i < u->n_overrides; i++)
		wire_put(&b, "override", "%s", u->overrides[i]);
	rc = call(c, &b, out, e);
	if (rc == 0) {
		wire_begin(&b, WIRE_TOKENIZE);
		wire_put(&b, "add_bos", "%d", out->add_bos);
		wire_put(&b, "parse_special", "0");
		wire_body(&b, t->text, t->bytes);
		rc = call(c, &b, out, e);
	}
	wire_builder_free(&b);
	return rc;
}

/* 1 when the engine answered, 0 when it has no answer, negative when it failed. */
static int tokenize(const struct text_chunks *t, const char *engine, struct tokenized *out,
		    struct err *e)
{
	struct client_options o = {.engine = engine};
	struct client *c = NULL;
	int rc = client_open(&c, &o, e);

	out->engine = engine;
	if (rc == 0 && !client_says(c, "tokenize")) {
		client_close(c);
		return 0;
	}
	if (rc == 0)
		rc = ask(t, c, out, e);
	client_close(c);
	if (rc == -EXIT_NO_REFERENCE && strncmp(engine, "recorded:", 9) == 0 && !out->ids)
		return 0;
	return rc < 0 ? err_prefix(e, "engine %s", engine) : 1;
}

static int gate(const struct tokenized *a, const struct tokenized *b, struct err *e)
{
	int at = token_gate_compare(a->ids, a->n, b->ids, b->n);

	if (at < 0 && a->add_bos == b->add_bos)
		return 0;
	if (at < 0)
		return err_set(
		    e, EXIT_TOKENS_DIFFER, "%s %s a BOS, %s does not; nothing was evaluated",
		    a->add_bos ? a->engine : b->engine, "adds", a->add_bos ? b->engine : a->engine);
	return err_set(
	    e, EXIT_TOKENS_DIFFER,
	    "tokens of the text differ from index %d on (%s: id %d of %d, %s: id %d of %d); "
	    "nothing was evaluated. `assay crossval-per-token --ladder tokens` on the lines "
	    "around it says why",
	    at, a->engine, at < a->n ? (int)a->ids[at] : -1, a->n, b->engine,
	    at < b->n ? (int)b->ids[at] : -1, b->n);
}

static int cut(const struct text_chunks *t, const struct tokenized *all, struct scenario_set *out,
	       struct err *e)
{
	int n = all->n / t->chunk;

	if (t->max_chunks > 0 && n > t->max_chunks)
		n = t->max_chunks;
	if (n > SCENARIOS_MAX)
		n = SCENARIOS_MAX;
	if (n == 0)
		return err_set(
		    e, EXIT_NOTHING_RAN,
		    "the text has %d ids, a chunk needs %d: give a longer text or a smaller "
		    "--chunk",
		    all->n, t->chunk);
	out->items = calloc((size_t)n, sizeof(*out->items));
	assert(out->items);
	for (int i = 0; i < n; i++) {
		struct scenario *s = &out->items[out->n++];

		snprintf(s->id, sizeof(s->id), "chunk-%05d", i);
		s->timeout_s = t->timeout_s;
		s->n_tokens = t->chunk;
		s->tokens = malloc((size_t)t->chunk * sizeof(*s->tokens));
		assert(s->tokens);
		memcpy(s->tokens, all->ids + (size_t)i * (size_t)t->chunk,
		       (size_t)t->chunk * sizeof(*s->tokens));
		if (all->add_bos)
			s->tokens[0] = all->bos;
	}
	return 0;
}

int text_chunks_make(struct text_chunks *t, struct scenario_set *out, struct err *e)
{
	struct tokenized first = {.n = 0}, other;
	int rc = 0;

	t->n_tokenizers = 0;
	for (int i = 0; rc >= 0 && i < t->n_engines; i++) {
		other = (struct tokenized){.n = 0};
		rc = tokenize(t, t->engines[i], &other, e);
		if (rc == 1 && t->n_tokenizers++ == 0) {
			first = other;
			continue;
		}
		if (rc == 1)
			rc = gate(&first, &other, e);
		free(other.ids);
	}
	if (rc >= 0 && t->n_tokenizers == 0)
		rc = err_set(e, EXIT_NOTHING_RAN, "no engine here tokenizes the text");
	t->n_ids = first.n;
	if (rc >= 0)
		rc = cut(t, &first, out, e);
	free(first.ids);
	return rc < 0 ? rc : 0;
}
