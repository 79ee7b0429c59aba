/*
 * The oracle against native: every operation of a native run, replayed by the oracle on native's
 * own inputs, lies within the bound that the formats give (oracle_bounds.h); and a fault planted
 * in one operation breaks that operation's check and no other.
 */
#include "engine.h"
#include "fixtures.h"
#include "gguf.h"
#include "oracle_bounds.h"
#include "test.h"

#include <unistd.h>

extern const struct engine_ops engine_native, engine_oracle;

enum { LAYERS_MAX = 4, PROMPT = 7, CALLS = 2, VALUES_MAX = 1 << 20 };

static char dir[] = "/tmp/assay-oracle-XXXXXX";

/* ---- a native run, recorded --------------------------------------------------------------- */

struct tensor { float *x; int64_t n; };

struct recording {
	struct tensor at[CALLS][STAGE_COUNT][LAYERS_MAX + 1];	/* by call, stage, layer + 1 */
	int32_t ids[PROMPT + 1];
};

static int record(void *ctx, const struct trace_record *r, const float *values)
{
	struct recording *rec = ctx;
	struct tensor *t = &rec->at[r->seq][r->stage][r->layer + 1];

	t->n = r->num_elements;
	t->x = malloc((size_t)t->n * sizeof(float));
	memcpy(t->x, values, (size_t)t->n * sizeof(float));
	return 0;
}

static int record_token(void *ctx, int pos, int step, int32_t token, const float *logits)
{
	(void)pos, (void)logits;
	if (step == 0 && token >= 0)
		((struct recording *)ctx)->ids[PROMPT] = token;
	return 0;
}

static void recording_free(struct recording *rec)
{
	struct tensor *t = &rec->at[0][0][0];

	for (size_t i = 0; i < sizeof(rec->at) / sizeof(*t); i++)
		free(t[i].x);
	free(rec);
}

static struct recording *run_native(const char *path, const char *override, struct err *e)
{
	struct engine_options o = { .model_path = path, .n_threads = 1, .n_ctx = 64 };
	struct recording *rec = calloc(1, sizeof(*rec));
	struct engine *g = NULL;

	if (override)
		o.overrides[o.n_overrides++] = override;
	if (engine_native.open(&g, &o, e) < 0) {
		free(rec);
		return NULL;
	}
	int n_vocab = engine_native.info(g)->n_vocab;

	for (int i = 0; i < PROMPT; i++)
		rec->ids[i] = (i * 97 + 5) % n_vocab;
	struct engine_eval q = {
		.tokens = rec->ids,
		.n_tokens = PROMPT,
		.n_greedy = 2,
		.top_p = 1,
		.trace_stages = UINT64_MAX,
		.trace_values = true,
		.on_logits = record_token,
		.on_trace = record,
		.ctx = rec,
	};
	int rc = engine_native.evaluate(g, &q, e);

	engine_native.close(g);
	if (rc == 0)
		return rec;
	recording_free(rec);
	return NULL;
}

/* ---- one operation ------------------------------------------------------------------------ */

struct check {
	struct engine *oracle;
	struct model model;		/* the true one, for the bounds */
	const struct recording *rec;
	int call, layer;
	enum trace_stage stage;
	float *answer, *joined[2];	/* the oracle's; K and V from position 0 on */
	int64_t n_answer;
	double *bound;
};

static const enum trace_stage inputs_of[STAGE_COUNT][3] = {
	[STAGE_ATTN_NORM] = {STAGE_LAYER_OUT},
	[STAGE_Q] = {STAGE_ATTN_NORM},
	[STAGE_K] = {STAGE_ATTN_NORM},
	[STAGE_V] = {STAGE_ATTN_NORM},
	[STAGE_Q_NORM] = {STAGE_Q},
	[STAGE_K_NORM] = {STAGE_K},
	[STAGE_Q_ROPE] = {STAGE_Q_NORM},
	[STAGE_K_ROPE] = {STAGE_K_NORM},
	[STAGE_ATTN_SCORES] = {STAGE_Q_ROPE, STAGE_K_ROPE},
	[STAGE_ATTN_SOFTMAX] = {STAGE_ATTN_SCORES},
	[STAGE_ATTN_OUT_HEADS] = {STAGE_ATTN_SOFTMAX, STAGE_V},
	[STAGE_ATTN_SUB_NORM] = {STAGE_ATTN_OUT_HEADS},
	[STAGE_ATTN_O] = {STAGE_ATTN_SUB_NORM},
	[STAGE_ATTN_RESIDUAL] = {STAGE_ATTN_O, STAGE_LAYER_OUT},
	[STAGE_FFN_NORM] = {STAGE_ATTN_RESIDUAL},
	[STAGE_FFN_GATE] = {STAGE_FFN_NORM},
	[STAGE_FFN_UP] = {STAGE_FFN_NORM},
	[STAGE_FFN_ACT] = {STAGE_FFN_GATE, STAGE_FFN_UP},
	[STAGE_FFN_SUB_NORM] = {STAGE_FFN_ACT},
	[STAGE_FFN_DOWN] = {STAGE_FFN_SUB_NORM},
	[STAGE_LAYER_OUT] = {STAGE_FFN_DOWN, STAGE_ATTN_RESIDUAL},
	[STAGE_OUTPUT_NORM] = {STAGE_LAYER_OUT},
	[STAGE_LOGITS] = {STAGE_OUTPUT_NORM},
};

