/* assay --version. */
#ifndef ASSAY_VERSION_H
#define ASSAY_VERSION_H

#include <stdbool.h>
#include <stddef.h>

#define ASSAY_VERSION "0.1.0"

/* Set by the build: a digest over the sources, the same for the same tree. */
const char *version_build_id(void);

int version_print(bool json);

/* The libraries this program runs with: the name, and the version found at run time. */
enum { VERSION_LIBRARIES = 6 };
const char *version_library(int i, char *version, size_t size);

#endif
