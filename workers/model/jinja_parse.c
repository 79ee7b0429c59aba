#include "jinja_impl.h"

#include <string.h>

/* ---- one token of look-ahead -------------------------------------------------------------- */

struct parser {
	struct jinja *j;
	struct jlexer lex;
	struct jtoken t;
	int depth;
	int loops;		/* for-loops around */
};

static void next(struct parser *p)
{
	p->t = jlex_token(&p->lex);
}

static bool is_op(const struct parser *p, int op)
{
	return p->t.type == T_OP && p->t.op == op;
}

static bool is_word(const struct parser *p, const char *word)
{
	return p->t.type == T_NAME && jstr_is(p->t.text, word);
}

static bool take_op(struct parser *p, int op)
{
	if (!is_op(p, op))
		return false;
	next(p);
	return true;
}

static bool take_word(struct parser *p, const char *word)
{
	if (!is_word(p, word))
		return false;
	next(p);
	return true;
}

static void unexpected(struct parser *p, const char *expected)
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

static void need_op(struct parser *p, int op)
{
	char what[4] = {'\'', (char)op, '\'', '\0'};

	if (!take_op(p, op))
		unexpected(p, what);
}

static struct jstr need_name(struct parser *p)
{
	struct jstr name = p->t.text;

	if (p->t.type != T_NAME) {
		unexpected(p, "a name");
		return (struct jstr){"", 0};
	}
	next(p);
	return name;
}

static struct jnode *node(struct parser *p, enum jnode_type type)
{
	struct jnode *n = jinja_alloc(p->j, sizeof(*n));

	n->type = type;
	n->line = p->t.line;
	return n;
}

static void append(struct parser *p, struct jnode *to, struct jnode *n)
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

static bool deeper(struct parser *p)
{
	if (++p->depth > JINJA_DEPTH_MAX)
		jinja_fail(p->j, p->t.line, "nested more than %d deep", JINJA_DEPTH_MAX);
	return !p->j->failed;
}

/* ---- expressions -------------------------------------------------------------------------- */

static struct jnode *expression(struct parser *p);
static struct jnode *unary(struct parser *p, bool with_filter);

static struct jnode *literal(struct parser *p, struct jvalue v)
{
	struct jnode *n = node(p, N_LITERAL);

	n->value = v;
	next(p);
	return n;
}

static struct jnode *name_or_constant(struct parser *p)
{
	struct jnode *n;

	if (is_word(p, "true") || is_word(p, "True"))
		return literal(p, jv_bool(true));
	if (is_word(p, "false") || is_word(p, "False"))
		return literal(p, jv_bool(false));
	if (is_word(p, "none") || is_word(p, "None"))
		return literal(p, jv_none());
	n = node(p, N_NAME);
	n->name = need_name(p);
	return n;
}

static struct jnode *sequence(struct parser *p, struct jnode *list, int close)
{
	while (!p->j->failed && !is_op(p, close)) {
		append(p, list, expression(p));
		if (!take_op(p, ','))
			break;
	}
	need_op(p, close);
	return list;
}

static struct jnode *parenthesis(struct parser *p)
{
	struct jnode *list = node(p, N_LIST), *first;

	next(p);
	if (is_op(p, ')'))
		return sequence(p, list, ')');
	first = expression(p);
	if (take_op(p, ')'))
		return first;
	append(p, list, first);
	need_op(p, ',');
	return sequence(p, list, ')');
}

static struct jnode *dictionary(struct parser *p)
{
	struct jnode *d = node(p, N_DICT);

	next(p);
	while (!p->j->failed && !is_op(p, '}')) {
		struct jnode *pair = node(p, N_PAIR);

		pair->a = expression(p);
		need_op(p, ':');
		pair->b = expression(p);
		append(p, d, pair);
		if (!take_op(p, ','))
			break;
	}
	need_op(p, '}');
	return d;
}

static struct jnode *strings(struct parser *p)
{
	struct jnode *n = literal(p, jv_str(p->t.text.s, p->t.text.n));

	while (p->t.type == T_STRING && !p->j->failed) {	/* neighbours join */
		struct jbuf b = {.j = p->j};

		jbuf_add(&b, n->value.s.s, n->value.s.n);
		jbuf_add(&b, p->t.text.s, p->t.text.n);
		n->value = jv_str(b.s, b.n);
		next(p);
	}
	return n;
}

static struct jnode *primary(struct parser *p)
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
	if (is_op(p, '('))
		return parenthesis(p);
	if (is_op(p, '{'))
		return dictionary(p);
	list = node(p, N_LIST);
	if (take_op(p, '['))
		return sequence(p, list, ']');
	unexpected(p, "a value");
	return list;
}

