/*
 * Files that the build puts into the program (the list EMBED of the Makefile): lockfiles, the
 * worker's sources, thresholds. A path is the file's path in the source tree.
 */
#ifndef ASSAY_EMBED_H
#define ASSAY_EMBED_H

#include <stddef.h>

struct embedded {
	const char *path;          /* "lockfiles/crossval-models.lock.json"; NULL ends the table */
	const unsigned char *data; /* [bytes], and a NUL behind them */
	size_t bytes;
};

extern const struct embedded embedded_files[]; /* generated; in the order of EMBED */

/* The file's bytes, which live as long as the program; NULL when the build left it out. */
const unsigned char *embed_find(const char *path, size_t *bytes);

#endif
