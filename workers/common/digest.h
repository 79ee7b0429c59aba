/*
 * SHA-256 (FIPS 180-4), for both programs, with a running state that can be written down and taken
 * up again, so that a resumed download hashes only what is new. The arithmetic is OpenSSL's.
 */
#ifndef ASSAY_DIGEST_H
#define ASSAY_DIGEST_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	DIGEST_BYTES = 32,
	DIGEST_HEX = 2 * DIGEST_BYTES + 1, /* with the NUL */
	DIGEST_STATE_BYTES = 32 + 8 + 64,
};

struct digest {
	uint32_t h[8];    /* FIPS 180-4's H after the last whole block */
	uint64_t bytes;   /* hashed so far */
	uint8_t tail[64]; /* the first bytes % 64 of these wait for the rest of their block */
};

void digest_init(struct digest *d);
void digest_update(struct digest *d, const void *data, size_t bytes);
/* d stays as it was: the digest so far. */
void digest_final(const struct digest *d, uint8_t out[DIGEST_BYTES]);

/* The state in 104 bytes, little-endian: h, bytes, tail. */
void digest_save(const struct digest *d, uint8_t out[DIGEST_STATE_BYTES]);
void digest_restore(struct digest *d, const uint8_t in[DIGEST_STATE_BYTES]);

void digest_hex(const uint8_t sha256[DIGEST_BYTES], char hex[DIGEST_HEX]);
/* Exactly 64 lower-case hex digits. */
bool digest_parse(const char *hex, uint8_t sha256[DIGEST_BYTES]);

/* Called between pieces of a long file; another answer than 0 ends the hashing with that code. */
typedef int digest_step_fn(void *ctx, uint64_t bytes_done);

/*
 * Hashes [from, to) of an open file into d; to < 0 means to its end. A file that ends before `to`
 * is an error. step may be NULL.
 */
int digest_range(struct digest *d, int fd, int64_t from, int64_t to, const char *path,
		 digest_step_fn *step, void *ctx, struct err *e);
int digest_file(const char *path, uint8_t sha256[DIGEST_BYTES], digest_step_fn *step, void *ctx,
		struct err *e);

#endif
