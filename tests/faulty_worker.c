/*
 * An engine with one planted fault. It is native, run operation by operation: every stage is a
 * replay on the stages before it, which gives native's own bits, until ASSAY_FAULT changes one:
 *
 *	ASSAY_FAULT=STAGE:LAYER:KIND[=VALUE][:decode|:prefill|:step=N][;…]	LAYER * = all layers;
 *					several faults at once with ;
 *
 * KIND	variant/NAME[=V]	the operation as a hypothesis has it (workers/model/replay.h)
 *	skip			its first input is its output
 *	scale, add, set		one value (channel 17 of the last row) times, plus, or = VALUE
 *	channel			channel 17 of all rows times VALUE
 *	zero, negate, noise	all values; noise: each off by up to VALUE of itself
 *	half			rounded to half precision
 *	head_scale		head 0 times VALUE
 *	softcap			VALUE · tanh(x / VALUE)
 *	window			each position sees its last VALUE cells (softmax)
 *	no_max			softmax without the row's maximum subtracted, all scores VALUE greater
 *	twice			its second input once more on top (residuals)
 *	bias			VALUE times a constant of each channel on top
 *	bf16			rounded to bfloat16
 *	rope_v			what is read of the V cache is rotated as keys are
 *	transpose_v		head 0 of the V cache is read transposed
 *	next_kv_head		query head 0 reads the next KV head's keys (K_ROPE) or values (V)
 *	lost_cell		the cache's last cell is not there yet: it holds zeros (K_ROPE, V)
 *	round_up		activations (products) quantised upward in blocks of VALUE (0: the row)
 *	one_scale		activations quantised by the greatest of all rows
 *	exchange/STAGE		the weights of STAGE, whose input is as wide
 *	trunc			activations (products) quantised toward zero in blocks of VALUE; keys
 *				and values (K_ROPE, V) written to the cache toward zero
 *	code			one activation of the last row (products) is another code, a step of
 *				1/127 of the greatest of the first VALUE (0: of the row)
 *	stale			from decode step VALUE on, the cache's cell before the last but one
 *				is in the last but one's place (K_ROPE, V)
 *	swap_heads, flip_head	heads 0 and 1 change places; head 0 backwards
 *	kv_slot			reads a key (K_ROPE) or value (V) cache whose row VALUE was never written
 *	pos			positions counted from VALUE (RoPE)
 *	token, tokens		the last id of the call, all ids plus VALUE (embeddings)
 *	row			the rows move down by one (embeddings)
 *	tokenize:-1:bos|prefix|last|bos_twice|eos	tokens without BOS, behind a template's words,
 *				with a wrong last id, with a second BOS, with EOS for the third
 *	tokenize:-1:piece	dies where it is asked for the text of a token
 *	read:-1:weight=N	says another hash for the N-th weight of the file
 *
 * With ASSAY_FLASH=1 it computes attention as flash attention does: no scores and probabilities are
 * traced, and the sum over the cells is kept in half precision.
 */
#include "engine.h"
#include "sample.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>

#include "../workers/main.c"

extern const struct engine_ops engine_native;
static struct engine_ops faulty;
const struct engine_ops *const engine_table[] = {&faulty, NULL};
const struct worker_traits worker_traits = {.stack_bytes = 0};

enum { FAULTS_MAX = 4 };

static struct fault {
	char kind[64];
	int stage, layer;	/* stage −1: none, −2: tokens, −3: weights; layer −2: all */
	double value;
	bool prefill, decode;
	int step;		/* this one only; −1 = all of them */
} faults[FAULTS_MAX];		/* [n_faults] */
static int n_faults;
static const struct fault no_fault = {.stage = -1, .step = -1};
static const struct fault *fault = &no_fault;	/* the one that was found planted last */

static bool is_flash;	/* ASSAY_FLASH */

enum { LAYERS_MAX = 64 };

struct tensor {
	float *x;
	int64_t n;
	struct trace_record r;
};

