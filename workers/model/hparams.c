#include "hparams.h"
#include "rope.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct arch arch_table[] = {
	{"bitnet-b1.58", ACTIVATION_RELU2, .neox = true, .sub_norms = true, .bitnet_only = true},
	{"bitnet-25", ACTIVATION_RELU2, .neox = true, .sub_norms = true, .bitnet_only = true},
	{"bitnet", ACTIVATION_SILU, .neox = true, .sub_norms = true},
	{"llama", ACTIVATION_SILU, .neox = false},
	{"qwen2", ACTIVATION_SILU, .neox = true},
	{"qwen3", ACTIVATION_SILU, .neox = true, .qk_norms = true},
	{.name = NULL},
};

const struct arch *arch_by_name(const char *name, size_t n)
{
	for (const struct arch *a = arch_table; a->name; a++)
		if (strlen(a->name) == n && memcmp(a->name, name, n) == 0)
			return a;
	return NULL;
}

const char *arch_names(char *out, size_t size)
{
	size_t at = 0;
	out[0] = 0;
	for (const struct arch *a = arch_table; a->name && at < size; a++)
		at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", a->name);
	return out;
}

/* ---- overrides ---------------------------------------------------------------------------- */

/* "key=type:value" taken apart; the value borrows the text. */
static bool override_split(const char *text, size_t *key_bytes, char type[8], const char **value)
{
	const char *equals = strchr(text, '='), *colon = equals ? strchr(equals, ':') : NULL;
	if (!equals || equals == text || !colon || colon - equals > 7)
		return false;
	*key_bytes = (size_t)(equals - text);
	memcpy(type, equals + 1, (size_t)(colon - equals - 1));
	type[colon - equals - 1] = 0;
	*value = colon + 1;
	return true;
}

int overrides_check(const struct overrides *o, struct err *e)
{
	for (int i = 0; i < o->n; i++) {
		size_t n;
		char type[8], *end = NULL;
		const char *value;
		bool good = override_split(o->items[i], &n, type, &value);
		if (good && strcmp(type, "int") == 0)
			good = (strtoll(value, &end, 10), end != value && *end == 0);
		else if (good && strcmp(type, "float") == 0)
			good = (strtod(value, &end), end != value && *end == 0);
		else if (good && strcmp(type, "bool") == 0)
			good = strcmp(value, "true") == 0 || strcmp(value, "false") == 0;
		else
			good = good && strcmp(type, "str") == 0;
		if (!good)
			return err_set(
				e, EXIT_USAGE,
				"override \"%s\" is not of the form KEY=TYPE:VALUE with TYPE int, "
				"float, bool or str",
				o->items[i]);
	}
	return 0;
}

static const char *override_type_of(enum gguf_type t)
{
	switch (t) {
	case GGUF_F32: case GGUF_F64: return "float";
	case GGUF_BOOL: return "bool";
	case GGUF_STRING: return "str";
	case GGUF_ARRAY: return NULL;
	default: return "int";
	}
}

int overrides_fit(const struct overrides *o, const struct gguf *g, struct err *e)
{
	for (int i = 0; i < o->n; i++) {
		size_t n;
		char type[8], key[256];
		const char *value, *want;
		if (!override_split(o->items[i], &n, type, &value) || n >= sizeof(key))
			continue;
		snprintf(key, sizeof(key), "%.*s", (int)n, o->items[i]);
		const struct gguf_kv *kv = gguf_find(g, key);
		want = kv ? override_type_of(kv->type) : NULL;
		if (want && strcmp(want, type) != 0)
			return err_set(e, EXIT_USAGE,
				       "override \"%s\" is of type %s, the key is %s in the file; "
				       "write %s=%s:…",
				       o->items[i], type, gguf_type_name(kv->type), key, want);
	}
	return 0;
}

/* The last override of key with one of the types (space-separated), or NULL. */
static const char *override_find(const struct overrides *o, const char *key, const char *types)
{
	const char *found = NULL;
	for (int i = 0; o && i < o->n; i++) {
		size_t n;
		char type[8];
		const char *value;
		if (override_split(o->items[i], &n, type, &value) && strlen(key) == n &&
		    memcmp(o->items[i], key, n) == 0 && strstr(types, type))
			found = value;
	}
	return found;
}

bool hparams_u64(const struct gguf *g, const struct overrides *o, const char *key, uint64_t *out)
{
	const char *v = override_find(o, key, "int");
	if (!v)
		return gguf_u64(g, key, out);
	long long n = strtoll(v, NULL, 10);
	if (n < 0)
		return false;
	*out = (uint64_t)n;
	return true;
}

