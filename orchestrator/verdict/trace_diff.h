/*
 * Two traces of the same run, record by record in execution order: what differs, by how much, and
 * where it begins. Pure. A record meets the other's of the same stage, layer, seq and occurrence.
 */
#ifndef ASSAY_TRACE_DIFF_H
#define ASSAY_TRACE_DIFF_H

#include "tensor_diff.h"
#include "trace.h"

#include <stdbool.h>

enum trace_diff_state {
	TRACE_EQUAL,		/* the same bits */
	TRACE_WITHIN,		/* rel_rms ≤ tolerance */
	TRACE_BEYOND,
	TRACE_SHAPES,		/* other shapes: nothing to compare */
	TRACE_ONLY_A,
	TRACE_ONLY_B,
};

struct trace_diff_tensor {
	const struct trace_record *r;
	const float *values;	/* or NULL: hashes and RMS are all there is */
};

struct trace_diff_row {
	enum trace_stage stage;
	int layer, seq;
	enum trace_diff_state state;
	bool measured;		/* diff is from values; else rel_rms = |rms a − rms b| / rms b */
	double rms_a, rms_b;
	struct tensor_diff diff;
};

struct trace_diff {
	struct trace_diff_row *rows;	/* [n], owned */
	int n, n_equal, n_within, n_beyond, n_unmatched;
	int first_different, first_beyond;	/* rows; −1 */
	double tolerance;
};

/* Order is a's; what only b has comes last. */
void trace_diff_run(struct trace_diff *d, const struct trace_diff_tensor *a, int n_a,
		    const struct trace_diff_tensor *b, int n_b, double tolerance);
void trace_diff_free(struct trace_diff *d);

const char *trace_diff_state_name(enum trace_diff_state s);

char trace_diff_mark(const struct trace_diff_row *r);	/* of the picture below */

/*
 * The layer × stage picture as text: a line per layer (−1 first), a column per stage that any layer
 * has; '=' equal, '.' within tolerance, a digit n: rel_rms is at most 10⁻ⁿ, '#' above 0.1,
 * '?' on one side only. The worst of all steps. Caller frees.
 */
char *trace_diff_picture(const struct trace_diff *d);

#endif
