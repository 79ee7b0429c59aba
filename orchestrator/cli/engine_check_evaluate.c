#include "engine_check.h"

#include "verdict/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Where one model is computed twice in other ways, F16 caches and int8 activations leave this. */
static const double same_function = 1e-2;

void check_begin(const struct engine_check *k, struct wire_builder *b, int n)
{
	(void)k;
	wire_begin(b, WIRE_EVALUATE);
	wire_put(b, "tokens", "%d", n);
}

void check_body(const struct engine_check *k, struct wire_builder *b, int n)
{
	wire_body(b, k->ids, (size_t)n * sizeof(k->ids[0]));
	wire_finish(b, NULL);
}

bool check_rows_fault(const struct engine_check *k, const struct probe_answer *a, int n, char *out,
		      size_t size)
{
	if (a->type != WIRE_DONE)
		return snprintf(out, size, "%s: %s", wire_type_name(a->type), a->sentence) > 0;
	for (int i = 0; i < a->n_rows && i < n; i++) {
		const struct probe_row *r = &a->rows[i];

		if (r->pos < 0)
			return snprintf(out, size, "LOGITS %d has no pos=", i) > 0;
		if (r->pos != i)
			return snprintf(out, size, "position %d came where %d was expected", r->pos,
					i) > 0;
		if (r->n_values != k->n_vocab)
			return snprintf(out, size,
					"position %d has %d logits, the vocabulary %d ids", i,
					r->n_values, k->n_vocab) > 0;
		for (int v = 0; v < r->n_values; v++)
			if (!isfinite(r->values[v]))
				return snprintf(out, size, "logit %d of position %d is not finite",
						v, i) > 0;
	}
	if (a->n_rows != n)
		return snprintf(out, size, "%d positions were answered, expected %d", a->n_rows,
				n) > 0;
	return false;
}

double check_distance(const struct probe_answer *a, const struct probe_answer *b, int n,
		      int n_vocab)
{
	double worst = 0;

	for (int i = 0; i < n; i++) {
		struct metrics m;

		metrics_compare(&m, a->rows[i].values, b->rows[i].values, n_vocab);
		if (!m.bits_equal && !(m.nmse <= worst))
			worst = m.nmse > 0 ? m.nmse : 1e-300;
	}
	return worst;
}

/* Evaluates the first n ids with one more key; the rows are judged. */
static bool evaluate(struct engine_check *k, const char *step, int n, const char *key, int value,
		     struct probe_answer *a)
{
	struct wire_builder b = {0};
	char why[256];
	bool good;

	check_begin(k, &b, n);
	if (key)
		wire_put(&b, key, "%d", value);
	check_body(k, &b, n);
	good = check_ask(k, step, &b, a);
	wire_builder_free(&b);
	if (good && check_rows_fault(k, a, n, why, sizeof(why))) {
		check_say(k, CHECK_FAILED, step, "%s", why);
		probe_free(a);
		good = false;
	}
	return good;
}

void check_positions(struct engine_check *k)
{
	int n_pos;

	if (!evaluate(k, "evaluate", k->n_ids, NULL, 0, &k->base))
		return;
	k->has_base = true;
	n_pos = (int)probe_int(&k->base, "n_pos", -1);
	if (n_pos != k->n_ids)
		check_say(k, CHECK_FAILED, "evaluate", "DONE says n_pos=%d after %d positions",
			  n_pos, k->n_ids);
	else
		check_say(k, CHECK_OK, "evaluate", "%d positions in order, %d finite logits each",
			  k->n_ids, k->n_vocab);
	if (!memmem(k->base.header, strlen(k->base.header), "kernel.", 7))
		check_say(k, CHECK_WARN, "counters",
			  "DONE names no kernel.NAME=calls: receipts cannot show what ran");
}

static void compare(struct engine_check *k, const char *step, int n, const char *key, int value,
		    const char *what, double worst_allowed)
{
	struct probe_answer a;
	double d;

	if (!evaluate(k, step, n, key, value, &a))
		return;
	d = check_distance(&a, &k->base, n, k->n_vocab);
	if (d == 0)
		check_say(k, CHECK_OK, step, "%s: equal to the bit", what);
	else if (d <= worst_allowed)
		check_say(k, CHECK_WARN, step,
			  "%s: NMSE %.2g, not equal to the bit; calibrate before gating", what, d);
	else
		check_say(k, CHECK_FAILED, step, "%s: NMSE %.2g, that is another function", what,
			  d);
	probe_free(&a);
}

void check_again(struct engine_check *k)
{
	compare(k, "twice", k->n_ids, NULL, 0, "the same request again", same_function);
	if (!k->dead)
		compare(k, "single", k->n_ids, "single", 1, "one position at a time",
			same_function);
	if (!k->dead && k->n_ids > 1)
		compare(k, "prefix", k->n_ids / 2, NULL, 0,
			"a shorter prompt (later ids must not matter)", same_function);
}

static int32_t first_maximum(const struct probe_row *r)
{
	int best = 0;

	for (int i = 1; i < r->n_values; i++)
		if (r->values[i] > r->values[best])
			best = i;
	return best;
}

