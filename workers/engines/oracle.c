#include "oracle.h"

#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct oracle_shape oracle_shape(const struct engine *g)
{
	const struct hparams *h = &g->model.hp;

	return (struct oracle_shape){ h->n_head, h->n_kv_head, h->head_dim };
}

/* ---- opening ------------------------------------------------------------------------------ */

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

/* From the file named, else from the model's own keys; none at all is allowed. */
static int open_tokenizer(struct engine *g, const struct engine_options *o, struct err *e)
{
	struct gguf other = {0};

	if (!o->tokenizer_path) {
		if (!gguf_find(&g->model.gguf, "tokenizer.ggml.model"))
			return 0;
		return tokenizer_from_gguf(&g->tokenizer, &g->model.gguf, o->overrides,
					   o->n_overrides, e);
	}
	if (ends_with(o->tokenizer_path, ".json"))
		return tokenizer_from_json(&g->tokenizer, o->tokenizer_path, e);
	int rc = gguf_open(&other, o->tokenizer_path, e);

	if (rc == 0)
		rc = tokenizer_from_gguf(&g->tokenizer, &other, o->overrides, o->n_overrides, e);
	gguf_close(&other);
	return rc;
}

static int open_model(struct engine *g, const struct engine_options *o, struct err *e)
{
	struct overrides overrides = { o->overrides, o->n_overrides };

	if (o->vocab_only)
		return gguf_open(&g->model.gguf, o->model_path, e);
	int rc = model_open(&g->model, o->model_path, &overrides, e);

	if (rc < 0)
		return rc;
	const struct hparams *h = &g->model.hp;
	size_t kv = (size_t)h->n_kv_head * (size_t)h->head_dim;
	size_t widest = (size_t)(h->n_ff > h->n_embd ? h->n_ff : h->n_embd);
	int train = h->n_ctx_train > 0 && h->n_ctx_train < ORACLE_CTX_MAX ? h->n_ctx_train
									  : ORACLE_CTX_MAX;

	if ((size_t)(h->n_head * h->head_dim) > widest)
		widest = (size_t)(h->n_head * h->head_dim);
	g->n_ctx = o->n_ctx > 0 ? o->n_ctx : train;
	g->n_ubatch = o->n_ubatch > 0 ? o->n_ubatch : ORACLE_UBATCH;
	rc = team_new(&g->team, o->n_threads > 0 ? o->n_threads : 1, false, e);
	if (rc < 0)
		return rc;
	g->k = calloc((size_t)h->n_layer * (size_t)g->n_ctx,
		      kv * sizeof(double)); /* touched as used */
	g->v = calloc((size_t)h->n_layer * (size_t)g->n_ctx, kv * sizeof(double));
	g->scratch = malloc((size_t)team_size(g->team) * widest * sizeof(float));
	if (!g->k || !g->v || !g->scratch)
		return err_set(e, EXIT_MODEL_LOAD,
			       "no memory for a cache of %d positions; ask for fewer", g->n_ctx);
	return 0;
}

static void fill_info(struct engine *g)
{
	const struct hparams *h = &g->model.hp;
	struct engine_info *i = &g->info;
	struct gguf_str arch = { "", 0 };

	*i = (struct engine_info){
		.profile = "float64",
		.isa = "c",
		.n_vocab = h->n_vocab,
		.n_layer = h->n_layer,
		.n_embd = h->n_embd,
		.n_ff = h->n_ff,
		.n_head = h->n_head,
		.n_kv_head = h->n_kv_head,
		.head_dim = h->head_dim,
		.n_ctx = g->n_ctx,
		.bos = -1,
		.eos = -1,
		.eot = -1,
	};
	gguf_string(&g->model.gguf, "general.architecture", &arch);
	snprintf(i->arch, sizeof(i->arch), "%.*s", (int)arch.n, arch.s);
	snprintf(i->weights, sizeof(i->weights), "%s", g->model.weights);
	if (!g->tokenizer) {
		snprintf(i->note, sizeof(i->note),
			 "the model file has no vocabulary: token ids only");
		return;
	}
	const struct tokenizer_info *t = tokenizer_info(g->tokenizer);

	i->bos = t->bos;
	i->eos = t->eos;
	i->eot = t->eot;
	i->add_bos = t->add_bos;
	i->n_vocab = i->n_vocab ? i->n_vocab : t->n_vocab;
	snprintf(i->note, sizeof(i->note), "%s", t->note);
}

static void oracle_close(struct engine *g)
{
	if (!g)
		return;
	free(g->k);
	free(g->v);
	free(g->scratch);
	team_free(g->team);
	tokenizer_free(g->tokenizer);
	model_close(&g->model);
	free(g);
}

static int oracle_open(struct engine **out, const struct engine_options *o, struct err *e)
{
	struct engine *g = calloc(1, sizeof(*g));

	if (!g)
		return err_set(e, EXIT_INTERNAL, "out of memory");
	int rc = open_model(g, o, e);

	if (rc == 0)
		rc = open_tokenizer(g, o, e);
	if (rc < 0) {
		oracle_close(g);
		return rc;
	}
	fill_info(g);
	*out = g;
	return 0;
}

/* ---- the small answers -------------------------------------------------------------------- */

static const struct engine_info *oracle_info(const struct engine *g)
{
	return &g->info;
}

static int no_vocabulary(struct err *e)
{
	return err_set(e, EXIT_MODEL_LOAD,
		       "the model file has no vocabulary; name one with --tokenizer, or give "
		       "token ids");
}

static int oracle_tokenize(struct engine *g, const char *text, size_t bytes, bool add_bos,
			   bool parse_special, int32_t **ids, int *n_ids, struct err *e)
{
	if (!g->tokenizer)
		return no_vocabulary(e);
	return tokenizer_encode(g->tokenizer, text, bytes, add_bos, parse_special, ids, n_ids, NULL,
				e);
}

static int oracle_piece(struct engine *g, int32_t id, char *out, size_t size, struct err *e)
{
	if (!g->tokenizer)
		return no_vocabulary(e);
	return tokenizer_piece(g->tokenizer, id, true, out, size, e);
}

static int oracle_weights(struct engine *g, const char *name, bool values, engine_weight_fn *fn,
			  void *ctx, struct err *e)
{
	return weights_each(&g->model.gguf, name, values, fn, ctx, e);
}

static void oracle_counters(struct engine *g, engine_counter_fn *fn, void *ctx)
{
	for (int i = 0; i < ORACLE_OPS; i++)
		if (g->calls[i])
			fn(ctx, oracle_op_names[i], g->calls[i]);
}

const struct engine_ops engine_oracle = {
	.name = "oracle",
	.features = "tokenize,evaluate,trace,replay,splice,weights,vocab_only",
	.open = oracle_open,
	.info = oracle_info,
	.tokenize = oracle_tokenize,
	.piece = oracle_piece,
	.evaluate = oracle_evaluate,
	.replay = oracle_replay,
	.weights = oracle_weights,
	.counters = oracle_counters,
	.close = oracle_close,
};
