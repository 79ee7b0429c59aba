/*
 * Is this reference right? Tiny models of every architecture × weight type that it claims are
 * generated and evaluated by its worker and by the oracle; its determinism is tried (two runs, 1
 * and 2 threads, a batch and single steps); its numerics profile is found: the profile of native
 * whose bits agree. A mismatch names the stage: its inputs equal, its outputs not.
 */
#ifndef ASSAY_SELF_CHECK_H
#define ASSAY_SELF_CHECK_H

#include "err.h"
#include "references_lock.h"

#include <stdbool.h>

struct json_t;
typedef void self_check_note_fn(void *ctx, const char *line);

struct self_check_plan {
	const struct lock_entry *entry;	/* claims and canary; NULL = try everything known */
	const char *worker;		/* the program */
	const char *work;		/* folder for models; ours */
	const char *family;		/* compiler of the build, "gcc" or "clang": tried first */
	bool speed; /* a native build: batch and single may differ in the bits */
	bool own;   /* somebody's own build: its flags are theirs to change */
	self_check_note_fn *note;
	void *ctx;
};

struct self_check_result {
	bool passed;
	char why[1024];			/* the first failure, with stage and cause where found */
	char profile[64];		/* "ggml-avx2-gcc", "" when none of native's agrees */
	char capabilities[1024];	/* pairs found right, blank-separated */
	char determinism[256];		/* "runs threads batch": what is bit-identical */
	struct json_t *report;		/* list of cases; the caller's to json_decref */
};

/* Negative only when the check itself could not run; a wrong reference is passed = false. */
int self_check_run(const struct self_check_plan *p, struct self_check_result *out, struct err *e);

#endif
