/*
 * Getting exactly the pinned sources. The work is done by a child of ours (the hidden command
 * __clone) that has given up every right it does not need (sandbox.h): it may write one folder,
 * start nothing, and reads no configuration of the user. Objects go into a bare repository, then
 * the commit's tree is written out by us, file by file: no hooks, filters, templates or attributes
 * exist on this way, and no .git is left in the result.
 *
 * The one thing taken from the user's configuration is url.<base>.insteadOf, read by the parent.
 */
#ifndef ASSAY_CLONE_H
#define ASSAY_CLONE_H

#include "digest_git.h"
#include "err.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CLONE_LINKS_MAX = 64,
	CLONE_RANGES_MAX = 16,
	CLONE_OBJECTS_MAX = 2000000,
	CLONE_ENTRIES_MAX = 200000,	/* files and folders in one tree */
	CLONE_TRIES = 3,
};
#define CLONE_BYTES_MAX (4ULL << 30)	/* of one pack, and of one tree */

struct clone_progress {
	const char *what;	/* the repository as people know it */
	uint64_t objects, objects_total, indexed, bytes, deltas, deltas_total;
	uint64_t files, files_total;	/* checkout; 0 before */
};

typedef void clone_progress_fn(void *ctx, const struct clone_progress *p);
typedef void clone_note_fn(void *ctx, const char *line);

enum clone_answer { CLONE_UNKNOWN, CLONE_NO, CLONE_YES };

struct clone_range {		/* is the commit in from … before until? asked of the history */
	const char *from, *until;
	enum clone_answer answer;	/* UNKNOWN where the commits are not in what was fetched */
};

struct clone_request {
	const char *what;	/* for sentences */
	const char *url;	/* as in the lockfile; insteadOf is applied here */
	const char *ref;	/* refs/… fetched first, or NULL */
	const char *commit;	/* 40 hex, or a branch or tag name given with --rev */
	const char *tree; /* 40 hex or NULL: a commit that differs is accepted for this tree */
	const char *work;	/* folder for the objects; emptied first; must be ours alone */
	const char *dest;	/* folder to write the tree to, below work's parent; created */
	int depth; /* folders from the whole tree's root to dest: links may climb so far */
	bool any_commit;	/* --rev: `commit` is a name, nothing is pinned */
	bool with_git;		/* fetch with command-line git, one commit deep */
	int keep_fd;		/* lock descriptor handed down, 0 = none */
	struct clone_range ranges[CLONE_RANGES_MAX];
	int n_ranges;
	clone_progress_fn *progress;
	clone_note_fn *note;
	void *ctx;
};

struct clone_link {
	char path[512];
	char commit[41];
};

struct clone_result {
	char url[PATH_MAX];		/* after insteadOf */
	char commit[41], tree[41];	/* what was written */
	char layers[128];		/* of the sandbox */
	struct clone_link links[CLONE_LINKS_MAX];	/* submodules of the tree */
	int n_links;
	int tries;
	long ms;
	uint64_t bytes, objects;	/* received */
};

/*
 * EXIT_NETWORK (after CLONE_TRIES), EXIT_NO_REFERENCE for a local repository that is not there,
 * EXIT_REFERENCE_BUILD for a local repository that cannot be
 * read or lacks objects, EXIT_AUTH, EXIT_HASH_MISMATCH when the pinned commit is not
 * there or is another one (both are named), EXIT_NO_SPACE, EXIT_USAGE for a refused URL or path.
 */
int clone_run(struct clone_request *q, struct clone_result *out, struct err *e);

/* The hidden command: request on standard input, lines on standard output. Exit code. */
int clone_child_main(void);

/*
 * The rights of whoever reads a stranger's repository, given up for ever: write_dir alone may be
 * written, a local url read; programs are only run (runs_git) from the system's own folders.
 */
int clone_give_up_rights(const char *url, const char *write_dir, bool runs_git, char *layers,
			 size_t size, struct err *e);
/* The hidden command __git URL WRITE_DIR git ARGS…: gives them up and becomes git. Exit code. */
int clone_git_main(char **argv);

/* https://…, an absolute path, file:///…, or http:// on this machine's loopback. */
int clone_url_check(const char *url, struct err *e);
/* A local repository is there and whole by its looks; EXIT_NO_REFERENCE says what is there instead. */
int clone_url_there(const char *url, struct err *e);
/* The URL after the user's url.<base>.insteadOf rules. */
int clone_url_resolve(const char *url, char *out, size_t size, struct err *e);

struct clone_module {	/* one section of a .gitmodules file */
	char name[256], path[512], url[1024];
};
/*
 * Reads a .gitmodules text. Everything is checked: a path that leaves the tree, a URL that is an
 * option or a command, `update = !…` are refused with the line.
 */
int clone_modules_parse(const char *text, struct clone_module *out, int max, int *n,
			struct err *e);

#endif
