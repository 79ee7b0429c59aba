#include "compare_opts.h"
#include "term.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "one_scenario.h"

static const struct opt opts[] = {
	COMPARE_OPTS,
	ONE_SCENARIO_OPTS,
	{"scenarios", OPT_STR, "FILE", "take the scenario from this file", NULL, NULL, NULL, 's'},
	{"scenario", OPT_STR, "ID", "which one of it, default the first", NULL, NULL, NULL, 0},
	{"out", OPT_STR, "DIR", "receipt, report and summary", NULL, NULL, NULL, 'o'},
	{0},
};

static void print_receipt(void *ctx, const struct exchange *x, const struct receipt *r)
{
	char *text = *(bool *)ctx ? receipt_json(r) : receipt_text(r);

	(void)x;
	term_clear();
	fputs(text, stdout);
	free(text);
}

static int take_from_file(struct compare_run *r, const char *path, const char *id, struct err *e)
{
	struct scenario first;
	int at = 0, rc = scenario_load(&r->scenarios, path, e);

	if (rc < 0)
		return rc;
	while (id && at < r->scenarios.n && strcmp(r->scenarios.items[at].id, id) != 0)
		at++;
	if (at == r->scenarios.n)
		return err_set(e, r->scenarios.n ? EXIT_USAGE : EXIT_NOTHING_RAN,
			       "%s has no scenario%s%s", path, id ? " " : "", id ? id : "");
	first = r->scenarios.items[0];	/* the others stay in the list, to be freed with it */
	r->scenarios.items[0] = r->scenarios.items[at];
	r->scenarios.items[at] = first;
	return 0;
}

static int run(struct cli *c, struct err *e)
{
	struct compare_run r = {.detected = ""};
	struct scenario_set one;
	bool json = cli_json(c);
	int rc = compare_setup(&r, c, 1, cli_str(c, "prompt-template"), e);

	if (rc == 0 && cli_str(c, "scenarios"))
		rc = take_from_file(&r, cli_str(c, "scenarios"), cli_str(c, "scenario"), e);
	else if (rc == 0)
		rc = one_scenario(&r.scenarios, c, e);
	if (rc == 0) {
		one = (struct scenario_set){.items = r.scenarios.items, .n = 1};
		r.o.scenarios = &one;
		r.o.out = cli_str(c, "out");
		r.o.on_receipt = print_receipt;
		r.o.ctx = &json;
		rc = compare_run_now(&r, e);
		if (rc == 0)
			rc = summary_exit_code(&r.summary);
	}
	compare_release(&r);
	return rc;
}

const struct command cmd_crossval = {
	.name = "crossval",
	.group = "Comparing",
	.summary = "compare an engine with a reference on one prompt",
	.examples = "assay crossval --model m.gguf --prompt \"2+2=\" --max-tokens 4\n"
		    "assay crossval --model m.gguf --cpp-backend llama --format json\n",
	.opts = opts,
	.run = run,
	.details = "Prints the report (text) or the receipt (json) of the comparison; the exit\n"
		   "code is its own.\n",
};
