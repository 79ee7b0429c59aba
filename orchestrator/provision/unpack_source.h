/*
 * A source tarball unpacked with the care strangers' archives need: relative names only, nothing
 * through links, counted and capped, one leading folder taken off; then its git tree id must be
 * the pinned one. libarchive.
 */
#ifndef ASSAY_UNPACK_SOURCE_H
#define ASSAY_UNPACK_SOURCE_H

#include "err.h"

/* dest is created. EXIT_HASH_MISMATCH names both tree ids; EXIT_USAGE for a broken archive. */
int unpack_source(const char *archive, const char *dest, const char *tree, struct err *e);

#endif
