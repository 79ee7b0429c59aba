/* The generated tables of unicode_table.c (ci/gen-unicode.py); used by unicode.c only. */
#ifndef ASSAY_UNICODE_TABLE_H
#define ASSAY_UNICODE_TABLE_H

#include "unicode.h"

#include <stdint.h>

struct unicode_range {
	uint32_t first;		/* up to the next range's first */
	uint32_t class;		/* enum unicode_class */
};

/* Every step-th code point of first…last maps to itself + delta. */
struct unicode_case {
	uint32_t first, last, step;
	int32_t delta;
};

extern const char unicode_version[];
extern const struct unicode_range unicode_ranges[];
extern const int unicode_n_ranges;
extern const uint32_t unicode_white[];
extern const int unicode_n_white;
extern const struct unicode_case unicode_lower[], unicode_upper[];
extern const int unicode_n_lower, unicode_n_upper;

#endif
