#include "compare_opts.h"
#include "one_scenario.h"
#include "sweep/record.h"
#include "term.h"
#include "trace.h"
#include "version.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct opt opts[] = {
	{"model", OPT_STR, "FILE", "the model (GGUF)", NULL, "CROSSVAL_GGUF", NULL, 'm'},
	{"tokenizer", OPT_STR, "FILE", "tokenizer, default the model's own", NULL,
	 "CROSSVAL_GGUF_TOKENIZER", NULL, 0},
	{"engine", OPT_STR, "NAME", "what is recorded: a reference, native, oracle, exec:COMMAND",
	 "native", NULL, NULL, 0},
	{"out", OPT_STR, "FILE", "the recording, FILE.tar.zst", NULL, NULL, NULL, 'o'},
	{"scenarios", OPT_STR, "FILE", "scenarios (docs/scenarios.md), default the three of old",
	 NULL, NULL, NULL, 's'},
	{"template", OPT_STR, "NAME", "where a scenario names none", "raw", NULL, NULL, 0},
	{"prompt", OPT_STR, "TEXT", "one prompt instead of scenarios", NULL, NULL, NULL, 'p'},
	{"prompt-file", OPT_STR, "FILE", "the same from a file", NULL, NULL, NULL, 0},
	{"tokens", OPT_STR, "IDS", "one scenario of ids: 1,2,3", NULL, NULL, NULL, 0},
	{"system-prompt", OPT_STR, "TEXT", "with --prompt", NULL, NULL, NULL, 0},
	{"max-tokens", OPT_INT, "N", "greedy ids after --prompt", "4", NULL, NULL, 'n'},
	{"seed", OPT_INT, "N", "with --prompt", "0", "BITNET_SEED", NULL, 0},
	{"timeout", OPT_INT, "SECONDS",
	 "of silence until the engine is given up; the scenario's, as later commands see it", "180",
	 "CROSSVAL_TIMEOUT_SECS", NULL, 0},
	{"logits", OPT_STR, "FORM", "f32: every bit; compact: about half, with a stated error",
	 "f32", NULL, "f32|compact", 0},
	{"trace", OPT_STR, "STAGES", "none, all, or stages with commas", "none", NULL, NULL, 0},
	{"profile", OPT_STR, "NAME", "numerics profile of native", NULL, NULL, NULL, 0},
	{"isa", OPT_STR, "NAME", "instruction set of our engines", NULL, NULL, NULL, 0},
	{"kv", OPT_STR, "TYPE", "type of the KV cache", NULL, NULL, "f16|f32", 0},
	{"threads", OPT_INT, "N", "0 = all", "0", NULL, NULL, 't'},
	{"ctx", OPT_INT, "N", "positions of the context, 0 = the model's", "0", NULL, NULL, 0},
	{"ubatch", OPT_INT, "N", "positions evaluated at once, 0 = the engine's", "0", NULL, NULL,
	 0},
	{"batch", OPT_INT, "N", "positions per call, 0 = all, 1 = one at a time", "0", NULL, NULL,
	 0},
	{"override-kv", OPT_LIST, "KEY=TYPE:VALUE", "metadata of the model", NULL, NULL, NULL, 0},
	{0},
};

static int fill_setup(struct exchange_setup *u, struct cli *c, struct err *e)
{
	const char *const *overrides;

	u->model = cli_str(c, "model");
	if (!u->model)
		return err_set(e, EXIT_USAGE, "--model FILE is missing (or set CROSSVAL_GGUF); "
			       "`assay fetch-models` provides one, `assay gen-fixtures` makes one");
	u->tokenizer = cli_str(c, "tokenizer");
	u->profile = cli_str(c, "profile");
	u->isa = cli_str(c, "isa");
	u->kv = cli_str(c, "kv");
	u->threads = (int)cli_int(c, "threads");
	u->ctx = (int)cli_int(c, "ctx");
	u->ubatch = (int)cli_int(c, "ubatch");
	u->batch = (int)cli_int(c, "batch");
	u->template_name = cli_str(c, "template");
	u->n_overrides = cli_list(c, "override-kv", &overrides);
	if (u->threads < 0 || u->ctx < 0 || u->ubatch < 0 || u->batch < 0)
		return err_set(e, EXIT_USAGE,
			       "--threads, --ctx, --ubatch and --batch are not negative");
	if (u->n_overrides > EXCHANGE_OVERRIDES_MAX)
		return err_set(e, EXIT_USAGE, "more than %d --override-kv", EXCHANGE_OVERRIDES_MAX);
	for (int i = 0; i < u->n_overrides; i++)
		u->overrides[i] = overrides[i];
	return 0;
}

