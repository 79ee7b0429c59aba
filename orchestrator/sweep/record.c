#include "record.h"

#include "client.h"
#include "engines.h"
#include "facts.h"
#include "report/canonical.h"
#include "report/recording.h"
#include "report/recording_logits.h"
#include "trace_frame.h"

#include <assert.h>
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct job {
	const struct record_options *o;
	struct client *engine, *renderer; /* renderer: who formats prompts, may be the same */
	struct recording_writer *w;
	struct wire_builder b;
	struct receipt_run run;
	struct record_result *result;
	char *hello, *opened;
	int n_vocab;
	bool tokenizes;
	uint8_t *row; /* one packed position */
	json_t *scenarios;

	/* of the scenario at work */
	const struct scenario *s;
	char *text; /* formatted */
	size_t text_bytes;
	char template_name[32], template_why[256];
	bool add_bos, parse_special;
	int32_t *ids;
	int n_ids;
	int32_t *greedy;
	int n_greedy, n_positions;
	struct digest logits;
	double max_error;
	char *done;
	json_t *traces;
	int64_t trace_n, trace_left; /* values of the record at work, and of them still to come */
};

static char *lines_of(const struct wire_frame *f)
{
	char *copy = malloc(f->header_bytes + 1);

	assert(copy);
	memcpy(copy, f->header, f->header_bytes);
	copy[f->header_bytes] = '\0';
	return copy;
}

static int call(struct job *j, struct client *c, client_frame_fn *fn, struct err *e)
{
	int rc = wire_finish(&j->b, e);

	return rc < 0 ? rc : client_call(c, &j->b, fn, j, e);
}

static int member(struct job *j, const char *name, const void *bytes, size_t n, struct err *e)
{
	char path[RECORDING_NAME_MAX];

	snprintf(path, sizeof(path), "%s/%s", j->s->id, name);
	return recording_add(j->w, RECORDING_SMALL, path, bytes, n, e);
}

/* ---- opening ------------------------------------------------------------------------------ */

static int on_opened(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct job *j = ctx;

	(void)e;
	if (f->type == WIRE_OPENED && !j->opened) {
		j->opened = lines_of(f);
		j->n_vocab = (int)wire_get_int(f, "n_vocab", 0);
	}
	return 0;
}

static void put_text(struct wire_builder *b, const char *key, const char *value)
{
	if (value && *value)
		wire_put(b, key, "%s", value);
}

static void begin_open(struct job *j)
{
	const struct exchange_setup *u = j->o->setup;

	wire_begin(&j->b, WIRE_OPEN);
	put_text(&j->b, "model", u->model);
	put_text(&j->b, "tokenizer", u->tokenizer);
	for (int i = 0; i < u->n_overrides; i++)
		wire_put(&j->b, "override", "%s", u->overrides[i]);
}

static int open_engine(struct job *j, struct err *e)
{
	const struct exchange_setup *u = j->o->setup;
	struct client_options co = {.engine = j->o->engine,
				    .deadline_ms = j->o->scenarios->items[0].timeout_s * 1000,
				    .silence = true};
	int rc = client_open(&j->engine, &co, e);

	if (rc < 0)
		return rc;
	begin_open(j);
	put_text(&j->b, "profile", u->profile);
	put_text(&j->b, "isa", u->isa);
	put_text(&j->b, "kv", u->kv);
	if (u->threads)
		wire_put(&j->b, "threads", "%d", u->threads);
	if (u->ctx)
		wire_put(&j->b, "ctx", "%d", u->ctx);
	if (u->ubatch)
		wire_put(&j->b, "ubatch", "%d", u->ubatch);
	rc = call(j, j->engine, on_opened, e);
	if (rc == 0 && (j->n_vocab < 1 || j->n_vocab > WIRE_PAYLOAD_MAX / 8))
		rc = err_set(e, EXIT_WORKER, "engine %s says n_vocab=%d", j->o->engine, j->n_vocab);
	return rc;
}

