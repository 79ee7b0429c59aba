#include "recorded.h"

#include "facts.h"
#include "digest.h"
#include "report/recording.h"
#include "report/recording_logits.h"
#include "serve/channel.h"
#include "trace.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct server {
	struct channel ch;
	struct recording r;
	struct err broken; /* why the archive cannot be used; told at OPEN */
	bool verified, compact;
	int n_vocab;
};

/* ---- the manifest ------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static int int_of(const json_t *o, const char *key)
{
	return (int)json_integer_value(json_object_get(o, key));
}

static bool true_in(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

static json_t *scenarios(const struct server *s)
{
	return json_object_get(s->r.manifest, "scenarios");
}

static const struct recording_member *member(const struct server *s, const json_t *scenario,
					     const char *name)
{
	static const struct recording_member none = {.bytes = -1};
	char path[RECORDING_NAME_MAX];
	const struct recording_member *m;

	snprintf(path, sizeof(path), "%s/%s", text_of(scenario, "id"), name);
	m = recording_find(&s->r, path);
	return m && m->content ? m : &none;
}

static void list_scenarios(const struct server *s, char *out, size_t size)
{
	const json_t *one;
	size_t i, n = 0;

	out[0] = '\0';
	json_array_foreach(scenarios(s), i, one)
	{
		if (n + 80 > size) {
			snprintf(out + n, size - n, ", …");
			return;
		}
		n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", text_of(one, "id"));
	}
}

static int not_recorded(const struct server *s, const char *what, struct err *e)
{
	char ids[600];

	list_scenarios(s, ids, sizeof(ids));
	return err_set(
	    e, EXIT_NO_REFERENCE,
	    "%s is not in the recording %s, which holds the scenarios %s; `assay record` on "
	    "a machine with %s makes one that has it",
	    what, s->r.path, ids, text_of(s->r.manifest, "engine"));
}

static bool native_computes(const char *profile)
{
	return strncmp(profile, "ggml-", 5) == 0 || strcmp(profile, "fast") == 0;
}

void recorded_profile(const char *path, char *out, size_t size)
{
	struct recording r;

	out[0] = '\0';
	if (recording_open(&r, path, NULL) < 0)
		return;
	if (native_computes(text_of(r.manifest, "profile")))
		snprintf(out, size, "%s", text_of(r.manifest, "profile"));
	recording_close(&r);
}

/* ---- HELLO, OPENED, DONE: what the engine said -------------------------------------------- */

/* Repeats "key=value\n" lines but those in `but` (",a,b,") and those that are no header lines. */
static void put_lines(struct wire_builder *b, const char *lines, const char *but)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_.-";

	while (*lines) {
		size_t n = strcspn(lines, "\n"), k = strcspn(lines, "=");
		char key[128], guarded[132];

		if (k > 0 && k < n && k < sizeof(key) && strspn(lines, allowed) == k) {
			snprintf(key, sizeof(key), "%.*s", (int)k, lines);
			snprintf(guarded, sizeof(guarded), ",%s,", key);
			if (!strstr(but, guarded))
				wire_put(b, key, "%.*s", (int)(n - k - 1), lines + k + 1);
		}
		lines += n + (lines[n] == '\n');
	}
}

static void put_origin(struct server *s)
{
	wire_put(&s->ch.out, "recorded", "%s", text_of(s->r.manifest, "content_sha256"));
	wire_put(&s->ch.out, "recorded_at", "%s", text_of(s->r.manifest, "created"));
	if (s->compact)
		wire_put(&s->ch.out, "max_error", "%.9g",
			 json_number_value(json_object_get(s->r.manifest, "max_error")));
}

static int send_hello(struct server *s, struct err *e)
{
	struct wire_builder *b = &s->ch.out;
	bool traced = strcmp(text_of(s->r.manifest, "trace"), "none") != 0;

	wire_begin(b, WIRE_HELLO);
	wire_put(b, "protocol", "%d", WIRE_PROTOCOL);
	if (s->broken.code) {
		wire_put(b, "engine", "recorded");
		wire_put(b, "features", "evaluate");
	} else {
		put_lines(b, text_of(s->r.manifest, "hello"), "");
		wire_put(b, "features", "%sevaluate%s",
			 true_in(s->r.manifest, "tokenizes") ? "template,tokenize," : "",
			 traced ? ",trace" : "");
		put_origin(s);
	}
	return channel_send(&s->ch, e);
}

