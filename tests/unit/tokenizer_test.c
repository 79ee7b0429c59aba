#include "gguf.h"
#include "test.h"
#include "tokenizer.h"

#include <stdint.h>
#include <sys/stat.h>

static char *read_whole(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	char *s;

	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	*n = (size_t)ftell(f);
	rewind(f);
	s = malloc(*n + 1);
	*n = fread(s, 1, *n, f);
	s[*n] = '\0';
	fclose(f);
	return s;
}

static struct tokenizer *open_vocab(const char *path, const char *override)
{
	struct err e = ERR_NONE;
	struct tokenizer *t = NULL;
	struct gguf g;
	int r = gguf_open(&g, path, &e);

	if (r == 0) {
		r = tokenizer_from_gguf(&t, &g, &override, override ? 1 : 0, &e);
		gguf_close(&g);
	}
	if (r < 0)
		printf("# %s: %s\n", path, e.msg);
	return t;
}

/* Compares with "id id id" of a line, moves *out behind it. */
static int same_as_line(const int32_t *ids, int n, char **out)
{
	char *p = *out, *end = strchr(p, '\n');
	int same = 1, i = 0;

	end = end ? end : p + strlen(p);
	while (p < end) {
		char *next;
		long v = strtol(p, &next, 10);

		if (next == p || next > end)
			break;
		same = same && i < n && ids[i] == v;
		i++;
		p = next;
	}
	*out = *end ? end + 1 : end;
	return same && i == n;
}

/* Texts separated by a marker line, ids one line per text: no BOS, special tokens parsed. */
static void test_vectors(const char *name, int expect_texts)
{
	static const char mark[] = "\n__ggml_vocab_test__\n";
	char path[200];
	size_t n_in, n_out;
	int texts = 0, wrong = 0;

	snprintf(path, sizeof(path), "../shared/vocab/ggml-vocab-%s.gguf.inp", name);
	char *in = read_whole(path, &n_in);
	if (!in) {
		char what[100];

		snprintf(what, sizeof(what), "vectors of %s", name);
		SKIP(what, "no ../shared/vocab here");
		return;
	}
	memcpy(strstr(path, ".inp"), ".out", 5);
	char *out = read_whole(path, &n_out), *line = out;
	*strstr(path, ".out") = '\0';
	struct tokenizer *t = open_vocab(path, NULL);
	for (char *p = in; t && p;) {
		char *next = strstr(p, mark);
		size_t n = next ? (size_t)(next - p) : strlen(p);
		int32_t *ids;
		int n_ids;
		struct err e = ERR_NONE;

		if (!next && *line == '\0')
			break;
		if (tokenizer_encode(t, p, n, false, true, &ids, &n_ids, NULL, &e) < 0 ||
		    !same_as_line(ids, n_ids, &line)) {
			printf("# %s, text %d: other ids\n", name, texts);
			wrong++;
		}
		free(ids);
		texts++;
		p = next ? next + sizeof(mark) - 1 : NULL;
	}
	CHECK(t && wrong == 0 && texts == expect_texts, "%s: %d texts of the official vectors", name,
	      texts);
	tokenizer_free(t);
	free(in);
	free(out);
}

int main(void)
{
	static const char *const names[] = {"llama-bpe", "gpt-2", "qwen2", "deepseek-llm", "phi-3",
					    "llama-spm"};

	for (int i = 0; i < 6; i++)
		test_vectors(names[i], 46);
	return TEST_END();
}