/* A reference renders no templates: our own worker does it then, without the weights. */
static int open_renderer(struct job *j, struct err *e)
{
	struct client_options co = {.engine = "native"};
	struct err ignored = ERR_NONE;

	j->tokenizes = client_says(j->engine, "tokenize");
	if (client_says(j->engine, "template")) {
		j->renderer = j->engine;
		return 0;
	}
	if (client_open(&j->renderer, &co, e) < 0)
		return -e->code;
	begin_open(j);
	wire_put(&j->b, "vocab_only", "1");
	if (call(j, j->renderer, NULL, &ignored) < 0) { /* raw is left then */
		client_close(j->renderer);
		j->renderer = NULL;
	}
	return 0;
}

static void keep_hello(struct job *j)
{
	static const char *const keys[] = {"engine", "build", "isa"};
	char value[512];
	size_t n = 0;
	FILE *f = open_memstream(&j->hello, &n);

	assert(f);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (client_hello(j->engine, keys[i], value, sizeof(value)))
			fprintf(f, "%s=%s\n", keys[i], value);
	fclose(f);
}

/* ---- text and ids ------------------------------------------------------------------------- */

static int on_templated(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct job *j = ctx;

	(void)e;
	if (f->type != WIRE_TEMPLATED)
		return 0;
	wire_get(f, "name", 0, j->template_name, sizeof(j->template_name));
	wire_get(f, "why", 0, j->template_why, sizeof(j->template_why));
	j->add_bos = wire_get_int(f, "add_bos", 1) != 0;
	j->parse_special = wire_get_int(f, "parse_special", 0) != 0;
	j->text = malloc(f->body_bytes + 1);
	assert(j->text);
	if (f->body_bytes)
		memcpy(j->text, f->body, f->body_bytes);
	j->text_bytes = f->body_bytes;
	return 0;
}

static const char *wanted_template(const struct job *j)
{
	return *j->s->template_name ? j->s->template_name : j->o->setup->template_name;
}

static int raw_text(struct job *j, struct err *e)
{
	const char *name = wanted_template(j);

	if (strcmp(name, "raw") != 0 && strcmp(name, "auto") != 0)
		return err_set(e, EXIT_TEMPLATE,
			       "template \"%s\": engine %s renders none and our own "
			       "cannot open this model; only raw is left",
			       name, j->o->engine);
	snprintf(j->template_name, sizeof(j->template_name), "raw");
	j->add_bos = exchange_fact_int(j->opened, "add_bos", 1) != 0;
	j->text = strdup(j->s->prompt);
	assert(j->text);
	j->text_bytes = strlen(j->text);
	return 0;
}

static int format_prompt(struct job *j, struct err *e)
{
	size_t n = j->s->system ? strlen(j->s->system) : 0;

	if (!j->renderer)
		return raw_text(j, e);
	wire_begin(&j->b, WIRE_TEMPLATE);
	wire_put(&j->b, "name", "%s", wanted_template(j));
	if (j->s->system)
		wire_put(&j->b, "system", "%zu", n);
	wire_body(&j->b, j->s->system ? j->s->system : "", n);
	wire_body(&j->b, j->s->prompt, strlen(j->s->prompt));
	return call(j, j->renderer, on_templated, e);
}

static void set_ids(struct job *j, const void *ids, size_t bytes)
{
	j->ids = malloc(bytes + 1);
	assert(j->ids);
	if (bytes)
		memcpy(j->ids, ids, bytes);
	j->n_ids = (int)(bytes / sizeof(*j->ids));
}

static int on_tokens(void *ctx, const struct wire_frame *f, struct err *e)
{
	(void)e;
	if (f->type == WIRE_TOKENS)
		set_ids(ctx, f->body, f->body_bytes);
	return 0;
}

