/*
 * Every variant of every kernel against the plain C reference, to the bit: each instruction set
 * that this CPU has is forced in turn, in each profile; all lengths, odd counts, exact-size heap
 * buffers, extreme values. `kernels_test --bench [TYPE]` measures instead.
 */
#include "kernels.h"
#include "kernels_bench.h"
#include "test.h"

#include <math.h>

static uint64_t seed = 1;

static uint32_t random32(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 32);
}

static float random_float(void)
{
	float x = ((float)(random32() >> 8) * 0x1p-23f - 1.0f);

	return x * (random32() % 16 == 0 ? 8.0f : 1.0f);
}

/* What a row of activations may hold. */
enum values { ORDINARY, TINY, ZERO, TIES, LARGE, WIDE, VALUES };

static void fill_floats(float *x, int64_t n, enum values v)
{
	for (int64_t i = 0; i < n; i++) {
		float r = random_float();

		switch (v) {
		case TINY: x[i] = r * 0x1p-130f; break;
		case ZERO: x[i] = random32() & 1 ? 0.0f : -0.0f; break;
		case TIES: x[i] = (float)((int)(random32() % 255) - 127) * 0.5f; break;
		case LARGE: x[i] = r * 0x1p12f; break;
		case WIDE: x[i] = ldexpf(r, (int)(random32() % 40) - 30); break;
		default: x[i] = r;
		}
	}
}

/* ---- matrices ----------------------------------------------------------------------------- */

/* Where a block keeps its F16 scales; −1 ends. */
static const struct { uint32_t id; int at[3]; } half_fields[] = {
	{TYPE_Q4_0, {0, -1}}, {TYPE_Q4_1, {0, 2, -1}}, {TYPE_Q5_0, {0, -1}},
	{TYPE_Q5_1, {0, 2, -1}}, {TYPE_Q8_0, {0, -1}}, {TYPE_Q2_K, {80, 82, -1}},
	{TYPE_Q3_K, {108, -1}}, {TYPE_Q4_K, {0, 2, -1}}, {TYPE_Q5_K, {0, 2, -1}},
	{TYPE_Q6_K, {208, -1}}, {TYPE_TQ1_0, {52, -1}}, {TYPE_TQ2_0, {64, -1}},
};

static void put_half(uint8_t *p)
{
	uint16_t h = f32_to_f16(random_float() * 0.1f);

	memcpy(p, &h, sizeof(h));
}

static void fill_block(const struct weight_type *t, uint8_t *b)
{
	float x = random_float();
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	for (uint32_t i = 0; i < t->block_bytes; i++)
		b[i] = (uint8_t)random32();
	if (t->id == TYPE_F32)
		memcpy(b, &x, sizeof(x));
	if (t->id == TYPE_BF16) {
		b[0] = (uint8_t)(bits >> 16);
		b[1] = (uint8_t)(bits >> 24);
	}
	if (t->id == TYPE_F16)
		put_half(b);
	for (size_t f = 0; f < sizeof(half_fields) / sizeof(half_fields[0]); f++)
		if (half_fields[f].id == t->id)
			for (const int *at = half_fields[f].at; *at >= 0; at++)
				put_half(b + *at);
}

/* Exactly as many bytes as the tensor has; caller frees data. */
static struct weight random_weight(const struct weight_type *t, int64_t n_in, int64_t n_out)
{
	size_t row = (size_t)(n_in / t->block_elems) * t->block_bytes;
	size_t bytes = row * (size_t)n_out;
	uint8_t *data = malloc(bytes + t->tail_bytes);
	float scale = 0.37f;

	for (size_t i = 0; i < bytes; i += t->block_bytes)
		fill_block(t, data + i);
	if (t->tail_bytes) {
		memset(data + bytes, 0xa5, t->tail_bytes);
		memcpy(data + bytes, &scale, sizeof(scale));
	}
	return (struct weight){.type = t, .data = data, .tail = t->tail_bytes ? data + bytes : NULL,
			       .row_bytes = row, .n_in = n_in, .n_out = n_out};
}

