/*
 * A tokenizer.json made from a GGUF vocabulary, written as Hugging Face writes it, gives the ids
 * that the GGUF gives.
 */
#include "gguf.h"
#include "test.h"
#include "tokenizer.h"

#include <jansson.h>
#include <stdint.h>

static const char llama3[] =
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+"
	"[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char qwen2[] =
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+"
	"[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static json_t *byte_level(const char *regex)
{
	json_t *level = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
				  0, "trim_offsets", 1, "use_regex", regex == NULL);

	if (!regex)
		return level;
	return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence",
			 "pretokenizers", "type", "Split", "pattern", "Regex", regex, "behavior",
			 "Isolated", "invert", 0, level);
}

static json_t *post_processor(const char *bos)
{
	if (!bos)
		return json_null();
	return json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}]}", "type", "TemplateProcessing",
			 "single", "SpecialToken", "id", bos, "type_id", 0, "Sequence", "id", "A",
			 "type_id", 0);
}

/*
 * Control and user-defined tokens go to added_tokens too, and "</s>", which llama.cpp takes for a
 * control token even where, as in Qwen's file, it is an ordinary one.
 */
static void add_tokens(const struct gguf *g, json_t *vocab, json_t *added)
{
	const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
	const struct gguf_kv *types = gguf_find(g, "tokenizer.ggml.token_type");
	struct gguf_str s;
	size_t at = 0;

	for (int id = 0; gguf_next_string(tokens, &at, &s); id++) {
		int64_t type = gguf_array_i64(types, (uint64_t)id);

		json_object_setn_new(vocab, s.s, s.n, json_integer(id));
		if (s.n == 4 && memcmp(s.s, "</s>", 4) == 0)
			type = 3;
		if (type == 3 || type == 4)
			json_array_append_new(added,
					      json_pack("{s:i, s:s%, s:b, s:b, s:b}", "id", id,
							"content", s.s, s.n, "special", type == 3,
							"lstrip", 0, "rstrip", 0));
	}
}

static json_t *merges_of(const struct gguf *g, bool pairs)
{
	const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.merges");
	json_t *out = json_array();
	struct gguf_str s;
	size_t at = 0;

	while (gguf_next_string(kv, &at, &s)) {
		const char *gap = memchr(s.s + 1, ' ', s.n - 1);

		json_array_append_new(out, pairs ? json_pack("[s%, s%]", s.s, (size_t)(gap - s.s),
							     gap + 1, (size_t)(s.s + s.n - gap - 1))
						 : json_stringn(s.s, s.n));
	}
	return out;
}

struct pair { struct gguf_str whole; size_t cut; double score; };

static int by_score(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	if (x->score != y->score)
		return x->score > y->score ? -1 : 1;
	return (x->cut > y->cut) - (x->cut < y->cut);
}

/* What the conversion of a SentencePiece model does: every cut of a token into two tokens. */
static json_t *merges_by_score(const struct gguf *g, const json_t *vocab)
{
	const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
	const struct gguf_kv *scores = gguf_find(g, "tokenizer.ggml.scores");
	struct pair *all = NULL;
	json_t *out = json_array();
	size_t at = 0, n = 0, cap = 0;
	struct gguf_str s;

	for (uint64_t id = 0; gguf_next_string(tokens, &at, &s); id++) {
		for (size_t cut = 1; cut < s.n; cut++) {
			if (!json_object_getn(vocab, s.s, cut) ||
			    !json_object_getn(vocab, s.s + cut, s.n - cut))
				continue;
			if (n == cap) {
				cap = cap ? cap * 2 : 1024;
				all = realloc(all, cap * sizeof(*all));
			}
			all[n++] = (struct pair){s, cut, gguf_array_f64(scores, id)};
		}
	}
	qsort(all, n, sizeof(*all), by_score);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(out, json_pack("[s%, s%]", all[i].whole.s, all[i].cut,
						     all[i].whole.s + all[i].cut,
						     all[i].whole.n - all[i].cut));
	free(all);
	return out;
}

