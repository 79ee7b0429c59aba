/*
 * The tarball of a pinned commit from the network, with all that fetch.h does for a model: resumed
 * after a kill, redirects and TLS judged, capped. What is in it is trusted only after its git tree
 * id is the lock's (unpack_source.h).
 */
#ifndef ASSAY_SOURCE_ARCHIVE_H
#define ASSAY_SOURCE_ARCHIVE_H

#include "clone.h"
#include "references_lock.h"

/* Whether it names something to download rather than a file here. */
bool source_archive_is_url(const char *archive);

/*
 * Where the lock's commit can be had as a tarball: the entry's `archive` with {commit} filled in,
 * else GitHub's own form for a repository there. EXIT_USAGE when neither is known.
 */
int source_archive_url(const struct lock_entry *x, char *out, size_t size, struct err *e);

/*
 * Downloads into dir (made; kept on failure, so that the next call goes on; the caller deletes it
 * after use). https, or http on this machine's loopback. path: the file.
 */
int source_archive_fetch(const char *url, const char *dir, clone_note_fn *note, void *ctx,
			 char *path, size_t size, struct err *e);

#endif
