#include "receipt.h"

#include "canonical.h"
#include "local_json.h"
#include "verdict/compare.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static json_t *ids_array(const int32_t *ids, int n)
{
	json_t *a = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(a, json_integer(ids[i]));
	return a;
}

/* Environment that can change a result or says how it was asked for; never a secret. */
static json_t *environment(void)
{
	static const char *const names[] = {
		"CROSSVAL_GGUF",	 "CROSSVAL_GGUF_TOKENIZER", "CROSSVAL_TIMEOUT_SECS",
		"CROSSVAL_ALLOW_CPP_FAIL", "BITNET_CPP_DIR",	    "BITNET_CPP_REPO",
		"BITNET_CPP_REV",	 "BITNET_TRACE_DIR",	    "BITNET_DETERMINISTIC",
		"BITNET_SEED",		 "OMP_NUM_THREADS",	    "GGML_NUM_THREADS",
		"HF_ENDPOINT",		 "HF_HUB_OFFLINE",	    "ASSAY_WORKER",
		"OMP_PROC_BIND",	 "OPENBLAS_NUM_THREADS",    "LD_LIBRARY_PATH",
		"LD_PRELOAD",		 "GLIBC_TUNABLES",	    "LLAMA_CPP_DIR",
	};
	json_t *o = json_object();

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (getenv(names[i]))
			canonical_set(o, names[i], canonical_text(getenv(names[i])));
	for (char **e = environ; *e; e++)
		if (strncmp(*e, "ASSAY_WORKER_", 13) == 0 && strchr(*e, '=')) {
			char *name = strndup(*e, strcspn(*e, "="));

			canonical_set(o, name, canonical_text(strchr(*e, '=') + 1));
			free(name);
		}
	return o;
}

static json_t *limits_object(const struct limits *l)
{
	const struct {
		const char *key;
		double value;
	} numbers[] = {
	    {"min_cosine", l->min_cosine}, {"max_nmse", l->max_nmse}, {"max_abs_diff", l->max_abs},
	    {"max_kl", l->max_kl},         {"min_top1", l->min_top1}, {"min_top5", l->min_top5},
	};
	json_t *o = json_object();

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!isnan(numbers[i].value))
			canonical_set(o, numbers[i].key, json_real(numbers[i].value));
	if (l->bits)
		canonical_set(o, "bits", json_true());
	return o;
}

static json_t *thresholds_object(const struct thresholds *t)
{
	json_t *o = json_object();

	canonical_set(o, "set", canonical_text(t->set));
	canonical_set(o, "origin", canonical_text(t->origin));
	canonical_set(o, "weights", canonical_text(t->weights));
	canonical_set(o, "formula", json_string(RECEIPT_METRICS_FORMULA));
	canonical_set(o, "limit", limits_object(&t->limit));
	canonical_set(o, "noise", limits_object(&t->noise));
	return o;
}

/* kernel.NAME=calls lines of DONE, by name. */
static void split_counters(json_t *done, json_t *side)
{
	json_t *counters = json_object(), *kernels = json_array(), *v;
	const char *key;
	void *next;

	json_object_foreach_safe(done, next, key, v) {
		if (strncmp(key, "kernel.", 7) != 0)
			continue;
		json_array_append_new(kernels, json_string(key + 7));
		canonical_set(counters, key + 7, json_incref(v));
		json_object_del(done, key);
	}
	canonical_set(side, "counters", counters);
	canonical_set(side, "kernels", kernels);
}

static json_t *side_object(const struct receipt_side *s)
{
	json_t *o = json_object(), *done = canonical_lines(s->done);

	split_counters(done, o);
	canonical_set(o, "engine", canonical_text(s->engine));
	canonical_set(o, "hello", canonical_lines(s->hello));
	canonical_set(o, "opened", canonical_lines(s->opened));
	canonical_set(o, "done", done);
	if (s->identity)
		canonical_set(o, "reference", canonical_lines(s->identity));
	canonical_set(o, "tokenized", json_boolean(s->tokenized));
	canonical_set(o, "n_tokens", json_integer(s->n_ids));
	canonical_set(o, "tokens_sha256", canonical_text(s->tokens_sha256));
	canonical_set(o, "n_positions", json_integer(s->n_positions));
	canonical_set(o, "logits_sha256", canonical_text(s->logits_sha256));
	canonical_set(o, "greedy", ids_array(s->greedy, s->n_greedy));
	canonical_set(o, "eval_us", json_integer(s->eval_us));
	canonical_set(
	    o, "tokens_per_second",
	    canonical_real(s->eval_us > 0 ? 1e6 * s->n_positions / (double)s->eval_us : 0));
	canonical_set(o, "peak_rss_bytes",
		      s->peak_rss < 0 ? json_null() : json_integer(s->peak_rss));
	if (s->text)
		canonical_set(o, "text", canonical_text(s->text));
	if (s->pieces)
		canonical_set(o, "pieces", canonical_text(s->pieces));
	return o;
}

