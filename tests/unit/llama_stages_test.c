/*
 * The mapping of a reference's tensors to stages, on the names that real engines gave: every
 * line of the golden runs' tensors.tsv is mapped or known, and each layer has each
 * stage that its architecture should have.
 */
#include "engines/llama_stages.h"
#include "test.h"

#include <glob.h>

static void test_names(void)
{
	static const struct {
		const char *name, *op;
		int stage, layer;
	} cases[] = {
		{"inp_embd", "GET_ROWS", STAGE_EMBEDDINGS, -1},
		{"embd", "GET_ROWS", STAGE_EMBEDDINGS, -1},
		{"Qcur-12", "MUL_MAT", STAGE_Q, 12},
		{"Qcur-12", "ADD", STAGE_Q, 12},
		{"Qcur-12", "ROPE", STAGE_Q_ROPE, 12},
		{"Qcur-0", "RESHAPE", LLAMA_INTERMEDIATE, 0},
		{"k_cache_view-0 (copy of Kcur-0)", "CPY", LLAMA_INTERMEDIATE, -1},
		{"cache_k_l0 (view)", "SET_ROWS", LLAMA_INTERMEDIATE, -1},
		{"norm-3", "RMS_NORM", LLAMA_INTERMEDIATE, 3},
		{"ffn_out-1", "MUL", STAGE_FFN_ACT, 1},
		{"ffn_out-1", "MUL_MAT", STAGE_FFN_DOWN, 1},
		{"kqv_out-1", "CONT", STAGE_ATTN_OUT_HEADS, 1},
		{"kqv_out-1", "MUL_MAT", STAGE_ATTN_O, 1},
		{"node_21", "FLASH_ATTN_EXT", LLAMA_INTERMEDIATE, -1},
		{"kqv_out-2", "RESHAPE", STAGE_ATTN_OUT_HEADS, 2},
		{"ffn_sqr(relu)-29", "SQR", LLAMA_INTERMEDIATE, 29},
		{"node_101", "GET_ROWS", LLAMA_INTERMEDIATE, -1},
		{"node_101", "SOFT_MAX", LLAMA_UNKNOWN, -1},
		{"result_output", "MUL_MAT", STAGE_LOGITS, -1},
		{"result_output-0", "MUL_MAT", LLAMA_UNKNOWN, 0},
		{"l_out", "ADD", LLAMA_UNKNOWN, -1},
		{"l_out-2", "MUL", LLAMA_UNKNOWN, 2},
		{"moe_gate-2", "MUL_MAT", LLAMA_UNKNOWN, 2},
		{"-2", "MUL_MAT", LLAMA_UNKNOWN, 2},
		{"", "MUL_MAT", LLAMA_UNKNOWN, -1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int layer, stage = llama_stage(cases[i].name, cases[i].op, NULL, &layer);

		CHECK(stage == cases[i].stage && layer == cases[i].layer,
		      "\"%s\" %s is %s of layer %d", cases[i].name, cases[i].op,
		      stage >= 0                    ? trace_stage_name((enum trace_stage)stage)
		      : stage == LLAMA_INTERMEDIATE ? "intermediate"
						    : "unknown",
		      layer);
	}
}

static int count_bits(uint64_t x)
{
	int n = 0;

	for (; x; x &= x - 1)
		n++;
	return n;
}

static void test_products(void)
{
	int layer, stage = llama_stage("node_17", "MUL_MAT", "blk.3.attn_output.weight", &layer);

	CHECK(stage == STAGE_ATTN_O && layer == 3,
	      "a product without a name is known by its weight");
	CHECK(llama_stage("node_17", "MUL_MAT", "blk.3.ssm_in.weight", &layer) == LLAMA_UNKNOWN,
	      "a weight that no stage has");
	CHECK(llama_stage("node_17", "MUL_MAT", NULL, &layer) == LLAMA_UNKNOWN, "no source");
	CHECK(llama_stage("Qcur-1", "MUL_MAT", "blk.2.attn_q.weight", &layer) == STAGE_Q &&
		      layer == 1,
	      "a name wins");
}

static void test_expected(void)
{
	CHECK(count_bits(llama_stages_expected("bitnet-b1.58", 0)) == 19,
	      "bitnet-b1.58 has 19 per layer");
	CHECK(count_bits(llama_stages_expected("llama", 7)) == 17, "llama has 17 per layer");
	CHECK(count_bits(llama_stages_expected("qwen3", 7)) == 19, "qwen3 has norms of q and k");
	CHECK(count_bits(llama_stages_expected("llama", -1)) == 3,
	      "three stages outside the layers");
}

static int check_file(const char *path)
{
	char line[1024], first_bad[256] = "";
	uint64_t seen[8] = {0};
	bool bitnet = strstr(path, "/bitnetcpp") || strstr(path, "-bitnet-");
	int n = 0, unknown = 0, missing = 0;
	FILE *f = fopen(path, "r");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		char *field[7] = {0}, *rest = line, *name, *op;
		int layer, stage;

		line[strcspn(line, "\n")] = 0;
		for (int i = 0; i < 7; i++)
			field[i] = strsep(&rest, "\t");
		name = field[0];
		op = field[1];
		if (!op)
			continue;
		n++;
		stage = llama_stage(name, op, field[5], &layer);
		if (stage == LLAMA_UNKNOWN && unknown++ == 0)
			snprintf(first_bad, sizeof(first_bad), "%s %s", name, op);
		if (stage >= 0 && layer < 7)
			seen[layer + 1] |= (uint64_t)1 << stage;
	}
	fclose(f);
	for (int layer = -1; layer < 3; layer++)
		missing += count_bits(llama_stages_expected(bitnet ? "bitnet" : "llama", layer) &
				      ~seen[layer + 1]);
	CHECK(n > 0 && unknown == 0 && missing == 0,
	      "%s: %d tensors, %d unknown (%s), %d stages missing", path, n, unknown, first_bad,
	      missing);
	return 1;
}

int main(void)
{
	glob_t g;

	test_names();
	test_products();
	test_expected();
	if (glob("../shared/golden/*/tensors.tsv", 0, NULL, &g) == 0) {
		glob("../shared/golden/avx2/*/tensors.tsv", GLOB_APPEND, NULL, &g);
		for (size_t i = 0; i < g.gl_pathc; i++)
			check_file(g.gl_pathv[i]);
		globfree(&g);
	} else {
		SKIP("names of golden runs", "no ../shared here");
	}
	return TEST_END();
}
