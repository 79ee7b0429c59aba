#include "nightly_publish.h"

#include "provision/paths.h"
#include "report/canonical.h"
#include "report/input.h"
#include "verdict/baseline.h"
#include "sweep/facts.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 64 << 20, DEPTH_MAX = 6, NUMBERS_MAX = 1000 };

/* What of a run is published: results, not logs. */
static const char *const published[] = {"receipt.json", "report.txt", "summary.json", "summary.md",
	"bench.json", "baseline.json", "perf.json", "explain.json", "explain.txt", "gate.json",
	"nightly.json", NULL};

static json_t *load(const char *run, const char *label, const char *name)
{
	char path[NIGHTLY_PATH_MAX + 256];

	snprintf(path, sizeof(path), "%s/%s/%s", run, label, name);
	return input_json(path, NULL);
}

/* ---- the record --------------------------------------------------------------------------- */

static void copy_keys(json_t *to, const json_t *from, const char *const *keys)
{
	for (; *keys; keys++) {
		json_t *v = json_object_get(from, *keys);

		if (v)
			json_object_set(to, *keys, v);
	}
}

static json_t *scenarios_of(const json_t *summary)
{
	static const char *const keys[] = {"id",        "ours",           "reference",  "verdict",
					   "exit_code", "n_positions",    "min_cosine", "max_nmse",
					   "max_kl",    "top1_agreement", NULL};
	json_t *out = json_array();
	const json_t *row;
	size_t i;

	json_array_foreach(json_object_get(summary, "scenarios"), i, row) {
		json_t *o = json_object();

		copy_keys(o, row, keys);
		json_array_append_new(out, o);
	}
	return out;
}

static const json_t *perf_case(const json_t *perf, const char *name)
{
	const json_t *c;
	size_t i;

	json_array_foreach(json_object_get(perf, "cases"), i, c) {
		const char *s = json_string_value(json_object_get(c, "name"));

		if (s && name && strcmp(s, name) == 0)
			return c;
	}
	return NULL;
}

static json_t *cases_of(const json_t *bench, const json_t *perf)
{
	static const char *const keys[] = {"unit", "median", "mad", "min", "max", NULL};
	json_t *out = json_array();
	const json_t *c;
	size_t i;

	json_array_foreach(json_object_get(bench, "cases"), i, c) {
		json_t *o = json_object();
		const json_t *name = json_object_get(c, "name"), *p;
		const json_t *series = json_array_get(json_object_get(c, "series"), 0);
		double speed = baseline_speed(series);

		copy_keys(o, series, keys);
		if (speed > 0)
			canonical_set(o, "speed", canonical_real(speed));
		json_object_set(o, "name", (json_t *)name);
		p = perf_case(perf, json_string_value(name));
		if (p)
			json_object_set(o, "state", json_object_get(p, "state"));
		json_array_append_new(out, o);
	}
	return out;
}

static json_t *model_of(const struct nightly_steps *s, const char *label)
{
	json_t *summary = load(s->run, label, "sweep/summary.json"), *m = json_object();
	json_t *bench = load(s->run, label, "bench/bench.json"),
	       *perf = load(s->run, label, "perf.json");
	json_t *from = json_object_get(summary ? summary : bench, "model");
	json_t *host = json_object_get(bench, "host");

	canonical_set(m, "label", canonical_text(label));
	if (json_object_get(from, "sha256"))
		json_object_set(m, "sha256", json_object_get(from, "sha256"));
	canonical_set(m, "scenarios", scenarios_of(summary));
	canonical_set(m, "cases", cases_of(bench, perf));
	if (host)
		json_object_set(m, "host", host);
	json_decref(summary);
	json_decref(bench);
	json_decref(perf);
	return m;
}

json_t *nightly_steps_json(const struct nightly_steps *s)
{
	json_t *out = json_array();

	for (int i = 0; i < s->n; i++) {
		const struct nightly_step *t = &s->steps[i];
		json_t *o = json_object();

		canonical_set(o, "name", canonical_text(t->name));
		canonical_set(o, "part", json_string(nightly_part_name(t->part)));
		canonical_set(o, "state", json_string(nightly_state_name(t->state)));
		canonical_set(o, "exit_code", t->exit < 0 ? json_null() : json_integer(t->exit));
		canonical_set(o, "ms", json_integer(t->ms));
		canonical_set(o, "resumed", json_boolean(t->resumed));
		canonical_set(o, "note", canonical_text(t->note));
		json_array_append_new(out, o);
	}
	return out;
}

/* What was found: builds, models, verdicts, numbers of accuracy, regressions; never times. */
static void result_key(const json_t *models, const struct nightly_facts *f, int exit, char key[65])
{
	json_t *o = json_object(), *list = json_array();
	const json_t *m, *c;
	char *text;
	size_t i, k;

	json_array_foreach(models, i, m) {
		json_t *mine = json_object();

		json_object_set(mine, "label", json_object_get(m, "label"));
		if (json_object_get(m, "sha256"))
			json_object_set(mine, "sha256", json_object_get(m, "sha256"));
		json_object_set(mine, "scenarios", json_object_get(m, "scenarios"));
		if (json_object_get(m, "host"))
			json_object_set(mine, "host", json_object_get(m, "host"));
		json_array_foreach(json_object_get(m, "cases"), k, c) {
			const char *name = json_string_value(json_object_get(c, "name"));
			const char *state = json_string_value(json_object_get(c, "state"));

			if (name && state && strcmp(state, "regressed") == 0)
				json_object_set(mine, name, json_object_get(c, "state"));
		}
		json_array_append_new(list, mine);
	}
	json_object_set_new(o, "models", list);
	canonical_set(o, "commit", canonical_text(f->commit));
	canonical_set(o, "build", canonical_text(f->build));
	canonical_set(o, "exit", json_integer(exit));
	text = canonical_compact(o);
	facts_hex(text, strlen(text), key);
	free(text);
	json_decref(o);
}

