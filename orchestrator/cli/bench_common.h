/* What the commands that measure or judge speed share: options, one run, tables. */
#ifndef ASSAY_BENCH_COMMON_H
#define ASSAY_BENCH_COMMON_H

#include "cli.h"

#include "sweep/bench.h"
#include "verdict/baseline.h"

#include <jansson.h>

/* Rows of an option table. Define BENCH_SESSIONS_DEFAULT before the table. */
#define BENCH_COMMON_OPTS                                                                          \
	{"model", OPT_STR, "FILE", "GGUF model", NULL, "CROSSVAL_GGUF", NULL, 'm'},                \
	{"threads", OPT_INT, "N", "threads of each engine; 0 = all", "0", "GGML_NUM_THREADS", NULL, \
	 't'},                                                                                     \
	{"ubatch", OPT_INT, "N", "positions evaluated at once", "512", NULL, NULL, 0},             \
	{"warmup", OPT_INT, "N", "repetitions before, not counted", "1", NULL, NULL, 0},           \
	{"sessions", OPT_INT, "N", "share the repetitions out to N processes each",                \
	 BENCH_SESSIONS_DEFAULT, NULL, NULL, 0},                                                   \
	{"profile", OPT_STR, "NAME", "numerics profile of native", NULL, NULL, NULL, 0},           \
	{"isa", OPT_STR, "NAME", "force an instruction set", NULL, NULL, NULL, 0},                 \
	{"out", OPT_STR, "DIR", "write bench.json there", NULL, NULL, NULL, 'o'}

/* o->engines are the caller's; cases and the rest come from the options. */
int bench_common_run(struct cli *c, struct bench_options *o, struct bench_result *r,
		     json_t **receipt, struct err *e);

/* text, JSON, Markdown or JUnit by --format; 17 when a case regressed, 0 otherwise. */
int bench_print_perf(struct cli *c, const struct perf_report *p, double limit_percent);

json_t *bench_load(const char *path, struct err *e); /* a bench receipt or baseline; NULL on error */

/* The receipt passes its gates, or EXIT_RECEIPT_INVALID with the first failure. */
int bench_gate(json_t *receipt, const char *path, struct err *e);

#endif
