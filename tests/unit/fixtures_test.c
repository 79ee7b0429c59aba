/* Generated models: the same bytes everywhere, every type through its own dequantiser and back. */
#include "fixtures.h"

#include "digest.h"
#include "quantize.h"
#include "test.h"
#include "weights.h"

#include <math.h>
#include <unistd.h>

static char dir[] = "/tmp/assay-fixtures-XXXXXX";

static void file_sha256(const char *path, char hex[65])
{
	uint8_t sha256[DIGEST_BYTES] = {0};
	struct err e = ERR_NONE;

	CHECK(digest_file(path, sha256, NULL, NULL, &e) == 0, "%s", e.msg);
	digest_hex(sha256, hex);
}

static const char *make(const struct fixture_options *o, struct err *e)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/m.gguf", dir);
	return fixture_write(path, o, e) == 0 ? path : NULL;
}

/* ---- the same everywhere ------------------------------------------------------------------ */

/* From `assay gen-fixtures --preset … --weights … --seed 1 && sha256sum`. A change of these is a
 * change of every result that was ever recorded on a generated model. */
static const struct { const char *preset, *weights, *sha256;
} pinned[] = {
	{"tiny-bitnet", "i2_s", "69b7f8d05930cbd77d71dd35b81c14655f6272885b7281c555dd30afea307569"},
	{"tiny-bitnet-silu", "tq1_0",
	 "33e30f74d59b6d33a6b5868d422499a790aa4f549461b4a4f7b0a66d47c61fc1"},
	{"tiny-llama", "q4_k_m",
	 "63b170540efec3fa5a2517f734234b704f0d6eb50a8833e7b25515eed4c99de8"},
	{"tiny-llama3", "bf16", "1739a9e405d269332f3eb7c94e953b1d261b889e0cf4190a8865b111afff7dde"},
	{"tiny-qwen3", "q8_0", "3938a64bae91d6891d7cd2ec2dc01bd26a99d4622b90d2188a240f997de6addc"},
};

static void deterministic(void)
{
	char hex[65], other[65];

	for (size_t i = 0; i < sizeof(pinned) / sizeof(*pinned); i++) {
		struct fixture_options o = {
			.preset = pinned[i].preset, .weights = pinned[i].weights, .seed = 1};
		struct err e = ERR_NONE;
		const char *path = make(&o, &e);

		CHECK(path, "%s %s is written (%s)", o.preset, o.weights, e.msg);
		if (!path)
			continue;
		file_sha256(path, hex);
		CHECK_STR(hex, pinned[i].sha256, "%s %s has its known bytes", o.preset, o.weights);
		o.seed = 2;
		file_sha256(make(&o, &e), other);
		CHECK(strcmp(hex, other) != 0, "another seed gives others");
	}
}

/* ---- every type --------------------------------------------------------------------------- */

/*
 * What may be lost, as a part of the largest value of a block: half a step of the codes, doubled
 * where the step itself is rounded to few bits (K), plus the halves' own rounding.
 */
static const struct { const char *name; float part; } losses[] = {
	{ "f32", 0 }, { "f16", 0x1p-11f }, { "bf16", 0x1p-8f }, { "q8_0", 0.6f / 127 },
	{ "q4_0", 0.6f / 7 }, { "q4_1", 1.1f / 15 }, { "q5_0", 0.6f / 15 }, { "q5_1", 1.1f / 31 },
	{ "q2_k", 2.2f / 3 }, { "q3_k", 1.2f / 3 }, { "q4_k", 2.2f / 15 }, { "q5_k", 2.2f / 31 },
	{ "q6_k", 1.2f / 31 },
};

