#include "tokenizer_impl.h"

#include "digest.h"
#include "unicode.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *tokenizer_alloc(void *old, size_t n, size_t size)
{
	void *p = n && size > SIZE_MAX / n ? NULL : realloc(old, n && size ? n * size : 1);

	if (!p) {
		fprintf(stderr, "tokenizer: out of memory\n");
		abort();
	}
	return p;
}

struct tokenizer *tokenizer_new(enum tokenizer_kind kind)
{
	struct tokenizer *t = tokenizer_alloc(NULL, 1, sizeof(*t));

	memset(t, 0, sizeof(*t));
	t->kind = kind;
	t->info.bos = t->info.eos = t->info.eot = t->info.unk = t->info.pad = -1;
	return t;
}

void tokenizer_free(struct tokenizer *t)
{
	if (!t)
		return;
	free(t->text);
	free(t->symbols);
	free(t->slots);
	free(t->tokens);
	free(t->merges);
	free(t->specials);
	free(t);
}

static uint32_t hash_bytes(const char *s, size_t n)
{
	uint64_t h = 0x9E3779B97F4A7C15u ^ n;

	for (; n >= 8; s += 8, n -= 8) {
		uint64_t w;

		memcpy(&w, s, 8);
		h = (h ^ w) * 0xD6E8FEB86659FD93u;
		h ^= h >> 32;
	}
	for (; n; s++, n--)
		h = (h ^ (uint8_t)*s) * 0x100000001B3u;
	h ^= h >> 29;
	return (uint32_t)(h * 0xD6E8FEB86659FD93u >> 32);
}

static uint32_t hash_pair(uint64_t pair)
{
	pair ^= pair >> 31;
	return (uint32_t)(pair * 0x9E3779B97F4A7C15u >> 32);
}

static uint32_t find_slot(const struct tokenizer *t, const char *s, size_t n)
{
	uint32_t i = hash_bytes(s, n) & (t->n_slots - 1);

	for (; t->slots[i]; i = (i + 1) & (t->n_slots - 1)) {
		const struct symbol *k = &t->symbols[t->slots[i] - 1];

		if (k->n == n && memcmp(t->text + k->at, s, n) == 0)
			break;
	}
	return i;
}

int32_t tokenizer_symbol(const struct tokenizer *t, const char *s, size_t n)
{
	return t->n_slots ? (int32_t)t->slots[find_slot(t, s, n)] - 1 : -1;
}

static void grow_slots(struct tokenizer *t)
{
	uint32_t n = t->n_slots ? t->n_slots * 2 : 1024;

	free(t->slots);
	t->slots = tokenizer_alloc(NULL, n, sizeof(*t->slots));
	memset(t->slots, 0, n * sizeof(*t->slots));
	t->n_slots = n;
	for (uint32_t k = 0; k < t->n_symbols; k++)
		t->slots[find_slot(t, t->text + t->symbols[k].at, t->symbols[k].n)] = k + 1;
}

int32_t tokenizer_intern(struct tokenizer *t, const char *s, size_t n)
{
	uint32_t slot;

	if (t->n_symbols * 2 >= t->n_slots)
		grow_slots(t);
	slot = find_slot(t, s, n);
	if (t->slots[slot])
		return (int32_t)t->slots[slot] - 1;
	if (n > TOKENIZER_TEXT_BYTES_MAX - t->text_bytes)
		return -1;
	if (t->text_bytes + n > t->text_cap) {
		t->text_cap = (t->text_bytes + n) * 2;
		t->text = tokenizer_alloc(t->text, t->text_cap, 1);
	}
	if (t->n_symbols == t->symbol_cap) {
		t->symbol_cap = t->symbol_cap ? t->symbol_cap * 2 : 1024;
		t->symbols = tokenizer_alloc(t->symbols, t->symbol_cap, sizeof(*t->symbols));
	}
	memcpy(t->text + t->text_bytes, s, n);
	t->symbols[t->n_symbols] = (struct symbol){(uint32_t)t->text_bytes, (uint32_t)n, -1};
	t->text_bytes += n;
	t->slots[slot] = ++t->n_symbols;
	return (int32_t)t->n_symbols - 1;
}

static int text_limit(struct err *e)
{
	return err_set(e, EXIT_MODEL_INVALID, "the vocabulary has more than %d bytes of text",
		       TOKENIZER_TEXT_BYTES_MAX);
}

int tokenizer_reserve(struct tokenizer *t, uint64_t n_vocab, struct err *e)
{
	if (n_vocab == 0 || n_vocab > TOKENIZER_VOCAB_MAX)
		return err_set(e, EXIT_MODEL_INVALID,
			       "the vocabulary has %llu tokens, expected 1 to %d",
			       (unsigned long long)n_vocab, TOKENIZER_VOCAB_MAX);
	t->info.n_vocab = (int)n_vocab;
	t->tokens = tokenizer_alloc(NULL, n_vocab, sizeof(*t->tokens));
	memset(t->tokens, 0, n_vocab * sizeof(*t->tokens));
	return 0;
}

