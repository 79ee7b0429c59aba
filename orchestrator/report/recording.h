/*
 * Recordings: what an engine answered, in one archive that stands in for the engine later
 * (docs/recordings.md). A tar archive, zstd inside:
 *
 *	manifest.json	first; sealed (canonical.h); names every other member with bytes and SHA-256
 *	small members	texts, ids, pieces
 *	logits		one member per scenario, f32 or compact (recording_logits.h)
 *	traces		one member per record
 *
 * The manifest's own keys beside "members" belong to the one who records (sweep/record.h). The
 * reader checks size and SHA-256 of every member before anything of it is used.
 */
#ifndef ASSAY_RECORDING_H
#define ASSAY_RECORDING_H

#include "err.h"

#include <jansson.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>

enum {
	RECORDING_NAME_MAX = 240,
	RECORDING_MEMBERS_MAX = 1 << 20,
	RECORDING_MANIFEST_MAX = 256 << 20,
	RECORDING_SMALL_MAX = 16 << 20,		/* one small member */
};

/* Where a member stands: the small ones first, so that they are read without the rest. Members of
 * different kinds may be written at the same time, of one kind one after the other. */
enum recording_kind { RECORDING_SMALL, RECORDING_LOGITS, RECORDING_TRACE, RECORDING_KINDS };

struct recording_writer;

/* Members are kept in unnamed files beside path until the end. */
int recording_create(struct recording_writer **out, const char *path, struct err *e);
int recording_begin(struct recording_writer *w, enum recording_kind kind, const char *name,
		    struct err *e);
int recording_append(struct recording_writer *w, enum recording_kind kind, const void *bytes,
		     size_t n, struct err *e);
int recording_add(struct recording_writer *w, enum recording_kind kind, const char *name,
		  const void *bytes, size_t n, struct err *e);	/* begin and append */
/* Takes the manifest, adds the members, seals it, writes the archive and renames it to path. */
int recording_finish(struct recording_writer *w, json_t *manifest, struct err *e);
void recording_discard(struct recording_writer *w);	/* after finish too; accepts NULL */

struct recording_member {
	char name[RECORDING_NAME_MAX];
	int64_t bytes;
	char sha256[65];
	uint8_t *content;	/* [bytes] of small members once verified, else NULL */
};

struct recording {
	char path[PATH_MAX];
	json_t *manifest;
	struct recording_member *members;	/* [n] in the archive's order */
	int n;
};

/* Reads the manifest alone. EXIT_NO_REFERENCE for what is no archive, EXIT_HASH_MISMATCH for one
 * that is damaged or changed. */
int recording_open(struct recording *r, const char *path, struct err *e);

/* Reads everything once; EXIT_HASH_MISMATCH names the member that is not what was recorded. */
int recording_verify(struct recording *r, struct err *e);

const struct recording_member *recording_find(const struct recording *r, const char *name);

/* Pieces of a member in order; another answer than 0 ends it and is returned. */
typedef int recording_fn(void *ctx, const void *bytes, size_t n, struct err *e);

/*
 * Members one after the other: each goes to the fn that choose() gives for it, NULL = passed
 * over. choose may be called for every member of the archive, in its order.
 */
typedef recording_fn *recording_choose_fn(void *ctx, const struct recording_member *m);
int recording_read(const struct recording *r, recording_choose_fn *choose, void *ctx,
		   struct err *e);

void recording_close(struct recording *r);	/* accepts zeroed */

#endif
