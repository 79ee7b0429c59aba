#include "gate_rerun.h"

#include "digest.h"
#include "report/input.h"
#include "sweep/client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

static const size_t floats_max = (size_t)128 << 20; /* of one side; longer ones are not kept */

static int read_ids(const char *receipt_path, const char *side, int32_t **ids, int *n,
		    struct err *e)
{
	char path[PATH_BYTES];
	const char *slash = strrchr(receipt_path, '/');
	json_error_t why;
	json_t *o, *list;

	snprintf(path, sizeof(path), "%.*stokens.json", slash ? (int)(slash - receipt_path) + 1 : 0,
		 receipt_path);
	o = input_json(path, &why);
	list = json_object_get(json_object_get(o, side), "prompt");
	if (!json_is_array(list) || json_array_size(list) == 0) {
		json_decref(o);
		return err_set(e, EXIT_RECEIPT_INVALID,
			       "%s: the prompt's ids, needed to run again, are "
			       "not there",
			       path);
	}
	*n = (int)json_array_size(list);
	*ids = malloc((size_t)*n * sizeof(**ids));
	assert(*ids);
	for (int i = 0; i < *n; i++)
		(*ids)[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
	json_decref(o);
	return 0;
}

struct answer {
	struct digest logits;
	json_t *greedy;
	int32_t *ids;			/* [n] of the prompt, tokenized again; NULL: it was not */
	size_t n;
	float *rows;			/* [n_floats] of n_cap; NULL: not kept */
	size_t n_floats, n_cap;
	bool keep;
};

static void keep_row(struct answer *a, const struct wire_frame *f)
{
	size_t n = f->body_bytes / sizeof(float);

	if (a->n_floats + n > floats_max)
		a->keep = false;
	if (!a->keep)
		return;
	if (a->n_floats + n > a->n_cap) {
		a->n_cap = 2 * a->n_cap + n;
		a->rows = realloc(a->rows, a->n_cap * sizeof(*a->rows));
		assert(a->rows);
	}
	memcpy(a->rows + a->n_floats, f->body, n * sizeof(*a->rows));
	a->n_floats += n;
}

static int take(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct answer *a = ctx;
	int64_t id = f->type == WIRE_LOGITS ? wire_get_int(f, "token", -1) : -1;

	(void)e;
	if (f->type == WIRE_LOGITS) {
		digest_update(&a->logits, f->body, f->body_bytes);
		keep_row(a, f);
	}
	if (id >= 0)
		json_array_append_new(a->greedy, json_integer(id));
	if (f->type == WIRE_TOKENS) {
		free(a->ids);
		a->n = f->body_bytes / sizeof(*a->ids);
		a->ids = malloc(f->body_bytes + 1);
		assert(a->ids);
		memcpy(a->ids, f->body, a->n * sizeof(*a->ids));
	}
	return 0;
}

static int call(struct client *c, struct wire_builder *b, client_frame_fn *fn, void *ctx,
		struct err *e)
{
	int r = wire_finish(b, e);

