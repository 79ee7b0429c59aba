#include "tokenizer_impl.h"

#include <stdlib.h>
#include <string.h>

enum { FREE, SPECIAL, STRIPPED };

/* Which pairs of neighbouring bytes a text has: rules out most special tokens at once. */
struct pairs { uint8_t bits[8192]; };

static bool has_pair(const struct pairs *p, const char *s)
{
	unsigned k = (unsigned)(uint8_t)s[0] << 8 | (uint8_t)s[1];

	return p->bits[k >> 3] >> (k & 7) & 1;
}

static void collect_pairs(struct pairs *p, const char *s, size_t n)
{
	memset(p, 0, sizeof(*p));
	for (size_t i = 1; i < n; i++) {
		unsigned k = (unsigned)(uint8_t)s[i - 1] << 8 | (uint8_t)s[i];

		p->bits[k >> 3] |= (uint8_t)(1u << (k & 7));
	}
}

static bool may_occur(const struct pairs *p, const char *s, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (!has_pair(p, s + i - 1))
			return false;
	return true;
}

struct partition {
	const char *text;
	size_t n;
	uint8_t *state;		/* [n] */
	struct fragment *hits;
	size_t n_hits, cap;
};

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static void add_hit(struct partition *p, size_t at, size_t n, int32_t id, unsigned attr)
{
	if (p->n_hits == p->cap) {
		p->cap = p->cap ? p->cap * 2 : 16;
		p->hits = tokenizer_alloc(p->hits, p->cap, sizeof(*p->hits));
	}
	p->hits[p->n_hits++] = (struct fragment){at, n, id};
	memset(p->state + at, SPECIAL, n);
	if (attr & TOKEN_LSTRIP)
		for (size_t i = at; i > 0 && !p->state[i - 1] && is_space(p->text[i - 1]); i--)
			p->state[i - 1] = STRIPPED;
	if (attr & TOKEN_RSTRIP)
		for (size_t i = at + n; i < p->n && !p->state[i] && is_space(p->text[i]); i++)
			p->state[i] = STRIPPED;
}

/* Every occurrence that lies wholly in text no longer token has taken, from left to right. */
static void find_all(struct partition *p, int32_t id, const char *s, size_t n, unsigned attr)
{
	size_t at = 0;

	while (p->n - at >= n) {
		const char *hit = memmem(p->text + at, p->n - at, s, n);
		const uint8_t *taken;

		if (!hit)
			return;
		at = (size_t)(hit - p->text);
		taken = memchr(p->state + at, SPECIAL, n);
		if (!taken)
			taken = memchr(p->state + at, STRIPPED, n);
		if (!taken) {
			add_hit(p, at, n, id, attr);
			at += n;
			continue;
		}
		at = (size_t)(taken - p->state);
		while (at < p->n && p->state[at])
			at++;
	}
}

static int by_offset(const void *a, const void *b)
{
	const struct fragment *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

/* Hits in order, with the text between them. */
static struct fragment *join(struct partition *p, size_t *n_out)
{
	struct fragment *out = tokenizer_alloc(NULL, p->n_hits * 2 + 1, sizeof(*out));
	size_t n = 0, hit = 0;

	if (p->n_hits)
		qsort(p->hits, p->n_hits, sizeof(*p->hits), by_offset);
	for (size_t i = 0; i < p->n;) {
		size_t from = i;

		if (p->state[i] == SPECIAL) {
			out[n++] = p->hits[hit];
			i += p->hits[hit++].n;
			continue;
		}
		while (i < p->n && p->state[i] == p->state[from])
			i++;
		if (p->state[from] == FREE)
			out[n++] = (struct fragment){from, i - from, -1};
	}
	*n_out = n;
	return out;
}

struct fragment *tokenizer_partition(const struct tokenizer *t, const char *text, size_t n,
				     bool parse_special, size_t *n_fragments)
{
	struct partition p = {.text = text, .n = n};
	struct fragment *out;
	struct pairs pairs;

	p.state = tokenizer_alloc(NULL, n, 1);
	memset(p.state, FREE, n);
	collect_pairs(&pairs, text, n);
	for (int i = 0; i < t->n_specials; i++) {
		int32_t id = t->specials[i];
		const struct symbol *k = &t->symbols[t->tokens[id].symbol];
		unsigned attr = t->tokens[id].attr;

		if (!parse_special && attr & (TOKEN_CONTROL | TOKEN_UNKNOWN))
			continue;
		if (may_occur(&pairs, t->text + k->at, k->n))
			find_all(&p, id, t->text + k->at, k->n, attr);
	}
	out = join(&p, n_fragments);
	free(p.state);
	free(p.hits);
	return out;
}
