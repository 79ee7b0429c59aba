#include "wire.h"

#include "utf8.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFERED_MAX = 2 * (WIRE_PAYLOAD_MAX + WIRE_HEAD_BYTES), BUFFER_MIN = 4096 };

static const char *const type_names[] = {
	[WIRE_HELLO] = "HELLO",
	[WIRE_OPEN] = "OPEN",
	[WIRE_OPENED] = "OPENED",
	[WIRE_TOKENIZE] = "TOKENIZE",
	[WIRE_TOKENS] = "TOKENS",
	[WIRE_DETOKENIZE] = "DETOKENIZE",
	[WIRE_PIECES] = "PIECES",
	[WIRE_TEMPLATE] = "TEMPLATE",
	[WIRE_TEMPLATED] = "TEMPLATED",
	[WIRE_EVALUATE] = "EVALUATE",
	[WIRE_TRACE] = "TRACE",
	[WIRE_LOGITS] = "LOGITS",
	[WIRE_DONE] = "DONE",
	[WIRE_REPLAY] = "REPLAY",
	[WIRE_WEIGHTS] = "WEIGHTS",
	[WIRE_WEIGHT] = "WEIGHT",
	[WIRE_NOTE] = "NOTE",
	[WIRE_FAIL] = "FAIL",
	[WIRE_BYE] = "BYE",
	[WIRE_MEASURE] = "MEASURE",
};

const char *wire_type_name(enum wire_type type)
{
	unsigned t = (unsigned)type;

	return t > 0 && t < WIRE_TYPE_END ? type_names[t] : "unknown";
}

bool wire_terminal(enum wire_type type)
{
	switch (type) {
	case WIRE_OPENED:
	case WIRE_TOKENS:
	case WIRE_PIECES:
	case WIRE_TEMPLATED:
	case WIRE_DONE:
	case WIRE_FAIL:
		return true;
	default:
		return false;
	}
}

static uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Capacity for at least `need` bytes in *buf; contents are kept. */
static int reserve(uint8_t **buf, size_t *cap, size_t need)
{
	size_t want = *cap ? *cap : BUFFER_MIN;
	uint8_t *p;

	if (need <= *cap)
		return 0;
	while (want < need)
		want *= 2;
	p = realloc(*buf, want);
	if (!p)
		return -1;
	*buf = p;
	*cap = want;
	return 0;
}

/* ---- decoding ----------------------------------------------------------------------------- */

static int broken(struct wire_decoder *d, struct err *e)
{
	if (e)
		*e = d->failed;
	return -d->failed.code;
}

int wire_feed(struct wire_decoder *d, const void *bytes, size_t n, struct err *e)
{
	size_t have = d->end - d->start;

	if (d->failed.code)
		return broken(d, e);
	if (n > BUFFERED_MAX - have) {
		err_set(&d->failed, EXIT_WORKER,
			"the other side sent %zu bytes ahead of what was read, at most %d are kept",
			have + n, (int)BUFFERED_MAX);
		return broken(d, e);
	}
	if (n == 0)
		return 0;
	if (d->start > 0 && d->end + n > d->cap) {
		memmove(d->buf, d->buf + d->start, have);
		d->start = 0;
		d->end = have;
	}
	if (reserve(&d->buf, &d->cap, d->end + n) < 0) {
		err_set(&d->failed, EXIT_INTERNAL, "no memory for %zu bytes of frames", d->end + n);
		return broken(d, e);
	}
	memcpy(d->buf + d->end, bytes, n);
	d->end += n;
	return 0;
}

static bool key_byte(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '.' || c == '-';
}

/* NULL when the header has the form of wire.h, else what is wrong with it. */
static const char *header_fault(const uint8_t *h, size_t n)
{
	size_t i = 0;

	while (i < n) {
		size_t key = i;

		while (i < n && key_byte(h[i]))
			i++;
		if (i == key)
			return "a header line without a key";
		if (i == n || h[i] != '=')
			return "a header line that is not key=value";
		for (i++; i < n && h[i] != '\n';) {
			size_t c = h[i] ? utf8_length(h + i, n - i) : 0;

			if (c == 0)
				return "a header value that is not UTF-8 text";
			i += c;
		}
		if (i == n)
			return "a header line without an end";
		i++;
	}
	return NULL;
}