	return r < 0 ? r : client_call(c, b, fn, ctx, e);
}

static void put_text(struct wire_builder *b, const char *key, const json_t *side)
{
	const char *s = json_string_value(json_object_get(json_object_get(side, "opened"), key));

	if (s && *s)
		wire_put(b, key, "%s", s);
}

static void put_value(struct wire_builder *b, const char *key, const json_t *v)
{
	if (json_is_string(v))
		wire_put(b, key, "%s", json_string_value(v));
	else if (json_is_integer(v))
		wire_put(b, key, "%lld", (long long)json_integer_value(v));
}

/* kv, ubatch, override … as the run had them; profile and isa are the engine's own words. */
static void put_asked(struct wire_builder *b, json_t *asked)
{
	const char *key;
	json_t *v, *item;
	size_t i;

	json_object_foreach(asked, key, v) {
		if (strcmp(key, "profile") == 0 || strcmp(key, "isa") == 0 ||
		    strcmp(key, "ctx") == 0 || strcmp(key, "batch") == 0)
			continue;
		put_value(b, key, v);
		json_array_foreach(v, i, item)
			put_value(b, key, item);
	}
}

struct rerun {
	const json_t *receipt, *side;
	const char *model, *prompt;
	size_t prompt_bytes;
	int32_t *ids;			/* [n] of the prompt */
	int n;
};

static int64_t greedy_of(const struct rerun *u)
{
	return json_integer_value(json_object_get(json_object_get(u->receipt, "scenario"),
						  "max_new_tokens"));
}

static int open_model(const struct rerun *u, struct client *c, struct err *e)
{
	int64_t threads = json_integer_value(json_object_get(json_object_get(u->receipt, "host"),
							     "threads"));
	struct wire_builder b = {0};
	int r;

	wire_begin(&b, WIRE_OPEN);
	wire_put(&b, "model", "%s", u->model);
	put_asked(&b, json_object_get(u->receipt, "asked"));
	wire_put(&b, "threads", "%lld", (long long)(threads > 0 ? threads : 1));
	wire_put(&b, "ctx", "%lld", (long long)(u->n + greedy_of(u) + 8 + 255) / 256 * 256);
	put_text(&b, "profile", u->side);
	put_text(&b, "isa", u->side);
	r = call(c, &b, NULL, NULL, e);
	wire_builder_free(&b);
	return r;
}

/* The model's own tokenizer reads the prompt once more; another tokenizer's file is not at hand. */
static int tokenize(const struct rerun *u, struct client *c, struct answer *a, struct err *e)
{
	const json_t *template = json_object_get(u->receipt, "template");
	const char *source = json_string_value(
		json_object_get(json_object_get(u->receipt, "tokenizer"), "source"));
	struct wire_builder b = {0};
	int r;

	if (!u->prompt || !source || strcmp(source, "model") != 0 ||
	    !json_is_true(json_object_get(u->side, "tokenized")))
		return 0;
	wire_begin(&b, WIRE_TOKENIZE);
	wire_put(&b, "add_bos", "%d", json_is_true(json_object_get(template, "add_bos")));
	wire_put(&b, "parse_special", "%d", json_is_true(json_object_get(template, "parse_special")));
	wire_body(&b, u->prompt, u->prompt_bytes);
	r = call(c, &b, take, a, e);
	wire_builder_free(&b);
	return r;
}

static int evaluate(const struct rerun *u, struct client *c, struct answer *a, struct err *e)
{
	struct wire_builder b = {0};
	int r;

	wire_begin(&b, WIRE_EVALUATE);
	wire_put(&b, "tokens", "%d", u->n);
	wire_put(&b, "greedy", "%lld", (long long)greedy_of(u));
	wire_put(&b, "logits", "all");
	put_value(&b, "batch", json_object_get(json_object_get(u->receipt, "asked"), "batch"));
	wire_body(&b, u->ids, (size_t)u->n * sizeof(*u->ids));
	r = call(c, &b, take, a, e);
	wire_builder_free(&b);
	return r;
}

static void conclude(const struct rerun *u, struct answer *a, struct gate_rerun *out)
{
	size_t n = a->ids && a->n < (size_t)u->n ? a->n : (size_t)u->n;
	uint8_t sha[DIGEST_BYTES];
	struct digest tokens;

	digest_init(&tokens);
	digest_update(&tokens, a->ids ? a->ids : u->ids, n * sizeof(*u->ids));
	digest_final(&tokens, sha);
	digest_hex(sha, out->tokens_sha256);
	digest_final(&a->logits, sha);
	digest_hex(sha, out->logits_sha256);
	out->tokenized = a->ids != NULL;
	out->greedy = json_incref(a->greedy);
	if (a->keep) {
		out->rows = a->rows;
		out->n_floats = a->n_floats;
		a->rows = NULL;
	}
}

int gate_rerun(const json_t *receipt, const char *name, const char *receipt_path, const char *model,
	       const char *prompt, size_t prompt_bytes, struct gate_rerun *out, struct err *e)
{
	const json_t *side = json_object_get(json_object_get(receipt, "engines"), name);
	const char *engine = json_string_value(json_object_get(side, "engine"));
	struct rerun u = {receipt, side, model, prompt, prompt_bytes, NULL, 0};
	struct client_options o = {.engine = engine ? engine : ""};
	struct answer a = {.greedy = json_array(), .keep = true};
	struct client *c = NULL;
	int r = read_ids(receipt_path, name, &u.ids, &u.n, e);

	*out = (struct gate_rerun){.side = name};
	digest_init(&a.logits);
	if (r == 0)
		r = client_open(&c, &o, e);
	if (r == 0)
		r = open_model(&u, c, e);
	if (r == 0)
		r = tokenize(&u, c, &a, e);
	if (r == 0)
		r = evaluate(&u, c, &a, e);
	if (r == 0)
		conclude(&u, &a, out);
	client_close(c);
	json_decref(a.greedy);
	free(a.ids);
	free(a.rows);
	free(u.ids);
	return r;
}
