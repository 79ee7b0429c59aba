/*
 * One operation of the reference on given inputs: the whole graph runs on ids that mean nothing,
 * each input's stage is overwritten as soon as it was computed, and the stage that is asked for
 * is read. Costs an evaluation; changes nothing in the reference.
 */
#include "llama_engine.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Keys and values come from position 0 on, everything else from pos0. */
static bool from_zero(enum trace_stage s)
{
	return s == STAGE_K_ROPE || s == STAGE_V;
}

/* The layer whose stage an input is: what enters a layer is what left the one before. */
static int input_layer(const struct engine *g, const struct engine_replay *q, enum trace_stage *s)
{
	if (*s == STAGE_EMBEDDINGS || *s == STAGE_OUTPUT_NORM)
		return -1;
	if (*s != STAGE_LAYER_OUT)
		return q->layer;
	if (q->layer < 0)
		return g->info.n_layer - 1;
	if (q->layer == 0)
		*s = STAGE_EMBEDDINGS;
	return q->layer - 1;
}

static int add_input(struct engine *g, const struct engine_replay *q, int i, struct err *e)
{
	struct llama_watch *w = &g->watch;
	enum trace_stage stage = q->input_stage[i];
	int layer = input_layer(g, q, &stage);
	int row0 = 0, n_rows = q->pos0 + q->n_tokens;

	if (!from_zero(stage)) {
		row0 = q->pos0;
		n_rows = q->n_tokens;
	}
	if (q->input_elements[i] <= 0 || q->input_elements[i] % n_rows)
		return err_set(e, EXIT_USAGE, "input %s has %lld values, which are not %d rows",
			       trace_stage_name(stage), (long long)q->input_elements[i], n_rows);
	w->over[w->n_over++] = (struct llama_overwrite){.stage = stage,
							.layer = layer,
							.row0 = row0,
							.n_rows = n_rows,
							.values = q->input[i],
							.elements = q->input_elements[i]};
	return 0;
}

/* The ids that run: the given ones for embeddings, else the first of the vocabulary. */
static int32_t *make_ids(const struct engine_replay *q)
{
	int n = q->pos0 + q->n_tokens;
	int32_t *ids = calloc((size_t)n, sizeof(*ids));

	if (ids && q->tokens)
		memcpy(ids + q->pos0, q->tokens, (size_t)q->n_tokens * sizeof(*ids));
	return ids;
}

int llama_engine_replay(struct engine *g, const struct engine_replay *q, struct err *e)
{
	struct llama_watch *w = &g->watch;
	int n = q->pos0 + q->n_tokens, rc = 0;
	int32_t *ids;

	if (!g->ctx)
		return err_set(e, EXIT_USAGE, "the model was opened for its vocabulary only");
	if (q->variant)
		return err_set(e, EXIT_USAGE, "a reference computes no variants");
	if (n > g->n_ubatch || n > g->info.n_ctx)
		return err_set(e, EXIT_USAGE,
			       "a replay up to position %d is beyond the micro-batch of %d", n,
			       g->n_ubatch);
	w->n_over = 0;
	for (int i = 0; rc == 0 && i < q->n_inputs; i++)
		rc = add_input(g, q, i, e);
	ids = make_ids(q);
	if (rc == 0 && !ids)
		rc = err_set(e, EXIT_INTERNAL, "no memory");
	if (rc == 0) {
		w->stages = (uint64_t)1 << q->stage;
		w->only_layer = q->layer;
		w->row0 = q->pos0;
		w->values = true;
		w->on_trace = q->on_trace;
		w->ctx = q->ctx;
		api_clear(g->ctx);
		llama_watch_begin(w, 0, n, 0);
		rc = llama_engine_decode(g, ids, n, 0, true, e);
		if (rc == 0)
			rc = llama_watch_end(g, e);
	}
	free(ids);
	w->stages = 0;
	w->n_over = 0;
	w->row0 = 0;
	w->only_layer = INT_MIN;
	return rc;
}
