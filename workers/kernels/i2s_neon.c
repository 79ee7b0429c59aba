#include "variants.h"

#include <arm_neon.h>
#include <string.h>

/*
 * I2_S with the dot-product instructions: codes and activations stay in the order of the columns,
 * four products to a lane. One token walks packed rows; many tokens walk four rows unpacked at a
 * time, in tiles of four rows × four tokens.
 */
enum {
	BLOCK = 128,
	FEW_TOKENS = 3,
	AHEAD_BYTES = 4096,
	TILE = 4,			/* rows, and tokens */
	PANEL_N = 2048,			/* columns unpacked at once: 8 KiB */
	PANEL_TOKENS = 256,
};

static inline float finish(int32_t sum, const struct act_i8_head *h, float scale)
{
	return ((float)sum - (float)h->sum) / h->scale * scale;
}

static inline int8x16_t codes_at(uint8x16_t w, int part)
{
	const uint8x16_t three = vdupq_n_u8(3);

	switch (part) {
	case 0: return vreinterpretq_s8_u8(vshrq_n_u8(w, 6));
	case 1: return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 4), three));
	case 2: return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(w, 2), three));
	default: return vreinterpretq_s8_u8(vandq_u8(w, three));
	}
}

static int32_t row_sum(const uint8_t *w, const int8_t *q, int64_t n)
{
	int32x4_t acc[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};

	for (; n > 0; n -= BLOCK, w += 32, q += BLOCK) {
		uint8x16_t lo = vld1q_u8(w), hi = vld1q_u8(w + 16);

		__builtin_prefetch(w + AHEAD_BYTES, 0, 2);
#pragma GCC unroll 4
		for (int j = 0; j < 4; j++) {
			acc[j] = vdotq_s32(acc[j], codes_at(lo, j), vld1q_s8(q + 32 * j));
			acc[j] = vdotq_s32(acc[j], codes_at(hi, j), vld1q_s8(q + 32 * j + 16));
		}
	}
	return vaddvq_s32(vaddq_s32(vaddq_s32(acc[0], acc[1]), vaddq_s32(acc[2], acc[3])));
}

static void gemv(const struct weight *w, int64_t r0, int64_t r1, const uint8_t *act, float *out)
{
	const struct act_i8_head *h = (const void *)act;
	float scale;

	memcpy(&scale, w->tail, sizeof(scale));
	for (int64_t r = r0; r < r1; r++)
		out[r] = finish(row_sum(w->data + (size_t)r * w->row_bytes, (const int8_t *)(h + 1),
					w->n_in), h, scale);
}

/* n columns of one row, from column c0 on, one byte each. */
static void unpack_row(const uint8_t *row, int64_t c0, int64_t n, int8_t *dst)
{
	for (const uint8_t *w = row + c0 / 4; n > 0; n -= BLOCK, w += 32, dst += BLOCK)
		for (int half = 0; half < 2; half++) {
			uint8x16_t v = vld1q_u8(w + 16 * half);

#pragma GCC unroll 4
			for (int j = 0; j < 4; j++)
				vst1q_s8(dst + 32 * j + 16 * half, codes_at(v, j));
		}
}

/* sums[t][r] += panel · q over n columns, for `tokens` tokens. */
static inline __attribute__((always_inline)) void
tile(const int8_t (*panel)[PANEL_N], const int8_t *q, size_t act_bytes, int64_t n, int tokens,
	int32_t (*sums)[TILE])
{
	int32x4_t acc[TILE][TILE];

#pragma GCC unroll 4
	for (int t = 0; t < tokens; t++)
#pragma GCC unroll 4
		for (int r = 0; r < TILE; r++)
			acc[t][r] = vdupq_n_s32(0);
	for (int64_t i = 0; i < n; i += 16) {
		int8x16_t w[TILE];

#pragma GCC unroll 4
		for (int r = 0; r < TILE; r++)
			w[r] = vld1q_s8(panel[r] + i);
#pragma GCC unroll 4
		for (int t = 0; t < tokens; t++) {
			int8x16_t a = vld1q_s8(q + (size_t)t * act_bytes + i);

#pragma GCC unroll 4
			for (int r = 0; r < TILE; r++)
				acc[t][r] = vdotq_s32(acc[t][r], w[r], a);
		}
	}
#pragma GCC unroll 4
	for (int t = 0; t < tokens; t++)
#pragma GCC unroll 4
		for (int r = 0; r < TILE; r++)
			sums[t][r] += vaddvq_s32(acc[t][r]);
}

static void gemm_panel(const struct weight *w, int64_t r0, int64_t rows, const uint8_t *act,
		       size_t act_bytes, int64_t n_tok, float *out, int64_t out_stride)
{
	const int8_t *q = (const int8_t *)act + sizeof(struct act_i8_head);
	int8_t panel[TILE][PANEL_N];
	int32_t sums[PANEL_TOKENS][TILE];
	float scale;

	memcpy(&scale, w->tail, sizeof(scale));
	memset(panel, 0, sizeof(panel));
	memset(sums, 0, (size_t)n_tok * sizeof(sums[0]));
	for (int64_t c = 0; c < w->n_in; c += PANEL_N) {
		int64_t n = w->n_in - c < PANEL_N ? w->n_in - c : PANEL_N, t = 0;

		for (int64_t r = 0; r < rows; r++)
			unpack_row(w->data + (size_t)(r0 + r) * w->row_bytes, c, n, panel[r]);
		for (; t + TILE <= n_tok; t += TILE)
			tile((const int8_t(*)[PANEL_N])panel, q + (size_t)t * act_bytes + c,
			     act_bytes, n, TILE, sums + t);
		for (; t < n_tok; t++)
			tile((const int8_t(*)[PANEL_N])panel, q + (size_t)t * act_bytes + c,
			     act_bytes, n, 1, sums + t);
	}
	for (int64_t t = 0; t < n_tok; t++)
		for (int64_t r = 0; r < rows; r++)
			out[t * out_stride + r0 + r] = finish(
				sums[t][r], (const void *)(act + (size_t)t * act_bytes), scale);
}

bool i2s_matmul_neon(const struct kernels *k, const struct weight *w, int64_t r0, int64_t r1,
		     const void *act, size_t act_bytes, int64_t n_tok, float *out,
		     int64_t out_stride)
{
	const uint8_t *rows = act;

	(void)k;
	for (int64_t t = 0; t < n_tok && n_tok <= FEW_TOKENS; t++)
		gemv(w, r0, r1, rows + (size_t)t * act_bytes, out + t * out_stride);
	for (int64_t t = 0; t < n_tok && n_tok > FEW_TOKENS; t += PANEL_TOKENS) {
		int64_t nt = n_tok - t < PANEL_TOKENS ? n_tok - t : PANEL_TOKENS;

		for (int64_t r = r0; r < r1; r += TILE)
			gemm_panel(w, r, r1 - r < TILE ? r1 - r : TILE,
				   rows + (size_t)t * act_bytes, act_bytes, nt,
				   out + t * out_stride, out_stride);
	}
	return true;
}