int tokenizer_add_token(struct tokenizer *t, int32_t id, const char *s, size_t n, float score,
			unsigned attr, struct err *e)
{
	char empty[32];
	int32_t k;

	if (n > TOKENIZER_TOKEN_BYTES_MAX)
		return err_set(e, EXIT_MODEL_INVALID,
			       "token %d has %zu bytes, at most %d are allowed", id, n,
			       TOKENIZER_TOKEN_BYTES_MAX);
	if (n == 0) {
		n = (size_t)snprintf(empty, sizeof(empty), "[EMPTY_%d]", id);
		s = empty;
	}
	k = tokenizer_intern(t, s, n);
	if (k < 0)
		return text_limit(e);
	if (t->symbols[k].token >= 0)
		return err_set(e, EXIT_MODEL_INVALID,
			       "tokens %d and %d have the same text \"%.*s\"", t->symbols[k].token,
			       id, n > 60 ? 60 : (int)n, s);
	t->symbols[k].token = id;
	t->tokens[id] = (struct token){k, score, (uint16_t)attr};
	if (n > t->token_bytes_max)
		t->token_bytes_max = (uint32_t)n;
	return 0;
}

int tokenizer_reserve_merges(struct tokenizer *t, uint64_t n, struct err *e)
{
	uint32_t slots = 1024;

	if (n > TOKENIZER_MERGES_MAX)
		return err_set(e, EXIT_MODEL_INVALID, "the vocabulary has %llu merges, at most %d "
			       "are allowed", (unsigned long long)n, TOKENIZER_MERGES_MAX);
	while (slots < n * 2)
		slots *= 2;
	t->merges = tokenizer_alloc(NULL, slots, sizeof(*t->merges));
	for (uint32_t i = 0; i < slots; i++)
		t->merges[i].symbol = -1;
	t->n_merge_slots = slots;
	return 0;
}

static struct merge *merge_slot(const struct tokenizer *t, uint64_t pair)
{
	uint32_t i = hash_pair(pair) & (t->n_merge_slots - 1);

	while (t->merges[i].symbol >= 0 && t->merges[i].pair != pair)
		i = (i + 1) & (t->n_merge_slots - 1);
	return &t->merges[i];
}

const struct merge *tokenizer_merge(const struct tokenizer *t, int32_t left, int32_t right)
{
	const struct merge *m;

	if (left < 0 || right < 0 || !t->n_merge_slots)
		return NULL;
	m = merge_slot(t, (uint64_t)(uint32_t)left << 32 | (uint32_t)right);
	return m->symbol >= 0 ? m : NULL;
}

int tokenizer_add_merge(struct tokenizer *t, const char *left, size_t n_left, const char *right,
			size_t n_right, uint32_t rank, struct err *e)
{
	char both[2 * TOKENIZER_TOKEN_BYTES_MAX];
	int32_t l, r, k;
	struct merge *m;

	if (n_left > TOKENIZER_TOKEN_BYTES_MAX || n_right > TOKENIZER_TOKEN_BYTES_MAX)
		return err_set(e, EXIT_MODEL_INVALID, "merge %u has more than %d bytes on one side",
			       rank, TOKENIZER_TOKEN_BYTES_MAX);
	memcpy(both, left, n_left);
	memcpy(both + n_left, right, n_right);
	l = tokenizer_intern(t, left, n_left);
	r = tokenizer_intern(t, right, n_right);
	k = tokenizer_intern(t, both, n_left + n_right);
	if (l < 0 || r < 0 || k < 0)
		return text_limit(e);
	m = merge_slot(t, (uint64_t)(uint32_t)l << 32 | (uint32_t)r);
	if (m->symbol < 0) {
		*m = (struct merge){(uint64_t)(uint32_t)l << 32 | (uint32_t)r, rank, k};
		t->n_merges++;
	}
	return 0;
}

/* Texts that llama.cpp treats as control tokens whatever the file's type says. */
static const char *const control_texts[] = {
	/* end of turn or of generation */
	"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
	"<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
	"<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
	"<｜end▁of▁sentence｜>", "[e~[",
};
/* Of each of these groups the first that exists, where the file names none itself. */
static const char *const fim_texts[TOKENIZER_FIM_GROUPS][9] = {
	{"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
	 "<|code_prefix|>", "<|prefix|>"},
	{"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
	 "<|code_suffix|>", "<|suffix|>"},
	{"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
	 "<|code_middle|>", "<|middle|>"},
	{"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"},
	{"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"},
	{"<|file_sep|>"},
};
static const char *const always_shown[] = {
	"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>",
};
static const char *const eot_texts[] = {
	"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
	"<EOT>", "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>",
};
#define COUNT(a) (sizeof(a) / sizeof(a[0]))

int32_t tokenizer_find(const struct tokenizer *t, const char *token)
{
	int32_t k = tokenizer_symbol(t, token, strlen(token));

	return k < 0 ? -1 : t->symbols[k].token;
}

static bool has(const struct tokenizer *t, const char *token)
{
	return tokenizer_find(t, token) >= 0;
}

