/*
 * Lanes of workers: each lane holds the one or two workers of a comparison and works on one job
 * at a time; N lanes work in parallel. A worker stays open between jobs that want the same engine
 * and is started anew after a death. Whatever a worker does (hang, die, flood, talk garbage)
 * costs the job in hand, never the run.
 *
 * The jobs are the caller's. The pool calls, always from the loop and never from inside pool_run's
 * start or a lane_ function:
 *	begin	all workers of the lane are alive and have said HELLO
 *	frame	one frame of an answer (NOTE is left out)
 *	trouble	a worker cannot go on; the sentence names it. At most once per side and job
 *	late	the job's time is over; lane_owes tells who is late
 * and goes on to the next job after lane_finish.
 */
#ifndef ASSAY_POOL_H
#define ASSAY_POOL_H

#include "child.h"
#include "err.h"
#include "wire.h"

#include <stdbool.h>
#include <stdint.h>

enum { POOL_SIDES = 2, POOL_LANES_MAX = 256, POOL_TICK_MS = 200, POOL_MARK_MAX = 128 };

struct lane;

struct pool_job {			/* filled by next */
	void *job;
	const char *engine[POOL_SIDES];	/* [1] NULL: one worker only; borrowed until begin */
	int timeout_ms;			/* from now to lane_finish */
};

struct pool_ops {
	bool (*next)(void *ctx, struct pool_job *out);	/* false: none left */
	void (*begin)(void *job, struct lane *l);
	void (*frame)(void *job, struct lane *l, int side, const struct wire_frame *f);
	void (*trouble)(void *job, struct lane *l, int side, const char *sentence);
	void (*late)(void *job, struct lane *l);
	void (*tick)(void *ctx);	/* every POOL_TICK_MS, for progress */
};

/*
 * Runs all jobs. SIGINT and SIGTERM stop it: workers are killed, jobs in hand are given up
 * (neither trouble nor late is called), -EXIT_INTERRUPTED when all children are gone.
 */
int pool_run(int n_lanes, const struct pool_ops *ops, void *ctx, struct err *e);

/* One request in flight per worker. */
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
void lane_set_mark(struct lane *l, int side, const char *mark);
int64_t lane_peak_rss(const struct lane *l, int side);

/* The job is over. Workers that still owe an answer are killed; those with close set leave too. */
void lane_finish(struct lane *l, bool close);

#endif
