/*
 * What a model file says about its architecture: one table row per architecture with what is
 * really different in it, and every number read from the file. Key names: ggml-org/ggml
 * docs/gguf.md. Overrides ("key=int:5", "key=float:1e4", "key=bool:true", "key=str:silu", as
 * llama.cpp spells them) win over the file.
 */
#ifndef ASSAY_HPARAMS_H
#define ASSAY_HPARAMS_H

#include "gguf.h"
#include "kernels.h"

struct arch {
	const char *name;		/* general.architecture */
	enum activation activation;	/* when the file names none */
	bool neox;			/* RoPE on split halves; else on neighbouring pairs */
	bool sub_norms;			/* attn_sub_norm, ffn_sub_norm */
	bool qk_norms;			/* per-head norms of q and k before RoPE */
	bool bitnet_only;		/* only bitnet.cpp runs it: its profile rules apply */
};

extern const struct arch arch_table[];		/* name NULL at the end */
const struct arch *arch_by_name(const char *name, size_t n);	/* or NULL */
/* "bitnet-b1.58, bitnet-25, …" for error sentences. */
const char *arch_names(char *out, size_t size);

enum rope_scaling { ROPE_NONE, ROPE_LINEAR, ROPE_YARN };

struct hparams {
	const struct arch *arch;
	int n_vocab, n_layer, n_embd, n_ff, n_head, n_kv_head, head_dim;
	int n_ctx_train;
	float norm_eps;
	float attn_scale;		/* 1/√head_dim, in f32 as ggml computes it */
	enum activation activation;
	bool activation_from_file;	/* <arch>.hidden_activation was there */
	bool neox;
	enum rope_scaling rope_scaling;
	int rope_orig_ctx;		/* YaRN: positions the model was first trained for */
	struct rope_params rope;	/* freq_factors are filled in by model_open */
};

struct overrides {
	const char *const *items;	/* [n], borrowed */
	int n;
};

/* Checks the form of every override; keys that no one reads are the caller's business. */
int overrides_check(const struct overrides *o, struct err *e);

/* EXIT_USAGE for one of another type than its key has in the file: llama.cpp leaves such a one out. */
int overrides_fit(const struct overrides *o, const struct gguf *g, struct err *e);

/* A scalar of the file unless overridden; false when neither has it. */
bool hparams_u64(const struct gguf *g, const struct overrides *o, const char *key, uint64_t *out);
bool hparams_f64(const struct gguf *g, const struct overrides *o, const char *key, double *out);
bool hparams_string(const struct gguf *g, const struct overrides *o, const char *key,
		    struct gguf_str *out);

/* EXIT_MODEL_LOAD: unknown architecture (named, with the list), missing or impossible numbers.
 * bitnet_family: the weights are such that only bitnet.cpp runs them; with an architecture of its
 * own this decides YaRN's attention factor. */
int hparams_read(struct hparams *h, const struct gguf *g, const struct overrides *o,
		 bool bitnet_family, struct err *e);

#endif
