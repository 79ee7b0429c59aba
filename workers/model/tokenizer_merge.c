#include "tokenizer_impl.h"

#include "unicode.h"

#include <stdlib.h>
#include <string.h>

void encoding_add(struct encoding *o, int32_t id, size_t offset)
{
	if (o->n == o->cap) {
		o->cap = o->cap ? o->cap * 2 : 64;
		o->ids = tokenizer_alloc(o->ids, (size_t)o->cap, sizeof(*o->ids));
		o->offsets = tokenizer_alloc(o->offsets, (size_t)o->cap, sizeof(*o->offsets));
	}
	o->ids[o->n] = id;
	o->offsets[o->n++] = offset;
}

/* ---- the merge loop: n log n by a heap of candidate pairs --------------------------------- */

struct piece {
	uint32_t at, n;		/* bytes of the work text; n 0: merged into its left neighbour */
	int32_t prev, next;	/* −1 at the ends */
	int32_t symbol;		/* −1: not in the vocabulary */
};

struct candidate {
	uint64_t key;		/* priority << 32 | left piece: the smallest is merged first */
	int32_t right;
	uint32_t bytes;		/* of both when this was added; else it is out of date */
	int32_t symbol;		/* of both together */
};

struct work {
	const struct tokenizer *t;
	const char *text;
	struct piece *pieces;
	int32_t n_pieces, piece_cap;
	struct candidate *heap;
	size_t n_heap, heap_cap;
};

