/*
 * The tree id git gives a folder, computed from what lies on disk: proof that the sources that
 * are compiled are the pinned ones, however they came (clone, archive, command-line git).
 * Format: git's object model, "blob N\0…" and "tree N\0" of "mode name\0id" sorted as git sorts.
 */
#ifndef ASSAY_DIGEST_GIT_H
#define ASSAY_DIGEST_GIT_H

#include "err.h"

#include <stddef.h>
#include <stdbool.h>

struct digest_git_link {	/* a submodule: its folder counts as this commit */
	const char *path;	/* relative to the folder */
	const char *commit;	/* 40 hex */
};

/* hex: 41 bytes. Empty folders do not count, as in git; other file types are refused. */
int digest_git_tree(const char *dir, const struct digest_git_link *links, int n_links, char *hex,
		    struct err *e);

/* SHA-256 over several texts, each with its terminating NUL, so that borders count. */
struct digest_key;
struct digest_key *digest_key_new(void);
void digest_key_text(struct digest_key *k, const char *text);	/* NULL counts as "" */
void digest_key_bytes(struct digest_key *k, const void *bytes, size_t n);
void digest_key_finish(struct digest_key *k, char hex[65]);	/* frees k */

/* SHA-256 of a file's bytes. */
int digest_key_file(const char *path, char hex[65], struct err *e);

#endif
