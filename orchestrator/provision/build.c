#include "build.h"

#include "build_files.h"
#include "build_log.h"
#include "digest_git.h"
#include "lock_file.h"
#include "paths.h"
#include "process.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOG_BYTES_MAX = 64 << 20, ARGS_MAX = 160, DEADLINE_MS = 4 * 3600 * 1000 };

struct job {
	const struct build_plan *plan;
	struct build_result *out;
	struct build_progress progress;
	char work[PATH_MAX], log[PATH_MAX];
	char *text[ARGS_MAX];	/* arguments made here */
	const char *argv[ARGS_MAX + 1];
	int n_args, log_fd, lock_fd;
	struct err *e;
};

__attribute__((format(printf, 2, 0)))
static void add(struct job *j, const char *fmt, const char *value)
{
	int n = snprintf(NULL, 0, fmt, value);

	assert(j->n_args < ARGS_MAX && n >= 0);
	j->text[j->n_args] = malloc((size_t)n + 1);
	assert(j->text[j->n_args]);
	snprintf(j->text[j->n_args], (size_t)n + 1, fmt, value);
	j->argv[j->n_args] = j->text[j->n_args];
	j->argv[++j->n_args] = NULL;
}

static void clear_args(struct job *j)
{
	while (j->n_args > 0)
		free(j->text[--j->n_args]);
}

/*
 * gcc before 14 takes _tile_loadconfig to read 8 bytes of its 64 and drops the stores of the rest
 * (gcc bug 114098): an engine that uses AMX dies of an illegal instruction. __AMX_INT8__ is what
 * ggml asks for; a -m option would lose to the engine's own -march=native behind it.
 */
static bool loses_tiles(const struct toolchain *t)
{
	const char *v = strrchr(t->version, ' ');
	char lacks[64];

	return strcmp(t->family, "gcc") == 0 && v && atoi(v) < 14 &&
	       !toolchain_cpu_lacks("amx_int8", lacks, sizeof(lacks));
}

static void options_of(const struct lock_entry *x, const struct toolchain *t, bool speed,
		       const char **out, int *n)
{
	*n = 0;
	if (speed && loses_tiles(t)) {
		out[(*n)++] = "-DCMAKE_C_FLAGS=-U__AMX_INT8__";
		out[(*n)++] = "-DCMAKE_CXX_FLAGS=-U__AMX_INT8__";
	}
	for (int i = 0; i < x->n_options; i++)
		out[(*n)++] = x->options[i];
	for (int i = 0; i < (speed ? x->n_speed : x->n_parity); i++)
		out[(*n)++] = speed ? x->speed[i] : x->parity[i];
}

