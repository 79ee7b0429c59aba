#include "fixtures.h"

#include "fixture_values.h"
#include "fixture_vocab.h"
#include "tl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_YARN, ROPE_LLAMA3 };

struct preset {
	const char *name, *arch, *weights;
	int n_layer, n_embd, n_ff, n_head, n_kv_head, head_dim, n_ctx;
	int n_vocab; /* the built-in vocabulary is padded to it; 0 = to a multiple of 32 */
	float rope_base, rms_eps;
	bool tied;
	enum rope_kind rope;
};

static const struct preset presets[] = {
	/* name, arch, weights, layers, embd, ff, heads, kv, head, ctx, vocab, base, eps, tied, rope */
	{"tiny-bitnet", "bitnet-b1.58", "i2_s", 3, 256, 512, 4, 2, 64, 2048, 0, 5e5f, 1e-5f, true,
	 0},
	{"tiny-bitnet-silu", "bitnet", "tq2_0", 3, 256, 512, 4, 2, 64, 2048, 0, 5e5f, 1e-5f, true,
	 0},
	{"tiny-llama", "llama", "f16", 3, 256, 512, 4, 2, 64, 2048, 0, 1e4f, 1e-5f, false, 0},
	{"tiny-llama3", "llama", "f16", 3, 256, 512, 4, 2, 64, 131072, 0, 5e5f, 1e-5f, true,
	 ROPE_LLAMA3},
	{"tiny-llama-linear", "llama", "f16", 2, 256, 512, 4, 4, 64, 4096, 0, 1e4f, 1e-5f, false,
	 ROPE_LINEAR},
	{"tiny-llama-yarn", "llama", "f16", 2, 256, 512, 4, 4, 64, 4096, 0, 1e4f, 1e-5f, false,
	 ROPE_YARN},
	{"tiny-qwen2", "qwen2", "f16", 3, 256, 512, 4, 2, 64, 2048, 0, 1e6f, 1e-6f, true, 0},
	{"tiny-qwen3", "qwen3", "f16", 3, 256, 512, 4, 2, 128, 2048, 0, 1e6f, 1e-6f, true, 0},
	{"llama-1b", "llama", "q8_0", 16, 2048, 8192, 32, 8, 64, 131072, 128256, 5e5f, 1e-5f, true,
	 ROPE_LLAMA3},
	{"bitnet-2b4t", "bitnet-b1.58", "i2_s", 30, 2560, 6912, 20, 5, 128, 4096, 128256, 5e5f,
	 1e-5f, true, 0},
	{0},
};

const char *const fixture_presets[] = {
	"tiny-bitnet", "tiny-bitnet-silu", "tiny-llama", "tiny-llama3", "tiny-llama-linear",
	"tiny-llama-yarn", "tiny-qwen2", "tiny-qwen3", "llama-1b", "bitnet-2b4t", NULL,
};

static const char *const arches[] = {"bitnet-b1.58", "bitnet-25", "bitnet", "llama",
				     "qwen2",        "qwen3",     NULL};

/* What --weights may name, with general.file_type as llama.cpp numbers it (I2_S: bitnet.cpp).
 * more: the type of value and down projections in every second layer, as in the _M mixes. */
static const struct mix { const char *name; uint32_t linear, more, file_type; } mixes[] = {
	{ "f32", TYPE_F32, TYPE_F32, 0 }, { "f16", TYPE_F16, TYPE_F16, 1 },
	{ "bf16", TYPE_BF16, TYPE_BF16, 32 }, { "q4_0", TYPE_Q4_0, TYPE_Q4_0, 2 },
	{ "q4_1", TYPE_Q4_1, TYPE_Q4_1, 3 }, { "q5_0", TYPE_Q5_0, TYPE_Q5_0, 8 },
	{ "q5_1", TYPE_Q5_1, TYPE_Q5_1, 9 }, { "q8_0", TYPE_Q8_0, TYPE_Q8_0, 7 },
	{ "q2_k", TYPE_Q2_K, TYPE_Q2_K, 10 }, { "q3_k", TYPE_Q3_K, TYPE_Q3_K, 11 },
	{ "q4_k", TYPE_Q4_K, TYPE_Q4_K, 14 }, { "q5_k", TYPE_Q5_K, TYPE_Q5_K, 16 },
	{ "q6_k", TYPE_Q6_K, TYPE_Q6_K, 18 }, { "q3_k_m", TYPE_Q3_K, TYPE_Q5_K, 12 },
	{ "q4_k_m", TYPE_Q4_K, TYPE_Q6_K, 15 }, { "q5_k_m", TYPE_Q5_K, TYPE_Q6_K, 17 },
	{ "tq1_0", TYPE_TQ1_0, TYPE_TQ1_0, 36 }, { "tq2_0", TYPE_TQ2_0, TYPE_TQ2_0, 37 },
	{ "i2_s", TYPE_I2_S, TYPE_I2_S, 40 }, { "tl1", TYPE_TL1, TYPE_TL1, 38 },
	{ "tl2", TYPE_TL2, TYPE_TL2, 39 }, { 0 },
};

