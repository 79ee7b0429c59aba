/* The keys whose meaning is known: a wrong type or size is refused here, before anybody reads it. */
#include "gguf_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum kind {
	INTEGER, REAL, BOOL, STRING,
	STRINGS, NUMBERS, INTEGERS,	/* arrays */
	INTEGER_OR_ARRAY,		/* one for all layers, or one per layer */
};

static const struct known { const char *key; enum kind kind; } known[] = {
	{ "general.architecture", STRING },
	{ "general.name", STRING },
	{ "general.quantization_version", INTEGER },
	{ "split.count", INTEGER },
	{ "tokenizer.ggml.model", STRING },
	{ "tokenizer.ggml.pre", STRING },
	{ "tokenizer.ggml.tokens", STRINGS },
	{ "tokenizer.ggml.scores", NUMBERS },
	{ "tokenizer.ggml.token_type", INTEGERS },
	{ "tokenizer.ggml.merges", STRINGS },
	{ "tokenizer.ggml.bos_token_id", INTEGER },
	{ "tokenizer.ggml.eos_token_id", INTEGER },
	{ "tokenizer.ggml.eot_token_id", INTEGER },
	{ "tokenizer.ggml.unknown_token_id", INTEGER },
	{ "tokenizer.ggml.padding_token_id", INTEGER },
	{ "tokenizer.ggml.add_bos_token", BOOL },
	{ "tokenizer.ggml.add_eos_token", BOOL },
	{ "tokenizer.ggml.add_space_prefix", BOOL },
	{ "tokenizer.chat_template", STRING },
	/* with the architecture's name before the dot */
	{ ".block_count", INTEGER },
	{ ".context_length", INTEGER },
	{ ".embedding_length", INTEGER },
	{ ".vocab_size", INTEGER },
	{ ".feed_forward_length", INTEGER_OR_ARRAY },
	{ ".attention.head_count", INTEGER_OR_ARRAY },
	{ ".attention.head_count_kv", INTEGER_OR_ARRAY },
	{ ".attention.key_length", INTEGER },
	{ ".attention.value_length", INTEGER },
	{ ".attention.layer_norm_rms_epsilon", REAL },
	{ ".rope.dimension_count", INTEGER },
	{ ".rope.freq_base", REAL },
	{ ".rope.scaling.type", STRING },
	{ ".rope.scaling.factor", REAL },
	{ ".rope.scaling.attn_factor", REAL },
	{ ".rope.scaling.original_context_length", INTEGER },
	{ ".rope.scale_linear", REAL },
	{ ".attention.causal", BOOL },
	{ ".expert_count", INTEGER },
	{ ".nextn_predict_layers", INTEGER },
	{ ".hidden_activation", STRING },
};

static const char *const kind_names[] = {
	"an integer", "a float", "a bool", "a string", "an array of strings", "an array of floats or i32",
	"an array of integers", "an integer or an array of integers",
};

static bool integer(enum gguf_type t)
{
	return t <= GGUF_I32 || t == GGUF_U64 || t == GGUF_I64;
}

static bool fits(const struct gguf_kv *kv, enum kind kind)
{
	bool array = kv->type == GGUF_ARRAY;

	switch (kind) {
	case INTEGER: return integer(kv->type);
	case REAL: return kv->type == GGUF_F32 || kv->type == GGUF_F64;
	case BOOL: return kv->type == GGUF_BOOL;
	case STRING: return kv->type == GGUF_STRING;
	case STRINGS: return array && kv->elem == GGUF_STRING;
	case NUMBERS:
		return array && (kv->elem == GGUF_F32 || kv->elem == GGUF_F64 ||
				 kv->elem == GGUF_I32);
	case INTEGERS: return array && (kv->elem == GGUF_I32 || kv->elem == GGUF_U32);
	case INTEGER_OR_ARRAY:
		return integer(kv->type) ||
		       (array && (kv->elem == GGUF_I32 || kv->elem == GGUF_U32));
	}
	return false;
}

static const struct gguf_kv *find_known(const struct gguf *g, const char *key)
{
	char full[GGUF_NAME_MAX + 64];
	struct gguf_str arch;

	if (key[0] != '.')
		return gguf_find(g, key);
	if (!gguf_string(g, "general.architecture", &arch) || arch.n > GGUF_NAME_MAX)
		return NULL;
	snprintf(full, sizeof(full), "%.*s%s", (int)arch.n, arch.s, key);
	return gguf_find(g, full);
}

/* The architecture's own numbers are sizes and counts. */
static int check_signs(const struct gguf *g, struct err *e)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		const struct gguf_kv *kv = find_known(g, known[i].key);

		if (!kv || known[i].key[0] != '.' || known[i].kind != INTEGER ||
		    kv->type == GGUF_U64 || gguf_integer_at(kv->type, kv->data) >= 0)
			continue;
		return err_set(e, EXIT_MODEL_INVALID,
			       "key '%s' is %" PRId64 ", which it cannot be: it is negative",
			       gguf_show(kv->key).s, gguf_integer_at(kv->type, kv->data));
	}
	return 0;
}

static int check_lengths(const struct gguf *g, struct err *e)
{
	static const char *const arrays[] = {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"};
	const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");

	for (int i = 0; i < 2; i++) {
		const struct gguf_kv *kv = gguf_find(g, arrays[i]);

		if (kv && tokens && kv->count != tokens->count)
			return err_set(e, EXIT_MODEL_INVALID,
				       "key '%s' has %" PRIu64
				       " elements, tokenizer.ggml.tokens has %" PRIu64,
				       arrays[i], kv->count, tokens->count);
	}
	return 0;
}

static int check_ranges(const struct gguf *g, struct err *e)
{
	const struct gguf_kv *blocks = find_known(g, ".block_count");
	uint64_t split;

	if (blocks) {
		int64_t n = gguf_integer_at(blocks->type, blocks->data);

		if (n < 1 || n > GGUF_BLOCKS_MAX)
			return err_set(e, EXIT_MODEL_INVALID,
				       "key '%s' is %" PRId64 ", 1 to %d layers are allowed",
				       gguf_show(blocks->key).s, n, GGUF_BLOCKS_MAX);
	}
	if (gguf_u64(g, "split.count", &split) && split > 1)
		return err_set(e, EXIT_MODEL_INVALID,
			       "this is one part of a model split into %" PRIu64
			       " files; merge them first",
			       split);
	return 0;
}

int gguf_check_keys(const struct gguf *g, struct err *e)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		const struct gguf_kv *kv = find_known(g, known[i].key);

		if (!kv || fits(kv, known[i].kind))
			continue;
		bool array = kv->type == GGUF_ARRAY;
		return err_set(e, EXIT_MODEL_INVALID, "key '%s' is %s%s, %s is needed",
			       gguf_show(kv->key).s, array ? "an array of " : "",
			       gguf_type_name(array ? kv->elem : kv->type),
			       kind_names[known[i].kind]);
	}
	int rc = check_signs(g, e);

	if (rc == 0)
		rc = check_lengths(g, e);
	return rc < 0 ? rc : check_ranges(g, e);
}
