#include "rope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { YARN_BETA_FAST = 32, YARN_BETA_SLOW = 1 };

const char *rope_scaling_name(enum rope_scaling s)
{
	static const char *const names[] = {"none", "linear", "yarn"};
	return names[s];
}

/* The dimension whose wavelength makes `turns` turns over the original context. */
static float yarn_dim(int n_dims, int orig_ctx, float turns, float base)
{
	return (float)n_dims * m_logf((float)orig_ctx / (turns * 2 * (float)M_PI)) /
	       (2 * m_logf(base));
}

/*
 * The kernel multiplies YaRN's magnitude 1 + 0.1·ln(1/scale) in; llama.cpp cancels it here and
 * puts its own in its place, bitnet.cpp's older llama.cpp leaves it.
 */
static void yarn_set_up(struct hparams *h, bool bitnet_family, float attn_factor)
{
	struct rope_params *p = &h->rope;
	p->ext_factor = 1;
	float low = floorf(yarn_dim(p->n_dims, h->rope_orig_ctx, YARN_BETA_FAST, p->base));
	float high = ceilf(yarn_dim(p->n_dims, h->rope_orig_ctx, YARN_BETA_SLOW, p->base));
	p->corr_low = low > 0 ? low : 0;
	p->corr_high = high < (float)(p->n_dims - 1) ? high : (float)(p->n_dims - 1);
	if (!bitnet_family) {
		float factor = 1.0f / p->freq_scale, log_factor = m_logf(factor);
		float magnitude = factor <= 1.0f ? 1.0f : 0.1f * log_factor + 1.0f;
		p->attn_factor = magnitude * (1.0f / (1.0f + 0.1f * log_factor));
	}
	p->attn_factor *= attn_factor;
}

static int read_scaling_kind(struct hparams *h, struct gguf_str s, struct err *e)
{
	static const char *const names[] = {"none", "linear", "yarn"};
	for (int i = 0; i < 3; i++) {
		if (s.n == strlen(names[i]) && memcmp(s.s, names[i], s.n) == 0) {
			h->rope_scaling = (enum rope_scaling)i;
			return 0;
		}
	}
	return err_set(e, EXIT_MODEL_LOAD,
		       "%s.rope.scaling.type is \"%.*s\"; known are none, linear and yarn",
		       h->arch->name, (int)(s.n > 64 ? 64 : s.n), s.s);
}

int rope_read(struct hparams *h, const struct gguf *g, const struct overrides *o,
	      bool bitnet_family, struct err *e)
{
	char key[160];
	uint64_t dims = (uint64_t)h->head_dim, orig = (uint64_t)h->n_ctx_train;
	double base = 10000, factor = 0, attn_factor = 1;
	struct gguf_str kind;
	const char *arch = h->arch->name;
#define KEY(suffix) (snprintf(key, sizeof(key), "%s.rope." suffix, arch), key)
	hparams_u64(g, o, KEY("dimension_count"), &dims);
	hparams_u64(g, o, KEY("scaling.original_context_length"), &orig);
	hparams_f64(g, o, KEY("freq_base"), &base);
	hparams_f64(g, o, KEY("scaling.attn_factor"), &attn_factor);
	if (!hparams_f64(g, o, KEY("scaling.factor"), &factor))
		hparams_f64(g, o, KEY("scale_linear"), &factor);
	h->rope_scaling = ROPE_LINEAR;	/* llama.cpp's default; without a factor it is none */
	if (hparams_string(g, o, KEY("scaling.type"), &kind)) {
		int rc = read_scaling_kind(h, kind, e);
		if (rc != 0)
			return rc;
	}
#undef KEY
	if (dims < 2 || dims % 2 != 0 || dims > (uint64_t)h->head_dim)
		return err_set(
			e, EXIT_MODEL_LOAD,
			"%s.rope.dimension_count is %llu; expected an even number up to the head size %d",
			arch, (unsigned long long)dims, h->head_dim);
	if (!(base >= 1) || !isfinite(base) || !(factor >= 0) || !isfinite(factor) || orig < 1 ||
	    orig > INT32_MAX)
		return err_set(
			e, EXIT_MODEL_LOAD,
			"%s.rope has frequency base %g, factor %g and original context %llu; "
			"that cannot be computed",
			arch, base, factor, (unsigned long long)orig);
	if (h->rope_scaling == ROPE_LINEAR && factor == 0)
		h->rope_scaling = ROPE_NONE;
	h->rope_orig_ctx = (int)orig;
	float f = (float)factor;
	h->rope = (struct rope_params){
		.base = (float)base,
		.freq_scale = h->rope_scaling == ROPE_NONE || f == 0 ? 1.0f : 1.0f / f,
		.attn_factor = 1,
		.n_dims = (int)dims,
	};
	if (h->rope_scaling == ROPE_YARN)
		yarn_set_up(h, bitnet_family, (float)attn_factor);
	else
		h->rope.attn_factor *= (float)attn_factor;
	return 0;
}
