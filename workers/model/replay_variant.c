#include "replay_variant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAGES_SOFTCAPPED                                                                          \
	(STAGE_BIT(STAGE_LOGITS) | STAGE_BIT(STAGE_ATTN_SCORES) | STAGE_BIT(STAGE_ATTN_SOFTMAX))

const struct replay_variant replay_variants[] = {
	{"silu", NULL, STAGE_BIT(STAGE_FFN_ACT), "SiLU as the gate's activation"},
	{"relu2", NULL, STAGE_BIT(STAGE_FFN_ACT), "squared ReLU as the gate's activation"},
	{"gelu", NULL, STAGE_BIT(STAGE_FFN_ACT), "GELU (tanh) as the gate's activation"},
	{"gelu_erf", NULL, STAGE_BIT(STAGE_FFN_ACT), "GELU (erf) as the gate's activation"},
	{"relu", NULL, STAGE_BIT(STAGE_FFN_ACT), "ReLU as the gate's activation"},
	{"no_act", NULL, STAGE_BIT(STAGE_FFN_ACT), "no activation of the gate"},
	{"no_up", NULL, STAGE_BIT(STAGE_FFN_ACT), "the gate's activation alone, without up"},
	{"swap_gate_up", NULL,
	 STAGE_BIT(STAGE_FFN_ACT) | STAGE_BIT(STAGE_FFN_GATE) | STAGE_BIT(STAGE_FFN_UP),
	 "gate and up in each other's place"},
	{"rope_neox", NULL, STAGES_ROPES, "RoPE on split halves"},
	{"rope_norm", NULL, STAGES_ROPES, "RoPE on neighbouring pairs"},
	{"rope_base", "BASE", STAGES_ROPES, "another RoPE frequency base"},
	{"rope_scale", "FACTOR", STAGES_ROPES, "another linear RoPE frequency scale (1 = none)"},
	{"rope_dims", "N", STAGES_ROPES, "only the first N dimensions of a head are rotated"},
	{"rope_part", "N", STAGES_ROPES, "the same, by the angles of the whole head"},
	{"no_freq_factors", NULL, STAGES_ROPES, "RoPE frequency factors ignored"},
	{"no_yarn", NULL, STAGES_ROPES, "YaRN ignored"},
	{"no_rope", NULL, STAGES_ROPES, "no rotation"},
	{"pos_shift", "N", STAGES_ROPES, "positions counted from N instead of 0"},
	{"eps", "EPS", STAGES_NORMS, "another RMSNorm epsilon"},
	{"no_sub_norm", NULL, STAGE_BIT(STAGE_ATTN_SUB_NORM) | STAGE_BIT(STAGE_FFN_SUB_NORM),
	 "sub-norm left out"},
	{"no_norm", NULL, STAGES_NORMS, "norm left out"},
	{"no_norm_weight", NULL, STAGES_NORMS, "norm without its weight"},
	{"layer_norm", NULL, STAGES_NORMS, "LayerNorm: the mean is subtracted"},
	{"norm_weight_plus_one", NULL, STAGES_NORMS, "the norm's weight plus one"},
	{"eps_outside", NULL, STAGES_NORMS, "epsilon added to the root instead of under it"},
	{"mask_off_by_one", NULL, STAGES_ATTENTION, "each position sees one cell fewer"},
	{"mask_shift", "N", STAGES_ATTENTION, "each position sees N cells more"},
	{"window", "N", STAGE_BIT(STAGE_ATTN_SOFTMAX), "each position sees its last N cells only"},
	{"softcap", "X", STAGES_SOFTCAPPED, "X · tanh(x / X) of logits or scores"},
	{"kv_toward_zero", NULL, STAGES_ATTENTION, "KV cache rounded toward zero"},
	{"kv_f32", NULL, STAGES_ATTENTION, "KV cache in F32"},
	{"kv_f16", NULL, STAGES_ATTENTION, "KV cache in F16"},
	{"attn_scale", "X", STAGE_BIT(STAGE_ATTN_SOFTMAX) | STAGE_BIT(STAGE_ATTN_OUT_HEADS),
	 "scores multiplied by X instead of 1/√d"},
	{"head_order", NULL, STAGES_ATTENTION, "head h reads KV head h mod n instead of h / group"},
	{"no_bias", NULL, STAGES_PRODUCTS, "bias left out"},
	{"no_scale", NULL, STAGES_PRODUCTS, "the .scale tensor left out"},
	{"no_residual", NULL, STAGE_BIT(STAGE_ATTN_RESIDUAL) | STAGE_BIT(STAGE_LAYER_OUT),
	 "the branch alone, not added to the residual stream"},
	{"weights_of", "STAGE", STAGES_PRODUCTS | STAGES_NORMS | STAGE_BIT(STAGE_LOGITS),
	 "the weights of another operation of the layer; embeddings for the logits"},
	{"weights_of_layer", "K", STAGES_PRODUCTS | STAGES_NORMS, "the weights of layer K"},
	{"tie", "N", STAGES_PRODUCTS | STAGE_BIT(STAGE_LOGITS),
	 "each row's Nth activation on a rounding tie on the other side"},
	{"scale", "X", STAGES_ALL, "the result multiplied by X"},
	{.name = NULL},
};

