#include "setup.h"

#include "environment.h"
#include "gguf.h"
#include "models_lock.h"
#include "paths.h"
#include "process.h"
#include "store.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct job {
	const struct setup_options *o;
	struct setup_result *out;
	struct err first;		/* code 0 while all is well */
};

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void note(struct job *j, const char *line)
{
	if (j->o->build.source.note)
		j->o->build.source.note(j->o->build.source.ctx, line);
}

static void failed(struct job *j, const struct err *e)
{
	if (!j->first.code)
		j->first = *e;
}

static void on_line(void *ctx, const char *line, bool from_stderr)
{
	if (from_stderr)
		note(ctx, line);
}

static int count_models(const char *tier, int *have, int *all, struct err *e)
{
	struct models_lock lock = {0};
	char path[STORE_PATH_MAX];
	struct err ignored;
	int r = models_lock_open(&lock, NULL, e);

	*have = *all = 0;
	for (int i = 0; r == 0 && i < lock.n; i++) {
		if (strcmp(lock.models[i].tier, tier) != 0)
			continue;
		++*all;
		*have += store_find(lock.models[i].id, path, &ignored) == 0;
	}
	models_lock_free(&lock);
	return r;
}

/* The command fetch-models knows how; it runs as a child of ours, in its own time. */
static int fetch_models(struct job *j, struct err *e)
{
	char self[4096], last[ERR_MSG_MAX] = "";
	const char *argv[] = {self, "fetch-models", "--tier", j->o->tier, "--no-color", NULL};
	struct process_options p = {.argv = argv, .line = on_line, .ctx = j, .die_with_us = true};
	struct process_result done;
	int r = process_self(self, sizeof(self), e);

	if (r == 0)
		r = process_run(&p, &done, e);
	(void)last;
	if (r < 0)
		return r;
	if (done.status > 0)
		return err_set(e, (enum exit_code)done.status,
			       "fetching the models of tier %s failed; what it said is above",
			       j->o->tier);
	return done.status == 0 ? 0
				: err_set(e, EXIT_INTERNAL, "fetch-models ended with signal %d",
					  done.signal);
}

static void get_models(struct job *j)
{
	struct err e = ERR_NONE;
	int have, all, r = count_models(j->o->tier, &have, &all, &e);

	if (r == 0 && all == 0)
		r = err_set(&e, EXIT_USAGE, "the models lockfile has no tier \"%s\"", j->o->tier);
	if (r == 0 && have < all)
		r = fetch_models(j, &e);
	if (r == 0)
		r = count_models(j->o->tier, &have, &all, &e);
	if (r < 0) {
		snprintf(j->out->models, sizeof(j->out->models), "tier %s: %.900s", j->o->tier,
			 e.msg);
		failed(j, &e);
		return;
	}
	snprintf(j->out->models, sizeof(j->out->models), "tier %s: %d of %d here", j->o->tier, have,
		 all);
}

static bool asked_for(const struct setup_options *o, const char *name, size_t n)
{
	for (int i = 0; i < o->n_backends; i++)
		if (strlen(o->backends[i]) == n && memcmp(o->backends[i], name, n) == 0)
			return true;
	return false;
}

int setup_source(const struct setup_options *o, const char *what, const char *const *values, int n,
		 const char *backend, const char **out, struct err *e)
{
	*out = NULL;
	for (int i = 0; i < n; i++) {
		size_t len = strcspn(values[i], "=");
		bool named = values[i][len] == '=' && asked_for(o, values[i], len);

		if (!named && o->n_backends > 1)
			return err_set(e, EXIT_USAGE,
				       "%s %s: with several backends say whose it is, as in %s %s=%s",
				       what, values[i], what, backend, values[i]);
		if (!named || (strlen(backend) == len && memcmp(backend, values[i], len) == 0))
			*out = named ? values[i] + len + 1 : values[i];
	}
	return 0;
}

