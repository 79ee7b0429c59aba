/*
 * How one-token products walk the rows of a range: as RUNS sequences side by side, each of
 * neighbouring rows. The hardware runs ahead of every sequence, but only so far; with eight of them
 * a core has more lines on their way than with one, and reads a third more (docs/performance.md).
 * Which rows go together never changes the bits of a row.
 */
#ifndef ASSAY_RUNS_H
#define ASSAY_RUNS_H

#include "kernels.h"

#include <immintrin.h>

enum { RUNS = 8, RUN_AHEAD = 1024 };

struct runs {
	int64_t first, end;	/* of the range */
	int64_t each;		/* rows of a run; the last ones may have fewer */
};

static inline struct runs runs_of(int64_t r0, int64_t r1)
{
	return (struct runs){r0, r1, (r1 - r0 + RUNS - 1) / RUNS};
}

/* Row i of a run; past the end of the range: its last row again. */
static inline int64_t run_row(struct runs u, int run, int64_t i)
{
	int64_t r = u.first + run * u.each + i;

	return r < u.end ? r : u.end - 1;
}

/* Row i of every run. */
static inline void runs_rows(const struct weight *w, struct runs u, int64_t i, const uint8_t **rows)
{
	for (int run = 0; run < RUNS; run++)
		rows[run] = w->data + (size_t)run_row(u, run, i) * w->row_bytes;
}

/* The outputs of row i of every run. */
static inline void runs_store(struct runs u, int64_t i, const float *y, float *out)
{
	for (int run = 0; run < RUNS; run++)
		out[run_row(u, run, i)] = y[run];
}

/* The lines RUN_AHEAD bytes after the `bytes` at p, which are about to be read. */
static inline __attribute__((always_inline)) void run_fetch(const uint8_t *p, int bytes)
{
#pragma GCC unroll 4
	for (int i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)p + RUN_AHEAD + i, _MM_HINT_T0);
}

/* What run_fetch comes too late for: the beginning of every run. */
static inline void runs_begin(const struct weight *w, struct runs u)
{
	const uint8_t *rows[RUNS];

	if (u.each == 0)
		return;
	runs_rows(w, u, 0, rows);
	for (int i = 0; i < RUN_AHEAD; i += 64)
		for (int run = 0; run < RUNS; run++)
			_mm_prefetch((const char *)rows[run] + i, _MM_HINT_T0);
}

#endif