enum { TENSORS_MAX = GGUF_BLOCKS_MAX * 16 + 4 };

struct plan {
	struct preset p;	/* with the overrides */
	const struct mix *mix;
	int n_vocab;
	float rope_factors[512];	/* [head_dim/2] of ROPE_LLAMA3 */
	struct fixture_tensor *tensors;
	int n_tensors;
};

static bool ternary_type(uint32_t id)
{
	return id == TYPE_I2_S || tl_type(id) || id == TYPE_TQ1_0 || id == TYPE_TQ2_0;
}

static bool is_bitnet(const char *arch)
{
	return strncmp(arch, "bitnet", 6) == 0;
}

/* ---- what is to be made ------------------------------------------------------------------- */

static int choose(struct plan *m, const struct fixture_options *o, struct err *e)
{
	const struct preset *p = presets;

	while (p->name && strcmp(p->name, o->preset) != 0)
		p++;
	if (!p->name) {
		char list[256] = "";

		for (int i = 0; fixture_presets[i]; i++)
			snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s",
				 i ? ", " : "", fixture_presets[i]);
		return err_set(e, EXIT_USAGE, "no preset is called '%s'; there are %s", o->preset,
			       list);
	}
	m->p = *p;
	if (o->arch) {
		int i = 0;

		while (arches[i] && strcmp(arches[i], o->arch) != 0)
			i++;
		if (!arches[i])
			return err_set(e, EXIT_USAGE,
				       "no architecture is called '%s'; there are bitnet-b1.58, "
				       "bitnet-25, bitnet, llama, qwen2, qwen3",
				       o->arch);
		m->p.arch = arches[i];
	}
	const char *weights = o->weights ? o->weights : m->p.weights;

	for (m->mix = mixes; m->mix->name && strcasecmp(m->mix->name, weights) != 0;)
		m->mix++;
	if (!m->mix->name)
		return err_set(
		    e, EXIT_USAGE,
		    "no weight type is called '%s'; there are f32, f16, bf16, i2_s, tl1, tl2, "
		    "tq1_0, tq2_0, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, "
		    "q3_k_m, q4_k_m, q5_k_m",
		    weights);
	return 0;
}

static int resize(struct plan *m, const struct fixture_options *o, struct err *e)
{
	struct preset *p = &m->p;

	p->n_layer = o->n_layer ? o->n_layer : p->n_layer;
	p->n_ff = o->n_ff ? o->n_ff : p->n_ff;
	p->n_ctx = o->n_ctx ? o->n_ctx : p->n_ctx;
	p->n_kv_head = o->n_kv_head ? o->n_kv_head : p->n_kv_head;
	if (o->n_embd || o->n_head) {
		p->n_embd = o->n_embd ? o->n_embd : p->n_embd;
		p->n_head = o->n_head ? o->n_head : p->n_head;
		p->head_dim = p->n_head > 0 ? p->n_embd / p->n_head : 0;
	}
	if (p->n_layer < 1 || p->n_layer > GGUF_BLOCKS_MAX || p->n_embd < 1 || p->n_embd > 65536 ||
	    p->n_ff < 1 || p->n_ff > 1 << 20 || p->n_head < 1 || p->n_kv_head < 1 || p->n_ctx < 1)
		return err_set(e, EXIT_USAGE, "sizes must be positive, with at most %d layers",
			       GGUF_BLOCKS_MAX);
	if (p->n_head % p->n_kv_head != 0)
		return err_set(e, EXIT_USAGE, "%d heads cannot share %d key-value heads evenly",
			       p->n_head, p->n_kv_head);
	if (p->head_dim < 2 || p->head_dim % 2 != 0 || p->head_dim > 1024)
		return err_set(e, EXIT_USAGE,
			       "a head of %d elements (%d / %d) is not possible: an even number "
			       "up to 1024 is needed",
			       p->head_dim, p->n_embd, p->n_head);
	if ((o->n_embd || o->n_head) && p->n_embd % p->n_head != 0)
		return err_set(e, EXIT_USAGE, "%d elements cannot be divided among %d heads",
			       p->n_embd, p->n_head);
	return 0;
}

