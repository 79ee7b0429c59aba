/*
 * A night as its parts see it: nightly.c plans, places and tells it, nightly_provision.c finds or
 * fetches what it is about, nightly_model.c does everything that is done with one model.
 */
#ifndef ASSAY_NIGHTLY_H
#define ASSAY_NIGHTLY_H

#include "cli.h"
#include "nightly_steps.h"
#include "provision/store.h"

#include <dirent.h>

enum { NIGHT_MODELS_MAX = 16, NIGHT_LABEL_MAX = 64, NIGHT_BACKENDS_MAX = NIGHTLY_ARGS_MAX / 8 };

struct night_model {
	char label[NIGHT_LABEL_MAX], path[STORE_PATH_MAX];
	bool only_bitnet;	/* I2_S weights: no other C++ engine reads them */
};

struct night {
	struct cli *c;
	struct nightly_steps steps;
	struct night_model models[NIGHT_MODELS_MAX];
	int n_models;
	char date[16], commit[32];
	char dir[NIGHTLY_PATH_MAX];	/* to publish into */
	char history[NIGHTLY_PATH_MAX];	/* its parent */
	char published[NIGHTLY_PATH_MAX];
	bool already;
};

/* The arguments of a step, NULL at the end. */
struct night_args {
	const char *v[NIGHTLY_ARGS_MAX + 1];
	int n;
};

void night_put(struct night_args *a, const char *v);
void night_put2(struct night_args *a, const char *k, const char *v);	/* v NULL: neither */

/* Of the C++ references of this night those that can read the model; returns how many. */
int night_backends_for(struct night *g, const struct night_model *m,
		       const char *names[NIGHT_BACKENDS_MAX]);

/* The --model files. EXIT_MODEL_LOAD, EXIT_USAGE. */
int night_given_models(struct night *g, struct err *e);

/* Fetches models of the tier where none was given, builds references. *ready: all of it is there. */
int night_provision(struct night *g, bool *ready, struct err *e);

/* sweep, explain, bench, gate, baselines. What fails is in the steps; negative ends the night. */
int night_run_model(struct night *g, const struct night_model *m, struct err *e);

/* For scandir: folders named by date, the newest first. */
int night_newest_first(const struct dirent **a, const struct dirent **b);

#endif
