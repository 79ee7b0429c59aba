#include "jinja.h"

#include "jinja_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EVAL_DEPTH_MAX = 1000 };

struct scope {
	struct scope *parent;
	struct jdict vars;
};

enum flow { GO_ON, BREAK, CONTINUE };

struct run {
	struct jinja *j;
	struct scope *scope, *root;
};

static struct jvalue eval(struct run *r, const struct jnode *n);
static enum flow exec(struct run *r, const struct jnode *n, struct jbuf *out);

static struct jvalue undefined(struct jstr name)
{
	return (struct jvalue){.kind = J_UNDEFINED, .s = name};
}

/* One step of work; false ends it. */
static bool step(struct run *r, int line)
{
	if (++r->j->steps > JINJA_STEPS_MAX)
		jinja_fail(r->j, line, "more than %d steps", JINJA_STEPS_MAX);
	if (r->j->depth > EVAL_DEPTH_MAX)
		jinja_fail(r->j, line, "evaluation is nested more than %d deep", EVAL_DEPTH_MAX);
	return !r->j->failed;
}

static struct jvalue lookup(struct run *r, struct jstr name)
{
	const char *function;

	for (struct scope *s = r->scope; s; s = s->parent) {
		struct jvalue *v = jdict_get(&s->vars, name);

		if (v)
			return *v;
	}
	if (jinja_is_function(name, &function))
		return (struct jvalue){.kind = J_FUNCTION, .function = function};
	return undefined(name);
}

/* ---- operators ---------------------------------------------------------------------------- */

static struct jvalue integers(struct jinja *j, const struct jnode *n, int64_t a, int64_t b)
{
	int64_t r = 0;
	bool over = false;

	switch (n->op) {
	case '+': over = __builtin_add_overflow(a, b, &r); break;
	case '-': over = __builtin_sub_overflow(a, b, &r); break;
	case '*': over = __builtin_mul_overflow(a, b, &r); break;
	default:	/* // and %: rounded down, as Python */
		if (b == 0) {
			jinja_fail(j, n->line, "division by zero");
			break;
		}
		if (b == -1) {
			over = n->op == OP_FLOORDIV && __builtin_sub_overflow(0, a, &r);
			break;
		}
		r = n->op == '%' ? a % b : a / b;
		if (a % b && (a < 0) != (b < 0))
			r += n->op == '%' ? b : -1;
	}
	if (over)
		jinja_fail(j, n->line, "an integer overflows");
	return jv_int(r);
}

static struct jvalue numbers(struct jinja *j, const struct jnode *n, struct jvalue a,
			     struct jvalue b)
{
	double x, y;

	jv_number(a, &x);
	jv_number(b, &y);
	if (a.kind != J_FLOAT && b.kind != J_FLOAT && n->op != '/' && n->op != OP_POW)
		return integers(j, n, a.kind == J_BOOL ? a.b : a.i, b.kind == J_BOOL ? b.b : b.i);
	if ((n->op == '/' || n->op == '%' || n->op == OP_FLOORDIV) && y == 0) {
		jinja_fail(j, n->line, "division by zero");
		return jv_none();
	}
	switch (n->op) {
	case '+': return jv_float(x + y);
	case '-': return jv_float(x - y);
	case '*': return jv_float(x * y);
	case '/': return jv_float(x / y);
	case '%': return jv_float(x - y * floor(x / y));
	case OP_FLOORDIV: return jv_float(floor(x / y));
	default: break;
	}
	x = pow(x, y);
	if (a.kind != J_FLOAT && b.kind != J_FLOAT && y >= 0 && fabs(x) < 9e15)
		return jv_int((int64_t)x);
	return jv_float(x);
}

static struct jvalue concatenate(struct jinja *j, struct jvalue a, struct jvalue b)
{
	struct jbuf out = {.j = j};

	jbuf_value(&out, a);
	jbuf_value(&out, b);
	return jv_str(out.s, out.n);
}

static struct jvalue repeat(struct jinja *j, struct jstr s, int64_t times)
{
	struct jbuf out = {.j = j};

