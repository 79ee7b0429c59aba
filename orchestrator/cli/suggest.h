/* The nearest known name to a mistyped one. */
#ifndef ASSAY_SUGGEST_H
#define ASSAY_SUGGEST_H

/*
 * The first name that begins with what was typed (three characters or more), else the nearest; NULL
 * when its edit distance is over a third of the length, at least 2.
 */
const char *suggest(const char *typed, const char *const *names, int n);

#endif
