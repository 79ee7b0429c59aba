#include "jinja_strings.h"

#include "unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- methods ------------------------------------------------------------------------------ */

static const char *const string_methods[] = {
	"strip", "lstrip", "rstrip", "upper", "lower", "title", "capitalize", "split", "rsplit",
	"splitlines", "startswith", "endswith", "replace", "join", "find", "rfind", "count",
	"isdigit", "format", NULL,
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
		struct jvalue key = jpair_key(&d->v[i]), pair;

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

static struct jvalue dict_method(struct jinja *j, struct jdict *d, struct jstr name,
				 const struct jargs *a)
{
	struct jvalue *v;

	if (jstr_is(name, "items"))
		return dict_items(j, d, true, true);
	if (jstr_is(name, "keys"))
		return dict_items(j, d, true, false);
	if (jstr_is(name, "values"))
		return dict_items(j, d, false, true);
	v = jdict_find(j, d, jarg(a, 0, "key"));
	if (v)
		return *v;
	return jarg(a, 1, "default").kind == J_UNDEFINED ? jv_none() : jarg(a, 1, "default");
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
	struct jvalue first = jarg(a, 0, NULL);
	const struct jstr *chars = first.kind == J_STRING ? &first.s : NULL;

	if (v.kind == J_DICT)
		return dict_method(j, v.dict, name, a);
	if (jstr_is(name, "strip"))
		return jstr_strip(v.s, true, true, chars);
	if (jstr_is(name, "lstrip"))
		return jstr_strip(v.s, true, false, chars);
	if (jstr_is(name, "rstrip"))
		return jstr_strip(v.s, false, true, chars);
	if (jstr_is(name, "split"))
		return jstr_split(j, line, v.s, a);
	if (jstr_is(name, "rsplit"))
		return jstr_rsplit(j, line, v.s, a);
	if (jstr_is(name, "splitlines"))
		return split_lines(j, v.s);
	if (jstr_is(name, "startswith"))
		return jstr_affix(j, line, v.s, first, true);
	if (jstr_is(name, "endswith"))
		return jstr_affix(j, line, v.s, first, false);
	if (jstr_is(name, "join"))
		return jstr_join(j, line, first, v, (struct jvalue){.kind = J_UNDEFINED});
	if (jstr_is(name, "find") || jstr_is(name, "rfind"))
		return jv_int(
			jstr_find(v.s, jarg_string(j, line, "find", first), name.s[0] == 'r'));
	if (jstr_is(name, "count"))
		return count(v.s, jarg_string(j, line, "count", first));
	if (jstr_is(name, "isdigit"))
		return is_digits(v.s);
	if (jstr_is(name, "format"))
		return jstr_format(j, line, v.s, a);
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
	struct jvalue attribute = by_attribute ? jarg(a, 0, NULL) : jv_none();
	struct jvalue test = jarg(a, by_attribute, NULL);
	struct jargs rest = {.v = a->v + by_attribute + 1, .n = a->n - by_attribute - 1};

	if (rest.n < 0)
		rest = (struct jargs){0};
	if (by_attribute)
		jarg_string(j, line, "selectattr", attribute);
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
	struct jvalue attribute = jarg(a, a->n, "attribute"), filter = jarg(a, 0, NULL);
	struct jargs rest = {.v = a->v + 1, .n = a->n - 1};

	for (int i = 0; i < items.list->n && !j->failed; i++) {
		struct jvalue x = items.list->v[i];

		if (attribute.kind == J_STRING)
			x = jinja_attribute(j, line, x, attribute.s);
		else
			x = jinja_filter(j, line, jarg_string(j, line, "map", filter), x, &rest);
		jlist_add(j, out, x);
	}
	return out;
}

/* Strings as dictsort orders them: without regard to case. */
static int by_key(const void *a, const void *b, void *context)
{
	struct jinja *j = context;
	struct jvalue x = jpair_key(a), y = jpair_key(b);
	if (x.kind == J_STRING && y.kind == J_STRING) {
		x = jstr_case(j, x.s, CASE_LOWER);
		y = jstr_case(j, y.s, CASE_LOWER);
	}
	return j->failed ? 0 : jv_compare(j, 0, x, y);
}

static struct jvalue sorted_items(struct jinja *j, int line, struct jvalue v)
{
	struct jvalue copy = jv_dict(j);

	if (v.kind != J_DICT) {
		jinja_fail(j, line, "dictsort needs a dictionary, got %s", jv_kind_name(v));
		return copy;
	}
	for (int i = 0; i < v.dict->n; i++)
		jdict_put(j, copy.dict, jpair_key(&v.dict->v[i]), v.dict->v[i].v);
	if (copy.dict->n)
		qsort_r(copy.dict->v, (size_t)copy.dict->n, sizeof(*copy.dict->v), by_key, j);
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
	struct jvalue width = jarg(a, 0, "width"), first = jarg(a, 1, "first");
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
	struct jvalue otherwise = jarg(a, 0, "default_value");
	bool falsy_too = jv_true(jarg(a, 1, "boolean"));

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
	struct jvalue first = jarg(a, 0, NULL);
	int f = filter_by_name(name);

	switch (f) {
	case F_TRIM:
		return jstr_strip(jv_text(j, v).s, true, true,
				  first.kind == J_STRING ? &first.s : NULL);
	case F_UPPER: return jstr_case(j, jv_text(j, v).s, CASE_UPPER);
	case F_LOWER: return jstr_case(j, jv_text(j, v).s, CASE_LOWER);
	case F_CAPITALIZE: return jstr_case(j, jv_text(j, v).s, CASE_CAPITALIZE);
	case F_TITLE: return jstr_case(j, jv_text(j, v).s, CASE_TITLE);
	case F_LENGTH: return jv_int(jv_length(j, line, v));
	case F_DEFAULT: return with_default(v, a);
	case F_JOIN: return jstr_join(j, line, v, jarg(a, 0, "d"), jarg(a, 1, "attribute"));
	case F_REPLACE:
		return jstr_replace(j, jv_text(j, v).s, jarg_string(j, line, "replace", first),
			       jarg_string(j, line, "replace", jarg(a, 1, NULL)),
			       jarg(a, 2, "count").kind == J_INT ? jarg(a, 2, "count").i : -1);
	case F_FIRST: return first_or_last(j, line, v, false);
	case F_LAST: return first_or_last(j, line, v, true);
	case F_TOJSON: return json(j, v, jarg(a, 0, "indent"));
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
	struct jvalue x = jarg(a, 0, NULL);
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
	struct jvalue out = jv_list(j), x = jarg(a, 0, NULL), y = jarg(a, 1, NULL),
		      z = jarg(a, 2, NULL);
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
	struct jvalue v = jarg(a, 0, NULL);

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
