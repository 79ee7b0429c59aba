#include "cli.h"

#include "gguf.h"
#include "nightly_publish.h"
#include "provision/models_lock.h"
#include "provision/paths.h"
#include "provision/process.h"
#include "provision/store.h"
#include "report/canonical.h"
#include "sweep/facts.h"
#include "term.h"
#include "version.h"
#include "weight_type.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODELS_MAX = 16, LABEL_MAX = 64, BASELINES_TRIED = 20, EXPLAINED_MAX = 8 };

static const struct opt opts[] = {
	{"tier", OPT_STR, "TIER", "models of this tier where no --model is given", "integration",
	 NULL, "ci-light|integration", 0},
	{"model", OPT_LIST, "FILE", "this model; repeatable", NULL, NULL, NULL, 'm'},
	{"cpp-backend", OPT_LIST, "NAME", "C++ reference; repeatable; default bitnet", NULL, NULL,
	 NULL, 0},
	{"reference", OPT_LIST, "NAME", "any engine as reference instead: oracle, recorded:FILE, …",
	 NULL, NULL, NULL, 0},
	{"engine", OPT_STR, "NAME", "engine under test", "native", NULL, NULL, 0},
	{"repo", OPT_STR, "URL|DIR", "clone the reference from here", NULL, NULL, NULL, 0},
	{"scenarios", OPT_STR, "FILE", "of the sweep, default the three of old", NULL, NULL, NULL,
	 's'},
	{"cases", OPT_STR, "LIST", "of the bench", "prefill-512,decode-128,load", NULL, NULL, 0},
	{"reps", OPT_INT, "N", "of each case", "20", NULL, NULL, 'r'},
	{"threads", OPT_INT, "N", "of the bench; 0 = all", "0", NULL, NULL, 't'},
	{"max-slowdown", OPT_REAL, "PERCENT", "what is still no regression", "10", NULL, NULL, 0},
	{"baseline", OPT_STR, "FILE", "instead of the newest published one (one --model only)",
	 NULL, NULL, NULL, 0},
	{"out", OPT_STR, "DIR", "nights under way: logs, journals, receipts", "out/nightly", NULL,
	 NULL, 'o'},
	{"publish", OPT_STR, "DIR", "default docs/baselines/DATE-COMMIT", NULL, NULL, NULL, 0},
	{"date", OPT_STR, "YYYY-MM-DD", "in the name of the published folder; default today (UTC)",
	 NULL, NULL, NULL, 0},
	{"resume", OPT_FLAG, NULL, "go on with an interrupted night (this is the default)", NULL,
	 NULL, NULL, 0},
	{"fresh", OPT_FLAG, NULL, "start anew even when one was interrupted", NULL, NULL, NULL, 0},
	{"format", OPT_STR, "FORM", "form of the result", "text", NULL, "text|json", 0},
	{0},
};

struct model {
	char label[LABEL_MAX], path[STORE_PATH_MAX];
	bool only_bitnet;	/* I2_S weights: no other C++ engine reads them */
};

struct night {
	struct cli *c;
	struct nightly_steps steps;
	struct model models[MODELS_MAX];
	int n_models;
	char date[16], commit[32];
	char dir[NIGHTLY_PATH_MAX];	/* to publish into */
	char history[NIGHTLY_PATH_MAX];	/* its parent */
	char published[NIGHTLY_PATH_MAX];
	bool already;
};

/* ---- arguments of steps ------------------------------------------------------------------- */

struct args {
	const char *v[NIGHTLY_ARGS_MAX + 1];
	int n;
};

static void put(struct args *a, const char *v)
{
	assert(a->n < NIGHTLY_ARGS_MAX);
	a->v[a->n++] = v;
	a->v[a->n] = NULL;
}

static void put2(struct args *a, const char *k, const char *v)
{
	if (!v)
		return;
	put(a, k);
	put(a, v);
}

