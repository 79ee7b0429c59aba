/*
 * A model file opened for evaluation: hyperparameters and the table of weights, which are used
 * straight from the read-only mapping. Read-only after open and shared between sessions.
 */
#ifndef ASSAY_MODEL_H
#define ASSAY_MODEL_H

#include "gguf.h"
#include "hparams.h"
#include "kernels.h"

/* y = W·x, times scale (one value), plus bias; with bias_first y = (W·x + bias) · scale. */
struct linear {
	struct weight w;
	const float *scale;	/* [1] or NULL: NAME.scale */
	const float *bias;	/* [n_out] or NULL: NAME.bias */
	bool bias_first;	/* in the feed-forward part, as llama.cpp has it there */
};

struct layer {
	const float *attn_norm;		/* [n_embd] */
	struct linear q;		/* n_embd → n_head · head_dim */
	struct linear k, v;		/* n_embd → n_kv_head · head_dim */
	const float *q_norm, *k_norm;	/* [head_dim] or NULL */
	const float *attn_sub_norm;	/* [n_head · head_dim] or NULL */
	struct linear o;		/* n_head · head_dim → n_embd */
	const float *ffn_norm;		/* [n_embd] */
	struct linear gate, up;		/* n_embd → n_ff */
	const float *ffn_sub_norm;	/* [n_ff] or NULL */
	struct linear down;		/* n_ff → n_embd */
};

struct model {
	struct gguf gguf;
	struct hparams hp;
	struct weight embd;		/* n_vocab rows of n_embd */
	const float *output_norm;	/* [n_embd] */
	struct linear output;		/* n_embd → n_vocab; the embeddings when tied */
	bool tied;
	bool bitnet_family;		/* only bitnet.cpp runs it (profile.h) */
	struct layer *layers;		/* [n_layer] */
	char weights[256];		/* "i2_s:210 f16:1 f32:121" */
};

/* EXIT_MODEL_LOAD with a sentence that names the tensor or key; a missing or broken file also with
 * the command that fetches models. */
int model_open(struct model *m, const char *path, const struct overrides *o, struct err *e);
void model_close(struct model *m);	/* accepts zeroed */

#endif
