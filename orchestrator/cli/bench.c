#include "cli.h"
#include "term.h"
#include "version.h"

#include "sweep/bench.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct opt opts[] = {
	{"model", OPT_STR, "FILE", "GGUF model", NULL, "CROSSVAL_GGUF", NULL, 'm'},
	{"engine", OPT_STR, "NAME", "engine under test", "native", NULL, NULL, 0},
	{"against", OPT_LIST, "NAME[=FILE]", "engine beside it, interleaved; FILE: its own model",
	 NULL, NULL, NULL, 0},
	{"cases", OPT_STR, "LIST", "what to measure",
	 "prefill-128,prefill-512,prefill-2048,logits-512,decode-128,decode-128@1024,load,"
	 "first-token-16", NULL, NULL, 0},
	{"threads", OPT_INT, "N", "threads of each engine; 0 = all", "0", "GGML_NUM_THREADS", NULL, 't'},
	{"ubatch", OPT_INT, "N", "positions evaluated at once", "512", NULL, NULL, 0},
	{"reps", OPT_INT, "N", "measured repetitions of each case", "5", NULL, NULL, 'r'},
	{"warmup", OPT_INT, "N", "repetitions before, not counted", "1", NULL, NULL, 0},
	{"profile", OPT_STR, "NAME", "numerics profile of native", NULL, NULL, NULL, 0},
	{"isa", OPT_STR, "NAME", "force an instruction set", NULL, NULL, NULL, 0},
	{"out", OPT_STR, "DIR", "write bench.json there", NULL, NULL, NULL, 'o'},
	{"format", OPT_STR, "FORM", "form of the result", "text", NULL, "text|json|markdown", 0},
	{0},
};

static void progress(const char *line)
{
	term_progress("%s", line);
}

/* ---- the result as text --------------------------------------------------------------------- */

/* Fraction of the machine's limit, negative where no limit is known. */
static double fraction(const struct bench_result *r, const struct bench_case *c, double value)
{
	if (c->kind == BENCH_DECODE && r->read_gb_s[1] > 0)
		return value * r->decode_gb / r->read_gb_s[1];
	if ((c->kind == BENCH_PREFILL || c->kind == BENCH_LOGITS) && r->int8_gmac_s[1] > 0)
		return value * r->prefill_gmac / r->int8_gmac_s[1];
	return -1;
}

static const char *limit_name(const struct bench_case *c)
{
	return c->kind == BENCH_DECODE ? "of reading" : "of int8";
}

static void print_machine(const struct bench_result *r)
{
	printf("machine: reads %.1f GB/s with 1 thread, %.1f with %d (%s pages); int8 %.0f GMAC/s "
	       "with 1, %.0f with %d\n", r->read_gb_s[0], r->read_gb_s[1], r->n_threads,
	       r->huge_pages ? "huge" : "small", r->int8_gmac_s[0], r->int8_gmac_s[1], r->n_threads);
	printf("model: %.3f GB read per token decoded, %.3f GMAC of layers per token\n\n", r->decode_gb,
	       r->prefill_gmac);
}

