/*
 * What the HTML pages share: one self-contained file each, no external resource, readable from
 * file://, light and dark by the reader's setting, and line charts as inline SVG.
 */
#ifndef ASSAY_PAGE_H
#define ASSAY_PAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

void page_text(FILE *f, const char *s);		/* escaped for text and attributes; NULL: nothing */
void page_begin(FILE *f, const char *title);	/* up to <main> and the heading */
/* The page's data as <script type="application/json">, `<` written as \u003c; then the end. */
void page_end(FILE *f, const json_t *data);

/* A coloured word: kind "good", "bad", "warn" or "". */
void page_badge(FILE *f, const char *kind, const char *text);

struct page_point {
	char label[96];		/* tooltip: date, commit */
	char x[16];		/* below the axis: date */
	double y, low, high;	/* low and high: spread, equal to y where there is none */
	bool bad;		/* drawn as a failure */
};

struct page_chart {
	const char *title, *unit;
	const struct page_point *points;	/* [n] oldest first */
	int n;
	bool log;		/* decades; a value of 0 lies on the floor, labelled 0 */
};

void page_chart(FILE *f, const struct page_chart *c);

#endif
