/*
 * One engine with a model open, asked for traces, single operations and weights, one request
 * after the other: what local checks and explain are made of.
 */
#ifndef ASSAY_SIDE_H
#define ASSAY_SIDE_H

#include "client.h"
#include "engines.h"
#include "exchange.h"
#include "trace.h"

#include <stdbool.h>
#include <stdint.h>

enum { SIDE_STAGES_ALL = 0, SIDE_INPUTS_MAX = 4, SIDE_DEADLINE_MS = 3600 * 1000 };

struct side {
	struct client *client;
	struct wire_builder request;
	char engine[ENGINE_NAME_MAX];
	char arch[64], weights[256], profile[64];
	int n_layer, n_vocab, n_embd, n_ctx;
	bool traces, replays, splices, has_weights;
	float *part;			/* of a tensor that comes in parts, owned */
	int64_t part_cap;
};

/* One whole tensor of a trace; values borrowed for the call. */
typedef int side_trace_fn(void *ctx, const struct trace_record *r, const float *values,
			  struct err *e);

struct side_eval {
	const int32_t *ids;
	int n_ids, n_greedy;
	int batch;			/* positions per call; 0 = all */
	uint64_t stages;		/* bits; SIDE_STAGES_ALL = all */
	bool no_trace;
	const float *splice;		/* [n_ids, n_embd] or NULL */
	int splice_layer;
	side_trace_fn *on_trace;	/* may be NULL */
	/* may be NULL; logits [n_vocab] */
	int (*on_logits)(void *ctx, int pos, int step, int32_t token, const float *logits,
			 struct err *e);
	void *ctx;
};

struct side_op {
	enum trace_stage stage;
	int layer, pos0, n_rows, n_inputs;
	enum trace_stage input_stage[SIDE_INPUTS_MAX];
	const float *input[SIDE_INPUTS_MAX];
	int64_t input_elements[SIDE_INPUTS_MAX];
	const int32_t *ids;		/* [n_rows] for embeddings */
	const char *variant;		/* or NULL */
};

typedef int side_weight_fn(void *ctx, const char *name, const char *type, const char *sha256,
			   struct err *e);

/*
 * Starts the engine and opens the model as the exchange does; reference: the reference's model,
 * overrides and no profile. opposite: the other engine's name, which tells native's profile.
 * n_positions: the least that the context must hold.
 */
int side_open(struct side *s, const char *engine, const struct exchange_setup *u, bool reference,
	      const char *opposite, int n_positions, struct err *e);
void side_close(struct side *s);	/* accepts zeroed */

int side_evaluate(struct side *s, const struct side_eval *q, struct err *e);

/* *out: [*n], allocated, caller frees. */
int side_replay(struct side *s, const struct side_op *op, float **out, int64_t *n, struct err *e);

int side_weights(struct side *s, side_weight_fn *fn, void *ctx, struct err *e);

#endif
