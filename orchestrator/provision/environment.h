/*
 * The environment that other programs of the field know: where the references' libraries are, which
 * model is the one to compare. Nothing of assay needs it (rpath, cache).
 */
#ifndef ASSAY_ENVIRONMENT_H
#define ASSAY_ENVIRONMENT_H

#include "err.h"

#include <stddef.h>

enum { ENVIRONMENT_MAX = 16, ENVIRONMENT_TEXT_MAX = 64 << 10 };

struct environment {
	struct {
		const char *name;
		char value[4 * 4096];
	} vars[ENVIRONMENT_MAX];
	int n;
};

/* What is ready now; what is missing has no variable. */
int environment_collect(struct environment *v, struct err *e);

/*
 * The exports as text. form: sh, fish, pwsh, json, github (lines for $GITHUB_ENV). Values are
 * quoted for that shell. EXIT_USAGE for an unknown form, EXIT_INTERNAL when out is too small.
 */
int environment_print(const struct environment *v, const char *form, char *out, size_t size,
		      struct err *e);

#endif
