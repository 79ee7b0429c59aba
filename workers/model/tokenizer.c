#include "tokenizer_impl.h"

#include "unicode.h"

#include <stdlib.h>
#include <string.h>

/* Whether a space belongs in front of a fragment of text. */
static bool wants_prefix(const struct tokenizer *t, const char *s, const struct fragment *f,
			 bool after_special)
{
	if (!t->space_prefix || !(t->prefix_first ? f->at == 0 : after_special))
		return false;
	return !t->prefix_missing || !(s[f->at] == ' ' || begins_blank(s + f->at, f->n));
}

static int encode_fragments(struct encoding *o, const char *text, const struct fragment *f,
			    size_t n, struct err *e)
{
	bool after_special = true;	/* the start counts as such */

	for (size_t i = 0; i < n; i++) {
		bool prefix = f[i].id < 0 && wants_prefix(o->t, text, &f[i], after_special);
		int r = 0;

		if (f[i].id >= 0)
			encoding_add(o, f[i].id, f[i].at);
		else if (o->t->kind == TOKENIZER_BPE)
			encode_bpe(o, text + f[i].at, f[i].n, f[i].at);
		else if (o->t->kind == TOKENIZER_UNIGRAM)
			r = encode_unigram(o, text + f[i].at, f[i].n, f[i].at, prefix, e);
		else
			r = encode_spm(o, text + f[i].at, f[i].n, f[i].at, prefix, e);
		if (r < 0)
			return r;
		after_special = f[i].id >= 0;
	}
	return 0;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, bool add_bos,
		     bool parse_special, int32_t **ids, int *n_ids, size_t **offsets,
		     struct err *e)
{
	struct encoding o = {.t = t};
	struct fragment *f;
	size_t n;
	int r;

	if (t->kind == TOKENIZER_NONE)
		return err_set(e, EXIT_MODEL_INVALID,
			       "the model has no vocabulary (tokenizer.ggml.model is \"%s\"); give "
			       "token ids, or --tokenizer FILE",
			       t->info.model);
	if (bytes > TOKENIZER_TEXT_BYTES_MAX)
		return err_set(e, EXIT_USAGE, "the text has %zu bytes, at most %d can be tokenized",
			       bytes, TOKENIZER_TEXT_BYTES_MAX);
	f = tokenizer_partition(t, text, bytes, parse_special, &n);
	if (add_bos && t->info.add_bos)
		encoding_add(&o, t->info.bos, 0);
	r = encode_fragments(&o, text, f, n, e);
	if (r == 0 && add_bos && t->info.add_eos)
		encoding_add(&o, t->info.eos, bytes);
	free(f);
	if (r < 0) {
		free(o.ids);
		free(o.offsets);
		return r;
	}
	*ids = o.ids ? o.ids : tokenizer_alloc(NULL, 1, sizeof(**ids));
	*n_ids = o.n;
	if (offsets)
		*offsets = o.offsets ? o.offsets : tokenizer_alloc(NULL, 1, sizeof(**offsets));
	else
		free(o.offsets);
	return 0;
}

static bool renders_as_text(unsigned attr)
{
	return attr & (TOKEN_UNKNOWN | TOKEN_CONTROL | TOKEN_USER);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* <0xHH> */
static int byte_of(const char *s, size_t n)
{
	int high, low;

	if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
		return -1;
	high = hex_digit(s[3]);
	low = hex_digit(s[4]);
	return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* A token is never longer rendered than its text. */
static size_t render(const struct tokenizer *t, int32_t id, bool special, char *out)
{
	const struct token *k = &t->tokens[id];
	const char *s = t->text + t->symbols[k->symbol].at;
	size_t n = t->symbols[k->symbol].n, at = 0;

	if (renders_as_text(k->attr)) {
		if (!special && k->attr & (TOKEN_UNKNOWN | TOKEN_CONTROL))
			return 0;
		memcpy(out, s, n);
		return n;
	}
	if (k->attr & TOKEN_BYTE && byte_of(s, n) >= 0) {
		out[0] = (char)byte_of(s, n);
		return 1;
	}
	if (!(k->attr & TOKEN_NORMAL))
		return 0;
	for (size_t i = 0; i < n;) {
		int len;
		uint32_t cp = unicode_decode(s + i, n - i, &len);
		int byte = t->kind == TOKENIZER_BPE ? unicode_to_byte(cp) : cp == 0x2581 ? ' ' : -1;

		if (byte >= 0) {
			out[at++] = (char)byte;
		} else {
			memcpy(out + at, s + i, (size_t)len);
			at += (size_t)len;
		}
		i += (size_t)len;
	}
	return at;
}

static int check_id(const struct tokenizer *t, int32_t id, struct err *e)
{
	if (id < 0 || id >= t->info.n_vocab)
		return err_set(e, EXIT_USAGE, "token id %d is outside the vocabulary of %d", id,
			       t->info.n_vocab);
	return 0;
}

static size_t text_bytes(const struct tokenizer *t, int32_t id)
{
	return t->symbols[t->tokens[id].symbol].n;
}

int tokenizer_piece(const struct tokenizer *t, int32_t id, bool special, char *out, size_t size,
		    struct err *e)
{
	int r = t->kind == TOKENIZER_NONE ? 0 : check_id(t, id, e);
	char *tmp;
	size_t n;

	if (r < 0)
		return r;
	if (t->kind == TOKENIZER_NONE)
		return 0;
	if (text_bytes(t, id) <= size)
		return (int)render(t, id, special, out);
	tmp = tokenizer_alloc(NULL, text_bytes(t, id), 1);
	n = render(t, id, special, tmp);
	if (n <= size)
		memcpy(out, tmp, n);
	free(tmp);
	if (n > size)
		return err_set(e, EXIT_INTERNAL,
			       "the piece of token %d has %zu bytes, there is room "
			       "for %zu",
			       id, n, size);
	return (int)n;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int n, bool special,
		     char **text, size_t *bytes, struct err *e)
{
	size_t cap = 1, at = 0;
	bool strip = t->space_prefix;	/* encoding put a space there */
	char *out;

	if (t->kind == TOKENIZER_NONE)
		n = 0;	/* ids have no text */
	for (int i = 0; i < n; i++) {
		int r = check_id(t, ids[i], e);

		if (r < 0)
			return r;
		cap += text_bytes(t, ids[i]);
	}
	out = tokenizer_alloc(NULL, cap, 1);
	for (int i = 0; i < n; i++) {
		size_t len = render(t, ids[i], special, out + at);
		bool is_special = renders_as_text(t->tokens[ids[i]].attr);

		if (strip && !is_special && len && out[at] == ' ') {
			memmove(out + at, out + at + 1, len - 1);
			len--;
		}
		strip = t->space_prefix && is_special && !t->prefix_first;
		at += len;
	}
	out[at] = '\0';
	*text = out;
	*bytes = at;
	return 0;
}
