/*
 * A reference behind llama.h as an engine; shared by llama.c, llama_trace.c and llama_replay.c.
 *
 * Parity configuration: no repacking, no flash attention, no offload. Evaluation goes in chunks
 * of the micro-batch size and hands on each chunk's logits, so memory does not grow with the
 * length. The evaluation callback counts operations, reads stages and, for splices and replays,
 * writes over what an operation has just computed, so the next ones read the given values:
 * nothing in the reference is patched.
 */
#ifndef ASSAY_LLAMA_ENGINE_H
#define ASSAY_LLAMA_ENGINE_H

#include "engine.h"
#include "llama_api.h"

enum {
	LLAMA_UBATCH = 512,
	LLAMA_LINE_MAX = 512,
	LLAMA_NOTES_MAX = 8,	/* of the reference's warnings per request; stderr has them all */
	LLAMA_OPS_MAX = 256,	/* operations and types of ggml that are counted apart */
	LLAMA_TYPES_MAX = 64,
	LLAMA_LAYERS_MAX = 512,
	LLAMA_OVERWRITES_MAX = 4,
};

/* Values that replace what a stage has computed. */
struct llama_overwrite {
	enum trace_stage stage;
	int layer;
	int row0;		/* first row of this decode that is replaced */
	int n_rows;
	const float *values;	/* [n_rows, width] */
	int64_t elements;	/* n_rows · width, checked against the tensor */
	bool done;		/* the tensor was met */
};

/* What the callback does during one llama_decode. */
struct llama_watch {
	uint64_t stages;	/* wanted; 0 = no trace */
	int only_layer;		/* INT_MIN = every layer; else this one, and stop after it */
	int row0;		/* rows before it are not reported */
	bool values;
	int pos0, n_tokens;	/* of this decode */
	int seq;
	engine_trace_fn *on_trace;
	void *ctx;
	struct llama_overwrite over[LLAMA_OVERWRITES_MAX];
	int n_over;
	bool stop;		/* the rest of the graph is not wanted */
	int rc;			/* of on_trace; ends the evaluation when not 0 */
	struct err err;
	uint64_t seen[LLAMA_LAYERS_MAX + 1];	/* stages met, by layer + 1 */
	/* a stage that a following bias or scale of the same name may still change */
	struct trace_record pending;
	bool has_pending;
	int n_records;		/* handed on in this decode */
	float *buf;		/* its values in logical order, [cap] */
	size_t cap;
};

struct engine {
	struct engine_info info;
	struct llama_model *model;
	struct llama_context *ctx;	/* NULL with vocab_only */
	struct llama_batch batch;	/* [n_ubatch] */
	int n_ubatch;
	struct llama_watch watch;
	/* by operation and, for matrix products, type of the weights (0 otherwise) */
	uint64_t calls[LLAMA_OPS_MAX][LLAMA_TYPES_MAX];
	int (*on_note)(void *ctx, const char *line);
	void *note_ctx;
	char first_error[LLAMA_LINE_MAX];	/* of a request, in the reference's own words */
	char line[LLAMA_LINE_MAX];		/* a log line that is not finished */
	int line_level;
	int n_notes;		/* warnings handed on since the request began */
	int percent;		/* of loading, last told */
};

/* Evaluates n ids from position pos0 on; logits of all of them are kept when all is set, else of
 * the last. Watches as g->watch says. */
int llama_engine_decode(struct engine *g, const int32_t *ids, int n, int pos0, bool all,
			struct err *e);

/* The callback given to the context; user_data is the engine. */
bool llama_watch_eval(struct ggml_tensor *t, bool ask, void *user_data);
/* Before and after a decode: forget what was seen; hand on what is pending, name what is missing. */
void llama_watch_begin(struct llama_watch *w, int pos0, int n_tokens, int seq);
int llama_watch_end(struct engine *g, struct err *e);

int llama_engine_replay(struct engine *g, const struct engine_replay *q, struct err *e);

#endif
