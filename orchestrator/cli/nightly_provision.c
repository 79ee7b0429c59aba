#include "nightly.h"

#include "gguf.h"
#include "provision/models_lock.h"
#include "provision/setup.h"
#include "weight_type.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void night_put(struct night_args *a, const char *v)
{
	assert(a->n < NIGHTLY_ARGS_MAX);
	a->v[a->n++] = v;
	a->v[a->n] = NULL;
}

void night_put2(struct night_args *a, const char *k, const char *v)
{
	if (!v)
		return;
	night_put(a, k);
	night_put(a, v);
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

int night_backends_for(struct night *g, const struct night_model *m,
		       const char *names[NIGHT_BACKENDS_MAX])
{
	const char *const *all;
	int n_all = backends(g, &all), n = 0;

	for (int i = 0; i < n_all && n < NIGHT_BACKENDS_MAX; i++)
		if (!m->only_bitnet || strncmp(all[i], "bitnet", 6) == 0)
			names[n++] = all[i];
	return n;
}

/* ---- what it needs ---------------------------------------------------------------------------- */

static void label_of(char out[NIGHT_LABEL_MAX], const char *path)
{
	const char *base = strrchr(path, '/');
	char *dot;

	snprintf(out, NIGHT_LABEL_MAX, "%.60s", base ? base + 1 : path);
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
	struct night_model *m = &g->models[g->n_models];

	if (g->n_models == NIGHT_MODELS_MAX)
		return err_set(e, EXIT_USAGE, "more than %d models", NIGHT_MODELS_MAX);
	snprintf(m->label, sizeof(m->label), "%.63s", label);
	snprintf(m->path, sizeof(m->path), "%s", path);
	for (int i = 0; i < g->n_models; i++)
		if (strcmp(g->models[i].label, m->label) == 0)
			return err_set(e, EXIT_USAGE, "two models are called \"%s\"", m->label);
	m->only_bitnet = has_i2_s(path);
	g->n_models++;
	return 0;
}

int night_given_models(struct night *g, struct err *e)
{
	const char *const *paths;
	int n = cli_list(g->c, "model", &paths), r = 0;

	for (int i = 0; i < n && r == 0; i++) {
		char label[NIGHT_LABEL_MAX];

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

int night_provision(struct night *g, bool *ready, struct err *e)
{
	const char *const *names;
	const char *const *repos, *repo;
	int n = backends(g, &names), n_repos = cli_list(g->c, "repo", &repos), r = 0;
	struct setup_options o = {.n_backends = 0};
	struct nightly_step *t;

	for (int i = 0; i < n && i < SETUP_BACKENDS_MAX; i++)
		o.backends[o.n_backends++] = names[i];
	*ready = true;
	if (cli_list(g->c, "model", &(const char *const *){NULL}) == 0) {
		struct night_args a = {.n = 0};

		night_put(&a, "fetch-models");
		night_put2(&a, "--tier", cli_str(g->c, "tier"));
		r = nightly_step_run(&g->steps, NIGHTLY_PROVISION, "models", a.v, NULL, &t, e);
		*ready = r == 0 && t->exit == 0;
		if (*ready)
			r = tier_models(g, e);
	}
	for (int i = 0; i < n && r == 0; i++) {
		struct night_args a = {.n = 0};

		night_put(&a, "fetch-cpp");
		night_put(&a, names[i]);
		if ((r = setup_source(&o, "--repo", repos, n_repos, names[i], &repo, e)) < 0)
			break;
		night_put2(&a, "--repo", repo);
		r = nightly_step_run(&g->steps, NIGHTLY_PROVISION, names[i], a.v, NULL, &t, e);
		*ready = *ready && r == 0 && t->exit == 0;
	}
	if (g->steps.n == 0)
		nightly_step_note(
			&g->steps, NIGHTLY_PROVISION, "", NIGHTLY_NOTED,
			"nothing to provide: models were given, the reference is built in");
	return r;
}