	for (int64_t i = 0; i < times && s.n && !j->failed; i++)
		jbuf_add(&out, s.s, s.n);
	return jv_str(out.s, out.n);
}

static struct jvalue binary(struct run *r, const struct jnode *n)
{
	struct jvalue a = eval(r, n->a), b = eval(r, n->b);
	double x, y;

	if (r->j->failed)
		return jv_none();
	if (n->op == '~')
		return concatenate(r->j, a, b);
	if (jv_number(a, &x) && jv_number(b, &y))
		return numbers(r->j, n, a, b);
	if (n->op == '+' && a.kind == J_STRING && b.kind == J_STRING)
		return concatenate(r->j, a, b);
	if (n->op == '*' && a.kind == J_STRING && b.kind == J_INT)
		return repeat(r->j, a.s, b.i);
	if (n->op == '+' && a.kind == J_LIST && b.kind == J_LIST) {
		struct jvalue out = jv_list(r->j);

		for (int i = 0; i < a.list->n; i++)
			jlist_add(r->j, out, a.list->v[i]);
		for (int i = 0; i < b.list->n; i++)
			jlist_add(r->j, out, b.list->v[i]);
		return out;
	}
	if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED) {
		struct jstr name = a.kind == J_UNDEFINED ? a.s : b.s;

		jinja_fail(r->j, n->line, "\"%.*s\" is undefined", (int)name.n, name.s);
	} else {
		jinja_fail(r->j, n->line, "'%s' does not work on %s and %s",
			   n->op == OP_FLOORDIV ? "//" : n->op == OP_POW ? "**"
			   : (char[]){(char)n->op, '\0'}, jv_kind_name(a), jv_kind_name(b));
	}
	return jv_none();
}

static struct jvalue compare(struct run *r, const struct jnode *n)
{
	struct jvalue a = eval(r, n->a), b = eval(r, n->b);

	if (r->j->failed)
		return jv_none();
	switch (n->op) {
	case OP_EQ: return jv_bool(jv_equal(r->j, a, b));
	case OP_NE: return jv_bool(!jv_equal(r->j, a, b));
	case OP_IN: return jv_bool(jv_contains(r->j, n->line, a, b) != n->negated);
	case OP_LE: return jv_bool(jv_compare(r->j, n->line, a, b) <= 0);
	case OP_GE: return jv_bool(jv_compare(r->j, n->line, a, b) >= 0);
	case '<': return jv_bool(jv_compare(r->j, n->line, a, b) < 0);
	default: return jv_bool(jv_compare(r->j, n->line, a, b) > 0);
	}
}

/* ---- parts of values ---------------------------------------------------------------------- */

static struct jvalue need_defined(struct run *r, const struct jnode *n, struct jvalue v)
{
	if (v.kind == J_UNDEFINED)
		jinja_fail(r->j, n->line, "\"%.*s\" is undefined%s", v.s.n > 60 ? 60 : (int)v.s.n,
			   v.s.s,
			   jstr_is(v.s, "strftime_now")
				   ? ": a prompt must not depend on the day; give the formatted "
				     "prompt itself with --prompt-template raw"
				   : "");
	return v;
}

static struct jvalue item(struct run *r, const struct jnode *n)
{
	struct jvalue of = need_defined(r, n, eval(r, n->a)), at = eval(r, n->b), list;
	int64_t i;

	if (r->j->failed)
		return jv_none();
	if (at.kind == J_STRING)
		return jinja_attribute(r->j, n->line, of, at.s);
	if (at.kind == J_INT && of.kind == J_DICT) {
		struct jvalue *v = jdict_find(r->j, of.dict, at);
		return v ? *v : undefined(jv_cstr("dict item").s);
	}
	if (at.kind != J_INT || (of.kind != J_LIST && of.kind != J_STRING))
		return undefined(jv_cstr("subscript").s);
	list = jv_iterate(r->j, n->line, of);
	i = at.i < 0 ? at.i + list.list->n : at.i;
	return i >= 0 && i < list.list->n ? list.list->v[i] : undefined(jv_cstr("list item").s);
}

