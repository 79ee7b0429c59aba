#include "roofline.h"
#include "runs.h"

/* Modulo 2^64: the sum is only there so that nothing is optimised away. */
static uint64_t lanes_sum(__m512i x)
{
	uint64_t lanes[8], sum = 0;

	_mm512_storeu_si512(lanes, x);
	for (int i = 0; i < 8; i++)
		sum += lanes[i];
	return sum;
}

uint64_t roofline_read_avx512vnni(const uint8_t *p, size_t n)
{
	__m512i sum[RUNS];
	size_t each = n / RUNS / 64 * 64;

	for (int run = 0; run < RUNS; run++)
		sum[run] = _mm512_setzero_si512();
	for (size_t i = 0; i < each; i += 64)
#pragma GCC unroll 8
		for (int run = 0; run < RUNS; run++) {
			const uint8_t *at = p + (size_t)run * each + i;

			run_fetch(at, 64);
			sum[run] = _mm512_add_epi64(sum[run], _mm512_loadu_si512(at));
		}
	for (size_t i = RUNS * each; i + 64 <= n; i += 64)
		sum[0] = _mm512_add_epi64(sum[0], _mm512_loadu_si512(p + i));
	for (int run = 1; run < RUNS; run++)
		sum[0] = _mm512_add_epi64(sum[0], sum[run]);
	return lanes_sum(sum[0]);
}

/* vpdpbusd on 16 independent chains: throughput, not latency. */
int32_t roofline_int8_avx512vnni(int64_t rounds, int64_t *macs)
{
	__m512i a[16], x = _mm512_set1_epi8(1), y = _mm512_set1_epi8(2);

	for (int k = 0; k < 16; k++)
		a[k] = _mm512_setzero_si512();
	for (int64_t i = 0; i < rounds; i++) {
		__asm__ volatile("" : "+v"(x), "+v"(y));
		for (int k = 0; k < 16; k++)
			a[k] = _mm512_dpbusd_epi32(a[k], x, y);
	}
	for (int k = 1; k < 16; k++)
		a[0] = _mm512_add_epi32(a[0], a[k]);
	*macs = rounds * 16 * 64;
	return (int32_t)(uint32_t)lanes_sum(a[0]);
}
