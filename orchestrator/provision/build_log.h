/*
 * From a build's log to what a person needs: the first distinct errors with file and line, the
 * command that failed, and the cure where the failure is a known one.
 */
#ifndef ASSAY_BUILD_LOG_H
#define ASSAY_BUILD_LOG_H

#include "err.h"

#include <stddef.h>

/* A known way to fail. The table is build_signatures.c; docs/references-symptoms.md shows it. */
struct build_signature {
	const char *id;			/* "no-clang" */
	const char *symptom;		/* what people see */
	const char *needles[5];		/* one of these, all '\n'-separated parts in one line */
	const char *cause;
	const char *cure;
	enum exit_code code;		/* EXIT_REFERENCE_BUILD, EXIT_NO_SPACE */
};
extern const struct build_signature build_signatures[];	/* id NULL at the end */

enum { BUILD_ERRORS_MAX = 5, BUILD_ERROR_BYTES = 320 };

struct build_digest {
	char errors[BUILD_ERRORS_MAX][BUILD_ERROR_BYTES];	/* "file:12: sentence" */
	int n_errors;
	char command[1024];	/* that failed; "" when the log does not say */
	const struct build_signature *signature;	/* or NULL */
};

/* Reads the log's text (borrowed for the call). root: prefix of paths that is left out, or "". */
void build_log_digest(struct build_digest *d, const char *text, const char *root);

/* The digest as lines for people. */
void build_log_print(const struct build_digest *d, char *out, size_t size);

#endif
