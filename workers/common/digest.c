/* SHA256_CTX is the only interface of OpenSSL whose state can be saved; 3.0 calls it deprecated. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "digest.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_BYTES = 256 << 10, STEP_BYTES = 16 << 20 };

static void to_context(const struct digest *d, SHA256_CTX *c)
{
	SHA256_Init(c);
	for (int i = 0; i < 8; i++)
		c->h[i] = d->h[i];
	c->Nl = (SHA_LONG)(d->bytes << 3);
	c->Nh = (SHA_LONG)(d->bytes >> 29);
	c->num = (unsigned)(d->bytes % 64);
	memcpy(c->data, d->tail, 64);
}

void digest_init(struct digest *d)
{
	SHA256_CTX c;

	memset(d, 0, sizeof(*d));
	SHA256_Init(&c);
	for (int i = 0; i < 8; i++)
		d->h[i] = c.h[i];
}

void digest_update(struct digest *d, const void *data, size_t bytes)
{
	SHA256_CTX c;

	to_context(d, &c);
	SHA256_Update(&c, data, bytes);
	for (int i = 0; i < 8; i++)
		d->h[i] = c.h[i];
	d->bytes += bytes;
	memcpy(d->tail, c.data, 64);
}

void digest_final(const struct digest *d, uint8_t out[DIGEST_BYTES])
{
	SHA256_CTX c;

	to_context(d, &c);
	SHA256_Final(out, &c);
}

void digest_save(const struct digest *d, uint8_t out[DIGEST_STATE_BYTES])
{
	for (int i = 0; i < 8; i++)
		for (int k = 0; k < 4; k++)
			out[4 * i + k] = (uint8_t)(d->h[i] >> (8 * k));
	for (int k = 0; k < 8; k++)
		out[32 + k] = (uint8_t)(d->bytes >> (8 * k));
	memcpy(out + 40, d->tail, 64);
}

void digest_restore(struct digest *d, const uint8_t in[DIGEST_STATE_BYTES])
{
	memset(d, 0, sizeof(*d));
	for (int i = 0; i < 8; i++)
		for (int k = 0; k < 4; k++)
			d->h[i] |= (uint32_t)in[4 * i + k] << (8 * k);
	for (int k = 0; k < 8; k++)
		d->bytes |= (uint64_t)in[32 + k] << (8 * k);
	memcpy(d->tail, in + 40, 64);
}

void digest_hex(const uint8_t sha256[DIGEST_BYTES], char hex[DIGEST_HEX])
{
	for (int i = 0; i < DIGEST_BYTES; i++) {
		hex[2 * i] = "0123456789abcdef"[sha256[i] >> 4];
		hex[2 * i + 1] = "0123456789abcdef"[sha256[i] & 15];
	}
	hex[2 * DIGEST_BYTES] = '\0';
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool digest_parse(const char *hex, uint8_t sha256[DIGEST_BYTES])
{
	uint8_t out[DIGEST_BYTES];

	for (int i = 0; i < DIGEST_BYTES; i++) {
		int hi = nibble(hex[2 * i]), lo = hi < 0 ? -1 : nibble(hex[2 * i + 1]);

		if (lo < 0)
			return false;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	if (hex[2 * DIGEST_BYTES])
		return false;
	memcpy(sha256, out, sizeof(out));
	return true;
}

int digest_range(struct digest *d, int fd, int64_t from, int64_t to, const char *path,
		 digest_step_fn *step, void *ctx, struct err *e)
{
	uint8_t *piece = malloc(PIECE_BYTES);
	int64_t stepped = from;
	int r = 0;

	assert(piece);
	while (to < 0 || from < to) {
		size_t want = to < 0 || to - from > PIECE_BYTES ? PIECE_BYTES : (size_t)(to - from);
		ssize_t n = pread(fd, piece, want, from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			r = err_set(e, EXIT_INTERNAL, "reading %s at byte %lld: %s", path,
				    (long long)from, strerror(errno));
			break;
		}
		if (n == 0 && to >= 0)
			r = err_set(e, EXIT_INTERNAL, "%s ends at byte %lld, expected %lld", path,
				    (long long)from, (long long)to);
		if (n == 0)
			break;
		digest_update(d, piece, (size_t)n);
		from += n;
		if (step && from - stepped >= STEP_BYTES) {
			stepped = from;
			r = step(ctx, (uint64_t)from);
			if (r != 0)
				break;
		}
	}
	free(piece);
	return r;
}

int digest_file(const char *path, uint8_t sha256[DIGEST_BYTES], digest_step_fn *step, void *ctx,
		struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct digest d;
	int r;

	if (fd < 0)
		return err_set(e, EXIT_INTERNAL, "opening %s: %s", path, strerror(errno));
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	digest_init(&d);
	r = digest_range(&d, fd, 0, -1, path, step, ctx, e);
	if (r == 0)
		digest_final(&d, sha256);
	close(fd);
	return r;
}
