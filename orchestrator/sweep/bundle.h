/*
 * A repro of one operation that is wrong by itself, in one JSON file of less than 1 MB: the row
 * with the worst value, what the operation read, what each side gave, the float64 result, and for
 * products the weights of the worst output channels. Arrays are base64 of little-endian float32.
 *
 * bundle_replay needs no model and no engine: products, activation, sums and norms without epsilon
 * are computed again in float64 from what is in the bundle, the rest is held against the float64
 * result that it carries.
 */
#ifndef ASSAY_BUNDLE_H
#define ASSAY_BUNDLE_H

#include "local.h"
#include "verdict/diagnosis.h"

#include <jansson.h>
#include <stdio.h>

enum { BUNDLE_BYTES_MAX = 1000000, BUNDLE_CHANNELS = 4 };

/* A new object, or NULL when it would be too large. oracle and native may be NULL. */
json_t *bundle_make(const struct diagnosis *d, const struct finding *f, const struct local_seen *s,
		    struct side *oracle, struct side *native);

/* EXIT_USAGE: not a bundle. Writes what it finds to out; returns EXIT_DIVERGED when the source is
 * wrong or the sides differ, EXIT_AGREE when they do not. */
int bundle_replay(const json_t *b, FILE *out, struct err *e);

#endif
