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
	struct err failed;		/* sticky: the other side is gone or broke the protocol */
};

/* The next frame: 1, 0 at end of file, negative on failure. f borrows until the next read. */
int channel_read(struct channel *c, struct wire_frame *f, struct err *e);

/* Sends c->out. A frame over its limits fails without harm to the channel. */
int channel_send(struct channel *c, struct err *e);

/* Terminal answer FAIL with e's code and sentence. */
int channel_fail(struct channel *c, const struct err *why, struct err *e);

void channel_free(struct channel *c);	/* the descriptor stays open; accepts zeroed */

#endif
