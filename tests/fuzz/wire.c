/*
 * Any bytes, fed in pieces, either decode to frames that obey wire.h or are refused; a frame that
 * decodes is rebuilt to the same bytes. The first byte is the size of the pieces.
 */
#include "wire.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rebuild(const struct wire_frame *f)
{
	struct wire_builder b = {0};
	struct wire_decoder d = {0};
	struct wire_frame g;
	struct err e = ERR_NONE;
	const char *k, *v;
	size_t at = 0, nk, nv;
	char key[512];

	wire_begin(&b, f->type);
	while (wire_each(f, &at, &k, &nk, &v, &nv)) {
		assert(nk > 0 && v + nv < f->header + f->header_bytes);
		if (nk >= sizeof(key) || memchr(v, '\r', nv))
			goto out;	/* a builder never writes these */
		memcpy(key, k, nk);
		key[nk] = 0;
		wire_put(&b, key, "%.*s", (int)nv, v);
	}
	wire_body(&b, f->body, f->body_bytes);
	assert(wire_finish(&b, &e) == 0);
	assert(wire_feed(&d, b.buf, b.n, &e) == 0 && wire_next(&d, &g, &e) == 1);
	assert(g.type == f->type && g.header_bytes == f->header_bytes &&
	       g.body_bytes == f->body_bytes);
	assert(g.body_bytes == 0 || ((uintptr_t)g.body & 7) == 0);
	assert(memcmp(g.header, f->header, f->header_bytes) == 0);
	assert(f->body_bytes == 0 || memcmp(g.body, f->body, f->body_bytes) == 0);
out:
	wire_decoder_free(&d);
	wire_builder_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_decoder d = {0};
	struct wire_frame f;
	struct err e = ERR_NONE;
	size_t piece = size ? (size_t)data[0] + 1 : 1;
	int rc = 0;

	for (size_t at = 1; at < size && rc >= 0; at += piece) {
		size_t n = size - at < piece ? size - at : piece;

		rc = wire_feed(&d, data + at, n, &e);
		while (rc >= 0 && (rc = wire_next(&d, &f, &e)) == 1)
			rebuild(&f);
	}
	assert(rc >= 0 || e.code);
	wire_decoder_free(&d);
	return 0;
}
