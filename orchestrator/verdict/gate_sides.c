#include "gate_internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/*
 * What a side says about itself. Workers of this program (native, oracle, a reference's) say all of
 * these and nothing else (workers/serve/serve.c); exec: and recorded: are somebody else's words.
 */
static const char *const hello_keys[] = {"protocol", "engine", "build", "isa", "features", NULL};
static const char *const opened_keys[] = {"arch",     "n_vocab",   "n_layer",  "n_embd", "n_ff",
					  "n_head",   "n_kv_head", "head_dim", "n_ctx",  "bos",
					  "eos",      "eot",       "add_bos",  "profile", "isa",
					  "weights",  "note",      "open_us",  "peak_kib", NULL};
static const char *const done_keys[] = {"n_pos", "eval_us", "prefill_us", "peak_kib", NULL};
static const char *const features[] = {"tokenize", "evaluate", "trace",	     "replay",
				       "splice",   "weights",  "vocab_only", "template", NULL};
static const char *const cpu_flags[] = {"avx2",	    "fma",	"bmi2",	      "avx512f",    "avx512bw",
					"avx512dq", "avx512vl", "avx512vnni", "avx512vbmi", "amxint8",
					"neon",	    NULL};
/* The instruction sets of our kernels and what a CPU must have for them. */
static const struct {
	const char *isa, *needs;
} kernel_sets[] = {{"c", ""},		  {"avx2", "avx2"},	      {"avx2-vnni", "avx2"},
		   {"avx512", "avx512f"}, {"avx512-vnni", "avx512vnni"},
		   {"avx512-amx", "amxint8"}, {"neon", "neon"}};
static const char *const profiles[] = {
	"ggml-avx2-gcc",   "ggml-avx2-clang", "ggml-avx512-gcc", "ggml-avx512-clang",
	"ggml-fp16-gcc",   "ggml-fp16-clang", "fast",		 NULL};

static bool listed(const char *const *list, const char *s, size_t n)
{
	for (; *list; list++)
		if (strlen(*list) == n && strncmp(*list, s, n) == 0)
			return true;
	return false;
}

/* The first word of a comma list that is not in list, or NULL. */
static const char *stranger(const char *text, const char *const *list)
{
	for (const char *p = text; *p;) {
		size_t n = strcspn(p, ",");

		if (!listed(list, p, n))
			return p;
		p += n + (p[n] == ',');
	}
	return NULL;
}

static bool has_word(const char *text, const char *word)
{
	const char *const one[] = {word, NULL};

	for (const char *p = text; *p;) {
		size_t n = strcspn(p, ",");

		if (listed(one, p, n))
			return true;
		p += n + (p[n] == ',');
	}
	return false;
}

bool gate_foreign(const json_t *side)
{
	return strncmp(gate_text(side, "engine"), "exec:", 5) == 0 ||
	       strncmp(gate_text(side, "engine"), "recorded:", 9) == 0;
}

bool gate_own_engine(const json_t *side)
{
	return strcmp(gate_text(side, "engine"), "native") == 0 ||
	       strcmp(gate_text(side, "engine"), "oracle") == 0;
}

/* ---- every key, and no other ---------------------------------------------------------------- */

static void check_keys(struct gating *g, const char *name, const json_t *side, const char *part,
		       const char *const *keys, const char *optional)
{
	json_t *o = json_object_get(side, part), *v;
	const char *key;

	for (const char *const *k = keys; *k; k++)
		if (!json_object_get(o, *k) && strcmp(*k, optional) != 0)
			gate_fail(g, "engines.%s.%s lacks %s", name, part, *k);
	json_object_foreach(o, key, v)
		if (!listed(keys, key, strlen(key)))
			gate_fail(g, "engines.%s.%s has %s, which no worker says", name, part, key);
}

/* A shape that a model can have; a reference may not know all of it (0). */
static void check_shape(struct gating *g, const char *name, const json_t *s)
{
	static const char *const sizes[] = {"n_vocab", "n_layer", "n_embd",    "n_ff",
					    "n_head",  "n_ctx",	  "n_kv_head", "head_dim"};
	static const char *const ids[] = {"bos", "eos", "eot"};
	const json_t *o = json_object_get(s, "opened");
	bool own = gate_own_engine(s);
	int64_t heads = gate_int(o, "n_head"), kv = gate_int(o, "n_kv_head");

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (!json_is_integer(json_object_get(o, sizes[i])) || gate_int(o, sizes[i]) < own)
			gate_fail(g, "engines.%s.opened.%s is no size", name, sizes[i]);
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		if (!json_is_integer(json_object_get(o, ids[i])) || gate_int(o, ids[i]) < -1 ||
		    gate_int(o, ids[i]) >= gate_int(o, "n_vocab"))
			gate_fail(g, "engines.%s.opened.%s is no id of the vocabulary", name, ids[i]);
	if (!json_is_integer(json_object_get(o, "add_bos")) || gate_int(o, "add_bos") & ~1)
		gate_fail(g, "engines.%s.opened.add_bos is neither 0 nor 1", name);
	if (kv > 0 && heads % kv)
		gate_fail(g, "engines.%s: %lld heads do not share %lld of keys and values", name,
			  (long long)heads, (long long)kv);
	if (gate_int(o, "n_ctx") < gate_int(s, "n_positions"))
		gate_fail(g, "engines.%s: %lld positions in a context of %lld", name,
			  (long long)gate_int(s, "n_positions"), (long long)gate_int(o, "n_ctx"));
}

static void check_ids(struct gating *g, const char *name, const json_t *s)
{
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(s, "greedy"), i, v)
		if (json_integer_value(v) >= gate_int(s, "opened.n_vocab"))
			gate_fail(g, "engines.%s.greedy has %lld, the vocabulary %lld ids", name,
				  (long long)json_integer_value(v),
				  (long long)gate_int(s, "opened.n_vocab"));
}