static long differing(const float *a, const float *b, int64_t n)
{
	long d = 0;

	for (int64_t i = 0; i < n; i++)
		d += memcmp(&a[i], &b[i], sizeof(float)) != 0 && !(isnan(a[i]) && isnan(b[i]));
	return d;
}

static long compare_quantize(const struct kernels *ref, const struct kernels *k, enum act_format f,
			     const float *x, uint8_t *got, uint8_t *want, int64_t n, size_t bytes)
{
	memset(got, 0, bytes);
	memset(want, 0, bytes);
	ref->quantize[f](ref, x, want, n);
	k->quantize[f](k, x, got, n);
	return memcmp(got, want, bytes) != 0;
}

/* One shape: quantiser and product of variant k against the reference. */
static long compare_matmul(const struct kernels *ref, const struct kernels *k,
			   const struct weight_type *t, int64_t n_in, int64_t n_out, int64_t n_tok,
			   bool defects)
{
	size_t bytes = act_row_bytes(t->act, n_in), count = (size_t)(n_out * n_tok);
	struct weight w = random_weight(t, n_in, n_out);
	uint8_t *want = malloc(bytes * (size_t)n_tok), *got = malloc(bytes * (size_t)n_tok);
	float *x = malloc((size_t)n_in * sizeof(*x));
	float *y0 = calloc(count, sizeof(*y0)), *y1 = calloc(count, sizeof(*y1));
	int64_t middle = n_out / 3;
	long bad = 0;

	for (int64_t i = 0; i < n_tok; i++) {
		fill_floats(x, n_in, n_tok == 1 ? ORDINARY : (enum values)(random32() % VALUES));
		bad += compare_quantize(ref, k, t->act, x, got + (size_t)i * bytes,
					want + (size_t)i * bytes, n_in, bytes);
	}
	ref->matmul(ref, &w, 0, n_out, want, bytes, n_tok, y0, n_out, defects);
	k->matmul(k, &w, 0, middle, want, bytes, n_tok, y1, n_out, defects);
	k->matmul(k, &w, middle, n_out, want, bytes, n_tok, y1, n_out, defects);
	bad += differing(y0, y1, n_out * n_tok);
	free((void *)w.data);
	free(want);
	free(got);
	free(x);
	free(y0);
	free(y1);
	return bad;
}

static void test_type(const struct kernels *ref, const struct kernels *k,
		      const struct weight_type *t)
{
	static const int64_t outs[] = {1, 2, 3, 4, 5, 7, 16, 17, 33, 49, 65};
	static const int64_t toks[] = {1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 17};
	long bad = 0, shapes = 0;

	for (int64_t n = t->block_elems; n <= (t->block_elems == 1 ? 130 : 11 * t->block_elems);
	     n += t->block_elems, shapes++)
		bad += compare_matmul(ref, k, t, n, outs[random32() % 11], toks[random32() % 12],
				      false);
	for (int i = 0; i < 11; i++, shapes++)
		bad += compare_matmul(ref, k, t, 512, outs[i], toks[i], false);
	if (t->block_elems != 256 || k->profile.lanes == LANES_AVX2)
		bad += compare_matmul(ref, k, t, 2560, 50, 9, false);
	if (t->id == TYPE_I2_S) {	/* tiles and panels: whole, not whole, more than one */
		static const int64_t many[] = {15, 16, 31, 32, 33, 47, 48, 63, 65, 515};

		for (int i = 0; i < 10; i++, shapes++)
			bad += compare_matmul(ref, k, t, 1024 + 128 * i, outs[i], many[i], false);
		bad += compare_matmul(ref, k, t, 6912, 9, 5, true);
	}
	CHECK(bad == 0, "%-11s %-18s %-5s: %ld shapes, %ld values differ", isa_name(k->isa),
	      k->profile.name, t->name, shapes, bad);
}

