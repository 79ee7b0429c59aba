#include "calibrate.h"

#include "facts.h"
#include "record.h"
#include "report/canonical.h"
#include "sweep.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- measuring ---------------------------------------------------------------------------- */

static void add_way(struct calibrate_result *r, int threads, int batch, int ubatch,
		    const char *name)
{
	struct calibrate_way *w = &r->ways[r->n_ways++];

	assert(r->n_ways <= CALIBRATE_WAYS_MAX);
	*w = (struct calibrate_way){
	    .threads = threads, .batch = batch, .ubatch = ubatch, .min_cosine = 1};
	snprintf(w->name, sizeof(w->name), "%s", name);
}

static void plan_ways(struct calibrate_result *r, int most)
{
	static const int batches[] = {1, 7, 64}, ubatches[] = {8, 32, 128};
	char name[48];

	add_way(r, most, 0, 0, "again");
	for (int t = 1; t < most && r->n_ways < 10; t *= 2) {
		snprintf(name, sizeof(name), "threads %d", t);
		add_way(r, t, 0, 0, name);
	}
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "batch %d", batches[i]);
		add_way(r, most, batches[i], 0, name);
	}
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "ubatch %d", ubatches[i]);
		add_way(r, most, 0, ubatches[i], name);
	}
	if (most > 1)
		add_way(r, 1, 1, 0, "threads 1, batch 1");
}

struct measuring {
	struct calibrate_way *way;
	struct err failed;
};

static void on_receipt(void *ctx, const struct exchange *x, const struct receipt *r)
{
	const struct comparison *c = &x->comparison;
	struct measuring *m = ctx;
	struct calibrate_way *w = m->way;

	if (r->exit_code > EXIT_DIVERGED || c->n == 0) {
		if (!m->failed.code)
			err_set(&m->failed,
				r->exit_code ? (enum exit_code)r->exit_code : EXIT_INTERNAL,
				"%s, %s: %s", w->name, r->id, r->explanation);
		return;
	}
	if ((c->n_nonfinite_ours || c->n_nonfinite_ref) && !m->failed.code)
		err_set(&m->failed, EXIT_INFERENCE, "%s, %s: NaN or Inf", w->name, r->id);
	w->n_positions += c->n;
	w->n_bits_equal += c->n_bits_equal;
	w->n_flips += c->flip_step >= 0;
	w->max_nmse = fmax(w->max_nmse, c->max_nmse);
	w->max_abs = fmax(w->max_abs, c->max_abs);
	w->max_kl = fmax(w->max_kl, c->max_kl);
	w->min_cosine = fmin(w->min_cosine, c->min_cosine);
	w->eval_us += x->sides[0].eval_us;
}

static int measure(const struct calibrate_options *o, struct calibrate_way *w, const char *recorded,
		   struct err *e)
{
	struct measuring m = {.way = w};
	struct summary s = {.n = 0};
	struct sweep_options so = {
	    .setup = o->setup,
	    .scenarios = o->scenarios,
	    .engine = o->engine,
	    .references = {recorded},
	    .n_references = 1,
	    .n_workers = 1,
	    .version = o->version,
	    .build = o->build,
	    .on_receipt = on_receipt,
	    .ctx = &m,
	};
	int rc;

	so.setup.threads = w->threads;
	so.setup.batch = w->batch;
	so.setup.ubatch = w->ubatch;
	rc = sweep_run(&so, &s, e);
	summary_free(&s);
	if (rc == 0 && m.failed.code) {
		*e = m.failed;
		rc = -e->code;
	}
	return rc;
}

/* ---- the rule ----------------------------------------------------------------------------- */

/* Up to two digits: 1.234e-4 becomes 1.3e-4. */
static double round_up(double x)
{
	char text[32];
	double unit;

	if (!(x > 0))
		return 0;
	unit = pow(10, floor(log10(x)) - 1);
	snprintf(text, sizeof(text), "%.1e", ceil(x / unit - 1e-9) * unit);
	return strtod(text, NULL);
}