/* What a stage was computed from; stages that the architecture lacks fall back to their source. */
static const struct tensor *source(const struct check *c, enum trace_stage *s, int call)
{
	static const enum trace_stage instead[STAGE_COUNT] = {
		[STAGE_Q_NORM] = STAGE_Q, [STAGE_K_NORM] = STAGE_K,
		[STAGE_ATTN_SUB_NORM] = STAGE_ATTN_OUT_HEADS, [STAGE_FFN_SUB_NORM] = STAGE_FFN_ACT,
	};
	int layer = c->layer;

	if (*s == STAGE_LAYER_OUT)
		layer = layer < 0 ? c->model.hp.n_layer - 1 : layer - 1;
	if (*s == STAGE_LAYER_OUT && layer < 0)
		*s = STAGE_EMBEDDINGS;
	const struct tensor *t = &c->rec->at[call][*s][layer + 1];

	if (!t->x && instead[*s]) {
		*s = instead[*s];
		t = &c->rec->at[call][*s][layer + 1];
	}
	return t;
}

/* Rows of both calls one after the other. */
static struct tensor from_zero(struct check *c, int slot, enum trace_stage s)
{
	const struct tensor *a = &c->rec->at[0][s][c->layer + 1],
			    *b = &c->rec->at[1][s][c->layer + 1];
	int64_t n = c->call ? a->n + b->n : a->n;

	free(c->joined[slot]);
	c->joined[slot] = malloc((size_t)n * sizeof(float));
	memcpy(c->joined[slot], a->x, (size_t)a->n * sizeof(float));
	if (c->call)
		memcpy(c->joined[slot] + a->n, b->x, (size_t)b->n * sizeof(float));
	return (struct tensor){ c->joined[slot], n };
}

static int keep_answer(void *ctx, const struct trace_record *r, const float *values)
{
	struct check *c = ctx;

	c->n_answer = r->num_elements;
	memcpy(c->answer, values, (size_t)r->num_elements * sizeof(float));
	return 0;
}

static struct engine_replay request(struct check *c, const char *variant)
{
	struct engine_replay q = {
		.layer = c->layer,
		.stage = c->stage,
		.pos0 = c->call ? PROMPT : 0,
		.n_tokens = c->call ? 1 : PROMPT,
		.tokens = c->rec->ids + (c->call ? PROMPT : 0),
		.variant = variant,
		.on_trace = keep_answer,
		.ctx = c,
	};

	for (int i = 0; i < 2 && inputs_of[c->stage][i]; i++) {
		enum trace_stage s = inputs_of[c->stage][i];
		bool all = (s == STAGE_K_ROPE && c->stage == STAGE_ATTN_SCORES) ||
			   (s == STAGE_V && c->stage == STAGE_ATTN_OUT_HEADS);
		struct tensor t = all ? from_zero(c, i, s) : *source(c, &s, c->call);

		q.input_stage[q.n_inputs] = s;
		q.input[q.n_inputs] = t.x;
		q.input_elements[q.n_inputs++] = t.n;
	}
	return q;
}

