#include "local.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	double bound;
} kinds[LOCAL_KINDS] = {
	[LOCAL_EMBEDDINGS] = {"embeddings", 2}, [LOCAL_NORM] = {"norm", 16},
	[LOCAL_PRODUCT] = {"product", 8},	[LOCAL_ROPE] = {"rope", 8},
	[LOCAL_SCORES] = {"scores", 256},	[LOCAL_SOFTMAX] = {"softmax", 128},
	[LOCAL_VALUES] = {"values", 256},	[LOCAL_ACTIVATION] = {"activation", 16},
	[LOCAL_ADD] = {"add", 1},
	[LOCAL_FLASH] = {"flash attention", 8192},
};

const char *local_kind_name(enum local_kind k)
{
	return kinds[k].name;
}

double local_bound(enum local_kind k, double terms, int n_positions)
{
	if (k == LOCAL_PRODUCT)
		return ceil(kinds[k].bound + 2 * sqrt(terms > 0 ? terms : LOCAL_TERMS_UNKNOWN));
	if (k == LOCAL_FLASH)
		return ceil(kinds[k].bound * sqrt((double)n_positions));
	return kinds[k].bound + (k == LOCAL_ROPE ? 4.0 * n_positions : 0);
}

double local_terms(const char *type, int64_t n_in)
{
	static const char *const single[] = {"f32", "f16", "bf16"}, *const exact[] = {"i2_s", "tl1", "tl2"},
				 *const block[] = {"q4_0", "q5_0", "q8_0"};

	for (int i = 0; i < 3; i++) {
		if (strcmp(type, single[i]) == 0)
			return (double)n_in;
		if (strcmp(type, exact[i]) == 0)
			return 1;
		if (strcmp(type, block[i]) == 0)
			return (double)n_in / 32;
	}
	return *type ? (double)n_in / 16 : 0;
}

bool local_quantised(const char *weights)
{
	for (const char *p = weights; *p;) {
		size_t n = strcspn(p, ":");

		if (!(n == 3 && memcmp(p, "f32", 3) == 0) &&
		    !(n == 3 && memcmp(p, "f16", 3) == 0) && !(n == 4 && memcmp(p, "bf16", 4) == 0))
			return true;
		p += strcspn(p, " ");
		p += strspn(p, " ");
	}
	return false;
}

enum local_kind local_kind_of(enum trace_stage s)
{
	switch (s) {
	case STAGE_EMBEDDINGS:
		return LOCAL_EMBEDDINGS;
	case STAGE_ATTN_NORM: case STAGE_Q_NORM: case STAGE_K_NORM: case STAGE_ATTN_SUB_NORM:
	case STAGE_FFN_NORM: case STAGE_FFN_SUB_NORM: case STAGE_OUTPUT_NORM:
		return LOCAL_NORM;
	case STAGE_Q_ROPE: case STAGE_K_ROPE:
		return LOCAL_ROPE;
	case STAGE_ATTN_SCORES:
		return LOCAL_SCORES;
	case STAGE_ATTN_SOFTMAX:
		return LOCAL_SOFTMAX;
	case STAGE_ATTN_OUT_HEADS:
		return LOCAL_VALUES;
	case STAGE_FFN_ACT:
		return LOCAL_ACTIVATION;
	case STAGE_ATTN_RESIDUAL: case STAGE_LAYER_OUT:
		return LOCAL_ADD;
	default:
		return LOCAL_PRODUCT;
	}
}

void local_name(enum trace_stage stage, int layer, char *out, size_t size)
{
	if (layer < 0)
		snprintf(out, size, "%s", trace_stage_name(stage));
	else
		snprintf(out, size, "%s of layer %d", trace_stage_name(stage), layer);
}

/* ---- who reads what ----------------------------------------------------------------------- */

static bool has_stage(uint64_t has, enum trace_stage s)
{
	return has >> s & 1;
}

static struct local_input entering(int layer)
{
	return layer == 0 ? (struct local_input){STAGE_EMBEDDINGS, -1, false}
			  : (struct local_input){STAGE_LAYER_OUT, layer - 1, false};
}

