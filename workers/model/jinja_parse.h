/*
 * The template parser's two halves: jinja_expr.c reads expressions, jinja_parse.c statements. One
 * token of look-ahead; a failure is remembered by the rendering (jinja_fail) and ends every loop.
 */
#ifndef ASSAY_JINJA_PARSE_H
#define ASSAY_JINJA_PARSE_H

#include "jinja_impl.h"

struct jparser {
	struct jinja *j;
	struct jlexer lex;
	struct jtoken t;
	int depth;
	int loops; /* for-loops around */
};

void jparse_next(struct jparser *p);
bool jparse_is_op(const struct jparser *p, int op);
bool jparse_is_word(const struct jparser *p, const char *word);
/* Consumes the token when it is this one. */
bool jparse_take_op(struct jparser *p, int op);
bool jparse_take_word(struct jparser *p, const char *word);
/* Fails: "expected …, got …" with the line. */
void jparse_unexpected(struct jparser *p, const char *expected);
void jparse_need_op(struct jparser *p, int op);
struct jstr jparse_need_name(struct jparser *p);
/* false, failed: nested too deep; the caller counts p->depth down again. */
bool jparse_deeper(struct jparser *p);

struct jnode *jparse_node(struct jparser *p, enum jnode_type type);
void jparse_append(struct jparser *p, struct jnode *to, struct jnode *n);
struct jnode *jparse_expression(struct jparser *p);
struct jnode *jparse_expression_list(struct jparser *p); /* a, b, c: a list */
struct jnode *jparse_disjunction(struct jparser *p);     /* an expression without if … else */
struct jnode *jparse_filters(struct jparser *p, struct jnode *of);

#endif