/* ( positional, name=value, … ) appended to call */
static void arguments(struct parser *p, struct jnode *call)
{
	need_op(p, '(');
	while (!p->j->failed && !is_op(p, ')')) {
		struct jnode *a = expression(p);

		if (a->type == N_NAME && take_op(p, '=')) {
			struct jnode *pair = node(p, N_PAIR);

			pair->name = a->name;
			pair->b = expression(p);
			a = pair;
		}
		append(p, call, a);
		if (!take_op(p, ','))
			break;
	}
	need_op(p, ')');
}

static struct jnode *subscript(struct parser *p, struct jnode *of)
{
	struct jnode *n = node(p, N_ITEM), *parts[3] = {NULL};
	int k = 0;

	next(p);
	while (!p->j->failed && !is_op(p, ']')) {
		if (take_op(p, ':')) {
			n->type = N_SLICE;
			if (++k > 2)
				break;
		} else {
			parts[k] = expression(p);
			if (!is_op(p, ':'))
				break;
		}
	}
	need_op(p, ']');
	n->a = of;
	n->b = parts[0];
	n->c = parts[1];
	n->d = parts[2];
	if (n->type == N_ITEM && !n->b)
		jinja_fail(p->j, n->line, "an empty subscript");
	return n;
}

static struct jnode *postfix(struct parser *p, struct jnode *of)
{
	while (!p->j->failed) {
		struct jnode *n;

		if (take_op(p, '.')) {
			n = node(p, N_ATTR);
			n->a = of;
			if (p->t.type == T_INT) {
				n->type = N_ITEM;
				n->b = literal(p, jv_int(p->t.i));
			} else {
				n->name = need_name(p);
			}
		} else if (is_op(p, '[')) {
			n = subscript(p, of);
		} else if (is_op(p, '(')) {
			n = node(p, N_CALL);
			n->a = of;
			arguments(p, n);
		} else {
			break;
		}
		of = n;
	}
	return of;
}

static bool starts_value(const struct parser *p)
{
	static const char *const not_values[] = {"else", "or", "and", "is", "if", "in", "not"};

	if (p->t.type == T_NAME) {
		for (int i = 0; i < 7; i++)
			if (is_word(p, not_values[i]))
				return false;
		return true;
	}
	return p->t.type == T_STRING || p->t.type == T_INT || p->t.type == T_FLOAT ||
	       is_op(p, '[') || is_op(p, '{');
}

static struct jnode *filters(struct parser *p, struct jnode *of)
{
	while (!p->j->failed) {
		struct jnode *n;

		if (take_op(p, '|')) {
			n = node(p, N_FILTER);
			n->name = need_name(p);
			n->a = of;
			if (is_op(p, '('))
				arguments(p, n);
		} else if (take_word(p, "is")) {
			n = node(p, N_TEST);
			n->negated = take_word(p, "not");
			n->name = p->t.type == T_NAME ? p->t.text : (struct jstr){"", 0};
			if (p->t.type == T_NAME)
				next(p);
			else
				unexpected(p, "the name of a test");
			n->a = of;
			if (is_op(p, '('))
				arguments(p, n);
			else if (starts_value(p))
				append(p, n, postfix(p, primary(p)));
		} else if (is_op(p, '(')) {
			n = node(p, N_CALL);
			n->a = of;
			arguments(p, n);
		} else {
			break;
		}
		of = n;
	}
	return of;
}

static struct jnode *unary(struct parser *p, bool with_filter)
{
	struct jnode *n;

	if (!deeper(p))
		return node(p, N_LIST);
	if (is_op(p, '-') || is_op(p, '+')) {
		bool minus = is_op(p, '-');

		next(p);
		n = unary(p, false);
		if (minus) {
			struct jnode *neg = node(p, N_NEG);

			neg->a = n;
			n = neg;
		}
	} else {
		n = postfix(p, primary(p));
	}
	if (with_filter)
		n = filters(p, n);
	p->depth--;
	return n;
}

/* Levels of left-associative operators, loosest first; 0 is unary. */
static const int levels[][5] = {{'+', '-'}, {'~'}, {'*', '/', OP_FLOORDIV, '%'}, {OP_POW}};

static struct jnode *arithmetic(struct parser *p, int level)
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
		n = node(p, N_BINARY);
		n->op = op;
		next(p);
		n->a = a;
		n->b = arithmetic(p, level + 1);
		a = n;
	}
	return a;
}

/* a < b <= c means a < b and b <= c */
static struct jnode *comparison(struct parser *p)
{
	struct jnode *left = arithmetic(p, 0), *all = NULL;

