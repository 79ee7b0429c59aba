#include "gate_internal.h"

#include <stdio.h>
#include <string.h>

enum { KERNELS_MAX = 10000, KERNEL_NAME_MAX = 128, LINEAR_PER_LAYER = 7 };

/* ---- the registry --------------------------------------------------------------------------- */

/* Families whose last word is a weight or activation type, and kernels of one name. */
static const char *const typed[] = {"embed_", "matmul_", "quantize_", NULL};
static const char *const types[] = {"f32", "f16", "bf16", "i2_s", "tl1", "tl2", "tq1_0", "tq2_0",
	"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q8_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_k",
	"i8", "tl", NULL};
static const char *const plain[] = {"rms_norm", "rope_neox", "rope_norm", "kv_store", "attend_f16",
	"attend_f32", "glu_silu", "glu_relu2", "add", "softmax", "dot", "oracle_embed", "oracle_norm",
	"oracle_linear", "oracle_rope", "oracle_scores", "oracle_softmax", "oracle_values", "oracle_glu",
	"oracle_add", NULL};
/* Operations of ggml graphs (ggml.h), as the references' workers count them: OP or OP.type. */
static const char *const ggml_ops[] = {"NONE", "DUP", "ADD", "ADD1", "SUB", "MUL", "DIV", "SQR",
	"SQRT", "SUM", "SCALE", "CPY", "CONT", "RESHAPE", "VIEW", "PERMUTE", "TRANSPOSE", "GET_ROWS",
	"SET_ROWS", "DIAG_MASK_INF", "SOFT_MAX", "ROPE", "RMS_NORM", "NORM", "MUL_MAT", "UNARY", "GLU",
	"CONCAT", "REPEAT", "FLASH_ATTN_EXT", "CAST", NULL};

static bool listed(const char *const *list, const char *s, size_t n)
{
	for (; *list; list++)
		if (strlen(*list) == n && strncmp(*list, s, n) == 0)
			return true;
	return false;
}

static bool is_type(const char *s)
{
	char lower[32];
	size_t n = strlen(s);

	if (n >= sizeof(lower))
		return false;
	for (size_t i = 0; i <= n; i++)
		lower[i] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + 32) : s[i];
	return listed(types, lower, n);
}

bool gate_kernel_known(const char *id)
{
	size_t n = strcspn(id, ".");

	if (listed(plain, id, strlen(id)))
		return true;
	for (const char *const *t = typed; *t; t++)
		if (strncmp(id, *t, strlen(*t)) == 0 && is_type(id + strlen(*t)))
			return true;
	return listed(ggml_ops, id, n) && (!id[n] || is_type(id + n + 1));
}

static void check_kernels(struct gating *g, const char *name, const json_t *side)
{
	const json_t *ids = json_object_get(side, "kernels"), *v;
	const json_t *counters = json_object_get(side, "counters");
	size_t n = json_array_size(ids), i;

	if (gate_int(side, "n_positions") > 0 && n == 0 && !gate_foreign(side))
		gate_fail(g, "engines.%s evaluated and counted no kernel", name);
	if (n > KERNELS_MAX)
		gate_fail(g, "engines.%s has %zu kernels, at most %d", name, n, KERNELS_MAX);
	if (n != json_object_size(counters))
		gate_fail(g, "engines.%s: %zu kernels, %zu counters", name, n, json_object_size(counters));
	json_array_foreach(ids, i, v) {
		const char *id = json_string_value(v);

		if (!id || !*id || strlen(id) > KERNEL_NAME_MAX)
			gate_fail(g, "engines.%s: kernel %zu is no id of 1–%d characters", name, i,
				  KERNEL_NAME_MAX);
		else if (strcasestr(id, "mock") || strcasestr(id, "stub") || strcasestr(id, "fake"))
			gate_fail(g, "engines.%s: kernel \"%s\" is a mock", name, id);
		else if (!gate_foreign(side) && !gate_kernel_known(id))
			gate_fail(g, "engines.%s: kernel \"%s\" is not in the registry", name, id);
		else if (json_integer_value(json_object_get(counters, id)) < 1)
			gate_fail(g, "engines.%s: kernel \"%s\" never ran", name, id);
	}
}