static void set_epsilon(struct replay_knobs *k, double v)
{
	k->hp.norm_eps = (float)v;
}

static void drop_norm_weights(struct replay_knobs *k)
{
	struct layer *l = &k->layer;
	l->attn_norm = l->q_norm = l->k_norm = l->attn_sub_norm = l->ffn_norm = l->ffn_sub_norm =
		NULL;
	k->output_norm = NULL;
}

static void drop_extras(struct replay_knobs *k, bool bias)
{
	struct layer *l = &k->layer;
	struct linear *all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (bias)
			all[i]->bias = NULL;
		else
			all[i]->scale = NULL;
	}
}

static void swap_gate_up(struct replay_knobs *k)
{
	struct linear gate = k->layer.gate;
	k->layer.gate = k->layer.up;
	k->layer.up = gate;
	k->swap_inputs = true;
}

static const struct {
	const char *name;
	enum replay_form form;
} forms[] = {
	{"gelu", FORM_GELU}, {"gelu_erf", FORM_GELU_ERF}, {"relu", FORM_RELU},
	{"no_act", FORM_LINEAR}, {"no_up", FORM_UNGATED}, {"layer_norm", FORM_LAYER_NORM},
	{"norm_weight_plus_one", FORM_WEIGHT_PLUS_ONE}, {"eps_outside", FORM_EPS_OUTSIDE},
};

static bool apply_form(struct replay_knobs *k, const char *name)
{
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		if (strcmp(forms[i].name, name) == 0) {
			k->form = forms[i].form;
			return true;
		}
	return false;
}

static bool apply_rope(struct replay_knobs *k, const char *name, double v)
{
	struct rope_params *r = &k->hp.rope;

	if (strcmp(name, "rope_neox") == 0)
		k->hp.neox = true;
	else if (strcmp(name, "rope_norm") == 0)
		k->hp.neox = false;
	else if (strcmp(name, "rope_base") == 0)
		r->base = (float)v;
	else if (strcmp(name, "rope_scale") == 0)
		r->freq_scale = (float)v;
	else if (strcmp(name, "no_freq_factors") == 0)
		r->freq_factors = NULL;
	else if (strcmp(name, "no_yarn") == 0)
		r->ext_factor = 0, r->attn_factor = 1;
	else if (strcmp(name, "no_rope") == 0)
		k->skip = true;
	else if (strcmp(name, "rope_part") == 0)
		k->rope_part = (int64_t)v;
	else if (strcmp(name, "pos_shift") == 0)
		k->pos_shift = (int64_t)v;
	else
		return false;
	return true;
}

