/* The local check as JSON, and as a table for people. */
#ifndef ASSAY_LOCAL_JSON_H
#define ASSAY_LOCAL_JSON_H

#include "verdict/local.h"

#include <jansson.h>
#include <stdio.h>

/* rows: with one object per operation of the reference's run. */
json_t *local_json(const struct local_result *l, bool rows);

void local_text(FILE *f, const struct local_result *l);

#endif