static void put_int(struct args *a, const char *k, struct cli *c, const char *name, char text[32])
{
	snprintf(text, 32, "%lld", (long long)cli_int(c, name));
	put2(a, k, text);
}

static int backends(struct night *g, const char *const **names)
{
	static const char *const bitnet[] = {"bitnet"};
	const char *const *references;
	int n = cli_list(g->c, "cpp-backend", names);

	if (n == 0 && cli_list(g->c, "reference", &references) == 0) {
		*names = bitnet;
		n = 1;
	}
	return n;
}

/* Of the C++ references those that can read the model. */
static int backends_for(struct night *g, const struct model *m, const char **names)
{
	const char *const *all;
	int n_all = backends(g, &all), n = 0;

	for (int i = 0; i < n_all && n < NIGHTLY_ARGS_MAX / 8; i++)
		if (!m->only_bitnet || strncmp(all[i], "bitnet", 6) == 0)
			names[n++] = all[i];
	return n;
}

/* ---- provision ---------------------------------------------------------------------------- */

static void label_of(char out[LABEL_MAX], const char *path)
{
	const char *base = strrchr(path, '/');
	char *dot;

	snprintf(out, LABEL_MAX, "%.60s", base ? base + 1 : path);
	dot = strrchr(out, '.');
	if (dot && dot != out)
		*dot = '\0';
	for (char *p = out; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.",
			    *p))
			*p = '_';
}

static bool has_i2_s(const char *path)
{
	struct gguf g = {0};
	bool found = false;

	if (gguf_open(&g, path, NULL) < 0)
		return false;
	for (uint64_t i = 0; i < g.n_tensors; i++)
		found = found || g.tensors[i].type == TYPE_I2_S;
	gguf_close(&g);
	return found;
}

static int add_model(struct night *g, const char *label, const char *path, struct err *e)
{
	struct model *m = &g->models[g->n_models];

	if (g->n_models == MODELS_MAX)
		return err_set(e, EXIT_USAGE, "more than %d models", MODELS_MAX);
	snprintf(m->label, sizeof(m->label), "%.63s", label);
	snprintf(m->path, sizeof(m->path), "%s", path);
	for (int i = 0; i < g->n_models; i++)
		if (strcmp(g->models[i].label, m->label) == 0)
			return err_set(e, EXIT_USAGE, "two models are called \"%s\"", m->label);
	m->only_bitnet = has_i2_s(path);
	g->n_models++;
	return 0;
}

static int given_models(struct night *g, struct err *e)
{
	const char *const *paths;
	int n = cli_list(g->c, "model", &paths), r = 0;

	for (int i = 0; i < n && r == 0; i++) {
		char label[LABEL_MAX];

		label_of(label, paths[i]);
		r = access(paths[i], R_OK) == 0 ? add_model(g, label, paths[i], e) :
		    err_set(e, EXIT_MODEL_LOAD, "--model %s: %s", paths[i], strerror(errno));
	}
	return r;
}

/* The GGUF files of the tier that are in the cache now. */
static int tier_models(struct night *g, struct err *e)
{
	struct models_lock lock = {0};
	int r = models_lock_open(&lock, NULL, e);

	for (int i = 0; r == 0 && i < lock.n; i++) {
		const struct lock_model *m = &lock.models[i];
		const char *dot = strrchr(m->file, '.');
		char path[STORE_PATH_MAX];

		if (strcmp(m->tier, cli_str(g->c, "tier")) == 0 && dot &&
		    strcmp(dot, ".gguf") == 0 && store_find(m->id, path, e) == 0)
			r = add_model(g, m->id, path, e);
	}
	models_lock_free(&lock);
	return r;
}