	while (!p->j->failed) {
		struct jnode *n = node(p, N_COMPARE);

		if (p->t.type == T_OP && (p->t.op == '<' || p->t.op == '>' ||
					  (p->t.op >= OP_EQ && p->t.op <= OP_GE))) {
			n->op = p->t.op;
			next(p);
		} else if (take_word(p, "in")) {
			n->op = OP_IN;
		} else if (is_word(p, "not")) {
			next(p);
			if (!take_word(p, "in"))
				unexpected(p, "`in` after `not`");
			n->op = OP_IN;
			n->negated = true;
		} else {
			break;
		}
		n->a = left;
		n->b = left = arithmetic(p, 0);
		if (all) {
			struct jnode *both = node(p, N_AND);

			both->a = all;
			both->b = n;
			n = both;
		}
		all = n;
	}
	return all ? all : left;
}

static struct jnode *negation(struct parser *p)
{
	struct jnode *n;

	if (!is_word(p, "not"))
		return comparison(p);
	n = node(p, N_NOT);
	if (!deeper(p))
		return n;
	next(p);
	n->a = negation(p);
	p->depth--;
	return n;
}

static struct jnode *conjunction(struct parser *p)
{
	struct jnode *a = negation(p);

	while (!p->j->failed && is_word(p, "and")) {
		struct jnode *n = node(p, N_AND);

		next(p);
		n->a = a;
		n->b = negation(p);
		a = n;
	}
	return a;
}

static struct jnode *disjunction(struct parser *p)
{
	struct jnode *a = conjunction(p);

	while (!p->j->failed && is_word(p, "or")) {
		struct jnode *n = node(p, N_OR);

		next(p);
		n->a = a;
		n->b = conjunction(p);
		a = n;
	}
	return a;
}

static struct jnode *expression(struct parser *p)
{
	struct jnode *a;

	if (!deeper(p))
		return node(p, N_LIST);
	a = disjunction(p);
	while (!p->j->failed && is_word(p, "if")) {
		struct jnode *n = node(p, N_COND);

		next(p);
		n->a = a;
		n->b = disjunction(p);
		if (take_word(p, "else"))
			n->c = expression(p);
		a = n;
	}
	p->depth--;
	return a;
}

/* a, b: a list; one expression: itself */
static struct jnode *expression_list(struct parser *p)
{
	struct jnode *first = expression(p), *list;

	if (!is_op(p, ','))
		return first;
	list = node(p, N_LIST);
	append(p, list, first);
	while (take_op(p, ',') && p->t.type != T_END)
		append(p, list, expression(p));
	return list;
}

/* ---- statements --------------------------------------------------------------------------- */

static struct jnode *block(struct parser *p, const char *const *ends, struct jnode *opened);

static void end_of_tag(struct parser *p)
{
	if (p->t.type != T_END)
		unexpected(p, "the end of the tag");
}

static struct jnode *if_statement(struct parser *p)
{
	static const char *const ends[] = {"elif", "else", "endif", NULL};
	static const char *const last[] = {"endif", NULL};
	struct jnode *n = node(p, N_IF);

	if (!deeper(p))
		return n;
	next(p);
	n->a = expression(p);
	end_of_tag(p);
	n->b = block(p, ends, n);
	if (is_word(p, "elif")) {
		n->c = if_statement(p);
	} else {
		if (take_word(p, "else")) {
			end_of_tag(p);
			n->c = block(p, last, n);
		}
		next(p);
	}
	p->depth--;
	return n;
}

static struct jnode *for_statement(struct parser *p)
{
	static const char *const ends[] = {"else", "endfor", NULL};
	static const char *const last[] = {"endfor", NULL};
	struct jnode *n = node(p, N_FOR);

	next(p);
	do {
		struct jnode *target = node(p, N_NAME);
		bool open = take_op(p, '(');

		target->name = need_name(p);
		append(p, n, target);
		while (open && take_op(p, ',')) {
			target = node(p, N_NAME);
			target->name = need_name(p);
			append(p, n, target);
		}
		if (open)
			need_op(p, ')');
	} while (!p->j->failed && take_op(p, ','));
	if (!take_word(p, "in"))
		unexpected(p, "`in`");
	n->a = disjunction(p);
	if (take_word(p, "if"))
		n->d = expression(p);
	end_of_tag(p);
	p->loops++;
	n->b = block(p, ends, n);
	p->loops--;
	if (take_word(p, "else")) {
		end_of_tag(p);
		n->c = block(p, last, n);
	}
	next(p);
	return n;
}

static struct jnode *set_statement(struct parser *p)
{
	static const char *const ends[] = {"endset", NULL};
	struct jnode *n = node(p, N_SET), *target;

	next(p);
	do {
		target = node(p, N_NAME);
		target->name = need_name(p);
		if (take_op(p, '.')) {
			struct jnode *attr = node(p, N_ATTR);

			attr->a = target;
			attr->name = need_name(p);
			target = attr;
		}
		append(p, n, target);
	} while (!p->j->failed && take_op(p, ','));
	if (take_op(p, '=')) {
		n->b = expression_list(p);
		return n;
	}
	n->type = N_SET_BLOCK;
	n->c = filters(p, NULL);
	end_of_tag(p);
	n->b = block(p, ends, n);
	next(p);
	return n;
}

