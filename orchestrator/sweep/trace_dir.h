/*
 * A trace on disk as `assay trace --out DIR --values` writes it: DIR/trace.jsonl, one object per
 * line in execution order (name, stage, layer, seq, shape, dtype, blake3, rms, num_elements), and
 * DIR/values.f32 with values_offset in each line. Anybody may write one; names other than the
 * canonical stages are refused.
 */
#ifndef ASSAY_TRACE_DIR_H
#define ASSAY_TRACE_DIR_H

#include "side.h"

struct trace_dir_record {
	struct trace_record r;
	const float *values;		/* [num_elements], borrowed from the directory; or NULL */
};

struct trace_dir {
	char path[4096];		/* of the lines */
	struct trace_dir_record *records;	/* [n], execution order */
	int n, cap;
	const float *values;		/* mapped, or NULL */
	size_t bytes;
};

/*
 * Reads all records; path may be the file of lines itself, which has no values then. No record at
 * all, or a line that does not parse: EXIT_USAGE with file and line.
 */
int trace_dir_open(struct trace_dir *d, const char *path, struct err *e);
void trace_dir_close(struct trace_dir *d);	/* accepts zeroed */

/* Delivers every record in order. */
int trace_dir_read(const char *path, side_trace_fn *fn, void *ctx, struct err *e);

#endif
