/* The llama.h of a reference that loads nothing: declarations only, ours. */
#ifndef TINY_LLAMA_H
#define TINY_LLAMA_H
#include "ggml.h"
#ifdef __cplusplus
extern "C" {
#endif
struct llama_model;
struct llama_context;
typedef int32_t llama_token;
typedef int32_t llama_pos;
typedef int32_t llama_seq_id;
enum llama_model_kv_override_type { LLAMA_KV_OVERRIDE_TYPE_INT, LLAMA_KV_OVERRIDE_TYPE_FLOAT,
				    LLAMA_KV_OVERRIDE_TYPE_BOOL, LLAMA_KV_OVERRIDE_TYPE_STR };
struct llama_model_kv_override {
	enum llama_model_kv_override_type tag;
	char key[128];
	union {
		int64_t val_i64;
		double val_f64;
		bool val_bool;
		char val_str[128];
	};
};
typedef bool (*llama_progress_callback)(float progress, void *user_data);
struct llama_model_params {
	int32_t n_gpu_layers;
	llama_progress_callback progress_callback;
	void *progress_callback_user_data;
	const struct llama_model_kv_override *kv_overrides;
	bool vocab_only, use_mmap;
};
struct llama_context_params {
	uint32_t n_ctx, n_batch, n_ubatch, n_seq_max;
	int32_t n_threads, n_threads_batch;
	enum ggml_type type_k, type_v;
	ggml_backend_sched_eval_callback cb_eval;
	void *cb_eval_user_data;
	bool logits_all, embeddings, offload_kqv, flash_attn, no_perf;
};
struct llama_batch {
	int32_t n_tokens;
	llama_token *token;
	float *embd;
	llama_pos *pos;
	int32_t *n_seq_id;
	llama_seq_id **seq_id;
	int8_t *logits;
};
struct llama_model_params llama_model_default_params(void);
struct llama_context_params llama_context_default_params(void);
void llama_backend_init(void);
void llama_log_set(ggml_log_callback f, void *user_data);
struct llama_model *llama_load_model_from_file(const char *path, struct llama_model_params p);
void llama_free_model(struct llama_model *m);
struct llama_context *llama_new_context_with_model(struct llama_model *m,
						   struct llama_context_params p);
void llama_free(struct llama_context *c);
uint32_t llama_n_ctx(const struct llama_context *c);
const char *llama_print_system_info(void);
int32_t llama_n_vocab(const struct llama_model *m);
int32_t llama_n_embd(const struct llama_model *m);
int32_t llama_n_layer(const struct llama_model *m);
int32_t llama_n_head(const struct llama_model *m);
int32_t llama_n_ctx_train(const struct llama_model *m);
int32_t llama_model_desc(const struct llama_model *m, char *out, size_t size);
int32_t llama_model_meta_val_str(const struct llama_model *m, const char *key, char *out,
				 size_t size);
llama_token llama_token_bos(const struct llama_model *m);
llama_token llama_token_eos(const struct llama_model *m);
llama_token llama_token_eot(const struct llama_model *m);
bool llama_add_bos_token(const struct llama_model *m);
int32_t llama_tokenize(const struct llama_model *m, const char *text, int32_t bytes,
		       llama_token *out, int32_t max, bool add_special, bool parse_special);
int32_t llama_token_to_piece(const struct llama_model *m, llama_token t, char *out, int32_t size,
			     int32_t lstrip, bool special);
struct llama_batch llama_batch_init(int32_t n, int32_t embd, int32_t n_seq_max);
void llama_batch_free(struct llama_batch b);
int32_t llama_decode(struct llama_context *c, struct llama_batch b);
float *llama_get_logits_ith(struct llama_context *c, int32_t i);
void llama_kv_cache_clear(struct llama_context *c);
#ifdef __cplusplus
}
#endif
#endif
