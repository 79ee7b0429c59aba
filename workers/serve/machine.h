/* What the machine offers to an engine, found without any library. */
#ifndef ASSAY_MACHINE_H
#define ASSAY_MACHINE_H

#include <stddef.h>
#include <stdint.h>

/* "avx2,fma,f16c,…": instruction sets of this CPU that matter here. */
void machine_isa(char *out, size_t size);

/* Processors that this process may run on, at least 1. */
int machine_threads(void);

/*
 * Nanoseconds of work that is always the same and needs nothing but this core: independent additions,
 * as many at once as it can issue (about 25 µs). What takes longer and this too, had a slower clock or
 * a neighbour on its core.
 */
int64_t machine_pace_ns(void);

#endif
