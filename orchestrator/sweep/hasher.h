/*
 * SHA-256 over two streams of logits while the engines go on evaluating: what is compared here is
 * copied and hashed by a thread of its own. As long as both streams are the same bits one is hashed
 * for both. Small vectors are hashed at once: a thread costs more than they do.
 *
 * One per exchange; used by one thread, which owns it.
 */
#ifndef ASSAY_HASHER_H
#define ASSAY_HASHER_H

#include "digest.h"

#include <stddef.h>
#include <stdint.h>

enum {
	HASHER_SIDES = 2,
	HASHER_QUEUE_MAX = 4,		/* vectors that wait; who adds a fifth waits, too */
	HASHER_INLINE_BYTES = 32 << 10,	/* up to here no thread is worth it */
};

struct hasher;

struct hasher *hasher_new(void);

/* The next bytes of one side. */
void hasher_add(struct hasher *h, int side, const void *bytes, size_t n);
/* The next bytes of both, which are the same; behind the first difference as two calls of add. */
void hasher_add_both(struct hasher *h, const void *bytes, size_t n);

/* Waits until all is hashed. May be called again, and more may be added afterwards. */
void hasher_final(struct hasher *h, int side, uint8_t out[DIGEST_BYTES]);

void hasher_free(struct hasher *h);	/* accepts NULL */

#endif
