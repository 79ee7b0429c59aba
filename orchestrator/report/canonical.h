/* Small helpers over jansson for canonical JSON. */
#ifndef ASSAY_CANONICAL_H
#define ASSAY_CANONICAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* All take v. A value that could not be made is a programmer's error. */
void canonical_set(json_t *o, const char *key, json_t *v);
json_t *canonical_real(double x);		/* not finite: a string */
json_t *canonical_text(const char *s);		/* NULL: null; bytes that are not UTF-8: '?' */
json_t *canonical_lines(const char *lines);	/* "key=value\n" lines: an object; integers as such;
						 * a key that repeats: an array */

char *canonical_compact(const json_t *o);	/* caller frees */
char *canonical_indented(const json_t *o);	/* and a newline; caller frees */

/* Sets content_sha256 from the compact form without it. */
void canonical_seal(json_t *o);
bool canonical_sealed(json_t *o);	/* the field is there and right */

#endif
