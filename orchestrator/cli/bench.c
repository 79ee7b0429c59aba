#include "bench_common.h"

#include "report/canonical.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BENCH_SESSIONS_DEFAULT "1"
static const struct opt opts[] = {
	BENCH_COMMON_OPTS,
	{"engine", OPT_STR, "NAME", "engine under test", "native", NULL, NULL, 0},
	{"against", OPT_LIST, "NAME[=FILE]", "engine beside it, interleaved; FILE: its own model",
	 NULL, NULL, NULL, 0},
	{"cases", OPT_STR, "LIST", "what to measure",
	 "prefill-128,prefill-512,prefill-2048,logits-512,decode-128,decode-128@1024,load,"
	 "first-token-16", NULL, NULL, 0},
	{"reps", OPT_INT, "N", "measured repetitions of each case", "5", NULL, NULL, 'r'},
	{"format", OPT_STR, "FORM", "form of the result", "text", NULL, "text|json|markdown", 0},
	{0},
};

/* ---- the result as text ------------------------------------------------------------------- */

/* Fraction of the machine's limit, negative where no limit is known. */
static double fraction(const struct bench_result *r, const struct bench_case *c, double value)
{
	if (c->kind == BENCH_DECODE && r->read_sustained_gb_s > 0)
		return value * r->decode_gb / r->read_sustained_gb_s;
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
	printf("machine: reads %.1f GB/s with 1 thread, %.1f with %d at best and %.1f all the "
	       "time (%s); int8 %.0f GMAC/s with 1, %.0f with %d\n",
	       r->read_gb_s[0], r->read_gb_s[1], r->n_threads, r->read_sustained_gb_s,
	       r->read_of_model ? "the model's pages"
	       : r->huge_pages	? "a buffer on huge pages"
				: "a buffer on small pages",
	       r->int8_gmac_s[0], r->int8_gmac_s[1],
	       r->n_threads);
	printf("model: %.3f GB read per token decoded, %.3f GMAC of layers per token\n\n",
	       r->decode_gb, r->prefill_gmac);
}

/* What decoding at a depth costs, from repetitions that were neighbours. */
static void print_depths(const struct bench_options *o, const struct bench_result *r)
{
	for (int k = 0; k < o->n_cases; k++)
		for (int i = 0, shallow = bench_shallow(o, k); shallow >= 0 && i < o->n_engines;
		     i++) {
			struct interval kept = r->series[k][i].kept;

			printf("%s: %s keeps %.1f %% [%.1f, %.1f] of its speed in %s\n",
			       o->cases[k].name, o->engines[i].name, 100 * kept.mid,
			       100 * kept.low, 100 * kept.high, o->cases[shallow].name);
		}
}

static void print_table(const struct bench_options *o, const struct bench_result *r, bool markdown)
{
	const char *bar = markdown ? "| " : "", *gap = markdown ? " | " : "  ";

	print_machine(r);
	printf("%s%-18s%s%-22s%s%10s%s%8s%s%-18s%s%s%s\n", bar, "case", gap, "engine", gap,
	       "median", gap, "±MAD", gap, "of the limit", gap, "native-side ratio [95 %]",
	       markdown ? " |" : "");
	if (markdown)
		printf("|---|---|---|---|---|---|\n");
	for (int k = 0; k < o->n_cases; k++)
		for (int i = 0; i < o->n_engines; i++) {
			const struct bench_case *c = &o->cases[k];
			const struct bench_series *s = &r->series[k][i];
			double f = fraction(r, c, s->stats.median);
			char limit[32] = "", ratio[64] = "";

			if (f >= 0)
				snprintf(limit, sizeof(limit), "%.0f %% %s", 100 * f,
					 limit_name(c));
			if (i > 0)
				snprintf(ratio, sizeof(ratio), "%.2f [%.2f, %.2f]", s->ratio.mid,
					 s->ratio.low, s->ratio.high);
			printf("%s%-18s%s%-22s%s%8.*f %s%s%8.2g%s%-18s%s%s%s\n", bar, c->name, gap,
			       o->engines[i].name, gap, bench_in_seconds(c->kind) ? 3 : 2,
			       s->stats.median, bench_in_seconds(c->kind) ? "s " : "/s", gap,
			       s->stats.mad, gap, limit, gap, ratio, markdown ? " |" : "");
		}
	putchar('\n');
	print_depths(o, r);
	printf("peak memory:");
	for (int i = 0; i < o->n_engines; i++)
		printf("%s %s %.2f GiB", i ? "," : "", o->engines[i].name,
		       (double)r->peak_kib[i] / (1 << 20));
	printf(" (mapped weights included)\n");
}

/* ---- the command -------------------------------------------------------------------------- */

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

static void print_result(struct cli *c, const struct bench_options *o, const struct bench_result *r,
			 const json_t *receipt)
{
	if (cli_json(c)) {
		char *text = canonical_indented(receipt);

		fputs(text, stdout);
		free(text);
	} else {
		print_table(o, r, strcmp(cli_str(c, "format"), "markdown") == 0);
	}
}

static int run(struct cli *c, struct err *e)
{
	struct bench_options o = {.n_engines = 0};
	struct bench_result *r = calloc(1, sizeof(*r));
	json_t *receipt = NULL;
	char names[8192];
	int rc;

	if (!r)
		return err_set(e, EXIT_INTERNAL, "no memory");
	rc = set_engines(c, &o, names, sizeof(names), e);
	if (rc == 0)
		rc = bench_common_run(c, &o, r, &receipt, e);
	if (rc == 0)
		print_result(c, &o, r, receipt);
	json_decref(receipt);
	bench_free(r);
	free(r);
	return rc;
}

const struct command cmd_bench = {
	.name = "bench",
	.aliases = "benchmark",
	.group = "Speed",
	.summary = "measure engines side by side, as fractions of what this machine can give",
	.examples =
		"assay bench --model m.gguf\n"
		"assay bench --model m.gguf --against llama --against bitnet --threads 2\n"
		"assay bench --model i2s.gguf --against llama=tq2.gguf --cases decode-128 --reps 10\n",
	.opts = opts,
	.run = run,
	.details =
		"Repetitions of all cases and engines are interleaved (A B B A), a ratio is the median over\n"
		"neighbours in time with its 95 % interval; above 1 the engine under test is the faster one.\n"
		"Of decode-N@DEPTH it says what is kept of the speed of the first decode-N without depth.\n"
		"Cases: prefill-N, logits-N (all positions), decode-N[@DEPTH], first-token-N, load.\n",
};
