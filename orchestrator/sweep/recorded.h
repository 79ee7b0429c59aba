/*
 * The engine "recorded:FILE": a child of this program (hidden command __recorded) that speaks
 * wire.h and answers from a recording, so that nothing else needs to know of recordings.
 *
 *	OPEN		the archive is read and checked whole; model, tokenizer, overrides and KV
 *			type must be those recorded (EXIT_HASH_MISMATCH, EXIT_USAGE)
 *	TEMPLATE	by template name, system prompt and prompt as they were asked for
 *	TOKENIZE	by text and flags; DETOKENIZE by ids
 *	EVALUATE	by ids; as many greedy ids as recorded, or fewer
 *
 * Anything else is FAIL with what the recording holds (EXIT_NO_REFERENCE). HELLO, OPENED and DONE
 * repeat what the engine said, with recorded=, recorded_at= and, of compact logits,
 * max_error=; the profile of a compact recording ends in "~compact": its bits are not the engine's.
 */
#ifndef ASSAY_RECORDED_H
#define ASSAY_RECORDED_H

#include <stddef.h>

#define RECORDED_COMPACT "~compact"

int recorded_main(const char *path);	/* exit code */

/* The numerics profile of the recorded engine where native can compute it too, without
 * RECORDED_COMPACT; "" for any other. */
void recorded_profile(const char *path, char *out, size_t size);

#endif