/* The n-th root of x > 1 by bisection: products and halves only, so the same everywhere. */
static double root(double x, int n)
{
	double low = 1, high = x;

	for (int i = 0; i < 200; i++) {
		double mid = (low + high) / 2, power = 1;

		for (int k = 0; k < n; k++)
			power *= mid;
		if (power < x)
			low = mid;
		else
			high = mid;
	}
	return low;
}

/* Llama 3.1's stretching of long wavelengths: factor 8 over a first context of 8192, low and high
 * frequency factors 1 and 4; stored as the tensor rope_freqs. */
static void llama3_factors(float *out, const struct preset *p)
{
	double ratio = root((double)p->rope_base, p->head_dim / 2),
	       period = 2 * 0x1.921fb54442d18p+1;

	for (int i = 0; i < p->head_dim / 2; i++, period *= ratio) {
		double turns = 8192 / period, smooth = (turns - 1) / (4 - 1);

		out[i] = smooth >= 1   ? 1
			 : smooth <= 0 ? 8
				       : (float)(1 / ((1 - smooth) / 8 + smooth));
	}
}

/* ---- the tensors -------------------------------------------------------------------------- */

static struct fixture_tensor *add(struct plan *m, const char *name, uint32_t type, int64_t ne0,
				  int64_t ne1)
{
	struct fixture_tensor *t = &m->tensors[m->n_tensors++];

	*t = (struct fixture_tensor){
		.type = weight_type_by_id(type),
		.n_dims = ne1 ? 2 : 1,
		.ne = {ne0, ne1 ? ne1 : 1},
	};
	snprintf(t->name, sizeof(t->name), "%s", name);
	return t;
}

static struct fixture_tensor *add_block(struct plan *m, int layer, const char *part, uint32_t type,
					int64_t ne0, int64_t ne1)
{
	char name[64];

	snprintf(name, sizeof(name), "blk.%d.%s", layer, part);
	return add(m, name, type, ne0, ne1);
}

static void add_gamma(struct plan *m, int layer, const char *part, int64_t n)
{
	struct fixture_tensor *t = add_block(m, layer, part, TYPE_F32, n, 0);

	t->values = VALUES_GAMMA;
	t->centre = 1;
	t->sigma = 0.1f;
}

static void add_linear(struct plan *m, int layer, const char *part, uint32_t type, int64_t n_in,
		       int64_t n_out)
{
	struct fixture_tensor *t = add_block(m, layer, part, type, n_in, n_out);

	t->values = is_bitnet(m->p.arch) || ternary_type(type) ? VALUES_TERNARY : VALUES_NORMAL;
	t->sigma = 1 / sqrtf((float)n_in);
}

static void add_bias(struct plan *m, int layer, const char *part, int64_t n)
{
	add_block(m, layer, part, TYPE_F32, n, 0)->values = VALUES_NORMAL;
	m->tensors[m->n_tensors - 1].sigma = 0.3f;
}

static void add_layer(struct plan *m, int l)
{
	const struct preset *p = &m->p;
	int64_t q = (int64_t)p->n_head * p->head_dim, kv = (int64_t)p->n_kv_head * p->head_dim;
	bool sub = is_bitnet(p->arch), bias = strcmp(p->arch, "qwen2") == 0;
	bool head_norm = strcmp(p->arch, "qwen3") == 0;
	uint32_t type = m->mix->linear, more = l % 2 == 0 ? m->mix->more : type;

	add_gamma(m, l, "attn_norm.weight", p->n_embd);
	if (sub)
		add_gamma(m, l, "attn_sub_norm.weight", q);
	add_linear(m, l, "attn_q.weight", type, p->n_embd, q);
	add_linear(m, l, "attn_k.weight", type, p->n_embd, kv);
	add_linear(m, l, "attn_v.weight", more, p->n_embd, kv);
	if (bias) {
		add_bias(m, l, "attn_q.bias", q);
		add_bias(m, l, "attn_k.bias", kv);
		add_bias(m, l, "attn_v.bias", kv);
	}
	if (head_norm) {
		add_gamma(m, l, "attn_q_norm.weight", p->head_dim);
		add_gamma(m, l, "attn_k_norm.weight", p->head_dim);
	}
	add_linear(m, l, "attn_output.weight", type, q, p->n_embd);
	add_gamma(m, l, "ffn_norm.weight", p->n_embd);
	if (sub)
		add_gamma(m, l, "ffn_sub_norm.weight", p->n_ff);
	add_linear(m, l, "ffn_gate.weight", type, p->n_embd, p->n_ff);
	add_linear(m, l, "ffn_up.weight", type, p->n_embd, p->n_ff);
	add_linear(m, l, "ffn_down.weight", more, p->n_ff, p->n_embd);
}

