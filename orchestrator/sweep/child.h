/*
 * One worker process under the loop: its start, its frames, its death.
 *
 * The child leads a process group of its own, has the wire (a stream socket) on descriptor 3 with
 * ASSAY_WIRE_FD=3, standard input closed, standard output and error captured: the last few KiB
 * are kept for error messages. It is finished only after its exit *and* end of file on all three
 * pipes; a grandchild that keeps them open is killed with the group, and a deadline bounds the
 * drain. Every handle is counted: on_end comes exactly once, after the last close callback, never
 * from inside child_start; only then may child_free be called.
 *
 * ASSAY_WIRE_LOG=FILE appends one line per frame, "PID > TYPE bytes" (sent) or "PID < TYPE bytes":
 * the evidence of what was and was not said.
 */
#ifndef ASSAY_CHILD_H
#define ASSAY_CHILD_H

#include "err.h"
#include "wire.h"

#include <stdbool.h>
#include <stdint.h>

struct uv_loop_s;
struct child;

enum {
	CHILD_ARGS_MAX = 16,
	CHILD_WIRE_FD = 3,
	CHILD_TAIL_BYTES = 8 << 10,	/* of what the child printed */
	CHILD_BYE_MS = 1000,		/* from BYE to TERM */
	CHILD_TERM_MS = 1500,		/* from TERM to KILL */
	CHILD_DRAIN_MS = 1000,		/* from exit to closing the pipes by force */
};

enum child_fate {
	CHILD_NOT_STARTED,	/* status = errno */
	CHILD_EXITED,		/* status = exit status */
	CHILD_SIGNALLED,	/* status = signal */
};

struct child_end {
	enum child_fate fate;
	int status;
	bool asked;		/* child_bye or child_kill came first */
	bool timed_out;		/* its deadline passed */
	int deadline_ms;	/* that one */
	bool hung_up;		/* it closed its end of the wire and went on living */
	struct err broken;	/* code 0, or why its frames could not be read any more */
	const char *tail;	/* what it printed last, NUL-terminated; borrowed from the child */
};

/* f is borrowed for the call. child_pause, child_send and child_kill may be called from inside. */
typedef void child_frame_fn(void *ctx, const struct wire_frame *f);
typedef void child_end_fn(void *ctx, const struct child_end *end);

struct child_options {
	char *argv[CHILD_ARGS_MAX + 1];	/* borrowed for the call; argv[0] is the file */
	child_frame_fn *on_frame;
	child_end_fn *on_end;
	void *ctx;
	bool is_shell;	/* what does the work is another process of the group */
};

/* Fails only where nothing was started; a file that cannot be run is told by on_end. */
int child_start(struct child **out, struct uv_loop_s *loop, const struct child_options *o,
		struct err *e);

/* Copies the finished frame and queues it. A dead child ignores it. */
void child_send(struct child *c, const struct wire_builder *b);

/* From now on; 0 = none. When it passes: timed_out, TERM, KILL. */
void child_deadline(struct child *c, int ms);

/* Stops and goes on reading the wire; what the child writes meanwhile waits in the socket. */
void child_pause(struct child *c);
void child_resume(struct child *c);
bool child_paused(const struct child *c);

void child_bye(struct child *c); /* BYE, then TERM, then KILL; no frame is delivered any more */
void child_kill(struct child *c);	/* TERM, then KILL */

int child_pid(const struct child *c);	/* 0 when it was not started */
/* Most that was ever resident, bytes: of the process, with is_shell the sum over the processes of
 * its group that live now. −1 unknown. */
int64_t child_peak_rss(const struct child *c);

/* One sentence about the end: "exited with status 3", "was killed by SIGSEGV", …, with the last
 * line it printed. */
void child_explain(const struct child_end *end, char *out, size_t size);

void child_free(struct child *c);	/* after on_end; accepts NULL */

#endif
