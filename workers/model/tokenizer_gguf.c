#include "tokenizer_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The metadata with overrides in front of it. */
struct source {
	const struct gguf *g;
	const char *const *overrides;
	int n;
};

/* "tokenizer.ggml.pre=str:llama-bpe": the value of key with this type, NULL when there is none. */
static const char *override_of(const struct source *s, const char *key, const char *type)
{
	size_t n = strlen(key), m = strlen(type);

	for (int i = s->n - 1; i >= 0; i--) {
		const char *o = s->overrides[i];

		if (strncmp(o, key, n) == 0 && o[n] == '=' && strncmp(o + n + 1, type, m) == 0 &&
		    o[n + 1 + m] == ':')
			return o + n + 2 + m;
	}
	return NULL;
}

static int check_overrides(const struct source *s, struct err *e)
{
	static const char *const types[] = {"int:", "float:", "bool:", "str:"};

	for (int i = 0; i < s->n; i++) {
		const char *eq = strchr(s->overrides[i], '=');
		bool ok = false;

		for (int k = 0; eq && k < 4; k++)
			ok = ok || strncmp(eq + 1, types[k], strlen(types[k])) == 0;
		if (!ok)
			return err_set(e, EXIT_USAGE,
				       "override \"%s\": expected KEY=TYPE:VALUE with "
				       "TYPE int, float, bool or str",
				       s->overrides[i]);
	}
	return 0;
}

static bool get_string(const struct source *s, const char *key, char *out, size_t size)
{
	const char *o = override_of(s, key, "str");
	struct gguf_str v;

	if (o) {
		snprintf(out, size, "%s", o);
		return true;
	}
	if (!gguf_string(s->g, key, &v))
		return false;
	snprintf(out, size, "%.*s", v.n < size ? (int)v.n : (int)size, v.s);
	return true;
}

static void get_bool(const struct source *s, const char *key, bool *out)
{
	const char *o = override_of(s, key, "bool");

	if (o)
		*out = strcmp(o, "true") == 0 || strcmp(o, "1") == 0;
	else
		gguf_bool(s->g, key, out);
}

/* A special id: absent or outside the vocabulary leaves the default, as in llama.cpp. */
static void get_id(const struct source *s, const char *name, const struct tokenizer *t,
		   int32_t *id)
{
	const char *o;
	char key[64];
	uint64_t v;

	snprintf(key, sizeof(key), "tokenizer.ggml.%s_token_id", name);
	if (*id >= t->info.n_vocab)
		*id = -1;
	o = override_of(s, key, "int");
	if (o)
		v = strtoull(o, NULL, 10);
	else if (!gguf_u64(s->g, key, &v))
		return;
	if (v < (uint64_t)t->info.n_vocab)
		*id = (int32_t)v;
}

static void find_fim(const struct source *s, struct tokenizer *t)
{
	static const char *const names[][2] = {
		{"fim_pre", "prefix"}, {"fim_suf", "suffix"}, {"fim_mid", "middle"},
		{"fim_pad"}, {"fim_rep"}, {"fim_sep"},
	};

	for (int i = 0; i < TOKENIZER_FIM_GROUPS; i++)
		for (int k = 0; k < 2 && names[i][k]; k++) {
			int32_t id = -1;

			get_id(s, names[i][k], t, &id);
			t->fim_named[i] = t->fim_named[i] || id >= 0;
		}
}

static const struct gguf_kv *array_of(const struct gguf *g, const char *key, uint64_t least,
				      int *bad, struct err *e)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv)
		return NULL;
	if (kv->type != GGUF_ARRAY) {
		*bad = err_set(e, EXIT_MODEL_INVALID, "%s has type %s, expected an array", key,
			       gguf_type_name(kv->type));
	} else if (kv->count < least) {
		*bad = err_set(e, EXIT_MODEL_INVALID, "%s has %llu entries for %llu tokens", key,
			       (unsigned long long)kv->count, (unsigned long long)least);
	}
	return kv;
}

static int wrong_element(const struct gguf_kv *kv, const char *expected, struct err *e)
{
	return err_set(e, EXIT_MODEL_INVALID, "%.*s is an array of %s, expected %s",
		       kv->key.n > 60 ? 60 : (int)kv->key.n, kv->key.s, gguf_type_name(kv->elem),
		       expected);
}

/* GGUF's token types to attribute bits. */
static unsigned attr_of(int64_t type)
{
	static const unsigned attrs[] = {0, TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER,
					 TOKEN_UNUSED, TOKEN_BYTE};

	return type >= 0 && type < 7 ? attrs[type] : 0;
}

