/*
 * One evaluation state of a model: KV cache and one set of activations for a micro-batch. Borrows
 * model and kernels, which must outlive it.
 */
#ifndef ASSAY_SESSION_H
#define ASSAY_SESSION_H

#include "model.h"
#include "ops.h"
#include "threads.h"

enum { SESSION_UBATCH = 512, SESSION_CTX = 4096 };

struct session_options {
	int n_ctx;		/* positions; 0 = min(model's, SESSION_CTX) */
	int n_ubatch;		/* positions evaluated at once; 0 = SESSION_UBATCH */
	bool kv_f32;
	bool defects;
};

struct session {
	const struct model *m;
	const struct kernels *k;
	struct ops ops;
	struct kv_cache kv;
	int n_ctx, n_ubatch;
	size_t activation_bytes;	/* of all that follows */
	float *x;		/* [n_ubatch, n_embd] the residual stream */
	float *norm;		/* [n_ubatch, n_embd] normed rows, then a branch's result */
	/* attention and feed-forward take turns in one block; the head streams logits through it */
	float *q, *heads;	/* [n_ubatch, n_head · d] */
	float *kcur, *v;	/* [n_ubatch, n_kv_head · d] */
	float *gate, *up;	/* [n_ubatch, n_ff] */
	float *block;		/* all of them: block_floats */
	size_t block_floats;
	uint8_t *act;		/* [n_ubatch, act_row_max] quantised rows */
	float *cs;		/* [n_ubatch, n_rot] cosines and sines */
};

int session_open(struct session *s, const struct model *m, const struct kernels *k,
		 struct team *team, const struct session_options *o, struct err *e);
void session_close(struct session *s);	/* accepts zeroed */

/*
 * An empty cache with room for n_positions (≤ n_ctx), to be called before an evaluation. The cache
 * is as long as the longest evaluation asked so far, not as the context: values lie by channel, so
 * in a longer one even few positions would touch every page of it.
 */
int session_reserve(struct session *s, int64_t n_positions, struct err *e);

/* Length the reference's cache would have after `used` positions: padded as the profile says. */
int64_t session_n_kv(const struct session *s, int64_t used);

#endif
