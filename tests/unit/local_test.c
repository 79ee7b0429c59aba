/*
 * The local check: distances of tensors against a plain computation, who reads what, what forbids
 * the verdict, and the golden runs of real engines: each of their operations replayed by native on
 * the engine's own inputs is what the engine got; with SiLU in the engine the activation is not.
 */
#include "test.h"

#include "golden_trace.h"
#include "kernels.h"
#include "report/local_json.h"
#include "sweep/local.h"
#include "sweep/trace_dir.h"

#include <sys/stat.h>

/* ---- distances ---------------------------------------------------------------------------- */

static void test_diff(void)
{
	float a[6] = {1, 2, 3, 0, -0.0f, 5}, b[6] = {1, 2, 3, 0, 0.0f, 4};
	double want = 1.0 / (1 + 4 + 9 + 16);
	struct tensor_diff d;

	tensor_diff(&d, a, b, 6, 2);
	CHECK(d.n == 6 && d.n_different == 2, "bits are compared: -0 is not 0");
	CHECK(fabs(d.nmse - want) < 1e-15 && fabs(d.rel_rms - sqrt(want)) < 1e-15,
	      "NMSE and its root");
	CHECK(d.worst == 5 && d.worst_a == 5 && d.worst_b == 4, "the worst value is named");
	CHECK(fabs(d.row_ulp - 1.0 / (4 * 0x1p-23)) < 1e-6, "row ulp counts in the row's greatest");
	CHECK(d.max_ulp == tensor_ulp(5, 4) && tensor_ulp(5, 4) == 0x200000,
	      "ulp: steps between floats");
	CHECK(fabs(d.cosine - 34 / sqrt(39.0 * 30)) < 1e-15, "cosine");
	tensor_diff(&d, b, b, 6, 2);
	CHECK(d.n_different == 0 && d.worst < 0 && d.nmse == 0 && d.cosine == 1, "equal is equal");
	b[0] = NAN;
	tensor_diff(&d, a, b, 6, 1);
	CHECK(isinf(d.row_ulp) && isinf(d.nmse), "NaN on one side is infinitely far");
	a[0] = b[0];
	tensor_diff(&d, a, b, 6, 1);
	CHECK(isfinite(d.row_ulp) && d.n_nonfinite == 1,
	      "the same NaN on both sides is no distance");
	CHECK(tensor_ulp(1, nextafterf(1, 2)) == 1 && tensor_ulp(-0.0f, 0) == 0 &&
	      tensor_ulp(1e-45f, -1e-45f) == 2, "ulp across zero");
}

/* Uniform in −1 … 1. */
static float noise(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (float)(*seed >> 8) * 0x1p-23f - 1;
}

/* Attention over n cells with the sum in half precision, against the exact one: row ulp. */
static double half_sums(int n, uint32_t seed)
{
	enum { HEADS = 8, D = 64, CELLS_MAX = 512 };
	float weight[CELLS_MAX], half[HEADS * D], exact[HEADS * D];
	struct tensor_diff d;

	for (int h = 0; h < HEADS; h++) {
		double sum = 0;

		memset(half + h * D, 0, D * sizeof(float));
		for (int c = 0; c < n; c++)
			sum += weight[c] = expf(noise(&seed));
		for (int i = 0; i < D; i++) {
			double all = 0;

			for (int c = 0; c < n; c++) {
				float v = f16_to_f32(f32_to_f16(noise(&seed)));

				all += (double)weight[c] * (double)v;
				half[h * D + i] = f16_to_f32(
					f32_to_f16(half[h * D + i] + weight[c] * v));
			}
			exact[h * D + i] = (float)(all / sum);
			half[h * D + i] /= (float)sum;
		}
	}
	tensor_diff(&d, half, exact, HEADS * D, 1);
	return d.row_ulp;
}

static void test_flash(void)
{
	static const int cells[] = {2, 16, 64, 512};

	for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++) {
		double worst = 0, bound = local_bound(LOCAL_FLASH, false, cells[i]);

		for (uint32_t seed = 1; seed <= 20; seed++)
			worst = fmax(worst, half_sums(cells[i], seed));
		CHECK(worst > local_bound(LOCAL_VALUES, false, cells[i]) && worst < bound &&
			      worst > bound / 64,
		      "half-precision sums over %d cells: %.0f row ulp, bound %.0f", cells[i], worst,
		      bound);
	}
}

/* ---- the table ---------------------------------------------------------------------------- */