static int read_tokens(struct tokenizer *t, const struct gguf *g, struct err *e)
{
	const struct gguf_kv *tokens, *scores, *types = NULL;
	struct gguf_str s;
	size_t at = 0;
	int bad = 0;

	tokens = array_of(g, "tokenizer.ggml.tokens", 0, &bad, e);
	if (bad < 0)
		return bad;
	if (!tokens)
		return err_set(e, EXIT_MODEL_INVALID, "the file has no vocabulary "
			       "(tokenizer.ggml.tokens); use --tokenizer FILE");
	if (tokens->elem != GGUF_STRING)
		return wrong_element(tokens, "string", e);
	scores = array_of(g, "tokenizer.ggml.scores", tokens->count, &bad, e);
	if (bad == 0)
		types = array_of(g, "tokenizer.ggml.token_type", tokens->count, &bad, e);
	if (bad < 0)
		return bad;
	if (scores && scores->elem != GGUF_F32 && scores->elem != GGUF_I32)
		return wrong_element(scores, "f32 or i32", e);
	if (types && types->elem != GGUF_I32 && types->elem != GGUF_U32)
		return wrong_element(types, "i32", e);
	bad = tokenizer_reserve(t, tokens->count, e);
	for (int32_t id = 0; bad == 0 && gguf_next_string(tokens, &at, &s); id++)
		bad = tokenizer_add_token(t, id, s.s, s.n,
					  scores ? (float)gguf_array_f64(scores, (uint64_t)id) : 0,
					  types ? attr_of(gguf_array_i64(types, (uint64_t)id))
						: TOKEN_NORMAL, e);
	return bad;
}

static int read_merges(struct tokenizer *t, const struct gguf *g, struct err *e)
{
	const struct gguf_kv *kv;
	struct gguf_str s;
	size_t at = 0;
	int r = 0;

	kv = array_of(g, "tokenizer.ggml.merges", 0, &r, e);
	if (r < 0)
		return r;
	if (!kv)
		return err_set(e, EXIT_MODEL_INVALID, "the file has no merges "
			       "(tokenizer.ggml.merges) for its BPE vocabulary");
	if (kv->elem != GGUF_STRING)
		return wrong_element(kv, "string", e);
	r = tokenizer_reserve_merges(t, kv->count, e);
	for (uint32_t rank = 0; r == 0 && gguf_next_string(kv, &at, &s); rank++) {
		const char *gap = s.n > 1 ? memchr(s.s + 1, ' ', s.n - 1) : NULL;

		if (gap)
			r = tokenizer_add_merge(t, s.s, (size_t)(gap - s.s), gap + 1,
						(size_t)(s.s + s.n - gap - 1), rank, e);
	}
	return r;
}

static bool contains(const char *s, const char *part)
{
	return strcasestr(s, part) != NULL;
}

/* Attributes that GGUF has no place for: by the model's name, as llama.cpp. */
static void strip_rules(struct tokenizer *t, const struct source *s)
{
	static const char *const without[] = {"<unk>", "<s>", "<|endoftext|>"};
	char name[256] = "";
	int32_t id;

	get_string(s, "general.name", name, sizeof(name));
	if (strstr(t->info.pre, "jina-v2-")) {
		id = tokenizer_find(t, "<mask>");
		if (id >= 0)
			t->tokens[id].attr |= TOKEN_LSTRIP;
	} else if (contains(name, "modern-bert") && tokenizer_find(t, "[MASK]") >= 0) {
		t->tokens[tokenizer_find(t, "[MASK]")].attr |= TOKEN_LSTRIP;
	} else if (contains(name, "phi-3") || contains(name, "phi3")) {
		for (int i = 0; i < t->n_specials; i++)
			t->tokens[t->specials[i]].attr |= TOKEN_RSTRIP;
		id = tokenizer_find(t, "</s>");
		if (id >= 0)
			t->tokens[id].attr |= TOKEN_RSTRIP;
		for (int i = 0; i < 3; i++) {
			id = tokenizer_find(t, without[i]);
			if (id >= 0)
				t->tokens[id].attr &= (uint16_t)~TOKEN_RSTRIP;
		}
	}
}

