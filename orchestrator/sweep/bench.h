/*
 * Speed of engines, measured side by side: every engine has its own worker, the repetitions of all
 * cases and engines are interleaved (A B B A …), and what is compared are ratios of neighbours in time.
 */
#ifndef ASSAY_BENCH_H
#define ASSAY_BENCH_H

#include "err.h"
#include "verdict/stats.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	BENCH_CASES_MAX = 32,
	BENCH_ENGINES_MAX = 8,
	BENCH_REPS_MAX = 1000,
	BENCH_SESSIONS_MAX = 32,
};

enum bench_kind {
	BENCH_PREFILL,		/* n positions, logits of the last: tokens/s */
	BENCH_LOGITS,		/* n positions, logits of all delivered: tokens/s */
	BENCH_DECODE,		/* n greedy tokens after `depth` positions: tokens/s */
	BENCH_LOAD,		/* OPEN until OPENED: seconds */
	BENCH_FIRST_TOKEN,	/* process start until the first token after n positions: seconds */
};

struct bench_case {
	char name[32];		/* "prefill-512", "decode-128@1024" */
	enum bench_kind kind;
	int n, depth;
};

struct bench_engine {
	const char *name;	/* as engines.h resolves it */
	const char *model;	/* NULL = the common one */
};

struct bench_options {
	const char *model;
	struct bench_engine engines[BENCH_ENGINES_MAX];	/* the first is under test */
	int n_engines;
	struct bench_case cases[BENCH_CASES_MAX];
	int n_cases;
	int n_threads, n_ubatch;
	int reps, warmup;
	int sessions;		/* the reps are shared out to so many new processes; 0 = 1 */
	const char *profile, *isa;		/* for assay's own engines; NULL */
	void (*progress)(const char *line);	/* or NULL */
};

/* What one engine did in one case. samples: [n], tokens/s or seconds, in the order of measuring. */
struct bench_series {
	double *samples;
	double *pace_ns;	/* [n] of a fixed piece of work beside each sample; 0 = not told */
	int n;
	int sizes[BENCH_SESSIONS_MAX], n_sessions;	/* samples of each process */
	struct stats stats;
	struct interval ratio;	/* first engine against this one, > 1 = the first is faster */
	struct interval kept;	/* at a depth: of this engine's speed in bench_shallow's case */
};

struct bench_result {
	struct bench_series series[BENCH_CASES_MAX][BENCH_ENGINES_MAX];
	long peak_kib[BENCH_ENGINES_MAX];
	char isa[BENCH_ENGINES_MAX][64], profile[BENCH_ENGINES_MAX][64];
	char build[BENCH_ENGINES_MAX][128];
	int n_threads;
	double read_gb_s[2], int8_gmac_s[2];	/* this machine: one thread, n_threads; 0 unknown */
	double read_sustained_gb_s;	/* n_threads; the middle of whole passes … */
	bool read_of_model;		/* … over the model's own pages, between repetitions; else a buffer */
	bool huge_pages;
	/* what a token needs, from the model file; for fractions of the limits */
	double decode_gb, prefill_gmac;
};

/* "prefill-128,decode-128@1024,load,first-token-16": into cases; unknown names are refused. */
int bench_parse_cases(struct bench_options *o, const char *text, struct err *e);

int bench_run(const struct bench_options *o, struct bench_result *out, struct err *e);
void bench_free(struct bench_result *r);	/* accepts zeroed */

/* The first case that decodes without depth, which case k, decoding at one, is held against; or −1. */
int bench_shallow(const struct bench_options *o, int k);

/* Seconds rather than tokens/s: less is better. */
bool bench_in_seconds(enum bench_kind kind);

#endif
