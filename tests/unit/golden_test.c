/*
 * Whole runs against what the real engines computed (../shared/golden, its README says how): every
 * logit of every position in one batch and one token at a time, and 48 greedy ids with their
 * margins, all to the bit. Prints a table case × profile; each profile must fit its own file and
 * none of the others.
 */
#include "golden.h"
#include "test.h"

static const char *root = "../shared/golden";

static const char *const cases[] = {
	"bitnetcpp-b158-i2_s", "bitnetcpp-b158-i2_s-1tok", "bitnetcpp-b158-i2_s-long",
	"llamacpp-bitnet-tq1_0", "llamacpp-bitnet-tq2_0", "llamacpp-llama-f32",
	"llamacpp-llama-f16", "llamacpp-llama-Q8_0", "llamacpp-llama-Q4_0",
	"llamacpp-llama-Q4_K_M", "llamacpp-llama-Q6_K",
};

static const char silu[] = "bitnet-b1.58.hidden_activation=str:silu";

static void row(const char *what, const char *profile, const char *run, struct difference d)
{
	printf("# %-40s %-18s %-7s %8lld/%-8lld  worst %u ulp  nmse %.1e\n", what, profile, run,
	       (long long)d.equal, (long long)d.total, d.worst_ulp, d.nmse);
}

static void check_logits(const char *dir, const char *profile, struct golden_model *m,
			 const struct golden_ids *ids, const char *file, int batch)
{
	struct floats want = golden_floats(dir, file);
	if (!want.x)
		return;
	struct floats got = golden_logits(m, ids, batch);
	struct difference d = golden_compare(got, want);
	row(strstr(dir, "golden/") + 7, profile, batch == 1 ? "single" : "batch", d);
	CHECK(d.total > 0 && d.equal == d.total, "%s: %s, %s", dir + strlen(root) + 1, file,
	      profile);
	free(want.x);
	free(got.x);
}

static void check_greedy(const char *dir, const char *profile, struct golden_model *m,
			 const struct golden_ids *ids, const char *file, int batch)
{
	struct golden_greedy want = {0}, got = {0};
	if (golden_read_greedy(dir, file, &want) != 0)
		return;
	golden_run_greedy(m, ids, batch, want.n, &got);
	int same = 0;
	for (int i = 0; i < want.n; i++)
		same += want.id[i] == got.id[i] && want.margin[i] == got.margin[i];
	CHECK(want.n > 0 && same == want.n, "%s: %s, %d of %d ids and margins, %s",
	      dir + strlen(root) + 1, file, same, want.n, profile);
}

static void check_case(const char *sub, const char *name, const char *profile,
		       const char *override)
{
	char dir[512];
	struct golden_model m;
	struct golden_ids ids;
	snprintf(dir, sizeof(dir), "%s/%s%s", root, sub, name);
	if (golden_read_ids(dir, &ids) != 0)
		return;
	if (golden_open(&m, dir, profile, override) != 0) {
		CHECK(0, "%s opens: %s", name, m.e.msg);
		return;
	}
	check_logits(dir, profile, &m, &ids, "logits.f32", 0);
	bool own = golden_has(dir, "logits.single.f32");
	check_logits(dir, profile, &m, &ids, own ? "logits.single.f32" : "logits.f32", 1);
	check_greedy(dir, profile, &m, &ids, "greedy.txt", 0);
	own = golden_has(dir, "greedy.single.txt");
	check_greedy(dir, profile, &m, &ids, own ? "greedy.single.txt" : "greedy.txt", 1);
	golden_close(&m);
}

/* Each profile's own file, and how far every other profile is from it. */
static void check_fits(const char *dir, const char *model, const char *const *profiles,
		       const char *const *files, int n)
{
	struct golden_ids ids;
	if (golden_read_ids(dir, &ids) != 0)
		return;
	for (int p = 0; p < n; p++) {
		struct golden_model m;
		if (golden_open(&m, model, profiles[p], NULL) != 0) {
			CHECK(0, "%s opens: %s", model, m.e.msg);
			return;
		}
		struct floats got = golden_logits(&m, &ids, 0);
		for (int f = 0; f < n; f++) {
			struct floats want = golden_floats(dir, files[f]);
			struct difference d = golden_compare(got, want);
			row(files[f], profiles[p], "batch", d);
			CHECK(d.total > 0 && (d.equal == d.total) == (p == f), "%s %s %s",
			      profiles[p], p == f ? "fits" : "does not fit", files[f]);
			free(want.x);
		}
		free(got.x);
		golden_close(&m);
	}
}

