/*
 * A run: scenarios × references put to lanes of workers, receipts written as they come, a journal
 * that a later run can go on from, and the summary.
 *
 *	<out>/journal.jsonl		a line per finished comparison, on disk before the next starts
 *	<out>/<id>/receipt.json		and tokens.json, prompt.txt, output.txt, report.txt,
 *					logits-comparison.json, operations.html
 *	<out>/summary.json, summary.md
 *
 * An engine that takes part in several comparisons of a scenario is evaluated once for all of them:
 * native then in one profile, the setup's or that of the first reference whose profile is known.
 *
 * Every file appears by rename. Ids are stable: the scenario's id, with ".REFERENCE" behind it
 * where there are several references, and ".A-B" for two references compared with each other.
 */
#ifndef ASSAY_SWEEP_H
#define ASSAY_SWEEP_H

#include "exchange.h"
#include "receipt.h"
#include "report/summary.h"
#include "scenario.h"

#include <stdbool.h>

enum {
	SWEEP_REFERENCES_MAX = 8,
	/* of one scenario: each reference with ours, and every two of them */
	SWEEP_COMPARISONS_MAX = SWEEP_REFERENCES_MAX * (SWEEP_REFERENCES_MAX + 1) / 2,
};

struct sweep;

struct sweep_options {
	struct exchange_setup setup;	/* model … as every worker gets them */
	const struct scenario_set *scenarios;
	const char *engine;		/* under test */
	const char *references[SWEEP_REFERENCES_MAX];
	int n_references;		/* 0: the engine runs alone, nothing is compared */
	const char *out;		/* directory, or NULL: nothing is written */
	int n_workers;			/* lanes */
	bool resume;			/* go on from the journal in out */
	bool strict;			/* DRIFT is a divergence */
	const char *version, *build;	/* of this program */
	/* Called after each comparison, before its facts are freed; may be NULL. */
	void (*on_receipt)(void *ctx, const struct exchange *x, const struct receipt *r);
	void (*on_progress)(void *ctx, const char *line);	/* a few times a second; or NULL */
	void *ctx;
};

/*
 * Runs everything; the summary gets a row per comparison, in the plan's order. Returns 0 when all
 * was tried (summary_exit_code tells how it went), -EXIT_INTERRUPTED after a signal, other
 * negative codes when nothing could be started: no reference (3), no model file (10), output
 * directory in use without resume (64).
 */
int sweep_run(const struct sweep_options *o, struct summary *s, struct err *e);

#endif
