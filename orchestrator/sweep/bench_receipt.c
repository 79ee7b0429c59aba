#include "bench_receipt.h"

#include "facts.h"
#include "report/canonical.h"

#include <string.h>

static json_t *interval_json(struct interval i)
{
	json_t *o = json_object();

	canonical_set(o, "low", canonical_real(i.low));
	canonical_set(o, "mid", canonical_real(i.mid));
	canonical_set(o, "high", canonical_real(i.high));
	return o;
}

static json_t *series_json(const struct bench_case *c, const struct bench_series *s)
{
	json_t *o = json_object(), *samples = json_array();
	json_t *pace = json_array(), *sessions = json_array();
	bool told = s->n > 0;

	for (int i = 0; i < s->n; i++) {
		json_array_append_new(samples, canonical_real(s->samples[i]));
		json_array_append_new(pace, canonical_real(s->pace_ns[i]));
		told = told && s->pace_ns[i] > 0;
	}
	if (told)
		canonical_set(o, "pace_ns", json_incref(pace));
	json_decref(pace);
	for (int i = 0; i < s->n_sessions; i++)
		json_array_append_new(sessions, json_integer(s->sizes[i]));
	canonical_set(o, "sessions", sessions);
	canonical_set(o, "unit", json_string(bench_in_seconds(c->kind) ? "s" : "tokens/s"));
	canonical_set(o, "samples", samples);
	canonical_set(o, "median", canonical_real(s->stats.median));
	canonical_set(o, "mean", canonical_real(s->stats.mean));
	canonical_set(o, "mad", canonical_real(s->stats.mad));
	canonical_set(o, "min", canonical_real(s->stats.min));
	canonical_set(o, "max", canonical_real(s->stats.max));
	canonical_set(o, "first_engine_ratio", interval_json(s->ratio));
	return o;
}

static json_t *case_json(const struct bench_options *o, const struct bench_result *r, int k)
{
	json_t *c = json_object(), *row = json_array(), *kept = json_array(), *beside;
	int shallow = bench_shallow(o, k);

	for (int i = 0; i < o->n_engines; i++) {
		json_array_append_new(row, series_json(&o->cases[k], &r->series[k][i]));
		json_array_append_new(kept, interval_json(r->series[k][i].kept));
	}
	canonical_set(c, "name", canonical_text(o->cases[k].name));
	canonical_set(c, "series", row);
	if (shallow >= 0) {
		beside = json_object();
		canonical_set(beside, "case", canonical_text(o->cases[shallow].name));
		canonical_set(beside, "kept", json_incref(kept));
		canonical_set(c, "without_depth", beside);
	}
	json_decref(kept);
	return c;
}

static json_t *engine_json(const struct bench_options *o, const struct bench_result *r, int i)
{
	json_t *g = json_object();

	canonical_set(g, "name", canonical_text(o->engines[i].name));
	canonical_set(g, "model",
		      canonical_text(o->engines[i].model ? o->engines[i].model : o->model));
	canonical_set(g, "isa", canonical_text(r->isa[i]));
	canonical_set(g, "profile", canonical_text(r->profile[i]));
	canonical_set(g, "build", canonical_text(r->build[i]));
	canonical_set(g, "peak_kib", json_integer(r->peak_kib[i]));
	return g;
}

static json_t *machine_json(const struct bench_result *r)
{
	json_t *m = json_object();

	canonical_set(m, "read_gb_s_1", canonical_real(r->read_gb_s[0]));
	canonical_set(m, "read_gb_s", canonical_real(r->read_gb_s[1]));
	canonical_set(m, "read_sustained_gb_s", canonical_real(r->read_sustained_gb_s));
	canonical_set(m, "int8_gmac_s_1", canonical_real(r->int8_gmac_s[0]));
	canonical_set(m, "int8_gmac_s", canonical_real(r->int8_gmac_s[1]));
	canonical_set(m, "huge_pages", json_boolean(r->huge_pages));
	return m;
}

static json_t *model_json(const struct receipt_run *u, const struct bench_result *r)
{
	json_t *m = json_object();

	canonical_set(m, "path", canonical_text(u->model_path));
	canonical_set(m, "sha256", canonical_text(u->model_sha256));
	canonical_set(m, "bytes", json_integer(u->model_bytes));
	canonical_set(m, "decode_gb", canonical_real(r->decode_gb));
	canonical_set(m, "prefill_gmac", canonical_real(r->prefill_gmac));
	return m;
}

int bench_receipt(const struct bench_options *o, const struct bench_result *r, const char *version,
		  const char *build, const char *started, json_t **out, struct err *e)
{
	struct receipt_run u = {.model_path = o->model, .threads = o->n_threads};
	json_t *j, *host, *engines, *cases;
	int rc = facts_fill(&u, NULL, e);

	if (rc < 0)
		return rc;
	j = json_object();
	host = json_object();
	engines = json_array();
	cases = json_array();
	canonical_set(host, "cpu", canonical_text(u.cpu));
	canonical_set(host, "n_cpus", json_integer(u.n_cpus));
	canonical_set(host, "threads", json_integer(o->n_threads));
	for (int i = 0; i < o->n_engines; i++)
		json_array_append_new(engines, engine_json(o, r, i));
	for (int k = 0; k < o->n_cases; k++)
		json_array_append_new(cases, case_json(o, r, k));
	canonical_set(j, "schema_version", json_string(RECEIPT_SCHEMA_VERSION));
	canonical_set(j, "kind", json_string("bench"));
	canonical_set(j, "assay_version", canonical_text(version));
	canonical_set(j, "assay_build", canonical_text(build));
	canonical_set(j, "started", canonical_text(started));
	canonical_set(j, "threads", json_integer(o->n_threads));
	canonical_set(j, "reps", json_integer(o->reps));
	canonical_set(j, "warmup", json_integer(o->warmup));
	canonical_set(j, "host", host);
	canonical_set(j, "machine", machine_json(r));
	canonical_set(j, "model", model_json(&u, r));
	canonical_set(j, "engines", engines);
	canonical_set(j, "cases", cases);
	canonical_seal(j);
	*out = j;
	return 0;
}