static void real_series(json_t *o, const char *key, const struct comparison *c, size_t offset)
{
	json_t *a = json_array();

	for (int i = 0; i < c->n; i++) {
		double x;

		memcpy(&x, (const char *)&c->rows[i] + offset, sizeof(x));
		json_array_append_new(a, canonical_real(x));
	}
	canonical_set(o, key, a);
}

static json_t *positions_object(const struct comparison *c)
{
	json_t *o = json_object(), *top1 = json_array(), *bits = json_array();
	json_t *top5 = json_array(), *ulp = json_array();

	for (int i = 0; i < c->n; i++) {
		json_array_append_new(top1,
				      json_boolean(c->rows[i].top1_ours == c->rows[i].top1_ref));
		json_array_append_new(bits, json_boolean(c->rows[i].bits_equal));
		json_array_append_new(top5, canonical_real(c->rows[i].top5_agree));
		json_array_append_new(ulp, json_integer(c->rows[i].max_ulp));
	}
	canonical_set(o, "top1_agree", top1);
	canonical_set(o, "bits_equal", bits);
	canonical_set(o, "top5_agree", top5);
	canonical_set(o, "max_ulp", ulp);
	real_series(o, "nmse", c, offsetof(struct compare_row, nmse));
	real_series(o, "kl", c, offsetof(struct compare_row, kl));
	real_series(o, "max_abs_diff", c, offsetof(struct compare_row, max_abs));
	real_series(o, "margin_ref", c, offsetof(struct compare_row, margin_ref));
	real_series(o, "kendall_tau_b", c, offsetof(struct compare_row, kendall));
	return o;
}

static json_t *summary_object(const struct comparison *c)
{
	json_t *o = json_object();
	double n = c->n ? c->n : 1;

	canonical_set(o, "n_positions", json_integer(c->n));
	canonical_set(o, "n_prefill", json_integer(c->n - c->n_decode));
	canonical_set(o, "n_decode", json_integer(c->n_decode));
	canonical_set(o, "n_bits_equal", json_integer(c->n_bits_equal));
	canonical_set(o, "first_different",
		      c->first_different < 0 ? json_null() :
					       json_integer(c->rows[c->first_different].pos));
	canonical_set(o, "worst_position",
		      c->worst < 0 ? json_null() : json_integer(c->rows[c->worst].pos));
	canonical_set(o, "top1_agreement", canonical_real(c->n_top1 / n));
	canonical_set(o, "top5_agreement", canonical_real(c->sum_top5 / n));
	canonical_set(o, "min_cosine", canonical_real(c->n ? c->min_cosine : NAN));
	canonical_set(o, "mean_cosine", canonical_real(c->n ? c->sum_cosine / n : NAN));
	canonical_set(o, "max_nmse", canonical_real(c->n ? c->max_nmse : NAN));
	canonical_set(o, "max_kl", canonical_real(c->n ? c->max_kl : NAN));
	canonical_set(o, "mean_kl", canonical_real(c->n ? c->sum_kl / n : NAN));
	canonical_set(o, "max_l2", canonical_real(c->n ? c->max_l2 : NAN));
	canonical_set(o, "max_ulp", json_integer(c->max_ulp));
	canonical_set(o, "n_nonfinite_ours", json_integer(c->n_nonfinite_ours));
	canonical_set(o, "n_nonfinite_ref", json_integer(c->n_nonfinite_ref));
	return o;
}

static json_t *greedy_object(const struct comparison *c)
{
	json_t *o = json_object();

	canonical_set(o, "compared", json_integer(c->n_greedy));
	canonical_set(o, "equal", json_boolean(c->flip_step < 0));
	canonical_set(o, "flip_step", c->flip_step < 0 ? json_null() : json_integer(c->flip_step));
	if (c->flip_step >= 0) {
		canonical_set(o, "flip_ours", json_integer(c->flip_ours));
		canonical_set(o, "flip_ref", json_integer(c->flip_ref));
		canonical_set(o, "flip_margin", canonical_real(c->flip_margin));
		canonical_set(o, "flip_error", canonical_real(c->flip_error));
		canonical_set(o, "near_tie", json_boolean(c->flip_is_tie));
	}
	return o;
}

