/*
 * The native engine: the forward pass of workers/model with the kernels of workers/kernels, in a
 * numerics profile, on memory-mapped weights.
 */
#include "engine.h"
#include "forward.h"
#include "replay.h"
#include "tokenizer.h"
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct engine {
	struct model model;
	struct gguf vocab_file;		/* vocab_only: opened instead of the model */
	struct tokenizer *tokenizer;
	struct kernels kernels;
	struct team *team;
	struct session session;
	bool evaluates;			/* model, kernels and session are there */
	struct engine_info info;
};

static void native_close(struct engine *g)
{
	if (!g)
		return;
	session_close(&g->session);
	team_free(g->team);
	tokenizer_free(g->tokenizer);
	model_close(&g->model);
	gguf_close(&g->vocab_file);
	free(g);
}

static int open_tokenizer(struct engine *g, const struct gguf *file,
			  const struct engine_options *o, struct err *e)
{
	if (!o->tokenizer_path)
		return tokenizer_from_gguf(&g->tokenizer, file, o->overrides, o->n_overrides, e);
	size_t n = strlen(o->tokenizer_path);
	if (n > 5 && strcmp(o->tokenizer_path + n - 5, ".json") == 0)
		return tokenizer_from_json(&g->tokenizer, o->tokenizer_path, e);
	struct gguf other = {0};
	int rc = gguf_open(&other, o->tokenizer_path, e);
	if (rc == 0)
		rc = tokenizer_from_gguf(&g->tokenizer, &other, o->overrides, o->n_overrides, e);
	gguf_close(&other);
	return rc;
}

/* Notes say what a receipt must: the file's oddities and defects that are computed on purpose. */
static void describe_tokenizer(struct engine *g, const struct engine_options *o)
{
	const char *defects = o->reproduce_defects && !o->vocab_only && g->model.bitnet_family
				      ? "reproduces bitnet.cpp's int16 wrap in I2_S products" : "";
	const struct tokenizer_info *t = tokenizer_info(g->tokenizer);
	struct engine_info *i = &g->info;
	i->bos = t->bos;
	i->eos = t->eos;
	i->eot = t->eot;
	i->add_bos = t->add_bos;
	snprintf(i->note, sizeof(i->note), "%s%s%s", t->note,
		 t->note[0] && defects[0] ? "; " : "", defects);
	if (i->n_vocab == 0)
		i->n_vocab = t->n_vocab;
}

static void describe_model(struct engine *g)
{
	const struct hparams *h = &g->model.hp;
	struct engine_info *i = &g->info;
	snprintf(i->arch, sizeof(i->arch), "%s", h->arch->name);
	snprintf(i->weights, sizeof(i->weights), "%s", g->model.weights);
	snprintf(i->profile, sizeof(i->profile), "%s", g->kernels.profile.name);
	snprintf(i->isa, sizeof(i->isa), "%s", isa_name(g->kernels.isa));
	i->n_vocab = h->n_vocab;
	i->n_layer = h->n_layer;
	i->n_embd = h->n_embd;
	i->n_ff = h->n_ff;
	i->n_head = h->n_head;
	i->n_kv_head = h->n_kv_head;
	i->head_dim = h->head_dim;
	i->n_ctx = g->session.n_ctx;
}

static int open_model(struct engine *g, const struct engine_options *o, struct err *e)
{
	const struct overrides overrides = {o->overrides, o->n_overrides};
	const struct session_options s = {o->n_ctx, o->n_ubatch, o->kv_f32, o->reproduce_defects};
	const struct cpu_flags cpu = cpu_flags_detect();
	struct profile profile;
	int rc = model_open(&g->model, o->model_path, &overrides, e);
	if (rc == 0)
		rc = profile_by_name(&profile, o->profile ? o->profile : "ggml-avx2",
				     g->model.bitnet_family, e);
	if (rc == 0)
		rc = kernels_init(&g->kernels, &cpu, o->isa, &profile, e);
	if (rc == 0)
		rc = team_new(&g->team, o->n_threads > 0 ? o->n_threads : 1, o->pin_threads, e);
	if (rc == 0)
		rc = session_open(&g->session, &g->model, &g->kernels, g->team, &s, e);
	if (rc != 0)
		return rc;
	g->evaluates = true;
	describe_model(g);
	return open_tokenizer(g, &g->model.gguf, o, e);
}

/* Tokenizer and metadata only; the weights' pages are never touched. */
static int open_vocab(struct engine *g, const struct engine_options *o, struct err *e)
{
	struct gguf_str arch = {"", 0};
	int rc = gguf_open(&g->vocab_file, o->model_path, e);
	if (rc == 0)
		rc = open_tokenizer(g, &g->vocab_file, o, e);
	if (rc == 0 && gguf_string(&g->vocab_file, "general.architecture", &arch))
		snprintf(g->info.arch, sizeof(g->info.arch), "%.*s",
			 (int)(arch.n > 31 ? 31 : arch.n), arch.s);
	return rc;
}

static int native_open(struct engine **out, const struct engine_options *o, struct err *e)
{
	struct engine *g = calloc(1, sizeof(*g));
	if (!g)
		return err_set(e, EXIT_INTERNAL, "no memory for the engine");
	int rc = o->vocab_only ? open_vocab(g, o, e) : open_model(g, o, e);
	if (rc != 0) {
		native_close(g);
		return rc;
	}
	describe_tokenizer(g, o);
	*out = g;
	return 0;
}

static const struct engine_info *native_info(const struct engine *g)
{
	return &g->info;
}

static int native_tokenize(struct engine *g, const char *text, size_t bytes, bool add_bos,
			   bool parse_special, int32_t **ids, int *n_ids, struct err *e)
{
	return tokenizer_encode(g->tokenizer, text, bytes, add_bos, parse_special, ids, n_ids, NULL,
				e);
}

static int native_piece(struct engine *g, int32_t id, char *out, size_t size, struct err *e)
{
	return tokenizer_piece(g->tokenizer, id, true, out, size, e);
}

static int need_model(const struct engine *g, struct err *e)
{
	return g->evaluates
		       ? 0
		       : err_set(e, EXIT_USAGE,
				 "the model was opened for its vocabulary only; nothing can be evaluated");
}

static int native_evaluate(struct engine *g, const struct engine_eval *q, struct err *e)
{
	int rc = need_model(g, e);
	return rc != 0 ? rc : forward_evaluate(&g->session, q, e);
}

static int native_replay(struct engine *g, const struct engine_replay *q, struct err *e)
{
	int rc = need_model(g, e);
	return rc != 0 ? rc : replay_run(&g->session, q, e);
}

static int native_weights(struct engine *g, const char *name, bool values, engine_weight_fn *fn,
			  void *ctx, struct err *e)
{
	int rc = need_model(g, e);
	return rc != 0 ? rc : weights_each(&g->model.gguf, name, values, fn, ctx, e);
}

static void native_counters(struct engine *g, engine_counter_fn *fn, void *ctx)
{
	op_counts_each(&g->session.ops.count, fn, ctx);
}

const struct engine_ops engine_native = {
	.name = "native",
	.features = "tokenize,evaluate,trace,replay,splice,weights,vocab_only",
	.open = native_open,
	.info = native_info,
	.tokenize = native_tokenize,
	.piece = native_piece,
	.evaluate = native_evaluate,
	.replay = native_replay,
	.weights = native_weights,
	.counters = native_counters,
	.close = native_close,
};
