#include "jinja_parse.h"

#include <string.h>

/* ---- one token of look-ahead ------------------------------------------------------------------ */

void jparse_next(struct jparser *p)
{
	p->t = jlex_token(&p->lex);
}

bool jparse_is_op(const struct jparser *p, int op)
{
	return p->t.type == T_OP && p->t.op == op;
}

bool jparse_is_word(const struct jparser *p, const char *word)
{
	return p->t.type == T_NAME && jstr_is(p->t.text, word);
}

bool jparse_take_op(struct jparser *p, int op)
{
	if (!jparse_is_op(p, op))
		return false;
	jparse_next(p);
	return true;
}

bool jparse_take_word(struct jparser *p, const char *word)
{
	if (!jparse_is_word(p, word))
		return false;
	jparse_next(p);
	return true;
}

void jparse_unexpected(struct jparser *p, const char *expected)
{
	if (p->t.type == T_END)
		jinja_fail(p->j, p->t.line, "expected %s before the end of the tag", expected);
	else if (p->t.type == T_NAME)
		jinja_fail(p->j, p->t.line, "expected %s, got \"%.*s\"", expected,
			   p->t.text.n > 40 ? 40 : (int)p->t.text.n, p->t.text.s);
	else if (p->t.type == T_OP && p->t.op < 256)
		jinja_fail(p->j, p->t.line, "expected %s, got '%c'", expected, p->t.op);
	else
		jinja_fail(p->j, p->t.line, "expected %s", expected);
}

void jparse_need_op(struct jparser *p, int op)
{
	char what[4] = {'\'', (char)op, '\'', '\0'};

	if (!jparse_take_op(p, op))
		jparse_unexpected(p, what);
}

struct jstr jparse_need_name(struct jparser *p)
{
	struct jstr name = p->t.text;

	if (p->t.type != T_NAME) {
		jparse_unexpected(p, "a name");
		return (struct jstr){"", 0};
	}
	jparse_next(p);
	return name;
}

struct jnode *jparse_node(struct jparser *p, enum jnode_type type)
{
	struct jnode *n = jinja_alloc(p->j, sizeof(*n));

	n->type = type;
	n->line = p->t.line;
	return n;
}

void jparse_append(struct jparser *p, struct jnode *to, struct jnode *n)
{
	if (to->n == to->cap) {
		int cap = to->cap ? to->cap * 2 : 4;
		struct jnode **bigger = jinja_alloc(p->j, (size_t)cap * sizeof(*bigger));

		if (to->n)
			memcpy(bigger, to->list, (size_t)to->n * sizeof(*bigger));
		to->list = bigger;
		to->cap = cap;
	}
	to->list[to->n++] = n;
}

bool jparse_deeper(struct jparser *p)
{
	if (++p->depth > JINJA_DEPTH_MAX)
		jinja_fail(p->j, p->t.line, "nested more than %d deep", JINJA_DEPTH_MAX);
	return !p->j->failed;
}

/* ---- expressions -------------------------------------------------------------------------- */

static struct jnode *unary(struct jparser *p, bool with_filter);

static struct jnode *literal(struct jparser *p, struct jvalue v)
{
	struct jnode *n = jparse_node(p, N_LITERAL);

	n->value = v;
	jparse_next(p);
	return n;
}

static struct jnode *name_or_constant(struct jparser *p)
{
	struct jnode *n;

	if (jparse_is_word(p, "true") || jparse_is_word(p, "True"))
		return literal(p, jv_bool(true));
	if (jparse_is_word(p, "false") || jparse_is_word(p, "False"))
		return literal(p, jv_bool(false));
	if (jparse_is_word(p, "none") || jparse_is_word(p, "None"))
		return literal(p, jv_none());
	n = jparse_node(p, N_NAME);
	n->name = jparse_need_name(p);
	return n;
}

static struct jnode *sequence(struct jparser *p, struct jnode *list, int close)
{
	while (!p->j->failed && !jparse_is_op(p, close)) {
		jparse_append(p, list, jparse_expression(p));
		if (!jparse_take_op(p, ','))
			break;
	}
	jparse_need_op(p, close);
	return list;
}

static struct jnode *parenthesis(struct jparser *p)
{
	struct jnode *list = jparse_node(p, N_LIST), *first;

	jparse_next(p);
	if (jparse_is_op(p, ')'))
		return sequence(p, list, ')');
	first = jparse_expression(p);
	if (jparse_take_op(p, ')'))
		return first;
	jparse_append(p, list, first);
	jparse_need_op(p, ',');
	return sequence(p, list, ')');
}

static struct jnode *dictionary(struct jparser *p)
{
	struct jnode *d = jparse_node(p, N_DICT);

	jparse_next(p);
	while (!p->j->failed && !jparse_is_op(p, '}')) {
		struct jnode *pair = jparse_node(p, N_PAIR);

		pair->a = jparse_expression(p);
		jparse_need_op(p, ':');
		pair->b = jparse_expression(p);
		jparse_append(p, d, pair);
		if (!jparse_take_op(p, ','))
			break;
	}
	jparse_need_op(p, '}');
	return d;
}

