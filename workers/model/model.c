#include "model.h"

#include "tl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 96 };

/* ---- the tensor table --------------------------------------------------------------------- */

struct loader {
	struct model *m;
	struct err *e;		/* sticky */
	bool *asked;		/* [n_tensors] of the file: somebody has use for it */
};

static void shape_text(const struct gguf_tensor *t, char *out, size_t size)
{
	size_t at = 0;
	for (int i = 0; i < t->n_dims && at < size; i++)
		at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? " × " : "",
				       (long long)t->ne[i]);
}

/* The tensor `name` of ne0 × ne1 (ne1 = 0: one dimension), checked; NULL with the error set, or
 * NULL alone when it is absent and not required. */
static const struct gguf_tensor *find(struct loader *l, const char *name, int64_t ne0, int64_t ne1,
				      bool required)
{
	if (l->e->code != 0)
		return NULL;
	const struct gguf_tensor *t = gguf_tensor(&l->m->gguf, name);
	if (!t) {
		if (required)
			err_set(l->e, EXIT_MODEL_LOAD,
				"tensor %s is missing; architecture %s needs it", name,
				l->m->hp.arch->name);
		return NULL;
	}
	l->asked[t - l->m->gguf.tensors] = true;
	int64_t rows = ne1 ? ne1 : 1;
	if (t->ne[0] != ne0 || t->ne[1] != rows || t->ne[2] != 1 || t->ne[3] != 1) {
		char got[96] = "";
		shape_text(t, got, sizeof(got));
		err_set(l->e, EXIT_MODEL_LOAD, ne1 ? "tensor %s is %s; expected %lld × %lld"
						   : "tensor %s is %s; expected %lld",
			name, got, (long long)ne0, (long long)ne1);
		return NULL;
	}
	return t;
}

/* A vector of n float32 values used in place. */
static const float *vector(struct loader *l, const char *name, int64_t n, bool required)
{
	const struct gguf_tensor *t = find(l, name, n, 0, required);
	if (!t)
		return NULL;
	if (t->type != TYPE_F32 || (uintptr_t)t->data % sizeof(float) != 0) {
		const struct weight_type *type = weight_type_by_id(t->type);
		err_set(l->e, EXIT_MODEL_LOAD, "tensor %s is stored as %s%s; expected aligned f32",
			name, type ? type->name : "an unknown type",
			(uintptr_t)t->data % sizeof(float) ? ", not aligned" : "");
		return NULL;
	}
	return (const float *)(const void *)t->data;
}

static void check_weight(struct loader *l, const char *name, const struct gguf_tensor *t,
			 const struct weight_type *type)
{
	if (type && tl_type(type->id))
		tl_check(type, name, t->ne[0], t->ne[1], l->e);
	else if (!type || !type->dequantize)
		err_set(l->e, EXIT_MODEL_LOAD,
			"tensor %s has weight type %s (%u), which is not supported; known are f32, "
			"f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k to q6_k, tq1_0, tq2_0, "
			"i2_s, tl1, tl2",
			name, gguf_weight_name(t->type), t->type);
	else if (t->ne[0] % type->block_elems != 0)
		err_set(l->e, EXIT_MODEL_LOAD,
			"tensor %s has rows of %lld; %s needs a multiple of %u", name,
			(long long)t->ne[0], type->name, type->block_elems);
	else if (type->id == TYPE_I2_S && t->ne[1] % 4 != 0)
		err_set(l->e, EXIT_MODEL_LOAD,
			"tensor %s has %lld rows; i2_s needs a multiple of 4 (the reference writes past others)",
			name, (long long)t->ne[1]);
}

