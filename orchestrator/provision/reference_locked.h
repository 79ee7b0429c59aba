/*
 * What the lockfile said of a reference when it was built, kept in its manifest: a build is stale
 * when the lock says something else now, be it the commit, an option, a patch or a claim.
 */
#ifndef ASSAY_REFERENCE_LOCKED_H
#define ASSAY_REFERENCE_LOCKED_H

#include "references_lock.h"

#include <jansson.h>

/* An object of texts and digests, one for each part; the caller owns it. NULL: no memory. */
json_t *reference_locked(const struct lock_entry *x, bool speed);

/*
 * The parts of a manifest that differ from the lock, as "the CMake options, a patch"; true when
 * there is one. Of somebody's own build only what the self-check claims counts. A manifest from
 * before parts were kept has none that differs.
 */
bool reference_locked_changed(const json_t *manifest, const struct lock_entry *x, bool speed,
			      char *what, size_t size);

#endif
