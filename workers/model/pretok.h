/*
 * Pre-tokenizers of byte-level BPE: where a text is cut before merging. Each is the meaning of
 * the regular expressions that llama.cpp (src/llama-vocab.cpp, v0.5.0) runs for a name in
 * tokenizer.ggml.pre, written as scanners that look at each code point a bounded number of times.
 */
#ifndef ASSAY_PRETOK_H
#define ASSAY_PRETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a name in tokenizer.ggml.pre stands for. */
struct pretok {
	const char *name;
	uint8_t stages[8];	/* enum stage of pretok.c; 0 at the end; each cuts finer */
	bool ignore_merges;	/* a word that is a token is taken whole */
	bool add_bos;		/* the rule where the file has no add_bos_token */
	bool no_bos;		/* no default BOS id */
	const char *regex;	/* of tokenizer.json's first Split, NULL where another row has it */
	int n_splits;		/* how many Splits go with it; 0 is one */
};

/* By name; NULL or "" is "default" as in llama.cpp. NULL when unknown. */
const struct pretok *pretok_find(const char *name);
/* The known names, "llama-bpe, gpt-2, …", cut at size. */
void pretok_names(char *out, size_t size);
/* By the first of n_splits regular expressions of a tokenizer.json; NULL when none has it. */
const struct pretok *pretok_by_regex(const char *regex, int n_splits);

/* One stretch of text while it is cut. Positions are code points. */
struct pretok_text {
	const uint32_t *cp;	/* [n] */
	const uint16_t *cls;	/* [n], unicode_class */
	uint8_t *cut;		/* [n + 1]: 1 where a word begins; cut[0] and cut[n] are set */
	size_t n;
};

void pretok_split(const struct pretok *p, const struct pretok_text *t);

/* The word scanners of pretok_words.c: cut the segment [a, b). */
enum { PRETOK_DIGITS_ANY = 0x7FFFFFFF };
struct pretok_words {
	bool contractions;	/* 's 't 're 've 'm 'll 'd in any case are words */
	int digits;		/* \p{N}{1,digits} */
	bool marks;		/* \p{M} counts as a letter in words */
	bool newline_tail;	/* punctuation takes the newlines after it along */
};
void pretok_gpt2(const struct pretok_text *t, size_t a, size_t b);
void pretok_llama3(const struct pretok_text *t, size_t a, size_t b, const struct pretok_words *w);
void pretok_deepseek3(const struct pretok_text *t, size_t a, size_t b);
void pretok_cased(const struct pretok_text *t, size_t a, size_t b, int digits, bool contractions);

#endif
