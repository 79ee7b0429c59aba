#include "local_json.h"

#include "canonical.h"
#include "receipt.h"

static json_t *kinds_object(const struct local_pass *p)
{
	json_t *o = json_object();

	for (int k = 0; k < LOCAL_KINDS; k++) {
		const struct local_kind_sum *s = &p->kinds[k];
		json_t *kind;

		if (s->n == 0)
			continue;
		kind = json_object();
		canonical_set(kind, "operations", json_integer(s->n));
		canonical_set(kind, "bits_equal", json_integer(s->n_bits_equal));
		canonical_set(kind, "worst_ulp", json_integer(s->worst_ulp));
		canonical_set(kind, "worst_row_ulp", canonical_real(s->worst_row_ulp));
		canonical_set(kind, "bound", canonical_real(s->bound));
		canonical_set(o, local_kind_name((enum local_kind)k), kind);
	}
	return o;
}

static json_t *row_object(const struct local_row *r)
{
	json_t *o = json_object();

	canonical_set(o, "stage", json_string(trace_stage_name(r->stage)));
	canonical_set(o, "layer", json_integer(r->layer));
	canonical_set(o, "seq", json_integer(r->seq));
	canonical_set(o, "values", json_integer(r->diff.n));
	canonical_set(o, "different", json_integer(r->diff.n_different));
	canonical_set(o, "max_ulp", json_integer(r->diff.max_ulp));
	canonical_set(o, "row_ulp", canonical_real(r->diff.row_ulp));
	canonical_set(o, "rel_rms", canonical_real(r->diff.rel_rms));
	canonical_set(o, "bound", canonical_real(r->bound));
	canonical_set(o, "ties", json_integer(r->n_ties));
	canonical_set(o, "inside", json_boolean(r->inside));
	return o;
}

static json_t *pass_object(const struct local_pass *p, bool rows)
{
	json_t *o = json_object();

	canonical_set(o, "source", canonical_text(p->source));
	canonical_set(o, "replayer", canonical_text(p->replayer));
	canonical_set(o, "n_operations", json_integer(p->n));
	canonical_set(o, "n_bits_equal", json_integer(p->n_bits_equal));
	canonical_set(o, "n_beyond", json_integer(p->n_beyond));
	canonical_set(o, "n_missing", json_integer(p->n_missing));
	canonical_set(o, "missing", canonical_text(p->missing));
	canonical_set(o, "n_positions", json_integer(p->n_positions));
	canonical_set(o, "n_ties", json_integer(p->n_ties));
	canonical_set(o, "n_tied", json_integer(p->n_tied));
	canonical_set(o, "kinds", kinds_object(p));
	canonical_set(o, "first_beyond",
		      p->first_beyond < 0 ? json_null() : row_object(&p->rows[p->first_beyond]));
	if (rows) {
		json_t *all = json_array();

		for (int i = 0; i < p->n; i++)
			json_array_append_new(all, row_object(&p->rows[i]));
		canonical_set(o, "rows", all);
	}
	return o;
}

json_t *local_json(const struct local_result *l, bool rows)
{
	json_t *o = json_object();

	canonical_set(o, "ran", json_boolean(l->ran));
	canonical_set(o, "equivalent", json_boolean(l->equivalent));
	canonical_set(o, "reason", canonical_text(l->reason));
	if (!l->ran)
		return o;
	canonical_set(o, "weights_equal", json_boolean(l->weights_equal));
	canonical_set(o, "tokens_equal", json_boolean(l->tokens_equal));
	canonical_set(o, "quantised", json_boolean(l->quantised));
	canonical_set(o, "reference", pass_object(&l->reference, rows));
	canonical_set(o, "own", pass_object(&l->own, rows));
	return o;
}

char *receipt_local_json(const struct local_result *l, bool rows)
{
	json_t *o = local_json(l, rows);
	char *text = canonical_indented(o);

	json_decref(o);
	return text;
}

void local_text(FILE *f, const struct local_result *l)
{
	fprintf(f, "local check: %s\n", l->reason);
	if (!l->ran)
		return;
	fprintf(f, "  %-12s %10s %10s %12s %14s %8s\n", "operation", "replayed", "bits equal",
		"worst ulp", "worst row ulp", "bound");
	for (int k = 0; k < LOCAL_KINDS; k++) {
		const struct local_kind_sum *s = &l->reference.kinds[k];

		if (s->n)
			fprintf(f, "%s %-12s %10d %10d %12u %14.4g %8g\n",
				s->worst_row_ulp <= s->bound ? "✓" : "✗",
				local_kind_name((enum local_kind)k), s->n, s->n_bits_equal,
				s->worst_ulp, s->worst_row_ulp, s->bound);
	}
}