static void mark_control(struct tokenizer *t)
{
	for (size_t i = 0; i < COUNT(control_texts); i++) {
		int32_t id = tokenizer_find(t, control_texts[i]);

		if (id >= 0)
			t->tokens[id].attr |= TOKEN_CONTROL;
	}
	for (size_t g = 0; g < COUNT(fim_texts); g++) {
		int32_t id = -1;

		for (int i = 0; i < 9 && fim_texts[g][i] && id < 0 && !t->fim_named[g]; i++)
			id = tokenizer_find(t, fim_texts[g][i]);
		if (id >= 0)
			t->tokens[id].attr |= TOKEN_CONTROL;
	}
	for (size_t i = 0; i < COUNT(always_shown); i++) {
		int32_t id = tokenizer_find(t, always_shown[i]);

		if (id >= 0)
			t->tokens[id].attr = TOKEN_USER;
	}
	if (has(t, "<|end|>") &&
	    ((has(t, "<|return|>") && has(t, "<|call|>")) ||
	     (has(t, "<|flush|>") && (has(t, "<|call|>") || has(t, "<|calls|>")))))
		t->tokens[tokenizer_find(t, "<|end|>")].attr = TOKEN_USER;
	if (has(t, "<|tool_response>") && has(t, "</s>"))
		t->tokens[tokenizer_find(t, "</s>")].attr = TOKEN_NORMAL;
}

static void find_eot(struct tokenizer *t)
{
	for (size_t i = 0; i < COUNT(eot_texts) && t->info.eot < 0; i++)
		t->info.eot = tokenizer_find(t, eot_texts[i]);
}

static int by_length(const void *a, const void *b, void *context)
{
	const struct tokenizer *t = context;
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
	uint32_t n = t->symbols[t->tokens[x].symbol].n, m = t->symbols[t->tokens[y].symbol].n;

	return n != m ? (n > m ? -1 : 1) : (x > y) - (x < y);
}

static void list_specials(struct tokenizer *t)
{
	t->specials = tokenizer_alloc(NULL, (size_t)t->info.n_vocab, sizeof(*t->specials));
	for (int id = 0; id < t->info.n_vocab; id++)
		if (t->tokens[id].attr & (TOKEN_CONTROL | TOKEN_USER | TOKEN_UNKNOWN))
			t->specials[t->n_specials++] = id;
	qsort_r(t->specials, (size_t)t->n_specials, sizeof(*t->specials), by_length, t);
}

static int32_t find_token(const struct tokenizer *t, const char *s, size_t n)
{
	int32_t k = tokenizer_symbol(t, s, n);

	return k < 0 ? -1 : t->symbols[k].token;
}

static void list_bytes(struct tokenizer *t)
{
	for (int b = 0; b < 256; b++) {
		char raw = (char)b, letter[4], name[8];
		int n = unicode_encode(unicode_from_byte((uint8_t)b), letter);

		t->byte_symbol[b] = tokenizer_symbol(t, letter, (size_t)n);
		snprintf(name, sizeof(name), "<0x%02X>", b);
		t->byte_token[b] = t->kind == TOKENIZER_BPE ? -1 : find_token(t, name, 6);
		if (t->byte_token[b] < 0)
			t->byte_token[b] = find_token(t, &raw, b ? 1 : 0);
	}
}

static void hash_all(struct tokenizer *t)
{
	const struct tokenizer_info *i = &t->info;
	int32_t numbers[] = {(int32_t)t->kind, i->n_vocab, i->bos, i->eos, i->eot, i->unk, i->pad,
			     i->add_bos, i->add_eos, t->ignore_merges, t->space_prefix,
			     (int32_t)t->n_merges};

	struct digest d;
	uint8_t sha256[DIGEST_BYTES];

	digest_init(&d);
	digest_update(&d, i->model, strlen(i->model) + 1);
	digest_update(&d, i->pre, strlen(i->pre) + 1);
	digest_update(&d, numbers, sizeof(numbers));
	for (int id = 0; id < i->n_vocab; id++) {
		const struct token *k = &t->tokens[id];
		const struct symbol *y = &t->symbols[k->symbol];

		digest_update(&d, &y->n, sizeof(y->n));
		digest_update(&d, t->text + y->at, y->n);
		digest_update(&d, &k->score, sizeof(k->score));
		digest_update(&d, &k->attr, sizeof(k->attr));
	}
	for (uint32_t k = 0; k < t->n_merge_slots; k++)
		if (t->merges[k].symbol >= 0)
			digest_update(&d, &t->merges[k], 12);
	digest_final(&d, sha256);
	digest_hex(sha256, t->info.hash);
}

int tokenizer_finish(struct tokenizer *t, struct err *e)
{
	if (!t->own_texts_only)
		mark_control(t);
	find_eot(t);
	list_specials(t);
	list_bytes(t);
	hash_all(t);
	if (t->info.add_bos && t->info.bos < 0)
		return err_set(e, EXIT_MODEL_INVALID,
			       "the tokenizer adds a BOS token but names none");
	if (t->info.add_eos && t->info.eos < 0)
		return err_set(e, EXIT_MODEL_INVALID,
			       "the tokenizer adds an EOS token but names none");
	return 0;
}

const struct tokenizer_info *tokenizer_info(const struct tokenizer *t)
{
	return &t->info;
}
