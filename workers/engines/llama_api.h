/*
 * The parts of llama.h that differ between trees, under one name each. Which form a tree has is
 * probed when its worker is built (reference_build.h); nothing here asks for a version.
 */
#ifndef ASSAY_LLAMA_API_H
#define ASSAY_LLAMA_API_H

#include "ggml-backend.h"
#include "ggml.h"
#include "llama.h"

#include <stdbool.h>

/* What tokenizing functions take: the vocabulary, or in older trees the model. */
#ifdef HAVE_LLAMA_VOCAB
typedef const struct llama_vocab llama_words;
#else
typedef const struct llama_model llama_words;
#endif

static inline llama_words *api_words(const struct llama_model *m)
{
#ifdef HAVE_LLAMA_VOCAB
	return llama_model_get_vocab(m);
#else
	return m;
#endif
}

static inline int api_n_vocab(const struct llama_model *m)
{
#ifdef HAVE_LLAMA_VOCAB
	return llama_vocab_n_tokens(llama_model_get_vocab(m));
#else
	return llama_n_vocab(m);
#endif
}

static inline void api_special(const struct llama_model *m, int *bos, int *eos, int *eot)
{
#ifdef HAVE_LLAMA_VOCAB
	*bos = llama_vocab_bos(api_words(m));
	*eos = llama_vocab_eos(api_words(m));
	*eot = llama_vocab_eot(api_words(m));
#else
	*bos = llama_token_bos(m);
	*eos = llama_token_eos(m);
	*eot = llama_token_eot(m);
#endif
}

static inline bool api_add_bos(const struct llama_model *m)
{
#ifdef HAVE_LLAMA_VOCAB
	return llama_vocab_get_add_bos(api_words(m));
#else
	return llama_add_bos_token(m);
#endif
}

static inline void api_sizes(const struct llama_model *m, int *n_embd, int *n_layer, int *n_head,
			     int *n_ctx_train)
{
#ifdef HAVE_LLAMA_MODEL_N
	*n_embd = llama_model_n_embd(m);
	*n_layer = llama_model_n_layer(m);
	*n_head = llama_model_n_head(m);
	*n_ctx_train = llama_model_n_ctx_train(m);
#else
	*n_embd = llama_n_embd(m);
	*n_layer = llama_n_layer(m);
	*n_head = llama_n_head(m);
	*n_ctx_train = llama_n_ctx_train(m);
#endif
}

static inline struct llama_model *api_load(const char *path, struct llama_model_params p)
{
#ifdef HAVE_LLAMA_MODEL_LOAD
	return llama_model_load_from_file(path, p);
#else
	return llama_load_model_from_file(path, p);
#endif
}

static inline void api_free_model(struct llama_model *m)
{
#ifdef HAVE_LLAMA_MODEL_LOAD
	llama_model_free(m);
#else
	llama_free_model(m);
#endif
}

static inline struct llama_context *api_context(struct llama_model *m,
						struct llama_context_params p)
{
#ifdef HAVE_LLAMA_INIT_FROM_MODEL
	return llama_init_from_model(m, p);
#else
	return llama_new_context_with_model(m, p);
#endif
}

static inline void api_clear(struct llama_context *c)
{
#if defined(HAVE_LLAMA_MEMORY)
	llama_memory_clear(llama_get_memory(c), true);
#elif defined(HAVE_LLAMA_KV_SELF)
	llama_kv_self_clear(c);
#else
	llama_kv_cache_clear(c);
#endif
}

/*
 * The parity configuration, whatever the tree's own defaults are; those of a build for speed
 * (ASSAY_SPEED) stay as the engine has them.
 */
static inline void api_parity_model(struct llama_model_params *p)
{
	p->n_gpu_layers = 0;
#ifdef ASSAY_SPEED
	return;
#endif
#ifdef HAVE_LLAMA_USE_MMAP
	p->use_mmap = true;
#endif
#ifdef HAVE_LLAMA_LOAD_MODE
	p->load_mode = LLAMA_LOAD_MODE_MMAP;
#endif
#ifdef HAVE_LLAMA_EXTRA_BUFTS
	p->use_extra_bufts = false;
#endif
}

static inline void api_parity_context(struct llama_context_params *p)
{
	p->offload_kqv = false;
#ifdef ASSAY_SPEED
	return;
#endif
#ifdef HAVE_LLAMA_FLASH_TYPE
	p->flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
#endif
#ifdef HAVE_LLAMA_FLASH_BOOL
	p->flash_attn = false;
#endif
}

static inline void api_start(void)
{
#ifdef HAVE_GGML_LOAD_ALL
	ggml_backend_load_all();
#endif
	llama_backend_init();
}

#endif