bool hparams_f64(const struct gguf *g, const struct overrides *o, const char *key, double *out)
{
	const char *v = override_find(o, key, "float int");
	if (!v)
		return gguf_f64(g, key, out);
	*out = strtod(v, NULL);
	return true;
}

bool hparams_string(const struct gguf *g, const struct overrides *o, const char *key,
		    struct gguf_str *out)
{
	const char *v = override_find(o, key, "str");
	if (!v)
		return gguf_string(g, key, out);
	*out = (struct gguf_str){v, strlen(v)};
	return true;
}

/* ---- reading ------------------------------------------------------------------------------ */

struct reader {
	const struct gguf *g;
	const struct overrides *o;
	const char *arch;
	struct err *e;		/* sticky: the first failure stays */
};

static const char *full_key(const struct reader *r, const char *suffix, char key[160])
{
	snprintf(key, 160, "%s.%s", r->arch, suffix);
	return key;
}

static int read_int(struct reader *r, const char *suffix, uint64_t lo, uint64_t hi, int absent)
{
	char key[160];
	uint64_t v;
	if (!hparams_u64(r->g, r->o, full_key(r, suffix, key), &v)) {
		const struct gguf_kv *kv = gguf_find(r->g, key);
		if (absent >= 0 && !kv)
			return absent;
		if (r->e->code == 0)
			err_set(r->e, EXIT_MODEL_LOAD,
				kv ? "%s in the model file is %s; one integer is needed"
				   : "the model file lacks %s%s",
				key, kv ? gguf_type_name(kv->type) : "");
		return 0;
	}
	if ((v < lo || v > hi) && r->e->code == 0)
		err_set(r->e, EXIT_MODEL_LOAD, "%s is %llu; expected %llu to %llu", key,
			(unsigned long long)v, (unsigned long long)lo, (unsigned long long)hi);
	return (int)v;
}

/* One number, or an array with one for each layer; only equal ones can be computed with. */
static int read_each(struct reader *r, const char *suffix, int n_layer, uint64_t hi, int absent)
{
	char key[160];
	const struct gguf_kv *kv = gguf_find(r->g, full_key(r, suffix, key));
	if (!kv || kv->type != GGUF_ARRAY || override_find(r->o, key, "int"))
		return read_int(r, suffix, 1, hi, absent);
	if (kv->count != (uint64_t)n_layer && r->e->code == 0)
		err_set(r->e, EXIT_MODEL_LOAD, "%s has %llu values for %d layers", key,
			(unsigned long long)kv->count, n_layer);
	const int64_t v = gguf_array_i64(kv, 0);
	for (uint64_t i = 1; i < kv->count && r->e->code == 0; i++)
		if (gguf_array_i64(kv, i) != v)
			err_set(r->e, EXIT_MODEL_LOAD,
				"%s differs between layers (%lld in layer 0, %lld in layer %llu); "
				"only models with equal layers are supported",
				key, (long long)v, (long long)gguf_array_i64(kv, i),
				(unsigned long long)i);
	if ((v < 1 || (uint64_t)v > hi) && r->e->code == 0)
		err_set(r->e, EXIT_MODEL_LOAD, "%s is %lld; expected 1 to %llu", key, (long long)v,
			(unsigned long long)hi);
	return (int)v;
}

static float read_float(struct reader *r, const char *suffix, double lo, double hi, double absent)
{
	char key[160];
	double v;
	if (!hparams_f64(r->g, r->o, full_key(r, suffix, key), &v)) {
		if (isnan(absent) && r->e->code == 0)
			err_set(r->e, EXIT_MODEL_LOAD, "the model file lacks %s", key);
		return (float)absent;
	}
	if (!(v >= lo && v <= hi) && r->e->code == 0)
		err_set(r->e, EXIT_MODEL_LOAD, "%s is %g; expected %g to %g", key, v, lo, hi);
	return (float)v;
}

static bool str_is(struct gguf_str s, const char *text)
{
	return s.n == strlen(text) && memcmp(s.s, text, s.n) == 0;
}

