/*
 * Arguments of calls and the operations on strings that Jinja's filters and methods share. Results
 * live in the rendering's arena; what Python would refuse fails with the line.
 */
#ifndef ASSAY_JINJA_STRINGS_H
#define ASSAY_JINJA_STRINGS_H

#include "jinja_impl.h"

/* The i-th argument, or the one named so; undefined when it is not given. */
struct jvalue jarg(const struct jargs *a, int i, const char *name);
struct jstr jarg_string(struct jinja *j, int line, const char *what, struct jvalue v);

enum jcase { CASE_LOWER, CASE_UPPER, CASE_CAPITALIZE, CASE_TITLE };

/* chars NULL: white space. */
struct jvalue jstr_strip(struct jstr s, bool left, bool right, const struct jstr *chars);
struct jvalue jstr_case(struct jinja *j, struct jstr s, enum jcase how);
struct jvalue jstr_replace(struct jinja *j, struct jstr s, struct jstr from, struct jstr to,
			   int64_t most);
struct jvalue jstr_split(struct jinja *j, int line, struct jstr s, const struct jargs *a);
struct jvalue jstr_rsplit(struct jinja *j, int line, struct jstr s, const struct jargs *a);
/* {} {0} {name} {{ }}: Python's str.format without conversions and format specifications. */
struct jvalue jstr_format(struct jinja *j, int line, struct jstr s, const struct jargs *a);
/* startswith, endswith: a string or a tuple of them. */
struct jvalue jstr_affix(struct jinja *j, int line, struct jstr s, struct jvalue what, bool front);
struct jvalue jstr_join(struct jinja *j, int line, struct jvalue list, struct jvalue sep,
			struct jvalue attribute);
/* Characters before the first or last place of `what`; −1: not there. */
int64_t jstr_find(struct jstr s, struct jstr what, bool last);

#endif
