#include "gguf.h"
#include "test.h"
#include "tokenizer.h"

#include "unicode.h"

#include <stdint.h>
#include <time.h>

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
	CHECK(t && wrong == 0 && texts == expect_texts, "%s: %d texts of the official vectors",
	      name, texts);
	tokenizer_free(t);
	free(in);
	free(out);
}

/* ---- ids of a real llama.cpp -------------------------------------------------------------- */

static size_t unhex(const char *h, const char *end, char *out)
{
	size_t n = 0;

	for (; h + 1 < end; h += 2) {
		char two[3] = {h[0], h[1], '\0'};

		out[n++] = (char)strtol(two, NULL, 16);
	}
	return n;
}

static int same_ids(struct tokenizer *t, const char *text, size_t n, bool special, const char *want)
{
	char *copy = strdup(want), *p = copy;
	struct err e = ERR_NONE;
	int32_t *ids = NULL;
	int n_ids = 0, same;

	copy[strcspn(copy, "\t\n")] = '\0';
	same = tokenizer_encode(t, text, n, special, special, &ids, &n_ids, NULL, &e) == 0 &&
	       same_as_line(ids, n_ids, &p);
	free(ids);
	free(copy);
	return same;
}

static struct tokenizer *open_block(const char *line, char *what)
{
	char name[40], pre[40], path[200], override[100];

	if (sscanf(line, "@ %39s %39s", name, pre) != 2)
		return NULL;
	snprintf(what, 100, "%s%s%s", name, *pre == '-' ? "" : " as ", *pre == '-' ? "" : pre);
	snprintf(path, sizeof(path), "../shared/vocab/ggml-vocab-%s.gguf", name);
	snprintf(override, sizeof(override), "tokenizer.ggml.pre=str:%s", pre);
	return open_vocab(path, *pre == '-' ? NULL : override);
}

static void test_reference(void)
{
	size_t n;
	char *all = read_whole("tests/vectors/tokens.tsv", &n), what[100] = "", text[1000];
	struct tokenizer *t = NULL;
	int texts = 0, wrong = 0, blocks = 0;

	for (char *line = all; line && *line;
	     line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		char *first = strchr(line, '\t');

		if (*line == '#')
			continue;
		if (*line == '@' && t)
			CHECK(wrong == 0 && texts == 49, "%s: %d texts as llama.cpp", what, texts);
		if (*line == '@') {
			tokenizer_free(t);
			t = open_block(line, what);
			texts = wrong = 0;
			blocks++;
			if (!t)
				break;
			continue;
		}
		n = unhex(line, first, text);
		wrong += !same_ids(t, text, n, false, first + 1);
		wrong += !same_ids(t, text, n, true, strchr(first + 1, '\t') + 1);
		texts++;
	}
	CHECK(t && wrong == 0 && texts == 49 && blocks == 16,
	      "%s: %d texts as llama.cpp, %d blocks", what, texts, blocks);
	tokenizer_free(t);
	free(all);
}

/* ---- properties --------------------------------------------------------------------------- */

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)random_state * n >> 32);
}

static uint32_t random_cp(void)
{
	static const uint32_t ends[][2] = {{0, 128}, {32, 127}, {0x80, 0x800}, {0x800, 0xD800},
					   {0xE000, 0x10000}, {0x10000, 0x110000}, {0x4E00, 0x4F00},
					   {0x1F600, 0x1F650}, {' ', ' ' + 1}, {'\n', '\n' + 1}};
	const uint32_t *r = ends[random_below(10)];

	return r[0] + random_below(r[1] - r[0]);
}

static size_t random_text(char *out)
{
	int n = (int)random_below(40);
	size_t at = 0;

	for (int i = 0; i < n; i++) {
		uint32_t cp = random_cp();

		if (cp != 0x2581)	/* SentencePiece cannot tell ▁ from a space */
			at += (size_t)unicode_encode(cp, out + at);
	}
	return at;
}

/* Byte-level: each piece is the text between its offset and the next one's. */
static int pieces_are_slices(struct tokenizer *t, const char *text, size_t n, const int32_t *ids,
			     const size_t *offsets, int n_ids)
{
	char piece[1000];
	struct err e = ERR_NONE;

	for (int i = 0; i < n_ids; i++) {
		size_t end = i + 1 < n_ids ? offsets[i + 1] : n;
		int m = tokenizer_piece(t, ids[i], true, piece, sizeof(piece), &e);

		if (m < 0 || offsets[i] + (size_t)m != end ||
		    memcmp(piece, text + offsets[i], (size_t)m))
			return 0;
	}
	return 1;
}

