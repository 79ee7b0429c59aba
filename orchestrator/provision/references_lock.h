/*
 * lockfiles/crossval-references.lock.json: which C++ references there are, exactly which sources,
 * and how they are built. Data only; docs/references.md describes every field.
 */
#ifndef ASSAY_REFERENCES_LOCK_H
#define ASSAY_REFERENCES_LOCK_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	LOCK_ENTRIES_MAX = 64,
	LOCK_SUBMODULES_MAX = 16,
	LOCK_OPTIONS_MAX = 64,
	LOCK_PATCHES_MAX = 16,
	LOCK_EDITS_MAX = 8,
	LOCK_FILES_MAX = 16,
	LOCK_URLS_MAX = 8,
	LOCK_BYTES_MAX = 1 << 20,
};

struct lock_submodule {
	const char *path;	/* relative to the repository's root, nested ones too */
	const char *url;	/* what .gitmodules must say */
	const char *commit;	/* 40 hex; NULL when skipped */
	const char *tree;	/* or NULL */
	const char *skip;	/* why it is left empty; NULL = it is cloned */
};

/* Replaces text in one file: strict, no fuzz. */
struct lock_edit {
	const char *file;	/* path in the tree */
	const char *find;	/* must occur */
	const char *replace;
};

struct lock_patch {
	const char *name;
	const char *sha256;	/* over file NUL find NUL replace NUL of every edit, hex */
	const char *why;
	/* Commits (7 to 40 hex) from … before until, NULL = open. In the range it must apply, outside
	 * it is left out; where the history is not at hand it is applied where its text is found. */
	const char *from, *until;
	const char *repository;	/* submodule path whose commits the range means; "" = the root's */
	struct lock_edit edits[LOCK_EDITS_MAX];
	int n_edits;
};

struct lock_file {		/* a file the tree needs and does not have */
	const char *path;	/* to create */
	const char *copy_of;	/* a file of the tree */
	const char *text;	/* or this text */
	const char *why;
};

struct lock_entry {
	const char *name;
	const char *kind;	/* "llama.h": the API its worker is compiled against */
	const char *summary;	/* one line */
	const char *url;
	const char *commit;	/* 40 hex */
	const char *tree;	/* 40 hex or NULL: the same tree under another commit is accepted */
	const char *ref;	/* "refs/tags/v0.5.0" to fetch, or NULL */
	const char *bad;	/* why it must not be used as a reference; NULL = fine */
	const char *archive;	/* tarball URL with {commit}, or NULL */
	const char *urls[LOCK_URLS_MAX];	/* allowed besides url */
	int n_urls;
	struct lock_submodule submodules[LOCK_SUBMODULES_MAX];
	int n_submodules;
	struct lock_patch patches[LOCK_PATCHES_MAX];
	int n_patches;
	struct lock_file files[LOCK_FILES_MAX];
	int n_files;
	const char *target;	/* build target that gives the library */
	const char *library;	/* "llama": lib<library>.so */
	const char *include;	/* folders of headers, separated by blanks */
	const char *compilers;	/* "gcc clang": families in the order tried */
	const char *options[LOCK_OPTIONS_MAX];		/* common CMake -D options */
	int n_options;
	const char *parity[LOCK_OPTIONS_MAX];		/* and for comparing, on this platform */
	int n_parity;
	const char *speed[LOCK_OPTIONS_MAX];		/* and for speed */
	int n_speed;
	const char *cpu_features;	/* what the parity build needs: "avx2 fma f16c" */
	const char *capabilities[LOCK_OPTIONS_MAX];	/* "arch:type" it computes rightly */
	int n_capabilities;
	const char *canary;	/* "arch:type" checked first: the case known to go wrong */
};

struct references_lock {
	struct lock_entry entries[LOCK_ENTRIES_MAX];
	int n;
	char sha256[65];	/* of the file's bytes */
	void *root;		/* owns every string */
};

/* path NULL: $ASSAY_REFERENCES_LOCK, else the one built in. EXIT_USAGE names line and field. */
int references_lock_load(struct references_lock *l, const char *path, struct err *e);
/* The same for a text; name stands in messages. On failure l is empty. */
int references_lock_parse(struct references_lock *l, const char *bytes, size_t n, const char *name,
			  struct err *e);
const struct lock_entry *references_lock_entry(const struct references_lock *l, const char *name);
void references_lock_free(struct references_lock *l);

/* Relative, no empty, ".", ".." or ".git" part (in any case), no backslash, no control byte. */
bool references_lock_path_ok(const char *path);
/* 40 or 64 lower-case hex digits. */
bool references_lock_commit_ok(const char *commit);

#endif
