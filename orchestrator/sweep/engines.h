/*
 * From an engine's name to the program that answers for it.
 *
 *	native, oracle	assay-worker --engine NAME: $ASSAY_WORKER, else beside this executable, else
 *			../libexec/assay/ from it
 *	exec:COMMAND	sh -c COMMAND
 *	recorded:FILE	this program itself, answering from a recording (recorded.h)
 *	any other name	a reference: $ASSAY_WORKER_<NAME> (upper case, other characters as '_'), else
 *			the worker installed for it (provision/reference.h; NAME.speed is the build
 *			with the engine's own flags); none: EXIT_NO_REFERENCE with the command that
 *			provides it
 */
#ifndef ASSAY_ENGINES_H
#define ASSAY_ENGINES_H

#include "child.h"
#include "err.h"

#include <stdbool.h>

enum { ENGINE_NAME_MAX = 1024 };

struct engine_command {
	char *argv[CHILD_ARGS_MAX + 1];	/* points into text */
	char text[3 * 4096];
};

int engine_command(struct engine_command *out, const char *engine, struct err *e);

/* The numerics profile that a built reference was found to compute; "" when it is not known. */
void engine_profile(const char *engine, char *out, size_t size);

/*
 * What a built reference is, as "key=value" lines: commit, tree, build_key, self_check, profile,
 * compiler, cpu_features, pinned; allocated, caller frees. NULL for anything that is no reference.
 * A worker named by ASSAY_WORKER_<NAME> has no build: self_check=not run.
 */
char *engine_identity(const char *engine);

bool engine_is_own(const char *engine);		/* native or oracle */
bool engine_is_reference(const char *engine);	/* neither own, nor exec:, nor recorded: */

/* Whether an engine's first frame is no HELLO of our protocol; what is wrong with it in out. */
bool engine_hello_fault(const struct wire_frame *f, char *out, size_t size);

/*
 * The exit code of a FAIL. What only a comparison, a bench or a receipt can find (diverged, tokens differ, …)
 * no engine can say: that, and what is in no table, is EXIT_INFERENCE.
 */
enum exit_code engine_fail_code(int64_t code);

#endif
