/*
 * TL1 and TL2: sizes, places of single codes as the references' kernels look them up, round trips of
 * every preset shape, and the product against its definition.
 */
#include "gguf.h"
#include "digest.h"
#include "test.h"
#include "tl.h"
#include "tl_config.h"

#include <math.h>

static uint32_t state = 0x2545f491;

static uint32_t random32(void)
{
	state ^= state << 13;
	state ^= state >> 17;
	return state ^= state << 5;
}

static void random_codes(int8_t *codes, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		codes[i] = (int8_t)(random32() >> 8) % 2;
}

/* Exactly as many bytes as the tensor has. */
static uint8_t *random_tensor(const struct tl_config *c, float scale)
{
	const struct weight_type *t = weight_type_by_id(c->type);
	size_t bytes = (size_t)weight_type_bytes(t, c->n_in, c->rows);
	uint8_t *data = calloc(1, bytes);
	int8_t *codes = malloc((size_t)c->n_in);

	for (int64_t r = 0; r < c->rows; r++) {
		random_codes(codes, c->n_in);
		tl_put_row(t, data, c->n_in, c->rows, r, codes);
	}
	memcpy(data + bytes - 32, &scale, sizeof(scale));
	free(codes);
	return data;
}

static void sizes(void)
{
	const struct weight_type *tl1 = weight_type_by_name("tl1"),
				 *tl2 = weight_type_by_name("TL2");

	CHECK(tl1 && tl1->id == 38 && tl2 && tl2->id == 39, "types 38 and 39");
	CHECK(weight_type_bytes(tl1, 1536, 4096) == 1536 * 4096 / 4 + 32,
	      "TL1: two bits a weight, and a tail");
	CHECK(weight_type_bytes(tl2, 4096, 1536) == 1327104 + 32,
	      "TL2: 5/3 bits but for 256 columns");
	CHECK(weight_type_bytes(tl2, 288, 1) == 96 + 32,	/* 6 + 64 bytes, padded */
	      "TL2: divisions as the reference rounds them, then a multiple of 32");
	CHECK(weight_type_bytes(tl2, 224, 64) == 0, "TL2: fewer than 256 columns have no size");
	CHECK(weight_type_bytes(tl2, INT64_MAX / 32 * 32, 4096) == 0,
	      "TL2: nor have sizes beyond 63 bits");
}

static void known_shapes(void)
{
	struct err e = ERR_NONE;

	CHECK(tl_check(weight_type_by_id(TYPE_TL2), "w", 4096, 1536, &e) == 0,
	      "a preset's shape is known");
	CHECK(tl_check(weight_type_by_id(TYPE_TL2), "blk.0.attn_q.weight", 2560, 2560, &e) < 0 &&
	      e.code == EXIT_MODEL_LOAD, "another is not");
	CHECK_STR(
		e.msg,
		"tensor blk.0.attn_q.weight is tl2 of 2560 rows and 2560 columns, a shape without a known "
		"tiling; known are those of bitnet.cpp's presets bitnet_b1_58-large, bitnet_b1_58-3B and "
		"Llama3-8B-1.58-100B-tokens",
		"and is told");
	int uneven = 0, n = 0;

	for (const struct tl_config *c = tl_configs; c->preset; c++, n++)
		if (c->rows % c->bm || c->bm % c->bmm || (c->type == TYPE_TL1 && c->n_in % c->bk) ||
		    (c->type == TYPE_TL2 &&
		     (c->n_in % c->bk % 32 || c->n_in % c->bk > 256 || c->bk % 24)))
			uneven++;
	CHECK(n == 20 && uneven == 0, "tiles cut all 20 shapes evenly");
}

