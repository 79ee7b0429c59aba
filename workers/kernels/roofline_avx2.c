#include "roofline.h"
#include "runs.h"

uint64_t roofline_read_avx2(const uint8_t *p, size_t n)
{
	__m256i sum[RUNS];
	size_t each = n / RUNS / 64 * 64;
	uint64_t lanes[4];

	for (int run = 0; run < RUNS; run++)
		sum[run] = _mm256_setzero_si256();
	for (size_t i = 0; i < each; i += 64)
#pragma GCC unroll 8
		for (int run = 0; run < RUNS; run++) {
			const uint8_t *at = p + (size_t)run * each + i;

			run_fetch(at, 64);
			sum[run] = _mm256_add_epi64(sum[run], _mm256_loadu_si256((const void *)at));
			sum[run] = _mm256_add_epi64(sum[run],
						    _mm256_loadu_si256((const void *)(at + 32)));
		}
	for (size_t i = RUNS * each; i + 32 <= n; i += 32)
		sum[0] = _mm256_add_epi64(sum[0], _mm256_loadu_si256((const void *)(p + i)));
	for (int run = 1; run < RUNS; run++)
		sum[0] = _mm256_add_epi64(sum[0], sum[run]);
	_mm256_storeu_si256((__m256i *)lanes, sum[0]);
	return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

/* vpmaddubsw, vpmaddwd, vpaddd: what an AVX2 integer dot product costs; 8 chains. */
int32_t roofline_int8_avx2(int64_t rounds, int64_t *macs)
{
	__m256i a[8], x = _mm256_set1_epi8(1), y = _mm256_set1_epi8(2), one = _mm256_set1_epi16(1);
	int32_t lanes[8];

	for (int k = 0; k < 8; k++)
		a[k] = _mm256_setzero_si256();
	for (int64_t i = 0; i < rounds; i++) {
		__asm__ volatile("" : "+x"(x), "+x"(y));
		for (int k = 0; k < 8; k++)
			a[k] = _mm256_add_epi32(a[k], _mm256_madd_epi16(
				_mm256_maddubs_epi16(x, _mm256_xor_si256(y, a[k])), one));
	}
	for (int k = 1; k < 8; k++)
		a[0] = _mm256_add_epi32(a[0], a[k]);
	_mm256_storeu_si256((__m256i *)lanes, a[0]);
	*macs = rounds * 8 * 32;
	return lanes[0];
}
