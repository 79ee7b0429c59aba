/*
 * One builder of one key at a time: an flock that children inherit, so that it is free only when
 * nothing of a killed builder runs any more.
 */
#ifndef ASSAY_LOCK_FILE_H
#define ASSAY_LOCK_FILE_H

#include "err.h"

typedef void lock_file_wait_fn(void *ctx, const char *line);

/* Waits; wait is told once when somebody else holds it. The descriptor, or negative. */
int lock_file_take(const char *path, lock_file_wait_fn *wait, void *ctx, struct err *e);
void lock_file_drop(int fd);	/* accepts −1 */

#endif