static void bounds_of(struct check *c, const struct engine_replay *q)
{
	const struct hparams *h = &c->model.hp;
	const struct layer *l = c->layer < 0 ? NULL : &c->model.layers[c->layer];
	const float *x = q->input[0], *y = c->answer;
	int64_t n = q->n_tokens, cells = q->pos0 + n;

	switch (c->stage) {
	case STAGE_EMBEDDINGS: memset(c->bound, 0, (size_t)c->n_answer * sizeof(double)); return;
	case STAGE_Q: bound_linear(&l->q, x, n, y, c->bound); return;
	case STAGE_K: bound_linear(&l->k, x, n, y, c->bound); return;
	case STAGE_V: bound_linear(&l->v, x, n, y, c->bound); return;
	case STAGE_ATTN_O: bound_linear(&l->o, x, n, y, c->bound); return;
	case STAGE_FFN_GATE: bound_linear(&l->gate, x, n, y, c->bound); return;
	case STAGE_FFN_UP: bound_linear(&l->up, x, n, y, c->bound); return;
	case STAGE_FFN_DOWN: bound_linear(&l->down, x, n, y, c->bound); return;
	case STAGE_LOGITS: bound_linear(&c->model.output, x, n, y, c->bound); return;
	case STAGE_Q_ROPE: bound_rope(h, x, q->pos0, n, h->n_head, c->bound); return;
	case STAGE_K_ROPE: bound_rope(h, x, q->pos0, n, h->n_kv_head, c->bound); return;
	case STAGE_ATTN_SCORES:
		bound_scores(h, x, q->input[1], q->pos0, n, cells, c->bound);
		return;
	case STAGE_ATTN_SOFTMAX: bound_softmax(h, x, y, n, cells, c->bound); return;
	case STAGE_ATTN_OUT_HEADS: bound_heads(h, x, q->input[1], n, cells, c->bound); return;
	case STAGE_ATTN_RESIDUAL:
	case STAGE_LAYER_OUT:
		bound_add(x, q->input[1], c->n_answer, c->bound);
		return;
	default: bound_relative(y, c->n_answer, 12, c->bound); return;	/* norms and activations */
	}
}

/* The largest |native − oracle| / bound; infinite when the replay failed. */
static double farthest(struct check *c, const float *native, int64_t n)
{
	struct err e = ERR_NONE;
	struct engine_replay q = request(c, NULL);
	double most = 0;

	c->n_answer = -1;
	if (engine_oracle.replay(c->oracle, &q, &e) < 0 || c->n_answer != n) {
		printf("# %s layer %d: %s\n", trace_stage_name(c->stage), c->layer, e.msg);
		return INFINITY;
	}
	bounds_of(c, &q);
	for (int64_t i = 0; i < n; i++) {
		double d = fabs((double)native[i] - (double)c->answer[i]);

		if (!(d <= c->bound[i]))
			most = fmax(most,
				    c->bound[i] > 0 && isfinite(d) ? d / c->bound[i] : INFINITY);
		else if (d > 0)
			most = fmax(most, d / c->bound[i]);
	}
	return most;
}

static bool check_open(struct check *c, const char *path, struct err *e)
{
	struct engine_options o = { .model_path = path, .n_threads = 2, .n_ctx = 64 };

	*c = (struct check){ .answer = malloc(VALUES_MAX * sizeof(float)),
			     .bound = malloc(VALUES_MAX * sizeof(double)) };
	return model_open(&c->model, path, NULL, e) == 0 &&
	       engine_oracle.open(&c->oracle, &o, e) == 0;
}

static void check_close(struct check *c)
{
	engine_oracle.close(c->oracle);
	model_close(&c->model);
	free(c->answer);
	free(c->bound);
	free(c->joined[0]);
	free(c->joined[1]);
}

/* Bits of the stages that are beyond their bound anywhere; *seen: of those there are at all. */
static uint64_t beyond(struct check *c, const struct recording *rec, double most[STAGE_COUNT],
		       uint64_t *seen, uint64_t *layers)
{
	uint64_t bits = 0;

	*seen = *layers = 0;
	memset(most, 0, STAGE_COUNT * sizeof(*most));
	c->rec = rec;
	for (c->call = 0; c->call < CALLS; c->call++)
		for (int s = 0; s < STAGE_COUNT; s++)
			for (c->layer = -1; c->layer < c->model.hp.n_layer; c->layer++) {
				const struct tensor *t = &rec->at[c->call][s][c->layer + 1];

				if (!t->x)
					continue;
				c->stage = (enum trace_stage)s;
				double far = farthest(c, t->x, t->n);

				most[s] = fmax(most[s], far);
				*seen |= 1ull << s;
				if (far > 1)
					bits |= 1ull << s, *layers |= 1ull << (c->layer + 1);
			}
	return bits;
}

/* ---- agreement ---------------------------------------------------------------------------- */