/* Embeddings and head as quantised files have them: F16 beside ternary weights, a finer head
 * beside 2 to 5 bits. Logits get a deviation of 3; where the head is tied that comes from the last
 * gamma, since with large embeddings each token would mostly predict itself. */
static void add_tensors(struct plan *m)
{
	const struct preset *p = &m->p;
	uint32_t linear = m->mix->linear, embd = ternary_type(linear) ? TYPE_F16 : linear,
		 head = embd;
	float sigma = (p->tied ? 1 : 3) / sqrtf((float)p->n_embd);
	struct fixture_tensor *t;

	if (linear != TYPE_F32 && linear != TYPE_F16 && linear != TYPE_BF16 &&
	    linear != TYPE_Q8_0 && !ternary_type(linear))
		head = p->n_embd % 256 == 0 ? TYPE_Q6_K : TYPE_Q8_0;
	t = add(m, "token_embd.weight", embd, p->n_embd, m->n_vocab);
	t->values = VALUES_NORMAL;
	t->sigma = sigma;
	if (p->rope == ROPE_LLAMA3) {
		t = add(m, "rope_freqs.weight", TYPE_F32, p->head_dim / 2, 0);
		t->values = VALUES_GIVEN;
		t->given = m->rope_factors;
	}
	for (int l = 0; l < p->n_layer; l++)
		add_layer(m, l);
	t = add(m, "output_norm.weight", TYPE_F32, p->n_embd, 0);
	t->values = VALUES_GAMMA;
	t->centre = p->tied ? 3 : 1;
	t->sigma = 0.1f;
	if (!p->tied) {
		t = add(m, "output.weight", head, p->n_embd, m->n_vocab);
		t->values = VALUES_NORMAL;
		t->sigma = sigma;
	}
}

static int check_types(const struct plan *m, struct err *e)
{
	for (int i = 0; i < m->n_tensors; i++) {
		const struct fixture_tensor *t = &m->tensors[i];

		if (t->ne[0] % t->type->block_elems != 0)
			return err_set(
				e, EXIT_USAGE,
				"%s cannot be %s: its rows have %lld elements, a multiple of %u "
				"is needed",
				t->name, t->type->name, (long long)t->ne[0], t->type->block_elems);
		if (tl_type(t->type->id)) {
			struct err why = ERR_NONE;

			if (tl_check(t->type, t->name, t->ne[0], t->ne[1], &why) < 0)
				return err_set(e, EXIT_USAGE, "%s", why.msg);
		}
		if (t->type->id == TYPE_I2_S && t->ne[1] % 4 != 0)
			return err_set(
				e, EXIT_USAGE,
				"%s cannot be i2_s: it has %lld rows, a multiple of 4 is needed",
				t->name, (long long)t->ne[1]);
	}
	return 0;
}

/* ---- the file ----------------------------------------------------------------------------- */

static void put_arch_u32(struct gguf_writer *w, const char *arch, const char *key, int v)
{
	char full[128];

	snprintf(full, sizeof(full), "%s.%s", arch, key);
	gguf_put_u32(w, full, (uint32_t)v);
}

static void put_arch_f32(struct gguf_writer *w, const char *arch, const char *key, float v)
{
	char full[128];

	snprintf(full, sizeof(full), "%s.%s", arch, key);
	gguf_put_f32(w, full, v);
}

static void put_rope_scaling(struct gguf_writer *w, const struct preset *p)
{
	char key[128];

	if (p->rope != ROPE_LINEAR && p->rope != ROPE_YARN)
		return;
	snprintf(key, sizeof(key), "%s.rope.scaling.type", p->arch);
	gguf_put_string(w, key, p->rope == ROPE_YARN ? "yarn" : "linear");
	put_arch_f32(w, p->arch, "rope.scaling.factor", 4);
	put_arch_u32(w, p->arch, "rope.scaling.original_context_length", p->n_ctx / 4);
}

