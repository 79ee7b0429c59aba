#include "fixture_values.h"

#include "kernels.h"
#include "quantize.h"
#include "tl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct stream { uint64_t state; };

/* SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t next(struct stream *s)
{
	uint64_t z = s->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static struct stream stream_of(uint64_t seed, const char *name)
{
	struct stream s = { seed };

	for (; *name; name++) {
		s.state ^= (uint8_t)*name;
		s.state = next(&s);
	}
	return s;
}

/* The sum of four 16-bit uniforms, centred: deviation 65536/√3, reaching 3.5 deviations. */
static float bell(struct stream *s)
{
	uint64_t r = next(s);
	int sum = (int)(r & 0xffff) + (int)(r >> 16 & 0xffff) + (int)(r >> 32 & 0xffff) +
		  (int)(r >> 48);

	return (float)(sum - 131070);
}

static const float bell_unit = 0x1.bb67aep-16f;	/* √3 / 65536 */

/* Four ternary codes per byte in the order of I2_S: the 81 values that hold no code 3. */
static void ternary_bytes(struct stream *s, uint8_t *out, int64_t n)
{
	uint8_t table[256];

	for (int i = 0; i < 256; i++) {
		int v = i * 81 >> 8;

		table[i] = (uint8_t)(v / 27 << 6 | v / 9 % 3 << 4 | v / 3 % 3 << 2 | v % 3);
	}
	for (int64_t i = 0; i < n; i += 8) {
		uint64_t r = next(s);

		for (int64_t j = i; j < i + 8 && j < n; j++, r >>= 8)
			out[j] = table[r & 255];
	}
}

/* The tensor's step, a half so that every type with a half scale holds it exactly. */
static float ternary_scale(struct stream *s, int64_t n)
{
	float spread = 0.75f + (float)(next(s) >> 40) * 0x1p-25f;

	return f16_to_f32(f32_to_f16(spread / sqrtf((float)n * 2 / 3)));
}

static void unpack(const uint8_t *bytes, float scale, float *x, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		int code = bytes[i / 128 * 32 + i % 32] >> (6 - i % 128 / 32 * 2) & 3;

		x[i] = (float)(code - 1) * scale;
	}
}

/* Types laid out by tiles are put together whole. */
static int write_tiles(struct gguf_writer *w, const struct fixture_tensor *t, struct stream *s,
		       uint8_t *packed, struct err *e)
{
	int64_t n = t->ne[0], n_codes = (n + 127) / 128 * 32;
	uint64_t bytes = weight_type_bytes(t->type, n, t->ne[1]);
	uint8_t *tensor = calloc(1, (size_t)bytes);
	int8_t *codes = malloc((size_t)n);
	float scale = ternary_scale(s, n);
	int rc = tensor && codes ? 0 : err_set(e, EXIT_INTERNAL, "out of memory");

	for (int64_t row = 0; rc == 0 && row < t->ne[1]; row++) {
		ternary_bytes(s, packed, n_codes);
		for (int64_t i = 0; i < n; i++)
			codes[i] =
				(int8_t)((packed[i / 128 * 32 + i % 32] >> (6 - i % 128 / 32 * 2) &
					  3) -
					 1);
		tl_put_row(t->type, tensor, n, t->ne[1], row, codes);
	}
	if (rc == 0) {
		memcpy(tensor + bytes - t->type->tail_bytes, &scale, sizeof(scale));
		gguf_write_data(w, tensor, bytes);
	}
	free(tensor);
	free(codes);
	return rc;
}

struct rows {
	float *x;		/* [ne0] */
	uint8_t *codes;		/* ternary codes of a row */
	uint8_t *blocks;	/* the row quantised */
};

static void write_ternary(struct gguf_writer *w, const struct fixture_tensor *t, struct stream *s,
			  const struct rows *r)
{
	int64_t n = t->ne[0], n_codes = (n + 127) / 128 * 32;
	float scale = ternary_scale(s, n);
	uint8_t tail[64];

	for (int64_t row = 0; row < t->ne[1]; row++) {
		ternary_bytes(s, r->codes, n_codes);
		if (t->type->id == TYPE_I2_S) {
			gguf_write_data(w, r->codes, (uint64_t)n_codes);
			continue;
		}
		unpack(r->codes, scale, r->x, n);
		quantize_row(t->type, r->x, scale, r->blocks, n);
		gguf_write_data(w, r->blocks,
				(uint64_t)(n / t->type->block_elems * t->type->block_bytes));
	}
	quantize_tail(t->type, scale, tail);
	gguf_write_data(w, tail, t->type->tail_bytes);
}

static void write_bell(struct gguf_writer *w, const struct fixture_tensor *t, struct stream *s,
		       const struct rows *r)
{
	float unit = bell_unit * t->sigma, centre = t->centre;
	int64_t n = t->ne[0];

	for (int64_t row = 0; row < t->ne[1]; row++) {
		for (int64_t i = 0; i < n; i++)
			r->x[i] = t->values == VALUES_GIVEN ? t->given[i] : centre + bell(s) * unit;
		quantize_row(t->type, r->x, 0, r->blocks, n);
		gguf_write_data(w, r->blocks,
				(uint64_t)(n / t->type->block_elems * t->type->block_bytes));
	}
}

int fixture_values_write(struct gguf_writer *w, const struct fixture_tensor *t, uint64_t seed,
			 struct err *e)
{
	struct stream s = stream_of(seed, t->name);
	size_t n = (size_t)t->ne[0];
	struct rows r = {
		.x = malloc(n * sizeof(float)),
		.codes = malloc(n / 4 + 64),
		.blocks = malloc(n * sizeof(float)),
	};
	int rc = 0;

	if (!r.x || !r.codes || !r.blocks)
		rc = err_set(e, EXIT_INTERNAL, "out of memory");
	else if (tl_type(t->type->id))
		rc = write_tiles(w, t, &s, r.codes, e);
	else if (t->values == VALUES_TERNARY)
		write_ternary(w, t, &s, &r);
	else
		write_bell(w, t, &s, &r);
	free(r.x);
	free(r.codes);
	free(r.blocks);
	return rc;
}
