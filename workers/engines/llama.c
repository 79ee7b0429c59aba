#include "llama_engine.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef ASSAY_REFERENCE
#define ASSAY_REFERENCE "llama"
#endif

/* ---- the reference's own words ------------------------------------------------------------ */

static void line_done(struct engine *g)
{
	if (g->line_level == GGML_LOG_LEVEL_ERROR && *g->line && !*g->first_error)
		snprintf(g->first_error, sizeof(g->first_error), "%s", g->line);
	if (g->on_note && *g->line && g->n_notes < LLAMA_NOTES_MAX &&
	    (g->line_level == GGML_LOG_LEVEL_ERROR || g->line_level == GGML_LOG_LEVEL_WARN) &&
	    ++g->n_notes)
		g->on_note(g->note_ctx, g->line);
	g->line[0] = 0;
}

static void on_log(enum ggml_log_level level, const char *text, void *user_data)
{
	struct engine *g = user_data;
	size_t n = strlen(g->line);

	fputs(text, stderr);
	if (level != GGML_LOG_LEVEL_CONT)
		g->line_level = (int)level;
	for (; *text; text++) {
		if (*text == '\n') {
			line_done(g);
			n = 0;
		} else if (n + 1 < sizeof(g->line)) {
			g->line[n++] = *text;
			g->line[n] = 0;
		}
	}
}

static bool on_progress(float progress, void *user_data)
{
	struct engine *g = user_data;
	int percent = (int)(progress * 100);
	char line[64];

	if (!g->on_note || percent < g->percent + 10)
		return true;
	g->percent = percent;
	snprintf(line, sizeof(line), "loading %d %%", percent);
	return g->on_note(g->note_ctx, line) >= 0;
}

/* ---- open --------------------------------------------------------------------------------- */

static bool parse_override(struct llama_model_kv_override *o, const char *text)
{
	const char *equals = strchr(text, '='), *colon = equals ? strchr(equals, ':') : NULL;
	size_t n = equals ? (size_t)(equals - text) : 0;
	const char *value;
	char *end = NULL;

	if (!colon || n == 0 || n >= sizeof(o->key))
		return false;
	memcpy(o->key, text, n);
	o->key[n] = 0;
	n = (size_t)(colon - equals - 1);
	value = colon + 1;
	if (n == 3 && strncmp(equals + 1, "int", n) == 0) {
		o->tag = LLAMA_KV_OVERRIDE_TYPE_INT;
		o->val_i64 = strtoll(value, &end, 10);
	} else if (n == 5 && strncmp(equals + 1, "float", n) == 0) {
		o->tag = LLAMA_KV_OVERRIDE_TYPE_FLOAT;
		o->val_f64 = strtod(value, &end);
	} else if (n == 4 && strncmp(equals + 1, "bool", n) == 0) {
		o->tag = LLAMA_KV_OVERRIDE_TYPE_BOOL;
		o->val_bool = strcmp(value, "true") == 0;
		return o->val_bool || strcmp(value, "false") == 0;
#ifdef HAVE_LLAMA_OVERRIDE_STR
	} else if (n == 3 && strncmp(equals + 1, "str", n) == 0) {
		o->tag = LLAMA_KV_OVERRIDE_TYPE_STR;
		if (strlen(value) >= sizeof(o->val_str))
			return false;
		strcpy(o->val_str, value);
		return true;
#endif
	}
	return end && *value && !*end;
}

static int meta_int(const struct engine *g, const char *suffix, int absent)
{
	char key[128], text[64];

	snprintf(key, sizeof(key), "%s.%s", g->info.arch, suffix);
	if (llama_model_meta_val_str(g->model, key, text, sizeof(text)) < 0)
		return absent;
	return atoi(text);
}

/* "AVX2 = 1 | FMA = 1 | …" → "avx2,fma,…": what the library says it was built with. */
static void built_isa(char *out, size_t size)
{
	const char *at = llama_print_system_info();
	size_t n = 0;

	out[0] = 0;
	while ((at = strstr(at, " = 1"))) {
		const char *from = at;

		while (from > llama_print_system_info() &&
		       (isalnum((unsigned char)from[-1]) || from[-1] == '_'))
			from--;
		at += 4;
		if ((strncmp(from, "AVX", 3) && strncmp(from, "FMA", 3) &&
		     strncmp(from, "F16C", 4) && strncmp(from, "NEON", 4)) ||
		    n + (size_t)(at - from) >= size)
			continue;
		if (n)
			out[n++] = ',';
		for (; *from != ' '; from++)
			out[n++] = (char)tolower((unsigned char)*from);
		out[n] = 0;
	}
}

