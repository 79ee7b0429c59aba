#include "pretok.h"

#include "unicode.h"

#include <stdio.h>
#include <string.h>

enum stage {
	END, WORDS_GPT2, WORDS_LLAMA3, WORDS_QWEN2, WORDS_QWEN35, WORDS_NO_TAIL, WORDS_PLAIN,
	WORDS_DEEPSEEK3, WORDS_TEKKEN, WORDS_GPT4O, DIGIT, DIGITS, DIGITS_3, ASCII_DIGITS_3,
	NEWLINE, LINES, PUNCT_RUN, PUNCT_RUN_TICK, SPACE_LETTERS, SPACE_PUNCT, DS_LETTERS, DS_PUNCT,
	DS_CJK, DS3_CJK, TAIL_WHITE,
};

#define REGEX_LLAMA3                                                                               \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"                   \
	"| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define REGEX_QWEN2                                                                                \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"                        \
	"| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define REGEX_QWEN35                                                                               \
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"                \
	"| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

#define ROW(n, ...) {.name = n, .stages = {__VA_ARGS__}}
#define LLAMA3(n) {.name = n, .stages = {WORDS_LLAMA3}, .ignore_merges = true, .add_bos = true}
#define GPT2(n) ROW(n, WORDS_GPT2)
#define DIGIT_GPT2(n) ROW(n, DIGIT, WORDS_GPT2)
#define QWEN2(n) ROW(n, WORDS_QWEN2)
#define DEEPSEEK3(n) ROW(n, DIGITS_3, DS3_CJK, WORDS_DEEPSEEK3)
#define GPT4O(n) ROW(n, WORDS_GPT4O)

static const struct pretok table[] = {
	ROW("default", PUNCT_RUN, WORDS_GPT2, DIGITS, ASCII_DIGITS_3),
	{.name = "llama-bpe", .stages = {WORDS_LLAMA3}, .ignore_merges = true, .add_bos = true,
	 .regex = REGEX_LLAMA3},
	LLAMA3("llama3"), LLAMA3("llama-v3"), LLAMA3("falcon3"), LLAMA3("falcon-h1"),
	LLAMA3("pixtral"), LLAMA3("midm-2.0"), LLAMA3("lfm2"), LLAMA3("jina-v5-nano"),
	GPT2("gpt-2"), GPT2("phi-2"), GPT2("jina-es"), GPT2("jina-de"), GPT2("gigachat"),
	GPT2("jina-v2-es"), GPT2("jina-v2-de"), GPT2("a.x-4.0"), GPT2("mellum"),
	GPT2("modern-bert"), GPT2("exaone4"), GPT2("mpt"), GPT2("olmo"), GPT2("jais"),
	GPT2("trillion"), GPT2("granite-docling"), GPT2("jina-v1-en"), GPT2("jina-v2-code"),
	GPT2("roberta-bpe"),
	{.name = "qwen2", .stages = {WORDS_QWEN2}, .regex = REGEX_QWEN2},
	QWEN2("deepseek-r1-qwen"), QWEN2("kormo"), QWEN2("f2llmv2"), QWEN2("megrez"),
	QWEN2("stablelm2"), QWEN2("hunyuan"), QWEN2("solar-open"), QWEN2("grok-2"),
	QWEN2("bailingmoe"), QWEN2("bailingmoe2"), QWEN2("llada-moe"),
	{.name = "qwen35", .stages = {WORDS_QWEN35}, .regex = REGEX_QWEN35},
	ROW("laguna", LINES, WORDS_QWEN2),
	ROW("seed-coder", WORDS_NO_TAIL),
	ROW("ufakzeka", WORDS_PLAIN),
	{.name = "deepseek-llm", .regex = "[\r\n]", .n_splits = 5,
	 .stages = {NEWLINE, DS_LETTERS, DS_PUNCT, TAIL_WHITE, DS_CJK, DIGITS}},
	{.name = "deepseek-coder", .regex = "[\r\n]", .n_splits = 4,
	 .stages = {NEWLINE, SPACE_LETTERS, SPACE_PUNCT, DS_CJK, DIGIT}},
	{.name = "deepseek-v3", .regex = "\\p{N}{1,3}", .n_splits = 3,
	 .stages = {DIGITS_3, DS3_CJK, WORDS_DEEPSEEK3}},
	 DEEPSEEK3("hunyuan-dense"), DEEPSEEK3("joyai-llm"),
	DEEPSEEK3("hy_v4"),
	ROW("falcon", PUNCT_RUN_TICK, WORDS_GPT2, ASCII_DIGITS_3),
	DIGIT_GPT2("starcoder"), DIGIT_GPT2("refact"), DIGIT_GPT2("command-r"),
	DIGIT_GPT2("smollm"), DIGIT_GPT2("codeshell"), DIGIT_GPT2("exaone"),
	DIGIT_GPT2("minerva-7b"), DIGIT_GPT2("mellum2"),
	ROW("dbrx", WORDS_LLAMA3), ROW("smaug-bpe", WORDS_LLAMA3),
	{.name = "glm4", .stages = {WORDS_LLAMA3}, .no_bos = true},
	{.name = "chatglm-bpe", .stages = {WORDS_LLAMA3}, .no_bos = true},
	{.name = "minicpm5", .stages = {DIGITS_3, WORDS_LLAMA3}, .ignore_merges = true},
	{.name = "tekken", .stages = {WORDS_TEKKEN}, .ignore_merges = true, .add_bos = true},
	GPT4O("gpt-4o"), GPT4O("llama4"), GPT4O("kanana2"), GPT4O("talkie"), GPT4O("minimax-m2"),
};