static void check_profiles(void)
{
	static const char *const bitnet[] = {"ggml-avx2-clang", "ggml-avx2-gcc",
					     "ggml-avx512-clang", "ggml-avx512-gcc"};
	static const char *const bitnet_files[] = {"avx2-clang.logits.f32", "avx2-gcc.logits.f32",
						   "avx512-clang.logits.f32",
						   "avx512-gcc.logits.f32"};
	char dir[512], model[512], file[64];
	snprintf(dir, sizeof(dir), "%s/profiles/bitnetcpp-b158-i2_s", root);
	check_fits(dir, dir, bitnet, bitnet_files, 4);
	for (int i = 2; i < 4; i++) {
		struct golden_model m;
		struct golden_ids ids;
		snprintf(file, sizeof(file), "%.*s.logits.single.f32",
			 (int)(strchr(bitnet_files[i], '.') - bitnet_files[i]), bitnet_files[i]);
		if (golden_read_ids(dir, &ids) != 0 || golden_open(&m, dir, bitnet[i], NULL) != 0) {
			CHECK(0, "%s opens", dir);
			continue;
		}
		check_logits(dir, bitnet[i], &m, &ids, file, 1);
		golden_close(&m);
	}
	static const struct { const char *model, *files[3], *profiles[3];
	} llama[] = {
		{"llama-f32",
		 {"llama-f32.avx512-gcc.logits.f32", "../../llamacpp-llama-f32/logits.f32",
		  "../../avx2/llamacpp-llama-f32/logits.f32"},
		 {"ggml-avx512", "ggml-fp16", "ggml-avx2"}},
		{"llama-f16",
		 {"llama-f16.avx512-gcc.logits.f32", "../../llamacpp-llama-f16/logits.f32",
		  "../../avx2/llamacpp-llama-f16/logits.f32"},
		 {"ggml-avx512", "ggml-fp16", "ggml-avx2"}},
		{"llama-Q8_0",
		 {"llama-Q8_0.avx512-gcc.logits.f32", "../../llamacpp-llama-Q8_0/logits.f32",
		  "../../avx2/llamacpp-llama-Q8_0/logits.f32"},
		 {"ggml-avx512", "ggml-fp16", "ggml-avx2"}},
		{"bitnet-tq2_0",
		 {"bitnet-tq2_0.avx512-gcc.logits.f32", "bitnet-tq2_0.fp16-clang.logits.f32",
		  "../../llamacpp-bitnet-tq2_0/logits.f32"},
		 {"ggml-avx512", "ggml-fp16-clang", "ggml-fp16"}},
	};
	for (size_t i = 0; i < sizeof(llama) / sizeof(llama[0]); i++) {
		snprintf(dir, sizeof(dir), "%s/profiles/llamacpp", root);
		snprintf(model, sizeof(model), "%s/llamacpp-%s", root, llama[i].model);
		golden_ids_dir(model);	/* that folder holds no ids of its own */
		check_fits(dir, model, llama[i].profiles, llama[i].files, 3);
		golden_ids_dir(NULL);
	}
}

int main(void)
{
	if (!golden_has(root, "README.md")) {
		SKIP("golden data of the real engines", "no ../shared here");
		return 0;
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		check_case("avx2/", cases[i], "ggml-avx2", NULL);
		check_case("", cases[i],
			   strncmp(cases[i], "bitnet", 6) == 0 ? "ggml-avx512" : "ggml-fp16", NULL);
	}
	check_case("", "bitnetcpp-b158-i2_s-silu-fault", "ggml-avx512", silu);
	check_profiles();
	return TEST_END();
}
