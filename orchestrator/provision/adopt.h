/*
 * Takes a file that a Hugging Face cache already holds into ours, by hash: blobs are named by their
 * SHA-256 there when they are large, otherwise found through the repository's snapshots.
 */
#ifndef ASSAY_ADOPT_H
#define ASSAY_ADOPT_H

#include "models_lock.h"
#include "place.h"
#include "store.h"

/*
 * 1: adopted, with where it lay and how it came; 0: not found. A candidate is hashed before it is
 * placed, so a wrong file is passed over. The blob's lock must be held.
 */
int adopt_find(const struct store_blob *b, const struct lock_model *m, struct store_meta *meta,
	       enum place_how *how, digest_step_fn *step, void *ctx, struct err *e);

#endif
