/*
 * Applying a hypothesis: copies of hyperparameters and layer are changed, so that the operations
 * themselves need not know of hypotheses.
 */
#ifndef ASSAY_REPLAY_VARIANT_H
#define ASSAY_REPLAY_VARIANT_H

#include "replay.h"
#include "replay_forms.h"

struct replay_knobs {
	struct hparams hp;
	struct layer layer;
	const float *output_norm;
	struct linear output;
	bool kv_f32;
	bool skip;		/* the operation is left out: output = input */
	bool swap_inputs;	/* gate and up change places */
	bool interleaved_heads;	/* head h reads KV head h mod n_kv_head */
	int64_t mask_shift;	/* cells more (or fewer) that a position sees */
	int64_t pos_shift;
	int64_t rope_part;	/* dimensions rotated, by the angles of all; 0 = all */
	float factor;		/* the output is multiplied; 1 */
	enum replay_form form;
	int64_t window;		/* cells that a position sees at most; 0 = all */
	double softcap;		/* of logits or scores; 0 = none */
	bool kv_toward_zero;	/* the cache is written by truncation */
	int64_t tie;		/* of each row the activation on that rounding tie goes over; 0 */
};

/* Fills the knobs as the model has them, then applies q->variant when there is one. */
int replay_knobs_set(struct replay_knobs *k, const struct session *s,
		     const struct engine_replay *q, struct err *e);

#endif