static int make_ids(struct job *j, struct err *e)
{
	int rc;

	if (j->s->tokens) {
		set_ids(j, j->s->tokens, (size_t)j->s->n_tokens * sizeof(*j->ids));
		return 0;
	}
	if (!j->tokenizes)
		return err_set(e, EXIT_USAGE,
			       "engine %s has no tokenizer; give the scenario \"tokens\"",
			       j->o->engine);
	rc = format_prompt(j, e);
	if (rc == 0) {
		wire_begin(&j->b, WIRE_TOKENIZE);
		wire_put(&j->b, "add_bos", "%d", j->add_bos);
		wire_put(&j->b, "parse_special", "%d", j->parse_special);
		wire_body(&j->b, j->text, j->text_bytes);
		rc = call(j, j->engine, on_tokens, e);
	}
	if (rc == 0 && j->n_ids == 0)
		rc = err_set(e, EXIT_USAGE, "the prompt has no tokens");
	if (rc == 0)
		rc = member(j, "prompt.txt", j->text, j->text_bytes, e);
	return rc;
}

static int on_pieces(void *ctx, const struct wire_frame *f, struct err *e)
{
	return f->type == WIRE_PIECES ? member(ctx, "pieces.bin", f->body, f->body_bytes, e) : 0;
}

/* The texts of all ids, the greedy ones too, for whoever shows them. */
static int keep_pieces(struct job *j, struct err *e)
{
	if (!j->tokenizes)
		return 0;
	wire_begin(&j->b, WIRE_DETOKENIZE);
	wire_body(&j->b, j->ids, (size_t)j->n_ids * sizeof(*j->ids));
	wire_body(&j->b, j->greedy, (size_t)j->n_greedy * sizeof(*j->ids));
	return call(j, j->engine, on_pieces, e);
}

/* ---- evaluation --------------------------------------------------------------------------- */

static int take_logits(struct job *j, const struct wire_frame *f, struct err *e)
{
	const float *row = (const float *)(const void *)f->body;
	int32_t token = (int32_t)wire_get_int(f, "token", -1);
	int pos = (int)wire_get_int(f, "pos", -1);
	size_t n = (size_t)j->n_vocab * sizeof(*row);
	char why[200];
	double error = 0;

	if (f->body_bytes != n || pos != j->n_positions)
		return err_set(e, EXIT_WORKER,
			       "engine %s: LOGITS of position %d, %zu bytes; expected "
			       "position %d, %zu bytes",
			       j->o->engine, pos, f->body_bytes, j->n_positions, n);
	j->n_positions++;
	if (pos >= j->n_ids - 1 && token >= 0 && j->n_greedy < j->s->max_new_tokens) {
		if (exchange_chose_badly(row, j->n_vocab, token, why, sizeof(why)) &&
		    strncmp(j->o->engine, "recorded:", 9) != 0)
			return err_set(e, EXIT_WORKER, "engine %s: position %d %s", j->o->engine,
				       pos, why);
		j->greedy[j->n_greedy++] = token;
	}
	digest_update(&j->logits, row, n);
	if (!j->o->compact)
		return recording_append(j->w, RECORDING_LOGITS, row, n, e);
	n = recording_row_pack(j->row, row, j->n_vocab, &error);
	j->max_error = error > j->max_error ? error : j->max_error;
	return recording_append(j->w, RECORDING_LOGITS, j->row, n, e);
}

static int broken_trace(const struct job *j, struct err *e)
{
	return err_set(e, EXIT_WORKER,
		       "engine %.200s: a trace came with more or fewer values than its n= says, or with its "
		       "parts out of order; offset= counts values",
		       j->o->engine);
}

static int begin_trace(struct job *j, const struct wire_frame *f, struct err *e)
{
	char path[RECORDING_NAME_MAX], shape[96] = "";
	struct trace_record r;
	json_t *o;

	if (j->trace_left)
		return broken_trace(j, e);
	if (trace_frame_read(&r, f, j->o->engine, e) < 0)
		return -e->code;
	wire_get(f, "shape", 0, shape, sizeof(shape));
	snprintf(path, sizeof(path), "%s/trace/%06zu-%.60s.f32", j->s->id,
		 json_array_size(j->traces), r.name);
	for (char *p = path + strlen(j->s->id) + 7; *p; p++)
		*p = isalnum((unsigned char)*p) || strchr("._-", *p) ? *p : '_';
	o = json_object();
	canonical_set(o, "member", canonical_text(path));
	canonical_set(o, "name", canonical_text(r.name));
	canonical_set(o, "stage", canonical_text(trace_stage_name(r.stage)));
	canonical_set(o, "layer", json_integer(r.layer));
	canonical_set(o, "seq", json_integer(r.seq));
	canonical_set(o, "dtype", canonical_text(*r.dtype ? r.dtype : "f32"));
	canonical_set(o, "shape", canonical_text(shape));
	canonical_set(o, "blake3", canonical_text(r.blake3));
	canonical_set(o, "rms", canonical_real(r.rms));
	canonical_set(o, "n", json_integer(r.num_elements));
	json_array_append_new(j->traces, o);
	j->trace_left = j->trace_n = r.num_elements;
	return recording_begin(j->w, RECORDING_TRACE, path, e);
}