static void round_trip_reals(void)
{
	enum { N = 512 };
	static float x[N], y[N];
	static uint8_t blocks[N * 4];

	for (int i = 0; i < N; i++)	/* within ±1, no two blocks alike */
		x[i] = (float)((i * 7919 + i * i * 31) % 2001 - 1000) / 1000;
	x[17] = 1, x[300] = -1;
	for (size_t i = 0; i < sizeof(losses) / sizeof(*losses); i++) {
		const struct weight_type *t = weight_type_by_name(losses[i].name);
		float worst = 0;

		quantize_row(t, x, 0, blocks, N);
		t->dequantize(blocks, NULL, y, N);
		for (int k = 0; k < N; k++)
			worst = fabsf(x[k] - y[k]) > worst ? fabsf(x[k] - y[k]) : worst;
		CHECK(worst <= losses[i].part, "%s loses %g, at most %g", t->name, (double)worst,
		      (double)losses[i].part);
		CHECK(worst > losses[i].part / 16 || losses[i].part == 0,
		      "and that bound is not idle");
	}
}

static void round_trip_ternary(void)
{
	static const char *const names[] = { "i2_s", "tq1_0", "tq2_0", "f16", "q8_0" };
	enum { N = 512 };
	static float x[N], y[N];
	static uint8_t blocks[N * 4], tail[32];

	for (int i = 0; i < N; i++)
		x[i] = (float)((i * 7919 + i / 3) % 3 - 1) * 0.375f;
	for (int i = 0; i < 4; i++) {
		const struct weight_type *t = weight_type_by_name(names[i]);

		memset(blocks, 0xee, sizeof(blocks));
		quantize_row(t, x, 0.375f, blocks, N);
		quantize_tail(t, 0.375f, tail);
		t->dequantize(blocks, tail, y, N);
		CHECK(memcmp(x, y, sizeof(x)) == 0, "%s holds ternary values exactly", t->name);
		size_t used = N / t->block_elems * t->block_bytes;

		CHECK(blocks[used] == 0xee, "%s writes its %zu bytes only", t->name, used);
	}
}

/* ---- layouts, by hand --------------------------------------------------------------------- */

static void layouts(void)
{
	uint8_t b[256] = {0}, tail[32] = {0};
	float y[256], scale = 2;

	memcpy(tail, &scale, 4);
	b[0] = 2 << 6 | 1 << 4 | 0 << 2 | 2;	/* values 0, 32, 64, 96 */
	b[1] = 3 << 6;
	weight_type_by_name("i2_s")->dequantize(b, tail, y, 128);
	CHECK(y[0] == 2 && y[32] == 0 && y[64] == -2 && y[96] == 2 && y[1] == 0 && y[33] == -2,
	      "I2_S: byte p holds p, p+32, p+64, p+96 from the top; code 3 is 0");
	memset(b, 0, sizeof(b));
	b[65] = 0x3c;				/* d = 1 */
	b[0] = 2 | 1 << 2;
	b[32] = 2 << 6;
	weight_type_by_name("TQ2_0")->dequantize(b, NULL, y, 256);
	CHECK(y[0] == 1 && y[32] == 0 && y[64] == -1 && y[224] == 1,
	      "TQ2_0: byte p holds p, p+32, … from below");
	memset(b, 0, sizeof(b));
	b[209] = 0x3c;
	b[192] = 3;				/* scale of 0…15 */
	b[0] = 5, b[128] = 2;			/* code 5 + 2·16 − 32 */
	weight_type_by_name("q6_k")->dequantize(b, NULL, y, 256);
	CHECK(y[0] == 15 && y[1] == -96 && y[16] == 0,
	      "Q6_K: four low bits, two high bits, minus 32");
}

/* The same seed gives the same numbers in each type that can hold them. */
static int hash_of(void *ctx, const char *name, const char *type, int n_dims, const int64_t *shape,
		   const char *sha256, const float *values)
{
	(void)name, (void)type, (void)n_dims, (void)shape, (void)values;
	strcpy(ctx, sha256);
	return 0;
}

static void equal_weights(void)
{
	static const char *const types[] = { "i2_s", "tq2_0", "tq1_0", "f16", "f32" };
	char first[65] = "", hex[65];

	for (int i = 0; i < 5; i++) {
		struct fixture_options o = { .preset = "tiny-bitnet", .weights = types[i] };
		struct err e = ERR_NONE;
		struct gguf g = {0};
		const char *path = make(&o, &e);
		int rc = path ? gguf_open(&g, path, &e) : -1;

		if (rc == 0)
			rc = weights_each(&g, "blk.1.ffn_down.weight", false, hash_of, hex, &e);
		gguf_close(&g);
		if (i == 0)
			strcpy(first, hex);
		CHECK(rc == 0 && strcmp(first, hex) == 0, "%s holds the same weights (%s)",
		      types[i], e.msg);
	}
}

