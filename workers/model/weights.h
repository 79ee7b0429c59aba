/*
 * Weights as numbers: what an engine reads out of a file, whatever the type they are stored in.
 */
#ifndef ASSAY_WEIGHTS_H
#define ASSAY_WEIGHTS_H

#include "engine.h"
#include "gguf.h"

/*
 * Calls fn for the tensor called name, or for all in file order (name NULL), with the SHA-256 of
 * its little-endian float32 values; with `values` those too, borrowed for the call. Shapes are
 * slowest first. Tensors of types that are not in the registry: EXIT_MODEL_LOAD, named. Ends
 * early with what fn returned when that is not 0.
 */
int weights_each(const struct gguf *g, const char *name, bool values, engine_weight_fn *fn,
		 void *ctx, struct err *e);

/* n values of row `row` (ne0 of them) to dst. The tensor's type must be in the registry,
 * a shape of TL1 and TL2 checked with tl_check. */
void weights_row(const struct gguf_tensor *t, int64_t row, float *dst);

#endif
