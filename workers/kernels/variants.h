/*
 * What each instruction set adds to the table. Every function overwrites the entries it has a
 * faster variant of and leaves the others; kernels_init calls them from plain to special.
 */
#ifndef ASSAY_VARIANTS_H
#define ASSAY_VARIANTS_H

#include "kernels.h"

void kernels_fill_base_c(struct kernels *k);
#if defined(__x86_64__)
void kernels_fill_base_avx2(struct kernels *k);		/* needs AVX2, FMA, F16C, BMI2 */
void kernels_fill_base_avx512(struct kernels *k);	/* and AVX-512 F, BW, DQ, VL */
#endif

#endif
