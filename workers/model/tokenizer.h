/*
 * Text to ids and back, as the references do it: byte-level BPE with the pre-tokenizers of
 * llama.cpp (llama-bpe, gpt-2, qwen2, deepseek-llm, falcon3, default), SentencePiece ("llama"),
 * from GGUF metadata or from a Hugging Face tokenizer.json.
 */
#ifndef ASSAY_TOKENIZER_H
#define ASSAY_TOKENIZER_H

#include "err.h"
#include "gguf.h"

#include <stdbool.h>
#include <stdint.h>

struct tokenizer;	/* read-only after open; owns all it needs (the GGUF may be closed) */

struct tokenizer_info {
	char model[32];		/* "gpt2", "llama", … */
	char pre[64];		/* pre-tokenizer used */
	bool pre_missing;	/* the file named none: default is used, as llama.cpp does */
	int n_vocab;
	int32_t bos, eos, eot, unk, pad;	/* −1 when absent */
	bool add_bos, add_eos;	/* the model's own rule */
	char note[512];		/* what a person should know; "" */
	char hash[65];		/* SHA-256 over model, pre, flags, tokens, merges, scores, types */
};

/* overrides: "tokenizer.ggml.pre=str:llama-bpe" …; keys that are not the tokenizer's are ignored */
int tokenizer_from_gguf(struct tokenizer **out, const struct gguf *g, const char *const *overrides,
			int n_overrides, struct err *e);
/* Hugging Face's tokenizer.json, at most 64 MiB: BPE (byte-level or with byte fallback), Unigram. */
int tokenizer_from_json(struct tokenizer **out, const char *path, struct err *e);
int tokenizer_from_json_bytes(struct tokenizer **out, const char *s, size_t n, struct err *e);
void tokenizer_free(struct tokenizer *t);	/* accepts NULL */

const struct tokenizer_info *tokenizer_info(const struct tokenizer *t);

/*
 * *ids is allocated, caller frees. add_bos: BOS and EOS where the model's own rule (add_bos,
 * add_eos) wants them, as llama_tokenize's add_special. parse_special: texts of control tokens
 * become these tokens; user-defined tokens always do. offsets, when not NULL: byte offset of each
 * id's first byte in text, allocated alike.
 * Invalid UTF-8: byte-level BPE reads each bad byte as U+FFFD (overlong forms and surrogates pass),
 * SentencePiece keeps the bytes (byte tokens). Texts have at most 64 MiB.
 */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, bool add_bos,
		     bool parse_special, int32_t **ids, int *n_ids, size_t **offsets,
		     struct err *e);

/* Bytes of one id into out (at most size): the number of bytes, or negative. special: render
 * control tokens as their text, else as nothing. */
int tokenizer_piece(const struct tokenizer *t, int32_t id, bool special, char *out, size_t size,
		    struct err *e);
/* Whole text of ids; *text is allocated, NUL-terminated, caller frees. SentencePiece: the space
 * that encoding put in front of a text, and behind a special token, is dropped again. */
int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, int n, bool special,
		     char **text, size_t *bytes, struct err *e);

int32_t tokenizer_find(const struct tokenizer *t, const char *token);	/* exact text; −1 */

#endif
