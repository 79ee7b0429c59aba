#include "quantize.h"

#include "kernels.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { BLOCK = 32, SUPER = 256 };

static int clamp(float x, int low, int high)
{
	float r = rintf(x);

	return r < (float)low ? low : r > (float)high ? high : (int)r;
}

static float inverse(float d)
{
	return d != 0 ? 1.0f / d : 0.0f;
}

/* Stores d as a half and gives back what was stored. */
static float put_half(uint8_t *p, float d)
{
	uint16_t h = f32_to_f16(d);

	p[0] = (uint8_t)h;
	p[1] = (uint8_t)(h >> 8);
	return f16_to_f32(h);
}

static float max_abs(const float *x, int n)
{
	float m = 0;

	for (int i = 0; i < n; i++)
		m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
	return m;
}

static void range(const float *x, int n, float *low, float *high)
{
	*low = *high = x[0];
	for (int i = 1; i < n; i++) {
		*low = x[i] < *low ? x[i] : *low;
		*high = x[i] > *high ? x[i] : *high;
	}
}

/* ---- floats ------------------------------------------------------------------------------- */

static void to_f16(const float *x, uint8_t *b)
{
	put_half(b, *x);
}

static void to_bf16(const float *x, uint8_t *b)
{
	uint32_t u;

	memcpy(&u, x, sizeof(u));
	u += 0x7fff + ((u >> 16) & 1);
	b[0] = (uint8_t)(u >> 16);
	b[1] = (uint8_t)(u >> 24);
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

static void to_q8_0(const float *x, uint8_t *b)
{
	float inv = inverse(put_half(b, max_abs(x, BLOCK) / 127.0f));

	for (int i = 0; i < BLOCK; i++)
		b[2 + i] = (uint8_t)clamp(x[i] * inv, -127, 127);
}

/* Codes of `bits` (4 or 5) bits: nibbles to qs, fifth bits to qh (NULL with 4). */
static void put_nibbles(const uint8_t *codes, uint8_t *qh, uint8_t *qs)
{
	if (qh)
		memset(qh, 0, 4);
	for (int i = 0; i < 16; i++) {
		qs[i] = (uint8_t)((codes[i] & 15) | (codes[i + 16] & 15) << 4);
		if (qh) {
			qh[i / 8] |= (uint8_t)((codes[i] >> 4) << (i % 8));
			qh[2 + i / 8] |= (uint8_t)((codes[i + 16] >> 4) << (i % 8));
		}
	}
}

/* Codes around zero: levels is 16 or 32. */
static void symmetric(const float *x, int levels, uint8_t *d, uint8_t *codes)
{
	float inv = inverse(put_half(d, max_abs(x, BLOCK) / (float)(levels / 2 - 1)));

	for (int i = 0; i < BLOCK; i++)
		codes[i] = (uint8_t)(clamp(x[i] * inv, -levels / 2, levels / 2 - 1) + levels / 2);
}

/* Codes from the minimum up. */
static void affine(const float *x, int levels, uint8_t *d, uint8_t *m, uint8_t *codes)
{
	float low, high;

	range(x, BLOCK, &low, &high);
	float inv = inverse(put_half(d, (high - low) / (float)(levels - 1)));

	low = put_half(m, low);
	for (int i = 0; i < BLOCK; i++)
		codes[i] = (uint8_t)clamp((x[i] - low) * inv, 0, levels - 1);
}

static void to_q4_0(const float *x, uint8_t *b)
{
	uint8_t codes[BLOCK];

	symmetric(x, 16, b, codes);
	put_nibbles(codes, NULL, b + 2);
}

static void to_q4_1(const float *x, uint8_t *b)
{
	uint8_t codes[BLOCK];

	affine(x, 16, b, b + 2, codes);
	put_nibbles(codes, NULL, b + 4);
}

static void to_q5_0(const float *x, uint8_t *b)
{
	uint8_t codes[BLOCK];

	symmetric(x, 32, b, codes);
	put_nibbles(codes, b + 2, b + 6);
}

static void to_q5_1(const float *x, uint8_t *b)
{
	uint8_t codes[BLOCK];

	affine(x, 32, b, b + 2, codes);
	put_nibbles(codes, b + 4, b + 8);
}

/* ---- super-blocks of 256 ------------------------------------------------------------------ */

/*
 * Sub-blocks of `width` elements with a scale and a minimum each, both as codes up to `top`
 * times the halves d and dmin: fills the codes of scales, minima and elements (0…levels − 1).
 */
static void affine_super(const float *x, int width, int top, int levels, uint8_t *d, uint8_t *dmin,
			 uint8_t *scales, uint8_t *minima, uint8_t *codes)
{
	float step[16], below[16], step_max = 0, below_max = 0;
	int n = SUPER / width;

	for (int j = 0; j < n; j++) {
		float low, high;

		range(x + j * width, width, &low, &high);
		low = low > 0 ? 0 : low;
		step[j] = (high - low) / (float)(levels - 1);
		below[j] = -low;
		step_max = step[j] > step_max ? step[j] : step_max;
		below_max = below[j] > below_max ? below[j] : below_max;
	}
	float ds = put_half(d, step_max / (float)top), dm = put_half(dmin, below_max / (float)top);
	float inv_s = inverse(ds), inv_m = inverse(dm);

	for (int j = 0; j < n; j++) {
		scales[j] = (uint8_t)clamp(step[j] * inv_s, 0, top);
		minima[j] = (uint8_t)clamp(below[j] * inv_m, 0, top);
		float inv = inverse(ds * (float)scales[j]), low = dm * (float)minima[j];

		for (int i = j * width; i < (j + 1) * width; i++)
			codes[i] = (uint8_t)clamp((x[i] + low) * inv, 0, levels - 1);
	}
}

/* Sub-blocks of 16 with a signed scale code up to `top` times the half d; codes are biased. */
static void symmetric_super(const float *x, int top, int levels, uint8_t *d, int8_t *scales,
			    uint8_t *codes)
{
	float step[16], step_max = 0;
	int half = levels / 2;

	for (int j = 0; j < 16; j++) {
		step[j] = max_abs(x + j * 16, 16) / (float)(half - 1);
		step_max = step[j] > step_max ? step[j] : step_max;
	}
	float ds = put_half(d, step_max / (float)top), inv_s = inverse(ds);

	for (int j = 0; j < 16; j++) {
		scales[j] = (int8_t)clamp(step[j] * inv_s, 0, top);
		float inv = inverse(ds * (float)scales[j]);

		for (int i = j * 16; i < (j + 1) * 16; i++)
			codes[i] = (uint8_t)(clamp(x[i] * inv, -half, half - 1) + half);
	}
}

/* Two bits of each code, at `from`, to 64 bytes: four quarters of a half share a byte. */
static void put_pairs(const uint8_t *codes, int from, uint8_t *qs)
{
	memset(qs, 0, 64);
	for (int i = 0; i < SUPER; i++)
		qs[i / 128 * 32 + i % 32] |=
			(uint8_t)((codes[i] >> from & 3) << (i % 128 / 32 * 2));
}

static void to_q2_k(const float *x, uint8_t *b)
{
	uint8_t scales[16], minima[16], codes[SUPER];

	affine_super(x, 16, 15, 4, b + 80, b + 82, scales, minima, codes);
	for (int j = 0; j < 16; j++)
		b[j] = (uint8_t)(scales[j] | minima[j] << 4);
	put_pairs(codes, 0, b + 16);
}

static void to_q3_k(const float *x, uint8_t *b)
{
	uint8_t codes[SUPER];
	int8_t scales[16];

	symmetric_super(x, 31, 8, b + 108, scales, codes);
	memset(b, 0, 32);
	for (int i = 0; i < SUPER; i++)
		b[i % 32] |= (uint8_t)((codes[i] >> 2) << (i / 32));
	put_pairs(codes, 0, b + 32);
	memset(b + 96, 0, 12);
	for (int j = 0; j < 16; j++) {
		int v = scales[j] + 32;

		b[96 + j % 8] |= (uint8_t)((v & 15) << (j / 8 * 4));
		b[104 + j % 4] |= (uint8_t)((v >> 4) << (j / 4 * 2));
	}
}

/* Q4_K (qh NULL) and Q5_K behind their first four bytes. */
static void put_k4(const float *x, int levels, uint8_t *b, uint8_t *qh, uint8_t *qs)
{
	uint8_t scales[8], minima[8], codes[SUPER];

	affine_super(x, 32, 63, levels, b, b + 2, scales, minima, codes);
	for (int j = 0; j < 4; j++) {
		b[4 + j] = (uint8_t)(scales[j] | (scales[j + 4] >> 4) << 6);
		b[8 + j] = (uint8_t)(minima[j] | (minima[j + 4] >> 4) << 6);
		b[12 + j] = (uint8_t)((scales[j + 4] & 15) | (minima[j + 4] & 15) << 4);
	}
	if (qh)
		memset(qh, 0, 32);
	memset(qs, 0, 128);
	for (int i = 0; i < SUPER; i++) {
		qs[i / 64 * 32 + i % 32] |= (uint8_t)((codes[i] & 15) << (i / 32 % 2 * 4));
		if (qh)
			qh[i % 32] |= (uint8_t)((codes[i] >> 4) << (i / 32));
	}
}

static void to_q4_k(const float *x, uint8_t *b)
{
	put_k4(x, 16, b, NULL, b + 16);
}

static void to_q5_k(const float *x, uint8_t *b)
{
	put_k4(x, 32, b, b + 16, b + 48);
}

static void to_q6_k(const float *x, uint8_t *b)
{
	uint8_t codes[SUPER];
	int8_t scales[16];

	symmetric_super(x, 127, 64, b + 208, scales, codes);
	memset(b, 0, 128);
	for (int i = 0; i < SUPER; i++)
		b[i / 128 * 64 + i % 64] |= (uint8_t)((codes[i] & 15) << (i % 128 / 64 * 4));
	put_pairs(codes, 4, b + 128);
	memcpy(b + 192, scales, 16);
}

/* ---- ternary ------------------------------------------------------------------------------ */

static void to_tq1_0(const float *x, uint8_t *b)
{
	static const struct {
		int at, bytes, digits;
	} runs[] = {{0, 32, 5}, {32, 16, 5}, {48, 4, 4}};
	float inv = inverse(put_half(b + 52, max_abs(x, SUPER)));

	for (int r = 0; r < 3; r++) {
		for (int i = 0; i < runs[r].bytes; i++) {
			int v = 0;

			for (int digit = 0; digit < 5; digit++) {
				v *= 3;
				if (digit < runs[r].digits)
					v += clamp(x[digit * runs[r].bytes + i] * inv, -1, 1) + 1;
			}
			/* v of 243 as a fraction of 256, rounded up, so that digits come out by products */
			b[runs[r].at + i] = (uint8_t)((v * 256 + 242) / 243);
		}
		x += runs[r].bytes * runs[r].digits;
	}
}

static void to_tq2_0(const float *x, uint8_t *b)
{
	float inv = inverse(put_half(b + 64, max_abs(x, SUPER)));
	uint8_t codes[SUPER];

	for (int i = 0; i < SUPER; i++)
		codes[i] = (uint8_t)(clamp(x[i] * inv, -1, 1) + 1);
	put_pairs(codes, 0, b);
}

static void to_i2_s(const float *x, float scale, uint8_t *b, int64_t n)
{
	float inv = inverse(scale);

	for (; n > 0; n -= 128, x += 128, b += 32)
		for (int i = 0; i < 32; i++) {
			int byte = 0;

			for (int part = 0; part < 4; part++)
				byte = byte << 2 | (clamp(x[part * 32 + i] * inv, -1, 1) + 1);
			b[i] = (uint8_t)byte;
		}
}

/* ---- the table ---------------------------------------------------------------------------- */

static const struct { uint32_t id; void (*block)(const float *x, uint8_t *b);
} table[] = {
	{TYPE_F16, to_f16},     {TYPE_BF16, to_bf16},   {TYPE_Q8_0, to_q8_0}, {TYPE_Q4_0, to_q4_0},
	{TYPE_Q4_1, to_q4_1},   {TYPE_Q5_0, to_q5_0},   {TYPE_Q5_1, to_q5_1}, {TYPE_Q2_K, to_q2_k},
	{TYPE_Q3_K, to_q3_k},   {TYPE_Q4_K, to_q4_k},   {TYPE_Q5_K, to_q5_k}, {TYPE_Q6_K, to_q6_k},
	{TYPE_TQ1_0, to_tq1_0}, {TYPE_TQ2_0, to_tq2_0},
};

void quantize_row(const struct weight_type *t, const float *x, float scale, uint8_t *dst, int64_t n)
{
	if (t->id == TYPE_F32) {
		memcpy(dst, x, (size_t)n * sizeof(*x));
		return;
	}
	if (t->id == TYPE_I2_S) {
		to_i2_s(x, scale, dst, n);
		return;
	}
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		if (table[i].id != t->id)
			continue;
		for (; n > 0; n -= t->block_elems, x += t->block_elems, dst += t->block_bytes)
			table[i].block(x, dst);
		return;
	}
	assert(!"a weight type without a quantiser");
}

void quantize_tail(const struct weight_type *t, float scale, uint8_t *dst)
{
	memset(dst, 0, t->tail_bytes);
	if (t->id == TYPE_I2_S)
		memcpy(dst, &scale, sizeof(scale));
}
