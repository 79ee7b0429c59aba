#include "fixture_vocab.h"

#include <stdlib.h>
#include <string.h>

enum { TOKEN_NORMAL = 1, TOKEN_CONTROL = 3, TOKEN_UNUSED = 5, TEXT_MAX = 32, MERGES_MAX = 512 };

/* Each word, a leading space being part of it, becomes the chain of merges that spells it from
 * the left: " the" gives "Ġ"+"t", "Ġt"+"h", "Ġth"+"e". */
static const char *const words[] = {
	" the",   " and",    " of",    " to",      " in",       " is",    " a",      " that",
	" for",   " it",     " on",    " with",    " as",       " was",   " are",    " be",
	" this",  " by",     " from",  " or",      " an",       " at",    " not",    " have",
	" you",   " we",     " he",    " she",     " they",     " one",   " two",    " three",
	" can",   " will",   " what",  " which",   " there",    " say",   " time",   " model",
	" token", " number", " count", " capital", " France",   " Paris", " world",  " hello",
	"Hello",  "Count",   "The",    "ing",      "tion",      "er",     "ed",      "est",
	"ly",     "ment",    "ness",   "able",     "ever",      "ound",   "ight",    "ation",
	"ence",   "11",      "00",     "10",       "20",        "==",     "\n\n",    "  ",
	"    ",   ", ",      ". ",     "'s",       "'t",        "re",     "on",      "en",
	"al",     "or",      "ar",     "le",       "ch",        "sh",     "ou",      "qu",
	" Q",     " A",      "User",   "System",   "Assistant", " user",  " answer", " question",
};

static const struct { const char *key, *text; } specials[] = {
	{ "tokenizer.ggml.bos_token_id", "<|begin_of_text|>" },
	{ "tokenizer.ggml.eos_token_id", "<|end_of_text|>" },
	{ NULL, "<|start_header_id|>" },
	{ NULL, "<|end_header_id|>" },
	{ "tokenizer.ggml.eot_token_id", "<|eot_id|>" },
};

enum {
	N_WORDS = sizeof(words) / sizeof(*words),
	N_SPECIALS = sizeof(specials) / sizeof(*specials)
};

struct vocab {
	char (*tokens)[TEXT_MAX];
	char merges[MERGES_MAX][2 * TEXT_MAX];
	int n_tokens, n_merges;
};

/* The character that stands for a byte: printable ones for themselves, the others, in order,
 * for U+0100 on (the byte alphabet of GPT-2's tokenizer). */
static int byte_character(int byte)
{
	int before = 0;

	for (int b = 0; b <= byte; b++) {
		bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;

		if (b == byte && printable)
			return byte;
		before += !printable;
	}
	return 255 + before;
}

static size_t put_character(char *out, int byte)
{
	int c = byte_character(byte);

	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = (char)(0xc0 | c >> 6);
	out[1] = (char)(0x80 | (c & 63));
	return 2;
}

static bool has_token(const struct vocab *v, const char *text)
{
	for (int i = 0; i < v->n_tokens; i++)
		if (strcmp(v->tokens[i], text) == 0)
			return true;
	return false;
}

static void add_word(struct vocab *v, const char *word)
{
	char so_far[TEXT_MAX] = "";
	size_t n = put_character(so_far, (uint8_t)word[0]);

	for (const char *p = word + 1; *p; p++) {
		char next[4] = "", whole[TEXT_MAX];
		size_t next_n = put_character(next, (uint8_t)*p);

		memcpy(whole, so_far, n);
		memcpy(whole + n, next, next_n + 1);
		if (!has_token(v, whole) && v->n_merges < MERGES_MAX) {
			snprintf(v->merges[v->n_merges++], sizeof(*v->merges), "%s %s", so_far,
				 next);
			strcpy(v->tokens[v->n_tokens++], whole);
		}
		n += next_n;
		memcpy(so_far, whole, n + 1);
	}
}

static bool build(struct vocab *v, int n_vocab)
{
	int room = 256 + MERGES_MAX + N_SPECIALS;

	*v = (struct vocab){.tokens = calloc((size_t)(n_vocab > room ? n_vocab : room), TEXT_MAX)};
	if (!v->tokens)
		return false;
	for (int printable = 1; printable >= 0; printable--)	/* GPT-2's order of the 256 */
		for (int b = 0; b < 256; b++)
			if ((byte_character(b) == b) == printable)
				put_character(v->tokens[v->n_tokens++], b);
	for (int i = 0; i < N_WORDS; i++)
		add_word(v, words[i]);
	for (int i = 0; i < N_SPECIALS; i++)
		strcpy(v->tokens[v->n_tokens++], specials[i].text);
	return true;
}

int fixture_vocab_size(void)
{
	struct vocab v;

	if (!build(&v, 0))
		return 0;
	free(v.tokens);
	return v.n_tokens;
}

static void write_keys(struct gguf_writer *w, const struct vocab *v, struct gguf_str *texts,
		       int32_t *types, float *scores, int n_vocab)
{
	int first_special = 256 + v->n_merges;

	for (int i = 0; i < n_vocab; i++) {
		texts[i] = (struct gguf_str){ v->tokens[i], strlen(v->tokens[i]) };
		types[i] = i < first_special ? TOKEN_NORMAL
			   : i < v->n_tokens ? TOKEN_CONTROL
					     : TOKEN_UNUSED;
		scores[i] = 0;
	}
	gguf_put_string(w, "tokenizer.ggml.model", "gpt2");
	gguf_put_string(w, "tokenizer.ggml.pre", "llama-bpe");
	gguf_put_strings(w, "tokenizer.ggml.tokens", texts, (uint64_t)n_vocab);
	gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, (uint64_t)n_vocab);
	gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, (uint64_t)n_vocab);
	for (int i = 0; i < v->n_merges; i++)
		texts[i] = (struct gguf_str){ v->merges[i], strlen(v->merges[i]) };
	gguf_put_strings(w, "tokenizer.ggml.merges", texts, (uint64_t)v->n_merges);
	for (int i = 0; i < N_SPECIALS; i++)
		if (specials[i].key)
			gguf_put_u32(w, specials[i].key, (uint32_t)(first_special + i));
	gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true);
}

int fixture_vocab_write(struct gguf_writer *w, int n_vocab, struct err *e)
{
	struct vocab v;
	size_t n = (size_t)n_vocab;

	if (!build(&v, n_vocab))
		return err_set(e, EXIT_INTERNAL, "out of memory");
	struct gguf_str *texts = calloc(n + MERGES_MAX, sizeof(*texts));
	int32_t *types = calloc(n, sizeof(*types));
	float *scores = calloc(n, sizeof(*scores));
	int rc = 0;

	for (int i = v.n_tokens; i < n_vocab; i++)
		snprintf(v.tokens[i], TEXT_MAX, "<|unused_%d|>", i);
	if (!texts || !types || !scores)
		rc = err_set(e, EXIT_INTERNAL, "out of memory");
	else if (n_vocab < v.n_tokens)
		rc = err_set(e, EXIT_INTERNAL,
			     "%d ids are too few for the built-in vocabulary of %d", n_vocab,
			     v.n_tokens);
	else
		write_keys(w, &v, texts, types, scores, n_vocab);
	free(texts);
	free(types);
	free(scores);
	free(v.tokens);
	return rc;
}

void fixture_vocab_copy(struct gguf_writer *w, const struct gguf *g)
{
	for (uint64_t i = 0; i < g->n_kv; i++)
		if (g->kv[i].key.n > 10 && memcmp(g->kv[i].key.s, "tokenizer.", 10) == 0)
			gguf_put_copy(w, &g->kv[i]);
}