struct run {
	struct engine *g;
	const struct engine_info *info;
	const struct engine_eval *q;
	struct err *e;
	const int32_t *ids;	/* of this call */
	int pos0, n, seq;
	struct tensor t[STAGE_COUNT];
	struct tensor stream;	/* what enters the layer */
	struct tensor keys[LAYERS_MAX], values[LAYERS_MAX];
};

/* ---- tensors ------------------------------------------------------------------------------ */

static int keep(void *ctx, const struct trace_record *r, const float *values)
{
	struct tensor *t = ctx;

	free(t->x);
	t->n = r->num_elements;
	t->r = *r;
	t->x = malloc((size_t)t->n * sizeof(float));
	memcpy(t->x, values, (size_t)t->n * sizeof(float));
	return 0;
}

static void append(struct tensor *to, const struct tensor *t)
{
	to->x = realloc(to->x, (size_t)(to->n + t->n) * sizeof(float));
	memcpy(to->x + to->n, t->x, (size_t)t->n * sizeof(float));
	to->n += t->n;
}

static bool planted(const struct run *r, int stage, int layer, const char *kind)
{
	for (int i = 0; i < n_faults; i++) {
		const struct fault *f = &faults[i];
		size_t n = strlen(kind);

		if (f->stage != stage || (f->layer != layer && f->layer != -2) ||
		    !(r->seq ? f->decode : f->prefill) || (f->step >= 0 && r->seq != f->step) ||
		    strncmp(f->kind, kind, n) != 0 || (f->kind[n] && kind[n - 1] != '/'))
			continue;
		fault = f;
		return true;
	}
	return false;
}

static const struct fault *fault_of(int stage)
{
	for (int i = 0; i < n_faults; i++)
		if (faults[i].stage == stage)
			return &faults[i];
	return &no_fault;
}

static float to_half(float x)
{
	int e;
	float m = frexpf(x, &e);

	return fabsf(x) > 65504 ? copysignf(INFINITY, x) : ldexpf(rintf(m * 2048) / 2048, e);
}