static void print_table(const struct bench_options *o, const struct bench_result *r, bool markdown)
{
	const char *bar = markdown ? "| " : "", *gap = markdown ? " | " : "  ";

	print_machine(r);
	printf("%s%-18s%s%-22s%s%10s%s%8s%s%-18s%s%s%s\n", bar, "case", gap, "engine", gap, "median", gap,
	       "±MAD", gap, "of the limit", gap, "native-side ratio [95 %]", markdown ? " |" : "");
	if (markdown)
		printf("|---|---|---|---|---|---|\n");
	for (int k = 0; k < o->n_cases; k++)
		for (int i = 0; i < o->n_engines; i++) {
			const struct bench_case *c = &o->cases[k];
			const struct bench_series *s = &r->series[k][i];
			double f = fraction(r, c, s->stats.median);
			char limit[32] = "", ratio[64] = "";

			if (f >= 0)
				snprintf(limit, sizeof(limit), "%.0f %% %s", 100 * f, limit_name(c));
			if (i > 0)
				snprintf(ratio, sizeof(ratio), "%.2f [%.2f, %.2f]", s->ratio.mid,
					 s->ratio.low, s->ratio.high);
			printf("%s%-18s%s%-22s%s%8.*f %s%s%8.2g%s%-18s%s%s%s\n", bar, c->name, gap,
			       o->engines[i].name, gap, bench_in_seconds(c->kind) ? 3 : 2,
			       s->stats.median, bench_in_seconds(c->kind) ? "s " : "/s", gap,
			       s->stats.mad, gap, limit, gap, ratio, markdown ? " |" : "");
		}
	printf("\npeak memory:");
	for (int i = 0; i < o->n_engines; i++)
		printf("%s %s %.2f GiB", i ? "," : "", o->engines[i].name,
		       (double)r->peak_kib[i] / (1 << 20));
	printf(" (mapped weights included)\n");
}

/* ---- and as JSON ---------------------------------------------------------------------------- */

static json_t *series_json(const struct bench_case *c, const struct bench_series *s)
{
	json_t *samples = json_array();

	for (int i = 0; i < s->n; i++)
		json_array_append_new(samples, json_real(s->samples[i]));
	return json_pack("{s:s, s:o, s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f}}", "unit",
			 bench_in_seconds(c->kind) ? "s" : "tokens/s", "samples", samples, "median",
			 s->stats.median, "mad", s->stats.mad, "min", s->stats.min, "max",
			 s->stats.max, "first_engine_ratio", "low", s->ratio.low, "mid", s->ratio.mid,
			 "high", s->ratio.high);
}

static json_t *result_json(const struct bench_options *o, const struct bench_result *r)
{
	json_t *engines = json_array(), *cases = json_array();

	for (int i = 0; i < o->n_engines; i++)
		json_array_append_new(engines, json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "name",
			o->engines[i].name, "model", o->engines[i].model ? o->engines[i].model : o->model,
			"isa", r->isa[i], "profile", r->profile[i], "build", r->build[i], "peak_kib",
			(json_int_t)r->peak_kib[i]));
	for (int k = 0; k < o->n_cases; k++) {
		json_t *row = json_array();

		for (int i = 0; i < o->n_engines; i++)
			json_array_append_new(row, series_json(&o->cases[k], &r->series[k][i]));
		json_array_append_new(cases, json_pack("{s:s, s:o}", "name", o->cases[k].name, "series",
						       row));
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:{s:f, s:f, s:f, s:f, s:b}, s:{s:f, s:f}, "
			 "s:o, s:o}",
			 "schema_version", "1.0.0", "kind", "bench", "assay_version", ASSAY_VERSION,
			 "assay_build", version_build_id(), "threads", o->n_threads, "reps", o->reps,
			 "warmup", o->warmup, "machine", "read_gb_s_1", r->read_gb_s[0], "read_gb_s",
			 r->read_gb_s[1], "int8_gmac_s_1", r->int8_gmac_s[0], "int8_gmac_s",
			 r->int8_gmac_s[1], "huge_pages", r->huge_pages, "model", "decode_gb",
			 r->decode_gb, "prefill_gmac", r->prefill_gmac, "engines", engines, "cases",
			 cases);
}

static int write_json(const char *dir, const json_t *j, struct err *e)
{
	char path[4096];

	if (mkdir(dir, 0777) != 0 && errno != EEXIST)
		return err_set(e, EXIT_NO_SPACE, "%s: %s", dir, strerror(errno));
	snprintf(path, sizeof(path), "%s/bench.json", dir);
	if (json_dump_file(j, path, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(9)) != 0)
		return err_set(e, EXIT_NO_SPACE, "%s: %s", path, strerror(errno));
	term_note("wrote %s", path);
	return 0;
}

