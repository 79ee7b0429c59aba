/*
 * What a TRACE frame says about its tensor, as a record that can be relied upon: an engine of one's
 * own may say anything.
 */
#ifndef ASSAY_TRACE_FRAME_H
#define ASSAY_TRACE_FRAME_H

#include "err.h"
#include "trace.h"
#include "wire.h"

#include <stddef.h>

#define TRACE_FRAME_VALUES_MAX ((int64_t)1 << 31) /* of one tensor: 8 GiB */

/* Reads the header of a tensor's first part. EXIT_WORKER with the sentence, which names the engine. */
int trace_frame_read(struct trace_record *r, const struct wire_frame *f, const char *engine,
		     struct err *e);

/*
 * What is wrong with a record: dimensions below 1 or with another product than num_elements, more
 * values than TRACE_FRAME_VALUES_MAX, a layer where its stage has none or none where it has one. NULL: nothing.
 */
const char *trace_record_fault(const struct trace_record *r);

#endif
