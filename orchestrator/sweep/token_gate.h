/*
 * The token gate: where two lists of ids differ, what stands there, and what it probably comes
 * from.
 */
#ifndef ASSAY_TOKEN_GATE_H
#define ASSAY_TOKEN_GATE_H

#include "exchange.h"

enum { TOKEN_GATE_BEFORE = 4, TOKEN_GATE_AFTER = 8 };	/* ids shown around the difference */

/* First index at which the lists differ (the shorter's end counts), −1 when they are equal. */
int token_gate_compare(const int32_t *a, int n_a, const int32_t *b, int n_b);

/* How many of a side's ids are shown, and from which on. */
int token_gate_window(const struct exchange *x, int side, int *from);

/* Keeps the texts of PIECES for the report: "id "text"" one per line. */
void token_gate_pieces(struct exchange *x, int side, const struct wire_frame *f);

/* Fills x->cause from the ids and what both sides said when they opened the model. */
void token_gate_cause(struct exchange *x, const char *opened_ours, const char *opened_ref);

#endif