static bool apply_attention(struct replay_knobs *k, const char *name, double v)
{
	if (strcmp(name, "mask_off_by_one") == 0)
		k->mask_shift = -1;
	else if (strcmp(name, "mask_shift") == 0)
		k->mask_shift = (int64_t)v;
	else if (strcmp(name, "window") == 0)
		k->window = (int64_t)v;
	else if (strcmp(name, "softcap") == 0)
		k->softcap = v;
	else if (strcmp(name, "kv_toward_zero") == 0)
		k->kv_toward_zero = true;
	else if (strcmp(name, "kv_f32") == 0 || strcmp(name, "kv_f16") == 0)
		k->kv_f32 = name[4] == '3';
	else if (strcmp(name, "attn_scale") == 0)
		k->hp.attn_scale = (float)v;
	else if (strcmp(name, "head_order") == 0)
		k->interleaved_heads = true;
	else
		return false;
	return true;
}

/* More dimensions than the file has would read frequency factors that are not there. */
static int apply_rope_dims(struct replay_knobs *k, double v, struct err *e)
{
	int n = v >= 2 && v <= k->hp.head_dim ? (int)v : 0;

	if (n < 2 || n % 2 || (k->hp.rope.freq_factors && n > k->hp.rope.n_dims))
		return err_set(e, EXIT_USAGE, "variant rope_dims=%g: expected an even number up to %d",
			       v, k->hp.rope.freq_factors ? k->hp.rope.n_dims : k->hp.head_dim);
	k->hp.rope.n_dims = n;
	return 0;
}

static int apply(struct replay_knobs *k, const struct session *s, const char *name, double v,
		 struct err *e)
{
	const int n_layer = s->m->hp.n_layer;
	if (apply_form(k, name) || apply_rope(k, name, v) || apply_attention(k, name, v))
		return 0;
	if (strcmp(name, "rope_dims") == 0)
		return apply_rope_dims(k, v, e);
	if (strcmp(name, "silu") == 0)
		k->hp.activation = ACTIVATION_SILU;
	else if (strcmp(name, "relu2") == 0)
		k->hp.activation = ACTIVATION_RELU2;
	else if (strcmp(name, "swap_gate_up") == 0)
		swap_gate_up(k);
	else if (strcmp(name, "no_sub_norm") == 0 || strcmp(name, "no_norm") == 0 ||
		 strcmp(name, "no_residual") == 0)
		k->skip = true;
	else if (strcmp(name, "eps") == 0)
		set_epsilon(k, v);
	else if (strcmp(name, "no_norm_weight") == 0)
		drop_norm_weights(k);
	else if (strcmp(name, "no_bias") == 0 || strcmp(name, "no_scale") == 0)
		drop_extras(k, name[3] == 'b');
	else if (strcmp(name, "scale") == 0)
		k->factor = (float)v;
	else if (strcmp(name, "tie") == 0 && v >= 1)
		k->tie = (int64_t)v;
	else if (strcmp(name, "weights_of_layer") == 0 && v >= 0 && v < n_layer)
		k->layer = s->m->layers[(int)v];
	else
		return err_set(e, EXIT_USAGE, "variant %s=%g: the model has layers 0 to %d", name,
			       v, n_layer - 1);
	return 0;
}

/* ---- the weights of another operation ----------------------------------------------------- */

static struct linear *linear_of(struct replay_knobs *k, enum trace_stage s)
{
	switch (s) {
	case STAGE_Q: return &k->layer.q;
	case STAGE_K: return &k->layer.k;
	case STAGE_V: return &k->layer.v;
	case STAGE_ATTN_O: return &k->layer.o;
	case STAGE_FFN_GATE: return &k->layer.gate;
	case STAGE_FFN_UP: return &k->layer.up;
	case STAGE_FFN_DOWN: return &k->layer.down;
	case STAGE_LOGITS: return &k->output;
	default: return NULL;
	}
}