static void test_round_trip(const char *name)
{
	char path[200], text[200];
	struct tokenizer *t;
	int wrong = 0, slices = 0;
	struct err e = ERR_NONE;

	snprintf(path, sizeof(path), "../shared/vocab/ggml-vocab-%s.gguf", name);
	t = open_vocab(path, NULL);
	for (int i = 0; t && i < 2000; i++) {
		size_t n = random_text(text), n_back, *offsets;
		int32_t *ids;
		int n_ids;
		char *back;

		if (tokenizer_encode(t, text, n, false, i & 1, &ids, &n_ids, &offsets, &e) < 0 ||
		    tokenizer_decode(t, ids, n_ids, true, &back, &n_back, &e) < 0) {
			wrong++;
			continue;
		}
		wrong += n_back != n || memcmp(back, text, n) != 0;
		slices += pieces_are_slices(t, text, n, ids, offsets, n_ids);
		free(ids);
		free(offsets);
		free(back);
	}
	CHECK(t && wrong == 0, "%s: decode(encode(x)) == x for 2000 random texts", name);
	if (t && strcmp(tokenizer_info(t)->model, "gpt2") == 0)
		CHECK(slices == 2000, "%s: pieces are the text between the offsets", name);
	tokenizer_free(t);
}

static double encode_seconds(struct tokenizer *t, const char *text, size_t n)
{
	clock_t from = clock();
	struct err e = ERR_NONE;
	int32_t *ids;
	int n_ids;

	if (tokenizer_encode(t, text, n, false, true, &ids, &n_ids, NULL, &e) < 0)
		return 1e9;
	free(ids);
	return (double)(clock() - from) / CLOCKS_PER_SEC;
}

static void test_long(const char *name, size_t size)
{
	static const char *const units[] = {"a", " ", "!", "7", "\xE6\x97\xA5", "aB", "<|", " \t",
					    "xyzzyplugh"};
	char path[200], *text = malloc(size + 16);
	struct tokenizer *t;

	snprintf(path, sizeof(path), "../shared/vocab/ggml-vocab-%s.gguf", name);
	t = open_vocab(path, NULL);
	double worst = 0;
	for (size_t u = 0; t && u < sizeof(units) / sizeof(units[0]); u++) {
		size_t n = strlen(units[u]);
		double part, whole;

		for (size_t i = 0; i < size; i += n)
			memcpy(text + i, units[u], n);
		part = encode_seconds(t, text, size / 16);
		whole = encode_seconds(t, text, size);
		if (whole / (part + 0.002) > worst)
			worst = whole / (part + 0.002);
	}
	/* linear is 16, quadratic 256 */
	CHECK(t && worst < 64, "%s: sixteen times the text takes %.0f times as long at most", name,
	      worst);
	tokenizer_free(t);
	free(text);
}

/* ---- metadata ----------------------------------------------------------------------------- */

/* The vocabulary of a file in which one text of the head is replaced by another of its length. */
static struct tokenizer *open_changed(const char *name, const char *from, const char *to,
				      const char *override, struct err *e)
{
	struct tokenizer *t = NULL;
	char path[200], *bytes, *at;
	struct gguf g;
	size_t n;

	snprintf(path, sizeof(path), "../shared/vocab/ggml-vocab-%s.gguf", name);
	bytes = read_whole(path, &n);
	at = bytes ? memmem(bytes, n, from, strlen(from)) : NULL;
	if (at) {
		memcpy(at, to, strlen(to));
		if (gguf_parse(&g, bytes, n, e) == 0) {
			tokenizer_from_gguf(&t, &g, &override, override ? 1 : 0, e);
			gguf_close(&g);
		}
	}
	free(bytes);
	return t;
}

static void test_missing_pre(void)
{
	struct err e = ERR_NONE;
	struct tokenizer *t =
		open_changed("llama-bpe", "tokenizer.ggml.pre", "tokenizer.ggml.prX", NULL, &e);

	CHECK(t && tokenizer_info(t)->pre_missing, "a missing pre-tokenizer is seen");
	CHECK_STR(t ? tokenizer_info(t)->pre : NULL, "default", "and default is used");
	CHECK_STR(
		t ? tokenizer_info(t)->note : NULL,
		"the file names no pre-tokenizer: \"default\" is used, as llama.cpp does, and splits "
		"words wrongly for most models; this is Llama 3's vocabulary, correct is "
		"--override-kv tokenizer.ggml.pre=str:llama-bpe, for both sides",
		"and told");
	tokenizer_free(t);
	t = open_changed("llama-bpe", "tokenizer.ggml.pre", "tokenizer.ggml.prX",
			 "tokenizer.ggml.pre=str:llama-bpe", &e);
	CHECK(t && !tokenizer_info(t)->pre_missing && !tokenizer_info(t)->note[0] &&
	      same_ids(t, "3.14159 x", 9, true, "128000 18 13 9335 2946 865"),
	      "the override repairs it");
	tokenizer_free(t);
}

static void refuse(const char *from, const char *to, const char *override, const char *want)
{
	struct err e = ERR_NONE;
	struct tokenizer *t = open_changed("gpt-2", from, to, override, &e);

	CHECK(t == NULL && e.code != 0, "refused: %.50s", want);
	CHECK_STR(e.msg, want, "the sentence says why");
	tokenizer_free(t);
}