static void get_reference(struct job *j, const char *name)
{
	struct reference_build_options o = j->o->build;
	struct reference_build_result *b = calloc(1, sizeof(*b));
	int at = j->out->n_references++;
	struct err e = ERR_NONE;

	assert(b);
	o.name = name;
	snprintf(j->out->references[at].name, sizeof(j->out->references[at].name), "%s", name);
	if (setup_source(j->o, "--repo", j->o->repos, j->o->n_repos, name, &o.source.repo, &e) < 0 ||
	    setup_source(j->o, "--rev", j->o->revs, j->o->n_revs, name, &o.source.rev, &e) < 0 ||
	    reference_build(&o, b, &e) < 0) {
		snprintf(j->out->references[at].line, sizeof(j->out->references[at].line), "%.590s",
			 e.msg);
		if (e.code == EXIT_INTERRUPTED || e.code == EXIT_USAGE || !j->o->allow_cpp_fail)
			failed(j, &e);
	} else {
		j->out->references[at].ready = true;
		j->out->references[at].already = b->already;
		snprintf(j->out->references[at].line, sizeof(j->out->references[at].line),
			 "ready%s, profile %s, right: %.400s", b->already ? " already" : "",
			 b->reference.profile[0] ? b->reference.profile : "none of native's",
			 b->reference.capabilities);
	}
	free(b);
}

static int write_environment(struct job *j, struct err *e)
{
	struct environment *v = calloc(1, sizeof(*v));
	char root[4096], *text = malloc(ENVIRONMENT_TEXT_MAX), *old = NULL;
	struct err ignored;
	int r = paths_cache(root, sizeof(root), e);

	assert(v && text);
	if (r == 0)
		r = paths_mkdir(root, e);
	if (r == 0)
		r = paths_format(j->out->env_file, sizeof(j->out->env_file), e, "%s/env.sh", root);
	if (r == 0)
		r = environment_collect(v, e);
	if (r == 0)
		r = environment_print(v, "sh", text, ENVIRONMENT_TEXT_MAX, e);
	if (r == 0 &&
	    (paths_read(&old, NULL, j->out->env_file, ENVIRONMENT_TEXT_MAX, &ignored) < 0 ||
	     strcmp(old, text) != 0))
		r = paths_write(j->out->env_file, text, strlen(text), e);
	free(old);
	free(text);
	free(v);
	return r;
}

/* How many backends, from the first on, are said to compute this architecture. */
static int known_to(const struct setup_options *o, const struct references_lock *l,
		    const char *path)
{
	struct gguf_str arch = {"", 0};
	struct gguf g = {0};
	struct err ignored;
	int n = 0;

	if (gguf_open(&g, path, &ignored) < 0)
		return 0;
	gguf_string(&g, "general.architecture", &arch);
	for (bool right = true; n < o->n_backends && right; n += right) {
		const struct lock_entry *entry = references_lock_entry(l, o->backends[n]);

		right = false;
		for (int i = 0; entry && i < entry->n_capabilities && !right; i++)
			right = strncmp(entry->capabilities[i], arch.s, arch.n) == 0 &&
				entry->capabilities[i][arch.n] == ':';
	}
	gguf_close(&g);
	return n;
}

int setup_model(const struct setup_options *o, char path[STORE_PATH_MAX], struct err *e)
{
	struct references_lock *l = calloc(1, sizeof(*l));
	struct models_lock models = {0};
	char candidate[STORE_PATH_MAX];
	struct err ignored;
	int best = 0, r = models_lock_open(&models, NULL, e);

	assert(l);
	if (r == 0)
		r = references_lock_load(l, NULL, e);
	for (int i = 0; r == 0 && i < models.n; i++) {
		int n;

		if (strcmp(models.models[i].tier, o->tier) != 0 ||
		    store_find(models.models[i].id, candidate, &ignored) < 0)
			continue;
		n = known_to(o, l, candidate);
		if (n > best) {
			best = n;
			memcpy(path, candidate, sizeof(candidate));
		}
	}
	references_lock_free(l);
	free(l);
	models_lock_free(&models);
	if (r == 0 && best == 0)
		r = err_set(e, EXIT_MODEL_LOAD,
			    "tier %s has no model here that %s is said to compute; name one with "
			    "--model",
			    o->tier, o->backends[0]);
	return r;
}

int setup_run(const struct setup_options *o, struct setup_result *out, struct err *e)
{
	struct job j = {.o = o, .out = out};
	struct err late = ERR_NONE;
	long start = now_ms();

	memset(out, 0, sizeof(*out));
	get_models(&j);
	for (int i = 0; i < o->n_backends && j.first.code != EXIT_INTERRUPTED; i++)
		get_reference(&j, o->backends[i]);
	if (write_environment(&j, &late) < 0)
		failed(&j, &late);
	out->total_ms = now_ms() - start;
	return j.first.code ? err_set(e, (enum exit_code)j.first.code, "%s", j.first.msg) : 0;
}
