/* The command line that explains what a comparison has just shown. */
#ifndef ASSAY_EXPLAIN_COMMAND_H
#define ASSAY_EXPLAIN_COMMAND_H

#include "exchange.h"

/*
 * "assay explain …" with the same engines, model, options and ids, quoted for a shell; NULL where
 * nothing diverged. Caller frees.
 */
char *explain_command(const struct exchange *x);

#endif