static char *convert(const struct gguf *g, const char *regex, const char *bos, bool spm)
{
	json_t *vocab = json_object(), *added = json_array(), *root;
	char *text;

	add_tokens(g, vocab, added);
	json_t *merges = spm ? merges_by_score(g, vocab) : merges_of(g, bos != NULL);
	root = json_pack(
		"{s:s, s:o, s:o, s:o, s:o, s:{s:s, s:b, s:b, s:s?, s:o, s:o}}", "version", "1.0",
		"added_tokens", added, "pre_tokenizer", spm ? json_null() : byte_level(regex),
		"post_processor", post_processor(bos), "normalizer",
		spm ? json_pack("{s:s, s:[{s:s, s:s}, {s:s, s:{s:s}, s:s}]}", "type", "Sequence",
				"normalizers", "type", "Prepend", "prepend", "\xE2\x96\x81", "type",
				"Replace", "pattern", "String", " ", "content", "\xE2\x96\x81")
		    : json_null(),
		"model", "type", "BPE", "byte_fallback", spm, "ignore_merges", regex == llama3,
		"unk_token", spm ? "<unk>" : NULL, "vocab", vocab, "merges", merges);
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}

static int same(struct tokenizer *a, struct tokenizer *b, const char *s, size_t n, bool special)
{
	int32_t *x = NULL, *y = NULL;
	int n_x = 0, n_y = 0, r;
	struct err e = ERR_NONE;

	r = tokenizer_encode(a, s, n, special, special, &x, &n_x, NULL, &e) == 0 &&
	    tokenizer_encode(b, s, n, special, special, &y, &n_y, NULL, &e) == 0 && n_x == n_y &&
	    memcmp(x, y, (size_t)n_x * sizeof(*x)) == 0;
	free(x);
	free(y);
	return r;
}

/* The texts of the reference vectors, by both. */
static int compare_texts(struct tokenizer *a, struct tokenizer *b, int *texts)
{
	FILE *f = fopen("tests/vectors/tokens.tsv", "r");
	static char line[1 << 16];
	char text[1000];
	int wrong = 0, blocks = 0;

	*texts = 0;
	while (f && fgets(line, sizeof(line), f) && blocks < 2) {
		size_t n = 0;

		blocks += *line == '@';
		if (*line == '#' || *line == '@')
			continue;
		for (char *h = line; *h != '\t' && h[1]; h += 2) {
			char two[3] = {h[0], h[1], '\0'};

			text[n++] = (char)strtol(two, NULL, 16);
		}
		wrong += !same(a, b, text, n, false) + !same(a, b, text, n, true);
		++*texts;
	}
	if (f)
		fclose(f);
	return wrong;
}

static void test_same_ids(const char *name, const char *regex, const char *bos, bool spm)
{
	struct tokenizer *a = NULL, *b = NULL;
	struct err e = ERR_NONE;
	char path[200], *json;
	struct gguf g;
	int texts = 0, wrong = -1;

	snprintf(path, sizeof(path), "../shared/vocab/ggml-vocab-%s.gguf", name);
	if (gguf_open(&g, path, &e) < 0) {
		SKIP(name, "no ../shared/vocab here");
		return;
	}
	json = convert(&g, regex, bos, spm);
	if (tokenizer_from_gguf(&a, &g, NULL, 0, &e) == 0 &&
	    tokenizer_from_json_bytes(&b, json, strlen(json), &e) == 0)
		wrong = compare_texts(a, b, &texts);
	CHECK(wrong == 0 && texts == 49,
	      "%s: tokenizer.json and GGUF give the same ids (%d texts) %s", name, texts, e.msg);
	CHECK(a && b && tokenizer_info(a)->add_bos == tokenizer_info(b)->add_bos &&
		      (!bos || tokenizer_info(a)->bos == tokenizer_info(b)->bos),
	      "%s: and the BOS rule", name);
	free(json);
	gguf_close(&g);
	tokenizer_free(a);
	tokenizer_free(b);
}

/* Cuts by hand: "▁ab" −1 beats "▁a" −1 "b" −1; unknown characters are <unk>. */
static void test_unigram(void)
{
	static const char json[] =
		"{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"\xE2\x96\x81\",-2],"
		"[\"a\",-2],[\"b\",-2.5],[\"ab\",-3],[\"\xE2\x96\x81"
		"ab\",-4.6],[\"abb\",-9]]},"
		"\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\","
		"\"prepend_scheme\":\"always\"}}";
	static const int32_t want[] = {5, 1, 2, 4, 3, 1};
	struct tokenizer *t = NULL;
	struct err e = ERR_NONE;
	int32_t *ids = NULL;
	int n = 0;

	CHECK(tokenizer_from_json_bytes(&t, json, sizeof(json) - 1, &e) == 0 &&
	      tokenizer_encode(t, "ab aabb ", 8, true, true, &ids, &n, NULL, &e) == 0 && n == 6 &&
	      memcmp(ids, want, sizeof(want)) == 0, "Unigram takes the most likely cut %s", e.msg);
	free(ids);
	ids = NULL;
	CHECK(tokenizer_encode(t, "ax", 2, true, true, &ids, &n, NULL, &e) == 0 && n == 3 &&
		      ids[2] == 0,
	      "and <unk> for an unknown character");
	free(ids);
	tokenizer_free(t);
}