/* One code set in a matrix of zeros: the bytes that change. TL1's zero pair is 4, TL2's zero triple 0. */
static void places(void)
{
	const struct tl_config *c = tl_config_find(TYPE_TL2, 4096, 1536);
	const struct weight_type *t = weight_type_by_id(TYPE_TL2);
	size_t three = 4032u * 1536;
	uint8_t *d = calloc(1, (size_t)weight_type_bytes(t, c->n_in, c->rows));
	int8_t codes[4096] = {0};

	codes[3] = -1, codes[4032] = 1, codes[4035] = -1;
	tl_put_row(t, d, c->n_in, c->rows, 9, codes);	/* row 9: in the third eight of its strip */
	CHECK(d[17] == 9, "TL2: group 1 in the lower nibble, 9 for its first column");
	CHECK(d[three / 6 + 18] == 0 && d[three / 6 + 19] == 1 << 5,
	      "TL2: its sign is bit 13 of word 9");
	CHECK(d[three / 6 + three / 24 + 17] == (7 << 4 | 3),
	      "TL2: columns 4032 on are pairs, 3a + b + 4");
	free(d);

	t = weight_type_by_id(TYPE_TL1);
	d = calloc(1, (size_t)weight_type_bytes(t, 1536, 1536));
	memset(codes, 0, sizeof(codes));
	codes[0] = 1, codes[7] = -1, codes[65] = 1;
	tl_put_row(t, d, 1536, 1536, 17, codes);	/* bm 128, bk 64, bmm 64: by 4 */
	CHECK(d[17] == (7 << 4 | 4) && d[64 + 17] == (4 << 4 | 3),
	      "TL1: 16 rows of a strip side by side");
	CHECK(d[128 * 64 / 4 + 17] == (5 << 4 | 4), "TL1: 64 columns of 128 rows are a tile");
	free(d);
}

static void round_trips(void)
{
	for (const struct tl_config *c = tl_configs; c->preset; c++) {
		const struct weight_type *t = weight_type_by_id(c->type);
		uint8_t *d = calloc(1, (size_t)weight_type_bytes(t, c->n_in, c->rows));
		int8_t *a = malloc((size_t)c->n_in), *b = malloc((size_t)c->n_in);
		uint32_t seed = state;
		long bad = 0;

		if (c->n_in * c->rows > 10000000) {	/* too slow under sanitizers */
			free(d), free(a), free(b);
			continue;
		}
		for (int64_t r = 0; r < c->rows; r++) {
			random_codes(a, c->n_in);
			tl_put_row(t, d, c->n_in, c->rows, r, a);
		}
		state = seed;
		for (int64_t r = 0; r < c->rows; r++) {
			random_codes(a, c->n_in);
			tl_row(t, d, c->n_in, c->rows, r, b);
			bad += memcmp(a, b, (size_t)c->n_in) != 0;
		}
		CHECK(bad == 0, "%s %lld × %lld: every code comes back", t->name,
		      (long long)c->rows, (long long)c->n_in);
		free(d), free(a), free(b);
	}
}

