#include "compare_opts.h"
#include "term.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "crossval_report.h"
#include "one_scenario.h"

static const struct opt opts[] = {
	COMPARE_OPTS,
	ONE_SCENARIO_OPTS,
	{"scenarios", OPT_STR, "FILE", "take the scenario from this file", NULL, NULL, NULL, 's'},
	{"scenario", OPT_STR, "ID", "which one of it, default the first", NULL, NULL, NULL, 0},
	{"out", OPT_STR, "DIR", "receipt, report and summary", NULL, NULL, NULL, 'o'},
	{"report", OPT_STR, "FILE", "crossval_report.json; in --out where that is given", NULL,
	 NULL, NULL, 0},
	{0},
};

struct print {
	bool json;
	const char *engine;		/* under test */
	struct crossval_report *report;
	bool reference_failed;
	int code;			/* the worst of all that is not a reference's own failure */
};

static void on_receipt(void *ctx, const struct exchange *x, const struct receipt *r)
{
	struct print *p = ctx;
	char *text = p->json ? receipt_json(r) : receipt_text(r);
	bool failed = x->verdict == VERDICT_CRASHED || x->verdict == VERDICT_TIMED_OUT ||
		      x->verdict == VERDICT_FAILED;

	term_clear();
	fputs(text, stdout);
	fflush(stdout);
	free(text);
	if (r->explain)
		term_note("to see where and whose fault: %s", r->explain);
	/* when both are late ours is one of them */
	if (failed && x->failed_side >= 0 &&
	    strcmp(x->sides[x->failed_side].engine, p->engine) != 0) {
		p->reference_failed = true;
	} else {
		if (failed)
			p->report->native_ok = false;
		/* that two references differ is no failure of the engine under test */
		if (r->exit_code > EXIT_TOKENS_DIFFER || strcmp(x->sides[0].engine, p->engine) == 0)
			p->code = verdict_worse(p->code, r->exit_code);
	}
	crossval_report_note(p->report, r->verdict, r->explanation);
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

/* References that cannot do their part and may fail are left out. */
static int preflight(struct compare_run *r, struct crossval_report *report, struct err *e)
{
	bool header_ok = true, full_ok = true, xfail = false;
	int n = 0;

	for (int i = 0; i < r->o.n_references; i++) {
		const char *name = r->o.references[i];
		int rc = 0;

		report->cpp_header_ok = report->cpp_full_ok = report->xfail = false;
		rc = crossval_report_preflight(report, name, e);
		if (rc < 0)
			return rc;
		header_ok &= report->cpp_header_ok;
		full_ok &= report->cpp_full_ok;
		xfail |= report->xfail;
		if (!report->xfail)
			r->o.references[n++] = name;
	}
	if (r->o.n_references) {
		report->cpp_header_ok = header_ok;
		report->cpp_full_ok = full_ok;
		report->xfail = xfail;
	}
	r->o.n_references = n;
	return 0;
}

/* The flow of old: our own validation, the reference's preflight and load, then parity; where no
 * reference is left our side runs alone, so that its own failure shows. */
static int run_stages(struct compare_run *r, struct crossval_report *report, bool json,
		      struct err *e)
{
	struct scenario_set one = {.items = r->scenarios.items, .n = 1};
	struct print p = {.json = json, .engine = r->o.engine, .report = report};
	int rc = crossval_report_validate(report, r->o.setup.model, e);

	if (rc == 0)
		rc = preflight(r, report, e);
	if (rc < 0)
		return rc;
	r->o.scenarios = &one;
	r->o.on_receipt = on_receipt;
	r->o.ctx = &p;
	rc = compare_run_now(r, e);
	if (rc == 0)
		rc = summary_exit_code(&r->summary);
	if (rc > 0 && p.reference_failed && crossval_report_allowed()) {
		report->xfail = true;
		rc = p.code;
	}
	if (report->xfail)
		term_warn("xfail: %s", report->notes);
	return rc;
}

static int write_report(const struct crossval_report *report, struct cli *c, struct err *e)
{
	const char *path = cli_str(c, "report"), *out = cli_str(c, "out");
	char in_out[4096];

	if (!path && !out)
		return 0;
	snprintf(in_out, sizeof(in_out), "%.4000s/crossval_report.json", out ? out : "");
	if (!path)
		mkdir(out, 0777);	/* a failed start leaves none; the writing tells */
	return crossval_report_write(report, path ? path : in_out, e);
}

static int run(struct cli *c, struct err *e)
{
	struct compare_run r = {.detected = ""};
	struct crossval_report report = {.notes = ""};
	struct err late = ERR_NONE;
	int rc = compare_setup(&r, c, 1, cli_str(c, "prompt-template"), e);

	if (rc == 0 && cli_str(c, "scenarios"))
		rc = take_from_file(&r, cli_str(c, "scenarios"), cli_str(c, "scenario"), e);
	else if (rc == 0)
		rc = one_scenario(&r.scenarios, c, e);
	if (rc == 0) {
		r.o.out = cli_str(c, "out");
		rc = run_stages(&r, &report, cli_json(c), e);
		if (write_report(&report, c, &late) < 0 && rc >= 0) {
			*e = late;
			rc = -e->code;
		}
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
	.details =
		"Own validation first, then the reference's header preflight and full load, then\n"
		"the comparison. Prints the report (text) or the receipt (json) of it; the exit\n"
		"code is its own. CROSSVAL_ALLOW_CPP_FAIL=1 allows the reference to fail (xfail,\n"
		"exit 0, said in the report); failures of the engine under test are never hidden.\n",
};