static int check_model(struct server *s, const char *path, struct err *e)
{
	const json_t *model = json_object_get(s->r.manifest, "model");
	uint8_t sha[DIGEST_BYTES];
	char hex[DIGEST_HEX];
	int rc = digest_file(path, sha, NULL, NULL, e);

	if (rc < 0)
		return rc;
	digest_hex(sha, hex);
	if (strcmp(hex, text_of(model, "sha256")) != 0)
		return err_set(
		    e, EXIT_HASH_MISMATCH,
		    "%s was recorded from another model: %s with SHA-256 %s, this is %s with "
		    "%s",
		    s->r.path, text_of(model, "file"), text_of(model, "sha256"), path, hex);
	return 0;
}

static int check_tokenizer(struct server *s, const char *path, struct err *e)
{
	const char *recorded = text_of(s->r.manifest, "tokenizer_sha256");
	const json_t *model = json_object_get(s->r.manifest, "model");
	uint8_t sha[DIGEST_BYTES];
	char hex[DIGEST_HEX];
	int rc = 0;

	snprintf(hex, sizeof(hex), "%s", text_of(model, "sha256"));
	if (*path) {
		rc = digest_file(path, sha, NULL, NULL, e);
		digest_hex(sha, hex);
	}
	if (rc == 0 && strcmp(hex, recorded) != 0)
		rc = err_set(e, EXIT_HASH_MISMATCH,
			     "%s was recorded with a tokenizer of SHA-256 %s, asked for is %s (%s)",
			     s->r.path, recorded, hex, *path ? path : "the model's own");
	return rc;
}

static int check_options(struct server *s, const struct wire_frame *f, struct err *e)
{
	const json_t *o = json_object_get(s->r.manifest, "options");
	const json_t *overrides = json_object_get(o, "overrides");
	const char *kv = *text_of(o, "kv") ? text_of(o, "kv") : "f16";
	char value[4096], asked[16] = "f16";
	int n = 0;

	wire_get(f, "kv", 0, asked, sizeof(asked));
	if (strcmp(asked, kv) != 0)
		return err_set(e, EXIT_USAGE,
			       "%s was recorded with a KV cache of %s, asked for is %s", s->r.path,
			       kv, asked);
	while (wire_get(f, "override", n, value, sizeof(value))) {
		const char *there = json_string_value(json_array_get(overrides, (size_t)n));

		if (!there || strcmp(there, value) != 0)
			return err_set(e, EXIT_USAGE,
				       "%s was recorded %s%s, asked for is --override-kv "
				       "%s",
				       s->r.path,
				       there ? "with --override-kv " : "without this override",
				       there ? there : "", value);
		n++;
	}
	if (n != (int)json_array_size(overrides)) {
		const char *there = json_string_value(json_array_get(overrides, (size_t)n));

		return err_set(e, EXIT_USAGE,
			       "%s was recorded with --override-kv %s, which is not asked "
			       "for",
			       s->r.path, there ? there : "?");
	}
	return 0;
}

static int serve_open(struct server *s, const struct wire_frame *f, struct err *e)
{
	char model[4096] = "", tokenizer[4096] = "";
	const char *profile = text_of(s->r.manifest, "profile");
	struct wire_builder *b = &s->ch.out;
	int rc;

	if (s->broken.code) {
		*e = s->broken;
		return -e->code;
	}
	wire_get(f, "model", 0, model, sizeof(model));
	wire_get(f, "tokenizer", 0, tokenizer, sizeof(tokenizer));
	rc = s->verified ? 0 : recording_verify(&s->r, e);
	if (rc == 0)
		rc = check_model(s, model, e);
	if (rc == 0)
		rc = check_tokenizer(s, tokenizer, e);
	if (rc == 0)
		rc = check_options(s, f, e);
	if (rc < 0)
		return rc;
	s->verified = true;
	wire_begin(b, WIRE_OPENED);
	put_lines(b, text_of(s->r.manifest, "opened"), ",profile,");
	wire_put(b, "profile", "%s%s", profile, s->compact ? RECORDED_COMPACT : "");
	put_origin(s);
	return channel_send(&s->ch, e);
}

