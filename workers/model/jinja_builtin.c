#include "jinja_impl.h"

#include "unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- arguments ---------------------------------------------------------------------------- */

/* The i-th argument, or the one named so; undefined when it is not given. */
static struct jvalue arg(const struct jargs *a, int i, const char *name)
{
	if (i < a->n)
		return a->v[i];
	for (int k = 0; name && k < a->n_kw; k++)
		if (jstr_is(a->kw[k].key, name))
			return a->kw[k].v;
	return (struct jvalue){.kind = J_UNDEFINED};
}

static struct jstr need_string(struct jinja *j, int line, const char *what, struct jvalue v)
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

static struct jvalue strip(struct jstr s, bool left, bool right, const struct jstr *chars)
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

enum casing { LOWER, UPPER, CAPITALIZE, TITLE };

static struct jvalue change_case(struct jinja *j, struct jstr s, enum casing how)
{
	struct jbuf out = {.j = j};
	bool begin = true;

	for (size_t i = 0; i < s.n && !j->failed;) {
		char enc[4];
		int len;
		uint32_t cp = unicode_decode(s.s + i, s.n - i, &len);
		bool up = how == UPPER || (begin && how != LOWER);
		bool letter = unicode_class(cp) & UC_L;

		i += (size_t)len;
		len = unicode_encode(up ? unicode_to_upper(cp) : unicode_to_lower(cp), enc);
		jbuf_add(&out, enc, (size_t)len);
		begin = how == TITLE ? !letter : false;
	}
	return jv_str(out.s, out.n);
}

