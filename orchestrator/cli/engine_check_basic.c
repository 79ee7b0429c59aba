#include "engine_check.h"

#include <stdio.h>
#include <string.h>

enum { UNKNOWN_TYPE = 200, SETTLE_MS = 30 };

bool check_has(const struct engine_check *k, const char *feature)
{
	return client_says(k->client, feature);
}

bool check_ask(struct engine_check *k, const char *step, const struct wire_builder *b,
	       struct probe_answer *a)
{
	if (probe_ask(k->client, b, a) == 0) {
		client_settle(k->client, SETTLE_MS);
		return true;
	}
	k->dead = true;
	check_say(k, CHECK_FAILED, step, "no answer: %s", a->sentence);
	probe_free(a);
	return false;
}

void check_hello(struct engine_check *k)
{
	char engine[128] = "", build[128] = "", isa[256] = "";

	client_hello(k->client, "engine", engine, sizeof(engine));
	client_hello(k->client, "build", build, sizeof(build));
	client_hello(k->client, "isa", isa, sizeof(isa));
	client_hello(k->client, "features", k->features, sizeof(k->features));
	if (!*engine || !*build)
		check_say(k, CHECK_FAILED, "hello",
			  "HELLO needs engine= and build=: a receipt names what ran");
	else
		check_say(k, CHECK_OK, "hello", "engine %s, build %s, isa %s", engine, build,
			  *isa ? isa : "not named");
	if (!check_has(k, "evaluate"))
		check_say(k, CHECK_FAILED, "features", "features=%s lacks evaluate", k->features);
	else
		check_say(k, CHECK_OK, "features", "%s", k->features);
}

/* FAIL with this code, and the session goes on. */
static void expect_fail(struct engine_check *k, const char *step, struct wire_builder *b, int code)
{
	struct probe_answer a;

	if (wire_finish(b, NULL) < 0 || !check_ask(k, step, b, &a))
		return;
	if (a.type != WIRE_FAIL)
		check_say(k, CHECK_FAILED, step, "answered %s, expected FAIL code=%d",
			  wire_type_name(a.type), code);
	else if (a.code != code)
		check_say(k, CHECK_WARN, step, "FAIL code=%d (\"%s\"), expected %d", a.code,
			  a.sentence, code);
	else
		check_say(k, CHECK_OK, step, "FAIL code=%d \"%s\"", a.code, a.sentence);
	probe_free(&a);
}

void check_refusals(struct engine_check *k)
{
	struct wire_builder b = {0};

	wire_begin(&b, (enum wire_type)UNKNOWN_TYPE);
	expect_fail(k, "unknown", &b, EXIT_USAGE);
	if (!k->dead) {
		wire_begin(&b, WIRE_OPEN);
		wire_put(&b, "model", "%s.there-is-no-such-file", k->model);
		expect_fail(k, "no model", &b, EXIT_MODEL_LOAD);
	}
	wire_builder_free(&b);
}

void check_open(struct engine_check *k)
{
	struct wire_builder b = {0};
	struct probe_answer a;
	char arch[64] = "";

	wire_begin(&b, WIRE_OPEN);
	wire_put(&b, "model", "%s", k->model);
	wire_put(&b, "threads", "%d", k->threads);
	wire_finish(&b, NULL);
	if (!check_ask(k, "open", &b, &a))
		goto out;
	k->n_vocab = (int)probe_int(&a, "n_vocab", 0);
	k->n_ctx = (int)probe_int(&a, "n_ctx", 0);
	k->n_layer = (int)probe_int(&a, "n_layer", 0);
	k->n_embd = (int)probe_int(&a, "n_embd", 0);
	probe_text(&a, "arch", arch, sizeof(arch));
	if (a.type != WIRE_OPENED)
		check_say(k, CHECK_FAILED, "open", "%s: %s", wire_type_name(a.type), a.sentence);
	else if (k->n_vocab < 1 || k->n_ctx < 1)
		check_say(k, CHECK_FAILED, "open",
			  "OPENED needs n_vocab= and n_ctx= (%d and %d were given)", k->n_vocab,
			  k->n_ctx);
	else
		check_say(k, CHECK_OK, "open", "arch %s, %d ids, context %d", arch, k->n_vocab,
			  k->n_ctx);
	k->opened = a.type == WIRE_OPENED && k->n_vocab > 0 && k->n_ctx > 0;
	probe_free(&a);
out:
	wire_builder_free(&b);
}

