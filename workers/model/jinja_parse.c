#include "jinja_parse.h"

#include <string.h>

/* ---- statements --------------------------------------------------------------------------- */

static struct jnode *block(struct jparser *p, const char *const *ends, struct jnode *opened);

static void end_of_tag(struct jparser *p)
{
	if (p->t.type != T_END)
		jparse_unexpected(p, "the end of the tag");
}

static struct jnode *if_statement(struct jparser *p)
{
	static const char *const ends[] = {"elif", "else", "endif", NULL};
	static const char *const last[] = {"endif", NULL};
	struct jnode *n = jparse_node(p, N_IF);

	if (!jparse_deeper(p))
		return n;
	jparse_next(p);
	n->a = jparse_expression(p);
	end_of_tag(p);
	n->b = block(p, ends, n);
	if (jparse_is_word(p, "elif")) {
		n->c = if_statement(p);
	} else {
		if (jparse_take_word(p, "else")) {
			end_of_tag(p);
			n->c = block(p, last, n);
		}
		jparse_next(p);
	}
	p->depth--;
	return n;
}

static struct jnode *for_statement(struct jparser *p)
{
	static const char *const ends[] = {"else", "endfor", NULL};
	static const char *const last[] = {"endfor", NULL};
	struct jnode *n = jparse_node(p, N_FOR);

	jparse_next(p);
	do {
		struct jnode *target = jparse_node(p, N_NAME);
		bool open = jparse_take_op(p, '(');

		target->name = jparse_need_name(p);
		jparse_append(p, n, target);
		while (open && jparse_take_op(p, ',')) {
			target = jparse_node(p, N_NAME);
			target->name = jparse_need_name(p);
			jparse_append(p, n, target);
		}
		if (open)
			jparse_need_op(p, ')');
	} while (!p->j->failed && jparse_take_op(p, ','));
	if (!jparse_take_word(p, "in"))
		jparse_unexpected(p, "`in`");
	n->a = jparse_disjunction(p);
	if (jparse_take_word(p, "if"))
		n->d = jparse_expression(p);
	end_of_tag(p);
	p->loops++;
	n->b = block(p, ends, n);
	p->loops--;
	if (jparse_take_word(p, "else")) {
		end_of_tag(p);
		n->c = block(p, last, n);
	}
	jparse_next(p);
	return n;
}

static struct jnode *set_statement(struct jparser *p)
{
	static const char *const ends[] = {"endset", NULL};
	struct jnode *n = jparse_node(p, N_SET), *target;

	jparse_next(p);
	do {
		target = jparse_node(p, N_NAME);
		target->name = jparse_need_name(p);
		if (jparse_take_op(p, '.')) {
			struct jnode *attr = jparse_node(p, N_ATTR);

			attr->a = target;
			attr->name = jparse_need_name(p);
			target = attr;
		}
		jparse_append(p, n, target);
	} while (!p->j->failed && jparse_take_op(p, ','));
	if (jparse_take_op(p, '=')) {
		n->b = jparse_expression_list(p);
		return n;
	}
	n->type = N_SET_BLOCK;
	n->c = jparse_filters(p, NULL);
	end_of_tag(p);
	n->b = block(p, ends, n);
	jparse_next(p);
	return n;
}

static struct jnode *macro_statement(struct jparser *p)
{
	static const char *const ends[] = {"endmacro", NULL};
	struct jnode *n = jparse_node(p, N_MACRO);

	jparse_next(p);
	n->name = jparse_need_name(p);
	jparse_need_op(p, '(');
	while (!p->j->failed && !jparse_is_op(p, ')')) {
		struct jnode *pair = jparse_node(p, N_PAIR);

		pair->name = jparse_need_name(p);
		if (jparse_take_op(p, '='))
			pair->b = jparse_expression(p);
		jparse_append(p, n, pair);
		if (!jparse_take_op(p, ','))
			break;
	}
	jparse_need_op(p, ')');
	end_of_tag(p);
	n->a = block(p, ends, n);
	jparse_next(p);
	return n;
}

static struct jnode *generation(struct jparser *p)
{
	static const char *const ends[] = {"endgeneration", NULL};
	struct jnode *n = jparse_node(p, N_BLOCK), *body;

	jparse_next(p);
	end_of_tag(p);
	body = block(p, ends, n);
	jparse_next(p);
	return body;
}

static struct jnode *loop_control(struct jparser *p, enum jnode_type type)
{
	struct jnode *n = jparse_node(p, type);

	if (!p->loops)
		jinja_fail(p->j, n->line, "break or continue outside of a loop");
	jparse_next(p);
	return n;
}

/* The first token of a tag is read. */
static struct jnode *statement(struct jparser *p)
{
	struct jnode *n = NULL;

	if (jparse_is_word(p, "if"))
		n = if_statement(p);
	else if (jparse_is_word(p, "for"))
		n = for_statement(p);
	else if (jparse_is_word(p, "set"))
		n = set_statement(p);
	else if (jparse_is_word(p, "macro"))
		n = macro_statement(p);
	else if (jparse_is_word(p, "generation"))
		n = generation(p);
	else if (jparse_is_word(p, "break"))
		n = loop_control(p, N_BREAK);
	else if (jparse_is_word(p, "continue"))
		n = loop_control(p, N_CONTINUE);
	else if (p->t.type == T_NAME)
		jinja_fail(p->j, p->t.line, "the tag {%% %.*s %%} is not supported here",
			   p->t.text.n > 40 ? 40 : (int)p->t.text.n, p->t.text.s);
	else
		jparse_unexpected(p, "the name of a tag");
	end_of_tag(p);
	return n;
}

static struct jnode *raw_text(struct jparser *p)
{
	struct jnode *n = jparse_node(p, N_TEXT);

	jparse_next(p);
	end_of_tag(p);
	n->name = jlex_raw(&p->lex);
	return n;
}

static bool is_end(const struct jparser *p, const char *const *ends)
{
	for (int i = 0; ends[i]; i++)
		if (jparse_is_word(p, ends[i]))
			return true;
	return false;
}

/* Statements up to a tag of ends, whose name is then the current token. */
static struct jnode *block(struct jparser *p, const char *const *ends, struct jnode *opened)
{
	struct jnode *b = jparse_node(p, N_BLOCK), *n;

	if (!jparse_deeper(p))
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
			n = jparse_node(p, N_TEXT);
			n->name = text;
		} else {
			jparse_next(p);
			if (part == PART_OUTPUT) {
				n = jparse_node(p, N_OUTPUT);
				n->a = jparse_expression_list(p);
				end_of_tag(p);
			} else if (is_end(p, ends)) {
				break;
			} else {
				n = jparse_is_word(p, "raw") ? raw_text(p) : statement(p);
			}
		}
		jparse_append(p, b, n);
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
	struct jparser p = {.j = j};

	p.lex = (struct jlexer){.j = j, .s = s.s, .n = s.n, .line = 1, .line_starting = true};
	return block(&p, none, NULL);
}