static struct jnode *strings(struct jparser *p)
{
	struct jnode *n = literal(p, jv_str(p->t.text.s, p->t.text.n));

	while (p->t.type == T_STRING && !p->j->failed) {	/* neighbours join */
		struct jbuf b = {.j = p->j};

		jbuf_add(&b, n->value.s.s, n->value.s.n);
		jbuf_add(&b, p->t.text.s, p->t.text.n);
		n->value = jv_str(b.s, b.n);
		jparse_next(p);
	}
	return n;
}

static struct jnode *primary(struct jparser *p)
{
	struct jnode *list;

	switch (p->t.type) {
	case T_NAME:
		return name_or_constant(p);
	case T_STRING:
		return strings(p);
	case T_INT:
		return literal(p, jv_int(p->t.i));
	case T_FLOAT:
		return literal(p, jv_float(p->t.f));
	default:
		break;
	}
	if (jparse_is_op(p, '('))
		return parenthesis(p);
	if (jparse_is_op(p, '{'))
		return dictionary(p);
	list = jparse_node(p, N_LIST);
	if (jparse_take_op(p, '['))
		return sequence(p, list, ']');
	jparse_unexpected(p, "a value");
	return list;
}

/* ( positional, name=value, … ) appended to call */
static void arguments(struct jparser *p, struct jnode *call)
{
	jparse_need_op(p, '(');
	while (!p->j->failed && !jparse_is_op(p, ')')) {
		struct jnode *a = jparse_expression(p);

		if (a->type == N_NAME && jparse_take_op(p, '=')) {
			struct jnode *pair = jparse_node(p, N_PAIR);

			pair->name = a->name;
			pair->b = jparse_expression(p);
			a = pair;
		}
		jparse_append(p, call, a);
		if (!jparse_take_op(p, ','))
			break;
	}
	jparse_need_op(p, ')');
}

static struct jnode *subscript(struct jparser *p, struct jnode *of)
{
	struct jnode *n = jparse_node(p, N_ITEM), *parts[3] = {NULL};
	int k = 0;

	jparse_next(p);
	while (!p->j->failed && !jparse_is_op(p, ']')) {
		if (jparse_take_op(p, ':')) {
			n->type = N_SLICE;
			if (++k > 2)
				break;
		} else {
			parts[k] = jparse_expression(p);
			if (!jparse_is_op(p, ':'))
				break;
		}
	}
	jparse_need_op(p, ']');
	n->a = of;
	n->b = parts[0];
	n->c = parts[1];
	n->d = parts[2];
	if (n->type == N_ITEM && !n->b)
		jinja_fail(p->j, n->line, "an empty subscript");
	return n;
}

static struct jnode *postfix(struct jparser *p, struct jnode *of)
{
	while (!p->j->failed) {
		struct jnode *n;

		if (jparse_take_op(p, '.')) {
			n = jparse_node(p, N_ATTR);
			n->a = of;
			if (p->t.type == T_INT) {
				n->type = N_ITEM;
				n->b = literal(p, jv_int(p->t.i));
			} else {
				n->name = jparse_need_name(p);
			}
		} else if (jparse_is_op(p, '[')) {
			n = subscript(p, of);
		} else if (jparse_is_op(p, '(')) {
			n = jparse_node(p, N_CALL);
			n->a = of;
			arguments(p, n);
		} else {
			break;
		}
		of = n;
	}
	return of;
}

static bool starts_value(const struct jparser *p)
{
	static const char *const not_values[] = {"else", "or", "and", "is", "if", "in", "not"};

	if (p->t.type == T_NAME) {
		for (int i = 0; i < 7; i++)
			if (jparse_is_word(p, not_values[i]))
				return false;
		return true;
	}
	return p->t.type == T_STRING || p->t.type == T_INT || p->t.type == T_FLOAT ||
	       jparse_is_op(p, '[') || jparse_is_op(p, '{');
}

struct jnode *jparse_filters(struct jparser *p, struct jnode *of)
{
	while (!p->j->failed) {
		struct jnode *n;

		if (jparse_take_op(p, '|')) {
			n = jparse_node(p, N_FILTER);
			n->name = jparse_need_name(p);
			n->a = of;
			if (jparse_is_op(p, '('))
				arguments(p, n);
		} else if (jparse_take_word(p, "is")) {
			n = jparse_node(p, N_TEST);
			n->negated = jparse_take_word(p, "not");
			n->name = p->t.type == T_NAME ? p->t.text : (struct jstr){"", 0};
			if (p->t.type == T_NAME)
				jparse_next(p);
			else
				jparse_unexpected(p, "the name of a test");
			n->a = of;
			if (jparse_is_op(p, '('))
				arguments(p, n);
			else if (starts_value(p))
				jparse_append(p, n, postfix(p, primary(p)));
		} else if (jparse_is_op(p, '(')) {
			n = jparse_node(p, N_CALL);
			n->a = of;
			arguments(p, n);
		} else {
			break;
		}
		of = n;
	}
	return of;
}

