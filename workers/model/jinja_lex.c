#include "jinja_impl.h"

#include "unicode.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool starts(const struct jlexer *l, size_t at, const char *s)
{
	size_t n = strlen(s);

	return l->n - at >= n && memcmp(l->s + at, s, n) == 0;
}

static int count_lines(const char *s, size_t n)
{
	int lines = 0;

	for (size_t i = 0; i < n; i++)
		lines += s[i] == '\n';
	return lines;
}

static bool is_white(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Where the next {{, {% or {# is; n when there is none. */
static size_t next_tag(const struct jlexer *l, size_t at)
{
	for (; at + 1 < l->n; at++)
		if (l->s[at] == '{' && strchr("{%#", l->s[at + 1]))
			return at;
	return l->n;
}

/* The text [from, tag) as the tag's sign and lstrip_blocks leave it. */
static struct jstr text_before(const struct jlexer *l, size_t from, size_t tag)
{
	size_t end = tag, line = tag;
	char sign = tag + 2 < l->n ? l->s[tag + 2] : 0;

	if (tag == l->n)
		return (struct jstr){l->s + from, end - from};
	if (sign == '-') {
		while (end > from && is_white(l->s[end - 1]))
			end--;
	} else if (sign != '+' && l->s[tag + 1] != '{') {
		while (line > from && is_white(l->s[line - 1]) && l->s[line - 1] != '\n')
			line--;
		if (line > from ? l->s[line - 1] == '\n' : l->line_starting)
			end = line;
	}
	return (struct jstr){l->s + from, end - from};
}

/* Behind a closing mark at `at` (its sign in front of it was sign): what trim_blocks takes. */
static size_t after_tag(struct jlexer *l, size_t at, char sign, bool block)
{
	size_t from = at;

	if (sign == '-') {
		while (at < l->n && is_white(l->s[at]))
			at++;
	} else if (block && sign != '+' && at < l->n && l->s[at] == '\n') {
		at++;
	}
	l->line_starting = at > from && l->s[at - 1] == '\n';
	l->line += count_lines(l->s + from, at - from);
	return at;
}

static bool skip_comment(struct jlexer *l, size_t tag)
{
	const char *close = memmem(l->s + tag + 2, l->n - tag - 2, "#}", 2);
	size_t at;

	if (!close) {
		jinja_fail(l->j, l->line, "a comment {# has no #}");
		return false;
	}
	at = (size_t)(close - l->s);
	l->line += count_lines(l->s + tag, at - tag);
	l->at = after_tag(l, at + 2, at > tag + 2 ? l->s[at - 1] : 0, true);
	return true;
}

enum jpart jlex_part(struct jlexer *l, struct jstr *text)
{
	while (!l->j->failed && l->at < l->n) {
		size_t tag = next_tag(l, l->at);
		struct jstr t = text_before(l, l->at, tag);

		if (tag > l->at) {
			l->line += count_lines(l->s + l->at, tag - l->at);
			l->line_starting = false;
			l->at = tag;
			if (t.n) {
				*text = t;
				return PART_TEXT;
			}
			continue;
		}
		if (l->s[tag + 1] == '#') {
			if (!skip_comment(l, tag))
				return PART_END;
			continue;
		}
		l->at = tag + 2;
		if (l->at < l->n && (l->s[l->at] == '-' || l->s[l->at] == '+'))
			l->at++;
		l->output = l->s[tag + 1] == '{';
		l->braces = 0;
		return l->output ? PART_OUTPUT : PART_TAG;
	}
	return PART_END;
}

struct jstr jlex_raw(struct jlexer *l)
{
	size_t from = l->at;

	for (size_t tag = from; (tag = next_tag(l, tag)) < l->n; tag++) {
		size_t at = tag + 2 + (tag + 2 < l->n && strchr("-+", l->s[tag + 2]) != NULL);
		struct jstr t = text_before(l, from, tag);
		const char *close;

		while (at < l->n && is_white(l->s[at]))
			at++;
		if (l->s[tag + 1] != '%' || !starts(l, at, "endraw"))
			continue;
		close = memmem(l->s + at, l->n - at, "%}", 2);
		if (!close)
			break;
		l->line += count_lines(l->s + from, (size_t)(close - l->s) - from);
		l->at = after_tag(l, (size_t)(close - l->s) + 2, close[-1], true);
		return t;
	}
	jinja_fail(l->j, l->line, "{%% raw %%} has no {%% endraw %%}");
	return (struct jstr){"", 0};
}

/* ---- tokens ------------------------------------------------------------------------------- */

static size_t add_escape(struct jlexer *l, char *out, size_t *i, size_t end)
{
	static const char from[] = "ntrabfv0\\'\"", to[] = "\n\t\r\a\b\f\v\0\\'\"";
	char c = l->s[++*i];
	const char *k = memchr(from, c, sizeof(from) - 1);
	int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
	char hex[9] = "";

	if (k) {
		*out = to[k - from];
		return 1;
	}
	if (digits && *i + (size_t)digits < end) {
		unsigned long cp;

		memcpy(hex, l->s + *i + 1, (size_t)digits);
		cp = strtoul(hex, NULL, 16);
		*i += (size_t)digits;
		return (size_t)unicode_encode(cp < UNICODE_END ? (uint32_t)cp : UNICODE_REPLACEMENT,
					      out);
	}
	out[0] = '\\';
	out[1] = c;
	return 2;
}

static struct jtoken string_token(struct jlexer *l, struct jtoken t)
{
	char quote = l->s[l->at];
	size_t end = l->at + 1, n = 0;
	char *out;

	while (end < l->n && l->s[end] != quote)
		end += l->s[end] == '\\' ? 2 : 1;
	if (end >= l->n) {
		jinja_fail(l->j, l->line, "a string has no closing %c", quote);
		return (struct jtoken){.type = T_END};
	}
	out = jinja_alloc(l->j, end - l->at + 8);
	for (size_t i = l->at + 1; i < end && !l->j->failed; i++) {
		if (l->s[i] == '\\')
			n += add_escape(l, out + n, &i, end);
		else
			out[n++] = l->s[i];
	}
	l->line += count_lines(l->s + l->at, end - l->at);
	l->at = end + 1;
	t.type = T_STRING;
	t.text = (struct jstr){out, n};
	return t;
}

static struct jtoken number_token(struct jlexer *l, struct jtoken t)
{
	size_t end = l->at, n;
	bool is_float = false;
	char s[64];

	while (end < l->n && (isdigit((unsigned char)l->s[end]) || l->s[end] == '_' ||
			      (l->s[end] == '.' && !is_float && end + 1 < l->n &&
			       isdigit((unsigned char)l->s[end + 1])))) {
		is_float = is_float || l->s[end] == '.';
		end++;
	}
	n = 0;
	for (size_t i = l->at; i < end && n < sizeof(s) - 1; i++)
		if (l->s[i] != '_')
			s[n++] = l->s[i];
	s[n] = '\0';
	l->at = end;
	t.type = is_float ? T_FLOAT : T_INT;
	t.i = strtoll(s, NULL, 10);
	t.f = strtod(s, NULL);
	return t;
}

static struct jtoken op_token(struct jlexer *l, struct jtoken t)
{
	static const struct { char s[3]; int op; } two[] = {
		{"==", OP_EQ}, {"!=", OP_NE}, {"<=", OP_LE}, {">=", OP_GE}, {"//", OP_FLOORDIV},
		{"**", OP_POW},
	};
	char c = l->s[l->at];

	t.type = T_OP;
	for (size_t i = 0; i < sizeof(two) / sizeof(two[0]); i++) {
		if (starts(l, l->at, two[i].s)) {
			t.op = two[i].op;
			l->at += 2;
			return t;
		}
	}
	if (!strchr("+-*/%~<>=|()[]{},:.", c)) {
		jinja_fail(l->j, l->line, "unexpected character '%c'", c);
		return (struct jtoken){.type = T_END, .line = l->line};
	}
	t.op = c;
	l->at++;
	return t;
}

/* At the tag's end: consumes it. */
static bool at_close(struct jlexer *l, bool output, int braces)
{
	const char *mark = output ? "}}" : "%}";
	size_t at = l->at;
	char sign = l->s[at];

	if (output && braces > 0)
		return false;
	if ((sign == '-' || sign == '+') && starts(l, at + 1, mark))
		at++;
	else if (starts(l, at, mark))
		sign = 0;
	else
		return false;
	l->at = after_tag(l, at + 2, sign, !output);
	return true;
}

struct jtoken jlex_token(struct jlexer *l)
{
	struct jtoken t = {.type = T_END};

	while (l->at < l->n && is_white(l->s[l->at]))
		l->line += l->s[l->at++] == '\n';
	t.line = l->line;
	if (l->j->failed)
		return t;
	if (l->at >= l->n) {
		jinja_fail(l->j, l->line, "a tag is not closed");
		return t;
	}
	if (at_close(l, l->output, l->braces))
		return t;
	if (isalpha((unsigned char)l->s[l->at]) || l->s[l->at] == '_') {
		size_t from = l->at;

		while (l->at < l->n && (isalnum((unsigned char)l->s[l->at]) || l->s[l->at] == '_'))
			l->at++;
		t.type = T_NAME;
		t.text = (struct jstr){l->s + from, l->at - from};
		return t;
	}
	if (isdigit((unsigned char)l->s[l->at]))
		return number_token(l, t);
	if (l->s[l->at] == '"' || l->s[l->at] == '\'')
		return string_token(l, t);
	t = op_token(l, t);
	if (t.type == T_OP)
		l->braces += (t.op == '{') - (t.op == '}');
	return t;
}
