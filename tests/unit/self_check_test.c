#include "provision/paths.h"
#include "provision/self_check.h"
#include "test.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[4096], work[4096];

static int run(struct self_check_result *out, const char *program, struct lock_entry *x)
{
	char worker[4200];
	struct self_check_plan p = {.entry = x, .worker = worker, .work = work, .family = "clang"};
	struct err e = ERR_NONE;
	int r;

	snprintf(worker, sizeof(worker), "%s/%s", dir, program);
	r = self_check_run(&p, out, &e);
	if (r < 0)
		printf("# %s\n", e.msg);
	return r;
}

static void check_right(void)
{
	struct lock_entry x = {.name = "t", .canary = "bitnet-b1.58:i2_s",
			       .capabilities = {"bitnet-b1.58:i2_s"}, .n_capabilities = 1};
	struct self_check_result r;

	CHECK(run(&r, "../../assay-worker", &x) == 0, "native is checked as a reference");
	CHECK(r.passed, "it agrees with the oracle");
	CHECK_STR(r.why, "", "nothing to complain about");
	CHECK_STR(r.profile, "ggml-avx2-clang", "its numerics profile is found by its bits");
	CHECK_STR(r.determinism, "runs:equal threads:equal batch:equal", "it is deterministic");
	CHECK_STR(r.capabilities, "bitnet-b1.58:i2_s", "one pair, counted once");
	json_decref(r.report);
}

static void check_silu(void)
{
	struct lock_entry x = {.name = "t", .canary = "bitnet-b1.58:i2_s",
			       .capabilities = {"llama:f16"}, .n_capabilities = 1};
	struct self_check_result r;

	CHECK(run(&r, "../silu_reference", &x) == 0, "a reference with SiLU is checked");
	CHECK(!r.passed, "it fails");
	CHECK(strncmp(r.why, "ffn_act of bitnet-b1.58 is SiLU where the model needs squared ReLU (",
		      68) == 0,
	      "the stage and the activation are named: %s", r.why);
	CHECK_STR(r.capabilities, "llama:f16", "what it does right is still found");
	json_decref(r.report);
}

static void check_unknown(void)
{
	struct lock_entry x = {.name = "t", .capabilities = {"llama"}, .n_capabilities = 1};
	struct self_check_result r = {0};

	CHECK(run(&r, "../silu_reference", &x) == -EXIT_USAGE,
	      "a capability without weights is refused");
	x = (struct lock_entry){.name = "t", .capabilities = {"llama:f16"}, .n_capabilities = 1};
	CHECK(run(&r, "no-such-worker", &x) == 0 && !r.passed,
	      "a worker that does not start fails");
	CHECK(strstr(r.why, "it computes nothing") || strstr(r.why, "llama with f16 weights"),
	      "and the sentence says at what: %s", r.why);
	json_decref(r.report);
}

int main(int argc, char **argv)
{
	struct err e = ERR_NONE;
	char real[4096];

	(void)argc;
	if (!realpath(argv[0], real))
		return 70;
	*strrchr(real, '/') = '\0';
	snprintf(dir, sizeof(dir), "%s", real);
	snprintf(work, sizeof(work), "/tmp/assay-self-check-XXXXXX");
	if (!mkdtemp(work))
		return 70;
	check_right();
	check_silu();
	check_unknown();
	paths_remove(work, &e);
	return TEST_END();
}
