/*
 * A reference from nothing to ready: source, libraries, worker, self-check, installed by rename.
 * What is already right is used; what is broken is repaired. reference.h has the layout.
 */
#ifndef ASSAY_REFERENCE_BUILD_H
#define ASSAY_REFERENCE_BUILD_H

#include "build.h"
#include "err.h"
#include "reference.h"
#include "source.h"

#include <stdbool.h>

struct reference_build_options {
	const char *name;		/* of the lockfile */
	struct source_options source; /* repo, rev, …; its progress and note are used throughout */
	build_progress_fn *build_progress;
	bool speed;
	bool rebuild;			/* libraries, worker and self-check anew */
	bool check_again;		/* the self-check anew */
	bool allow_bad;			/* a failed self-check is told, not an error */
	bool explain;			/* only say what would be made, and why */
};

struct reference_build_result {
	struct reference reference;	/* as reference_look sees it at the end */
	bool already;			/* nothing had to be done */
	bool source_fresh, libs_fresh, worker_fresh, checked;
	long clone_ms, configure_ms, compile_ms, check_ms, total_ms;
	char explain[4096];		/* lines: what is there, what would be made, and why */
};

/*
 * EXIT_REFERENCE_BUILD when the build or the self-check fails (a reference that fails its check is
 * installed and marked so, and not used), EXIT_NETWORK, EXIT_HASH_MISMATCH, EXIT_NO_SPACE, …
 */
int reference_build(const struct reference_build_options *o, struct reference_build_result *out,
		    struct err *e);

#endif
