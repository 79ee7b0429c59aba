#include "nightly_steps.h"

#include "provision/paths.h"
#include "provision/process.h"
#include "sweep/facts.h"
#include "term.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const part_names[NIGHTLY_PARTS] = {"provision", "sweep", "explain", "bench",
						      "gate", "baselines", "publish"};

const char *nightly_part_name(enum nightly_part p)
{
	return p < NIGHTLY_PARTS ? part_names[p] : "none";
}

const char *nightly_state_name(enum nightly_state s)
{
	static const char *const names[] = {"passed", "failed", "noted", "not run"};

	return names[s];
}

/* ---- the journal -------------------------------------------------------------------------- */

static json_t *read_journal(const char *run)
{
	char path[NIGHTLY_PATH_MAX + 32], line[8192];
	json_t *lines = json_array();
	FILE *f;

	snprintf(path, sizeof(path), "%s/journal.jsonl", run);
	f = fopen(path, "rbe");
	while (f && fgets(line, sizeof(line), f)) {
		json_t *o = strchr(line, '\n') ? json_loads(line, 0, NULL) : NULL;

		if (!o)
			break;	/* torn by a kill: what is behind it did not happen */
		json_array_append_new(lines, o);
	}
	if (f)
		fclose(f);
	return lines;
}

static int append(const struct nightly_steps *s, json_t *line, struct err *e)
{
	char path[NIGHTLY_PATH_MAX + 32], *text = json_dumps(line, JSON_COMPACT | JSON_SORT_KEYS);
	int fd, r = 0;
	size_t n;

	assert(text);
	n = strlen(text);
	text[n++] = '\n';
	snprintf(path, sizeof(path), "%s/journal.jsonl", s->run);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, text, n) != (ssize_t)n || fsync(fd) < 0)
		r = err_set(e, EXIT_NO_SPACE, "%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	free(text);
	json_decref(line);
	return r;
}

static int rewrite(const struct nightly_steps *s, struct err *e)
{
	char path[NIGHTLY_PATH_MAX + 32], *text = NULL;
	size_t n = 0, i;
	FILE *f = open_memstream(&text, &n);
	const json_t *line;
	int r;

	assert(f);
	json_array_foreach(s->journal, i, line) {
		json_dumpf(line, f, JSON_COMPACT | JSON_SORT_KEYS);
		fputc('\n', f);
	}
	fclose(f);
	snprintf(path, sizeof(path), "%s/journal.jsonl", s->run);
	r = paths_write(path, text, n, e);
	free(text);
	return r;
}

bool nightly_steps_unfinished(const char *run, const char *key)
{
	json_t *lines = read_journal(run);
	size_t n = json_array_size(lines);
	const char *had = json_string_value(json_object_get(json_array_get(lines, 0), "key"));
	bool yes = n > 0 && had && strcmp(had, key) == 0 &&
		   !json_object_get(json_array_get(lines, n - 1), "end");

	json_decref(lines);
	return yes;
}

int nightly_steps_open(struct nightly_steps *s, const char *run, const char *key, const char *build,
		       struct err *e)
{
	char logs[NIGHTLY_PATH_MAX + 8];
	int r = process_self(s->self, sizeof(s->self), e);

	if (r < 0)
		return r;
	snprintf(s->run, sizeof(s->run), "%s", run);
	snprintf(logs, sizeof(logs), "%s/logs", run);
	s->build = build;
	r = paths_mkdir(logs, e);
	if (r < 0)
		return r;
	s->journal = read_journal(run);
	if (json_array_size(s->journal))
		return rewrite(s, e);
	return append(s, json_pack("{s:s}", "key", key), e);
}

/* A result that a second try would not change. */
static bool settled(int exit)
{
	return exit == 0 || exit == EXIT_DIVERGED || exit == EXIT_TOKENS_DIFFER ||
	       exit == EXIT_REGRESSION;
}

static const json_t *find_done(const struct nightly_steps *s, const char *name, const char *key)
{
	const json_t *line, *found = NULL;
	size_t i;

	json_array_foreach(s->journal, i, line) {
		const char *n = json_string_value(json_object_get(line, "step"));
		const char *k = json_string_value(json_object_get(line, "key"));

		if (n && k && strcmp(n, name) == 0 && strcmp(k, key) == 0)
			found = line;
	}
	if (!found || !settled((int)json_integer_value(json_object_get(found, "exit"))))
		return NULL;
	return found;
}

/* ---- one step ----------------------------------------------------------------------------- */

struct output {
	FILE *out;
	struct nightly_step *step;
};

static void on_line(void *ctx, const char *line, bool from_stderr)
{
	struct output *o = ctx;

	if (!from_stderr && o->out)
		fprintf(o->out, "%s\n", line);
	if (strncmp(line, "assay: ", 7) == 0)
		snprintf(o->step->note, sizeof(o->step->note), "%.250s", line + 7);
	term_progress("%s: %.150s", o->step->name, line);
}

static struct nightly_step *add(struct nightly_steps *s, enum nightly_part part, const char *what)
{
	struct nightly_step *t;

