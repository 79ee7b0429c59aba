#include "inspect.h"

#include "gguf_internal.h"
#include "model.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 3, 4)))
static void found(struct inspection *r, enum inspect_level level, const char *fmt, ...)
{
	va_list ap;

	r->n_problems += level == INSPECT_PROBLEM;
	if (r->n_findings == INSPECT_FINDINGS_MAX)
		return;
	r->findings[r->n_findings].level = level;
	va_start(ap, fmt);
	vsnprintf(r->findings[r->n_findings++].text, sizeof(r->findings->text), fmt, ap);
	va_end(ap);
}

/* ---- tokenizer ---------------------------------------------------------------------------- */

static int64_t token_id(struct inspection *r, const struct gguf *g, const char *key)
{
	const struct gguf_kv *kv = gguf_find(g, key);
	uint64_t id;

	if (!kv)
		return -1;
	if (!gguf_u64(g, key, &id) || id >= r->n_tokens) {
		found(r, INSPECT_PROBLEM, "%s is outside the vocabulary of %" PRIu64 " tokens", key,
		      r->n_tokens);
		return -1;
	}
	return (int64_t)id;
}

static void check_merges(struct inspection *r, const struct gguf *g)
{
	const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.merges");
	struct gguf_str s;
	size_t at = 0;

	if (!kv)
		return;
	r->n_merges = kv->count;
	for (uint64_t i = 0; gguf_next_string(kv, &at, &s); i++)
		if (s.n < 3 || !memchr(s.s + 1, ' ', s.n - 2)) {
			found(r, INSPECT_PROBLEM,
			      "merge %" PRIu64 " ('%s') is not two parts with a space between", i,
			      gguf_show(s).s);
			return;
		}
}

static void check_token_types(struct inspection *r, const struct gguf *g)
{
	const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.token_type");

	for (uint64_t i = 0; kv && i < kv->count; i++)
		if (gguf_array_i64(kv, i) < 0 || gguf_array_i64(kv, i) > 6) {
			found(r, INSPECT_PROBLEM,
			      "token %" PRIu64 " has type %" PRId64 "; types are 0 to 6", i,
			      gguf_array_i64(kv, i));
			return;
		}
}

static void check_tokenizer(struct inspection *r, const struct gguf *g)
{
	const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
	const struct gguf_tensor *embd = gguf_tensor(g, "token_embd.weight");
	struct gguf_str s;

	if (gguf_string(g, "tokenizer.ggml.model", &s))
		snprintf(r->tokenizer, sizeof(r->tokenizer), "%s", gguf_show(s).s);
	if (gguf_string(g, "tokenizer.ggml.pre", &s))
		snprintf(r->pre, sizeof(r->pre), "%s", gguf_show(s).s);
	if (gguf_string(g, "tokenizer.chat_template", &s))
		r->chat_template_bytes = s.n;
	if (!tokens) {
		if (g->n_tensors)
			found(r, INSPECT_NOTE,
			      "there is no vocabulary: only token ids can be evaluated, or a "
			      "tokenizer "
			      "must be given");
		return;
	}
	r->n_tokens = tokens->count;
	r->bos = token_id(r, g, "tokenizer.ggml.bos_token_id");
	r->eos = token_id(r, g, "tokenizer.ggml.eos_token_id");
	check_merges(r, g);
	check_token_types(r, g);
	if (embd && (uint64_t)embd->ne[1] != tokens->count)
		found(r, INSPECT_PROBLEM,
		      "the vocabulary has %" PRIu64 " tokens, the embeddings have %" PRId64 " rows",
		      tokens->count, embd->ne[1]);
	r->pre_missing = strcmp(r->tokenizer, "gpt2") == 0 && !r->pre[0];
	if (r->pre_missing)
		found(r, INSPECT_NOTE,
		      "tokenizer.ggml.pre is missing: llama.cpp falls back to the pre-tokenizer "
		      "\"default\" and splits text differently from the model's own; for Llama-3 "
		      "vocabularies give both "
		      "sides --override-kv tokenizer.ggml.pre=str:llama-bpe");
}

/* ---- tensors ------------------------------------------------------------------------------ */

static void count_types(struct inspection *r, const struct gguf *g)
{
	size_t at = 0;

	for (const struct weight_type *t = weight_types; t->name; t++) {
		uint64_t n = 0;

		for (uint64_t i = 0; i < g->n_tensors; i++)
			n += g->tensors[i].type == t->id;
		if (n && at < sizeof(r->types))
			at += (size_t)snprintf(r->types + at, sizeof(r->types) - at,
					       "%s%s:%" PRIu64, at ? " " : "", t->name, n);
	}
	for (uint64_t i = 0; i < g->n_tensors; i++)
		if (!weight_type_by_id(g->tensors[i].type)) {
			found(r, INSPECT_NOTE,
			      "tensor %s has type %u, which assay does not compute with",
			      gguf_show(g->tensors[i].name).s, g->tensors[i].type);
			return;
		}
}

