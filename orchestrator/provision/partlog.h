/*
 * What of a .part is on disk, and the running SHA-256 over its beginning: an append-only file of
 * 128-byte records. A range is appended only after its bytes were synced, so whatever is read back
 * is true; a torn or foreign tail is cut off.
 *
 *	0  u32  FNV-1a over the 124 bytes behind it
 *	4  u32  kind: 1 head, 2 range, 3 digest, 4 source
 *	8  i64  a: size of the file / from / bytes hashed / FNV-1a of the source's URL
 *	16 i64  b: inode of the .part / to / – / –
 *	24 104  SHA-256 expected (zero: not known) / – / state of digest.h / its ETag, NUL-padded
 */
#ifndef ASSAY_PARTLOG_H
#define ASSAY_PARTLOG_H

#include "digest.h"
#include "err.h"
#include "ranges.h"

enum { PARTLOG_RECORD_BYTES = 128, PARTLOG_ETAG_MAX = 104, PARTLOG_BYTES_MAX = 16 << 20 };

struct partlog {
	int fd;      /* -1: not open */
	int64_t end; /* bytes of whole records */
	char path[1024];
};

struct partlog_state {
	int64_t size;          /* of the file; -1: there was no journal that fits */
	struct ranges on_disk; /* caller frees */
	struct digest digest;  /* over the first digest.bytes, all of them in on_disk */
	uint64_t source;       /* the last one recorded, and its ETag ("" when none) */
	char etag[PARTLOG_ETAG_MAX];
};

/*
 * Opens or makes the journal and reads what it says about the .part with this inode and expected
 * hash (NULL: not known). Anything that does not fit empties it: state->size is -1 then.
 */
int partlog_open(struct partlog *j, const char *path, int64_t part_inode, const uint8_t *sha256,
		 struct partlog_state *state, struct err *e);

/* Empties it and writes the head (and, for a repair, ranges that are known to be good). */
int partlog_begin(struct partlog *j, int64_t size, int64_t part_inode, const uint8_t *sha256,
		  const struct ranges *on_disk, struct err *e);

/* Appends and syncs. etag may be NULL. Safe on another thread, one call at a time. */
int partlog_append(struct partlog *j, const struct ranges *added, const struct digest *digest,
		   struct err *e);
int partlog_source(struct partlog *j, uint64_t source, const char *etag, struct err *e);

void partlog_close(struct partlog *j); /* accepts one that is not open */

uint64_t partlog_fnv(const void *data, size_t bytes);

#endif