/* ---- text and ids ------------------------------------------------------------------------- */

static int serve_template(struct server *s, const struct wire_frame *f, struct err *e)
{
	const char *body = f->body_bytes ? (const char *)f->body : "";
	size_t n_system = (size_t)wire_get_int(f, "system", 0), i;
	bool system = wire_get_int(f, "system", -1) >= 0;
	struct wire_builder *b = &s->ch.out;
	const json_t *one;
	char name[64] = "", what[160];

	wire_get(f, "name", 0, name, sizeof(name));
	if (n_system > f->body_bytes)
		return err_set(e, EXIT_USAGE, "system=%zu of %zu bytes", n_system, f->body_bytes);
	json_array_foreach(scenarios(s), i, one)
	{
		const char *user = text_of(one, "user_prompt"), *own = text_of(one, "system");
		const struct recording_member *text = member(s, one, "prompt.txt");

		if (text->bytes < 0 || strcmp(name, text_of(one, "template_asked")) != 0 ||
		    system != json_is_string(json_object_get(one, "system")) ||
		    strlen(own) != n_system || memcmp(own, body, n_system) != 0 ||
		    strlen(user) != f->body_bytes - n_system ||
		    memcmp(user, body + n_system, strlen(user)) != 0)
			continue;
		wire_begin(b, WIRE_TEMPLATED);
		wire_put(b, "name", "%s", text_of(one, "template"));
		wire_put(b, "why", "recorded: %s", text_of(one, "template_why"));
		wire_put(b, "add_bos", "%d", true_in(one, "add_bos"));
		wire_put(b, "parse_special", "%d", true_in(one, "parse_special"));
		wire_body(b, text->content, (size_t)text->bytes);
		return channel_send(&s->ch, e);
	}
	snprintf(what, sizeof(what), "this prompt of %zu bytes with template \"%s\"",
		 f->body_bytes - n_system, name);
	return not_recorded(s, what, e);
}

static int serve_tokenize(struct server *s, const struct wire_frame *f, struct err *e)
{
	bool add_bos = wire_get_int(f, "add_bos", 0) != 0;
	bool parse_special = wire_get_int(f, "parse_special", 0) != 0;
	struct wire_builder *b = &s->ch.out;
	const json_t *one;
	char what[160];
	size_t i;

	json_array_foreach(scenarios(s), i, one)
	{
		const struct recording_member *text = member(s, one, "prompt.txt");
		const struct recording_member *ids = member(s, one, "ids.i32");

		if (text->bytes != (int64_t)f->body_bytes || ids->bytes < 0 ||
		    add_bos != true_in(one, "add_bos") ||
		    parse_special != true_in(one, "parse_special") ||
		    (f->body_bytes && memcmp(text->content, f->body, f->body_bytes) != 0))
			continue;
		wire_begin(b, WIRE_TOKENS);
		wire_put(b, "n", "%lld", (long long)ids->bytes / 4);
		wire_body(b, ids->content, (size_t)ids->bytes);
		return channel_send(&s->ch, e);
	}
	snprintf(what, sizeof(what), "this text of %zu bytes with add_bos=%d parse_special=%d",
		 f->body_bytes, add_bos, parse_special);
	return not_recorded(s, what, e);
}

/* The text of one id, wherever it was recorded. */
static const uint8_t *find_piece(const struct server *s, int32_t id, uint32_t *bytes)
{
	const json_t *one;
	size_t i;

	json_array_foreach(scenarios(s), i, one)
	{
		const struct recording_member *ids = member(s, one, "ids.i32");
		const struct recording_member *pieces = member(s, one, "pieces.bin");
		const json_t *greedy = json_object_get(one, "greedy");
		int64_t n = ids->bytes / 4, at = 0;

		for (int64_t k = 0; at + 4 <= pieces->bytes; k++) {
			int32_t this = k < n ? 0
					     : (int32_t)json_integer_value(
						   json_array_get(greedy, (size_t)(k - n)));

			if (k < n)
				memcpy(&this, ids->content + 4 * k, 4);
			memcpy(bytes, pieces->content + at, 4);
			at += 4 + (int64_t)*bytes;
			if (at > pieces->bytes)
				break;
			if (this == id)
				return pieces->content + at - *bytes;
		}
	}
	return NULL;
}