void gate_kernels(struct gating *g)
{
	const json_t *b = gate_side(g, "reference");

	check_kernels(g, "ours", gate_side(g, "ours"));
	if (b)
		check_kernels(g, "reference", b);
}

/* ---- compute path --------------------------------------------------------------------------- */

static int64_t sum_of(const json_t *side, const char *prefix)
{
	const json_t *counters = json_object_get(side, "counters"), *v;
	const char *key;
	int64_t sum = 0;

	json_object_foreach((json_t *)counters, key, v)
		if (strncmp(key, prefix, strlen(prefix)) == 0)
			sum = gate_sum(sum, json_integer_value(v));
	return sum;
}

static void expect(struct gating *g, const char *name, const char *what, int64_t got, int64_t want)
{
	if (got != want)
		gate_fail(g, "engines.%s: %s ran %lld times, positions, layers and heads give %lld", name,
			  what, (long long)got, (long long)want);
}

/* Rows that a run of n positions computes, by what each operation is for. */
static void check_own(struct gating *g, const char *name, const json_t *s, bool native)
{
	int64_t n = gate_int(s, "done.n_pos"), layers = gate_int(s, "opened.n_layer");
	int64_t heads = gate_int(s, "opened.n_head");
	const char *linear = native ? "matmul_" : "oracle_linear";
	const char *norm = native ? "rms_norm" : "oracle_norm", *key;
	json_t *v;

	/* every position has logits in a receipt, so the head ran once for each */
	expect(g, name, linear, sum_of(s, linear),
	       gate_product(n, gate_sum(gate_product(LINEAR_PER_LAYER, layers), 1)));
	expect(g, name, native ? "embed" : "oracle_embed", sum_of(s, native ? "embed_" : "oracle_embed"), n);
	expect(g, name, native ? "glu" : "oracle_glu", sum_of(s, native ? "glu_" : "oracle_glu"),
	       gate_product(n, layers));
	expect(g, name, native ? "attend" : "oracle_scores",
	       sum_of(s, native ? "attend_" : "oracle_scores"),
	       gate_product(gate_product(n, layers), heads));
	expect(g, name, native ? "rope" : "oracle_rope", sum_of(s, native ? "rope_" : "oracle_rope"),
	       gate_product(gate_product(2, n), layers));
	/* every operation runs for all positions alike */
	json_object_foreach(json_object_get(s, "counters"), key, v)
		if (n > 0 && json_integer_value(v) % n)
			gate_fail(g, "engines.%s: %s ran %lld times in %lld positions", name, key,
				  (long long)json_integer_value(v), (long long)n);
	if (native)
		expect(g, name, "kv_store", sum_of(s, "kv_store"), gate_product(n, layers));
	int64_t norms = gate_product(n, gate_sum(gate_product(2, layers), 1));

	if (sum_of(s, norm) < norms)
		gate_fail(g, "engines.%s: %s ran %lld times, at least %lld are needed", name, norm,
			  (long long)sum_of(s, norm), (long long)norms);
}

static void check_path(struct gating *g, const char *name, const json_t *s)
{
	const char *engine = gate_text(s, "engine");
	int64_t n = gate_int(s, "n_positions");

	if (n == 0)
		return;
	if (gate_int(s, "done.n_pos") != n)
		gate_fail(g, "engines.%s delivered %lld positions, the worker counted %lld", name,
			  (long long)n, (long long)gate_int(s, "done.n_pos"));
	if (gate_foreign(s)) {
		gate_unchecked(g, "engines.%s: %s counts nothing that could be checked", name, engine);
		return;
	}
	if (strcmp(engine, "native") == 0 || strcmp(engine, "oracle") == 0)
		check_own(g, name, s, strcmp(engine, "native") == 0);
	else if (sum_of(s, "MUL_MAT") <
		 gate_sum(gate_product(LINEAR_PER_LAYER, gate_int(s, "opened.n_layer")), 1))
		gate_fail(g, "engines.%s: %lld matrix products in a model of %lld layers", name,
			  (long long)sum_of(s, "MUL_MAT"), (long long)gate_int(s, "opened.n_layer"));
}

