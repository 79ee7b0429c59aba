#include "jinja_strings.h"

#include "unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- arguments ---------------------------------------------------------------------------- */

/* The i-th argument, or the one named so; undefined when it is not given. */
struct jvalue jarg(const struct jargs *a, int i, const char *name)
{
	if (i < a->n)
		return a->v[i];
	for (int k = 0; name && k < a->n_kw; k++)
		if (jstr_is(a->kw[k].key, name))
			return a->kw[k].v;
	return (struct jvalue){.kind = J_UNDEFINED};
}

struct jstr jarg_string(struct jinja *j, int line, const char *what, struct jvalue v)
{
	if (v.kind == J_STRING)
		return v.s;
	jinja_fail(j, line, "%s needs a string, got %s", what, jv_kind_name(v));
	return (struct jstr){"", 0};
}

/* ---- strings ------------------------------------------------------------------------------ */

static bool in_set(const char *s, size_t n, const struct jstr *chars)
{
	int len;

	if (!chars)
		return unicode_class(unicode_decode(s, n, &len)) & UC_WHITE ||
		       (*s >= 28 && *s <= 31);
	return memmem(chars->s, chars->n, s, n) != NULL;
}

struct jvalue jstr_strip(struct jstr s, bool left, bool right, const struct jstr *chars)
{
	while (left && s.n) {
		int len;

		unicode_decode(s.s, s.n, &len);
		if (!in_set(s.s, (size_t)len, chars))
			break;
		s.s += len;
		s.n -= (size_t)len;
	}
	while (right && s.n) {
		size_t at = s.n - 1;

		while (at > 0 && ((unsigned char)s.s[at] & 0xC0) == 0x80)
			at--;
		if (!in_set(s.s + at, s.n - at, chars))
			break;
		s.n = at;
	}
	return jv_str(s.s, s.n);
}

struct jvalue jstr_case(struct jinja *j, struct jstr s, enum jcase how)
{
	struct jbuf out = {.j = j};
	bool begin = true;

	for (size_t i = 0; i < s.n && !j->failed;) {
		char enc[4];
		int len;
		uint32_t cp = unicode_decode(s.s + i, s.n - i, &len);
		bool up = how == CASE_UPPER || (begin && how != CASE_LOWER);
		bool letter = unicode_class(cp) & UC_L;

		i += (size_t)len;
		len = unicode_encode(up ? unicode_to_upper(cp) : unicode_to_lower(cp), enc);
		jbuf_add(&out, enc, (size_t)len);
		begin = how == CASE_TITLE ? !letter : false;
	}
	return jv_str(out.s, out.n);
}

struct jvalue jstr_replace(struct jinja *j, struct jstr s, struct jstr from, struct jstr to,
			     int64_t most)
{
	struct jbuf out = {.j = j};
	size_t at = 0;

	if (from.n == 0) {
		jinja_fail(j, 0, "replace of an empty string is not supported");
		return jv_none();
	}
	while (most != 0 && !j->failed) {
		const char *hit = memmem(s.s + at, s.n - at, from.s, from.n);

		if (!hit)
			break;
		jbuf_add(&out, s.s + at, (size_t)(hit - s.s) - at);
		jbuf_add(&out, to.s, to.n);
		at = (size_t)(hit - s.s) + from.n;
		most--;
	}
	jbuf_add(&out, s.s + at, s.n - at);
	return jv_str(out.s, out.n);
}

static struct jvalue split_white(struct jinja *j, struct jstr s)
{
	struct jvalue out = jv_list(j);
	size_t from = 0;

	for (size_t i = 0; i <= s.n && !j->failed; i++) {
		if (i < s.n && !strchr(" \t\n\r\v\f", s.s[i]))
			continue;
		if (i > from)
			jlist_add(j, out, jv_str(s.s + from, i - from));
		from = i + 1;
	}
	return out;
}

struct jvalue jstr_split(struct jinja *j, int line, struct jstr s, const struct jargs *a)
{
	struct jvalue by = jarg(a, 0, "sep"), limit = jarg(a, 1, "maxsplit"), out = jv_list(j);
	int64_t most = limit.kind == J_INT ? limit.i : -1;

	if (by.kind == J_UNDEFINED || by.kind == J_NONE)
		return split_white(j, s);
	if (jarg_string(j, line, "split", by).n == 0) {
		jinja_fail(j, line, "split: the separator is empty");
		return out;
	}
	while (most != 0 && !j->failed) {
		const char *hit = memmem(s.s, s.n, by.s.s, by.s.n);

		if (!hit)
			break;
		jlist_add(j, out, jv_str(s.s, (size_t)(hit - s.s)));
		s.n -= (size_t)(hit - s.s) + by.s.n;
		s.s = hit + by.s.n;
		most--;
	}
	jlist_add(j, out, jv_str(s.s, s.n));
	return out;
}