static int serve_pieces(struct server *s, const struct wire_frame *f, struct err *e)
{
	struct wire_builder *b = &s->ch.out;
	char what[64];

	wire_begin(b, WIRE_PIECES);
	for (size_t i = 0; i < f->body_bytes / 4; i++) {
		const uint8_t *text;
		uint32_t n = 0;
		int32_t id;

		memcpy(&id, f->body + 4 * i, 4);
		text = find_piece(s, id, &n);
		if (!text) {
			snprintf(what, sizeof(what), "the text of id %d", id);
			return not_recorded(s, what, e);
		}
		wire_body(b, &n, 4);
		wire_body(b, text, n);
	}
	return channel_send(&s->ch, e);
}

/* ---- EVALUATE ----------------------------------------------------------------------------- */

struct playing {
	struct server *s;
	const json_t *scenario;
	json_t *traces; /* the records that were asked for, in order */
	struct recording_rows rows;
	char logits_member[RECORDING_NAME_MAX];
	int n_ids, n_greedy, n_positions, pos;
	bool last_only, no_values, trace_values;
	int n_sent;
	const json_t *record; /* trace at work */
	int64_t offset;
};

static int send_position(void *ctx, const float *row, struct err *e)
{
	struct playing *p = ctx;
	struct wire_builder *b = &p->s->ch.out;
	const json_t *greedy = json_object_get(p->scenario, "greedy");
	int pos = p->pos++, at = pos - (p->n_ids - 1);
	bool chooses = at >= 0 && at < p->n_greedy;

	if (pos >= p->n_positions || (p->last_only && at < 0))
		return 0;
	wire_begin(b, WIRE_LOGITS);
	wire_put(b, "pos", "%d", pos);
	wire_put(b, "step", "%d", at > 0 ? at : 0);
	if (chooses)
		wire_put(b, "token", "%lld",
			 (long long)json_integer_value(json_array_get(greedy, (size_t)at)));
	if (!p->no_values)
		wire_body(b, row, (size_t)p->s->n_vocab * sizeof(*row));
	p->n_sent++;
	return channel_send(&p->s->ch, e);
}

static int feed_logits(void *ctx, const void *bytes, size_t n, struct err *e)
{
	struct playing *p = ctx;

	return recording_rows_feed(&p->rows, bytes, n, send_position, p, e);
}

/* Values go out in the pieces in which they come from the archive, whole floats each. */
static int send_trace(struct playing *p, const void *bytes, size_t n, struct err *e)
{
	static const char *const keys[] = {"name", "stage", "dtype", "shape", "blake3"};
	struct wire_builder *b = &p->s->ch.out;
	const json_t *r = p->record;

	wire_begin(b, WIRE_TRACE);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		wire_put(b, keys[i], "%s", text_of(r, keys[i]));
	wire_put(b, "layer", "%d", int_of(r, "layer"));
	wire_put(b, "seq", "%d", int_of(r, "seq"));
	wire_put(b, "rms", "%.17g", json_number_value(json_object_get(r, "rms")));
	wire_put(b, "n", "%lld", (long long)json_integer_value(json_object_get(r, "n")));
	wire_put(b, "offset", "%lld", (long long)p->offset);
	if (n)
		wire_body(b, bytes, n);
	p->offset += (int64_t)(n / sizeof(float));
	return channel_send(&p->s->ch, e);
}

static int feed_trace(void *ctx, const void *bytes, size_t n, struct err *e)
{
	if (n % sizeof(float))
		return err_set(e, EXIT_HASH_MISMATCH, "a trace is cut inside a value");
	return send_trace(ctx, bytes, n, e);
}

