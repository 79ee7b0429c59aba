/* The nearest known name to a mistyped one. */
#ifndef ASSAY_SUGGEST_H
#define ASSAY_SUGGEST_H

/* NULL when nothing is near (edit distance over a third of the length, at least 2). */
const char *suggest(const char *typed, const char *const *names, int n);

#endif
