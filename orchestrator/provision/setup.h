/*
 * Everything a comparison needs, from one call: models, references, environment. What is there is
 * left alone, what is missing or broken is made; a second call only looks.
 */
#ifndef ASSAY_SETUP_H
#define ASSAY_SETUP_H

#include "err.h"
#include "reference_build.h"
#include "store.h"

enum { SETUP_BACKENDS_MAX = 8 };

struct setup_options {
	const char *tier;			/* of the models lockfile */
	const char *backends[SETUP_BACKENDS_MAX];	/* names of the references lockfile */
	int n_backends;
	bool allow_cpp_fail; /* a reference that cannot be had is told, not an error */
	struct reference_build_options build;	/* progress, …; name, repo and rev are set here */
	/* For one backend a value, for several NAME=VALUE each: setup_source checks that. */
	const char *const *repos, *const *revs;
	int n_repos, n_revs;
};

struct setup_result {
	char models[1024];		/* one line: what of the tier is here */
	struct {
		char name[64], line[600];
		bool ready, already;
	} references[SETUP_BACKENDS_MAX];
	int n_references;
	char env_file[4096];		/* exports written here */
	long total_ms;
};

/*
 * A model of the tier that is here and whose architecture every backend is said to compute; where
 * there is none, one that the first does. MODEL_LOAD when there is none of these either.
 */
int setup_model(const struct setup_options *o, char path[STORE_PATH_MAX], struct err *e);

/*
 * Which of the values is meant for this backend: NULL for none. EXIT_USAGE when a value stands
 * alone and there are several backends, or names one that is not asked for; what: "--repo".
 */
int setup_source(const struct setup_options *o, const char *what, const char *const *values, int n,
		 const char *backend, const char **out, struct err *e);

/* Goes through all steps even when one fails; the first failure is returned. */
int setup_run(const struct setup_options *o, struct setup_result *out, struct err *e);

#endif
