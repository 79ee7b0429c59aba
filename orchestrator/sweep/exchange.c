#include "exchange.h"

#include "engines.h"
#include "exchange_internal.h"
#include "token_gate.h"
#include "utf8.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void next_step(struct exchange *x, struct lane *l);

static struct wire_frame as_frame(const char *lines)
{
	return (struct wire_frame){.header = lines, .header_bytes = lines ? strlen(lines) : 0};
}

bool exchange_fact(const char *lines, const char *key, char *out, size_t size)
{
	struct wire_frame f = as_frame(lines);

	return lines && wire_get(&f, key, 0, out, size);
}

bool exchange_says(const char *hello, const char *feature)
{
	struct wire_frame f = as_frame(hello);

	return hello && wire_lists(&f, "features", feature);
}

int64_t exchange_fact_int(const char *lines, const char *key, int64_t absent)
{
	struct wire_frame f = as_frame(lines);

	return lines ? wire_get_int(&f, key, absent) : absent;
}

void exchange_init(struct exchange *x, const struct exchange_setup *setup,
		   const struct scenario *s, const char *const engine[POOL_SIDES])
{
	*x = (struct exchange){.setup = setup, .scenario = s, .first_difference = -1,
				.failed_side = -1};
	compare_init(&x->comparison, &thresholds_none);
	x->hasher = hasher_new();
	x->n_sides = engine[1] ? 2 : 1;
	for (int i = 0; i < x->n_sides; i++) {
		x->sides[i].engine = engine[i];
		x->sides[i].is_reference = i == EXCHANGE_REF;
		if (x->n_sides == 2 && !*x->profile)
			engine_profile(engine[1 - i], x->profile, sizeof(x->profile));
		x->sides[i].peak_rss = -1;
	}
}

/* ---- the end ------------------------------------------------------------------------------ */

static char *copy_text(const char *text)
{
	return text ? strdup(text) : NULL;
}

void exchange_end(struct exchange *x, struct lane *l, enum verdict v, int exit_code,
		  const char *fmt, ...)
{
	va_list ap;

	if (x->step == EXCHANGE_OVER)
		return;
	x->step = EXCHANGE_OVER;
	x->verdict = v;
	x->exit_code = exit_code;
	va_start(ap, fmt);
	vsnprintf(x->explanation, sizeof(x->explanation), fmt, ap);
	va_end(ap);
	utf8_plain(x->explanation);
	for (int i = 0; i < x->n_sides; i++) {
		struct exchange_side *s = &x->sides[i];

		s->hello = copy_text(lane_hello(l, i));
		s->opened = copy_text(lane_opened(l, i));
		s->identity = engine_identity(s->engine);
		s->peak_rss = lane_peak_rss(l, i);
	}
	x->over(x, l);
}

