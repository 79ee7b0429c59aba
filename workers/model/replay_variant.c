#include "replay_variant.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct replay_variant replay_variants[] = {
	{"silu", NULL, STAGE_BIT(STAGE_FFN_ACT), "SiLU as the gate's activation"},
	{"relu2", NULL, STAGE_BIT(STAGE_FFN_ACT), "squared ReLU as the gate's activation"},
	{"swap_gate_up", NULL,
	 STAGE_BIT(STAGE_FFN_ACT) | STAGE_BIT(STAGE_FFN_GATE) | STAGE_BIT(STAGE_FFN_UP),
	 "gate and up in each other's place"},
	{"rope_neox", NULL, STAGES_ROPES, "RoPE on split halves"},
	{"rope_norm", NULL, STAGES_ROPES, "RoPE on neighbouring pairs"},
	{"rope_base", "BASE", STAGES_ROPES, "another RoPE frequency base"},
	{"rope_scale", "FACTOR", STAGES_ROPES, "another linear RoPE frequency scale (1 = none)"},
	{"no_freq_factors", NULL, STAGES_ROPES, "RoPE frequency factors ignored"},
	{"no_yarn", NULL, STAGES_ROPES, "YaRN ignored"},
	{"no_rope", NULL, STAGES_ROPES, "no rotation"},
	{"pos_shift", "N", STAGES_ROPES, "positions counted from N instead of 0"},
	{"eps", "EPS", STAGES_NORMS, "another RMSNorm epsilon"},
	{"no_sub_norm", NULL, STAGE_BIT(STAGE_ATTN_SUB_NORM) | STAGE_BIT(STAGE_FFN_SUB_NORM),
	 "sub-norm left out"},
	{"no_norm", NULL, STAGES_NORMS, "norm left out"},
	{"no_norm_weight", NULL, STAGES_NORMS, "norm without its weight"},
	{"mask_off_by_one", NULL, STAGES_ATTENTION, "each position sees one cell fewer"},
	{"mask_shift", "N", STAGES_ATTENTION, "each position sees N cells more"},
	{"kv_f32", NULL, STAGES_ATTENTION, "KV cache in F32"},
	{"kv_f16", NULL, STAGES_ATTENTION, "KV cache in F16"},
	{"attn_scale", "X", STAGE_BIT(STAGE_ATTN_SOFTMAX) | STAGE_BIT(STAGE_ATTN_OUT_HEADS),
	 "scores multiplied by X instead of 1/√d"},
	{"head_order", NULL, STAGES_ATTENTION, "head h reads KV head h mod n instead of h / group"},
	{"no_bias", NULL, STAGES_PRODUCTS, "bias left out"},
	{"no_scale", NULL, STAGES_PRODUCTS, "the .scale tensor left out"},
	{"weights_of_layer", "K", STAGES_PRODUCTS | STAGES_NORMS, "the weights of layer K"},
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

static int apply(struct replay_knobs *k, const struct session *s, const char *name, double v,
		 struct err *e)
{
	const int n_layer = s->m->hp.n_layer;
	if (strcmp(name, "silu") == 0)
		k->hp.activation = ACTIVATION_SILU;
	else if (strcmp(name, "relu2") == 0)
		k->hp.activation = ACTIVATION_RELU2;
	else if (strcmp(name, "swap_gate_up") == 0)
		swap_gate_up(k);
	else if (strcmp(name, "rope_neox") == 0)
		k->hp.neox = true;
	else if (strcmp(name, "rope_norm") == 0)
		k->hp.neox = false;
	else if (strcmp(name, "rope_base") == 0)
		k->hp.rope.base = (float)v;
	else if (strcmp(name, "rope_scale") == 0)
		k->hp.rope.freq_scale = (float)v;
	else if (strcmp(name, "no_freq_factors") == 0)
		k->hp.rope.freq_factors = NULL;
	else if (strcmp(name, "no_yarn") == 0)
		k->hp.rope.ext_factor = 0, k->hp.rope.attn_factor = 1;
	else if (strcmp(name, "no_rope") == 0 || strcmp(name, "no_sub_norm") == 0 ||
		 strcmp(name, "no_norm") == 0)
		k->skip = true;
	else if (strcmp(name, "pos_shift") == 0)
		k->pos_shift = (int64_t)v;
	else if (strcmp(name, "eps") == 0)
		set_epsilon(k, v);
	else if (strcmp(name, "no_norm_weight") == 0)
		drop_norm_weights(k);
	else if (strcmp(name, "mask_off_by_one") == 0)
		k->mask_shift = -1;
	else if (strcmp(name, "mask_shift") == 0)
		k->mask_shift = (int64_t)v;
	else if (strcmp(name, "kv_f32") == 0 || strcmp(name, "kv_f16") == 0)
		k->kv_f32 = name[4] == '3';
	else if (strcmp(name, "attn_scale") == 0)
		k->hp.attn_scale = (float)v;
	else if (strcmp(name, "head_order") == 0)
		k->interleaved_heads = true;
	else if (strcmp(name, "no_bias") == 0 || strcmp(name, "no_scale") == 0)
		drop_extras(k, name[3] == 'b');
	else if (strcmp(name, "scale") == 0)
		k->factor = (float)v;
	else if (strcmp(name, "weights_of_layer") == 0 && v >= 0 && v < n_layer)
		k->layer = s->m->layers[(int)v];
	else
		return err_set(e, EXIT_USAGE, "variant %s=%g: the model has layers 0 to %d", name,
			       v, n_layer - 1);
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
	char *end = NULL;
	double value = equals ? strtod(equals + 1, &end) : 0;
	if (!equals != !v->value || (equals && (end == equals + 1 || *end || !isfinite(value))))
		return err_set(e, EXIT_USAGE, "variant \"%s\": expected %s%s%s", q->variant,
			       v->name, v->value ? "=" : "", v->value ? v->value : "");
	if (!(v->stages >> q->stage & 1))
		return err_set(e, EXIT_USAGE, "variant %s changes nothing in %s", v->name,
			       trace_stage_name(q->stage));
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
