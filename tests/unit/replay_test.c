/*
 * Replay: every operation of every layer, fed what the run itself recorded, gives the recorded
 * output to the bit, for a prompt and for a decode step; hypotheses change it; wrong requests are
 * refused with a sentence. And splicing: the run's own activations change nothing.
 */
#include "engine.h"
#include "fixtures.h"
#include "replay.h"
#include "replay_forms.h"
#include "test.h"

#include <math.h>
#include <unistd.h>

extern const struct engine_ops engine_native;

enum { T = 19, STEPS = 3, KEPT_MAX = 1024, MASK_ALL = -1 };

struct kept {
	struct trace_record r;
	float *x;
};

static struct kept kept[KEPT_MAX];
static int n_kept;
static float *replayed;
static int64_t n_replayed;

static int keep(void *ctx, const struct trace_record *r, const float *values)
{
	(void)ctx;
	if (n_kept == KEPT_MAX || !values)
		return -EXIT_INTERNAL;
	float *x = malloc((size_t)r->num_elements * sizeof(float));
	memcpy(x, values, (size_t)r->num_elements * sizeof(float));
	kept[n_kept++] = (struct kept){*r, x};
	return 0;
}

static int keep_replay(void *ctx, const struct trace_record *r, const float *values)
{
	(void)ctx;
	free(replayed);
	n_replayed = r->num_elements;
	replayed = malloc((size_t)n_replayed * sizeof(float));
	memcpy(replayed, values, (size_t)n_replayed * sizeof(float));
	return 0;
}

static const struct kept *find(enum trace_stage stage, int layer, int seq)
{
	for (int i = 0; i < n_kept; i++)
		if (kept[i].r.stage == stage && kept[i].r.layer == layer && kept[i].r.seq == seq)
			return &kept[i];
	return NULL;
}

static void forget(void)
{
	for (int i = 0; i < n_kept; i++)
		free(kept[i].x);
	n_kept = 0;
}

/* Rows of positions 0… up to and with step seq, one after the other. */
static float *history(enum trace_stage stage, int layer, int seq, int64_t *n)
{
	float *all = NULL;
	*n = 0;
	for (int s = 0; s <= seq; s++) {
		const struct kept *k = find(stage, layer, s);
		all = realloc(all, (size_t)(*n + k->r.num_elements) * sizeof(float));
		memcpy(all + *n, k->x, (size_t)k->r.num_elements * sizeof(float));
		*n += k->r.num_elements;
	}
	return all;
}

struct input_rule {
	enum trace_stage stage;
	int n;
	enum trace_stage in[3];
};

static const struct input_rule rules[] = {
	{STAGE_ATTN_NORM, 1, {STAGE_LAYER_OUT}}, {STAGE_Q, 1, {STAGE_ATTN_NORM}},
	{STAGE_K, 1, {STAGE_ATTN_NORM}}, {STAGE_V, 1, {STAGE_ATTN_NORM}},
	{STAGE_Q_NORM, 1, {STAGE_Q}}, {STAGE_K_NORM, 1, {STAGE_K}},
	{STAGE_Q_ROPE, 2, {STAGE_Q, STAGE_Q_NORM}}, {STAGE_K_ROPE, 2, {STAGE_K, STAGE_K_NORM}},
	{STAGE_ATTN_SCORES, 2, {STAGE_Q_ROPE, STAGE_K_ROPE}},
	{STAGE_ATTN_SOFTMAX, 1, {STAGE_ATTN_SCORES}},
	{STAGE_ATTN_SOFTMAX, 2, {STAGE_Q_ROPE, STAGE_K_ROPE}},
	{STAGE_ATTN_OUT_HEADS, 2, {STAGE_ATTN_SOFTMAX, STAGE_V}},
	{STAGE_ATTN_OUT_HEADS, 3, {STAGE_Q_ROPE, STAGE_K_ROPE, STAGE_V}},
	{STAGE_ATTN_SUB_NORM, 1, {STAGE_ATTN_OUT_HEADS}},
	{STAGE_ATTN_O, 2, {STAGE_ATTN_OUT_HEADS, STAGE_ATTN_SUB_NORM}},
	{STAGE_ATTN_RESIDUAL, 2, {STAGE_ATTN_O, STAGE_LAYER_OUT}},
	{STAGE_FFN_NORM, 1, {STAGE_ATTN_RESIDUAL}}, {STAGE_FFN_GATE, 1, {STAGE_FFN_NORM}},
	{STAGE_FFN_UP, 1, {STAGE_FFN_NORM}}, {STAGE_FFN_ACT, 2, {STAGE_FFN_GATE, STAGE_FFN_UP}},
	{STAGE_FFN_SUB_NORM, 1, {STAGE_FFN_ACT}},
	{STAGE_FFN_DOWN, 2, {STAGE_FFN_ACT, STAGE_FFN_SUB_NORM}},
	{STAGE_LAYER_OUT, 2, {STAGE_FFN_DOWN, STAGE_ATTN_RESIDUAL}},
	{STAGE_OUTPUT_NORM, 1, {STAGE_LAYER_OUT}}, {STAGE_LOGITS, 1, {STAGE_OUTPUT_NORM}},
};