static void put_keys(struct gguf_writer *w, const struct plan *m)
{
	const struct preset *p = &m->p;
	char name[128];

	snprintf(name, sizeof(name), "assay-%s", p->name);
	gguf_put_string(w, "general.architecture", p->arch);
	gguf_put_string(w, "general.name", name);
	put_arch_u32(w, p->arch, "vocab_size", m->n_vocab);
	put_arch_u32(w, p->arch, "context_length", p->n_ctx);
	put_arch_u32(w, p->arch, "embedding_length", p->n_embd);
	put_arch_u32(w, p->arch, "block_count", p->n_layer);
	put_arch_u32(w, p->arch, "feed_forward_length", p->n_ff);
	put_arch_u32(w, p->arch, "rope.dimension_count", p->head_dim);
	put_arch_u32(w, p->arch, "attention.head_count", p->n_head);
	put_arch_u32(w, p->arch, "attention.head_count_kv", p->n_kv_head);
	if (p->head_dim * p->n_head != p->n_embd) {
		put_arch_u32(w, p->arch, "attention.key_length", p->head_dim);
		put_arch_u32(w, p->arch, "attention.value_length", p->head_dim);
	}
	put_arch_f32(w, p->arch, "attention.layer_norm_rms_epsilon", p->rms_eps);
	put_arch_f32(w, p->arch, "rope.freq_base", p->rope_base);
	put_rope_scaling(w, p);
	gguf_put_u32(w, "general.file_type", m->mix->file_type);
	gguf_put_u32(w, "general.quantization_version", 2);
}

static int write_model(struct gguf_writer *w, const struct plan *m, const struct gguf *vocab,
		       uint64_t seed, struct err *e)
{
	int rc = 0;

	put_keys(w, m);
	if (vocab)
		fixture_vocab_copy(w, vocab);
	else
		rc = fixture_vocab_write(w, m->n_vocab, e);
	for (int i = 0; i < m->n_tensors; i++)
		gguf_put_tensor(w, m->tensors[i].name, m->tensors[i].type->id, m->tensors[i].n_dims,
				m->tensors[i].ne);
	for (int i = 0; i < m->n_tensors && rc == 0 && w->failed.code == 0; i++)
		rc = fixture_values_write(w, &m->tensors[i], seed, e);
	return rc;
}

static int open_vocab(struct gguf *vocab, const char *path, int *n_vocab, struct err *e)
{
	int rc = gguf_open(vocab, path, e);

	if (rc < 0)
		return rc;
	const struct gguf_kv *tokens = gguf_find(vocab, "tokenizer.ggml.tokens");

	if (!tokens || tokens->count < 1 || tokens->count > 1 << 24)
		return err_set(e, EXIT_MODEL_INVALID,
			       "%s has no vocabulary to copy: tokenizer.ggml.tokens is "
			       "not there",
			       path);
	*n_vocab = (int)tokens->count;
	return 0;
}

int fixture_write(const char *path, const struct fixture_options *o, struct err *e)
{
	struct gguf vocab = {0};
	struct gguf_writer w = {0};
	struct plan *m = calloc(1, sizeof(*m));
	int rc;

	if (!m || !(m->tensors = calloc(TENSORS_MAX, sizeof(*m->tensors)))) {
		free(m);
		return err_set(e, EXIT_INTERNAL, "out of memory");
	}
	if ((rc = choose(m, o, e)) < 0 || (rc = resize(m, o, e)) < 0)
		goto out;
	int own = (fixture_vocab_size() + 31) / 32 * 32;

	m->n_vocab = m->p.n_vocab > own ? m->p.n_vocab : own;
	if (o->vocab_path && (rc = open_vocab(&vocab, o->vocab_path, &m->n_vocab, e)) < 0)
		goto out;
	if (m->p.rope == ROPE_LLAMA3)
		llama3_factors(m->rope_factors, &m->p);
	add_tensors(m);
	if ((rc = check_types(m, e)) < 0 || (rc = gguf_write_open(&w, path, 3, e)) < 0)
		goto out;
	rc = write_model(&w, m, o->vocab_path ? &vocab : NULL, o->seed, e);
	if (rc == 0)
		rc = gguf_write_finish(&w, e);
	gguf_write_abort(&w);
out:
	gguf_close(&vocab);
	free(m->tensors);
	free(m);
	return rc;
}

/* ---- the mini file ------------------------------------------------------------------------ */

int fixture_write_mini(const char *path, int version, int legacy_layout, struct err *e)
{
	struct gguf_writer w;

	if (version != 2 && version != 3)
		return err_set(e, EXIT_USAGE, "GGUF version %d cannot be written, 2 and 3 can",
			       version);
	int rc = gguf_write_open(&w, path, (uint32_t)version, e);

	if (rc < 0)
		return rc;
	if (legacy_layout)
		gguf_write_legacy_head(&w);
	gguf_put_string(&w, "general.architecture", "test");
	gguf_put_string(&w, "general.name", "mini_test_model");
	gguf_put_string(&w, "general.file_type", "smoke");
	gguf_put_string(&w, "compat.v2_requested", version == 2 ? "true" : "false");
	return gguf_write_finish(&w, e);
}
