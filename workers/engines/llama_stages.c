#include "llama_stages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BASE_MAX = 64 };

static const struct {
	const char *base, *op;
	int stage;
} table[] = {
	/* before the layers */
	{"inp_embd", "GET_ROWS", STAGE_EMBEDDINGS},
	{"embd", "GET_ROWS", STAGE_EMBEDDINGS},
	/* norms: the product with the weight is the stage */
	{"norm", "RMS_NORM", LLAMA_INTERMEDIATE},
	{"attn_norm", "MUL", STAGE_ATTN_NORM},
	{"attn_sub_norm", "MUL", STAGE_ATTN_SUB_NORM},
	{"ffn_norm", "MUL", STAGE_FFN_NORM},
	{"ffn_sub_norm", "MUL", STAGE_FFN_SUB_NORM},
	{"Qcur_normed", "MUL", STAGE_Q_NORM},
	{"Kcur_normed", "MUL", STAGE_K_NORM},
	{"result_norm", "MUL", STAGE_OUTPUT_NORM},
	/* q, k, v: product, then scale or bias under the same name where there is one */
	{"Qcur", "MUL_MAT", STAGE_Q},
	{"Qcur", "MUL", STAGE_Q},
	{"Qcur", "ADD", STAGE_Q},
	{"Qcur", "ROPE", STAGE_Q_ROPE},
	{"Kcur", "MUL_MAT", STAGE_K},
	{"Kcur", "MUL", STAGE_K},
	{"Kcur", "ADD", STAGE_K},
	{"Kcur", "ROPE", STAGE_K_ROPE},
	{"Vcur", "MUL_MAT", STAGE_V},
	{"Vcur", "MUL", STAGE_V},
	{"Vcur", "ADD", STAGE_V},
	/* attention */
	{"kq", "MUL_MAT", STAGE_ATTN_SCORES},
	{"kq_soft_max_ext", "SOFT_MAX", STAGE_ATTN_SOFTMAX},
	{"kq_soft_max", "SOFT_MAX", STAGE_ATTN_SOFTMAX},
	{"kqv", "MUL_MAT", LLAMA_INTERMEDIATE},
	{"kqv_merged_cont", "CONT", STAGE_ATTN_OUT_HEADS},
	{"kqv_out", "CONT", STAGE_ATTN_OUT_HEADS},
	{"kqv_wo", "MUL_MAT", LLAMA_INTERMEDIATE},
	{"kqv_out", "MUL_MAT", STAGE_ATTN_O},
	{"kqv_out", "ADD", STAGE_ATTN_O},
	{"attn_out", "MUL_MAT", STAGE_ATTN_O},
	{"attn_out", "MUL", STAGE_ATTN_O},
	{"attn_out", "ADD", STAGE_ATTN_O},
	{"attn_o_out", "MUL_MAT", STAGE_ATTN_O},
	{"attn_o_out", "MUL", STAGE_ATTN_O},
	{"attn_o_out", "ADD", STAGE_ATTN_O},
	{"ffn_inp", "ADD", STAGE_ATTN_RESIDUAL},
	/* feed-forward */
	{"ffn_gate", "MUL_MAT", STAGE_FFN_GATE},
	{"ffn_gate_b", "ADD", STAGE_FFN_GATE},
	{"ffn_gate_s", "MUL", STAGE_FFN_GATE},
	{"ffn_up", "MUL_MAT", STAGE_FFN_UP},
	{"ffn_up_b", "ADD", STAGE_FFN_UP},
	{"ffn_up_s", "MUL", STAGE_FFN_UP},
	{"ffn_silu", "SILU", LLAMA_INTERMEDIATE},
	{"ffn_relu", "RELU", LLAMA_INTERMEDIATE},
	{"ffn_sqr(relu)", "SQR", LLAMA_INTERMEDIATE},
	{"ffn_gate_par", "MUL", STAGE_FFN_ACT},
	{"ffn_sub_out", "MUL", STAGE_FFN_ACT},
	{"ffn_sub_out", "SWIGLU", STAGE_FFN_ACT},
	{"ffn_swiglu", "SWIGLU", STAGE_FFN_ACT},
	{"ffn_out", "MUL", STAGE_FFN_ACT},
	{"ffn_down", "MUL_MAT", STAGE_FFN_DOWN},
	{"ffn_down", "MUL", STAGE_FFN_DOWN},
	{"ffn_out", "MUL_MAT", STAGE_FFN_DOWN},
	{"ffn_out", "ADD", STAGE_FFN_DOWN},
	{"l_out", "ADD", STAGE_LAYER_OUT},
	/* after the layers */
	{"result_output", "MUL_MAT", STAGE_LOGITS},
	/* without a name of its own: the rows that are asked for */
	{"node", "GET_ROWS", LLAMA_INTERMEDIATE},
};

