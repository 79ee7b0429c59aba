/* What the AVX-512 VNNI files share. */
#ifndef ASSAY_AVX512VNNI_H
#define ASSAY_AVX512VNNI_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/*
 * *acc += codes · q: unsigned by signed bytes, four to a lane; signed 16-bit numbers, two to a lane.
 * As assembly because gcc 12 moves accumulators of the intrinsics from register to register and
 * spills them.
 */
static inline __attribute__((always_inline)) void dot4(__m512i *acc, __m512i codes, __m512i q)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v"(*acc) : "v"(codes), "v"(q));
}

static inline __attribute__((always_inline)) void dot2(__m512i *acc, __m512i a, __m512i b)
{
	__asm__("vpdpwssd %2, %1, %0" : "+v"(*acc) : "v"(a), "v"(b));
}

/* Four bytes (or two 16-bit numbers) in every lane. */
static inline __m512i four_at(const void *p)
{
	int32_t v;

	memcpy(&v, p, sizeof(v));
	return _mm512_set1_epi32(v);
}

/* Sixteen rows of 64 bytes -> sixteen registers, register d = dword d of every row. */
static inline void transpose16(__m512i *v)
{
	__m512i t[16];

	for (int i = 0; i < 16; i += 4) {
		__m512i a = _mm512_unpacklo_epi32(v[i], v[i + 1]);
		__m512i b = _mm512_unpackhi_epi32(v[i], v[i + 1]);
		__m512i c = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]);
		__m512i d = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);

		t[i] = _mm512_unpacklo_epi64(a, c);
		t[i + 1] = _mm512_unpackhi_epi64(a, c);
		t[i + 2] = _mm512_unpacklo_epi64(b, d);
		t[i + 3] = _mm512_unpackhi_epi64(b, d);
	}
	for (int i = 0; i < 4; i++) {
		__m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88);
		__m512i b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
		__m512i c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88);
		__m512i d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);

		v[i] = _mm512_shuffle_i32x4(a, c, 0x88);
		v[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
		v[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
		v[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
	}
}

#endif
