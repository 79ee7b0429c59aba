/*
 * The trend page: speed and accuracy of published nights over time, one section per host class
 * (CPU model, processors, threads) and model. Speeds of different host classes never share a line.
 */
#ifndef ASSAY_HISTORY_H
#define ASSAY_HISTORY_H

#include <jansson.h>

/*
 * nights: records of kind "nightly" (docs/nightly.md), oldest first, each with "folder" set to its
 * name beside the page; a record whose "sealed" is false was changed after it was made and is
 * listed, never drawn. Caller frees.
 */
char *history_html(const json_t *nights);

#endif