/* The largest sums there are: all codes 2 (or 3), all activations ±127. */
static void test_i2s_extremes(const struct kernels *ref, const struct kernels *k)
{
	enum { N = 8192, ROWS = 51, TOKENS = 6 };
	const struct weight_type *t = weight_type_by_id(TYPE_I2_S);
	struct weight w = random_weight(t, N, ROWS);
	size_t bytes = act_row_bytes(ACT_I8, N);
	uint8_t *act = malloc(bytes * TOKENS);
	float *x = malloc(N * sizeof(*x)), y0[2][ROWS * TOKENS], y1[2][ROWS * TOKENS];

	memset((void *)w.data, 0xaa, w.row_bytes * (ROWS / 2));
	memset((uint8_t *)w.data + w.row_bytes * (ROWS / 2), 0xff, w.row_bytes);
	for (int i = 0; i < TOKENS; i++) {
		for (int j = 0; j < N; j++)
			x[j] = i % 2 ? 1.0f : i % 3 ? -1.0f : random_float();
		ref->quantize[ACT_I8](ref, x, act + (size_t)i * bytes, N);
	}
	for (int defects = 0; defects < 2; defects++) {
		ref->matmul(ref, &w, 0, ROWS, act, bytes, TOKENS, y0[defects], ROWS, defects);
		k->matmul(k, &w, 0, ROWS, act, bytes, TOKENS, y1[defects], ROWS, defects);
		CHECK(differing(y0[defects], y1[defects], ROWS * TOKENS) == 0,
		      "%-11s i2_s: largest sums%s", isa_name(k->isa), defects ? " that wrap" : "");
	}
	CHECK(memcmp(y0[0], y0[1], sizeof(y0[0])) != 0, "the wrap shows in these rows");
	free((void *)w.data);
	free(act);
	free(x);
}

/* ---- rows --------------------------------------------------------------------------------- */

static void test_rows(const struct kernels *ref, const struct kernels *k)
{
	long norm = 0, glu = 0, add = 0, half = 0, dots = 0, rope = 0;

	for (int64_t n = 1; n <= 131; n++) {
		int64_t len = n == 131 ? 6912 : n, rows = n % 19 + 1;
		size_t bytes = (size_t)(len * rows) * sizeof(float);
		float *x = malloc(bytes), *w = malloc(bytes), *y0 = malloc(bytes),
		      *y1 = malloc(bytes);
		uint16_t *h0 = malloc(bytes / 2), *h1 = malloc(bytes / 2);

		for (int v = 0; v < VALUES; v++) {
			fill_floats(x, len * rows, (enum values)v);
			fill_floats(w, len, ORDINARY);
			for (int weighted = 0; weighted < 2; weighted++) {
				ref->rms_norm(ref, x, weighted ? w : NULL, 1e-5f, y0, len, rows);
				k->rms_norm(k, x, weighted ? w : NULL, 1e-5f, y1, len, rows);
				norm += differing(y0, y1, len * rows);
			}
			for (int a = 0; a < ACTIVATION_COUNT; a++) {
				ref->glu(ref, (enum activation)a, x, w, y0, len);
				k->glu(k, (enum activation)a, x, w, y1, len);
				glu += differing(y0, y1, len);
			}
			ref->add(x, w, y0, len);
			k->add(x, w, y1, len);
			add += differing(y0, y1, len);
			ref->to_f16(x, h0, len);
			k->to_f16(x, h1, len);
			half += memcmp(h0, h1, (size_t)len * 2) != 0;
			ref->from_f16(h0, y0, len);
			k->from_f16(h0, y1, len);
			half += differing(y0, y1, len);
			ref->to_f16(w, h1, len);
			y0[0] = ref->dot_f32(ref, x, w, len);
			y1[0] = k->dot_f32(k, x, w, len);
			dots += differing(y0, y1, 1);
			y0[0] = ref->dot_f16(ref, h0, h1, len);
			y1[0] = k->dot_f16(k, h0, h1, len);
			dots += differing(y0, y1, 1);
		}
		for (int neox = 0; neox < 2 && len % 2 == 0; neox++) {
			fill_floats(w, len, ORDINARY);
			fill_floats(x, len * rows, ORDINARY);
			memcpy(y0, x, bytes);
			memcpy(y1, x, bytes);
			ref->rope(ref, y0, w, (int)rows, (int)len, (int)len, neox);
			k->rope(k, y1, w, (int)rows, (int)len, (int)len, neox);
			rope += differing(y0, y1, len * rows);
		}
		free(x);
		free(w);
		free(y0);
		free(y1);
		free(h0);
		free(h1);
	}
	CHECK(norm + glu + add + half + dots + rope == 0,
	      "%-11s %-18s rows: norm %ld, gate %ld, add %ld, halves %ld, dots %ld, rotation %ld differ",
	      isa_name(k->isa), k->profile.name, norm, glu, add, half, dots, rope);
}