void build_options(const struct lock_entry *x, const struct toolchain *t, bool speed, char *out,
		   size_t size)
{
	const char *options[2 * LOCK_OPTIONS_MAX + 2];
	size_t used = 0;
	int n;

	out[0] = '\0';
	options_of(x, t, speed, options, &n);
	for (int i = 0; i < n && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s\n", options[i]);
}

void build_key(const struct lock_entry *x, const struct toolchain *t, const char *source_key,
	       bool speed, char hex[65])
{
	struct digest_key *k = digest_key_new();
	const char *options[2 * LOCK_OPTIONS_MAX + 2];
	char features[512];
	int n;

	digest_key_text(k, "assay library 1");
	digest_key_text(k, source_key);
	options_of(x, t, speed, options, &n);
	for (int i = 0; i < n; i++)
		digest_key_text(k, options[i]);
	digest_key_text(k, x->target);
	digest_key_text(k, x->library);
	digest_key_text(k, t->family);
	digest_key_text(k, t->version);
	digest_key_text(k, t->machine);
	if (speed) {
		toolchain_cpu_features(features, sizeof(features));
		digest_key_text(k, features);
	}
	digest_key_finish(k, hex);
}

/* "[12/138] …" of Ninja, "[ 12%] …" of make. */
static void on_line(void *ctx, const char *line, bool from_stderr)
{
	struct job *j = ctx;
	struct build_progress *p = &j->progress;
	int done, total;

	(void)from_stderr;
	if (sscanf(line, "[%d/%d]", &done, &total) == 2) {
		p->done = done;
		p->total = total;
	} else if (sscanf(line, "[%d%%]", &done) == 1) {
		p->done = done;
		p->total = 100;
	}
	if (j->plan->progress)
		j->plan->progress(j->plan->ctx, p);
}

static int digest_failure(struct job *j, const char *step, const struct process_result *done)
{
	char shown[1600], failed[PATH_MAX], *text = NULL;
	struct build_digest d = {0};
	struct err ignored;
	int r;

	if (paths_read(&text, NULL, j->log, LOG_BYTES_MAX, &ignored) == 0)
		build_log_digest(&d, text, j->plan->source);
	build_log_print(&d, shown, sizeof(shown));
	free(text);
	snprintf(failed, sizeof(failed), "%s/logs", j->plan->root);
	paths_mkdir(failed, &ignored);
	r = paths_format(failed, sizeof(failed), j->e, "%s/logs/%s-%s.log", j->plan->root,
			 j->plan->entry->name, step);
	if (r < 0 || rename(j->log, failed) != 0)
		snprintf(failed, sizeof(failed), "%s", j->log);
	return err_set(j->e, d.signature ? d.signature->code : EXIT_REFERENCE_BUILD,
		       "%s does not build: %s ended with %s %d%s%s\n  whole log: %s",
		       j->plan->entry->name, step, done->signal ? "signal" : "status",
		       done->signal ? done->signal : done->status,
		       *shown ? "\n" : " without an error line", shown, failed);
}

static int run_step(struct job *j, const char *what, long *ms)
{
	struct process_options o = {.argv = j->argv, .deadline_ms = DEADLINE_MS, .cwd = j->work,
				    .keep_fd = j->lock_fd, .log_fd = j->log_fd, .die_with_us = true,
				    .line = on_line, .ctx = j};
	struct process_result done;
	int r;

	j->progress = (struct build_progress){.what = what};
	dprintf(j->log_fd, "\n==== %s:", what);
	for (int i = 0; i < j->n_args; i++)
		dprintf(j->log_fd, " %s", j->argv[i]);
	dprintf(j->log_fd, "\n");
	r = process_run(&o, &done, j->e);
	*ms = done.run_ms;
	if (r < 0)
		return r;
	return done.status == 0 ? 0 : digest_failure(j, what, &done);
}

static int configure(struct job *j)
{
	const struct toolchain *t = j->plan->tools;
	const char *options[2 * LOCK_OPTIONS_MAX + 2];
	int n;

	clear_args(j);
	add(j, "%s", t->cmake);
	add(j, "%s", "-S");
	add(j, "%s", j->plan->source);
	add(j, "%s", "-B");
	add(j, "%s/build", j->work);
	add(j, "%s", "-G");
	add(j, "%s", t->ninja[0] ? "Ninja" : "Unix Makefiles");
	add(j, "-DCMAKE_C_COMPILER=%s", t->cc);
	add(j, "-DCMAKE_CXX_COMPILER=%s", t->cxx);
	add(j, "%s", "-DCMAKE_BUILD_TYPE=Release");
	add(j, "%s", "-DBUILD_SHARED_LIBS=ON");
	/* libraries find each other wherever the folder goes */
	add(j, "%s", "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON");
	add(j, "%s", "-DCMAKE_INSTALL_RPATH=$ORIGIN");
	if (t->ccache[0]) {
		add(j, "-DCMAKE_C_COMPILER_LAUNCHER=%s", t->ccache);
		add(j, "-DCMAKE_CXX_COMPILER_LAUNCHER=%s", t->ccache);
	}
	options_of(j->plan->entry, t, j->plan->speed, options, &n);
	for (int i = 0; i < n; i++)
		add(j, "%s", options[i]);
	build_options(j->plan->entry, t, j->plan->speed, j->out->options, sizeof(j->out->options));
	return run_step(j, "configure", &j->out->configure_ms);
}

static int compile(struct job *j)
{
	char jobs[16];

	snprintf(jobs, sizeof(jobs), "%d", j->plan->jobs);
	clear_args(j);
	add(j, "%s", j->plan->tools->cmake);
	add(j, "%s", "--build");
	add(j, "%s/build", j->work);
	add(j, "%s", "--parallel");
	add(j, "%s", jobs);
	add(j, "%s", "--target");
	add(j, "%s", j->plan->entry->target);
	return run_step(j, "compile", &j->out->compile_ms);
}

/* ---- installing --------------------------------------------------------------------------- */

static int copy_file(const char *from, const char *to, struct err *e)
{
	size_t n;
	char *bytes = NULL;
	int r = paths_read(&bytes, &n, from, (size_t)1 << 30, e);

	if (r == 0)
		r = paths_write(to, bytes, n, e);
	free(bytes);
	return r;
}

/* Every lib*.so of the build, links as links, into lib/. */
static int collect_libraries(struct job *j, const char *dir, const char *lib, int depth)
{
	char from[PATH_MAX], to[PATH_MAX], target[512];
	DIR *list = opendir(dir);
	struct dirent *d;
	int r = 0;

	if (!list)
		return paths_errno(j->e, "reading", dir);
	while (r == 0 && (d = readdir(list))) {
		struct stat st;
		ssize_t n;

		if (d->d_name[0] == '.' || strcmp(d->d_name, "CMakeFiles") == 0)
			continue;
		r = paths_format(from, sizeof(from), j->e, "%s/%s", dir, d->d_name);
		if (r < 0 || lstat(from, &st) != 0)
			continue;
		if (S_ISDIR(st.st_mode) && depth < 8) {
			r = collect_libraries(j, from, lib, depth + 1);
			continue;
		}
		if (!build_files_is_library(d->d_name))
			continue;
		r = paths_format(to, sizeof(to), j->e, "%s/%s", lib, d->d_name);
		if (r < 0)
			break;
		if (S_ISLNK(st.st_mode) && (n = readlink(from, target, sizeof(target) - 1)) > 0) {
			target[n] = '\0';
			if (!strchr(target, '/') && symlink(target, to) != 0)
				r = paths_errno(j->e, "linking", to);
		} else if (S_ISREG(st.st_mode)) {
			r = copy_file(from, to, j->e);
			if (r == 0)
				chmod(to, 0755);
		}
	}
	closedir(list);
	return r;
}

static int collect_headers(struct job *j, const char *include)
{
	char dir[PATH_MAX], from[PATH_MAX], to[PATH_MAX];
	int r = 0;

	for (const char *p = j->plan->entry->include; *p && r == 0;) {
		size_t n = strcspn(p, " ");
		struct dirent *d;
		DIR *list;

		snprintf(dir, sizeof(dir), "%s/%.*s", j->plan->source, (int)n, p);
		p += n + strspn(p + n, " ");
		list = opendir(dir);
		while (list && r == 0 && (d = readdir(list))) {
			size_t len = strlen(d->d_name);

			if (len < 3 || strcmp(d->d_name + len - 2, ".h") != 0)
				continue;
			r = paths_format(from, sizeof(from), j->e, "%s/%s", dir, d->d_name);
			if (r == 0)
				r = paths_format(to, sizeof(to), j->e, "%s/%s", include, d->d_name);
			if (r == 0 && !paths_exists(to))
				r = copy_file(from, to, j->e);
		}
		if (list)
			closedir(list);
	}
	return r;
}

static int save_record(const struct job *j, const char *path, const char *lib)
{
	const struct toolchain *t = j->plan->tools;
	json_t *o = json_pack("{s:o s:s s:s s:s s:s s:s s:s s:s s:s s:s s:b s:I s:I s:i}", "files",
			      build_files(lib, false), "options",
			      j->out->options, "cpu_features", j->out->cpu_features, "compiler",
			      t->version, "cc", t->cc, "family", t->family, "machine", t->machine,
			      "cmake", t->cmake_version, "builder", t->ninja[0] ? "ninja" : "make",
			      "ccache", t->ccache, "speed", j->plan->speed, "configure_ms",
			      (json_int_t)j->out->configure_ms, "compile_ms",
			      (json_int_t)j->out->compile_ms, "jobs", j->plan->jobs);
	char *text = json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS);
	int r = paths_write(path, text, strlen(text), j->e);

	free(text);
	json_decref(o);
	return r;
}

