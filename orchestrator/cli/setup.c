#include "cli.h"
#include "provision/process.h"
#include "provision/setup.h"
#include "reference_show.h"
#include "term.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SETUP_OPTS                                                                                 \
	{"tier", OPT_STR, "TIER", "models of this tier", "ci-light", NULL, "ci-light|integration", 0}, \
	{"cpp-backend", OPT_LIST, "NAME", "reference to provide; default bitnet", NULL,    \
	 NULL, NULL, 0},                                                                           \
	{"repo", OPT_LIST, "[NAME=]URL|DIR",                                                       \
	 "clone the reference from here (bitnet: or $BITNET_CPP_REPO)", NULL, NULL, NULL, 0},      \
	{"rev", OPT_LIST, "[NAME=]COMMIT",                                                         \
	 "another commit than the pinned one (bitnet: or $BITNET_CPP_REV)", NULL, NULL, NULL, 0},  \
	{"git", OPT_STR, "HOW", "libgit2 in a sandbox, or the git program (one commit deep)",      \
	 "library", NULL, "library|cli", 0},                                                       \
	{"source", OPT_STR, "HOW", "clone, or archive: the pinned commit's tarball", "clone",      \
	 NULL, "clone|archive", 0},                                                                \
	{"allow-bad-reference", OPT_FLAG, NULL, "use a reference that fails its self-check", NULL, \
	 "ASSAY_ALLOW_BAD_REFERENCE", NULL, 0},                                                    \
	{"allow-cpp-fail", OPT_FLAG, NULL, "go on without a reference that cannot be had", NULL,   \
	 "CROSSVAL_ALLOW_CPP_FAIL", NULL, 0}

static const struct opt setup_opts[] = {SETUP_OPTS, {0}};
static const struct opt full_opts[] = {
	SETUP_OPTS,
	{"model", OPT_STR, "FILE", "the model to compare; default one of the tier", NULL, "CROSSVAL_GGUF",
	 NULL, 'm'},
	{"scenarios", OPT_STR, "FILE", "scenarios, default the three of old", NULL, NULL, NULL, 's'},
	{"out", OPT_STR, "DIR", "receipts, reports and summary", "out/full-crossval", NULL, NULL, 'o'},
	{0}};

static void read_options(const struct cli *c, struct setup_options *o)
{
	const char *const *names;
	int n = cli_list(c, "cpp-backend", &names);

	o->tier = cli_str(c, "tier");
	for (int i = 0; i < n && i < SETUP_BACKENDS_MAX; i++)
		o->backends[o->n_backends++] = names[i];
	if (o->n_backends == 0)
		o->backends[o->n_backends++] = "bitnet";
	o->allow_cpp_fail = cli_flag(c, "allow-cpp-fail");
	o->build.allow_bad = cli_flag(c, "allow-bad-reference");
	o->build.source.from_archive = strcmp(cli_str(c, "source"), "archive") == 0;
	o->build.source.with_git = strcmp(cli_str(c, "git"), "cli") == 0;
	o->n_repos = cli_list(c, "repo", &o->repos);
	o->n_revs = cli_list(c, "rev", &o->revs);
	reference_show_setup(&o->build);
}

static void show(const struct setup_result *s, bool json)
{
	json_t *o, *list;
	char *text;

	if (!json) {
		printf("models      %s\n", s->models);
		for (int i = 0; i < s->n_references; i++)
			printf("reference   %s: %s\n", s->references[i].name, s->references[i].line);
		printf("environment %s\n", s->env_file);
		return;
	}
	list = json_array();
	for (int i = 0; i < s->n_references; i++)
		json_array_append_new(list, json_pack("{s:s s:b s:b s:s}", "name", s->references[i].name,
						      "ready", s->references[i].ready, "already",
						      s->references[i].already, "detail",
						      s->references[i].line));
	o = json_pack("{s:s s:o s:s s:I}", "models", s->models, "references", list, "env_file",
		      s->env_file, "total_ms", (json_int_t)s->total_ms);
	text = json_dumps(o, JSON_INDENT(2));
	puts(text);
	free(text);
	json_decref(o);
}

