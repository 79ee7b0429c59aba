/*
 * What lies under references/ (reference.h has the layout) and what of it is still needed: builds that a
 * name leads to, their libraries and sources. The rest is of pins, options and workers of before.
 */
#ifndef ASSAY_REFERENCE_STORE_H
#define ASSAY_REFERENCE_STORE_H

#include "err.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum reference_part {
	REFERENCE_BUILD,	/* worker, manifest */
	REFERENCE_LIBRARIES,
	REFERENCE_SOURCES,
	REFERENCE_UNFINISHED,	/* of work/: what a killed run left */
	REFERENCE_PARTS,
};

struct reference_item {
	enum reference_part part;
	char key[128];		/* folder name */
	char names[256];	/* "llama, llama.speed": of a build, by which names; "" */
	char state[32];		/* of a named build reference_state_name, else "needed", "old", "unfinished" */
	int64_t bytes;		/* on disk */
	bool needed;
	bool in_use;		/* somebody builds it or runs its worker */
	char path[PATH_MAX];
};

typedef int reference_item_fn(void *ctx, const struct reference_item *item, struct err *e);

/* Each of them, builds first; root: the cache. No folder: none. Stops where fn is negative. */
int reference_each(const char *root, reference_item_fn *fn, void *ctx, struct err *e);

/* Deletes it unless somebody holds it: *busy then, and 0. */
int reference_delete(const char *root, const struct reference_item *item, bool *busy,
		     struct err *e);

const char *reference_part_name(enum reference_part p);	/* "build", "libraries", … */

#endif
