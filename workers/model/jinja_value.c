#include "jinja_impl.h"

#include "unicode.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void jinja_fail(struct jinja *j, int line, const char *fmt, ...)
{
	char what[512];
	va_list ap;

	if (j->failed)
		return;
	j->failed = true;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (line > 0)
		err_set(j->e, EXIT_TEMPLATE, "line %d: %s", line, what);
	else
		err_set(j->e, EXIT_TEMPLATE, "%s", what);
}

/* ---- memory ------------------------------------------------------------------------------- */

struct jblock {
	struct jblock *next;
	size_t used, cap;
	_Alignas(16) char bytes[];
};

static struct jblock *new_block(struct jinja *j, size_t n)
{
	size_t cap = n > 65536 ? n : 65536;
	struct jblock *b = calloc(1, sizeof(*b) + cap);

	if (!b)
		abort();
	b->cap = cap;
	b->next = j->blocks;
	j->blocks = b;
	j->memory += cap;
	return b;
}

void *jinja_alloc(struct jinja *j, size_t n)
{
	struct jblock *b = j->blocks;
	void *p;

	n = (n + 15) & ~(size_t)15;
	if (j->memory + n > JINJA_MEMORY_BYTES_MAX)
		jinja_fail(j, 0, "rendering needs more than %d MiB", JINJA_MEMORY_BYTES_MAX >> 20);
	if (!b || b->cap - b->used < n)
		b = new_block(j, n);
	p = b->bytes + b->used;
	b->used += n;
	return p;
}

void jinja_release(struct jinja *j)
{
	while (j->blocks) {
		struct jblock *next = j->blocks->next;

		free(j->blocks);
		j->blocks = next;
	}
}

/* ---- text --------------------------------------------------------------------------------- */

void jbuf_add(struct jbuf *b, const char *s, size_t n)
{
	if (b->j->failed || n == 0)
		return;
	if (b->n + n > JINJA_OUTPUT_BYTES_MAX) {
		jinja_fail(b->j, 0, "a text grows over %d MiB", JINJA_OUTPUT_BYTES_MAX >> 20);
		return;
	}
	if (b->n + n > b->cap) {
		size_t cap = (b->n + n) * 2 + 64;
		char *bigger = jinja_alloc(b->j, cap);

		if (b->j->failed)
			return;
		if (b->n)
			memcpy(bigger, b->s, b->n);
		b->s = bigger;
		b->cap = cap;
	}
	memcpy(b->s + b->n, s, n);
	b->n += n;
}

void jbuf_puts(struct jbuf *b, const char *s)
{
	jbuf_add(b, s, strlen(s));
}

static void add_float(struct jbuf *b, double f)
{
	char s[40];

	for (int digits = 1; digits <= 17; digits++) {
		snprintf(s, sizeof(s), "%.*g", digits, f);
		if (strtod(s, NULL) == f)
			break;
	}
	jbuf_puts(b, s);
	if (!strpbrk(s, ".en"))
		jbuf_puts(b, ".0");
}

