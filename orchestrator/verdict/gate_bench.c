#include "gate_bench.h"
#include "gate_internal.h"

#include "stats.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool near(double a, double b)
{
	return a == b || fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

static double *samples_of(const json_t *series, int *n)
{
	const json_t *a = json_object_get(series, "samples"), *v;
	double *x = malloc((json_array_size(a) + 1) * sizeof(*x));
	size_t i;

	assert(x);
	json_array_foreach(a, i, v)
		x[i] = json_number_value(v);
	*n = (int)json_array_size(a);
	return x;
}

static json_int_t sum_of(const json_t *a)
{
	json_int_t sum = 0;
	const json_t *v;
	size_t i;

	json_array_foreach(a, i, v)
		sum += json_integer_value(v);
	return sum;
}

static void check_series(struct gating *g, const char *name, const json_t *series,
			 const json_t *first)
{
	int n, n_first;
	double *x = samples_of(series, &n), *y = samples_of(first, &n_first);

	if (json_object_get(series, "sessions") &&
	    sum_of(json_object_get(series, "sessions")) != n)
		gate_fail(g, "%s: its sessions do not have %d samples together", name, n);
	if (json_object_get(series, "pace_ns") &&
	    (int)json_array_size(json_object_get(series, "pace_ns")) != n)
		gate_fail(g, "%s: not one pace_ns for each sample", name);
	if (n < 1 || n != n_first) {
		gate_fail(g, "%s: %d samples beside %d", name, n, n_first);
	} else {
		struct stats s = stats_of(x, n);
		bool seconds = strcmp(gate_text(series, "unit"), "s") == 0;
		struct interval r =
			seconds ? stats_paired_ratio(x, y, n) : stats_paired_ratio(y, x, n);

		if (!near(s.median, gate_real(series, "median")) ||
		    !near(s.mad, gate_real(series, "mad")) ||
		    !near(s.min, gate_real(series, "min")) ||
		    !near(s.max, gate_real(series, "max")))
			gate_fail(g, "%s: median, spread or range do not follow from the samples",
				  name);
		if (!near(r.mid, gate_real(series, "first_engine_ratio.mid")) ||
		    !near(r.low, gate_real(series, "first_engine_ratio.low")) ||
		    !near(r.high, gate_real(series, "first_engine_ratio.high")))
			gate_fail(g, "%s: the ratio does not follow from the samples", name);
		if (n != gate_int(g->r, "reps"))
			gate_fail(g, "%s: %d samples of %lld repetitions", name, n,
				  (long long)gate_int(g->r, "reps"));
		if (!(s.min > 0))
			gate_fail(g, "%s: a sample is not above zero", name);
	}
	free(x);
	free(y);
}

static void check_cases(struct gating *g)
{
	const json_t *c, *s;
	size_t i, k;

	json_array_foreach(json_object_get(g->r, "cases"), i, c) {
		const json_t *all = json_object_get(c, "series");

		if (json_array_size(all) != json_array_size(json_object_get(g->r, "engines")))
			gate_fail(g, "%s: not one series for each engine", gate_text(c, "name"));
		json_array_foreach(all, k, s)
			check_series(g, gate_text(c, "name"), s, json_array_get(all, 0));
	}
}

/* Twice the measured limit is past any noise of measuring it. */
static void check_limits(struct gating *g)
{
	double read = gate_real(g->r, "machine.read_gb_s"),
	       int8 = gate_real(g->r, "machine.int8_gmac_s");
	const json_t *c, *s;
	size_t i, k;

	json_array_foreach(json_object_get(g->r, "cases"), i, c)
		json_array_foreach(json_object_get(c, "series"), k, s) {
			const char *name = gate_text(c, "name");
			double rate = gate_real(s, "max");
			/* what lies in the caches is not read from memory */
			bool big = gate_real(g->r, "model.decode_gb") > 0.5;

			if (strncmp(name, "decode-", 7) == 0 && big && read > 0 &&
			    rate * gate_real(g->r, "model.decode_gb") > 2 * read)
				gate_fail(
					g,
					"%s: %.1f tokens/s would read %.1f GB/s, the machine gives %.1f",
					name, rate, rate * gate_real(g->r, "model.decode_gb"),
					read);
			if (strncmp(name, "prefill-", 8) == 0 && int8 > 0 &&
			    rate * gate_real(g->r, "model.prefill_gmac") > 2 * int8)
				gate_fail(
					g,
					"%s: %.1f tokens/s would be %.0f GMAC/s, the machine gives %.0f",
					name, rate, rate * gate_real(g->r, "model.prefill_gmac"),
					int8);
		}
}

static const enum gate_id not_claimed[] = {GATE_COMPUTE_PATH, GATE_KERNELS,     GATE_WEIGHTS,
					   GATE_TOKENS,	      GATE_DETERMINISM, GATE_REFERENCE};

void gate_bench_run(const json_t *receipt, const struct gate_context *ctx, struct gate_report *out)
{
	struct gating g = {.r = receipt, .ctx = ctx, .out = out};

	memset(out, 0, sizeof(*out));
	g.id = GATE_SCHEMA;
	gate_schema_form(&g);
	g.id = GATE_MODEL;
	gate_model(&g);
	g.id = GATE_METRICS;
	check_cases(&g);
	if (gate_int(receipt, "threads") != gate_int(receipt, "host.threads"))
		gate_fail(&g, "%lld threads, %lld of the host", (long long)gate_int(receipt, "threads"),
			  (long long)gate_int(receipt, "host.threads"));
	g.id = GATE_PERFORMANCE;
	check_limits(&g);
	for (size_t i = 0; i < sizeof(not_claimed) / sizeof(not_claimed[0]); i++) {
		struct gate_result *r = &out->gates[not_claimed[i]];

		r->absent = true;
		snprintf(r->messages[r->n_messages++], GATE_MESSAGE_MAX,
			 "a bench claims nothing of the kind");
	}
	out->passed = true;
	for (int i = 0; i < GATE_COUNT; i++)
		out->passed = out->passed && !out->gates[i].failed;
}
