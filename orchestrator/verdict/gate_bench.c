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
		sum = gate_sum(sum, json_integer_value(v));
	return sum;
}

/* 16000 steps of eight additions and more (workers/serve/machine.c): a cycle each, at 8 GHz at most. */
static void check_pace(struct gating *g, const char *name, const json_t *pace)
{
	const json_t *v;
	size_t i;

	json_array_foreach(pace, i, v)
		if (json_number_value(v) < 16000 / 8.)
			gate_fail(g, "%s: pace_ns %.9g is faster than any processor", name,
				  json_number_value(v));
}

static bool near_interval(struct interval i, const json_t *o)
{
	return near(i.low, gate_real(o, "low")) && near(i.mid, gate_real(o, "mid")) &&
	       near(i.high, gate_real(o, "high"));
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
		    !near(s.mean, gate_real(series, "mean")) ||
		    !near(s.mad, gate_real(series, "mad")) ||
		    !near(s.min, gate_real(series, "min")) ||
		    !near(s.max, gate_real(series, "max")))
			gate_fail(g, "%s: median, mean, spread or range do not follow from the samples",
				  name);
		if (!near_interval(r, json_object_get(series, "first_engine_ratio")))
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

static const json_t *case_of(const json_t *cases, const char *name)
{
	const json_t *c;
	size_t i;

	json_array_foreach(cases, i, c)
		if (strcmp(gate_text(c, "name"), name) == 0)
			return c;
	return NULL;
}

/* What a case at a depth says to keep of the speed of one without. */
static void check_kept(struct gating *g, const json_t *c)
{
	const json_t *beside = json_object_get(c, "without_depth"), *all, *shallow;
	const json_t *kept = json_object_get(beside, "kept");
	const char *name = gate_text(c, "name");

	if (!beside)
		return;
	if (!strchr(name, '@') || strncmp(gate_text(beside, "case"), "decode-", 7) != 0 ||
	    strchr(gate_text(beside, "case"), '@')) {
		gate_fail(g, "%s: %s is not a case without depth", name, gate_text(beside, "case"));
		return;
	}
	all = json_object_get(c, "series");
	shallow = case_of(json_object_get(g->r, "cases"), gate_text(beside, "case"));
	shallow = json_object_get(shallow, "series");
	if (!shallow || json_array_size(kept) != json_array_size(all) ||
	    json_array_size(shallow) != json_array_size(all)) {
		gate_fail(g, "%s: not one share kept for each engine", name);
		return;
	}
	for (size_t i = 0; i < json_array_size(all); i++) {
		int n, n_shallow;
		double *x = samples_of(json_array_get(all, i), &n);
		double *y = samples_of(json_array_get(shallow, i), &n_shallow);

		if (n < 1 || n != n_shallow ||
		    !near_interval(stats_paired_ratio(x, y, n), json_array_get(kept, i)))
			gate_fail(g, "%s: what is kept of %s does not follow from the samples", name,
				  gate_text(beside, "case"));
		free(x);
		free(y);
	}
}

static void check_cases(struct gating *g)
{
	const json_t *c, *s, *engines = json_object_get(g->r, "engines");
	size_t i, k;

	json_array_foreach(json_object_get(g->r, "cases"), i, c) {
		const json_t *all = json_object_get(c, "series");

		if (json_array_size(all) != json_array_size(json_object_get(g->r, "engines")))
			gate_fail(g, "%s: not one series for each engine", gate_text(c, "name"));
		check_kept(g, c);
		json_array_foreach(all, k, s) {
			const char *engine = gate_text(json_array_get(engines, k), "name");

			check_series(g, gate_text(c, "name"), s, json_array_get(all, 0));
			/* another program's fixed piece of work may be another one */
			if (strcmp(engine, "native") == 0 || strcmp(engine, "oracle") == 0)
				check_pace(g, gate_text(c, "name"), json_object_get(s, "pace_ns"));
		}
	}
}

/* ---- speed --------------------------------------------------------------------------------- */

/* Past any noise of measuring the limits. */
static const double twice = 2;

/* Positions that a case evaluates for each token or in each sample; 0: its name is none. */
static int64_t case_positions(const char *name, bool *seconds)
{
	static const char *const kinds[] = {"prefill-", "logits-", "decode-", "first-token-"};
	char *end = NULL;
	long n = 0, depth;

	*seconds = strcmp(name, "load") == 0 || strncmp(name, kinds[3], strlen(kinds[3])) == 0;
	if (strcmp(name, "load") == 0)
		return 1;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t k = strlen(kinds[i]);

		if (strncmp(name, kinds[i], k) != 0 || name[k] < '1' || name[k] > '9')
			continue;
		n = strtol(name + k, &end, 10);
		if (i == 2 && *end == '@' && end[1] >= '1' && end[1] <= '9') {
			depth = strtol(end + 1, &end, 10);
			n = depth > 0 ? n : 0;
		}
		return *end ? 0 : n;
	}
	return 0;
}

/* The layers' products that each position needs, whatever it is for. */
static void check_compute(struct gating *g, const char *name, const json_t *s, bool seconds,
			  int64_t positions)
{
	double gmac = gate_real(g->r, "model.prefill_gmac");
	double int8 = gate_real(g->r, "machine.int8_gmac_s"), rate = gate_real(s, "max");

	if (seconds)
		rate = strcmp(name, "load") == 0 ? 0 : (double)positions / gate_real(s, "min");
	if (int8 > 0 && rate * gmac > twice * int8)
		gate_fail(g, "%s: %.1f tokens/s would be %.0f GMAC/s, the machine gives %.0f", name,
			  rate, rate * gmac, int8);
}

