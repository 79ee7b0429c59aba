/* Runs one side of a receipt's scenario once more, for the digests; struct gate_rerun is the gates' own. */
#ifndef ASSAY_GATE_RERUN_H
#define ASSAY_GATE_RERUN_H

#include "err.h"
#include "verdict/gate.h"

#include <jansson.h>

/*
 * The ids come from tokens.json beside the receipt; engine, profile and instruction set from it. With
 * the formatted prompt (NULL: not at hand) the side's own tokenizer reads it again, and
 * out->tokens_sha256 is of what it says, as many ids as the receipt has.
 */
int gate_rerun(const json_t *receipt, const char *side, const char *receipt_path,
	       const char *model, const char *prompt, size_t prompt_bytes,
	       struct gate_rerun *out, struct err *e);

#endif
