#include "bench_common.h"

#include "report/canonical.h"
#include "sweep/facts.h"
#include "term.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { RECEIPTS_MAX = STATS_SESSIONS_MAX, PATH_BYTES = 4096, DEPTH_MAX = 8 };

/* ---- receipts ----------------------------------------------------------------------------- */

struct found {
	char *paths[RECEIPTS_MAX];
	json_t *receipts[RECEIPTS_MAX];
	int n;
};

static int take(struct found *f, const char *path, struct err *e)
{
	json_t *o = bench_load(path, e);
	int r = o ? bench_gate(o, path, e) : -e->code;

	if (r == 0 && f->n == RECEIPTS_MAX)
		r = err_set(e, EXIT_USAGE, "more than %d receipts", RECEIPTS_MAX);
	if (r < 0) {
		json_decref(o);
		return r;
	}
	f->paths[f->n] = strdup(path);
	f->receipts[f->n++] = o;
	return 0;
}

static int find(struct found *f, const char *dir, int depth, struct err *e)
{
	struct dirent **names;
	int n = depth > DEPTH_MAX ? 0 : scandir(dir, &names, NULL, alphasort), r = 0;

	if (n < 0)
		return err_set(e, EXIT_USAGE, "%s: %s", dir, strerror(errno));
	for (int i = 0; i < n; i++) {
		char path[PATH_BYTES];
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		if (r == 0 && names[i]->d_name[0] != '.' && stat(path, &st) == 0) {
			if (S_ISDIR(st.st_mode))
				r = find(f, path, depth + 1, e);
			else if (strcmp(names[i]->d_name, "bench.json") == 0)
				r = take(f, path, e);
		}
		free(names[i]);
	}
	if (depth <= DEPTH_MAX)
		free(names);
	return r;
}

static int merge(const struct found *f, json_t **out, struct err *e)
{
	return baseline_make((const json_t *const *)f->receipts, (const char *const *)f->paths,
			     f->n, out, e);
}

static void found_free(struct found *f)
{
	for (int i = 0; i < f->n; i++) {
		free(f->paths[i]);
		json_decref(f->receipts[i]);
	}
	free(f);
}

/* ---- check-perf --------------------------------------------------------------------------- */

static const struct opt check_opts[] = {
	{"baseline", OPT_STR, "FILE", "made by gen-baselines", NULL, NULL, NULL, 0},
	{"max-slowdown", OPT_REAL, "PERCENT", "what is still no regression", "10", NULL, NULL, 0},
	{"format", OPT_STR, "FORM", "form of the result", "text", NULL, "text|json|markdown|junit",
	 0},
	{0},
};

/* A baseline is what gen-baselines made, unchanged; a bench receipt that passes its gates will do. */
static int load_baseline(const char *path, json_t **out, struct err *e)
{
	json_t *o = bench_load(path, e);
	const char *kind = json_string_value(json_object_get(o, "kind"));
	int r = 0;

	if (!o)
		return -e->code;
	if (kind && strcmp(kind, "bench") == 0)
		r = bench_gate(o, path, e);
	else if (!kind || strcmp(kind, "baseline") != 0)
		r = err_set(e, EXIT_RECEIPT_INVALID,
			    "%s: kind is \"%.40s\", expected \"baseline\" (assay gen-baselines)", path,
			    kind ? kind : "");
	else if (!canonical_sealed(o))
		r = err_set(e, EXIT_RECEIPT_INVALID,
			    "%s: content_sha256 does not fit the content: the baseline was changed; "
			    "make it again from receipts (assay gen-baselines)",
			    path);
	if (r < 0)
		json_decref(o);
	else
		*out = o;
	return r;
}

static int run_check(struct cli *c, struct err *e)
{
	struct perf_report *p = calloc(1, sizeof(*p));
	struct found *f = calloc(1, sizeof(*f));
	json_t *baseline = NULL, *now = NULL;
	const char *const *paths;
	int n = cli_positional(c, &paths), r = 0;

	assert(p && f);
	if (n < 1 || !cli_str(c, "baseline"))
		r = err_set(e, EXIT_USAGE,
			    "check-perf: expected --baseline FILE and at least one bench receipt");
	if (r == 0)
		r = load_baseline(cli_str(c, "baseline"), &baseline, e);
	for (int i = 0; i < n && r == 0; i++)
		r = take(f, paths[i], e);
	if (r == 0)
		r = merge(f, &now, e);
	if (r == 0)
		r = baseline_check(baseline, now, cli_real(c, "max-slowdown"), p, e);
	if (r == 0)
		r = bench_print_perf(c, p, cli_real(c, "max-slowdown"));
	json_decref(baseline);
	json_decref(now);
	found_free(f);
	free(p);
	return r;
}