static void test_inputs(void)
{
	const uint64_t soft = (uint64_t)1 << STAGE_ATTN_SOFTMAX,
		       sub = (uint64_t)1 << STAGE_ATTN_SUB_NORM;
	struct local_input in[LOCAL_INPUTS_MAX];

	CHECK(local_inputs(STAGE_EMBEDDINGS, -1, 3, 0, in) == 0, "embeddings read ids");
	CHECK(local_inputs(STAGE_ATTN_NORM, 0, 3, 0, in) == 1 && in[0].stage == STAGE_EMBEDDINGS &&
	      in[0].layer == -1, "the first layer reads the embeddings");
	CHECK(local_inputs(STAGE_ATTN_RESIDUAL, 2, 3, 0, in) == 2 &&
		      in[1].stage == STAGE_LAYER_OUT && in[1].layer == 1,
	      "a residual reads what left the layer before");
	CHECK(local_inputs(STAGE_OUTPUT_NORM, -1, 3, 0, in) == 1 && in[0].layer == 2, "the head");
	CHECK(local_inputs(STAGE_ATTN_O, 1, 3, sub, in) == 1 && in[0].stage == STAGE_ATTN_SUB_NORM,
	      "a sub-norm is read where there is one");
	CHECK(local_inputs(STAGE_ATTN_O, 1, 3, 0, in) == 1 && in[0].stage == STAGE_ATTN_OUT_HEADS,
	      "else the heads");
	CHECK(local_inputs(STAGE_ATTN_OUT_HEADS, 1, 3, soft, in) == 2 && in[1].whole,
	      "values from position 0 on");
	CHECK(local_inputs(STAGE_ATTN_OUT_HEADS, 1, 3, 0, in) == 3, "attention as one operation");
	for (int s = 1; s < STAGE_COUNT; s++)
		if (local_inputs((enum trace_stage)s, 1, 3, soft | sub, in) < 1)
			CHECK(false, "%s reads something", trace_stage_name((enum trace_stage)s));
	CHECK(!local_quantised("f16:1 f32:20") && local_quantised("i2_s:210 f16:1 f32:121") &&
	      !local_quantised("bf16:4") && local_quantised("q8_0:3"), "quantised weights by name");
}

static struct local_result made(double off, const char *missing, double own_off)
{
	struct local_result r = {
		.tried = true, .ran = true, .weights_equal = true, .tokens_equal = true};
	struct local_row row = {.stage = STAGE_FFN_ACT, .layer = 3, .bound = 16};

	local_pass_init(&r.reference, "theirs", "ours");
	local_pass_init(&r.own, "ours", "ours");
	row.diff = (struct tensor_diff){.n = 8, .n_different = off > 0, .row_ulp = off,
					.max_ulp = off > 0};
	local_add(&r.reference, &row);
	row.diff = (struct tensor_diff){.n = 8, .n_different = own_off > 0, .row_ulp = own_off};
	local_add(&r.own, &row);
	if (missing)
		local_missing(&r.reference, missing, 0);
	return r;
}

static void check_made(struct local_result r, bool equivalent, const char *reason)
{
	local_decide(&r);
	CHECK(r.equivalent == equivalent && strstr(r.reason, reason), "%s", reason);
	if (!strstr(r.reason, reason))
		printf("# got \"%s\"\n", r.reason);
	local_free(&r);
}

static void test_decide(void)
{
	struct local_result r;

	check_made(made(0, NULL, 0), true, "1 to the bit");
	check_made(made(15, NULL, 0), true, "0 to the bit, the rest inside their bounds");
	check_made(made(17, NULL, 0), false,
		   "first ffn_act of layer 3, 17 row ulp where 16 is its bound");
	check_made(made(0, "ffn_sub_norm of layer 1", 0), false,
		   "missing: ffn_sub_norm of layer 1");
	check_made(made(0, NULL, 0.5), false, "own run is not what its operations give");
	check_made(made(INFINITY, NULL, 0), false, "differ locally");
	r = made(0, NULL, 0);
	r.weights_equal = false;
	check_made(r, false, "different weights");
	r = made(0, NULL, 0);
	r.tokens_equal = false;
	check_made(r, false, "different tokens");
}

/* ---- trace directories -------------------------------------------------------------------- */

static int count_record(void *ctx, const struct trace_record *r, const float *values, struct err *e)
{
	(void)r;
	(void)values;
	(void)e;
	++*(int *)ctx;
	return 0;
}