static bool greedy_fault(const struct engine_check *k, const struct probe_answer *a, int greedy,
			 char *out, size_t size)
{
	if (check_rows_fault(k, a, k->n_ids + greedy - 1, out, size))
		return true;
	for (int i = 0; i < a->n_rows; i++) {
		const struct probe_row *r = &a->rows[i];
		int step = i < k->n_ids ? 0 : i - k->n_ids + 1;

		if (r->step < 0)
			return snprintf(out, size, "LOGITS of position %d has no step=", i) > 0;
		if (r->step != step)
			return snprintf(out, size, "position %d has step=%d, expected %d", i,
					r->step, step) > 0;
		if (i < k->n_ids - 1)
			continue;
		if (r->token < 0)
			return snprintf(out, size, "position %d names no token=", i) > 0;
		if (r->token != first_maximum(r))
			return snprintf(out, size,
					"position %d chose id %d, its first maximum is id %d", i,
					(int)r->token, (int)first_maximum(r)) > 0;
	}
	return false;
}

void check_greedy(struct engine_check *k)
{
	struct wire_builder b = {0};
	struct probe_answer a, stopped;
	char why[256];
	int32_t first = -1;

	check_begin(k, &b, k->n_ids);
	wire_put(&b, "greedy", "4");
	check_body(k, &b, k->n_ids);
	if (!check_ask(k, "greedy", &b, &a))
		goto out;
	if (greedy_fault(k, &a, 4, why, sizeof(why))) {
		check_say(k, CHECK_FAILED, "greedy", "%s", why);
	} else {
		first = a.rows[k->n_ids - 1].token;
		check_say(k, CHECK_OK, "greedy", "4 ids, each the first maximum of its logits");
	}
	probe_free(&a);
	if (first < 0)
		goto out;
	check_begin(k, &b, k->n_ids);
	wire_put(&b, "greedy", "4");
	wire_put(&b, "stop", "%d", (int)first);
	check_body(k, &b, k->n_ids);
	if (!check_ask(k, "stop", &b, &stopped))
		goto out;
	if (stopped.n_rows != k->n_ids)
		check_say(k, CHECK_FAILED, "stop",
			  "%d positions after a stop at the first id, expected %d", stopped.n_rows,
			  k->n_ids);
	else
		check_say(k, CHECK_OK, "stop", "decoding ends at a stop id");
	probe_free(&stopped);
out:
	wire_builder_free(&b);
}

static void check_one_less(struct engine_check *k, const char *which, int want_rows,
			   int want_values)
{
	struct wire_builder b = {0};
	struct probe_answer a;
	char step[32];
	bool wrong;

	snprintf(step, sizeof(step), "logits=%s", which);
	check_begin(k, &b, k->n_ids);
	wire_put(&b, "logits", "%s", which);
	wire_put(&b, "greedy", "2");
	check_body(k, &b, k->n_ids);
	if (!check_ask(k, step, &b, &a))
		goto out;
	wrong = a.type != WIRE_DONE || a.n_rows != want_rows;
	for (int i = 0; !wrong && i < a.n_rows; i++)
		wrong = a.rows[i].n_values != want_values || a.rows[i].token < 0 ||
			a.rows[i].pos != k->n_ids - 1 + i;
	if (wrong)
		check_say(
			k, CHECK_FAILED, step,
			"%s with %d positions, expected those that choose an id (%d) with %d values",
			wire_type_name(a.type), a.n_rows, want_rows, want_values);
	else
		check_say(k, CHECK_OK, step, "%d positions with %d values", a.n_rows, want_values);
	probe_free(&a);
out:
	wire_builder_free(&b);
}

void check_less(struct engine_check *k)
{
	check_one_less(k, "last", 2, k->n_vocab);
	if (!k->dead)
		check_one_less(k, "none", 2, 0);
}

void check_wrong_ids(struct engine_check *k)
{
	struct wire_builder b = {0};
	struct probe_answer a;
	int32_t wrong = k->n_vocab;

	wire_begin(&b, WIRE_EVALUATE);
	wire_put(&b, "tokens", "1");
	wire_body(&b, &wrong, sizeof(wrong));
	wire_finish(&b, NULL);
	if (!check_ask(k, "wrong id", &b, &a))
		goto out;
	if (a.type != WIRE_FAIL)
		check_say(k, CHECK_FAILED, "wrong id",
			  "id %d of a vocabulary of %d was answered %s", (int)wrong, k->n_vocab,
			  wire_type_name(a.type));
	else
		check_say(k, CHECK_OK, "wrong id", "FAIL code=%d \"%s\"", a.code, a.sentence);
	probe_free(&a);
	/* an answer that came twice would be taken for this one's */
	if (evaluate(k, "goes on", k->n_ids, NULL, 0, &a)) {
		check_say(k, CHECK_OK, "goes on", "one answer per request, also after failures");
		probe_free(&a);
	}
out:
	wire_builder_free(&b);
}
