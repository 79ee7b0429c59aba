/*
 * Speeds compared at equal pace. A sample has beside it how long a fixed piece of work took (pace_ns);
 * on a busy machine both go up and down together, by how much is different for each program, and no
 * formula knows it. So only samples of about the same pace are compared with each other: what is left
 * is the program.
 */
#ifndef ASSAY_MATCHED_H
#define ASSAY_MATCHED_H

#include "stats.h"

#include <stdbool.h>

enum { MATCHED_LEAST = 100 };	/* samples of a side; fewer tell nothing this way */

struct matched_side {
	const double *x, *pace;		/* [n] samples and what was beside them */
	const int *sizes;		/* [n_sessions] samples of each process */
	int n, n_sessions;
};

struct matched {
	struct interval ratio;
	bool disturbed;		/* the interval is wider by what neighbours leave unknown */
};

/*
 * a over b. Where both sides have enough samples of the core to itself (within 12 % of the quickest pace that
 * either had), only these count; else all do. Samples are put into bins of equal pace (5 % wide); in each bin
 * that both have, the ratio of the medians; of these the mean, weighted by how many samples stand behind each.
 * The 95 % interval is from what differs between the sessions of a side (MAD of both, Student's t); where a
 * side has less than eight, the samples' own noise is added by bootstrap.
 *
 * With a neighbour equal pace is not equal: which part of the core the neighbour takes is not in it, and a
 * sample of a quiet side at that pace is one whose neighbour came or went meanwhile. Where such samples
 * count, the interval is wider by 15 % of the logarithm of the pace over the core's own, and disturbed is set.
 *
 * False where a side has too few samples, only one session each, or too few have a counterpart: nothing is
 * said then. side_by_side: session i of both ran interleaved, what they had in common does not widen the
 * interval, and neighbours are in both.
 */
bool matched_ratio(const struct matched_side *a, const struct matched_side *b, bool side_by_side,
		   struct matched *out);

#endif
