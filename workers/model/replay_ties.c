#include "replay_ties.h"

#include "kernels.h"

#include <math.h>
#include <string.h>

/* Where a format keeps what; a block of `block` values, 0 = the row is one. */
static const struct layout {
	int64_t block, bytes, codes;
} layouts[ACT_COUNT] = {
	[ACT_Q8_0] = {32, 34, 2},
	[ACT_Q8_1] = {32, 36, 4},
	[ACT_Q8_K] = {256, 292, 4},
	[ACT_I8] = {0, 0, (int64_t)sizeof(struct act_i8_head)},
	[ACT_TL] = {0, 0, (int64_t)sizeof(struct act_i8_head)},
};

enum { Q8_K_SUMS = 260, Q8_K_SUMMED = 16 };

/* What the format divides by 127: the greatest magnitude, of blocks of 256 with its sign turned. */
static double block_max(enum act_format format, const float *x, int64_t n)
{
	double most = 0;

	for (int64_t i = 0; i < n; i++)
		if (fabs((double)x[i]) > fabs(most))
			most = format == ACT_Q8_K ? -(double)x[i] : fabs((double)x[i]);
	return format == ACT_I8 && most < 1e-5 ? 1e-5 : most;
}

/* The code beside q's half that is not `code`; `code` where q is no tie. */
static int other_code(double q, int code)
{
	double low = floor(q), unit = ldexp(1, ilogb(fmax(fabs(q), 0.25)) - 23);

	if (!(fabs(q - (low + 0.5)) <= TIE_ULP * unit))
		return code;
	if (code == (int)low && low + 1 <= 127)
		return code + 1;
	return code == (int)low + 1 && low >= -128 ? (int)low : code;
}

static void put_sums(enum act_format format, const float *x, uint8_t *block, int64_t at, int step)
{
	struct act_i8_head *head = (struct act_i8_head *)(void *)block;
	int16_t sum;

	if (format == ACT_Q8_K) {
		uint8_t *p = block + Q8_K_SUMS + at / Q8_K_SUMMED * (int64_t)sizeof(sum);

		memcpy(&sum, p, sizeof(sum));
		sum = (int16_t)(sum + step);
		memcpy(p, &sum, sizeof(sum));
	} else if (format == ACT_Q8_1) {
		const int8_t *q = (const int8_t *)block + layouts[format].codes;
		float d = (float)block_max(format, x, 32) / 127.0f;
		int all = 0;

		for (int i = 0; i < 32; i++)
			all += q[i];
		uint16_t half = f32_to_f16(d * (float)all);
		memcpy(block + sizeof(half), &half, sizeof(half));
	} else if (format == ACT_I8 || format == ACT_TL) {
		head->sum += step;
	}
}

/* One block; true when the tie was in it. */
static bool flip_in_block(enum act_format format, const float *x, int64_t n, uint8_t *block,
			  int64_t *nth)
{
	int8_t *codes = (int8_t *)block + layouts[format].codes;
	double most = block_max(format, x, n);

	for (int64_t i = 0; i < n && most != 0 && isfinite(most); i++) {
		int code = codes[i], other = other_code((double)x[i] * 127 / most, code);

		if (other == code || --*nth > 0)
			continue;
		codes[i] = (int8_t)other;
		put_sums(format, x, block, i, other - code);
		return true;
	}
	return false;
}

int64_t ties_flip(enum act_format format, const float *in, int64_t n, int64_t n_rows, uint8_t *act,
		  int64_t nth)
{
	const struct layout *l = &layouts[format];
	const int64_t block = l->block ? l->block : n;
	int64_t flipped = 0;

	for (int64_t r = 0; r < n_rows && l->codes; r++) {
		uint8_t *row = act + (size_t)r * act_row_bytes(format, n);
		int64_t left = nth;
		bool done = false;

		for (int64_t at = 0; at + block <= n && !done; at += block)
			done = flip_in_block(format, in + r * n + at, block,
					     row + at / block * l->bytes, &left);
		flipped += done;
	}
	return flipped;
}
