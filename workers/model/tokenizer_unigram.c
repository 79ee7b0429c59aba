#include "tokenizer_impl.h"

#include "unicode.h"

#include <math.h>
#include <stdlib.h>

/* Best cut that ends before a byte: its score, and the length of its last piece. */
struct best { double score; uint32_t n; };

/* An unknown character costs ten more than the least likely token, as SentencePiece has it. */
static double unknown_score(const struct tokenizer *t)
{
	double least = 0;

	for (int id = 0; id < t->info.n_vocab; id++)
		if (t->tokens[id].attr & TOKEN_NORMAL && t->tokens[id].score < least)
			least = t->tokens[id].score;
	return least - 10;
}

static void offer(struct best *b, double score, uint32_t n)
{
	if (score > b->score)
		*b = (struct best){score, n};
}

static void extend(const struct tokenizer *t, const struct blanked *b, struct best *best,
		   size_t at, double unknown)
{
	size_t most = b->n - at, len = (size_t)unicode_length(b->text[at]);

	if (most > t->token_bytes_max)
		most = t->token_bytes_max;
	if (most > TOKENIZER_UNIGRAM_BYTES_MAX)
		most = TOKENIZER_UNIGRAM_BYTES_MAX;
	if (len > b->n - at)
		len = b->n - at;
	for (size_t n = 1; t->split_blanks && n < most; n++)
		if (begins_blank(b->text + at + n, b->n - at - n))
			most = n;
	for (size_t n = 1; n <= most; n++) {
		int32_t k = tokenizer_symbol(t, b->text + at, n);
		int32_t id = k < 0 ? -1 : t->symbols[k].token;

		if (id >= 0 && t->tokens[id].attr & TOKEN_NORMAL)
			offer(&best[at + n], best[at].score + t->tokens[id].score, (uint32_t)n);
	}
	if (best[at + len].n != len)	/* no token is this character */
		offer(&best[at + len], best[at].score + unknown, (uint32_t)len);
}

static bool is_known(const struct tokenizer *t, const char *s, size_t n)
{
	int32_t k = tokenizer_symbol(t, s, n);

	return k >= 0 && t->symbols[k].token >= 0;
}

/* Neighbouring unknown characters are one unknown token, or the tokens of all their bytes. */
static int encode_unknown(struct encoding *o, const struct blanked *b, uint32_t at, uint32_t n,
			  size_t base, struct err *e)
{
	const struct tokenizer *t = o->t;
	bool bytes = true;

	for (uint32_t i = at; i < at + n; i++) {
		int32_t id = t->byte_token[(uint8_t)b->text[i]];
		bytes = bytes && id >= 0 && t->tokens[id].attr & TOKEN_BYTE;
	}
	if (bytes)
		return encode_piece(o, b, at, n, base, e);
	if (t->info.unk < 0)
		return err_set(e, EXIT_MODEL_INVALID,
			       "the vocabulary lacks a character and has no unknown token");
	encoding_add(o, t->info.unk, base + b->source[at]);
	return 0;
}

int encode_unigram(struct encoding *o, const char *s, size_t n, size_t base, bool prefix,
		   struct err *e)
{
	double unknown = unknown_score(o->t);
	struct blanked b;
	struct best *best;
	uint32_t *cuts;
	size_t n_cuts = 0;
	int r = 0;

	blank_text(&b, s, n, prefix);
	best = tokenizer_alloc(NULL, b.n + 1, sizeof(*best));
	cuts = tokenizer_alloc(NULL, b.n + 1, sizeof(*cuts));
	for (size_t i = 0; i <= b.n; i++)
		best[i] = (struct best){i ? -INFINITY : 0, 0};
	for (size_t i = 0; i < b.n; i++)
		if (best[i].score > -INFINITY)
			extend(o->t, &b, best, i, unknown);
	for (size_t i = b.n; i > 0; i -= best[i].n)
		cuts[n_cuts++] = (uint32_t)(i - best[i].n);
	for (size_t i = n_cuts; i > 0 && r == 0;) {
		uint32_t at = cuts[--i], end = i ? cuts[i - 1] : (uint32_t)b.n;

		if (is_known(o->t, b.text + at, end - at)) {
			r = encode_piece(o, &b, at, end - at, base, e);
			continue;
		}
		for (; i > 0; end = i ? cuts[i - 1] : (uint32_t)b.n) {
			uint32_t next = i > 1 ? cuts[i - 2] : (uint32_t)b.n;
			if (is_known(o->t, b.text + end, next - end))
				break;
			i--;
		}
		r = encode_unknown(o, &b, at, end - at, base, e);
	}
	free(best);
	free(cuts);
	blanked_free(&b);
	return r;
}
