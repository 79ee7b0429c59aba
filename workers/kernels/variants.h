/*
 * What each instruction set adds to the table. kernels_init takes the plain table of the widest
 * compilation that the CPU runs and then lets the special variants overwrite entries, from plain
 * to special. matmul_TYPE variants answer false where they have no faster way; the plain loop then
 * does it. Every variant gives the plain one's bits.
 */
#ifndef ASSAY_VARIANTS_H
#define ASSAY_VARIANTS_H

#include "kernels.h"

/* What attention lays out in the caller's scratch; attend_scratch_bytes covers every variant. */
enum {
	ATTEND_GROUP = 32,	/* queries */
	ATTEND_WIDE_ROWS = 4,	/* of values widened at once */
};
int64_t attend_cells(const struct attend *a);	/* floats of one row of scores, with room to pad */
int attend_group(const struct attend *a); /* queries that share one widening of keys and values */

void kernels_fill_base_c(struct kernels *k);
#if defined(__x86_64__)
void kernels_fill_base_avx2(struct kernels *k);		/* needs AVX2, FMA, F16C, BMI2 */
void kernels_fill_base_avx512(struct kernels *k);	/* and AVX-512 F, BW, DQ, VL */

void kernels_fill_float_avx2(struct kernels *k);	/* F16, BF16, F32 products; attention */
void kernels_fill_float_avx512(struct kernels *k);

matmul_variant quant_matmul_avx2;	/* every block type of 32 and 256 */
matmul_variant quant_matmul_avx512vnni;
/* One token of them; false: the row is too long, or quant_matmul_avx2 is as fast. */
bool quant_gemv_avx512vnni(const struct kernels *k, const struct weight *w, int64_t r0, int64_t r1,
			   const uint8_t *act, float *out);
matmul_variant i2s_matmul_avx2, i2s_matmul_avxvnni, i2s_matmul_avx512vnni, i2s_matmul_avx512amx;
#endif
#if defined(__aarch64__)
matmul_variant i2s_matmul_neon;		/* needs the dot-product instructions */
#endif

#endif
