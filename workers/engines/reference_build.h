/*
 * How a reference's worker is built, as data: who builds it includes this file with the macros
 * defined and compiles every source against the reference's own llama.h and ggml.h.
 *
 *	REFERENCE_SOURCE(path)		compile this (C11, -D_GNU_SOURCE, -ffp-contract=off) with
 *					-Iinclude -Iworkers -Iworkers/common -Iworkers/engines and the
 *					directories of llama.h, ggml.h; link with the tree's libllama
 *					and every libggml* it has (rpath), -lpthread, -lm
 *	REFERENCE_HEADER(path)		needed beside the sources
 *	REFERENCE_PROBE(macro, body)	where `#include "llama.h"`, `#include "ggml-backend.h"` and
 *					`void probe(void){BODY}` compile with
 *					-Werror=implicit-function-declaration, define macro
 *
 * And define ASSAY_BUILD_ID (the reference's build key) and ASSAY_REFERENCE (its name) as strings.
 */
#ifdef REFERENCE_SOURCE
REFERENCE_SOURCE("workers/main.c")
REFERENCE_SOURCE("workers/serve/channel.c")
REFERENCE_SOURCE("workers/serve/machine.c")
REFERENCE_SOURCE("workers/serve/serve.c")
REFERENCE_SOURCE("workers/serve/serve_evaluate.c")
REFERENCE_SOURCE("workers/common/blake3.c")
REFERENCE_SOURCE("workers/common/err.c")
REFERENCE_SOURCE("workers/common/trace.c")
REFERENCE_SOURCE("workers/common/utf8.c")
REFERENCE_SOURCE("workers/common/wire.c")
REFERENCE_SOURCE("workers/engines/llama.c")
REFERENCE_SOURCE("workers/engines/llama_replay.c")
REFERENCE_SOURCE("workers/engines/llama_stages.c")
REFERENCE_SOURCE("workers/engines/llama_trace.c")
REFERENCE_SOURCE("workers/engines/table_llama.c")
#endif

#ifdef REFERENCE_HEADER
REFERENCE_HEADER("include/engine.h")
REFERENCE_HEADER("include/err.h")
REFERENCE_HEADER("include/trace.h")
REFERENCE_HEADER("include/wire.h")
REFERENCE_HEADER("workers/common/blake3.h")
REFERENCE_HEADER("workers/common/utf8.h")
REFERENCE_HEADER("workers/engines/llama_api.h")
REFERENCE_HEADER("workers/engines/llama_engine.h")
REFERENCE_HEADER("workers/engines/llama_stages.h")
REFERENCE_HEADER("workers/serve/channel.h")
REFERENCE_HEADER("workers/serve/machine.h")
REFERENCE_HEADER("workers/serve/serve.h")
#endif

#ifdef REFERENCE_PROBE
/* loading */
REFERENCE_PROBE(HAVE_LLAMA_MODEL_LOAD,
		"struct llama_model_params p = llama_model_default_params();"
		"llama_model_free(llama_model_load_from_file(\"\", p));")
REFERENCE_PROBE(HAVE_LLAMA_USE_MMAP,
		"struct llama_model_params p = llama_model_default_params(); p.use_mmap = true;"
		"(void)p;")
REFERENCE_PROBE(HAVE_LLAMA_LOAD_MODE,
		"struct llama_model_params p = llama_model_default_params();"
		"p.load_mode = LLAMA_LOAD_MODE_MMAP; (void)p;")
REFERENCE_PROBE(HAVE_LLAMA_EXTRA_BUFTS,
		"struct llama_model_params p = llama_model_default_params();"
		"p.use_extra_bufts = false; (void)p;")
REFERENCE_PROBE(HAVE_LLAMA_OVERRIDE_STR,
		"struct llama_model_kv_override o; o.tag = LLAMA_KV_OVERRIDE_TYPE_STR;"
		"o.val_str[127] = 0; (void)o;")
REFERENCE_PROBE(HAVE_GGML_LOAD_ALL, "ggml_backend_load_all();")
/* context */
REFERENCE_PROBE(HAVE_LLAMA_INIT_FROM_MODEL,
		"struct llama_context_params p = llama_context_default_params();"
		"llama_free(llama_init_from_model((struct llama_model *)0, p));")
REFERENCE_PROBE(HAVE_LLAMA_FLASH_TYPE,
		"struct llama_context_params p = llama_context_default_params();"
		"p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED; (void)p;")
REFERENCE_PROBE(HAVE_LLAMA_FLASH_BOOL,
		"struct llama_context_params p = llama_context_default_params();"
		"p.flash_attn = false; (void)p;")
REFERENCE_PROBE(HAVE_LLAMA_MEMORY,
		"llama_memory_clear(llama_get_memory((struct llama_context *)0), true);")
REFERENCE_PROBE(HAVE_LLAMA_KV_SELF, "llama_kv_self_clear((struct llama_context *)0);")
/* model and vocabulary */
REFERENCE_PROBE(HAVE_LLAMA_MODEL_N,
		"(void)llama_model_n_embd((struct llama_model *)0);"
		"(void)llama_model_n_layer((struct llama_model *)0);"
		"(void)llama_model_n_head((struct llama_model *)0);"
		"(void)llama_model_n_ctx_train((struct llama_model *)0);")
REFERENCE_PROBE(HAVE_LLAMA_VOCAB,
		"const struct llama_vocab *v = llama_model_get_vocab((struct llama_model *)0);"
		"(void)llama_vocab_n_tokens(v); (void)llama_vocab_bos(v);"
		"(void)llama_vocab_get_add_bos(v);"
		"(void)llama_token_to_piece(v, 0, (char *)0, 0, 0, true);")
#endif