static int check_trace(const char *list, struct err *e)
{
	char name[64];

	if (strcmp(list, "none") == 0 || strcmp(list, "all") == 0)
		return 0;
	for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',') {
		snprintf(name, sizeof(name), "%.*s", (int)(strcspn(p, ",") & 63), p);
		if (trace_stage_by_name(name) < 0)
			return err_set(e, EXIT_USAGE, "--trace: there is no stage \"%s\"", name);
	}
	return *list ? 0 : err_set(e, EXIT_USAGE, "--trace: none, all, or stages");
}

static int load(struct scenario_set *s, struct cli *c, struct err *e)
{
	bool one = cli_str(c, "prompt") || cli_str(c, "prompt-file") || cli_str(c, "tokens");

	if (one && cli_str(c, "scenarios"))
		return err_set(e, EXIT_USAGE,
			       "--scenarios, or one --prompt, --prompt-file, --tokens");
	if (one)
		return one_scenario(s, c, e);
	return cli_str(c, "scenarios") ? scenario_load(s, cli_str(c, "scenarios"), e) :
					 scenario_defaults(s, e);
}

static void on_scenario(void *ctx, const char *id, int n_ids, int n_positions, int n_traces)
{
	(void)ctx;
	term_note("%s: %d ids, %d positions, %d traces", id, n_ids, n_positions, n_traces);
}

static void print_result(const struct record_result *r, const struct record_options *o, bool json)
{
	json_t *j;

	if (json) {
		j = json_pack("{s:s, s:s, s:i, s:i, s:i, s:I, s:I, s:f, s:s, s:s}", "file", o->out,
			      "engine", o->engine, "n_scenarios", r->n_scenarios, "n_positions",
			      r->n_positions, "n_traces", r->n_traces, "bytes",
			      (json_int_t)r->bytes, "logits_bytes", (json_int_t)r->logits_bytes,
			      "max_error", r->max_error, "sha256", r->sha256, "content_sha256",
			      r->content_sha256);
		json_dumpf(j, stdout, JSON_SORT_KEYS | JSON_INDENT(1) | JSON_REAL_PRECISION(17));
		putchar('\n');
		json_decref(j);
		return;
	}
	printf("%s: %d scenarios, %d positions, %d traces of %s\n", o->out, r->n_scenarios,
	       r->n_positions, r->n_traces, o->engine);
	printf("%lld bytes for %lld bytes of logits", (long long)r->bytes,
	       (long long)r->logits_bytes);
	if (o->compact)
		printf(", greatest error %.3g", r->max_error);
	printf("\nSHA-256 %s\nuse it with --reference recorded:%s\n", r->sha256, o->out);
}

static int run(struct cli *c, struct err *e)
{
	struct exchange_setup setup = {.model = NULL};
	struct scenario_set scenarios = {.n = 0};
	struct record_result result;
	struct record_options o = {
		.engine = cli_str(c, "engine"),
		.setup = &setup,
		.scenarios = &scenarios,
		.out = cli_str(c, "out"),
		.compact = strcmp(cli_str(c, "logits"), "compact") == 0,
		.trace = cli_str(c, "trace"),
		.version = ASSAY_VERSION,
		.build = version_build_id(),
		.on_scenario = on_scenario,
	};
	int rc = fill_setup(&setup, c, e);

	if (rc == 0 && !o.out)
		rc = err_set(e, EXIT_USAGE, "--out FILE.tar.zst is missing");
	if (rc == 0)
		rc = check_trace(o.trace, e);
	if (rc == 0)
		rc = load(&scenarios, c, e);
	if (rc == 0)
		rc = record_run(&o, &result, e);
	if (rc == 0)
		print_result(&result, &o, cli_json(c));
	scenario_free(&scenarios);
	return rc;
}

const struct command cmd_record = {
	.name = "record",
	.group = "Comparing",
	.summary = "record an engine, to compare with it where it cannot run",
	.examples =
		"assay record --model m.gguf --engine llama --out llama.tar.zst\n"
		"assay sweep --model m.gguf --reference recorded:llama.tar.zst\n"
		"assay record --model m.gguf --engine bitnet -s s.json --logits compact -o b.tar.zst\n"
		"assay record --model m.gguf --engine llama --prompt \"2+2=\" --trace all -o t.tar.zst\n",
	.opts = opts,
	.run = run,
	.details =
		"Ids, texts, greedy ids, logits of every position and, where asked for, traces of every\n"
		"scenario, in one archive with identities and SHA-256 of each member (docs/recordings.md).\n"
		"recorded:FILE is an engine's name then, in every command that takes one.\n",
};