static void fill_info(struct engine *g, const struct engine_options *o)
{
	struct engine_info *i = &g->info;
	char text[64];
	int bos, eos, eot, n_train;

	llama_model_meta_val_str(g->model, "general.architecture", i->arch, sizeof(i->arch));
	llama_model_desc(g->model, i->weights, sizeof(i->weights));
	if (g->ctx) {
		api_sizes(g->model, &i->n_embd, &i->n_layer, &i->n_head, &n_train);
	} else {	/* a vocabulary alone has no sizes: asking for them ends some trees */
		i->n_embd = meta_int(g, "embedding_length", 0);
		i->n_layer = meta_int(g, "block_count", 0);
		i->n_head = meta_int(g, "attention.head_count", 0);
		n_train = meta_int(g, "context_length", 0);
	}
	api_special(g->model, &bos, &eos, &eot);
	i->bos = bos;
	i->eos = eos;
	i->eot = eot;
	i->n_vocab = api_n_vocab(g->model);
	i->n_ff = meta_int(g, "feed_forward_length", 0);
	i->n_kv_head = meta_int(g, "attention.head_count_kv", i->n_head);
	i->head_dim = meta_int(g, "attention.key_length", i->n_head ? i->n_embd / i->n_head : 0);
	i->add_bos = api_add_bos(g->model);
	i->n_ctx = g->ctx ? (int)llama_n_ctx(g->ctx) : n_train;
	built_isa(i->isa, sizeof(i->isa));
	if (llama_model_meta_val_str(g->model, "tokenizer.ggml.pre", text, sizeof(text)) < 0 &&
	    llama_model_meta_val_str(g->model, "tokenizer.ggml.model", text, sizeof(text)) >= 0 &&
	    strcmp(text, "gpt2") == 0)
		snprintf(
			i->note, sizeof(i->note),
			"the file names no pre-tokenizer: the reference falls back to \"default\"");
	if (o->tokenizer_path)
		snprintf(i->note + strlen(i->note), sizeof(i->note) - strlen(i->note),
			 "%sthe reference uses the model file's own vocabulary, not %s",
			 *i->note ? "; " : "", o->tokenizer_path);
}

static int open_model(struct engine *g, const struct engine_options *o, struct err *e)
{
	struct llama_model_kv_override kv[ENGINE_OVERRIDES_MAX + 1];
	struct llama_model_params p = llama_model_default_params();

	memset(kv, 0, sizeof(kv));
	for (int i = 0; i < o->n_overrides; i++)
		if (!parse_override(&kv[i], o->overrides[i]))
			return err_set(e, EXIT_USAGE,
				       "override \"%s\" is not KEY=int|float|bool|str:VALUE that "
				       "this reference takes",
				       o->overrides[i]);
	if (access(o->model_path, R_OK) != 0)
		return err_set(e, EXIT_MODEL_LOAD,
			       "cannot read model %s: %s; `assay fetch-models` fetches models and "
			       "prints their paths",
			       o->model_path, strerror(errno));
	api_parity_model(&p);
	p.vocab_only = o->vocab_only;
	p.kv_overrides = o->n_overrides ? kv : NULL;
	p.progress_callback = on_progress;
	p.progress_callback_user_data = g;
	g->model = api_load(o->model_path, p);
	if (!g->model)
		return err_set(e, EXIT_MODEL_LOAD, "the reference cannot load %s: %s",
			       o->model_path,
			       *g->first_error ? g->first_error : "it does not say why");
	return 0;
}

static int open_context(struct engine *g, const struct engine_options *o, struct err *e)
{
	struct llama_context_params p = llama_context_default_params();
	int n_embd, n_layer, n_head, n_train;

	api_sizes(g->model, &n_embd, &n_layer, &n_head, &n_train);
	g->n_ubatch = o->n_ubatch ? o->n_ubatch : LLAMA_UBATCH;
	p.n_ctx = (uint32_t)(o->n_ctx ? o->n_ctx : n_train < 4096 ? n_train : 4096);
	p.n_batch = p.n_ubatch = (uint32_t)g->n_ubatch;
	p.n_threads = p.n_threads_batch = o->n_threads;
	p.type_k = p.type_v = o->kv_f32 ? GGML_TYPE_F32 : GGML_TYPE_F16;
	p.cb_eval = llama_watch_eval;
	p.cb_eval_user_data = g;
	api_parity_context(&p);
	g->ctx = api_context(g->model, p);
	if (!g->ctx)
		return err_set(e, EXIT_MODEL_LOAD,
			       "the reference cannot make a context of %u positions for %s: %s",
			       p.n_ctx, o->model_path, g->first_error);
	g->batch = llama_batch_init(g->n_ubatch, 0, 1);
	return 0;
}

