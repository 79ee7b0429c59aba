#include "pretok.h"

#include "unicode.h"

static unsigned class_at(const struct pretok_text *t, size_t i, size_t b)
{
	return i < b ? t->cls[i] : 0;
}

static uint32_t cp_at(const struct pretok_text *t, size_t i, size_t b)
{
	return i < b ? t->cp[i] : UINT32_MAX;
}

static bool is_newline(uint32_t cp)
{
	return cp == '\r' || cp == '\n';
}

/* 's 't 'm 'd 're 've 'll at i: code points, or 0. */
static size_t contraction(const struct pretok_text *t, size_t i, size_t b, bool any_case)
{
	uint32_t c, d;

	if (cp_at(t, i, b) != '\'' || i + 1 >= b)
		return 0;
	c = any_case ? unicode_to_lower(t->cp[i + 1]) : t->cp[i + 1];
	if (c == 's' || c == 't' || c == 'm' || c == 'd')
		return 2;
	if (i + 2 >= b)
		return 0;
	d = any_case ? unicode_to_lower(t->cp[i + 2]) : t->cp[i + 2];
	if ((c == 'r' && d == 'e') || (c == 'v' && d == 'e') || (c == 'l' && d == 'l'))
		return 3;
	return 0;
}

/* \s*[\r\n]+ (when newlines), \s+(?!\S), \s+ at i, which is white space: where the word ends. */
static size_t white_end(const struct pretok_text *t, size_t i, size_t b, bool newlines)
{
	size_t end = i, newline = 0;

	while (class_at(t, end, b) & UC_WHITE) {
		if (is_newline(t->cp[end]))
			newline = end + 1;
		end++;
	}
	if (newlines && newline)
		return newline;
	return end - i > 1 && end < b ? end - 1 : end;
}

static size_t run_end(const struct pretok_text *t, size_t i, size_t b, unsigned any)
{
	while (class_at(t, i, b) & any)
		i++;
	return i;
}