static int install(struct job *j)
{
	char lib[PATH_MAX], include[PATH_MAX], build[PATH_MAX], stage[PATH_MAX], path[PATH_MAX];
	int r, fd;

	if ((r = paths_format(stage, sizeof(stage), j->e, "%s/stage", j->work)) < 0 ||
	    (r = paths_format(lib, sizeof(lib), j->e, "%s/lib", stage)) < 0 ||
	    (r = paths_format(include, sizeof(include), j->e, "%s/include", stage)) < 0 ||
	    (r = paths_format(build, sizeof(build), j->e, "%s/build", j->work)) < 0 ||
	    (r = paths_mkdir(lib, j->e)) < 0 || (r = paths_mkdir(include, j->e)) < 0 ||
	    (r = collect_libraries(j, build, lib, 0)) < 0 || (r = collect_headers(j, include)) < 0)
		return r;
	r = paths_format(path, sizeof(path), j->e, "%s/lib%s.so", lib, j->plan->entry->library);
	if (r == 0 && !paths_exists(path))
		r = err_set(j->e, EXIT_REFERENCE_BUILD, "%s: the build made no lib%s.so",
			    j->plan->entry->name, j->plan->entry->library);
	if (r == 0)
		r = paths_format(path, sizeof(path), j->e, "%s/build.log", stage);
	if (r == 0 && rename(j->log, path) != 0)
		r = paths_errno(j->e, "keeping", path);
	if (r == 0)
		r = paths_format(path, sizeof(path), j->e, "%s/build.json", stage);
	if (r == 0)
		r = save_record(j, path, lib);
	if (r < 0)
		return r;
	fd = open(stage, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		syncfs(fd);
		close(fd);
	}
	if (rename(stage, j->out->dir) != 0)
		return paths_errno(j->e, "installing", j->out->dir);
	return 0;
}

