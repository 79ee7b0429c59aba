#include "kernels.h"

#include <string.h>

static float from_bits(uint32_t u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

static uint32_t to_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, sizeof(u));
	return u;
}

float f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t exponent = (h >> 10) & 31, fraction = h & 0x3ff;

	if (exponent == 31)	/* a signalling NaN becomes quiet, as vcvtph2ps makes it */
		return from_bits(sign | 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0));
	if (exponent == 0) {	/* a multiple of 2^-24, exact in float32 */
		float f = (float)fraction * 0x1p-24f;

		return from_bits(to_bits(f) | sign);
	}
	return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t f32_to_f16(float x)
{
	uint32_t u = to_bits(x), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;

	if (a > 0x7f800000)
		return (uint16_t)(sign | 0x7e00 | ((a >> 13) & 0x3ff));
	if (a >= 0x477ff000)	/* 65520 and more round to infinity */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000) {	/* subnormal: adding 0.5 leaves the rounded multiple of 2^-24 */
		float f = from_bits(a) + 0.5f;

		return (uint16_t)(sign | (to_bits(f) - 0x3f000000));
	}
	a += 0xfff + ((a >> 13) & 1);
	return (uint16_t)(sign | ((a - 0x38000000) >> 13));
}
