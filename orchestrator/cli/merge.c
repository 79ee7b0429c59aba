#include "cli.h"

#include "receipts_in.h"
#include "sweep/facts.h"

#include <stdio.h>
#include <stdlib.h>

static const struct opt merge_opts[] = {
	{"out", OPT_STR, "DIR", "write summary.json and summary.md here", NULL, NULL, NULL, 'o'},
	{0},
};

static int run(struct cli *c, struct err *e)
{
	const char *const *paths, *out = cli_str(c, "out");
	struct summary s = {0};
	int n = cli_positional(c, &paths), r = 0;
	char *text;

	if (n == 0)
		return err_set(e, EXIT_USAGE, "%s: which directories? assay %s DIR …",
			       cli_invoked_as(c), cli_invoked_as(c));
	for (int i = 0; i < n && r == 0; i++)
		r = receipts_add(&s, paths[i], e);
	if (r == 0) {
		summary_sort(&s);
		r = receipts_check_unique(&s, e);
	}
	if (r == 0) {
		s.n_planned = s.n;
		facts_time(s.generated);
		if (out)
			r = receipts_write_summary(&s, out, e);
	}
	if (r == 0) {
		text = cli_json(c) ? summary_json(&s) : summary_table(&s);
		fputs(text, stdout);
		free(text);
		r = summary_exit_code(&s);
	}
	summary_free(&s);
	return r;
}

const struct command cmd_merge = {
	.name = "merge",
	.group = "Reporting",
	.summary = "one summary of several runs' receipts",
	.positional = "DIR …",
	.examples = "assay merge out/shard1 out/shard2 --out out/all\n",
	.opts = merge_opts,
	.run = run,
	.details = "A receipt that was changed is refused (exit 20); the exit code is that of the\n"
		   "worst comparison, as in `assay sweep`.\n",
};