static void weight(struct loader *l, const char *name, int64_t n_in, int64_t n_out, bool required,
		   struct weight *w)
{
	const struct gguf_tensor *t = find(l, name, n_in, n_out, required);
	if (!t)
		return;
	const struct weight_type *type = weight_type_by_id(t->type);
	check_weight(l, name, t, type);
	if (l->e->code != 0)
		return;
	size_t row_bytes = (size_t)(n_in / type->block_elems) * type->block_bytes;
	*w = (struct weight){
		.type = type,
		.data = t->data,
		.tail = type->tail_bytes ? t->data + t->bytes - type->tail_bytes : NULL,
		.row_bytes = row_bytes,
		.n_in = n_in,
		.n_out = n_out,
		.packed = tl_type(type->id) ? tl_unpack(type, t->data, n_in, n_out) : NULL,
	};
	if (tl_type(type->id) && !w->packed)
		err_set(l->e, EXIT_INTERNAL, "no memory to unpack tensor %s", name);
}

static void linear(struct loader *l, const char *base, int64_t n_in, int64_t n_out, bool required,
		   struct linear *out)
{
	char name[NAME_MAX_BYTES + 8];
	snprintf(name, sizeof(name), "%s.weight", base);
	weight(l, name, n_in, n_out, required, &out->w);
	snprintf(name, sizeof(name), "%s.scale", base);
	out->scale = vector(l, name, 1, false);
	snprintf(name, sizeof(name), "%s.bias", base);
	out->bias = vector(l, name, n_out, false);
}

static void load_layer(struct loader *l, int i, struct layer *out)
{
	const struct hparams *h = &l->m->hp;
	const int64_t q = (int64_t)h->n_head * h->head_dim,
		      kv = (int64_t)h->n_kv_head * h->head_dim;
	char name[NAME_MAX_BYTES];
#define NAME(suffix) (snprintf(name, sizeof(name), "blk.%d." suffix, i), name)
	out->attn_norm = vector(l, NAME("attn_norm.weight"), h->n_embd, true);
	linear(l, NAME("attn_q"), h->n_embd, q, true, &out->q);
	linear(l, NAME("attn_k"), h->n_embd, kv, true, &out->k);
	linear(l, NAME("attn_v"), h->n_embd, kv, true, &out->v);
	if (h->arch->qk_norms) {
		out->q_norm = vector(l, NAME("attn_q_norm.weight"), h->head_dim, true);
		out->k_norm = vector(l, NAME("attn_k_norm.weight"), h->head_dim, true);
	}
	if (h->arch->sub_norms)
		out->attn_sub_norm = vector(l, NAME("attn_sub_norm.weight"), q, true);
	linear(l, NAME("attn_output"), q, h->n_embd, true, &out->o);
	out->ffn_norm = vector(l, NAME("ffn_norm.weight"), h->n_embd, true);
	linear(l, NAME("ffn_gate"), h->n_embd, h->n_ff, true, &out->gate);
	linear(l, NAME("ffn_up"), h->n_embd, h->n_ff, true, &out->up);
	if (h->arch->sub_norms)
		out->ffn_sub_norm = vector(l, NAME("ffn_sub_norm.weight"), h->n_ff, true);
	linear(l, NAME("ffn_down"), h->n_ff, h->n_embd, true, &out->down);
	out->gate.bias_first = out->up.bias_first = out->down.bias_first = true;
#undef NAME
}

/* A model that has more than its architecture computes another function: refused, as llama.cpp
 * does. The head that ranks texts (qwen3) has no part in logits. */
static void check_unasked(struct loader *l)
{
	for (uint64_t i = 0; i < l->m->gguf.n_tensors && l->e->code == 0; i++) {
		const struct gguf_tensor *t = &l->m->gguf.tensors[i];
		if (l->asked[i] || (t->name.n > 4 && memcmp(t->name.s, "cls.", 4) == 0))
			continue;
		err_set(l->e, EXIT_MODEL_LOAD,
			"tensor %.*s is not one that architecture %s has; without it the result "
			"would be another model's",
			(int)t->name.n, t->name.s, l->m->hp.arch->name);
	}
}