static void llama_close(struct engine *g)
{
	g->on_note = NULL;
	if (g->ctx) {
		llama_free(g->ctx);
		llama_batch_free(g->batch);
	}
	if (g->model)
		api_free_model(g->model);
	llama_log_set(NULL, NULL);
	free(g->watch.buf);
	free(g);
}

static int llama_open(struct engine **out, const struct engine_options *o, struct err *e)
{
	struct engine *g = calloc(1, sizeof(*g));
	int rc;

	if (!g)
		return err_set(e, EXIT_INTERNAL, "no memory");
	g->on_note = o->on_note;
	g->note_ctx = o->note_ctx;
	g->watch.only_layer = INT_MIN;
	llama_log_set(on_log, g);
	api_start();
	rc = open_model(g, o, e);
	if (rc == 0 && !o->vocab_only)
		rc = open_context(g, o, e);
	if (rc < 0) {
		llama_close(g);
		return rc;
	}
	fill_info(g, o);
	*out = g;
	return 0;
}

static const struct engine_info *llama_info(const struct engine *g)
{
	return &g->info;
}

/* ---- words -------------------------------------------------------------------------------- */

static int llama_words_of(struct engine *g, const char *text, size_t bytes, bool add_bos,
			  bool parse_special, int32_t **ids, int *n_ids, struct err *e)
{
	llama_words *w = api_words(g->model);
	int32_t *out;
	int n;

	if (bytes > INT32_MAX)
		return err_set(e, EXIT_USAGE, "a text of %zu bytes is too long", bytes);
	n = -llama_tokenize(w, text, (int32_t)bytes, NULL, 0, add_bos, parse_special);
	if (n < 0)
		return err_set(e, EXIT_INFERENCE, "the reference's tokenizer failed: %s",
			       g->first_error);
	out = malloc(((size_t)n + 1) * sizeof(*out));
	if (!out)
		return err_set(e, EXIT_INTERNAL, "no memory");
	if (llama_tokenize(w, text, (int32_t)bytes, out, n, add_bos, parse_special) != n) {
		free(out);
		return err_set(e, EXIT_INFERENCE,
			       "the reference's tokenizer gave two lengths for one text");
	}
	*ids = out;
	*n_ids = n;
	return 0;
}

static int llama_piece(struct engine *g, int32_t id, char *out, size_t size, struct err *e)
{
	int n;

	if (id < 0 || id >= g->info.n_vocab)
		return err_set(e, EXIT_USAGE, "id %d is outside the vocabulary of %d", (int)id,
			       g->info.n_vocab);
	n = llama_token_to_piece(api_words(g->model), id, out, (int32_t)size, 0, true);
	if (n < 0)
		return err_set(e, EXIT_INTERNAL, "the piece of id %d has %d bytes", (int)id, -n);
	return n;
}

/* ---- evaluation --------------------------------------------------------------------------- */

int llama_engine_decode(struct engine *g, const int32_t *ids, int n, int pos0, bool all,
			struct err *e)
{
	struct llama_batch *b = &g->batch;
	int rc;

	b->n_tokens = n;
	for (int i = 0; i < n; i++) {
		b->token[i] = ids[i];
		b->pos[i] = pos0 + i;
		b->n_seq_id[i] = 1;
		b->seq_id[i][0] = 0;
		b->logits[i] = all || i == n - 1;
	}
	g->first_error[0] = 0;
	rc = llama_decode(g->ctx, *b);
	if (rc != 0)
		return err_set(e, EXIT_INFERENCE,
			       "the reference's llama_decode of positions %d to %d returned %d%s%s",
			       pos0, pos0 + n - 1, rc, *g->first_error ? ": " : "", g->first_error);
	return 0;
}