static int run_setup(struct cli *c, struct err *e)
{
	struct setup_options *o = calloc(1, sizeof(*o));
	struct setup_result *s = calloc(1, sizeof(*s));
	int r;

	assert(o && s);
	read_options(c, o);
	r = setup_run(o, s, e);
	term_clear();
	show(s, cli_json(c));
	free(o);
	free(s);
	return r;
}

static void on_line(void *ctx, const char *line, bool from_stderr)
{
	(void)ctx;
	if (from_stderr)
		term_note("%s", line);
	else
		puts(line);
}

/* The comparison itself is the command sweep, run as a child with what it needs spelled out. */
static int sweep(const struct cli *c, const struct setup_options *o, struct err *e)
{
	char self[4096];
	char found[STORE_PATH_MAX];
	const char *argv[40] = {self, "sweep", "--backend", "both", "--no-color"}, *model, *scenarios;
	struct process_options p = {.argv = argv, .line = on_line, .die_with_us = true};
	struct process_result done;
	int n = 5, r = process_self(self, sizeof(self), e);

	for (int i = 0; i < o->n_backends; i++) {
		argv[n++] = "--cpp-backend";
		argv[n++] = o->backends[i];
	}
	model = cli_str(c, "model");
	if (!model && r == 0) {
		r = setup_model(o, found, e);
		model = found;
		if (r == 0)
			term_note("model %s", found);
	}
	argv[n++] = "--model";
	argv[n++] = model;
	scenarios = cli_str(c, "scenarios");
	if (scenarios) {
		argv[n++] = "--scenarios";
		argv[n++] = scenarios;
	}
	if (cli_json(c)) {
		argv[n++] = "--format";
		argv[n++] = "json";
	}
	argv[n++] = "--out";
	argv[n++] = cli_str(c, "out");
	if (r == 0)
		r = process_run(&p, &done, e);
	if (r < 0)
		return r;
	if (done.signal)
		return err_set(e, EXIT_INTERNAL, "sweep ended with signal %d", done.signal);
	return done.status;
}

static int run_full(struct cli *c, struct err *e)
{
	struct setup_options *o = calloc(1, sizeof(*o));
	struct setup_result *s = calloc(1, sizeof(*s));
	int r;

	assert(o && s);
	read_options(c, o);
	r = setup_run(o, s, e);
	term_clear();
	term_note("models: %s", s->models);
	for (int i = 0; i < s->n_references; i++)
		term_note("reference %s: %s", s->references[i].name, s->references[i].line);
	if (r == 0)
		r = sweep(c, o, e);
	free(o);
	free(s);
	return r;
}

const struct command cmd_setup = {
	.name = "setup",
	.aliases = "setup-cpp-auto setup-crossval",
	.group = "Provisioning",
	.summary = "everything for a comparison: models, references, environment",
	.examples = "assay setup\n"
		    "assay setup --tier integration --cpp-backend bitnet --cpp-backend llama\n"
		    "assay setup --cpp-backend llama --repo /srv/mirrors/llama.cpp.git\n"
		    "assay setup --repo /srv/mirrors/BitNet.git --rev main",
	.opts = setup_opts,
	.run = run_setup,
	.details = "Run again it only looks, and makes what is missing or broken. The environment that\n"
		   "other tools read is written beside the cache as env.sh (assay env prints it).",
};

const struct command cmd_full_crossval = {
	.name = "full-crossval",
	.group = "Comparing",
	.summary = "setup, then sweep: from nothing to a verdict",
	.examples = "assay full-crossval --model m.gguf\n"
		    "assay full-crossval --tier integration --out out/nightly",
	.opts = full_opts,
	.run = run_full,
	.details = "The exit code is that of the sweep, or of the first step of setup that failed.",
};
