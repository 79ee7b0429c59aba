#include "report/sign.h"
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/assay-sign-XXXXXX";

static const char *path(const char *name)
{
	static char buf[4][256];
	static int at;
	char *p = buf[at++ % 4];

	snprintf(p, 256, "%s/%s", dir, name);
	return p;
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(path(name), "w");

	fputs(text, f);
	fclose(f);
}

static const char receipt[] = "{\"model\":{\"sha256\":\"00\"},\"verdict\":\"IDENTICAL\",\"n\":3}";
static const char model[] = "4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162";

static void test_round_trip(void)
{
	struct sign_checked s = {0};
	struct err e = ERR_NONE;

	CHECK(sign_keygen(path("k"), NULL, &e) == 0, "a key is made");
	CHECK(sign_keygen(path("k"), NULL, &e) < 0, "an existing key is kept");
	put("r.json", receipt);
	CHECK(sign_receipt(path("r.json"), model, path("k"), path("env"), NULL, &e) == 0, "signed");
	CHECK(sign_verify(path("env"), path("k.pub"), path("r.json"), &s, &e) == 0, "verifies");
	CHECK_STR(s.model_sha256, model, "the model is a subject");
	free(s.receipt);
}

/* Every byte of the envelope changed in turn: never verifies. */
static void test_tampering(void)
{
	struct sign_checked s = {0};
	struct err e = ERR_NONE;
	char text[8192];
	size_t n;
	int accepted = 0;
	FILE *f = fopen(path("env"), "r");

	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	for (size_t i = 0; i < n; i++) {
		char kept = text[i];

		if (kept == ' ' || kept == '\n')
			continue;
		text[i] = kept == 'A' ? 'B' : 'A';
		f = fopen(path("env2"), "w");
		fwrite(text, 1, n, f);
		fclose(f);
		if (sign_verify(path("env2"), path("k.pub"), NULL, &s, &e) == 0) {
			accepted++;
			free(s.receipt);
		}
		text[i] = kept;
	}
	CHECK(accepted == 0, "%zu changed bytes, %d accepted", n, accepted);
	put("r.json", "{\"model\":{\"sha256\":\"00\"},\"verdict\":\"IDENTICAL\",\"n\":4}");
	CHECK(sign_verify(path("env"), path("k.pub"), path("r.json"), &s, &e) ==
		      -EXIT_RECEIPT_INVALID,
	      "another receipt is refused");
	CHECK(strstr(e.msg, "is not the receipt that was signed") != NULL, "and said so");
}

static void test_keys(void)
{
	struct sign_checked s = {0};
	struct err e = ERR_NONE;

	sign_keygen(path("k2"), NULL, &e);
	CHECK(sign_verify(path("env"), path("k2.pub"), NULL, &s, &e) < 0 &&
		      strstr(e.msg, "signed by"),
	      "another key is named");
	chmod(path("k"), 0644);
	CHECK(sign_receipt(path("r.json"), model, path("k"), path("env3"), NULL, &e) < 0 &&
		      strstr(e.msg, "chmod 600"), "a readable key file is refused");
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	test_round_trip();
	test_tampering();
	test_keys();
	for (const char *const *p = (const char *const[]){"k", "k.pub", "k2", "k2.pub", "r.json",
							  "env", "env2", NULL};
	     *p; p++)
		unlink(path(*p));
	rmdir(dir);
	return TEST_END();
}
