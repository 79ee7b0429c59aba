/*
 * What a sweep's summary claims: form, seal, and every row as its receipt has it.
 */
#ifndef ASSAY_GATE_SWEEP_H
#define ASSAY_GATE_SWEEP_H

#include "gate.h"

/*
 * rebuilt: the summary that the receipts beside it give (report/summary.h), or NULL where they are
 * not all at hand, then why_not says which and some whether any is: a summary that came alone is
 * unchecked, one beside some of its receipts is wrong. The same report as gate_run's.
 */
void gate_sweep_run(const json_t *summary, const struct gate_context *ctx, const json_t *rebuilt,
		    bool some, const char *why_not, struct gate_report *out);

#endif
