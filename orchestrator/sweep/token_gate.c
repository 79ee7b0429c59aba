#include "token_gate.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int token_gate_compare(const int32_t *a, int n_a, const int32_t *b, int n_b)
{
	int n = n_a < n_b ? n_a : n_b;

	for (int i = 0; i < n; i++)
		if (a[i] != b[i])
			return i;
	return n_a == n_b ? -1 : n;
}

int token_gate_window(const struct exchange *x, int side, int *from)
{
	int n = x->sides[side].n_ids, end = x->first_difference + TOKEN_GATE_AFTER;

	*from =
	    x->first_difference > TOKEN_GATE_BEFORE ? x->first_difference - TOKEN_GATE_BEFORE : 0;
	if (end > n)
		end = n;
	return end > *from ? end - *from : 0;
}

static size_t put_escaped(char *out, const uint8_t *text, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\n')
			k += (size_t)sprintf(out + k, "\\n");
		else if (text[i] < 0x20 || text[i] == 0x7f || text[i] == '"' || text[i] == '\\')
			k += (size_t)sprintf(out + k, "\\x%02x", text[i]);
		else
			out[k++] = (char)text[i];
	}
	out[k] = '\0';
	return k;
}

void token_gate_pieces(struct exchange *x, int side, const struct wire_frame *f)
{
	struct exchange_side *s = &x->sides[side];
	int from, n;
	size_t at = 0, k = 0;

	if (f->type != WIRE_PIECES)
		return;
	n = token_gate_window(x, side, &from);
	free(s->pieces);
	s->pieces = malloc(4 * f->body_bytes + 64 * (size_t)n + 1);
	assert(s->pieces);
	s->pieces[0] = '\0';
	for (int i = 0; i < n; i++) {
		uint32_t bytes;

		if (f->body_bytes - at < sizeof(bytes))
			return;
		memcpy(&bytes, f->body + at, sizeof(bytes));
		at += sizeof(bytes);
		if (bytes > f->body_bytes - at)
			return;
		k += (size_t)sprintf(s->pieces + k, "%s[%d] %d \"",
				     from + i == x->first_difference ? ">" : " ", from + i,
				     s->ids[from + i]);
		k += put_escaped(s->pieces + k, f->body + at, bytes);
		k += (size_t)sprintf(s->pieces + k, "\"\n");
		at += bytes;
	}
}

static bool is_shifted(const struct exchange_side *a, const struct exchange_side *b)
{
	return a->n_ids == b->n_ids + 1 &&
	       token_gate_compare(a->ids + 1, a->n_ids - 1, b->ids, b->n_ids) < 0;
}

static bool bos_cause(struct exchange *x, int more, int less, int64_t bos)
{
	const struct exchange_side *a = &x->sides[more], *b = &x->sides[less];

	if (!is_shifted(a, b) || a->ids[0] != bos)
		return false;
	if (b->n_ids && b->ids[0] == bos)
		snprintf(x->cause, sizeof(x->cause),
			 "%s has the beginning-of-text token twice: the template's text has it and "
			 "add_bos adds it again; do not add it for this template",
			 a->engine);
	else
		snprintf(x->cause, sizeof(x->cause),
			 "%s lacks the beginning-of-text token %lld that %s puts first; give both "
			 "sides the same add_bos",
			 b->engine, (long long)bos, a->engine);
	return true;
}

void token_gate_cause(struct exchange *x, const char *opened_ours, const char *opened_ref)
{
	int64_t bos = exchange_fact_int(opened_ref, "bos", -1);
	const char *opened[POOL_SIDES] = {opened_ours, opened_ref};
	char note[1024];

	if (bos_cause(x, 0, 1, bos) || bos_cause(x, 1, 0, bos))
		return;
	for (int i = 0; i < POOL_SIDES; i++) {
		const char *pieces = x->sides[i].pieces;
		const char *at = pieces ? strstr(pieces, ">[") : NULL;
		const char *other =
		    x->sides[1 - i].pieces ? strstr(x->sides[1 - i].pieces, ">[") : "";
		const char *text = at ? strchr(at, '"') : NULL;

		if (text && strncmp(text, "\"<|", 3) == 0 && other &&
		    strncmp(strchr(other, '"') ? strchr(other, '"') : "", "\"<|", 3) != 0) {
			snprintf(x->cause, sizeof(x->cause),
				 "%s reads a special token here, %s its characters: parse_special "
				 "differs, or one vocabulary lacks the token's type",
				 x->sides[i].engine, x->sides[1 - i].engine);
			return;
		}
	}
	for (int i = 0; i < POOL_SIDES; i++)
		if (exchange_fact(opened[i], "note", note, sizeof(note)) && strstr(note, "pre")) {
			snprintf(x->cause, sizeof(x->cause),
				 "the pre-tokenizer: %s says \"%.250s\"; --override-kv "
				 "tokenizer.ggml.pre=str:NAME sets it for both sides",
				 x->sides[i].engine, note);
			return;
		}
	snprintf(x->cause, sizeof(x->cause),
		 "the two sides split or number the text differently: another tokenizer file, "
		 "vocabulary or pre-tokenizer; give both the same model and --tokenizer");
}
