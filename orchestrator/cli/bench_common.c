#include "bench_common.h"

#include "provision/embed.h"
#include "provision/paths.h"
#include "report/canonical.h"
#include "report/input.h"
#include "sweep/bench_receipt.h"
#include "sweep/facts.h"
#include "term.h"
#include "verdict/gate_bench.h"
#include "version.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void progress(const char *line)
{
	term_progress("%s", line);
}

static int write_receipt(const char *dir, const json_t *j, struct err *e)
{
	char path[4096], *text;
	int r = paths_mkdir(dir, e);

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/bench.json", dir);
	text = canonical_indented(j);
	r = facts_write(path, text, e);
	free(text);
	if (r == 0)
		term_note("wrote %s", path);
	return r;
}

int bench_common_run(struct cli *c, struct bench_options *o, struct bench_result *r,
		     json_t **receipt, struct err *e)
{
	char started[32];
	int rc;

	o->model = cli_str(c, "model");
	o->n_threads = (int)cli_int(c, "threads");
	o->n_ubatch = (int)cli_int(c, "ubatch");
	o->reps = (int)cli_int(c, "reps");
	o->warmup = (int)cli_int(c, "warmup");
	o->sessions = (int)cli_int(c, "sessions");
	o->profile = cli_str(c, "profile");
	o->isa = cli_str(c, "isa");
	o->progress = progress;
	if (o->n_threads <= 0)
		o->n_threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
	if (!o->model)
		return err_set(e, EXIT_USAGE, "--model FILE is missing");
	if (o->reps < 1 || o->reps > BENCH_REPS_MAX || o->warmup < 0)
		return err_set(e, EXIT_USAGE, "--reps is 1 to %d, --warmup at least 0",
			       BENCH_REPS_MAX);
	if (o->sessions < 1 || o->sessions > BENCH_SESSIONS_MAX)
		return err_set(e, EXIT_USAGE, "--sessions is 1 to %d", BENCH_SESSIONS_MAX);
	if (o->sessions > o->reps)
		o->sessions = o->reps;
	rc = bench_parse_cases(o, cli_str(c, "cases"), e);
	facts_time(started);
	if (rc == 0)
		rc = bench_run(o, r, e);
	if (rc == 0)
		rc = bench_receipt(o, r, ASSAY_VERSION, version_build_id(), started, receipt, e);
	term_clear();
	if (rc == 0 && cli_str(c, "out"))
		rc = write_receipt(cli_str(c, "out"), *receipt, e);
	return rc;
}

json_t *bench_load(const char *path, struct err *e)
{
	json_error_t why;
	json_t *o = input_json(path, &why);

	if (!o)
		err_set(e, EXIT_RECEIPT_INVALID, "%s:%d: %s", path, why.line, why.text);
	return o;
}

int bench_gate(json_t *receipt, const char *path, struct err *e)
{
	size_t n;
	const unsigned char *schema = embed_find("docs/schema/receipt-1.0.0.schema.json", &n);
	struct gate_context ctx = {.sealed = canonical_sealed(receipt)};
	struct gate_report *report = calloc(1, sizeof(*report));
	int r = 0;

	assert(schema && report);
	ctx.schema = json_loadb((const char *)schema, n, 0, NULL);
	gate_bench_run(receipt, &ctx, report);
	for (int i = 0; i < GATE_COUNT && r == 0; i++)
		if (report->gates[i].failed)
			r = err_set(e, EXIT_RECEIPT_INVALID, "%s does not pass the gate %s: %s",
				    path, gate_name((enum gate_id)i), report->gates[i].messages[0]);
	json_decref((json_t *)ctx.schema);
	free(report);
	return r;
}

/* ---- judgement ---------------------------------------------------------------------------- */

/* The interval that decided: at equal pace where that could be told, else as timed. */
static const struct interval *decided(const struct perf_case *k)
{
	return k->matched ? &k->paced : &k->change;
}