static const char *fixture(const char *preset, const char *weights, struct err *e)
{
	static char path[256];
	struct fixture_options o = { .preset = preset, .weights = weights, .seed = 3 };

	snprintf(path, sizeof(path), "%s/true.gguf", dir);
	return fixture_write(path, &o, e) == 0 ? path : NULL;
}

static void agreement(const char *preset, const char *weights, int n_stages)
{
	struct err e = ERR_NONE;
	const char *path = fixture(preset, weights, &e);
	struct recording *rec = path ? run_native(path, NULL, &e) : NULL;
	double most[STAGE_COUNT] = {0};
	struct check c;
	uint64_t seen = 0, layers, bits = 0;

	if (!rec || !check_open(&c, path, &e)) {
		CHECK(false, "%s %s: both engines run (%s)", preset, weights, e.msg);
		return;
	}
	bits = beyond(&c, rec, most, &seen, &layers);
	CHECK(__builtin_popcountll(seen) == n_stages, "%s %s: %d kinds of operations checked",
	      preset, weights, n_stages);
	CHECK(bits == 0, "%s %s: every operation within its bound", preset, weights);
	for (int s = 0; s < STAGE_COUNT; s++)
		if (bits >> s & 1)
			printf("# %s at %g of its bound\n", trace_stage_name((enum trace_stage)s),
			       most[s]);
	double farthest_of_all = 0;

	for (int s = 0; s < STAGE_COUNT; s++)
		farthest_of_all = fmax(farthest_of_all, most[s]);
	CHECK(farthest_of_all > 0.01, "%s %s: the bounds are not idle (%.2f used)", preset, weights,
	      farthest_of_all);
	check_close(&c);
	recording_free(rec);
}

/* ---- planted faults: a wrong weight or number in native's file ---------------------------- */

static void negate(uint8_t *p, size_t n, uint32_t type)
{
	if (type == TYPE_I2_S)		/* code c becomes 2 − c */
		for (size_t i = 0; i < n; i++)
			p[i] = (uint8_t)(0xaa - p[i]);
	else				/* the sign bits of halves and floats */
		for (size_t i = type == TYPE_F16 ? 1 : 3; i < n; i += type == TYPE_F16 ? 2 : 4)
			p[i] ^= 0x80;
}

/* A copy of the file in which one row of a tensor has the opposite sign. */
static const char *damaged(const char *path, const char *tensor, int64_t row)
{
	static char out[256];
	struct err e = ERR_NONE;
	struct gguf g = {0};

	snprintf(out, sizeof(out), "%s/damaged.gguf", dir);
	if (gguf_open(&g, path, &e) < 0)
		return NULL;
	const struct gguf_tensor *t = gguf_tensor(&g, tensor);
	const struct weight_type *w = t ? weight_type_by_id(t->type) : NULL;
	uint8_t *copy = malloc(g.size);

	if (w) {
		size_t row_bytes = (size_t)t->ne[0] / w->block_elems * w->block_bytes;

		memcpy(copy, g.map, g.size);
		negate(copy + (t->data - g.map) + (size_t)row * row_bytes, row_bytes, t->type);
		FILE *f = fopen(out, "wb");

		fwrite(copy, 1, g.size, f);
		fclose(f);
	}
	free(copy);
	gguf_close(&g);
	return w ? out : NULL;
}

#define S(x) (1ull << STAGE_##x)

