/*
 * The built references: where they are, what they are, whether they may be used.
 *
 * Under <cache>/references/ (paths.h):
 *	sources/<tree>/		an exact source tree, no .git in it
 *	libs/<library key>/	lib/ include/ build.log: the engine's libraries as built
 *	<key>/			bin/assay-worker-<name>, manifest.json: worker, identity, self-check
 *	by-name/<name>[.speed]	a link to ../<key>: the build that the name means now
 *	work/			what is being made; nothing in it is ever used
 * Everything but work/ appears by rename and is complete.
 *
 * The contract for callers that start workers: reference_find gives a worker program that speaks
 * wire.h on ASSAY_WIRE_FD, needs no environment (rpath), passed its self-check on this machine or
 * was explicitly allowed, and whose recorded CPU features this CPU has.
 */
#ifndef ASSAY_REFERENCE_H
#define ASSAY_REFERENCE_H

#include "err.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum {
	REFERENCE_NAME_MAX = 64,
	REFERENCE_KEY_HEX = 65,		/* 64 hex digits and the NUL */
	REFERENCE_PAIRS_MAX = 64,	/* architecture × weight type */
};

enum reference_state {
	REFERENCE_ABSENT,	/* never built, or removed */
	REFERENCE_DAMAGED,	/* parts of it were removed or cut */
	REFERENCE_STALE,	/* built from another pin or by another worker version; an own build made anew */
	REFERENCE_FAILED,	/* built, but its self-check failed */
	REFERENCE_WRONG_CPU,	/* needs CPU features that are not here */
	REFERENCE_READY,
};

struct reference {
	char name[REFERENCE_NAME_MAX];
	bool speed;			/* the engine's own flags instead of the parity ones */
	enum reference_state state;
	char why[1024];			/* one sentence when not READY, or a note; "" */
	char key[REFERENCE_KEY_HEX];
	char dir[PATH_MAX];
	char worker[PATH_MAX];		/* absolute path of the program */
	char commit[65];		/* hex; "" for somebody's own build */
	char tree[65];
	bool pinned;      /* the lockfile's commit, not --repo/--rev or an own build */
	char profile[64]; /* numerics profile found by the self-check; "" when none fits */
	char compiler[256];		/* first line of its --version */
	char cpu_features[512];		/* "avx2 fma f16c": needed at run time */
	char self_check[16];		/* "passed", "failed", "not run" */
	char capabilities[1024];	/* "arch:type …" found right by the self-check */
	char libraries[2 * PATH_MAX]; /* folders, colon-separated, of the engine's own libraries */
};

/* "NAME.speed" is the build with the engine's own flags: true, and name is NAME; else a copy. */
bool reference_is_speed(const char *engine, char name[REFERENCE_NAME_MAX]);

/*
 * Fills *r for a name of the references lockfile. 0 also when it is not usable: r->state says
 * so. Negative: unreadable cache (EXIT_INTERNAL), broken lockfile (EXIT_USAGE), unknown name
 * (EXIT_NO_REFERENCE).
 */
int reference_look(struct reference *r, const char *name, bool speed, struct err *e);

/*
 * As reference_look, but only a usable reference is success. EXIT_NO_REFERENCE when absent, stale
 * or not for this CPU, with the command that provides it; EXIT_REFERENCE_BUILD when its self-check
 * failed and neither allow_bad is set nor ASSAY_ALLOW_BAD_REFERENCE=1.
 */
int reference_find(struct reference *r, const char *name, bool speed, bool allow_bad,
		   struct err *e);

/* Whether the references lockfile has an entry of this name (it is an engine's name then). */
bool reference_known(const char *name);

/*
 * The environment variable that names somebody's own build to use for this reference:
 * BITNET_CPP_DIR for names that begin with "bitnet", LLAMA_CPP_DIR for those with "llama"; else NULL.
 */
const char *reference_own_variable(const char *name);

const char *reference_state_name(enum reference_state s);

#endif