static float to_bf16(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* One head's sum over the cells, each step rounded to half precision. */
static void half_sum(float *out, const float *weight, const float *v, int64_t cells, int64_t width,
		     int64_t d)
{
	memset(out, 0, (size_t)d * sizeof(float));
	for (int64_t c = 0; c < cells; c++)
		for (int64_t i = 0; i < d; i++)
			out[i] = to_half(out[i] + weight[c] * to_half(v[c * width + i]));
}

/* ATTN_OUT_HEADS over again from the probabilities and all values. */
static void flash(struct run *r, struct tensor *t, const struct tensor *soft,
		  const struct tensor *values)
{
	const int64_t d = r->info->head_dim, n_head = r->info->n_head;
	const int64_t group = n_head / r->info->n_kv_head, width = r->info->n_kv_head * d;
	const int64_t cells = soft->n / (r->n * n_head);

	for (int64_t row = 0; row < r->n; row++)
		for (int64_t h = 0; h < n_head; h++)
			half_sum(t->x + (row * n_head + h) * d,
				 soft->x + (row * n_head + h) * cells,
				 values->x + h / group * d, cells, width, d);
}

/* ---- what is wrong with a result ---------------------------------------------------------- */

static void spoil(struct run *r, struct tensor *t, int stage, int layer)
{
	const int64_t width = t->n / r->n, d = r->info->head_dim;
	float *last = t->x + (r->n - 1) * width;

	if (planted(r, stage, layer, "scale"))
		last[17] *= (float)fault->value;
	if (planted(r, stage, layer, "add"))
		last[17] += (float)fault->value;
	if (planted(r, stage, layer, "set"))
		last[17] = (float)fault->value;
	for (int64_t i = 0; i < t->n; i++) {
		if (planted(r, stage, layer, "channel") && i % width == 17)
			t->x[i] *= (float)fault->value;
		if (planted(r, stage, layer, "zero"))
			t->x[i] = 0;
		if (planted(r, stage, layer, "negate"))
			t->x[i] = -t->x[i];
		if (planted(r, stage, layer, "half"))
			t->x[i] = to_half(t->x[i]);
		if (planted(r, stage, layer, "bf16"))
			t->x[i] = to_bf16(t->x[i]);
		if (planted(r, stage, layer, "bias"))
			t->x[i] += (float)(fault->value * sin((double)(i % width) * 78.233));
		if (planted(r, stage, layer, "noise"))
			t->x[i] *= 1 + (float)(fault->value * sin((double)i * 12.9898));
		if (planted(r, stage, layer, "head_scale") && i % width < d)
			t->x[i] *= (float)fault->value;
		if (planted(r, stage, layer, "softcap"))
			t->x[i] = (float)(fault->value * tanh((double)t->x[i] / fault->value));
	}
	bool heads =
		planted(r, stage, layer, "swap_heads") || planted(r, stage, layer, "flip_head");
	for (int64_t row = 0; row < r->n && heads; row++)
		for (int64_t i = 0; i < d; i++) {
			float *x = t->x + row * width, a = x[i];

			if (planted(r, stage, layer, "swap_heads")) {
				x[i] = x[i + d];
				x[i + d] = a;
			} else if (planted(r, stage, layer, "flip_head") && i < d / 2) {
				x[i] = x[d - 1 - i];
				x[d - 1 - i] = a;
			}
		}
	if (planted(r, stage, layer, "row") && r->n > 1)
		memmove(t->x + width, t->x, (size_t)((r->n - 1) * width) * sizeof(float));
}

/* ---- what is wrong with an input ---------------------------------------------------------- */

static float half_toward_zero(float x)
{
	int e;
	float m = frexpf(x, &e);

	return ldexpf(truncf(m * 2048) / 2048, e);
}

/* Blocks of n values to 8 bits toward zero; rounded to nearest afterwards they stay as they are. */
static void truncate_activations(float *x, int64_t count, int64_t n)
{
	for (int64_t b = 0; b < count; b += n) {
		float most = 0;

		for (int64_t i = b; i < b + n; i++)
			most = fmaxf(most, fabsf(x[i]));
		for (int64_t i = b; i < b + n && most > 0; i++)
			x[i] = truncf(x[i] * (127 / most)) * (most / 127);
	}
}

static void change_code(float *row, int64_t n)
{
	float most = 0;
	int at = 17;

	for (int64_t i = 0; i < n; i++)
		most = fmaxf(most, fabsf(row[i]));
	at += fabsf(row[at]) == most;
	row[at] += row[at] > 0 ? -most / 127 : most / 127;
}

static void never_written(struct run *r, float *x, int64_t n)
{
	int64_t width = (int64_t)r->info->n_kv_head * r->info->head_dim;
	int64_t row = (int64_t)fault->value;

	for (int64_t k = 0; k < width && (row + 1) * width <= n; k++)
		x[row * width + k] = k % 3 ? -3.5f : 2.25f;
}

static void go_stale(struct run *r, float *x, int64_t n)
{
	int64_t width = (int64_t)r->info->n_kv_head * r->info->head_dim, row = n / width - 2;

	if (r->seq >= (int)fault->value && row > 0)
		memcpy(x + row * width, x + (row - 1) * width, (size_t)width * sizeof(float));
}

/* Scores of cells out of the window count for nothing. */
static void close_window(struct run *r, float *x, int64_t n)
{
	int64_t heads = r->info->n_head, cells = n / (r->n * heads);

	for (int64_t i = 0; i < n; i++) {
		int64_t pos = r->pos0 + i / (heads * cells);

		if (i % cells <= pos - (int64_t)fault->value)
			x[i] = -1e30f;
	}
}

/* Head 0 of [cells, heads, d] as if it lay there with the cells innermost. */
static void transpose_head(const struct run *r, float *x, int64_t n)
{
	int64_t d = r->info->head_dim, width = r->info->n_kv_head * d, cells = n / width;
	float *was = malloc((size_t)n * sizeof(float));

	memcpy(was, x, (size_t)n * sizeof(float));
	for (int64_t k = 0; k < cells * d; k++)
		x[k / d * width + k % d] = was[k % cells * width + k / cells];
	free(was);
}

static void take_next_head(const struct run *r, float *x, int64_t n)
{
	int64_t d = r->info->head_dim, width = r->info->n_kv_head * d;

	for (int64_t at = 0; at + 2 * d <= n && width >= 2 * d; at += width)
		memcpy(x + at, x + at + d, (size_t)d * sizeof(float));
}

/* RoPE of the whole cache from position 0 on. */
static void rotate(struct run *r, float *x, int64_t n, int layer)
{
	int64_t width = (int64_t)r->info->n_kv_head * r->info->head_dim;
	struct tensor t = {.x = NULL};
	struct engine_replay q = {.stage = STAGE_K_ROPE, .layer = layer,
				  .n_tokens = (int)(n / width), .n_inputs = 1,
				  .input_stage = {STAGE_K}, .input = {x}, .input_elements = {n},
				  .on_trace = keep, .ctx = &t};

	if (engine_native.replay(r->g, &q, r->e) == 0)
		memcpy(x, t.x, (size_t)n * sizeof(float));
	free(t.x);
}

/* To 8 bits by one scale for n values, upward or to nearest. */
static void quantise(float *x, int64_t count, int64_t n, bool up)
{
	for (int64_t b = 0; b < count; b += n) {
		float most = 0;

		for (int64_t i = b; i < b + n; i++)
			most = fmaxf(most, fabsf(x[i]));
		for (int64_t i = b; i < b + n && most > 0; i++) {
			float v = x[i] * (127 / most);

			x[i] = (up ? ceilf(v) : rintf(v)) * (most / 127);
		}
	}
}

/* x: a copy of what `stage` reads from `from`. */
static void spoil_input(struct run *r, float *x, int64_t n, int stage, int from, int layer)
{
	bool cache = from == STAGE_K_ROPE || from == STAGE_V;

	if (cache && n > r->n * r->info->head_dim && planted(r, from, layer, "kv_slot"))
		never_written(r, x, n);
	if (cache && planted(r, from, layer, "stale"))
		go_stale(r, x, n);
	if (cache && planted(r, from, layer, "trunc"))
		for (int64_t i = 0; i < n; i++)
			x[i] = half_toward_zero(x[i]);
	if (from == STAGE_V && planted(r, from, layer, "rope_v"))
		rotate(r, x, n, layer);
	if (from == STAGE_V && planted(r, from, layer, "transpose_v"))
		transpose_head(r, x, n);
	if (cache && planted(r, from, layer, "next_kv_head"))
		take_next_head(r, x, n);
	if (cache && planted(r, from, layer, "lost_cell"))
		memset(x + n - (int64_t)r->info->n_kv_head * r->info->head_dim, 0,
		       (size_t)r->info->n_kv_head * (size_t)r->info->head_dim * sizeof(float));
	if (planted(r, stage, layer, "round_up"))
		quantise(x, n, fault->value > 0 ? (int64_t)fault->value : n / r->n, true);
	if (planted(r, stage, layer, "one_scale"))
		quantise(x, n, n, false);
	if (stage == STAGE_ATTN_SOFTMAX && planted(r, stage, layer, "window"))
		close_window(r, x, n);
	if (stage != STAGE_K_ROPE && stage != STAGE_V && planted(r, stage, layer, "trunc"))
		truncate_activations(x, n, fault->value > 0 ? (int64_t)fault->value : n / r->n);
	if (planted(r, stage, layer, "code"))
		change_code(x + n - n / r->n, fault->value > 0 ? (int64_t)fault->value : n / r->n);
}

/* exp in float32 as it stands, of scores [n, n_head, cells]. */
static void softmax_without_max(struct run *r, float *out, const float *scores, int64_t n)
{
	int64_t heads = r->info->n_head, cells = n / (r->n * heads);
	float scale = 1.0f / sqrtf((float)r->info->head_dim);

	for (int64_t row = 0; row < r->n * heads; row++) {
		int64_t seen = r->pos0 + row / heads + 1;
		float sum = 0, *y = out + row * cells;

		for (int64_t c = 0; c < seen; c++)
			sum += y[c] = expf(scores[row * cells + c] * scale + (float)fault->value);
		for (int64_t c = 0; c < seen; c++)
			y[c] /= sum;
	}
}

/* ---- one operation ------------------------------------------------------------------------ */

static int offer(struct run *r, struct tensor *t, int stage, int layer)
{
	if (is_flash && (stage == STAGE_ATTN_SCORES || stage == STAGE_ATTN_SOFTMAX))
		return 0;
	struct trace_record rec;

	if (!(r->q->trace_stages >> stage & 1))
		return 0;
	trace_describe(&rec, (enum trace_stage)stage, layer, r->seq, "f32", t->r.n_dims, t->r.shape,
		       t->x);
	return r->q->on_trace(r->q->ctx, &rec, r->q->trace_values ? t->x : NULL);
}

/* Result into r->t[stage]. in: stages and tensors, n of them. */
static int op(struct run *r, int stage, int layer, int n, const enum trace_stage *from,
	      const struct tensor *const *in)
{
	struct tensor *t = &r->t[stage];
	struct engine_replay q = {.stage = (enum trace_stage)stage,
				  .layer = layer,
				  .pos0 = r->pos0,
				  .n_tokens = r->n,
				  .n_inputs = n,
				  .tokens = r->ids,
				  .on_trace = keep,
				  .ctx = t};
	float *spoiled[ENGINE_REPLAY_INPUTS_MAX] = {NULL};
	int32_t *ids = NULL;
	int rc;

	for (int i = 0; i < n; i++) {
		q.input_stage[i] = from[i];
		q.input_elements[i] = in[i]->n;
		q.input[i] = spoiled[i] = malloc((size_t)in[i]->n * sizeof(float));
		memcpy(spoiled[i], in[i]->x, (size_t)in[i]->n * sizeof(float));
		spoil_input(r, spoiled[i], in[i]->n, stage, (int)from[i], layer);
	}
	if (planted(r, stage, layer, "exchange/"))
		q.stage = (enum trace_stage)trace_stage_by_name(fault->kind + 9);
	if (planted(r, stage, layer, "variant/"))
		q.variant = fault->kind + 8;
	if (planted(r, stage, layer, "pos"))
		q.pos0 += (int)fault->value;
	if (planted(r, stage, layer, "token") || planted(r, stage, layer, "tokens")) {
		int first = strcmp(fault->kind, "token") == 0 ? r->n - 1 : 0;

		ids = malloc((size_t)r->n * sizeof(*ids));
		memcpy(ids, r->ids, (size_t)r->n * sizeof(*ids));
		for (int i = first; i < r->n; i++)
			ids[i] += (int32_t)fault->value;
		q.tokens = ids;
	}
	rc = engine_native.replay(r->g, &q, r->e);
	if (rc == 0 && planted(r, stage, layer, "skip"))
		memcpy(t->x, in[0]->x, (size_t)t->n * sizeof(float));
	for (int64_t i = 0; rc == 0 && n > 1 && planted(r, stage, layer, "twice") && i < t->n; i++)
		t->x[i] += in[1]->x[i];
	if (rc == 0 && is_flash && stage == STAGE_ATTN_OUT_HEADS)
		flash(r, t, in[0], in[1]);
	if (rc == 0 && planted(r, stage, layer, "no_max"))
		softmax_without_max(r, t->x, in[0]->x, in[0]->n);
	if (rc == 0)
		spoil(r, t, stage, layer);
	for (int i = 0; i < n; i++)
		free(spoiled[i]);
	free(ids);
	return rc == 0 ? offer(r, t, stage, layer) : rc;
}

static int op1(struct run *r, int stage, int layer, int from)
{
	const enum trace_stage s = (enum trace_stage)from;
	const struct tensor *in = &r->t[from];

	return op(r, stage, layer, 1, &s, &in);
}

static int op2(struct run *r, int stage, int layer, int a, const struct tensor *ta, int b,
	       const struct tensor *tb)
{
	const enum trace_stage s[] = {(enum trace_stage)a, (enum trace_stage)b};
	const struct tensor *const in[] = {ta, tb};

	return op(r, stage, layer, 2, s, in);
}

/* ---- a layer ------------------------------------------------------------------------------ */

static int attention(struct run *r, int l)
{
	bool qk = strcmp(r->info->arch, "qwen3") == 0,
	     sub = strncmp(r->info->arch, "bitnet", 6) == 0;
	const enum trace_stage stream = l ? STAGE_LAYER_OUT : STAGE_EMBEDDINGS;
	const struct tensor *x = &r->stream;
	int rc = op(r, STAGE_ATTN_NORM, l, 1, &stream, &x);

	rc = rc ? rc : op1(r, STAGE_Q, l, STAGE_ATTN_NORM);
	rc = rc ? rc : op1(r, STAGE_K, l, STAGE_ATTN_NORM);
	rc = rc ? rc : op1(r, STAGE_V, l, STAGE_ATTN_NORM);
	if (qk) {
		rc = rc ? rc : op1(r, STAGE_Q_NORM, l, STAGE_Q);
		rc = rc ? rc : op1(r, STAGE_K_NORM, l, STAGE_K);
	}
	rc = rc ? rc : op1(r, STAGE_Q_ROPE, l, qk ? STAGE_Q_NORM : STAGE_Q);
	rc = rc ? rc : op1(r, STAGE_K_ROPE, l, qk ? STAGE_K_NORM : STAGE_K);
	if (rc)
		return rc;
	append(&r->keys[l], &r->t[STAGE_K_ROPE]);
	append(&r->values[l], &r->t[STAGE_V]);
	rc = op2(r, STAGE_ATTN_SCORES, l, STAGE_Q_ROPE, &r->t[STAGE_Q_ROPE], STAGE_K_ROPE,
		 &r->keys[l]);
	rc = rc ? rc : op1(r, STAGE_ATTN_SOFTMAX, l, STAGE_ATTN_SCORES);
	rc = rc ? rc
		: op2(r, STAGE_ATTN_OUT_HEADS, l, STAGE_ATTN_SOFTMAX, &r->t[STAGE_ATTN_SOFTMAX],
		      STAGE_V, &r->values[l]);
	if (sub)
		rc = rc ? rc : op1(r, STAGE_ATTN_SUB_NORM, l, STAGE_ATTN_OUT_HEADS);
	rc = rc ? rc : op1(r, STAGE_ATTN_O, l, sub ? STAGE_ATTN_SUB_NORM : STAGE_ATTN_OUT_HEADS);
	return rc ? rc
		  : op2(r, STAGE_ATTN_RESIDUAL, l, STAGE_ATTN_O, &r->t[STAGE_ATTN_O], stream, x);
}

static int feed_forward(struct run *r, int l)
{
	bool sub = strncmp(r->info->arch, "bitnet", 6) == 0;
	int rc = op1(r, STAGE_FFN_NORM, l, STAGE_ATTN_RESIDUAL);

	rc = rc ? rc : op1(r, STAGE_FFN_GATE, l, STAGE_FFN_NORM);
	rc = rc ? rc : op1(r, STAGE_FFN_UP, l, STAGE_FFN_NORM);
	rc = rc ? rc : op2(r, STAGE_FFN_ACT, l, STAGE_FFN_GATE, &r->t[STAGE_FFN_GATE], STAGE_FFN_UP,
			   &r->t[STAGE_FFN_UP]);
	if (sub)
		rc = rc ? rc : op1(r, STAGE_FFN_SUB_NORM, l, STAGE_FFN_ACT);
	rc = rc ? rc : op1(r, STAGE_FFN_DOWN, l, sub ? STAGE_FFN_SUB_NORM : STAGE_FFN_ACT);
	return rc ? rc : op2(r, STAGE_LAYER_OUT, l, STAGE_FFN_DOWN, &r->t[STAGE_FFN_DOWN],
			     STAGE_ATTN_RESIDUAL, &r->t[STAGE_ATTN_RESIDUAL]);
}

/* ---- a run -------------------------------------------------------------------------------- */

static void put_in(struct run *r, int layer)
{
	if (r->q->splice && r->q->splice_layer == layer && r->seq == 0)
		memcpy(r->stream.x, r->q->splice + (int64_t)r->pos0 * r->info->n_embd,
		       (size_t)r->stream.n * sizeof(float));
}

static int call(struct run *r, const int32_t *ids, int n, int pos0, int seq)
{
	const enum trace_stage out = STAGE_LAYER_OUT;
	const struct tensor *x = &r->stream;
	int rc;

	r->ids = ids;
	r->n = n;
	r->pos0 = pos0;
	r->seq = seq;
	rc = op(r, STAGE_EMBEDDINGS, -1, 0, NULL, NULL);
	if (rc == 0)
		rc = keep(&r->stream, &r->t[STAGE_EMBEDDINGS].r, r->t[STAGE_EMBEDDINGS].x);
	put_in(r, -1);
	for (int l = 0; rc == 0 && l < r->info->n_layer; l++) {
		rc = attention(r, l);
		rc = rc ? rc : feed_forward(r, l);
		rc = rc ? rc : keep(&r->stream, &r->t[STAGE_LAYER_OUT].r, r->t[STAGE_LAYER_OUT].x);
		if (rc == 0)
			put_in(r, l);
	}
	rc = rc ? rc : op(r, STAGE_OUTPUT_NORM, -1, 1, &out, &x);
	return rc ? rc : op1(r, STAGE_LOGITS, -1, STAGE_OUTPUT_NORM);
}

static bool stops(const struct engine_eval *q, int32_t id)
{
	for (int i = 0; i < q->n_stops; i++)
		if (q->stops[i] == id)
			return true;
	return false;
}

static int report(struct run *r, int rows, int pos0, int seq, bool last, int32_t *chosen)
{
	const int n_vocab = r->info->n_vocab;
	int rc = 0;

	for (int i = 0; rc == 0 && i < rows; i++) {
		const float *logits = r->t[STAGE_LOGITS].x + (int64_t)i * n_vocab;
		bool chooses = last && i == rows - 1;

		if (chooses)
			*chosen = sample_greedy(logits, n_vocab);
		if (r->q->logits == ENGINE_LOGITS_ALL || chooses)
			rc = r->q->on_logits(r->q->ctx, pos0 + i, seq, chooses ? *chosen : -1,
					     r->q->logits == ENGINE_LOGITS_NONE ? NULL : logits);
	}
	return rc;
}

static int evaluate(struct engine *g, const struct engine_eval *q, struct err *e)
{
	struct run r = {.g = g, .info = engine_native.info(g), .q = q, .e = e};
	int step = q->batch > 0 ? q->batch : q->n_tokens, pos = 0, rc = 0;
	int32_t id = -1;

	for (; rc == 0 && pos < q->n_tokens; pos += step) {
		int n = q->n_tokens - pos < step ? q->n_tokens - pos : step;

		rc = call(&r, q->tokens + pos, n, pos, 0);
		rc = rc ? rc : report(&r, n, pos, 0, pos + n == q->n_tokens, &id);
	}
	for (int i = 1; rc == 0 && i < q->n_greedy && !stops(q, id); i++) {
		int32_t now = id;

		rc = call(&r, &now, 1, q->n_tokens + i - 1, i);
		rc = rc ? rc : report(&r, 1, q->n_tokens + i - 1, i, true, &id);
	}
	for (int s = 0; s < STAGE_COUNT; s++)
		free(r.t[s].x);
	for (int l = 0; l < LAYERS_MAX; l++) {
		free(r.keys[l].x);
		free(r.values[l].x);
	}
	free(r.stream.x);
	return rc;
}

static int tokenize(struct engine *g, const char *text, size_t bytes, bool add_bos,
		    bool parse_special, int32_t **ids, int *n_ids, struct err *e)
{
	char longer[1024];
	int rc;

	fault = fault_of(-2);
	if (fault->stage != -2)
		return engine_native.tokenize(g, text, bytes, add_bos, parse_special, ids, n_ids,
					      e);
	snprintf(longer, sizeof(longer), "%s%.*s",
		 strcmp(fault->kind, "prefix") == 0 ? "User: " : "", (int)bytes, text);
	rc = engine_native.tokenize(g, longer, strlen(longer),
				    add_bos && strcmp(fault->kind, "bos") != 0, parse_special, ids,
				    n_ids, e);
	if (rc == 0 && strcmp(fault->kind, "last") == 0)
		(*ids)[*n_ids - 1] ^= 1;
	if (rc == 0 && strcmp(fault->kind, "eos") == 0 && *n_ids > 2)
		(*ids)[2] = engine_native.info(g)->eos;
	if (rc == 0 && strcmp(fault->kind, "bos_twice") == 0) {
		*ids = realloc(*ids, (size_t)(*n_ids + 1) * sizeof(**ids));
		memmove(*ids + 1, *ids, (size_t)(*n_ids)++ * sizeof(**ids));
	}
	return rc;
}

static int piece(struct engine *g, int32_t id, char *out, size_t size, struct err *e)
{
	if (strcmp(fault_of(-2)->kind, "piece") == 0)
		raise(SIGABRT);
	return engine_native.piece(g, id, out, size, e);
}

struct reading {
	engine_weight_fn *fn;
	void *ctx;
	int at;
};

static int misread(void *ctx, const char *name, const char *type, int n_dims, const int64_t *shape,
		   const char *sha256, const float *values)
{
	struct reading *r = ctx;
	char hash[65];

	snprintf(hash, sizeof(hash), "%s", sha256);
	fault = fault_of(-3);
	if (fault->stage == -3 && r->at++ == (int)fault->value)
		hash[0] = hash[0] == '0' ? '1' : '0';
	return r->fn(r->ctx, name, type, n_dims, shape, hash, values);
}

static int weights(struct engine *g, const char *name, bool values, engine_weight_fn *fn, void *ctx,
		   struct err *e)
{
	struct reading r = {fn, ctx, 0};

	return engine_native.weights(g, name, values, misread, &r, e);
}

static void plant(struct fault *f, const char *text)
{
	char one[200], stage[64] = "", layer[16] = "", kind[64] = "", when[16] = "";
	char *equals;

	*f = no_fault;
	snprintf(one, sizeof(one), "%.*s", (int)strcspn(text, ";"), text);
	if (sscanf(one, "%63[^:]:%15[^:]:%63[^:]:%15s", stage, layer, kind, when) < 3) {
		fprintf(stderr, "ASSAY_FAULT=%s is not understood\n", one);
		exit(EXIT_USAGE);
	}
	f->stage = strcmp(stage, "tokenize") == 0 ? -2 :
		   strcmp(stage, "read") == 0	  ? -3 : trace_stage_by_name(stage);
	if (f->stage == -1) {
		fprintf(stderr, "ASSAY_FAULT: there is no stage %s\n", stage);
		exit(EXIT_USAGE);
	}
	f->layer = *layer == '*' ? -2 : atoi(layer);
	equals = strchr(kind, '=');
	f->value = equals ? strtod(equals + 1, NULL) : 0;
	if (equals && strncmp(kind, "variant/", 8) != 0)
		*equals = '\0';
	snprintf(f->kind, sizeof(f->kind), "%s", kind);
	f->prefill = strcmp(when, "decode") != 0;
	f->decode = strcmp(when, "prefill") != 0;
	if (strncmp(when, "step=", 5) == 0)
		f->step = atoi(when + 5);
}

__attribute__((constructor)) static void fill_in(void)
{
	const char *text = getenv("ASSAY_FAULT");

	is_flash = getenv("ASSAY_FLASH") != NULL;
	faulty = engine_native;
	faulty.name = "faulty";
	faulty.evaluate = evaluate;
	faulty.tokenize = tokenize;
	faulty.piece = piece;
	faulty.weights = weights;
	for (; text && *text && n_faults < FAULTS_MAX; text += strcspn(text, ";"), text += *text == ';')
		plant(&faults[n_faults++], text);
}
