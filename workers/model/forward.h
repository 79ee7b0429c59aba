/*
 * The forward pass: one for all architectures, an ordered list of the operations of ops.h, with
 * every canonical stage of trace.h offered to a callback on the way.
 *
 * A call evaluates up to n_ubatch positions on top of what the cache holds. Shapes of the trace
 * are those of the call: a prompt that needs several calls gives one record per call and stage,
 * in order. Masked cells of attn_scores and attn_softmax are 0.
 */
#ifndef ASSAY_FORWARD_H
#define ASSAY_FORWARD_H

#include "engine.h"
#include "session.h"

struct forward_call {
	const int32_t *tokens;		/* [n] */
	int n;				/* ≤ n_ubatch */
	int pos0;			/* positions already in the cache */
	int seq;			/* trace_record.seq: 0 prefill, 1… decode */
	int first_out;			/* rows from here on are wanted; n = none (cache only) */
	uint64_t trace_stages;
	bool trace_values;
	engine_trace_fn *on_trace;
	void *ctx;
	const float *splice;		/* [n, n_embd] replaces layer_out of splice_layer */
	int splice_layer;
};

/* One position's logits [n_vocab], borrowed. row counts from the call's first row. */
typedef int forward_logits_fn(void *ctx, int row, const float *logits);

/* Runs all layers and, for the wanted rows, the head: fn gets each wanted row in order; NULL skips
 * the head. Returns what a callback returned when not 0, or negative with e set. */
int forward_run(struct session *s, const struct forward_call *c, forward_logits_fn *fn, void *ctx,
		struct err *e);

/* The whole of engine.h's evaluate: prompt in micro-batches, then decoding. */
int forward_evaluate(struct session *s, const struct engine_eval *q, struct err *e);

#endif