json_t *nightly_record(const struct nightly_steps *s, const struct nightly_facts *f)
{
	json_t *o = json_object(), *models = json_array();
	char now[32], key[65];
	int exit;
	enum nightly_part part = nightly_failed_part(s, &exit);

	for (int i = 0; i < f->n_models; i++)
		json_array_append_new(models, model_of(s, f->labels[i]));
	result_key(models, f, exit, key);
	facts_time(now);
	canonical_set(o, "schema_version", json_string("1.0.0"));
	canonical_set(o, "kind", json_string("nightly"));
	canonical_set(o, "date", canonical_text(f->date));
	canonical_set(o, "generated", canonical_text(now));
	canonical_set(o, "commit", canonical_text(f->commit));
	canonical_set(o, "assay_version", canonical_text(f->version));
	canonical_set(o, "assay_build", canonical_text(f->build));
	canonical_set(o, "models", models);
	canonical_set(o, "steps", nightly_steps_json(s));
	canonical_set(o, "exit_code", json_integer(exit));
	canonical_set(o, "exit_name", json_string(err_code_name(exit)));
	canonical_set(o, "failed_part", part == NIGHTLY_PARTS ? json_null() :
		      json_string(nightly_part_name(part)));
	canonical_set(o, "result_sha256", canonical_text(key));
	canonical_seal(o);
	return o;
}

/* ---- publishing --------------------------------------------------------------------------- */

static bool is_published(const char *name)
{
	for (int i = 0; published[i]; i++)
		if (strcmp(published[i], name) == 0)
			return true;
	return false;
}

static int copy_file(const char *from, const char *to, struct err *e)
{
	char *bytes;
	size_t n;
	int r = paths_read(&bytes, &n, from, FILE_MAX, e);

	if (r < 0)
		return r;
	r = paths_write(to, bytes, n, e);
	free(bytes);
	return r;
}

static int copy_tree(const char *from, const char *to, int depth, struct err *e)
{
	struct dirent **names;
	int n = scandir(from, &names, NULL, alphasort), r = 0;

	if (n < 0)
		return err_set(e, EXIT_INTERNAL, "%s: %s", from, strerror(errno));
	for (int i = 0; i < n; i++) {
		char a[NIGHTLY_PATH_MAX + 256], b[NIGHTLY_PATH_MAX + 256];
		const char *name = names[i]->d_name;
		struct stat st;

		snprintf(a, sizeof(a), "%.2000s/%s", from, name);
		snprintf(b, sizeof(b), "%.2000s/%s", to, name);
		if (r == 0 && name[0] != '.' && strcmp(name, "logs") != 0 && lstat(a, &st) == 0) {
			if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
				r = copy_tree(a, b, depth + 1, e);
			else if (S_ISREG(st.st_mode) && is_published(name) &&
				 (r = paths_mkdir(to, e)) == 0)
				r = copy_file(a, b, e);
		}
		free(names[i]);
	}
	free(names);
	return r;
}

static bool same_result(const char *dir, const json_t *record)
{
	char path[NIGHTLY_PATH_MAX + 32];
	json_t *there;
	bool same;

	snprintf(path, sizeof(path), "%s/nightly.json", dir);
	there = input_json(path, NULL);
	same = there && canonical_sealed(there) &&
	       json_equal(json_object_get(there, "result_sha256"),
			  json_object_get(record, "result_sha256"));
	json_decref(there);
	return same;
}

int nightly_publish(const struct nightly_steps *s, json_t *record, const char *dir,
		    char dir_out[NIGHTLY_PATH_MAX], bool *already, struct err *e)
{
	char part[NIGHTLY_PATH_MAX + 16], path[NIGHTLY_PATH_MAX + 32], *text;
	int number = 1, r;

	*already = false;
	snprintf(dir_out, NIGHTLY_PATH_MAX, "%.2000s", dir);
	while (paths_exists(dir_out) && !*already && number < NUMBERS_MAX) {
		*already = same_result(dir_out, record);
		if (!*already)
			snprintf(dir_out, NIGHTLY_PATH_MAX, "%.2000s.%d", dir, ++number);
	}
	if (*already)
		return 0;
	if (number == NUMBERS_MAX)
		return err_set(e, EXIT_INTERNAL, "%s: %d nights lie there already", dir,
			       NUMBERS_MAX);
	snprintf(part, sizeof(part), "%s.partial", dir_out);
	text = canonical_indented(record);
	r = paths_remove(part, e);
	if (r == 0)
		r = paths_mkdir(part, e);
	if (r == 0)
		r = copy_tree(s->run, part, 0, e);
	snprintf(path, sizeof(path), "%s/nightly.json", part);
	if (r == 0)
		r = facts_write(path, text, e);
	if (r == 0 && rename(part, dir_out) < 0)
		r = err_set(e, EXIT_INTERNAL, "%s: %s", dir_out, strerror(errno));
	free(text);
	return r;
}
