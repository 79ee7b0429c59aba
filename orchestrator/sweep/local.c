#include "local.h"

#include "kernels/weight_type.h"
#include "local_again.h"
#include "trace_dir.h"
#include "verdict/diagnosis.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is kept ------------------------------------------------------------------------- */

static struct local_kept *kept_at(struct local_feed *f, int layer, enum trace_stage stage)
{
	return &f->kept[layer + 1][stage];
}

static bool grows(enum trace_stage s)
{
	return s == STAGE_K_ROPE || s == STAGE_V;
}

static int keep(struct local_feed *f, const struct trace_record *r, const float *values,
		struct err *e)
{
	struct local_kept *k = kept_at(f, r->layer, r->stage);
	int64_t from = grows(r->stage) ? k->n : 0, need = from + r->num_elements;

	if (need > k->cap) {
		float *x = realloc(k->x, (size_t)need * sizeof(*x));

		if (!x)
			return err_set(e, EXIT_INTERNAL, "no memory to keep %s", r->name);
		k->x = x;
		k->cap = need;
	}
	memcpy(k->x + from, values, (size_t)r->num_elements * sizeof(float));
	k->n = need;
	k->rows = (grows(r->stage) ? k->rows : 0) + (int)r->shape[0];
	k->call = f->call;
	return 0;
}

static void drop(struct local_kept *k)
{
	free(k->x);
	*k = (struct local_kept){0};
}

/* A layer is over: only what later ones read stays. */
static void drop_layer(struct local_feed *f, int layer)
{
	for (int s = 0; s < STAGE_COUNT; s++)
		if (!grows((enum trace_stage)s) && s != STAGE_LAYER_OUT)
			drop(kept_at(f, layer, (enum trace_stage)s));
	if (layer > 0)
		drop(kept_at(f, layer - 1, STAGE_LAYER_OUT));
	else
		drop(kept_at(f, -1, STAGE_EMBEDDINGS));
}

/* ---- one operation ------------------------------------------------------------------------ */

/* Inputs as the replaying engine wants them; false when one is not there. */
static bool collect(struct local_feed *f, const struct trace_record *r, struct side_op *op)
{
	struct local_input in[LOCAL_INPUTS_MAX];
	int rows = (int)r->shape[0];

	*op = (struct side_op){.stage = r->stage, .layer = r->layer, .n_rows = rows,
			       .pos0 = f->pos0 + f->n_rows - rows};
	op->n_inputs = local_inputs(r->stage, r->layer, f->n_layer, f->has[r->layer + 1], in);
	for (int i = 0; i < op->n_inputs; i++) {
		struct local_kept *k = kept_at(f, in[i].layer, in[i].stage);
		int want = in[i].whole ? f->next_pos : rows;

		if (k->call != f->call || k->rows < want || !k->n)
			return false;
		int64_t width = k->n / k->rows;

		/* rows that nobody asked for are left out behind the last layer */
		op->input_stage[i] = in[i].stage;
		op->input[i] = in[i].whole ? k->x : k->x + (k->rows - want) * width;
		op->input_elements[i] = want * width;
	}
	if (r->stage == STAGE_EMBEDDINGS) {
		op->ids = f->ids + op->pos0;
		return op->pos0 + rows <= f->n_ids;
	}
	return true;
}

/* Float32 terms of one result of a product. */
static double terms_of(const struct local_feed *f, enum trace_stage stage, int layer)
{
	char name[96];
	const struct gguf_tensor *t = NULL;

	if (!f->weights || stage == STAGE_EMBEDDINGS)
		return 0;
	if (operation_weight(stage, layer, name, sizeof(name) - 8)) {
		strcat(name, ".weight");
		t = gguf_tensor(f->weights, name);
	}
	if (!t && stage == STAGE_LOGITS)
		t = gguf_tensor(f->weights, "token_embd.weight");
	const struct weight_type *type = t ? weight_type_by_id(t->type) : NULL;

	return type ? local_terms(type->name, t->ne[0]) : 0;
}

static int judge(struct local_feed *f, const struct trace_record *r, const float *values,
		 struct err *e)
{
	struct local_row row = {.stage = r->stage, .layer = r->layer, .seq = r->seq};
	struct side_op op;
	float *out = NULL;
	int64_t n = 0;
	int rc;

