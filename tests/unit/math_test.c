/*
 * Our sine, cosine, exponential, logarithm and power against glibc 2.36's FMA variants, over all
 * exponents, both signs, zeros, subnormals, infinities and NaN; with ASSAY_TEST_LONG over more.
 */
#include "kernels.h"
#include "test.h"

#include <gnu/libc-version.h>
#include <math.h>

static float from_bits(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

static int differs(float a, float b)
{
	return memcmp(&a, &b, sizeof(a)) != 0 && !(isnan(a) && isnan(b));
}

struct count { long n, sin, cos, exp, log, pow; };

static void compare(struct count *c, uint32_t bits)
{
	uint32_t h = bits * 2654435761u;
	float x = from_bits(bits), any = from_bits(h ^ h >> 15);
	float moderate = from_bits((h & 0x80ffffff) | 0x3f000000),
	      whole = (float)((int)(h % 41) - 20);

	c->n++;
	c->sin += differs(m_sinf(x), sinf(x));
	c->cos += differs(m_cosf(x), cosf(x));
	c->exp += differs(m_expf(x), expf(x));
	c->log += differs(m_logf(x), logf(x));
	c->pow += differs(m_powf(x, any), powf(x, any));
	c->pow += differs(m_powf(fabsf(x), moderate), powf(fabsf(x), moderate));
	c->pow += differs(m_powf(x, whole), powf(x, whole));
}

static void test_samples(void)
{
	uint32_t step = getenv("ASSAY_TEST_LONG") ? 37 : 4099;
	struct count c = {0};

	for (uint64_t u = 0; u < 0x100000000ull; u += step)
		compare(&c, (uint32_t)u);
	CHECK(c.sin == 0, "sin: %ld of %ld floats differ from libm", c.sin, c.n);
	CHECK(c.cos == 0, "cos: %ld of %ld floats differ from libm", c.cos, c.n);
	CHECK(c.exp == 0, "exp: %ld of %ld floats differ from libm", c.exp, c.n);
	CHECK(c.log == 0, "log: %ld of %ld floats differ from libm", c.log, c.n);
	CHECK(c.pow == 0, "pow: %ld of %ld pairs differ from libm", c.pow, 3 * c.n);
}

/* What rotations use: every angle of the usual bases and head sizes up to 131072 positions. */
static void test_rope_steps(void)
{
	static const struct { float base; int dims; float step; } known[] = {
		{500000, 128, 0x1.a11582p-1f}, {500000, 64, 0x1.53c38ap-1f},
		{10000, 128, 0x1.bb5faep-1f}, {10000, 64, 0x1.7ff222p-1f},
	};
	float cs[128];

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		CHECK(m_powf(known[i].base, -2.0f / (float)known[i].dims) == known[i].step,
		      "base %g, %d dimensions: the step is %a", (double)known[i].base,
		      known[i].dims, (double)known[i].step);
	struct rope_params p = {.base = 500000, .freq_scale = 1, .attn_factor = 1, .n_dims = 128};
	float theta = 1000, step = m_powf(500000, -2.0f / 128.0f);
	int wrong = 0;

	kernels_rope_angles(&p, 1000, cs);
	for (int i = 0; i < 64; i++, theta *= step)
		wrong += cs[2 * i] != m_cosf(theta) || cs[2 * i + 1] != m_sinf(theta);
	CHECK(wrong == 0, "angles follow the float32 recurrence");
}

int main(void)
{
	struct cpu_flags cpu = cpu_flags_detect();

	if (strcmp(gnu_get_libc_version(), "2.36") == 0 && cpu.fma)
		test_samples();
	else
		SKIP("sin, cos, exp, log, pow against libm",
		     "libm here is not glibc 2.36 with FMA");
	test_rope_steps();
	return TEST_END();
}