static int provision(struct night *g, bool *ready, struct err *e)
{
	const char *const *names;
	int n = backends(g, &names), r = 0;
	struct nightly_step *t;

	*ready = true;
	if (cli_list(g->c, "model", &(const char *const *){NULL}) == 0) {
		struct args a = {.n = 0};

		put(&a, "fetch-models");
		put2(&a, "--tier", cli_str(g->c, "tier"));
		r = nightly_step_run(&g->steps, NIGHTLY_PROVISION, "models", a.v, NULL, &t, e);
		*ready = r == 0 && t->exit == 0;
		if (*ready)
			r = tier_models(g, e);
	}
	for (int i = 0; i < n && r == 0; i++) {
		struct args a = {.n = 0};

		put(&a, "fetch-cpp");
		put(&a, names[i]);
		put2(&a, "--repo", cli_str(g->c, "repo"));
		r = nightly_step_run(&g->steps, NIGHTLY_PROVISION, names[i], a.v, NULL, &t, e);
		*ready = *ready && r == 0 && t->exit == 0;
	}
	if (g->steps.n == 0)
		nightly_step_note(
			&g->steps, NIGHTLY_PROVISION, "", NIGHTLY_NOTED,
			"nothing to provide: models were given, the reference is built in");
	return r;
}

/* ---- one model ---------------------------------------------------------------------------- */

static int run_sweep(struct night *g, const struct model *m, const char *dir, bool *compared,
		     bool *diverged, struct err *e)
{
	const char *const *references, *cpp[NIGHTLY_ARGS_MAX / 8];
	int n_cpp = backends_for(g, m, cpp), n = cli_list(g->c, "reference", &references), r;
	struct args a = {.n = 0};
	struct nightly_step *t;
	char out[NIGHTLY_PATH_MAX];

	snprintf(out, sizeof(out), "%.1900s/sweep", dir);
	put(&a, "sweep");
	put2(&a, "--model", m->path);
	put2(&a, "--engine", cli_str(g->c, "engine"));
	put2(&a, "--backend", n_cpp ? "both" : NULL);
	for (int i = 0; i < n_cpp; i++)
		put2(&a, "--cpp-backend", cpp[i]);
	for (int i = 0; i < n; i++)
		put2(&a, "--reference", references[i]);
	if (n_cpp + n == 0)
		put2(&a, "--reference", "oracle");
	put2(&a, "--scenarios", cli_str(g->c, "scenarios"));
	put2(&a, "--out", out);
	put(&a, "--resume");
	r = nightly_step_run(&g->steps, NIGHTLY_SWEEP, m->label, a.v, NULL, &t, e);
	*diverged = r == 0 && t->exit == EXIT_DIVERGED;
	if (r == 0 && n_cpp + n == 0 && t->state == NIGHTLY_PASSED)
		snprintf(t->note, sizeof(t->note),
			 "I2_S weights: no reference of this night reads them; against the oracle");
	*compared = r == 0 &&
		    (t->exit == 0 || t->exit == EXIT_DIVERGED || t->exit == EXIT_TOKENS_DIFFER);
	return r;
}

/* "1,2,3" of the ids both sides saw, as the run kept them. False when there are too many. */
static bool read_ids(const char *dir, const char *id, char *out, size_t size)
{
	char path[NIGHTLY_PATH_MAX + 512];
	const json_t *v;
	json_t *tokens;
	size_t at = 0, i;

	snprintf(path, sizeof(path), "%s/sweep/%s/tokens.json", dir, id);
	tokens = json_load_file(path, 0, NULL);
	json_array_foreach(json_object_get(json_object_get(tokens, "ours"), "prompt"), i, v) {
		if (at + 16 > size)
			break;
		at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? "," : "",
				       (long long)json_integer_value(v));
	}
	json_decref(tokens);
	return at > 0 && at + 16 <= size;
}

static int explain_one(struct night *g, const struct model *m, const char *dir, const json_t *row,
		       struct err *e)
{
	const char *id = json_string_value(json_object_get(row, "id"));
	char ids[6000], out[NIGHTLY_PATH_MAX + 512], what[160];
	struct nightly_step *t;
	struct args a = {.n = 0};
	int r;

