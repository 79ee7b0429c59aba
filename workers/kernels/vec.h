/*
 * A vector of floats as wide as the file's instruction set, and the trees that sum lanes. The same
 * source (float_tiles.h) over it gives the AVX2 and the AVX-512 variants; a profile's 32 or 64
 * lanes are then 4 or 8, 2 or 4 vectors, and the sums are the same in the last bit.
 */
#ifndef ASSAY_VEC_H
#define ASSAY_VEC_H

#include <immintrin.h>
#include <stdint.h>

/* How the last four lanes are summed: (0+1)+(2+3) or (0+2)+(1+3). */
enum tree { TREE_PAIRS, TREE_HALVES };

/* ---- 256 bits ----------------------------------------------------------------------------- */

/* Two sums of four lanes in ab = [a|b] and cd = [c|d] -> a b c d. */
static inline __m128 sum_lanes256(__m256 ab, __m256 cd, enum tree tree)
{
	__m256 s;

	if (tree == TREE_PAIRS)
		s = _mm256_hadd_ps(ab, cd);
	else
		s = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
	s = _mm256_hadd_ps(s, s);
	return _mm_unpacklo_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

/* Eight lanes each of four sums: halves added, then the tree. */
static inline __m128 fold4_256(__m256 a, __m256 b, __m256 c, __m256 d, enum tree tree)
{
	__m256 ab = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20),
				  _mm256_permute2f128_ps(a, b, 0x31));
	__m256 cd = _mm256_add_ps(_mm256_permute2f128_ps(c, d, 0x20),
				  _mm256_permute2f128_ps(c, d, 0x31));

	return sum_lanes256(ab, cd, tree);
}

/* ---- the width of this file --------------------------------------------------------------- */

#if defined(__AVX512F__)

typedef __m512 vf;
enum { VL = 16 };

#define vf_zero() _mm512_setzero_ps()
#define vf_load(p) _mm512_loadu_ps(p)
#define vf_store(p, v) _mm512_storeu_ps(p, v)
#define vf_halves(p) _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p)))
#define vf_to_halves(p, v) _mm256_storeu_si256((void *)(p), _mm512_cvtps_ph(v, 0))
#define vf_round_half(v) _mm512_cvtph_ps(_mm512_cvtps_ph(v, 0))
#define vf_add(a, b) _mm512_add_ps(a, b)
#define vf_mul(a, b) _mm512_mul_ps(a, b)
#define vf_max(a, b) _mm512_max_ps(a, b)
#define vf_min(a, b) _mm512_min_ps(a, b)
#define vf_set1(x) _mm512_set1_ps(x)
#define vf_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vf_bf16(p) _mm512_castsi512_ps(_mm512_slli_epi32(                                          \
	_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(p))), 16))

static inline __m128 fold4(vf a, vf b, vf c, vf d, enum tree tree)
{
	__m512 ab =
		_mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
	__m512 cd =
		_mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
	__m512 s = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88),
				 _mm512_shuffle_f32x4(ab, cd, 0xdd));
	const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

	if (tree == TREE_PAIRS) {
		s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xb1));
		s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
	} else {
		s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
		s = _mm512_add_ps(s, _mm512_permute_ps(s, 0xb1));
	}
	return _mm512_castps512_ps128(_mm512_permutexvar_ps(first, s));
}

#else

typedef __m256 vf;
enum { VL = 8 };

#define vf_zero() _mm256_setzero_ps()
#define vf_load(p) _mm256_loadu_ps(p)
#define vf_store(p, v) _mm256_storeu_ps(p, v)
#define vf_halves(p) _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p)))
#define vf_to_halves(p, v) _mm_storeu_si128((void *)(p), _mm256_cvtps_ph(v, 0))
#define vf_round_half(v) _mm256_cvtph_ps(_mm256_cvtps_ph(v, 0))
#define vf_add(a, b) _mm256_add_ps(a, b)
#define vf_mul(a, b) _mm256_mul_ps(a, b)
#define vf_max(a, b) _mm256_max_ps(a, b)
#define vf_min(a, b) _mm256_min_ps(a, b)
#define vf_set1(x) _mm256_set1_ps(x)
#define vf_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vf_bf16(p) _mm256_castsi256_ps(_mm256_slli_epi32(                                          \
	_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(p))), 16))

static inline __m128 fold4(vf a, vf b, vf c, vf d, enum tree tree)
{
	return fold4_256(a, b, c, d, tree);
}

#endif

/* Loaded once and kept, where the compiler would load it again for each use. */
#define vf_keep(v) __asm__("" : "+v"(v))

/* nz vectors of one sum, `stride` vectors apart, to one: halving. */
static inline __attribute__((always_inline)) vf join(const vf *z, int nz, int stride)
{
	if (nz == 1)
		return z[0];
	if (nz == 2)
		return vf_add(z[0], z[stride]);
	if (nz == 4 || VL == 16)
		return vf_add(vf_add(z[0], z[2 * stride]), vf_add(z[stride], z[3 * stride]));
	return vf_add(
		vf_add(vf_add(z[0], z[4 * stride]), vf_add(z[2 * stride], z[6 * stride])),
		vf_add(vf_add(z[stride], z[5 * stride]), vf_add(z[3 * stride], z[7 * stride])));
}

/* How a profile sums the lanes of a product. */
struct order {
	int passes;			/* vectors of lanes per output */
	int step;			/* elements of one round over all lanes */
	enum tree tree;
};

#endif
