/*
 * Which libraries a folder held when it was recorded: a reference whose libraries went or were
 * replaced since is not the one that passed its self-check.
 */
#ifndef ASSAY_BUILD_FILES_H
#define ASSAY_BUILD_FILES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* {"libllama.so": [bytes], …} of the lib*.so* in dir; with times [bytes, mtime in ns]. The caller owns it. */
json_t *build_files(const char *dir, bool times);

/* The first that is not as recorded, in words ("/x/lib/libllama.so is gone"); false: all are. */
bool build_files_changed(const json_t *files, const char *dir, char *what, size_t size);

bool build_files_is_library(const char *name);	/* lib*.so, lib*.so.* */

#endif
