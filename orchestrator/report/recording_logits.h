/*
 * Logits of a recording as bytes. Two forms:
 *
 *	f32		little-endian float32 [n_vocab] per position: every bit
 *	compact		per position: uint32 0, float32 low, float32 step, RECORDING_EXACT times
 *			(uint32 id, float32 value), the greatest values and exact; then n_vocab low
 *			bytes and n_vocab high bytes of codes, value = low + code · step. The error
 *			of a value is at most step / 2 = (greatest − low) / 131070, and none for the
 *			exact ones. A position with NaN or Inf: uint32 1, then float32 [n_vocab]
 *
 * The planes of bytes are apart because the high one shrinks well.
 */
#ifndef ASSAY_RECORDING_LOGITS_H
#define ASSAY_RECORDING_LOGITS_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RECORDING_EXACT = 64 };

/* Most bytes that a position takes in the compact form. */
size_t recording_row_bytes_max(int n_vocab);

/* Bytes written to out; *error = greatest |value − what is read back|. */
size_t recording_row_pack(uint8_t *out, const float *row, int n_vocab, double *error);

/* Takes pieces of any size and gives rows. Zero-initialise. */
struct recording_rows {
	bool compact;
	int n_vocab;
	uint8_t *have;		/* [n_have] of the present row */
	size_t n_have;
	float *row;
};

typedef int recording_row_fn(void *ctx, const float *row, struct err *e);	/* [n_vocab] */

int recording_rows_feed(struct recording_rows *s, const uint8_t *bytes, size_t n,
			recording_row_fn *fn, void *ctx, struct err *e);
bool recording_rows_whole(const struct recording_rows *s);	/* no row is cut off */
void recording_rows_free(struct recording_rows *s);

#endif
