/* Thresholds and verdicts: which metrics give which answer, and its sentence. */
#include "test.h"

#include "provision/embed.h"
#include "verdict/compare.h"

#include <math.h>

static struct metrics position(double nmse, bool bits)
{
	return (struct metrics){
		.cosine = 1 - nmse / 2,
		.nmse = nmse,
		.max_abs = 100 * nmse,
		.l2 = 10 * nmse,
		.kl = nmse,
		.top5_agree = 1,
		.top10_agree = 1,
		.top1_agree = true,
		.top1_ours = 7,
		.top1_ref = 7,
		.bits_equal = bits,
	};
}

static struct thresholds load(const char *set, const char *weights)
{
	struct thresholds t = {.set = ""};
	struct err e = ERR_NONE;
	size_t bytes;
	const unsigned char *text = embed_find("lockfiles/thresholds.json", &bytes);

	CHECK(text && thresholds_load(&t, (const char *)text, bytes, "sets", set, weights, "",
				      &e) == 0,
	      "set %s for %s %s", set, weights, e.msg);
	return t;
}

static enum verdict of(const struct thresholds *t, const double *nmse, int n, const bool *bits)
{
	struct comparison c;
	enum verdict v;

	compare_init(&c, t);
	for (int i = 0; i < n; i++) {
		struct metrics m = position(nmse[i], bits && bits[i]);

		compare_add(&c, i, 0, &m, -1, -1);
	}
	v = compare_decide(&c);
	compare_free(&c);
	return v;
}

static void check_verdicts(void)
{
	struct thresholds t = load("default", "i2_s:210 f16:1 f32:121"),
			  bits = load("bits", "f16:3");
	static const double same[] = {0, 0}, noise[] = {0, 9e-4}, drift[] = {0, 1.5e-3};
	static const double far[] = {0, 2.1e-3}, bad[] = {0, NAN};
	static const bool both[] = {true, true}, one[] = {true, false};

	CHECK(of(&t, same, 2, both) == VERDICT_IDENTICAL, "all bits equal");
	CHECK(of(&t, same, 2, one) == VERDICT_WITHIN_NOISE, "another bit");
	CHECK(of(&t, noise, 2, NULL) == VERDICT_WITHIN_NOISE, "inside the noise");
	CHECK(of(&t, drift, 2, NULL) == VERDICT_DRIFT, "between noise and limit");
	CHECK(of(&t, far, 2, NULL) == VERDICT_DIVERGED, "beyond the limit");
	CHECK(of(&t, bad, 2, NULL) == VERDICT_DIVERGED, "a NaN holds no limit");
	CHECK(of(&t, NULL, 0, NULL) == VERDICT_NOT_RUN, "nothing compared is not run");
	CHECK(of(&bits, same, 2, one) == VERDICT_DIVERGED, "the set \"bits\" wants all of them");
	CHECK(of(&bits, same, 2, both) == VERDICT_IDENTICAL, "and has them");
}

static void check_nonfinite(void)
{
	struct thresholds t = load("roadmap", "f16:3");
	struct metrics m = position(0, true);
	struct comparison c;

	m.n_nonfinite_ours = m.n_nonfinite_ref = 1;
	compare_init(&c, &t);
	compare_add(&c, 0, 0, &m, -1, -1);
	CHECK(compare_decide(&c) == VERDICT_DIVERGED, "NaN on both sides with equal bits diverges");
	compare_free(&c);
}

/* One decode step in which the sides choose 7 and 8. */
static struct comparison flip(double margin, double max_abs, double nmse, int32_t top1_ours)
{
	struct thresholds t = load("default", "q8_0:9");
	struct metrics m = position(nmse, false);
	struct comparison c;

	m.top1_ours = top1_ours;
	m.top1_agree = top1_ours == 7;
	m.flip_margin = margin;
	m.max_abs = max_abs;
	compare_init(&c, &t);
	compare_add(&c, 4, 0, &m, 8, 7);
	return c;
}

