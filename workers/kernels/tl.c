#include "tl.h"

#include "tl_config.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	TAIL = 32,
	TWO_BK = 32,		/* columns of a tile of pairs in TL2 */
	TWO_MAX = 256,		/* ggml_nbytes has room for so many columns in pairs */
	STRIP = 32,		/* rows of a strip in TL2 */
	I2_BLOCK = 128,
};

/* ---- sizes -------------------------------------------------------------------------------- */

static uint64_t scale_offset(uint32_t id, int64_t n_in, int64_t rows)
{
	return id == TYPE_TL1 ? (uint64_t)n_in * (uint64_t)rows / 4 : tl2_bytes(n_in, rows) - TAIL;
}

uint64_t tl2_bytes(int64_t n_in, int64_t rows)
{
	uint64_t threes, twos;

	if (n_in < TWO_MAX || rows <= 0 ||
	    __builtin_mul_overflow((uint64_t)(n_in - TWO_MAX), (uint64_t)rows, &threes) ||
	    __builtin_mul_overflow((uint64_t)TWO_MAX, (uint64_t)rows, &twos) ||
	    threes > UINT64_MAX / 16 || twos > UINT64_MAX / 16)
		return 0;
	return (threes / 3 * 5 / 8 + twos / 2 * 4 / 8 + 31) / 32 * 32 + TAIL;
}

int tl_check(const struct weight_type *t, const char *name, int64_t n_in, int64_t rows,
	     struct err *e)
{
	if (tl_config_find(t->id, n_in, rows))
		return 0;
	return err_set(
		e, EXIT_MODEL_LOAD,
		"tensor %s is %s of %lld rows and %lld columns, a shape without a known tiling; known are "
		"those of bitnet.cpp's presets bitnet_b1_58-large, bitnet_b1_58-3B and "
		"Llama3-8B-1.58-100B-tokens",
		name, t->name, (long long)rows, (long long)n_in);
}

/* ---- places ------------------------------------------------------------------------------- */

/* A row in units of two nibbles: unit u holds the groups 2u (upper nibble) and 2u + 1. */
struct places {
	const struct tl_config *c;
	int64_t rows, tile, strip, in_strip;
};

static struct places places_of(uint32_t id, int64_t n_in, int64_t rows, int64_t row)
{
	const struct tl_config *c = tl_config_find(id, n_in, rows);

	assert(c && row >= 0 && row < rows);
	return (struct places){c, rows, row / c->bm, row % c->bm / c->bmm, row % c->bm % c->bmm};
}

/* TL1: [tile][columns / bk][strip][bk / by][16 rows][by / 4][row], by = 256 / bmm; 4 columns a byte. */
static size_t tl1_place(const struct places *p, int64_t unit)
{
	int64_t by = 256 / p->c->bmm, column = unit * 4, k = column % p->c->bk;
	int64_t at = p->tile * (p->c->n_in / p->c->bk) + column / p->c->bk;

	at = at * (p->c->bm / p->c->bmm) + p->strip;
	at = at * (p->c->bk / by) + k / by;
	at = at * (p->c->bmm / 16) + p->in_strip / 16;
	at = at * (by / 4) + k % by / 4;
	return (size_t)(at * 16 + p->in_strip % 16);
}

/* TL2: [tile][columns / bk][strip][bk / width][row], rows 8–15 and 16–23 of a strip exchanged. */
static size_t tl2_place(const struct places *p, int64_t columns, int64_t bk, int64_t width,
			int64_t unit)
{
	static const int chunk[] = {0, 2, 1, 3};
	int64_t column = unit * width;
	int64_t at = p->tile * (columns / bk) + column / bk;

	at = at * (p->c->bm / STRIP) + p->strip;
	at = at * (bk / width) + column % bk / width;
	return (size_t)(at * STRIP + chunk[p->in_strip / 8] * 8 + p->in_strip % 8);
}

/* The 16-bit word of eight signs: [tile][columns / bk][strip][bk / 24][row % 16], in bytes. Group g has
 * bit 15 − 2 · (g % 8) − row / 16. */