static struct jnode *unary(struct jparser *p, bool with_filter)
{
	struct jnode *n;

	if (!jparse_deeper(p))
		return jparse_node(p, N_LIST);
	if (jparse_is_op(p, '-') || jparse_is_op(p, '+')) {
		bool minus = jparse_is_op(p, '-');

		jparse_next(p);
		n = unary(p, false);
		if (minus) {
			struct jnode *neg = jparse_node(p, N_NEG);

			neg->a = n;
			n = neg;
		}
	} else {
		n = postfix(p, primary(p));
	}
	if (with_filter)
		n = jparse_filters(p, n);
	p->depth--;
	return n;
}

/* Levels of left-associative operators, loosest first; 0 is unary. */
static const int levels[][5] = {{'+', '-'}, {'~'}, {'*', '/', OP_FLOORDIV, '%'}, {OP_POW}};

static struct jnode *arithmetic(struct jparser *p, int level)
{
	struct jnode *a = level == 4 ? unary(p, true) : arithmetic(p, level + 1);

	while (level < 4 && p->t.type == T_OP && !p->j->failed) {
		struct jnode *n;
		int op = 0;

		for (int i = 0; levels[level][i]; i++)
			if (p->t.op == levels[level][i])
				op = p->t.op;
		if (!op)
			break;
		n = jparse_node(p, N_BINARY);
		n->op = op;
		jparse_next(p);
		n->a = a;
		n->b = arithmetic(p, level + 1);
		a = n;
	}
	return a;
}

/* a < b <= c means a < b and b <= c */
static struct jnode *comparison(struct jparser *p)
{
	struct jnode *left = arithmetic(p, 0), *all = NULL;

	while (!p->j->failed) {
		struct jnode *n = jparse_node(p, N_COMPARE);

		if (p->t.type == T_OP && (p->t.op == '<' || p->t.op == '>' ||
					  (p->t.op >= OP_EQ && p->t.op <= OP_GE))) {
			n->op = p->t.op;
			jparse_next(p);
		} else if (jparse_take_word(p, "in")) {
			n->op = OP_IN;
		} else if (jparse_is_word(p, "not")) {
			jparse_next(p);
			if (!jparse_take_word(p, "in"))
				jparse_unexpected(p, "`in` after `not`");
			n->op = OP_IN;
			n->negated = true;
		} else {
			break;
		}
		n->a = left;
		n->b = left = arithmetic(p, 0);
		if (all) {
			struct jnode *both = jparse_node(p, N_AND);

			both->a = all;
			both->b = n;
			n = both;
		}
		all = n;
	}
	return all ? all : left;
}

static struct jnode *negation(struct jparser *p)
{
	struct jnode *n;

	if (!jparse_is_word(p, "not"))
		return comparison(p);
	n = jparse_node(p, N_NOT);
	if (!jparse_deeper(p))
		return n;
	jparse_next(p);
	n->a = negation(p);
	p->depth--;
	return n;
}

static struct jnode *conjunction(struct jparser *p)
{
	struct jnode *a = negation(p);

	while (!p->j->failed && jparse_is_word(p, "and")) {
		struct jnode *n = jparse_node(p, N_AND);

		jparse_next(p);
		n->a = a;
		n->b = negation(p);
		a = n;
	}
	return a;
}

struct jnode *jparse_disjunction(struct jparser *p)
{
	struct jnode *a = conjunction(p);

	while (!p->j->failed && jparse_is_word(p, "or")) {
		struct jnode *n = jparse_node(p, N_OR);

		jparse_next(p);
		n->a = a;
		n->b = conjunction(p);
		a = n;
	}
	return a;
}

struct jnode *jparse_expression(struct jparser *p)
{
	struct jnode *a;

	if (!jparse_deeper(p))
		return jparse_node(p, N_LIST);
	a = jparse_disjunction(p);
	while (!p->j->failed && jparse_is_word(p, "if")) {
		struct jnode *n = jparse_node(p, N_COND);

		jparse_next(p);
		n->a = a;
		n->b = jparse_disjunction(p);
		if (jparse_take_word(p, "else"))
			n->c = jparse_expression(p);
		a = n;
	}
	p->depth--;
	return a;
}

/* a, b: a list; one expression: itself */
struct jnode *jparse_expression_list(struct jparser *p)
{
	struct jnode *first = jparse_expression(p), *list;

	if (!jparse_is_op(p, ','))
		return first;
	list = jparse_node(p, N_LIST);
	jparse_append(p, list, first);
	while (jparse_take_op(p, ',') && p->t.type != T_END)
		jparse_append(p, list, jparse_expression(p));
	return list;
}
