#include "build.h"

#include "build_log.h"
#include "digest_git.h"
#include "embed.h"
#include "paths.h"
#include "process.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ARGS_MAX = 200, TEXT_MAX = 32 << 10, LOG_BYTES_MAX = 8 << 20, DEADLINE_MS = 600 * 1000 };

/* The list is the worker's own: which sources, and what is asked of each tree's llama.h. */
static const char *const sources[] = {
#define REFERENCE_SOURCE(path) path,
#include "engines/reference_build.h"
#undef REFERENCE_SOURCE
	NULL};
static const char *const headers[] = {
#define REFERENCE_HEADER(path) path,
#include "engines/reference_build.h"
#undef REFERENCE_HEADER
	NULL};
static const struct {
	const char *macro, *body;
} probes[] = {
#define REFERENCE_PROBE(macro, body) {#macro, body},
#include "engines/reference_build.h"
#undef REFERENCE_PROBE
	{NULL, NULL}};

void build_worker_version(char hex[65])
{
	struct digest_key *k = digest_key_new();

	digest_key_text(k, "assay worker 2");
	for (int part = 0; part < 2; part++) {
		for (const char *const *s = part ? headers : sources; *s; s++) {
			size_t n = 0;
			const unsigned char *bytes = embed_find(*s, &n);

			digest_key_text(k, *s);
			if (bytes)
				digest_key_bytes(k, bytes, n);
		}
	}
	for (int i = 0; probes[i].macro; i++) {
		digest_key_text(k, probes[i].macro);
		digest_key_text(k, probes[i].body);
	}
	digest_key_finish(k, hex);
}

static int write_source(const char *dir, const char *name, struct err *e)
{
	char path[PATH_MAX], folder[PATH_MAX];
	size_t n = 0;
	const unsigned char *bytes = embed_find(name, &n);
	int r = paths_format(path, sizeof(path), e, "%s/%s", dir, name);

	if (!bytes)
		return err_set(e, EXIT_INTERNAL, "the worker's source %s is not built in", name);
	if (r < 0)
		return r;
	memcpy(folder, path, sizeof(folder));
	*strrchr(folder, '/') = '\0';
	r = paths_mkdir(folder, e);
	return r < 0 ? r : paths_write(path, bytes, n, e);
}

static int write_sources(const char *dir, struct err *e)
{
	int r = 0;

	for (int part = 0; part < 2; part++)
		for (const char *const *s = part ? headers : sources; *s && r == 0; s++)
			r = write_source(dir, *s, e);
	return r;
}

struct args {
	const char *argv[ARGS_MAX + 1];
	char text[TEXT_MAX];
	size_t at;
	int n;
};

static void add(struct args *a, const char *head, const char *tail)
{
	size_t n = strlen(head) + strlen(tail) + 1;

	assert(a->n < ARGS_MAX && a->at + n < TEXT_MAX);
	snprintf(a->text + a->at, n, "%s%s", head, tail);
	a->argv[a->n++] = a->text + a->at;
	a->argv[a->n] = NULL;
	a->at += n;
}

static void add_includes(struct args *a, const struct build_worker *w)
{
	for (const char *p = w->include_dirs; *p;) {
		size_t n = strcspn(p, ":");
		char dir[PATH_MAX];

		snprintf(dir, sizeof(dir), "%.*s", (int)n, p);
		/* as system headers: the engine's warnings are not ours */
		add(a, "-isystem", dir);
		p += n + (p[n] == ':');
	}
}

static void add_libraries(struct args *a, const struct build_worker *w)
{
	static const char *const ggml[] = {"ggml", "ggml-base", "ggml-cpu"};
	char so[PATH_MAX + 64], dir[PATH_MAX];
	bool there[3] = {false};

	for (const char *p = w->lib_dir; *p;) {
		size_t n = strcspn(p, ":");

		snprintf(dir, sizeof(dir), "%.*s", (int)n, p);
		add(a, "-L", dir);
		/* not -Wl: a comma in the path would cut it */
		for (int i = 0; i < 2; i++) {
			add(a, "-Xlinker", "");
			add(a, i ? "-rpath-link" : "-rpath", "");
			add(a, "-Xlinker", "");
			add(a, dir, "");
		}
		for (int i = 0; i < 3; i++) {
			snprintf(so, sizeof(so), "%s/lib%s.so", dir, ggml[i]);
			there[i] = there[i] || paths_exists(so);
		}
		p += n + (p[n] == ':');
	}
	add(a, "-l", w->library);
	for (int i = 0; i < 3; i++)
		if (there[i])
			add(a, "-l", ggml[i]);
	add(a, "-lpthread", "");
	add(a, "-lm", "");
}