static int first_divergence(const struct comparison *c)
{
	if (c->first_beyond_limit >= 0)
		return c->rows[c->first_beyond_limit].pos;
	if (c->flip_step >= 0 && !c->flip_is_tie)
		return c->rows[c->n - 1].pos;
	return -1;
}

/* The one number of the set that users of --cos-tol know as "threshold". */
static void put_threshold(json_t *o, const struct limits *l)
{
	if (!isnan(l->min_cosine)) {
		canonical_set(o, "threshold", json_real(l->min_cosine));
		canonical_set(o, "threshold_metric", json_string("cosine"));
	} else if (!isnan(l->max_nmse)) {
		canonical_set(o, "threshold", json_real(l->max_nmse));
		canonical_set(o, "threshold_metric", json_string("nmse"));
	} else {
		canonical_set(o, "threshold", json_null());
		canonical_set(o, "threshold_metric", json_string(l->bits ? "bits" : "other"));
	}
}

static const char *status_of(const struct receipt *r)
{
	if (r->exit_code == EXIT_DIVERGED)
		return "diverged";
	return r->exit_code == 0 ? "ok" : "error";
}

static void put_comparison(json_t *o, const struct receipt *r)
{
	const struct comparison *c = r->comparison;
	int first = first_divergence(c);

	canonical_set(o, "status", json_string(status_of(r)));
	canonical_set(o, "verdict", canonical_text(r->verdict));
	canonical_set(o, "exit_code", json_integer(r->exit_code));
	canonical_set(o, "explanation", canonical_text(r->explanation));
	if (r->explain)
		canonical_set(o, "explain", canonical_text(r->explain));
	canonical_set(o, "first_divergence_token", first < 0 ? json_null() : json_integer(first));
	canonical_set(o, "max_absolute_diff", c->n ? canonical_real(c->max_abs) : json_null());
	real_series(o, "per_token_cosine_sim", c, offsetof(struct compare_row, cosine));
	real_series(o, "per_token_l2_dist", c, offsetof(struct compare_row, l2));
	put_threshold(o, &c->thresholds.limit);
	canonical_set(o, "thresholds", thresholds_object(&c->thresholds));
	canonical_set(o, "positions", positions_object(c));
	canonical_set(o, "summary", summary_object(c));
	canonical_set(o, "greedy", greedy_object(c));
	if (r->local)
		canonical_set(o, "local", local_json(r->local, false));
}

static void put_run(json_t *o, const struct receipt_run *u)
{
	json_t *assay = json_object(), *model = json_object(), *tokenizer = json_object();
	json_t *host = json_object();

	canonical_set(assay, "version", canonical_text(u->version));
	canonical_set(assay, "build", canonical_text(u->build));
	canonical_set(model, "path", canonical_text(u->model_path));
	canonical_set(model, "sha256", canonical_text(u->model_sha256));
	canonical_set(model, "sha256_from", json_string(u->model_sha256_cached ? "stamp" : "file"));
	canonical_set(model, "bytes", json_integer(u->model_bytes));
	canonical_set(tokenizer, "source",
		      canonical_text(u->tokenizer_path ? u->tokenizer_path : "model"));
	canonical_set(tokenizer, "sha256", canonical_text(u->tokenizer_sha256));
	canonical_set(host, "cpu", canonical_text(u->cpu));
	canonical_set(host, "n_cpus", json_integer(u->n_cpus));
	canonical_set(host, "threads", json_integer(u->threads));
	canonical_set(o, "assay", assay);
	canonical_set(o, "model", model);
	if (u->model_ref_path) {
		json_t *other = json_object();

		canonical_set(other, "path", canonical_text(u->model_ref_path));
		canonical_set(other, "sha256", canonical_text(u->model_ref_sha256));
		canonical_set(o, "reference_model", other);
	}
	canonical_set(o, "tokenizer", tokenizer);
	canonical_set(o, "host", host);
	canonical_set(o, "environment", environment());
	canonical_set(o, "asked", canonical_lines(u->asked ? u->asked : ""));
}