static bool tokenize(struct engine_check *k, const char *text, struct probe_answer *a)
{
	struct wire_builder b = {0};
	bool answered;

	wire_begin(&b, WIRE_TOKENIZE);
	wire_put(&b, "add_bos", "1");
	wire_put(&b, "parse_special", "0");
	wire_body(&b, text, strlen(text));
	wire_finish(&b, NULL);
	answered = check_ask(k, "tokenize", &b, a);
	wire_builder_free(&b);
	return answered;
}

static void check_pieces(struct engine_check *k)
{
	struct wire_builder b = {0};
	struct probe_answer a;
	size_t at = 0;
	int n = 0;

	wire_begin(&b, WIRE_DETOKENIZE);
	wire_body(&b, k->ids, (size_t)k->n_ids * sizeof(k->ids[0]));
	wire_finish(&b, NULL);
	if (!check_ask(k, "pieces", &b, &a))
		goto out;
	while (a.type == WIRE_PIECES && a.body_bytes - at >= 4) {
		uint32_t bytes;

		memcpy(&bytes, a.body + at, 4);
		if (bytes > a.body_bytes - at - 4)
			break;
		at += 4 + bytes;
		n++;
	}
	if (a.type == WIRE_FAIL)
		check_say(k, CHECK_ABSENT, "pieces", "not offered: reports show ids without texts");
	else if (a.type != WIRE_PIECES || n != k->n_ids || at != a.body_bytes)
		check_say(k, CHECK_FAILED, "pieces", "%s with %d whole pieces for %d ids",
			  wire_type_name(a.type), n, k->n_ids);
	else
		check_say(k, CHECK_OK, "pieces", "%d pieces", n);
	probe_free(&a);
out:
	wire_builder_free(&b);
}

static bool looks_like_int64(const struct probe_answer *a, int n)
{
	int32_t id;

	for (int i = 1; i < n; i += 2) {
		memcpy(&id, a->body + (size_t)i * sizeof(id), sizeof(id));
		if (id != 0)
			return false;
	}
	return n >= 4 && n % 2 == 0;
}

/* Takes over the ids of a tokenized text; says what is wrong with them. */
static void judge_words(struct engine_check *k, const struct probe_answer *a,
			const struct probe_answer *again)
{
	int n = (int)(a->body_bytes / sizeof(int32_t));

	if (a->type == WIRE_TOKENS && (a->body_bytes % sizeof(int32_t) || n == 0)) {
		check_say(k, CHECK_FAILED, "tokenize",
			  "TOKENS with a body of %zu bytes: expected int32 ids, 4 bytes each",
			  a->body_bytes);
		return;
	}
	if (looks_like_int64(a, n)) {
		check_say(k, CHECK_FAILED, "tokenize",
			  "every second id is 0: these are 8 bytes each, expected int32");
		return;
	}
	if (a->type != WIRE_TOKENS) {
		check_say(k, CHECK_FAILED, "tokenize", "%s with %zu bytes: %s",
			  wire_type_name(a->type), a->body_bytes, a->sentence);
		return;
	}
	if (again->body_bytes != a->body_bytes ||
	    memcmp(again->body, a->body, a->body_bytes) != 0) {
		check_say(k, CHECK_FAILED, "tokenize",
			  "the same text gave other ids the second time");
		return;
	}
	for (int i = 0; i < n; i++) {
		int32_t id;

		memcpy(&id, a->body + (size_t)i * sizeof(id), sizeof(id));
		if (id < 0 || id >= k->n_vocab) {
			check_say(k, CHECK_FAILED, "tokenize",
				  "id %d at %d is outside the vocabulary of %d", (int)id, i,
				  k->n_vocab);
			return;
		}
		if (i < CHECK_IDS_MAX)
			k->ids[i] = id;
	}
	k->n_ids = n < CHECK_IDS_MAX ? n : CHECK_IDS_MAX;
	check_say(k, CHECK_OK, "tokenize", "%d ids, the same twice", n);
}

void check_words(struct engine_check *k)
{
	static const char text[] = "Hello, world! 2+2=4; the rest is bytes.";
	struct probe_answer a, again;

	if (!check_has(k, "tokenize")) {
		check_say(k, CHECK_ABSENT, "tokenize",
			  "not offered: prompts must come as ids, tokens are not compared");
	} else if (tokenize(k, text, &a)) {
		if (tokenize(k, text, &again)) {
			judge_words(k, &a, &again);
			probe_free(&again);
		}
		probe_free(&a);
		if (!k->dead && k->n_ids)
			check_pieces(k);
	}
	if (k->n_ids < 4) {
		k->n_ids = 8;
		for (int i = 0; i < k->n_ids; i++)
			k->ids[i] = (7 * i + 1) % k->n_vocab;
	}
	if (k->n_ids > k->n_ctx / 2)
		k->n_ids = k->n_ctx > 1 ? k->n_ctx / 2 : 1;
}
