/*
 * What the files of the template interpreter share: values, the tree, the state of one rendering.
 * All memory of one rendering is in one arena and goes at its end.
 */
#ifndef ASSAY_JINJA_IMPL_H
#define ASSAY_JINJA_IMPL_H

#include "jinja.h"

#include <stdint.h>

enum jinja_kind {
	J_UNDEFINED, J_NONE, J_BOOL, J_INT, J_FLOAT, J_STRING, J_LIST, J_DICT, J_FUNCTION, J_MACRO,
};

struct jstr { const char *s; size_t n; };

struct jvalue {
	enum jinja_kind kind;
	union {
		bool b;
		int64_t i;
		double f;
		struct jstr s;
		struct jlist *list;
		struct jdict *dict;
		const char *function;		/* its name */
		const struct jnode *macro;
	};
};

struct jlist { struct jvalue *v; int n, cap; };
struct jpair { struct jstr key; struct jvalue v; bool integer; };	/* integer: the key is one, in decimal */
struct jdict { struct jpair *v; int n, cap; bool is_namespace; };

enum jnode_type {
	/* statements */
	N_BLOCK, N_TEXT, N_OUTPUT, N_IF, N_FOR, N_SET, N_SET_BLOCK, N_MACRO, N_BREAK, N_CONTINUE,
	/* expressions */
	N_LITERAL, N_NAME, N_LIST, N_DICT, N_ATTR, N_ITEM, N_SLICE, N_CALL, N_FILTER, N_TEST, N_NOT,
	N_NEG, N_AND, N_OR, N_BINARY, N_COMPARE, N_COND, N_PAIR,
};

/*
 * a, b, c by type: IF cond, then, else · FOR iterable, body, else, with `list` the targets and d
 * the filter · SET target a, value b · MACRO body a, parameters in list as PAIR(name, default) ·
 * ATTR a.name · ITEM a[b] · SLICE a[list 0:1:2] · CALL a(list) · FILTER, TEST: a | name(list) ·
 * BINARY, COMPARE: a op b · COND a if b else c · PAIR: keyword name or key a, value b.
 */
struct jnode {
	enum jnode_type type;
	int line;
	struct jnode *a, *b, *c, *d;
	struct jnode **list;
	int n, cap;
	struct jstr name;
	struct jvalue value;
	int op;
	bool negated;		/* TEST: is not; COMPARE in: not in */
};

/* Operators: a character, or one of these. */
enum { OP_EQ = 256, OP_NE, OP_LE, OP_GE, OP_IN, OP_FLOORDIV, OP_POW };

struct jinja {
	struct err *e;
	bool failed;
	struct jblock *blocks;		/* the arena */
	size_t memory, output;
	int steps, depth;
	const struct jinja_input *in;
};

struct jargs {			/* of a call */
	struct jvalue *v;
	int n;
	struct jpair *kw;
	int n_kw;
};

/* ---- jinja_value.c ------------------------------------------------------------------------ */

void jinja_fail(struct jinja *j, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Zeroed memory of the rendering; never NULL: fails with a sentence and gives a spare. */
void *jinja_alloc(struct jinja *j, size_t n);
void jinja_release(struct jinja *j);

struct jbuf { struct jinja *j; char *s; size_t n, cap; };
void jbuf_add(struct jbuf *b, const char *s, size_t n);
void jbuf_puts(struct jbuf *b, const char *s);
void jbuf_value(struct jbuf *b, struct jvalue v);	/* as {{ v }} prints it */
void jbuf_json(struct jbuf *b, struct jvalue v, int indent, int level);

struct jvalue jv_none(void);
struct jvalue jv_bool(bool b);
struct jvalue jv_int(int64_t i);
struct jvalue jv_float(double f);
struct jvalue jv_str(const char *s, size_t n);
struct jvalue jv_cstr(const char *s);
struct jvalue jv_list(struct jinja *j);
struct jvalue jv_dict(struct jinja *j);
void jlist_add(struct jinja *j, struct jvalue list, struct jvalue v);
void jdict_set(struct jinja *j, struct jdict *d, struct jstr key, struct jvalue v);
struct jvalue *jdict_get(const struct jdict *d, struct jstr key);	/* NULL when absent */
/* Keys of any kind: integers stay integers, everything else counts as its text. */
void jdict_put(struct jinja *j, struct jdict *d, struct jvalue key, struct jvalue v);
struct jvalue *jdict_find(struct jinja *j, const struct jdict *d, struct jvalue key);
struct jvalue jpair_key(const struct jpair *p);
bool jstr_is(struct jstr s, const char *text);
bool jv_true(struct jvalue v);
bool jv_number(struct jvalue v, double *out);		/* bool, int, float */
bool jv_equal(struct jinja *j, struct jvalue a, struct jvalue b);
/* −1, 0, 1; fails where Python would. */
int jv_compare(struct jinja *j, int line, struct jvalue a, struct jvalue b);
bool jv_contains(struct jinja *j, int line, struct jvalue item, struct jvalue in);
struct jvalue jv_text(struct jinja *j, struct jvalue v);	/* as string */
const char *jv_kind_name(struct jvalue v);
/* What `for` runs over: a list, a dict's keys, a string's characters; undefined is empty. */
struct jvalue jv_iterate(struct jinja *j, int line, struct jvalue v);
int64_t jv_length(struct jinja *j, int line, struct jvalue v);

/* ---- jinja_lex.c, jinja_parse.c ----------------------------------------------------------- */

struct jnode *jinja_parse(struct jinja *j, const char *source, size_t n);

enum jtok { T_END, T_NAME, T_STRING, T_INT, T_FLOAT, T_OP };

struct jtoken {
	enum jtok type;
	int line;
	struct jstr text;	/* name; decoded string */
	int64_t i;
	double f;
	int op;
};

/* The source cut into literal text and tags; a tag's inside is then read token by token. */
struct jlexer {
	struct jinja *j;
	const char *s;
	size_t n, at;
	int line;
	bool line_starting;	/* the last tag ended its line */
	bool output;		/* inside {{, which }} closes outside of braces */
	int braces;
};

enum jpart { PART_END, PART_TEXT, PART_OUTPUT, PART_TAG };

/* The next part; for text, *text is it (white space control applied). After OUTPUT and TAG the
 * tokens of the inside follow until T_END. */
enum jpart jlex_part(struct jlexer *l, struct jstr *text);
struct jtoken jlex_token(struct jlexer *l);
/* {% raw %}: the text up to {% endraw %}, both tags consumed. */
struct jstr jlex_raw(struct jlexer *l);

/* ---- jinja_builtin.c ---------------------------------------------------------------------- */

struct jvalue jinja_filter(struct jinja *j, int line, struct jstr name, struct jvalue v,
			   const struct jargs *a);
bool jinja_test(struct jinja *j, int line, struct jstr name, struct jvalue v,
		const struct jargs *a);
struct jvalue jinja_method(struct jinja *j, int line, struct jvalue v, struct jstr name,
			   const struct jargs *a);
bool jinja_has_method(struct jvalue v, struct jstr name);
struct jvalue jinja_function(struct jinja *j, int line, const char *name, const struct jargs *a);
bool jinja_is_function(struct jstr name, const char **out);
struct jvalue jinja_attribute(struct jinja *j, int line, struct jvalue v, struct jstr name);

#endif
