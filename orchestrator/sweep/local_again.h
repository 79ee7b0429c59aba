/*
 * What is beyond its bound in a local check, computed again by native.
 *
 * Profiles: a reference whose own profile is not known may change it from call to call (a build for
 * this CPU sums one row in half precision and many in single); it must be equal to the bit there.
 * Ties: a product's quantised activations that lie on rounding ties may be on the other side
 * (verdict/ties.h); only those of the recorded inputs, found by native (workers/model/replay_ties.h).
 */
#ifndef ASSAY_LOCAL_AGAIN_H
#define ASSAY_LOCAL_AGAIN_H

#include "local.h"

/* Changes row's diff, profile and n_ties where either explains more of what the run has. */
void local_again(struct local_feed *f, const struct side_op *op, struct local_row *row,
		 const float *replayed, const float *got);

#endif
