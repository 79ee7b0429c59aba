#include "baseline.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES_MAX = 10000 };

const char *perf_state_name(enum perf_state s)
{
	static const char *const names[] = {"same", "improved", "regressed", "absent"};

	return names[s];
}

/* What has to be equal for two speeds to be comparable. */
static const struct {
	const char *object, *key;
} identity[] = {
	{"host", "cpu"}, {"host", "n_cpus"}, {"model", "sha256"}, {NULL, "threads"},
};
static const char *const engine_identity[] = {"name", "isa", "profile"};

static const json_t *fact(const json_t *o, int i)
{
	if (identity[i].object)
		o = json_object_get(o, identity[i].object);
	return json_object_get(o, identity[i].key);
}

static const json_t *engine_fact(const json_t *o, const char *key)
{
	return json_object_get(json_array_get(json_object_get(o, "engines"), 0), key);
}

static bool facts_equal(const json_t *a, const json_t *b, const char *what, char *why, size_t size)
{
	char *x, *y;

	if (a && b && json_equal(a, b))
		return true;
	x = json_dumps(a, JSON_ENCODE_ANY);
	y = json_dumps(b, JSON_ENCODE_ANY);
	snprintf(why, size, "%s is %.80s there and %.80s here", what, x ? x : "unknown",
		 y ? y : "unknown");
	free(x);
	free(y);
	return false;
}

static bool same_key(const json_t *a, const json_t *b, char *why, size_t size)
{
	for (int i = 0; i < (int)(sizeof(identity) / sizeof(identity[0])); i++)
		if (!facts_equal(fact(a, i), fact(b, i), identity[i].key, why, size))
			return false;
	for (size_t i = 0; i < sizeof(engine_identity) / sizeof(engine_identity[0]); i++)
		if (!facts_equal(engine_fact(a, engine_identity[i]),
				 engine_fact(b, engine_identity[i]), engine_identity[i], why, size))
			return false;
	return true;
}

static json_t *find_case(const json_t *o, const char *name)
{
	const json_t *c;
	size_t i;

	json_array_foreach(json_object_get(o, "cases"), i, c) {
		const char *s = json_string_value(json_object_get(c, "name"));

		if (s && strcmp(s, name) == 0)
			return (json_t *)c;
	}
	return NULL;
}

static json_t *series_of(const json_t *c, size_t engine)
{
	return json_array_get(json_object_get(c, "series"), engine);
}

/* Adds the first engine's samples of every case to the baseline's. */
static void add_samples(json_t *baseline, const json_t *receipt)
{
	json_t *cases = json_object_get(baseline, "cases"), *c, *v;
	size_t i, k;

	json_array_foreach(json_object_get(receipt, "cases"), i, c) {
		const char *name = json_string_value(json_object_get(c, "name"));
		json_t *own = find_case(baseline, name), *from = series_of(c, 0), *samples;

		if (!own) {
			own = json_pack("{s:s, s:[{s:O, s:[]}]}", "name", name, "series", "unit",
					json_object_get(from, "unit"), "samples");
			assert(own);
			json_array_append_new(cases, own);
		}
		samples = json_object_get(series_of(own, 0), "samples");
		json_array_foreach(json_object_get(from, "samples"), k, v)
			json_array_append(samples, v);
	}
}

static int read_samples(const json_t *series, double **out, struct err *e)
{
	const json_t *samples = json_object_get(series, "samples"), *v;
	size_t n = json_array_size(samples), i;

	if (n < 1 || n > SAMPLES_MAX)
		return err_set(e, EXIT_RECEIPT_INVALID,
			       "a series has %zu samples, expected 1 to %d", n, SAMPLES_MAX);
	*out = malloc(n * sizeof(**out));
	assert(*out);
	json_array_foreach(samples, i, v) {
		(*out)[i] = json_number_value(v);
		if (!((*out)[i] > 0)) {
			free(*out);
			return err_set(e, EXIT_RECEIPT_INVALID, "sample %zu is not above zero", i);
		}
	}
	return (int)n;
}

static void add_spread(json_t *baseline)
{
	json_t *c;
	size_t i;

	json_array_foreach(json_object_get(baseline, "cases"), i, c) {
		json_t *s = series_of(c, 0);
		double *x;
		int n = read_samples(s, &x, NULL);
		struct stats st;

		if (n < 1)
			continue;
		st = stats_of(x, n);
		json_object_set_new(s, "median", json_real(st.median));
		json_object_set_new(s, "mad", json_real(st.mad));
		json_object_set_new(s, "min", json_real(st.min));
		json_object_set_new(s, "max", json_real(st.max));
		free(x);
	}
}

