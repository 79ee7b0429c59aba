/*
 * crossval_report.json, with the fields of the first system: own validation, then the reference's
 * header preflight and full load, then parity. CROSSVAL_ALLOW_CPP_FAIL=1 softens failures of the
 * reference alone; the report then says xfail, and ours are never hidden.
 */
#ifndef ASSAY_CROSSVAL_REPORT_H
#define ASSAY_CROSSVAL_REPORT_H

#include "err.h"

#include <stdbool.h>
#include <stdint.h>

struct crossval_report {
	const char *model;
	bool native_ok;			/* the file is valid and our side did its part */
	bool cpp_header_ok;		/* the reference read the header (OPEN vocab_only) */
	bool cpp_full_ok;		/* the reference loaded it whole */
	bool xfail;			/* a failure of the reference that was allowed */
	char notes[2048];		/* what failed, and whether it was allowed */
	uint32_t gguf_version;
	uint64_t n_kv, n_tensors, data_offset, file_size;
};

/* CROSSVAL_ALLOW_CPP_FAIL is set and neither empty nor 0. */
bool crossval_report_allowed(void);

/* Reads the header ourselves: EXIT_MODEL_LOAD with the sentence when it is not valid. */
int crossval_report_validate(struct crossval_report *r, const char *model, struct err *e);

/*
 * Header preflight and full load by the reference. A failure is in notes, and an error with the
 * reference's own code unless it is allowed: then r->xfail and 0.
 */
int crossval_report_preflight(struct crossval_report *r, const char *reference, struct err *e);

void crossval_report_note(struct crossval_report *r, const char *what, const char *why);
int crossval_report_write(const struct crossval_report *r, const char *path, struct err *e);

#endif
