/* Where in a JSON text a value stands, for error messages about valid JSON with wrong content. */
#ifndef ASSAY_JSON_LINE_H
#define ASSAY_JSON_LINE_H

/*
 * The line (from 1) of the value at path, "models/2/sha256": object keys and array indices. For a
 * key that occurs twice, the last. text must be valid JSON; 0 when nothing is there.
 */
int json_line_of(const char *text, const char *path);

#endif