/* ---- the command ---------------------------------------------------------------------------- */

static int set_engines(struct cli *c, struct bench_options *o, char *copy, size_t size,
		       struct err *e)
{
	const char *const *against;
	int n = cli_list(c, "against", &against);
	size_t at = 0;

	o->engines[o->n_engines++].name = cli_str(c, "engine");
	for (int i = 0; i < n; i++) {
		struct bench_engine *g = &o->engines[o->n_engines];
		size_t len = strlen(against[i]) + 1;
		char *eq;

		if (o->n_engines == BENCH_ENGINES_MAX || at + len > size)
			return err_set(e, EXIT_USAGE, "more than %d engines", BENCH_ENGINES_MAX);
		memcpy(copy + at, against[i], len);
		g->name = copy + at;
		eq = strncmp(against[i], "exec:", 5) == 0 ? NULL : strchr(copy + at, '=');
		if (eq) {
			*eq = '\0';
			g->model = eq + 1;
		}
		at += len;
		o->n_engines++;
	}
	return 0;
}

static int print_result(struct cli *c, const struct bench_options *o, const struct bench_result *r,
			struct err *e)
{
	json_t *j = result_json(o, r);
	int rc = 0;

	if (!j)
		return err_set(e, EXIT_INTERNAL, "a measured value is not finite");
	term_clear();
	if (cli_json(c)) {
		json_dumpf(j, stdout, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(9));
		putchar('\n');
	} else {
		print_table(o, r, strcmp(cli_str(c, "format"), "markdown") == 0);
	}
	if (cli_str(c, "out"))
		rc = write_json(cli_str(c, "out"), j, e);
	json_decref(j);
	return rc;
}

static int run(struct cli *c, struct err *e)
{
	struct bench_options o = {
		.model = cli_str(c, "model"), .n_threads = (int)cli_int(c, "threads"),
		.n_ubatch = (int)cli_int(c, "ubatch"), .reps = (int)cli_int(c, "reps"),
		.warmup = (int)cli_int(c, "warmup"), .profile = cli_str(c, "profile"),
		.isa = cli_str(c, "isa"), .progress = progress,
	};
	struct bench_result *r = calloc(1, sizeof(*r));
	char names[8192];
	int rc;

	if (!r)
		return err_set(e, EXIT_INTERNAL, "no memory");
	if (o.n_threads <= 0)
		o.n_threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
	if (!o.model)
		rc = err_set(e, EXIT_USAGE, "bench: --model FILE is missing");
	else if (o.reps < 1 || o.reps > BENCH_REPS_MAX || o.warmup < 0)
		rc = err_set(e, EXIT_USAGE, "bench: --reps is 1 to %d", BENCH_REPS_MAX);
	else
		rc = set_engines(c, &o, names, sizeof(names), e);
	if (rc == 0)
		rc = bench_parse_cases(&o, cli_str(c, "cases"), e);
	if (rc == 0)
		rc = bench_run(&o, r, e);
	if (rc == 0)
		rc = print_result(c, &o, r, e);
	bench_free(r);
	free(r);
	return rc;
}

const struct command cmd_bench = {
	.name = "bench",
	.aliases = "benchmark",
	.group = "Speed",
	.summary = "measure engines side by side, as fractions of what this machine can give",
	.examples = "assay bench --model m.gguf\n"
		    "assay bench --model m.gguf --against llama --against bitnet --threads 2\n"
		    "assay bench --model i2s.gguf --against llama=tq2.gguf --cases decode-128 --reps 10\n",
	.opts = opts,
	.run = run,
	.details = "Repetitions are interleaved (A B B A), a ratio is the median over neighbours in time\n"
		   "with its 95 % interval; above 1 the engine under test is the faster one.\n"
		   "Cases: prefill-N, logits-N (all positions), decode-N[@DEPTH], first-token-N, load.\n",
};