/* The norm as the references compute it: squares added one after the other. */
static void norm_in_order(const float *x, float eps, float *y, int n)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += (double)(x[i] * x[i]);
	float scale = 1.0f / sqrtf((float)(sum / n) + eps);

	for (int i = 0; i < n; i++)
		y[i] = x[i] * scale;
}

static void test_norm_order(const struct kernels *k)
{
	enum { N = 2560, ROWS = 3000 };
	static float x[N], y0[N], y1[N];
	long bad = 0;

	for (int r = 0; r < ROWS; r++) {
		int n = r % 3 ? N : (int)(random32() % N) + 1;

		fill_floats(x, n, (enum values)(r % VALUES));
		if (r % 7 == 0)		/* a mean that lies on a rounding border */
			for (int i = 0; i < n; i++)
				x[i] = i % 2 ? 1.0f : 0x1.000002p0f;
		norm_in_order(x, 1e-5f, y0, n);
		k->rms_norm(k, x, NULL, 1e-5f, y1, n, 1);
		bad += differing(y0, y1, n) != 0;
	}
	CHECK(bad == 0, "%-11s norm: %d rows, %ld differ from the ordered sum", isa_name(k->isa),
	      ROWS, bad);
}

/* ---- attention ---------------------------------------------------------------------------- */

struct cache { void *k, *v; int64_t n_cells; int width; bool f32; };

static void fill_cache(struct cache *c, int64_t n_used)
{
	for (int64_t cell = 0; cell < n_used; cell++)
		for (int i = 0; i < c->width; i++) {
			float kv[2] = {random_float(), random_float()};

			for (int j = 0; j < 2; j++) {
				int64_t at = j ? i * c->n_cells + cell : cell * c->width + i;
				void *to = j ? c->v : c->k;

				if (c->f32)
					((float *)to)[at] = kv[j];
				else
					((uint16_t *)to)[at] = f32_to_f16(kv[j]);
			}
		}
}

/* The same keys in blocks. */
static void *keys_in_blocks(const struct cache *c, const uint8_t *place)
{
	uint16_t *blocks =
		calloc((size_t)(attend_block_cells(c->n_cells) * c->width), sizeof(*blocks));

	for (int64_t cell = 0; cell < c->n_cells; cell++)
		for (int i = 0; i < c->width; i++)
			blocks[attend_block_at(cell, place[i], c->width)] =
				((const uint16_t *)c->k)[cell * c->width + i];
	return blocks;
}

/* Queries of one head over many cells in uneven parts, against attend itself. */
static long compare_parts(const struct kernels *k, const struct attend *whole, float *out,
			  int64_t n)
{
	struct attend a = *whole;
	int64_t last = a.n_vis + a.n_tok - 1;
	int64_t cut = last / 3 / ATTEND_BLOCK * ATTEND_BLOCK;
	int queries = a.n_heads * a.n_tok, middle = a.head_dim / 3;

	if (!a.k_place || queries > ATTEND_QUERIES)
		return 0;
	float *shared = aligned_alloc(64, attend_shared_bytes(&a)), *got = calloc((size_t)n, 4);

	a.out = got;
	a.scores = a.probs = NULL;
	k->attend_parts->queries(&a, shared);
	k->attend_parts->scores(k, &a, shared, 0, cut);
	k->attend_parts->scores(k, &a, shared, cut, last);
	k->attend_parts->weights(k, &a, shared, 0, queries / 2);
	k->attend_parts->weights(k, &a, shared, queries / 2, queries);
	k->attend_parts->values(k, &a, shared, middle, a.head_dim);
	k->attend_parts->values(k, &a, shared, 0, middle);
	long bad = differing(got, out, n);

	free(shared);
	free(got);
	return bad;
}

