/*
 * What this machine has and lacks for comparing: libraries with known weaknesses, compilers, CPU,
 * memory, disk, GPUs, references, models, cache, sandbox. Only looks; repairs nothing.
 */
#ifndef ASSAY_DOCTOR_H
#define ASSAY_DOCTOR_H

#include "err.h"

#include <stdbool.h>

enum doctor_mark {
	DOCTOR_OK,
	DOCTOR_NOTE,		/* worth knowing */
	DOCTOR_MISSING,		/* something cannot be done without it */
	DOCTOR_BAD,		/* there and wrong */
};

enum { DOCTOR_ROWS_MAX = 160 };

struct doctor_row {
	const char *section;	/* "references", … */
	char item[80];
	enum doctor_mark mark;
	char detail[1200];
};

struct doctor {
	struct doctor_row rows[DOCTOR_ROWS_MAX];
	int n;
};

struct doctor_library {
	const char *name;	/* "libgit2" */
	char version[40];
};

/* libraries: what this program is linked with, n of them. fast: no compiler is tried. */
void doctor_collect(struct doctor *d, const struct doctor_library *libraries, int n, bool fast);

/* The exit code of `doctor --backend NAME`: 0, or EXIT_NO_REFERENCE with the sentence in e. */
int doctor_backend(const char *name, struct err *e);

const char *doctor_mark_name(enum doctor_mark m);

#endif
