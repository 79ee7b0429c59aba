/*
 * A team of threads that work through one job at a time, in chunks. Each thread has a run of
 * neighbouring chunks, so that what it reads lies together; whoever is free then takes what
 * others have not begun, so no thread waits for a slower one. Bits of results never depend on who
 * computes a chunk, because no chunk shares an output with another.
 *
 * The caller works too (thread 0). Idle threads spin for some microseconds, then sleep; a thread
 * that wakes too late is not waited for.
 */
#ifndef ASSAY_THREADS_H
#define ASSAY_THREADS_H

#include "err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Kernels pack up to 2.5 MiB on the stack; a system's default may be less. */
enum { TEAM_THREADS_MAX = 256, TEAM_STACK_BYTES = 8 << 20 };

struct team;

/* Items [begin, end) by thread `thread` (0 ≤ thread < team_size). */
typedef void team_fn(void *ctx, int64_t begin, int64_t end, int thread);

/* pin: thread i stays on the i-th CPU the process may run on. */
int team_new(struct team **out, int n_threads, bool pin, struct err *e);
void team_free(struct team *t);		/* accepts NULL; no job may be running */
int team_size(const struct team *t);

/* Runs fn over [0, n_items) in chunks of `chunk` items and returns when all are done.
 * A single chunk is run by the caller without waking anyone. */
void team_run(struct team *t, int64_t n_items, int64_t chunk, team_fn *fn, void *ctx);

/*
 * The same item by item, begun strictly in order by whoever is free: an item may wait for ones before
 * it. team_wait returns once *done, which those items add to (releasing), is at least n.
 */
void team_run_in_order(struct team *t, int64_t n_items, team_fn *fn, void *ctx);
void team_wait(const atomic_int_least64_t *done, int64_t n);

#endif