static void load_tensors(struct loader *l)
{
	struct model *m = l->m;
	struct hparams *h = &m->hp;
	const struct gguf_tensor *embd = gguf_tensor(&m->gguf, "token_embd.weight");
	h->n_vocab = embd && embd->ne[1] <= INT32_MAX ? (int)embd->ne[1] : 1;
	weight(l, "token_embd.weight", h->n_embd, h->n_vocab, true, &m->embd);
	m->output_norm = vector(l, "output_norm.weight", h->n_embd, true);
	linear(l, "output", h->n_embd, h->n_vocab, false, &m->output);
	m->tied = !m->output.w.type;
	if (m->tied)
		m->output.w = m->embd;
	h->rope.freq_factors = vector(l, "rope_freqs.weight", h->rope.n_dims / 2, false);
	for (int i = 0; i < h->n_layer && l->e->code == 0; i++)
		load_layer(l, i, &m->layers[i]);
	check_unasked(l);
}

/* ---- the whole file ----------------------------------------------------------------------- */

/* "i2_s:210 f16:1 f32:121", in the registry's order. */
static void count_types(struct model *m)
{
	size_t at = 0;
	for (const struct weight_type *type = weight_types; type->name; type++) {
		uint64_t n = 0;
		for (uint64_t i = 0; i < m->gguf.n_tensors; i++)
			n += m->gguf.tensors[i].type == type->id;
		if (n > 0 && at < sizeof(m->weights))
			at += (size_t)snprintf(m->weights + at, sizeof(m->weights) - at,
					       "%s%s:%llu", at ? " " : "", type->name,
					       (unsigned long long)n);
	}
}

/* Whether any tensor has a type that only bitnet.cpp knows; decides before the table is built. */
static bool has_bitnet_types(const struct gguf *g)
{
	for (uint64_t i = 0; i < g->n_tensors; i++) {
		uint32_t t = g->tensors[i].type;
		if (t == TYPE_I2_S || t == TYPE_TL1 || t == TYPE_TL2)
			return true;
	}
	return false;
}

int model_open(struct model *m, const char *path, const struct overrides *o, struct err *e)
{
	static const struct overrides none = {0};
	struct err first = ERR_NONE;
	memset(m, 0, sizeof(*m));
	o = o ? o : &none;
	int rc = overrides_check(o, e);
	if (rc == 0)
		rc = gguf_open(&m->gguf, path, &first);
	if (first.code ==
	    EXIT_MODEL_INVALID) /* to `verify` a verdict, to who wants to run it no model */
		return err_set(e, EXIT_MODEL_LOAD,
			       "%s; `assay fetch-models` fetches whole, checked files", first.msg);
	if (rc != 0)
		return first.code ? err_set(e, (enum exit_code)first.code, "%s", first.msg) : rc;
	rc = overrides_fit(o, &m->gguf, e);
	if (rc != 0) {
		model_close(m);
		return rc;
	}
	bool bitnet_types = has_bitnet_types(&m->gguf);
	rc = hparams_read(&m->hp, &m->gguf, o, bitnet_types, &first);
	if (rc == 0) {
		m->bitnet_family = bitnet_types || m->hp.arch->bitnet_only;
		m->layers = calloc((size_t)m->hp.n_layer, sizeof(*m->layers));
		bool *asked = calloc(m->gguf.n_tensors + 1, sizeof(*asked));
		if (!m->layers || !asked)
			err_set(&first, EXIT_INTERNAL, "no memory for %d layers", m->hp.n_layer);
		else
			load_tensors(&(struct loader){m, &first, asked});
		free(asked);
	}
	if (first.code != 0) {
		model_close(m);
		return err_set(e, (enum exit_code)first.code, "%s: %s", path, first.msg);
	}
	count_types(m);
	return 0;
}

static void free_packed(struct model *m)
{
	free((void *)m->embd.packed);
	if (!m->tied)
		free((void *)m->output.w.packed);
	for (int i = 0; m->layers && i < m->hp.n_layer; i++) {
		const struct layer *l = &m->layers[i];
		const struct linear *const all[] = {&l->q,    &l->k,  &l->v,   &l->o,
						    &l->gate, &l->up, &l->down};

		for (size_t j = 0; j < sizeof(all) / sizeof(*all); j++)
			free((void *)all[j]->w.packed);
	}
}

void model_close(struct model *m)
{
	free_packed(m);
	free(m->layers);
	gguf_close(&m->gguf);
	memset(m, 0, sizeof(*m));
}
