/* What the parts of a sweep share: its plan, its run, its results. Of sweep*.c alone. */
#ifndef ASSAY_SWEEP_INTERNAL_H
#define ASSAY_SWEEP_INTERNAL_H

#include "exchange.h"
#include "journal.h"
#include "sweep.h"

struct planned {
	char id[SUMMARY_ID_MAX];
	const struct scenario *scenario;
	const char *engine[POOL_SIDES];
	int seat[POOL_SIDES];		/* of its engines among the scenario's, [1] −1: none */
	bool references;		/* two of them with each other */
	int group;			/* comparisons of one scenario are evaluated together */
	struct exchange *running;	/* NULL before and after */
	int64_t start_us, over_us;
	char started[32];
	bool over, done;
};

struct sweep {
	const struct sweep_options *o;
	struct summary *summary;
	struct receipt_run run;
	char *asked;
	struct planned *plan;		/* [n] */
	int n, next, n_done, n_groups;
	struct journal journal;
	struct exchange **retired;	/* [n_retired] over, but perhaps still on the stack */
	int n_retired;
	struct err failed;		/* first failure of writing */
};

/* sweep_plan.c: fills plan, n and n_groups; EXIT_USAGE where two comparisons would share a name. */
int sweep_plan(struct sweep *w, struct err *e);
/* What cannot be started fails the run before anything is opened. */
int sweep_check_engines(const struct sweep *w, struct err *e);

/* sweep_results.c: borrows from all three. */
void sweep_fill_receipt(struct receipt *r, const struct sweep *w, const struct planned *p,
			const struct exchange *x);
/* The comparison's folder in --out. The receipt last: where it is, the rest is. */
int sweep_write_results(struct sweep *w, const struct receipt *r, const char *json, struct err *e);

#endif