static int attention_inputs(enum trace_stage stage, int layer, uint64_t has, struct local_input *in)
{
	const struct local_input q = {STAGE_Q_ROPE, layer, false}, k = {STAGE_K_ROPE, layer, true},
				 v = {STAGE_V, layer, true};

	if (stage == STAGE_ATTN_SOFTMAX && has_stage(has, STAGE_ATTN_SCORES)) {
		in[0] = (struct local_input){STAGE_ATTN_SCORES, layer, false};
		return 1;
	}
	if (stage == STAGE_ATTN_OUT_HEADS && has_stage(has, STAGE_ATTN_SOFTMAX)) {
		in[0] = (struct local_input){STAGE_ATTN_SOFTMAX, layer, false};
		in[1] = v;
		return 2;
	}
	in[0] = q;
	in[1] = k;
	in[2] = v;
	return stage == STAGE_ATTN_OUT_HEADS ? 3 : 2;
}

int local_inputs(enum trace_stage stage, int layer, int n_layer, uint64_t has,
		 struct local_input in[LOCAL_INPUTS_MAX])
{
	const struct {
		enum trace_stage stage, from, unless;	/* unless: read instead where it exists */
	} one[] = {
		{STAGE_Q, STAGE_ATTN_NORM, STAGE_COUNT},
		{STAGE_K, STAGE_ATTN_NORM, STAGE_COUNT},
		{STAGE_V, STAGE_ATTN_NORM, STAGE_COUNT},
		{STAGE_Q_NORM, STAGE_Q, STAGE_COUNT},
		{STAGE_K_NORM, STAGE_K, STAGE_COUNT},
		{STAGE_Q_ROPE, STAGE_Q, STAGE_Q_NORM},
		{STAGE_K_ROPE, STAGE_K, STAGE_K_NORM},
		{STAGE_ATTN_SUB_NORM, STAGE_ATTN_OUT_HEADS, STAGE_COUNT},
		{STAGE_ATTN_O, STAGE_ATTN_OUT_HEADS, STAGE_ATTN_SUB_NORM},
		{STAGE_FFN_NORM, STAGE_ATTN_RESIDUAL, STAGE_COUNT},
		{STAGE_FFN_GATE, STAGE_FFN_NORM, STAGE_COUNT},
		{STAGE_FFN_UP, STAGE_FFN_NORM, STAGE_COUNT},
		{STAGE_FFN_SUB_NORM, STAGE_FFN_ACT, STAGE_COUNT},
		{STAGE_FFN_DOWN, STAGE_FFN_ACT, STAGE_FFN_SUB_NORM},
		{STAGE_LOGITS, STAGE_OUTPUT_NORM, STAGE_COUNT},
	};

	for (size_t i = 0; i < sizeof(one) / sizeof(one[0]); i++)
		if (one[i].stage == stage) {
			bool other = one[i].unless != STAGE_COUNT && has_stage(has, one[i].unless);

			in[0] = (struct local_input){other ? one[i].unless : one[i].from, layer,
						     false};
			return 1;
		}
	switch (stage) {
	case STAGE_ATTN_NORM:
		in[0] = entering(layer);
		return 1;
	case STAGE_OUTPUT_NORM:
		in[0] = entering(n_layer);
		return 1;
	case STAGE_ATTN_RESIDUAL:
		in[0] = (struct local_input){STAGE_ATTN_O, layer, false};
		in[1] = entering(layer);
		return 2;
	case STAGE_FFN_ACT:
		in[0] = (struct local_input){STAGE_FFN_GATE, layer, false};
		in[1] = (struct local_input){STAGE_FFN_UP, layer, false};
		return 2;
	case STAGE_LAYER_OUT:
		in[0] = (struct local_input){STAGE_FFN_DOWN, layer, false};
		in[1] = (struct local_input){STAGE_ATTN_RESIDUAL, layer, false};
		return 2;
	case STAGE_ATTN_SCORES: case STAGE_ATTN_SOFTMAX: case STAGE_ATTN_OUT_HEADS:
		return attention_inputs(stage, layer, has, in);
	default:
		return 0;
	}
}

/* ---- the table ---------------------------------------------------------------------------- */

void local_pass_init(struct local_pass *p, const char *source, const char *replayer)
{
	*p = (struct local_pass){.source = source, .replayer = replayer, .first_different = -1,
				 .first_beyond = -1};
}

