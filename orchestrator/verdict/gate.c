#include "gate_internal.h"

#include "schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name, *purpose;
} gates[GATE_COUNT] = {
	[GATE_SCHEMA] = {"schema", "form, content hash, length of every series"},
	[GATE_COMPUTE_PATH] = {"compute-path", "counters fit positions, layers and heads"},
	[GATE_KERNELS] = {"kernels", "kernel ids from the registry, no mock"},
	[GATE_WEIGHTS] = {"weights", "kernels of exactly the model's weight types"},
	[GATE_MODEL] = {"model", "SHA-256 of the model's file or of a lockfile entry"},
	[GATE_TOKENS] = {"tokens", "tokenizer, template, digests and counts of ids"},
	[GATE_METRICS] = {"metrics", "summary and verdict recomputed"},
	[GATE_DETERMINISM] = {"determinism", "threads, seed, digests; a rerun gives the same"},
	[GATE_REFERENCE] = {"reference", "identity of the other side, self-check passed"},
	[GATE_PERFORMANCE] = {"performance", "rates follow from counts and times"},
};

const char *gate_name(enum gate_id g)
{
	return gates[g].name;
}

const char *gate_purpose(enum gate_id g)
{
	return gates[g].purpose;
}

static void vnote(struct gating *g, const char *fmt, va_list ap)
{
	struct gate_result *r = &g->out->gates[g->id];

	if (r->n_messages < GATE_MESSAGES_MAX)
		vsnprintf(r->messages[r->n_messages++], GATE_MESSAGE_MAX, fmt, ap);
}

void gate_fail(struct gating *g, const char *fmt, ...)
{
	va_list ap;

	g->out->gates[g->id].failed = true;
	va_start(ap, fmt);
	vnote(g, fmt, ap);
	va_end(ap);
}

void gate_unchecked(struct gating *g, const char *fmt, ...)
{
	va_list ap;

	g->out->gates[g->id].unchecked = true;
	va_start(ap, fmt);
	vnote(g, fmt, ap);
	va_end(ap);
}

/* ---- reading ------------------------------------------------------------------------------ */

const json_t *gate_at(const json_t *o, const char *path)
{
	char key[128];

	while (o && *path) {
		size_t n = strcspn(path, ".");

		if (n >= sizeof(key))
			return NULL;
		memcpy(key, path, n);
		key[n] = '\0';
		o = json_object_get(o, key);
		path += n + (path[n] == '.');
	}
	return o;
}

const char *gate_text(const json_t *o, const char *path)
{
	const char *s = json_string_value(gate_at(o, path));

	return s ? s : "";
}

int64_t gate_int(const json_t *o, const char *path)
{
	return json_integer_value(gate_at(o, path));
}