#define B "\xE2\x96\x81"
#define ADDED                                                                                      \
	"\"added_tokens\":[{\"id\":7,\"content\":\"<s>\",\"special\":true,\"normalized\":false}],"
#define UNIGRAM                                                                                    \
	"\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"" B "\",-2],"    \
	"[\"a\",-2],[\"b\",-2.5],[\"ab\",-3],[\"" B "ab\",-4.6],[\"" B B "\",-2.2],[\"<s>\",0],"   \
	"[\"a" B "\",-1]]}"
#define MERGES                                                                                     \
	"\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"" B "\":1,"  \
	"\"a\":2,\"b\":3,\"ab\":4,\"" B "ab\":5,\"" B B "\":6,\"<s>\":7,\"a" B "\":8},"             \
	"\"merges\":[[\"a\",\"b\"],[\"" B "\",\"ab\"],[\"" B "\",\"" B "\"],[\"a\",\"" B "\"]]}"

/* Expected: what Hugging Face's own library gives (tokenizers 0.22.2). */
static const struct {
	const char *model, *scheme;
	bool split;
	const char *ids[7];
} metaspace[] = {
	{UNIGRAM, "always", true, {"5", "5", "5 7 5", "5 7 5", "1 2 1 5", "1 2 0 3", "1 0 1 0"}},
	{UNIGRAM, "always", false, {"5", "5", "5 7 5", "5 7 5", "1 8 5", "1 2 0 3", "1 0 1 0"}},
	{UNIGRAM, "first", true, {"5", "5", "5 7 4", "5 7 5", "1 2 1 5", "1 2 0 3", "1 0 1 0"}},
	{UNIGRAM, "first", false, {"5", "5", "5 7 4", "5 7 5", "1 8 5", "1 2 0 3", "1 0 1 0"}},
	{UNIGRAM, "never", true, {"4", "5", "4 7 4", "4 7 5", "2 1 5", "2 0 3", "0 1 0"}},
	{UNIGRAM, "never", false, {"4", "5", "4 7 4", "4 7 5", "8 5", "2 0 3", "0 1 0"}},
	{MERGES, "always", true, {"5", "5", "5 7 5", "5 7 5", "1 2 1 5", "1 2 0 0 3", "1 0 0 1 0"}},
	{MERGES, "always", false, {"5", "5", "5 7 5", "5 7 5", "1 8 5", "1 2 0 0 3", "1 0 0 1 0"}},
	{MERGES, "first", true, {"5", "5", "5 7 4", "5 7 5", "1 2 1 5", "1 2 0 0 3", "1 0 0 1 0"}},
	{MERGES, "first", false, {"5", "5", "5 7 4", "5 7 5", "1 8 5", "1 2 0 0 3", "1 0 0 1 0"}},
	{MERGES, "never", true, {"4", "5", "4 7 4", "4 7 5", "2 1 5", "2 0 0 3", "0 0 1 0"}},
	{MERGES, "never", false, {"4", "5", "4 7 4", "4 7 5", "8 5", "2 0 0 3", "0 0 1 0"}},
};

/* The ids of a text with special tokens, separated by spaces. */
static const char *ids_text(const struct tokenizer *t, const char *text, char out[200])
{
	struct err e = ERR_NONE;
	int32_t *ids = NULL;
	int n = 0;
	size_t at = 0;

	out[0] = 0;
	if (!t || tokenizer_encode(t, text, strlen(text), true, true, &ids, &n, NULL, &e) != 0)
		return out;
	for (int i = 0; i < n && at < 180; i++)
		at += (size_t)snprintf(out + at, 200 - at, "%s%d", i ? " " : "", ids[i]);
	free(ids);
	return out;
}

