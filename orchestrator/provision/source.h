/*
 * The exact source tree of a reference: cloned, submodules at their commits, checked against the
 * lock, patched, kept under references/sources/<key>/tree. What is already there is used.
 */
#ifndef ASSAY_SOURCE_H
#define ASSAY_SOURCE_H

#include "clone.h"
#include "err.h"
#include "references_lock.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum { SOURCE_OVERRIDES_MAX = 16 };

struct source_options {
	const char *repo;		/* instead of the lock's URL, or NULL */
	const char *rev;		/* instead of the lock's commit, or NULL */
	const char *archive;		/* a tarball instead of a clone: a file or a URL, or NULL */
	bool from_archive;		/* the lock's own one; not needed with archive */
	const char *submodules[SOURCE_OVERRIDES_MAX];	/* "PATH=URL" instead of the lock's URL */
	int n_submodules;
	bool with_git;
	clone_progress_fn *progress;
	clone_note_fn *note;
	void *ctx;
};

struct source {
	char dir[PATH_MAX];		/* the tree */
	char key[65];
	char commit[41], tree[41];
	char url[PATH_MAX];
	char submodules[4096];		/* "path commit\n" lines as they are in the tree */
	char patches[1024];		/* "name: applied|left out (…)\n" lines */
	char layers[128];		/* of the clone's sandbox; "" when it was already there */
	bool pinned;			/* the lock's commit or tree, and its submodules */
	bool fresh;			/* made now */
	long clone_ms;
	unsigned long long clone_bytes, clone_objects;
};

/*
 * root: <cache>/references. EXIT_HASH_MISMATCH for drift, naming both commits; EXIT_NETWORK,
 * EXIT_NO_SPACE, EXIT_USAGE.
 */
int source_get(struct source *out, const char *root, const struct lock_entry *x,
	       const struct source_options *o, struct err *e);

/* Applies one patch below dir. answer as in clone.h; what: what was done, for people. */
int source_patch(const char *dir, const struct lock_patch *p, enum clone_answer answer, char *what,
		 size_t size, struct err *e);

#endif
