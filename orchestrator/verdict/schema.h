/*
 * A JSON Schema (draft-07) validator for the keywords that our own schema uses. A keyword it does
 * not know is an error of the schema, so that it can never be laxer than an independent validator.
 *
 * Known: $ref ("#/definitions/…"), type, enum, const, required, properties, additionalProperties,
 * items, minItems, maxItems, minLength, maxLength, pattern (POSIX extended), minimum, maximum,
 * allOf, anyOf, if/then/else; $schema, $id, title, description and definitions are passed over.
 */
#ifndef ASSAY_SCHEMA_H
#define ASSAY_SCHEMA_H

#include <jansson.h>

enum { SCHEMA_MESSAGE_MAX = 400 };

/* Called for every violation: where is a JSON pointer. */
typedef void schema_report_fn(void *ctx, const char *where, const char *message);

/* Number of violations; 0 = valid. report may be NULL. */
int schema_check(const json_t *schema, const json_t *value, schema_report_fn *report, void *ctx);

#endif
