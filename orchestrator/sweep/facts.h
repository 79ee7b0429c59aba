/* What a receipt says about files, machine and time. */
#ifndef ASSAY_FACTS_H
#define ASSAY_FACTS_H

#include "receipt.h"

#include <stddef.h>
#include <stdint.h>

void facts_time(char out[32]);			/* now, RFC 3339, UTC, to the second */
int64_t facts_now_us(void);			/* monotonic */
void facts_hex(const void *bytes, size_t n, char hex[RECEIPT_HASH_HEX]);	/* SHA-256 */

/*
 * Fills model and tokenizer hashes, sizes, CPU and processor count. stamp_path: a file that keeps
 * the model's hash with inode, size and mtime, so that an unchanged file is not read twice; NULL =
 * always read. EXIT_MODEL_LOAD when a file is not there, with what provides it.
 */
int facts_fill(struct receipt_run *u, const char *stamp_path, struct err *e);

/*
 * Writes through a temporary name, fsync, rename, fsync of the directory; what is no regular file
 * is written into. Nothing stays behind when it fails. Codes as output_failed.
 */
int facts_write(const char *path, const char *text, struct err *e);
/* By rename too, but on disk only when the system gets to it: what can be made again. */
int facts_write_soon(const char *path, const char *text, struct err *e);

#endif
