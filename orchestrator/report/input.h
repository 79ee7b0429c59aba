/* Files that somebody hands in: whatever lies there, reading ends. */
#ifndef ASSAY_INPUT_H
#define ASSAY_INPUT_H

#include <jansson.h>
#include <stdio.h>

enum { INPUT_JSON_MAX = 256 << 20 };

/* For reading; a pipe that nobody writes to is empty and is not waited for. NULL and errno. */
FILE *input_open(const char *path);

/* One JSON value without duplicated keys, of at most INPUT_JSON_MAX bytes; NULL and *why (may be NULL). */
json_t *input_json(const char *path, json_error_t *why);

#endif
