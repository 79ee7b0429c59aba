#include "cli.h"
#include "gate_beside.h"
#include "gate_rerun.h"

#include "gguf.h"
#include "digest.h"
#include "provision/embed.h"
#include "provision/models_lock.h"
#include "report/canonical.h"
#include "report/input.h"
#include "report/summary.h"
#include "sweep/facts.h"
#include "verdict/gate.h"
#include "verdict/gate_bench.h"
#include "verdict/gate_sweep.h"
#include "version.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SCHEMA_PATH "docs/schema/receipt-1.0.0.schema.json"

enum { PATH_BYTES = 4096, RERUNS_MAX = 16, FILES_MAX = 100000 };

static const struct opt opts[] = {
	{"model", OPT_STR, "FILE", "the model's file: its hash is compared", NULL, NULL, NULL, 'm'},
	{"lock", OPT_STR, "FILE", "models lockfile instead of the one built in", NULL, NULL, NULL,
	 0},
	{"rerun", OPT_INT, "N", "evaluate again N times; digests must be the same (needs --model)",
	 "0", NULL, NULL, 0},
	{"run-commands", OPT_FLAG, NULL,
	 "with --rerun: also run exec: commands that a receipt names; only for receipts you trust",
	 NULL, NULL, NULL, 0},
	{"require", OPT_FLAG, NULL, "what could not be checked is a failure too", NULL, NULL, NULL,
	 0},
	{"format", OPT_STR, "FORM", "form of the result", "text", NULL, "text|json|junit", 0},
	{0},
};

struct gate_job {
	struct cli *c;
	json_t *schema, *files;		/* results, for JSON */
	const char *model, *thresholds;
	char model_sha256[DIGEST_HEX];
	struct gate_model_facts facts;	/* of model */
	struct gate_locked locked[MODELS_LOCK_MODELS_MAX];
	int n_locked;
	int n_passed, n_failed;
};

/* ---- one receipt -------------------------------------------------------------------------- */

static const char *state_of(const struct gate_result *r, bool require)
{
	if (r->failed || (require && r->unchecked))
		return "failed";
	return r->unchecked ? "unchecked" : r->absent ? "absent" : "passed";
}

static json_t *report_json(const struct gate_report *report, const char *path, bool require,
			   bool passed)
{
	json_t *gates = json_array();

	for (int i = 0; i < GATE_COUNT; i++) {
		const struct gate_result *r = &report->gates[i];
		json_t *messages = json_array();

		for (int k = 0; k < r->n_messages; k++)
			json_array_append_new(messages, canonical_text(r->messages[k]));
		json_array_append_new(gates, json_pack("{s:s, s:s, s:o}", "gate",
						       gate_name((enum gate_id)i), "state",
						       state_of(r, require), "messages", messages));
	}
	return json_pack("{s:s, s:b, s:o}", "receipt", path, "passed", passed, "gates", gates);
}

static void print_report(const struct gate_report *report, const char *path, bool require,
			 bool passed)
{
	printf("%s: %s\n", path, passed ? "passed" : "INVALID");
	for (int i = 0; i < GATE_COUNT; i++) {
		const struct gate_result *r = &report->gates[i];
		const char *state = state_of(r, require);

		printf("  %s %-13s %s\n", strcmp(state, "failed") == 0 ? "✗" :
		       strcmp(state, "passed") == 0 ? "✓" : "-", gate_name((enum gate_id)i),
		       r->n_messages ? "" : gate_purpose((enum gate_id)i));
		for (int k = 0; k < r->n_messages; k++)
			printf("      %s\n", r->messages[k]);
	}
}

static bool all_passed(const struct gate_report *report, bool require)
{
	for (int i = 0; i < GATE_COUNT; i++)
		if (strcmp(state_of(&report->gates[i], require), "failed") == 0)
			return false;
	return true;
}

/* Whoever wrote the receipt chose the command: it is not run because somebody checks the receipt. */
static bool is_command(const json_t *receipt, bool reference)
{
	const json_t *side = json_object_get(json_object_get(receipt, "engines"),
					     reference ? "reference" : "ours");
	const char *engine = json_string_value(json_object_get(side, "engine"));

	return engine && strncmp(engine, "exec:", 5) == 0;
}

static int rerun_all(struct gate_job *j, const json_t *receipt, const char *path,
		     const char *prompt, size_t bytes, struct gate_context *ctx,
		     struct gate_rerun *runs, struct err *e)
{
	bool both = json_object_get(json_object_get(receipt, "engines"), "reference") != NULL;
	int n = (int)cli_int(j->c, "rerun");

