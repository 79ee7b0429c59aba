#include "roofline.h"

#include <immintrin.h>

enum { AHEAD = 5120 };

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
	__m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;

	for (size_t i = 0; i < n; i += 256) {
		for (int k = 0; k < 256; k += 64)
			_mm_prefetch((const char *)p + i + AHEAD + k, _MM_HINT_T0);
		s0 = _mm512_add_epi64(s0, _mm512_loadu_si512(p + i));
		s1 = _mm512_add_epi64(s1, _mm512_loadu_si512(p + i + 64));
		s2 = _mm512_add_epi64(s2, _mm512_loadu_si512(p + i + 128));
		s3 = _mm512_add_epi64(s3, _mm512_loadu_si512(p + i + 192));
	}
	s0 = _mm512_add_epi64(_mm512_add_epi64(s0, s1), _mm512_add_epi64(s2, s3));
	return lanes_sum(s0);
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