int baseline_make(const json_t *const *receipts, const char *const *names, int n, json_t **out,
		  struct err *e)
{
	const json_t *first = receipts[0];
	json_t *b, *from = json_array();
	char why[256];

	for (int i = 1; i < n; i++)
		if (!same_key(first, receipts[i], why, sizeof(why))) {
			json_decref(from);
			return err_set(e, EXIT_RECEIPT_INVALID,
				       "%s and %s do not belong to one baseline: "
				       "%s",
				       names[0], names[i], why);
		}
	b = json_pack("{s:s, s:s, s:O, s:O, s:O, s:[O], s:O, s:[], s:o}", "schema_version", "1.0.0",
		      "kind", "baseline", "host", json_object_get(first, "host"), "model",
		      json_object_get(first, "model"), "threads", json_object_get(first, "threads"),
		      "engines", json_array_get(json_object_get(first, "engines"), 0),
		      "assay_build", json_object_get(first, "assay_build"), "cases", "from", from);
	assert(b);
	for (int i = 0; i < n; i++) {
		json_array_append(from, json_object_get(receipts[i], "content_sha256"));
		add_samples(b, receipts[i]);
	}
	add_spread(b);
	*out = b;
	return 0;
}

/* Which part of n samples is taken for what the program can do. */
static double undisturbed(int n)
{
	double part = 8. / n;

	return part < 0.02 ? 0.02 : part > 0.1 ? 0.1 : part;
}

/* now against before, both as samples of one unit. */
static int judge(const json_t *before, const json_t *now, double limit, struct perf_case *p,
		 struct err *e)
{
	const char *unit = json_string_value(json_object_get(now, "unit"));
	bool seconds = unit && strcmp(unit, "s") == 0;
	double *a = NULL, *b = NULL;
	int na = read_samples(before, &a, e), nb = na < 0 ? na : read_samples(now, &b, e);

	snprintf(p->unit, sizeof(p->unit), "%s", unit ? unit : "");
	if (nb >= 0) {
		double part = undisturbed(na < nb ? na : nb), q = seconds ? part : 1 - part;

		p->before = stats_quantile(a, na, q);
		p->now = stats_quantile(b, nb, q);
		p->change = seconds ? stats_quantile_ratio(a, na, b, nb, q)
				    : stats_quantile_ratio(b, nb, a, na, q);
		p->state = p->change.high < 1 / (1 + limit / 100) ? PERF_REGRESSED :
			   p->change.low > 1 + limit / 100 ? PERF_IMPROVED : PERF_SAME;
	}
	free(a);
	free(b);
	return nb < 0 ? nb : 0;
}

static void count(struct perf_report *out, const struct perf_case *p)
{
	out->n_regressed += p->state == PERF_REGRESSED;
	out->n_improved += p->state == PERF_IMPROVED;
}

int baseline_check(const json_t *baseline, const json_t *receipt, double limit_percent,
		   struct perf_report *out, struct err *e)
{
	const json_t *c;
	size_t i;

	*out = (struct perf_report){.comparable = true};
	if (!same_key(baseline, receipt, out->why, sizeof(out->why))) {
		out->comparable = false;
		return 0;
	}
	json_array_foreach(json_object_get(receipt, "cases"), i, c) {
		struct perf_case *p = &out->cases[out->n];
		const char *name = json_string_value(json_object_get(c, "name"));
		const json_t *before = find_case(baseline, name ? name : "");
		int r;

		if (out->n == BASELINE_CASES_MAX)
			break;
		snprintf(p->name, sizeof(p->name), "%s", name ? name : "");
		p->state = PERF_ABSENT;
		out->n++;
		if (!before)
			continue;
		r = judge(series_of(before, 0), series_of(c, 0), limit_percent, p, e);
		if (r < 0)
			return r;
		count(out, p);
	}
	return 0;
}

int baseline_compare(const json_t *receipt, double limit_percent, struct perf_report *out,
		     struct err *e)
{
	const json_t *c;
	size_t i;

	*out = (struct perf_report){.comparable = true};
	json_array_foreach(json_object_get(receipt, "cases"), i, c) {
		struct perf_case *p = &out->cases[out->n];
		int r;

		if (out->n == BASELINE_CASES_MAX)
			break;
		snprintf(p->name, sizeof(p->name), "%s",
			 json_string_value(json_object_get(c, "name")));
		out->n++;
		r = judge(series_of(c, 0), series_of(c, 1), limit_percent, p, e);
		if (r < 0)
			return r;
		count(out, p);
	}
	return 0;
}