bool build_is_whole(const char *dir, const char *library, char *what, size_t size)
{
	char path[PATH_MAX + 16], lib[PATH_MAX + 16];
	json_t *o;
	bool whole;

	snprintf(path, sizeof(path), "%.4000s/build.json", dir);
	snprintf(lib, sizeof(lib), "%.4000s/lib", dir);
	o = json_load_file(path, 0, NULL);
	whole = json_is_object(o);
	if (!whole)
		snprintf(what, size, "%.500s is %s", path, paths_exists(path) ? "damaged" : "gone");
	else if (json_object_get(o, "files"))
		whole = !build_files_changed(json_object_get(o, "files"), lib, what, size);
	json_decref(o);
	snprintf(path, sizeof(path), "%.3900s/lib%.60s.so", lib, library);
	if (whole && !paths_exists(path)) {
		snprintf(what, size, "%.500s is gone", path);
		whole = false;
	}
	return whole;
}

static bool load_record(struct job *j)
{
	struct build_result *out = j->out;
	const char *options, *features;
	char path[PATH_MAX + 32], what[600], line[800];
	json_int_t configure_ms, compile_ms;
	json_t *o;
	bool ok;

	if (!paths_exists(out->dir))
		return false;
	ok = build_is_whole(out->dir, j->plan->entry->library, what, sizeof(what));
	snprintf(path, sizeof(path), "%s/include/llama.h", out->dir);
	if (ok && !paths_exists(path)) {	/* the worker is compiled against it */
		snprintf(what, sizeof(what), "%.500s is gone", path);
		ok = false;
	}
	if (!ok) {
		snprintf(line, sizeof(line), "the libraries here are damaged (%s): they are made anew",
			 what);
		if (j->plan->note)
			j->plan->note(j->plan->ctx, line);
		return false;
	}
	snprintf(path, sizeof(path), "%s/build.json", out->dir);
	o = json_load_file(path, 0, NULL);
	ok = o &&
	     json_unpack(o, "{s:s s:s s:I s:I}", "options", &options, "cpu_features", &features,
			 "configure_ms", &configure_ms, "compile_ms", &compile_ms) == 0;
	if (ok) {
		snprintf(out->options, sizeof(out->options), "%s", options);
		snprintf(out->cpu_features, sizeof(out->cpu_features), "%s", features);
		out->configure_ms = (long)configure_ms;
		out->compile_ms = (long)compile_ms;
	}
	json_decref(o);
	return ok;
}

static int make_libraries(struct job *j)
{
	struct err ignored;
	int r;

	if ((r = paths_remove(j->work, j->e)) < 0 || (r = paths_mkdir(j->work, j->e)) < 0 ||
	    (r = paths_remove(j->out->dir, j->e)) < 0 ||	/* a broken one without a record */
	    (r = paths_format(j->log, sizeof(j->log), j->e, "%s/build.log", j->work)) < 0)
		return r;
	j->log_fd = open(j->log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
	if (j->log_fd < 0)
		return paths_errno(j->e, "creating", j->log);
	if (j->plan->speed)
		toolchain_cpu_features(j->out->cpu_features, sizeof(j->out->cpu_features));
	else
		snprintf(j->out->cpu_features, sizeof(j->out->cpu_features), "%s",
			 j->plan->entry->cpu_features ? j->plan->entry->cpu_features : "");
	r = configure(j);
	if (r == 0)
		r = compile(j);
	if (r == 0)
		r = install(j);
	close(j->log_fd);
	j->out->fresh = r == 0;
	paths_remove(j->work, r < 0 ? &ignored : j->e);
	return r;
}

int build_run(const struct build_plan *plan, struct build_result *out, struct err *e)
{
	struct job *j = calloc(1, sizeof(*j));
	char dir[PATH_MAX], path[PATH_MAX];
	int r;

	assert(j);
	memset(out, 0, sizeof(*out));
	j->plan = plan;
	j->out = out;
	j->e = e;
	build_key(plan->entry, plan->tools, plan->source_key, plan->speed, out->key);
	if ((r = paths_format(dir, sizeof(dir), e, "%s/libs", plan->root)) < 0 ||
	    (r = paths_mkdir(dir, e)) < 0 ||
	    (r = paths_format(path, sizeof(path), e, "%s/%s.lock", dir, out->key)) < 0 ||
	    (r = paths_format(out->dir, sizeof(out->dir), e, "%s/%s", dir, out->key)) < 0 ||
	    (r = paths_format(j->work, sizeof(j->work), e, "%s/work/build-%.16s", plan->root,
			      out->key)) < 0)
		goto out;
	j->lock_fd = r = lock_file_take(path, plan->note, plan->ctx, e);
	if (r < 0)
		goto out;
	r = load_record(j) ? 0 : make_libraries(j);
	lock_file_drop(j->lock_fd);
out:
	clear_args(j);
	free(j);
	return r;
}
