#include "channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int lost(struct channel *c, struct err *e)
{
	if (e)
		*e = c->failed;
	return -c->failed.code;
}

int channel_read(struct channel *c, struct wire_frame *f, struct err *e)
{
	uint8_t buf[65536];

	for (;;) {
		int rc = c->failed.code ? -c->failed.code : wire_next(&c->in, f, &c->failed);
		ssize_t n;

		if (rc < 0)
			return lost(c, e);
		if (rc > 0)
			return 1;
		do {
			n = read(c->fd, buf, sizeof(buf));
		} while (n < 0 && errno == EINTR);
		if (n == 0 && wire_pending(&c->in) == 0)
			return 0;
		if (n == 0)
			err_set(&c->failed, EXIT_WORKER, "a frame was cut off after %zu bytes",
				wire_pending(&c->in));
		else if (n < 0)
			err_set(&c->failed, EXIT_WORKER, "reading frames: %s", strerror(errno));
		else
			wire_feed(&c->in, buf, (size_t)n, &c->failed);
	}
}

static int write_all(struct channel *c, const uint8_t *bytes, size_t n_bytes, struct err *e)
{
	size_t at = 0;

	while (at < n_bytes) {
		ssize_t n = write(c->fd, bytes + at, n_bytes - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			err_set(&c->failed, EXIT_WORKER, "writing frames: %s", strerror(errno));
			return lost(c, e);
		}
		at += (size_t)n;
	}
	return 0;
}

int channel_send(struct channel *c, struct err *e)
{
	int rc;

	if (c->failed.code)
		return lost(c, e);
	rc = wire_finish(&c->out, e);
	if (rc == 0 && c->n_held)
		rc = write_all(c, c->held, c->n_held, e);
	if (rc < 0)
		return rc;
	c->n_held = 0;
	return write_all(c, c->out.buf, c->out.n, e);
}

int channel_hold(struct channel *c, struct err *e)
{
	int rc = wire_finish(&c->out, e);
	uint8_t *bigger;
	size_t cap;

	if (rc < 0)
		return rc;
	if (c->n_held + c->out.n > CHANNEL_HELD_MAX)
		return channel_send(c, e);
	if (c->n_held + c->out.n > c->held_cap) {
		cap = 2 * (c->n_held + c->out.n);
		bigger = realloc(c->held, cap);
		if (!bigger)
			return channel_send(c, e);
		c->held = bigger;
		c->held_cap = cap;
	}
	memcpy(c->held + c->n_held, c->out.buf, c->out.n);
	c->n_held += c->out.n;
	return 0;
}

int channel_fail(struct channel *c, const struct err *why, struct err *e)
{
	wire_begin(&c->out, WIRE_FAIL);
	wire_put(&c->out, "code", "%d", why->code ? why->code : EXIT_INTERNAL);
	wire_body(&c->out, why->msg, strlen(why->msg));
	return channel_send(c, e);
}

void channel_free(struct channel *c)
{
	wire_decoder_free(&c->in);
	wire_builder_free(&c->out);
	free(c->held);
	memset(c, 0, sizeof(*c));
}