static struct jvalue replace(struct jinja *j, struct jstr s, struct jstr from, struct jstr to,
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

static struct jvalue split(struct jinja *j, int line, struct jstr s, const struct jargs *a)
{
	struct jvalue by = arg(a, 0, "sep"), limit = arg(a, 1, "maxsplit"), out = jv_list(j);
	int64_t most = limit.kind == J_INT ? limit.i : -1;

	if (by.kind == J_UNDEFINED || by.kind == J_NONE)
		return split_white(j, s);
	if (need_string(j, line, "split", by).n == 0) {
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

static struct jvalue rsplit(struct jinja *j, int line, struct jstr s, const struct jargs *a)
{
	struct jvalue by = arg(a, 0, "sep"), limit = arg(a, 1, "maxsplit"), out = jv_list(j);
	struct jstr sep = need_string(j, line, "rsplit", by);

	if (limit.kind != J_INT || limit.i < 0)
		return split(j, line, s, a);
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
static struct jvalue affix(struct jinja *j, int line, struct jstr s, struct jvalue what, bool front)
{
	const char *name = front ? "startswith" : "endswith";

	if (what.kind != J_LIST)
		return jv_bool(has_affix(s, need_string(j, line, name, what), front) && !j->failed);
	for (int i = 0; i < what.list->n; i++)
		if (has_affix(s, need_string(j, line, name, what.list->v[i]), front))
			return jv_bool(true);
	return jv_bool(false);
}

static struct jvalue join(struct jinja *j, int line, struct jvalue list, struct jvalue sep,
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

static int64_t find(struct jstr s, struct jstr what, bool last)
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

/* ---- methods ------------------------------------------------------------------------------ */

static const char *const string_methods[] = {
	"strip", "lstrip", "rstrip", "upper", "lower", "title", "capitalize", "split", "rsplit",
	"splitlines", "startswith", "endswith", "replace", "join", "find", "rfind", "count",
	"isdigit", NULL,
};
static const char *const dict_methods[] = {"items", "keys", "values", "get", NULL};

bool jinja_has_method(struct jvalue v, struct jstr name)
{
	const char *const *list = v.kind == J_STRING ? string_methods
				  : v.kind == J_DICT ? dict_methods : NULL;

	for (; list && *list; list++)
		if (jstr_is(name, *list))
			return true;
	return false;
}

static struct jvalue dict_items(struct jinja *j, struct jdict *d, bool keys, bool values)
{
	struct jvalue out = jv_list(j);

	for (int i = 0; i < d->n && !j->failed; i++) {
		struct jvalue key = jv_str(d->v[i].key.s, d->v[i].key.n), pair;

		if (!keys || !values) {
			jlist_add(j, out, keys ? key : d->v[i].v);
			continue;
		}
		pair = jv_list(j);
		jlist_add(j, pair, key);
		jlist_add(j, pair, d->v[i].v);
		jlist_add(j, out, pair);
	}
	return out;
}

static struct jvalue dict_method(struct jinja *j, int line, struct jdict *d, struct jstr name,
				 const struct jargs *a)
{
	struct jvalue *v;

	if (jstr_is(name, "items"))
		return dict_items(j, d, true, true);
	if (jstr_is(name, "keys"))
		return dict_items(j, d, true, false);
	if (jstr_is(name, "values"))
		return dict_items(j, d, false, true);
	v = jdict_get(d, need_string(j, line, "get", arg(a, 0, "key")));
	if (v)
		return *v;
	return arg(a, 1, "default").kind == J_UNDEFINED ? jv_none() : arg(a, 1, "default");
}

static struct jvalue split_lines(struct jinja *j, struct jstr s)
{
	struct jvalue out = jv_list(j);

	while (s.n && !j->failed) {
		size_t n = 0, skip;

		while (n < s.n && s.s[n] != '\n' && s.s[n] != '\r')
			n++;
		jlist_add(j, out, jv_str(s.s, n));
		skip = n < s.n ? n + 1 + (s.s[n] == '\r' && n + 1 < s.n && s.s[n + 1] == '\n') : n;
		s.s += skip;
		s.n -= skip;
	}
	return out;
}

static struct jvalue count(struct jstr s, struct jstr what)
{
	int64_t n = 0;

	for (size_t at = 0; what.n && at + what.n <= s.n; n++) {
		const char *hit = memmem(s.s + at, s.n - at, what.s, what.n);

		if (!hit)
			break;
		at = (size_t)(hit - s.s) + what.n;
	}
	return jv_int(n);
}

static struct jvalue is_digits(struct jstr s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.s[i] < '0' || s.s[i] > '9')
			return jv_bool(false);
	return jv_bool(s.n > 0);
}

struct jvalue jinja_method(struct jinja *j, int line, struct jvalue v, struct jstr name,
			   const struct jargs *a)
{
	struct jvalue first = arg(a, 0, NULL);
	const struct jstr *chars = first.kind == J_STRING ? &first.s : NULL;

	if (v.kind == J_DICT)
		return dict_method(j, line, v.dict, name, a);
	if (jstr_is(name, "strip"))
		return strip(v.s, true, true, chars);
	if (jstr_is(name, "lstrip"))
		return strip(v.s, true, false, chars);
	if (jstr_is(name, "rstrip"))
		return strip(v.s, false, true, chars);
	if (jstr_is(name, "split"))
		return split(j, line, v.s, a);
	if (jstr_is(name, "rsplit"))
		return rsplit(j, line, v.s, a);
	if (jstr_is(name, "splitlines"))
		return split_lines(j, v.s);
	if (jstr_is(name, "startswith"))
		return affix(j, line, v.s, first, true);
	if (jstr_is(name, "endswith"))
		return affix(j, line, v.s, first, false);
	if (jstr_is(name, "join"))
		return join(j, line, first, v, (struct jvalue){.kind = J_UNDEFINED});
	if (jstr_is(name, "find") || jstr_is(name, "rfind"))
		return jv_int(find(v.s, need_string(j, line, "find", first), name.s[0] == 'r'));
	if (jstr_is(name, "count"))
		return count(v.s, need_string(j, line, "count", first));
	if (jstr_is(name, "isdigit"))
		return is_digits(v.s);
	return jinja_filter(j, line, name, v, a);	/* upper lower title capitalize replace */
}

/* ---- filters ------------------------------------------------------------------------------ */

static struct jvalue json(struct jinja *j, struct jvalue v, struct jvalue indent)
{
	struct jbuf out = {.j = j};

	jbuf_json(&out, v,
		  indent.kind == J_INT && indent.i >= 0 && indent.i < 64 ? (int)indent.i : -1, 0);
	return jv_str(out.s, out.n);
}

/* select, reject, selectattr, rejectattr: (attribute,) test, arguments of the test */
static struct jvalue select_items(struct jinja *j, int line, struct jvalue v,
				  const struct jargs *a, bool by_attribute, bool keep)
{
	struct jvalue items = jv_true(v) ? jv_iterate(j, line, v) : jv_list(j), out = jv_list(j);
	struct jvalue attribute = by_attribute ? arg(a, 0, NULL) : jv_none();
	struct jvalue test = arg(a, by_attribute, NULL);
	struct jargs rest = {.v = a->v + by_attribute + 1, .n = a->n - by_attribute - 1};

	if (rest.n < 0)
		rest = (struct jargs){0};
	if (by_attribute)
		need_string(j, line, "selectattr", attribute);
	for (int i = 0; i < items.list->n && !j->failed; i++) {
		struct jvalue x = items.list->v[i];
		bool yes;

		if (by_attribute)
			x = jinja_attribute(j, line, x, attribute.s);
		yes = test.kind == J_STRING ? jinja_test(j, line, test.s, x, &rest) : jv_true(x);
		if (yes == keep)
			jlist_add(j, out, items.list->v[i]);
	}
	return out;
}

static struct jvalue map_items(struct jinja *j, int line, struct jvalue v, const struct jargs *a)
{
	struct jvalue items = jv_true(v) ? jv_iterate(j, line, v) : jv_list(j), out = jv_list(j);
	struct jvalue attribute = arg(a, a->n, "attribute"), filter = arg(a, 0, NULL);
	struct jargs rest = {.v = a->v + 1, .n = a->n - 1};

	for (int i = 0; i < items.list->n && !j->failed; i++) {
		struct jvalue x = items.list->v[i];

		if (attribute.kind == J_STRING)
			x = jinja_attribute(j, line, x, attribute.s);
		else
			x = jinja_filter(j, line, need_string(j, line, "map", filter), x, &rest);
		jlist_add(j, out, x);
	}
	return out;
}

static int by_key(const void *a, const void *b)
{
	const struct jpair *x = a, *y = b;
	size_t n = x->key.n < y->key.n ? x->key.n : y->key.n;
	int c = memcmp(x->key.s, y->key.s, n);

	return c ? c : (x->key.n > y->key.n) - (x->key.n < y->key.n);
}

static struct jvalue sorted_items(struct jinja *j, int line, struct jvalue v)
{
	struct jvalue copy = jv_dict(j);

	if (v.kind != J_DICT) {
		jinja_fail(j, line, "dictsort needs a dictionary, got %s", jv_kind_name(v));
		return copy;
	}
	for (int i = 0; i < v.dict->n; i++)
		jdict_set(j, copy.dict, v.dict->v[i].key, v.dict->v[i].v);
	if (copy.dict->n)
		qsort(copy.dict->v, (size_t)copy.dict->n, sizeof(*copy.dict->v), by_key);
	return dict_items(j, copy.dict, true, true);
}

static struct jvalue reversed(struct jinja *j, int line, struct jvalue v)
{
	struct jvalue items = jv_iterate(j, line, v), out = jv_list(j);
	struct jbuf text = {.j = j};

	for (int i = items.list->n - 1; i >= 0 && !j->failed; i--)
		jlist_add(j, out, items.list->v[i]);
	if (v.kind != J_STRING)
		return out;
	for (int i = 0; i < out.list->n; i++)
		jbuf_value(&text, out.list->v[i]);
	return jv_str(text.s, text.n);
}

static struct jvalue first_or_last(struct jinja *j, int line, struct jvalue v, bool last)
{
	struct jvalue items = jv_iterate(j, line, v);

	if (j->failed || !items.list->n)
		return (struct jvalue){.kind = J_UNDEFINED, .s = jv_cstr("first of nothing").s};
	return items.list->v[last ? items.list->n - 1 : 0];
}

static struct jvalue to_number(struct jinja *j, struct jvalue v, bool whole)
{
	char s[64] = "";
	double f;

	if (v.kind == J_STRING) {
		char *end;

		snprintf(s, sizeof(s), "%.*s", v.s.n < 63 ? (int)v.s.n : 63, v.s.s);
		if (whole && !strpbrk(s, ".eE"))
			return jv_int(strtoll(s, &end, 10));
		f = strtod(s, &end);
	} else if (!jv_number(v, &f)) {
		f = 0;
	} else if (v.kind == J_INT && whole) {
		return v;
	}
	(void)j;
	if (!whole)
		return jv_float(f);
	return jv_int(fabs(f) < 9e18 ? (int64_t)f : 0);
}

static struct jvalue indent_lines(struct jinja *j, struct jstr s, const struct jargs *a)
{
	struct jvalue width = arg(a, 0, "width"), first = arg(a, 1, "first");
	int64_t n = width.kind == J_INT ? width.i : 4;
	struct jbuf out = {.j = j};
	bool begin = jv_true(first);

	for (size_t i = 0; i < s.n && !j->failed; i++) {
		if (begin && s.s[i] != '\n')
			for (int64_t k = 0; k < n && !j->failed; k++)
				jbuf_puts(&out, " ");
		jbuf_add(&out, s.s + i, 1);
		begin = s.s[i] == '\n';
	}
	return jv_str(out.s, out.n);
}

static struct jvalue with_default(struct jvalue v, const struct jargs *a)
{
	struct jvalue otherwise = arg(a, 0, "default_value");
	bool falsy_too = jv_true(arg(a, 1, "boolean"));

	if (v.kind != J_UNDEFINED && (!falsy_too || jv_true(v)))
		return v;
	return otherwise.kind == J_UNDEFINED ? jv_str("", 0) : otherwise;
}

enum filter {
	F_TRIM, F_UPPER, F_LOWER, F_CAPITALIZE, F_TITLE, F_LENGTH, F_DEFAULT, F_JOIN, F_REPLACE,
	F_FIRST, F_LAST, F_TOJSON, F_STRING, F_INT, F_FLOAT, F_LIST, F_ITEMS, F_SAFE, F_MAP,
	F_SELECT, F_REJECT, F_SELECTATTR, F_REJECTATTR, F_REVERSE, F_INDENT, F_ABS,
	F_DICTSORT,
};

static const struct { const char *name; enum filter f; } filters[] = {
	{"trim", F_TRIM}, {"upper", F_UPPER}, {"lower", F_LOWER}, {"capitalize", F_CAPITALIZE},
	{"title", F_TITLE}, {"length", F_LENGTH}, {"count", F_LENGTH}, {"default", F_DEFAULT},
	{"d", F_DEFAULT}, {"join", F_JOIN}, {"replace", F_REPLACE}, {"first", F_FIRST},
	{"last", F_LAST}, {"tojson", F_TOJSON}, {"string", F_STRING}, {"int", F_INT},
	{"float", F_FLOAT}, {"list", F_LIST}, {"items", F_ITEMS}, {"safe", F_SAFE}, {"map", F_MAP},
	{"select", F_SELECT}, {"reject", F_REJECT}, {"selectattr", F_SELECTATTR},
	{"rejectattr", F_REJECTATTR}, {"reverse", F_REVERSE}, {"indent", F_INDENT}, {"abs", F_ABS},
	{"dictsort", F_DICTSORT},
};

static int filter_by_name(struct jstr name)
{
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
		if (jstr_is(name, filters[i].name))
			return (int)filters[i].f;
	return -1;
}

struct jvalue jinja_filter(struct jinja *j, int line, struct jstr name, struct jvalue v,
			   const struct jargs *a)
{
	struct jvalue first = arg(a, 0, NULL);
	int f = filter_by_name(name);

	switch (f) {
	case F_TRIM:
		return strip(jv_text(j, v).s, true, true, first.kind == J_STRING ? &first.s : NULL);
	case F_UPPER: return change_case(j, jv_text(j, v).s, UPPER);
	case F_LOWER: return change_case(j, jv_text(j, v).s, LOWER);
	case F_CAPITALIZE: return change_case(j, jv_text(j, v).s, CAPITALIZE);
	case F_TITLE: return change_case(j, jv_text(j, v).s, TITLE);
	case F_LENGTH: return jv_int(jv_length(j, line, v));
	case F_DEFAULT: return with_default(v, a);
	case F_JOIN: return join(j, line, v, arg(a, 0, "d"), arg(a, 1, "attribute"));
	case F_REPLACE:
		return replace(j, jv_text(j, v).s, need_string(j, line, "replace", first),
			       need_string(j, line, "replace", arg(a, 1, NULL)),
			       arg(a, 2, "count").kind == J_INT ? arg(a, 2, "count").i : -1);
	case F_FIRST: return first_or_last(j, line, v, false);
	case F_LAST: return first_or_last(j, line, v, true);
	case F_TOJSON: return json(j, v, arg(a, 0, "indent"));
	case F_STRING: return jv_text(j, v);
	case F_INT: return to_number(j, v, true);
	case F_FLOAT: return to_number(j, v, false);
	case F_LIST: return jv_iterate(j, line, v);
	case F_ITEMS:
		if (v.kind != J_DICT)
			break;
		return dict_items(j, v.dict, true, true);
	case F_SAFE: return v;
	case F_MAP: return map_items(j, line, v, a);
	case F_SELECT: return select_items(j, line, v, a, false, true);
	case F_REJECT: return select_items(j, line, v, a, false, false);
	case F_SELECTATTR: return select_items(j, line, v, a, true, true);
	case F_REJECTATTR: return select_items(j, line, v, a, true, false);
	case F_REVERSE: return reversed(j, line, v);
	case F_DICTSORT: return sorted_items(j, line, v);
	case F_INDENT: return indent_lines(j, jv_text(j, v).s, a);
	case F_ABS: return v.kind == J_INT && v.i < 0 && v.i != INT64_MIN ? jv_int(-v.i) : v;
	default:
		jinja_fail(j, line, "unknown filter \"%.*s\"", name.n > 60 ? 60 : (int)name.n,
			   name.s);
		return jv_none();
	}
	jinja_fail(j, line, "the filter \"%.*s\" does not work on %s", (int)name.n, name.s,
		   jv_kind_name(v));
	return jv_none();
}

/* ---- tests -------------------------------------------------------------------------------- */

static bool is_equal_test(struct jstr n)
{
	return jstr_is(n, "equalto") || jstr_is(n, "eq") || jstr_is(n, "sameas");
}

bool jinja_test(struct jinja *j, int line, struct jstr n, struct jvalue v, const struct jargs *a)
{
	struct jvalue x = arg(a, 0, NULL);
	double f;

	if (jstr_is(n, "defined"))
		return v.kind != J_UNDEFINED;
	if (jstr_is(n, "undefined"))
		return v.kind == J_UNDEFINED;
	if (jstr_is(n, "none"))
		return v.kind == J_NONE;
	if (jstr_is(n, "string"))
		return v.kind == J_STRING;
	if (jstr_is(n, "number"))
		return jv_number(v, &f);
	if (jstr_is(n, "integer"))
		return v.kind == J_INT;
	if (jstr_is(n, "float"))
		return v.kind == J_FLOAT;
	if (jstr_is(n, "boolean"))
		return v.kind == J_BOOL;
	if (jstr_is(n, "true") || jstr_is(n, "false"))
		return v.kind == J_BOOL && v.b == (n.s[0] == 't');
	if (jstr_is(n, "mapping"))
		return v.kind == J_DICT;
	if (jstr_is(n, "iterable") || jstr_is(n, "sequence"))
		return v.kind == J_LIST || v.kind == J_STRING || v.kind == J_DICT ||
		       v.kind == J_UNDEFINED;
	if (jstr_is(n, "callable"))
		return v.kind == J_FUNCTION || v.kind == J_MACRO;
	if (is_equal_test(n))
		return jv_equal(j, v, x);
	if (jstr_is(n, "ne"))
		return !jv_equal(j, v, x);
	if (jstr_is(n, "in"))
		return jv_contains(j, line, v, x);
	if (jstr_is(n, "gt") || jstr_is(n, "greaterthan"))
		return jv_compare(j, line, v, x) > 0;
	if (jstr_is(n, "lt") || jstr_is(n, "lessthan"))
		return jv_compare(j, line, v, x) < 0;
	if (jstr_is(n, "odd") || jstr_is(n, "even") || jstr_is(n, "divisibleby")) {
		int64_t by = jstr_is(n, "divisibleby") && x.kind == J_INT ? x.i : 2;

		if (v.kind == J_INT && by != 0 && by != -1)
			return (v.i % by == 0) == !jstr_is(n, "odd");
		jinja_fail(j, line, "the test \"%.*s\" needs integers", (int)n.n, n.s);
		return false;
	}
	jinja_fail(j, line, "unknown test \"%.*s\"", n.n > 60 ? 60 : (int)n.n, n.s);
	return false;
}

/* ---- attributes, functions ---------------------------------------------------------------- */

struct jvalue jinja_attribute(struct jinja *j, int line, struct jvalue v, struct jstr name)
{
	struct jvalue *x;

	if (v.kind == J_UNDEFINED) {
		jinja_fail(j, line, "\"%.*s\" is undefined", v.s.n > 60 ? 60 : (int)v.s.n, v.s.s);
		return v;
	}
	x = v.kind == J_DICT ? jdict_get(v.dict, name) : NULL;
	return x ? *x : (struct jvalue){.kind = J_UNDEFINED, .s = name};
}

static const char *const functions[] = {"raise_exception", "namespace", "range", "dict"};

bool jinja_is_function(struct jstr name, const char **out)
{
	for (int i = 0; i < 4; i++) {
		if (jstr_is(name, functions[i])) {
			*out = functions[i];
			return true;
		}
	}
	return false;
}

static struct jvalue range(struct jinja *j, int line, const struct jargs *a)
{
	struct jvalue out = jv_list(j), x = arg(a, 0, NULL), y = arg(a, 1, NULL),
		      z = arg(a, 2, NULL);
	int64_t from = a->n > 1 ? x.i : 0, to = a->n > 1 ? y.i : x.i, by = a->n > 2 ? z.i : 1;

	if (x.kind != J_INT || (a->n > 1 && y.kind != J_INT) || (a->n > 2 && z.kind != J_INT) ||
	    by == 0 || by > JINJA_LIST_MAX || by < -JINJA_LIST_MAX || llabs(from) > INT64_MAX / 2) {
		jinja_fail(j, line, "range needs one to three integers");
		return out;
	}
	for (int64_t i = from; (by > 0 ? i < to : i > to) && !j->failed; i += by)
		jlist_add(j, out, jv_int(i));
	return out;
}

struct jvalue jinja_function(struct jinja *j, int line, const char *name, const struct jargs *a)
{
	struct jvalue v = arg(a, 0, NULL);

	if (strcmp(name, "raise_exception") == 0) {
		struct jstr s = jv_text(j, v).s;

		jinja_fail(j, line, "the template raises \"%.*s\"", s.n > 300 ? 300 : (int)s.n,
			   s.s);
		return jv_none();
	}
	if (strcmp(name, "range") == 0)
		return range(j, line, a);
	v = jv_dict(j);
	v.dict->is_namespace = name[0] == 'n';
	for (int i = 0; i < a->n_kw; i++)
		jdict_set(j, v.dict, a->kw[i].key, a->kw[i].v);
	return v;
}