/* What a CPU must have for kernels of this name; NULL: there are none of that name. */
static const char *needs_of(const char *isa)
{
	for (size_t i = 0; i < sizeof(kernel_sets) / sizeof(kernel_sets[0]); i++)
		if (strcmp(kernel_sets[i].isa, isa) == 0)
			return kernel_sets[i].needs;
	return NULL;
}

bool gate_machine_words(bool native, const char *isa, const char *profile)
{
	if (!native)
		return strcmp(isa, "c") == 0 && strcmp(profile, "float64") == 0;
	return needs_of(isa) && listed(profiles, profile, strlen(profile));
}

static void check_machine(struct gating *g, const char *name, const json_t *s)
{
	const char *flags = gate_text(s, "hello.isa"), *isa = gate_text(s, "opened.isa");
	const char *profile = gate_text(s, "opened.profile"), *needs = needs_of(isa);
	bool native = strcmp(gate_text(s, "engine"), "native") == 0;

	if (stranger(gate_text(s, "hello.features"), features) ||
	    !has_word(gate_text(s, "hello.features"), "evaluate"))
		gate_fail(g, "engines.%s.hello.features is \"%s\"", name,
			  gate_text(s, "hello.features"));
	if (stranger(flags, cpu_flags))
		gate_fail(g, "engines.%s.hello.isa is \"%s\"", name, flags);
	if (gate_own_engine(s) &&
	    (!gate_machine_words(native, isa, profile) || (*needs && !has_word(flags, needs))))
		gate_fail(g, "engines.%s ran \"%s\", profile \"%s\", on a CPU with \"%s\"", name,
			  isa, profile, flags);
}

