/*
 * One traced tensor and the canonical names of the stages it can belong to.
 *
 * Every engine's trace is expressed in these stages; a tensor that cannot be mapped is an error
 * that names it. Shapes are logical: slowest dimension first, positions first where there are
 * positions, heads before head dimensions, views and permutations of the engine undone.
 */
#ifndef ASSAY_TRACE_H
#define ASSAY_TRACE_H

#include <stdint.h>

enum trace_stage {		/* shape; T = positions of this evaluation, C = visible cells */
	STAGE_EMBEDDINGS,	/* [T, n_embd], layer −1 */
	STAGE_ATTN_NORM,	/* [T, n_embd] */
	STAGE_Q,		/* [T, n_head · d] before RoPE, bias added */
	STAGE_K,		/* [T, n_kv_head · d] before RoPE, bias added */
	STAGE_V,		/* [T, n_kv_head · d] bias added */
	STAGE_Q_NORM,		/* [T, n_head · d] architectures with q/k norms only */
	STAGE_K_NORM,		/* [T, n_kv_head · d] */
	STAGE_Q_ROPE,		/* [T, n_head · d] */
	STAGE_K_ROPE,		/* [T, n_kv_head · d] */
	STAGE_ATTN_SCORES,	/* [T, n_head, C] q·k before scaling and mask; C = cells up to the
				 * last row's position, those after a row's own position are 0 */
	STAGE_ATTN_SOFTMAX,	/* [T, n_head, C], the same */
	STAGE_ATTN_OUT_HEADS,	/* [T, n_head · d] */
	STAGE_ATTN_SUB_NORM,	/* [T, n_head · d] architectures with sub-norms only */
	STAGE_ATTN_O,		/* [T, n_embd] */
	STAGE_ATTN_RESIDUAL,	/* [T, n_embd] */
	STAGE_FFN_NORM,		/* [T, n_embd] */
	STAGE_FFN_GATE,		/* [T, n_ff] */
	STAGE_FFN_UP,		/* [T, n_ff] */
	STAGE_FFN_ACT,		/* [T, n_ff] activation(gate) · up */
	STAGE_FFN_SUB_NORM,	/* [T, n_ff] architectures with sub-norms only */
	STAGE_FFN_DOWN,		/* [T, n_embd] */
	STAGE_LAYER_OUT,	/* [T, n_embd] */
	STAGE_OUTPUT_NORM,	/* [T, n_embd], layer −1 */
	STAGE_LOGITS,		/* [T, n_vocab], layer −1 */
	STAGE_COUNT,
};

/* Sets of stages, bit by stage: what a hypothesis is about, what a trace asks for. */
#define STAGE_BIT(stage) ((uint64_t)1 << (stage))
#define STAGES_ALL (STAGE_BIT(STAGE_COUNT) - 1)
#define STAGES_NORMS                                                                               \
	(STAGE_BIT(STAGE_ATTN_NORM) | STAGE_BIT(STAGE_Q_NORM) | STAGE_BIT(STAGE_K_NORM) |          \
	 STAGE_BIT(STAGE_ATTN_SUB_NORM) | STAGE_BIT(STAGE_FFN_NORM) |                              \
	 STAGE_BIT(STAGE_FFN_SUB_NORM) | STAGE_BIT(STAGE_OUTPUT_NORM))
#define STAGES_ROPES (STAGE_BIT(STAGE_Q_ROPE) | STAGE_BIT(STAGE_K_ROPE))
#define STAGES_ATTENTION                                                                           \
	(STAGE_BIT(STAGE_ATTN_SCORES) | STAGE_BIT(STAGE_ATTN_SOFTMAX) |                            \
	 STAGE_BIT(STAGE_ATTN_OUT_HEADS))
#define STAGES_PRODUCTS                                                                            \
	(STAGE_BIT(STAGE_Q) | STAGE_BIT(STAGE_K) | STAGE_BIT(STAGE_V) | STAGE_BIT(STAGE_ATTN_O) |  \
	 STAGE_BIT(STAGE_FFN_GATE) | STAGE_BIT(STAGE_FFN_UP) | STAGE_BIT(STAGE_FFN_DOWN))

enum { TRACE_NAME_MAX = 64, TRACE_DIMS_MAX = 4, BLAKE3_HEX = 65 };

struct trace_record {
	char name[TRACE_NAME_MAX];	/* "blk.3.ffn_act", or the stage alone for layer −1 */
	enum trace_stage stage;
	int layer;			/* −1 for embeddings, output_norm and logits */
	int seq;			/* 0 = prefill, 1… = decode step */
	int n_dims;
	int64_t shape[TRACE_DIMS_MAX];	/* slowest first */
	char dtype[8];			/* what the engine stored: "f32", "f16", … */
	char blake3[BLAKE3_HEX];	/* hex over the little-endian f32 values */
	double rms;			/* √(Σx²/n), float64 */
	int64_t num_elements;
};

/*
 * Fills the whole record: name, shape (slowest first), BLAKE3 and RMS of values [num_elements].
 * Hashing assumes a little-endian machine, as the program does everywhere.
 */
void trace_describe(struct trace_record *r, enum trace_stage stage, int layer, int seq,
		    const char *dtype, int n_dims, const int64_t *shape, const float *values);

const char *trace_stage_name(enum trace_stage stage); /* "attn_norm", … in lower case as above */
int trace_stage_by_name(const char *name);		/* −1 when unknown */

#endif
