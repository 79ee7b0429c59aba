/* A second name or copy of a file, as cheap as the file system allows. */
#ifndef ASSAY_PLACE_H
#define ASSAY_PLACE_H

#include "err.h"

enum place_how { PLACE_REFLINK, PLACE_HARD_LINK, PLACE_COPY };

/*
 * Makes `to` the same bytes as `from`: shares the extents, else links, else copies (in this order),
 * always through a temporary name beside `to`, synced before it is renamed. An existing `to` is
 * replaced. A copy that finds no room is NO_SPACE.
 */
int place_file(const char *from, const char *to, enum place_how *how, struct err *e);

const char *place_name(enum place_how how);

#endif