/* float(Σ code · RNE(x · s)) / s · scale, and the dequantised row beside it. */
static void product(const struct kernels *k, const struct tl_config *c, int64_t n_tok)
{
	const struct weight_type *t = weight_type_by_id(c->type);
	uint8_t *d = random_tensor(c, 0.0371f), *packed = tl_unpack(t, d, c->n_in, c->rows);
	size_t act_bytes = act_row_bytes(t->act, c->n_in), n = (size_t)c->n_in;
	uint8_t *act = aligned_alloc(64, act_bytes * (size_t)n_tok);
	float *x = malloc(n * (size_t)n_tok * sizeof(*x)), *row = malloc(n * sizeof(*row));
	float *y = malloc((size_t)(c->rows * n_tok) * sizeof(*y));
	int8_t *codes = malloc(n);
	long bad = 0, wrong = 0;
	struct weight w = {
		.type = t, .data = d, .packed = packed, .n_in = c->n_in, .n_out = c->rows};

	w.tail = d + weight_type_bytes(t, c->n_in, c->rows) - 32;
	for (size_t i = 0; i < n * (size_t)n_tok; i++)
		x[i] = (float)((int32_t)random32()) * (i % 7 ? 0x1p-31f : 0x1p-29f);
	for (int64_t i = 0; i < n_tok; i++)
		k->quantize[t->act](k, x + i * c->n_in, act + (size_t)i * act_bytes, c->n_in);
	k->matmul(k, &w, 0, c->rows, act, act_bytes, n_tok, y, c->rows, false);
	for (int64_t r = 0; r < c->rows; r += 37) {
		tl_row(t, d, c->n_in, c->rows, r, codes);
		weight_row(&w, r, row);
		for (size_t i = 0; i < n; i++)
			wrong += row[i] != (float)codes[i] * 0.0371f;
		for (int64_t i = 0; i < n_tok; i++) {
			const float *xi = x + i * c->n_in;
			float max = 0;
			int32_t sum = 0;

			for (size_t j = 0; j < n; j++)
				max = fmaxf(max, fabsf(xi[j]));
			float s = 127 / max;

			for (size_t j = 0; j < n; j++)
				sum += codes[j] * (int32_t)lrintf(xi[j] * s);
			bad += y[i * c->rows + r] != (float)sum / s * 0.0371f;
		}
	}
	CHECK(bad == 0 && wrong == 0, "%s %s %lld × %lld, %lld tokens: product and values",
	      isa_name(k->isa), t->name, (long long)c->rows, (long long)c->n_in, (long long)n_tok);
	free(d), free(packed), free(act), free(x), free(row), free(y), free(codes);
}

static void products(const char *isa)
{
	struct cpu_flags cpu = cpu_flags_detect();
	struct err e = ERR_NONE;
	struct profile p;
	struct kernels k;

	if (profile_by_name(&p, "ggml-avx2", true, &e) < 0 ||
	    kernels_init(&k, &cpu, isa, &p, &e) < 0) {
		printf("skip - products with %s # %s\n", isa, e.msg);
		return;
	}
	product(&k, tl_config_find(TYPE_TL2, 1536, 1536), 1);
	product(&k, tl_config_find(TYPE_TL2, 1536, 1536), 5);
	product(&k, tl_config_find(TYPE_TL2, 8640, 3200), 2);	/* rows are filled to 68 blocks */
	product(&k, tl_config_find(TYPE_TL1, 1536, 1536), 9);
}

static void zeros(void)
{
	float x[256] = {0};
	_Alignas(64) uint8_t act[64 + 256];

	memset(act, 0xee, sizeof(act));
	tl_quantize(NULL, x, act, 256);
	int sum = 0;

	for (int i = 64; i < 64 + 256; i++)
		sum += act[i];
	CHECK(sum == 0, "a row of zeros has codes 0");
}

/* What the packer wrote when bitnet.cpp's own kernels were seen to give our bits (docs/formats.md). */
static void pinned(uint32_t type, const char *want)
{
	const struct tl_config *c = tl_config_find(type, 1536, 1536);
	const struct weight_type *t = weight_type_by_id(type);
	uint8_t sha256[DIGEST_BYTES];
	struct digest sum;
	char hex[DIGEST_HEX];

	state = 1;
	uint8_t *d = random_tensor(c, 1);

	digest_init(&sum);
	digest_update(&sum, d, (size_t)weight_type_bytes(t, c->n_in, c->rows));
	digest_final(&sum, sha256);
	digest_hex(sha256, hex);
	CHECK_STR(hex, want, "%s: the layout stays", t->name);
	free(d);
}

int main(void)
{
	sizes();
	known_shapes();
	places();
	round_trips();
	zeros();
	products("c");
	products("avx2");
	products("avx512-vnni");
	pinned(TYPE_TL1, "c3ae0531abb4a66dc02343f72b4b9e553f900a9dfc23f99620962ebae61fc68b");
	pinned(TYPE_TL2, "795c0686cf30e276608c4e2053422246b59e837d346c2dd8464f7672c730e4be");
	return test_failures != 0;
}