static size_t tl2_sign_place(const struct places *p, int64_t columns, int64_t group, int *bit)
{
	int64_t column = group * 3, bk = p->c->bk;
	int64_t at = p->tile * (columns / bk) + column / bk;

	at = at * (p->c->bm / STRIP) + p->strip;
	at = at * (bk / 24) + column % bk / 24;
	*bit = 15 - (int)(group % 8) * 2 - (int)(p->in_strip / 16);
	return (size_t)(at * 16 + p->in_strip % 16) * 2;
}

static int64_t three_columns(const struct tl_config *c)
{
	return c->n_in / c->bk * c->bk;
}

/* ---- codes -------------------------------------------------------------------------------- */

/* 3a + b + 4 → a, b */
static void pair_of(int nibble, int8_t *codes)
{
	int v = nibble > 8 ? 4 : nibble;

	codes[0] = (int8_t)(v / 3 - 1);
	codes[1] = (int8_t)(v % 3 - 1);
}

/* |9a + 3b + c| and whether it is negative → a, b, c */
static void triple_of(int nibble, bool negative, int8_t *codes)
{
	int v = (nibble > 13 ? 0 : negative ? -nibble : nibble) + 13;

	codes[0] = (int8_t)(v / 9 - 1);
	codes[1] = (int8_t)(v / 3 % 3 - 1);
	codes[2] = (int8_t)(v % 3 - 1);
}

static int pair_code(const int8_t *codes)
{
	return 3 * codes[0] + codes[1] + 4;
}

static int triple_value(const int8_t *codes)
{
	return 9 * codes[0] + 3 * codes[1] + codes[2];
}

static void tl1_row(const struct places *p, const uint8_t *data, int8_t *codes)
{
	for (int64_t u = 0; u < p->c->n_in / 4; u++, codes += 4) {
		uint8_t b = data[tl1_place(p, u)];

		pair_of(b >> 4, codes);
		pair_of(b & 15, codes + 2);
	}
}

static void tl2_row(const struct places *p, const uint8_t *data, int8_t *codes)
{
	int64_t three = three_columns(p->c), two = p->c->n_in - three;
	const uint8_t *signs = data + three * p->rows / 6, *pairs = signs + three * p->rows / 24;

	for (int64_t g = 0; g < three / 3; g++, codes += 3) {
		uint8_t b = data[tl2_place(p, three, p->c->bk, 6, g / 2)];
		int bit;
		const uint8_t *s = signs + tl2_sign_place(p, three, g, &bit);

		triple_of(g % 2 ? b & 15 : b >> 4, s[bit / 8] >> bit % 8 & 1, codes);
	}
	for (int64_t u = 0; u < two / 4; u++, codes += 4) {
		uint8_t b = pairs[tl2_place(p, two, TWO_BK, 4, u)];

		pair_of(b >> 4, codes);
		pair_of(b & 15, codes + 2);
	}
}

void tl_row(const struct weight_type *t, const uint8_t *data, int64_t n_in, int64_t rows,
	    int64_t row, int8_t *codes)
{
	struct places p = places_of(t->id, n_in, rows, row);

	(t->id == TYPE_TL1 ? tl1_row : tl2_row)(&p, data, codes);
}

static void tl2_put(const struct places *p, uint8_t *data, const int8_t *codes)
{
	int64_t three = three_columns(p->c), two = p->c->n_in - three;
	uint8_t *signs = data + three * p->rows / 6, *pairs = signs + three * p->rows / 24;

	for (int64_t g = 0; g < three / 3; g++, codes += 3) {
		int v = triple_value(codes), bit;
		uint8_t *s = signs + tl2_sign_place(p, three, g, &bit);

		data[tl2_place(p, three, p->c->bk, 6, g / 2)] |=
			(uint8_t)(abs(v) << (g % 2 ? 0 : 4));
		s[bit / 8] |= (uint8_t)((v < 0) << bit % 8);
	}
	for (int64_t u = 0; u < two / 4; u++, codes += 4)
		pairs[tl2_place(p, two, TWO_BK, 4, u)] =
			(uint8_t)(pair_code(codes) << 4 | pair_code(codes + 2));
}