static void add_json_string(struct jbuf *b, struct jstr s)
{
	jbuf_puts(b, "\"");
	for (size_t i = 0; i < s.n; i++) {
		char c = s.s[i], esc[8];

		if (c == '"' || c == '\\')
			snprintf(esc, sizeof(esc), "\\%c", c);
		else if (c == '\n' || c == '\t' || c == '\r')
			snprintf(esc, sizeof(esc), "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
		else if ((unsigned char)c < 32)
			snprintf(esc, sizeof(esc), "\\u%04x", (unsigned char)c);
		else
			snprintf(esc, sizeof(esc), "%c", c);
		jbuf_puts(b, esc);
	}
	jbuf_puts(b, "\"");
}

static void add_newline(struct jbuf *b, int indent, int level)
{
	if (indent < 0)
		return;
	jbuf_puts(b, "\n");
	for (int i = 0; i < indent * level; i++)
		jbuf_puts(b, " ");
}

void jbuf_json(struct jbuf *b, struct jvalue v, int indent, int level)
{
	const char *comma = indent < 0 ? ", " : ",";

	if (level > JINJA_DEPTH_MAX)
		jinja_fail(b->j, 0, "a value is nested more than %d deep", JINJA_DEPTH_MAX);
	if (b->j->failed)
		return;
	switch (v.kind) {
	case J_STRING:
		add_json_string(b, v.s);
		break;
	case J_BOOL:
		jbuf_puts(b, v.b ? "true" : "false");
		break;
	case J_INT:
	case J_FLOAT:
		jbuf_value(b, v);
		break;
	case J_LIST:
		jbuf_puts(b, "[");
		for (int i = 0; i < v.list->n; i++) {
			jbuf_puts(b, i ? comma : "");
			add_newline(b, indent, level + 1);
			jbuf_json(b, v.list->v[i], indent, level + 1);
		}
		if (v.list->n)
			add_newline(b, indent, level);
		jbuf_puts(b, "]");
		break;
	case J_DICT:
		jbuf_puts(b, "{");
		for (int i = 0; i < v.dict->n; i++) {
			jbuf_puts(b, i ? comma : "");
			add_newline(b, indent, level + 1);
			add_json_string(b, v.dict->v[i].key);
			jbuf_puts(b, ": ");
			jbuf_json(b, v.dict->v[i].v, indent, level + 1);
		}
		if (v.dict->n)
			add_newline(b, indent, level);
		jbuf_puts(b, "}");
		break;
	default:
		jbuf_puts(b, "null");
	}
}

static void add_repr(struct jbuf *b, struct jvalue v, int level)
{
	if (level > JINJA_DEPTH_MAX)
		jinja_fail(b->j, 0, "a value is nested more than %d deep", JINJA_DEPTH_MAX);
	if (b->j->failed)
		return;
	if (v.kind == J_STRING) {
		bool quote = memchr(v.s.s, '\'', v.s.n) && !memchr(v.s.s, '"', v.s.n);

		jbuf_puts(b, quote ? "\"" : "'");
		for (size_t i = 0; i < v.s.n; i++) {
			char c = v.s.s[i];

			if (c == '\\' || (c == '\'' && !quote))
				jbuf_add(b, "\\", 1);
			if (c == '\n' || c == '\t' || c == '\r')
				jbuf_puts(b, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r");
			else
				jbuf_add(b, &c, 1);
		}
		jbuf_puts(b, quote ? "\"" : "'");
	} else if (v.kind == J_LIST) {
		jbuf_puts(b, "[");
		for (int i = 0; i < v.list->n; i++) {
			jbuf_puts(b, i ? ", " : "");
			add_repr(b, v.list->v[i], level + 1);
		}
		jbuf_puts(b, "]");
	} else if (v.kind == J_DICT) {
		jbuf_puts(b, "{");
		for (int i = 0; i < v.dict->n; i++) {
			jbuf_puts(b, i ? ", " : "");
			add_repr(b, jpair_key(&v.dict->v[i]), level + 1);
			jbuf_puts(b, ": ");
			add_repr(b, v.dict->v[i].v, level + 1);
		}
		jbuf_puts(b, "}");
	} else {
		jbuf_value(b, v);
	}
}

void jbuf_value(struct jbuf *b, struct jvalue v)
{
	char s[32];

	switch (v.kind) {
	case J_UNDEFINED:
		break;
	case J_NONE:
		jbuf_puts(b, "None");
		break;
	case J_BOOL:
		jbuf_puts(b, v.b ? "True" : "False");
		break;
	case J_INT:
		snprintf(s, sizeof(s), "%lld", (long long)v.i);
		jbuf_puts(b, s);
		break;
	case J_FLOAT:
		add_float(b, v.f);
		break;
	case J_STRING:
		jbuf_add(b, v.s.s, v.s.n);
		break;
	case J_LIST:
	case J_DICT:
		add_repr(b, v, 0);
		break;
	case J_FUNCTION:
	case J_MACRO:
		jinja_fail(b->j, 0, "a function is printed");
		break;
	}
}

/* ---- values ------------------------------------------------------------------------------- */

struct jvalue jv_none(void)
{
	return (struct jvalue){.kind = J_NONE};
}

struct jvalue jv_bool(bool b)
{
	return (struct jvalue){.kind = J_BOOL, .b = b};
}

struct jvalue jv_int(int64_t i)
{
	return (struct jvalue){.kind = J_INT, .i = i};
}

struct jvalue jv_float(double f)
{
	return (struct jvalue){.kind = J_FLOAT, .f = f};
}

struct jvalue jv_str(const char *s, size_t n)
{
	return (struct jvalue){.kind = J_STRING, .s = {n ? s : "", n}};
}

struct jvalue jv_cstr(const char *s)
{
	return jv_str(s, strlen(s));
}

struct jvalue jv_list(struct jinja *j)
{
	return (struct jvalue){.kind = J_LIST, .list = jinja_alloc(j, sizeof(struct jlist))};
}

struct jvalue jv_dict(struct jinja *j)
{
	return (struct jvalue){.kind = J_DICT, .dict = jinja_alloc(j, sizeof(struct jdict))};
}

void jlist_add(struct jinja *j, struct jvalue list, struct jvalue v)
{
	struct jlist *l = list.list;

	if (l->n == JINJA_LIST_MAX) {
		jinja_fail(j, 0, "a list has more than %d items", JINJA_LIST_MAX);
		return;
	}
	if (l->n == l->cap) {
		int cap = l->cap ? l->cap * 2 : 4;
		struct jvalue *bigger = jinja_alloc(j, (size_t)cap * sizeof(*bigger));

		if (l->n)
			memcpy(bigger, l->v, (size_t)l->n * sizeof(*bigger));
		l->v = bigger;
		l->cap = cap;
	}
	l->v[l->n++] = v;
}

static struct jvalue *find_key(const struct jdict *d, struct jstr key, bool integer)
{
	for (int i = 0; i < d->n; i++)
		if (d->v[i].integer == integer && d->v[i].key.n == key.n &&
		    memcmp(d->v[i].key.s, key.s, key.n) == 0)
			return &d->v[i].v;
	return NULL;
}

static void set_key(struct jinja *j, struct jdict *d, struct jstr key, bool integer,
		    struct jvalue v)
{
	struct jvalue *old = find_key(d, key, integer);

	if (old) {
		*old = v;
		return;
	}
	if (d->n == JINJA_LIST_MAX) {
		jinja_fail(j, 0, "a dictionary has more than %d entries", JINJA_LIST_MAX);
		return;
	}
	if (d->n == d->cap) {
		int cap = d->cap ? d->cap * 2 : 4;
		struct jpair *bigger = jinja_alloc(j, (size_t)cap * sizeof(*bigger));

		if (d->n)
			memcpy(bigger, d->v, (size_t)d->n * sizeof(*bigger));
		d->v = bigger;
		d->cap = cap;
	}
	d->v[d->n++] = (struct jpair){key, v, integer};
}

struct jvalue *jdict_get(const struct jdict *d, struct jstr key)
{
	return find_key(d, key, false);
}

void jdict_set(struct jinja *j, struct jdict *d, struct jstr key, struct jvalue v)
{
	set_key(j, d, key, false, v);
}

struct jvalue *jdict_find(struct jinja *j, const struct jdict *d, struct jvalue key)
{
	return find_key(d, jv_text(j, key).s, key.kind == J_INT);
}

void jdict_put(struct jinja *j, struct jdict *d, struct jvalue key, struct jvalue v)
{
	set_key(j, d, jv_text(j, key).s, key.kind == J_INT, v);
}

struct jvalue jpair_key(const struct jpair *p)
{
	char text[24];
	if (!p->integer)
		return jv_str(p->key.s, p->key.n);
	snprintf(text, sizeof(text), "%.*s", (int)p->key.n, p->key.s);
	return jv_int(strtoll(text, NULL, 10));
}

bool jstr_is(struct jstr s, const char *text)
{
	return strlen(text) == s.n && memcmp(s.s, text, s.n) == 0;
}

bool jv_true(struct jvalue v)
{
	switch (v.kind) {
	case J_BOOL: return v.b;
	case J_INT: return v.i != 0;
	case J_FLOAT: return v.f != 0;
	case J_STRING: return v.s.n > 0;
	case J_LIST: return v.list->n > 0;
	case J_DICT: return v.dict->is_namespace || v.dict->n > 0;
	case J_FUNCTION:
	case J_MACRO: return true;
	default: return false;
	}
}

bool jv_number(struct jvalue v, double *out)
{
	*out = v.kind == J_BOOL ? v.b : v.kind == J_INT ? (double)v.i : v.kind == J_FLOAT ? v.f : 0;
	return v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT;
}

static bool equal(struct jinja *j, struct jvalue a, struct jvalue b, int level);

static bool equal_dicts(struct jinja *j, const struct jdict *a, const struct jdict *b, int level)
{
	if (a == b)
		return true;
	if (a->is_namespace || b->is_namespace || a->n != b->n)
		return false;
	for (int i = 0; i < a->n; i++) {
		struct jvalue *v = find_key(b, a->v[i].key, a->v[i].integer);

		if (!v || !equal(j, a->v[i].v, *v, level + 1))
			return false;
	}
	return true;
}

static bool equal(struct jinja *j, struct jvalue a, struct jvalue b, int level)
{
	double x, y;

	if (level > JINJA_DEPTH_MAX || ++j->steps > JINJA_STEPS_MAX)
		jinja_fail(j, 0, "a comparison of nested values takes too long");
	if (j->failed)
		return false;
	if (jv_number(a, &x) && jv_number(b, &y))
		return x == y;
	if (a.kind != b.kind)
		return false;
	switch (a.kind) {
	case J_STRING:
		return a.s.n == b.s.n && memcmp(a.s.s, b.s.s, a.s.n) == 0;
	case J_LIST:
		if (a.list == b.list)
			return true;
		if (a.list->n != b.list->n)
			return false;
		for (int i = 0; i < a.list->n; i++)
			if (!equal(j, a.list->v[i], b.list->v[i], level + 1))
				return false;
		return true;
	case J_DICT:
		return equal_dicts(j, a.dict, b.dict, level);
	case J_FUNCTION:
	case J_MACRO:
		return a.macro == b.macro;
	default:
		return true;
	}
}

bool jv_equal(struct jinja *j, struct jvalue a, struct jvalue b)
{
	return equal(j, a, b, 0);
}

const char *jv_kind_name(struct jvalue v)
{
	static const char *const names[] = {"undefined",  "none",     "a boolean", "an integer",
					    "a float",    "a string", "a list",    "a dictionary",
					    "a function", "a macro"};

	return names[v.kind];
}

int jv_compare(struct jinja *j, int line, struct jvalue a, struct jvalue b)
{
	double x, y;

	if (jv_number(a, &x) && jv_number(b, &y))
		return (x > y) - (x < y);
	if (a.kind == J_STRING && b.kind == J_STRING) {
		size_t n = a.s.n < b.s.n ? a.s.n : b.s.n;
		int c = memcmp(a.s.s, b.s.s, n);

		return c ? (c > 0) - (c < 0) : (a.s.n > b.s.n) - (a.s.n < b.s.n);
	}
	jinja_fail(j, line, "%s and %s cannot be ordered", jv_kind_name(a), jv_kind_name(b));
	return 0;
}

bool jv_contains(struct jinja *j, int line, struct jvalue item, struct jvalue in)
{
	switch (in.kind) {
	case J_UNDEFINED:
		return false;
	case J_STRING:
		if (item.kind == J_STRING)
			return memmem(in.s.s, in.s.n, item.s.s, item.s.n) != NULL;
		break;
	case J_LIST:
		for (int i = 0; i < in.list->n; i++)
			if (jv_equal(j, item, in.list->v[i]))
				return true;
		return false;
	case J_DICT:
		return (item.kind == J_STRING || item.kind == J_INT) &&
		       jdict_find(j, in.dict, item);
	default:
		break;
	}
	jinja_fail(j, line, "`in`: %s cannot be in %s", jv_kind_name(item), jv_kind_name(in));
	return false;
}

struct jvalue jv_text(struct jinja *j, struct jvalue v)
{
	struct jbuf b = {.j = j};

	if (v.kind == J_STRING)
		return v;
	jbuf_value(&b, v);
	return jv_str(b.s, b.n);
}

struct jvalue jv_iterate(struct jinja *j, int line, struct jvalue v)
{
	struct jvalue out = v;

	if (v.kind == J_LIST)
		return v;
	out = jv_list(j);
	if (v.kind == J_STRING) {
		for (size_t i = 0; i < v.s.n && !j->failed;) {
			int len;

			unicode_decode(v.s.s + i, v.s.n - i, &len);
			jlist_add(j, out, jv_str(v.s.s + i, (size_t)len));
			i += (size_t)len;
		}
	} else if (v.kind == J_DICT) {
		for (int i = 0; i < v.dict->n && !j->failed; i++)
			jlist_add(j, out, jpair_key(&v.dict->v[i]));
	} else if (v.kind != J_UNDEFINED) {
		jinja_fail(j, line, "%s cannot be iterated over", jv_kind_name(v));
	}
	return out;
}

int64_t jv_length(struct jinja *j, int line, struct jvalue v)
{
	int64_t n = 0;

	switch (v.kind) {
	case J_STRING:
		for (size_t i = 0; i < v.s.n; n++) {
			int len;

			unicode_decode(v.s.s + i, v.s.n - i, &len);
			i += (size_t)len;
		}
		return n;
	case J_LIST:
		return v.list->n;
	case J_DICT:
		return v.dict->n;
	case J_UNDEFINED:
		return 0;
	default:
		jinja_fail(j, line, "%s has no length", jv_kind_name(v));
		return 0;
	}
}
