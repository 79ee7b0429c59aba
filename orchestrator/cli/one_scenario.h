/* One scenario from the command line. */
#ifndef ASSAY_ONE_SCENARIO_H
#define ASSAY_ONE_SCENARIO_H

#include "cli.h"
#include "scenario.h"

#define ONE_SCENARIO_OPTS                                                                          \
	{"prompt", OPT_STR, "TEXT", "what is evaluated", "2+2=", NULL, NULL, 'p'},                 \
		{"prompt-file", OPT_STR, "FILE", "the same from a file", NULL, NULL, NULL, 0},     \
		{"tokens", OPT_STR, "IDS", "ids instead of a prompt: 1,2,3", NULL, NULL, NULL, 0}, \
		{"system-prompt",                                                                  \
		 OPT_STR,                                                                          \
		 "TEXT",                                                                           \
		 "for templates that have one",                                                    \
		 NULL,                                                                             \
		 NULL,                                                                             \
		 NULL,                                                                             \
		 0},                                                                               \
		{"prompt-template",                                                                \
		 OPT_STR,                                                                          \
		 "NAME",                                                                           \
		 "auto, raw, instruct, llama3-chat, bitnet-chat, …",                               \
		 "auto",                                                                           \
		 NULL,                                                                             \
		 NULL,                                                                             \
		 0},                                                                               \
		{"max-tokens", OPT_INT, "N",  "greedy ids compared after the prompt",              \
		 "4",          NULL,    NULL, 'n'},                                                \
		{"seed", OPT_INT, "N", "given to both engines", "0", "BITNET_SEED", NULL, 0},      \
	{                                                                                          \
		"timeout", OPT_INT, "SECONDS", "for all of it", "180", "CROSSVAL_TIMEOUT_SECS",    \
			NULL, 0                                                                    \
	}

int one_scenario(struct scenario_set *s, struct cli *c, struct err *e);

#endif
