/*
 * Baselines: speeds that a later run is held against, made from bench receipts only.
 *
 * A baseline belongs to one host class (CPU model, processors), model, engine, profile, instruction
 * set and number of threads; a receipt of another one is not comparable and never passes for that.
 *
 * Beside each sample the worker times a fixed piece of work (pace_ns). Where both sides have many samples,
 * those of equal pace are compared with each other and that decides (matched.h): what a neighbour on the
 * core or a slower clock takes away is in both.
 *
 * With fewer, speed is the upper decile of a session's samples (the lower one of times), of many samples
 * the upper 8/n down to a fiftieth: what other work on the machine takes away only ever slows. A receipt has
 * one or more sessions, each a process of its own; a side's speed is the median of its sessions', and the
 * 95 % interval of the change holds what the samples leave open and what differs between sessions
 * (stats_sessions_ratio). A second interval compares speeds in units of pace_ns; not all is bound by the
 * clock, so it excuses, it never accuses: a case regressed when in *both* intervals even the better end takes
 * longer by more than the limit: speed below 1 / (1 + limit). Improved likewise.
 *
 * Undecided is a case that may have regressed and may be no slower than its machine: more sessions, or a
 * machine with fewer neighbours, decide it. It is no pass.
 */
#ifndef ASSAY_BASELINE_H
#define ASSAY_BASELINE_H

#include "err.h"
#include "stats.h"

#include <jansson.h>
#include <stdbool.h>

enum { BASELINE_CASES_MAX = 64, BASELINE_NAME_MAX = 64, BASELINE_LIMIT_PERCENT = 10 };

enum perf_state { PERF_SAME, PERF_IMPROVED, PERF_REGRESSED, PERF_UNDECIDED, PERF_ABSENT };

struct perf_case {
	char name[BASELINE_NAME_MAX];
	char unit[16];
	enum perf_state state;		/* ABSENT: the baseline has no such case */
	double before, now;		/* quantiles */
	struct interval change;		/* now against before as speed, 1 = equal, < 1 = slower */
	struct interval paced;		/* at equal pace, or in units of it; = change without a pace */
	bool matched;			/* at equal pace: it decides alone */
	int n_before, n_now;		/* sessions */
};

struct perf_report {
	struct perf_case cases[BASELINE_CASES_MAX];
	int n;
	int n_regressed, n_improved, n_undecided;
	bool comparable;
	char why[256];			/* where not comparable */
};

/*
 * Merges valid bench receipts of one key (refused with the difference otherwise) into *out.
 * names: for sentences. Caller frees *out by json_decref. EXIT_RECEIPT_INVALID.
 */
int baseline_make(const json_t *const *receipts, const char *const *names, int n, json_t **out,
		  struct err *e);

/*
 * The first engine's series against a baseline; limit in percent of slowdown. now: what baseline_make
 * made of one or more receipts, or a receipt.
 */
int baseline_check(const json_t *baseline, const json_t *now, double limit_percent,
		   struct perf_report *out, struct err *e);

/* Two series of one interleaved bench receipt (engines 0 and 1): 1 against 0. */
int baseline_compare(const json_t *receipt, double limit_percent, struct perf_report *out,
		     struct err *e);

/*
 * The speed that a series (of a receipt or a baseline) is judged by: the median over its sessions of
 * their quickest part. tokens/s, or seconds; negative when it has none.
 */
double baseline_speed(const json_t *series);

const char *perf_state_name(enum perf_state s);

#endif
