/*
 * Crews of workers: each crew holds the workers of one group of comparisons and works on one group
 * at a time; N crews work in parallel. A worker stays open between groups that want the same engine
 * at the same seat and is started anew after a death. Whatever a worker does (hang, die, flood, talk
 * garbage) costs the comparisons it takes part in, never the run.
 *
 * A comparison sees one or two of the workers through a lane of its own, as if they were its alone.
 * What several lanes ask of one worker in the same words is asked once, and the answer goes to all
 * of them: an engine compared with several is evaluated once. Requests go out in waves: all that are
 * waiting and do not contradict one another, each lane's as a whole; a lane that asks a worker
 * something else waits for the next wave. A worker is paused while any of its lanes wants that.
 *
 * The jobs are the caller's. The pool calls, always from the loop and never from inside pool_run's
 * start or a lane_ function:
 *	begin	all workers of the group are alive and have said HELLO
 *	frame	one frame of an answer (NOTE is left out)
 *	trouble	a worker cannot go on; the sentence names it. At most once per lane and side
 *	late	the group's time is over and a worker of this lane is late (lane_owes and not
 *		lane_paused); lanes without such a one get the time anew
 * and goes on to the next group after lane_finish of all lanes.
 */
#ifndef ASSAY_POOL_H
#define ASSAY_POOL_H

#include "child.h"
#include "err.h"
#include "wire.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	POOL_SIDES = 2,
	POOL_LANES_MAX = 256,		/* crews */
	POOL_TICK_MS = 200,
	POOL_MARK_MAX = 128,
	POOL_SEATS_MAX = 9,		/* workers of a crew */
	POOL_PAIRS_MAX = POOL_SEATS_MAX * (POOL_SEATS_MAX - 1) / 2,
};

struct lane;

struct pool_group {			/* filled by next */
	const char *engine[POOL_SEATS_MAX];	/* borrowed until begin; NULL: nobody sits there */
	struct {
		void *job;
		int seat[POOL_SIDES];	/* [1] −1: one worker only */
	} pair[POOL_PAIRS_MAX];
	int n_pairs;
	int timeout_ms;			/* from now to the last lane_finish */
};

struct pool_ops {
	bool (*next)(void *ctx, struct pool_group *out);	/* false: none left */
	void (*begin)(void *job, struct lane *l);
	void (*frame)(void *job, struct lane *l, int side, const struct wire_frame *f);
	void (*trouble)(void *job, struct lane *l, int side, const char *sentence);
	void (*late)(void *job, struct lane *l);
	void (*tick)(void *ctx);	/* every POOL_TICK_MS, for progress */
};

/*
 * Runs all groups. SIGINT and SIGTERM stop it: workers are killed, jobs in hand are given up
 * (neither trouble nor late is called), -EXIT_INTERRUPTED when all children are gone.
 */
int pool_run(int n_crews, const struct pool_ops *ops, void *ctx, struct err *e);

/* Copies the finished frame; it goes out with the next wave. One request in flight per side. */
void lane_send(struct lane *l, int side, const struct wire_builder *b);
bool lane_owes(const struct lane *l, int side);	/* a request without its terminal answer */
void lane_pause(struct lane *l, int side);
void lane_resume(struct lane *l, int side);	/* frames may come from inside */
bool lane_paused(const struct lane *l, int side);

/* Header lines of HELLO, and of OPENED once the worker has answered an OPEN; else NULL. They
 * stay valid until the job is finished. */
const char *lane_hello(const struct lane *l, int side);
const char *lane_opened(const struct lane *l, int side);
/* A word of the job's about how it opened the worker; "" for a worker just started. */
const char *lane_mark(const struct lane *l, int side);
void lane_set_mark(struct lane *l, int side, const char *mark);	/* and forgets OPENED */
int64_t lane_peak_rss(const struct lane *l, int side);

/* The lane's job is over. After the group's last one, workers that still owe an answer are killed. */
void lane_finish(struct lane *l);

#endif