	snprintf(what, sizeof(what), "%.40s %.38s", m->label, id);
	if (!read_ids(dir, id, ids, sizeof(ids))) {
		nightly_step_note(&g->steps, NIGHTLY_EXPLAIN, what, NIGHTLY_NOT_RUN,
				  "its ids are not there, or too many for a command line");
		return 0;
	}
	put(&a, "explain");
	put2(&a, "--model", m->path);
	put2(&a, "--engine", cli_str(g->c, "engine"));
	put2(&a, "--reference", json_string_value(json_object_get(row, "reference")));
	put2(&a, "--tokens", ids);
	snprintf(out, sizeof(out), "%s/sweep/%s/explain.txt", dir, id);
	r = nightly_step_run(&g->steps, NIGHTLY_EXPLAIN, what, a.v, out, &t, e);
	if (r == 0) /* it answered: which operation, or that none is wrong */
		t->state = t->exit <= EXIT_TOKENS_DIFFER ? NIGHTLY_PASSED : NIGHTLY_NOTED;
	return r;
}

/* Every comparison that diverged. Telling why is no pass of the sweep, and no failure. */
static int run_explain(struct night *g, const struct model *m, const char *dir, struct err *e)
{
	char path[NIGHTLY_PATH_MAX + 64];
	json_t *summary;
	const json_t *row;
	size_t i;
	int r = 0, n = 0;

	snprintf(path, sizeof(path), "%s/sweep/summary.json", dir);
	summary = json_load_file(path, 0, NULL);
	json_array_foreach(json_object_get(summary, "scenarios"), i, row) {
		if (r < 0 || json_integer_value(json_object_get(row, "exit_code")) != EXIT_DIVERGED)
			continue;
		if (n++ < EXPLAINED_MAX)
			r = explain_one(g, m, dir, row, e);
	}
	if (r == 0 && n > EXPLAINED_MAX)
		nightly_step_note(&g->steps, NIGHTLY_EXPLAIN, m->label, NIGHTLY_NOT_RUN,
				  "more diverged; these few are explained");
	json_decref(summary);
	return r;
}

static int run_bench(struct night *g, const struct model *m, const char *dir, bool *measured,
		     struct err *e)
{
	const char *cpp[NIGHTLY_ARGS_MAX / 8];
	int n = backends_for(g, m, cpp), r;
	char out[NIGHTLY_PATH_MAX], reps[32], threads[32];
	struct args a = {.n = 0};
	struct nightly_step *t;

	snprintf(out, sizeof(out), "%.1900s/bench", dir);
	put(&a, "bench");
	put2(&a, "--model", m->path);
	put2(&a, "--engine", cli_str(g->c, "engine"));
	for (int i = 0; i < n; i++)
		put2(&a, "--against", cpp[i]);
	put2(&a, "--cases", cli_str(g->c, "cases"));
	put_int(&a, "--reps", g->c, "reps", reps);
	put_int(&a, "--threads", g->c, "threads", threads);
	put2(&a, "--out", out);
	r = nightly_step_run(&g->steps, NIGHTLY_BENCH, m->label, a.v, NULL, &t, e);
	*measured = r == 0 && t->exit == 0;
	return r;
}

static int newest_first(const struct dirent **a, const struct dirent **b)
{
	return -strverscmp((*a)->d_name, (*b)->d_name);
}

static int check_one(struct night *g, const struct model *m, const char *dir, const char *baseline,
		     struct nightly_step **t, struct err *e)
{
	char bench[NIGHTLY_PATH_MAX + 64], perf[NIGHTLY_PATH_MAX + 64], limit[32];
	struct args a = {.n = 0};

	snprintf(bench, sizeof(bench), "%s/bench/bench.json", dir);
	snprintf(perf, sizeof(perf), "%s/perf.json", dir);
	snprintf(limit, sizeof(limit), "%g", cli_real(g->c, "max-slowdown"));
	put(&a, "check-perf");
	put2(&a, "--baseline", baseline);
	put2(&a, "--max-slowdown", limit);
	put2(&a, "--format", "json");
	put(&a, bench);
	return nightly_step_run(&g->steps, NIGHTLY_BASELINES, m->label, a.v, perf, t, e);
}

