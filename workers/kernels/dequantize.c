#include "dequantize.h"

#include "kernels.h"

#include <string.h>

enum { BLOCK = 32, SUPER = 256 };

static float half_at(const uint8_t *p)
{
	return f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

void dequantize_f32(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	memcpy(y, b, (size_t)n * sizeof(*y));
}

void dequantize_f16(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (int64_t i = 0; i < n; i++)
		y[i] = half_at(b + 2 * i);
}

void dequantize_bf16(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (int64_t i = 0; i < n; i++) {
		uint32_t u = (uint32_t)b[2 * i] << 16 | (uint32_t)b[2 * i + 1] << 24;

		memcpy(&y[i], &u, sizeof(u));
	}
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

void dequantize_q8_0(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (; n > 0; n -= BLOCK, b += 34, y += BLOCK) {
		float d = half_at(b);

		for (int i = 0; i < BLOCK; i++)
			y[i] = (float)(int8_t)b[2 + i] * d;
	}
}

void dequantize_q4_0(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (; n > 0; n -= BLOCK, b += 18, y += BLOCK) {
		float d = half_at(b);

		for (int i = 0; i < 16; i++) {
			y[i] = (float)((b[2 + i] & 15) - 8) * d;
			y[i + 16] = (float)((b[2 + i] >> 4) - 8) * d;
		}
	}
}

void dequantize_q4_1(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (; n > 0; n -= BLOCK, b += 20, y += BLOCK) {
		float d = half_at(b), m = half_at(b + 2);

		for (int i = 0; i < 16; i++) {
			y[i] = (float)(b[4 + i] & 15) * d + m;
			y[i + 16] = (float)(b[4 + i] >> 4) * d + m;
		}
	}
}

/* Bit i of the four bytes at p as bit 4 of a code. */
static int fifth_bit(const uint8_t *p, int i)
{
	return ((p[i / 8] >> (i % 8)) & 1) << 4;
}

void dequantize_q5_0(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (; n > 0; n -= BLOCK, b += 22, y += BLOCK) {
		float d = half_at(b);

		for (int i = 0; i < 16; i++) {
			int lo = (b[6 + i] & 15) | fifth_bit(b + 2, i);
			int hi = (b[6 + i] >> 4) | fifth_bit(b + 2, i + 16);

			y[i] = (float)(lo - 16) * d;
			y[i + 16] = (float)(hi - 16) * d;
		}
	}
}

void dequantize_q5_1(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (; n > 0; n -= BLOCK, b += 24, y += BLOCK) {
		float d = half_at(b), m = half_at(b + 2);

		for (int i = 0; i < 16; i++) {
			int lo = (b[8 + i] & 15) | fifth_bit(b + 4, i);
			int hi = (b[8 + i] >> 4) | fifth_bit(b + 4, i + 16);

			y[i] = (float)lo * d + m;
			y[i + 16] = (float)hi * d + m;
		}
	}
}

/* ---- super-blocks of 256 ------------------------------------------------------------------ */

void dequantize_q2_k(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (; n > 0; n -= SUPER, b += 84, y += SUPER) {
		float d = half_at(b + 80), dmin = half_at(b + 82);

		for (int i = 0; i < SUPER; i++) {
			int scale = b[i / 16], part = i / 128, shift = i % 128 / 32 * 2;
			int q = (b[16 + part * 32 + i % 32] >> shift) & 3;
			float dl = d * (float)(scale & 15), ml = dmin * (float)(scale >> 4);

			y[i] = dl * (float)q - ml;
		}
	}
}

void unpack_scales_q3_k(const uint8_t *p, int8_t *scales)
{
	for (int j = 0; j < 16; j++) {
		int low = j < 8 ? p[j] & 15 : p[j - 8] >> 4;
		int high = (p[8 + j % 4] >> (j / 4 * 2)) & 3;

		scales[j] = (int8_t)((low | high << 4) - 32);
	}
}

void dequantize_q3_k(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (; n > 0; n -= SUPER, b += 110, y += SUPER) {
		int8_t scales[16];
		float d = half_at(b + 108);

		unpack_scales_q3_k(b + 96, scales);
		for (int i = 0; i < SUPER; i++) {
			int part = i / 128, shift = i % 128 / 32 * 2;
			int q = (b[32 + part * 32 + i % 32] >> shift) & 3;

			q -= (b[i % 32] >> (i / 32)) & 1 ? 0 : 4;
			y[i] = d * (float)scales[i / 16] * (float)q;
		}
	}
}

void unpack_scales_k4(const uint8_t *p, uint8_t *scales, uint8_t *minima)
{
	for (int j = 0; j < 4; j++) {
		scales[j] = p[j] & 63;
		minima[j] = p[j + 4] & 63;
		scales[j + 4] = (uint8_t)((p[j + 8] & 15) | (p[j] >> 6) << 4);
		minima[j + 4] = (uint8_t)((p[j + 8] >> 4) | (p[j + 4] >> 6) << 4);
	}
}

/* qh: the fifth bits of Q5_K, NULL for Q4_K. */
static void k4_block(const uint8_t *b, const uint8_t *qh, const uint8_t *qs, float *y)
{
	float d = half_at(b), dmin = half_at(b + 2);
	uint8_t scales[8], minima[8];

	unpack_scales_k4(b + 4, scales, minima);
	for (int j = 0; j < 8; j++) {
		float dl = d * (float)scales[j], ml = dmin * (float)minima[j];

		for (int i = 0; i < 32; i++) {
			int q = (qs[j / 2 * 32 + i] >> (j % 2 * 4)) & 15;

			if (qh)
				q |= ((qh[i] >> j) & 1) << 4;
			y[j * 32 + i] = dl * (float)q - ml;
		}
	}
}

void dequantize_q4_k(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (; n > 0; n -= SUPER, b += 144, y += SUPER)
		k4_block(b, NULL, b + 16, y);
}

void dequantize_q5_k(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (; n > 0; n -= SUPER, b += 176, y += SUPER)
		k4_block(b, b + 16, b + 48, y);
}

void dequantize_q6_k(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (; n > 0; n -= SUPER, b += 210, y += SUPER) {
		float d = half_at(b + 208);

		for (int i = 0; i < SUPER; i++) {
			int part = i / 128, quarter = i % 128 / 32;
			int low = b[part * 64 + i % 64] >> (quarter / 2 * 4) & 15;
			int high = b[128 + part * 32 + i % 32] >> (quarter * 2) & 3;

			y[i] = d * (float)(int8_t)b[192 + i / 16] * (float)((low | high << 4) - 32);
		}
	}
}

/* ---- ternary ------------------------------------------------------------------------------ */

void dequantize_tq1_0(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	static const uint8_t power[5] = { 1, 3, 9, 27, 81 };
	/* where a run of bytes starts, how many bytes, how many digits each holds */
	static const struct {
		int at, bytes, digits;
	} runs[] = {{0, 32, 5}, {32, 16, 5}, {48, 4, 4}};

	(void)tail;
	for (; n > 0; n -= SUPER, b += 54) {
		float d = half_at(b + 52);

		for (int r = 0; r < 3; r++)
			for (int digit = 0; digit < runs[r].digits; digit++)
				for (int i = 0; i < runs[r].bytes; i++) {
					uint8_t v = (uint8_t)(b[runs[r].at + i] * power[digit]);

					*y++ = (float)((v * 3 >> 8) - 1) * d;
				}
	}
}

void dequantize_tq2_0(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	(void)tail;
	for (; n > 0; n -= SUPER, b += 66, y += SUPER) {
		float d = half_at(b + 64);

		for (int i = 0; i < SUPER; i++) {
			int code = b[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;

			y[i] = (float)(code - 1) * d;
		}
	}
}

void dequantize_i2_s(const uint8_t *b, const uint8_t *tail, float *y, int64_t n)
{
	static const float value[4] = { -1, 0, 1, 0 };	/* code 3 is not written by anybody */
	float scale;

	memcpy(&scale, tail, sizeof(scale));
	for (; n > 0; n -= 128, b += 32, y += 128)
		for (int i = 0; i < 32; i++)
			for (int part = 0; part < 4; part++)
				y[part * 32 + i] = value[b[i] >> (6 - 2 * part) & 3] * scale;
}
