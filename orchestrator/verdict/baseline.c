#include "baseline.h"

#include "matched.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES_MAX = 100000 };
/* Of what the fixed work lost, a program loses at least so much (found: 0.75); below that it is the same machine. */
static const double excused_least = 0.6, pace_differs = 0.95,
		    pace_hides = 1.3;

const char *perf_state_name(enum perf_state s)
{
	static const char *const names[] = {"same", "improved", "regressed", "undecided",
					   "absent"};

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

static void append_all(json_t *to, const json_t *from)
{
	const json_t *v;
	size_t i;

	json_array_foreach(from, i, v)
		json_array_append(to, (json_t *)v);
}

/* Adds the first engine's samples of every case to the baseline's, sessions of their own. */
static void add_samples(json_t *baseline, const json_t *receipt)
{
	json_t *cases = json_object_get(baseline, "cases"), *c;
	size_t i;

	json_array_foreach(json_object_get(receipt, "cases"), i, c) {
		const char *name = json_string_value(json_object_get(c, "name"));
		json_t *own = find_case(baseline, name), *from = series_of(c, 0), *to;
		const json_t *samples = json_object_get(from, "samples");

		if (!own) {
			own = json_pack("{s:s, s:[{s:O, s:[], s:[], s:[]}]}", "name", name,
					"series", "unit", json_object_get(from, "unit"), "samples",
					"pace_ns", "sessions");
			assert(own);
			json_array_append_new(cases, own);
		}
		to = series_of(own, 0);
		append_all(json_object_get(to, "samples"), samples);
		append_all(json_object_get(to, "pace_ns"), json_object_get(from, "pace_ns"));
		if (json_object_get(from, "sessions"))
			append_all(json_object_get(to, "sessions"),
				   json_object_get(from, "sessions"));
		else
			json_array_append_new(json_object_get(to, "sessions"),
					      json_integer((json_int_t)json_array_size(samples)));
	}
}

/* ---- a series as numbers ------------------------------------------------------------------ */

struct series {
	double *samples, *pace;			/* [n]; pace NULL where not every sample has one */
	int n;
	int sizes[STATS_SESSIONS_MAX];
	int n_sessions;
	bool seconds;
	char unit[16];
};

static void series_free(struct series *s)
{
	free(s->samples);
	free(s->pace);
}

static int read_numbers(const json_t *a, int n, const char *what, double **out, struct err *e)
{
	double *x = malloc((size_t)n * sizeof(*x));
	const json_t *v;
	size_t i;

	assert(x);
	json_array_foreach(a, i, v) {
		x[i] = json_number_value(v);
		if (!(x[i] > 0)) {
			free(x);
			return err_set(e, EXIT_RECEIPT_INVALID, "%s %zu is not above zero", what,
				       i);
		}
	}
	*out = x;
	return 0;
}

static int read_sessions(const json_t *o, struct series *s, struct err *e)
{
	const json_t *sizes = json_object_get(o, "sessions"), *v;
	int left = s->n;
	size_t i;

	if (!sizes) {
		s->sizes[s->n_sessions++] = s->n;
		return 0;
	}
	json_array_foreach(sizes, i, v) {
		json_int_t size = json_integer_value(v);

		if (s->n_sessions == STATS_SESSIONS_MAX || size < 1 || size > left)
			return err_set(e, EXIT_RECEIPT_INVALID,
				       "session %zu of %d samples: %lld of them, %d are left", i,
				       s->n, (long long)size, left);
		s->sizes[s->n_sessions++] = (int)size;
		left -= (int)size;
	}
	return left == 0 ? 0 : err_set(e, EXIT_RECEIPT_INVALID,
				       "%d samples belong to no session", left);
}

static int read_series(const json_t *o, struct series *s, struct err *e)
{
	const json_t *samples = json_object_get(o, "samples"), *pace = json_object_get(o, "pace_ns");
	const char *unit = json_string_value(json_object_get(o, "unit"));
	size_t n = json_array_size(samples);
	int r;

	*s = (struct series){.n = (int)n, .seconds = unit && strcmp(unit, "s") == 0};
	snprintf(s->unit, sizeof(s->unit), "%.15s", unit ? unit : "");
	if (n < 1 || n > SAMPLES_MAX)
		return err_set(e, EXIT_RECEIPT_INVALID,
			       "a series has %zu samples, expected 1 to %d", n, SAMPLES_MAX);
	r = read_numbers(samples, s->n, "sample", &s->samples, e);
	if (r == 0 && json_array_size(pace) == n)
		r = read_numbers(pace, s->n, "pace_ns", &s->pace, e);
	if (r == 0)
		r = read_sessions(o, s, e);
	if (r < 0) {
		series_free(s);
		*s = (struct series){.n = 0};
	}
	return r;
}

static void add_spread(json_t *baseline)
{
	json_t *c;
	size_t i;

	json_array_foreach(json_object_get(baseline, "cases"), i, c) {
		json_t *o = series_of(c, 0);
		struct series s;
		struct stats st;

		if (read_series(o, &s, NULL) < 0)
			continue;
		st = stats_of(s.samples, s.n);
		json_object_set_new(o, "median", json_real(st.median));
		json_object_set_new(o, "mad", json_real(st.mad));
		json_object_set_new(o, "min", json_real(st.min));
		json_object_set_new(o, "max", json_real(st.max));
		series_free(&s);
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

/* ---- judgement ---------------------------------------------------------------------------- */

/* Which part of a session's samples is taken for what the program can do. */
static double undisturbed(const struct series *a, const struct series *b)
{
	int n = INT_MAX;
	double part;

	for (int i = 0; i < a->n_sessions; i++)
		n = a->sizes[i] < n ? a->sizes[i] : n;
	for (int i = 0; i < b->n_sessions; i++)
		n = b->sizes[i] < n ? b->sizes[i] : n;
	part = 8. / n;
	return part < 0.02 ? 0.02 : part > 0.1 ? 0.1 : part;
}

static double speed_of(const struct series *s, double q)
{
	return stats_sessions_quantile(
		&(struct stats_sessions){s->samples, s->sizes, NULL, s->n_sessions}, q);
}

double baseline_speed(const json_t *o)
{
	struct series s;
	double part, speed;

	if (read_series(o, &s, NULL) < 0)
		return -1;
	part = undisturbed(&s, &s);
	speed = speed_of(&s, s.seconds ? part : 1 - part);
	series_free(&s);
	return speed;
}

/* What each session's value counts times so that it is in units of the fixed work. */
static void pace_scales(const struct series *s, double part, double scale[STATS_SESSIONS_MAX])
{
	const double *x = s->pace;

	for (int i = 0; i < s->n_sessions; i++) {
		struct stats_sessions one = {.x = x, .sizes = &s->sizes[i], .n = 1};
		double pace = stats_sessions_quantile(&one, part);

		scale[i] = s->seconds ? 1 / pace : pace;
		x += s->sizes[i];
	}
}

static struct interval change_of(const struct series *before, const struct series *now,
				 const double *scale_before, const double *scale_now, double q)
{
	struct stats_sessions a = {before->samples, before->sizes, scale_before,
				   before->n_sessions},
			      b = {now->samples, now->sizes, scale_now, now->n_sessions};

	return before->seconds ? stats_sessions_ratio(&a, &b, q) : stats_sessions_ratio(&b, &a, q);
}

/* now against before as speed, at equal pace. */
static bool match(const struct series *before, const struct series *now, bool side_by_side,
		  struct matched *out)
{
	struct matched_side a = {before->samples, before->pace, before->sizes, before->n,
				 before->n_sessions},
			    b = {now->samples, now->pace, now->sizes, now->n, now->n_sessions};

	return before->seconds ? matched_ratio(&a, &b, side_by_side, out)
			       : matched_ratio(&b, &a, side_by_side, out);
}

/*
 * Not matched: the pace explains at least a part of a change and at most all of it. What even all of it
 * does not excuse is a regression; what a part of it would not is undecided.
 */
static enum perf_state state_as_timed(const struct perf_case *p, double slow, double fast)
{
	double pace = p->change.mid / p->paced.mid; /* < 1: the machine is slower */
	double in_part = p->change.low * pow(pace, -excused_least);

	if (p->change.high < slow && p->paced.high < slow)
		return PERF_REGRESSED;
	if (p->change.low > fast && p->paced.low > fast)
		return PERF_IMPROVED;
	if (pace < pace_differs)
		return p->change.mid < slow && in_part < slow ? PERF_UNDECIDED : PERF_SAME;
	/* the baseline is of a machine so much slower that it hides what is lost since */
	return pace > pace_hides && p->paced.low < slow ? PERF_UNDECIDED : PERF_SAME;
}

static void judge_series(const struct series *a, const struct series *b, double limit,
			 bool side_by_side, struct perf_case *p)
{
	const double part = undisturbed(a, b), q = a->seconds ? part : 1 - part;
	const double slow = 1 / (1 + limit / 100), fast = 1 + limit / 100;
	double scale_a[STATS_SESSIONS_MAX], scale_b[STATS_SESSIONS_MAX];
	struct matched m = {.disturbed = false};

	p->n_before = a->n_sessions;
	p->n_now = b->n_sessions;
	p->before = speed_of(a, q);
	p->now = speed_of(b, q);
	p->paced = p->change = change_of(a, b, NULL, NULL, q);
	if (a->pace && b->pace) {
		pace_scales(a, part, scale_a);
		pace_scales(b, part, scale_b);
		p->paced = change_of(a, b, scale_a, scale_b, q);
	}
	p->matched = a->pace && b->pace && match(a, b, side_by_side, &m);
	if (!p->matched) {
		p->state = state_as_timed(p, slow, fast);
		return;
	}
	p->paced = m.ratio;
	p->state = p->paced.high < slow ? PERF_REGRESSED :
		   p->paced.low > fast ? PERF_IMPROVED :
		   m.disturbed && p->paced.low < slow ? PERF_UNDECIDED : PERF_SAME;
}

/* now against before, both as samples of one unit. */
static int judge(const json_t *before, const json_t *now, double limit, bool side_by_side,
		 struct perf_case *p, struct err *e)
{
	struct series a = {.n = 0}, b = {.n = 0};
	int r = read_series(before, &a, e);

	if (r == 0)
		r = read_series(now, &b, e);
	if (r == 0 && strcmp(a.unit, b.unit) != 0)
		r = err_set(e, EXIT_RECEIPT_INVALID, "%s before and %s now", a.unit, b.unit);
	if (r == 0) {
		snprintf(p->unit, sizeof(p->unit), "%s", b.unit);
		judge_series(&a, &b, limit, side_by_side, p);
	}
	series_free(&a);
	series_free(&b);
	return r;
}

static void count(struct perf_report *out, const struct perf_case *p)
{
	out->n_regressed += p->state == PERF_REGRESSED;
	out->n_improved += p->state == PERF_IMPROVED;
	out->n_undecided += p->state == PERF_UNDECIDED;
}

int baseline_check(const json_t *baseline, const json_t *now, double limit_percent,
		   struct perf_report *out, struct err *e)
{
	const json_t *c;
	size_t i;

	*out = (struct perf_report){.comparable = true};
	if (!same_key(baseline, now, out->why, sizeof(out->why))) {
		out->comparable = false;
		return 0;
	}
	json_array_foreach(json_object_get(now, "cases"), i, c) {
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
		r = judge(series_of(before, 0), series_of(c, 0), limit_percent, false, p, e);
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
		r = judge(series_of(c, 0), series_of(c, 1), limit_percent, true, p, e);
		if (r < 0)
			return r;
		count(out, p);
	}
	return 0;
}
