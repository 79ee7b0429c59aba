/*
 * One worker asked one thing after the other, for commands that need no pool: starts the worker,
 * runs the loop until the answer is there. Errors carry the worker's own exit code and sentence.
 */
#ifndef ASSAY_CLIENT_H
#define ASSAY_CLIENT_H

#include "err.h"
#include "wire.h"

#include <stdbool.h>

struct client;

struct client_options {
	const char *engine;	/* "native", "oracle", a reference's name, "exec:COMMAND" */
	int deadline_ms;	/* per request; 0 = 180 000 */
	bool silence;		/* anew from each frame of an answer: only silence is too long */
};

/* Starts the worker and reads its HELLO. */
int client_open(struct client **out, const struct client_options *o, struct err *e);

/* Called for every frame of an answer, the terminal one included. */
typedef int client_frame_fn(void *ctx, const struct wire_frame *f, struct err *e);

/* Sends a finished frame and delivers the answer's frames; FAIL becomes an error. */
int client_call(struct client *c, const struct wire_builder *request, client_frame_fn *fn,
		void *ctx, struct err *e);

/* deadline_ms for the requests from now on. */
void client_deadline(struct client *c, int deadline_ms);

/* Listens for up to ms, so that what comes unasked is found now and not at the next call. */
void client_settle(struct client *c, int ms);

/* What the worker said about itself: the value of a key of HELLO; false when absent. */
bool client_hello(const struct client *c, const char *key, char *out, size_t size);
bool client_says(const struct client *c, const char *feature); /* among the HELLO's features */

void client_close(struct client *c);	/* BYE, drain, TERM, KILL; accepts NULL */

#endif
