/*
 * The layer × stage picture as HTML: a line per layer (−1 first), a column per stage, in each cell the
 * mark of the worst operation there and, as its tooltip, what was measured. The marks are those of
 * verdict/trace_diff.h: a colour says the same, but never alone.
 */
#ifndef ASSAY_PICTURE_H
#define ASSAY_PICTURE_H

#include "receipt.h"
#include "verdict/trace_diff.h"

/* A page of two traces; a and b: what they are called. Caller frees, as below. */
char *picture_of_traces(const struct trace_diff *d, const char *a, const char *b);

/*
 * A page of one comparison whose operations were judged one by one: '=' the same bits, '.' inside the
 * operation's bound, '#' beyond it; the table of kinds below. NULL where they were not.
 */
char *picture_of_receipt(const struct receipt *r);

#endif