static const float **norm_of(struct replay_knobs *k, const struct hparams *h, enum trace_stage s,
			     int *n)
{
	*n = s == STAGE_Q_NORM || s == STAGE_K_NORM ? h->head_dim :
	     s == STAGE_ATTN_SUB_NORM		    ? h->n_head * h->head_dim :
	     s == STAGE_FFN_SUB_NORM		    ? h->n_ff : h->n_embd;
	switch (s) {
	case STAGE_ATTN_NORM: return &k->layer.attn_norm;
	case STAGE_Q_NORM: return &k->layer.q_norm;
	case STAGE_K_NORM: return &k->layer.k_norm;
	case STAGE_ATTN_SUB_NORM: return &k->layer.attn_sub_norm;
	case STAGE_FFN_NORM: return &k->layer.ffn_norm;
	case STAGE_FFN_SUB_NORM: return &k->layer.ffn_sub_norm;
	case STAGE_OUTPUT_NORM: return &k->output_norm;
	default: return NULL;
	}
}

static bool same_shape(const struct weight *a, const struct weight *b)
{
	return a->n_in == b->n_in && a->n_out == b->n_out;
}

static int take_weights(struct replay_knobs *k, const struct session *s, enum trace_stage stage,
			const char *name, struct err *e)
{
	int other = trace_stage_by_name(name), n_to, n_from;
	const bool known = other >= 0 && (enum trace_stage)other != stage;
	const enum trace_stage source = known ? (enum trace_stage)other : STAGE_COUNT;
	struct linear *to = linear_of(k, stage), *from = linear_of(k, source);
	const float **norm_to = norm_of(k, &k->hp, stage, &n_to);
	const float **norm_from = norm_of(k, &k->hp, source, &n_from);

	if (other == STAGE_EMBEDDINGS && stage == STAGE_LOGITS && !s->m->tied &&
	    same_shape(&to->w, &s->m->embd))
		*to = (struct linear){.w = s->m->embd};
	else if (to && from && from->w.type && same_shape(&to->w, &from->w))
		*to = *from;
	else if (norm_to && norm_from && *norm_from && n_to == n_from)
		*norm_to = *norm_from;
	else
		return err_set(e, EXIT_USAGE,
			       "variant weights_of=%s: nothing of the shape of %s's weights", name,
			       trace_stage_name(stage));
	return 0;
}

static int unknown(const char *variant, struct err *e)
{
	char known[1024];
	size_t at = 0;
	for (const struct replay_variant *v = replay_variants; v->name && at < sizeof(known); v++)
		at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s%s%s", at ? ", " : "",
				       v->name, v->value ? "=" : "", v->value ? v->value : "");
	return err_set(e, EXIT_USAGE, "unknown variant \"%s\"; known are %s", variant, known);
}

static int set_variant(struct replay_knobs *k, const struct session *s,
		       const struct engine_replay *q, struct err *e)
{
	const char *equals = strchr(q->variant, '=');
	size_t n = equals ? (size_t)(equals - q->variant) : strlen(q->variant);
	const struct replay_variant *v = replay_variants;
	while (v->name && (strlen(v->name) != n || memcmp(v->name, q->variant, n) != 0))
		v++;
	if (!v->name)
		return unknown(q->variant, e);
	if (!(v->stages >> q->stage & 1))
		return err_set(e, EXIT_USAGE, "variant %s changes nothing in %s", v->name,
			       trace_stage_name(q->stage));
	if (equals && strcmp(v->name, "weights_of") == 0)
		return take_weights(k, s, q->stage, equals + 1, e);
	char *end = NULL;
	double value = equals ? strtod(equals + 1, &end) : 0;
	if (!equals != !v->value || (equals && (end == equals + 1 || *end || !isfinite(value))))
		return err_set(e, EXIT_USAGE, "variant \"%s\": expected %s%s%s", q->variant,
			       v->name, v->value ? "=" : "", v->value ? v->value : "");
	return apply(k, s, v->name, value, e);
}

int replay_knobs_set(struct replay_knobs *k, const struct session *s,
		     const struct engine_replay *q, struct err *e)
{
	memset(k, 0, sizeof(*k));
	k->hp = s->m->hp;
	k->output_norm = s->m->output_norm;
	k->output = s->m->output;
	k->kv_f32 = s->kv.f32;
	k->factor = 1;
	if (q->layer >= 0)
		k->layer = s->m->layers[q->layer];
	return q->variant ? set_variant(k, s, q, e) : 0;
}