static long compare_attend(const struct kernels *ref, const struct kernels *k, int head_dim,
			   int n_heads, int n_tok, int64_t past, bool f32)
{
	int64_t n_used = past + n_tok, n_kv = (n_used + k->profile.kv_pad - 1) / k->profile.kv_pad *
					     k->profile.kv_pad;
	int64_t row = (int64_t)n_heads * head_dim, cells = n_kv * n_heads * n_tok;
	size_t cache_bytes = (size_t)(n_kv * head_dim) * (f32 ? 4 : 2);
	struct cache c = {calloc(1, cache_bytes), calloc(1, cache_bytes), n_kv, head_dim, f32};
	float *q = malloc((size_t)(row * n_tok) * 4), *out[2][2], *trace[2][2];
	long bad = 0;

	fill_cache(&c, n_used);
	fill_floats(q, row * n_tok, ORDINARY);
	struct attend a = {
		.q = q,
		.q_stride = row,
		.out_stride = row,
		.n_heads = n_heads,
		.n_tok = n_tok,
		.head_dim = head_dim,
		.n_vis = past + 1,
		.n_kv = n_kv,
		.kc = c.k,
		.vc = c.v,
		.k_stride = head_dim,
		.v_stride = n_kv,
		.kv_f32 = f32,
		.scale = 1.0f / sqrtf((float)head_dim),
		.trace_stride = n_tok * n_kv,
		.n_used = n_used,
	};
	uint8_t place[ATTEND_DIM_MAX];
	void *blocks = NULL;

	if (!f32 && attend_in_blocks(k, head_dim)) {
		attend_places(k, head_dim, place);
		blocks = keys_in_blocks(&c, place);
	}

	a.scratch = aligned_alloc(64, (attend_scratch_bytes(&a) + 63) / 64 * 64);
	for (int v = 0; v < 2; v++)
		for (int traced = 0; traced < 2; traced++) {
			out[v][traced] = calloc((size_t)(row * n_tok), 4);
			trace[v][traced] = calloc((size_t)cells, 4);
		}
	for (int v = 0; v < 2; v++)
		for (int traced = 0; traced < 2; traced++) {
			const struct kernels *kk = v ? k : ref;

			a.k_place = v && blocks ? place : NULL;
			a.kc = a.k_place ? blocks : c.k;
			a.out = out[v][traced];
			a.scores = traced ? trace[v][0] : NULL;
			a.probs = traced ? trace[v][1] : NULL;
			kk->attend(kk, &a);
		}
	bad += compare_parts(k, &a, out[0][0], row * n_tok);
	for (int traced = 0; traced < 2; traced++) {
		bad += differing(out[0][0], out[1][traced], row * n_tok);
		bad += differing(trace[0][traced], trace[1][traced], cells);
	}
	for (int v = 0; v < 2; v++)
		for (int traced = 0; traced < 2; traced++) {
			free(out[v][traced]);
			free(trace[v][traced]);
		}
	free(a.scratch);
	free(blocks);
	free(c.k);
	free(c.v);
	free(q);
	return bad;
}

static void test_attention(const struct kernels *ref, const struct kernels *k)
{
	static const int dims[] = {64, 128, 32, 96, 80, 256};
	static const struct { int heads, tok; int64_t past; } shapes[] = {
		{1, 1, 0}, {4, 1, 30}, {4, 1, 31}, {4, 1, 32}, {2, 3, 61}, {1, 5, 95}, {4, 4, 127},
		{3, 7, 130}, {4, 19, 0}, {8, 2, 255}, {5, 1, 513}, {4, 1, 1200}, {4, 33, 1000},
	};
	long bad = 0, n = 0;

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		for (int f32 = 0; f32 < 2; f32++, n++)
			bad += compare_attend(ref, k, dims[i < 6 ? i : i % 2], shapes[i].heads,
					      shapes[i].tok, shapes[i].past, f32);
	CHECK(bad == 0, "%-11s %-18s attention, padding %d: %ld shapes, %ld values differ",
	      isa_name(k->isa), k->profile.name, k->profile.kv_pad, n, bad);
}

