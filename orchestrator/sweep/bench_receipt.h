/* The receipt of a bench: kind "bench" of docs/schema/, sealed. */
#ifndef ASSAY_BENCH_RECEIPT_H
#define ASSAY_BENCH_RECEIPT_H

#include "bench.h"
#include "err.h"

#include <jansson.h>

/* version, build: of this program. started: facts_time before the run. Takes nothing; the caller
 * frees *out with json_decref. */
int bench_receipt(const struct bench_options *o, const struct bench_result *r, const char *version,
		  const char *build, const char *started, json_t **out, struct err *e);

#endif