/* A slice's bound: clamped to the list as Python does. */
static int64_t bound(struct run *r, const struct jnode *n, int64_t otherwise, int64_t length,
		     int64_t stride)
{
	struct jvalue v = n ? eval(r, n) : jv_none();
	int64_t least = stride < 0 ? -1 : 0, most = stride < 0 ? length - 1 : length;

	if (v.kind == J_NONE)
		return otherwise;
	if (v.kind != J_INT) {
		jinja_fail(r->j, n->line, "a slice needs integers, got %s", jv_kind_name(v));
		return 0;
	}
	if (v.i < 0)
		v.i += length;
	return v.i < least ? least : v.i > most ? most : v.i;
}

static struct jvalue slice(struct run *r, const struct jnode *n)
{
	struct jvalue of = need_defined(r, n, eval(r, n->a)), list, out;
	struct jvalue by = n->d ? eval(r, n->d) : jv_none();
	int64_t stride = by.kind == J_INT ? by.i : 1, from, to;

	if (r->j->failed)
		return jv_none();
	list = jv_iterate(r->j, n->line, of);
	if (stride == 0 || stride < -JINJA_LIST_MAX || stride > JINJA_LIST_MAX)
		jinja_fail(r->j, n->line, "a slice's step is %lld", (long long)stride);
	from = bound(r, n->b, stride < 0 ? list.list->n - 1 : 0, list.list->n, stride);
	to = bound(r, n->c, stride < 0 ? -1 : list.list->n, list.list->n, stride);
	out = jv_list(r->j);
	for (int64_t i = from; !r->j->failed && (stride < 0 ? i > to : i < to); i += stride)
		jlist_add(r->j, out, list.list->v[i]);
	if (of.kind == J_STRING) {
		struct jbuf text = {.j = r->j};

		for (int i = 0; i < out.list->n; i++)
			jbuf_value(&text, out.list->v[i]);
		return jv_str(text.s, text.n);
	}
	return out;
}

/* ---- calls -------------------------------------------------------------------------------- */

static void eval_args(struct run *r, const struct jnode *n, struct jargs *a)
{
	*a = (struct jargs){0};
	a->v = jinja_alloc(r->j, (size_t)n->n * sizeof(*a->v));
	a->kw = jinja_alloc(r->j, (size_t)n->n * sizeof(*a->kw));
	for (int i = 0; i < n->n && !r->j->failed; i++) {
		const struct jnode *x = n->list[i];

		if (x->type == N_PAIR)
			a->kw[a->n_kw++] = (struct jpair){x->name, eval(r, x->b), false};
		else
			a->v[a->n++] = eval(r, x);
	}
}

static struct jvalue call_macro(struct run *r, const struct jnode *call, const struct jnode *m,
				const struct jargs *a)
{
	struct scope *before = r->scope, inner = {.parent = r->root};
	struct jbuf out = {.j = r->j};

	if (a->n > m->n)
		jinja_fail(r->j, call->line, "macro %.*s takes %d arguments, got %d",
			   (int)m->name.n, m->name.s, m->n, a->n);
	r->scope = &inner;
	for (int i = 0; i < m->n && !r->j->failed; i++) {
		struct jvalue v = undefined(m->list[i]->name);

		if (i < a->n)
			v = a->v[i];
		else if (m->list[i]->b)
			v = eval(r, m->list[i]->b);
		for (int k = 0; k < a->n_kw; k++)
			if (a->kw[k].key.n == m->list[i]->name.n &&
			    memcmp(a->kw[k].key.s, m->list[i]->name.s, a->kw[k].key.n) == 0)
				v = a->kw[k].v;
		jdict_set(r->j, &inner.vars, m->list[i]->name, v);
	}
	exec(r, m->a, &out);
	r->scope = before;
	return jv_str(out.s, out.n);
}

static struct jvalue call(struct run *r, const struct jnode *n)
{
	struct jvalue f = jv_none(), of;
	struct jargs a;