static void refused(const char *dir, const char *text, const char *why)
{
	char path[400];
	struct err e = ERR_NONE;
	int n = 0;

	snprintf(path, sizeof(path), "%s/bad.jsonl", dir);
	FILE *f = fopen(path, "w");
	fputs(text, f);
	fclose(f);
	int rc = trace_dir_read(path, count_record, &n, &e);
	CHECK(rc == -EXIT_USAGE && strstr(e.msg, why), "refused: %s", why);
	if (!strstr(e.msg, why))
		printf("# got \"%s\"\n", e.msg);
}

static void test_refusals(const char *dir)
{
	refused(dir, "", "no trace record");
	refused(dir, "\n\n", "no trace record");
	refused(dir, "not json\n", "bad.jsonl:1:");
	refused(dir, "{\"stage\":\"ffn_akt\",\"layer\":0,\"shape\":[1],\"num_elements\":1}\n",
		"stage \"ffn_akt\" does not exist");
	refused(dir, "{\"stage\":\"q\",\"layer\":0,\"shape\":[2,3],\"num_elements\":5}\n",
		"not the product");
	refused(dir, "{\"stage\":\"q\",\"layer\":0,\"num_elements\":5}\n", "shape");
}

/* ---- golden runs -------------------------------------------------------------------------- */

static void golden(const char *tmp, const char *name, const char *profile, const char *weights_of,
		   bool good)
{
	char dir[300], model[400];
	struct local_result r = {.tried = false};
	struct golden_ids ids;
	struct err e = ERR_NONE;

	snprintf(dir, sizeof(dir), "../shared/golden/%s", name);
	snprintf(model, sizeof(model), "../shared/golden/%s/model.gguf", weights_of);
	if (!golden_has(dir, "tensors.f32")) {
		SKIP(name, "no ../shared here");
		return;
	}
	golden_ids_dir(golden_has(dir, "tokens.txt") ? NULL
						     : "../shared/golden/bitnetcpp-b158-i2_s");
	if (golden_read_ids(dir, &ids) < 0 || golden_trace_write(dir, tmp, ids.n) < 60) {
		CHECK(false, "%s becomes a trace", name);
		return;
	}
	struct exchange_setup u = {.model = model, .profile = profile, .threads = 1};
	struct local_job j = {.setup = &u, .ours = "native", .reference = name, .ids = ids.id,
			      .n_ids = ids.n, .reference_trace = tmp};
	int rc = local_run(&r, &j, &e);

	CHECK(rc == 0 && r.ran, "%s: replayed %s", name, rc ? e.msg : "");
	if (good) {
		CHECK(r.equivalent, "%s: EQUIVALENT: %s", name, r.reason);
		CHECK(r.reference.n_bits_equal == r.reference.n, "%s: all %d operations to the bit",
		      name, r.reference.n);
	} else {
		const struct local_row *first = r.reference.first_beyond < 0 ? NULL :
						&r.reference.rows[r.reference.first_beyond];

		CHECK(!r.equivalent, "%s: not EQUIVALENT: %s", name, r.reason);
		CHECK(first && first->stage == STAGE_FFN_ACT && first->layer == 0,
		      "%s: ffn_act of layer 0 is the first", name);
		CHECK(r.reference.n_beyond == r.reference.kinds[LOCAL_ACTIVATION].n,
		      "%s: the activation alone, in all %d layers", name, r.reference.n_beyond);
	}
	printf("# %s\n", name);
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	local_text(f, &r);
	fclose(f);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		printf("#   %s\n", line);
	free(text);
	local_free(&r);
}

int main(void)
{
	const char *build = getenv("B") ? getenv("B") : "build/cc";
	char tmp[] = "/tmp/local-XXXXXX", path[400];

	snprintf(path, sizeof(path), "%s/assay-worker", build);
	setenv("ASSAY_WORKER", path, 1);
	if (!mkdtemp(tmp))
		return 1;
	test_diff();
	test_flash();
	test_inputs();
	test_decide();
	test_refusals(tmp);
	golden(tmp, "bitnetcpp-b158-i2_s", "ggml-avx512-clang", "bitnetcpp-b158-i2_s", true);
	golden(tmp, "avx2/bitnetcpp-b158-i2_s", "ggml-avx2-clang", "bitnetcpp-b158-i2_s", true);
	golden(tmp, "avx2/llamacpp-bitnet-tq2_0", "ggml-avx2", "llamacpp-bitnet-tq2_0", true);
	golden(tmp, "bitnetcpp-b158-i2_s-silu-fault", "ggml-avx512-clang", "bitnetcpp-b158-i2_s",
	       false);
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", tmp,
			 (const char *const[]){"trace.jsonl", "values.f32", "bad.jsonl"}[i]);
		unlink(path);
	}
	rmdir(tmp);
	return TEST_END();
}