static void test_refusals(void)
{
	static const char same[] = "tokenizer.ggml.model";
	static const char klingon[] =
		"unknown pre-tokenizer \"klingon\" (tokenizer.ggml.pre); known: "
		"default, llama-bpe, llama3, ";
	struct err e = ERR_NONE;
	struct tokenizer *t;
	char small[4];
	int32_t bad = 50257;
	char *text;
	size_t n;

	refuse(same, same, "tokenizer.ggml.model=str:bert",
	       "tokenizer model \"bert\" is not supported; known: gpt2 (byte-level "
	       "BPE), llama (SentencePiece), none");
	refuse("tokenizer.ggml.tokens", "tokenizer.ggml.tokenX", NULL, "the file has no vocabulary "
	       "(tokenizer.ggml.tokens); use --tokenizer FILE");
	refuse("tokenizer.ggml.merges", "tokenizer.ggml.mergeX", NULL, "the file has no merges "
	       "(tokenizer.ggml.merges) for its BPE vocabulary");
	refuse(same, "tokenizer.ggml.modeX", NULL,
	       "the file has no tokenizer (tokenizer.ggml.model); use "
	       "--tokenizer FILE");
	refuse(same, same, "tokenizer.ggml.pre", "override \"tokenizer.ggml.pre\": expected "
	       "KEY=TYPE:VALUE with TYPE int, float, bool or str");
	t = open_changed("gpt-2", same, same, "tokenizer.ggml.pre=str:klingon", &e);
	CHECK(!t && strncmp(e.msg, klingon, sizeof(klingon) - 1) == 0,
	      "an unknown pre-tokenizer is refused by name");
	t = open_changed("gpt-2", same, same, "tokenizer.ggml.add_bos_token=bool:true", &e);
	CHECK(t && tokenizer_info(t)->add_bos && same_ids(t, "a", 1, true, "50256 64"),
	      "add_bos_token is overridden");
	CHECK(tokenizer_decode(t, &bad, 1, true, &text, &n, &e) == -EXIT_USAGE,
	      "an id outside is refused");
	CHECK_STR(e.msg, "token id 50257 is outside the vocabulary of 50257", "with its range");
	CHECK(tokenizer_piece(t, 50256, true, small, sizeof(small), &e) == -EXIT_INTERNAL,
	      "a piece without room is refused");
	CHECK_STR(e.msg, "the piece of token 50256 has 13 bytes, there is room for 4",
		  "with its size");
	CHECK(strlen(tokenizer_info(t)->hash) == 64 &&
		      tokenizer_find(t, "<|endoftext|>") == 50256 &&
		      tokenizer_find(t, "no such token") == -1,
	      "hash and lookup");
	tokenizer_free(t);
}

/* What README and docs promise for bytes that are no UTF-8. */
static void test_invalid_utf8(void)
{
	struct tokenizer *bpe = open_vocab("../shared/vocab/ggml-vocab-llama-bpe.gguf", NULL);
	struct tokenizer *spm = open_vocab("../shared/vocab/ggml-vocab-llama-spm.gguf", NULL);
	struct err e = ERR_NONE;
	int32_t *ids;
	int n;
	char *text;
	size_t bytes;

	CHECK(tokenizer_encode(bpe, "a\xFF\x80z", 4, false, false, &ids, &n, NULL, &e) == 0 &&
		      tokenizer_decode(bpe, ids, n, false, &text, &bytes, &e) == 0,
	      "bad bytes are tokenized");
	CHECK_STR(text, "a\xEF\xBF\xBD\xEF\xBF\xBDz", "byte-level BPE: each is U+FFFD");
	free(ids);
	free(text);
	CHECK(tokenizer_encode(bpe, "\xF4\x90\x80\x80", 4, false, false, &ids, &n, NULL, &e) == 0 &&
	      tokenizer_decode(bpe, ids, n, false, &text, &bytes, &e) == 0 && bytes == 12,
	      "beyond U+10FFFF: four times U+FFFD (the reference stops)");
	free(ids);
	free(text);
	CHECK(tokenizer_encode(spm, "a\xFF\x80z", 4, false, false, &ids, &n, NULL, &e) == 0 &&
	      tokenizer_decode(spm, ids, n, false, &text, &bytes, &e) == 0, "and by SentencePiece");
	CHECK_STR(text, "a\xFF\x80z", "SentencePiece keeps them");
	free(ids);
	free(text);
	tokenizer_free(bpe);
	tokenizer_free(spm);
}

int main(void)
{
	static const char *const names[] = {"llama-bpe", "gpt-2", "qwen2", "deepseek-llm", "phi-3",
					    "llama-spm"};
	FILE *f = fopen("../shared/vocab/ggml-vocab-gpt-2.gguf", "rb");

	for (int i = 0; i < 6; i++)
		test_vectors(names[i], 46);
	if (!f) {
		SKIP("ids of llama.cpp, round trips, long texts, refusals",
		     "no ../shared/vocab here");
		return TEST_END();
	}
	fclose(f);
	test_reference();
	for (int i = 0; i < 6; i++)
		test_round_trip(names[i]);
	test_long("llama-bpe", 1 << 20);
	test_long("deepseek-llm", 1 << 18);
	test_long("llama-spm", 1 << 18);
	test_missing_pre();
	test_refusals();
	test_invalid_utf8();
	return TEST_END();
}
