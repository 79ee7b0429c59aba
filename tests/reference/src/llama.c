/* Every model is refused: the worker built against this answers each OPEN with that. */
#include "llama.h"

#include <string.h>

int sub_answer(void);

static ggml_log_callback log_fn;
static void *log_ctx;

struct llama_model_params llama_model_default_params(void)
{
	struct llama_model_params p;
	memset(&p, 0, sizeof(p));
	return p;
}
struct llama_context_params llama_context_default_params(void)
{
	struct llama_context_params p;
	memset(&p, 0, sizeof(p));
	return p;
}
void llama_backend_init(void) {}
void llama_log_set(ggml_log_callback f, void *user_data)
{
	log_fn = f;
	log_ctx = user_data;
}
struct llama_model *llama_load_model_from_file(const char *path, struct llama_model_params p)
{
	(void)path;
	(void)p;
	if (log_fn && sub_answer() == 42)
		log_fn(GGML_LOG_LEVEL_ERROR, "this tiny reference loads no model\n", log_ctx);
	return 0;
}
void llama_free_model(struct llama_model *m) { (void)m; }
struct llama_context *llama_new_context_with_model(struct llama_model *m,
						   struct llama_context_params p)
{
	(void)m;
	(void)p;
	return 0;
}
void llama_free(struct llama_context *c) { (void)c; }
uint32_t llama_n_ctx(const struct llama_context *c) { (void)c; return 0; }
const char *llama_print_system_info(void) { return "tiny"; }
int32_t llama_n_vocab(const struct llama_model *m) { (void)m; return 0; }
int32_t llama_n_embd(const struct llama_model *m) { (void)m; return 0; }
int32_t llama_n_layer(const struct llama_model *m) { (void)m; return 0; }
int32_t llama_n_head(const struct llama_model *m) { (void)m; return 0; }
int32_t llama_n_ctx_train(const struct llama_model *m) { (void)m; return 0; }
int32_t llama_model_desc(const struct llama_model *m, char *out, size_t size)
{
	(void)m;
	(void)out;
	(void)size;
	return -1;
}
int32_t llama_model_meta_val_str(const struct llama_model *m, const char *key, char *out,
				 size_t size)
{
	(void)m;
	(void)key;
	(void)out;
	(void)size;
	return -1;
}
llama_token llama_token_bos(const struct llama_model *m) { (void)m; return -1; }
llama_token llama_token_eos(const struct llama_model *m) { (void)m; return -1; }
llama_token llama_token_eot(const struct llama_model *m) { (void)m; return -1; }
bool llama_add_bos_token(const struct llama_model *m) { (void)m; return false; }
int32_t llama_tokenize(const struct llama_model *m, const char *text, int32_t bytes,
		       llama_token *out, int32_t max, bool add_special, bool parse_special)
{
	(void)m;
	(void)text;
	(void)bytes;
	(void)out;
	(void)max;
	(void)add_special;
	(void)parse_special;
	return -1;
}
int32_t llama_token_to_piece(const struct llama_model *m, llama_token t, char *out, int32_t size,
			     int32_t lstrip, bool special)
{
	(void)m; (void)t; (void)out; (void)size; (void)lstrip; (void)special;
	return -1;
}
struct llama_batch llama_batch_init(int32_t n, int32_t embd, int32_t n_seq_max)
{
	struct llama_batch b;
	(void)n; (void)embd; (void)n_seq_max;
	memset(&b, 0, sizeof(b));
	return b;
}
void llama_batch_free(struct llama_batch b) { (void)b; }
int32_t llama_decode(struct llama_context *c, struct llama_batch b)
{
	(void)c; (void)b;
	return -1;
}
float *llama_get_logits_ith(struct llama_context *c, int32_t i) { (void)c; (void)i; return 0; }
void llama_kv_cache_clear(struct llama_context *c) { (void)c; }
float ggml_fp16_to_fp32(ggml_fp16_t x) { return (float)x; }
const char *ggml_op_desc(const struct ggml_tensor *t) { (void)t; return ""; }
const char *ggml_op_name(enum ggml_op op) { (void)op; return ""; }
const char *ggml_type_name(enum ggml_type type) { (void)type; return ""; }