static void check_measured(struct gating *g, const char *name, const json_t *s)
{
	static const char *const paths[] = {"opened.open_us", "opened.peak_kib", "done.peak_kib",
					    "done.prefill_us"};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (gate_at(s, paths[i]) &&
		    (!json_is_integer(gate_at(s, paths[i])) || gate_int(s, paths[i]) < 0))
			gate_fail(g, "engines.%s.%s cannot have been measured", name, paths[i]);
	if (gate_int(s, "opened.peak_kib") > gate_int(s, "done.peak_kib"))
		gate_fail(g, "engines.%s: less memory at the end than when it had opened", name);
}

void gate_side_facts(struct gating *g, const char *name)
{
	const json_t *s = gate_side(g, name);
	bool decoded = json_array_size(json_object_get(s, "greedy")) > 1;

	if (!s || gate_foreign(s) || gate_int(s, "n_positions") == 0)
		return;
	check_keys(g, name, s, "hello", hello_keys, "");
	check_keys(g, name, s, "opened", opened_keys, "");
	check_keys(g, name, s, "done", done_keys, decoded ? "" : "prefill_us");
	check_shape(g, name, s);
	check_ids(g, name, s);
	check_machine(g, name, s);
	check_measured(g, name, s);
	/* ids that a worker chose are read back by the one that has a tokenizer */
	if (json_array_size(json_object_get(s, "greedy")) > 0 &&
	    has_word(gate_text(s, "hello.features"), "tokenize") !=
		    (json_object_get(s, "text") != NULL))
		gate_fail(g, "engines.%s: its ids and their text do not belong together", name);
}

/* ---- tokenizer and template ----------------------------------------------------------------- */

/* What a template asks of a tokenizer; −1: as the model has it (workers/model/template.c). */
static const struct {
	const char *name;
	int add_bos, parse_special;
} templates[] = {
	{"none", 0, 0},	       {"raw", 1, 0},	 {"instruct", 1, 0},	  {"llama3-chat", 0, 1},
	{"bitnet-chat", 0, 1}, {"chatml", 1, 1}, {"chat_template", -1, 1},
};

static bool any_renders(const struct gating *g)
{
	return has_word(gate_text(gate_side(g, "ours"), "hello.features"), "template") ||
	       has_word(gate_text(gate_side(g, "reference"), "hello.features"), "template");
}

static void check_tokenized(struct gating *g, const char *name)
{
	const json_t *s = gate_side(g, name);
	bool said = json_is_true(json_object_get(s, "tokenized"));
	bool none = strcmp(gate_text(g->r, "template.name"), "none") == 0;

	if (s && said != (!none && has_word(gate_text(s, "hello.features"), "tokenize")))
		gate_fail(g, "engines.%s.tokenized does not fit what it can and the template", name);
}

void gate_template_form(struct gating *g)
{
	const json_t *t = json_object_get(g->r, "template");
	const char *name = gate_text(t, "name"), *source = gate_text(g->r, "tokenizer.source");
	bool bos = json_is_true(json_object_get(t, "add_bos"));
	bool special = json_is_true(json_object_get(t, "parse_special"));
	size_t i = 0, n = sizeof(templates) / sizeof(templates[0]);

	if (strcmp(source, "model") != 0 && strcmp(source, gate_text(g->r, "model.path")) != 0 &&
	    strcmp(gate_text(g->r, "tokenizer.sha256"), gate_text(g->r, "model.sha256")) == 0)
		gate_fail(g, "tokenizer.source is another file than the model, its hash is the model's");
	if (!*name)	/* it ended before a template was asked for */
		return;
	while (i < n && strcmp(templates[i].name, name) != 0)
		i++;
	if (i == n) {
		gate_fail(g, "template.name is \"%s\", which is none", name);
		return;
	}
	if (special != templates[i].parse_special)
		gate_fail(g, "template %s does not go with parse_special %d", name, special);
	/* a raw prompt that no worker formatted has the model's own rule */
	if (templates[i].add_bos >= 0 && bos != templates[i].add_bos &&
	    !(strcmp(name, "raw") == 0 && !any_renders(g)))
		gate_fail(g, "template %s does not go with add_bos %d", name, bos);
	if ((strcmp(name, "none") == 0) != json_is_null(json_object_get(t, "prompt_sha256")))
		gate_fail(g, "template %s and template.prompt_sha256 do not belong together", name);
	if (gate_int(gate_side(g, "ours"), "n_positions") > 0) {
		check_tokenized(g, "ours");
		check_tokenized(g, "reference");
	}
}