void gate_compute_path(struct gating *g)
{
	const json_t *a = gate_side(g, "ours"), *b = gate_side(g, "reference");
	bool evaluated = gate_int(a, "n_positions") > 0 && (!b || gate_int(b, "n_positions") > 0);
	const char *said = gate_text(g->r, "compute_path");

	if (strcmp(said, evaluated ? "real" : "none") != 0)
		gate_fail(g, "compute_path is \"%s\", %s", said,
			  evaluated ? "every side evaluated" : "not every side evaluated");
	check_path(g, "ours", a);
	if (b)
		check_path(g, "reference", b);
}

/* ---- weights -------------------------------------------------------------------------------- */

/* "i2_s:21 f16:1 f32:13": whether the list has this type. */
static bool has_type(const char *weights, const char *type)
{
	size_t n = strlen(type);

	for (const char *p = weights; (p = strstr(p, type)); p += n)
		if ((p == weights || p[-1] == ' ') && p[n] == ':')
			return true;
	return false;
}

static void check_weights(struct gating *g, const char *name, const json_t *s)
{
	const char *weights = gate_text(s, "opened.weights"), *key;
	const json_t *v;

	if (gate_int(s, "n_positions") == 0)
		return;
	if (!*weights) {
		gate_fail(g, "engines.%s.opened.weights is missing", name);
		return;
	}
	json_object_foreach(json_object_get(s, "counters"), key, v) {
		if (strncmp(key, "matmul_", 7) == 0 && !has_type(weights, key + 7))
			gate_fail(g, "engines.%s: kernel %s, but the weights are %s", name, key, weights);
		if (strncmp(key, "oracle_", 7) == 0 && strcmp(gate_text(s, "engine"), "oracle") != 0)
			gate_fail(g, "engines.%s: kernel %s belongs to the oracle", name, key);
	}
	/* F32 matrices are rare, norms are F32: their presence says nothing */
	for (const char *p = weights; *p;) {
		char kernel[64];
		size_t n = strcspn(p, ":"), end = strcspn(p, " ");

		snprintf(kernel, sizeof(kernel), "matmul_%.*s", (int)(n < 40 ? n : 40), p);
		if (strcmp(gate_text(s, "engine"), "native") == 0 && strcmp(kernel, "matmul_f32") != 0 &&
		    !json_object_get(json_object_get(s, "counters"), kernel) &&
		    !(strcmp(kernel, "matmul_f16") == 0 && has_type(weights, "q6_k")) && n < end)
			gate_fail(g, "engines.%s: the model has %.*s weights, %s never ran", name, (int)n, p,
				  kernel);
		p += end + (p[end] == ' ');
	}
}

void gate_weights(struct gating *g)
{
	const json_t *b = gate_side(g, "reference");

	check_weights(g, "ours", gate_side(g, "ours"));
	if (b && !gate_foreign(b))
		check_weights(g, "reference", b);
	if (b && *gate_text(b, "opened.weights") && gate_int(b, "n_positions") > 0 &&
	    !json_object_get(g->r, "reference_model") &&
	    gate_int(b, "opened.n_vocab") != gate_int(gate_side(g, "ours"), "opened.n_vocab"))
		gate_fail(g, "the sides have vocabularies of %lld and %lld",
			  (long long)gate_int(gate_side(g, "ours"), "opened.n_vocab"),
			  (long long)gate_int(b, "opened.n_vocab"));
}
