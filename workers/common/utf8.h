/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
#ifndef ASSAY_UTF8_H
#define ASSAY_UTF8_H

#include <stddef.h>

/* Bytes of the character at s, of which n > 0 bytes are there; 0 when it is none. NUL is one. */
size_t utf8_length(const void *s, size_t n);

/*
 * Makes a text fit for a terminal and for files that people read, in place: bytes that are no
 * UTF-8 and control characters (C0, DEL and C1) become '?' each; tab and line feed stay.
 */
void utf8_plain(char *text);

#endif
