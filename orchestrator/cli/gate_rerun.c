#include "gate_rerun.h"

#include "digest.h"
#include "sweep/client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

static int read_ids(const char *receipt_path, const char *side, int32_t **ids, int *n,
		    struct err *e)
{
	char path[PATH_BYTES];
	const char *slash = strrchr(receipt_path, '/');
	json_error_t why;
	json_t *o, *list;

	snprintf(path, sizeof(path), "%.*stokens.json", slash ? (int)(slash - receipt_path) + 1 : 0,
		 receipt_path);
	o = json_load_file(path, 0, &why);
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

static int hash_logits(void *ctx, const struct wire_frame *f, struct err *e)
{
	(void)e;
	if (f->type == WIRE_LOGITS)
		digest_update(ctx, f->body, f->body_bytes);
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

static int evaluate(const json_t *receipt, const json_t *side, struct client *c, const char *model,
		    const int32_t *ids, int n, struct digest *logits, struct err *e)
{
	json_t *scenario = json_object_get(receipt, "scenario");
	int64_t greedy = json_integer_value(json_object_get(scenario, "max_new_tokens"));
	int64_t threads = json_integer_value(json_object_get(json_object_get(receipt, "host"),
							     "threads"));
	struct wire_builder b = {0};
	int r;

	wire_begin(&b, WIRE_OPEN);
	wire_put(&b, "model", "%s", model);
	put_asked(&b, json_object_get(receipt, "asked"));
	wire_put(&b, "threads", "%lld", (long long)(threads > 0 ? threads : 1));
	wire_put(&b, "ctx", "%lld", (long long)(n + greedy + 8 + 255) / 256 * 256);
	put_text(&b, "profile", side);
	put_text(&b, "isa", side);
	r = call(c, &b, NULL, NULL, e);
	if (r == 0) {
		wire_begin(&b, WIRE_EVALUATE);
		wire_put(&b, "tokens", "%d", n);
		wire_put(&b, "greedy", "%lld", (long long)greedy);
		wire_put(&b, "logits", "all");
		put_value(&b, "batch", json_object_get(json_object_get(receipt, "asked"), "batch"));
		wire_body(&b, ids, (size_t)n * sizeof(*ids));
		r = call(c, &b, hash_logits, logits, e);
	}
	wire_builder_free(&b);
	return r;
}

int gate_rerun(const json_t *receipt, const char *name, const char *receipt_path,
	       const char *model, struct gate_rerun *out, struct err *e)
{
	const json_t *side = json_object_get(json_object_get(receipt, "engines"), name);
	const char *engine = json_string_value(json_object_get(side, "engine"));
	struct client_options o = {.engine = engine ? engine : ""};
	struct client *c = NULL;
	uint8_t sha[DIGEST_BYTES];
	struct digest tokens, logits;
	int32_t *ids = NULL;
	int n, r = read_ids(receipt_path, name, &ids, &n, e);

	if (r < 0)
		return r;
	digest_init(&tokens);
	digest_init(&logits);
	digest_update(&tokens, ids, (size_t)n * sizeof(*ids));
	r = client_open(&c, &o, e);
	if (r == 0)
		r = evaluate(receipt, side, c, model, ids, n, &logits, e);
	out->side = name;
	if (r == 0) {
		digest_final(&tokens, sha);
		digest_hex(sha, out->tokens_sha256);
		digest_final(&logits, sha);
		digest_hex(sha, out->logits_sha256);
	}
	client_close(c);
	free(ids);
	return r;
}