static void put_scenario(json_t *o, const struct receipt *r)
{
	const struct scenario *s = r->scenario;
	json_t *scenario = json_object(), *template = json_object();

	canonical_set(scenario, "id", canonical_text(s->id));
	canonical_set(scenario, "max_new_tokens", json_integer(s->max_new_tokens));
	canonical_set(scenario, "seed", json_integer((json_int_t)s->seed));
	canonical_set(scenario, "timeout_s", json_integer(s->timeout_s));
	canonical_set(o, "scenario", scenario);
	canonical_set(template, "name", canonical_text(r->template_name));
	canonical_set(template, "why", canonical_text(r->template_why));
	canonical_set(template, "prompt_sha256",
		      *r->prompt_sha256 ? canonical_text(r->prompt_sha256) : json_null());
	canonical_set(template, "prompt_bytes", json_integer((json_int_t)r->prompt_bytes));
	canonical_set(template, "add_bos", json_boolean(r->add_bos));
	canonical_set(template, "parse_special", json_boolean(r->parse_special));
	canonical_set(o, "template", template);
}

static void put_tokens(json_t *o, const struct receipt *r)
{
	json_t *t = json_object();
	const struct receipt_side *a = &r->sides[0], *b = &r->sides[r->n_sides - 1];

	canonical_set(t, "n_ours", json_integer(a->n_ids));
	canonical_set(t, "n_reference", json_integer(b->n_ids));
	canonical_set(t, "match", json_boolean(r->n_sides == 2 && r->first_difference < 0 &&
					       a->n_ids > 0 && a->n_ids == b->n_ids));
	canonical_set(t, "first_difference",
		      r->first_difference < 0 ? json_null() : json_integer(r->first_difference));
	canonical_set(t, "cause", *r->cause ? canonical_text(r->cause) : json_null());
	canonical_set(o, "tokens", t);
}

char *receipt_json(const struct receipt *r)
{
	json_t *o = json_object(), *engines = json_object();
	bool evaluated = r->n_sides > 0;
	char *text;

	canonical_set(o, "schema_version", json_string(RECEIPT_SCHEMA_VERSION));
	canonical_set(o, "kind", json_string(r->n_sides == 2 ? "parity" : "inference"));
	canonical_set(o, "id", canonical_text(r->id));
	for (int i = 0; i < r->n_sides; i++)
		evaluated = evaluated && r->sides[i].done;
	/* "real" only where every side said how it computed; nothing here can be asserted */
	canonical_set(o, "compute_path", json_string(evaluated ? "real" : "none"));
	canonical_set(o, "started", canonical_text(r->started));
	canonical_set(o, "finished", canonical_text(r->finished));
	canonical_set(o, "wall_us", json_integer(r->wall_us));
	canonical_set(o, "compare_us", json_integer(r->compare_us));
	put_run(o, r->run);
	put_scenario(o, r);
	put_tokens(o, r);
	for (int i = 0; i < r->n_sides; i++)
		canonical_set(engines, i ? "reference" : "ours", side_object(&r->sides[i]));
	canonical_set(o, "engines", engines);
	put_comparison(o, r);
	canonical_seal(o);
	text = canonical_indented(o);
	json_decref(o);
	return text;
}

char *receipt_comparison_json(const struct receipt *r)
{
	json_t *o = json_object();
	char *text;

	canonical_set(o, "id", canonical_text(r->id));
	put_comparison(o, r);
	text = canonical_indented(o);
	json_decref(o);
	return text;
}

int receipt_check(const char *text, size_t bytes, const char *path, struct err *e)
{
	json_error_t why;
	json_t *o = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
	const char *version = json_string_value(json_object_get(o, "schema_version"));
	int r = 0;

	if (!o)
		r = err_set(e, EXIT_RECEIPT_INVALID, "%s:%d: %s", path, why.line, why.text);
	else if (!version || strcmp(version, RECEIPT_SCHEMA_VERSION) != 0)
		r = err_set(e, EXIT_RECEIPT_INVALID, "%s: schema_version is %s, expected %s", path,
			    version ? version : "missing", RECEIPT_SCHEMA_VERSION);
	else if (!canonical_sealed(o))
		r = err_set(e, EXIT_RECEIPT_INVALID,
			    "%s: content_sha256 does not fit the content: the receipt was changed",
			    path);
	json_decref(o);
	return r;
}
