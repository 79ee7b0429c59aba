/*
 * Tries the table of hypotheses on an operation that is wrong: each is computed by native on the
 * operation's own inputs and compared with what is there.
 */
#ifndef ASSAY_GUESS_H
#define ASSAY_GUESS_H

#include "local.h"
#include "verdict/diagnosis.h"

/* Fills what f says of hypotheses with the one that comes nearest. */
void guess(struct side *native, struct finding *f, const struct local_seen *s);

/* The same variant on a later operation; false when native cannot compute it. */
bool guess_again(struct side *native, const char *variant, const struct local_seen *s,
		 struct tensor_diff *d);

#endif
