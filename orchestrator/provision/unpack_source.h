/*
 * A source tarball unpacked with the care strangers' archives need: relative names only, nothing
 * through links, counted and capped, one leading folder taken off; then its git tree id must be
 * the pinned one. libarchive.
 */
#ifndef ASSAY_UNPACK_SOURCE_H
#define ASSAY_UNPACK_SOURCE_H

#include "err.h"

/*
 * dest is created. links: submodules of the tree, whose folders are empty in archives. hex: 41
 * bytes, the tree found, which the caller compares. EXIT_USAGE for a broken archive.
 */
struct digest_git_link;
int unpack_source(const char *archive, const char *dest, const struct digest_git_link *links,
		  int n_links, char *hex, struct err *e);

#endif