int64_t gate_sum(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

int64_t gate_product(int64_t a, int64_t b)
{
	int64_t product;

	return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

double gate_real(const json_t *o, const char *path)
{
	const json_t *v = gate_at(o, path);

	return json_is_string(v) ? strtod(json_string_value(v), NULL) : json_number_value(v);
}

const json_t *gate_side(const struct gating *g, const char *name)
{
	return json_object_get(json_object_get(g->r, "engines"), name);
}

/* ---- schema ------------------------------------------------------------------------------- */

static void on_violation(void *ctx, const char *where, const char *message)
{
	gate_fail(ctx, "%s %s", where, message);
}

static void check_lengths(struct gating *g)
{
	static const char *const series[] = {
		"top1_agree", "bits_equal",    "nmse",       "kl",     "max_abs_diff",
		"margin_ref", "kendall_tau_b", "top5_agree", "max_ulp"};
	size_t n = json_array_size(json_object_get(g->r, "per_token_cosine_sim"));

	if (json_array_size(json_object_get(g->r, "per_token_l2_dist")) != n)
		gate_fail(g, "per_token_l2_dist and per_token_cosine_sim differ in length");
	for (size_t i = 0; i < sizeof(series) / sizeof(series[0]); i++) {
		size_t have = json_array_size(
			json_object_get(json_object_get(g->r, "positions"), series[i]));

		if (have != n)
			gate_fail(g, "positions.%s has %zu values, per_token_cosine_sim %zu",
				  series[i], have, n);
	}
}

void gate_schema_form(struct gating *g)
{
	schema_check(g->ctx->schema, g->r, on_violation, g);
	if (!g->ctx->sealed)
		gate_fail(g, "content_sha256 does not fit the content: it was changed");
}

static void gate_schema(struct gating *g)
{
	gate_schema_form(g);
	if (json_object_get(g->r, "positions"))
		check_lengths(g);
}

/* ---- model -------------------------------------------------------------------------------- */

/* "f32:13 i2_s:21" in any order. */
static bool same_weights(const char *a, const char *b)
{
	size_t n = strlen(a);

	if (n != strlen(b))
		return false;
	for (const char *p = a; *p;) {
		size_t word = strcspn(p, " ");
		const char *at = b;

		while (*at && !(strncmp(at, p, word) == 0 && (at[word] == ' ' || !at[word])))
			at += strcspn(at, " ") + (at[strcspn(at, " ")] == ' ');
		if (!*at)
			return false;
		p += word + (p[word] == ' ');
	}
	return true;
}

static void check_model_facts(struct gating *g, const struct gate_model_facts *m)
{
	const struct {
		const char *key;
		int64_t is;
	} facts[] = {{"n_layer", m->n_layer}, {"n_embd", m->n_embd}, {"n_ff", m->n_ff},
		     {"n_head", m->n_head},   {"n_vocab", m->n_vocab}};
	const json_t *s = gate_side(g, "ours"), *o = json_object_get(s, "opened");

	if (gate_at(g->r, "model.bytes") && gate_int(g->r, "model.bytes") != m->bytes)
		gate_fail(g, "model.bytes is %lld, the file has %lld",
			  (long long)gate_int(g->r, "model.bytes"), (long long)m->bytes);
	/* what was overridden is not what the file says */
	if (!s || !gate_own_engine(s) || json_object_get(gate_at(g->r, "asked"), "override") ||
	    !json_object_size(o))
		return;
	if (strcmp(gate_text(o, "arch"), m->arch) != 0 ||
	    !same_weights(gate_text(o, "weights"), m->weights))
		gate_fail(g, "the file is a %s with weights %s, the receipt says %s with %s",
			  m->arch, m->weights, gate_text(o, "arch"), gate_text(o, "weights"));
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		if (facts[i].is > 0 && gate_int(o, facts[i].key) != facts[i].is)
			gate_fail(g, "engines.ours.opened.%s is %lld, the file says %lld",
				  facts[i].key, (long long)gate_int(o, facts[i].key),
				  (long long)facts[i].is);
}

void gate_model(struct gating *g)
{
	const char *sha = gate_text(g->r, "model.sha256");
	int64_t bytes = gate_int(g->r, "model.bytes");
	int i = 0;

	if (g->ctx->model_sha256) {
		if (strcmp(sha, g->ctx->model_sha256) != 0)
			gate_fail(g, "the model's file has SHA-256 %s, the receipt says %s",
				  g->ctx->model_sha256, sha);
		else if (g->ctx->model)
			check_model_facts(g, g->ctx->model);
		return;
	}
	while (i < g->ctx->n_locked && strcmp(g->ctx->locked[i].sha256, sha) != 0)
		i++;
	if (i < g->ctx->n_locked && g->ctx->locked[i].bytes > 0 && gate_at(g->r, "model.bytes") &&
	    g->ctx->locked[i].bytes != bytes)
		gate_fail(g, "model.bytes is %lld, the lockfile's entry has %lld", (long long)bytes,
			  (long long)g->ctx->locked[i].bytes);
	if (i == g->ctx->n_locked)
		gate_unchecked(g,
			       "the model is not at hand (--model FILE) and no lockfile entry has "
			       "SHA-256 %.16s…",
			       sha);
}

/* ---- tokens ------------------------------------------------------------------------------- */

static void check_template(struct gating *g)
{
	const json_t *t = json_object_get(g->r, "template");
	bool hashed = json_is_string(json_object_get(t, "prompt_sha256"));

	/* an id stands for a byte at least (of U+FFFD's three, where a byte is no UTF-8); BOS, EOS and a
	 * leading space of some tokenizers come on top */
	if (hashed && (gate_int(g->r, "tokens.n_ours") - 3) / 3 > gate_int(t, "prompt_bytes"))
		gate_fail(g, "%lld ids of a prompt of %lld bytes",
			  (long long)gate_int(g->r, "tokens.n_ours"),
			  (long long)gate_int(t, "prompt_bytes"));
	if (!*gate_text(g->r, "tokenizer.sha256"))
		gate_fail(g, "tokenizer.sha256 is missing");
	if (strcmp(gate_text(g->r, "tokenizer.source"), "model") == 0 &&
	    strcmp(gate_text(g->r, "tokenizer.sha256"), gate_text(g->r, "model.sha256")) != 0)
		gate_fail(g, "the tokenizer is the model's own, yet their hashes differ");
	if (!*gate_text(t, "name") && hashed)
		gate_fail(g, "a prompt was formatted and no template is named");
	if (hashed != (gate_int(t, "prompt_bytes") > 0) && strcmp(gate_text(t, "name"), "raw") != 0)
		gate_fail(
			g,
			"template.prompt_bytes and template.prompt_sha256 do not belong together");
}

static void gate_tokens(struct gating *g)
{
	const json_t *t = json_object_get(g->r, "tokens");
	const json_t *a = gate_side(g, "ours"), *b = gate_side(g, "reference");
	bool match = json_is_true(json_object_get(t, "match"));
	bool equal = strcmp(gate_text(a, "tokens_sha256"), gate_text(b, "tokens_sha256")) == 0;

	check_template(g);
	gate_template_form(g);
	gate_ids_beside(g);
	if (gate_int(a, "n_tokens") > 0 && !*gate_text(a, "tokens_sha256"))
		gate_fail(g, "engines.ours.tokens_sha256 is missing");
	if (gate_int(t, "n_ours") != gate_int(a, "n_tokens"))
		gate_fail(g, "tokens.n_ours is %lld, the engine had %lld",
			  (long long)gate_int(t, "n_ours"), (long long)gate_int(a, "n_tokens"));
	if (!b) {
		if (gate_int(t, "n_reference") != gate_int(t, "n_ours") || match ||
		    !json_is_null(json_object_get(t, "first_difference")))
			gate_fail(g, "one side ran alone, yet tokens tells of two");
		return;
	}
	gate_texts_agree(g, a, b);
	if (gate_int(t, "n_reference") != gate_int(b, "n_tokens"))
		gate_fail(g, "tokens.n_reference is %lld, the engine had %lld",
			  (long long)gate_int(t, "n_reference"),
			  (long long)gate_int(b, "n_tokens"));
	if (match != (equal && gate_int(a, "n_tokens") == gate_int(b, "n_tokens") &&
		      gate_int(a, "n_tokens") > 0))
		gate_fail(g, "tokens.match is %s, the digests of the ids are %s",
			  match ? "true" : "false", equal ? "equal" : "different");
	if (match != json_is_null(json_object_get(t, "first_difference")))
		gate_fail(g, "tokens.first_difference does not fit tokens.match");
	if (!match && gate_sum(gate_int(b, "n_positions"), gate_int(a, "n_positions")) > 0)
		gate_fail(g, "the ids differ, yet logits were computed");
}

/* ---- determinism -------------------------------------------------------------------------- */

/* The receipt's id is its scenario's, where several comparisons share it with more behind a dot. */
static void check_names(struct gating *g)
{
	const char *id = gate_text(g->r, "id"), *scenario = gate_text(g->r, "scenario.id");
	size_t n = strlen(scenario);

	if (strncmp(id, scenario, n) != 0 || (id[n] != '\0' && id[n] != '.'))
		gate_fail(g, "the receipt \"%.80s\" is not of the scenario \"%s\"", id, scenario);
	if (gate_int(g->r, "host.threads") < 0 || gate_int(g->r, "host.threads") > 4096 ||
	    gate_int(g->r, "host.n_cpus") > 65536)
		gate_fail(g, "host: %lld threads, %lld processors",
			  (long long)gate_int(g->r, "host.threads"),
			  (long long)gate_int(g->r, "host.n_cpus"));
}

static void gate_determinism(struct gating *g)
{
	const json_t *a = gate_side(g, "ours");

	if (!json_is_integer(gate_at(g->r, "scenario.seed")))
		gate_fail(g, "scenario.seed is missing");
	if (gate_int(a, "n_positions") > 0 && !*gate_text(a, "logits_sha256"))
		gate_fail(g, "engines.ours.logits_sha256 is missing");
	if (strcmp(gate_text(g->r, "verdict"), "IDENTICAL") == 0 &&
	    strcmp(gate_text(a, "logits_sha256"),
		   gate_text(gate_side(g, "reference"), "logits_sha256")) != 0)
		gate_fail(g, "IDENTICAL, but the digests of the logits differ");
	check_names(g);
	for (int i = 0; i < g->ctx->n_reruns; i++) {
		const struct gate_rerun *run = &g->ctx->reruns[i];
		const json_t *side = gate_side(g, run->side);

		if (strcmp(run->tokens_sha256, gate_text(side, "tokens_sha256")) != 0)
			gate_fail(g, "rerun of %s: %s", run->side,
				  run->tokenized ? "its tokenizer reads other ids in the prompt"
						 : "other token ids");
		if (strcmp(run->logits_sha256, gate_text(side, "logits_sha256")) != 0)
			gate_fail(
				g,
				"rerun of %s: logits with SHA-256 %.16s…, the receipt says %.16s…",
				run->side, run->logits_sha256, gate_text(side, "logits_sha256"));
		if (run->greedy && !json_equal(run->greedy, json_object_get(side, "greedy")))
			gate_fail(g, "rerun of %s: other ids were chosen", run->side);
	}
	if (g->ctx->not_run)
		gate_unchecked(g, "%s", g->ctx->not_run);
	else if (g->ctx->n_reruns == 0)
		gate_unchecked(g, "not run again (--rerun N)");
}

/* ---- reference ---------------------------------------------------------------------------- */

static void check_hello(struct gating *g, const char *name, const json_t *side)
{
	const char *engine = gate_text(side, "engine");

	if (!*gate_text(side, "hello.build"))
		gate_fail(g, "engines.%s.hello has no build id", name);
	if (gate_int(side, "hello.protocol") != 1)
		gate_fail(g, "engines.%s.hello.protocol is %lld", name,
			  (long long)gate_int(side, "hello.protocol"));
	if (gate_own_engine(side) && strcmp(gate_text(side, "hello.engine"), engine) != 0)
		gate_fail(g, "engine %s was asked, %s answered", engine,
			  gate_text(side, "hello.engine"));
	if (gate_own_engine(side) &&
	    strcmp(gate_text(side, "hello.build"), gate_text(g->r, "assay.build")) != 0)
		gate_fail(g, "engine %s is of build %s, the program of build %s", engine,
			  gate_text(side, "hello.build"), gate_text(g->r, "assay.build"));
}

/* Both sides read one file: what they say about it is the same where both say it. */
static void check_same_model(struct gating *g, const json_t *a, const json_t *b)
{
	static const char *const facts[] = {"arch",   "n_layer",   "n_embd",   "n_ff",
					    "n_head", "n_kv_head", "head_dim", "n_vocab",
					    "bos",    "eos",       "eot",      "add_bos",
					    "weights"};
	bool own = gate_own_engine(a) && gate_own_engine(b);

	if (json_object_get(g->r, "reference_model"))
		return;
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
		const json_t *x = json_object_get(json_object_get(a, "opened"), facts[i]);
		const json_t *y = json_object_get(json_object_get(b, "opened"), facts[i]);

		/* eot is each reader's own guess where the file does not say */
		if (!own && (strcmp(facts[i], "eot") == 0 || strcmp(facts[i], "add_bos") == 0))
			continue;
		/* a C++ reference describes its weights in words, not "type:count" */
		if (strcmp(facts[i], "weights") == 0 &&
		    !(strchr(gate_text(a, "opened.weights"), ':') &&
		      strchr(gate_text(b, "opened.weights"), ':')))
			continue;
		if (x && y && !json_equal(x, y))
			gate_fail(g, "the sides opened one model and differ in its %s", facts[i]);
	}
}

/* Two builds of one id are one program, of one version. */
static void check_version(struct gating *g)
{
	const char *build = gate_text(g->r, "assay.build");

	if (g->ctx->build && strcmp(build, g->ctx->build) == 0 &&
	    strcmp(gate_text(g->r, "assay.version"), g->ctx->version) != 0)
		gate_fail(g, "build %s is version %s, the receipt says %s", build, g->ctx->version,
			  gate_text(g->r, "assay.version"));
}

static void gate_reference(struct gating *g)
{
	const json_t *b = gate_side(g, "reference"), *identity = json_object_get(b, "reference");
	const char *engine = gate_text(b, "engine");

	check_hello(g, "ours", gate_side(g, "ours"));
	gate_side_facts(g, "ours");
	check_version(g);
	if (strcmp(gate_text(g->r, "kind"), "inference") == 0) {
		if (b || json_object_get(g->r, "reference_model") || json_object_get(g->r, "local"))
			gate_fail(g, "an inference receipt with a reference");
		return;
	}
	if (!b) {
		gate_fail(g, "a parity receipt without a reference");
		return;
	}
	check_hello(g, "reference", b);
	gate_side_facts(g, "reference");
	check_same_model(g, gate_side(g, "ours"), b);
	if (gate_own_engine(b) || gate_foreign(b)) {
		if (identity)
			gate_fail(g, "engine %s is no built reference, yet has an identity", engine);
		return;
	}
	if (!identity) {
		gate_fail(g, "reference %s has no identity: commit, build key, self-check", engine);
		return;
	}
	if (strcmp(gate_text(identity, "self_check"), "passed") != 0)
		gate_fail(g, "reference %s: self-check \"%s\"", engine,
			  gate_text(identity, "self_check"));
	if (strlen(gate_text(identity, "build_key")) != 64)
		gate_fail(g, "reference %s: no build key", engine);
	if (strlen(gate_text(identity, "commit")) != 40)
		gate_unchecked(g, "reference %s: somebody's own build, no commit", engine);
}

/* ---- performance -------------------------------------------------------------------------- */

/* More int8 products per second and core than any CPU has: two 512-bit units at 8 GHz. */
static const double gmac_s_per_cpu = 1024;

static double gmac_per_token(const json_t *side)
{
	double embd = gate_real(side, "opened.n_embd"), head = gate_real(side, "opened.head_dim");
	double q = head * gate_real(side, "opened.n_head"),
	       kv = head * gate_real(side, "opened.n_kv_head");

	return gate_real(side, "opened.n_layer") * 1e-9 *
	       (2 * embd * q + 2 * embd * kv + 3 * embd * gate_real(side, "opened.n_ff"));
}

static bool is_recorded(const json_t *s)
{
	return strncmp(gate_text(s, "engine"), "recorded:", 9) == 0;
}

/*
 * What the kernel says of the process at its end, beside what the worker said before it answered;
 * the kernel counts pages per thread and adds them up late. Of exec: the first is the sum over a
 * group, the worker speaks of the one process that answers; a recording repeats what the engine
 * of its day said.
 */
static void check_memory(struct gating *g, const char *name, const json_t *s)
{
	bool exec = strncmp(gate_text(s, "engine"), "exec:", 5) == 0;
	int64_t bytes = gate_int(s, "peak_rss_bytes");
	int64_t said = gate_product(1024, gate_int(s, "done.peak_kib"));

	if (is_recorded(s) || !json_is_integer(json_object_get(s, "peak_rss_bytes")))
		return;
	if (gate_sum(bytes, 512 << 10) < said ||
	    (!exec && bytes > gate_sum(gate_sum(said, said / 4), 8 << 20)))
		gate_fail(g, "engines.%s.peak_rss_bytes is %lld, the worker said %lld KiB", name,
			  (long long)bytes, (long long)gate_int(s, "done.peak_kib"));
}

static void check_speed(struct gating *g, const char *name, const json_t *s)
{
	double us = gate_real(s, "eval_us"), n = gate_real(s, "n_positions");
	double rate = gate_real(s, "tokens_per_second"), gmac = gmac_per_token(s);
	double cpus = gate_real(g->r, "host.n_cpus");

	if (n <= 0)
		return;
	if (!(us > 0) || !(rate > 0))
		gate_fail(g, "engines.%s: %g positions in %g µs at %g tokens/s", name, n, us, rate);
	else if (fabs(rate - n * 1e6 / us) > 1e-6 * rate)
		gate_fail(g, "engines.%s.tokens_per_second is %.9g, counts and times give %.9g",
			  name, rate, n * 1e6 / us);
	if (gmac > 0 && rate * gmac > gmac_s_per_cpu * (cpus > 0 ? cpus : 1))
		gate_fail(g, "engines.%s: %.0f GMAC/s is more than %g CPUs can do", name,
			  rate * gmac, cpus);
	if (us != gate_real(s, "done.eval_us"))
		gate_fail(g, "engines.%s.eval_us is %.0f, the worker said %.0f", name, us,
			  gate_real(s, "done.eval_us"));
	/* a recording's times are of the day it was made */
	if (!is_recorded(s) && us > gate_real(g->r, "wall_us"))
		gate_fail(g, "engines.%s evaluated for %.0f µs in a scenario of %.0f µs", name, us,
			  gate_real(g->r, "wall_us"));
	if (gate_real(s, "done.prefill_us") > us)
		gate_fail(g, "engines.%s: prefill took longer than the evaluation", name);
	check_memory(g, name, s);
}

static void gate_performance(struct gating *g)
{
	const json_t *b = gate_side(g, "reference");

	check_speed(g, "ours", gate_side(g, "ours"));
	if (b)
		check_speed(g, "reference", b);
	if (gate_int(g->r, "compare_us") > gate_int(g->r, "wall_us"))
		gate_fail(g, "comparing took longer than the scenario");
	gate_times(g);
}

/* ---- all of them -------------------------------------------------------------------------- */

void gate_run(const json_t *receipt, const struct gate_context *ctx, struct gate_report *out)
{
	static void (*const run[GATE_COUNT])(struct gating *) = {
		[GATE_SCHEMA] = gate_schema,	       [GATE_COMPUTE_PATH] = gate_compute_path,
		[GATE_KERNELS] = gate_kernels,	       [GATE_WEIGHTS] = gate_weights,
		[GATE_MODEL] = gate_model,	       [GATE_TOKENS] = gate_tokens,
		[GATE_METRICS] = gate_metrics,	       [GATE_DETERMINISM] = gate_determinism,
		[GATE_REFERENCE] = gate_reference,     [GATE_PERFORMANCE] = gate_performance,
	};
	struct gating g = {.r = receipt, .ctx = ctx, .out = out};

	memset(out, 0, sizeof(*out));
	out->passed = true;
	for (int i = 0; i < GATE_COUNT; i++) {
		g.id = (enum gate_id)i;
		run[i](&g);
		out->passed = out->passed && !out->gates[i].failed;
	}
}