static const struct fault {
	const char *preset, *weights, *tensor, *override;
	int64_t row;
	uint64_t breaks;
} faults[] = {
	{"tiny-llama", "f16", "token_embd.weight", NULL, 5, S(EMBEDDINGS)},
	{"tiny-llama", "f16", "output.weight", NULL, 3, S(LOGITS)},
	{"tiny-bitnet", "i2_s", "blk.1.attn_norm.weight", NULL, 0, S(ATTN_NORM)},
	{"tiny-bitnet", "i2_s", "blk.1.attn_q.weight", NULL, 7, S(Q)},
	{"tiny-bitnet", "i2_s", "blk.1.attn_k.weight", NULL, 7, S(K)},
	{"tiny-bitnet", "i2_s", "blk.1.attn_v.weight", NULL, 7, S(V)},
	{"tiny-bitnet", "i2_s", "blk.1.attn_sub_norm.weight", NULL, 0, S(ATTN_SUB_NORM)},
	{"tiny-bitnet", "i2_s", "blk.1.attn_output.weight", NULL, 7, S(ATTN_O)},
	{"tiny-bitnet", "i2_s", "blk.1.ffn_norm.weight", NULL, 0, S(FFN_NORM)},
	{"tiny-bitnet", "i2_s", "blk.1.ffn_gate.weight", NULL, 7, S(FFN_GATE)},
	{"tiny-bitnet", "i2_s", "blk.1.ffn_up.weight", NULL, 7, S(FFN_UP)},
	{"tiny-bitnet", "i2_s", "blk.1.ffn_sub_norm.weight", NULL, 0, S(FFN_SUB_NORM)},
	{"tiny-bitnet", "i2_s", "blk.1.ffn_down.weight", NULL, 7, S(FFN_DOWN)},
	{"tiny-bitnet", "i2_s", "output_norm.weight", NULL, 0, S(OUTPUT_NORM)},
	{"tiny-qwen2", "f16", "blk.1.attn_q.bias", NULL, 0, S(Q)},
	{"tiny-qwen3", "f16", "blk.1.attn_q_norm.weight", NULL, 0, S(Q_NORM)},
	{"tiny-qwen3", "f16", "blk.1.attn_k_norm.weight", NULL, 0, S(K_NORM)},
	{"tiny-llama3", "f16", "rope_freqs.weight", NULL, 0, S(Q_ROPE) | S(K_ROPE)},
	{"tiny-llama", "f16", NULL, "llama.rope.freq_base=float:20000", 0, S(Q_ROPE) | S(K_ROPE)},
	{"tiny-llama-yarn", "f16", NULL, "llama.rope.scaling.type=str:linear", 0,
	 S(Q_ROPE) | S(K_ROPE)},
	{"tiny-bitnet", "i2_s", NULL, "bitnet-b1.58.hidden_activation=str:silu", 0, S(FFN_ACT)},
	{"tiny-llama", "f16", NULL, "llama.attention.layer_norm_rms_epsilon=float:0.01", 0,
	 S(ATTN_NORM) | S(FFN_NORM) | S(OUTPUT_NORM)},
};

static void planted_faults(void)
{
	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
		const struct fault *f = &faults[i];
		const char *what = f->tensor ? f->tensor : f->override;
		struct err e = ERR_NONE;
		const char *path = fixture(f->preset, f->weights, &e);
		const char *wrong = path && f->tensor ? damaged(path, f->tensor, f->row) : path;
		struct recording *rec = wrong ? run_native(wrong, f->override, &e) : NULL;
		double most[STAGE_COUNT];
		struct check c;
		uint64_t seen, layers;

		if (!rec || !check_open(&c, path, &e)) {
			CHECK(false, "%s: both engines run (%s)", what, e.msg);
			continue;
		}
		uint64_t bits = beyond(&c, rec, most, &seen, &layers);

		CHECK(bits == f->breaks, "%s %s breaks exactly its check", f->preset, what);
		for (int s = 0; s < STAGE_COUNT; s++)
			if ((bits ^ f->breaks) >> s & 1)
				printf("# %s at %g of its bound\n",
				       trace_stage_name((enum trace_stage)s), most[s]);
		if (f->tensor && strncmp(f->tensor, "blk.1.", 6) == 0)
			CHECK(layers == 1ull << 2, "and only in layer 1");
		check_close(&c);
		recording_free(rec);
	}
}

/* ---- planted faults: native's operation computed wrongly ---------------------------------- */

static const struct { enum trace_stage stage; const char *variant;
} variants[] = {
	{STAGE_ATTN_NORM, "no_norm_weight"},
	{STAGE_Q, "scale=1.05"},
	{STAGE_Q_ROPE, "rope_neox"},
	{STAGE_K_ROPE, "pos_shift=1"},
	{STAGE_ATTN_SCORES, "head_order"},
	{STAGE_ATTN_SOFTMAX, "attn_scale=1"},
	{STAGE_ATTN_SOFTMAX, "mask_off_by_one"},
	{STAGE_ATTN_OUT_HEADS, "head_order"},
	{STAGE_ATTN_RESIDUAL, "scale=1.00001"},
	{STAGE_FFN_ACT, "relu2"},
	{STAGE_FFN_ACT, "swap_gate_up"},
	{STAGE_LAYER_OUT, "scale=1.00001"},
};