static void read_activation(struct reader *r, struct hparams *h)
{
	static const struct { const char *name; enum activation a; } names[] = {
		{"silu", ACTIVATION_SILU}, {"swish", ACTIVATION_SILU},
		{"relu2", ACTIVATION_RELU2}, {"relu_squared", ACTIVATION_RELU2},
	};
	char key[160];
	struct gguf_str s;
	h->activation = h->arch->activation;
	if (!hparams_string(r->g, r->o, full_key(r, "hidden_activation", key), &s))
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!str_is(s, names[i].name))
			continue;
		h->activation = names[i].a;
		h->activation_from_file = true;
		return;
	}
	if (r->e->code == 0)
		err_set(r->e, EXIT_MODEL_LOAD,
			"%s is \"%.*s\"; known activations are silu and relu2", key,
			(int)(s.n > 64 ? 64 : s.n), s.s);
}

static void read_sizes(struct reader *r, struct hparams *h)
{
	h->n_layer = read_int(r, "block_count", 1, GGUF_BLOCKS_MAX, -1);
	h->n_embd = read_int(r, "embedding_length", 1, 1 << 20, -1);
	h->n_ff = read_each(r, "feed_forward_length", h->n_layer, 1 << 22, -1);
	h->n_head = read_each(r, "attention.head_count", h->n_layer, 1 << 14, -1);
	if (r->e->code != 0)
		return;
	h->n_kv_head = read_each(r, "attention.head_count_kv", h->n_layer, (uint64_t)h->n_head,
				 h->n_head);
	h->n_ctx_train = read_int(r, "context_length", 1, INT32_MAX, 4096);
	h->norm_eps = read_float(r, "attention.layer_norm_rms_epsilon", 0, 1, NAN);
	h->head_dim = read_int(r, "attention.key_length", 1, 1 << 16, h->n_embd / h->n_head);
	int value = read_int(r, "attention.value_length", 1, 1 << 16, h->n_embd / h->n_head);
	if (r->e->code != 0)
		return;
	if (h->head_dim < 1 || h->head_dim % 2 != 0 || value != h->head_dim)
		err_set(r->e, EXIT_MODEL_LOAD,
			"head size is %d for keys and %d for values; one even size is supported",
			h->head_dim, value);
	else if (h->n_head % h->n_kv_head != 0)
		err_set(r->e, EXIT_MODEL_LOAD, "%d attention heads cannot share %d key/value heads",
			h->n_head, h->n_kv_head);
	h->attn_scale = 1.0f / sqrtf((float)h->head_dim);
}

/* What changes the graph, and is not computed here. */
static void refuse_others(struct reader *r)
{
	static const struct { const char *suffix, *what; } counts[] = {
		{"expert_count", "mixtures of experts are not supported"},
		{"nextn_predict_layers", "layers that draft the next tokens are not supported"},
	};
	char key[160];
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		uint64_t n = 0;
		if (hparams_u64(r->g, r->o, full_key(r, counts[i].suffix, key), &n) && n > 0 &&
		    r->e->code == 0)
			err_set(r->e, EXIT_MODEL_LOAD, "%s is %llu; %s", key, (unsigned long long)n,
				counts[i].what);
	}
	const char *v = override_find(r->o, full_key(r, "attention.causal", key), "bool");
	bool causal = true;
	gguf_bool(r->g, key, &causal);
	if (r->e->code == 0 && (v ? strcmp(v, "true") != 0 : !causal))
		err_set(r->e, EXIT_MODEL_LOAD,
			"%s is false; only causal attention is supported", key);
}

int hparams_read(struct hparams *out, const struct gguf *g, const struct overrides *o,
		 bool bitnet_family, struct err *e)
{
	struct hparams h = {0};
	struct gguf_str name;
	struct err first = ERR_NONE;
	char known[256];
	if (!hparams_string(g, o, "general.architecture", &name))
		return err_set(e, EXIT_MODEL_LOAD, "the model file lacks general.architecture");
	h.arch = arch_by_name(name.s, name.n);
	if (!h.arch)
		return err_set(e, EXIT_MODEL_LOAD,
			       "architecture \"%.*s\" is not supported; known are %s",
			       (int)(name.n > 64 ? 64 : name.n), name.s,
			       arch_names(known, sizeof(known)));
	struct reader r = {g, o, h.arch->name, &first};
	h.neox = h.arch->neox;
	read_sizes(&r, &h);
	refuse_others(&r);
	if (first.code == 0)
		read_activation(&r, &h);
	if (first.code == 0)
		rope_read(&h, g, o, bitnet_family || h.arch->bitnet_only, &first);
	if (first.code != 0)
		return err_set(e, (enum exit_code)first.code, "%s", first.msg);
	*out = h;
	return 0;
}