/* Tries published baselines of this model, newest first, until one is of this kind of host. */
static int check_published(struct night *g, const struct model *m, const char *dir,
			   struct nightly_step **t, struct err *e)
{
	struct dirent **names;
	int n = scandir(g->history, &names, NULL, newest_first), r = 0, tried = 0;

	*t = NULL;
	for (int i = 0; i < n; i++) {
		char path[NIGHTLY_PATH_MAX + 512];

		snprintf(path, sizeof(path), "%s/%s/%s/baseline.json", g->history, names[i]->d_name,
			 m->label);
		if (r == 0 && tried < BASELINES_TRIED && names[i]->d_name[0] != '.' &&
		    !strstr(names[i]->d_name, ".partial") &&
		    (!*t || (*t)->exit == EXIT_NOTHING_RAN) && access(path, R_OK) == 0) {
			if (*t)
				g->steps.n--; /* of another kind of host: the older one's answer counts */
			r = check_one(g, m, dir, path, t, e);
			tried++;
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return r;
}

static int check_baseline(struct night *g, const struct model *m, const char *dir,
			  struct nightly_step **t, struct err *e)
{
	const char *given = cli_str(g->c, "baseline");

	*t = NULL;
	return given ? check_one(g, m, dir, given, t, e) : check_published(g, m, dir, t, e);
}

static int run_gate(struct night *g, const struct model *m, const char *dir, bool *passed,
		    struct err *e)
{
	const char *args[] = {"gate", dir, NULL};
	struct nightly_step *t;
	int r = nightly_step_run(&g->steps, NIGHTLY_GATE, m->label, args, NULL, &t, e);

	*passed = r == 0 && t->exit == 0;
	return r;
}

static int run_baselines(struct night *g, const struct model *m, const char *dir, struct err *e)
{
	const char *given = cli_str(g->c, "baseline");
	char from[NIGHTLY_PATH_MAX + 64], to[NIGHTLY_PATH_MAX + 64];
	struct nightly_step *t = NULL;
	struct args a = {.n = 0};
	int r = check_baseline(g, m, dir, &t, e);

	/* a process can have a bad place in memory, or a bad neighbour: what is slow is slow again */
	if (r == 0 && t && t->exit == EXIT_REGRESSION) {
		bool measured;

		t->state = NIGHTLY_NOTED;
		snprintf(t->note, sizeof(t->note), "slower; measured again in new processes");
		r = run_bench(g, m, dir, &measured, e);
		if (r == 0 && measured)
			r = run_gate(g, m, dir, &measured, e);
		if (r < 0 || !measured)
			return r;
		r = check_baseline(g, m, dir, &t, e);
	}
	if (r < 0)
		return r;
	if (!t) {
		t = nightly_step_note(&g->steps, NIGHTLY_BASELINES, m->label, NIGHTLY_NOTED,
				      "no baseline yet: this night's becomes the first");
	} else if (t->exit == EXIT_NOTHING_RAN && !given) {
		t->state = NIGHTLY_NOTED;
		snprintf(t->note, sizeof(t->note),
			 "not comparable: no baseline of this kind of host");
	} else if (t->exit == EXIT_REGRESSION) {
		snprintf(t->note, sizeof(t->note), "slower; this night makes no baseline");
		return 0;	/* the next night is held against the old one too */
	}
	snprintf(from, sizeof(from), "%s/bench", dir);
	snprintf(to, sizeof(to), "%s/baseline.json", dir);
	put(&a, "gen-baselines");
	put2(&a, "--from", from);
	put2(&a, "--out", to);
	return nightly_step_run(&g->steps, NIGHTLY_BASELINES, "new", a.v, NULL, &t, e);
}

static int run_model(struct night *g, const struct model *m, struct err *e)
{
	char dir[NIGHTLY_PATH_MAX];
	bool compared = false, diverged = false, measured = false;
	int r;

	snprintf(dir, sizeof(dir), "%.1900s/%s", g->steps.run, m->label);
	r = paths_mkdir(dir, e);
	if (r == 0)
		r = run_sweep(g, m, dir, &compared, &diverged, e);
	if (r == 0 && diverged)
		r = run_explain(g, m, dir, e);
	if (r == 0)
		r = run_bench(g, m, dir, &measured, e);
	if (r == 0 && (compared || measured)) {
		bool passed = false;

		r = run_gate(g, m, dir, &passed, e);
		measured = measured && passed;
	}
	if (r == 0 && measured)
		r = run_baselines(g, m, dir, e);
	else if (r == 0)
		nightly_step_note(&g->steps, NIGHTLY_BASELINES, m->label, NIGHTLY_NOT_RUN,
				  "nothing measured that passes the gates");
	return r;
}

/* ---- publish ------------------------------------------------------------------------------ */

static int publish(struct night *g, json_t **record, struct err *e)
{
	const char *labels[MODELS_MAX];
	struct nightly_facts f = {.date = g->date,
				  .commit = g->commit,
				  .version = ASSAY_VERSION,
				  .build = version_build_id(),
				  .labels = labels,
				  .n_models = g->n_models};
	char index[NIGHTLY_PATH_MAX + 16];
	struct nightly_step *t;
	struct err why = ERR_NONE;
	struct args a = {.n = 0};

	for (int i = 0; i < g->n_models; i++)
		labels[i] = g->models[i].label;
	*record = nightly_record(&g->steps, &f);
	if (nightly_publish(&g->steps, *record, g->dir, g->published, &g->already, &why) < 0) {
		t = nightly_step_note(&g->steps, NIGHTLY_PUBLISH, "", NIGHTLY_FAILED, "");
		t->exit = why.code;
		snprintf(t->note, sizeof(t->note), "%.250s", why.msg);
		return 0;
	}
	t = nightly_step_note(&g->steps, NIGHTLY_PUBLISH, "", NIGHTLY_PASSED, "");
	snprintf(t->note, sizeof(t->note), "%s%.220s", g->already ? "the same result lies in " : "",
		 g->published);
	t->exit = 0;
	snprintf(index, sizeof(index), "%s/index.html", g->history);
	put(&a, "report");
	put2(&a, "--history", g->history);
	put2(&a, "--out", index);
	return nightly_step_run(&g->steps, NIGHTLY_PUBLISH, "trend page", a.v, NULL, &t, e);
}

/* ---- the night ---------------------------------------------------------------------------- */

static void find_commit(char out[32])
{
	const char *argv[] = {"git", "rev-parse", "--short=12", "HEAD", NULL};
	struct process_result done = {.status = -1};
	char *text = NULL;

	if (process_capture(argv, &text, &done, NULL) == 0 && done.status == 0 &&
	    strlen(text) >= 12)
		snprintf(out, 32, "%.12s", text);
	else
		snprintf(out, 32, "%.12s", version_build_id());
	free(text);
}

static int find_places(struct night *g, struct err *e)
{
	const char *publish_to = cli_str(g->c, "publish"), *date = cli_str(g->c, "date");
	char now[32], *slash;

	facts_time(now);
	snprintf(g->date, sizeof(g->date), "%.10s", date ? date : now);
	if (strlen(g->date) != 10 || g->date[4] != '-' || g->date[7] != '-')
		return err_set(e, EXIT_USAGE, "--date %s: expected YYYY-MM-DD", date);
	find_commit(g->commit);
	if (publish_to)
		snprintf(g->dir, sizeof(g->dir), "%.1900s", publish_to);
	else
		snprintf(g->dir, sizeof(g->dir), "docs/baselines/%s-%s", g->date, g->commit);
	while (*g->dir && g->dir[strlen(g->dir) - 1] == '/')
		g->dir[strlen(g->dir) - 1] = '\0';
	snprintf(g->history, sizeof(g->history), "%s", g->dir);
	slash = strrchr(g->history, '/');
	if (slash == g->history || !*g->history)
		return err_set(e, EXIT_USAGE, "--publish: expected a folder below another one");
	if (slash)
		*slash = '\0';
	else
		snprintf(g->history, sizeof(g->history), ".");
	return paths_mkdir(g->history, e);
}

/* Everything that makes two nights the same night. */
static void night_key(struct night *g, char key[65])
{
	static const char *const names[] = {"tier",  "engine",   "repo",    "scenarios",
					    "cases", "baseline", "publish", NULL};
	static const char *const lists[] = {"model", "cpp-backend", "reference", NULL};
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert(f);
	fprintf(f, "%s\n%s\n%lld\n%lld\n%g\n", version_build_id(), g->commit,
		(long long)cli_int(g->c, "reps"), (long long)cli_int(g->c, "threads"),
		cli_real(g->c, "max-slowdown"));
	for (int i = 0; names[i]; i++)
		fprintf(f, "%s\n", cli_str(g->c, names[i]) ? cli_str(g->c, names[i]) : "");
	for (int i = 0; lists[i]; i++) {
		const char *const *v;
		int m = cli_list(g->c, lists[i], &v);

		for (int k = 0; k < m; k++) {
			struct stat st = {0};

			(void)stat(v[k], &st);
			fprintf(f, "%s=%s %lld %lld\n", lists[i], v[k], (long long)st.st_size,
				(long long)st.st_mtime);
		}
	}
	fclose(f);
	facts_hex(text, n, key);
	free(text);
}

/* The folder of an interrupted night like this one, or a new one's name. */
static void choose_run(struct night *g, const char *out, const char *key,
		       char run[NIGHTLY_PATH_MAX])
{
	struct dirent **names;
	int n = cli_flag(g->c, "fresh") ? -1 : scandir(out, &names, NULL, newest_first), number = 1;
	bool found = false;
	char now[32], *to = now;

	for (int i = 0; i < n; i++) {
		if (!found && names[i]->d_name[0] != '.') {
			snprintf(run, NIGHTLY_PATH_MAX, "%.1700s/%s", out, names[i]->d_name);
			found = nightly_steps_unfinished(run, key);
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	if (found) {
		term_note("going on with the night in %s", run);
		return;
	}
	facts_time(now);
	for (const char *p = now; *p; p++)
		if (*p != ':')
			*to++ = *p;
	*to = '\0';
	snprintf(run, NIGHTLY_PATH_MAX, "%.1700s/%s", out, now);
	while (paths_exists(run))
		snprintf(run, NIGHTLY_PATH_MAX, "%.1700s/%s.%d", out, now, ++number);
}

static void print_text(const struct night *g, enum nightly_part part, int exit)
{
	for (int i = 0; i < g->steps.n; i++) {
		const struct nightly_step *t = &g->steps.steps[i];

		printf("%-9s %-28s %8.1f s  %s%s\n", nightly_state_name(t->state), t->name,
		       (double)t->ms / 1000, t->note,
		       t->resumed && !strstr(t->note, "journal") ? " (from the journal)" : "");
		if (t->state == NIGHTLY_FAILED && *t->log)
			printf("          exit %d %s, log: %s\n", t->exit, err_code_name(t->exit),
			       t->log);
	}
	if (part == NIGHTLY_PARTS)
		printf("all parts passed; published: %s%s\n", g->published,
		       g->already ? " (the same result lay there already)" : "");
	else
		printf("%s failed: exit %d %s; published: %s\n", nightly_part_name(part), exit,
		       err_code_name(exit), *g->published ? g->published : "nothing");
}

/* The record as published and what came after it. */
static void print_json(const struct night *g, json_t *record, enum nightly_part part, int exit)
{
	char *text;

	json_object_del(record, "content_sha256");
	canonical_set(record, "steps", nightly_steps_json(&g->steps));
	canonical_set(record, "exit_code", json_integer(exit));
	canonical_set(record, "exit_name", json_string(err_code_name(exit)));
	canonical_set(record, "failed_part", part == NIGHTLY_PARTS ? json_null() :
		      json_string(nightly_part_name(part)));
	canonical_set(record, "published", canonical_text(g->published));
	canonical_set(record, "already_published", json_boolean(g->already));
	canonical_set(record, "run", canonical_text(g->steps.run));
	text = canonical_indented(record);
	fputs(text, stdout);
	free(text);
}

static int all_parts(struct night *g, json_t **record, struct err *e)
{
	bool ready = false;
	int r = provision(g, &ready, e);

	for (int i = 0; i < g->n_models && r == 0 && ready; i++)
		r = run_model(g, &g->models[i], e);
	if (r == 0 && (!ready || g->n_models == 0))
		nightly_step_note(
			&g->steps, NIGHTLY_SWEEP, "", ready ? NIGHTLY_FAILED : NIGHTLY_NOT_RUN,
			ready ? "there is no model" : "what it needs could not be provided")
			->exit = ready ? EXIT_NOTHING_RAN : -1;
	return r == 0 ? publish(g, record, e) : r;
}

static int run_locked(struct night *g, struct err *e)
{
	char run_dir[NIGHTLY_PATH_MAX], key[65];
	json_t *record = NULL;
	enum nightly_part part;
	int exit = 0, r;

	night_key(g, key);
	choose_run(g, cli_str(g->c, "out"), key, run_dir);
	r = nightly_steps_open(&g->steps, run_dir, key, version_build_id(), e);
	if (r == 0)
		r = all_parts(g, &record, e);
	part = nightly_failed_part(&g->steps, &exit);
	if (r == 0)
		r = nightly_steps_end(&g->steps, exit, e);
	if (r == 0 && cli_json(g->c))
		print_json(g, record, part, exit);
	else if (r == 0)
		print_text(g, part, exit);
	json_decref(record);
	return r < 0 ? r : exit;
}

static int run(struct cli *c, struct err *e)
{
	struct night *g = calloc(1, sizeof(*g));
	char path[NIGHTLY_PATH_MAX];
	int fd = -1, r;

	assert(g);
	g->c = c;
	r = given_models(g, e);
	if (r == 0 && cli_str(c, "baseline") && g->n_models != 1)
		r = err_set(e, EXIT_USAGE, "--baseline goes with exactly one --model");
	if (r == 0)
		r = find_places(g, e);
	if (r == 0)
		r = paths_mkdir(cli_str(c, "out"), e);
	snprintf(path, sizeof(path), "%.2000s/.lock", cli_str(c, "out"));
	if (r == 0) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
			r = err_set(e, EXIT_USAGE, "%s: another night is under way there",
				    cli_str(c, "out"));
	}
	if (r == 0)
		r = run_locked(g, e);
	if (fd >= 0)
		close(fd);
	nightly_steps_free(&g->steps);
	free(g);
	return r;
}

const struct command cmd_nightly = {
	.name = "nightly",
	.group = "Reporting",
	.summary = "provision, sweep, explain, bench, gate, check baselines, publish: one night",
	.examples = "assay nightly\n"
		    "assay nightly --tier ci-light --reference oracle --publish out/nights/today\n"
		    "assay nightly --model m.gguf --cpp-backend llama --format json\n",
	.opts = opts,
	.run = run,
	.details =
		"Each step is a run of this program with a log of its own below --out. An interrupted\n"
		"night goes on where it was; one that ended starts anew. The same result is not\n"
		"published twice for a day and commit.\n"
		"\n"
		"The exit code is that of the first part that failed, in this order: provision\n"
		"(3, 5, 10-15, 18), sweep (1 diverged, 2 tokens differ, 6, 7), bench (16, …), gate\n"
		"(20), baselines (17 slower), publish (18, 70). JSON names it in failed_part.\n",
};