enum { N_TABLE = sizeof(table) / sizeof(table[0]) };

const struct pretok *pretok_find(const char *name)
{
	if (!name || !*name)
		return &table[0];
	for (int i = 0; i < N_TABLE; i++)
		if (strcmp(table[i].name, name) == 0)
			return &table[i];
	return NULL;
}

void pretok_names(char *out, size_t size)
{
	size_t at = 0;

	for (int i = 0; i < N_TABLE && at < size; i++)
		at += (size_t)snprintf(out + at, size - at, "%s%s", i ? ", " : "", table[i].name);
}

const struct pretok *pretok_by_regex(const char *regex, int n_splits)
{
	for (int i = 0; i < N_TABLE; i++)
		if (table[i].regex && strcmp(table[i].regex, regex) == 0 &&
		    n_splits == (table[i].n_splits ? table[i].n_splits : 1))
			return &table[i];
	return NULL;
}

/* Letters and punctuation as deepseek-llm's own expressions list them. */
static const uint32_t ds_letters[][2] = {
	{0x41, 0x5a}, {0x61, 0x7a}, {0xb5, 0xb5}, {0xc0, 0xd6}, {0xd8, 0xf6}, {0xf8, 0x1ba},
	{0x1bc, 0x1bf}, {0x1c4, 0x293}, {0x295, 0x2af}, {0x370, 0x373}, {0x376, 0x376},
	{0x377, 0x377}, {0x37b, 0x37d}, {0x37f, 0x37f}, {0x386, 0x386}, {0x388, 0x38a},
	{0x38c, 0x38c}, {0x38e, 0x3a1}, {0x3a3, 0x3f5}, {0x3f7, 0x481}, {0x48a, 0x52f},
	{0x531, 0x556}, {0x10a0, 0x10c5}, {0x13a0, 0x13f5}, {0x13f8, 0x13fd}, {0x1c90, 0x1cba},
	{0x1cbd, 0x1cbf}, {0x1d00, 0x1d2b}, {0x1d6b, 0x1d77}, {0x1d79, 0x1d9a},
	{0x1e00, 0x1f15}, {0x1f18, 0x1f1d}, {0x1f20, 0x1f45}, {0x1f48, 0x1f4d},
	{0x1f50, 0x1f57}, {0x1f59, 0x1f59}, {0x1f5b, 0x1f5b}, {0x1f5d, 0x1f5d},
	{0x1f5f, 0x1f7d}, {0x1f80, 0x1fb4}, {0x1fb6, 0x1fbc}, {0x1fbe, 0x1fbe},
	{0x1fc2, 0x1fc4}, {0x1fc6, 0x1fcc}, {0x1fd0, 0x1fd3}, {0x1fd6, 0x1fdb},
	{0x1fe0, 0x1fec}, {0x1ff2, 0x1ff4}, {0x1ff6, 0x1ffc}, {0x2102, 0x2102},
	{0x2107, 0x2107}, {0x210a, 0x2113}, {0x2115, 0x2115}, {0x2119, 0x211d},
	{0x2124, 0x2124}, {0x2126, 0x2126}, {0x2128, 0x2128}, {0x212a, 0x212d},
	{0x212f, 0x2134}, {0x2139, 0x2139}, {0x213c, 0x213f}, {0x2145, 0x2149},
	{0x214e, 0x214e}, {0x2183, 0x2183}, {0x2184, 0x2184}, {0x2c00, 0x2c7b},
	{0x2c7e, 0x2ce4}, {0x2ceb, 0x2cee}, {0x2cf2, 0x2cf2}, {0x2cf3, 0x2cf3},
	{0xa640, 0xa66d}, {0xa680, 0xa69b}, {0xa722, 0xa76f}, {0xa771, 0xa787},
	{0xa78b, 0xa78e}, {0xab70, 0xabbf}, {0xfb00, 0xfb06}, {0xfb13, 0xfb17},
	{0xff21, 0xff3a}, {0xff41, 0xff5a}, {0x10400, 0x1044f}, {0x104b0, 0x104d3},
	{0x104d8, 0x104fb}, {0x10c80, 0x10cb2}, {0x10cc0, 0x10cf2}, {0x118a0, 0x118df},
	{0x1e900, 0x1e943},
};
static const uint32_t ds_punct[][2] = {
	{0x21, 0x2f}, {0x3a, 0x7e}, {0x2018, 0x201f}, {0x3001, 0x3002}, {0xff01, 0xff0f},
	{0xff1a, 0xff5e},
};
static const uint32_t ds_cjk[][2] = {{0x800, 0x9fa5}, {0xac00, 0xd7ff}};
static const uint32_t ds3_cjk[][2] = {{0x3040, 0x30ff}, {0x4e00, 0x9fa5}};