	if (!collect(f, r, &op)) {
		local_missing(f->pass, r->name, r->seq);
		return 0;
	}
	rc = side_replay(f->replayer, &op, &out, &n, e);
	if (rc < 0)
		return rc;
	if (n != r->num_elements) {
		rc = err_set(e, EXIT_WORKER, "engine %s: %s has %lld values, the trace %lld",
			     f->replayer->engine, r->name, (long long)n,
			     (long long)r->num_elements);
	} else {
		row.fused = r->stage == STAGE_ATTN_OUT_HEADS && op.n_inputs == 3;
		enum local_kind kind = row.fused ? LOCAL_FLASH : local_kind_of(r->stage);

		row.bound = local_bound(kind, kind == LOCAL_PRODUCT ?
					terms_of(f, r->stage, r->layer) : 0, f->n_positions);
		tensor_diff(&row.diff, out, values, n, r->shape[0]);
		if (!row.fused && row.diff.row_ulp > row.bound)
			local_again(f, &op, &row, out, values);
		local_add(f->pass, &row);
		if (f->on_seen) {
			struct local_seen seen = {f->own, op, values,
						  out,    n,  &f->pass->rows[f->pass->n - 1]};

			rc = f->on_seen(f->ctx, &seen, e);
		}
	}
	free(out);
	return rc;
}

/* ---- the feed ----------------------------------------------------------------------------- */

int local_feed_init(struct local_feed *f, struct side *replayer, struct local_pass *pass,
		    const int32_t *ids, int n_ids, struct err *e)
{
	*f = (struct local_feed){.replayer = replayer, .pass = pass, .ids = ids, .n_ids = n_ids,
				 .n_layer = replayer->n_layer, .n_positions = n_ids};
	digest_init(&f->traced);
	digest_init(&f->answered);
	f->has = calloc((size_t)f->n_layer + 1, sizeof(*f->has));
	f->kept = calloc((size_t)f->n_layer + 1, sizeof(*f->kept));
	if (f->has && f->kept)
		return 0;
	local_feed_free(f);
	return err_set(e, EXIT_INTERNAL, "no memory for a local check");
}

static void note_missing(struct local_feed *f)
{
	const uint64_t fused = STAGE_BIT(STAGE_ATTN_SCORES) | STAGE_BIT(STAGE_ATTN_SOFTMAX);

	for (int layer = -1; f->call && f->expected && layer < f->n_layer; layer++) {
		uint64_t lack = f->expected[layer + 1] & ~f->has[layer + 1];

		/* attention in one operation was judged as a whole */
		if (!(f->has[layer + 1] & fused) && f->has[layer + 1] >> STAGE_ATTN_OUT_HEADS & 1)
			lack &= ~fused;
		for (int s = 0; s < STAGE_COUNT; s++)
			if (lack >> s & 1) {
				char name[64];

				local_name((enum trace_stage)s, layer, name, sizeof(name));
				local_missing(f->pass, name, f->call - 1);
			}
		/* what only the reference has is missing in ours */
		lack = f->has[layer + 1] & ~f->expected[layer + 1];
		for (int s = 0; s < STAGE_COUNT; s++)
			if (lack >> s & 1) {
				char name[64], whose[128];

				local_name((enum trace_stage)s, layer, name, sizeof(name));
				snprintf(whose, sizeof(whose), "%s (in %.40s)", name,
					 f->replayer->engine);
				local_missing(f->pass, whose, f->call - 1);
			}
	}
}

static void begin_call(struct local_feed *f, int rows)
{
	note_missing(f);
	f->call++;
	f->pos0 = f->next_pos;
	f->n_rows = rows;
	f->next_pos += rows;
	f->pass->n_positions = f->next_pos;
	memset(f->has, 0, ((size_t)f->n_layer + 1) * sizeof(*f->has));
}

static bool begins_call(const struct local_feed *f, const struct trace_record *r)
{
	if (f->call == 0 || r->stage == STAGE_EMBEDDINGS)
		return true;
	return r->stage == STAGE_ATTN_NORM && r->layer == 0 && f->has[1] >> STAGE_ATTN_NORM & 1;
}

