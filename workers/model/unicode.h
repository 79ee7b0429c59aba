/*
 * Code points: decoding as the references do it, general categories and case.
 * Tables: Unicode Character Database (unicode_table.c, generated).
 */
#ifndef ASSAY_UNICODE_H
#define ASSAY_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One bit per general category group: \p{L}, \p{N}, …; UC_U is unassigned. */
enum unicode_class {
	UC_U = 1, UC_N = 2, UC_L = 4, UC_Z = 8, UC_M = 16, UC_P = 32, UC_S = 64, UC_C = 128,
	UC_WHITE = 256,		/* White_Space, \s; beside the category */
};

enum { UNICODE_REPLACEMENT = 0xFFFD, UNICODE_END = 0x110000 };

/*
 * The code point at s and how many bytes it took (1…4; n ≥ 1). Lenient as llama.cpp's decoder:
 * the lead byte decides the length, continuation bytes are checked, overlong forms and surrogates
 * pass. What does not decode, and what lies beyond U+10FFFF, is one byte of U+FFFD.
 */
uint32_t unicode_decode(const char *s, size_t n, int *bytes);
/* UTF-8 of cp (< UNICODE_END) into out[4]; the number of bytes. */
int unicode_encode(uint32_t cp, char *out);
/* Bytes that the lead byte c announces: 1…4 (a continuation byte: 1). */
int unicode_length(char c);
/* Strict: shortest forms, no surrogates, nothing beyond U+10FFFF. */
bool unicode_valid(const char *s, size_t n);

/* Category bit, with UC_WHITE where it applies; 0 beyond U+10FFFF. */
unsigned unicode_class(uint32_t cp);
uint32_t unicode_to_lower(uint32_t cp);	/* simple case mapping */
uint32_t unicode_to_upper(uint32_t cp);

/* GPT-2's byte alphabet: every byte has a printable code point, and back (−1: not one of them). */
uint32_t unicode_from_byte(uint8_t b);
int unicode_to_byte(uint32_t cp);

#endif
