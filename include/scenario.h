/*
 * What is asked: one scenario of a sweep. The JSON form is documented in docs/scenarios.md.
 */
#ifndef ASSAY_SCENARIO_H
#define ASSAY_SCENARIO_H

#include "err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	SCENARIO_ID_MAX = 64,
	SCENARIO_PROMPT_MAX = 16 << 20,
	SCENARIO_TOKENS_MAX = 1 << 20,
	SCENARIO_TIMEOUT_S = 180,
	SCENARIOS_MAX = 10000,
	SCENARIO_ENGINES_MAX = 4,
	SCENARIO_NEW_TOKENS_MAX = 1 << 20,
	SCENARIO_FILE_MAX = 64 << 20,
};

struct scenario {
	char id[SCENARIO_ID_MAX];	/* [A-Za-z0-9._-], also a directory name */
	char *prompt;			/* UTF-8 */
	char *system;			/* or NULL */
	char template_name[32];		/* "raw", …; "" = the command's */
	int32_t *tokens;		/* given ids instead of a prompt, or NULL */
	int n_tokens;
	int max_new_tokens;		/* greedy ids compared after the prompt */
	uint64_t seed;
	int timeout_s;
	char thresholds[64];		/* name of a set; "" = the command's */
	char *engines[SCENARIO_ENGINES_MAX];	/* under test, then references; [n_engines] */
	int n_engines;			/* 0 = the command's */
};

struct scenario_set {
	struct scenario *items;		/* [n], in order */
	int n;
};

/*
 * The three default scenarios: scenario1 "2+2=" 1 token, scenario2 "Hello" 2, scenario3
 * "Count: 1,2,3," 4. timeout_s is CROSSVAL_TIMEOUT_SECS, else SCENARIO_TIMEOUT_S.
 */
int scenario_defaults(struct scenario_set *s, struct err *e);
/*
 * EXIT_USAGE with file, line and reason for broken JSON, unknown keys, wrong types, values out of
 * range and ids that repeat. prompt_file is relative to the scenario file.
 */
int scenario_load(struct scenario_set *s, const char *path, struct err *e);
void scenario_free(struct scenario_set *s);	/* accepts zeroed */

#endif