static int take_trace(struct job *j, const struct wire_frame *f, struct err *e)
{
	int64_t offset = wire_get_int(f, "offset", 0), n = (int64_t)(f->body_bytes / sizeof(float));
	int rc = offset == 0 ? begin_trace(j, f, e) : 0;

	if (rc == 0 && (f->body_bytes % sizeof(float) || n == 0 || n > j->trace_left ||
			offset != j->trace_n - j->trace_left))
		rc = broken_trace(j, e);
	j->trace_left -= n;
	return rc < 0 ? rc : recording_append(j->w, RECORDING_TRACE, f->body, f->body_bytes, e);
}

static int on_evaluated(void *ctx, const struct wire_frame *f, struct err *e)
{
	struct job *j = ctx;

	if (f->type == WIRE_LOGITS)
		return take_logits(j, f, e);
	if (f->type == WIRE_TRACE)
		return take_trace(j, f, e);
	if (f->type == WIRE_DONE)
		j->done = lines_of(f);
	return 0;
}

static int evaluate(struct job *j, struct err *e)
{
	int more = j->s->max_new_tokens, want = j->n_ids + (more > 1 ? more - 1 : 0), rc;
	char path[RECORDING_NAME_MAX];

	snprintf(path, sizeof(path), "%s/logits.%s", j->s->id, j->o->compact ? "compact" : "f32");
	rc = recording_begin(j->w, RECORDING_LOGITS, path, e);
	if (rc < 0)
		return rc;
	j->greedy = calloc((size_t)more + 1, sizeof(*j->greedy));
	assert(j->greedy);
	wire_begin(&j->b, WIRE_EVALUATE);
	wire_put(&j->b, "logits", "all");
	wire_put(&j->b, "greedy", "%d", more);
	wire_put(&j->b, "seed", "%llu", (unsigned long long)j->s->seed);
	if (j->o->setup->batch)
		wire_put(&j->b, "batch", "%d", j->o->setup->batch);
	if (strcmp(j->o->trace, "none") != 0) {
		wire_put(&j->b, "trace", "%s", j->o->trace);
		wire_put(&j->b, "values", "1");
	}
	wire_put(&j->b, "tokens", "%d", j->n_ids);
	wire_body(&j->b, j->ids, (size_t)j->n_ids * sizeof(*j->ids));
	rc = call(j, j->engine, on_evaluated, e);
	if (rc == 0 && (j->n_positions != want || j->n_greedy != more))
		rc = err_set(e, EXIT_WORKER,
			     "engine %s answered %d positions and named %d ids (token=) where %d and "
			     "%d were asked",
			     j->o->engine, j->n_positions, j->n_greedy, want, more);
	if (rc == 0 && j->trace_left)
		rc = broken_trace(j, e);
	return rc;
}

/* ---- the manifest ------------------------------------------------------------------------- */

static json_t *int_list(const int32_t *ids, int n)
{
	json_t *list = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_integer(ids[i]));
	return list;
}

