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
};

struct scenario {
	char id[SCENARIO_ID_MAX];	/* [A-Za-z0-9._-], also a directory name */
	char *prompt;			/* UTF-8 */
	char *system;			/* or NULL */
	char template_name[32];		/* "raw", … */
	int32_t *tokens;		/* given ids instead of a prompt, or NULL */
	int n_tokens;
	int max_new_tokens;		/* greedy ids compared after the prompt */
	uint64_t seed;
	int timeout_s;
	char thresholds[64];		/* name of a set; "default" */
};

struct scenario_set {
	struct scenario *items;		/* [n], in order */
	int n;
};

/* The three default scenarios (2+2=, Hello, Count: 1,2,3,). */
int scenario_defaults(struct scenario_set *s, struct err *e);
int scenario_load(struct scenario_set *s, const char *path, struct err *e);
void scenario_free(struct scenario_set *s);	/* accepts zeroed */

#endif
