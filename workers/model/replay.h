/*
 * One operation of one layer on given inputs, by the same code that the forward pass runs; and
 * hypotheses: the same operation computed the way it is known to go wrong.
 *
 * Inputs by stage (rows of this call, K_ROPE and V of attention from position 0 on, LAYER_OUT the
 * previous layer's; EMBEDDINGS serves as the first layer's):
 *	embeddings ← tokens            attn_norm ← layer_out        q, k, v ← attn_norm
 *	q_norm ← q, k_norm ← k         q_rope ← q_norm or q         k_rope ← k_norm or k
 *	attn_scores ← q_rope, k_rope   attn_softmax ← attn_scores, or q_rope, k_rope
 *	attn_out_heads ← attn_softmax, v, or q_rope, k_rope, v
 *	attn_sub_norm ← attn_out_heads attn_o ← attn_sub_norm or attn_out_heads
 *	attn_residual ← attn_o, layer_out                           ffn_norm ← attn_residual
 *	ffn_gate, ffn_up ← ffn_norm    ffn_act ← ffn_gate, ffn_up   ffn_sub_norm ← ffn_act
 *	ffn_down ← ffn_sub_norm or ffn_act                          layer_out ← ffn_down, attn_residual
 *	output_norm ← layer_out        logits ← output_norm
 */
#ifndef ASSAY_REPLAY_H
#define ASSAY_REPLAY_H

#include "engine.h"
#include "session.h"

/* EXIT_USAGE: a missing input or one of the wrong size, an unknown or inapplicable variant. */
int replay_run(struct session *s, const struct engine_replay *q, struct err *e);

/* A hypothesis: "silu", "rope_base=10000", … */
struct replay_variant {
	const char *name;
	const char *value;	/* placeholder of its value, NULL when it takes none */
	uint64_t stages;	/* bits of the stages it changes */
	const char *meaning;	/* one line */
};
extern const struct replay_variant replay_variants[];	/* name NULL at the end */

#endif