static bool from_zero(const struct input_rule *u, enum trace_stage in)
{
	return (in == STAGE_K_ROPE || in == STAGE_V) && u->stage != STAGE_K_ROPE;
}

/* Runs one rule's replay on recorded inputs; 0, an engine's error, or 1 when the model lacks it. */
static int replay_rule(struct engine *g, const struct input_rule *u, int layer, int seq,
		       int n_layer, const char *variant, struct err *e)
{
	const struct kept *want = find(u->stage, layer, seq);
	if (!want)
		return 1;
	float *owned[3] = {NULL};
	struct engine_replay q = {.layer = layer, .stage = u->stage, .pos0 = seq ? T + seq - 1 : 0,
				  .n_tokens = seq ? 1 : T, .variant = variant,
				  .on_trace = keep_replay};
	for (int i = 0; i < u->n; i++) {
		enum trace_stage in = u->in[i];
		int from = layer;
		if (in == STAGE_LAYER_OUT)
			from = layer < 0 ? n_layer - 1 : layer - 1;
		if (in == STAGE_LAYER_OUT && from < 0)
			in = STAGE_EMBEDDINGS;
		const struct kept *k = find(in, in == STAGE_OUTPUT_NORM ? -1 : from, seq);
		if (!k)
			continue;
		q.input_stage[q.n_inputs] = in;
		q.input[q.n_inputs] = k->x;
		q.input_elements[q.n_inputs] = k->r.num_elements;
		if (from_zero(u, in))
			q.input[q.n_inputs] = owned[i] =
				history(in, from, seq, &q.input_elements[q.n_inputs]);
		q.n_inputs++;
	}
	int rc = engine_native.replay(g, &q, e);
	for (int i = 0; i < 3; i++)
		free(owned[i]);
	return rc;
}

static bool same_as_recorded(enum trace_stage stage, int layer, int seq)
{
	const struct kept *want = find(stage, layer, seq);
	return want->r.num_elements == n_replayed &&
	       memcmp(want->x, replayed, (size_t)n_replayed * sizeof(float)) == 0;
}

static void check_every_operation(struct engine *g, const char *name)
{
	const int n_layer = engine_native.info(g)->n_layer;
	int ran = 0, equal = 0;
	char bad[192] = "";
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		bool global = rules[i].stage == STAGE_OUTPUT_NORM || rules[i].stage == STAGE_LOGITS;
		for (int layer = global ? -1 : 0; layer < (global ? 0 : n_layer); layer++) {
			for (int seq = 0; seq < STEPS; seq += STEPS - 1) {
				struct err e = ERR_NONE;
				int rc = replay_rule(g, &rules[i], layer, seq, n_layer, NULL, &e);
				if (rc == 1)
					continue;
				ran++;
				if (rc == 0 && same_as_recorded(rules[i].stage, layer, seq))
					equal++;
				else if (!bad[0])
					snprintf(bad, sizeof(bad), "%s of layer %d, step %d: %.80s",
						 trace_stage_name(rules[i].stage), layer, seq,
						 e.msg);
			}
		}
	}
	CHECK(ran >= 19 * n_layer * 2 && equal == ran,
	      "%s: %d of %d operations replay to the bit%s%s", name, equal, ran,
	      bad[0] ? "; first other: " : "", bad);
}