/* ---- structure and refusals --------------------------------------------------------------- */

static void structure(void)
{
	struct fixture_options o = {.preset = "bitnet-2b4t",
				    .n_layer = 1,
				    .n_embd = 256,
				    .n_head = 4,
				    .n_kv_head = 2,
				    .n_ff = 512};
	struct err e = ERR_NONE;
	struct gguf g = {0};
	const char *path = make(&o, &e);
	const struct gguf_tensor *t;

	CHECK(path && gguf_open(&g, path, &e) == 0, "the 2B preset, made small (%s)", e.msg);
	CHECK(g.n_tensors == 13 && (t = gguf_tensor(&g, "token_embd.weight")) &&
		      t->ne[1] == 128256 && t->type == TYPE_F16 &&
		      !gguf_tensor(&g, "output.weight"),
	      "11 tensors per layer and two, 128256 F16 embeddings, tied");
	gguf_close(&g);

	struct fixture_options copy = {.preset = "tiny-llama",
				       .vocab_path = "tests/vectors/absent.gguf"};

	CHECK(!make(&copy, &e) && e.code == EXIT_MODEL_LOAD, "an absent vocabulary is code 10");
	struct fixture_options first = {.preset = "tiny-qwen2"}, second = {.preset = "tiny-llama"};
	char other[256];

	snprintf(other, sizeof(other), "%s/vocab.gguf", dir);
	second.vocab_path = other;
	CHECK(fixture_write(other, &first, &e) == 0 && (path = make(&second, &e)) &&
		      gguf_open(&g, path, &e) == 0 && gguf_find(&g, "tokenizer.ggml.merges"),
	      "a vocabulary is copied");
	gguf_close(&g);
	unlink(other);
}

static void refusals(void)
{
	static const struct { struct fixture_options o; const char *sentence;
	} cases[] = {
		{{.preset = "huge"},
		 "no preset is called 'huge'; there are tiny-bitnet, tiny-bitnet-silu, "
		 "tiny-llama, tiny-llama3, tiny-llama-linear, tiny-llama-yarn, tiny-qwen2, tiny-qwen3, "
		 "llama-1b, bitnet-2b4t"},
		{{.preset = "tiny-llama", .weights = "q9"},
		 "no weight type is called 'q9'; there are f32, f16, "
		 "bf16, i2_s, tl1, tl2, tq1_0, tq2_0, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, "
		 "q5_k, q6_k, q3_k_m, "
		 "q4_k_m, q5_k_m"},
		{{.preset = "tiny-llama", .arch = "gpt5"},
		 "no architecture is called 'gpt5'; there are "
		 "bitnet-b1.58, bitnet-25, bitnet, llama, qwen2, qwen3"},
		{{.preset = "tiny-llama", .weights = "q4_k", .n_ff = 288},
		 "blk.0.ffn_down.weight cannot be q4_k: "
		 "its rows have 288 elements, a multiple of 256 is needed"},
		{{.preset = "tiny-llama", .n_head = 3},
		 "3 heads cannot share 2 key-value heads evenly"},
		{{.preset = "tiny-llama", .n_layer = 513},
		 "sizes must be positive, with at most 512 layers"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct err e = ERR_NONE;

		CHECK(!make(&cases[i].o, &e) && e.code == EXIT_USAGE, "refused");
		CHECK_STR(e.msg, cases[i].sentence, "with its sentence");
	}
}

int main(void)
{
	char path[256];

	if (!mkdtemp(dir))
		return 1;
	deterministic();
	round_trip_reals();
	round_trip_ternary();
	layouts();
	equal_weights();
	structure();
	refusals();
	snprintf(path, sizeof(path), "%s/m.gguf", dir);
	unlink(path);
	rmdir(dir);
	return TEST_END();
}
