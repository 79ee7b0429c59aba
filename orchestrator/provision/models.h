/*
 * From a lockfile entry to a file in the cache, without the network: what is there already, what a
 * Hugging Face cache holds, what can be generated here. What remains becomes a request for fetch.h.
 */
#ifndef ASSAY_MODELS_H
#define ASSAY_MODELS_H

#include "fetch.h"
#include "hub.h"
#include "models_lock.h"
#include "place.h"
#include "store.h"

enum models_how {
	MODELS_CACHED,   /* it was there; nothing was read but its stamp */
	MODELS_REHASHED, /* it was there; hashed anew */
	MODELS_ADOPTED,
	MODELS_GENERATED,
	MODELS_TO_FETCH, /* request is filled in */
};

struct models_item {
	const struct lock_model *model;
	enum models_how how;
	bool damaged; /* a wrong file was found under the final name and taken away */
	enum place_how adopted_by;
	char adopted_from[STORE_PATH_MAX];
	struct fetch_request request; /* blob and meta are filled in always */
};

/*
 * rehash: hash even what has a valid stamp. step is told of hashing (may be NULL); its answer other
 * than 0 ends the call with that value, e untouched. A wrong file under the final name becomes a
 * part of which only the chunks that are right (when the lock has chunk hashes) are kept.
 */
int models_prepare(struct models_item *item, const struct store *s, const struct hub *hub,
		   const struct lock_model *m, bool rehash, digest_step_fn *step, void *ctx,
		   struct err *e);

/* Fills in the request alone. */
int models_request(struct fetch_request *q, const struct store *s, const struct hub *hub,
		   const struct lock_model *m, struct err *e);

const char *models_how_name(enum models_how how);

#endif
