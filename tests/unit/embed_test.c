#include "provision/embed.h"
#include "test.h"

static void test_same_bytes(const struct embedded *f)
{
	FILE *in = fopen(f->path, "rbe");
	unsigned char *text = malloc(f->bytes + 1);
	size_t n = in && text ? fread(text, 1, f->bytes + 1, in) : 0;

	CHECK(n == f->bytes && memcmp(text, f->data, n) == 0 && f->data[n] == 0,
	      "%s is embedded as it stands in the tree", f->path);
	if (in)
		fclose(in);
	free(text);
}

int main(void)
{
	size_t bytes = 0;

	for (const struct embedded *f = embedded_files; f->path; f++)
		test_same_bytes(f);
	CHECK(embed_find("lockfiles/crossval-models.lock.json", &bytes) && bytes > 0,
	      "the models lockfile is found");
	CHECK(embed_find("lockfiles/none.json", &bytes) == NULL, "an unknown path is not found");
	return TEST_END();
}