static void planted_variants(void)
{
	struct err e = ERR_NONE;
	const char *path = fixture("tiny-llama", "f16", &e);
	struct engine_options o = { .model_path = path, .n_threads = 1, .n_ctx = 64 };
	struct recording *rec = path ? run_native(path, NULL, &e) : NULL;
	struct engine *native = NULL;
	float *wrong = malloc(VALUES_MAX * sizeof(float));
	struct check c;

	if (!rec || !check_open(&c, path, &e) || engine_native.open(&native, &o, &e) < 0) {
		CHECK(false, "both engines run (%s)", e.msg);
		return;
	}
	c.rec = rec;
	c.layer = 1;
	c.call = 0;
	for (size_t i = 0; i < sizeof(variants) / sizeof(*variants); i++) {
		c.stage = variants[i].stage;
		struct engine_replay right = request(&c, NULL);
		int rc = engine_native.replay(native, &right, &e);
		int64_t n = c.n_answer;

		memcpy(wrong, c.answer, (size_t)n * sizeof(float));
		double far = rc == 0 ? farthest(&c, wrong, n) : INFINITY;

		CHECK(far <= 1, "native's %s alone is within its bound (%s)",
		      trace_stage_name(c.stage), e.msg);
		struct engine_replay q = request(&c, variants[i].variant);

		rc = engine_native.replay(native, &q, &e);
		n = c.n_answer;
		memcpy(wrong, c.answer, (size_t)n * sizeof(float));
		far = rc == 0 ? farthest(&c, wrong, n) : 0;
		CHECK(far > 1, "%s with %s is beyond it (%s)", trace_stage_name(c.stage),
		      variants[i].variant, e.msg);
	}
	engine_native.close(native);
	check_close(&c);
	recording_free(rec);
	free(wrong);
}

/* The oracle names the mistake: its own variant agrees with the wrong run where its truth does not. */
static void names_the_mistake(void)
{
	struct err e = ERR_NONE;
	const char *path = fixture("tiny-bitnet", "i2_s", &e);
	struct recording *rec = run_native(path, "bitnet-b1.58.hidden_activation=str:silu", &e);
	struct check c;

	if (!rec || !check_open(&c, path, &e)) {
		CHECK(false, "both engines run (%s)", e.msg);
		return;
	}
	c.rec = rec;
	c.layer = 1;
	c.stage = STAGE_FFN_ACT;
	const struct tensor *t = &rec->at[0][STAGE_FFN_ACT][2];
	struct engine_replay q = request(&c, "silu");
	double most = 0;

	CHECK(engine_oracle.replay(c.oracle, &q, &e) == 0, "the oracle computes a variant (%s)",
	      e.msg);
	for (int64_t i = 0; i < t->n; i++)
		most = fmax(most, fabs((double)t->x[i] - (double)c.answer[i]) /
					  (fabs((double)c.answer[i]) + 1e-30));
	CHECK(most < 12 * bound_u, "and SiLU explains the wrong run");
	q = request(&c, "rope_neox");
	CHECK(engine_oracle.replay(c.oracle, &q, &e) == -EXIT_USAGE,
	      "a variant of another operation is refused");
	CHECK_STR(
		e.msg,
		"ffn_act has no variant 'rope_neox'; known are silu, relu2, swap_gate_up, rope_norm, "
		"rope_neox, rope_base=X, rope_scale=X, no_freq_factors, no_yarn, eps=X, no_norm_weight, no_bias, "
		"attn_scale=X; and rounded, which is no mistake: operands as the weight's type and an F16 "
		"cache store them",
		"with the sentence");
	check_close(&c);
	recording_free(rec);
}

int main(void)
{
	static const char *const types[] = {
		"f32",  "f16",  "bf16",   "q8_0", "q4_0", "q4_1",  "q5_0",  "q5_1",
		"q2_k", "q3_k", "q4_k_m", "q5_k", "q6_k", "tq1_0", "tq2_0", "i2_s",
	};
	char path[256];

	if (!mkdtemp(dir))
		return 1;
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		agreement("tiny-llama", types[i], 20);
	agreement("tiny-bitnet", "i2_s", 22);
	agreement("tiny-bitnet-silu", "tq2_0", 22);
	agreement("tiny-llama3", "f16", 20);
	agreement("tiny-llama-linear", "f16", 20);
	agreement("tiny-llama-yarn", "f16", 20);
	agreement("tiny-qwen2", "q8_0", 20);
	agreement("tiny-qwen3", "f16", 22);
	planted_faults();
	planted_variants();
	names_the_mistake();
	snprintf(path, sizeof(path), "%s/true.gguf", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/damaged.gguf", dir);
	unlink(path);
	rmdir(dir);
	return TEST_END();
}