static void check_variant(struct engine *g, enum trace_stage stage, const char *variant,
			  bool changes)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		struct err e = ERR_NONE;
		if (rules[i].stage != stage || rules[i].in[0] == STAGE_ATTN_SOFTMAX)
			continue;
		int rc = replay_rule(g, &rules[i], stage == STAGE_LOGITS ? -1 : 1, 0,
				     engine_native.info(g)->n_layer, variant, &e);
		bool same = rc == 0 && same_as_recorded(stage, stage == STAGE_LOGITS ? -1 : 1, 0);
		CHECK(rc == 0 && same != changes, "%s in %s %s%s", variant, trace_stage_name(stage),
		      changes ? "changes the result" : "is what the model does", e.msg);
		return;
	}
}

static void check_refused(struct engine *g, struct engine_replay q, const char *sentence)
{
	struct err e = ERR_NONE;
	q.on_trace = keep_replay;
	CHECK(engine_native.replay(g, &q, &e) == -EXIT_USAGE, "refused: %s", sentence);
	CHECK_STR(e.msg, sentence, "and says so");
}

static const char *profile;	/* of the engines that are opened; NULL = the model's */

static struct engine *open_fixture(const char *preset, const char *weights, const char *override)
{
	char path[] = "/tmp/replay_test.XXXXXX";
	struct err e = ERR_NONE;
	struct engine *g = NULL;
	struct fixture_options f = {.preset = preset, .weights = weights, .seed = 5};
	struct engine_options o = {.model_path = path, .n_threads = 2, .n_ctx = 64,
				   .profile = profile};
	if (override)
		o.overrides[o.n_overrides++] = override;
	close(mkstemp(path));
	if (fixture_write(path, &f, &e) != 0 || engine_native.open(&g, &o, &e) != 0)
		CHECK(0, "%s: %s", preset, e.msg);
	unlink(path);
	return g;
}

static int32_t ids[T];

static int record(struct engine *g, struct err *e)
{
	struct engine_eval q = {.tokens = ids, .n_tokens = T, .n_greedy = STEPS, .top_p = 1,
				.trace_stages = ((uint64_t)1 << STAGE_COUNT) - 1,
				.trace_values = true, .on_trace = keep};
	forget();
	return engine_native.evaluate(g, &q, e);
}

static void check_model(const char *preset, const char *weights)
{
	struct err e = ERR_NONE;
	struct engine *g = open_fixture(preset, weights, NULL);
	if (!g)
		return;
	char name[64];
	snprintf(name, sizeof(name), "%s %s%s%s", preset, weights, profile ? " " : "",
		 profile ? profile : "");
	if (record(g, &e) == 0)
		check_every_operation(g, name);
	else
		CHECK(0, "%s: %s", name, e.msg);
	forget();
	engine_native.close(g);
}

struct logits {
	float *x;
	int64_t n, n_vocab;
};

static int keep_logits(void *ctx, int pos, int step, int32_t token, const float *logits)
{
	struct logits *l = ctx;
	(void)pos, (void)step, (void)token;
	l->x = realloc(l->x, (size_t)(l->n + l->n_vocab) * sizeof(float));
	memcpy(l->x + l->n, logits, (size_t)l->n_vocab * sizeof(float));
	l->n += l->n_vocab;
	return 0;
}

static struct logits evaluate(struct engine *g, const float *splice, int layer)
{
	struct logits l = {.n_vocab = engine_native.info(g)->n_vocab};
	struct err e = ERR_NONE;
	struct engine_eval q = {.tokens = ids,
				.n_tokens = T,
				.top_p = 1,
				.batch = 7,
				.splice = splice,
				.splice_layer = layer,
				.on_logits = keep_logits,
				.ctx = &l};
	if (engine_native.evaluate(g, &q, &e) != 0)
		CHECK(0, "evaluates: %s", e.msg);
	return l;
}

static bool same_logits(struct logits a, struct logits b)
{
	return a.n == b.n && a.n > 0 && memcmp(a.x, b.x, (size_t)a.n * sizeof(float)) == 0;
}

/* One model with a wrong activation: its logits become the right ones once the right one's output
 * of the last layer is put in, and stay wrong when that of the embeddings is. */
