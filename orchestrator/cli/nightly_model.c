#include "nightly.h"

#include "provision/paths.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* MORE_MAX: how often a night measures on while its speed is undecided. */
enum { BASELINES_TRIED = 20, EXPLAINED_MAX = 8, MORE_MAX = 4 };

/* ---- accuracy ----------------------------------------------------------------------------- */

static int run_sweep(struct night *g, const struct night_model *m, const char *dir, bool *compared,
		     bool *diverged, struct err *e)
{
	const char *const *references, *cpp[NIGHT_BACKENDS_MAX];
	int n_cpp = night_backends_for(g, m, cpp), n = cli_list(g->c, "reference", &references), r;
	struct night_args a = {.n = 0};
	struct nightly_step *t;
	char out[NIGHTLY_PATH_MAX];

	snprintf(out, sizeof(out), "%.1900s/sweep", dir);
	night_put(&a, "sweep");
	night_put2(&a, "--model", m->path);
	night_put2(&a, "--engine", cli_str(g->c, "engine"));
	night_put2(&a, "--backend", n_cpp ? "both" : NULL);
	for (int i = 0; i < n_cpp; i++)
		night_put2(&a, "--cpp-backend", cpp[i]);
	for (int i = 0; i < n; i++)
		night_put2(&a, "--reference", references[i]);
	if (n_cpp + n == 0)
		night_put2(&a, "--reference", "oracle");
	night_put2(&a, "--scenarios", cli_str(g->c, "scenarios"));
	night_put2(&a, "--out", out);
	night_put(&a, "--resume");
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

static int explain_one(struct night *g, const struct night_model *m, const char *dir,
		       const json_t *row, struct err *e)
{
	const char *id = json_string_value(json_object_get(row, "id"));
	char ids[6000], out[NIGHTLY_PATH_MAX + 512], what[160];
	struct nightly_step *t;
	struct night_args a = {.n = 0};
	int r;

	snprintf(what, sizeof(what), "%.40s %.38s", m->label, id);
	if (!read_ids(dir, id, ids, sizeof(ids))) {
		nightly_step_note(&g->steps, NIGHTLY_EXPLAIN, what, NIGHTLY_NOT_RUN,
				  "its ids are not there, or too many for a command line");
		return 0;
	}
	night_put(&a, "explain");
	night_put2(&a, "--model", m->path);
	night_put2(&a, "--engine", cli_str(g->c, "engine"));
	night_put2(&a, "--reference", json_string_value(json_object_get(row, "reference")));
	night_put2(&a, "--tokens", ids);
	snprintf(out, sizeof(out), "%s/sweep/%s/explain.txt", dir, id);
	r = nightly_step_run(&g->steps, NIGHTLY_EXPLAIN, what, a.v, out, &t, e);
	if (r == 0) /* it answered: which operation, or that none is wrong */
		t->state = t->exit <= EXIT_TOKENS_DIFFER ? NIGHTLY_PASSED : NIGHTLY_NOTED;
	return r;
}

/* Every comparison that diverged. Telling why is no pass of the sweep, and no failure. */
static int run_explain(struct night *g, const struct night_model *m, const char *dir, struct err *e)
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

/* ---- speed -------------------------------------------------------------------------------- */

static void put_int(struct night_args *a, const char *k, struct cli *c, const char *name,
		    char text[32])
{
	snprintf(text, 32, "%lld", (long long)cli_int(c, name));
	night_put2(a, k, text);
}

/* The receipts of a night: bench, and what was measured after it; more: 0 … MORE_MAX. */
static void bench_dir(char out[NIGHTLY_PATH_MAX], const char *dir, int more)
{
	if (more)
		snprintf(out, NIGHTLY_PATH_MAX, "%.1900s/bench/more%d", dir, more);
	else
		snprintf(out, NIGHTLY_PATH_MAX, "%.1900s/bench", dir);
}

static int run_bench(struct night *g, const struct night_model *m, const char *dir, int more,
		     bool *measured, struct err *e)
{
	const char *cpp[NIGHT_BACKENDS_MAX];
	int n = night_backends_for(g, m, cpp), r;
	char out[NIGHTLY_PATH_MAX], reps[32], threads[32], sessions[32];
	long long shares = (long long)cli_int(g->c, "reps") / 60;
	struct night_args a = {.n = 0};
	struct nightly_step *t;

	bench_dir(out, dir, more);
	night_put(&a, "bench");
	night_put2(&a, "--model", m->path);
	night_put2(&a, "--engine", cli_str(g->c, "engine"));
	for (int i = 0; i < n; i++)
		night_put2(&a, "--against", cpp[i]);
	night_put2(&a, "--cases", cli_str(g->c, "cases"));
	put_int(&a, "--reps", g->c, "reps", reps);
	put_int(&a, "--threads", g->c, "threads", threads);
	/* what differs from process to process is in the interval; of many repetitions many tell it well */
	snprintf(sessions, sizeof(sessions), "%lld", shares < 3 ? 3 : shares > 16 ? 16 : shares);
	night_put2(&a, "--sessions", sessions);
	night_put2(&a, "--out", out);
	r = nightly_step_run(&g->steps, NIGHTLY_BENCH, m->label, a.v, NULL, &t, e);
	*measured = r == 0 && t->exit == 0;
	return r;
}

int night_newest_first(const struct dirent **a, const struct dirent **b)
{
	return -strverscmp((*a)->d_name, (*b)->d_name);
}

static int check_one(struct night *g, const struct night_model *m, const char *dir, int more,
		     const char *baseline, struct nightly_step **t, struct err *e)
{
	char bench[MORE_MAX + 1][NIGHTLY_PATH_MAX], perf[NIGHTLY_PATH_MAX + 64], limit[32];
	struct night_args a = {.n = 0};

	snprintf(perf, sizeof(perf), "%s/perf.json", dir);
	snprintf(limit, sizeof(limit), "%g", cli_real(g->c, "max-slowdown"));
	night_put(&a, "check-perf");
	night_put2(&a, "--baseline", baseline);
	night_put2(&a, "--max-slowdown", limit);
	night_put2(&a, "--format", "json");
	for (int i = 0; i <= more; i++) {
		bench_dir(bench[i], dir, i);
		strncat(bench[i], "/bench.json", sizeof(bench[i]) - strlen(bench[i]) - 1);
		night_put(&a, bench[i]);
	}
	return nightly_step_run(&g->steps, NIGHTLY_BASELINES, m->label, a.v, perf, t, e);
}

/* Whether the last check compared and could not tell. */
static bool is_undecided(const struct nightly_step *t, const char *dir)
{
	char path[NIGHTLY_PATH_MAX + 64];
	json_t *perf;
	bool yes;

	if (!t || t->exit != EXIT_NOTHING_RAN)
		return false;
	snprintf(path, sizeof(path), "%s/perf.json", dir);
	perf = json_load_file(path, 0, NULL);
	yes = json_is_true(json_object_get(perf, "comparable")) &&
	      json_integer_value(json_object_get(perf, "n_undecided")) > 0;
	json_decref(perf);
	return yes;
}

/*
 * Whether a folder of the history was published after this night began (its folder's name): by itself,
 * before it was killed. A night that goes on is held against what it was held against.
 */
static bool is_later(const struct night *g, const char *name)
{
	const char *began = strrchr(g->steps.run, '/');
	char path[NIGHTLY_PATH_MAX + 512], when[32];
	json_t *record;
	const char *p;
	size_t n = 0;

	snprintf(path, sizeof(path), "%s/%s/nightly.json", g->history, name);
	record = json_load_file(path, 0, NULL);
	p = json_string_value(json_object_get(record, "generated"));
	for (; p && *p && n < sizeof(when) - 1; p++)
		if (*p != ':')
			when[n++] = *p;
	when[n] = '\0';
	json_decref(record);
	return n && began && strncmp(when, began + 1, n) > 0;
}

/* Tries published baselines of this model, newest first, until one is of this kind of host. */
static int check_published(struct night *g, const struct night_model *m, const char *dir, int more,
			   struct nightly_step **t, struct err *e)
{
	struct dirent **names;
	int n = scandir(g->history, &names, NULL, night_newest_first), r = 0, tried = 0;

	*t = NULL;
	for (int i = 0; i < n; i++) {
		char path[NIGHTLY_PATH_MAX + 512];

		snprintf(path, sizeof(path), "%s/%s/%s/baseline.json", g->history, names[i]->d_name,
			 m->label);
		if (r == 0 && tried < BASELINES_TRIED && names[i]->d_name[0] != '.' &&
		    !strstr(names[i]->d_name, ".partial") &&
		    (!*t || ((*t)->exit == EXIT_NOTHING_RAN && !is_undecided(*t, dir))) &&
		    access(path, R_OK) == 0 && !is_later(g, names[i]->d_name)) {
			if (*t)
				g->steps.n--; /* of another kind of host: the older one's answer counts */
			r = check_one(g, m, dir, more, path, t, e);
			tried++;
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return r;
}

static int check_baseline(struct night *g, const struct night_model *m, const char *dir, int more,
			  struct nightly_step **t, struct err *e)
{
	const char *given = cli_str(g->c, "baseline");

	*t = NULL;
	return given ? check_one(g, m, dir, more, given, t, e)
		     : check_published(g, m, dir, more, t, e);
}

static int run_gate(struct night *g, const struct night_model *m, const char *dir, bool *passed,
		    struct err *e)
{
	const char *args[] = {"gate", dir, NULL};
	struct nightly_step *t;
	int r = nightly_step_run(&g->steps, NIGHTLY_GATE, m->label, args, NULL, &t, e);

	*passed = r == 0 && t->exit == 0;
	return r;
}

/* New processes: more 0 in place of what was measured, else beside it. */
static int measure_again(struct night *g, const struct night_model *m, const char *dir, int more,
			 struct nightly_step **t, const char *why, bool *measured, struct err *e)
{
	int r;

	(*t)->state = NIGHTLY_NOTED;
	snprintf((*t)->note, sizeof((*t)->note), "%s", why);
	r = run_bench(g, m, dir, more, measured, e);
	if (r == 0 && *measured)
		r = run_gate(g, m, dir, measured, e);
	return r == 0 && *measured ? check_baseline(g, m, dir, more, t, e) : r;
}

static int run_baselines(struct night *g, const struct night_model *m, const char *dir,
			 struct err *e)
{
	const char *given = cli_str(g->c, "baseline");
	char from[NIGHTLY_PATH_MAX + 64], to[NIGHTLY_PATH_MAX + 64];
	struct nightly_step *t = NULL;
	struct night_args a = {.n = 0};
	bool measured = true;
	int r = check_baseline(g, m, dir, 0, &t, e);

	/* a process can have a bad place in memory, or a bad neighbour: what is slow is slow again */
	if (r == 0 && t && t->exit == EXIT_REGRESSION)
		r = measure_again(g, m, dir, 0, &t, "slower; measured again in new processes",
				  &measured, e);
	for (int i = 1; r == 0 && measured && i <= MORE_MAX && is_undecided(t, dir); i++)
		r = measure_again(g, m, dir, i, &t, "undecided; measured on", &measured, e);
	if (r < 0 || !measured)
		return r;
	if (is_undecided(t, dir)) {
		snprintf(t->note, sizeof(t->note),
			 "undecided: slower at times of a slower machine; no baseline is made");
		return 0;
	}
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
	night_put(&a, "gen-baselines");
	night_put2(&a, "--from", from);
	night_put2(&a, "--out", to);
	return nightly_step_run(&g->steps, NIGHTLY_BASELINES, "new", a.v, NULL, &t, e);
}

int night_run_model(struct night *g, const struct night_model *m, struct err *e)
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
		r = run_bench(g, m, dir, 0, &measured, e);
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
