/*
 * A trace on disk as `assay trace --out DIR --values` writes it: DIR/trace.jsonl, one object per
 * line in execution order (name, stage, layer, seq, shape, dtype, blake3, rms, num_elements), and
 * DIR/values.f32 with values_offset in each line. Anybody may write one; names other than the
 * canonical stages are refused.
 */
#ifndef ASSAY_TRACE_DIR_H
#define ASSAY_TRACE_DIR_H

#include "side.h"

enum { TRACE_DIR_LINE_MAX = 65536 };

/*
 * Delivers every record; values NULL where there is no values.f32 and the file's path is `path`
 * itself when it is no directory. No record at all, or a line that does not parse:
 * EXIT_USAGE with file and line.
 */
int trace_dir_read(const char *path, side_trace_fn *fn, void *ctx, struct err *e);

#endif