static void check_flips(void)
{
	struct comparison c = flip(0.01, 0.02, 1e-4, 8);
	struct metrics m = position(0, true);
	char sentence[ERR_MSG_MAX];

	CHECK(compare_decide(&c) == VERDICT_WITHIN_NOISE && c.flip_is_tie, "a near tie");
	compare_explain(&c, sentence, sizeof(sentence));
	CHECK_STR(
	    sentence,
	    "worst NMSE 0.0001 at position 4, 1 compared; greedy ids equal up to a near tie at "
	    "id 0 (margin 0.01, error 0.02)",
	    "is called so");
	CHECK(!compare_add(&c, 5, 1, &m, 1, 1) && c.n == 1, "what follows a flip is not compared");
	compare_free(&c);
	c = flip(0.03, 0.02, 1e-4, 8);
	CHECK(compare_decide(&c) == VERDICT_DIVERGED, "a margin above the error is no tie");
	compare_explain(&c, sentence, sizeof(sentence));
	CHECK_STR(sentence,
		  "greedy decoding flipped at id 0 after the prompt: ours 8, reference 7, which it "
		  "preferred by 0.03 where the measured error is 0.02",
		  "and is explained");
	compare_free(&c);
	c = flip(0.01, 0.02, 1e-1, 8);
	CHECK(compare_decide(&c) == VERDICT_DIVERGED && !c.flip_is_tie, "no tie beyond the limit");
	compare_free(&c);
	c = flip(0, 0, 1e-4, 7);
	CHECK(compare_decide(&c) == VERDICT_DIVERGED,
	      "a side that does not take its own greatest logit is no tie");
	compare_free(&c);
}

static void check_fractions(void)
{
	struct thresholds t = load("all-positions", "f16:3");
	struct metrics m = position(0, false);
	struct comparison c;

	compare_init(&c, &t);
	for (int i = 0; i < 20; i++) {
		m.top5_agree = i < 4 ? 0.6 : 1;
		compare_add(&c, i, 0, &m, -1, -1);
	}
	CHECK(compare_decide(&c) == VERDICT_DIVERGED, "top-5 agreement 0.92 is below 0.95");
	compare_free(&c);
}

static void check_sets(void)
{
	static const char broken[] =
	    "{\"schema_version\": \"1.0.0\", \"sets\": {\"a\": {\"rules\": "
	    "[{\"weights\": \"any\", \"limit\": {\"max_nsme\": 1}}]}}}";
	struct thresholds t = load("default", "f16:2 f32:5");
	struct err e = ERR_NONE;

	CHECK_STR(t.weights, "float", "F16 and F32 are float");
	t = load("default", "f16:2 q8_0:5");
	CHECK_STR(t.weights, "quantised", "one quantised tensor is enough");
	CHECK(thresholds_load(&t, broken, sizeof(broken) - 1, "f.json", "a", "", "", &e) ==
		      -EXIT_USAGE,
	      "an unknown limit is refused");
	CHECK_STR(e.msg,
		  "f.json: thresholds \"a\": \"max_nsme\" is no limit, or not of its type",
		  "and named");
	CHECK(thresholds_load(&t, broken, sizeof(broken) - 1, "f.json", "b", "", "", &e) ==
		      -EXIT_USAGE,
	      "so is an unknown set");
	CHECK_STR(e.msg, "f.json has no thresholds \"b\"; it has a", "with the known ones");
	CHECK_STR(thresholds_choose("auto", "ggml-avx2", "ggml-avx2"), "bits", "one profile: bits");
	CHECK_STR(thresholds_choose("auto", "", ""), "default", "unknown profiles: default");
	CHECK_STR(thresholds_choose("auto", "ggml-avx2", "float64"), "oracle", "float64: oracle");
	CHECK_STR(thresholds_choose("roadmap", "a", "a"), "roadmap", "a named set is that set");
}

int main(void)
{
	check_verdicts();
	check_nonfinite();
	check_flips();
	check_fractions();
	check_sets();
	CHECK(verdict_worse(EXIT_WORKER, EXIT_DIVERGED) == EXIT_DIVERGED &&
		      verdict_worse(EXIT_TOKENS_DIFFER, EXIT_WORKER) == EXIT_TOKENS_DIFFER &&
		      verdict_worse(EXIT_NOTHING_RAN, EXIT_MODEL_LOAD) == EXIT_MODEL_LOAD &&
		      verdict_worse(EXIT_AGREE, EXIT_NOTHING_RAN) == EXIT_NOTHING_RAN,
	      "the worse exit code");
	return TEST_END();
}
