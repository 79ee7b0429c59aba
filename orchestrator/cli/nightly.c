#include "nightly.h"

#include "nightly_publish.h"
#include "provision/paths.h"
#include "provision/process.h"
#include "report/canonical.h"
#include "sweep/facts.h"
#include "term.h"
#include "version.h"

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

static const struct opt opts[] = {
	{"tier", OPT_STR, "TIER", "models of this tier where no --model is given", "integration",
	 NULL, "ci-light|integration", 0},
	{"model", OPT_LIST, "FILE", "this model; repeatable", NULL, NULL, NULL, 'm'},
	{"cpp-backend", OPT_LIST, "NAME", "C++ reference; repeatable; default bitnet", NULL, NULL,
	 NULL, 0},
	{"reference", OPT_LIST, "NAME", "any engine as reference instead: oracle, recorded:FILE, …",
	 NULL, NULL, NULL, 0},
	{"engine", OPT_STR, "NAME", "engine under test", "native", NULL, NULL, 0},
	{"repo", OPT_LIST, "[NAME=]URL|DIR", "clone the reference from here", NULL, NULL, NULL, 0},
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

/* ---- publish ------------------------------------------------------------------------------ */

static int publish(struct night *g, json_t **record, struct err *e)
{
	const char *labels[NIGHT_MODELS_MAX];
	struct nightly_facts f = {.date = g->date,
				  .commit = g->commit,
				  .version = ASSAY_VERSION,
				  .build = version_build_id(),
				  .labels = labels,
				  .n_models = g->n_models};
	char index[NIGHTLY_PATH_MAX + 16];
	struct nightly_step *t;
	struct err why = ERR_NONE;
	struct night_args a = {.n = 0};

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
	night_put(&a, "report");
	night_put2(&a, "--history", g->history);
	night_put2(&a, "--out", index);
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
	static const char *const names[] = {"tier",  "engine",   "scenarios", "cases",
					    "baseline", "publish", NULL};
	static const char *const lists[] = {"model", "cpp-backend", "reference", "repo", NULL};
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
	int n = cli_flag(g->c, "fresh") ? -1 : scandir(out, &names, NULL, night_newest_first), number = 1;
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
	int r = night_provision(g, &ready, e);

	for (int i = 0; i < g->n_models && r == 0 && ready; i++)
		r = night_run_model(g, &g->models[i], e);
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
	r = night_given_models(g, e);
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