static void heap_push(struct work *w, struct candidate c)
{
	size_t i = w->n_heap++;

	if (i == w->heap_cap) {
		w->heap_cap = w->heap_cap ? w->heap_cap * 2 : 64;
		w->heap = tokenizer_alloc(w->heap, w->heap_cap, sizeof(*w->heap));
	}
	while (i && c.key < w->heap[(i - 1) / 2].key) {
		w->heap[i] = w->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	w->heap[i] = c;
}

static struct candidate heap_pop(struct work *w)
{
	struct candidate top = w->heap[0], last = w->heap[--w->n_heap];
	size_t i = 0;

	for (;;) {
		size_t k = 2 * i + 1;

		if (k >= w->n_heap)
			break;
		if (k + 1 < w->n_heap && w->heap[k + 1].key < w->heap[k].key)
			k++;
		if (last.key <= w->heap[k].key)
			break;
		w->heap[i] = w->heap[k];
		i = k;
	}
	w->heap[i] = last;
	return top;
}

/* Higher scores first: an order-keeping map of floats to integers, turned round. */
static uint32_t score_key(float score)
{
	uint32_t u;

	if (score == 0)
		score = 0;	/* both zeros are one */
	memcpy(&u, &score, sizeof(u));
	return ~(u & 0x80000000u ? ~u : u | 0x80000000u);
}

static void consider(struct work *w, int32_t left, int32_t right)
{
	const struct tokenizer *t = w->t;
	struct piece *l, *r;
	uint32_t priority;
	int32_t symbol;

	if (left < 0 || right < 0)
		return;
	l = &w->pieces[left];
	r = &w->pieces[right];
	if (t->split_blanks && begins_blank(w->text + r->at, r->n))
		return;
	if (t->kind == TOKENIZER_BPE || t->by_rank) {
		const struct merge *m = tokenizer_merge(t, l->symbol, r->symbol);

		if (!m)
			return;
		priority = m->rank;
		symbol = m->symbol;
	} else {
		if (l->n + r->n > t->token_bytes_max)
			return;
		symbol = tokenizer_symbol(t, w->text + l->at, l->n + r->n);
		if (symbol < 0 || t->symbols[symbol].token < 0)
			return;
		priority = score_key(t->tokens[t->symbols[symbol].token].score);
	}
	heap_push(w, (struct candidate){(uint64_t)priority << 32 | (uint32_t)left, right,
					l->n + r->n, symbol});
}

static void add_piece(struct work *w, uint32_t at, uint32_t n, int32_t symbol)
{
	if (w->n_pieces == w->piece_cap) {
		w->piece_cap = w->piece_cap ? w->piece_cap * 2 : 64;
		w->pieces = tokenizer_alloc(w->pieces, (size_t)w->piece_cap, sizeof(*w->pieces));
	}
	w->pieces[w->n_pieces] = (struct piece){at, n, w->n_pieces - 1, w->n_pieces + 1, symbol};
	w->n_pieces++;
}

static void merge_all(struct work *w)
{
	if (!w->n_pieces)
		return;
	w->pieces[w->n_pieces - 1].next = -1;
	w->n_heap = 0;
	for (int32_t i = 1; i < w->n_pieces; i++)
		consider(w, i - 1, i);
	while (w->n_heap) {
		struct candidate c = heap_pop(w);
		int32_t left = (int32_t)(uint32_t)c.key;
		struct piece *l = &w->pieces[left], *r = &w->pieces[c.right];

		if (!l->n || !r->n || l->n + r->n != c.bytes)
			continue;
		l->n += r->n;
		l->symbol = c.symbol;
		l->next = r->next;
		r->n = 0;
		if (r->next >= 0)
			w->pieces[r->next].prev = left;
		consider(w, l->prev, left);
		consider(w, left, l->next);
	}
}

/* ---- byte-level BPE ----------------------------------------------------------------------- */

/* A text as code points, and as the bytes these encode to, with where they come from. */
struct decoded {
	struct pretok_text p;
	uint32_t *cp;
	uint16_t *cls;
	uint32_t *byte_at;	/* [n + 1] of each code point in bytes */
	char *bytes;
	uint32_t *source;	/* offset in the text of each byte, NULL: the same */
};

static void decode_text(struct decoded *d, const char *s, size_t n)
{
	size_t k = 0, at = 0, from = 0;

	d->cp = tokenizer_alloc(NULL, n, sizeof(*d->cp));
	d->cls = tokenizer_alloc(NULL, n, sizeof(*d->cls));
	d->byte_at = tokenizer_alloc(NULL, n + 1, sizeof(*d->byte_at));
	d->bytes = tokenizer_alloc(NULL, n * 3, 1);
	d->source = tokenizer_alloc(NULL, n * 3, sizeof(*d->source));
	while (from < n) {
		int len, out;

		d->cp[k] = unicode_decode(s + from, n - from, &len);
		d->cls[k] = (uint16_t)unicode_class(d->cp[k]);
		d->byte_at[k++] = (uint32_t)at;
		out = unicode_encode(d->cp[k - 1], d->bytes + at);
		for (int i = 0; i < out; i++)
			d->source[at++] = (uint32_t)(from + (size_t)(out == len ? i : 0));
		from += (size_t)len;
	}
	d->byte_at[k] = (uint32_t)at;
	d->p = (struct pretok_text){d->cp, d->cls, NULL, k};
	d->p.cut = tokenizer_alloc(NULL, k + 1, 1);
	memset(d->p.cut, 0, k + 1);
}

static void decoded_free(struct decoded *d)
{
	free(d->cp);
	free(d->cls);
	free(d->byte_at);
	free(d->bytes);
	free(d->source);
	free(d->p.cut);
}

/* The whole word as a token of the byte alphabet, −1 when it is none. */
static int32_t whole_word(const struct tokenizer *t, const char *s, size_t n, char *letters)
{
	size_t at = 0;
	int32_t k;

	if (n > t->token_bytes_max)
		return -1;
	for (size_t i = 0; i < n; i++)
		at += (size_t)unicode_encode(unicode_from_byte((uint8_t)s[i]), letters + at);
	k = tokenizer_symbol(t, letters, at);
	return k < 0 ? -1 : t->symbols[k].token;
}

/* A piece that is no token: each byte of its letters that is a token by itself, as llama.cpp. */
static void add_letters(struct encoding *o, const char *s, uint32_t n, const uint32_t *source,
			size_t base)
{
	for (uint32_t i = 0; i < n; i++) {
		char letter[4];
		int len = unicode_encode(unicode_from_byte((uint8_t)s[i]), letter);

		for (int k = 0; k < len; k++)
			if (o->t->byte_token[(uint8_t)letter[k]] >= 0)
				encoding_add(o, o->t->byte_token[(uint8_t)letter[k]],
					     base + source[i]);
	}
}

static void encode_word(struct encoding *o, struct work *w, const struct decoded *d, uint32_t at,
			uint32_t n, size_t base)
{
	const struct tokenizer *t = o->t;

	w->text = d->bytes + at;
	w->n_pieces = 0;
	for (uint32_t i = 0; i < n; i++)
		add_piece(w, i, 1, t->byte_symbol[(uint8_t)w->text[i]]);
	merge_all(w);
	for (int32_t i = 0; i >= 0; i = w->pieces[i].next) {
		const struct piece *p = &w->pieces[i];
		int32_t id = p->symbol < 0 ? -1 : t->symbols[p->symbol].token;

		if (id >= 0)
			encoding_add(o, id, base + d->source[at + p->at]);
		else
			add_letters(o, w->text + p->at, p->n, d->source + at + p->at, base);
	}
}

void encode_bpe(struct encoding *o, const char *s, size_t n, size_t base)
{
	const struct tokenizer *t = o->t;
	struct work w = {.t = t};
	char *letters = tokenizer_alloc(NULL, (size_t)t->token_bytes_max * 2 + 4, 1);
	struct decoded d;

	decode_text(&d, s, n);
	pretok_split(t->pre, &d.p);
	for (size_t a = 0, b; a < d.p.n; a = b) {
		uint32_t at = d.byte_at[a], bytes;
		int32_t id;

		for (b = a + 1; !d.p.cut[b]; b++)
			;
		bytes = d.byte_at[b] - at;
		id = t->ignore_merges ? whole_word(t, d.bytes + at, bytes, letters) : -1;
		if (id >= 0)
			encoding_add(o, id, base + d.source[at]);
		else
			encode_word(o, &w, &d, at, bytes, base);
	}
	decoded_free(&d);
	free(letters);
	free(w.pieces);
	free(w.heap);
}

/* ---- SentencePiece ------------------------------------------------------------------------ */

int encode_piece(struct encoding *o, const struct blanked *b, uint32_t at, uint32_t n,
		 size_t base, struct err *e)
{
	const struct tokenizer *t = o->t;
	int32_t k = tokenizer_symbol(t, b->text + at, n);

	if (k >= 0 && t->symbols[k].token >= 0) {
		encoding_add(o, t->symbols[k].token, base + b->source[at]);
		return 0;
	}
	for (uint32_t i = at; i < at + n; i++) {
		uint8_t byte = (uint8_t)b->text[i];
		int32_t id = t->byte_token[byte] >= 0 ? t->byte_token[byte] : t->info.unk;

		if (id < 0)
			return err_set(e, EXIT_MODEL_INVALID,
				       "the vocabulary has no token for byte "
				       "0x%02X and no unknown token",
				       byte);
		encoding_add(o, id, base + b->source[i]);
	}
	return 0;
}

void blank_text(struct blanked *b, const char *s, size_t n, bool prefix)
{
	static const char blank[] = "\xE2\x96\x81";	/* ▁ stands for a space */

	b->text = tokenizer_alloc(NULL, n * 3 + 3, 1);
	b->source = tokenizer_alloc(NULL, n * 3 + 3, sizeof(*b->source));
	b->n = 0;
	for (size_t i = 0; i < n + prefix; i++) {
		size_t from = i - (prefix && i > 0);
		bool space = (prefix && i == 0) || s[from] == ' ';

		memcpy(b->text + b->n, space ? blank : s + from, space ? 3 : 1);
		for (int k = 0; k < (space ? 3 : 1); k++)
			b->source[b->n++] = (uint32_t)from;
	}
}

bool begins_blank(const char *s, size_t n)
{
	return n >= 3 && memcmp(s, "\xE2\x96\x81", 3) == 0;
}

void blanked_free(struct blanked *b)
{
	free(b->text);
	free(b->source);
}

int encode_spm(struct encoding *o, const char *s, size_t n, size_t base, bool prefix,
	       struct err *e)
{
	struct work w = {.t = o->t};
	struct blanked b;
	int r = 0;

	blank_text(&b, s, n, prefix);
	w.text = b.text;
	for (size_t i = 0; i < b.n;) {
		size_t len = (size_t)unicode_length(b.text[i]);

		if (len > b.n - i)
			len = b.n - i;
		add_piece(&w, (uint32_t)i, (uint32_t)len,
			  o->t->by_rank ? tokenizer_symbol(o->t, b.text + i, len) : -1);
		i += len;
	}
	merge_all(&w);
	for (int32_t i = w.n_pieces ? 0 : -1; i >= 0 && r == 0; i = w.pieces[i].next)
		r = encode_piece(o, &b, w.pieces[i].at, w.pieces[i].n, base, e);
	blanked_free(&b);
	free(w.pieces);
	free(w.heap);
	return r;
}
