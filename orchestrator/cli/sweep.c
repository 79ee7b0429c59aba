#include "compare_opts.h"
#include "term.h"

#include <stdio.h>
#include <stdlib.h>

static const struct opt opts[] = {
	COMPARE_OPTS,
	{"scenarios", OPT_STR, "FILE", "scenarios (docs/scenarios.md), default the three of old",
	 NULL, NULL, NULL, 's'},
	{"template", OPT_STR, "NAME", "where a scenario names none", "raw", NULL, NULL, 0},
	{"workers", OPT_INT, "N", "comparisons at once", "1", NULL, NULL, 'j'},
	{"out", OPT_STR, "DIR", "receipts, reports, journal and summary", NULL, NULL, NULL, 'o'},
	{"resume", OPT_FLAG, NULL, "go on where the journal in --out ends", NULL, NULL, NULL, 0},
	{0},
};

static void on_receipt(void *ctx, const struct exchange *x, const struct receipt *r)
{
	char event[1024];

	(void)ctx;
	(void)x;
	term_note("%s %s: %s: %s", r->exit_code == EXIT_AGREE ? "✓" : "✗", r->id, r->verdict,
		  r->explanation);
	if (r->explain)
		term_note("to see where and whose fault: %s", r->explain);
	snprintf(event, sizeof(event),
		 "{\"event\":\"comparison\",\"id\":\"%s\",\"verdict\":\"%s\",\"exit_code\":%d}",
		 r->id, r->verdict, r->exit_code);
	term_event(event);
}

static int load_scenarios(struct compare_run *r, struct cli *c, struct err *e)
{
	const char *path = cli_str(c, "scenarios");

	return path ? scenario_load(&r->scenarios, path, e) : scenario_defaults(&r->scenarios, e);
}

static void print_result(const struct compare_run *r, bool json)
{
	char *text = json ? summary_json(&r->summary) : summary_table(&r->summary);

	fputs(text, stdout);
	free(text);
	if (!json && r->o.out)
		printf("\nreceipts and summary in %s\n", r->o.out);
}

static int run(struct cli *c, struct err *e)
{
	struct compare_run r = {.detected = ""};
	int rc;

	if (cli_flag(c, "resume") && !cli_str(c, "out"))
		return err_set(e, EXIT_USAGE, "--resume needs --out: the journal lies there");
	rc = compare_setup(&r, c, (int)cli_int(c, "workers"), cli_str(c, "template"), e);
	if (rc == 0)
		rc = load_scenarios(&r, c, e);
	if (rc == 0) {
		r.o.out = cli_str(c, "out");
		r.o.resume = cli_flag(c, "resume");
		r.o.on_receipt = on_receipt;
		rc = compare_run_now(&r, e);
		if (rc == 0) {
			print_result(&r, cli_json(c));
			rc = summary_exit_code(&r.summary);
			if (rc == EXIT_NOTHING_RAN && r.summary.n == 0)
				rc = err_set(e, EXIT_NOTHING_RAN,
					     "nothing ran: there is no scenario");
		}
	}
	compare_release(&r);
	return rc;
}

const struct command cmd_sweep = {
	.name = "sweep",
	.group = "Comparing",
	.summary = "compare an engine with references over many scenarios",
	.examples =
		"assay sweep --model m.gguf --out out/run\n"
		"assay sweep --model m.gguf --backend both --cpp-backend llama --out out/llama\n"
		"assay sweep --model m.gguf --engine exec:./my-engine --scenarios s.json -j 4\n",
	.opts = opts,
	.run = run,
	.details =
		"Each comparison runs in worker processes of its own lane: tokens are compared\n"
		"first, and nothing is evaluated when they differ; then every position is\n"
		"compared while it comes. A worker that hangs, dies or talks garbage costs one\n"
		"scenario.\n"
		"\n"
		"The exit code is that of the worst comparison, worst first: 1 diverged, 2 tokens\n"
		"differ, 6 a worker crashed or timed out, any other failure, 7 nothing compared,\n"
		"0 agree. Interrupted runs end with 130 and go on with --resume.\n",
};