static void check_reading(struct gating *g, const char *name, const json_t *s)
{
	double gb = gate_real(g->r, "model.decode_gb"), rate = gate_real(s, "max");
	double read = gate_real(g->r, "machine.read_gb_s");

	/* what lies in the caches is not read from memory */
	if (strncmp(name, "decode-", 7) == 0 && gb > 0.5 && read > 0 && rate * gb > twice * read)
		gate_fail(g, "%s: %.1f tokens/s would read %.1f GB/s, the machine gives %.1f", name,
			  rate, rate * gb, read);
}

static void check_limits(struct gating *g)
{
	const json_t *c, *s;
	size_t i, k;

	json_array_foreach(json_object_get(g->r, "cases"), i, c) {
		const char *name = gate_text(c, "name");
		bool seconds;
		int64_t n = case_positions(name, &seconds);

		if (n < 1)
			gate_fail(g, "\"%.80s\" is no case of a bench", name);
		json_array_foreach(json_object_get(c, "series"), k, s) {
			if ((strcmp(gate_text(s, "unit"), "s") == 0) != seconds)
				gate_fail(g, "%s is not measured in %s", name,
					  gate_text(s, "unit"));
			check_compute(g, name, s, seconds, n);
			check_reading(g, name, s);
		}
	}
}

/*
 * No processor has more: two 512-bit units at 8 GHz for products, and for reading 256 GB/s, of
 * which a core gets less. All threads give at least what one gives.
 */
static void check_machine(struct gating *g)
{
	const double gmac_s = 1024, gb_s = 256;
	double n = gate_real(g->r, "host.n_cpus"), read = gate_real(g->r, "machine.read_gb_s"),
	       read_1 = gate_real(g->r, "machine.read_gb_s_1"),
	       int8 = gate_real(g->r, "machine.int8_gmac_s"),
	       int8_1 = gate_real(g->r, "machine.int8_gmac_s_1"),
	       sustained = gate_real(g->r, "machine.read_sustained_gb_s");

	if (!(read_1 > 0) || !(int8_1 > 0) || read_1 > read || int8_1 > int8)
		gate_fail(g, "one thread gives %.3g GB/s and %.3g GMAC/s, all give %.3g and %.3g",
			  read_1, int8_1, read, int8);
	if (!(sustained > 0) || sustained > read)
		gate_fail(g, "reading gives %.3g GB/s all the time and %.3g at best", sustained, read);
	if (read > gb_s * n || int8 > gmac_s * n || n > 65536)
		gate_fail(g, "%.3g GB/s and %.3g GMAC/s is more than %g processors give", read, int8,
			  n);
}

/* ---- what was measured ---------------------------------------------------------------------- */

/* A token reads no more than the file has, and no weight takes less than 1.5 or more than 32 bits. */
static void check_needs(struct gating *g)
{
	const struct gate_model_facts *m = g->ctx->model;
	double read = gate_real(g->r, "model.decode_gb"), gmac = gate_real(g->r, "model.prefill_gmac");

	if (!(read > 0) || read * 1e9 > gate_real(g->r, "model.bytes") || gmac * 1.5 / 8 > read)
		gate_fail(g, "a token needs %.3g GB and %.3g GMAC of a file of %lld bytes", read, gmac,
			  (long long)gate_int(g->r, "model.bytes"));
	if (m && strcmp(g->ctx->model_sha256, gate_text(g->r, "model.sha256")) == 0 &&
	    (!near(read, m->decode_gb) || !near(gmac, m->prefill_gmac)))
		gate_fail(g, "the model's file needs %.9g GB and %.9g GMAC for a token, not %.9g "
			  "and %.9g", m->decode_gb, m->prefill_gmac, read, gmac);
}

static void check_engines(struct gating *g)
{
	const json_t *engines = json_object_get(g->r, "engines"), *e, *c;
	size_t i, k;

	json_array_foreach(engines, i, e) {
		const char *name = gate_text(e, "name");
		bool native = strcmp(name, "native") == 0, oracle = strcmp(name, "oracle") == 0;

		if (!*gate_text(e, "build"))
			gate_fail(g, "engine %s has no build id", name);
		if ((native || oracle) &&
		    strcmp(gate_text(e, "build"), gate_text(g->r, "assay_build")) != 0)
			gate_fail(g, "engine %s is of build %s, the program of build %s", name,
				  gate_text(e, "build"), gate_text(g->r, "assay_build"));
		if ((native || oracle) &&
		    !gate_machine_words(native, gate_text(e, "isa"), gate_text(e, "profile")))
			gate_fail(g, "engine %s cannot have run \"%s\" with profile \"%s\"", name,
				  gate_text(e, "isa"), gate_text(e, "profile"));
	}
	if (g->ctx->build && strcmp(gate_text(g->r, "assay_build"), g->ctx->build) == 0 &&
	    strcmp(gate_text(g->r, "assay_version"), g->ctx->version) != 0)
		gate_fail(g, "build %s is version %s, the receipt says %s", g->ctx->build,
			  g->ctx->version, gate_text(g->r, "assay_version"));
	json_array_foreach(json_object_get(g->r, "cases"), i, c)
		for (k = 0; k < i; k++)
			if (strcmp(gate_text(c, "name"),
				   gate_text(json_array_get(json_object_get(g->r, "cases"), k),
					     "name")) == 0)
				gate_fail(g, "%s is there twice", gate_text(c, "name"));
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
	check_needs(&g);
	g.id = GATE_METRICS;
	check_cases(&g);
	check_engines(&g);
	if (gate_int(receipt, "threads") != gate_int(receipt, "host.threads"))
		gate_fail(&g, "%lld threads, %lld of the host", (long long)gate_int(receipt, "threads"),
			  (long long)gate_int(receipt, "host.threads"));
	g.id = GATE_PERFORMANCE;
	check_machine(&g);
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