	assert(s->n < NIGHTLY_STEPS_MAX);
	t = &s->steps[s->n++];
	*t = (struct nightly_step){.part = part, .exit = -1};
	snprintf(t->name, sizeof(t->name), "%s%s%.80s", part_names[part], *what ? " " : "", what);
	return t;
}

struct nightly_step *nightly_step_note(struct nightly_steps *s, enum nightly_part part,
				       const char *what, enum nightly_state state, const char *why)
{
	struct nightly_step *t = add(s, part, what);

	t->state = state;
	snprintf(t->note, sizeof(t->note), "%s", why);
	return t;
}

static void step_key(const struct nightly_steps *s, const char *const *args, char key[65])
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	assert(f);
	fprintf(f, "%s\n", s->build);
	for (int i = 0; args[i]; i++)
		fprintf(f, "%s\n", args[i]);
	fclose(f);
	facts_hex(text, n, key);
	free(text);
}

static int open_log(struct nightly_steps *s, struct nightly_step *t, const char *const *args,
		    int *fd, struct err *e)
{
	char path[NIGHTLY_PATH_MAX], *p;

	snprintf(path, sizeof(path), "%.1900s/logs/%02d-%s.log", s->run, s->n, t->name);
	for (p = strrchr(path, '/'); *++p;)
		if (*p == ' ')
			*p = '-';
	memcpy(t->log, path, sizeof(path));
	*fd = open(t->log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (*fd < 0)
		return err_set(e, EXIT_NO_SPACE, "%s: %s", t->log, strerror(errno));
	dprintf(*fd, "$ assay");
	for (int i = 0; args[i]; i++)
		dprintf(*fd, " '%s'", args[i]);
	dprintf(*fd, "\n");
	return 0;
}

static int run_child(struct nightly_steps *s, struct nightly_step *t, const char *const *args,
		     const char *out, struct err *e)
{
	const char *argv[NIGHTLY_ARGS_MAX + 2] = {s->self};
	struct output o = {.step = t};
	struct process_options p = {.argv = argv, .line = on_line, .ctx = &o, .die_with_us = true};
	struct process_result done;
	int r;

	for (int i = 0; args[i]; i++) {
		assert(i < NIGHTLY_ARGS_MAX);
		argv[i + 1] = args[i];
	}
	r = open_log(s, t, args, &p.log_fd, e);
	if (r < 0)
		return r;
	if (out) {
		o.out = fopen(out, "wbe");
		if (!o.out)
			r = err_set(e, EXIT_NO_SPACE, "%s: %s", out, strerror(errno));
	}
	if (r == 0)
		r = process_run(&p, &done, e);
	if (o.out && fclose(o.out) != 0 && r == 0)
		r = err_set(e, EXIT_NO_SPACE, "%s: %s", out, strerror(errno));
	close(p.log_fd);
	term_clear();
	if (r < 0)
		return r;
	t->exit = done.signal ? EXIT_INTERNAL : done.status;
	t->ms = done.run_ms;
	if (done.signal)
		snprintf(t->note, sizeof(t->note), "ended with signal %d", done.signal);
	return t->exit == EXIT_INTERRUPTED ? err_set(e, EXIT_INTERRUPTED, "interrupted") : 0;
}

int nightly_step_run(struct nightly_steps *s, enum nightly_part part, const char *what,
		     const char *const *args, const char *out, struct nightly_step **step,
		     struct err *e)
{
	struct nightly_step *t = add(s, part, what);
	const json_t *done;
	char key[65];
	int r = 0;

	*step = t;
	step_key(s, args, key);
	done = s->fresh ? NULL : find_done(s, t->name, key);
	if (done) {
		t->resumed = true;
		t->exit = (int)json_integer_value(json_object_get(done, "exit"));
		t->ms = (long)json_integer_value(json_object_get(done, "ms"));
		snprintf(t->note, sizeof(t->note), "taken from the journal");
	} else {
		s->fresh = true;
		r = run_child(s, t, args, out, e);
		if (r == 0)
			r = append(s, json_pack("{s:s, s:s, s:i, s:I}", "step", t->name, "key", key,
						"exit", t->exit, "ms", (json_int_t)t->ms), e);
	}
	t->state = r == 0 && t->exit == 0 ? NIGHTLY_PASSED : NIGHTLY_FAILED;
	term_note("%s: %s%s%s", t->name, t->exit == 0 ? "done" : err_code_name(t->exit),
		  *t->note ? ": " : "", t->note);
	return r;
}

/* ---- the end ------------------------------------------------------------------------------ */

enum nightly_part nightly_failed_part(const struct nightly_steps *s, int *exit)
{
	enum nightly_part first = NIGHTLY_PARTS;

	*exit = 0;
	for (int i = 0; i < s->n; i++) {
		const struct nightly_step *t = &s->steps[i];

		if (t->state != NIGHTLY_FAILED || t->part >= first)
			continue;
		first = t->part;
		*exit = t->exit > 0 ? t->exit : EXIT_INTERNAL;
	}
	return first;
}

int nightly_steps_end(struct nightly_steps *s, int exit, struct err *e)
{
	return append(s, json_pack("{s:i}", "end", exit), e);
}

void nightly_steps_free(struct nightly_steps *s)
{
	json_decref(s->journal);
	s->journal = NULL;
}