static struct jnode *macro_statement(struct parser *p)
{
	static const char *const ends[] = {"endmacro", NULL};
	struct jnode *n = node(p, N_MACRO);

	next(p);
	n->name = need_name(p);
	need_op(p, '(');
	while (!p->j->failed && !is_op(p, ')')) {
		struct jnode *pair = node(p, N_PAIR);

		pair->name = need_name(p);
		if (take_op(p, '='))
			pair->b = expression(p);
		append(p, n, pair);
		if (!take_op(p, ','))
			break;
	}
	need_op(p, ')');
	end_of_tag(p);
	n->a = block(p, ends, n);
	next(p);
	return n;
}

static struct jnode *generation(struct parser *p)
{
	static const char *const ends[] = {"endgeneration", NULL};
	struct jnode *n = node(p, N_BLOCK), *body;

	next(p);
	end_of_tag(p);
	body = block(p, ends, n);
	next(p);
	return body;
}

static struct jnode *loop_control(struct parser *p, enum jnode_type type)
{
	struct jnode *n = node(p, type);

	if (!p->loops)
		jinja_fail(p->j, n->line, "break or continue outside of a loop");
	next(p);
	return n;
}

/* The first token of a tag is read. */
static struct jnode *statement(struct parser *p)
{
	struct jnode *n = NULL;

	if (is_word(p, "if"))
		n = if_statement(p);
	else if (is_word(p, "for"))
		n = for_statement(p);
	else if (is_word(p, "set"))
		n = set_statement(p);
	else if (is_word(p, "macro"))
		n = macro_statement(p);
	else if (is_word(p, "generation"))
		n = generation(p);
	else if (is_word(p, "break"))
		n = loop_control(p, N_BREAK);
	else if (is_word(p, "continue"))
		n = loop_control(p, N_CONTINUE);
	else if (p->t.type == T_NAME)
		jinja_fail(p->j, p->t.line, "the tag {%% %.*s %%} is not supported here",
			   p->t.text.n > 40 ? 40 : (int)p->t.text.n, p->t.text.s);
	else
		unexpected(p, "the name of a tag");
	end_of_tag(p);
	return n;
}

static struct jnode *raw_text(struct parser *p)
{
	struct jnode *n = node(p, N_TEXT);

	next(p);
	end_of_tag(p);
	n->name = jlex_raw(&p->lex);
	return n;
}

static bool is_end(const struct parser *p, const char *const *ends)
{
	for (int i = 0; ends[i]; i++)
		if (is_word(p, ends[i]))
			return true;
	return false;
}

/* Statements up to a tag of ends, whose name is then the current token. */
static struct jnode *block(struct parser *p, const char *const *ends, struct jnode *opened)
{
	struct jnode *b = node(p, N_BLOCK), *n;

	if (!deeper(p))
		return b;
	while (!p->j->failed) {
		struct jstr text;
		enum jpart part = jlex_part(&p->lex, &text);

		if (part == PART_END) {
			if (opened && !p->j->failed)
				jinja_fail(p->j, opened->line, "this block has no {%% %s %%}",
					   ends[0] ? ends[0] : "end");
			break;
		}
		p->t.line = p->lex.line;
		if (part == PART_TEXT) {
			n = node(p, N_TEXT);
			n->name = text;
		} else {
			next(p);
			if (part == PART_OUTPUT) {
				n = node(p, N_OUTPUT);
				n->a = expression_list(p);
				end_of_tag(p);
			} else if (is_end(p, ends)) {
				break;
			} else {
				n = is_word(p, "raw") ? raw_text(p) : statement(p);
			}
		}
		append(p, b, n);
	}
	p->depth--;
	return b;
}

/* Line ends become \n, one at the very end goes, as Jinja's lexer does. */
static struct jstr normalise(struct jinja *j, const char *s, size_t n)
{
	char *out = jinja_alloc(j, n + 1);
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\r') {
			out[k++] = '\n';
			i += i + 1 < n && s[i + 1] == '\n';
		} else {
			out[k++] = s[i];
		}
	}
	k -= k && out[k - 1] == '\n';
	return (struct jstr){out, k};
}

struct jnode *jinja_parse(struct jinja *j, const char *source, size_t n)
{
	static const char *const none[] = {NULL};
	struct jstr s = normalise(j, source, n);
	struct parser p = {.j = j};

	p.lex = (struct jlexer){.j = j, .s = s.s, .n = s.n, .line = 1, .line_starting = true};
	return block(&p, none, NULL);
}