static size_t run_end_not(const struct pretok_text *t, size_t i, size_t b, unsigned none)
{
	while (i < b && !(t->cls[i] & none))
		i++;
	return i;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
void pretok_gpt2(const struct pretok_text *t, size_t a, size_t b)
{
	for (size_t i = a; i < b; t->cut[i] = 1) {
		size_t n = contraction(t, i, b, false);
		size_t body = i + (t->cp[i] == ' ');
		unsigned k = class_at(t, body, b);

		if (n)
			i += n;
		else if (k & UC_L)
			i = run_end(t, body, b, UC_L);
		else if (k & UC_N)
			i = run_end(t, body, b, UC_N);
		else if (k && !(k & UC_WHITE))
			i = run_end_not(t, body, b, UC_WHITE | UC_L | UC_N);
		else
			i = white_end(t, i, b, false);
	}
}

static size_t digits_end(const struct pretok_text *t, size_t i, size_t b, int most)
{
	size_t end = i;

	while (end - i < (size_t)most && class_at(t, end, b) & UC_N)
		end++;
	return end;
}

/*
 * (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}
 * | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * marks: \p{L} reads [\p{L}\p{M}] but in the class of the leading character.
 */
void pretok_llama3(const struct pretok_text *t, size_t a, size_t b, const struct pretok_words *w)
{
	unsigned letter = w->marks ? UC_L | UC_M : UC_L;

	for (size_t i = a; i < b; t->cut[i] = 1) {
		size_t n = w->contractions ? contraction(t, i, b, true) : 0;
		size_t body = i + (t->cp[i] == ' ');
		unsigned k = t->cls[i];

		if (n) {
			i += n;
		} else if (!is_newline(t->cp[i]) && !(k & UC_N) &&
			   (k & letter || class_at(t, i + 1, b) & letter)) {
			i = run_end(t, i + 1, b, letter);
		} else if (k & UC_N) {
			i = digits_end(t, i, b, w->digits);
		} else if (body < b && !(t->cls[body] & (UC_WHITE | letter | UC_N))) {
			i = run_end_not(t, body, b, UC_WHITE | letter | UC_N);
			while (w->newline_tail && is_newline(cp_at(t, i, b)))
				i++;
		} else {
			i = white_end(t, i, b, true);
		}
	}
}

static bool is_ascii_letter(uint32_t cp)
{
	return (cp | 32) >= 'a' && (cp | 32) <= 'z' && cp < 128;
}

static size_t ascii_word_end(const struct pretok_text *t, size_t i, size_t b)
{
	while (is_ascii_letter(cp_at(t, i, b)))
		i++;
	return i;
}

/*
 * [!-/:-@[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*
 * |\s*[\r\n]+|\s+(?!\S)|\s+ ; what matches nothing joins its neighbours that match nothing.
 */
void pretok_deepseek3(const struct pretok_text *t, size_t a, size_t b)
{
	for (size_t i = a; i < b;) {
		uint32_t c = t->cp[i];
		unsigned k = t->cls[i];
		size_t body = i + (c == ' '), end = i;

		if (c < 128 && k & (UC_P | UC_S) && is_ascii_letter(cp_at(t, i + 1, b))) {
			end = ascii_word_end(t, i + 1, b);
		} else if (k & (UC_L | UC_M) ||
			   (!is_newline(c) && !(k & (UC_P | UC_S)) &&
			    class_at(t, i + 1, b) & (UC_L | UC_M))) {
			end = run_end(t, i + 1, b, UC_L | UC_M);
		} else if (class_at(t, body, b) & (UC_P | UC_S)) {
			end = run_end(t, body, b, UC_P | UC_S);
			while (is_newline(cp_at(t, end, b)))
				end++;
		} else if (k & UC_WHITE) {
			end = white_end(t, i, b, true);
		}
		if (end == i) {
			i++;
			continue;
		}
		t->cut[i] = t->cut[end] = 1;
		i = end;
	}
}

static bool is_upper_like(const struct pretok_text *t, size_t i, size_t b)
{
	return class_at(t, i, b) & UC_L && !(t->cp[i] >= 'a' && t->cp[i] <= 'z');
}

static bool is_lower_like(const struct pretok_text *t, size_t i, size_t b)
{
	return class_at(t, i, b) & UC_L && !(t->cp[i] >= 'A' && t->cp[i] <= 'Z');
}

/*
 * U*L+ or else U+L*, where U is a letter but a–z and L a letter but A–Z (letters beyond ASCII are
 * both, so U* may have to give some back): the end, or i when neither matches.
 */
static size_t cased_end(const struct pretok_text *t, size_t i, size_t b)
{
	size_t upper = i, end;

	while (is_upper_like(t, upper, b))
		upper++;
	end = upper;
	while (is_lower_like(t, end, b))
		end++;
	if (end > upper)
		return end;
	for (size_t k = upper; k > i; k--)
		if (is_lower_like(t, k - 1, b))
			return k;
	return upper;
}

/*
 * [^\r\n\p{L}\p{N}]?(U*L+|U+L*)(contraction)?|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*
 * |\s*[\r\n]+|\s+(?!\S)|\s+
 */
void pretok_cased(const struct pretok_text *t, size_t a, size_t b, int digits, bool contractions)
{
	for (size_t i = a; i < b; t->cut[i] = 1) {
		size_t body = i + (t->cp[i] == ' ');
		unsigned k = t->cls[i];

		if (k & UC_L || (!is_newline(t->cp[i]) && !(k & UC_N) &&
				 class_at(t, i + 1, b) & UC_L)) {
			i = cased_end(t, i + !(k & UC_L), b);
			if (contractions)
				i += contraction(t, i, b, true);
		} else if (k & UC_N) {
			i = digits_end(t, i, b, digits);
		} else if (body < b && !(t->cls[body] & (UC_WHITE | UC_L | UC_N))) {
			i = run_end_not(t, body, b, UC_WHITE | UC_L | UC_N);
			while (is_newline(cp_at(t, i, b)) || cp_at(t, i, b) == '/')
				i++;
		} else {
			i = white_end(t, i, b, true);
		}
	}
}
