/*
 * What the commands that ask one engine have in common: its options, opening the model, and
 * turning what the user gave (a prompt, ids, a file of ids) into token ids.
 */
#ifndef ASSAY_ENGINE_CALL_H
#define ASSAY_ENGINE_CALL_H

#include "cli.h"
#include "sweep/client.h"

#include <stddef.h>
#include <stdint.h>

/* Rows of a command's option table. */
#define ENGINE_CALL_OPTS                                                                           \
	{"model", OPT_STR, "FILE", "the model, a GGUF file", NULL, "CROSSVAL_GGUF", NULL, 'm'},    \
	{"tokenizer", OPT_STR, "FILE", "tokenizer.json or GGUF instead of the model's own", NULL,  \
	 "CROSSVAL_GGUF_TOKENIZER", NULL, 0},                                                      \
	{"engine", OPT_STR, "NAME", "native, oracle, a built reference or exec:COMMAND", "native", \
	 NULL, NULL, 0},                                                                           \
	{"threads", OPT_INT, "N", "threads of the engine; 0 = all processors", "0",                \
	 "OMP_NUM_THREADS", NULL, 't'},                                                            \
	{"ctx", OPT_INT, "N", "positions the cache holds; 0 = what is needed", "0", NULL, NULL, 0}, \
	{"ubatch", OPT_INT, "N", "positions evaluated at once; 0 = the engine's default", "0",     \
	 NULL, NULL, 0},                                                                           \
	{"profile", OPT_STR, "NAME", "numerics: ggml-avx2, ggml-avx512, ggml-fp16, each also with " \
	 "-gcc or -clang", NULL, NULL, NULL, 0},                                                   \
	{"isa", OPT_STR, "NAME", "instruction set instead of the widest", NULL, NULL, NULL, 0},    \
	{"kv", OPT_STR, "TYPE", "KV cache type", "f16", NULL, "f16|f32", 0},                       \
	{"override-kv", OPT_LIST, "KEY=TYPE:VALUE", "metadata instead of the file's",  \
	 NULL, NULL, NULL, 0},                                                                     \
	{"reproduce-defects", OPT_FLAG, NULL, "native: the reference's known defects too", NULL,   \
	 NULL, NULL, 0},                                                                           \
	{"allow-bad-reference", OPT_FLAG, NULL, "use a reference that fails its self-check",       \
	 NULL, "ASSAY_ALLOW_BAD_REFERENCE", NULL, 0},                                              \
	{"pin", OPT_FLAG, NULL, "each thread stays on one processor", NULL, NULL, NULL, 0},        \
	{"timeout", OPT_INT, "S", "seconds the evaluation may take", "3600", NULL, NULL, 0}

/* Rows for what to evaluate. */
#define ENGINE_CALL_PROMPT_OPTS                                                                    \
	{"prompt", OPT_STR, "TEXT", "the prompt; also as an argument", NULL, NULL, NULL, 'p'},     \
	{"prompt-file", OPT_STR, "FILE", "the prompt from a file; - is standard input", NULL, NULL, \
	 NULL, 'f'},                                                                               \
	{"tokens", OPT_STR, "IDS", "token ids instead of a prompt: 1,2,3", NULL, NULL, NULL, 0},   \
	{"tokens-file", OPT_STR, "FILE", "token ids from a file, separated by spaces, commas or "  \
	 "line ends", NULL, NULL, NULL, 0},                                                        \
	{"prompt-template", OPT_STR, "NAME", "raw, instruct, llama3-chat, bitnet-chat, chatml, "   \
	 "auto", "raw", NULL, NULL, 0},                                                            \
	{"system-prompt", OPT_STR, "TEXT", "for templates that have one", NULL, NULL, NULL, 0},    \
	{"no-bos", OPT_FLAG, NULL, "leave the beginning-of-sequence token out", NULL, NULL, NULL, 0}, \
	{"parse-special", OPT_FLAG, NULL, "special tokens in the prompt's text are parsed", NULL,  \
	 NULL, NULL, 0}

enum { ENGINE_CALL_STOPS_MAX = 8 };

struct engine_call {
	struct client *client;
	struct wire_builder request;
	char engine[64], arch[64], profile[64], isa[64], weights[256], note[1024];
	int n_vocab, n_layer, n_embd, n_ctx;
	int32_t eos, eot;
	bool add_bos;			/* the model's own rule */
	int32_t *ids;			/* [n_ids], owned */
	int n_ids;
	char template_name[32];		/* "tokens" when ids were given */
	char *stops[ENGINE_CALL_STOPS_MAX];	/* texts that end a reply, owned */
	int n_stops;
};

/*
 * Reads the options, starts the engine, opens the model with room for n_more further positions and
 * makes the ids. n_more < 0: opens only. Notes of the engine go to standard error.
 */
int engine_call_open(struct engine_call *g, struct cli *c, int n_more, struct err *e);
void engine_call_close(struct engine_call *g);		/* accepts zeroed */

/* Begins g->request as an EVALUATE of the ids; the caller adds keys, then engine_call_run. */
void engine_call_begin(struct engine_call *g);
int engine_call_run(struct engine_call *g, client_frame_fn *fn, void *ctx, struct err *e);
/* EXIT_INFERENCE when the frame says that its logits are not all finite. */
int engine_call_finite(const char *engine, const struct wire_frame *f, int n_vocab, struct err *e);

/* Texts of ids: piece i is text[at[i]] to text[at[i + 1]]. Owns both; pieces may cut UTF-8. */
struct engine_pieces {
	char *text;
	size_t *at;		/* [n + 1] */
	int n;
};
int engine_call_pieces(struct engine_call *g, const int32_t *ids, int n, struct engine_pieces *out,
		       struct err *e);
void engine_pieces_free(struct engine_pieces *p);	/* accepts zeroed */

/* Ids from text: separated by anything that is not a digit; *ids is allocated. */
int engine_call_parse_ids(const char *text, int32_t **ids, int *n, struct err *e);

#endif