	ctx->reruns = runs;
	for (int i = 0; i < n; i++)
		for (int side = 0; side <= both; side++) {
			if (is_command(receipt, side) && !cli_flag(j->c, "run-commands")) {
				ctx->not_run = "an engine is a command that the receipt names, which is "
					       "not run unasked: --run-commands";
				continue;
			}
			int r = gate_rerun(receipt, side ? "reference" : "ours", path, j->model,
					   prompt, bytes, &runs[ctx->n_reruns], e);

			if (r < 0)
				return r;
			/* the first ones' logits are enough: the others' digests are equal */
			if (i > 0) {
				free(runs[ctx->n_reruns].rows);
				runs[ctx->n_reruns].rows = NULL;
			}
			ctx->n_reruns++;
		}
	return 0;
}

static bool is_kind(const json_t *receipt, const char *kind)
{
	const char *said = json_string_value(json_object_get(receipt, "kind"));

	return said && strcmp(said, kind) == 0;
}

static int check_receipt(struct gate_job *j, const json_t *receipt, const char *path,
			 struct gate_context *ctx, struct gate_report *report, struct err *e)
{
	struct gate_rerun runs[2 * RERUNS_MAX];
	struct gate_ids ids[2];
	char *prompt, prompt_sha256[DIGEST_HEX];
	json_t *holder = NULL;
	size_t bytes = 0;
	int r;

	prompt = gate_prompt_read(path, &bytes);
	if (prompt) {
		facts_hex(prompt, bytes, prompt_sha256);
		ctx->prompt_sha256 = prompt_sha256;
		ctx->prompt_bytes = (int64_t)bytes;
	}
	r = rerun_all(j, receipt, path, prompt, bytes, ctx, runs, e);

	if (r == 0) {
		ctx->ids = ids;
		ctx->n_ids = gate_ids_read(path, ids, &holder);
		gate_run(receipt, ctx, report);
	}
	for (int i = 0; i < ctx->n_reruns; i++) {
		json_decref(runs[i].greedy);
		free(runs[i].rows);
	}
	json_decref(holder);
	free(prompt);
	return r;
}

static void check_summary(const json_t *summary, const char *path, const struct gate_context *ctx,
			  struct gate_report *report)
{
	char why[256] = "", left_out[SUMMARY_ID_MAX], stray[SUMMARY_ID_MAX];
	struct gate_context beside = *ctx;
	bool some = false;
	json_t *rebuilt = gate_summary_rebuild(summary, path, &some, why, sizeof(why));

	gate_summary_untold(summary, path, left_out, stray);
	beside.left_out = *left_out ? left_out : NULL;
	beside.stray = *stray ? stray : NULL;
	gate_sweep_run(summary, &beside, rebuilt, some, why, report);
	json_decref(rebuilt);
}

static void conclude(struct gate_job *j, const struct gate_report *report, const char *path)
{
	bool require = cli_flag(j->c, "require"), passed = all_passed(report, require);

	j->n_passed += passed;
	j->n_failed += !passed;
	json_array_append_new(j->files, report_json(report, path, require, passed));
	if (strcmp(cli_str(j->c, "format"), "text") == 0)
		print_report(report, path, require, passed);
}

/* What is no JSON at all fails the first gate, and the other receipts are still looked at. */
static void unreadable(struct gate_report *report, const json_error_t *why)
{
	struct gate_result *r = &report->gates[GATE_SCHEMA];

	r->failed = true;
	snprintf(r->messages[r->n_messages++], GATE_MESSAGE_MAX, "line %d: %.200s", why->line,
		 why->text);
	for (int i = 1; i < GATE_COUNT; i++) {
		r = &report->gates[i];
		r->unchecked = true;
		snprintf(r->messages[r->n_messages++], GATE_MESSAGE_MAX, "it could not be read");
	}
}