void tl_put_row(const struct weight_type *t, uint8_t *data, int64_t n_in, int64_t rows, int64_t row,
		const int8_t *codes)
{
	struct places p = places_of(t->id, n_in, rows, row);

	if (t->id == TYPE_TL2) {
		tl2_put(&p, data, codes);
		return;
	}
	for (int64_t u = 0; u < n_in / 4; u++, codes += 4)
		data[tl1_place(&p, u)] = (uint8_t)(pair_code(codes) << 4 | pair_code(codes + 2));
}

static void dequantize(uint32_t id, const uint8_t *data, int64_t n_in, int64_t rows, int64_t row,
		       float *dst)
{
	enum { CODES_MAX = 14336 };	/* the widest shape that has a configuration */
	int8_t codes[CODES_MAX];
	float scale;

	assert(n_in <= CODES_MAX);
	memcpy(&scale, data + scale_offset(id, n_in, rows), sizeof(scale));
	tl_row(weight_type_by_id(id), data, n_in, rows, row, codes);
	for (int64_t i = 0; i < n_in; i++)
		dst[i] = (float)codes[i] * scale;
}

void tl1_dequantize_row(const uint8_t *data, int64_t n_in, int64_t rows, int64_t row, float *dst)
{
	dequantize(TYPE_TL1, data, n_in, rows, row, dst);
}

void tl2_dequantize_row(const uint8_t *data, int64_t n_in, int64_t rows, int64_t row, float *dst)
{
	dequantize(TYPE_TL2, data, n_in, rows, row, dst);
}

/* ---- products ----------------------------------------------------------------------------- */

static int64_t whole_blocks(int64_t n)
{
	return (n + I2_BLOCK - 1) / I2_BLOCK * I2_BLOCK;
}

uint8_t *tl_unpack(const struct weight_type *t, const uint8_t *data, int64_t n_in, int64_t rows)
{
	int64_t padded = whole_blocks(n_in);
	uint8_t *out = calloc((size_t)rows, (size_t)padded / 4), *to = out;
	int8_t *codes = calloc((size_t)padded, 1);

	if (!out || !codes) {
		free(out);
		free(codes);
		return NULL;
	}
	for (int64_t r = 0; r < rows; r++) {
		tl_row(t, data, n_in, rows, r, codes);
		for (int64_t b = 0; b < padded; b += I2_BLOCK)
			for (int i = 0; i < 32; i++, to++)
				*to = (uint8_t)((codes[b + i] + 1) << 6 |
						(codes[b + i + 32] + 1) << 4 |
						(codes[b + i + 64] + 1) << 2 |
						(codes[b + i + 96] + 1));
	}
	free(codes);
	return out;
}

void tl_quantize(const struct kernels *k, const float *x, void *dst, int64_t n)
{
	const float shift = 0x1.8p23f;		/* adding it rounds to integers, ties to even */
	struct act_i8_head *head = dst;
	int8_t *q = (int8_t *)(head + 1);
	float max = 0;
	int32_t sum = 0;

	(void)k;
	for (int64_t i = 0; i < n; i++)
		max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
	float s = 127 / max;

	for (int64_t i = 0; i < n; i++) {
		float v = x[i] * s + shift;	/* never fused: the product is rounded first */

		q[i] = isfinite(s) && isfinite(v) ? (int8_t)(v - shift) : 0;
		sum += q[i];
	}
	for (int64_t i = n; i % I2_BLOCK != 0; i++)
		q[i] = 0;
	*head = (struct act_i8_head){.scale = s, .sum = sum};
}

bool tl_matmul(const struct kernels *k, const struct weight *w, int64_t r0, int64_t r1,
	       const void *act, size_t act_bytes, int64_t n_tok, float *out, int64_t out_stride)
{
	struct weight as = *w;

	assert(w->packed);
	as.type = weight_type_by_id(TYPE_I2_S);
	as.data = w->packed;
	as.packed = NULL;
	as.n_in = whole_blocks(w->n_in);
	as.row_bytes = (size_t)as.n_in / 4;
	k->matmul(k, &as, r0, r1, act, act_bytes, n_tok, out, out_stride, false);
	return true;
}