int local_feed_add(void *feed, const struct trace_record *r, const float *values, struct err *e)
{
	struct local_feed *f = feed;
	int rc;

	if (r->layer < -1 || r->layer >= f->n_layer)
		return err_set(e, EXIT_WORKER, "trace record %.60s: the model has %d layers",
			       r->name, f->n_layer);
	if (!values)
		return err_set(e, EXIT_USAGE,
			       "the trace has no values for %.60s (assay trace --values "
			       "--out DIR writes them)",
			       r->name);
	if (begins_call(f, r))
		begin_call(f, (int)r->shape[0]);
	if (r->shape[0] > f->n_rows)
		return err_set(e, EXIT_WORKER,
			       "trace record %.60s has %lld rows, the call it belongs to %d positions: shape= is "
			       "positions first", r->name, (long long)r->shape[0], f->n_rows);
	f->has[r->layer + 1] |= (uint64_t)1 << r->stage;
	if (r->stage == STAGE_LOGITS)
		digest_update(&f->traced, values, (size_t)r->num_elements * sizeof(*values));
	rc = judge(f, r, values, e);
	if (rc == 0)
		rc = keep(f, r, values, e);
	if (rc == 0 && r->stage == STAGE_LAYER_OUT)
		drop_layer(f, r->layer);
	return rc;
}

void local_feed_end(struct local_feed *f)
{
	note_missing(f);
}

void local_feed_free(struct local_feed *f)
{
	for (int l = 0; f->kept && l <= f->n_layer; l++)
		for (int s = 0; s < STAGE_COUNT; s++)
			free(f->kept[l][s].x);
	free(f->kept);
	for (int i = 0; i <= LOCAL_PROFILES; i++)
		if (f->other[i].client)
			side_close(&f->other[i]);
	free(f->has);
	*f = (struct local_feed){0};
}

/* ---- weights ------------------------------------------------------------------------------ */

struct hashes {
	char (*name)[96];
	char (*sha)[65];
	int n, cap;
};

static int on_weight(void *ctx, const char *name, const char *type, const char *sha, struct err *e)
{
	struct hashes *h = ctx;

	(void)type;
	(void)e;
	if (h->n == h->cap) {
		h->cap = h->cap ? 2 * h->cap : 256;
		h->name = realloc(h->name, (size_t)h->cap * sizeof(*h->name));
		h->sha = realloc(h->sha, (size_t)h->cap * sizeof(*h->sha));
		assert(h->name && h->sha);
	}
	snprintf(h->name[h->n], sizeof(*h->name), "%s", name);
	snprintf(h->sha[h->n++], sizeof(*h->sha), "%s", sha);
	return 0;
}

static void free_hashes(struct hashes *h)
{
	free(h->name);
	free(h->sha);
	*h = (struct hashes){0};
}

/* The place of a name; files list their tensors in much the same order. */
static int place_of(const struct hashes *h, const char *name, int hint)
{
	for (int i = 0; i < h->n; i++) {
		int k = (hint + i) % h->n;

		if (strcmp(h->name[k], name) == 0)
			return k;
	}
	return -1;
}

/* Names in a whose hash b has not, then (unless partial) those that only b has; NULL = none. */
static char *differing(const struct hashes *a, const struct hashes *b, bool partial)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert(f);
	for (int i = 0; i < a->n; i++) {
		int k = place_of(b, a->name[i], i);

		if (k < 0 ? !partial : strcmp(a->sha[i], b->sha[k]) != 0)
			fprintf(f, "%s\n", a->name[i]);
	}
	for (int k = 0; k < b->n; k++)
		if (place_of(a, b->name[k], k) < 0)
			fprintf(f, "%s\n", b->name[k]);
	fclose(f);
	if (n)
		return text;
	free(text);
	return NULL;
}

static int read_hashes(struct hashes *h, const char *engine, const struct exchange_setup *u,
		       bool reference, struct err *e)
{
	struct side s;
	int rc = side_open(&s, engine, u, reference, NULL, 0, e);

	if (rc == 0 && s.has_weights)
		rc = side_weights(&s, on_weight, h, e);
	side_close(&s);
	return rc;
}

