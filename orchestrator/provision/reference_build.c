#include "reference_build.h"

#include "build_files.h"
#include "digest_git.h"
#include "lock_file.h"
#include "paths.h"
#include "reference_locked.h"
#include "self_check.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct job {
	const struct reference_build_options *o;
	struct reference_build_result *out;
	const struct lock_entry *entry;
	const char *own_variable, *own_build;	/* BITNET_CPP_DIR and its folder; NULL: none */
	char root[PATH_MAX];
	char worker_version[65], key[65], dir[PATH_MAX], stage[PATH_MAX];
	struct toolchain tools;
	struct source source;
	struct build_result build;
	char lib_dir[4 * PATH_MAX], include_dirs[4 * PATH_MAX];
	struct self_check_result check;
	struct err *e;
};

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

__attribute__((format(printf, 2, 3))) static void note(const struct job *j, const char *fmt, ...)
{
	char line[PATH_MAX + 512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (j->o->source.note)
		j->o->source.note(j->o->source.ctx, line);
}

__attribute__((format(printf, 2, 3))) static void explain(struct job *j, const char *fmt, ...)
{
	size_t n = strlen(j->out->explain);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(j->out->explain + n, sizeof(j->out->explain) - n, fmt, ap);
	va_end(ap);
}

static void note_through(void *ctx, const char *line)
{
	const struct job *j = ctx;

	note(j, "%s", line);
}

static void build_progress_through(void *ctx, const struct build_progress *p)
{
	const struct job *j = ctx;

	if (j->o->build_progress)
		j->o->build_progress(j->o->source.ctx, p);
}

static void clone_progress_through(void *ctx, const struct clone_progress *p)
{
	const struct job *j = ctx;

	if (j->o->source.progress)
		j->o->source.progress(j->o->source.ctx, p);
}

/* ---- the parts ---------------------------------------------------------------------------- */

static int get_source(struct job *j)
{
	struct source_options o = j->o->source;
	int r;

	o.note = note_through;
	o.progress = clone_progress_through;
	o.ctx = j;
	r = source_get(&j->source, j->root, j->entry, &o, j->e);
	if (r < 0)
		return r;
	j->out->source_fresh = j->source.fresh;
	j->out->clone_ms = j->source.clone_ms;
	if (j->source.fresh)
		note(j, "source: commit %s, tree %s, %llu objects, %.1f MB in %.1f s; sandbox: %s",
		     j->source.commit, j->source.tree, j->source.clone_objects,
		     (double)j->source.clone_bytes / 1e6, (double)j->source.clone_ms / 1e3,
		     j->source.layers[0] ? j->source.layers : "none (archive)");
	else
		note(j, "source: commit %s is already here", j->source.commit);
	return 0;
}

static int get_libraries(struct job *j)
{
	struct build_plan plan = {.entry = j->entry,
				  .tools = &j->tools,
				  .root = j->root,
				  .source = j->source.dir,
				  .source_key = j->source.key,
				  .speed = j->o->speed,
				  .jobs = toolchain_jobs(),
				  .progress = build_progress_through,
				  .note = note_through,
				  .ctx = j};
	char key[65], dir[PATH_MAX];
	int r;

	build_key(j->entry, &j->tools, j->source.key, j->o->speed, key);
	r = paths_format(dir, sizeof(dir), j->e, "%s/libs/%s", j->root, key);
	if (r == 0 && j->o->rebuild)
		r = paths_remove(dir, j->e);
	if (r < 0)
		return r;
	if (!paths_exists(dir))
		note(j, "building %s (%s) with %s, %d jobs%s", j->entry->name,
		     j->o->speed ? "the engine's own flags" : "parity configuration",
		     j->tools.version, plan.jobs, j->tools.ccache[0] ? ", ccache" : "");
	r = build_run(&plan, &j->build, j->e);
	if (r < 0)
		return r;
	j->out->libs_fresh = j->build.fresh;
	j->out->configure_ms = j->build.configure_ms;
	j->out->compile_ms = j->build.compile_ms;
	if (j->build.fresh)
		note(j, "libraries: configured in %.1f s, compiled in %.1f s",
		     (double)j->build.configure_ms / 1e3, (double)j->build.compile_ms / 1e3);
	else
		note(j, "libraries: %.12s is already here", j->build.key);
	r = paths_format(j->lib_dir, sizeof(j->lib_dir), j->e, "%s/lib", j->build.dir);
	if (r == 0)
		r = paths_format(j->include_dirs, sizeof(j->include_dirs), j->e, "%s/include",
				 j->build.dir);
	return r;
}

/* A folder that people built themselves; its usual places. */
static const char *const own_libs[] = {"build/3rdparty/llama.cpp/src",
				       "build/3rdparty/llama.cpp/ggml/src",
				       "build/bin",
				       "build/src",
				       "build/ggml/src",
				       "build/lib",
				       "lib",
				       "bin",
				       "src",
				       NULL};
static const char *const own_includes[] = {"3rdparty/llama.cpp/include",
					   "3rdparty/llama.cpp/ggml/include", "include",
					   "ggml/include", NULL};

/* Folders below real that hold one of the engine's libraries, ':'-separated. */
static int own_libraries(struct job *j, const char *real, struct digest_key *k)
{
	const char *names[] = {j->entry->library, "ggml", "ggml-base", "ggml-cpu"};
	char path[PATH_MAX], sha[65];

	for (int i = 0; own_libs[i]; i++) {
		bool any = false;

		for (int n = 0; n < 4; n++) {
			int r = paths_format(path, sizeof(path), j->e, "%s/%s/lib%s.so", real,
					     own_libs[i], names[n]);

			if (r == 0 && paths_exists(path))
				r = digest_key_file(path, sha, j->e);
			else
				continue;
			if (r < 0)
				return r;
			digest_key_text(k, path);
			digest_key_text(k, sha);
			any = true;
		}
		if (any) {
			size_t n = strlen(j->lib_dir);

			snprintf(j->lib_dir + n, sizeof(j->lib_dir) - n, "%s%s/%s", n ? ":" : "",
				 real, own_libs[i]);
		}
	}
	return 0;
}

static int use_own_build(struct job *j)
{
	struct digest_key *k = digest_key_new();
	char path[PATH_MAX], real[PATH_MAX] = "";
	bool header = false;
	int r = 0;

	if (!realpath(j->own_build, real))
		r = err_set(j->e, EXIT_NO_REFERENCE, "%s=%s: %s", j->own_variable, j->own_build,
			    strerror(errno));
	if (r == 0)
		r = own_libraries(j, real, k);
	for (int i = 0; r == 0 && own_includes[i]; i++) {
		size_t n = strlen(j->include_dirs);

		r = paths_format(path, sizeof(path), j->e, "%s/%s/llama.h", real, own_includes[i]);
		header = header || (r == 0 && paths_exists(path));
		snprintf(j->include_dirs + n, sizeof(j->include_dirs) - n, "%s%s/%s", n ? ":" : "",
			 real, own_includes[i]);
	}
	digest_key_text(k, real);
	digest_key_text(k, j->o->speed ? "speed" : NULL);
	digest_key_finish(k, j->build.key);
	if (r == 0 && (!j->lib_dir[0] || !header))
		r = err_set(
			j->e, EXIT_NO_REFERENCE,
			"%s=%s has no %s: build it with -DBUILD_SHARED_LIBS=ON, or unset "
			"it and run: assay fetch-cpp %s",
			j->own_variable, real, j->lib_dir[0] ? "llama.h" : "shared library of the engine",
			j->entry->name);
	/* nobody says for which CPU it was built: for this one, where it is checked */
	toolchain_cpu_features(j->build.cpu_features, sizeof(j->build.cpu_features));
	snprintf(j->build.options, sizeof(j->build.options), "somebody's own build in %.4000s\n",
		 real);
	snprintf(j->source.url, sizeof(j->source.url), "%s", real);
	return r;
}

static void reference_key(struct job *j)
{
	struct digest_key *k = digest_key_new();

	digest_key_text(k, "assay reference 1");
	digest_key_text(k, j->entry->name);
	digest_key_text(k, j->build.key);
	digest_key_text(k, j->worker_version);
	digest_key_finish(k, j->key);
}

static int make_worker(struct job *j)
{
	char bin[PATH_MAX], src[PATH_MAX], out[PATH_MAX], log[PATH_MAX];
	struct build_worker w = {.cc = j->tools.cc, .name = j->entry->name,
				 .build_id = j->key, .speed = j->o->speed,
				 .include_dirs = j->include_dirs, .lib_dir = j->lib_dir,
				 .library = j->entry->library, .work = src, .out = out, .log = log};
	int r;

	if ((r = paths_remove(j->stage, j->e)) < 0 ||
	    (r = paths_format(bin, sizeof(bin), j->e, "%s/bin", j->stage)) < 0 ||
	    (r = paths_format(src, sizeof(src), j->e, "%s/src", j->stage)) < 0 ||
	    (r = paths_format(out, sizeof(out), j->e, "%s/assay-worker-%s", bin, j->entry->name)) <
		    0 ||
	    (r = paths_format(log, sizeof(log), j->e, "%s/worker.log", j->stage)) < 0 ||
	    (r = paths_mkdir(bin, j->e)) < 0 || (r = paths_mkdir(src, j->e)) < 0)
		return r;
	r = build_worker(&w, j->e);
	if (r < 0)
		return err_prefix(j->e, "%s", j->entry->name);
	j->out->worker_fresh = true;
	return paths_remove(src, j->e);
}

static int check(struct job *j, const char *dir)
{
	char worker[PATH_MAX], work[PATH_MAX];
	struct self_check_plan plan = {.entry = j->entry, .worker = worker, .work = work,
				       .family = j->tools.family,
				       .speed = j->o->speed, .own = j->own_build != NULL,
				       .note = note_through, .ctx = j};
	long start = now_ms();
	int r;

	if ((r = paths_format(worker, sizeof(worker), j->e, "%s/bin/assay-worker-%s", dir,
			      j->entry->name)) < 0 ||
	    (r = paths_format(work, sizeof(work), j->e, "%s/work/check-%.16s-%d", j->root, j->key,
			      (int)getpid())) < 0 ||
	    (r = paths_mkdir(work, j->e)) < 0)
		return r;
	json_decref(j->check.report);
	j->check.report = NULL;
	r = self_check_run(&plan, &j->check, j->e);
	if (paths_remove(work, r < 0 ? &(struct err){0} : j->e) < 0 && r == 0)
		r = -j->e->code;
	j->out->check_ms = now_ms() - start;
	j->out->checked = r == 0;
	return r;
}

/* ---- the manifest and the name ------------------------------------------------------------ */

static void add_lock(const struct job *j, json_t *m)
{
	json_object_set_new(m, "locked_commit", json_string(j->entry->commit));
	json_object_set_new(m, "locked", reference_locked(j->entry, j->o->speed));
}

/* Folder by folder what is there now, to notice when it is built anew behind our back. */
static json_t *own_files(const struct job *j)
{
	json_t *o = json_object();
	char dir[PATH_MAX];

	for (const char *p = j->lib_dir; *p; p += strcspn(p, ":"), p += *p == ':') {
		snprintf(dir, sizeof(dir), "%.*s", (int)strcspn(p, ":"), p);
		json_object_set_new(o, dir, build_files(dir, true));
	}
	return o;
}

static json_t *manifest(const struct job *j)
{
	json_t *m = json_object();

	json_object_set_new(m, "schema", json_integer(1));
	json_object_set_new(m, "name", json_string(j->entry->name));
	json_object_set_new(m, "kind", json_string(j->entry->kind));
	json_object_set_new(m, "key", json_string(j->key));
	json_object_set_new(m, "library_key", json_string(j->build.key));
	json_object_set_new(m, "configuration", json_string(j->o->speed ? "speed" : "parity"));
	json_object_set_new(m, "url", json_string(j->source.url));
	json_object_set_new(m, "commit", json_string(j->source.commit));
	json_object_set_new(m, "tree", json_string(j->source.tree));
	add_lock(j, m);
	json_object_set_new(m, "pinned", json_boolean(j->source.pinned && !j->own_build));
	json_object_set_new(m, "own_build", json_boolean(j->own_build != NULL));
	if (j->own_build)
		json_object_set_new(m, "own_files", own_files(j));
	json_object_set_new(m, "submodules", json_string(j->source.submodules));
	json_object_set_new(m, "patches", json_string(j->source.patches));
	json_object_set_new(m, "sandbox", json_string(j->source.layers));
	json_object_set_new(m, "options", json_string(j->build.options));
	json_object_set_new(m, "compiler", json_string(j->tools.version));
	json_object_set_new(m, "cc", json_string(j->tools.cc));
	json_object_set_new(m, "compiler_family", json_string(j->tools.family));
	json_object_set_new(m, "machine", json_string(j->tools.machine));
	json_object_set_new(m, "cmake", json_string(j->tools.cmake_version));
	json_object_set_new(m, "cpu_features", json_string(j->build.cpu_features));
	json_object_set_new(m, "lib_dir", json_string(j->lib_dir));
	json_object_set_new(m, "worker_version", json_string(j->worker_version));
	json_object_set_new(m, "clone_ms", json_integer(j->source.clone_ms));
	json_object_set_new(m, "configure_ms", json_integer(j->build.configure_ms));
	json_object_set_new(m, "compile_ms", json_integer(j->build.compile_ms));
	json_object_set_new(m, "known_bad",
			    j->entry->bad ? json_string(j->entry->bad) : json_null());
	return m;
}

static void add_check(const struct job *j, json_t *m)
{
	json_object_set_new(m, "self_check", json_string(j->check.passed ? "passed" : "failed"));
	json_object_set_new(m, "self_check_why", json_string(j->check.why));
	json_object_set_new(m, "profile", json_string(j->check.profile));
	json_object_set_new(m, "capabilities", json_string(j->check.capabilities));
	json_object_set_new(m, "determinism", json_string(j->check.determinism));
	if (j->check.report)
		json_object_set(m, "cases", j->check.report);
	json_object_set_new(m, "check_ms", json_integer(j->out->check_ms));
}

static int save_manifest(const struct job *j, json_t *m, const char *dir)
{
	char path[PATH_MAX], *text = json_dumps(m, JSON_INDENT(2) | JSON_SORT_KEYS);
	int r = paths_format(path, sizeof(path), j->e, "%s/manifest.json", dir);

	if (r == 0 && !text)
		r = err_set(j->e, EXIT_INTERNAL, "the manifest of %s cannot be written", j->key);
	if (r == 0)
		r = paths_write(path, text, strlen(text), j->e);
	free(text);
	return r;
}

static int point_name(struct job *j)
{
	char dir[PATH_MAX], link[PATH_MAX], part[PATH_MAX], target[80];
	int r;

	if ((r = paths_format(dir, sizeof(dir), j->e, "%s/by-name", j->root)) < 0 ||
	    (r = paths_mkdir(dir, j->e)) < 0 ||
	    (r = paths_format(link, sizeof(link), j->e, "%s/%s%s", dir, j->entry->name,
			      j->o->speed ? ".speed" : "")) < 0 ||
	    (r = paths_format(part, sizeof(part), j->e, "%s.part-%d", link, (int)getpid())) < 0)
		return r;
	snprintf(target, sizeof(target), "../%s", j->key);
	unlink(part);
	if (symlink(target, part) != 0)
		return paths_errno(j->e, "linking", part);
	if (rename(part, link) != 0)
		return paths_errno(j->e, "renaming", link);
	return 0;
}

static int install_fresh(struct job *j)
{
	json_t *m;
	int r = make_worker(j);

	if (r == 0)
		r = check(j, j->stage);
	if (r < 0)
		return r;
	m = manifest(j);
	add_check(j, m);
	r = save_manifest(j, m, j->stage);
	json_decref(m);
	if (r == 0)
		r = paths_remove(j->dir, j->e);
	if (r == 0 && rename(j->stage, j->dir) != 0)
		r = paths_errno(j->e, "installing", j->dir);
	return r;
}

/* The same build under a lock that has changed in what does not enter the key. */
static bool lock_changed(const struct job *j, const json_t *m)
{
	const char *commit = json_string_value(json_object_get(m, "locked_commit"));
	char parts[256];

	return !commit || strcmp(commit, j->entry->commit) != 0 ||
	       reference_locked_changed(m, j->entry, j->o->speed, parts, sizeof(parts));
}

/* What is installed, looked at again: its check only. */
static int check_installed(struct job *j, json_t *m)
{
	int r = check(j, j->dir);

	if (r < 0)
		return r;
	add_lock(j, m);
	add_check(j, m);
	return save_manifest(j, m, j->dir);
}

static bool worker_is_there(const struct job *j)
{
	char path[PATH_MAX];

	return paths_format(path, sizeof(path), NULL, "%s/bin/assay-worker-%s", j->dir,
			    j->entry->name) == 0 &&
	       access(path, X_OK) == 0;
}

static int install(struct job *j)
{
	char path[PATH_MAX], lock[PATH_MAX];
	int fd, r = 0;
	json_t *m;

	reference_key(j);
	if ((r = paths_format(j->dir, sizeof(j->dir), j->e, "%s/%s", j->root, j->key)) < 0 ||
	    (r = paths_format(j->stage, sizeof(j->stage), j->e, "%s/work/reference-%.16s", j->root,
			      j->key)) < 0 ||
	    (r = paths_format(path, sizeof(path), j->e, "%s/manifest.json", j->dir)) < 0 ||
	    (r = paths_format(lock, sizeof(lock), j->e, "%s/work/%s.lock", j->root, j->key)) < 0)
		return r;
	fd = lock_file_take(lock, note_through, j, j->e);
	if (fd < 0)
		return fd;
	m = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
	if (!m || j->o->rebuild || !worker_is_there(j))
		r = install_fresh(j);
	else if (j->o->check_again || !json_object_get(m, "self_check") || lock_changed(j, m))
		r = check_installed(j, m);
	json_decref(m);
	if (r == 0)
		r = point_name(j);
	else
		paths_remove(j->stage, &(struct err){0});
	lock_file_drop(fd);
	return r;
}

/* ---- all of it ---------------------------------------------------------------------------- */

static bool nothing_to_do(struct job *j)
{
	const struct reference_build_options *o = j->o;
	const char *rev = o->source.rev;

	return !o->rebuild && !o->check_again && !j->own_build &&
	       (rev ? strcmp(rev, j->out->reference.commit) == 0 : j->out->reference.pinned) &&
	       (j->out->reference.state == REFERENCE_READY ||
		(j->out->reference.state == REFERENCE_FAILED && o->allow_bad));
}

static int explain_change(struct job *j, json_t *m, const char *field, const char *what,
			  const char *now)
{
	const char *then = json_string_value(json_object_get(m, field));

	if (!then || strcmp(then, now) == 0)
		return 0;
	explain(j, "  %s changed: it was \"%.200s\", now it is \"%.200s\"\n", what, then, now);
	return 1;
}

static int explain_all(struct job *j)
{
	char path[PATH_MAX], version[65], options[4096], features[512], parts[256];
	json_t *m;
	int r, changed = 0;

	explain(j, "%s: %s%s%s\n", j->entry->name, reference_state_name(j->out->reference.state),
		*j->out->reference.why ? ": " : "", j->out->reference.why);
	if ((r = toolchain_probe(&j->tools, j->entry->compilers, j->e)) < 0 ||
	    (r = paths_format(path, sizeof(path), j->e, "%s/by-name/%s%s/manifest.json", j->root,
			      j->entry->name, j->o->speed ? ".speed" : "")) < 0)
		return r;
	explain(j, "compilers tried:\n%s\n", j->tools.tried);
	build_worker_version(version);
	build_options(j->entry, &j->tools, j->o->speed, options, sizeof(options));
	m = json_load_file(path, 0, NULL);
	if (!m) {
		explain(j, "everything would be made: nothing of that name is installed\n");
		return 0;
	}
	explain(j, "against what is installed (key %.16s):\n",
		json_string_value(json_object_get(m, "key")));
	changed += explain_change(j, m, "locked_commit", "the pinned commit", j->entry->commit);
	if (!j->out->reference.pinned && j->out->reference.commit[0])
		explain(j, "  what is installed is commit %s, not the pinned %s; it is used as it is, and "
			"fetch-cpp without --rev makes the pinned one\n", j->out->reference.commit,
			j->entry->commit);
	changed += explain_change(j, m, "options", "the CMake options", options);
	if (reference_locked_changed(m, j->entry, j->o->speed, parts, sizeof(parts)) && ++changed)
		explain(j, "  the lock says otherwise than when it was built: %s\n", parts);
	changed += explain_change(j, m, "compiler", "the compiler", j->tools.version);
	changed += explain_change(j, m, "machine", "the target machine", j->tools.machine);
	changed += explain_change(j, m, "worker_version", "the worker's sources", version);
	toolchain_cpu_features(features, sizeof(features));
	if (j->o->speed)
		changed += explain_change(j, m, "cpu_features", "this CPU", features);
	if (changed)
		explain(j, "  fetch-cpp --rebuild makes anew what depends on it\n");
	else if (j->out->reference.pinned)
		explain(j, "  nothing changed: nothing would be made anew\n");
	json_decref(m);
	return 0;
}

static int make_all(struct job *j)
{
	char work[PATH_MAX];
	int r;

	if ((r = paths_format(work, sizeof(work), j->e, "%s/work", j->root)) < 0 ||
	    (r = paths_mkdir(work, j->e)) < 0 ||
	    (r = toolchain_probe(&j->tools, j->entry->compilers, j->e)) < 0)
		return r;
	note(j, "compiler: %s", j->tools.version);
	build_worker_version(j->worker_version);
	if (j->own_build)
		r = use_own_build(j);
	else if ((r = get_source(j)) == 0)
		r = get_libraries(j);
	if (r == 0)
		r = install(j);
	return r;
}

/* `assay env` makes the variable point to our own build; that is not somebody else's. */
static void find_own_build(struct job *j)
{
	const char *dir;
	char root[PATH_MAX], real[PATH_MAX];

	j->own_variable = reference_own_variable(j->entry->name);
	dir = j->own_variable ? getenv(j->own_variable) : NULL;
	if (!dir || !*dir)
		return;
	if (!realpath(j->root, root) || !realpath(dir, real) ||
	    strncmp(real, root, strlen(root)) != 0)
		j->own_build = dir;
}

/* The environment's own source is bitnet.cpp's, never another engine's. */
static void read_environment(struct reference_build_options *o)
{
	const char *repo = getenv("BITNET_CPP_REPO"), *rev = getenv("BITNET_CPP_REV");

	if (strncmp(o->name, "bitnet", 6) != 0)
		return;
	if (!o->source.repo && repo && *repo)
		o->source.repo = repo;
	if (!o->source.rev && rev && *rev)
		o->source.rev = rev;
}

/* A usable one of another commit stays where the pinned one cannot be had. */
static void say_what_stays(struct job *j, int status)
{
	const struct reference *r = &j->out->reference;

	if ((status == -EXIT_NETWORK || status == -EXIT_NO_REFERENCE) &&
	    r->state == REFERENCE_READY && !r->pinned && r->commit[0])
		note(j, "%s of commit %s is installed (not the pinned one) and stays in use", r->name,
		     r->commit);
	if (status == -EXIT_NETWORK && !j->o->source.repo)
		note(j, "where the network is closed: --repo clones from a mirror, --archive takes a "
		     "tarball%s%s%s", j->own_variable ? ", " : "", j->own_variable ? j->own_variable : "",
		     j->own_variable ? " names your own build" : "");
}

int reference_build(const struct reference_build_options *given, struct reference_build_result *out,
		    struct err *e)
{
	struct reference_build_options copy = *given, *o = &copy;
	struct job *j = calloc(1, sizeof(*j));
	struct references_lock *lock = calloc(1, sizeof(*lock));
	long start = now_ms();
	int r;

	assert(j && lock);
	memset(out, 0, sizeof(*out));
	j->o = o;
	j->out = out;
	j->e = e;
	read_environment(o);
	r = reference_look(&out->reference, o->name, o->speed, e);
	if (r == -EXIT_NO_REFERENCE)
		r = -(e->code = EXIT_USAGE);	/* there is nothing of that name to provide */
	if (r == 0)
		r = references_lock_load(lock, NULL, e);
	if (r < 0)
		goto out;
	j->entry = references_lock_entry(lock, o->name);
	r = paths_cache(j->root, sizeof(j->root) - 16, e);
	if (r < 0)
		goto out;
	strcat(j->root, "/references");
	if (strpbrk(j->root, ":;'")) {	/* rpath, CMake and sh read them as something else */
		r = err_set(e, EXIT_USAGE, "the cache folder %s has a colon, a semicolon or a quote in its "
			    "name, which linkers, CMake or sh take for a sign of theirs; set ASSAY_CACHE to "
			    "another one", j->root);
		goto out;
	}
	find_own_build(j);
	if (o->explain) {
		r = explain_all(j);
		goto out;
	}
	if (nothing_to_do(j))
		out->already = true;
	else
		r = make_all(j);
	say_what_stays(j, r);
	if (r == 0)
		r = reference_look(&out->reference, o->name, o->speed, e);
	if (r == 0 && out->reference.state == REFERENCE_FAILED && !o->allow_bad)
		r = err_set(e, EXIT_REFERENCE_BUILD,
			    "%s; it is not used (--allow-bad-reference uses it "
			    "all the same)",
			    out->reference.why);
	else if (r == 0 && out->reference.state != REFERENCE_READY &&
		 out->reference.state != REFERENCE_FAILED)
		r = err_set(e, EXIT_REFERENCE_BUILD, "%s", out->reference.why);
out:
	out->total_ms = now_ms() - start;
	json_decref(j->check.report);
	references_lock_free(lock);
	free(lock);
	free(j);
	return r;
}
