/*
 * The vocabulary of generated models: a small byte-level BPE of our own, or another file's.
 */
#ifndef ASSAY_FIXTURE_VOCAB_H
#define ASSAY_FIXTURE_VOCAB_H

#include "gguf_write.h"

/* Ids of the built-in vocabulary without padding: 256 bytes, the merges, five special tokens. */
int fixture_vocab_size(void);

/* Writes the built-in tokenizer.ggml.* keys, padded with unused tokens to n_vocab ids. */
int fixture_vocab_write(struct gguf_writer *w, int n_vocab, struct err *e);

/* Copies every tokenizer.* key of g. */
void fixture_vocab_copy(struct gguf_writer *w, const struct gguf *g);

#endif