static void describe(struct calibrate_result *r, const struct calibrate_options *o,
		     const struct receipt_run *run, const char *what)
{
	char ways[200] = "", now[32];
	size_t n = 0;

	for (int i = 0; i < r->n_ways && n < sizeof(ways); i++)
		n += (size_t)snprintf(ways + n, sizeof(ways) - n, "%s%s", i ? "; " : "",
				      r->ways[i].name);
	facts_time(now);
	snprintf(
	    r->origin, sizeof(r->origin),
	    "measured %.10s: %.60s (%.60s) against itself on %.60s: %s; %d positions; worst NMSE "
	    "%.3g, noise is %d times the worst",
	    now, o->engine, what, run->cpu, ways, r->n_positions, r->max_nmse, CALIBRATE_MARGIN);
}

static int conclude(struct calibrate_result *r, const struct calibrate_options *o, struct err *e)
{
	struct thresholds usual;
	int rc;

	r->bits = true;
	for (int i = 0; i < r->n_ways; i++) {
		const struct calibrate_way *w = &r->ways[i];

		r->bits &= w->n_bits_equal == w->n_positions && w->n_flips == 0;
		r->max_nmse = fmax(r->max_nmse, w->max_nmse);
		r->max_abs = fmax(r->max_abs, w->max_abs);
		r->max_kl = fmax(r->max_kl, w->max_kl);
	}
	rc = thresholds_load(&usual, o->default_sets, o->default_bytes, "thresholds", "default",
			     o->setup.weights, o->setup.arch, e);
	if (rc < 0)
		return rc;
	r->noise_nmse = round_up(CALIBRATE_MARGIN * r->max_nmse);
	r->noise_abs = round_up(CALIBRATE_MARGIN * r->max_abs);
	r->noise_kl = round_up(CALIBRATE_MARGIN * r->max_kl);
	r->limit_nmse = fmax(usual.limit.max_nmse, round_up(CALIBRATE_LIMIT * r->noise_nmse));
	snprintf(r->arch, sizeof(r->arch), "%s", o->setup.arch);
	thresholds_main_type(o->setup.weights, r->weights, sizeof(r->weights));
	if (!*r->weights)
		snprintf(r->weights, sizeof(r->weights), "any");
	return 0;
}

static int record_first(const struct calibrate_options *o, const char *path,
			struct record_result *out, struct err *e)
{
	struct record_options ro = {
	    .engine = o->engine,
	    .setup = &o->setup,
	    .scenarios = o->scenarios,
	    .out = path,
	    .trace = "none",
	    .version = o->version,
	    .build = o->build,
	};

	return record_run(&ro, out, e);
}

int calibrate_run(const struct calibrate_options *o, struct calibrate_result *r, struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	char folder[1024], path[1100], engine[1200];
	struct receipt_run run = {.model_path = o->setup.model,
				  .tokenizer_path = o->setup.tokenizer};
	struct record_result first;
	int rc;

	snprintf(folder, sizeof(folder), "%.900s/assay-calibrate.XXXXXX",
		 tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(folder))
		return err_set(e, EXIT_INTERNAL, "%s: %s", folder, strerror(errno));
	snprintf(path, sizeof(path), "%s/first.tar.zst", folder);
	snprintf(engine, sizeof(engine), "recorded:%s", path);
	*r = (struct calibrate_result){.n_ways = 0};
	plan_ways(r, o->setup.threads);
	rc = record_first(o, path, &first, e);
	for (int i = 0; rc == 0 && i < r->n_ways; i++) {
		rc = measure(o, &r->ways[i], engine, e);
		if (rc == 0 && o->on_way)
			o->on_way(o->ctx, &r->ways[i]);
	}
	unlink(path);
	rmdir(folder);
	if (rc == 0)
		rc = conclude(r, o, e);
	if (rc == 0)
		rc = facts_fill(&run, NULL, e);
	if (rc == 0) {
		char what[130];

		r->n_positions = first.n_positions;
		snprintf(what, sizeof(what), "build %.60s, profile %.40s", first.engine_build,
			 *first.profile ? first.profile : "unknown");
		describe(r, o, &run, what);
	}
	return rc;
}