static int32_t first_maximum(const float *x, int n)
{
	int best = 0;

	for (int i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

/* One decode with its trace and its splice. */
static int step(struct engine *g, const struct engine_eval *q, const int32_t *ids, int n, int pos0,
		int seq, struct err *e)
{
	struct llama_watch *w = &g->watch;
	int rc;

	w->n_over = 0;
	if (q->splice && seq == 0) {
		w->over[w->n_over++] = (struct llama_overwrite){
			.stage = q->splice_layer < 0 ? STAGE_EMBEDDINGS : STAGE_LAYER_OUT,
			.layer = q->splice_layer,
			.n_rows = n,
			.values = q->splice + (ptrdiff_t)pos0 * g->info.n_embd,
			.elements = (int64_t)n * g->info.n_embd,
		};
	}
	llama_watch_begin(w, pos0, n, seq);
	rc = llama_engine_decode(g, ids, n, pos0,
				 q->logits == ENGINE_LOGITS_ALL || w->stages || w->n_over, e);
	return rc < 0 ? rc : llama_watch_end(g, e);
}

/* Hands on the logits of a decode's rows; *token is the choice at the last one when it chooses.
 * Without ALL only the prompt's last row and decoded ones count. */
static int report(struct engine *g, const struct engine_eval *q, int n, int pos0, int seq,
		  bool chooses, int32_t *token, struct err *e)
{
	for (int i = q->logits == ENGINE_LOGITS_ALL ? 0 : n - 1; i < n; i++) {
		bool last = chooses && i == n - 1;
		const float *x;
		int rc;

		if (!last && (q->logits == ENGINE_LOGITS_NONE ||
			      (q->logits == ENGINE_LOGITS_LAST && pos0 + n < q->n_tokens)))
			continue;
		x = llama_get_logits_ith(g->ctx, i);
		if (!x)
			return err_set(e, EXIT_INFERENCE,
				       "the reference has no logits at position %d", pos0 + i);
		if (last)
			*token = first_maximum(x, g->info.n_vocab);
		rc = q->on_logits(q->ctx, pos0 + i, seq, last ? *token : -1,
				  q->logits == ENGINE_LOGITS_NONE && !last ? NULL : x);
		if (rc != 0)
			return rc < 0 ? rc : -EXIT_INFERENCE;
	}
	return 0;
}

static bool stops_at(const struct engine_eval *q, int32_t id)
{
	for (int i = 0; i < q->n_stops; i++)
		if (q->stops[i] == id)
			return true;
	return false;
}

/* Positions of the decode that begins at pos: batches are cut into micro-batches each. */
static int next_chunk(const struct engine *g, const struct engine_eval *q, int pos)
{
	int end = q->n_tokens;

	if (q->batch > 0 && (pos / q->batch + 1) * (int64_t)q->batch < end)
		end = (pos / q->batch + 1) * q->batch;
	return end - pos < g->n_ubatch ? end - pos : g->n_ubatch;
}

static int llama_evaluate(struct engine *g, const struct engine_eval *q, struct err *e)
{
	int rc = 0, pos = 0;
	int32_t token = -1;

	if (!g->ctx)
		return err_set(e, EXIT_USAGE, "the model was opened for its vocabulary only");
	if (q->temperature > 0)
		return err_set(e, EXIT_USAGE,
			       "a reference decodes greedily: temperature must be 0");
	g->watch.stages = q->trace_stages;
	g->watch.values = q->trace_values;
	g->watch.on_trace = q->on_trace;
	g->watch.ctx = q->ctx;
	g->watch.only_layer = INT_MIN;
	g->watch.row0 = 0;
	g->n_notes = 0;
	api_clear(g->ctx);
	while (rc == 0 && pos < q->n_tokens) {
		int n = next_chunk(g, q, pos);
		bool chooses = q->n_greedy > 0 && pos + n == q->n_tokens;

		rc = step(g, q, q->tokens + pos, n, pos, 0, e);
		if (rc == 0)
			rc = report(g, q, n, pos, 0, chooses, &token, e);
		pos += n;
	}
	for (int k = 1; rc == 0 && k < q->n_greedy && !stops_at(q, token); k++, pos++) {
		int32_t id = token;

		rc = step(g, q, &id, 1, pos, k, e);
		if (rc == 0)
			rc = report(g, q, 1, pos, k, true, &token, e);
	}
	g->watch.stages = 0;
	g->watch.n_over = 0;
	return rc;
}

static void llama_counters(struct engine *g, engine_counter_fn *fn, void *ctx)
{
	char key[64];

	for (int op = 0; op < LLAMA_OPS_MAX; op++)
		for (int type = 0; type < LLAMA_TYPES_MAX; type++) {
			if (!g->calls[op][type])
				continue;
			snprintf(key, sizeof(key), "%s%s%s", ggml_op_name((enum ggml_op)op),
				 type ? "." : "",
				 type ? ggml_type_name((enum ggml_type)(type - 1)) : "");
			fn(ctx, key, g->calls[op][type]);
		}
}

const struct engine_ops engine_llama = {
	.name = ASSAY_REFERENCE,
	.features = "tokenize,evaluate,trace,replay,splice,vocab_only",
	.open = llama_open,
	.info = llama_info,
	.tokenize = llama_words_of,
	.piece = llama_piece,
	.evaluate = llama_evaluate,
	.replay = llama_engine_replay,
	.counters = llama_counters,
	.close = llama_close,
};
