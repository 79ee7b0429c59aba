#include "trace.h"

#include "blake3.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const names[STAGE_COUNT] = {
	[STAGE_EMBEDDINGS] = "embeddings",
	[STAGE_ATTN_NORM] = "attn_norm",
	[STAGE_Q] = "q",
	[STAGE_K] = "k",
	[STAGE_V] = "v",
	[STAGE_Q_NORM] = "q_norm",
	[STAGE_K_NORM] = "k_norm",
	[STAGE_Q_ROPE] = "q_rope",
	[STAGE_K_ROPE] = "k_rope",
	[STAGE_ATTN_SCORES] = "attn_scores",
	[STAGE_ATTN_SOFTMAX] = "attn_softmax",
	[STAGE_ATTN_OUT_HEADS] = "attn_out_heads",
	[STAGE_ATTN_SUB_NORM] = "attn_sub_norm",
	[STAGE_ATTN_O] = "attn_o",
	[STAGE_ATTN_RESIDUAL] = "attn_residual",
	[STAGE_FFN_NORM] = "ffn_norm",
	[STAGE_FFN_GATE] = "ffn_gate",
	[STAGE_FFN_UP] = "ffn_up",
	[STAGE_FFN_ACT] = "ffn_act",
	[STAGE_FFN_SUB_NORM] = "ffn_sub_norm",
	[STAGE_FFN_DOWN] = "ffn_down",
	[STAGE_LAYER_OUT] = "layer_out",
	[STAGE_OUTPUT_NORM] = "output_norm",
	[STAGE_LOGITS] = "logits",
};

const char *trace_stage_name(enum trace_stage stage)
{
	unsigned s = (unsigned)stage;

	return s < STAGE_COUNT ? names[s] : "unknown";
}

int trace_stage_by_name(const char *name)
{
	for (int i = 0; i < STAGE_COUNT; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

void trace_describe(struct trace_record *r, enum trace_stage stage, int layer, int seq,
		    const char *dtype, int n_dims, const int64_t *shape, const float *values)
{
	double sum = 0;

	assert(n_dims >= 1 && n_dims <= TRACE_DIMS_MAX);
	memset(r, 0, sizeof(*r));
	r->stage = stage;
	r->layer = layer;
	r->seq = seq;
	r->n_dims = n_dims;
	r->num_elements = 1;
	for (int i = 0; i < n_dims; i++) {
		r->shape[i] = shape[i];
		r->num_elements *= shape[i];
	}
	if (layer < 0)
		snprintf(r->name, sizeof(r->name), "%s", trace_stage_name(stage));
	else
		snprintf(r->name, sizeof(r->name), "blk.%d.%s", layer, trace_stage_name(stage));
	snprintf(r->dtype, sizeof(r->dtype), "%s", dtype);
	blake3_hex(values, (size_t)r->num_elements * sizeof(float), r->blake3);
	for (int64_t i = 0; i < r->num_elements; i++)
		sum += (double)values[i] * (double)values[i];
	r->rms = r->num_elements ? sqrt(sum / (double)r->num_elements) : 0;
}
