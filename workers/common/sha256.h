/*
 * SHA-256 (FIPS 180-4) of a stream; the worker's only use of libcrypto.
 */
#ifndef ASSAY_SHA256_H
#define ASSAY_SHA256_H

#include <stddef.h>

struct sha256;	/* one running digest */

struct sha256 *sha256_new(void);	/* NULL when out of memory */
void sha256_add(struct sha256 *s, const void *bytes, size_t n);
/* Writes 64 hex digits and a NUL, and frees s. */
void sha256_end(struct sha256 *s, char hex[65]);

#endif
