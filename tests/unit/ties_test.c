/*
 * Rounding ties: which codes may go over (those at a half of the exact quotient, by no more than
 * two units of the last place, and no others), that the two compilers' quantisers of I2_S differ
 * by just such ones, and that a result is forgiven only what its own ties explain.
 */
#include "test.h"

#include "kernels.h"
#include "replay_ties.h"
#include "verdict/ties.h"

#include <math.h>
#include <stdbool.h>

enum { N = 512, BYTES = 1024 };

static const struct {
	enum act_format format;
	const char *name;
	int64_t block;
	size_t bytes, codes;	/* of a block; where its codes begin */
} formats[] = {
	{ACT_Q8_0, "Q8_0", 32, 34, 2},
	{ACT_Q8_1, "Q8_1", 32, 36, 4},
	{ACT_Q8_K, "Q8_K", 256, 292, 4},
	{ACT_I8, "I8", N, sizeof(struct act_i8_head) + N, sizeof(struct act_i8_head)},
};

static struct kernels kernels_as(const char *profile)
{
	struct cpu_flags cpu = cpu_flags_detect();
	struct kernels k = {0};
	struct profile p;
	struct err e = ERR_NONE;

	if (profile_by_name(&p, profile, true, &e) < 0 || kernels_init(&k, &cpu, NULL, &p, &e) < 0)
		CHECK(0, "%s", e.msg);
	return k;
}

static float noise(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (float)(*seed >> 8) * 0x1p-23f - 1;
}

/* Each block's greatest is 1, so that 127 · x is the quotient. */
static void fill(float *x, int64_t block, uint32_t seed)
{
	for (int64_t i = 0; i < N; i++) {
		x[i] = noise(&seed) * 0.9f;
		/* away from halves */
		double q = (double)x[i] * 127, f = fabs(q - floor(q) - 0.5);
		if (f < 0.01)
			x[i] = (float)((floor(q) + 0.25) / 127);
	}
	for (int64_t i = 0; i < N; i += block)
		x[i] = i / block % 2 ? -1 : 1;
}

static int code(const uint8_t *act, int f, int64_t i)
{
	return (int8_t)act[(size_t)(i / formats[f].block) * formats[f].bytes + formats[f].codes +
			   (size_t)(i % formats[f].block)];
}

/* Elements whose code differs; *last is the last. */
static int changed(const uint8_t *a, const uint8_t *b, int f, int64_t *last, int *step)
{
	int n = 0;

	for (int64_t i = 0; i < N; i++)
		if (code(a, f, i) != code(b, f, i)) {
			n++;
			*last = i;
			*step = code(b, f, i) - code(a, f, i);
		}
	return n;
}

static void test_format(const struct kernels *k, int f)
{
	const int64_t at[] = {40, 300};
	_Alignas(64) uint8_t act[BYTES] = {0}, turned[BYTES] = {0};
	enum act_format a = formats[f].format;
	int64_t last = -1;
	int step = 0;
	float x[N];

	fill(x, formats[f].block, 11);
	k->quantize[a](k, x, act, N);
	memcpy(turned, act, BYTES);
	CHECK(ties_flip(a, x, N, 1, turned, 1) == 0 && memcmp(act, turned, BYTES) == 0,
	      "%s: no value at a half, none goes over", formats[f].name);
	for (int i = 0; i < 2; i++)
		x[at[i]] = (i ? -30.5f : 12.5f) / 127;
	k->quantize[a](k, x, act, N);
	for (int i = 0; i < 2; i++) {
		memcpy(turned, act, BYTES);
		CHECK(ties_flip(a, x, N, 1, turned, i + 1) == 1 &&
			      changed(act, turned, f, &last, &step) == 1 && last == at[i] &&
			      abs(step) == 1,
		      "%s: tie %d is value %lld and goes one step", formats[f].name, i + 1,
		      (long long)at[i]);
		/* what the other neighbour is quantised to, sums and all */
		float y[N];
		_Alignas(64) uint8_t other[BYTES] = {0};

		memcpy(y, x, sizeof(y));
		y[at[i]] = (float)(code(turned, f, at[i]) * (a == ACT_Q8_K && at[i] < 256 ? -1 :
				   a == ACT_Q8_K && at[i] >= 256 ? 1 : 1)) / 127;
		k->quantize[a](k, y, other, N);
		CHECK(memcmp(turned, other, BYTES) == 0,
		      "%s: the sums beside it are those of the new codes", formats[f].name);
	}
	memcpy(turned, act, BYTES);
	CHECK(ties_flip(a, x, N, 1, turned, 3) == 0, "%s: there is no third", formats[f].name);
	for (int i = 0; i < 2; i++)
		x[at[i]] += x[at[i]] * 0x1p-20f;
	k->quantize[a](k, x, act, N);
	memcpy(turned, act, BYTES);
	CHECK(ties_flip(a, x, N, 1, turned, 1) == 0,
	      "%s: eight units of the last place from a half is none", formats[f].name);
}