static json_t *scenario_object(struct job *j)
{
	json_t *o = json_object();
	uint8_t sha[DIGEST_BYTES];
	char hex[DIGEST_HEX];

	digest_final(&j->logits, sha);
	digest_hex(sha, hex);
	canonical_set(o, "id", canonical_text(j->s->id));
	canonical_set(o, "given_ids", json_boolean(j->s->tokens != NULL));
	canonical_set(o, "template_asked", canonical_text(j->s->tokens ? "" : wanted_template(j)));
	canonical_set(o, "template", canonical_text(j->template_name));
	canonical_set(o, "template_why", canonical_text(j->template_why));
	canonical_set(o, "user_prompt", canonical_text(j->s->prompt ? j->s->prompt : ""));
	canonical_set(o, "system", j->s->system ? canonical_text(j->s->system) : json_null());
	canonical_set(o, "add_bos", json_boolean(j->add_bos));
	canonical_set(o, "parse_special", json_boolean(j->parse_special));
	canonical_set(o, "seed", json_integer((json_int_t)j->s->seed));
	canonical_set(o, "n_ids", json_integer(j->n_ids));
	canonical_set(o, "greedy", int_list(j->greedy, j->n_greedy));
	canonical_set(o, "n_positions", json_integer(j->n_positions));
	canonical_set(o, "logits_sha256", canonical_text(hex));
	canonical_set(o, "max_error", canonical_real(j->max_error));
	canonical_set(o, "done", canonical_text(j->done));
	canonical_set(o, "traces", j->traces);
	j->traces = NULL;
	return o;
}

static void forget_scenario(struct job *j)
{
	free(j->text);
	free(j->ids);
	free(j->greedy);
	free(j->done);
	json_decref(j->traces);
	j->text = j->done = NULL;
	j->ids = j->greedy = NULL;
	j->traces = NULL;
}

static int record_scenario(struct job *j, const struct scenario *s, struct err *e)
{
	int rc, n_traces;

	forget_scenario(j);
	client_deadline(j->engine, s->timeout_s * 1000);
	j->s = s;
	j->text_bytes = 0;
	j->n_ids = j->n_greedy = j->n_positions = 0;
	j->add_bos = j->parse_special = false;
	snprintf(j->template_name, sizeof(j->template_name), "none");
	snprintf(j->template_why, sizeof(j->template_why), "%s", "");
	j->max_error = 0;
	j->trace_n = j->trace_left = 0;
	j->traces = json_array();
	digest_init(&j->logits);
	rc = make_ids(j, e);
	if (rc == 0)
		rc = member(j, "ids.i32", j->ids, (size_t)j->n_ids * sizeof(*j->ids), e);
	if (rc == 0)
		rc = evaluate(j, e);
	if (rc == 0)
		rc = keep_pieces(j, e);
	if (rc < 0)
		return err_prefix(e, "scenario %s", s->id);
	n_traces = (int)json_array_size(j->traces);
	json_array_append_new(j->scenarios, scenario_object(j));
	j->result->n_scenarios++;
	j->result->n_positions += j->n_positions;
	j->result->n_traces += n_traces;
	j->result->logits_bytes += (int64_t)j->n_positions * j->n_vocab * (int64_t)sizeof(float);
	if (j->max_error > j->result->max_error)
		j->result->max_error = j->max_error;
	if (j->o->on_scenario)
		j->o->on_scenario(j->o->ctx, s->id, j->n_ids, j->n_positions, n_traces);
	return 0;
}

static json_t *options_object(const struct exchange_setup *u)
{
	json_t *o = json_object(), *list = json_array();

	for (int i = 0; i < u->n_overrides; i++)
		json_array_append_new(list, canonical_text(u->overrides[i]));
	canonical_set(o, "overrides", list);
	canonical_set(o, "kv", canonical_text(u->kv ? u->kv : ""));
	canonical_set(o, "threads", json_integer(u->threads));
	canonical_set(o, "ctx", json_integer(u->ctx));
	canonical_set(o, "ubatch", json_integer(u->ubatch));
	canonical_set(o, "batch", json_integer(u->batch));
	return o;
}

