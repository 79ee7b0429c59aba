/* Where things are kept. One place decides, so that every command agrees. */
#ifndef ASSAY_PATHS_H
#define ASSAY_PATHS_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * The cache folder, absolute: $ASSAY_CACHE, else $XDG_CACHE_HOME/assay, else ~/.cache/assay.
 * Not created. EXIT_USAGE when none of them is set.
 */
int paths_cache(char *out, size_t size, struct err *e);

/* printf into out; EXIT_USAGE when the path is longer than size. */
int paths_format(char *out, size_t size, struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* mkdir -p. */
int paths_mkdir(const char *path, struct err *e);
/* rm -rf; what is not there is removed already. Never follows a symbolic link. */
int paths_remove(const char *path, struct err *e);
bool paths_exists(const char *path);

/* Reads a whole file, at most max bytes, NUL appended. Caller frees. EXIT_INTERNAL. */
int paths_read(char **out, size_t *bytes, const char *path, size_t max, struct err *e);
/* Writes through a temporary name, fsync and rename. EXIT_NO_SPACE, EXIT_INTERNAL. */
int paths_write(const char *path, const void *bytes, size_t n, struct err *e);

/* errno of a failed write as an error: EXIT_NO_SPACE for a full disk or a size limit, EXIT_USAGE where it is
 * not allowed: another cache folder helps. */
int paths_errno(struct err *e, const char *doing, const char *path);

#endif