static void test_metaspace(void)
{
	static const char *const texts[] = {
		"ab", " ab", "ab<s>ab", "ab<s> ab", "a  ab", "axyb", "xy x"};
	char json[1200], got[200];

	for (size_t i = 0; i < sizeof(metaspace) / sizeof(metaspace[0]); i++) {
		struct tokenizer *t = NULL;
		struct err e = ERR_NONE;

		snprintf(json, sizeof(json),
			 "{" ADDED "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" B
			 "\",\"prepend_scheme\":\"%s\",\"split\":%s},%s}",
			 metaspace[i].scheme, metaspace[i].split ? "true" : "false",
			 metaspace[i].model);
		tokenizer_from_json_bytes(&t, json, strlen(json), &e);
		for (int k = 0; k < 7; k++)
			CHECK_STR(ids_text(t, texts[k], got), metaspace[i].ids[k],
				  "Metaspace %s%s, %.20s: \"%s\" %s", metaspace[i].scheme,
				  metaspace[i].split ? ", split" : "", metaspace[i].model + 9,
				  texts[k], e.msg);
		tokenizer_free(t);
	}
}

/* "</s>" is special where the document says so, not for its text. */
static void test_own_specials(void)
{
	static const char plain[] =
		"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"<\":0,\"/\":1,\"s\":2,\">\":3,\"</s>\":4},"
		"\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}";
	struct tokenizer *t = NULL;
	struct err e = ERR_NONE;
	char got[200];

	tokenizer_from_json_bytes(&t, plain, sizeof(plain) - 1, &e);
	CHECK_STR(ids_text(t, "</s>", got), "0 1 2 3", "an ordinary token </s> is text %s", e.msg);
	tokenizer_free(t);
}

static void refuse(const char *json, const char *want)
{
	struct tokenizer *t = NULL;
	struct err e = ERR_NONE;

	CHECK(tokenizer_from_json_bytes(&t, json, strlen(json), &e) == -EXIT_MODEL_INVALID && !t,
	      "refused: %.60s", json);
	CHECK_STR(e.msg, want, "the sentence says why");
	tokenizer_free(t);
}

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}"
#define LEVEL "{\"type\":\"ByteLevel\"}"

static void test_refusals(void)
{
	refuse("{", "tokenizer.json: line 1: string or '}' expected near end of file");
	refuse("{}", "tokenizer.json: model type \"\" is not supported; known: BPE, Unigram");
	refuse("{\"model\":{\"type\":\"WordPiece\"}}",
	       "tokenizer.json: model type \"WordPiece\" is not supported; known: BPE, Unigram");
	refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":[]}}",
	       "tokenizer.json: model.vocab or model.merges is missing or of the wrong type");
	refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}",
	       "tokenizer.json: token id -1 is outside 0…4194303");
	refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}",
	       "tokenizer.json: id 0 has two texts");
	refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"ab\"]}}",
	       "tokenizer.json: merge 0 is no pair");
	refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
	       "the vocabulary has 0 tokens, expected 1 to 4194304");
	refuse("{" MODEL
	       ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
	       "\"pattern\":{\"Regex\":\"x+\"}}," LEVEL "]}}",
	       "tokenizer.json: unknown pre-tokenizer pattern \"x+\"; use the model's GGUF");
	refuse("{" MODEL
	       ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Bert\"}," LEVEL
	       "]}}",
	       "tokenizer.json: pre-tokenizer \"Bert\" is not supported; use the model's GGUF");
	refuse("{" UNIGRAM ",\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"}}",
	       "tokenizer.json: pre-tokenizer \"WhitespaceSplit\" is not supported; use the model's "
	       "GGUF");
	refuse("{" MODEL ",\"normalizer\":{\"type\":\"Lowercase\"}}",
	       "tokenizer.json: normalizer \"Lowercase\" is not supported; use the model's GGUF");
	refuse("{" MODEL ",\"pre_tokenizer\":" LEVEL
	       ",\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\" \"}}",
	       "tokenizer.json: normalizer \"Prepend\" is not supported; use the model's GGUF");
}

int main(void)
{
	test_same_ids("llama-bpe", llama3, "<|begin_of_text|>", false);
	test_same_ids("gpt-2", NULL, NULL, false);
	test_same_ids("qwen2", qwen2, NULL, false);
	test_same_ids("llama-spm", NULL, "<s>", true);
	test_unigram();
	test_metaspace();
	test_own_specials();
	test_refusals();
	return TEST_END();
}