static bool in_ranges(const uint32_t (*r)[2], int n, uint32_t cp)
{
	int lo = 0, hi = n;

	while (hi - lo > 1) {
		int mid = (lo + hi) / 2;

		if (r[mid][0] <= cp)
			lo = mid;
		else
			hi = mid;
	}
	return cp >= r[lo][0] && cp <= r[lo][1];
}
#define IN(r, cp) in_ranges(r, sizeof(r) / sizeof(r[0]), cp)

/* Does code point i belong to the stage's class? White space never does. */
static bool member(enum stage s, const struct pretok_text *t, size_t i)
{
	uint32_t cp = t->cp[i];
	unsigned k = t->cls[i];

	if (k & UC_WHITE)
		return s == NEWLINE && (cp == '\r' || cp == '\n');
	switch (s) {
	case DIGIT:
	case DIGITS:
	case DIGITS_3:
		return k & UC_N;
	case ASCII_DIGITS_3:
		return cp >= '0' && cp <= '9';
	case PUNCT_RUN_TICK:
		return k & UC_P || (cp < 128 && k & UC_S);
	case PUNCT_RUN:
		return k & UC_P || (cp < 128 && k & UC_S && cp != '`');
	case SPACE_LETTERS:
		return k & UC_L;
	case SPACE_PUNCT:
		return k & UC_P;
	case DS_LETTERS:
		return IN(ds_letters, cp);
	case DS_PUNCT:
		return IN(ds_punct, cp);
	case DS_CJK:
		return IN(ds_cjk, cp);
	case DS3_CJK:
		return IN(ds3_cjk, cp);
	default:
		return false;
	}
}

