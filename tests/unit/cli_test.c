#include "cli/cli.h"
#include "cli/suggest.h"
#include "test.h"

static void test_suggest(void)
{
	static const char *const names[] = {"sweep", "crossval", "fetch-models", "fetch-cpp"};

	CHECK_STR(suggest("swep", names, 4), "sweep", "one letter missing");
	CHECK_STR(suggest("fetch-model", names, 4), "fetch-models", "nearest of two");
	CHECK(suggest("zebra", names, 4) == NULL, "nothing is near");
}

static void test_err(void)
{
	struct err e = ERR_NONE;

	CHECK(err_set(&e, EXIT_USAGE, "bad %s", "flag") == -EXIT_USAGE, "err_set returns the code");
	err_prefix(&e, "parsing %d", 3);
	CHECK_STR(e.msg, "parsing 3: bad flag", "prefix goes in front");
	CHECK_STR(err_code_name(EXIT_DIVERGED), "DIVERGED", "code name");
}

int main(void)
{
	test_suggest();
	test_err();
	return TEST_END();
}