/* ---- the file ----------------------------------------------------------------------------- */

static json_t *rule_object(const struct calibrate_result *r)
{
	json_t *o = json_object(), *noise = json_object(), *limit = json_object();

	if (r->bits) {
		canonical_set(noise, "bits", json_true());
	} else {
		canonical_set(noise, "max_nmse", json_real(r->noise_nmse));
		canonical_set(noise, "max_abs_diff", json_real(r->noise_abs));
		canonical_set(noise, "max_kl", json_real(r->noise_kl));
	}
	canonical_set(limit, "max_nmse", json_real(r->limit_nmse));
	canonical_set(o, "weights", json_string(r->weights));
	if (*r->arch)
		canonical_set(o, "arch", canonical_text(r->arch));
	canonical_set(o, "origin", canonical_text(r->origin));
	canonical_set(o, "noise", noise);
	canonical_set(o, "limit", limit);
	return o;
}

static bool same_text(const json_t *o, const char *key, const char *want)
{
	const char *s = json_string_value(json_object_get(o, key));

	return strcmp(s ? s : "", want) == 0;
}

static void put_rule(json_t *sets, const char *name, const struct calibrate_result *r)
{
	json_t *set = json_object_get(sets, name), *rules, *rule;
	size_t i;

	if (!set) {
		set = json_object();
		canonical_set(set, "origin",
			      json_string("measured by assay calibrate; each rule says how"));
		canonical_set(set, "rules", json_array());
		canonical_set(sets, name, set);
	}
	rules = json_object_get(set, "rules");
	json_array_foreach(rules, i, rule) if (same_text(rule, "weights", r->weights) &&
					       same_text(rule, "arch", r->arch))
	{
		json_array_set_new(rules, i, rule_object(r));
		return;
	}
	json_array_insert_new(rules, 0, rule_object(r));
}

static int load_file(const char *path, json_t **root, struct err *e)
{
	json_error_t why;

	if (access(path, F_OK) != 0) {
		*root = json_pack("{s:s, s:{}}", "schema_version", "1.0.0", "sets");
		return 0;
	}
	*root = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
	if (!*root)
		return err_set(e, EXIT_USAGE, "%s:%d: %s", path, why.line, why.text);
	if (!same_text(*root, "schema_version", "1.0.0") ||
	    !json_is_object(json_object_get(*root, "sets"))) {
		json_decref(*root);
		return err_set(e, EXIT_USAGE, "%s is not a thresholds file", path);
	}
	return 0;
}

int calibrate_write(const struct calibrate_result *r, const struct calibrate_options *o,
		    const char *path, const char *name, struct err *e)
{
	struct thresholds t;
	json_t *root;
	char *text;
	int rc;

	if (thresholds_load(&t, o->default_sets, o->default_bytes, "", name, NULL, "", NULL) == 0 ||
	    strcmp(name, "auto") == 0 || !*name || strlen(name) >= THRESHOLDS_NAME_MAX)
		return err_set(e, EXIT_USAGE,
			       "\"%s\" is a set of the program's own, or no name; choose another",
			       name);
	rc = load_file(path, &root, e);
	if (rc < 0)
		return rc;
	put_rule(json_object_get(root, "sets"), name, r);
	text = json_dumps(root, JSON_INDENT(4) | JSON_REAL_PRECISION(6));
	json_decref(root);
	/* what was written must be what is read */
	rc =
	    thresholds_load(&t, text, strlen(text), path, name, o->setup.weights, o->setup.arch, e);
	if (rc == 0)
		rc = facts_write(path, text, e);
	free(text);
	return rc;
}