struct shape {
	size_t least, most;	/* {least,most} members */
	bool space;		/* \s? in front */
};

static struct shape shape_of(enum stage s)
{
	switch (s) {
	case DIGIT:
	case NEWLINE:
		return (struct shape){1, 1, false};
	case DIGITS_3:
		return (struct shape){1, 3, false};
	case ASCII_DIGITS_3:
		return (struct shape){3, 3, false};
	case SPACE_LETTERS:
	case SPACE_PUNCT:
	case DS_LETTERS:
	case DS_PUNCT:
		return (struct shape){1, SIZE_MAX, true};
	default:
		return (struct shape){1, SIZE_MAX, false};
	}
}

/* Cuts around each match; what lies between two matches stays one word. */
static void cut_runs(enum stage s, const struct pretok_text *t, size_t a, size_t b)
{
	struct shape h = shape_of(s);

	for (size_t i = a; i < b;) {
		size_t from = i + (h.space && t->cls[i] & UC_WHITE), end = from;

		while (end < b && end - from < h.most && member(s, t, end))
			end++;
		if (end - from < h.least) {
			i++;
			continue;
		}
		t->cut[i] = t->cut[end] = 1;
		i = end;
	}
}

static void cut_lines(const struct pretok_text *t, size_t a, size_t b)
{
	for (size_t i = a + 1; i < b; i++)
		if ((t->cp[i] == '\n') != (t->cp[i - 1] == '\n'))
			t->cut[i] = 1;
}

static void cut_tail(const struct pretok_text *t, size_t a, size_t b)
{
	size_t i = b;

	while (i > a && t->cls[i - 1] & UC_WHITE)
		i--;
	t->cut[i] = 1;
}

static void cut_segment(enum stage s, const struct pretok_text *t, size_t a, size_t b)
{
	static const struct pretok_words llama3 = {true, 3, false, true};
	static const struct pretok_words qwen2 = {true, 1, false, true};
	static const struct pretok_words qwen35 = {true, 1, true, true};
	static const struct pretok_words no_tail = {true, 1, false, false};
	static const struct pretok_words plain = {false, 1, false, true};

	switch (s) {
	case WORDS_GPT2: pretok_gpt2(t, a, b); break;
	case WORDS_LLAMA3: pretok_llama3(t, a, b, &llama3); break;
	case WORDS_QWEN2: pretok_llama3(t, a, b, &qwen2); break;
	case WORDS_QWEN35: pretok_llama3(t, a, b, &qwen35); break;
	case WORDS_NO_TAIL: pretok_llama3(t, a, b, &no_tail); break;
	case WORDS_PLAIN: pretok_llama3(t, a, b, &plain); break;
	case WORDS_DEEPSEEK3: pretok_deepseek3(t, a, b); break;
	case WORDS_TEKKEN: pretok_cased(t, a, b, 1, false); break;
	case WORDS_GPT4O: pretok_cased(t, a, b, 3, true); break;
	case LINES: cut_lines(t, a, b); break;
	case TAIL_WHITE: cut_tail(t, a, b); break;
	default: cut_runs(s, t, a, b); break;
	}
}

void pretok_split(const struct pretok *p, const struct pretok_text *t)
{
	t->cut[0] = t->cut[t->n] = 1;
	for (int k = 0; k < 8 && p->stages[k]; k++) {
		for (size_t a = 0, b; a < t->n; a = b) {
			for (b = a + 1; !t->cut[b]; b++)
				;
			cut_segment((enum stage)p->stages[k], t, a, b);
		}
	}
}