/* Products without a name of their own, by their weight. */
static const struct {
	const char *weight;
	int stage;
} products[] = {
	{"attn_q.weight", STAGE_Q},	      {"attn_k.weight", STAGE_K},
	{"attn_v.weight", STAGE_V},	      {"attn_output.weight", STAGE_ATTN_O},
	{"ffn_gate.weight", STAGE_FFN_GATE},  {"ffn_up.weight", STAGE_FFN_UP},
	{"ffn_down.weight", STAGE_FFN_DOWN},
};

/* Operations that move data and compute nothing; CONT does too, but it is where heads merge. */
static const char *const moves[] = {
	"NONE", "VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE", "CPY", "DUP", "SET_ROWS",
};

/* "ffn_gate-3" → "ffn_gate", 3; "node_17" → "node", −1. */
static void split(const char *name, char *base, int *layer)
{
	size_t n = strcspn(name, "\n");
	size_t digits = n;

	*layer = -1;
	while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9')
		digits--;
	if (digits < n && digits > 0 && name[digits - 1] == '-') {
		*layer = atoi(name + digits);
		n = digits - 1;
	} else if (digits < n && digits == 5 && strncmp(name, "node_", 5) == 0) {
		n = 4;
	}
	if (n >= BASE_MAX)
		n = BASE_MAX - 1;
	memcpy(base, name, n);
	base[n] = 0;
}

static bool outside_layers(int stage)
{
	return stage == STAGE_EMBEDDINGS || stage == STAGE_OUTPUT_NORM || stage == STAGE_LOGITS;
}

/* "blk.3.attn_output.weight" → ATTN_O of layer 3. */
static int product_of(const char *source, int *layer)
{
	int n = 0, at;

	if (!source || sscanf(source, "blk.%d.%n", &at, &n) < 1 || n == 0)
		return LLAMA_UNKNOWN;
	for (size_t i = 0; i < sizeof(products) / sizeof(products[0]); i++)
		if (strcmp(source + n, products[i].weight) == 0) {
			*layer = at;
			return products[i].stage;
		}
	return LLAMA_UNKNOWN;
}

int llama_stage(const char *name, const char *op, const char *source, int *layer)
{
	char base[BASE_MAX];

	split(name, base, layer);
	if (strcmp(base, "node") == 0 && strcmp(op, "MUL_MAT") == 0)
		return product_of(source, layer);
	/* flash attention has no name; its result gets one where it is reshaped */
	if (strcmp(op, "FLASH_ATTN_EXT") == 0)
		return LLAMA_INTERMEDIATE;
	if (strcmp(base, "kqv_out") == 0 && strcmp(op, "RESHAPE") == 0)
		return *layer >= 0 ? STAGE_ATTN_OUT_HEADS : LLAMA_UNKNOWN;
	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++)
		if (strcmp(op, moves[i]) == 0)
			return LLAMA_INTERMEDIATE;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int stage = table[i].stage;

		if (strcmp(base, table[i].base) != 0 || strcmp(op, table[i].op) != 0)
			continue;
		if (stage >= 0 && outside_layers(stage) != (*layer < 0))
			return LLAMA_UNKNOWN;
		return stage;
	}
	return LLAMA_UNKNOWN;
}

uint64_t llama_stages_expected(const char *arch, int layer)
{
	const uint64_t outside = STAGE_BIT(STAGE_EMBEDDINGS) |
				 STAGE_BIT(STAGE_OUTPUT_NORM) | STAGE_BIT(STAGE_LOGITS);
	const uint64_t head_norms = STAGE_BIT(STAGE_Q_NORM) | STAGE_BIT(STAGE_K_NORM);
	const uint64_t sub_norms =
		STAGE_BIT(STAGE_ATTN_SUB_NORM) | STAGE_BIT(STAGE_FFN_SUB_NORM);
	uint64_t all = STAGES_ALL;

	if (layer < 0)
		return outside;
	all &= ~outside;
	if (strcmp(arch, "qwen3") != 0)
		all &= ~head_norms;
	if (strncmp(arch, "bitnet", 6) != 0)
		all &= ~sub_norms;
	return all;
}