void local_add(struct local_pass *p, const struct local_row *r)
{
	struct local_kind_sum *k = &p->kinds[r->fused ? LOCAL_FLASH : local_kind_of(r->stage)];
	struct local_row *to;

	if (p->n == p->cap) {
		p->cap = p->cap ? 2 * p->cap : 256;
		p->rows = realloc(p->rows, (size_t)p->cap * sizeof(*p->rows));
		assert(p->rows);
	}
	to = &p->rows[p->n];
	*to = *r;
	to->inside = r->diff.row_ulp <= r->bound;
	if (r->profile) {
		p->n_other++;
		p->other = r->profile;
	}
	if (r->n_ties) {
		p->n_ties += r->n_ties;
		p->n_tied++;
	}
	k->n++;
	k->bound = r->bound > k->bound ? r->bound : k->bound;
	k->worst_ulp = r->diff.max_ulp > k->worst_ulp ? r->diff.max_ulp : k->worst_ulp;
	k->worst_row_ulp = r->diff.row_ulp > k->worst_row_ulp ? r->diff.row_ulp : k->worst_row_ulp;
	if (r->diff.n_different == 0) {
		k->n_bits_equal++;
		p->n_bits_equal++;
	} else if (p->first_different < 0) {
		p->first_different = p->n;
	}
	if (!to->inside) {
		p->n_beyond++;
		if (p->first_beyond < 0)
			p->first_beyond = p->n;
	}
	p->n++;
}

void local_missing(struct local_pass *p, const char *name, int seq)
{
	size_t n = strlen(p->missing);

	p->n_missing++;
	snprintf(p->missing + n, sizeof(p->missing) - n, seq ? "%s%s (step %d)" : "%s%s",
		 n ? ", " : "", name, seq);
}

void local_pass_free(struct local_pass *p)
{
	free(p->rows);
	*p = (struct local_pass){0};
}

void local_free(struct local_result *r)
{
	local_pass_free(&r->reference);
	local_pass_free(&r->own);
}

static void name_row(const struct local_pass *p, int row, char *out, size_t size)
{
	const struct local_row *r = &p->rows[row];
	char name[64];

	local_name(r->stage, r->layer, name, sizeof(name));
	snprintf(out, size, "%s%s, %.3g row ulp where %.3g is its bound", name,
		 r->seq ? " while decoding" : "", r->diff.row_ulp, r->bound);
}

void local_decide(struct local_result *r)
{
	const struct local_pass *p = &r->reference, *o = &r->own;
	char name[160];

	r->equivalent = false;
	if (!r->ran)
		return;
	if (!r->weights_equal)
		snprintf(r->reason, sizeof(r->reason), "the two models have different weights");
	else if (!r->tokens_equal)
		snprintf(r->reason, sizeof(r->reason), "the two sides read different tokens");
	else if (p->n == 0 || o->n == 0)
		snprintf(r->reason, sizeof(r->reason), "no operation was replayed");
	else if (p->n_missing || o->n_missing)
		snprintf(r->reason, sizeof(r->reason), "%d operations are missing: %.400s",
			 p->n_missing + o->n_missing, p->n_missing ? p->missing : o->missing);
	else if (o->first_different >= 0) {
		name_row(o, o->first_different, name, sizeof(name));
		snprintf(r->reason, sizeof(r->reason),
			 "%s's own run is not what its operations give: %s", o->source, name);
	} else if (p->first_beyond >= 0) {
		name_row(p, p->first_beyond, name, sizeof(name));
		snprintf(r->reason, sizeof(r->reason),
			 "%d of %d operations differ locally, first %s", p->n_beyond, p->n, name);
	} else if (*p->other_run || *o->other_run) {
		snprintf(r->reason, sizeof(r->reason), "%s", *p->other_run ? p->other_run : o->other_run);
	} else {
		r->equivalent = true;
		snprintf(
			r->reason, sizeof(r->reason),
			"each of the %d operations of %s gives on its own inputs what %s gives: %d to "
			"the bit%s",
			p->n, p->source, p->replayer, p->n_bits_equal,
			p->n_bits_equal < p->n ? ", the rest inside their bounds" : "");
		if (p->n_other)
			snprintf(r->reason + strlen(r->reason),
				 sizeof(r->reason) - strlen(r->reason),
				 " (%d of them with the numerics of %s)", p->n_other, p->other);
		if (p->n_ties)
			snprintf(r->reason + strlen(r->reason),
				 sizeof(r->reason) - strlen(r->reason),
				 "; in %d of them %d activation%s on a rounding tie %s on the other side",
				 p->n_tied, p->n_ties, p->n_ties == 1 ? "" : "s",
				 p->n_ties == 1 ? "is" : "are");
	}
}
