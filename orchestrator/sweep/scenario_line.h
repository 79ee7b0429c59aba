/* Where in a scenario file something stands; the JSON library forgets it. */
#ifndef ASSAY_SCENARIO_LINE_H
#define ASSAY_SCENARIO_LINE_H

#include <stddef.h>

/*
 * Line (from 1) of `key` in the index'th object of the list of scenarios, of the object itself
 * when key is NULL or not there. The text is valid JSON.
 */
int scenario_line(const char *text, size_t bytes, int index, const char *key);

#endif
