#include "cli.h"

#include "receipts_in.h"
#include "report/canonical.h"
#include "report/history.h"
#include "report/input.h"
#include "report/summary_forms.h"
#include "sweep/facts.h"
#include "term.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct opt opts[] = {
	{"out", OPT_STR, "PATH",
	 "folder to write into, default the first DIR; with --history the page", NULL, NULL, NULL,
	 'o'},
	{"history", OPT_STR, "DIR", "the trend page of the nights published in DIR", NULL, NULL,
	 NULL, 0},
	{"format", OPT_STR, "FORM", "what is printed", "text", NULL,
	 "text|json|markdown|junit|html", 0},
	{0},
};

/* ---- one run ------------------------------------------------------------------------------ */

static char *form_of(const struct summary *s, const char *format)
{
	return strcmp(format, "json") == 0     ? summary_json(s)
	       : strcmp(format, "markdown") == 0 ? summary_markdown(s)
	       : strcmp(format, "junit") == 0	 ? summary_junit(s)
	       : strcmp(format, "html") == 0	 ? summary_html(s)
						 : summary_table(s);
}

static int write_form(const struct summary *s, const char *folder, const char *name,
		      const char *format, struct err *e)
{
	char path[PATH_MAX], *text = form_of(s, format);
	int r;

	snprintf(path, sizeof(path), "%.4000s/%s", folder, name);
	r = facts_write(path, text, e);
	free(text);
	return r;
}

static int report_run(struct cli *c, const char *const *paths, int n, struct err *e)
{
	const char *folder = cli_str(c, "out") ? cli_str(c, "out") : paths[0];
	struct summary s = {0};
	struct stat st;
	char *text;
	int r = 0;

	for (int i = 0; i < n && r == 0; i++)
		r = receipts_add(&s, paths[i], e);
	if (r == 0) {
		summary_sort(&s);
		r = receipts_check_unique(&s, e);
	}
	s.n_planned = s.n;
	facts_time(s.generated);
	/* a single receipt has no folder of its own to write a summary into */
	if (r == 0 && (cli_str(c, "out") || (stat(folder, &st) == 0 && S_ISDIR(st.st_mode)))) {
		r = receipts_write_summary(&s, folder, e);
		if (r == 0)
			r = write_form(&s, folder, "junit.xml", "junit", e);
		if (r == 0)
			r = write_form(&s, folder, "report.html", "html", e);
	}
	if (r == 0) {
		text = form_of(&s, cli_str(c, "format"));
		fputs(text, stdout);
		free(text);
		r = summary_exit_code(&s);
	}
	summary_free(&s);
	return r;
}

/* ---- all nights --------------------------------------------------------------------------- */

static void take_night(json_t *nights, const char *dir, const char *folder)
{
	char path[PATH_MAX];
	json_t *o;
	bool sealed;

	snprintf(path, sizeof(path), "%.3000s/%s/nightly.json", dir, folder);
	o = input_json(path, NULL);
	if (!o)
		return;
	sealed = canonical_sealed(o);
	if (!sealed)
		term_warn("%s was changed after it was made; it is listed and not drawn", path);
	json_object_set_new(o, "sealed", json_boolean(sealed));
	canonical_set(o, "folder", canonical_text(folder));
	json_array_append_new(nights, o);
}

static int report_history(struct cli *c, const char *dir, struct err *e)
{
	char path[PATH_MAX], *page;
	const char *out = cli_str(c, "out");
	json_t *nights = json_array();
	struct dirent **names;
	int n = scandir(dir, &names, NULL, versionsort), r = 0;

	if (n < 0) {
		json_decref(nights);
		return err_set(e, EXIT_USAGE, "--history %s: %s", dir, strerror(errno));
	}
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.' && !strstr(names[i]->d_name, ".partial"))
			take_night(nights, dir, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	page = history_html(nights);
	snprintf(path, sizeof(path), "%.4000s/index.html", dir);
	if (json_array_size(nights) == 0)
		r = err_set(e, EXIT_NOTHING_RAN, "%s: no night is published there", dir);
	else
		r = facts_write(out ? out : path, page, e);
	if (r == 0 && cli_json(c)) {
		json_dumpf(nights, stdout, JSON_INDENT(1) | JSON_SORT_KEYS);
		putchar('\n');
	} else if (r == 0 && strcmp(cli_str(c, "format"), "html") == 0) {
		fputs(page, stdout);
	} else if (r == 0) {
		printf("%s: %zu nights\n", out ? out : path, json_array_size(nights));
	}
	free(page);
	json_decref(nights);
	return r;
}

static int run(struct cli *c, struct err *e)
{
	const char *const *paths;
	int n = cli_positional(c, &paths);

	if (cli_str(c, "history"))
		return n ? err_set(e, EXIT_USAGE, "report: --history goes without other folders")
			 : report_history(c, cli_str(c, "history"), e);
	if (n == 0)
		return err_set(e, EXIT_USAGE, "report: which directories? assay report DIR …");
	return report_run(c, paths, n, e);
}

const struct command cmd_report = {
	.name = "report",
	.group = "Reporting",
	.summary = "a run's receipts as tables and pages; the history of nights as a trend page",
	.positional = "DIR …",
	.examples = "assay report out/run\n"
		    "assay report out/run --format junit > junit.xml\n"
		    "assay report --history docs/baselines\n",
	.opts = opts,
	.run = run,
	.details =
		"Writes summary.json, summary.md, junit.xml and report.html beside the receipts. The\n"
		"pages are single files without any outside resource. A receipt that was changed is\n"
		"refused (exit 20); the exit code is that of the worst comparison.\n",
};
