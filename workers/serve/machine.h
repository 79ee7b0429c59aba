/* What the machine offers to an engine, found without any library. */
#ifndef ASSAY_MACHINE_H
#define ASSAY_MACHINE_H

#include <stddef.h>

/* "avx2,fma,f16c,…": instruction sets of this CPU that matter here. */
void machine_isa(char *out, size_t size);

/* Processors that this process may run on, at least 1. */
int machine_threads(void);

#endif