static void count_line(void *ctx, const char *line, bool from_stderr)
{
	(void)line;
	(void)from_stderr;
	++*(int *)ctx;
}

/* Does this tree's llama.h have it? The compiler says; no version is guessed. */
static int probe(const struct build_worker *w, int i, bool *there, struct err *e)
{
	struct args *a = calloc(1, sizeof(*a));
	int lines = 0, r;
	struct process_options o = {.cwd = w->work, .deadline_ms = DEADLINE_MS, .line = count_line,
				    .ctx = &lines};
	struct process_result done;
	char path[PATH_MAX], text[2048];

	assert(a);
	snprintf(text, sizeof(text),
		 "#include \"llama.h\"\n#include \"ggml-backend.h\"\nvoid probe(void);\n"
		 "void probe(void)\n{\n%s\n}\n",
		 probes[i].body);
	r = paths_format(path, sizeof(path), e, "%s/probe.c", w->work);
	if (r == 0)
		r = paths_write(path, text, strlen(text), e);
	add(a, w->cc, "");
	add(a, "-std=gnu11", "");
	add(a, "-Werror=implicit-function-declaration", "");
	add(a, "-fsyntax-only", "");
	add_includes(a, w);
	add(a, "probe.c", "");
	o.argv = a->argv;
	if (r == 0)
		r = process_run(&o, &done, e);
	*there = r == 0 && done.status == 0;
	free(a);
	return r;
}

static int make_args(struct args *a, const struct build_worker *w, struct err *e)
{
	static const char *const flags[] = {
		"-std=gnu11", "-O2", "-g", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64",
		"-ffp-contract=off", "-fno-math-errno", "-w", "-Iinclude", "-Iworkers",
		"-Iworkers/common", "-Iworkers/engines", "-Iworkers/serve"};
	char text[200];
	bool there;
	int r;

	add(a, w->cc, "");
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		add(a, flags[i], "");
	snprintf(text, sizeof(text), "-DASSAY_BUILD_ID=\"%.16s\"", w->build_id);
	add(a, text, "");
	snprintf(text, sizeof(text), "-DASSAY_REFERENCE=\"%s\"", w->name);
	add(a, text, "");
	if (w->speed)
		add(a, "-DASSAY_SPEED=1", "");
	for (int i = 0; probes[i].macro; i++) {
		r = probe(w, i, &there, e);
		if (r < 0)
			return r;
		if (there)
			add(a, "-D", probes[i].macro);
	}
	add_includes(a, w);
	for (int i = 0; sources[i]; i++)
		add(a, sources[i], "");
	add(a, "-o", w->out);
	add_libraries(a, w);
	return 0;
}

static int worker_failed(const struct build_worker *w, const struct process_result *done,
			 struct err *e)
{
	char shown[1600], *text = NULL;
	struct build_digest d = {0};
	struct err ignored;

	if (paths_read(&text, NULL, w->log, LOG_BYTES_MAX, &ignored) == 0)
		build_log_digest(&d, text, w->work);
	free(text);
	build_log_print(&d, shown, sizeof(shown));
	return err_set(e, d.signature ? d.signature->code : EXIT_REFERENCE_BUILD,
		       "the worker of %s does not compile against this llama.h (%s %d)%s%s",
		       w->name, done->signal ? "signal" : "status",
		       done->signal ? done->signal : done->status, *shown ? "\n" : "", shown);
}

int build_worker(const struct build_worker *w, struct err *e)
{
	struct args *a = calloc(1, sizeof(*a));
	struct process_options o = {.cwd = w->work, .deadline_ms = DEADLINE_MS,
				    .die_with_us = true};
	struct process_result done = {0};
	int r;

	assert(a);
	r = write_sources(w->work, e);
	if (r == 0)
		r = make_args(a, w, e);
	if (r == 0) {
		o.argv = a->argv;
		o.log_fd = open(w->log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
		for (int i = 0; o.log_fd > 0 && i < a->n; i++)
			dprintf(o.log_fd, "%s%s", i ? " " : "", a->argv[i]);
		if (o.log_fd > 0)
			dprintf(o.log_fd, "\n");
		r = process_run(&o, &done, e);
		if (o.log_fd > 0)
			close(o.log_fd);
	}
	free(a);
	if (r == 0 && done.status != 0)
		r = worker_failed(w, &done, e);
	return r;
}
