/*
 * The engine's libraries from its source tree: CMake, Ninja or make, in a folder of its own under
 * references/work, installed by rename as references/libs/<key>. Two builders of one key build
 * once; what a killed build leaves is removed by the next.
 */
#ifndef ASSAY_BUILD_H
#define ASSAY_BUILD_H

#include "err.h"
#include "references_lock.h"
#include "toolchain.h"

#include <limits.h>
#include <stdbool.h>

struct build_progress {
	const char *what;	/* "configure", "compile" */
	int done, total;	/* of the builder's own steps; total 0 = unknown */
};
typedef void build_progress_fn(void *ctx, const struct build_progress *p);
typedef void build_note_fn(void *ctx, const char *line);

struct build_plan {
	const struct lock_entry *entry;
	const struct toolchain *tools;
	const char *root;		/* <cache>/references */
	const char *source;		/* the tree */
	const char *source_key;
	bool speed;			/* the engine's own flags */
	int jobs;
	build_progress_fn *progress;
	build_note_fn *note;
	void *ctx;
};

struct build_result {
	char key[65];
	char dir[PATH_MAX];		/* references/libs/<key>: lib/ include/ build.log */
	char options[4096];		/* the CMake options, one per line */
	char cpu_features[512];		/* what running it needs */
	bool fresh;			/* made now */
	long configure_ms, compile_ms;
};

/* The key alone, without building: what it depends on is at hand before the source is. */
void build_key(const struct lock_entry *x, const struct toolchain *t, const char *source_key,
	       bool speed, char hex[65]);

/* The CMake options of a build of x with these tools, one per line, as build_result has them. */
void build_options(const struct lock_entry *x, const struct toolchain *t, bool speed, char *out,
		   size_t size);

/* Whether references/libs/<key> has every library that was recorded; else what it lacks, in words. */
bool build_is_whole(const char *dir, const char *library, char *what, size_t size);

/*
 * EXIT_REFERENCE_BUILD with the first errors of the log and the cure where it is known;
 * EXIT_NO_SPACE; EXIT_INTERRUPTED (nothing is left behind).
 */
int build_run(const struct build_plan *plan, struct build_result *out, struct err *e);

/*
 * The worker compiled from the embedded sources that workers/engines/reference_build.h lists,
 * against one tree's own llama.h: what that header has is found by compiling small probes.
 * lib_dir holds absolute folders, which become the rpath.
 */
struct build_worker {
	const char *cc;			/* C compiler */
	const char *name, *build_id;	/* of the reference */
	bool speed;			/* the engine's own settings at run time too */
	const char *include_dirs;	/* absolute, ':'-separated */
	const char *lib_dir, *library;	/* -L (':'-separated) and -l */
	const char *work;		/* folder to compile in; ours */
	const char *out;		/* program */
	const char *log;		/* file the compiler's output goes to */
};
int build_worker(const struct build_worker *w, struct err *e);

/* Digest over every embedded source the worker is made of. */
void build_worker_version(char hex[65]);

#endif