static recording_fn *choose(void *ctx, const struct recording_member *m)
{
	struct playing *p = ctx;
	const json_t *r;
	size_t i;

	if (strcmp(m->name, p->logits_member) == 0)
		return feed_logits;
	json_array_foreach(p->traces, i, r) if (strcmp(m->name, text_of(r, "member")) == 0)
	{
		p->record = r;
		p->offset = 0;
		return p->trace_values ? feed_trace : NULL;
	}
	return NULL;
}

static bool in_list(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
		if (strcspn(p, ",") == n && memcmp(p, name, n) == 0)
			return true;
	return false;
}

static int wanted_traces(struct playing *p, const char *stages, struct err *e)
{
	const char *recorded = text_of(p->s->r.manifest, "trace");
	const json_t *all = json_object_get(p->scenario, "traces");
	bool every = strcmp(recorded, "all") == 0;
	char one[64];
	json_t *r;
	size_t i;

	if (strcmp(stages, "none") == 0 || !*stages)
		return 0;
	for (const char *q = stages; *q; q += strcspn(q, ","), q += *q == ',') {
		snprintf(one, sizeof(one), "%.*s", (int)(strcspn(q, ",") & 63), q);
		if (!every && !in_list(recorded, one)) {
			char what[128];

			snprintf(what, sizeof(what), "the trace of stage \"%s\"", one);
			return not_recorded(p->s, what, e);
		}
	}
	json_array_foreach(
	    all, i, r) if ((strcmp(stages, "all") == 0 || in_list(stages, text_of(r, "stage"))) &&
			   int_of(r, "seq") < (p->n_greedy > 1 ? p->n_greedy : 1))
	    json_array_append(p->traces, r);
	return 0;
}

static const json_t *find_ids(const struct server *s, const struct wire_frame *f, int n)
{
	const json_t *one;
	size_t i;

	json_array_foreach(scenarios(s), i, one)
	{
		const struct recording_member *ids = member(s, one, "ids.i32");

		if (ids->bytes == 4 * (int64_t)n &&
		    memcmp(ids->content, f->body, 4 * (size_t)n) == 0)
			return one;
	}
	return NULL;
}

/* Traces that want only their records have none of their bytes read. */
static int send_records(struct playing *p, struct err *e)
{
	const json_t *r;
	size_t i;
	int rc = 0;

	json_array_foreach(p->traces, i, r)
	{
		p->record = r;
		p->offset = 0;
		if (rc == 0 && !p->trace_values)
			rc = send_trace(p, NULL, 0, e);
	}
	return rc;
}

static int send_done(struct playing *p, struct err *e)
{
	struct wire_builder *b = &p->s->ch.out;

	wire_begin(b, WIRE_DONE);
	wire_put(b, "n_pos", "%d", p->n_sent);
	put_lines(b, text_of(p->scenario, "done"), ",n_pos,");
	return channel_send(&p->s->ch, e);
}

static int play(struct playing *p, struct err *e)
{
	int rc = send_records(p, e);

	if (rc == 0)
		rc = recording_read(&p->s->r, choose, p, e);
	if (rc == 0 && (!recording_rows_whole(&p->rows) || p->pos < p->n_positions))
		rc = err_set(e, EXIT_HASH_MISMATCH, "%s: %s holds %d positions, expected %d",
			     p->s->r.path, p->logits_member, p->pos, p->n_positions);
	return rc < 0 ? rc : send_done(p, e);
}

static int check_request(struct server *s, const struct wire_frame *f, int n, struct err *e)
{
	if (n < 1 || (size_t)n * 4 > f->body_bytes)
		return err_set(e, EXIT_USAGE, "tokens=%d, but the body has %zu bytes", n,
			       f->body_bytes);
	if (wire_get_int(f, "splice_layer", INT32_MIN) != INT32_MIN)
		return not_recorded(s, "a splice", e);
	if (wire_get_real(f, "temperature", 0) > 0)
		return not_recorded(s, "sampling", e);
	return 0;
}

