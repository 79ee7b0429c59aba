#include "gate_internal.h"

#include "local.h"

#include <stdint.h>
#include <string.h>

/* Norms, products, RoPE, attention, activation and sums that every layer of any model has. */
enum { OPERATIONS_PER_LAYER = 15, OPERATIONS_OUTSIDE = 3 };

static bool known_kind(const char *name)
{
	for (int k = 0; k < LOCAL_KINDS; k++)
		if (strcmp(local_kind_name((enum local_kind)k), name) == 0)
			return true;
	return false;
}

static bool attention_part(enum local_kind k)
{
	return k == LOCAL_SCORES || k == LOCAL_SOFTMAX || k == LOCAL_VALUES;
}

static bool is_flash(const json_t *kinds)
{
	return json_object_get(kinds, local_kind_name(LOCAL_FLASH)) != NULL;
}

/* A product's bound depends on its width: the receipt has the greatest of all. */
static bool right_bound(enum local_kind k, double bound, int n_positions)
{
	if (k != LOCAL_PRODUCT)
		return bound == local_bound(k, 0, n_positions);
	return bound >= local_bound(k, 1, 0) && bound <= local_bound(k, LOCAL_TERMS_MAX, 0);
}

static void check_kind(struct gating *g, const json_t *kinds, enum local_kind k,
		       int64_t n_positions, bool bits, int64_t *n, int64_t *n_equal)
{
	const char *name = local_kind_name(k);
	const json_t *o = json_object_get(kinds, name);
	double worst = gate_real(o, "worst_row_ulp"), bound = gate_real(o, "bound");
	int64_t operations = gate_int(o, "operations"), equal = gate_int(o, "bits_equal");

	*n = gate_sum(*n, operations);
	*n_equal = gate_sum(*n_equal, equal);
	if (!o || operations < 1) {
		/* attention in one operation has no scores, probabilities and values of its own */
		if (k != LOCAL_FLASH && !(is_flash(kinds) && attention_part(k)))
			gate_fail(g, "local: no operation of kind %s was replayed", name);
		return;
	}
	if (attention_part(k) && is_flash(kinds))
		gate_fail(g, "local: attention is both flash attention and %s", name);
	if (!right_bound(k, bound, (int)n_positions))
		gate_fail(g, "local: %s has the bound %g, it is %g", name, bound,
			  local_bound(k, 0, (int)n_positions));
	if (!(worst >= 0 && worst <= bound))
		gate_fail(g, "local: %s is %g row ulp apart, its bound is %g", name, worst, bound);
	if (equal > operations || (equal == operations) != (gate_int(o, "worst_ulp") == 0))
		gate_fail(g, "local: %s: %lld of %lld equal, worst %lld ulp", name,
			  (long long)equal, (long long)operations,
			  (long long)gate_int(o, "worst_ulp"));
	if (bits && equal != operations)
		gate_fail(g, "local: %s of our own run is not what a replay gives", name);
}

static void check_pass(struct gating *g, const char *path, bool bits)
{
	const json_t *p = gate_at(g->r, path), *kinds = json_object_get(p, "kinds");
	int64_t n = 0, n_equal = 0, n_positions = gate_int(p, "n_positions");
	int64_t n_layer = gate_int(gate_side(g, "ours"), "opened.n_layer");
	int64_t least = gate_sum(OPERATIONS_OUTSIDE, gate_product(OPERATIONS_PER_LAYER, n_layer));
	const char *key;
	json_t *v;

	for (int k = 0; k < LOCAL_KINDS; k++)
		check_kind(g, kinds, (enum local_kind)k, n_positions, bits, &n, &n_equal);
	json_object_foreach((json_t *)(uintptr_t)kinds, key, v)
		if (!known_kind(key))
			gate_fail(g, "%s.kinds: %s is no kind of operation", path, key);
	if (n != gate_int(p, "n_operations") || n_equal != gate_int(p, "n_bits_equal"))
		gate_fail(g, "%s: %lld operations, %lld equal; its kinds have %lld and %lld", path,
			  (long long)gate_int(p, "n_operations"),
			  (long long)gate_int(p, "n_bits_equal"), (long long)n, (long long)n_equal);
	if (n < least)
		gate_fail(g, "%s: %lld operations, the model has at least %lld", path, (long long)n,
			  (long long)least);
	if (gate_int(p, "n_missing") != 0 || *gate_text(p, "missing") ||
	    gate_int(p, "n_beyond") != 0)
		gate_fail(g, "%s: %lld operations missing, %lld beyond their bounds", path,
			  (long long)gate_int(p, "n_missing"), (long long)gate_int(p, "n_beyond"));
	if (bits ? gate_int(p, "n_ties") != 0 : gate_int(p, "n_ties") < gate_int(p, "n_tied"))
		gate_fail(g, "%s: %lld rounding ties in %lld operations", path,
			  (long long)gate_int(p, "n_ties"), (long long)gate_int(p, "n_tied"));
	if (n_positions < gate_int(gate_side(g, "ours"), "n_tokens"))
		gate_fail(g, "%s: %lld positions, the prompt has %lld", path,
			  (long long)n_positions,
			  (long long)gate_int(gate_side(g, "ours"), "n_tokens"));
}

void gate_local(struct gating *g)
{
	const json_t *l = json_object_get(g->r, "local");
	bool quantised = local_quantised(gate_text(gate_side(g, "ours"), "opened.weights"));

	if (!l) {
		gate_fail(g, "EQUIVALENT without a table of local differences");
		return;
	}
	if (!json_is_true(json_object_get(l, "ran")) ||
	    !json_is_true(json_object_get(l, "equivalent")) ||
	    !json_is_true(json_object_get(l, "weights_equal")) ||
	    !json_is_true(json_object_get(l, "tokens_equal")))
		gate_fail(
			g,
			"EQUIVALENT, but local does not say so of operations, weights and tokens");
	if (!json_is_true(gate_at(g->r, "tokens.match")))
		gate_fail(g, "EQUIVALENT, but the tokens differ");
	if (json_is_true(json_object_get(l, "quantised")) != quantised)
		gate_fail(g, "local.quantised does not fit the weights");
	if (gate_int(g->r, "summary.n_nonfinite_ours") || gate_int(g->r, "summary.n_nonfinite_ref"))
		gate_fail(g, "EQUIVALENT with values that are not finite");
	check_pass(g, "local.reference", false);
	check_pass(g, "local.own", true);
}