static int check_file(struct gate_job *j, const char *path, struct err *e)
{
	struct gate_context ctx = {.schema = j->schema,
				   .version = ASSAY_VERSION,
				   .build = version_build_id(),
				   .locked = j->locked,
				   .n_locked = j->n_locked,
				   .model_sha256 = j->model ? j->model_sha256 : NULL,
				   .model = j->model ? &j->facts : NULL,
				   .thresholds = j->thresholds};
	struct gate_report *report = calloc(1, sizeof(*report));
	json_error_t why;
	json_t *receipt = input_json(path, &why);
	int r = 0;

	assert(report);
	if (receipt)
		ctx.sealed = canonical_sealed(receipt);
	if (!receipt)
		unreadable(report, &why);
	else if (is_kind(receipt, "bench"))
		gate_bench_run(receipt, &ctx, report);
	else if (is_kind(receipt, "sweep"))
		check_summary(receipt, path, &ctx, report);
	else
		r = check_receipt(j, receipt, path, &ctx, report, e);
	if (r == 0)
		conclude(j, report, path);
	json_decref(receipt);
	free(report);
	return r;
}

/* ---- files and folders -------------------------------------------------------------------- */

/* A folder stands for every receipt.json, summary.json and bench.json in it and below. */
static int check_path(struct gate_job *j, const char *path, int depth, struct err *e)
{
	struct dirent **names;
	struct stat st;
	int n, r = 0;

	if (stat(path, &st) != 0)
		return err_set(e, EXIT_RECEIPT_INVALID, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return check_file(j, path, e);
	n = depth > 16 ? -1 : scandir(path, &names, NULL, alphasort);
	if (n < 0)
		return err_set(e, EXIT_RECEIPT_INVALID, "%s: cannot be listed", path);
	for (int i = 0; i < n; i++) {
		char sub[PATH_BYTES];

		snprintf(sub, sizeof(sub), "%s/%s", path, names[i]->d_name);
		if (r == 0 && names[i]->d_name[0] != '.' && stat(sub, &st) == 0 &&
		    (S_ISDIR(st.st_mode) || strcmp(names[i]->d_name, "receipt.json") == 0 ||
		     strcmp(names[i]->d_name, "summary.json") == 0 ||
		     strcmp(names[i]->d_name, "bench.json") == 0))
			r = check_path(j, sub, depth + 1, e);
		free(names[i]);
	}
	free(names);
	return r;
}

static void print_junit(const struct gate_job *j)
{
	const json_t *file, *gate;
	size_t i, k;

	printf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
	json_array_foreach(j->files, i, file) {
		printf("<testsuite name=\"gate %zu\">\n", i + 1);
		json_array_foreach(json_object_get(file, "gates"), k, gate) {
			const char *state = json_string_value(json_object_get(gate, "state"));

			printf("<testcase classname=\"gate\" name=\"%s\">%s</testcase>\n",
			       json_string_value(json_object_get(gate, "gate")),
			       strcmp(state, "failed") == 0
				       ? "<failure message=\"see the text form\"/>"
			       : strcmp(state, "passed") != 0 ? "<skipped/>" : "");
		}
		printf("</testsuite>\n");
	}
	printf("</testsuites>\n");
}

/* ---- gate mapper -------------------------------------------------------------------------- */

static bool tensor_known(const char *name, size_t n)
{
	static const char *const top[] = {"token_embd.weight", "output.weight",
					  "output_norm.weight", "rope_freqs.weight", NULL};
	static const char *const layer[] = {
		"attn_norm",   "attn_q",      "attn_k",        "attn_v",   "attn_output",
		"attn_q_norm", "attn_k_norm", "attn_sub_norm", "ffn_norm", "ffn_gate",
		"ffn_up",      "ffn_down",    "ffn_sub_norm",  NULL};
	const char *p = name;
	int used = 0, number;
	char text[256];

	if (n >= sizeof(text))
		return false;
	memcpy(text, name, n);
	text[n] = '\0';
	for (const char *const *t = top; *t; t++)
		if (strcmp(*t, text) == 0)
			return true;
	if (sscanf(text, "blk.%d.%n", &number, &used) != 1 || !used)
		return false;
	p = text + used;
	for (const char *const *l = layer; *l; l++) {
		size_t len = strlen(*l);

		if (strncmp(p, *l, len) == 0 && (strcmp(p + len, ".weight") == 0 ||
						  strcmp(p + len, ".bias") == 0 ||
						  strcmp(p + len, ".scale") == 0))
			return true;
	}
	return false;
}

static int mapper(struct cli *c, struct err *e)
{
	const char *path = cli_str(c, "model");
	struct gguf g;
	uint64_t unknown = 0;
	int r;

	if (!path)
		return err_set(e, EXIT_USAGE, "gate mapper: --model FILE is missing");
	r = gguf_open(&g, path, e);
	if (r < 0)
		return r;
	if (cli_json(c))
		printf("{\"model\":\"%s\",\"unknown\":[", path);
	for (uint64_t i = 0; i < g.n_tensors; i++) {
		const struct gguf_str *s = &g.tensors[i].name;

		if (tensor_known(s->s, s->n))
			continue;
		printf(cli_json(c) ? "%s\"%.*s\"" : "%s%.*s\n", cli_json(c) && unknown ? "," : "",
		       (int)s->n, s->s);
		unknown++;
	}
	if (cli_json(c))
		printf("],\"n_tensors\":%llu}\n", (unsigned long long)g.n_tensors);
	else
		printf("%llu of %llu tensors have no known name\n", (unsigned long long)unknown,
		       (unsigned long long)g.n_tensors);
	gguf_close(&g);
	return unknown ? EXIT_MODEL_INVALID : 0;
}

/* ---- the command -------------------------------------------------------------------------- */

static int prepare(struct gate_job *j, struct models_lock *lock, struct err *e)
{
	size_t n, n_thresholds;
	const unsigned char *schema = embed_find(SCHEMA_PATH, &n);
	uint8_t sha[DIGEST_BYTES];
	int r;

	j->thresholds = (const char *)embed_find("lockfiles/thresholds.json", &n_thresholds);
	assert(schema && j->thresholds);
	j->schema = json_loadb((const char *)schema, n, 0, NULL);
	j->files = json_array();
	assert(j->schema && j->files);
	r = models_lock_open(lock, cli_str(j->c, "lock"), e);
	if (r < 0)
		return r;
	for (int i = 0; i < lock->n; i++)
		j->locked[i] = (struct gate_locked){lock->models[i].sha256_hex,
						    lock->models[i].size};
	j->n_locked = lock->n;
	if (cli_int(j->c, "rerun") > 0 && !j->model)
		return err_set(e, EXIT_USAGE, "gate: --rerun needs --model FILE");
	if (cli_int(j->c, "rerun") < 0 || cli_int(j->c, "rerun") > RERUNS_MAX)
		return err_set(e, EXIT_USAGE, "gate: --rerun is 0 to %d", RERUNS_MAX);
	if (j->model) {
		r = digest_file(j->model, sha, NULL, NULL, e);
		if (r < 0)
			return r;
		digest_hex(sha, j->model_sha256);
		r = gate_model_read(j->model, &j->facts, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int finish(struct gate_job *j, struct err *e)
{
	if (j->n_passed + j->n_failed == 0)
		return err_set(e, EXIT_NOTHING_RAN, "gate: no receipt was found");
	if (cli_json(j->c)) {
		json_dumpf(j->files, stdout, JSON_INDENT(1) | JSON_SORT_KEYS);
		putchar('\n');
	} else if (strcmp(cli_str(j->c, "format"), "junit") == 0) {
		print_junit(j);
	} else if (j->n_passed + j->n_failed > 1) {
		printf("%d receipts passed, %d are invalid\n", j->n_passed, j->n_failed);
	}
	return j->n_failed ? EXIT_RECEIPT_INVALID : 0;
}

static int run(struct cli *c, struct err *e)
{
	struct gate_job j = {.c = c, .model = cli_str(c, "model")};
	struct models_lock lock = {0};
	const char *const *paths;
	int n = cli_positional(c, &paths), r;

	if (n == 1 && strcmp(paths[0], "mapper") == 0)
		return mapper(c, e);
	if (n < 1)
		return err_set(e, EXIT_USAGE, "gate: which receipts? files or folders");
	r = prepare(&j, &lock, e);
	for (int i = 0; i < n && r == 0; i++)
		r = check_path(&j, paths[i], 0, e);
	if (r == 0)
		r = finish(&j, e);
	json_decref(j.schema);
	json_decref(j.files);
	models_lock_free(&lock);
	return r;
}

const struct command cmd_gate = {
	.name = "gate",
	.aliases = "verify-receipt",
	.group = "Receipts",
	.summary = "ten gates that a receipt has to pass; everything is recomputed",
	.positional = "RECEIPT|DIR… | mapper",
	.examples = "assay gate out/run\n"
		    "assay gate out/run/scenario1/receipt.json --model m.gguf --rerun 2\n"
		    "assay gate mapper --model m.gguf\n",
	.opts = opts,
	.run = run,
	.details =
		"Gates: schema, compute-path, kernels, weights, model, tokens, metrics, determinism,\n"
		"reference, performance. All failures are listed; exit 20 when there is one. What\n"
		"cannot be checked here (the model's file, a second run) is shown as unchecked, what\n"
		"its kind does not claim as absent.\n",
};
