/*
 * Bundles of models: .tar.gz, .tar.zst, .tar, .zip. An archive is hostile until shown otherwise:
 * only files and folders, never out of the folder, through no link, with caps on everything.
 */
#ifndef ASSAY_UNPACK_H
#define ASSAY_UNPACK_H

#include "err.h"

#include <stdbool.h>
#include <stdint.h>

struct unpack_limits {
	int64_t entries_max;     /* 10 000 when 0 */
	int64_t entry_bytes_max; /* 64 GiB when 0 */
	int64_t total_bytes_max; /* 128 GiB when 0 */
	int64_t ratio_max; /* unpacked to packed, 200 when 0; under 1 MiB it does not matter */
};

struct unpack_result {
	int64_t entries, bytes;
};

/* Whether the name ends like an archive that unpack_file reads. */
bool unpack_is_archive(const char *name);

/*
 * Unpacks into `folder`, which must not exist: everything goes to `folder`.unpacking, which is
 * emptied first, synced and renamed at the end, and removed on failure. One at a time: the caller
 * holds a lock. limits and result may be NULL.
 */
int unpack_file(const char *archive, const char *folder, const struct unpack_limits *limits,
		struct unpack_result *result, struct err *e);

#endif