static int choose_pre(struct tokenizer *t, const struct source *s, struct err *e)
{
	char names[1200];

	get_string(s, "tokenizer.ggml.pre", t->info.pre, sizeof(t->info.pre));
	t->info.pre_missing = !t->info.pre[0];
	t->pre = pretok_find(t->info.pre);
	if (!t->pre) {
		pretok_names(names, sizeof(names));
		return err_set(e, EXIT_MODEL_INVALID, "unknown pre-tokenizer \"%s\" "
			       "(tokenizer.ggml.pre); known: %s", t->info.pre, names);
	}
	snprintf(t->info.pre, sizeof(t->info.pre), "%s", t->pre->name);
	t->ignore_merges = t->pre->ignore_merges;
	t->info.add_bos = t->pre->add_bos;
	t->info.bos = t->pre->no_bos ? -1 : 11;
	t->info.eos = 11;
	return 0;
}

static int choose_model(struct tokenizer **out, const struct source *s, struct err *e)
{
	char model[32] = "";
	struct tokenizer *t;

	if (!get_string(s, "tokenizer.ggml.model", model, sizeof(model)))
		return err_set(e, EXIT_MODEL_INVALID, "the file has no tokenizer "
			       "(tokenizer.ggml.model); use --tokenizer FILE");
	if (strcmp(model, "none") == 0 || strcmp(model, "no_vocab") == 0) {
		*out = t = tokenizer_new(TOKENIZER_NONE);
		memcpy(t->info.model, model, sizeof(model));
		return 0;
	}
	if (strcmp(model, "gpt2") != 0 && strcmp(model, "llama") != 0)
		return err_set(e, EXIT_MODEL_INVALID,
			       "tokenizer model \"%s\" is not supported; known: "
			       "gpt2 (byte-level BPE), llama (SentencePiece), none",
			       model);
	t = tokenizer_new(model[0] == 'g' ? TOKENIZER_BPE : TOKENIZER_SPM);
	memcpy(t->info.model, model, sizeof(model));
	if (t->kind == TOKENIZER_SPM) {
		t->info.bos = 1;
		t->info.eos = 2;
		t->info.unk = 0;
		t->info.add_bos = t->space_prefix = true;
	}
	*out = t;
	return 0;
}

static void note_missing_pre(struct tokenizer *t)
{
	bool llama3 = t->info.n_vocab >= 128256 && tokenizer_find(t, "<|begin_of_text|>") >= 0;

	if (!t->info.pre_missing)
		return;
	snprintf(
		t->info.note, sizeof(t->info.note),
		"the file names no pre-tokenizer: \"default\" is used, as llama.cpp does, and splits "
		"words wrongly for most models; %s --override-kv tokenizer.ggml.pre=str:%s, for both "
		"sides",
		llama3 ? "this is Llama 3's vocabulary, correct is" : "give the right one by",
		llama3 ? "llama-bpe" : "NAME");
}

static int build(struct tokenizer *t, const struct source *s, struct err *e)
{
	int r = t->kind == TOKENIZER_BPE ? choose_pre(t, s, e) : 0;

	if (t->kind == TOKENIZER_NONE)
		return tokenizer_finish(t, e);
	if (r == 0)
		r = read_tokens(t, s->g, e);
	if (r == 0 && t->kind == TOKENIZER_BPE)
		r = read_merges(t, s->g, e);
	if (r < 0)
		return r;
	get_id(s, "bos", t, &t->info.bos);
	get_id(s, "eos", t, &t->info.eos);
	get_id(s, "eot", t, &t->info.eot);
	get_id(s, "unknown", t, &t->info.unk);
	get_id(s, "padding", t, &t->info.pad);
	find_fim(s, t);
	if (t->kind == TOKENIZER_SPM)
		get_bool(s, "tokenizer.ggml.add_space_prefix", &t->space_prefix);
	get_bool(s, "tokenizer.ggml.add_bos_token", &t->info.add_bos);
	get_bool(s, "tokenizer.ggml.add_eos_token", &t->info.add_eos);
	r = tokenizer_finish(t, e);
	if (r < 0)
		return r;
	strip_rules(t, s);
	if (t->kind == TOKENIZER_BPE)
		note_missing_pre(t);
	return 0;
}

int tokenizer_from_gguf(struct tokenizer **out, const struct gguf *g, const char *const *overrides,
			int n_overrides, struct err *e)
{
	struct source s = {g, overrides, n_overrides};
	struct tokenizer *t = NULL;
	int r = check_overrides(&s, e);

	if (r == 0)
		r = choose_model(&t, &s, e);
	if (r < 0)
		return r;
	r = build(t, &s, e);
	if (r < 0) {
		tokenizer_free(t);
		return r;
	}
	*out = t;
	return 0;
}