/* Values at which gcc's fused quantiser and clang's differ (measured on both builds). */
static void test_compilers(void)
{
	static const struct {
		float most, x;
		int clang, gcc;
	} known[] = {{0x1.0c9b2p+0f, 0x1.58bf08p-1f, 82, 81},
		     {0x1.aeacdp+1f, 0x1.d75e66p+0f, 70, 69}};
	struct kernels gcc = kernels_as("ggml-avx2-gcc"), clang = kernels_as("ggml-avx2-clang");

	for (int i = 0; i < 2; i++) {
		float x[128] = {known[i].most, known[i].x};
		_Alignas(64) uint8_t a[BYTES] = {0}, b[BYTES] = {0};
		const size_t at = sizeof(struct act_i8_head) + 1;

		gcc.quantize[ACT_I8](&gcc, x, a, 128);
		clang.quantize[ACT_I8](&clang, x, b, 128);
		CHECK((int8_t)a[at] == known[i].gcc && (int8_t)b[at] == known[i].clang,
		      "I2_S: gcc %d, clang %d", (int8_t)a[at], (int8_t)b[at]);
		CHECK(ties_flip(ACT_I8, x, 128, 1, a, 1) == 1 && memcmp(a, b, sizeof(a)) == 0,
		      "… the tie turned is what the other compiler gives, sum and all");
	}
}

/* ---- what is forgiven --------------------------------------------------------------------- */

enum { ROWS = 3, WIDTH = 96, STEPS = 3 };

struct product {
	float plain[ROWS * WIDTH], turned[STEPS][ROWS * WIDTH];
	float got[ROWS * WIDTH], out[ROWS * WIDTH];
	float step[STEPS][WIDTH];
};

static void make(struct product *p, uint32_t seed)
{
	for (int i = 0; i < ROWS * WIDTH; i++)
		p->plain[i] = noise(&seed) * 10;
	for (int k = 0; k < STEPS; k++) {
		for (int i = 0; i < WIDTH; i++)
			p->step[k][i] = noise(&seed) * 0.02f;
		memcpy(p->turned[k], p->plain, sizeof(p->plain));
		/* row 2 has one tie only */
		for (int i = 0; i < WIDTH * (k ? 2 : ROWS); i++)
			p->turned[k][i] = p->plain[i] + p->step[k][i % WIDTH];
	}
	memcpy(p->got, p->plain, sizeof(p->got));
}

static int turn(struct product *p, double bound)
{
	struct ties t = {.plain = p->plain, .got = p->got, .n = STEPS, .rows = ROWS, .width = WIDTH,
			 .bound = bound};

	for (int k = 0; k < STEPS; k++)
		t.turned[k] = p->turned[k];
	return ties_turn(&t, p->out);
}

static double left(const struct product *p)
{
	double most = 0;

	for (int i = 0; i < ROWS * WIDTH; i++)
		most = fmax(most, fabs((double)p->out[i] - (double)p->got[i]));
	return most;
}

static void test_turning(void)
{
	static struct product p;

	make(&p, 3);
	CHECK(turn(&p, 40) == 0 && left(&p) == 0, "equal results: no tie is turned");
	memcpy(p.got + WIDTH, p.turned[1] + WIDTH, WIDTH * sizeof(float));
	CHECK(turn(&p, 40) == 1 && left(&p) == 0, "one tie in one row: to the bit");
	for (int i = 0; i < WIDTH; i++)
		p.got[i] = p.plain[i] + p.step[0][i] + p.step[2][i];
	CHECK(turn(&p, 40) == 3 && left(&p) < 1e-5, "two in another row: to rounding");
	make(&p, 5);
	for (int i = 0; i < WIDTH; i++)
		p.got[2 * WIDTH + i] += p.step[1][i];
	turn(&p, 40);
	CHECK(left(&p) > 0.01, "another row's tie explains nothing");
	make(&p, 7);
	for (int i = 0; i < WIDTH; i++)
		p.got[i] += p.step[0][i] * 1.5f;
	turn(&p, 40);
	CHECK(left(&p) > 0.005, "a step and a half is none");
	make(&p, 9);
	p.got[5] += 0.01f;
	turn(&p, 40);
	CHECK(left(&p) > 0.005, "one channel is none");
	make(&p, 11);
	for (int i = 0; i < WIDTH; i++)
		p.got[i] += p.step[0][i] * 1e-4f;
	CHECK(turn(&p, 40) == 0, "inside the bound nothing is turned");
}

int main(void)
{
	struct kernels k = kernels_as("ggml-avx2");

	for (int f = 0; f < (int)(sizeof(formats) / sizeof(formats[0])); f++)
		test_format(&k, f);
	test_compilers();
	test_turning();
	return TEST_END();
}