/* Checks the head alone, so that a broken stream is refused before its payload arrives. */
static int check_head(struct wire_decoder *d, const uint8_t *h)
{
	uint32_t payload = get_u32(h);
	uint32_t header = (uint32_t)h[4] | (uint32_t)h[5] << 8;

	if (h[7] != 0 || h[6] == 0)
		return err_set(&d->failed, EXIT_WORKER,
			       "what arrived is not a frame: it begins %02x %02x %02x %02x %02x "
			       "%02x %02x %02x",
			       h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]);
	if (payload > WIRE_PAYLOAD_MAX)
		return err_set(&d->failed, EXIT_WORKER,
			       "a frame of type %s announces %" PRIu32
			       " bytes, at most %d are allowed",
			       wire_type_name(h[6]), payload, (int)WIRE_PAYLOAD_MAX);
	if (header > payload)
		return err_set(&d->failed, EXIT_WORKER,
			       "a frame of type %s announces a header of %" PRIu32
			       " bytes in a payload of %" PRIu32,
			       wire_type_name(h[6]), header, payload);
	return 0;
}

int wire_next(struct wire_decoder *d, struct wire_frame *f, struct err *e)
{
	const uint8_t *h = d->buf ? d->buf + d->start : NULL; /* NULL: nothing was fed */
	size_t have = d->end - d->start, payload, header;
	const char *fault;

	if (d->failed.code)
		return broken(d, e);
	if (have < WIRE_HEAD_BYTES)
		return 0;
	if (check_head(d, h) < 0)
		return broken(d, e);
	payload = get_u32(h);
	header = (size_t)h[4] | (size_t)h[5] << 8;
	if (have - WIRE_HEAD_BYTES < payload)
		return 0;
	fault = header_fault(h + WIRE_HEAD_BYTES, header);
	if (fault) {
		err_set(&d->failed, EXIT_WORKER, "a frame of type %s has %s", wire_type_name(h[6]),
			fault);
		return broken(d, e);
	}
	f->type = (enum wire_type)h[6];
	f->header = (const char *)h + WIRE_HEAD_BYTES;
	f->header_bytes = header;
	f->body = h + WIRE_HEAD_BYTES + header;
	f->body_bytes = payload - header;
	if (((uintptr_t)f->body & 7) && f->body_bytes) {
		if (reserve(&d->body, &d->body_cap, f->body_bytes) < 0) {
			err_set(&d->failed, EXIT_INTERNAL, "no memory for a frame of %zu bytes",
				payload);
			return broken(d, e);
		}
		memcpy(d->body, f->body, f->body_bytes);
		f->body = d->body;
	}
	d->start += WIRE_HEAD_BYTES + payload;
	if (d->start == d->end)
		d->start = d->end = 0;
	return 1;
}

size_t wire_pending(const struct wire_decoder *d)
{
	return d->end - d->start;
}

void wire_decoder_free(struct wire_decoder *d)
{
	free(d->buf);
	free(d->body);
	memset(d, 0, sizeof(*d));
}

/* ---- building ----------------------------------------------------------------------------- */

static bool builder_room(struct wire_builder *b, size_t n)
{
	if (b->failed)
		return false;
	if (n > WIRE_PAYLOAD_MAX + (size_t)WIRE_HEAD_BYTES - b->n ||
	    reserve(&b->buf, &b->cap, b->n + n) < 0)
		b->failed = true;
	return !b->failed;
}

void wire_begin(struct wire_builder *b, enum wire_type type)
{
	b->n = 0;
	b->header_bytes = 0;
	b->in_body = b->failed = false;
	if (!builder_room(b, WIRE_HEAD_BYTES))
		return;
	memset(b->buf, 0, WIRE_HEAD_BYTES);
	b->buf[6] = (uint8_t)type;
	b->n = WIRE_HEAD_BYTES;
}

/* A value is one line of UTF-8: whatever is not becomes a space or '?'. */
static void make_value(uint8_t *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t c = utf8_length(s + i, n - i);

		if (c == 0)
			s[i] = '?';
		else if (s[i] == '\n' || s[i] == '\r' || s[i] == 0)
			s[i] = ' ';
		i += c ? c : 1;
	}
}

