/*
 * What any inference engine must answer. A worker program holds one engine; native, oracle and
 * the llama.h references implement this table, exec: engines answer the same over wire.h.
 *
 * An engine is opened once, used by one thread at a time, and may use threads of its own.
 * All outputs are float32 in logical order (trace.h). Callbacks return 0 to go on; any other
 * value ends the evaluation and is returned.
 */
#ifndef ASSAY_ENGINE_H
#define ASSAY_ENGINE_H

#include "err.h"
#include "trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ENGINE_TEXT_MAX = 256, ENGINE_OVERRIDES_MAX = 32 };

struct engine;	/* each engine defines its own */

struct engine_options {
	const char *model_path;		/* a GGUF file */
	const char *tokenizer_path;	/* tokenizer.json or GGUF; NULL = the model's own */
	int n_threads;			/* ≥ 1 */
	int n_ctx;			/* positions the KV cache holds; 0 = min(model's, 4096) */
	int n_ubatch; /* positions evaluated at once; 0 = the engine's default, 512 */
	bool kv_f32;			/* KV cache in F32 instead of F16 */
	bool vocab_only;		/* tokenizer and template only, weights are not mapped */
	bool pin_threads;		/* native: thread i stays on the i-th CPU allowed */
	bool reproduce_defects;		/* native: the reference's known defects (int16 wrap) too */
	const char *profile;		/* numerics profile, NULL = ggml-avx2; native only */
	const char *isa;		/* force an instruction set, NULL = the widest */
	const char *overrides[ENGINE_OVERRIDES_MAX];	/* "key=str:value" of GGUF metadata */
	int n_overrides;
	/* Lines for people while work goes on (a reference's own warnings, loading progress); may be
	 * NULL. Called by the thread that called open or evaluate, until close. */
	int (*on_note)(void *ctx, const char *line);
	void *note_ctx;
};

struct engine_info {
	char arch[32];			/* general.architecture */
	char weights[ENGINE_TEXT_MAX];	/* "i2_s:210 f16:1 f32:121" */
	char profile[64];		/* numerics profile computed; "" when not known */
	char isa[64];			/* instruction set that runs */
	char note[1024]; /* what a person should know (missing pre-tokenizer, …); "" */
	int n_vocab, n_layer, n_embd, n_ff, n_head, n_kv_head, head_dim, n_ctx;
	int32_t bos, eos, eot;		/* −1 when absent */
	bool add_bos;			/* the model's own rule */
};

/* One tensor on its way. values: [num_elements] or NULL when only the record was asked for. */
typedef int engine_trace_fn(void *ctx, const struct trace_record *r, const float *values);

/* logits: [n_vocab], borrowed for the call; with ENGINE_LOGITS_NONE NULL but
 * where an id is chosen. token: id chosen after this position, −1 in prefill positions but the
 * last. n_greedy ids need n_greedy − 1 positions after the prompt: the last id is chosen but not
 * evaluated. LAST and NONE: only positions that choose an id are reported. */
typedef int engine_logits_fn(void *ctx, int pos, int step, int32_t token, const float *logits);

enum engine_logits { ENGINE_LOGITS_ALL, ENGINE_LOGITS_LAST, ENGINE_LOGITS_NONE };

struct engine_eval {
	const int32_t *tokens; /* [n_tokens], evaluated from position 0 on an empty cache */
	int n_tokens;
	int batch; /* positions per call of the engine; 0 = all, 1 = one at a time */
	int n_greedy;			/* ids appended by first maximum after the prompt */
	const int32_t *stops;		/* [n_stops] ids that end greedy decoding */
	int n_stops;
	float temperature;		/* 0 = greedy */
	int top_k;			/* 0 = all */
	float top_p;			/* 1 = all */
	uint64_t seed;
	enum engine_logits logits;
	const float *splice;		/* [n_tokens, n_embd] replaces layer_out of splice_layer */
	int splice_layer;		/* −1 = the embeddings; used only when splice is set */
	uint64_t trace_stages;		/* bit per enum trace_stage; 0 = no trace */
	bool trace_values;		/* pass values, not only records */
	engine_logits_fn *on_logits;	/* positions in order, each exactly once */
	engine_trace_fn *on_trace;	/* execution order */
	void *ctx;			/* for both callbacks */
};

/* Replay one operation of one layer on given inputs: everything it reads that is not a weight. */
enum { ENGINE_REPLAY_INPUTS_MAX = 4 };
struct engine_replay {
	int layer;			/* −1 for embeddings, output_norm, logits */
	enum trace_stage stage;		/* the operation: the one that produces this stage */
	int pos0;			/* absolute position of the first row */
	int n_tokens;
	int n_inputs;
	enum trace_stage input_stage[ENGINE_REPLAY_INPUTS_MAX];
	const float *input[ENGINE_REPLAY_INPUTS_MAX]; /* rows as in trace.h; K/V: from position 0 */
	int64_t input_elements[ENGINE_REPLAY_INPUTS_MAX];
	const int32_t *tokens;		/* [n_tokens] for STAGE_EMBEDDINGS */
	const char *variant;		/* hypothesis to compute instead, NULL = the model's own */
	engine_trace_fn *on_trace;
	void *ctx;
};

/* Counters of operations really executed, taken where the work is done. */
typedef void engine_counter_fn(void *ctx, const char *kernel, uint64_t calls);

/* One dequantised weight: SHA-256 (hex, 64) over its little-endian float32 values. */
typedef int engine_weight_fn(void *ctx, const char *name, const char *type, int n_dims,
			     const int64_t *shape, const char *sha256, const float *values);

struct engine_ops {
	const char *name;
	const char *features;		/* "tokenize,evaluate,trace,replay,splice,weights,vocab_only" */
	int (*open)(struct engine **out, const struct engine_options *o, struct err *e);
	const struct engine_info *(*info)(const struct engine *g);
	/* *ids is allocated, caller frees. */
	int (*tokenize)(struct engine *g, const char *text, size_t bytes, bool add_bos,
			bool parse_special, int32_t **ids, int *n_ids, struct err *e);
	/* Piece of one id: bytes written to out (at most size), negative on error. */
	int (*piece)(struct engine *g, int32_t id, char *out, size_t size, struct err *e);
	int (*evaluate)(struct engine *g, const struct engine_eval *q, struct err *e);
	int (*replay)(struct engine *g, const struct engine_replay *q, struct err *e); /* or NULL */
	/* name NULL = all tensors in file order. */
	int (*weights)(struct engine *g, const char *name, bool values, engine_weight_fn *fn,
		       void *ctx, struct err *e);	/* or NULL */
	void (*counters)(struct engine *g, engine_counter_fn *fn, void *ctx);	/* since open */
	void (*close)(struct engine *g);
};

/* The engines this worker program was linked with, NULL at the end. */
extern const struct engine_ops *const engine_table[];

#endif