static int serve_evaluate(struct server *s, const struct wire_frame *f, struct err *e)
{
	struct playing p = {.s = s, .rows = {.compact = s->compact, .n_vocab = s->n_vocab}};
	int n = (int)wire_get_int(f, "tokens", (int64_t)f->body_bytes / 4);
	int greedy = (int)wire_get_int(f, "greedy", 0), rc = check_request(s, f, n, e);
	char logits[16] = "all", stages[1024] = "none", what[128];

	if (rc < 0)
		return rc;
	p.scenario = find_ids(s, f, n);
	if (!p.scenario) {
		snprintf(what, sizeof(what), "an evaluation of these %d ids", n);
		return not_recorded(s, what, e);
	}
	if (greedy > (int)json_array_size(json_object_get(p.scenario, "greedy"))) {
		snprintf(what, sizeof(what), "decoding of %d ids after scenario %.60s", greedy,
			 text_of(p.scenario, "id"));
		return not_recorded(s, what, e);
	}
	wire_get(f, "logits", 0, logits, sizeof(logits));
	wire_get(f, "trace", 0, stages, sizeof(stages));
	p.n_ids = n;
	p.n_greedy = greedy;
	p.n_positions = n + (greedy > 1 ? greedy - 1 : 0);
	p.last_only = strcmp(logits, "all") != 0;
	p.no_values = strcmp(logits, "none") == 0;
	p.trace_values = wire_get_int(f, "values", 1) != 0;
	p.traces = json_array();
	snprintf(p.logits_member, sizeof(p.logits_member), "%s/logits.%s",
		 text_of(p.scenario, "id"), s->compact ? "compact" : "f32");
	rc = wanted_traces(&p, stages, e);
	if (rc == 0)
		rc = play(&p, e);
	json_decref(p.traces);
	recording_rows_free(&p.rows);
	return rc;
}

/* ---- the loop ----------------------------------------------------------------------------- */

static int dispatch(struct server *s, const struct wire_frame *f, struct err *e)
{
	if (f->type == WIRE_OPEN)
		return serve_open(s, f, e);
	if (!s->verified)
		return err_set(e, EXIT_USAGE, "no model is open: OPEN comes first");
	switch (f->type) {
	case WIRE_TEMPLATE:
		return serve_template(s, f, e);
	case WIRE_TOKENIZE:
		return serve_tokenize(s, f, e);
	case WIRE_DETOKENIZE:
		return serve_pieces(s, f, e);
	case WIRE_EVALUATE:
		return serve_evaluate(s, f, e);
	default:
		return err_set(e, EXIT_USAGE, "a recording does not answer %s",
			       wire_type_name(f->type));
	}
}

static void read_head(struct server *s, const char *path)
{
	if (recording_open(&s->r, path, &s->broken) < 0)
		return;
	s->compact = strcmp(text_of(s->r.manifest, "logits"), "compact") == 0;
	s->n_vocab = int_of(s->r.manifest, "n_vocab");
	if (strcmp(text_of(s->r.manifest, "kind"), "recording") != 0 ||
	    strncmp(text_of(s->r.manifest, "schema_version"), "1.", 2) != 0 || s->n_vocab < 1 ||
	    s->n_vocab > WIRE_PAYLOAD_MAX / 8)
		err_set(&s->broken, EXIT_NO_REFERENCE,
			"%s is not a recording that this version reads", path);
}

int recorded_main(const char *path)
{
	const char *fd = getenv("ASSAY_WIRE_FD");
	struct server s = {.ch = {.fd = fd ? atoi(fd) : 3}};
	struct err e = ERR_NONE;
	struct wire_frame f;
	int rc;

	read_head(&s, path);
	rc = send_hello(&s, &e);
	while (rc == 0 && (rc = channel_read(&s.ch, &f, &e)) > 0 && f.type != WIRE_BYE) {
		struct err why = ERR_NONE;

		rc = dispatch(&s, &f, &why);
		if (rc < 0)
			rc = channel_fail(&s.ch, &why, &e);
	}
	channel_free(&s.ch);
	recording_close(&s.r);
	if (rc < 0)
		fprintf(stderr, "%s\n", e.msg);
	return rc < 0 ? e.code : 0;
}