void exchange_broken(struct exchange *x, struct lane *l, int side, const char *fmt, ...)
{
	char what[500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	x->failed_side = side;
	exchange_end(x, l, VERDICT_CRASHED, EXIT_WORKER, "engine %s broke the protocol: %s",
	    x->sides[side].engine, what);
}

void exchange_trouble(void *job, struct lane *l, int side, const char *sentence)
{
	((struct exchange *)job)->failed_side = side;
	exchange_end(job, l, VERDICT_CRASHED, EXIT_WORKER, "%s", sentence);
}

void exchange_late(void *job, struct lane *l)
{
	struct exchange *x = job;
	bool late[POOL_SIDES] = {false};
	int n = 0;

	for (int i = 0; i < x->n_sides; i++) {
		late[i] = lane_owes(l, i) && !lane_paused(l, i);
		n += late[i];
	}
	if (n == 0) {
		exchange_end(x, l, VERDICT_TIMED_OUT, EXIT_WORKER,
			     "the scenario's %d s were over before its turn came",
			     x->scenario->timeout_s);
		return;
	}
	x->failed_side = n == 2 ? -1 : (late[0] || x->n_sides == 1 ? 0 : 1);
	exchange_end(x, l, VERDICT_TIMED_OUT, EXIT_WORKER,
	    "%s did not finish within the scenario's %d s and %s killed",
	    n == 2 ? "both engines" : x->sides[late[0] || x->n_sides == 1 ? 0 : 1].engine,
	    x->scenario->timeout_s, n == 2 ? "were" : "was");
}

static void failed(struct exchange *x, struct lane *l, int side, const struct wire_frame *f)
{
	int64_t code = wire_get_int(f, "code", EXIT_INFERENCE);
	char said[1500];

	snprintf(said, sizeof(said), "%.*s", (int)(f->body_bytes > 1400 ? 1400 : f->body_bytes),
		 f->body_bytes ? (const char *)f->body : "");
	x->failed_side = side;
	code = engine_fail_code(code);
	if (!*said)
		snprintf(said, sizeof(said), "FAIL code=%lld without a sentence", (long long)code);
	if ((x->step == EXCHANGE_OPEN || x->step == EXCHANGE_LOAD) && code == EXIT_MODEL_INVALID)
		code = EXIT_MODEL_LOAD;
	if (code == EXIT_MODEL_LOAD && !strstr(said, "fetch-models"))
		exchange_end(x, l, VERDICT_FAILED, (int)code,
		    "engine %s: %s; `assay fetch-models` provides verified models",
		    x->sides[side].engine, said);
	else
		exchange_end(x, l, VERDICT_FAILED, (int)code, "engine %s: %s",
			     x->sides[side].engine, said);
}

/* ---- requests ----------------------------------------------------------------------------- */

void exchange_ask(struct exchange *x, struct lane *l, int side, struct wire_builder *b)
{
	struct err e = ERR_NONE;

	if (wire_finish(b, &e) < 0) {
		exchange_end(x, l, VERDICT_FAILED, EXIT_INTERNAL, "%s", e.msg);
		return;
	}
	x->asked++;
	lane_send(l, side, b);
}

static void put_text(struct wire_builder *b, const char *key, const char *value)
{
	if (value)
		wire_put(b, key, "%s", value);
}

static void put_number(struct wire_builder *b, const char *key, int value)
{
	if (value)
		wire_put(b, key, "%d", value);
}

static const char *wanted_profile(const struct exchange *x, int side)
{
	if (strcmp(x->sides[side].engine, "native") != 0)
		return "";
	return x->setup->profile ? x->setup->profile : x->profile;
}

static const char vocab_mark[] = "vocabulary only";

static bool has_weights(struct lane *l, int side)
{
	return lane_opened(l, side) && strcmp(lane_mark(l, side), vocab_mark) != 0;
}

/* Before the gate an engine that can opens its vocabulary alone: no weight is mapped for a prompt
 * that the two sides read differently. */
static void ask_open(struct exchange *x, struct lane *l)
{
	const struct exchange_setup *u = x->setup;
	struct wire_builder b = {0};

	for (int i = 0; i < x->n_sides; i++) {
		const char *profile = wanted_profile(x, i);
		bool is_ref = x->sides[i].is_reference;
		bool vocab = x->step == EXCHANGE_OPEN && !x->scenario->tokens &&
			     exchange_says(lane_hello(l, i), "vocab_only");

		if (lane_opened(l, i) && strcmp(lane_mark(l, i), profile) == 0)
			continue;
		if (vocab && lane_opened(l, i) && !has_weights(l, i))
			continue;
		lane_set_mark(l, i, vocab ? vocab_mark : profile);
		wire_begin(&b, WIRE_OPEN);
		if (vocab)
			wire_put(&b, "vocab_only", "1");
		put_text(&b, "model", is_ref && u->model_ref ? u->model_ref : u->model);
		put_text(&b, "tokenizer", u->tokenizer);
		put_text(&b, "isa", u->isa);
		put_text(&b, "kv", u->kv);
		if (strcmp(x->sides[i].engine, "native") == 0)
			put_number(&b, "reproduce_defects", u->reproduce_defects);
		put_text(&b, "profile", *profile ? profile : NULL);
		put_number(&b, "threads", u->threads);
		put_number(&b, "ctx", u->ctx);
		put_number(&b, "ubatch", u->ubatch);
		for (int k = 0; k < u->n_overrides; k++)
			wire_put(&b, "override", "%s", u->overrides[k]);
		for (int k = 0; is_ref && k < u->n_overrides_ref; k++)
			wire_put(&b, "override", "%s", u->overrides_ref[k]);
		exchange_ask(x, l, i, &b);
	}
	wire_builder_free(&b);
}

static const char *wanted_template(const struct exchange *x)
{
	return *x->scenario->template_name ? x->scenario->template_name : x->setup->template_name;
}

/* Without a worker that renders, raw is the only template there is. */
static void raw_prompt(struct exchange *x, struct lane *l)
{
	const char *name = wanted_template(x);

	if (strcmp(name, "raw") != 0 && strcmp(name, "auto") != 0) {
		exchange_end(x, l, VERDICT_FAILED, EXIT_TEMPLATE,
		    "template \"%s\": neither engine renders templates; only raw is left", name);
		return;
	}
	x->prompt = strdup(x->scenario->prompt);
	assert(x->prompt);
	x->prompt_bytes = strlen(x->prompt);
	snprintf(x->template_name, sizeof(x->template_name), "raw");
	snprintf(x->template_why, sizeof(x->template_why), "neither engine renders templates");
	x->add_bos = exchange_fact_int(lane_opened(l, x->n_sides - 1), "add_bos", 1) != 0;
}

static void ask_template(struct exchange *x, struct lane *l)
{
	const struct scenario *s = x->scenario;
	size_t system_bytes = s->system ? strlen(s->system) : 0;
	struct wire_builder b = {0};
	int side = 0;

	while (side < x->n_sides && !exchange_says(lane_hello(l, side), "template"))
		side++;
	if (side == x->n_sides) {
		raw_prompt(x, l);
		return;
	}
	wire_begin(&b, WIRE_TEMPLATE);
	wire_put(&b, "name", "%s", wanted_template(x));
	if (s->system)
		wire_put(&b, "system", "%zu", system_bytes);
	wire_body(&b, s->system ? s->system : "", system_bytes);
	wire_body(&b, s->prompt, strlen(s->prompt));
	exchange_ask(x, l, side, &b);
	wire_builder_free(&b);
}

static void take_template(struct exchange *x, const struct wire_frame *f)
{
	wire_get(f, "name", 0, x->template_name, sizeof(x->template_name));
	wire_get(f, "why", 0, x->template_why, sizeof(x->template_why));
	x->add_bos = wire_get_int(f, "add_bos", 1) != 0;
	x->parse_special = wire_get_int(f, "parse_special", 0) != 0;
	x->prompt = malloc(f->body_bytes + 1);
	assert(x->prompt);
	if (f->body_bytes)
		memcpy(x->prompt, f->body, f->body_bytes);
	x->prompt[f->body_bytes] = '\0';
	x->prompt_bytes = f->body_bytes;
}

static void ask_tokens(struct exchange *x, struct lane *l)
{
	struct wire_builder b = {0};

	for (int i = 0; i < x->n_sides; i++) {
		if (!exchange_says(lane_hello(l, i), "tokenize"))
			continue;
		x->sides[i].tokenized = true;
		wire_begin(&b, WIRE_TOKENIZE);
		wire_put(&b, "add_bos", "%d", x->add_bos);
		wire_put(&b, "parse_special", "%d", x->parse_special);
		wire_body(&b, x->prompt, x->prompt_bytes);
		exchange_ask(x, l, i, &b);
	}
	wire_builder_free(&b);
	if (x->asked == 0)
		exchange_end(x, l, VERDICT_NOT_COMPARABLE, EXIT_NOTHING_RAN,
			     "no engine here has a tokenizer; give the scenario \"tokens\" instead "
			     "of a prompt");
}

static void set_ids(struct exchange_side *s, const void *ids, int n)
{
	free(s->ids);
	s->ids = malloc((size_t)n * sizeof(*s->ids) + 1);
	assert(s->ids);
	if (n)
		memcpy(s->ids, ids, (size_t)n * sizeof(*s->ids));
	s->n_ids = n;
}

static void take_tokens(struct exchange *x, struct lane *l, int side, const struct wire_frame *f)
{
	if (f->body_bytes % sizeof(int32_t) ||
	    f->body_bytes / sizeof(int32_t) > SCENARIO_TOKENS_MAX)
		exchange_broken(x, l, side, "TOKENS of %zu bytes where int32 ids, 4 bytes each and at most "
				"%d of them, were expected", f->body_bytes, SCENARIO_TOKENS_MAX);
	else
		set_ids(&x->sides[side], f->body, (int)(f->body_bytes / sizeof(int32_t)));
}

static void ask_pieces(struct exchange *x, struct lane *l)
{
	struct wire_builder b = {0};

	for (int i = 0; i < x->n_sides; i++) {
		int from, n = token_gate_window(x, i, &from);

		if (!x->sides[i].tokenized || n == 0)
			continue;
		wire_begin(&b, WIRE_DETOKENIZE);
		wire_body(&b, x->sides[i].ids + from, (size_t)n * sizeof(int32_t));
		exchange_ask(x, l, i, &b);
	}
	wire_builder_free(&b);
}

static void ask_text(struct exchange *x, struct lane *l)
{
	struct wire_builder b = {0};

	for (int i = 0; i < x->n_sides; i++) {
		const struct exchange_side *s = &x->sides[i];

		if (s->n_greedy == 0 || !exchange_says(lane_hello(l, i), "tokenize"))
			continue;
		wire_begin(&b, WIRE_DETOKENIZE);
		wire_body(&b, s->greedy, (size_t)s->n_greedy * sizeof(*s->greedy));
		exchange_ask(x, l, i, &b);
	}
	wire_builder_free(&b);
}

static void take_text(struct exchange_side *s, const struct wire_frame *f)
{
	size_t at = 0, n = 0;
	uint32_t bytes;

	if (f->type != WIRE_PIECES)
		return;
	free(s->text);
	s->text = malloc(f->body_bytes + 1);
	assert(s->text);
	while (f->body_bytes - at >= sizeof(bytes)) {
		memcpy(&bytes, f->body + at, sizeof(bytes));
		at += sizeof(bytes);
		if (bytes > f->body_bytes - at)
			break;
		for (uint32_t i = 0; i < bytes; i++)
			if (f->body[at + i])
				s->text[n++] = (char)f->body[at + i];
		at += bytes;
	}
	s->text[n] = '\0';
}

static void tokens_differ(struct exchange *x, struct lane *l)
{
	token_gate_cause(x, lane_opened(l, 0), lane_opened(l, x->n_sides - 1));
	exchange_end(x, l, VERDICT_TOKENS_DIFFER, EXIT_TOKENS_DIFFER,
	    "tokens differ from index %d on (%s: %d ids, %s: %d ids); nothing was evaluated",
	    x->first_difference, x->sides[0].engine, x->sides[0].n_ids, x->sides[1].engine,
	    x->sides[1].n_ids);
}

/* ---- the order of things ------------------------------------------------------------------ */

static bool comparable(struct exchange *x, struct lane *l)
{
	int64_t n[POOL_SIDES] = {0};

	for (int i = 0; i < x->n_sides; i++) {
		n[i] = exchange_fact_int(lane_opened(l, i), "n_vocab", 0);
		if (n[i] < 1 || n[i] > WIRE_PAYLOAD_MAX / 8) {
			exchange_broken(x, l, i, "OPENED says n_vocab=%lld", (long long)n[i]);
			return false;
		}
	}
	/* of a vocabulary alone it is not known how many ids the weights have */
	if (x->n_sides == 2 && n[0] != n[1] && has_weights(l, 0) && has_weights(l, 1)) {
		exchange_end(x, l, VERDICT_NOT_COMPARABLE, EXIT_NOTHING_RAN,
		    "%s has a vocabulary of %lld ids, %s of %lld", x->sides[0].engine,
		    (long long)n[0], x->sides[1].engine, (long long)n[1]);
		return false;
	}
	return true;
}

/* The gate: true when both sides will evaluate the same ids. */
static bool tokens_agree(struct exchange *x, struct lane *l)
{
	struct exchange_side *a = &x->sides[0], *b = &x->sides[x->n_sides - 1];

	if (!a->tokenized && b->tokenized)
		set_ids(a, b->ids, b->n_ids);
	else if (a != b && !b->tokenized && a->tokenized)
		set_ids(b, a->ids, a->n_ids);
	if (a->n_ids == 0 && b->n_ids == 0) {
		exchange_end(x, l, VERDICT_NOT_RUN, EXIT_NOTHING_RAN, "the prompt has no tokens");
		return false;
	}
	x->first_difference = token_gate_compare(a->ids, a->n_ids, b->ids, b->n_ids);
	return x->first_difference < 0;
}

/* Behind the gate: what was asked for may end here, or be a part of the prompt. */
static void pass_gate(struct exchange *x, struct lane *l)
{
	int max = x->setup->max_positions;

	if (x->setup->only_tokens) {
		exchange_end(x, l, VERDICT_NOT_RUN, EXIT_AGREE,
		    "tokens agree (%d ids); logits were not asked for", x->sides[0].n_ids);
		return;
	}
	for (int i = 0; i < x->n_sides && max > 0; i++)
		if (x->sides[i].n_ids > max)
			x->sides[i].n_ids = max;
	x->step = EXCHANGE_LOAD;
}

static void after(struct exchange *x, struct lane *l)
{
	switch (x->step) {
	case EXCHANGE_OPEN:
		if (!comparable(x, l))
			return;
		if (x->scenario->tokens) {
			for (int i = 0; i < x->n_sides; i++)
				set_ids(&x->sides[i], x->scenario->tokens, x->scenario->n_tokens);
			snprintf(x->template_name, sizeof(x->template_name), "none");
			snprintf(x->template_why, sizeof(x->template_why),
				 "the scenario gives ids");
			pass_gate(x, l);
		} else {
			x->step = EXCHANGE_TEMPLATE;
		}
		break;
	case EXCHANGE_TEMPLATE:
		x->step = EXCHANGE_TOKENIZE;
		break;
	case EXCHANGE_TOKENIZE:
		if (tokens_agree(x, l))
			pass_gate(x, l);
		else if (x->step != EXCHANGE_OVER)
			x->step = EXCHANGE_PIECES;
		break;
	case EXCHANGE_PIECES:
		tokens_differ(x, l);
		return;
	case EXCHANGE_LOAD:
		if (!comparable(x, l))
			return;
		x->step = EXCHANGE_EVALUATE;
		break;
	case EXCHANGE_EVALUATE:
		x->step = EXCHANGE_TEXT;
		break;
	case EXCHANGE_TEXT:
		exchange_judge(x, l);
		return;
	case EXCHANGE_OVER:
		return;
	}
	next_step(x, l);
}

static void next_step(struct exchange *x, struct lane *l)
{
	x->asked = 0;
	switch (x->step) {
	case EXCHANGE_OPEN:
	case EXCHANGE_LOAD:
		ask_open(x, l);
		break;
	case EXCHANGE_TEMPLATE:
		ask_template(x, l);
		break;
	case EXCHANGE_TOKENIZE:
		ask_tokens(x, l);
		break;
	case EXCHANGE_PIECES:
		ask_pieces(x, l);
		break;
	case EXCHANGE_EVALUATE:
		exchange_ask_logits(x, l);
		break;
	case EXCHANGE_TEXT:
		ask_text(x, l);
		break;
	case EXCHANGE_OVER:
		return;
	}
	if (x->step != EXCHANGE_OVER && x->asked == 0)
		after(x, l);
}

void exchange_begin(void *job, struct lane *l)
{
	struct exchange *x = job;

	x->step = EXCHANGE_OPEN;
	next_step(x, l);
}

static enum wire_type terminal_of(const struct exchange *x)
{
	static const enum wire_type answers[] = {
		[EXCHANGE_OPEN] = WIRE_OPENED,	   [EXCHANGE_LOAD] = WIRE_OPENED,
		[EXCHANGE_TEMPLATE] = WIRE_TEMPLATED,
		[EXCHANGE_TOKENIZE] = WIRE_TOKENS, [EXCHANGE_PIECES] = WIRE_PIECES,
		[EXCHANGE_EVALUATE] = WIRE_DONE,   [EXCHANGE_TEXT] = WIRE_PIECES,
	};

	return answers[x->step];
}

static bool expected(const struct exchange *x, enum wire_type t)
{
	return t == terminal_of(x) || (x->step == EXCHANGE_EVALUATE && t == WIRE_LOGITS);
}

void exchange_frame(void *job, struct lane *l, int side, const struct wire_frame *f)
{
	struct exchange *x = job;

	if (x->step == EXCHANGE_OVER)
		return;
	/* pieces and text only embellish a finding that stands without them */
	if (f->type == WIRE_FAIL && x->step != EXCHANGE_PIECES && x->step != EXCHANGE_TEXT) {
		failed(x, l, side, f);
		return;
	}
	if (f->type != WIRE_FAIL && !expected(x, f->type)) {
		exchange_broken(x, l, side, "a frame of type %d (%s) came where %s%s was expected",
				(int)f->type, wire_type_name(f->type),
				x->step == EXCHANGE_EVALUATE ? "LOGITS or " : "",
				wire_type_name(terminal_of(x)));
		return;
	}
	if (f->type == WIRE_LOGITS) {
		exchange_take_logits(x, l, side, f);
		return;
	}
	if (f->type == WIRE_TEMPLATED)
		take_template(x, f);
	else if (f->type == WIRE_TOKENS)
		take_tokens(x, l, side, f);
	else if (x->step == EXCHANGE_TEXT)
		take_text(&x->sides[side], f);
	else if (f->type == WIRE_PIECES)
		token_gate_pieces(x, side, f);
	else if (f->type == WIRE_DONE)
		exchange_take_done(x, l, side, f);
	if (x->step != EXCHANGE_OVER && --x->asked == 0)
		after(x, l);
}

void exchange_free(struct exchange *x)
{
	for (int i = 0; i < POOL_SIDES; i++) {
		struct exchange_side *s = &x->sides[i];

		free(s->hello);
		free(s->identity);
		free(s->opened);
		free(s->done);
		free(s->ids);
		free(s->pieces);
		free(s->text);
		free(s->greedy);
		for (int k = 0; k < EXCHANGE_AHEAD; k++)
			free(s->held[k].values);
	}
	free(x->prompt);
	hasher_free(x->hasher);
	compare_free(&x->comparison);
	*x = (struct exchange){0};
}