static void check_splice(void)
{
	struct err e = ERR_NONE;
	struct engine *good = open_fixture("tiny-bitnet", "i2_s", NULL);
	struct engine *bad = open_fixture("tiny-bitnet", "i2_s",
					  "bitnet-b1.58.hidden_activation=str:silu");
	if (!good || !bad || record(good, &e) != 0) {
		CHECK(0, "both open: %s", e.msg);
		return;
	}
	struct logits want = evaluate(good, NULL, 0), wrong = evaluate(bad, NULL, 0);
	CHECK(!same_logits(want, wrong), "an override of the activation changes the logits");
	for (int layer = -1; layer < 3; layer++) {
		const struct kept *k = layer < 0 ? find(STAGE_EMBEDDINGS, -1, 0)
						 : find(STAGE_LAYER_OUT, layer, 0);
		struct logits own = evaluate(good, k->x, layer), other = evaluate(bad, k->x, layer);
		CHECK(same_logits(own, want), "own activations after layer %d change nothing",
		      layer);
		CHECK(same_logits(other, want) == (layer == 2),
		      "the right activations after layer %d %s a wrong model", layer,
		      layer == 2 ? "mend" : "do not mend");
		free(own.x);
		free(other.x);
	}
	free(want.x);
	free(wrong.x);
	forget();
	engine_native.close(good);
	engine_native.close(bad);
}