/* ---- all of it ---------------------------------------------------------------------------- */

static void test_variant(const struct cpu_flags *cpu, const char *isa, const char *profile,
			 bool bitnet)
{
	struct kernels ref, k;
	struct profile p;
	struct err e = ERR_NONE;

	if (profile_by_name(&p, profile, bitnet, &e) < 0 ||
	    kernels_init(&k, cpu, isa, &p, &e) < 0 || kernels_init(&ref, cpu, "c", &p, &e) < 0) {
		CHECK(false, "%s %s: %s", isa, profile, e.msg);
		return;
	}
	for (const struct weight_type *t = weight_types; t->name; t++)
		if (t->dequantize)	/* tl_test has the others */
			test_type(&ref, &k, t);
	test_i2s_extremes(&ref, &k);
	test_rows(&ref, &k);
	test_norm_order(&k);
	test_attention(&ref, &k);
}

static void test_scratch(void)
{
	struct attend a = {.head_dim = 128};
	size_t last = 0, less = 0;

	for (a.n_kv = 32; a.n_kv < 40000; a.n_kv += 32) {
		less += attend_scratch_bytes(&a) < last;
		last = attend_scratch_bytes(&a);
	}
	CHECK(less == 0, "scratch of a longer cache serves every shorter one");
}

static void test_profiles(void)
{
	struct profile p;
	struct err e = ERR_NONE;

	CHECK(profile_by_name(&p, "avx512", true, &e) == 0 && p.lanes == LANES_AVX512 &&
		      p.kv_pad == 32,
	      "avx512 of a bitnet.cpp model pads to 32");
	CHECK_STR(p.name, "ggml-avx512-clang", "its compiler is clang");
	CHECK(profile_by_name(&p, "ggml-fp16-gcc", false, &e) == 0 && p.bf16_dp && p.kv_pad == 256,
	      "ggml-fp16-gcc pads to 256");
	CHECK(profile_by_name(&p, "ggml-sse", false, &e) == -EXIT_USAGE,
	      "an unknown one is refused");
	CHECK_STR(e.msg,
		  "unknown numerics profile \"ggml-sse\"; known are ggml-avx2, ggml-avx512, "
		  "ggml-fp16, each also with -gcc or -clang, and fast",
		  "and the known are named");
	CHECK(kernels_kv_length(&p, 300, 4096) == 512 && kernels_kv_length(&p, 1, 100) == 100,
	      "the KV length is padded, at most to the context");
}

int main(int argc, char **argv)
{
	static const struct { const char *name; bool bitnet; } profiles[] = {
		{"ggml-avx2", true}, {"ggml-avx2", false}, {"ggml-avx512", true},
		{"ggml-fp16", false}, {"ggml-fp16-clang", false}, {"fast", true},
	};
	struct cpu_flags cpu = cpu_flags_detect();
	struct profile any;
	struct kernels k;
	struct err e = ERR_NONE;
	size_t step = getenv("ASSAY_TEST_BRIEF") ? 3 : 1; /* under an emulator: two profiles */

	if (argc > 1 && strcmp(argv[1], "--bench") == 0)
		return kernels_bench(argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : NULL);
	test_profiles();
	test_scratch();
	profile_by_name(&any, "ggml-avx2", true, NULL);
	CHECK(kernels_init(&k, &cpu, "mmx", &any, &e) == -EXIT_USAGE, "an unknown isa is refused");
	for (int isa = ISA_C + 1; isa < ISA_COUNT; isa++) {
		if (kernels_init(&k, &cpu, isa_name((enum isa)isa), &any, &e) < 0) {
			SKIP(isa_name((enum isa)isa), e.msg);
			continue;
		}
		for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i += step)
			test_variant(&cpu, isa_name((enum isa)isa), profiles[i].name,
				     profiles[i].bitnet);
	}
	return TEST_END();
}