/* "blk.7.attn_norm.weight" → "attn_norm"; false for anything but a norm's weight. */
static bool gamma_kind(struct gguf_str name, char *kind, size_t size)
{
	struct gguf_shown shown = gguf_show(name);
	char *part = shown.s, *end = strstr(part, "norm.weight");

	if (!end || end[strlen("norm.weight")])
		return false;
	if (strncmp(part, "blk.", 4) == 0 && strchr(part + 4, '.'))
		part = strchr(part + 4, '.') + 1;
	snprintf(kind, size, "%.*s", (int)(end + 4 - part), part);
	return true;
}

static struct inspect_gamma *gamma_of(struct inspection *r, const char *kind)
{
	for (int i = 0; i < r->n_gammas; i++)
		if (strcmp(r->gammas[i].name, kind) == 0)
			return &r->gammas[i];
	if (r->n_gammas == INSPECT_GAMMAS_MAX)
		return NULL;
	struct inspect_gamma *g = &r->gammas[r->n_gammas++];

	*g = (struct inspect_gamma){
		.rms_min = INFINITY, .rms_max = 0, .low = INFINITY, .high = -INFINITY};
	snprintf(g->name, sizeof(g->name), "%s", kind);
	return g;
}

static void add_gamma(struct inspection *r, const struct gguf_tensor *t)
{
	char kind[48];

	if (t->type != TYPE_F32 || t->n_dims != 1 || !gamma_kind(t->name, kind, sizeof(kind)))
		return;
	struct inspect_gamma *g = gamma_of(r, kind);
	double sum = 0;

	if (!g)
		return;
	for (int64_t i = 0; i < t->ne[0]; i++) {
		float x;

		memcpy(&x, t->data + 4 * i, sizeof(x));
		if (!isfinite(x)) {
			found(r, INSPECT_PROBLEM, "tensor %s holds %s at %" PRId64,
			      gguf_show(t->name).s, isnan(x) ? "NaN" : "an infinity", i);
			return;
		}
		sum += (double)x * (double)x;
		g->low = fmin(g->low, (double)x);
		g->high = fmax(g->high, (double)x);
	}
	double rms = sqrt(sum / (double)t->ne[0]);

	g->n_tensors++;
	g->rms_min = fmin(g->rms_min, rms);
	g->rms_max = fmax(g->rms_max, rms);
}

/* Keys of other architectures: in these graphs nobody looks at them. */
static void check_unread(struct inspection *r, const struct gguf *g, struct gguf_str arch)
{
	static const char *const suffixes[] = {
		"attention.scale", "logit_scale", "residual_scale", "embedding_scale",
		"attention.clamp_kqv", "attn_logit_softcapping", "final_logit_softcapping",
		"attention.sliding_window", "rope.scaling.alpha", "rope.scaling.yarn_ext_factor",
		"rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_fast",
		"rope.scaling.yarn_beta_slow", "rope.scaling.yarn_log_multiplier",
	};
	char key[160];

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
		snprintf(key, sizeof(key), "%.*s.%s", (int)arch.n, arch.s, suffixes[i]);
		if (gguf_find(g, key))
			found(r, INSPECT_NOTE,
			      "%s is there, and has no effect: neither llama.cpp nor native reads "
			      "it for this architecture",
			      key);
	}
}

/* An engine's own reading of the file: hyperparameters, every tensor's presence and shape. */
static void check_model(struct inspection *r, const struct gguf *g, const char *path)
{
	struct err e = ERR_NONE;
	struct gguf_str arch;
	struct model m;
	char known[256];

	if (!gguf_string(g, "general.architecture", &arch)) {
		found(r, INSPECT_PROBLEM, "key general.architecture is missing");
		return;
	}
	if (g->n_tensors == 0) {
		found(r, INSPECT_NOTE, "there are no tensors: a vocabulary or a metadata file");
		return;
	}
	if (!arch_by_name(arch.s, arch.n)) {
		found(r, INSPECT_NOTE, "architecture %s is not one that assay evaluates (%s)",
		      gguf_show(arch).s, arch_names(known, sizeof(known)));
		return;
	}
	check_unread(r, g, arch);
	if (model_open(&m, path, NULL, &e) < 0) {
		size_t n = strlen(path);
		bool prefixed =
			strncmp(e.msg, path, n) == 0 && e.msg[n] == ':' && e.msg[n + 1] == ' ';

		found(r, INSPECT_PROBLEM, "%.500s", e.msg + (prefixed ? n + 2 : 0));
		return;
	}
	model_close(&m);
}

void inspect_model(struct inspection *r, const struct gguf *g, const char *path)
{
	*r = (struct inspection){ .bos = -1, .eos = -1 };
	count_types(r, g);
	for (uint64_t i = 0; i < g->n_tensors; i++)
		add_gamma(r, &g->tensors[i]);
	check_tokenizer(r, g);
	check_model(r, g, path);
}