	if (n->a->type == N_ATTR) {
		of = need_defined(r, n->a, eval(r, n->a->a));
		if (r->j->failed)
			return jv_none();
		if (jinja_has_method(of, n->a->name)) {
			eval_args(r, n, &a);
			return r->j->failed ? jv_none()
					    : jinja_method(r->j, n->line, of, n->a->name, &a);
		}
		f = jinja_attribute(r->j, n->line, of, n->a->name);
		if (f.kind != J_MACRO && f.kind != J_FUNCTION)
			jinja_fail(r->j, n->line, "%s has no method \"%.*s\"", jv_kind_name(of),
				   n->a->name.n > 60 ? 60 : (int)n->a->name.n, n->a->name.s);
	} else {
		f = need_defined(r, n->a, eval(r, n->a));
	}
	if (r->j->failed)
		return jv_none();
	eval_args(r, n, &a);
	if (r->j->failed)
		return jv_none();
	if (f.kind == J_MACRO)
		return call_macro(r, n, f.macro, &a);
	if (f.kind == J_FUNCTION)
		return jinja_function(r->j, n->line, f.function, &a);
	jinja_fail(r->j, n->line, "%s cannot be called", jv_kind_name(f));
	return jv_none();
}

/* ---- expressions -------------------------------------------------------------------------- */

static struct jvalue list_of(struct run *r, const struct jnode *n)
{
	struct jvalue out = jv_list(r->j);

	for (int i = 0; i < n->n && !r->j->failed; i++)
		jlist_add(r->j, out, eval(r, n->list[i]));
	return out;
}

static struct jvalue dict_of(struct run *r, const struct jnode *n)
{
	struct jvalue out = jv_dict(r->j);

	for (int i = 0; i < n->n && !r->j->failed; i++) {
		struct jvalue key = eval(r, n->list[i]->a);

		jdict_put(r->j, out.dict, key, eval(r, n->list[i]->b));
	}
	return out;
}

static struct jvalue negative(struct run *r, const struct jnode *n)
{
	struct jvalue v = eval(r, n->a);

	if (v.kind == J_INT && v.i != INT64_MIN)
		return jv_int(-v.i);
	if (v.kind == J_FLOAT)
		return jv_float(-v.f);
	jinja_fail(r->j, n->line, "'-' does not work on %s", jv_kind_name(v));
	return jv_none();
}

static struct jvalue filter_or_test(struct run *r, const struct jnode *n)
{
	struct jvalue v = eval(r, n->a);
	struct jargs a;

	eval_args(r, n, &a);
	if (r->j->failed)
		return jv_none();
	if (n->type == N_FILTER)
		return jinja_filter(r->j, n->line, n->name, v, &a);
	return jv_bool(jinja_test(r->j, n->line, n->name, v, &a) != n->negated);
}

static struct jvalue eval_node(struct run *r, const struct jnode *n)
{
	struct jvalue v;

	switch (n->type) {
	case N_LITERAL:
		return n->value;
	case N_NAME:
		return lookup(r, n->name);
	case N_LIST:
		return list_of(r, n);
	case N_DICT:
		return dict_of(r, n);
	case N_ATTR:
		v = need_defined(r, n, eval(r, n->a));
		return r->j->failed ? jv_none() : jinja_attribute(r->j, n->line, v, n->name);
	case N_ITEM:
		return item(r, n);
	case N_SLICE:
		return slice(r, n);
	case N_CALL:
		return call(r, n);
	case N_FILTER:
	case N_TEST:
		return filter_or_test(r, n);
	case N_NOT:
		return jv_bool(!jv_true(eval(r, n->a)));
	case N_NEG:
		return negative(r, n);
	case N_AND:
		v = eval(r, n->a);
		return jv_true(v) ? eval(r, n->b) : v;
	case N_OR:
		v = eval(r, n->a);
		return jv_true(v) ? v : eval(r, n->b);
	case N_BINARY:
		return binary(r, n);
	case N_COMPARE:
		return compare(r, n);
	case N_COND:
		if (jv_true(eval(r, n->b)))
			return eval(r, n->a);
		return n->c ? eval(r, n->c) : undefined(jv_cstr("the missing else").s);
	default:
		jinja_fail(r->j, n->line, "not an expression");
		return jv_none();
	}
}

static struct jvalue eval(struct run *r, const struct jnode *n)
{
	struct jvalue v;

