/*
 * Files that are written under a temporary name and renamed when they are whole. A rename takes
 * the place of whatever has the name, so devices, pipes and folders are refused before.
 */
#ifndef ASSAY_OUTPUT_H
#define ASSAY_OUTPUT_H

#include "err.h"

/* EXIT_USAGE when path is empty, or is there and is no regular file. */
int output_check(const char *path, struct err *e);

/*
 * err_set for errno, which was met while doing that to path: EXIT_NO_SPACE when the disk is full,
 * EXIT_USAGE when the place is wrong (read-only, no folder, no permission), else EXIT_INTERNAL.
 */
int output_failed(struct err *e, const char *doing, const char *path);

#endif