/* What lies beside the receipt: the prompt and the ids themselves. */
void gate_ids_beside(struct gating *g)
{
	for (int i = 0; i < g->ctx->n_ids; i++) {
		const struct gate_ids *ids = &g->ctx->ids[i];
		const json_t *s = gate_side(g, ids->side);

		if (!s)
			continue;
		if (ids->n != gate_int(s, "n_tokens") ||
		    (ids->n && strcmp(ids->sha256, gate_text(s, "tokens_sha256")) != 0))
			gate_fail(g, "engines.%s: tokens.json beside the receipt has other ids",
				  ids->side);
		if (ids->greedy && !json_equal(ids->greedy, json_object_get(s, "greedy")))
			gate_fail(g, "engines.%s.greedy: tokens.json beside the receipt has other ids",
				  ids->side);
	}
	if (g->ctx->prompt_sha256 &&
	    (strcmp(g->ctx->prompt_sha256, gate_text(g->r, "template.prompt_sha256")) != 0 ||
	     g->ctx->prompt_bytes != gate_int(g->r, "template.prompt_bytes")))
		gate_fail(g, "prompt.txt beside the receipt is another prompt");
	if (!g->ctx->prompt_sha256 && *gate_text(g->r, "template.prompt_sha256"))
		gate_unchecked(g, "the prompt is not at hand (prompt.txt beside the receipt)");
	if (g->ctx->n_ids == 0)
		gate_unchecked(g, "the ids are not at hand (tokens.json beside the receipt)");
}

/* One reply in two tellings: the same ids of one tokenizer have one text. */
void gate_texts_agree(struct gating *g, const json_t *a, const json_t *b)
{
	const json_t *x = json_object_get(a, "text"), *y = json_object_get(b, "text");

	if (x && y && gate_own_engine(a) && gate_own_engine(b) && !json_equal(x, y) &&
	    json_equal(json_object_get(a, "greedy"), json_object_get(b, "greedy")))
		gate_fail(g, "the sides chose the same ids and read different texts");
}

/* ---- times ---------------------------------------------------------------------------------- */

static double seconds_of(const char *text)
{
	struct tm t = {0};

	if (sscanf(text, "%d-%d-%dT%d:%d:%dZ", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
		   &t.tm_min, &t.tm_sec) != 6)
		return -1;
	t.tm_year -= 1900;
	t.tm_mon -= 1;
	return (double)timegm(&t);
}

void gate_times(struct gating *g)
{
	const double slack_s = 2, asleep_s = 86400; /* whole seconds; a laptop's lid was closed */
	double from = seconds_of(gate_text(g->r, "started"));
	double to = seconds_of(gate_text(g->r, "finished"));
	double wall = gate_real(g->r, "wall_us") * 1e-6;
	double timeout = gate_real(g->r, "scenario.timeout_s");

	if (to < from)
		gate_fail(g, "finished before it started");
	else if (wall > to - from + slack_s || to - from > wall + slack_s + asleep_s)
		gate_fail(g, "it took %.1f s, between started and finished are %.0f s", wall,
			  to - from);
	if (timeout > 0 && gate_real(gate_side(g, "ours"), "eval_us") * 1e-6 > timeout + slack_s &&
	    !gate_foreign(gate_side(g, "ours")))
		gate_fail(g, "the evaluation took longer than scenario.timeout_s, %.0f s", timeout);
}
