/*
 * What the files of the tokenizer share: the vocabulary as interned strings, the merge loop, the
 * partition into special tokens and text. Nothing outside tokenizer*.c includes this.
 */
#ifndef ASSAY_TOKENIZER_IMPL_H
#define ASSAY_TOKENIZER_IMPL_H

#include "pretok.h"
#include "tokenizer.h"

enum {
	TOKENIZER_VOCAB_MAX = 1 << 22,		/* tokens */
	TOKENIZER_MERGES_MAX = 1 << 23,
	TOKENIZER_TOKEN_BYTES_MAX = 1 << 16,
	TOKENIZER_UNIGRAM_BYTES_MAX = 256,	/* of one token that Unigram tries at every place */
	TOKENIZER_TEXT_BYTES_MAX = 1 << 26,	/* of one text to encode, of a whole vocabulary */
};

/* Tokens for filling in the middle: prefix, suffix, middle, padding, repository, file. */
enum { TOKENIZER_FIM_GROUPS = 6 };

enum token_attr {
	TOKEN_UNKNOWN = 1, TOKEN_UNUSED = 2, TOKEN_NORMAL = 4, TOKEN_CONTROL = 8, TOKEN_USER = 16,
	TOKEN_BYTE = 32, TOKEN_LSTRIP = 64, TOKEN_RSTRIP = 128,
};

/* A string of the vocabulary: a token, or a part that only merges know. */
struct symbol {
	uint32_t at, n;		/* bytes in text */
	int32_t token;		/* id, −1: not a token */
};

struct token {
	int32_t symbol;
	float score;
	uint16_t attr;		/* bits of enum token_attr */
};

struct merge {
	uint64_t pair;		/* left symbol << 32 | right symbol */
	uint32_t rank;		/* smaller merges first */
	int32_t symbol;		/* of the two together; −1 marks a free slot */
};

enum tokenizer_kind {
	TOKENIZER_BPE, TOKENIZER_SPM, TOKENIZER_UNIGRAM,
	TOKENIZER_NONE,	/* the file says that it has no vocabulary: ids alone */
};

struct tokenizer {
	struct tokenizer_info info;
	enum tokenizer_kind kind;
	const struct pretok *pre;	/* BPE */
	bool ignore_merges;
	bool by_rank;      /* SPM from tokenizer.json: merges as listed, not by score */
	bool space_prefix; /* SPM: a space before text that follows nothing or a special */
	bool prefix_first;   /* … only where the whole text begins, */
	bool prefix_missing; /* … only where none is there (tokenizer.json's Metaspace) */
	bool split_blanks;   /* no piece reaches over the beginning of a word */
	bool own_texts_only; /* no token is special for its text alone (tokenizer.json) */
	bool fim_named[TOKENIZER_FIM_GROUPS]; /* the file says which token this is */

	char *text;			/* bytes of all symbols */
	size_t text_bytes, text_cap;
	struct symbol *symbols;		/* [n_symbols] */
	uint32_t n_symbols, symbol_cap;
	uint32_t *slots;		/* [n_slots] symbol + 1, by hash of the string; 0 is free */
	uint32_t n_slots;		/* a power of two */
	struct token *tokens;		/* [info.n_vocab] */
	struct merge *merges;		/* [n_merge_slots], by hash of the pair */
	uint32_t n_merges, n_merge_slots;
	int32_t *specials;		/* [n_specials] ids, longest text first */
	int n_specials;
	uint32_t token_bytes_max;

	int32_t byte_symbol[256];	/* BPE: symbol of each byte's letter, −1 */
	int32_t byte_token[256]; /* SPM: <0xHH> or the byte itself; BPE: the bare byte; −1 */
};

/* ---- tokenizer_vocab.c: building ---------------------------------------------------------- */

struct tokenizer *tokenizer_new(enum tokenizer_kind kind);
int32_t tokenizer_symbol(const struct tokenizer *t, const char *s, size_t n);	/* −1 */
/* The symbol of s, added where it is new; −1 when the vocabulary's text limit is reached. */
int32_t tokenizer_intern(struct tokenizer *t, const char *s, size_t n);
/* Sets the vocabulary size: tokens are then added as ids 0, 1, …  */
int tokenizer_reserve(struct tokenizer *t, uint64_t n_vocab, struct err *e);
/* "" becomes [EMPTY_id]; a text twice is an error, as for the references. */
int tokenizer_add_token(struct tokenizer *t, int32_t id, const char *s, size_t n, float score,
			unsigned attr, struct err *e);
int tokenizer_reserve_merges(struct tokenizer *t, uint64_t n, struct err *e);
/* A pair that is there already keeps its rank. */
int tokenizer_add_merge(struct tokenizer *t, const char *left, size_t n_left, const char *right,
			size_t n_right, uint32_t rank, struct err *e);
/* NULL when there is no such pair. */
const struct merge *tokenizer_merge(const struct tokenizer *t, int32_t left, int32_t right);
/* After the last token and flag: special tokens by their texts, tables, hash. */
int tokenizer_finish(struct tokenizer *t, struct err *e);

/* ---- tokenizer_merge.c: the two merging algorithms ---------------------------------------- */

struct encoding {
	const struct tokenizer *t;
	int32_t *ids;
	size_t *offsets;
	int n, cap;
};

void encoding_add(struct encoding *o, int32_t id, size_t offset);
/* Text without special tokens; base is its offset in the whole text. */
void encode_bpe(struct encoding *o, const char *s, size_t n, size_t base);

/* SentencePiece's form of a text: every space is ▁. */
struct blanked {
	char *text;		/* [n] */
	uint32_t *source;	/* [n] offset in the text of each byte */
	size_t n;
};
void blank_text(struct blanked *b, const char *s, size_t n, bool prefix);
void blanked_free(struct blanked *b);
bool begins_blank(const char *s, size_t n);	/* with ▁ */
/* A token, or its bytes' tokens, or one unknown token per byte. */
int encode_piece(struct encoding *o, const struct blanked *b, uint32_t at, uint32_t n,
		 size_t base, struct err *e);
/* prefix: put a space in front. Fails where a byte has no token and there is no unknown token. */
int encode_spm(struct encoding *o, const char *s, size_t n, size_t base, bool prefix,
	       struct err *e);
/* The most likely cut by token scores (Viterbi), same conventions. */
int encode_unigram(struct encoding *o, const char *s, size_t n, size_t base, bool prefix,
		   struct err *e);

/* ---- tokenizer_special.c ------------------------------------------------------------------ */

struct fragment {
	size_t at, n;		/* bytes of the text */
	int32_t id;		/* special token, −1: text to encode */
};

/* Cuts text into special tokens and the rest, longest tokens first over the whole text. The
 * array is allocated, caller frees. */
struct fragment *tokenizer_partition(const struct tokenizer *t, const char *text, size_t n,
				     bool parse_special, size_t *n_fragments);

/* Memory that must be there: ends the program with a message when it is not. */
void *tokenizer_alloc(void *old, size_t n, size_t size);

#endif