static json_t *manifest_object(struct job *j)
{
	json_t *o = json_object(), *model = json_object();
	const char *slash = strrchr(j->o->setup->model, '/');
	char profile[64] = "", now[32];

	exchange_fact(j->opened, "profile", profile, sizeof(profile));
	if (!*profile)
		engine_profile(j->o->engine, profile, sizeof(profile));
	snprintf(j->result->profile, sizeof(j->result->profile), "%s", profile);
	exchange_fact(j->hello, "build", j->result->engine_build, sizeof(j->result->engine_build));
	facts_time(now);
	canonical_set(model, "file", canonical_text(slash ? slash + 1 : j->o->setup->model));
	canonical_set(model, "bytes", json_integer(j->run.model_bytes));
	canonical_set(model, "sha256", canonical_text(j->run.model_sha256));
	canonical_set(o, "schema_version", json_string(RECORD_SCHEMA_VERSION));
	canonical_set(o, "kind", json_string("recording"));
	canonical_set(o, "created", canonical_text(now));
	canonical_set(o, "assay_version", canonical_text(j->o->version));
	canonical_set(o, "assay_build", canonical_text(j->o->build));
	canonical_set(o, "cpu", canonical_text(j->run.cpu));
	canonical_set(o, "model", model);
	canonical_set(o, "tokenizer_sha256", canonical_text(j->run.tokenizer_sha256));
	canonical_set(o, "engine", canonical_text(j->o->engine));
	canonical_set(o, "hello", canonical_text(j->hello));
	canonical_set(o, "opened", canonical_text(j->opened));
	canonical_set(o, "profile", canonical_text(profile));
	canonical_set(o, "tokenizes", json_boolean(j->tokenizes));
	canonical_set(o, "n_vocab", json_integer(j->n_vocab));
	canonical_set(o, "options", options_object(j->o->setup));
	canonical_set(o, "logits", json_string(j->o->compact ? "compact" : "f32"));
	canonical_set(o, "max_error", canonical_real(j->result->max_error));
	canonical_set(o, "trace", canonical_text(j->o->trace));
	canonical_set(o, "scenarios", j->scenarios);
	j->scenarios = NULL;
	return o;
}

static int look_back(struct record_result *out, const char *path, struct err *e)
{
	struct recording r = {.n = 0};
	uint8_t sha[DIGEST_BYTES];
	struct stat st;
	int rc = digest_file(path, sha, NULL, NULL, e);

	if (rc == 0)
		rc = recording_open(&r, path, e);
	if (rc < 0)
		return rc;
	digest_hex(sha, out->sha256);
	out->bytes = stat(path, &st) == 0 ? st.st_size : 0;
	snprintf(out->content_sha256, sizeof(out->content_sha256), "%s",
		 json_string_value(json_object_get(r.manifest, "content_sha256")));
	recording_close(&r);
	return 0;
}

static int record_all(struct job *j, struct err *e)
{
	int rc = open_engine(j, e);

	if (rc == 0)
		rc = open_renderer(j, e);
	if (rc == 0)
		rc = recording_create(&j->w, j->o->out, e);
	if (rc < 0)
		return rc;
	keep_hello(j);
	j->row = malloc(recording_row_bytes_max(j->n_vocab));
	assert(j->row);
	for (int i = 0; rc == 0 && i < j->o->scenarios->n; i++)
		rc = record_scenario(j, &j->o->scenarios->items[i], e);
	if (rc == 0)
		rc = recording_finish(j->w, manifest_object(j), e);
	return rc == 0 ? look_back(j->result, j->o->out, e) : rc;
}

int record_run(const struct record_options *o, struct record_result *out, struct err *e)
{
	struct record_result result = {.n_scenarios = 0};
	struct job j = {.o = o, .result = &result};
	int rc;

	if (o->scenarios->n == 0)
		return err_set(e, EXIT_NOTHING_RAN, "there is no scenario to record");
	j.scenarios = json_array();
	j.run.model_path = o->setup->model;
	j.run.tokenizer_path = o->setup->tokenizer;
	rc = facts_fill(&j.run, NULL, e);
	if (rc == 0)
		rc = record_all(&j, e);
	if (j.renderer != j.engine)
		client_close(j.renderer);
	client_close(j.engine);
	recording_discard(j.w);
	wire_builder_free(&j.b);
	forget_scenario(&j);
	json_decref(j.scenarios);
	free(j.hello);
	free(j.opened);
	free(j.row);
	if (rc == 0)
		*out = result;
	return rc;
}