	r->j->depth++;
	v = n && step(r, n->line) ? eval_node(r, n) : jv_none();
	r->j->depth--;
	return v;
}

/* ---- statements --------------------------------------------------------------------------- */

static void assign(struct run *r, const struct jnode *target, struct jvalue v)
{
	struct jvalue of;

	if (target->type == N_NAME) {
		jdict_set(r->j, &r->scope->vars, target->name, v);
		return;
	}
	of = eval(r, target->a);
	if (of.kind == J_DICT && of.dict->is_namespace)
		jdict_set(r->j, of.dict, target->name, v);
	else
		jinja_fail(r->j, target->line,
			   "\"%.*s\" is no namespace, its attributes cannot be set",
			   (int)target->a->name.n, target->a->name.s);
}

/* One value to one target, or a list to as many. */
static void assign_all(struct run *r, const struct jnode *n, struct jvalue v)
{
	if (n->n == 1) {
		assign(r, n->list[0], v);
		return;
	}
	if (v.kind != J_LIST || v.list->n != n->n) {
		jinja_fail(r->j, n->line, "%s does not unpack to %d names", jv_kind_name(v), n->n);
		return;
	}
	for (int i = 0; i < n->n; i++)
		assign(r, n->list[i], v.list->v[i]);
}

static struct jvalue loop_variable(struct run *r, struct jvalue items, int i)
{
	struct jvalue loop = jv_dict(r->j);
	const struct { const char *name; struct jvalue v;
	} fields[] = {
		{"index", jv_int(i + 1)},
		{"index0", jv_int(i)},
		{"first", jv_bool(i == 0)},
		{"last", jv_bool(i == items.list->n - 1)},
		{"length", jv_int(items.list->n)},
		{"revindex", jv_int(items.list->n - i)},
		{"revindex0", jv_int(items.list->n - i - 1)},
	};

	for (size_t k = 0; k < sizeof(fields) / sizeof(fields[0]); k++)
		jdict_set(r->j, loop.dict, jv_cstr(fields[k].name).s, fields[k].v);
	if (i > 0)
		jdict_set(r->j, loop.dict, jv_cstr("previtem").s, items.list->v[i - 1]);
	if (i + 1 < items.list->n)
		jdict_set(r->j, loop.dict, jv_cstr("nextitem").s, items.list->v[i + 1]);
	return loop;
}

static struct jvalue filtered(struct run *r, const struct jnode *n, struct jvalue items)
{
	struct scope *before = r->scope;
	struct jvalue out = jv_list(r->j);

	for (int i = 0; i < items.list->n && !r->j->failed; i++) {
		struct scope inner = {.parent = before};

		r->scope = &inner;
		assign_all(r, n, items.list->v[i]);
		if (jv_true(eval(r, n->d)))
			jlist_add(r->j, out, items.list->v[i]);
	}
	r->scope = before;
	return out;
}

static void for_loop(struct run *r, const struct jnode *n, struct jbuf *out)
{
	struct scope *before = r->scope;
	struct jvalue items = jv_iterate(r->j, n->line, eval(r, n->a));

	if (r->j->failed)
		return;
	if (n->d)
		items = filtered(r, n, items);
	for (int i = 0; i < items.list->n && step(r, n->line); i++) {
		struct scope inner = {.parent = before};
		enum flow f;

		r->scope = &inner;
		jdict_set(r->j, &inner.vars, jv_cstr("loop").s, loop_variable(r, items, i));
		assign_all(r, n, items.list->v[i]);
		f = exec(r, n->b, out);
		if (f == BREAK)
			break;
	}
	r->scope = before;
	if (items.list->n == 0 && n->c)
		exec(r, n->c, out);
}

/* {% set x | first | second %}: the chain hangs on its last filter. */
static struct jvalue apply_filters(struct run *r, const struct jnode *f, struct jvalue v)
{
	struct jargs a;

	if (!f)
		return v;
	v = apply_filters(r, f->a, v);
	if (f->type != N_FILTER)
		jinja_fail(r->j, f->line, "{%% set %%} takes only filters here");
	eval_args(r, f, &a);
	return r->j->failed ? jv_none() : jinja_filter(r->j, f->line, f->name, v, &a);
}