bool local_two_files(const struct exchange_setup *u)
{
	return u->model_ref && strcmp(u->model_ref, u->model) != 0;
}

int local_weights_equal(const struct exchange_setup *u, bool *equal, char **differ, struct err *e)
{
	struct hashes h[2] = {{0}};
	int rc = 0;

	*differ = NULL;
	*equal = true;
	if (!local_two_files(u))
		return 0;
	for (int i = 0; i < 2 && rc == 0; i++)
		rc = read_hashes(&h[i], "native", u, i == 1, e);
	if (rc == 0)
		*differ = differing(&h[0], &h[1], false);
	*equal = rc == 0 && !*differ;
	free_hashes(&h[0]);
	free_hashes(&h[1]);
	return rc;
}

int local_reader_equal(const struct exchange_setup *u, const char *engine, bool reference,
		       char **differ, struct err *e)
{
	struct hashes h[2] = {{0}};
	int rc = 0;

	*differ = NULL;
	if (engine_is_own(engine))
		return 0;
	rc = read_hashes(&h[1], engine, u, reference, e);
	if (rc == 0 && h[1].n)
		rc = read_hashes(&h[0], "native", u, reference, e);
	if (rc == 0 && h[1].n)
		*differ = differing(&h[0], &h[1], true);
	free_hashes(&h[0]);
	free_hashes(&h[1]);
	return rc;
}

/* ---- both passes -------------------------------------------------------------------------- */

/* The ids that the run reads: the prompt's, and the decoded ones but the last. */
static int32_t *all_ids(const struct local_job *j, int who, int *n)
{
	int more = j->n_greedy[who] > 1 ? j->n_greedy[who] - 1 : 0;
	int32_t *ids = malloc((size_t)(j->n_ids + more + 1) * sizeof(*ids));

	assert(ids);
	memcpy(ids, j->ids, (size_t)j->n_ids * sizeof(*ids));
	if (more)
		memcpy(ids + j->n_ids, j->greedy[who], (size_t)more * sizeof(*ids));
	*n = j->n_ids + more;
	return ids;
}

static int on_logits(void *ctx, int pos, int step, int32_t token, const float *logits,
		     struct err *e)
{
	struct local_feed *f = ctx;

	(void)pos;
	(void)step;
	(void)token;
	(void)e;
	digest_update(&f->answered, logits, (size_t)f->n_vocab * sizeof(*logits));
	return 0;
}

/* Operations that are right prove nothing of logits that come from somewhere else. A recording may
 * hold its logits rounded. */
static void bind_logits(struct local_feed *f, const struct side *source, const char *compared)
{
	char traced[DIGEST_HEX], answered[DIGEST_HEX];
	uint8_t sha[DIGEST_BYTES];

	digest_final(&f->traced, sha);
	digest_hex(sha, traced);
	digest_final(&f->answered, sha);
	digest_hex(sha, answered);
	if (strcmp(traced, answered) != 0 && strncmp(source->engine, "recorded:", 9) != 0)
		snprintf(f->pass->other_run, sizeof(f->pass->other_run),
			 "the logits that %.60s answers are not those that it traces: something is done to "
			 "them behind the last operation", f->pass->source);
	else if (compared && *compared && strcmp(answered, compared) != 0)
		snprintf(f->pass->other_run, sizeof(f->pass->other_run),
			 "%.60s gave other logits in this run than in the one that was compared: it is not "
			 "equal to itself, or keeps something between requests", f->pass->source);
}

static int run_pass(struct local_feed *f, struct side *source, const struct local_job *j,
		    int who, struct err *e)
{
	struct side_eval q = {.ids = j->ids, .n_ids = j->n_ids, .n_greedy = j->n_greedy[who],
			      .batch = j->setup->batch, .on_trace = local_feed_add,
			      .on_logits = on_logits, .ctx = f};
	int rc;

	if (!source->traces)
		return err_set(
			e, EXIT_NOTHING_RAN,
			"engine %.200s does not trace, so its operations cannot be judged one by one; "
			"docs/engines.md says what a trace is",
			source->engine);
	f->n_vocab = source->n_vocab;
	rc = side_evaluate(source, &q, e);
	if (rc == 0) {
		local_feed_end(f);
		bind_logits(f, source, j->logits_sha256[who]);
	}
	return rc;
}

