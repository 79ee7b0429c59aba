/*
 * The oracle against logits of the real engines: it cannot have their bits, since it rounds
 * nothing, but it must be as near as rounding activations to each format allows; and of a right
 * and a wrong engine it must be near the right one.
 */
#include "golden.h"
#include "test.h"

extern const struct engine_ops engine_oracle;

/* nmse: worst position. NUMERICS: one int8 rounding that flips moves logits by up to 1e-3, halves
 * by 1e-5; the limits are about three times what was measured. */
static const struct { const char *name; double nmse; } cases[] = {
	{ "avx2/bitnetcpp-b158-i2_s", 5e-3 }, { "bitnetcpp-b158-i2_s-1tok", 5e-3 },
	{ "bitnetcpp-b158-i2_s-long", 7e-3 }, { "avx2/llamacpp-bitnet-tq1_0", 5e-3 },
	{ "avx2/llamacpp-bitnet-tq2_0", 5e-3 }, { "avx2/llamacpp-llama-f32", 5e-6 },
	{ "avx2/llamacpp-llama-f16", 4e-5 }, { "avx2/llamacpp-llama-Q8_0", 3e-3 },
	{ "avx2/llamacpp-llama-Q4_0", 3e-3 }, { "avx2/llamacpp-llama-Q4_K_M", 6e-3 },
	{ "avx2/llamacpp-llama-Q6_K", 5e-3 },
};

struct collected { struct floats want; int64_t n_vocab; double worst; int same, n; };

static int first_maximum(const float *x, int64_t n)
{
	int best = 0;

	for (int i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

static int on_logits(void *ctx, int pos, int step, int32_t token, const float *x)
{
	struct collected *c = ctx;
	const float *want = c->want.x + (int64_t)pos * c->n_vocab;
	double top = 0, bottom = 0;

	(void)step, (void)token;
	for (int64_t i = 0; i < c->n_vocab; i++) {
		double d = (double)x[i] - (double)want[i];

		top += d * d;
		bottom += (double)want[i] * (double)want[i];
	}
	c->worst = top / bottom > c->worst ? top / bottom : c->worst;
	c->same += first_maximum(x, c->n_vocab) == first_maximum(want, c->n_vocab);
	c->n++;
	return 0;
}

static bool compare(struct collected *c, const char *name)
{
	static struct golden_ids ids;
	struct err e = ERR_NONE;
	struct engine *g = NULL;
	char dir[300], path[400];

	*c = (struct collected){ .worst = 0 };
	snprintf(dir, sizeof(dir), "../shared/golden/%s", name);
	snprintf(path, sizeof(path), "%s/model.gguf", dir);
	struct engine_options o = { .model_path = path, .n_threads = 2, .n_ctx = 256 };

	if (golden_read_ids(dir, &ids) < 0 || engine_oracle.open(&g, &o, &e) < 0)
		return false;
	c->want = golden_floats(dir, "logits.f32");
	c->n_vocab = engine_oracle.info(g)->n_vocab;
	struct engine_eval q = {
		.tokens = ids.id, .n_tokens = ids.n, .top_p = 1, .on_logits = on_logits, .ctx = c};
	bool whole = c->want.n == ids.n * c->n_vocab && engine_oracle.evaluate(g, &q, &e) == 0 &&
		     c->n == ids.n;

	engine_oracle.close(g);
	free(c->want.x);
	return whole;
}

int main(void)
{
	struct collected c;

	if (!golden_has("../shared/golden/avx2/llamacpp-llama-f32", "logits.f32")) {
		SKIP("the oracle against golden logits", "no ../shared here");
		return TEST_END();
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		bool ran = compare(&c, cases[i].name);

		CHECK(ran && c.worst <= cases[i].nmse,
		      "%s: worst NMSE %.1e, top-1 equal at %d of %d", cases[i].name, c.worst,
		      c.same, c.n);
		CHECK(c.worst > 0, "%s: it was really compared", cases[i].name);
	}
	CHECK(compare(&c, "bitnetcpp-b158-i2_s-silu-fault") && c.worst > 0.05,
	      "the engine that was wrong (SiLU) is far from it: NMSE %.1e", c.worst);
	return TEST_END();
}