static void set_block(struct run *r, const struct jnode *n)
{
	struct jbuf text = {.j = r->j};
	struct jvalue v;

	exec(r, n->b, &text);
	v = jv_str(text.s, text.n);
	assign_all(r, n, apply_filters(r, n->c, v));
}

static enum flow exec_node(struct run *r, const struct jnode *n, struct jbuf *out)
{
	enum flow f = GO_ON;

	switch (n->type) {
	case N_BLOCK:
		for (int i = 0; i < n->n && f == GO_ON && !r->j->failed; i++)
			f = exec(r, n->list[i], out);
		return f;
	case N_TEXT:
		jbuf_add(out, n->name.s, n->name.n);
		return f;
	case N_OUTPUT:
		jbuf_value(out, eval(r, n->a));
		return f;
	case N_IF:
		if (jv_true(eval(r, n->a)))
			return exec(r, n->b, out);
		return n->c ? exec(r, n->c, out) : GO_ON;
	case N_FOR:
		for_loop(r, n, out);
		return f;
	case N_SET:
		assign_all(r, n, eval(r, n->b));
		return f;
	case N_SET_BLOCK:
		set_block(r, n);
		return f;
	case N_MACRO:
		jdict_set(r->j, &r->scope->vars, n->name,
			  (struct jvalue){.kind = J_MACRO, .macro = n});
		return f;
	case N_BREAK:
		return BREAK;
	case N_CONTINUE:
		return CONTINUE;
	default:
		jinja_fail(r->j, n->line, "not a statement");
		return f;
	}
}

static enum flow exec(struct run *r, const struct jnode *n, struct jbuf *out)
{
	enum flow f = GO_ON;

	r->j->depth++;
	if (step(r, n->line))
		f = exec_node(r, n, out);
	r->j->depth--;
	return f;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static void define(struct run *r, const char *name, struct jvalue v)
{
	jdict_set(r->j, &r->root->vars, jv_cstr(name).s, v);
}

static void define_input(struct run *r, const struct jinja_input *in)
{
	struct jvalue messages = jv_list(r->j);

	for (int i = 0; i < in->n_messages; i++) {
		struct jvalue m = jv_dict(r->j);

		jdict_set(r->j, m.dict, jv_cstr("role").s, jv_cstr(in->messages[i].role));
		jdict_set(r->j, m.dict, jv_cstr("content").s, jv_cstr(in->messages[i].content));
		jlist_add(r->j, messages, m);
	}
	define(r, "messages", messages);
	define(r, "add_generation_prompt", jv_bool(in->add_generation_prompt));
	define(r, "tools", jv_none());
	define(r, "documents", jv_none());
	if (in->bos_token)
		define(r, "bos_token", jv_cstr(in->bos_token));
	if (in->eos_token)
		define(r, "eos_token", jv_cstr(in->eos_token));
}

int jinja_render(const char *source, size_t bytes, const struct jinja_input *in, char **out,
		 size_t *out_bytes, struct err *e)
{
	struct jinja j = {.e = e, .in = in};
	struct scope root = {0};
	struct run r = {&j, &root, &root};
	struct jbuf text = {.j = &j};
	struct jnode *tree;
	char *copy = NULL;

	if (bytes > JINJA_SOURCE_BYTES_MAX)
		return err_set(e, EXIT_TEMPLATE,
			       "the template has %zu bytes, at most %d are allowed", bytes,
			       JINJA_SOURCE_BYTES_MAX);
	tree = jinja_parse(&j, source, bytes);
	define_input(&r, in);
	if (!j.failed)
		exec(&r, tree, &text);
	if (!j.failed) {
		copy = malloc(text.n + 1);
		if (!copy)
			abort();
		if (text.n)
			memcpy(copy, text.s, text.n);
		copy[text.n] = '\0';
		*out = copy;
		*out_bytes = text.n;
	}
	jinja_release(&j);
	return j.failed ? -EXIT_TEMPLATE : 0;
}
