/*
 * From "differs" to the operation at fault and whose fault it is (verdict/diagnosis.h): hashes of
 * weights, both local passes, the oracle's opinion and the table of hypotheses for every operation
 * that is wrong by itself, and splice bisection over the layers.
 */
#ifndef ASSAY_EXPLAIN_H
#define ASSAY_EXPLAIN_H

#include "local.h"
#include "verdict/diagnosis.h"

#include <jansson.h>

struct explain_job {
	struct local_job local;		/* on_seen is explain's own */
	bool no_splice;
	bool no_oracle;
	/* what the lockfile calls the setup's model and model_ref; "" or NULL: nothing */
	const char *file_known[2];
	json_t **bundle; /* when not NULL: gets a repro of the first finding, caller frees */
};

/* Fills d. Negative only when an engine failed. diagnosis_free afterwards. */
int explain_run(struct diagnosis *d, const struct explain_job *j, struct err *e);
void explain_free(struct diagnosis *d);

#endif