static void check_hypotheses(void)
{
	struct err e = ERR_NONE;
	struct engine *g = open_fixture("tiny-bitnet", "i2_s", NULL);
	if (!g || record(g, &e) != 0) {
		CHECK(0, "opens and records: %s", e.msg);
		return;
	}
	static const struct { enum trace_stage stage; const char *variant; bool changes;
	} all[] = {
		{STAGE_FFN_ACT, "silu", true},
		{STAGE_FFN_ACT, "relu2", false},
		{STAGE_FFN_ACT, "swap_gate_up", true},
		{STAGE_FFN_GATE, "swap_gate_up", true},
		{STAGE_Q_ROPE, "rope_norm", true},
		{STAGE_Q_ROPE, "rope_neox", false},
		{STAGE_K_ROPE, "rope_base=10000", true},
		{STAGE_K_ROPE, "rope_base=500000", false},
		{STAGE_K_ROPE, "rope_scale=0.5", true},
		{STAGE_Q_ROPE, "no_rope", true},
		{STAGE_Q_ROPE, "pos_shift=1", true},
		{STAGE_ATTN_NORM, "eps=1e-2", true},
		{STAGE_ATTN_NORM, "eps=1e-5", false},
		{STAGE_FFN_SUB_NORM, "no_sub_norm", true},
		{STAGE_FFN_NORM, "no_norm_weight", true},
		{STAGE_ATTN_SOFTMAX, "mask_off_by_one", true},
		{STAGE_ATTN_SOFTMAX, "mask_shift=1", true},
		{STAGE_ATTN_SCORES, "kv_f32", true},
		{STAGE_ATTN_SCORES, "kv_f16", false},
		{STAGE_ATTN_SOFTMAX, "attn_scale=1", true},
		{STAGE_ATTN_SCORES, "head_order", true},
		{STAGE_ATTN_O, "weights_of_layer=0", true},
		{STAGE_ATTN_O, "weights_of_layer=1", false},
		{STAGE_FFN_DOWN, "scale=2", true},
		{STAGE_LOGITS, "scale=1", false},
		{STAGE_FFN_ACT, "gelu", true},
		{STAGE_FFN_ACT, "no_up", true},
		{STAGE_Q_ROPE, "rope_dims=32", true},
		{STAGE_Q_ROPE, "rope_dims=64", false},
		{STAGE_Q_ROPE, "rope_part=32", true},
		{STAGE_Q_ROPE, "rope_part=64", false},
		{STAGE_FFN_NORM, "layer_norm", true},
		{STAGE_FFN_NORM, "weights_of=attn_norm", true},
		{STAGE_K, "weights_of=v", true},
		{STAGE_FFN_GATE, "weights_of=ffn_up", true},
		{STAGE_ATTN_RESIDUAL, "no_residual", true},
		{STAGE_ATTN_SOFTMAX, "window=2", true},
		{STAGE_ATTN_SOFTMAX, "window=64", false},
		{STAGE_ATTN_SCORES, "softcap=1", true},
		{STAGE_ATTN_SCORES, "kv_toward_zero", true},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		check_variant(g, all[i].stage, all[i].variant, all[i].changes);
	float row[512] = {0};
	struct engine_replay q = {.layer = 0, .stage = STAGE_Q, .n_tokens = 1};
	check_refused(g, q, "a replay of q needs attn_norm as input");
	q.n_inputs = 1;
	q.input_stage[0] = STAGE_ATTN_NORM;
	q.input[0] = row;
	q.input_elements[0] = 255;
	check_refused(g, q, "input attn_norm of q has 255 values; expected 1 rows of 256");
	q.input_elements[0] = 256;
	q.variant = "silu";
	check_refused(g, q, "variant silu changes nothing in q");
	q.variant = "scale";
	check_refused(g, q, "variant \"scale\": expected scale=X");
	q.variant = "tie=1";
	check_refused(g, q, "no row of q has 1 activations on rounding ties");
	q.variant = "weights_of=k";
	check_refused(g, q, "variant weights_of=k: nothing of the shape of q's weights");
	q.variant = NULL;
	q.layer = 3;
	check_refused(g, q, "stage q of layer 3 does not exist; layers are counted from 0");
	q.layer = 0;
	q.stage = STAGE_Q_NORM;
	check_refused(g, q, "architecture bitnet-b1.58 has no q_norm");
	q.stage = STAGE_Q;
	q.pos0 = 64;
	check_refused(g, q, "1 rows from position 64 do not fit the context of 64");
	forget();
	engine_native.close(g);
}

/* The forms that no engine runs, against values worked out elsewhere (Python's math and numpy). */
static void check_forms(void)
{
	const float in[4] = {1, 2, 3, 6}, w[4] = {1, 1, 2, 2}, gate = 1, up = 3;
	float y[4], x = 30;
	const struct { enum replay_form form; int silu; float want; } glu[] = {
		{FORM_GELU, 1, 2.52357602f}, {FORM_GELU_ERF, 1, 2.52403426f}, {FORM_RELU, 1, 3},
		{FORM_LINEAR, 1, 3}, {FORM_UNGATED, 1, 0.731058598f}, {FORM_UNGATED, 0, 1},
	};
	const struct { enum replay_form form; double eps; float want[4]; } norm[] = {
		{FORM_LAYER_NORM, 0.5, {-1, -0.5f, 0, 3}},
		{FORM_WEIGHT_PLUS_ONE, 3.5, {0.5f, 1, 2.25f, 4.5f}},
		{FORM_EPS_OUTSIDE, 0.464466095, {0.25f, 0.5f, 1.5f, 3}},
	};
	for (size_t i = 0; i < sizeof(glu) / sizeof(glu[0]); i++) {
		form_glu(glu[i].form, glu[i].silu, &gate, &up, y, 1);
		CHECK(fabsf(y[0] - glu[i].want) < 2e-7f, "form %d: %.9g", (int)glu[i].form,
		      (double)y[0]);
	}
	for (size_t i = 0; i < sizeof(norm) / sizeof(norm[0]); i++) {
		form_norm(norm[i].form, in, w, norm[i].eps, 4, 1, y);
		for (int k = 0; k < 4; k++)
			CHECK(fabsf(y[k] - norm[i].want[k]) < 1e-6f, "norm %d at %d: %.9g",
			      (int)norm[i].form, k, (double)y[k]);
	}
	form_softcap(&x, 30, 1);
	CHECK(fabsf(x - 22.8478247f) < 2e-6f, "30 tanh(1) is %.9g", (double)x);
	const float halves[4] = {1.00097f, -1.00097f, 5.9e-8f, 1e-8f};
	const float cut[4] = {1, -1, 0, 0};
	form_half_toward_zero(halves, y, 4);
	for (int k = 0; k < 4; k++)
		CHECK(y[k] == cut[k], "%.9g is cut to %.9g", (double)halves[k], (double)y[k]);
}

/* What the local check falls back on where a build for this CPU is judged. */
static void check_profiles(void)
{
	static const char *const names[] = {"ggml-avx512", "ggml-fp16", "ggml-avx2-clang"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		profile = names[i];
		check_model("tiny-bitnet", "i2_s");
		check_model("tiny-llama", "f16");
		check_model("tiny-qwen2", "bf16");
		check_model("tiny-qwen3", "q4_0");
	}
	profile = NULL;
}

int main(void)
{
	check_forms();
	for (int i = 0; i < T; i++)
		ids[i] = (i * 37 + 11) % 250;
	check_model("tiny-bitnet", "i2_s");
	check_model("tiny-bitnet-silu", "tq2_0");
	check_model("tiny-llama", "f16");
	check_model("tiny-llama", "q4_k_m");
	check_model("tiny-llama3", "f32");
	check_model("tiny-llama-yarn", "q8_0");
	check_model("tiny-qwen2", "bf16");
	check_model("tiny-qwen3", "q4_0");
	check_profiles();
	check_hypotheses();
	check_splice();
	free(replayed);
	return TEST_END();
}