void wire_put(struct wire_builder *b, const char *key, const char *fmt, ...)
{
	size_t nk = strlen(key);
	va_list ap;
	int nv;

	assert(!b->in_body && nk > 0);
	for (size_t i = 0; i < nk; i++)
		assert(key_byte((uint8_t)key[i]));
	va_start(ap, fmt);
	nv = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (nv < 0 || b->header_bytes + nk + (size_t)nv + 2 > WIRE_HEADER_MAX)
		b->failed = true;
	if (!builder_room(b, nk + (size_t)nv + 3))
		return;
	memcpy(b->buf + b->n, key, nk);
	b->buf[b->n + nk] = '=';
	va_start(ap, fmt);
	vsnprintf((char *)b->buf + b->n + nk + 1, (size_t)nv + 1, fmt, ap);
	va_end(ap);
	make_value(b->buf + b->n + nk + 1, (size_t)nv);
	b->buf[b->n + nk + 1 + (size_t)nv] = '\n';
	b->n += nk + (size_t)nv + 2;
	b->header_bytes += nk + (size_t)nv + 2;
}

void wire_body(struct wire_builder *b, const void *bytes, size_t n)
{
	b->in_body = true;
	if (!builder_room(b, n) || n == 0)
		return;
	memcpy(b->buf + b->n, bytes, n);
	b->n += n;
}

int wire_finish(struct wire_builder *b, struct err *e)
{
	size_t payload = b->n - WIRE_HEAD_BYTES;

	if (b->failed)
		return err_set(e, EXIT_INTERNAL,
			       "a frame of type %s is over its limits (%d bytes, header %d)",
			       b->buf ? wire_type_name(b->buf[6]) : "unknown",
			       (int)WIRE_PAYLOAD_MAX, (int)WIRE_HEADER_MAX);
	for (int i = 0; i < 4; i++)
		b->buf[i] = (uint8_t)(payload >> (8 * i));
	b->buf[4] = (uint8_t)b->header_bytes;
	b->buf[5] = (uint8_t)(b->header_bytes >> 8);
	return 0;
}

void wire_builder_free(struct wire_builder *b)
{
	free(b->buf);
	memset(b, 0, sizeof(*b));
}

/* ---- header access ------------------------------------------------------------------------ */

bool wire_each(const struct wire_frame *f, size_t *at, const char **key, size_t *key_bytes,
	       const char **value, size_t *value_bytes)
{
	const char *line = f->header + *at, *equals, *end;

	if (*at >= f->header_bytes)
		return false;
	end = memchr(line, '\n', f->header_bytes - *at);
	equals = memchr(line, '=', (size_t)(end - line));
	*key = line;
	*key_bytes = (size_t)(equals - line);
	*value = equals + 1;
	*value_bytes = (size_t)(end - equals - 1);
	*at += (size_t)(end - line) + 1;
	return true;
}

bool wire_get(const struct wire_frame *f, const char *key, int nth, char *out, size_t size)
{
	const char *k, *v;
	size_t at = 0, nk, nv, want = strlen(key);

	while (wire_each(f, &at, &k, &nk, &v, &nv)) {
		if (nk != want || memcmp(k, key, want) != 0 || nth-- > 0)
			continue;
		if (nv >= size)
			nv = size - 1;
		memcpy(out, v, nv);
		out[nv] = 0;
		return true;
	}
	return false;
}

int64_t wire_get_int(const struct wire_frame *f, const char *key, int64_t absent)
{
	char text[32], *end;
	long long v;

	if (!wire_get(f, key, 0, text, sizeof(text)) || !*text)
		return absent;
	errno = 0;
	v = strtoll(text, &end, 10);
	return *end || errno ? absent : v;
}

bool wire_lists(const struct wire_frame *f, const char *key, const char *name)
{
	char list[1024];
	size_t n = strlen(name), len;

	if (!wire_get(f, key, 0, list, sizeof(list)))
		return false;
	for (const char *p = list; *p; p += len + (p[len] == ',')) {
		len = strcspn(p, ",");
		if (len == n && memcmp(p, name, n) == 0)
			return true;
	}
	return false;
}

double wire_get_real(const struct wire_frame *f, const char *key, double absent)
{
	char text[64], *end;
	double v;

	if (!wire_get(f, key, 0, text, sizeof(text)) || !*text)
		return absent;
	v = strtod(text, &end);
	return *end ? absent : v;
}