static void print_json(const struct perf_report *p, double limit)
{
	json_t *cases = json_array(), *o;

	for (int i = 0; i < p->n; i++) {
		const struct perf_case *k = &p->cases[i];

		json_array_append_new(cases,
				      json_pack("{s:s, s:s, s:s, s:b, s:f, s:f, s:[ii], s:{s:f, s:f, s:f}, "
						"s:{s:f, s:f, s:f}}",
						"name", k->name, "unit", k->unit, "state",
						perf_state_name(k->state), "at_equal_pace",
						k->matched, "before", k->before,
						"now", k->now, "sessions", k->n_before, k->n_now,
						"change", "low", k->change.low, "mid",
						k->change.mid, "high", k->change.high, "paced",
						"low", k->paced.low, "mid", k->paced.mid, "high",
						k->paced.high));
	}
	o = json_pack("{s:s, s:b, s:s, s:f, s:i, s:i, s:i, s:o}", "kind", "performance", "comparable",
		      p->comparable, "why", p->why, "limit_percent", limit, "n_regressed",
		      p->n_regressed, "n_improved", p->n_improved, "n_undecided", p->n_undecided,
		      "cases", cases);
	json_dumpf(o, stdout, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(o);
}

static void print_junit(const struct perf_report *p)
{
	printf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"performance\" tests=\"%d\" "
	       "failures=\"%d\" errors=\"%d\">\n",
	       p->n, p->n_regressed, p->n_undecided);
	for (int i = 0; i < p->n; i++) {
		const struct perf_case *k = &p->cases[i];

		printf("<testcase classname=\"performance\" name=\"%s\">", k->name);
		if (k->state == PERF_REGRESSED)
			printf("<failure message=\"%.1f %% [%.1f, %.1f]\"/>",
			       100 * (decided(k)->mid - 1), 100 * (decided(k)->low - 1),
			       100 * (decided(k)->high - 1));
		else if (k->state == PERF_UNDECIDED)
			printf("<error message=\"undecided: %.1f %% [%.1f, %.1f]\"/>",
			       100 * (decided(k)->mid - 1), 100 * (decided(k)->low - 1),
			       100 * (decided(k)->high - 1));
		else if (k->state == PERF_ABSENT)
			printf("<skipped message=\"not in the baseline\"/>");
		printf("</testcase>\n");
	}
	printf("</testsuite>\n");
}

/* What the fixed piece of work beside the samples says about the machine itself. */
static void machine_note(const struct perf_case *k, char *out, size_t size)
{
	double machine = k->change.mid / k->paced.mid;

	out[0] = '\0';
	if (k->matched && (machine < 0.97 || machine > 1.03))
		snprintf(out, size, " (at equal pace; as timed %+.0f %%)", 100 * (k->change.mid - 1));
	else if (!k->matched && (machine < 0.97 || machine > 1.03))
		snprintf(out, size, " (the machine itself %+.0f %%)", 100 * (machine - 1));
}

static void print_rows(const struct perf_report *p, bool markdown)
{
	const char *bar = markdown ? "| " : "", *gap = markdown ? " | " : "  ";

	printf("%s%-18s%s%10s%s%10s%s%-24s%s%s%s\n", bar, "case", gap, "before", gap, "now", gap,
	       "speed [95 %]", gap, "state", markdown ? " |" : "");
	if (markdown)
		printf("|---|---|---|---|---|\n");
	for (int i = 0; i < p->n; i++) {
		const struct perf_case *k = &p->cases[i];
		char change[64] = "", machine[64] = "";

		if (k->state != PERF_ABSENT)
			snprintf(change, sizeof(change), "%+.1f %% [%+.1f, %+.1f]",
				 100 * (decided(k)->mid - 1), 100 * (decided(k)->low - 1),
				 100 * (decided(k)->high - 1));
		if (k->state != PERF_ABSENT)
			machine_note(k, machine, sizeof(machine));
		printf("%s%-18s%s%10.4g%s%10.4g%s%-24s%s%s%s%s\n", bar, k->name, gap, k->before,
		       gap, k->now, gap, change, gap, perf_state_name(k->state), machine,
		       markdown ? " |" : "");
	}
}

int bench_print_perf(struct cli *c, const struct perf_report *p, double limit)
{
	const char *format = cli_str(c, "format");
	int n_compared = 0;

	for (int i = 0; i < p->n; i++)
		n_compared += p->cases[i].state != PERF_ABSENT;
	if (strcmp(format, "json") == 0)
		print_json(p, limit);
	else if (strcmp(format, "junit") == 0)
		print_junit(p);
	else if (!p->comparable)
		printf("not comparable: %s\n", p->why);
	else
		print_rows(p, strcmp(format, "markdown") == 0);
	if (p->n_undecided)
		term_note("undecided: the machine had neighbours that explain a part of the change, nobody "
			  "knows which; measure more sessions and give all receipts");
	if (!p->comparable)
		return EXIT_NOTHING_RAN;
	/* cases that the baseline does not have are held against nothing */
	return p->n_regressed ? EXIT_REGRESSION :
	       n_compared && !p->n_undecided ? 0 : EXIT_NOTHING_RAN;
}