struct jvalue jstr_rsplit(struct jinja *j, int line, struct jstr s, const struct jargs *a)
{
	struct jvalue by = jarg(a, 0, "sep"), limit = jarg(a, 1, "maxsplit"), out = jv_list(j);
	struct jstr sep = jarg_string(j, line, "rsplit", by);

	if (limit.kind != J_INT || limit.i < 0)
		return jstr_split(j, line, s, a);
	if (limit.i == 1 && sep.n && s.n >= sep.n) {
		for (size_t at = s.n - sep.n + 1; at-- > 0;) {
			if (memcmp(s.s + at, sep.s, sep.n) == 0) {
				jlist_add(j, out, jv_str(s.s, at));
				jlist_add(j, out, jv_str(s.s + at + sep.n, s.n - at - sep.n));
				return out;
			}
		}
	} else if (limit.i > 1) {
		jinja_fail(j, line, "rsplit with more than one split is not supported");
	}
	jlist_add(j, out, jv_str(s.s, s.n));
	return out;
}

static bool has_affix(struct jstr s, struct jstr affix, bool front)
{
	return s.n >= affix.n &&
	       memcmp(front ? s.s : s.s + s.n - affix.n, affix.s, affix.n) == 0;
}

/* startswith, endswith: one string, or any of a tuple */
struct jvalue jstr_affix(struct jinja *j, int line, struct jstr s, struct jvalue what, bool front)
{
	const char *name = front ? "startswith" : "endswith";

	if (what.kind != J_LIST)
		return jv_bool(has_affix(s, jarg_string(j, line, name, what), front) && !j->failed);
	for (int i = 0; i < what.list->n; i++)
		if (has_affix(s, jarg_string(j, line, name, what.list->v[i]), front))
			return jv_bool(true);
	return jv_bool(false);
}

struct jvalue jstr_join(struct jinja *j, int line, struct jvalue list, struct jvalue sep,
			  struct jvalue attribute)
{
	struct jbuf out = {.j = j};

	list = jv_iterate(j, line, list);
	for (int i = 0; i < list.list->n && !j->failed; i++) {
		struct jvalue v = list.list->v[i];

		if (i && sep.kind == J_STRING)
			jbuf_add(&out, sep.s.s, sep.s.n);
		if (attribute.kind == J_STRING)
			v = jinja_attribute(j, line, v, attribute.s);
		jbuf_value(&out, v);
	}
	return jv_str(out.s, out.n);
}

int64_t jstr_find(struct jstr s, struct jstr what, bool last)
{
	int64_t at = -1;
	const char *hit, *from = s.s;

	while ((hit = memmem(from, s.n - (size_t)(from - s.s), what.s, what.n)) != NULL) {
		at = hit - s.s;
		if (!last || hit == s.s + s.n)
			break;
		from = hit + 1;
	}
	if (at < 0)
		return at;
	return jv_length(NULL, 0, jv_str(s.s, (size_t)at));
}

/* The argument that a field {name} of a format means; next counts the unnamed ones. */
static struct jvalue field_value(struct jinja *j, int line, struct jstr name, int *next,
				 const struct jargs *a)
{
	struct jvalue none = {.kind = J_UNDEFINED};
	char text[64];
	bool digits = name.n > 0;

	for (size_t i = 0; i < name.n; i++)
		digits = digits && name.s[i] >= '0' && name.s[i] <= '9';
	if (name.n >= sizeof(text) || memchr(name.s, ':', name.n) ||
	    memchr(name.s, '!', name.n) || memchr(name.s, '.', name.n) ||
	    memchr(name.s, '[', name.n)) {
		jinja_fail(j, line, "format: the field {%.*s} is not supported",
			   name.n > 60 ? 60 : (int)name.n, name.s);
		return none;
	}
	snprintf(text, sizeof(text), "%.*s", (int)name.n, name.s);
	int i = name.n == 0 ? (*next)++ : digits && name.n < 4 ? atoi(text) : a->n;
	struct jvalue v = jarg(a, i, name.n && !digits ? text : NULL);
	if (v.kind == J_UNDEFINED)
		jinja_fail(j, line, "format: there is no argument for {%s}", text);
	return v;
}

struct jvalue jstr_format(struct jinja *j, int line, struct jstr s, const struct jargs *a)
{
	struct jbuf out = {.j = j};
	int next = 0;

	for (size_t i = 0; i < s.n && !j->failed; i++) {
		const char *close;

		if (s.s[i] != '{' && s.s[i] != '}') {
			jbuf_add(&out, s.s + i, 1);
		} else if (i + 1 < s.n && s.s[i + 1] == s.s[i]) {
			jbuf_add(&out, s.s + i++, 1);
		} else if (s.s[i] == '{' && (close = memchr(s.s + i, '}', s.n - i)) != NULL) {
			struct jstr name = {s.s + i + 1, (size_t)(close - s.s) - i - 1};
			jbuf_value(&out, field_value(j, line, name, &next, a));
			i = (size_t)(close - s.s);
		} else {
			jinja_fail(j, line, "format: a single '%c'", s.s[i]);
		}
	}
	return jv_str(out.s, out.n);
}
