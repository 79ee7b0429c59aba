/*
 * Frames over one descriptor, blocking: the worker's side of wire.h.
 */
#ifndef ASSAY_CHANNEL_H
#define ASSAY_CHANNEL_H

#include "wire.h"

struct channel {
	int fd;				/* borrowed */
	struct wire_decoder in;
	struct wire_builder out;	/* build here, then channel_send */
	uint8_t *held;			/* [n_held] frames that wait for the next channel_send */
	size_t n_held, held_cap;
	struct err failed;		/* sticky: the other side is gone or broke the protocol */
};

/* The next frame: 1, 0 at end of file, negative on failure. f borrows until the next read. */
int channel_read(struct channel *c, struct wire_frame *f, struct err *e);

/* Sends c->out, after what was held. A frame over its limits fails without harm to the channel. */
int channel_send(struct channel *c, struct err *e);

/*
 * Keeps c->out back until the next channel_send, or sends when CHANNEL_HELD_MAX bytes wait. Nobody
 * is woken by it: a reader on the same processor would run at once, within what is being measured.
 */
enum { CHANNEL_HELD_MAX = 1 << 20 };
int channel_hold(struct channel *c, struct err *e);

/* Terminal answer FAIL with e's code and sentence. */
int channel_fail(struct channel *c, const struct err *why, struct err *e);

void channel_free(struct channel *c);	/* the descriptor stays open; accepts zeroed */

#endif
