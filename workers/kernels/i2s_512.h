/* What the AVX-512 files of I2_S share: rows of the file as panels of codes. */
#ifndef ASSAY_I2S_512_H
#define ASSAY_I2S_512_H

#include "avx512vnni.h"
#include "weight_type.h"

enum {
	BLOCK = 128,	/* codes of one block */
	CHUNK = 256,	/* codes of one 512-bit load */
	LANES = 16,	/* rows in one register */
};

/*
 * Columns [c0, c0 + n) of sixteen rows (fewer: `rows`, the others become zero) to
 * panel[(column / 4) · stride], four codes a lane.
 */
static inline __attribute__((always_inline)) void
unpack_group(const uint8_t *w, size_t row_bytes, int64_t rows, int64_t c0, int64_t n,
	     __m512i *panel, int stride)
{
	const __m512i three = _mm512_set1_epi8(3);

	for (int64_t c = 0; c < n; c += CHUNK) {
		int blocks = n - c >= CHUNK ? 2 : 1;
		__mmask16 all = blocks == 2 ? 0xffff : 0xff;
		__m512i v[16];

		for (int r = 0; r < LANES; r++)
			v[r] = r < rows ? _mm512_maskz_loadu_epi32(all, w + (size_t)r * row_bytes +
								   (size_t)(c0 + c) / 4)
					: _mm512_setzero_si512();
		transpose16(v);
		for (int d = 0; d < 8 * blocks; d++)
			for (int j = 0; j < 4; j++) {
				int64_t k4 = (c + d / 8 * BLOCK + 32 * j) / 4 + d % 8;
				__m512i codes =
					_mm512_srl_epi16(v[d], _mm_cvtsi32_si128(6 - 2 * j));

				_mm512_store_si512(&panel[k4 * stride],
						   _mm512_and_si512(codes, three));
			}
	}
}

/* Sixteen sums of codes · activations of one token -> outputs. */
static inline __m512 i2s_finish16(__m512i sums, const struct act_i8_head *h, float scale)
{
	__m512 y = _mm512_sub_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps((float)h->sum));

	return _mm512_mul_ps(_mm512_div_ps(y, _mm512_set1_ps(h->scale)), _mm512_set1_ps(scale));
}

#endif