const struct command cmd_check_perf = {
	.name = "check-perf",
	.group = "Speed",
	.summary = "hold bench receipts against a baseline; exit 17 on a regression",
	.positional = "BENCH.json...",
	.examples = "assay bench --model m.gguf --reps 20 --out out/bench\n"
		    "assay check-perf --baseline docs/baselines/ci.json out/bench/bench.json\n"
		    "assay check-perf --baseline ci.json out/bench1/bench.json out/bench2/bench.json\n",
	.opts = check_opts,
	.run = run_check,
	.details =
		"A case regressed when even the better end of the 95 % interval of its change is slower\n"
		"than the limit, in time and in units of a fixed piece of work that is timed beside it.\n"
		"Several receipts are several sessions: they tell what differs from one process to the\n"
		"next. Another host class, model, engine or number of threads is \"not comparable\"\n"
		"(exit 7), never a pass; \"undecided\" (exit 7 too) is a case whose machine was so much\n"
		"slower, or faster, that it may explain a change beyond the limit: measure more sessions\n"
		"and give all receipts.\n",
};

/* ---- gen-baselines ------------------------------------------------------------------------ */

static const struct opt gen_opts[] = {
	{"from", OPT_STR, "DIR", "folder with bench receipts (bench.json, any depth)", NULL, NULL,
	 NULL, 0},
	{"out", OPT_STR, "FILE", "the baseline to write", "baseline.json", NULL, NULL, 'o'},
	{0},
};

static int write_baseline(const char *path, json_t *b, struct err *e)
{
	char *text;
	int r;

	canonical_seal(b);
	text = canonical_indented(b);
	r = facts_write(path, text, e);

	free(text);
	return r;
}

static int run_gen(struct cli *c, struct err *e)
{
	struct found *f = calloc(1, sizeof(*f));
	json_t *b = NULL;
	int r;

	assert(f);
	if (!cli_str(c, "from"))
		r = err_set(e, EXIT_USAGE, "gen-baselines: --from DIR is missing");
	else
		r = find(f, cli_str(c, "from"), 0, e);
	if (r == 0 && f->n == 0)
		r = err_set(e, EXIT_NOTHING_RAN, "%s: no bench.json in it", cli_str(c, "from"));
	if (r == 0)
		r = merge(f, &b, e);
	if (r == 0)
		r = write_baseline(cli_str(c, "out"), b, e);
	if (r == 0 && cli_json(c))
		printf("{\"baseline\":\"%s\",\"receipts\":%d}\n", cli_str(c, "out"), f->n);
	else if (r == 0)
		printf("%s from %d receipts\n", cli_str(c, "out"), f->n);
	json_decref(b);
	found_free(f);
	return r;
}

const struct command cmd_gen_baselines = {
	.name = "gen-baselines",
	.group = "Speed",
	.summary = "make a baseline from bench receipts that pass their gates",
	.examples = "assay gen-baselines --from out/bench --out docs/baselines/ci.json\n",
	.opts = gen_opts,
	.run = run_gen,
};

/* ---- bench-compare ------------------------------------------------------------------------ */

#define BENCH_SESSIONS_DEFAULT "3"
static const struct opt compare_opts[] = {
	BENCH_COMMON_OPTS,
	{"cases", OPT_STR, "LIST", "what to measure", "prefill-512,decode-128", NULL, NULL, 0},
	{"reps", OPT_INT, "N", "measured repetitions of each case", "20", NULL, NULL, 'r'},
	{"max-slowdown", OPT_REAL, "PERCENT", "what is still no regression", "10", NULL, NULL, 0},
	{"format", OPT_STR, "FORM", "form of the result", "text", NULL, "text|json|markdown|junit",
	 0},
	{0},
};

/* A path of a worker program is as good as an engine's name. */
static const char *engine_of(const char *arg, char *out, size_t size)
{
	if (!strchr(arg, '/') || strncmp(arg, "exec:", 5) == 0)
		return arg;
	snprintf(out, size, "exec:exec '%s' --engine native", arg);
	return out;
}

static int run_compare(struct cli *c, struct err *e)
{
	struct bench_options o = {.n_engines = 2};
	struct bench_result *r = calloc(1, sizeof(*r));
	struct perf_report *p = calloc(1, sizeof(*p));
	const char *const *args;
	char names[2][PATH_BYTES];
	json_t *receipt = NULL;
	int rc;

	assert(r && p);
	if (cli_positional(c, &args) == 2) {
		for (int i = 0; i < 2; i++)
			o.engines[i].name = engine_of(args[i], names[i], sizeof(names[i]));
		rc = bench_common_run(c, &o, r, &receipt, e);
	} else {
		rc = err_set(e, EXIT_USAGE,
			     "bench-compare: expected two engines or worker programs");
	}
	if (rc == 0)
		rc = baseline_compare(receipt, cli_real(c, "max-slowdown"), p, e);
	if (rc == 0)
		rc = bench_print_perf(c, p, cli_real(c, "max-slowdown"));
	json_decref(receipt);
	bench_free(r);
	free(r);
	free(p);
	return rc;
}

const struct command cmd_bench_compare = {
	.name = "bench-compare",
	.group = "Speed",
	.summary =
		"two builds or engines interleaved in one run; exit 17 when the second is slower",
	.positional = "BEFORE AFTER",
	.examples = "assay bench-compare --model m.gguf old/assay-worker new/assay-worker\n"
		    "assay bench-compare --model m.gguf native llama --format markdown\n",
	.opts = compare_opts,
	.run = run_compare,
};
