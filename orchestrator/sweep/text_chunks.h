/*
 * A long text as scenarios of ids, the way llama.cpp's perplexity tool cuts it: the whole text is
 * tokenized once (with the model's own rule for BOS, special tokens as text), cut into chunks of
 * `chunk` ids, a rest is dropped, and where the model wants a BOS it replaces each chunk's first
 * id. Every engine with a tokenizer is asked and all must agree.
 */
#ifndef ASSAY_TEXT_CHUNKS_H
#define ASSAY_TEXT_CHUNKS_H

#include "exchange.h"
#include "scenario.h"

struct text_chunks {
	const struct exchange_setup *setup;	/* model, tokenizer, overrides */
	const char *engines[9];			/* [n_engines] */
	int n_engines;
	const char *text;
	size_t bytes;
	int chunk, max_chunks;			/* ids; 0 = all chunks */
	int timeout_s;				/* of each */
	/* out */
	int n_ids, n_tokenizers;		/* of the whole text; engines that were asked */
};

/*
 * EXIT_TOKENS_DIFFER with the index and both ids; EXIT_NOTHING_RAN when there is not one chunk. A
 * recording that does not hold the text is passed over: its EVALUATE still answers by ids.
 */
int text_chunks_make(struct text_chunks *t, struct scenario_set *out, struct err *e);

#endif
