/*
 * lockfiles/crossval-models.lock.json: which models there are, and what each one's bytes are.
 * The content is trusted by its SHA-256 alone; repository, revision and mirrors say where to look.
 *
 * Read strictly: an unknown key, a duplicate, bad hex, a size that cannot be, a path that leaves
 * its folder is refused with "FILE:LINE: models/N/KEY: reason".
 */
#ifndef ASSAY_MODELS_LOCK_H
#define ASSAY_MODELS_LOCK_H

#include "digest.h"
#include "err.h"

#include <stdint.h>

enum {
	MODELS_LOCK_SCHEMA = 1,
	MODELS_LOCK_BYTES_MAX = 4 << 20,
	MODELS_LOCK_MODELS_MAX = 1000,
	MODELS_LOCK_MIRRORS_MAX = 16,
	MODELS_LOCK_CHUNK_BYTES = 8 << 20, /* chunk_sha256[i] is over this much, the last less */
};

#define MODELS_LOCK_PATH "lockfiles/crossval-models.lock.json"

struct lock_model {
	const char *id;         /* unique; [a-z0-9._-]{1,64} */
	const char *tier;       /* "ci-light" or "integration" */
	const char *repository; /* "owner/name" at the hub, or NULL */
	const char *revision;   /* 40 hex, or NULL: main */
	const char *file;       /* path in the repository; relative, no ".." */
	int64_t size;           /* bytes, or -1: not known before the server says */
	uint8_t sha256[DIGEST_BYTES];
	char sha256_hex[DIGEST_HEX];
	int n_chunks; /* 0, or ⌈size / 8 MiB⌉ */
	uint8_t (*chunks)[DIGEST_BYTES];
	const char *licence;
	int n_mirrors; /* tried in this order, after the repository */
	const char
	    *mirrors[MODELS_LOCK_MIRRORS_MAX]; /* http(s)://… or hf://owner/name[@rev]/file */
	const char *tokenizer;                 /* id of the companion entry, or NULL */
	struct { /* a model made here instead of downloaded; preset NULL: none */
		const char *preset;
		const char *weights; /* or NULL */
		uint64_t seed;
	} generate;
};

struct models_lock {
	int n;
	struct lock_model *models; /* [n]; strings live in doc */
	void *doc;
};

/* name stands in messages. On failure l stays empty. */
int models_lock_parse(struct models_lock *l, const char *text, const char *name, struct err *e);
/* path NULL reads the lockfile that is built in. */
int models_lock_open(struct models_lock *l, const char *path, struct err *e);
void models_lock_free(struct models_lock *l); /* accepts an empty one */

/* NULL when there is none. */
const struct lock_model *models_lock_find(const struct models_lock *l, const char *id);

/*
 * Appends m to the lockfile at path (made when absent) through a temporary name. The result is read
 * back before it gets its name: an entry that this reader would refuse is not written.
 */
int models_lock_add(const char *path, const struct lock_model *m, struct err *e);

#endif