/* Stages that our own run shows are what the other run must show. */
static int own_pass(struct local_result *out, struct side *ours, const struct local_job *j,
		    uint64_t **expected, const struct gguf *weights, struct err *e)
{
	struct side source;
	struct local_feed f = {0};
	int n, rc = side_open(&source, j->ours, j->setup, j->swapped || j->both_references,
			      j->reference,
			      j->n_ids + j->n_greedy[0], e);
	int32_t *ids = all_ids(j, 0, &n);

	if (rc == 0)
		rc = local_feed_init(&f, ours, &out->own, ids, n, e);
	if (rc == 0) {
		f.own = true;
		f.weights = weights;
		f.on_seen = j->on_seen;
		f.ctx = j->ctx;
		rc = run_pass(&f, &source, j, 0, e);
		*expected = malloc(((size_t)f.n_layer + 1) * sizeof(**expected));
		assert(*expected);
		memcpy(*expected, f.has, ((size_t)f.n_layer + 1) * sizeof(**expected));
	}
	local_feed_free(&f);
	side_close(&source);
	free(ids);
	return rc;
}

static int reference_pass(struct local_result *out, struct side *ours, const struct local_job *j,
			  const uint64_t *expected, const struct gguf *weights, struct err *e)
{
	struct side source = {0};
	struct local_feed f = {0};
	int n, rc = 0;
	int32_t *ids = all_ids(j, 1, &n);

	if (!j->reference_trace)
		rc = side_open(&source, j->reference, j->setup,
			       !j->swapped || j->both_references, j->ours,
			       j->n_ids + j->n_greedy[1], e);
	if (rc == 0)
		rc = local_feed_init(&f, ours, &out->reference, ids, n, e);
	if (rc == 0) {
		char profile[64] = "";

		engine_profile(j->reference, profile, sizeof(profile));
		f.again = j;
		f.other_profiles = strcmp(j->ours, "native") == 0 && !*profile;
		f.weights = weights;
		f.expected = expected;
		f.on_seen = j->on_seen;
		f.ctx = j->ctx;
		if (!j->reference_trace) {
			rc = run_pass(&f, &source, j, 1, e);
		} else {
			rc = trace_dir_read(j->reference_trace, local_feed_add, &f, e);
			if (rc == 0)
				local_feed_end(&f);
		}
	}
	local_feed_free(&f);
	side_close(&source);
	free(ids);
	return rc;
}

int local_run(struct local_result *out, const struct local_job *j, struct err *e)
{
	uint64_t *expected = NULL;
	const char *ours_label;
	struct side ours;
	struct gguf weights = {0};
	struct err not_gguf = ERR_NONE;
	char *differ = NULL;
	int rc = 0;

	out->tried = true;
	out->tokens_equal = true;
	ours_label = j->label[0] ? j->label[0] : j->ours;
	local_pass_init(&out->reference, j->label[1] ? j->label[1] : j->reference, ours_label);
	local_pass_init(&out->own, ours_label, ours_label);
	out->weights_equal = true;
	if (!j->both_references)
		rc = local_weights_equal(j->setup, &out->weights_equal, &differ, e);
	free(differ);
	if (rc == 0)
		rc = side_open(&ours, j->ours, j->setup, j->swapped || j->both_references,
			       j->reference,
			       j->n_ids + j->n_greedy[0], e);
	if (rc < 0)
		return rc;
	out->quantised = local_quantised(ours.weights);
	if (!ours.replays || !ours.traces) {
		snprintf(out->reason, sizeof(out->reason), "engine %.200s cannot replay operations",
			 j->ours);
	} else {
		bool known = gguf_open(&weights, j->setup->model, &not_gguf) == 0;

		rc = own_pass(out, &ours, j, &expected, known ? &weights : NULL, e);
		if (rc == 0)
			rc = reference_pass(out, &ours, j, expected, known ? &weights : NULL, e);
		gguf_close(&weights);
		out->ran = rc == 0;
		local_decide(out);
	}
	free(expected);
	side_close(&ours);
	return rc;
}
